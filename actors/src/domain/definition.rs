//! The definition of a machine: what stays when it is off.

use super::{After, Answer, DomainActor, command, in_control, turn::Turn};
use crate::{
    ask::{Ask, ending},
    life::Posted,
    scope::{SHORT, within},
};
use actix::prelude::*;
use archipel_contract::{
    command::{Document, Done},
    domain::*,
};

impl Handler<Posted<Ask<ShowDomainXml>>> for DomainActor {
    type Result = Answer<ShowDomainXml>;
    fn handle(&mut self, posted: Posted<Ask<ShowDomainXml>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            let text = within(SHORT, scope.host.domains.xml(id, ask.command.inactive)).await?;
            Ok(Document { media_type: "application/xml".to_owned(), text })
        };
        Box::pin(look.into_actor(self))
    }
}

command!(UndefineDomain, Event, ["domain.undefined"], |turn, _| {
    let name = turn.name();
    within(SHORT, turn.scope.host.domains.undefine(turn.id)).await?;
    Ok(Done::new(format!("{name} is forgotten; its disks stay")))
});

command!(AutostartDomain, Read, ["domain.changed"], |turn, command| {
    within(SHORT, turn.scope.host.domains.set_autostart(turn.id, command.enabled)).await?;
    Ok(turn.done(if command.enabled { "starts with its host" } else { "does not start with its host" }))
});

command!(RenameDomain, Read, ["domain.changed"], |turn, command| {
    check_name(&command.to)?;
    let name = turn.name();
    within(SHORT, turn.scope.host.domains.rename(turn.id, command.to.clone())).await?;
    Ok(Done::new(format!("{name} is called {} now", command.to)))
});

command!(NoteDomain, Read, ["domain.changed"], |turn, command| {
    check_note(&command.text)?;
    let note = Some(command.text).filter(|t| !t.is_empty());
    let message = if note.is_some() { "has a note now" } else { "has no note any more" };
    within(SHORT, turn.scope.host.domains.set_note(turn.id, note)).await?;
    Ok(turn.done(message))
});
