//! What the agent in a guest tells and does.
//!
//! A freeze is a task: it goes on until its time is over or it is cancelled, and then the file systems thaw, whoever forgot them.

use super::{After, Answer, DomainActor, command, console::Looking, turn::Turn};
use crate::{
    ask::Ask,
    life::Posted,
    scope::{SHORT, within},
    work,
};
use actix::prelude::*;
use archipel_contract::{Command, Fault, domain::*, work::Follower};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

impl Handler<Posted<Ask<ShowGuest>>> for DomainActor {
    type Result = Answer<ShowGuest>;
    fn handle(&mut self, posted: Posted<Ask<ShowGuest>>, _: &mut Self::Context) -> Self::Result {
        self.look(posted, async |at: Looking, _: ShowGuest| within(SHORT, at.scope.host.guests.info(at.id)).await)
    }
}

command!(SyncGuestTime, Event, [], |turn, _| {
    within(SHORT, turn.scope.host.guests.sync_time(turn.id, turn.scope.clock.now())).await?;
    Ok(turn.done("has its host's time now"))
});

command!(FreezeGuest, Event, [], |turn, command| {
    let count = within(SHORT, turn.scope.host.guests.freeze(turn.id)).await?;
    let (host, id, name, deadline) = (turn.scope.host.clone(), turn.id, turn.name(), command.deadline);
    let words = format!("{count} file systems of {name} stand still, for {deadline} s at most");
    let holding = move |follower: Arc<dyn Follower>| async move {
        let (stop, stopped) = oneshot::channel();
        follower.on_cancel(Box::new(move || {
            // Whoever waited has stopped waiting already.
            let _ = stop.send(());
        }));
        // On its own: whatever becomes of the task, it thaws when its time is over.
        let thawing = actix_rt::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(u64::from(deadline)), stopped).await;
            within(SHORT, host.guests.thaw(id)).await
        });
        let lost = |e| Fault::internal(format!("nobody let the file systems of {name} go on; thaw them")).because(e);
        let thawed = thawing.await.map_err(lost)??;
        if thawed == 0 {
            return Ok(format!("the file systems of {name} had been let go on already"));
        }
        Ok::<String, Fault>(format!("{thawed} file systems of {name} go on"))
    };
    Ok(work::begin(&turn.scope, turn.id.into(), FreezeGuest::NAME, &turn.name(), &turn.caller, words, holding))
});

command!(ThawGuest, Event, [], |turn, _| {
    let thawed = within(SHORT, turn.scope.host.guests.thaw(turn.id)).await?;
    Ok(turn.done(&if thawed == 0 { "was not frozen".to_owned() } else { format!("goes on with {thawed} file systems") }))
});

command!(SetGuestPassword, Event, [], |turn, command| {
    check_user(&command.user)?;
    if command.password.is_empty() || command.password.len() > PASSWORD_LIMIT || command.password.contains('\0') {
        return Err(Fault::invalid(format!("a password has 1 to {PASSWORD_LIMIT} bytes")));
    }
    let SetGuestPassword { user, password } = command;
    within(SHORT, turn.scope.host.guests.set_password(turn.id, user.clone(), password)).await?;
    Ok(turn.done(&format!("has another password for {user} now")))
});

impl Handler<Posted<Ask<RunInGuest>>> for DomainActor {
    type Result = Answer<RunInGuest>;
    fn handle(&mut self, posted: Posted<Ask<RunInGuest>>, _: &mut Self::Context) -> Self::Result {
        // Not in the machine's turn: a program that takes its time holds nobody up who wants the machine to stop.
        self.look(posted, async |at: Looking, command: RunInGuest| {
            let (program, patience) = (command.program.clone(), Duration::from_secs(u64::from(command.timeout)));
            let order = command.order()?;
            let end = within(patience + SHORT, at.scope.host.guests.run(at.id, order, patience)).await?;
            Ok(end.told(&program))
        })
    }
}
