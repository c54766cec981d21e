//! The actor of one hypervisor: hears what libvirt reports, keeps the list of its machines, networks and pools right.
//!
//! ```text
//!   begin --watch--> connecting --Connected--> listing --> connected --Lost--> lost --Connected--> listing ...
//!                                               |  ^           |
//!                                               |  +--Overflow-+
//!                                               +--fails--> lost --pause, 0.2 s .. 30 s--> listing
//! ```
//! What libvirt cannot or will not tell is no fault of this actor: it says that control is lost and lists again, for as long
//! as it takes. Its restarts, and with them the daemon's, are for defects of ours alone.
//! First watch, then list, then apply what was reported meanwhile: it waits in the queue. The queue is bounded; when it is
//! full the bridge drops what follows and says `Overflow`, and everything is listed again.

use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    diary::{DIARY, LINES},
    domain::{self, DomainActor},
    life::{Life, Post, Posted, Undelivered},
    migration::{adoption, sweep},
    network::{
        Network,
        define::{Answer, with},
    },
    noun, reconcile,
    scope::{SHORT, Scope, within},
    storage_pool::Pool,
    strangers, usage, users,
};
use actix::prelude::*;
use archipel_contract::{
    Condition, Entity, EntityId, Epoch, Facts, Fault, FaultKind,
    domain::{DefineDomain, Defined},
    event::Cause,
    host::{DomainChange, HostChange, HostObserver},
    hypervisor::{HypervisorFacts, HypervisorState, ListNodeDevices, LogLine, ShowHypervisor, ShowInside, ShowLog},
};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Reports that may wait, per hypervisor. Beyond it the bridge drops and everything is listed again.
pub const REPORTS: usize = 65_536;
/// How long a fresh life waits for word of the connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a listing failed; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two listings that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The actor of one hypervisor.
pub struct HypervisorActor {
    scope: Rc<Scope>,
    life: Arc<Life>,
    fresh: bool,
    /// Where reports are queued, as long as anybody reports.
    ear: Option<mpsc::WeakSender<HostChange>>,
}

/// Everything shall be listed again: what was believed of ownerships may not be so any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListAgain;

/// Puts reports into the queue, or gives them back when it is full.
struct Ear(mpsc::Sender<HostChange>);

impl HostObserver for Ear {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        match self.0.try_send(change) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(change)) => Err(change),
            // That life is over; the next one watches anew and lists everything.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// Puts the hypervisor on its board, before anything is known of it.
pub fn introduce(scope: &Scope) {
    let facts = HypervisorFacts::connecting(&scope.host.uri);
    let draft = Draft::new(scope.host.name.as_str().into(), Epoch(0), Facts::Hypervisor(facts));
    scope.board.publish(Change::to(scope.host.name.clone(), "hypervisor.changed", Cause::Archipel, draft));
}

/// What is known of the hypervisor itself.
pub fn facts(scope: &Scope) -> Option<(Arc<Entity>, HypervisorFacts)> {
    let entity = scope.board.get(&scope.host.name.clone().into())?;
    if let Facts::Hypervisor(facts) = &entity.facts {
        let facts = facts.clone();
        return Some((entity, facts));
    }
    None
}

impl HypervisorActor {
    /// The actor of this hypervisor; `fresh` when an earlier life of it failed.
    pub fn new(scope: Rc<Scope>, life: Arc<Life>, fresh: bool) -> HypervisorActor {
        HypervisorActor { scope, life, fresh, ear: None }
    }

    pub(crate) fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }
}

/// Hears reports until something goes wrong that a fresh start must mend.
async fn hear(scope: Rc<Scope>, mut reports: mpsc::Receiver<HostChange>, fresh: bool) -> Fault {
    let silent = || Fault::internal("nobody reports changes of this hypervisor any more");
    let mut pending = None;
    if fresh {
        // Word that the connection broke may have died with the life before this one.
        match tokio::time::timeout(PATIENCE, reports.recv()).await {
            Ok(Some(report)) => pending = Some(report),
            Ok(None) => return silent(),
            Err(_) => reconcile::lose(&scope, "it was silent after a restart of its actor"),
        }
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let report = match pending.take() {
            Some(report) => report,
            None => match reports.recv().await {
                Some(report) => report,
                None => return silent(),
            },
        };
        match report {
            HostChange::Connected | HostChange::Overflow => match reconcile::list(&scope).await {
                Ok(()) => pause = FIRST_PAUSE,
                Err(fault) => {
                    tracing::warn!(host = %scope.host.name, %fault, again_ms = pause.as_millis(), "listing failed");
                    // Too much to do is no loss of control. Everything else is: what is shown is not what libvirt says.
                    if fault.kind != FaultKind::Busy {
                        reconcile::lose(&scope, &format!("it could not be listed ({fault}); it is tried again by itself"));
                    }
                    pending = match word_of_the_link(&mut reports, pause).await {
                        Word::Of(report) => Some(report),
                        Word::None => Some(HostChange::Overflow),
                        Word::Never => return silent(),
                    };
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
            HostChange::Lost(why) => reconcile::lose(&scope, &why),
            HostChange::Domain(id, change) => {
                // One that another host owns is seen on this hypervisor alone.
                let stranger = strangers::is_known(&scope, id);
                if let (true, DomainChange::State(state, _)) = (stranger, &change) {
                    strangers::enter(&scope, id, *state);
                }
                domain_changed(&scope, id.into(), change, stranger);
                if sweep::is_due(&scope, id) {
                    adoption::noticed(&scope, id);
                }
            }
            HostChange::Network(id, change) => noun::reported::<Network>(&scope, id, change),
            HostChange::StoragePool(id, change) => noun::reported::<Pool>(&scope, id, change),
            HostChange::NodeDevice(device, change) => tracing::debug!(host = %scope.host.name, %device, ?change, "device of the host"),
        }
    }
}

/// What was heard of the connection.
enum Word {
    Of(HostChange),
    None,
    /// Nobody reports any more.
    Never,
}

/// The next report about the connection itself, within that time. Others are dropped: everything will be listed again.
async fn word_of_the_link(reports: &mut mpsc::Receiver<HostChange>, pause: Duration) -> Word {
    let word = async {
        loop {
            match reports.recv().await {
                Some(report @ (HostChange::Connected | HostChange::Lost(_) | HostChange::Overflow)) => return Word::Of(report),
                Some(_) => {}
                None => return Word::Never,
            }
        }
    };
    tokio::time::timeout(pause, word).await.unwrap_or(Word::None)
}

/// The way to the actor a report is for. One that is being restarted reads everything anyway; one nobody knew begins, and so
/// does one that was given up: it must not go on showing a machine as off that libvirt has just called running.
pub(crate) fn reach<A: crate::directory::Resident>(scope: &Scope, id: &EntityId, begins: bool) -> Option<Post<A>> {
    if let Some(post) = scope.directory.find(id) {
        return Some(post);
    }
    if !begins {
        return None;
    }
    scope.keeper.start(id.clone());
    scope.directory.find(id)
}

fn domain_changed(scope: &Rc<Scope>, id: EntityId, change: DomainChange, stranger: bool) {
    let begins = match &change {
        // Whether it is gone, or whose it is now, is found out by reading it.
        _ if stranger => true,
        DomainChange::State(state, _) => state.is_active() || scope.board.get(&id).is_some(),
        DomainChange::Appeared(_) | DomainChange::Defined(_) => true,
        _ => false,
    };
    let Some(post) = reach::<DomainActor>(scope, &id, begins) else { return };
    match post.tell(domain::Observed(change)) {
        Ok(()) => {}
        Err(Undelivered::Full) => {
            // What is lost by this is only the steps between: the machine is read again when it has room.
            let again = post.ask(domain::Observed(DomainChange::Changed("too many changes at once")));
            scope.catch_up(id, again);
        }
        // It was just found out to be another host's; perhaps this is why it is ours now.
        Err(Undelivered::Gone) => {
            if let EntityId::Domain(id) = id {
                adoption::noticed(scope, id);
            }
        }
    }
}

impl Actor for HypervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.life.is_over() {
            return;
        }
        ctx.set_mailbox_capacity(256);
        let (ear, reports) = mpsc::channel(REPORTS);
        ctx.spawn(usage::keep(self.scope.clone()).into_actor(self));
        let scope = self.scope.clone();
        self.ear = Some(ear.downgrade());
        self.scope.host.link.watch(Arc::new(Ear(ear)));
        ctx.spawn(hear(scope, reports, self.fresh).into_actor(self).map(|fault, this, ctx| {
            this.life.fail(fault);
            ctx.stop();
        }));
    }
}

impl Handler<Posted<ListAgain>> for HypervisorActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<ListAgain>, _: &mut Self::Context) {
        // In its turn, like a report. When the queue is full everything is listed anyway.
        if posted.take().is_some()
            && let Some(ear) = self.ear.as_ref().and_then(mpsc::WeakSender::upgrade)
        {
            let _ = ear.try_send(HostChange::Overflow);
        }
    }
}

impl Handler<Posted<Ask<ShowHypervisor>>> for HypervisorActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowHypervisor>>, _: &mut Self::Context) -> Self::Result {
        facts(&self.scope)
            .map(|(e, _)| Entity::clone(&e))
            .ok_or_else(|| Fault::internal("this hypervisor is not known; please report this"))
    }
}

impl Handler<Posted<Ask<ShowInside>>> for HypervisorActor {
    type Result = Answer<ShowInside>;
    fn handle(&mut self, posted: Posted<Ask<ShowInside>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, _: Ask<ShowInside>| within(SHORT, scope.host.hypervisor.inside()).await)
    }
}

impl Handler<Posted<Ask<ListNodeDevices>>> for HypervisorActor {
    type Result = Answer<ListNodeDevices>;
    fn handle(&mut self, posted: Posted<Ask<ListNodeDevices>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, ask: Ask<ListNodeDevices>| {
            let mut found = within(SHORT, scope.host.hypervisor.devices()).await?;
            found.retain(|device| ask.command.kind.as_ref().is_none_or(|kind| device.kind == *kind));
            Ok(found)
        })
    }
}

impl Handler<Posted<Ask<ShowLog>>> for HypervisorActor {
    type Result = Result<Vec<LogLine>, Fault>;
    fn handle(&mut self, posted: Posted<Ask<ShowLog>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, .. }) = posted.take() else { return ending() };
        if !(1..=LINES as u32).contains(&command.lines) {
            return Err(Fault::invalid(format!("lines must be 1 to {LINES}, and not {}", command.lines)));
        }
        Ok(DIARY.last(command.lines as usize, command.level))
    }
}

impl Handler<Posted<Ask<DefineDomain>>> for HypervisorActor {
    type Result = ResponseActFuture<Self, Result<Defined, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<DefineDomain>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let scope = self.scope.clone();
        let define = async move {
            let spec = command.spec()?;
            match facts(&scope) {
                Some((_, f)) if f.state == HypervisorState::Connected => {}
                _ => {
                    let host = &scope.host.name;
                    return Err(Fault::unavailable(format!("libvirt on {host} does not answer; define it when control is back")));
                }
            }
            let name = spec.name.clone();
            if scope.expected.borrow().contains_key(&name) {
                return Err(Fault::new(FaultKind::Conflict, format!("{name} is being defined already; choose another name")));
            }
            scope.expected.borrow_mut().insert(name.clone(), bare(&caller.jid).into());
            let defined = users::define(&scope, spec).await;
            if defined.is_err() {
                scope.expected.borrow_mut().remove(&name);
            }
            Ok(Defined { id: defined?, message: format!("{name} is defined and off") })
        };
        Box::pin(define.into_actor(self))
    }
}

/// One of this host's actors was restarted: counts it where people look.
pub fn count_restart(scope: &Scope, which: &str) {
    if let Some((entity, mut facts)) = facts(scope) {
        facts.restarts = facts.restarts.saturating_add(1);
        facts.last_restart = Some(which.into());
        let mut draft = Draft::of(&entity);
        draft.facts = Facts::Hypervisor(facts);
        scope.board.publish(Change::to(scope.host.name.clone(), "hypervisor.changed", Cause::Archipel, draft));
    }
}

/// An actor failed: its entity shows it until a fresh life has read it again.
pub fn degrade(scope: &Scope, id: &EntityId, why: &str) {
    let Some(entity) = scope.board.get(id) else { return };
    // Lost control says more than a failed actor.
    if !matches!(entity.condition, Condition::Ok | Condition::Degraded) {
        return;
    }
    let topic = match id {
        EntityId::Domain(_) => "domain.degraded",
        EntityId::Hypervisor(_) => "hypervisor.changed",
        EntityId::Network(_) => "network.changed",
        EntityId::StoragePool(_) => "storage-pool.changed",
        EntityId::Task(_) => return,
    };
    let draft = Draft::of(&entity).in_condition(Condition::Degraded, Some(why.into()));
    if draft != Draft::of(&entity) {
        scope.board.publish(Change::to(id.clone(), topic, Cause::Archipel, draft));
    }
}
