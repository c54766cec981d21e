//! One call: its deadline, its mark, and the two things it can do, which are to read and to compare and set.

use super::leadership::missing_lease;
use super::{Etcd, Term};
use archipel_contract::Fault;
use etcd_client::{Client, Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

/// etcd refuses a transaction with more than 128 comparisons or changes.
pub(super) const BATCH: usize = 100;
/// Keys of one page of a list, whose values are at most as large as a document.
const PAGE: i64 = 32;
/// A page of the largest documents, in bytes.
const MESSAGE: usize = 64 << 20;

/// What lies at a key: the value and the mark of the call that wrote it.
#[derive(Serialize, Deserialize)]
struct Written<T> {
    mark: Uuid,
    value: T,
}

/// What was read at one key.
pub(super) struct Seen<T> {
    /// The revision that wrote it, 0 when there is nothing.
    pub(super) revision: i64,
    /// The revision that wrote it when there was nothing, 0 when there is nothing.
    pub(super) made: i64,
    /// The lease it is bound to, 0 when there is none.
    pub(super) lease: i64,
    /// The mark of the call that wrote it.
    mark: Option<Uuid>,
    /// The value.
    pub(super) value: Option<T>,
}

impl<T: DeserializeOwned> Seen<T> {
    pub(super) fn of(found: &[KeyValue]) -> Result<Seen<T>, Fault> {
        let Some(kv) = found.first() else { return Ok(Seen { revision: 0, made: 0, lease: 0, mark: None, value: None }) };
        let written: Written<T> = parse(kv)?;
        Ok(Seen {
            revision: kv.mod_revision(),
            made: kv.create_revision(),
            lease: kv.lease(),
            mark: Some(written.mark),
            value: Some(written.value),
        })
    }
}

fn parse<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, Fault> {
    serde_json::from_slice(kv.value()).map_err(|e| {
        Fault::internal(format!("what lies in etcd at {} cannot be read; please report this", String::from_utf8_lossy(kv.key()))).because(e)
    })
}

/// What a transaction came to.
pub(super) struct Outcome {
    /// Whether everything compared equal, so that the changes were made.
    pub(super) made: bool,
    /// The revision after it.
    pub(super) revision: i64,
    /// What each operation found.
    pub(super) found: Vec<Vec<KeyValue>>,
    /// How many keys were removed.
    pub(super) removed: i64,
}

impl Outcome {
    /// What the operation with that number found at its one key.
    pub(super) fn seen<T: DeserializeOwned>(&self, at: usize) -> Result<Seen<T>, Fault> {
        Seen::of(self.found.get(at).map_or(&[], Vec::as_slice))
    }
}

/// A value as it is put down, without the mark.
pub(super) fn plain<T: Serialize>(value: &T) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|e| Fault::internal("a value for etcd cannot be written").because(e))
}

/// Compares equal as long as nobody changed what was seen at that key, or, for revision 0, wrote it.
pub(super) fn unchanged(key: &str, revision: i64) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

pub(super) fn get(key: &str) -> TxnOp {
    TxnOp::get(key, None)
}

pub(super) fn delete(key: &str) -> TxnOp {
    TxnOp::delete(key, None)
}

pub(super) fn delete_prefix(prefix: &str) -> TxnOp {
    TxnOp::delete(prefix, Some(DeleteOptions::new().with_prefix()))
}

/// A call in progress.
pub(super) struct Call<'a> {
    pub(super) etcd: &'a Etcd,
    pub(super) end: Instant,
    mark: Uuid,
}

impl Etcd {
    /// Begins a call; its deadline runs from now on.
    pub(super) fn call(&self) -> Call<'_> {
        Call { etcd: self, end: Instant::now() + self.members.timeout, mark: Uuid::new_v4() }
    }
}

impl Call<'_> {
    /// Whether this call wrote what was seen: then its change was made, and only the answer was lost.
    pub(super) fn wrote<T>(&self, seen: &Seen<T>) -> bool {
        seen.mark == Some(self.mark)
    }

    /// Whether this call wrote what lies there.
    fn marked(&self, kv: &KeyValue) -> bool {
        serde_json::from_slice::<Written<serde::de::IgnoredAny>>(kv.value()).is_ok_and(|written| written.mark == self.mark)
    }

    /// A value as it is put down, under the mark of this call.
    pub(super) fn written<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(&Written { mark: self.mark, value })
            .map_err(|e| Fault::internal("a value for etcd cannot be written").because(e))
    }

    pub(super) fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<TxnOp, Fault> {
        Ok(TxnOp::put(key, self.written(value)?, None))
    }

    /// Reads one key.
    pub(super) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Seen<T>, Fault> {
        self.look(vec![get(key)]).await?.seen(0)
    }

    /// Reads several keys at once.
    pub(super) async fn look(&self, keys: Vec<TxnOp>) -> Result<Outcome, Fault> {
        let done = self.transact(None, vec![], keys, vec![]).await?;
        done.ok_or_else(|| Fault::internal("etcd misses a lease where nothing was to be changed; please report this"))
    }

    /// One transaction: if everything in `when` holds, `changes` are made, else `otherwise`. It may be sent more than once.
    pub(super) async fn commit(&self, when: Vec<Compare>, changes: Vec<TxnOp>, otherwise: Vec<TxnOp>) -> Result<Outcome, Fault> {
        let done = self.try_commit(when, changes, otherwise).await?;
        done.ok_or_else(|| Fault::internal("etcd misses a lease that nothing was bound to; please report this"))
    }

    /// The same with a change that is bound to a lease: `None` when there is no such lease any more.
    pub(super) async fn try_commit(
        &self,
        when: Vec<Compare>,
        changes: Vec<TxnOp>,
        otherwise: Vec<TxnOp>,
    ) -> Result<Option<Outcome>, Fault> {
        self.transact(self.etcd.term.as_deref(), when, changes, otherwise).await
    }

    /// The same, as a change of that term if there is one.
    async fn transact(
        &self,
        term: Option<&Term>,
        mut when: Vec<Compare>,
        changes: Vec<TxnOp>,
        mut otherwise: Vec<TxnOp>,
    ) -> Result<Option<Outcome>, Fault> {
        self.etcd.opened(self.end).await?;
        if let Some(term) = term {
            when.push(Compare::create_revision(term.key.as_str(), CompareOp::Equal, term.made));
            otherwise.push(get(&term.key));
        }
        let txn = Txn::new().when(when).and_then(changes).or_else(otherwise);
        let attempt = |client: Client| {
            let txn = txn.clone();
            async move {
                match client.kv_client().max_decoding_message_size(MESSAGE).txn(txn).await {
                    Ok(answer) => Ok(Some(answer)),
                    Err(error) if missing_lease(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let Some(answer) = self.etcd.members.ask(self.end, attempt).await? else { return Ok(None) };
        let (mut found, mut removed) = (Vec::new(), 0);
        for response in answer.op_responses() {
            match response {
                TxnOpResponse::Get(mut got) => found.push(got.take_kvs()),
                TxnOpResponse::Delete(deleted) => removed += deleted.deleted(),
                TxnOpResponse::Put(_) | TxnOpResponse::Txn(_) => {}
            }
        }
        if let Some(term) = term.filter(|_| !answer.succeeded()) {
            let lasts = found.pop().is_some_and(|leading| leading.first().is_some_and(|kv| kv.create_revision() == term.made));
            // A first attempt may have been made before the term ended; whoever asked recognises it by its mark.
            if !lasts && !found.iter().flatten().any(|kv| self.marked(kv)) {
                return Err(Term::over(&term.role, term.epoch));
            }
        }
        Ok(Some(Outcome { made: answer.succeeded(), revision: answer.header().map_or(0, |h| h.revision()), found, removed }))
    }

    /// One page of the keys from `from` on and before `end`, in order, and where the next one begins.
    pub(super) async fn page(&self, from: &[u8], end: &[u8], keys_only: bool) -> Result<(Vec<KeyValue>, Option<Vec<u8>>), Fault> {
        self.etcd.opened(self.end).await?;
        let mut options = GetOptions::new().with_range(end).with_limit(PAGE);
        if keys_only {
            options = options.with_keys_only().with_limit(BATCH as i64 / 2);
        }
        let mut answer = self
            .etcd
            .members
            .ask(self.end, |client| {
                let (options, from) = (options.clone(), from.to_vec());
                async move { client.kv_client().max_decoding_message_size(MESSAGE).get(from, Some(options)).await }
            })
            .await?;
        let more = answer.more();
        let found = answer.take_kvs();
        // The smallest key after the last one of this page.
        let next = found.last().filter(|_| more).map(|last| [last.key(), &[0]].concat());
        Ok((found, next))
    }
}

impl Etcd {
    /// Everything whose key begins with `prefix`, by key, page by page; each page has a deadline of its own.
    pub(super) async fn under<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, i64, T)>, Fault> {
        let (mut all, mut from) = (Vec::new(), prefix.as_bytes().to_vec());
        let end = after(prefix);
        loop {
            let (page, next) = self.call().page(&from, &end, false).await?;
            for kv in &page {
                let key = String::from_utf8_lossy(kv.key()).into_owned();
                all.push((key, kv.mod_revision(), parse::<Written<T>>(kv)?.value));
            }
            match next {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }
}

/// The smallest key after all that begin with `prefix`. Ours end with an ASCII character.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
