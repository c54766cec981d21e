//! What one process of an agent has of what outlives it: journal and documents on its own disk, and the authority. A process that is
//! dead writes nothing any more and is answered nothing.

use archipel_contract::{
    BoxFuture, DomainId, EntityId, Epoch, Fault, HypervisorName, Millis, OperationId, Ownership, OwnershipStep, Timestamp,
    fake::{MemoryAuthority, MemoryDocuments, MemoryJournal},
    port::{Acceptance, Authority, Documents, DoneOperation, Journal, Leadership, Operation, Versioned},
};
use futures::FutureExt;
use serde_json::Value;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A process: whether it lives, and at which of its next looks at disk or cell it dies.
#[derive(Clone)]
pub(super) struct Process(Arc<Life>);

struct Life {
    lives: AtomicBool,
    /// How many more answers of disk and cell it lives to see; none that counts when it is negative.
    left: AtomicI64,
    /// The last thing it asked for is done, and it does not hear so.
    done: AtomicBool,
    /// What ends with it.
    last: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Process {
    /// A process that lives; what is left of it when it dies is ended by `last`.
    pub(super) fn begin() -> Process {
        let (lives, left) = (AtomicBool::new(true), AtomicI64::new(-1));
        Process(Arc::new(Life { lives, left, done: AtomicBool::new(false), last: Mutex::default() }))
    }

    pub(super) fn ends_with(&self, last: impl FnOnce() + Send + 'static) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(last));
    }

    pub(super) fn lives(&self) -> bool {
        self.0.lives.load(Ordering::SeqCst)
    }

    /// It ends, without a word to anybody.
    pub(super) fn die(&self) {
        self.0.lives.store(false, Ordering::SeqCst);
        if let Some(last) = self.0.last.lock().unwrap_or_else(PoisonError::into_inner).take() {
            last();
        }
    }

    /// It dies at an await: when it has asked disk or cell so many more times, before that was done or after.
    pub(super) fn doom(&self, asks: u64, done: bool) {
        self.0.done.store(done, Ordering::SeqCst);
        self.0.left.store(i64::try_from(asks).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Something that its disk or the cell does for it, if it lives to ask and to hear the answer.
    fn own<'a, T: Send + 'a>(&self, call: impl FnOnce() -> BoxFuture<'a, Result<T, Fault>>) -> BoxFuture<'a, Result<T, Fault>> {
        if !self.lives() {
            return Box::pin(pending());
        }
        if self.0.left.load(Ordering::SeqCst) < 0 || self.0.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return call();
        }
        if self.0.done.load(Ordering::SeqCst) {
            // What asks a disk is done when it is asked; what goes over a link has been written to it.
            drop(call().now_or_never());
        }
        self.die();
        Box::pin(pending())
    }
}

/// A journal, or documents, on the agent's own disk.
pub(super) struct Mortal<T> {
    pub(super) inner: Arc<T>,
    pub(super) process: Process,
}

impl Journal for Mortal<MemoryJournal> {
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>> {
        self.process.own(|| self.inner.accept(operation))
    }
    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>> {
        self.process.own(|| self.inner.recall(operation))
    }
    fn complete(&self, caller: String, id: OperationId, outcome: Result<Value, Fault>, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.process.own(|| self.inner.complete(caller, id, outcome, at))
    }
    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>> {
        self.inner.interrupted()
    }
    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        self.inner.forget_before(time)
    }
    fn done_on(&self, entity: EntityId, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        self.inner.done_on(entity, since, most)
    }
    fn ended_tasks(&self, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        self.inner.ended_tasks(since, most)
    }
    fn adopt(&self, done: Vec<DoneOperation>) -> BoxFuture<'_, Result<(), Fault>> {
        self.process.own(|| self.inner.adopt(done))
    }
}

impl Documents for Mortal<MemoryDocuments> {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        self.process.own(|| self.inner.document(key))
    }
    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        self.process.own(|| self.inner.documents(prefix))
    }
    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        self.process.own(|| self.inner.write_document(key, expected, body))
    }
}

/// The authority as an agent has it: what its own disk records as owned needs no cell, all else is asked over the link.
pub(super) struct Reach {
    /// What the own disk would have recorded.
    pub(super) recorded: Arc<MemoryAuthority>,
    pub(super) cell: Arc<dyn Authority>,
    pub(super) me: HypervisorName,
    pub(super) process: Process,
}

impl Reach {
    async fn ours(&self, domain: DomainId) -> Result<Option<Ownership>, Fault> {
        Ok(self.recorded.ownership(domain).await?.filter(|o| o.right_to_run(&self.me).is_some()))
    }
}

impl Authority for Reach {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.process.own(move || {
            Box::pin(async move {
                let mut known = Vec::new();
                for id in &domains {
                    known.extend(self.ours(*id).await?);
                }
                if known.len() == domains.len() { Ok(known) } else { self.cell.claim_unowned(domains, owner).await }
            })
        })
    }
    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        self.process.own(move || {
            Box::pin(async move {
                match self.ours(domain).await? {
                    Some(ours) => Ok(Some(ours)),
                    None => self.cell.ownership(domain).await,
                }
            })
        })
    }
    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        self.process.own(|| self.cell.step(domain, expected, step))
    }
    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.process.own(|| self.cell.parked())
    }
    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        self.process.own(|| self.cell.forget(domain, expected))
    }
    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        self.cell.lead(role, holder, lease, now)
    }
    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.cell.resign(role, holder)
    }
    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.cell.vacancy(role, now)
    }
    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        self.recorded.incarnation()
    }
}
