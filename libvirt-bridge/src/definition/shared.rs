//! Which directories of the host a machine may share, judged where the directories are.
//!
//! ```text
//!   asked --written inside a listed one?--> what it leads to --inside a listed one?--> into the definition, as what it leads to
//!               \--> forbidden, without a look             \--> forbidden
//!   start: each one of the definition that lies in a listed one is looked at again: a guest that writes there may have put a link in
//!   its place since
//! ```

use crate::{LinkConfig, hypervisor::is_local_qemu, xml::edit::shared_directories, xml::tree::parse};
use archipel_contract::{
    Fault, FaultKind,
    domain::{check_shared, directory_of},
};
use std::path::{Path, PathBuf};

/// The listed directories, as they are written and as what they lead to. One that is not there leads nowhere.
fn listed(config: &LinkConfig) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let real = config.shared_directories.iter().filter_map(|d| std::fs::canonicalize(d).ok()).collect();
    (config.shared_directories.clone(), real)
}

fn leads_out(directory: &Path) -> Fault {
    let text = format!(
        "{} leads out of the directories that this host shares with machines; its administrator looks what it is now",
        directory.display()
    );
    Fault::new(FaultKind::Forbidden, text)
}

/// What a directory leads to, if this host shares it.
pub(super) fn resolved(config: &LinkConfig, directory: &str) -> Result<String, Fault> {
    let asked = directory_of(directory)?;
    let (written, real) = listed(config);
    // Whoever may not share a directory is not told either whether it is there.
    check_shared(&asked, &[written, real.clone()].concat())?;
    if !is_local_qemu(&config.uri) {
        let text = format!("{} is not on the host of its agent, so what {directory} is there cannot be judged", config.name);
        return Err(Fault::new(FaultKind::Unsupported, text));
    }
    let gone = |e| Fault::not_found(format!("there is no directory {directory} on {}; make it first", config.name)).because(e);
    let found = std::fs::canonicalize(&asked).map_err(gone)?;
    if check_shared(&found, &real).is_err() {
        return Err(leads_out(&asked));
    }
    if !found.is_dir() {
        return Err(Fault::invalid(format!("{directory} is no directory")));
    }
    found.into_os_string().into_string().map_err(|_| Fault::invalid(format!("{directory} leads to a path that cannot be written down")))
}

/// Refuses to start a machine whose shared directory leads elsewhere by now.
pub(crate) fn check_start(config: &LinkConfig, definition: &str) -> Result<(), Fault> {
    if config.shared_directories.is_empty() || !is_local_qemu(&config.uri) {
        return Ok(());
    }
    // What cannot be read is libvirt's to refuse.
    let Ok(root) = parse(definition) else { return Ok(()) };
    let (written, real) = listed(config);
    let inside = [written, real.clone()].concat();
    for directory in shared_directories(&root).iter().map(Path::new).filter(|d| check_shared(d, &inside).is_ok()) {
        // One that is gone is told by libvirt.
        if std::fs::canonicalize(directory).is_ok_and(|found| check_shared(&found, &real).is_err()) {
            return Err(leads_out(directory));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_path_leads_to_counts_and_not_how_it_is_written() {
        let scratch = tempfile::tempdir().unwrap();
        let (listed, secret) = (scratch.path().join("listed"), scratch.path().join("secret"));
        std::fs::create_dir_all(listed.join("web1")).unwrap();
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(listed.join("file"), "x").unwrap();
        symlink(&secret, listed.join("out")).unwrap();
        symlink(listed.join("web1"), listed.join("within")).unwrap();
        let mut config = LinkConfig::new("alpha".parse().unwrap(), "qemu:///system");
        let kind = |config: &LinkConfig, path: &Path| resolved(config, path.to_str().unwrap()).map_err(|f| f.kind);
        assert_eq!(kind(&config, &listed), Err(FaultKind::Forbidden), "nothing is shared unless it is listed");
        config.shared_directories = vec![listed.clone()];
        let web1 = std::fs::canonicalize(listed.join("web1")).unwrap().to_str().unwrap().to_owned();
        assert_eq!(kind(&config, &listed.join("web1")), Ok(web1.clone()));
        assert_eq!(kind(&config, &listed.join("within")), Ok(web1.clone()), "the definition names what it leads to");
        assert_eq!(kind(&config, &listed.join("out")), Err(FaultKind::Forbidden));
        assert_eq!(kind(&config, &listed.join("../secret")), Err(FaultKind::InvalidRequest));
        assert_eq!(kind(&config, &secret), Err(FaultKind::Forbidden));
        assert_eq!(kind(&config, &scratch.path().join("listed2")), Err(FaultKind::Forbidden), "whether it is there is not told");
        assert_eq!(kind(&config, &listed.join("nothing")), Err(FaultKind::NotFound));
        assert_eq!(kind(&config, &listed.join("file")), Err(FaultKind::InvalidRequest));

        let shares = |dir: &str| format!("<domain><devices><filesystem type='mount'><source dir='{dir}'/></filesystem></devices></domain>");
        assert!(check_start(&config, &shares(&web1)).is_ok());
        assert!(check_start(&config, &shares("/somewhere/else")).is_ok(), "what other tools gave it is theirs");
        std::fs::remove_dir(listed.join("web1")).unwrap();
        symlink(&secret, listed.join("web1")).unwrap();
        assert_eq!(check_start(&config, &shares(&web1)).unwrap_err().kind, FaultKind::Forbidden);
        config.uri = "qemu+tls://other/system".into();
        assert_eq!(kind(&config, &listed), Err(FaultKind::Unsupported));
    }
}
