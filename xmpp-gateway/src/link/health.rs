//! How the link stands, for `/health` and the metrics.

use archipel_contract::{Fault, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;

/// How the link stands at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LinkHealth {
    /// Since when the stream is up; absent while it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<Timestamp>,
    /// Whether the exchange knows everything of this host.
    pub asserted: bool,
    /// What went wrong last, for people; it stays when the link is well again, with its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Fault>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Timestamp>,
    /// How often a stream was opened since the start, resumptions included.
    pub connections: u64,
    /// How many of those went on with the session before.
    pub resumptions: u64,
    /// What the exchange says is wrong with this host, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Events that wait to be sent.
    pub queued: usize,
    /// Events that were dropped since the start; the state they led to was asserted instead.
    pub dropped: u64,
}

impl LinkHealth {
    /// Whether people see this host as it is.
    pub fn is_well(&self) -> bool {
        self.connected_since.is_some() && self.asserted
    }
}

#[derive(Default)]
pub(super) struct Board(Mutex<LinkHealth>);

impl Board {
    pub(super) fn read(&self) -> LinkHealth {
        self.0.lock().clone()
    }
    pub(super) fn online(&self, now: Timestamp, resumed: bool) {
        let mut health = self.0.lock();
        health.connected_since = Some(now);
        health.connections += 1;
        health.resumptions += u64::from(resumed);
        // After a resumption the exchange knows what it knew before.
        health.asserted &= resumed;
    }
    pub(super) fn offline(&self, now: Timestamp, fault: Fault) {
        self.0.lock().connected_since = None;
        self.error(now, fault);
    }
    pub(super) fn error(&self, now: Timestamp, fault: Fault) {
        let mut health = self.0.lock();
        health.last_error = Some(fault);
        health.last_error_at = Some(now);
    }
    /// Replaces what was said before. What is new is also logged: it is this host's people who can do something about it.
    pub(super) fn warned(&self, warnings: Vec<String>) {
        let mut health = self.0.lock();
        for warning in warnings.iter().filter(|w| !health.warnings.contains(w)) {
            tracing::warn!(warning, "the exchange says that something is wrong with this host");
        }
        health.warnings = warnings;
    }
    pub(super) fn asserted(&self, done: bool) {
        self.0.lock().asserted = done;
    }
}
