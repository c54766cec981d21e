//! The cell's authority and documents for agents on other machines: who may ask what is decided here and nowhere else.
//!
//! ```text
//!   iq --strict reading--> ask --speaks this link for its host?--> permitted? --> authority or documents --> answer
//!                                     | no: conflict                 | no: forbidden
//! ```
//! An agent acts for its own host alone, and that is the one of its account, never one it names. Whether a change may be is not
//! decided here but by [`archipel_contract::Ownership::step`], which every authority obeys. Nothing here leads: leadership
//! is not among what can be asked.

use super::{Exchange, node::no_lease, reply::Reply};
use crate::{
    server::session::Session,
    stanza::{
        IqKind,
        authority::{self, Ask, Body, Document},
    },
};
use archipel_contract::{
    DomainId, Fault, FaultKind, HypervisorName, Ownership, OwnershipStep,
    migration::{Parked, ShelfNote},
    port::{Authority, Documents, check_document},
};
use minidom::Element;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// How many asks of all agents are under way at once; more are answered `busy`.
const UNDER_WAY: usize = 1024;
/// What documents of one answer may have together, in bytes; the first goes whatever it has.
const PAGE_BYTES: usize = authority::DOCUMENT_BYTES;
/// Documents that belong to the cell and that every agent may read.
const SHELF: &str = "parked/";

/// What the exchange answers from.
pub(crate) struct Desk {
    authority: Arc<dyn Authority>,
    documents: Arc<dyn Documents>,
    room: Arc<Semaphore>,
    /// For each host the end of the last change it asked for.
    order: Mutex<HashMap<HypervisorName, oneshot::Receiver<()>>>,
}

/// A change's place in the row of its host's changes: they are made one after the other, as they were asked for. Were a departure
/// overtaken by the stay that takes it back, the target could still claim what its source keeps.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _done: Option<oneshot::Sender<()>>,
}

impl Turn {
    async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // However the one before ended, it has.
            let _ = before.await;
        }
    }
}

fn forbidden(message: String) -> Fault {
    Fault::new(FaultKind::Forbidden, message)
}

/// Refuses what the agent of `host` may not ask, as far as the words of the question tell.
fn permitted(host: &HypervisorName, ask: &Ask) -> Result<(), Fault> {
    let own = |who: &HypervisorName| {
        if who == host { Ok(()) } else { Err(forbidden(format!("the agent of {host} may not act for {who}; act there"))) }
    };
    let key = |key: &str| {
        let reachable = key.starts_with(SHELF)
            || key.strip_prefix("agent/").and_then(|k| k.strip_prefix(host.as_str())).is_some_and(|k| k.starts_with('/'));
        if reachable {
            check_document(key, None)
        } else {
            let shown: String = key.chars().take(80).collect();
            Err(forbidden(format!("the agent of {host} may use documents {SHELF}... and agent/{host}/... and not {shown:?}")))
        }
    };
    match ask {
        Ask::Claim(claim) => own(&claim.owner),
        Ask::Step(step) => own(step.step.by()),
        // Who owns what is no secret among agents. Whether a machine is theirs to forget, its record tells.
        Ask::Ownership(_) | Ask::Ownerships(_) | Ask::Parked(_) | Ask::Forget(_) => Ok(()),
        Ask::Document(fetch) => key(&fetch.key),
        Ask::Documents(browse) => key(&browse.prefix),
        Ask::Write(write) => key(&write.key),
    }
}

/// The machine a document of the shelf belongs to.
fn shelved(key: &str) -> Option<DomainId> {
    key.strip_prefix(SHELF)?.get(..36)?.parse().ok()
}

impl Desk {
    /// The turn of an ask; to be taken in the order in which asks come. What only reads has no need to wait.
    fn turn(&self, host: &HypervisorName, ask: &Ask) -> Turn {
        match ask {
            Ask::Claim(_) | Ask::Step(_) | Ask::Forget(_) | Ask::Write(_) => {
                let (done, ended) = oneshot::channel();
                Turn { before: self.order.lock().insert(host.clone(), ended), _done: Some(done) }
            }
            Ask::Ownership(_) | Ask::Ownerships(_) | Ask::Parked(_) | Ask::Document(_) | Ask::Documents(_) => {
                Turn { before: None, _done: None }
            }
        }
    }

    pub(crate) fn new(authority: Arc<dyn Authority>, documents: Arc<dyn Documents>) -> Desk {
        Desk { authority, documents, room: Arc::new(Semaphore::new(UNDER_WAY)), order: Mutex::default() }
    }

    /// What lies on the cell's shelf, by name. A document whose machine is not parked any more is about to be removed.
    pub(super) async fn parked(&self) -> Result<Vec<Parked>, Fault> {
        let held: HashSet<DomainId> = self.authority.parked().await?.into_iter().map(|o| o.domain).collect();
        let mut parked = Vec::with_capacity(held.len());
        for (key, document) in self.documents.documents("parked/".to_owned()).await? {
            match serde_json::from_slice::<ShelfNote>(&document.body) {
                Ok(note) if held.contains(&note.parked.id) => parked.push(note.parked),
                Ok(_) => {}
                Err(error) => tracing::warn!(%key, %error, "a parked machine's document cannot be read"),
            }
        }
        parked.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        Ok(parked)
    }

    /// Answers what may be asked. With it comes the ownership that this has handed to another host.
    async fn answer(&self, host: &HypervisorName, ask: Ask) -> Result<(Element, Option<Ownership>), Fault> {
        permitted(host, &ask)?;
        let plain = |answer| Ok((answer, None));
        match ask {
            Ask::Claim(claim) => plain(authority::answer(&self.authority.claim_unowned(claim.domains, claim.owner).await?)),
            Ask::Ownership(look) => plain(authority::answer(&self.authority.ownership(look.domain).await?)),
            Ask::Ownerships(survey) => plain(authority::answer(&self.authority.ownerships(survey.domains).await?)),
            Ask::Step(step) => {
                let handed = matches!(step.step, OwnershipStep::Claim { .. } | OwnershipStep::Unpark { .. });
                let after = self.authority.step(step.domain, step.expected, step.step).await?;
                Ok((authority::answer(&after), handed.then_some(after)))
            }
            Ask::Forget(forget) => {
                let held = self.authority.ownership(forget.domain).await?;
                // From another epoch the authority refuses it, and it is no crime: this is how a source learns that a move was done.
                if let Some(held) = held.filter(|h| h.epoch == forget.expected) {
                    may_forget(host, &held)?;
                }
                // What changed hands in between has another epoch, and is not forgotten.
                self.authority.forget(forget.domain, forget.expected).await?;
                plain(authority::answer(&()))
            }
            Ask::Parked(shelf) => {
                let mut all = self.authority.parked().await?;
                all.retain(|o| shelf.after.is_none_or(|after| o.domain > after));
                let more = all.len() > authority::PAGE;
                all.truncate(authority::PAGE);
                plain(authority::answer(&authority::Parked { parked: all, more }))
            }
            Ask::Document(fetch) => {
                let found = self.documents.document(fetch.key.clone()).await?;
                plain(authority::answer(&found.map(|d| Document::of(fetch.key, d)).transpose()?))
            }
            Ask::Documents(browse) => plain(authority::answer(&self.browse(browse).await?)),
            Ask::Write(write) => {
                // The definition of a parked machine is run by whoever takes it: nobody but the host that has it may write it.
                if let Some(id) = shelved(&write.key)
                    && let Some(held) = self.authority.ownership(id).await?
                    && held.owner != *host
                {
                    return Err(forbidden(format!("{} is {}'s, so {host} may not write {}", id, held.owner, write.key)));
                }
                let body = write.body.map(|Body(bytes)| bytes);
                plain(authority::answer(&self.documents.write_document(write.key, write.expected, body).await?))
            }
        }
    }

    async fn browse(&self, browse: authority::Browse) -> Result<authority::Documents, Fault> {
        let found = self.documents.documents(browse.prefix).await?;
        let mut page = authority::Documents::default();
        let mut bytes = 0;
        for (key, document) in found.into_iter().filter(|(key, _)| browse.after.as_ref().is_none_or(|after| key > after)) {
            bytes += document.body.len();
            if page.documents.len() == authority::PAGE || (bytes > PAGE_BYTES && !page.documents.is_empty()) {
                page.more = true;
                break;
            }
            page.documents.push(Document::of(key, document)?);
        }
        Ok(page)
    }
}

/// A machine that moves or lies on the shelf is not gone, whatever its host does not see any more.
fn may_forget(host: &HypervisorName, held: &Ownership) -> Result<(), Fault> {
    if held.owner != *host {
        return Err(forbidden(format!("{} is {}'s, so {host} may not forget it", held.domain, held.owner)));
    }
    held.check_forget(held.epoch)
}

impl Exchange {
    /// An ask of the authority from a node's session.
    pub(super) fn on_authority(self: &Arc<Self>, session: &Arc<Session>, kind: IqKind, stanza: &Element, payload: &Element, reply: Reply) {
        if stanza.attr("to").is_some_and(|to| to != self.cell.as_str()) {
            return reply.fault(&Fault::invalid(format!("only the cell {} itself has an authority", self.cell)));
        }
        let ask = match Ask::parse(payload, kind) {
            Ok(ask) => ask,
            Err(fault) => return reply.fault(&fault),
        };
        // A link that another one has replaced speaks for nobody.
        let link = session.id();
        let Some(host) = self.links.host(link).filter(|h| self.locations.read().link(h) == Some(link)) else {
            // No conflict: nothing was said about the machine.
            return reply.fault(&Fault::unavailable(no_lease().message));
        };
        let Ok(permit) = self.desk.room.clone().try_acquire_owned() else {
            return reply.fault(&Fault::busy("too much is asked of the cell's authority at once; try again in a moment"));
        };
        let exchange = self.clone();
        let mut turn = self.desk.turn(&host, &ask);
        let forgets = if let Ask::Forget(forget) = &ask { Some(forget.domain) } else { None };
        tokio::spawn(async move {
            let _permit = permit;
            turn.come().await;
            let within = exchange.answer_within;
            let late = || {
                let message =
                    format!("the cell's authority did not answer within {} s; it may have done it, so look first", within.0.div_ceil(1000));
                Err(Fault::new(FaultKind::Timeout, message))
            };
            let answer = tokio::time::timeout(within.duration(), exchange.desk.answer(&host, ask)).await;
            match answer.unwrap_or_else(|_| late()) {
                Ok((answer, handed)) => {
                    if let Some(after) = handed {
                        tracing::info!(domain = %after.domain, to = %after.owner, epoch = after.epoch.0, "a machine has another owner");
                        exchange.locations.write().handed(&after);
                    }
                    if let Some(id) = forgets {
                        exchange.tell_heirs_of(id);
                    }
                    reply.element(&answer);
                }
                Err(fault) => {
                    if fault.kind == FaultKind::Forbidden {
                        tracing::warn!(%host, %fault, "an agent asked what it may not");
                    }
                    reply.fault(&fault);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::Hold;
    use archipel_contract::{Epoch, MoveId};

    fn host(name: &str) -> HypervisorName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn changes_of_one_host_are_made_in_the_order_they_were_asked() {
        use archipel_contract::fake::{MemoryAuthority, MemoryDocuments};
        let desk = Desk::new(Arc::new(MemoryAuthority::default()), Arc::new(MemoryDocuments::default()));
        let domain = DomainId(uuid::Uuid::nil());
        let step = |by: &str| {
            let step = OwnershipStep::Park { by: host(by) };
            Ask::Step(authority::Step { domain, expected: Epoch(1), step })
        };
        let (first, mut second, mut other) =
            (desk.turn(&host("a"), &step("a")), desk.turn(&host("a"), &step("a")), desk.turn(&host("b"), &step("b")));
        let mut reading = desk.turn(&host("a"), &Ask::Documents(authority::Browse { prefix: "parked/".into(), after: None }));
        let (mut waits, mut free, mut reads) = (Box::pin(second.come()), Box::pin(other.come()), Box::pin(reading.come()));
        assert!(futures::poll!(&mut waits).is_pending(), "the one before is not done");
        assert!(futures::poll!(&mut free).is_ready(), "another host waits for nobody");
        assert!(futures::poll!(&mut reads).is_ready(), "reading waits for nobody");
        drop(first);
        assert!(futures::poll!(&mut waits).is_ready(), "however it ended");
    }

    #[test]
    fn an_agent_acts_for_its_own_host_alone() {
        let domain = DomainId(uuid::Uuid::nil());
        let saga = MoveId(uuid::Uuid::nil());
        let steps = |by: &str| {
            let by = host(by);
            [
                OwnershipStep::Depart { by: by.clone(), saga, to: host("gamma") },
                OwnershipStep::Stay { by: by.clone(), saga },
                OwnershipStep::Claim { by: by.clone(), saga },
                OwnershipStep::Park { by: by.clone() },
                OwnershipStep::Unpark { by },
            ]
        };
        for (by, fine) in [("alpha", true), ("beta", false), ("alpha.x", false)] {
            let claim = Ask::Claim(authority::Claim { owner: host(by), domains: vec![domain] });
            let asks = steps(by).map(|step| Ask::Step(authority::Step { domain, expected: Epoch(1), step }));
            for ask in asks.into_iter().chain([claim]) {
                let refused = permitted(&host("alpha"), &ask).err().map(|f| f.kind);
                assert_eq!(refused, (!fine).then_some(FaultKind::Forbidden), "{ask:?}");
            }
        }
    }

    #[test]
    fn an_agent_reaches_the_shelf_and_its_own_documents_alone() {
        let write = |key: &str| Ask::Write(authority::Write { key: key.into(), expected: None, body: None });
        let read = |key: &str| Ask::Document(authority::Fetch { key: key.into() });
        let list = |key: &str| Ask::Documents(authority::Browse { prefix: key.into(), after: None });
        for (key, fine) in [
            ("parked/x", true),
            ("agent/alpha/saga/1", true),
            ("agent/alpha/", true),
            ("parked/", true),
            ("agent/alpha", false),
            ("agent/beta/saga/1", false),
            ("agent/alpha.x/1", false),
            ("agent/", false),
            ("parked", false),
            ("", false),
            ("ca/key", false),
            ("invite/1", false),
            ("parked/A", false),
        ] {
            for ask in [write(key), read(key), list(key)] {
                assert_eq!(permitted(&host("alpha"), &ask).is_ok(), fine, "{ask:?}");
            }
        }
    }

    #[test]
    fn only_a_machine_of_ones_own_that_neither_moves_nor_is_parked_is_forgotten() {
        let held = |hold| Ownership { domain: DomainId(uuid::Uuid::nil()), epoch: Epoch(1), owner: host("alpha"), hold };
        assert!(may_forget(&host("alpha"), &held(Hold::Owned)).is_ok());
        assert_eq!(may_forget(&host("beta"), &held(Hold::Owned)).unwrap_err().kind, FaultKind::Forbidden);
        for hold in [Hold::Parked, Hold::Moving { saga: MoveId(uuid::Uuid::nil()), to: host("beta") }] {
            assert_eq!(may_forget(&host("alpha"), &held(hold)).unwrap_err().kind, FaultKind::Conflict);
        }
    }

    #[test]
    fn a_document_of_the_shelf_names_its_machine() {
        let id = DomainId(uuid::Uuid::from_u128(5));
        for key in [format!("parked/{id}"), format!("parked/{id}.xml"), format!("parked/{id}/disks")] {
            assert_eq!(shelved(&key), Some(id), "{key}");
        }
        for key in ["parked/", "parked/web1", &format!("agent/alpha/{id}")] {
            assert_eq!(shelved(key), None, "{key}");
        }
    }
}
