//! Accounts and rosters. A removed account stays as an empty value, so that a late attempt to add it cannot let somebody in again.

use super::Etcd;
use super::call::{Call, Seen, delete, delete_prefix, get, plain, unchanged};
use archipel_contract::port::{Account, AccountKind, Accounts, RosterEntry, ScramKeys};
use archipel_contract::{BoxFuture, Fault, FaultKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An account as it lies in etcd: bytes as base64.
#[derive(Serialize, Deserialize)]
struct Kept {
    local: String,
    kind: AccountKind,
    iterations: u32,
    salt: String,
    sha1: [String; 2],
    sha256: [String; 2],
}

impl From<&Account> for Kept {
    fn from(a: &Account) -> Kept {
        let keys = |k: &ScramKeys| [STANDARD.encode(&k.stored), STANDARD.encode(&k.server)];
        Kept {
            local: a.local.clone(),
            kind: a.kind,
            iterations: a.iterations,
            salt: STANDARD.encode(&a.salt),
            sha1: keys(&a.sha1),
            sha256: keys(&a.sha256),
        }
    }
}

impl Kept {
    fn account(self) -> Result<Account, Fault> {
        let read = || -> Result<_, base64::DecodeError> {
            let keys = |k: &[String; 2]| Ok(ScramKeys { stored: STANDARD.decode(&k[0])?, server: STANDARD.decode(&k[1])? });
            Ok((STANDARD.decode(&self.salt)?, keys(&self.sha1)?, keys(&self.sha256)?))
        };
        let (salt, sha1, sha256) =
            read().map_err(|e| Fault::internal(format!("the stored keys of {} cannot be read", self.local)).because(e))?;
        Ok(Account { local: self.local, kind: self.kind, salt, iterations: self.iterations, sha1, sha256 })
    }
}

/// An account as it lies in etcd.
pub(super) fn entry(etcd: &Etcd, account: &Account) -> Result<(String, Value), Fault> {
    Ok((etcd.account(&account.local), plain(&Some(Kept::from(account)))?))
}

/// An entry of somebody's roster as it lies in etcd.
pub(super) fn roster_entry(etcd: &Etcd, local: &str, entry: &RosterEntry) -> Result<(String, Value), Fault> {
    Ok((format!("{}{}", etcd.rosters(local), entry.jid), plain(entry)?))
}

fn missing(local: &str) -> Fault {
    Fault::not_found(format!("there is no account {local}; `archipeld account list` shows them"))
}

impl Etcd {
    fn account(&self, local: &str) -> String {
        self.key(format_args!("account/{local}"))
    }

    fn rosters(&self, local: &str) -> String {
        self.key(format_args!("roster/{local}/"))
    }

    /// Writes an account (`None` removes it) for as long as `allowed` says yes to whether it is there.
    async fn set(&self, local: &str, account: Option<&Account>, allowed: impl Fn(bool) -> Result<(), Fault>) -> Result<(), Fault> {
        let (call, key) = (self.call(), self.account(local));
        let mut seen: Seen<Option<Kept>> = call.read(&key).await?;
        loop {
            if call.wrote(&seen) {
                return Ok(());
            }
            allowed(seen.value.flatten().is_some())?;
            let mut changes = vec![call.put(&key, &account.map(Kept::from))?];
            if account.is_none() {
                changes.push(delete_prefix(&self.rosters(local)));
            }
            let done = call.commit(vec![unchanged(&key, seen.revision)], changes, vec![get(&key)]).await?;
            if done.made {
                return Ok(());
            }
            seen = done.seen(0)?;
        }
    }

    /// The revision of an account that is there.
    async fn present(&self, call: &Call<'_>, local: &str) -> Result<i64, Fault> {
        let seen: Seen<Option<Kept>> = call.read(&self.account(local)).await?;
        seen.value.flatten().map(|_| seen.revision).ok_or_else(|| missing(local))
    }
}

impl Accounts for Etcd {
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
        Box::pin(async move {
            let seen: Seen<Option<Kept>> = self.call().read(&self.account(&local)).await?;
            seen.value.flatten().map(Kept::account).transpose()
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
        Box::pin(async move {
            let all = Etcd::under::<Option<Kept>>(self, &self.account("")).await?;
            all.into_iter().filter_map(|(_, _, kept)| kept.map(Kept::account)).collect()
        })
    }

    fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let taken = format!("there is an account {} already; change its password or remove it", account.local);
            let free = |there| if there { Err(Fault::new(FaultKind::Conflict, taken.clone())) } else { Ok(()) };
            self.set(&account.local, Some(&account), free).await
        })
    }

    fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let there = |there| if there { Ok(()) } else { Err(missing(&account.local)) };
            self.set(&account.local, Some(&account), there).await
        })
    }

    fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let there = |there| if there { Ok(()) } else { Err(missing(&local)) };
            self.set(&local, None, there).await
        })
    }

    fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>> {
        Box::pin(async move {
            let all = Etcd::under::<RosterEntry>(self, &self.rosters(&local)).await?;
            Ok(all.into_iter().map(|(_, _, entry)| entry).collect())
        })
    }

    fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let (call, key) = (self.call(), format!("{}{}", self.rosters(&local), entry.jid));
            loop {
                let revision = self.present(&call, &local).await?;
                // An entry is never written for an account that was removed meanwhile.
                let same = vec![unchanged(&self.account(&local), revision)];
                if call.commit(same, vec![call.put(&key, &entry)?], vec![]).await?.made {
                    return Ok(());
                }
            }
        })
    }

    fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let (call, key) = (self.call(), format!("{}{jid}", self.rosters(&local)));
            // The entry is seen before it is removed, so that a lost answer does not make a removal look like nothing to remove.
            let seen: Seen<RosterEntry> = call.read(&key).await?;
            if seen.value.is_none() {
                return Err(Fault::not_found(format!("{jid} is not in the roster of {local}")));
            }
            call.commit(vec![], vec![delete(&key)], vec![]).await?;
            Ok(())
        })
    }
}
