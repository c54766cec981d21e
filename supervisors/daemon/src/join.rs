//! `archipeld join` and `archipeld leave`: this host becomes a member of a cell elsewhere, and stops being one. Both write below
//! `data_dir/membership` and nowhere else; the configuration they write there counts from the next start on.
//!
//! ```text
//!   stranger --token good--> certificate, key and configuration written --> member
//!      ^  +--- anything wrong: nothing is left behind                          |
//!      +------------------------ left: all of it removed -----------------------+
//! ```
//! Run by root, both go on as the owner of `data_dir`: the daemon must be able to read and renew what is written there.
//!
//! The lock on `data_dir` is held meanwhile, so that no daemon runs that would go on with what it read at its start.

use crate::agent;
use crate::arguments::Join;
use crate::config::{JOINED, Settings};
use crate::host;
use archipel_contract::port::Authority;
use archipel_contract::{Fault, FaultKind, HypervisorName};
use archipel_store::Store;
use archipel_xmpp::client::tls::{Identity, fingerprint_of_pem};
use archipel_xmpp::membership::Token;
use archipel_xmpp::membership::join::{self, Joined};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const IDENTITY: &str = "identity.pem";
const AUTHORITY: &str = "authority.pem";

/// What was made here and is removed again unless everything succeeds.
struct Traces(Option<PathBuf>);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            // There is nobody to tell who would not be told the greater trouble anyway.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Runs this command line again as the owner of `data_dir`, if that is somebody else and we may. `None`: go on here.
pub(crate) fn as_owner(settings: &Settings) -> Result<Option<ExitCode>, Fault> {
    let Ok(us) = std::fs::metadata("/proc/self").map(|m| m.uid()) else { return Ok(None) };
    let Ok(owner) = std::fs::metadata(&settings.data_dir) else { return Ok(None) };
    if us != 0 || owner.uid() == 0 {
        return Ok(None);
    }
    let failed = |e: std::io::Error| {
        Fault::unavailable(format!("cannot go on as the owner of {}; run this as that user", settings.data_dir.display())).because(e)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).uid(owner.uid()).gid(owner.gid());
    let status = command.status().map_err(failed)?;
    Ok(Some(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(70))))
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Fault::internal("cannot start a runtime").because(e))
}

fn folder(settings: &Settings) -> PathBuf {
    settings.data_dir.join(JOINED).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The store, which nobody else may have.
fn alone(settings: &Settings) -> Result<Store, Fault> {
    Store::open(&settings.data_dir).map_err(|fault| match fault.kind {
        FaultKind::Busy => {
            let message = format!("the daemon runs with {}; stop it first: systemctl stop archipeld", settings.data_dir.display());
            Fault::busy(message).because(fault)
        }
        _ => fault,
    })
}

/// The hypervisor this host is about to be.
fn name(settings: &Settings, wish: Option<&HypervisorName>) -> Result<HypervisorName, Fault> {
    match (settings.hypervisors.as_slice(), wish) {
        ([], Some(wish)) => Ok(wish.clone()),
        ([], None) => Ok(host::default_hypervisor().name),
        ([one], wish) if wish.is_none_or(|wish| *wish == one.name) => Ok(one.name.clone()),
        ([one], _) => Err(Fault::invalid(format!(
            "the configuration names this hypervisor {}; change [[hypervisor]] name there, or leave --name out",
            one.name
        ))),
        _ => Err(Fault::invalid("a host joins with one [[hypervisor]], and its configuration has several; keep one of them")),
    }
}

/// Joins, and answers what to print.
pub(crate) fn join(settings: &Settings, wish: &Join) -> Result<String, Fault> {
    let token = Token::parse(&wish.token)?;
    let name = name(settings, wish.name.as_ref())?;
    let target = folder(settings);
    if target.exists() {
        return Err(Fault::new(
            FaultKind::Conflict,
            format!("this host belongs to the cell {} already; leave that first: archipeld leave", settings.cell),
        ));
    }
    let mut fresh = Traces((!settings.data_dir.exists()).then(|| settings.data_dir.clone()));
    let store = alone(settings)?;
    runtime()?.block_on(async {
        // Any exchange of the cell will do; of several, those that stand by refuse the connection.
        let mut joined = Err(Fault::invalid("no exchange is named; give it as HOST:PORT"));
        for exchange in wish.exchange.split(',').map(str::trim).filter(|exchange| !exchange.is_empty()) {
            joined = join::join(exchange, &token, &name).await;
            if !matches!(&joined, Err(fault) if fault.kind == FaultKind::Unavailable) {
                break;
            }
        }
        let joined = joined?;
        let mut written = Traces(Some(target.clone()));
        write(&target, &wish.exchange, &joined)?;
        // What this host says has to count as newer than what the one before it said under the same name.
        while store.incarnation().await? <= joined.grant.after {}
        written.0 = None;
        fresh.0 = None;
        Ok(format!(
            "{name} joined the cell {}; start the daemon now: systemctl enable --now archipeld (or archipeld run)\n",
            joined.grant.cell
        ))
    })
}

fn write(target: &Path, exchange: &str, joined: &Joined) -> Result<(), Fault> {
    let failed = |e: std::io::Error| Fault::unavailable(format!("{} cannot be written; check data_dir", target.display())).because(e);
    DirBuilder::new().mode(0o700).create(target).map_err(failed)?;
    let identity = target.join(IDENTITY);
    Identity::new(&identity).create(&joined.identity())?;
    std::fs::write(target.join(AUTHORITY), &joined.grant.authority).map_err(failed)?;
    let fingerprint = fingerprint_of_pem(&joined.grant.authority)?;
    let text = |text: &str| serde_json::Value::from(text).to_string();
    // JSON writes texts as TOML reads them.
    let config = format!(
        "# Written by archipeld join; archipeld leave removes it. It counts over the configuration files.\ncell = {}\nroles = [\"agent\"]\n\
         [exchange]\nserver = {}\nidentity_file = {}\nfingerprint = {}\n",
        text(joined.grant.cell.as_str()),
        text(exchange),
        text(&identity.display().to_string()),
        text(&fingerprint),
    );
    // Last: a host is a member as soon as this is there.
    let file = target.join("archipel.toml");
    std::fs::write(file.with_extension("new"), config).and_then(|()| std::fs::rename(file.with_extension("new"), file)).map_err(failed)
}

/// Leaves, and answers what to print.
pub(crate) fn leave(settings: &Settings, here_only: bool) -> Result<String, Fault> {
    let target = folder(settings);
    let remote = settings.remote.as_ref().filter(|remote| remote.identity_file.is_some() && target.exists());
    let (Some(remote), cell) = (remote, &settings.cell) else {
        return Err(Fault::wrong_state("this host joined no cell, so there is none to leave"));
    };
    let _store = alone(settings)?;
    let name = remote.identity_file.as_ref().map(|file| Identity::new(file).name()).transpose()?;
    let mut said = format!("this host left the cell {cell}; its virtual machines run on\n");
    if here_only {
        said = format!("this host does not log in to the cell {cell} any more, and the exchange was not told\n");
    } else if let Some(name) = name {
        let told = runtime()?.block_on(async {
            let mut last = Ok(());
            for connector in agent::connectors(remote)? {
                last = join::leave(cell, &name, connector).await;
                if last.is_ok() {
                    break;
                }
            }
            last
        });
        match told {
            Ok(()) => {}
            Err(fault) if fault.kind == FaultKind::Forbidden => {
                said = format!("the cell {cell} does not know this host any more; what was left of it here is removed ({fault})\n");
            }
            Err(fault) => {
                let advice = "try again when it answers, or leave without telling it: archipeld leave --here-only";
                return Err(Fault::new(fault.kind, format!("the exchange was not told, so nothing was removed; {advice}")).because(fault));
            }
        }
    }
    std::fs::remove_dir_all(&target)
        .map_err(|e| Fault::unavailable(format!("{} cannot be removed; remove it by hand", target.display())).because(e))?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, format!("data_dir = '{}/data'\n{text}", folder.path().display())).unwrap();
        crate::config::load(&[file], HashMap::new()).unwrap()
    }

    #[test]
    fn the_name_is_the_configured_one_or_a_wish_where_nothing_is_configured() {
        let wish: HypervisorName = "gamma".parse().unwrap();
        let one = "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n";
        assert_eq!(name(&settings(""), Some(&wish)).unwrap(), wish);
        assert_eq!(name(&settings(one), None).unwrap().as_str(), "beta");
        assert_eq!(name(&settings(one), Some(&"beta".parse().unwrap())).unwrap().as_str(), "beta");
        assert!(name(&settings(one), Some(&wish)).unwrap_err().message.contains("names this hypervisor beta"));
        let two = format!("{one}[[hypervisor]]\nname = 'delta'\nuri = 'test:///other'\n");
        assert!(name(&settings(&two), None).unwrap_err().message.contains("has several"));
    }
}
