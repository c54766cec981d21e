//! The content of a cell that had one exchange, carried over into etcd when it gets more, exactly once.
//!
//! ```text
//!   no mark --nothing of ours disagrees with what is there: mark (begun)--> written key by key, where there is nothing --> mark (done)
//!      |                                                                        |  crash: the same exchange goes on
//!      +--something disagrees: refused, nothing is written                      +-- others wait
//!   done by another --we have nothing, or the same--> nothing to do
//!                   --we have something else--------> refused, nothing is written
//! ```
//! Whoever begins with nothing marks that, too: so of two exchanges that start together, one with a cell and one without, the cell
//! is either carried over whole, or refused before anything of it was written.

use super::Etcd;
use super::call::{Seen, get, unchanged};
use super::{accounts, authority, documents, journal};
use crate::Content;
use archipel_contract::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Keys in one transaction at most.
const KEYS: usize = 40;
/// And about so many bytes, unless one alone is larger.
const BYTES: usize = 256 << 10;
/// So many disagreements are named.
const NAMED: usize = 5;

/// Who brought the content of this cell.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    by: Uuid,
    /// For people.
    host: String,
    done: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Everything is in etcd now.
    Now,
    /// It was there already, or there was nothing to carry.
    Before,
}

impl Etcd {
    /// Writes down what a store on one disk has of this cell. `by` is that store, and always the same for it; `host` names it to people.
    pub async fn carry_over(&self, content: &Content, by: Uuid, host: &str) -> Result<Carried, Fault> {
        let key = self.key("carried");
        let entries = self.entries(content)?;
        let begun = loop {
            let call = self.call();
            let seen: Seen<Mark> = call.read(&key).await?;
            match &seen.value {
                Some(mark) if mark.by == by && mark.done => return Ok(Carried::Before),
                Some(mark) if mark.by == by => break seen,
                Some(mark) if !mark.done => return Err(under_way(&mark.host)),
                Some(_) => {
                    let (differ, missing) = self.compare(&entries).await?;
                    return if differ.is_empty() && missing.is_empty() { Ok(Carried::Before) } else { Err(self.disagree(differ, missing)) };
                }
                None => {}
            }
            let (differ, _) = self.compare(&entries).await?;
            if !differ.is_empty() {
                return Err(self.disagree(differ, vec![]));
            }
            let mark = Mark { by, host: host.to_owned(), done: entries.is_empty() };
            // Lost to somebody who was faster, or to an answer that was lost: what is there then decides.
            call.commit(vec![unchanged(&key, 0)], vec![call.put(&key, &mark)?], vec![]).await?;
            if entries.is_empty() {
                continue;
            }
        };
        for batch in batches(&entries) {
            self.carry(&key, begun.revision, batch).await?;
        }
        let call = self.call();
        let mark = Mark { by, host: host.to_owned(), done: true };
        let done = call.commit(vec![unchanged(&key, begun.revision)], vec![call.put(&key, &mark)?], vec![get(&key)]).await?;
        // Another process of the same store may have been there first: a command beside the daemon.
        match done.made || done.seen::<Mark>(0)?.value.is_some_and(|mark| mark.by == by && mark.done) {
            true => Ok(Carried::Now),
            false => Err(under_way("another host")),
        }
    }

    /// Writes a few keys where there is nothing, as long as it is we who carry.
    async fn carry(&self, mark: &str, revision: i64, batch: &[(String, Value)]) -> Result<(), Fault> {
        let call = self.call();
        let mut open: Vec<&(String, Value)> = batch.iter().collect();
        while !open.is_empty() {
            let mut when: Vec<_> = open.iter().map(|(key, _)| unchanged(key, 0)).collect();
            when.push(unchanged(mark, revision));
            let changes = open.iter().map(|(key, value)| call.put(key, value)).collect::<Result<_, _>>()?;
            let mut reads: Vec<_> = open.iter().map(|(key, _)| get(key)).collect();
            reads.push(get(mark));
            let done = call.commit(when, changes, reads).await?;
            if done.made {
                return Ok(());
            }
            let now: Seen<Mark> = done.seen(open.len())?;
            if now.revision != revision {
                return if now.value.as_ref().is_some_and(|mark| mark.done) { Ok(()) } else { Err(under_way("another host")) };
            }
            let mut left = Vec::new();
            for (at, entry) in open.into_iter().enumerate() {
                match done.seen::<Value>(at)?.value {
                    None => left.push(entry),
                    Some(value) if value == entry.1 => {}
                    Some(_) => return Err(self.disagree(vec![entry.0.clone()], vec![])),
                }
            }
            open = left;
        }
        Ok(())
    }

    /// Which of these are something else in etcd, and which are not there.
    async fn compare(&self, entries: &[(String, Value)]) -> Result<(Vec<String>, Vec<String>), Fault> {
        let (mut differ, mut missing) = (Vec::new(), Vec::new());
        for batch in batches(entries) {
            let found = self.call().look(batch.iter().map(|(key, _)| get(key)).collect()).await?;
            for (at, (key, value)) in batch.iter().enumerate() {
                match found.seen::<Value>(at)?.value {
                    None => missing.push(key.clone()),
                    Some(there) if there == *value => {}
                    Some(_) => differ.push(key.clone()),
                }
            }
        }
        Ok((differ, missing))
    }

    fn entries(&self, content: &Content) -> Result<Vec<(String, Value)>, Fault> {
        let mut all = Vec::new();
        // What everything else hangs on first: a cell is known by its authority.
        let (first, rest): (Vec<_>, Vec<_>) = content.documents.iter().partition(|(key, _)| key.starts_with("ca/"));
        for (key, body) in first.into_iter().chain(rest) {
            all.push(documents::entry(self, key, body));
        }
        for account in &content.accounts {
            all.push(accounts::entry(self, account)?);
        }
        for (local, entry) in &content.rosters {
            all.push(accounts::roster_entry(self, local, entry)?);
        }
        for (domain, epoch, held) in &content.ownerships {
            all.extend(authority::entries(self, *domain, *epoch, held.as_ref())?);
        }
        for operation in &content.open {
            all.push(journal::open_entry(self, operation)?);
        }
        for done in &content.done {
            all.extend(journal::done_entries(self, done)?);
        }
        Ok(all)
    }

    fn disagree(&self, differ: Vec<String>, missing: Vec<String>) -> Fault {
        let named = |keys: Vec<String>| {
            let shown: Vec<&str> = keys.iter().take(NAMED).map(|key| key.trim_start_matches(&*self.prefix)).collect();
            let more = keys.len().saturating_sub(NAMED);
            format!("{}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
        };
        let mut why = Vec::new();
        if !differ.is_empty() {
            why.push(format!("these are something else there: {}", named(differ)));
        }
        if !missing.is_empty() {
            why.push(format!("these are not there: {}", named(missing)));
        }
        Fault::new(
            FaultKind::Conflict,
            format!(
                "this host's data_dir has a cell of its own and etcd has another one ({}); nothing was changed. If the one in etcd counts, \
                 set carry_over = \"never\" in [cluster] here; if this one counts, stop all exchanges, run `etcdctl del --prefix {}`, and start \
                 this one first",
                why.join("; "),
                self.prefix
            ),
        )
    }
}

fn under_way(host: &str) -> Fault {
    Fault::unavailable(format!(
        "the cell is being carried over from {host} and that is not finished; start the exchange there, or see ops/runbooks/exchange-takeover.md \
         if that host is lost"
    ))
}

/// As many as fit one transaction.
fn batches(mut entries: &[(String, Value)]) -> impl Iterator<Item = &[(String, Value)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = entries.iter().take(KEYS).take_while(|(key, value)| {
            bytes += key.len() + value.to_string().len();
            bytes <= BYTES
        });
        let count = fits.count().max(1).min(entries.len());
        let (batch, rest) = entries.split_at(count);
        entries = rest;
        (!batch.is_empty()).then_some(batch)
    })
}
