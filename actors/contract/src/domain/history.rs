//! What became of a machine's definition: its versions, the difference between two of them, and the way back. Pure.
//!
//! A version is what libvirt says of the definition, without secrets, after a change: ours, with who asked for it, or one of somebody
//! else, noticed when libvirt tells of it or before the next change of ours. The last [`KEPT`] are kept on the host; a host that gets the
//! machine asks for them.

use super::edit::{Applies, When};
use crate::{
    Effect, Fault, Role, Target, Timestamp,
    command::{Command, Document, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many versions of one machine's definition are kept.
pub const KEPT: usize = 50;

/// Put another definition in libvirt's XML in place of the present one. libvirt's schema must pass it; name and UUID stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditDomainXml {
    /// The whole definition.
    pub xml: String,
}
declare!(EditDomainXml, "domain.edit-xml", Change, AdminRaw, Domain, Replaced);

/// Put an earlier version of the definition in place of the present one. It applies at the next boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertDomain {
    /// The number of the version, as domain.history shows it.
    #[schemars(range(min = 1))]
    pub version: u32,
}
declare!(RevertDomain, "domain.revert", Change, Admin, Domain, Replaced);

/// List the versions of a virtual machine's definition: who changed what, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListHistory {}
declare!(ListHistory, "domain.history", Read, Viewer, Domain, Vec<Version>);

/// Show what differs between two versions of a virtual machine's definition, as a unified diff.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiffDomain {
    /// The older version; the one before the newer one without it.
    pub from: Option<u32>,
    /// The newer version; the present definition without it.
    pub to: Option<u32>,
}
declare!(DiffDomain, "domain.diff", Read, Viewer, Domain, Document);

/// The answer of a command that put another definition in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replaced {
    /// What was done. Lower case, no full stop.
    pub message: String,
    /// When it applies.
    pub applies: Applies,
    /// What differs, as a unified diff.
    pub diff: String,
}

/// One version of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Its number, counted from 1.
    pub version: u32,
    /// When it was noticed.
    pub at: Timestamp,
    /// Who asked for it; nobody when it was not asked of Archipel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was asked, for example domain.set-vcpus; or how it was found.
    pub what: String,
    /// How many lines came and went.
    pub lines: String,
}

/// A version with its text, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// What is shown of it.
    #[serde(flatten)]
    pub version: Version,
    /// The definition.
    pub xml: String,
}

/// What is kept here and what was kept where the machine was before, as one past: in the order of time, nothing twice, the newest
/// [`KEPT`] of them. Numbers go on from the first; those that were seen at the host before stay as they are.
pub fn joined(here: Vec<Kept>, there: Vec<Kept>) -> Vec<Kept> {
    let mut all = there;
    all.sort_by_key(|k| k.version.version);
    let same = |a: &Kept, b: &Kept| (a.version.at, &a.version.what, &a.xml) == (b.version.at, &b.version.what, &b.xml);
    let ours: Vec<Kept> = here.into_iter().filter(|k| !all.iter().any(|known| same(known, k))).collect();
    all.extend(ours);
    // Stable: of one moment those of the host before come first.
    all.sort_by_key(|k| k.version.at);
    all.drain(..all.len().saturating_sub(KEPT));
    let first = all.first().map_or(1, |k| k.version.version);
    for (number, kept) in (first..).zip(&mut all) {
        kept.version.version = number;
    }
    all
}

impl EditDomainXml {
    /// Refuses what cannot be a definition.
    pub fn check(&self) -> Result<(), Fault> {
        const MOST: usize = 512 << 10;
        if self.xml.len() > MOST {
            return Err(Fault::invalid(format!("a definition has at most {} KiB", MOST >> 10)));
        }
        if self.xml.trim().is_empty() {
            return Err(Fault::invalid("the definition is empty; read the present one with domain.xml --inactive"));
        }
        Ok(())
    }
    /// When it applies.
    pub fn when(&self) -> When {
        When::NextBoot
    }
}

/// One line of a difference: ' ', '-' or '+', and the line.
type Line<'a> = (char, &'a str);

/// The largest table that is made to compare two texts; beyond it all that is between equal beginnings and ends counts as new.
const CELLS: usize = 4 << 20;

fn compared<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (from, to) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut lines: Vec<Line<'_>> = a[..head].iter().map(|l| (' ', *l)).collect();
    let wide = to.len() + 1;
    if (from.len() + 1).saturating_mul(wide) > CELLS {
        lines.extend(from.iter().map(|l| ('-', *l)).chain(to.iter().map(|l| ('+', *l))));
    } else {
        // The longest common run of lines from each pair of places on.
        let mut longest = vec![0u32; (from.len() + 1) * wide];
        for i in (0..from.len()).rev() {
            for j in (0..to.len()).rev() {
                let same = from[i] == to[j];
                longest[i * wide + j] =
                    if same { longest[(i + 1) * wide + j + 1] + 1 } else { longest[(i + 1) * wide + j].max(longest[i * wide + j + 1]) };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < from.len() || j < to.len() {
            if i < from.len() && j < to.len() && from[i] == to[j] {
                lines.push((' ', from[i]));
                (i, j) = (i + 1, j + 1);
            } else if j == to.len() || (i < from.len() && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1]) {
                lines.push(('-', from[i]));
                i += 1;
            } else {
                lines.push(('+', to[j]));
                j += 1;
            }
        }
    }
    lines.extend(a[a.len() - tail..].iter().map(|l| (' ', *l)));
    lines
}

/// How many lines came and went, for example `+2 -1`.
pub fn counted(old: &str, new: &str) -> String {
    let lines = compared(old, new);
    let of = |sign| lines.iter().filter(|(s, _)| *s == sign).count();
    format!("+{} -{}", of('+'), of('-'))
}

/// The difference of two texts as a unified diff with three lines around each change; empty when there is none.
pub fn unified(old: &str, new: &str, names: (&str, &str)) -> String {
    const AROUND: usize = 3;
    let lines = compared(old, new);
    let changes: Vec<usize> = lines.iter().enumerate().filter(|(_, (sign, _))| *sign != ' ').map(|(at, _)| at).collect();
    let Some(first) = changes.first() else { return String::new() };
    let mut hunks: Vec<(usize, usize)> = vec![(first.saturating_sub(AROUND), first + 1)];
    for at in changes {
        match hunks.last_mut() {
            Some((_, end)) if at <= *end + 2 * AROUND => *end = at + 1,
            _ => hunks.push((at.saturating_sub(AROUND), at + 1)),
        }
    }
    let mut text = format!("--- {}\n+++ {}\n", names.0, names.1);
    for (from, end) in hunks {
        let hunk = &lines[from..(end + AROUND).min(lines.len())];
        let before = |sign: char| lines[..from].iter().filter(|(s, _)| *s != sign).count();
        let of = |sign: char| hunk.iter().filter(|(s, _)| *s != sign).count();
        let place = |start: usize, count: usize| if count == 0 { format!("{start},0") } else { format!("{},{count}", start + 1) };
        text += &format!("@@ -{} +{} @@\n", place(before('+'), of('+')), place(before('-'), of('-')));
        for (sign, line) in hunk {
            text.push(*sign);
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command as Process;

    #[test]
    fn a_difference_shows_what_came_and_went_and_a_little_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let new = "a\nb\nc\nd\nE\nf\ng\nh\n";
        let wanted = "--- 1\n+++ 2\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n";
        assert_eq!(unified(old, new, ("1", "2")), wanted);
        assert_eq!(counted(old, new), "+1 -1");
        assert_eq!(unified(old, old, ("1", "2")), "");
        assert_eq!(unified("", "x\n", ("1", "2")), "--- 1\n+++ 2\n@@ -0,0 +1,1 @@\n+x\n");
    }

    fn version(number: u32, at: u64, xml: &str) -> Kept {
        let version = Version { version: number, at: Timestamp(at), by: None, what: "x".to_owned(), lines: String::new() };
        Kept { version, xml: xml.to_owned() }
    }

    fn numbers(all: &[Kept]) -> Vec<(u32, &str)> {
        all.iter().map(|k| (k.version.version, k.xml.as_str())).collect()
    }

    #[test]
    fn a_past_goes_on_where_the_machine_went() {
        let there = || vec![version(3, 10, "c"), version(4, 20, "d")];
        assert_eq!(numbers(&joined(Vec::new(), there())), [(3, "c"), (4, "d")], "as they were seen there");
        assert_eq!(numbers(&joined(there(), there())), [(3, "c"), (4, "d")], "asked for twice");
        // It was here before, went, was changed there, and came back.
        assert_eq!(numbers(&joined(vec![version(3, 10, "c")], there())), [(3, "c"), (4, "d")]);
        // It was changed here before the past arrived.
        assert_eq!(numbers(&joined(vec![version(1, 30, "e")], there())), [(3, "c"), (4, "d"), (5, "e")]);
        // What was between was never asked for.
        let gap = joined(vec![version(1, 5, "a"), version(2, 15, "b")], vec![version(1, 10, "c")]);
        assert_eq!(numbers(&gap), [(1, "a"), (2, "c"), (3, "b")]);
        assert!(joined(Vec::new(), Vec::new()).is_empty());
    }

    #[test]
    fn of_a_long_past_the_newest_is_kept() {
        let of = |from: u32, count: u32| (from..from + count).map(|n| version(n, u64::from(n), "x")).collect::<Vec<_>>();
        let all = joined(of(40, 30), of(1, 50));
        assert_eq!(all.len(), KEPT);
        assert_eq!(all.last().map(|k| k.version.at), Some(Timestamp(69)));
        assert!(all.windows(2).all(|w| w[1].version.version == w[0].version.version + 1));
    }

    #[test]
    fn patch_makes_the_new_text_of_the_old_one() {
        if Process::new("patch").arg("--version").output().is_err() {
            return;
        }
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let dir = std::env::temp_dir().join(format!("diff-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        for _ in 0..40 {
            let old: String = (0..next() % 40).map(|_| format!("line {}\n", next() % 12)).collect();
            let new: String = old
                .lines()
                .flat_map(|l| match next() % 6 {
                    0 => vec![],
                    1 => vec![l.to_owned(), format!("new {}", next() % 5)],
                    _ => vec![l.to_owned()],
                })
                .map(|l| l + "\n")
                .collect();
            let (file, diff) = (dir.join("old"), dir.join("diff"));
            std::fs::write(&file, &old).expect("written");
            std::fs::write(&diff, unified(&old, &new, ("old", "old"))).expect("written");
            if old == new {
                continue;
            }
            let done = Process::new("patch").args(["-s", "--no-backup-if-mismatch"]).arg(&file).arg(&diff).output().expect("patch");
            assert!(done.status.success(), "{old:?} {new:?} {}", String::from_utf8_lossy(&done.stdout));
            assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), new);
        }
        let _ = std::fs::remove_dir_all(&dir);
    }
}
