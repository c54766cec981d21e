//! Machines that start with their host: by libvirt, at no certain time, or by Archipel, one after the other. Pure.
//!
//! ```text
//!   host booted --> those with an order, off since the boot --> by order, then by name: start, wait its delay --> the next
//! ```
//! libvirt starts what it has flagged when it begins itself, which is also when it is upgraded, and all at once. A machine with an
//! order is Archipel's alone and must not carry that flag. Order and delay stand in the machine's own definition, so they go where
//! it goes.

use super::{DomainFacts, DomainRecord, DomainState};
use crate::{
    DomainId, Effect, Fault, Role, Target,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Highest place of a machine among those that start.
pub const ORDER_LIMIT: u32 = 9999;
/// Longest that the next one is waited with, in seconds.
pub const DELAY_LIMIT: u32 = 3600;

/// Choose whether a virtual machine starts with its host, and in which order. Without an order libvirt starts it, at no certain time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutostartDomain {
    /// Whether it does. What is not said of order and delay is taken away.
    pub enabled: bool,
    /// Its place when its host boots: lower numbers first, those with the same number by name.
    #[schemars(range(min = 0, max = 9999))]
    pub order: Option<u32>,
    /// How many seconds to wait after its start before the next one is started.
    #[schemars(range(min = 0, max = 3600))]
    pub delay: Option<u32>,
}
impl Default for AutostartDomain {
    fn default() -> Self {
        AutostartDomain { enabled: true, order: None, delay: None }
    }
}
declare!(AutostartDomain, "domain.autostart", Change, Admin, Domain, Done);

/// When Archipel starts a machine after a boot of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StartOrder {
    /// Its place: lower numbers first.
    pub order: u32,
    /// How many seconds the next one is waited with.
    pub delay: u32,
}

impl AutostartDomain {
    /// The order it shall have, if Archipel shall start it; refused when that makes no sense.
    pub fn start_order(&self) -> Result<Option<StartOrder>, Fault> {
        if !self.enabled && (self.order.is_some() || self.delay.is_some()) {
            return Err(Fault::invalid("a machine that does not start with its host has no order or delay; leave them out"));
        }
        let Some(order) = self.order else {
            return match self.delay {
                Some(_) => Err(Fault::invalid("only a machine with an order is waited for; name an order too")),
                None => Ok(None),
            };
        };
        let delay = self.delay.unwrap_or_default();
        if order > ORDER_LIMIT {
            return Err(Fault::invalid(format!("an order is 0 to {ORDER_LIMIT}, not {order}")));
        }
        if delay > DELAY_LIMIT {
            return Err(Fault::invalid(format!("a delay is 0 to {DELAY_LIMIT} seconds, not {delay}")));
        }
        Ok(Some(StartOrder { order, delay }))
    }
}

impl DomainFacts {
    /// When Archipel starts it after a boot of its host, if it does.
    pub fn start_order(&self) -> Option<StartOrder> {
        self.autostart_order.map(|order| StartOrder { order, delay: self.autostart_delay.unwrap_or_default() })
    }

    /// The same facts with another order.
    pub fn ordered(&mut self, order: Option<StartOrder>) {
        self.autostart_order = order.map(|o| o.order);
        self.autostart_delay = order.map(|o| o.delay);
    }

    /// Whether it is off and libvirt knows of no end of it: it has not run since its host booted.
    pub fn has_not_run(&self) -> bool {
        self.state == DomainState::Shutoff && self.reason.is_none()
    }
}

/// Whether a machine stands as `domain.autostart` with these arguments would have it.
pub(super) fn is_so(arguments: &serde_json::Value, now: &DomainFacts) -> bool {
    let Ok(wanted) = AutostartDomain::deserialize(arguments) else { return false };
    wanted.start_order().is_ok_and(|order| order == now.start_order()) && wanted.enabled == now.autostart
}

/// The machines that are started after a boot, in their order: of those that have one, all that have not run since.
pub fn start_in_order(listed: &[DomainRecord]) -> Vec<DomainId> {
    let mut due: Vec<_> = listed.iter().filter(|r| r.facts.has_not_run() && !r.facts.template && r.facts.persistent).collect();
    due.retain(|r| r.facts.autostart_order.is_some());
    due.sort_by(|a, b| (a.facts.autostart_order, &a.name, a.id).cmp(&(b.facts.autostart_order, &b.name, b.id)));
    due.into_iter().map(|r| r.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn ask(enabled: bool, order: Option<u32>, delay: Option<u32>) -> AutostartDomain {
        AutostartDomain { enabled, order, delay }
    }

    fn record(number: u128, name: &str, order: Option<u32>, state: DomainState, reason: Option<&str>) -> DomainRecord {
        let facts = DomainFacts {
            state,
            reason: reason.map(Into::into),
            vcpus: 1,
            memory: crate::Bytes::MIB,
            persistent: true,
            autostart: order.is_some(),
            agent: false,
            virtualization: "test".into(),
            note: None,
            template: false,
            moving_to: None,
            autostart_order: order,
            autostart_delay: None,
        };
        DomainRecord { id: DomainId(Uuid::from_u128(number)), name: name.into(), facts }
    }

    #[test]
    fn an_order_is_said_whole_or_not_at_all() {
        assert_eq!(ask(true, None, None).start_order().unwrap(), None);
        assert_eq!(ask(false, None, None).start_order().unwrap(), None);
        assert_eq!(ask(true, Some(3), None).start_order().unwrap(), Some(StartOrder { order: 3, delay: 0 }));
        assert_eq!(ask(true, Some(0), Some(3600)).start_order().unwrap(), Some(StartOrder { order: 0, delay: 3600 }));
        for wrong in
            [(false, Some(1), None), (false, None, Some(1)), (true, None, Some(1)), (true, Some(10_000), None), (true, Some(1), Some(3601))]
        {
            assert!(ask(wrong.0, wrong.1, wrong.2).start_order().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lower_numbers_start_first_and_what_has_run_since_the_boot_not_at_all() {
        use DomainState::{Crashed, Running, Shutoff};
        let mut listed = vec![
            record(1, "web", Some(20), Shutoff, None),
            record(2, "mail", Some(20), Shutoff, None),
            record(3, "store", Some(1), Shutoff, None),
            record(4, "free", None, Shutoff, None),
            record(5, "runs", Some(1), Running, Some("booted")),
            record(6, "stopped", Some(1), Shutoff, Some("destroyed")),
            record(7, "fell", Some(1), Crashed, None),
            record(8, "template", Some(1), Shutoff, None),
        ];
        listed[7].facts.template = true;
        let order: Vec<u128> = start_in_order(&listed).into_iter().map(|id| id.0.as_u128()).collect();
        assert_eq!(order, [3, 2, 1]);
    }

    #[test]
    fn an_interrupted_choice_is_judged_by_the_whole_of_it() {
        let mut now = record(1, "web", Some(20), DomainState::Shutoff, None).facts;
        now.autostart_delay = Some(5);
        let so = |arguments: serde_json::Value, now: &DomainFacts| is_so(&arguments, now);
        assert!(so(serde_json::json!({"order": 20, "delay": 5}), &now));
        assert!(!so(serde_json::json!({"order": 20}), &now) && !so(serde_json::json!({}), &now));
        assert!(!so(serde_json::json!({"enabled": false}), &now));
        now.ordered(None);
        assert!(so(serde_json::json!({}), &now) && !so(serde_json::json!({"order": 20}), &now));
    }
}
