//! What the server counts, in the default registry.

use archipel_contract::port::AccountKind;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};
use std::sync::LazyLock;

/// The server's metrics. They belong to the process, as the registry does.
pub(super) struct Metrics {
    /// Connected sessions by kind and transport.
    pub(super) sessions: IntGaugeVec,
    /// Sessions waiting for their peer, by kind.
    pub(super) suspended: IntGaugeVec,
    /// Stanzas by direction.
    pub(super) stanzas: IntCounterVec,
    /// Failed logins by reason.
    pub(super) login_failures: IntCounterVec,
    /// Resumptions by outcome.
    pub(super) resumptions: IntCounterVec,
    /// Streams refused or ended by us, by condition.
    pub(super) refused: IntCounterVec,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    sessions: gauge("archipel_xmpp_sessions", "Connected sessions.", &["kind", "transport"]),
    suspended: gauge("archipel_xmpp_sessions_suspended", "Sessions waiting to be resumed.", &["kind"]),
    stanzas: counter("archipel_xmpp_stanzas_total", "Stanzas read and written.", &["direction"]),
    login_failures: counter("archipel_xmpp_login_failures_total", "Failed logins by reason.", &["reason"]),
    resumptions: counter("archipel_xmpp_resumptions_total", "Attempts to resume a session.", &["outcome"]),
    refused: counter("archipel_xmpp_streams_refused_total", "Streams ended by the server, by stream error.", &["condition"]),
});

/// The label of an account's kind.
pub(super) fn kind_label(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Person(_) => "person",
        AccountKind::Node => "node",
    }
}

// The names are constants of this file and valid; the tests touch every one of them.
#[allow(clippy::expect_used)]
fn gauge(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric");
    // Already registered means that somebody took the name; ours then counts unseen, which must not stop the server.
    let _ = prometheus::register(Box::new(gauge.clone()));
    gauge
}

#[allow(clippy::expect_used)]
fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric");
    let _ = prometheus::register(Box::new(counter.clone()));
    counter
}
