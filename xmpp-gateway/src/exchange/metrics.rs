//! What the exchange counts, in the process's default registry. A registry can hold a name only once, so all exchanges of a
//! process (tests make many) share the same counters.

use archipel_contract::FaultKind;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use std::{collections::HashMap, sync::OnceLock};

struct Shared {
    entities: IntGaugeVec,
    pushed: IntCounter,
    holes: IntCounter,
    commands: IntCounterVec,
    copies: IntGauge,
    duplicates: IntGauge,
    carriages: IntGauge,
    carried: IntCounterVec,
}

fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let made = Shared {
                entities: IntGaugeVec::new(Opts::new("archipel_entities", "Entities of the cell by kind and state"), &["kind", "state"])
                    .ok()?,
                pushed: IntCounter::new("archipel_feed_events_total", "Changes pushed to subscribers of the feed").ok()?,
                holes: IntCounter::new("archipel_feed_holes_total", "Pushes dropped because a subscriber was too slow").ok()?,
                commands: IntCounterVec::new(
                    Opts::new("archipel_exchange_commands_total", "Commands by name and outcome"),
                    &["command", "outcome"],
                )
                .ok()?,
                copies: IntGauge::new(
                    "archipel_domain_running_copies_max",
                    "On how many hosts the machine with the most copies runs; more than one is an alarm",
                )
                .ok()?,
                duplicates: IntGauge::new("archipel_duplicates", "Machines that run on more than one host").ok()?,
                carriages: IntGauge::new("archipel_carriages", "Consoles and transfers of other hosts that go through this one").ok()?,
                carried: IntCounterVec::new(
                    Opts::new("archipel_carriages_total", "Requests for what tickets of other hosts open, by outcome"),
                    &["outcome"],
                )
                .ok()?,
            };
            let registry = prometheus::default_registry();
            let all: [Box<dyn prometheus::core::Collector>; 8] = [
                Box::new(made.entities.clone()),
                Box::new(made.pushed.clone()),
                Box::new(made.holes.clone()),
                Box::new(made.commands.clone()),
                Box::new(made.copies.clone()),
                Box::new(made.duplicates.clone()),
                Box::new(made.carriages.clone()),
                Box::new(made.carried.clone()),
            ];
            for collector in all {
                if let Err(error) = registry.register(collector) {
                    tracing::warn!(%error, "a metric cannot be registered");
                }
            }
            Some(made)
        })
        .as_ref()
}

/// So many more requests are being passed on to other hosts.
pub(super) fn carriages(more: i64) {
    if let Some(shared) = shared() {
        shared.carriages.add(more);
    }
}

/// What became of a request for what another host's ticket opens.
pub(super) fn carried(outcome: &str) {
    if let Some(shared) = shared() {
        shared.carried.with_label_values(&[outcome]).inc();
    }
}

/// The counters of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Metrics {}

impl Metrics {
    pub(crate) fn entities(&self, counts: &HashMap<(&'static str, &'static str), i64>) {
        if let Some(shared) = shared() {
            shared.entities.reset();
            for ((kind, state), count) in counts {
                shared.entities.with_label_values(&[*kind, *state]).set(*count);
            }
        }
    }

    /// The most hosts one machine runs on, and how many machines run on several.
    pub(crate) fn copies(&self, most: usize, duplicates: usize) {
        if let Some(shared) = shared() {
            shared.copies.set(i64::try_from(most).unwrap_or(i64::MAX));
            shared.duplicates.set(i64::try_from(duplicates).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn pushed(&self, events: usize) {
        if let Some(shared) = shared() {
            shared.pushed.inc_by(events as u64);
        }
    }

    pub(crate) fn hole(&self) {
        if let Some(shared) = shared() {
            shared.holes.inc();
        }
    }

    /// Only names of the catalog get here, so the label cannot grow without bounds; unknown ones are one label.
    pub(crate) fn command(&self, command: &str, fault: Option<FaultKind>) {
        if let Some(shared) = shared() {
            let known = archipel_contract::catalog::Catalog::shipped().find(command).is_some();
            let name = if known { command } else { "unknown" };
            shared.commands.with_label_values(&[name, fault.map_or("ok", FaultKind::name)]).inc();
        }
    }
}
