//! Numbers for Prometheus, in its default registry.

use archipel_contract::Fault;
use prometheus::{HistogramOpts, HistogramVec};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

const BUCKETS: &[f64] = &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

fn commands() -> Option<&'static HistogramVec> {
    static COMMANDS: OnceLock<Option<HistogramVec>> = OnceLock::new();
    COMMANDS
        .get_or_init(|| {
            let options = HistogramOpts::new("archipel_command_seconds", "Time from a request to its answer").buckets(BUCKETS.to_vec());
            let histogram = HistogramVec::new(options, &["command", "outcome"]).ok()?;
            prometheus::register(Box::new(histogram.clone())).ok()?;
            Some(histogram)
        })
        .as_ref()
}

/// One command was answered.
pub fn command(name: &str, outcome: &Result<Value, Fault>, took: Duration) {
    let outcome = outcome.as_ref().err().map_or("ok", |f| f.kind.name());
    if let Some(histogram) = commands() {
        histogram.with_label_values(&[name, outcome]).observe(took.as_secs_f64());
    }
}
