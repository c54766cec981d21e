//! Who was met since the exchange began, and what is not as it should be with them. Nothing of it survives, because the agents say
//! it again. An agent with a wrong clock or another version is let in and named; only one that could not be understood is refused.

use crate::stanza::node::Hello;
use archipel_contract::{Fault, FaultKind, HypervisorName, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// A clock may be so far off before anybody is told, in milliseconds.
const TOLERATED: u64 = 30_000;

/// What is known of an agent that said hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) linked: bool,
    pub(crate) version: String,
    /// How far its clock was ahead of ours, in milliseconds.
    pub(crate) offset: Option<i64>,
    pub(crate) incarnation: u64,
    clock: Option<String>,
    program: Option<String>,
    /// Somebody else with the same identity.
    rival: Option<String>,
}

impl Met {
    /// What is wrong, a sentence each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        [&self.rival, &self.clock, &self.program].into_iter().flatten().cloned().collect()
    }
}

/// Everybody who was met.
#[derive(Debug, Default)]
pub struct Roll(Mutex<BTreeMap<HypervisorName, Met>>);

impl Roll {
    /// An agent said hello; what is to be said about it. `unsupported` when it must not stay.
    pub(crate) fn meet(&self, hello: &Hello, ours: &str, now: Timestamp) -> Result<Met, Fault> {
        let program = compare(&hello.version, ours)?;
        let offset = hello.now.map(|theirs| i64::try_from(theirs.0).unwrap_or(i64::MAX).saturating_sub_unsigned(now.0));
        let clock = offset.filter(|o| o.unsigned_abs() > TOLERATED).map(|offset| {
            let way = if offset > 0 { "ahead of" } else { "behind" };
            format!("its clock is {} {way} the exchange's; set the time there, best with NTP", length(offset.unsigned_abs()))
        });
        let version = hello.version.chars().take(40).collect();
        let met = Met { linked: true, version, offset, incarnation: hello.incarnation, clock, program, rival: None };
        self.0.lock().insert(hello.host.clone(), met.clone());
        Ok(met)
    }

    /// Its link is gone.
    pub(crate) fn part(&self, name: &HypervisorName) {
        if let Some(met) = self.0.lock().get_mut(name) {
            met.linked = false;
        }
    }

    /// Somebody else came with its identity. Answers what is wrong with it now.
    pub(crate) fn rival(&self, name: &HypervisorName, sentence: String) -> Vec<String> {
        let mut all = self.0.lock();
        let Some(met) = all.get_mut(name) else { return vec![sentence] };
        met.rival = Some(sentence);
        met.warnings()
    }

    /// What is known of one.
    pub(crate) fn met(&self, name: &HypervisorName) -> Option<Met> {
        self.0.lock().get(name).cloned()
    }

    /// It does not belong to the cell any more.
    pub(crate) fn forget(&self, name: &HypervisorName) {
        self.0.lock().remove(name);
    }

    pub(crate) fn all(&self) -> BTreeMap<HypervisorName, Met> {
        self.0.lock().clone()
    }
}

/// A time as people say it.
fn length(millis: u64) -> String {
    match millis / 1000 {
        seconds @ 0..=299 => format!("{seconds} s"),
        seconds @ 300..=10_799 => format!("{} minutes", seconds / 60),
        seconds @ 10_800..=259_199 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Whether an agent of that version may stay, and what is to be said. Versions of the same major number understand each other.
/// What is no version at all is of a test or a build by hand, and its business.
fn compare(theirs: &str, ours: &str) -> Result<Option<String>, Fault> {
    let (Some(a), Some(b)) = (numbers(theirs), numbers(ours)) else { return Ok(None) };
    if a.0 != b.0 {
        let older = if a < b { "this host" } else { "the exchange" };
        let message =
            format!("this host runs archipel {theirs} and the exchange {ours}, which do not understand each other; upgrade {older}");
        return Err(Fault::new(FaultKind::Unsupported, message));
    }
    let older = if a < b { "it" } else { "the exchange" };
    Ok((a.1 != b.1).then(|| format!("it runs archipel {theirs} and the exchange {ours}; upgrade {older} soon")))
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(['-', '+']).next()?.split('.').map(|n| n.parse::<u64>().ok());
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Some(major)), Some(Some(minor)), Some(Some(_)), None) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn hello(version: &str, now: Option<Timestamp>) -> Hello {
        let host = "beta".parse().unwrap();
        Hello { version: version.into(), host, incarnation: 1, entities: 0, instance: None, now }
    }

    fn warnings(version: &str, now: u64) -> Vec<String> {
        Roll::default().meet(&hello(version, Some(Timestamp(now))), "1.4.0", NOW).unwrap().warnings()
    }

    #[test]
    fn a_clock_is_named_when_it_is_more_than_half_a_minute_off() {
        assert!(warnings("1.4.0", NOW.0 + 30_000).is_empty() && warnings("1.4.0", NOW.0 - 30_000).is_empty());
        assert!(warnings("1.4.0", NOW.0 + 3_700_000)[0].contains("61 minutes ahead of"));
        assert!(warnings("1.4.0", NOW.0 - 31_000)[0].contains("31 s behind"));
        assert!(warnings("1.4.0", 0)[0].contains("11 days behind"));
        let met = Roll::default().meet(&hello("1.4.0", None), "1.4.0", NOW).unwrap();
        assert_eq!((met.warnings().len(), met.offset), (0, None), "an older agent does not say");
    }

    #[test]
    fn another_minor_version_is_named_and_another_major_one_refused() {
        assert!(warnings("1.4.9", NOW.0).is_empty());
        assert!(warnings("1.3.0", NOW.0)[0].ends_with("upgrade it soon"));
        assert!(warnings("1.5.0-beta", NOW.0)[0].ends_with("upgrade the exchange soon"));
        assert!(warnings("built by hand", NOW.0).is_empty());
        let roll = Roll::default();
        let fault = roll.meet(&hello("2.0.0", None), "1.4.0", NOW).unwrap_err();
        assert!(fault.kind == FaultKind::Unsupported && fault.message.contains("upgrade the exchange"), "{fault}");
        assert!(roll.all().is_empty());
    }

    #[test]
    fn a_rival_is_remembered_until_the_next_hello() {
        let roll = Roll::default();
        let beta: HypervisorName = "beta".parse().unwrap();
        roll.meet(&hello("1.4.0", None), "1.4.0", NOW).unwrap();
        assert_eq!(roll.rival(&beta, "two of them".into()), ["two of them"]);
        roll.part(&beta);
        assert!(!roll.met(&beta).unwrap().linked);
        roll.meet(&hello("1.4.0", None), "1.4.0", NOW).unwrap();
        assert!(roll.met(&beta).unwrap().warnings().is_empty());
    }
}
