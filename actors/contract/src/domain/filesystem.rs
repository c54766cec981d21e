//! Directories of the host that a machine shares with it, by virtiofs. Pure.
//!
//! Which ones may be shared is the host's administrator's to say, not that of whoever may change machines: a guest that writes to
//! a directory writes as the host does. So nothing is shared unless the host lists it, and what a path leads to counts, not how
//! it is written.

use super::edit::*;
use crate::{
    Effect, Fault, FaultKind, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// So long is the longest tag that a guest can see.
const LONGEST_TAG: usize = 35;

/// Share a directory of the host with a machine, from its next boot on. The host's administrator lists the directories that may be shared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachFilesystem {
    /// The directory on the host, for example /srv/share/web1.
    pub directory: String,
    /// What the guest calls it: mount -t virtiofs TAG /mnt.
    pub tag: String,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(AttachFilesystem, "domain.attach-filesystem", Change, AttachFilesystem);

/// Share a directory of the host with a machine no more, from its next boot on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachFilesystem {
    /// What the guest calls it.
    pub tag: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(DetachFilesystem, "domain.detach-filesystem", Change, DetachFilesystem);

// ---------------------------------------------------------------- checks

fn check_tag(tag: &str) -> Result<(), Fault> {
    if tag.len() > LONGEST_TAG {
        return Err(Fault::invalid(format!("a tag has at most {LONGEST_TAG} letters")));
    }
    check_word("a tag", tag, "-_.")
}

/// Reads a directory as people and configurations write it: absolute, and not the root of everything. Whether it is there is another question.
pub fn directory_of(text: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(text);
    let shown: String = text.chars().take(80).collect();
    let bad = |why: &str| Err(Fault::invalid(format!("{shown:?} cannot be shared: {why}")));
    match path.components().nth(1) {
        _ if !path.is_absolute() => bad("write the whole path, from / on"),
        _ if text.chars().any(char::is_control) || text.len() > 1024 => bad("it is no path that can be written down"),
        None => bad("it is the root of everything the host has"),
        _ if path.components().any(|c| c == Component::ParentDir) => bad("write it without .."),
        Some(_) => Ok(path.to_owned()),
    }
}

impl AttachFilesystem {
    fn check(&self) -> Result<(), Fault> {
        check_tag(&self.tag)?;
        directory_of(&self.directory)?;
        next_boot_only(self.when, "which directories it shares")
    }
}

impl DetachFilesystem {
    fn check(&self) -> Result<(), Fault> {
        check_tag(&self.tag)?;
        next_boot_only(self.when, "which directories it shares")
    }
}

/// Refuses a directory that the host does not share with machines. Both sides are what they lead to, without symbolic links.
pub fn check_shared(real: &Path, shared: &[PathBuf]) -> Result<(), Fault> {
    if shared.iter().any(|s| real.starts_with(s)) {
        return Ok(());
    }
    let text = format!(
        "{} is not inside a directory that this host shares with machines; its administrator lists them as shared_directories of its \
         [[hypervisor]] in the configuration",
        real.display()
    );
    Err(Fault::new(FaultKind::Forbidden, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_that_is_written_out() {
        for wrong in ["", "srv", "./srv", "/", "//", "/..", "/srv/../etc", "/srv/..", "/srv\n/x", &format!("/{}", "x".repeat(1024))] {
            assert_eq!(directory_of(wrong).unwrap_err().kind, FaultKind::InvalidRequest, "{wrong:?}");
        }
        assert_eq!(directory_of("/srv/share").unwrap(), Path::new("/srv/share"));
    }

    #[test]
    fn nothing_is_shared_unless_the_host_says_so() {
        let shared = [PathBuf::from("/srv/share")];
        for inside in ["/srv/share", "/srv/share/web1"] {
            assert!(check_shared(Path::new(inside), &shared).is_ok(), "{inside}");
        }
        for outside in ["/srv", "/srv/shared", "/srv/share2/x", "/etc"] {
            let fault = check_shared(Path::new(outside), &shared).unwrap_err();
            assert!(fault.kind == FaultKind::Forbidden && fault.message.contains("shared_directories"), "{outside}");
        }
        assert_eq!(check_shared(Path::new("/srv/share"), &[]).unwrap_err().kind, FaultKind::Forbidden);
    }

    #[test]
    fn it_is_there_at_the_next_boot_and_not_before() {
        let ask =
            |tag: &str, when| AttachFilesystem { directory: "/srv/share".into(), tag: tag.into(), when, ..AttachFilesystem::default() };
        assert!(ask("data", When::Both).edit().is_ok() && ask("data", When::NextBoot).edit().is_ok());
        assert!(ask("data", When::Now).edit().unwrap_err().message.contains("next boot"));
        for tag in ["", "a b", "a'/>", "x23456789012345678901234567890123456"] {
            assert!(ask(tag, When::Both).edit().is_err(), "{tag:?}");
        }
    }
}
