//! `archipeld account`: works on the store directly, beside a running daemon, which reads accounts anew at every login.

use crate::arguments::{AccountVerb, Entry};
use crate::cell_store::{CellStore, Use};
use crate::config::Settings;
use crate::control::{self, Ring};
use archipel_contract::port::{Account, AccountKind};
use archipel_contract::{CellName, EntityId, Fault, Role};
use archipel_store::Store;
use archipel_xmpp::accounts;
use std::io::{Read, Write};

/// Carries out one verb and answers what to print.
pub(crate) fn run(settings: &Settings, verb: &AccountVerb, stdin: &mut dyn Read) -> Result<String, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::internal("cannot start a runtime").because(e))?;
    let own = Store::open_beside(&settings.data_dir)?;
    let cell = &settings.cell;
    runtime.block_on(async {
        let store = CellStore::open(settings, &own)?;
        store.carried(Use::Command).await?;
        let store = store.accounts;
        match verb {
            AccountVerb::Add(entry) => {
                let local = local(cell, &entry.jid)?;
                let kind = entry.role.unwrap_or(AccountKind::Person(Role::Viewer));
                fits(&local, kind)?;
                let (account, made_up) = with_password(&local, kind, entry, stdin)?;
                store.add(account).await?;
                Ok(format!("{local}@{cell} was added with the role {}\n{made_up}", word(kind)))
            }
            AccountVerb::Passwd(entry) => {
                let local = local(cell, &entry.jid)?;
                let before = store.find(local.clone()).await?;
                let before = before.ok_or_else(|| Fault::not_found(format!("there is no account {local}@{cell}; add it first")))?;
                let kind = entry.role.unwrap_or(before.kind);
                fits(&local, kind)?;
                let (account, made_up) = with_password(&local, kind, entry, stdin)?;
                store.replace(account).await?;
                control::ring(&settings.data_dir, Ring::Changed, &local);
                Ok(format!("{local}@{cell} has a new password; whoever was logged in with the old one is logged out\n{made_up}"))
            }
            AccountVerb::Remove(name) => {
                let local = local(cell, &name.jid)?;
                store.remove(local.clone()).await?;
                control::ring(&settings.data_dir, Ring::Removed, &local);
                Ok(format!("{local}@{cell} was removed and logged out\n"))
            }
            AccountVerb::List(_) => {
                let accounts = store.list().await?;
                let width = accounts.iter().map(|a| a.local.len()).max().unwrap_or(0) + 1 + cell.as_str().len();
                Ok(accounts.iter().map(|a| format!("{:width$}  {}\n", format!("{}@{cell}", a.local), word(a.kind))).collect())
            }
        }
    })
}

/// Prints to standard output; whoever closed it does not want it.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn word(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Person(role) => role.name(),
        AccountKind::Node => "node",
    }
}

/// The local part of an address of this cell, in lower case as XMPP compares it.
fn local(cell: &CellName, jid: &str) -> Result<String, Fault> {
    let (local, domain) = jid.split_once('@').unwrap_or((jid, cell.as_str()));
    if domain != cell.as_str() {
        return Err(Fault::invalid(format!("{jid} is not in this cell; its accounts end in @{cell}")));
    }
    Ok(local.to_lowercase())
}

/// People and entities share the addresses of a cell, so a person may not be named as an entity could be.
fn fits(local: &str, kind: AccountKind) -> Result<(), Fault> {
    match (kind, local.parse::<EntityId>()) {
        (AccountKind::Node, Ok(EntityId::Hypervisor(_))) | (AccountKind::Person(_), Err(_)) => Ok(()),
        (AccountKind::Node, _) => {
            Err(Fault::invalid(format!("the account of an agent is named hv.NAME after its hypervisor, not {local}")))
        }
        (AccountKind::Person(_), Ok(_)) => {
            Err(Fault::invalid(format!("{local} is the address of an entity; give the person another name, or the agent --role node")))
        }
    }
}

fn with_password(local: &str, kind: AccountKind, entry: &Entry, stdin: &mut dyn Read) -> Result<(Account, String), Fault> {
    let (password, made_up) = if entry.password_stdin {
        let mut text = String::new();
        stdin
            .take(4096)
            .read_to_string(&mut text)
            .map_err(|e| Fault::invalid("cannot read the password from standard input").because(e))?;
        (text.trim_end_matches(['\r', '\n']).to_owned(), String::new())
    } else {
        let password = random_password()?;
        let line = format!("password: {password}\n");
        (password, line)
    };
    Ok((accounts::account(local, &password, kind, accounts::ITERATIONS)?, made_up))
}

/// 20 characters of an alphabet of 32 that nobody confuses: 100 bits.
pub(crate) fn random_password() -> Result<String, Fault> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 20];
    getrandom::fill(&mut bytes).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
    Ok(bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect())
}
