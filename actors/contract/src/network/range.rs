//! Which addresses a network gives out. Pure: what a change of them would take from whom is told before anything is changed.

use super::{Lease, StaticHost, Subnet};
use crate::{
    Effect, Fault, FaultKind, Role, Target,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// So many leases are named in a refusal; the rest is counted.
const NAMED: usize = 5;

/// Change which addresses a network gives out by DHCP, from now on and when it starts again. Refused while a machine has one that would not be given
/// out any more.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRange {
    /// The first address that is given out.
    pub first: String,
    /// The last address that is given out.
    pub last: String,
    /// Give them out beside those that are given out already, instead of those.
    #[serde(default)]
    pub add: bool,
    /// Also when machines have addresses that are not among them: they get others when their leases end.
    #[serde(default)]
    pub drop_leases: bool,
}
declare!(SetRange, "network.set-range", Change, Admin, Network, Done);

/// Addresses that are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The place of its subnet among those of its network.
    pub place: usize,
    /// The first.
    pub start: IpAddr,
    /// The last.
    pub end: IpAddr,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.start, self.end)
    }
}

impl Range {
    fn holds(&self, address: IpAddr) -> bool {
        self.start <= address && address <= self.end
    }
    fn overlaps(&self, other: &Range) -> bool {
        self.place == other.place && self.start <= other.end && other.start <= self.end
    }
}

/// What a network gives out now, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Its name.
    pub network: &'a str,
    /// Its subnets.
    pub subnets: &'a [Subnet],
    /// What it gives out.
    pub ranges: &'a [Range],
    /// The hosts that always get the same address: that one needs no range.
    pub hosts: &'a [StaticHost],
    /// What it has given out.
    pub leases: &'a [Lease],
}

/// What has to be changed so that a network gives out what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeChange {
    /// These no more.
    pub remove: Vec<Range>,
    /// These from now on, unless it does so already.
    pub add: Option<Range>,
}

/// The change that does what was asked, or why it is refused.
pub fn plan_range(asked: &SetRange, given: Given<'_>) -> Result<RangeChange, Fault> {
    let (start, end) = (asked.first.trim(), asked.last.trim());
    if given.subnets.is_empty() {
        let text = format!("{} gives out no addresses: its host has none on it", given.network);
        return Err(Fault::invalid(text));
    }
    // An address that is in none of them is refused by the first with its own words.
    let place = start.parse().ok().and_then(|a| given.subnets.iter().position(|s| s.holds(a))).unwrap_or(0);
    let (start, end) = given.subnets[place].range(start, end).map_err(Fault::invalid)?;
    let wanted = Range { place, start, end };
    let old: Vec<Range> = given.ranges.iter().filter(|r| r.place == place).copied().collect();
    if asked.add {
        if old.contains(&wanted) {
            return Ok(RangeChange::default());
        }
        return match old.iter().find(|r| r.overlaps(&wanted)) {
            Some(other) => {
                let text = format!(
                    "{wanted} overlaps with {other}, which {} gives out already; choose others, or leave --add away",
                    given.network
                );
                Err(Fault::new(FaultKind::Conflict, text))
            }
            None => Ok(RangeChange { remove: Vec::new(), add: Some(wanted) }),
        };
    }
    if !asked.drop_leases {
        check_leases(&wanted, &given)?;
    }
    let there = old.contains(&wanted);
    Ok(RangeChange { remove: old.into_iter().filter(|r| *r != wanted).collect(), add: (!there).then_some(wanted) })
}

/// Refuses to take addresses from those who have them.
fn check_leases(wanted: &Range, given: &Given<'_>) -> Result<(), Fault> {
    let lost = |lease: &&Lease| {
        let address = lease.address.split('/').next().and_then(|a| a.parse::<IpAddr>().ok());
        let fixed = given.hosts.iter().any(|h| h.mac.eq_ignore_ascii_case(&lease.mac));
        !fixed && address.is_some_and(|a| given.subnets[wanted.place].holds(a) && !wanted.holds(a))
    };
    let shown = |l: &Lease| {
        let address = l.address.split('/').next().unwrap_or_default();
        format!("{address} ({})", l.name.as_deref().unwrap_or(&l.mac))
    };
    let lost: Vec<String> = given.leases.iter().filter(lost).map(shown).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let rest = lost.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let first = lost.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(Fault::busy(format!(
        "{} has given out {first}{more}, and {wanted} is without them; stop those machines and wait for their leases to end, or say --drop-leases",
        given.network
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(place: usize, start: &str, end: &str) -> Range {
        Range { place, start: start.parse().unwrap(), end: end.parse().unwrap() }
    }

    fn lease(mac: &str, address: &str) -> Lease {
        Lease { mac: mac.into(), address: address.into(), name: None, expires: None }
    }

    fn ask(start: &str, end: &str) -> SetRange {
        SetRange { first: start.into(), last: end.into(), ..SetRange::default() }
    }

    fn plan(asked: SetRange, leases: &[Lease]) -> Result<RangeChange, Fault> {
        let subnets = [Subnet::of_host("10.1.0.1/24").unwrap(), Subnet::of_host("fd00::1/64").unwrap()];
        let ranges = [range(0, "10.1.0.10", "10.1.0.20"), range(0, "10.1.0.40", "10.1.0.50"), range(1, "fd00::10", "fd00::20")];
        let hosts = [StaticHost { mac: "52:54:00:00:00:0A".into(), address: "10.1.0.15".into(), name: None }];
        plan_range(&asked, Given { network: "lab", subnets: &subnets, ranges: &ranges, hosts: &hosts, leases })
    }

    #[test]
    fn a_range_takes_the_place_of_those_of_its_subnet_and_of_no_other() {
        let change = plan(ask("10.1.0.100", "10.1.0.120"), &[]).unwrap();
        assert_eq!(change.remove, [range(0, "10.1.0.10", "10.1.0.20"), range(0, "10.1.0.40", "10.1.0.50")]);
        assert_eq!(change.add, Some(range(0, "10.1.0.100", "10.1.0.120")));
        let change = plan(ask("fd00::10", "fd00::20"), &[]).unwrap();
        assert_eq!(change, RangeChange::default(), "it is so already");
        let change = plan(ask("10.1.0.40", "10.1.0.50"), &[]).unwrap();
        assert_eq!((change.remove, change.add), (vec![range(0, "10.1.0.10", "10.1.0.20")], None), "what stays is not touched");
    }

    #[test]
    fn a_range_beside_others_has_no_address_in_common_with_them() {
        let beside = |start, end| plan(SetRange { add: true, ..ask(start, end) }, &[]);
        assert_eq!(beside("10.1.0.21", "10.1.0.39").unwrap().add, Some(range(0, "10.1.0.21", "10.1.0.39")));
        for (start, end) in [("10.1.0.20", "10.1.0.25"), ("10.1.0.5", "10.1.0.10"), ("10.1.0.12", "10.1.0.13"), ("10.1.0.5", "10.1.0.60")] {
            let fault = beside(start, end).unwrap_err();
            assert!(fault.kind == FaultKind::Conflict && fault.message.contains("10.1.0.10 to 10.1.0.20"), "{fault}");
        }
        assert_eq!(beside("10.1.0.10", "10.1.0.20").unwrap(), RangeChange::default());
    }

    #[test]
    fn what_no_host_can_have_is_not_given_out() {
        for (start, end, word) in [
            ("10.1.0.9", "10.1.0.5", "before"),
            ("10.2.0.5", "10.2.0.9", "outside of 10.1.0.0/24"),
            ("10.1.0.1", "10.1.0.9", "own address"),
            ("10.1.0.250", "10.1.0.255", "outside"),
            ("10.1.0.250", "10.1.1.4", "outside"),
            ("10.1.0.5", "fd00::9", "outside"),
            ("nonsense", "10.1.0.9", "no address"),
        ] {
            let fault = plan(ask(start, end), &[]).unwrap_err();
            assert!(fault.kind == FaultKind::InvalidRequest && fault.message.contains(word), "{start} {end}: {fault}");
        }
        let nothing = Given { network: "lab", subnets: &[], ranges: &[], hosts: &[], leases: &[] };
        assert!(plan_range(&ask("10.1.0.5", "10.1.0.9"), nothing).unwrap_err().message.contains("gives out no addresses"));
    }

    #[test]
    fn an_address_that_a_machine_has_is_not_taken_from_it() {
        let (one, fixed) = (lease("52:54:00:00:00:01", "10.1.0.12/24"), lease("52:54:00:00:00:0a", "10.1.0.15/24"));
        let fault = plan(ask("10.1.0.100", "10.1.0.120"), &[one.clone(), fixed.clone()]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Busy);
        assert!(fault.message.contains("10.1.0.12 (52:54:00:00:00:01)") && !fault.message.contains("10.1.0.15"), "{fault}");
        let anyway = SetRange { drop_leases: true, ..ask("10.1.0.100", "10.1.0.120") };
        assert!(plan(anyway, std::slice::from_ref(&one)).is_ok());
        assert!(plan(ask("10.1.0.12", "10.1.0.120"), std::slice::from_ref(&one)).is_ok(), "it is still among them");
        assert!(plan(SetRange { add: true, ..ask("10.1.0.100", "10.1.0.120") }, &[one]).is_ok(), "nothing is taken");
        let other = lease("52:54:00:00:00:02", "fd00::12/64");
        assert!(plan(ask("10.1.0.100", "10.1.0.120"), &[other, fixed]).is_ok());
        let many: Vec<Lease> = (10..20).map(|n| lease("52:54:00:00:00:01", &format!("10.1.0.{n}/24"))).collect();
        assert!(plan(ask("10.1.0.100", "10.1.0.120"), &many).unwrap_err().message.contains("and 5 more"));
    }
}
