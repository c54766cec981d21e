//! Every restart with its cause: counted for Prometheus, the last hundred kept for `/health`.

use crate::supervisor::Failure;
use archipel_contract::{EntityId, HypervisorName, Timestamp};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// How many are kept.
const KEPT: usize = 100;

/// One failure of an actor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restart {
    /// When.
    pub at: Timestamp,
    /// The entity whose actor it was.
    pub entity: EntityId,
    /// The hypervisor it belongs to.
    pub host: HypervisorName,
    /// `panic`, `error` or `frozen`.
    pub cause: &'static str,
    /// The cause in full.
    pub detail: String,
    /// Whether its budget was used up, so that it was not restarted.
    pub given_up: bool,
}

/// The last restarts, oldest first.
#[derive(Default)]
pub struct Restarts(Mutex<VecDeque<Restart>>);

fn counter() -> Option<&'static IntCounterVec> {
    static COUNTER: OnceLock<Option<IntCounterVec>> = OnceLock::new();
    COUNTER
        .get_or_init(|| {
            let options = Opts::new("archipel_restarts_total", "Restarts of actors, by kind of actor and cause");
            let counter = IntCounterVec::new(options, &["actor_kind", "cause"]).ok()?;
            prometheus::register(Box::new(counter.clone())).ok()?;
            Some(counter)
        })
        .as_ref()
}

impl Restarts {
    /// Notes one.
    pub fn note(&self, at: Timestamp, host: HypervisorName, entity: EntityId, failure: &Failure, given_up: bool) {
        if let Some(counter) = counter().filter(|_| !given_up) {
            counter.with_label_values(&[entity.kind().name(), failure.word()]).inc();
        }
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Restart { at, entity, host, cause: failure.word(), detail: failure.to_string(), given_up });
    }

    /// The last ones, oldest first.
    pub fn last(&self) -> Vec<Restart> {
        self.0.lock().iter().cloned().collect()
    }
}
