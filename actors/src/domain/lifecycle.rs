//! What brings a machine up and down. `domain.start` is the one place where the right to run is used.

use super::{
    After, Answer, CONSEQUENCE, DomainActor, command, saved,
    turn::{Turn, outliving},
};
use crate::{
    ask::{Ask, ending},
    life::Posted,
    migration::{no_right, not_elsewhere, rightful},
    scope::{LONG, SHORT, Scope, within},
    task::{self, Plan},
};
use actix::{Handler, Message, ResponseFuture};
use archipel_contract::{Caller, Command, DomainId, Fault, Millis, RightToRun, command::Started, domain::*};
use std::rc::Rc;
use std::sync::Arc;

/// The right of this host to run the machine, from the authority. Whoever asks has the machine's turn.
pub(super) async fn right_to_run(scope: &Rc<Scope>, id: DomainId, name: &Arc<str>) -> Result<RightToRun, Fault> {
    // A machine undefined and defined anew at once may have lost its owner after it was claimed; then it is claimed here.
    let held = within(SHORT, scope.authority.claim_unowned(vec![id], scope.host.name.clone())).await?;
    let held =
        held.into_iter().next().ok_or_else(|| Fault::internal(format!("the authority did not answer about {id}; please report this")))?;
    let held = rightful(scope, held).await?;
    let right = held.right_to_run(&scope.host.name).ok_or_else(|| no_right(name, &held))?;
    not_elsewhere(scope, id, name).await?;
    saved::check(scope, id, name).await?;
    Ok(right)
}

/// How a start that nobody asked for went.
pub(crate) enum Began {
    /// It runs.
    Started,
    /// It was left alone, for this reason.
    Left(&'static str),
}

/// Starts a machine that shall start with its host, in its turn, unless it has run since the boot or shall not start any more.
#[derive(Message)]
#[rtype(result = "Result<Began, Fault>")]
pub(crate) struct StartAfterBoot(pub(crate) Caller);

impl Handler<Posted<StartAfterBoot>> for DomainActor {
    type Result = ResponseFuture<Result<Began, Fault>>;
    fn handle(&mut self, posted: Posted<StartAfterBoot>, _: &mut Self::Context) -> Self::Result {
        let Some(StartAfterBoot(caller)) = posted.take() else { return Box::pin(std::future::ready(ending())) };
        let desk = self.desk.get_or_insert_with(|| self.scope.desks.of(self.id)).clone();
        Box::pin(start_after_boot(Turn { id: self.id, scope: self.scope.clone(), desk, caller }))
    }
}

async fn start_after_boot(turn: Turn) -> Result<Began, Fault> {
    let queued = turn.queue()?;
    let place = turn.desk.turn.clone().lock_owned().await;
    let started = async move {
        let (scope, id) = (&turn.scope, turn.id);
        // libvirt is asked: what it told lately may not be on the board yet.
        let now = within(SHORT, scope.host.domains.read(id)).await?;
        if now.facts.start_order().is_none() {
            return Ok(Began::Left("does not start with its host any more"));
        }
        if !now.facts.has_not_run() {
            return Ok(Began::Left("has run since the boot"));
        }
        turn.check(StartDomain::NAME)?;
        let right = right_to_run(scope, id, &turn.name()).await?;
        turn.expect(&["domain.started"], Millis(u64::MAX));
        let domains = scope.host.domains.clone();
        let start = async move { domains.start(right, false).await };
        if let Err(fault) = turn.bring_up(LONG, "is still being started by libvirt", start).await {
            turn.expect_nothing();
            return Err(fault);
        }
        turn.still_expect(CONSEQUENCE);
        turn.settled(StartDomain::NAME, &serde_json::Value::Null).await;
        drop((queued, place));
        Ok(Began::Started)
    };
    outliving(started).await
}

command!(StartDomain, Event, ["domain.started", "domain.paused"], |turn, command| {
    let right = right_to_run(&turn.scope, turn.id, &turn.name()).await?;
    let domains = turn.scope.host.domains.clone();
    let start = async move { domains.start(right, command.paused).await };
    turn.bring_up(LONG, "is still being started by libvirt", start).await?;
    Ok(turn.done(if command.paused { "is started and paused" } else { "is started" }))
});

command!(ShutdownDomain, Event, ["domain.shutting-down", "domain.stopped"], |turn, command| {
    match command.mode {
        ShutdownMode::Any => within(SHORT, turn.scope.host.domains.shutdown(turn.id)).await?,
        mode => within(SHORT, turn.scope.host.guests.shutdown(turn.id, mode)).await?,
    }
    let plan = Plan::Shutdown { domain: turn.id, timeout: Millis::seconds(u64::from(command.timeout)) };
    let name = turn.name();
    let task = task::begin(&turn.scope, plan, turn.id.into(), ShutdownDomain::NAME, &name, &turn.caller);
    Ok(Started { task, message: format!("{name} was asked to power off") })
});

command!(RebootDomain, Event, ["domain.rebooted"], |turn, _| {
    within(SHORT, turn.scope.host.domains.reboot(turn.id)).await?;
    Ok(turn.done("was asked to reboot"))
});

command!(ForceOffDomain, Event, ["domain.stopped", "domain.crashed"], |turn, _| {
    within(LONG, turn.scope.host.domains.force_off(turn.id)).await?;
    Ok(turn.done("is off"))
});

command!(ResetDomain, Event, ["domain.rebooted"], |turn, _| {
    within(SHORT, turn.scope.host.domains.reset(turn.id)).await?;
    Ok(turn.done("was reset"))
});

command!(PauseDomain, Event, ["domain.paused"], |turn, _| {
    within(SHORT, turn.scope.host.domains.pause(turn.id)).await?;
    Ok(turn.done("is paused"))
});

command!(ResumeDomain, Event, ["domain.resumed"], |turn, _| {
    within(SHORT, turn.scope.host.domains.resume(turn.id)).await?;
    Ok(turn.done("goes on"))
});
