//! Who leads a role: a key bound to a lease of etcd, which removes it when the holder does not renew.
//!
//! ```text
//!   vacant --lead: lease granted, key written, epoch + 1--> led --lead by the holder: lease kept alive, same epoch--> led
//!     ^                                                      |
//!     +---- resign: key removed · lease ran out: etcd removes the key <---+
//! ```
//! When a lease has run out is decided by etcd alone, and it is late rather than early: by its half-second rounds, and by a whole
//! lease after an election of its own leader. The holder counts from the time it gave before it asked, so it stops first.
//!
//! Keeping a lease alive is answered by etcd's leader alone, and one that was cut off may answer for a moment though it is none any
//! more. So the key is read again afterwards, which takes a majority. What remains is fenced by the epoch, and what the holder writes into
//! etcd by the key itself: each term makes it anew, and every change of a term compares which one made it.

use super::call::{Call, Seen, delete, get, unchanged};
use super::members::Member;
use super::{Etcd, Term};
use archipel_contract::port::Leadership;
use archipel_contract::{Epoch, Fault, FaultKind, Millis, Timestamp};
use etcd_client::{Error, EventType, PutOptions, TxnOp, WatchFilterType, WatchOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts to watch, when all watches broke though the key could be read.
const PAUSE: Duration = Duration::from_millis(200);
/// gRPC's code for a lease that is not there.
const NOT_FOUND: i32 = 5;

/// Who leads.
#[derive(Serialize, Deserialize)]
struct Leader {
    holder: String,
    epoch: Epoch,
    /// What etcd granted, in seconds; it may be more than was asked.
    lease: u64,
}

pub(super) fn missing_lease(error: &Error) -> bool {
    match error {
        Error::LeaseKeepAliveError(_) => true,
        Error::GRpcStatus(status) => i32::from(status.code()) == NOT_FOUND && status.message().contains("lease"),
        _ => false,
    }
}

impl Etcd {
    fn leader(&self, role: &str) -> String {
        self.key(format_args!("lead/{role}"))
    }

    /// The same data, for what is changed as the leader of `role` in that term: it is changed only as long as the term lasts, and
    /// refused as `unavailable` afterwards, also what was sent before and arrives late. Reading goes on. Refused when the term is over
    /// already.
    pub async fn in_term(&self, role: &str, epoch: Epoch) -> Result<Etcd, Fault> {
        let key = self.leader(role);
        let leading: Seen<Leader> = self.call().read(&key).await?;
        match leading.value {
            Some(leader) if leader.epoch == epoch => {
                let term = Term { key, made: leading.made, role: role.to_owned(), epoch };
                Ok(Etcd { term: Some(Arc::new(term)), ..self.clone() })
            }
            _ => Err(Term::over(role, epoch)),
        }
    }

    pub(super) async fn try_to_lead(&self, role: &str, holder: &str, lease: Millis, now: Timestamp) -> Result<Leadership, Fault> {
        let (call, key, epochs) = (self.call(), self.leader(role), self.key(format_args!("lead-epoch/{role}")));
        let seconds = lease.0.div_ceil(1000).max(1);
        let until = |granted: u64| Timestamp(now.0.saturating_add(lease.0.min(granted.saturating_mul(1000))));
        loop {
            let found = call.look(vec![get(&key), get(&epochs)]).await?;
            let leading: Seen<Leader> = found.seen(0)?;
            let highest: Seen<Epoch> = found.seen(1)?;
            let ours = call.wrote(&leading);
            match leading.value {
                Some(leader) if leader.holder != holder => {
                    let message = format!("{} leads {role} and has not let its lease run out; wait or stop it", leader.holder);
                    return Err(Fault::new(FaultKind::Conflict, message));
                }
                Some(leader) => {
                    if ours || self.renewed(&call, &key, leading.lease, leader.epoch).await? {
                        return Ok(Leadership { epoch: leader.epoch, until: until(leader.lease) });
                    }
                }
                None => {
                    let epoch = Epoch(highest.value.unwrap_or_default().0 + 1);
                    let (id, granted) = self.grant(&call, seconds).await?;
                    let leader = Leader { holder: holder.to_owned(), epoch, lease: granted };
                    let bound = TxnOp::put(key.as_str(), call.written(&leader)?, Some(PutOptions::new().with_lease(id)));
                    let same = vec![unchanged(&key, 0), unchanged(&epochs, highest.revision)];
                    match call.try_commit(same, vec![bound, call.put(&epochs, &epoch)?], vec![]).await? {
                        Some(done) if done.made => return Ok(Leadership { epoch, until: until(granted) }),
                        // Somebody was faster, or the lease ran out on the way. A lease that binds nothing ends by itself.
                        Some(_) | None => {}
                    }
                }
            }
        }
    }

    async fn grant(&self, call: &Call<'_>, seconds: u64) -> Result<(i64, u64), Fault> {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let granted = self.members.ask(call.end, |client| async move { client.lease_client().grant(seconds, None).await }).await?;
        Ok((granted.id(), u64::try_from(granted.ttl()).unwrap_or(0)))
    }

    /// Keeps the lease alive, and says whether the key is then still bound to it.
    async fn renewed(&self, call: &Call<'_>, key: &str, lease: i64, epoch: Epoch) -> Result<bool, Fault> {
        let kept = |client: etcd_client::Client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(error) if missing_lease(&error) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if !self.members.ask(call.end, kept).await? {
            return Ok(false);
        }
        let now: Seen<Leader> = call.read(key).await?;
        Ok(now.lease == lease && now.value.is_some_and(|leader| leader.epoch == epoch))
    }

    pub(super) async fn give_back(&self, role: &str, holder: &str) -> Result<(), Fault> {
        let (call, key) = (self.call(), self.leader(role));
        loop {
            let seen: Seen<Leader> = call.read(&key).await?;
            if seen.value.is_none_or(|leader| leader.holder != holder) {
                return Ok(());
            }
            if call.commit(vec![unchanged(&key, seen.revision)], vec![delete(&key)], vec![]).await?.made {
                return Ok(());
            }
        }
    }

    /// Watches the key on every member at once: the member that a watch hangs on may be on the very host that died.
    pub(super) async fn wait_for_vacancy(&self, role: &str) -> Result<(), Fault> {
        let key = self.leader(role);
        loop {
            let found = self.call().look(vec![get(&key)]).await?;
            if found.seen::<Leader>(0)?.value.is_none() {
                return Ok(());
            }
            let mut watches: FuturesUnordered<_> =
                self.members.all().iter().map(|member| removal(member, &key, found.revision + 1, self.members.timeout)).collect();
            // Watches that broke are set up anew as soon as half of them are gone.
            while 2 * watches.len() > self.members.all().len() {
                match watches.next().await {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(trouble)) => tracing::debug!(role, trouble, "a watch in etcd ended"),
                    None => break,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Ends well when the key is removed, and with the reason when this member does not watch any more.
async fn removal(member: &Member, key: &str, from: i64, patience: Duration) -> Result<(), String> {
    let options = WatchOptions::new().with_start_revision(from).with_filters([WatchFilterType::NoPut]);
    let begin = async { member.client().await?.watch_client().watch(key, Some(options)).await };
    let mut watch = match tokio::time::timeout(patience, begin).await {
        Ok(begun) => begun.map_err(|e| e.to_string())?,
        Err(_) => return Err("no answer".into()),
    };
    loop {
        match watch.message().await.map_err(|e| e.to_string())? {
            Some(news) if news.canceled() => return Err(news.cancel_reason().to_owned()),
            Some(news) if news.events().iter().any(|e| e.event_type() == EventType::Delete) => return Ok(()),
            Some(_) => {}
            None => return Err("the stream ended".into()),
        }
    }
}
