//! Machines that are started in their order after a boot of their host.
//!
//! ```text
//!   first listing of this agent's life --the boot is the one written down--> what is still due of it goes on
//!        |  another boot: those with an order are due, written down
//!        v
//!   task: the first that is due --struck off, written down--> its turn --right to run--> started, its delay waited --> the next
//!                                                               +--has run since, not ours, fails: told, the next at once
//!          cancelled, or the host is closed: nothing is due any more
//! ```
//! What is due is struck off before it is started: however often the agent dies, nothing is started twice for one boot. A restart of
//! the agent or of libvirt is no boot; the kernel says what is one. A host whose boots nobody can see from here (libvirt is on another
//! computer) starts nothing, and neither does the first start of an agent, which knows of no boot before.

use crate::{
    board::{Change, Draft},
    domain::{
        DomainActor,
        lifecycle::{Began, StartAfterBoot},
    },
    hypervisor,
    migration::departure::Ending,
    scope::{LONG, SHORT, Scope, within},
    strangers, work,
};
use archipel_contract::{
    Caller, Command, DomainId, EntityId, Fault, OperationId, Role,
    domain::{AutostartDomain, start_in_order},
    event::Cause,
    task::TaskState,
    work::Follower,
};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a machine may take to be known here, when the cell is slow to say whose it is.
const KNOWN: Duration = Duration::from_secs(30);

/// What stands written down of the last boot.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Which boot it was.
    boot: String,
    /// What is still to be started after it, in order.
    due: Vec<DomainId>,
}

fn key(scope: &Scope) -> String {
    format!("agent/{}/boot", scope.host.name)
}

/// A note and the version of it that is written.
struct Written {
    note: Note,
    version: Option<u64>,
}

impl Written {
    async fn keep(&mut self, scope: &Scope) -> Result<(), Fault> {
        let unwritten = |e| Fault::internal("what is to be started could not be written down; please report this").because(e);
        let body = serde_json::to_vec(&self.note).map_err(unwritten)?;
        self.version = Some(scope.local.write_document(key(scope), self.version, Some(body)).await?);
        Ok(())
    }
}

/// Lets libvirt start a machine with its host again, unless it has an order and is started by Archipel.
pub(crate) async fn rearm(scope: &Scope, id: DomainId) -> Result<(), Fault> {
    if within(SHORT, scope.host.domains.read(id)).await?.facts.start_order().is_some() {
        return Ok(());
    }
    within(SHORT, scope.host.domains.set_autostart(id, true)).await
}

/// Everything was listed: once in the agent's life it is looked whether the host has booted.
pub fn listed(scope: &Rc<Scope>) {
    if scope.boot_seen.replace(true) {
        return;
    }
    let scope = scope.clone();
    actix_rt::spawn(async move {
        if let Err(fault) = look(&scope).await {
            tracing::warn!(host = %scope.host.name, %fault, "whether machines must be started after a boot is looked at with the next listing");
            scope.boot_seen.set(false);
        }
    });
}

async fn look(scope: &Rc<Scope>) -> Result<(), Fault> {
    let Some(boot) = hypervisor::facts(scope).and_then(|(_, facts)| facts.kernel) else { return Ok(()) };
    let found = scope.local.document(key(scope)).await?;
    let version = found.as_ref().map(|document| document.version);
    let note = found.and_then(|document| serde_json::from_slice::<Note>(&document.body).ok());
    let Some(note) = note else {
        // Nobody knows whether this boot is a new one.
        return Written { note: Note { boot: boot.to_string(), due: Vec::new() }, version }.keep(scope).await;
    };
    let mut written = Written { note, version };
    if written.note.boot != *boot {
        let due = match scope.moves.closed.get() {
            true => Vec::new(),
            false => start_in_order(&within(LONG, scope.host.domains.list()).await?),
        };
        tracing::info!(host = %scope.host.name, boot = %boot, due = due.len(), closed = scope.moves.closed.get(), "the host has booted");
        written.note = Note { boot: boot.to_string(), due };
        written.keep(scope).await?;
    }
    if written.note.due.is_empty() {
        return Ok(());
    }
    let me = EntityId::Hypervisor(scope.host.name.clone());
    let caller = Caller { jid: scope.cell.jid(&me), role: Role::Node, operation: OperationId::fresh() };
    let words = format!("starting {} machines after a boot", written.note.due.len());
    let (mine, asking) = (scope.clone(), caller.clone());
    let doing = move |_, follower| start_all(mine, written, asking, follower);
    work::begin_judged(scope, me, AutostartDomain::NAME, scope.host.name.as_str(), &caller, words, doing);
    Ok(())
}

async fn start_all(scope: Rc<Scope>, mut written: Written, caller: Caller, follower: Arc<dyn Follower>) -> Ending {
    let stop = Arc::new(Notify::new());
    let stopper = stop.clone();
    follower.on_cancel(Box::new(move || stopper.notify_one()));
    let all = written.note.due.len();
    let (mut started, mut failed, mut pause) = (0, Vec::new(), Duration::ZERO);
    let ran = Ran::watch(&scope, &written.note.due);
    while let Some(id) = written.note.due.first().copied() {
        if !pause.is_zero() {
            tokio::select! { () = stop.notified() => {}, () = tokio::time::sleep(pause) => {} }
        }
        pause = Duration::ZERO;
        let over = if follower.is_cancelled() {
            Some((TaskState::Cancelled, Ok(format!("stopped after {started} of {all}; the others stay as they are"))))
        } else if scope.moves.closed.get() {
            Some((TaskState::Cancelled, Ok(format!("the host was closed after {started} of {all}; the others stay as they are"))))
        } else {
            None
        };
        match over {
            Some(_) => written.note.due.clear(),
            None => drop(written.note.due.remove(0)),
        }
        // Not written: not started, or it would be started twice if the agent died now.
        if let Err(fault) = written.keep(&scope).await {
            return (TaskState::Failed, Err(fault));
        }
        if let Some(over) = over {
            return over;
        }
        let name = name_of(&scope, id);
        let done = percent(all - written.note.due.len() - 1, all);
        follower.advance(Some(done), &format!("starting {name}"));
        let outcome = match ran.is_one(id) {
            true => {
                tracing::info!(domain = %id, "not started after the boot: somebody has started it since");
                Ok(None)
            }
            false => start(&scope, id, caller.clone()).await,
        };
        match outcome {
            Ok(Some(delay)) => {
                started += 1;
                pause = delay;
                if !written.note.due.is_empty() && !pause.is_zero() {
                    follower.advance(Some(done), &format!("{name} is started; the next one in {} s", pause.as_secs()));
                }
            }
            Ok(None) => {}
            Err(fault) => failed.push((name, fault)),
        }
    }
    let told = format!("{started} of {all} machines were started");
    match failed.first() {
        None => (TaskState::Done, Ok(told)),
        Some((_, first)) => {
            let kind = first.kind;
            let why: Vec<String> = failed.iter().map(|(name, fault)| format!("{name} was not: {}", fault.message)).collect();
            (TaskState::Failed, Err(Fault::new(kind, format!("{told}; {}", why.join("; ")))))
        }
    }
}

/// Machines that ran while they waited for their turn. libvirt would tell too, but forgets why one is off when it is restarted.
struct Ran {
    seen: Rc<RefCell<HashSet<DomainId>>>,
    watch: actix_rt::task::JoinHandle<()>,
}

impl Ran {
    fn watch(scope: &Rc<Scope>, due: &[DomainId]) -> Ran {
        let seen = Rc::new(RefCell::new(HashSet::new()));
        let one = |id: DomainId| {
            let (scope, seen) = (scope.clone(), seen.clone());
            async move {
                scope.board.until(&EntityId::Domain(id), |e| e.and_then(|e| e.domain()).is_some_and(|f| f.state.is_active())).await;
                seen.borrow_mut().insert(id);
            }
        };
        let all: Vec<_> = due.iter().copied().map(one).collect();
        Ran { seen, watch: actix_rt::spawn(async move { drop(futures::future::join_all(all).await) }) }
    }

    fn is_one(&self, id: DomainId) -> bool {
        self.seen.borrow().contains(&id)
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn percent(done: usize, all: usize) -> u8 {
    u8::try_from(done * 100 / all.max(1)).unwrap_or(100)
}

fn name_of(scope: &Scope, id: DomainId) -> Arc<str> {
    scope.board.get(&EntityId::Domain(id)).map_or_else(|| id.to_string().into(), |e| e.name.clone())
}

/// Starts one, and answers how long the next is waited with; `None`: it was not to be started after all.
async fn start(scope: &Rc<Scope>, id: DomainId, caller: Caller) -> Result<Option<Duration>, Fault> {
    let entity = EntityId::Domain(id);
    if strangers::is_known(scope, id) {
        tracing::info!(domain = %id, "not started after the boot: another host owns it");
        return Ok(None);
    }
    let known = scope.board.until(&entity, |e| e.is_some());
    if tokio::time::timeout(KNOWN, known).await.is_err() {
        return Err(Fault::not_found("nobody says that it belongs to this host"));
    }
    let gone = || Err(Fault::unavailable("its actor was restarted while it was started; look at it"));
    let began = match scope.directory.find::<DomainActor>(&entity) {
        Some(post) => post.ask(StartAfterBoot(caller)).await.unwrap_or_else(gone),
        None => gone(),
    };
    let now = scope.board.get(&entity);
    match began {
        Ok(Began::Started) => {
            let order = now.as_ref().and_then(|e| e.domain()).and_then(|f| f.start_order());
            Ok(Some(Duration::from_secs(order.map_or(0, |o| u64::from(o.delay)))))
        }
        Ok(Began::Left(why)) => {
            tracing::info!(domain = %id, why, "not started after the boot");
            Ok(None)
        }
        Err(fault) => {
            if let Some(entity) = now {
                let change = Change::to(id, "domain.not-started", Cause::Archipel, Draft::of(&entity));
                scope.board.publish(change.with_detail(Some(fault.message.as_str().into())));
            }
            Err(fault)
        }
    }
}
