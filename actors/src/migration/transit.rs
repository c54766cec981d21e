//! What each step of a move does, and what people read meanwhile.

use super::departure::{Departure, LATELY};
use super::saga::{Answer, Input, Output, Saga, Step};
use super::{PEER, ask, refusal};
use crate::{
    autostart,
    domain::turn,
    scope::{LONG, SHORT, Scope, within},
    task,
};
use archipel_contract::{
    Bytes, EntityId, Fault, FaultKind, OwnershipStep, Timestamp,
    domain::DomainState,
    migration::{AskStanding, Progress, Receive, Reserve, Standing, Transferred, Unreserve},
};
use std::rc::Rc;
use std::time::Duration;

/// How often the progress of a transfer is read while one is under way.
const SAMPLE: Duration = Duration::from_secs(1);
/// After how many reads that told of no transfer, while libvirt has not answered, it is looked whether it hangs.
const QUIET: u32 = 5;
/// How often it is read until post-copy may begin.
const FIRST_PASS: Duration = Duration::from_millis(200);
/// Operations of a machine that are told to its next host.
const OPERATIONS: usize = 256;
/// The largest list of operations that is told.
const OPERATIONS_BYTES: usize = 48 * 1024;

/// What people read of a move in this state; nothing new once it has ended. What has been waited for once is told until the wait is
/// over, or until it is for something else: that the same is tried again now and then is no news.
fn words(saga: &Saga) -> Option<String> {
    let (to, from) = (&saga.to, &saga.from);
    Some(match &saga.step {
        Step::Clearing { .. } | Step::Ended { .. } => return None,
        _ if saga.resting || saga.tries > 0 => {
            let why = saga.hindrance.as_ref().map(|f| f.to_string()).unwrap_or_default();
            format!("waiting: {why}; nothing is started, and it is tried again by itself")
        }
        Step::Reserving => format!("asking {to} for a place"),
        Step::Departing | Step::Disarming => "preparing".to_owned(),
        Step::Transferring => format!("moving it to {to}"),
        Step::Reattaching => format!("libvirt goes on moving it to {to}"),
        Step::Recovering => "post-copy broke; sending the rest of the memory once more".to_owned(),
        Step::Asking { own: None } => "asking libvirt where it is".to_owned(),
        Step::Asking { .. } => format!("asking {to} whether it is there"),
        Step::HandingOver { .. } => format!("handing it over to {to}"),
        Step::Releasing => format!("releasing what is left on {from}"),
        Step::Undoing { .. } => format!("taking back what was prepared; it stays on {from}"),
    })
}

/// Tells what the move is doing, if that is news.
pub(super) fn say(scope: &Scope, departure: &Departure, saga: &Saga) {
    if let Some(words) = words(saga) {
        task::progress(scope, departure.task(), None, words);
    }
}

fn told(scope: &Scope, departure: &Departure, progress: &Progress) {
    // Before the first byte libvirt knows of no size, and "0 of 0" would tell less than what stands there already.
    if progress.total == Bytes(0) {
        return;
    }
    let left = progress.eta().map(|eta| format!(", about {} s left", eta.0.div_ceil(1000))).unwrap_or_default();
    let how = if progress.post_copy { " (post-copy)" } else { "" };
    let words = format!("{} of {} sent{left}{how}", progress.processed, progress.total);
    task::progress(scope, departure.task(), progress.percent(), words);
}

/// Does one thing and answers what came of it.
pub(super) async fn perform(scope: Rc<Scope>, departure: Rc<Departure>, output: Output) -> Input {
    let saga = departure.dossier().saga.clone();
    let (id, me, migration) = (saga.domain, saga.from.clone(), &scope.host.migration);
    let step = |step| within(SHORT, scope.authority.step(id, saga.epoch, step));
    match output {
        Output::Reserve => Input::Reserved(reserve(&scope, &departure, &saga).await),
        Output::Depart => {
            let depart = OwnershipStep::Depart { by: me, saga: saga.id, to: saga.to.clone() };
            // A start that was found rightful before this must have reached libvirt, or find that it moves.
            Input::Departed(match turn::take(&scope, id).await {
                Ok(_turn) => step(depart).await.map(drop),
                Err(fault) => Err(fault),
            })
        }
        Output::Disarm => Input::Disarmed(within(SHORT, scope.host.domains.set_autostart(id, false)).await),
        Output::Transfer => Input::Transferred(transfer(&scope, &departure, &saga).await),
        Output::AskOwn => Input::Own(match within(SHORT, migration.standing(id)).await {
            // The transfer is one of an earlier life of this agent, for which nobody waits.
            Ok(Standing::Here(DomainState::Paused)) if free(&scope, &saga).await => {
                Err(Fault::busy("QEMU was freed, and ends the transfer"))
            }
            standing => standing,
        }),
        Output::AskTarget => Input::Theirs(ask(&scope, &saga.to, &AskStanding { domain: id }, SHORT).await),
        Output::AwaitJob => {
            job_ended(&scope, &departure, &saga).await;
            Input::JobEnded
        }
        Output::Recover => {
            let (landing, way) = {
                let dossier = departure.dossier();
                (dossier.landing.clone(), dossier.way.clone())
            };
            Input::Recovered(match landing {
                // How long its guest stood still meanwhile nobody has measured: libvirt's figure is that of the hand-over before.
                Some(landing) => {
                    let recovered = migration.recover_post_copy(id, landing, way).await;
                    recovered.map(|t| departure.note(|d| d.transferred = Some(Transferred { downtime: None, ..t })))
                }
                None => Err(Fault::internal("where it was going is not known any more; please report this")),
            })
        }
        Output::Receive => Input::Received(hand_over(&scope, &saga).await),
        Output::LookAtAuthority => Input::Authority(within(SHORT, scope.authority.ownership(id)).await),
        Output::Discard => Input::Discarded(within(LONG, migration.discard(id)).await),
        Output::Stay => Input::Stayed(step(OwnershipStep::Stay { by: me, saga: saga.id }).await.map(drop)),
        Output::Rearm => Input::Rearmed(autostart::rearm(&scope, id).await),
        Output::Unreserve => Input::Unreserved(ask(&scope, &saga.to, &Unreserve { saga: saga.id }, SHORT).await.map(drop)),
        Output::Rest(pause) => {
            tokio::time::sleep(pause.duration()).await;
            Input::Rested
        }
        Output::Abort | Output::Refuse(_) | Output::Tell(_) => Input::Rested,
    }
}

async fn reserve(scope: &Rc<Scope>, departure: &Departure, saga: &Saga) -> Answer {
    let turns = scope.moves.outgoing.clone();
    if turns.available_permits() == 0 {
        let words = format!("waiting: {} machines leave {} already, and it goes when one of them has", scope.moves.limits.out, saga.from);
        task::progress(scope, departure.task(), None, words);
    }
    let permit = turns.acquire_owned().await.map_err(|_| Fault::internal("nobody gives turns to leave any more; please report this"))?;
    *departure.permit.borrow_mut() = Some(permit);
    say(scope, departure, saga);
    let passport = within(SHORT, scope.host.migration.passport(saga.domain)).await?;
    if passport.state.is_active() == saga.off {
        return Err(Fault::wrong_state(format!("{} was started or stopped meanwhile; ask again", passport.name)));
    }
    let (way, name, caller) = {
        let dossier = departure.dossier();
        (serde_json::to_string(&dossier.way), dossier.name.clone(), dossier.caller.clone())
    };
    let text = |text: Result<String, serde_json::Error>| text.map_err(|e| Fault::internal("a passport could not be written").because(e));
    let passport = text(serde_json::to_string(&passport))?;
    let request = Reserve { saga: Some(saga.id), epoch: saga.epoch, passport, way: text(way)?, on_behalf_of: caller, role: None };
    let reservation = ask(scope, &saga.to, &request, PEER).await?;
    if !reservation.obstacles.is_empty() {
        return Err(refusal(&name, &saga.to, &reservation.obstacles));
    }
    if reservation.landing.is_none() && !saga.off {
        return Err(Fault::internal(format!("{} holds a place and does not say where; please report this", saga.to)));
    }
    departure.note(|d| d.landing = reservation.landing);
    Ok(())
}

async fn transfer(scope: &Rc<Scope>, departure: &Rc<Departure>, saga: &Saga) -> Answer {
    let (landing, way) = {
        let dossier = departure.dossier();
        (dossier.landing.clone(), dossier.way.clone())
    };
    let landing = landing.ok_or_else(|| Fault::internal("where it goes is not known; please report this"))?;
    let post_copy = way.post_copy;
    let ends = scope.host.migration.transfer(saga.domain, landing, way);
    let answer = tokio::select! {
        answer = ends => answer,
        never = watch(scope, departure, saga, post_copy) => match never {},
    };
    answer.map(|transferred| departure.note(|d| d.transferred = Some(transferred)))
}

enum Never {}

/// Reads the progress while a transfer runs, and switches to post-copy once its first pass is done.
async fn watch(scope: &Rc<Scope>, departure: &Departure, saga: &Saga, mut to_switch: bool) -> Never {
    let migration = &scope.host.migration;
    let mut quiet = 0;
    loop {
        tokio::time::sleep(if to_switch { FIRST_PASS } else { SAMPLE }).await;
        let Ok(Some(progress)) = within(SHORT, migration.progress(saga.domain)).await else {
            quiet += 1;
            if quiet % QUIET == 0 {
                free(scope, saga).await;
            }
            continue;
        };
        quiet = 0;
        told(scope, departure, &progress);
        if to_switch && progress.iteration >= 1 {
            match within(SHORT, migration.switch_to_post_copy(saga.domain)).await {
                Ok(()) => to_switch = false,
                Err(fault) => tracing::debug!(saga = %saga.id, %fault, "not switched to post-copy yet"),
            }
        }
    }
}

/// A transfer that libvirt has given up and that does not end may hang. Whether it did.
async fn free(scope: &Rc<Scope>, saga: &Saga) -> bool {
    match within(SHORT, scope.host.migration.free_given_up(saga.domain)).await {
        Ok(hung) => hung,
        Err(fault) => {
            tracing::debug!(saga = %saga.id, %fault, "whether a transfer that was given up hangs is not known");
            false
        }
    }
}

/// Waits until libvirt says that it does not send the machine any more.
async fn job_ended(scope: &Rc<Scope>, departure: &Departure, saga: &Saga) {
    loop {
        if let Ok(Some(progress)) = within(SHORT, scope.host.migration.progress(saga.domain)).await {
            told(scope, departure, &progress);
        } else if within(SHORT, scope.host.migration.standing(saga.domain)).await.is_ok_and(|s| s != Standing::Leaving) {
            return;
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

async fn hand_over(scope: &Rc<Scope>, saga: &Saga) -> Answer {
    let definition = if saga.off {
        match within(SHORT, scope.host.migration.passport(saga.domain)).await {
            Ok(passport) => Some(passport.definition),
            Err(fault) if fault.kind == FaultKind::NotFound => None,
            Err(fault) => return Err(fault),
        }
    } else {
        None
    };
    let since = Timestamp(scope.clock.now().0.saturating_sub(LATELY.0));
    let mut done = scope.journal.done_on(EntityId::Domain(saga.domain), since, OPERATIONS).await.unwrap_or_default();
    let operations = loop {
        let text = serde_json::to_string(&done).unwrap_or_default();
        if text.len() <= OPERATIONS_BYTES || done.is_empty() {
            break Some(text).filter(|_| !done.is_empty());
        }
        done.truncate(done.len() / 2);
    };
    let request = Receive { saga: saga.id, domain: saga.domain, epoch: saga.epoch, definition, autostart: saga.autostart, operations };
    ask(scope, &saga.to, &request, PEER).await.map(drop)
}

/// Asks libvirt to give a transfer up. One that has not quite begun is asked again as long as it is meant.
pub(super) async fn abort(scope: Rc<Scope>, departure: Rc<Departure>) {
    loop {
        let saga = departure.dossier().saga.clone();
        if !saga.transfers() || saga.end().is_some() {
            return;
        }
        match within(SHORT, scope.host.migration.cancel(saga.domain)).await {
            Ok(()) => return,
            Err(fault) => tracing::debug!(saga = %saga.id, %fault, "not cancelled yet"),
        }
        tokio::time::sleep(FIRST_PASS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::saga::Input;
    use super::*;
    use archipel_contract::{DomainId, Epoch, MoveId};

    /// What is told while a move goes through these inputs.
    fn told(mut saga: Saga, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
        let mut told = Vec::new();
        for input in inputs {
            saga = saga.step(input).0;
            told.extend(words(&saga));
            told.dedup();
        }
        told
    }

    fn saga() -> Saga {
        let id = uuid::Uuid::nil();
        let new = Saga::new(MoveId(id), DomainId(id), "a".parse().unwrap(), "b".parse().unwrap(), Epoch(1), false, false);
        Saga { step: Step::Asking { own: None }, ..new }
    }

    #[test]
    fn a_move_that_waits_tells_so_once() {
        let away = || Fault::unavailable("the agent on b cannot be reached");
        let round = || [Input::Own(Ok(Standing::Departed)), Input::Theirs(Err(away())), Input::Rested];
        let told = told(saga(), (0..20).flat_map(|_| round()));
        assert_eq!(told.len(), 2, "that it asks, and that it waits: {told:?}");
        assert!(told[1].starts_with("waiting: the agent on b cannot be reached"), "{told:?}");
    }

    #[test]
    fn that_it_waits_for_something_else_or_no_more_is_told() {
        let inputs = [
            Input::Own(Ok(Standing::Departed)),
            Input::Theirs(Err(Fault::unavailable("no link"))),
            Input::Rested,
            Input::Own(Err(Fault::unavailable("libvirt is lost"))),
            Input::Rested,
            Input::Own(Ok(Standing::Departed)),
            Input::Theirs(Ok(Standing::Here(DomainState::Running))),
            Input::Received(Ok(())),
        ];
        let told = told(saga(), inputs);
        let begins: Vec<&str> = told.iter().map(|t| t.split(';').next().unwrap()).collect();
        assert_eq!(begins[1..], ["waiting: no link", "waiting: libvirt is lost", "releasing what is left on a"]);
    }
}
