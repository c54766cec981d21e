//! Accounts and rosters. Nothing of it is kept in memory, so what a command beside the daemon writes counts from the next login.

use crate::Store;
use crate::database::{Database, Refusal};
use archipel_contract::port::{Account, AccountKind, Accounts, RosterEntry, ScramKeys};
use archipel_contract::{BoxFuture, Fault, FaultKind};
use rusqlite::{OptionalExtension, Row, Transaction, params};

const COLUMNS: &str = "local, role, salt, iterations, sha1_stored, sha1_server, sha256_stored, sha256_server";

fn read(row: &Row<'_>) -> rusqlite::Result<(Account, Option<String>)> {
    let account = Account {
        local: row.get(0)?,
        kind: AccountKind::Node,
        salt: row.get(2)?,
        iterations: row.get(3)?,
        sha1: ScramKeys { stored: row.get(4)?, server: row.get(5)? },
        sha256: ScramKeys { stored: row.get(6)?, server: row.get(7)? },
    };
    Ok((account, row.get(1)?))
}

fn with_role((mut account, role): (Account, Option<String>)) -> Result<Account, Refusal> {
    if let Some(role) = role {
        let role = role.parse().map_err(|e| Fault::internal(format!("the stored role of {} cannot be read", account.local)).because(e))?;
        account.kind = AccountKind::Person(role);
    }
    Ok(account)
}

fn missing(local: &str) -> Refusal {
    Fault::not_found(format!("there is no account {local}; `archipeld account list` shows them")).into()
}

fn write(t: &Transaction<'_>, account: &Account, sql: &str) -> rusqlite::Result<usize> {
    let role = match account.kind {
        AccountKind::Person(role) => Some(role.name()),
        AccountKind::Node => None,
    };
    t.prepare_cached(sql)?.execute(params![
        account.local,
        role,
        account.salt,
        account.iterations,
        account.sha1.stored,
        account.sha1.server,
        account.sha256.stored,
        account.sha256.server
    ])
}

impl Database {
    fn account(&mut self, local: &str) -> Result<Option<Account>, Fault> {
        self.transact(|t| {
            let sql = format!("SELECT {COLUMNS} FROM account WHERE local = ?1");
            let found = t.prepare_cached(&sql)?.query_row([local], read).optional()?;
            found.map(with_role).transpose()
        })
    }

    fn accounts(&mut self) -> Result<Vec<Account>, Fault> {
        self.transact(|t| {
            let mut statement = t.prepare_cached(&format!("SELECT {COLUMNS} FROM account ORDER BY local"))?;
            let rows = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            rows.into_iter().map(with_role).collect()
        })
    }

    fn roster(&mut self, local: &str) -> Result<Vec<RosterEntry>, Fault> {
        self.transact(|t| {
            let mut statement = t.prepare_cached("SELECT jid, name, groups FROM roster WHERE local = ?1 ORDER BY jid")?;
            let rows = statement.query_map([local], |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, String>(2)?)))?;
            rows.map(|row| {
                let (jid, name, groups) = row?;
                let groups = serde_json::from_str(&groups)
                    .map_err(|e| Fault::internal("the stored groups of a roster entry cannot be read").because(e))?;
                Ok(RosterEntry { jid, name, groups })
            })
            .collect()
        })
    }

    fn put_roster(&mut self, local: &str, entry: &RosterEntry) -> Result<(), Fault> {
        let groups =
            serde_json::to_string(&entry.groups).map_err(|e| Fault::internal("cannot write the groups of a roster entry").because(e))?;
        self.transact(|t| {
            if !t.prepare_cached("SELECT 1 FROM account WHERE local = ?1")?.exists([local])? {
                return Err(missing(local));
            }
            let sql = "INSERT INTO roster VALUES (?1, ?2, ?3, ?4) ON CONFLICT (local, jid) DO UPDATE SET name = ?3, groups = ?4";
            t.prepare_cached(sql)?.execute(params![local, entry.jid, entry.name, groups])?;
            Ok(())
        })
    }
}

impl Accounts for Store {
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
        Box::pin(self.run(move |db| db.account(&local)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
        Box::pin(self.run(Database::accounts))
    }

    fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| {
            db.transact(|t| {
                let sql = format!("INSERT INTO account ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING");
                if write(t, &account, &sql)? == 1 {
                    return Ok(());
                }
                let message = format!("there is an account {} already; change its password or remove it", account.local);
                Err(Fault::new(FaultKind::Conflict, message).into())
            })
        }))
    }

    fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| {
            db.transact(|t| {
                let sql = "UPDATE account SET role = ?2, salt = ?3, iterations = ?4, sha1_stored = ?5, sha1_server = ?6, sha256_stored = ?7, \
                           sha256_server = ?8 WHERE local = ?1";
                if write(t, &account, sql)? == 1 { Ok(()) } else { Err(missing(&account.local)) }
            })
        }))
    }

    fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| {
            db.transact(|t| {
                // Its roster goes with it (foreign key).
                let removed = t.prepare_cached("DELETE FROM account WHERE local = ?1")?.execute([&local])?;
                if removed == 1 { Ok(()) } else { Err(missing(&local)) }
            })
        }))
    }

    fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>> {
        Box::pin(self.run(move |db| db.roster(&local)))
    }

    fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| db.put_roster(&local, &entry)))
    }

    fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| {
            db.transact(|t| {
                let removed = t.prepare_cached("DELETE FROM roster WHERE local = ?1 AND jid = ?2")?.execute([&local, &jid])?;
                if removed == 1 { Ok(()) } else { Err(Fault::not_found(format!("{jid} is not in the roster of {local}")).into()) }
            })
        }))
    }
}
