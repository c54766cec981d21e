//! The definition of a machine: what stays when it is off.

use super::{After, Answer, DomainActor, command, in_control, turn::Turn};
use crate::{
    ask::{Ask, ending},
    life::Posted,
    noun,
    scope::{LONG, SHORT, within},
    storage_pool::Pool,
    users,
};
use actix::prelude::*;
use archipel_contract::{
    Fault, PoolId,
    command::{Document, Done},
    domain::*,
    host::PoolChange,
    volume::{WithVolumes, parse_place},
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

command!(UndefineDomain, Event, ["domain.undefined"], |turn, command| {
    let name = turn.name();
    let volumes = volumes_to_delete(turn, &command).await?;
    let proofs = users::of_volumes(&turn.scope, &volumes, Some(turn.id)).await?;
    let variables = within(SHORT, turn.scope.host.domains.has_variables(turn.id)).await?;
    // They are of no use without the disks whose boot entries they hold.
    let domains = &turn.scope.host.domains;
    match variables && command.with_volumes == WithVolumes::All {
        true => within(SHORT, domains.undefine_with_variables(turn.id)).await?,
        false => within(SHORT, domains.undefine(turn.id)).await?,
    }
    let mut deleted = Vec::new();
    for ((pool, volume), proof) in volumes.into_iter().zip(proofs) {
        // The machine is gone: what cannot be deleted now is an orphan of its pool, and is told.
        within(LONG, turn.scope.host.volumes.delete(pool, volume.clone(), proof)).await.map_err(|fault| Fault {
            message: format!("{name} is forgotten, but its volume {volume} stays: {}", fault.message),
            ..fault
        })?;
        noun::reported::<Pool>(&turn.scope, pool, PoolChange::Volumes);
        deleted.push(volume);
    }
    Ok(Done::new(forgotten(&name, deleted, variables, command.with_volumes == WithVolumes::All)))
});

/// What became of a machine that was forgotten.
fn forgotten(name: &str, mut deleted: Vec<String>, variables: bool, all: bool) -> String {
    const VARIABLES: &str = "the variables of its firmware";
    if variables && all {
        deleted.push(VARIABLES.to_owned());
    }
    let stay = match (deleted.is_empty(), variables && !all) {
        (true, true) => format!("; its disks and {VARIABLES} stay"),
        (true, false) => "; its disks stay".to_owned(),
        (false, true) => format!("; {VARIABLES} stay"),
        (false, false) => String::new(),
    };
    match deleted.is_empty() {
        true => format!("{name} is forgotten{stay}"),
        false => format!("{name} is forgotten, and deleted with it: {}{stay}", deleted.join(", ")),
    }
}

/// What goes with the machine; refused before anything is done when somebody else needs it.
async fn volumes_to_delete(turn: &Turn, command: &UndefineDomain) -> Result<Vec<(PoolId, String)>, Fault> {
    let all = command.with_volumes == WithVolumes::All;
    let texts = command.delete_volumes.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|text| !text.is_empty());
    let named = texts.map(parse_place).collect::<Result<Vec<_>, _>>()?;
    if !all && named.is_empty() {
        return Ok(Vec::new());
    }
    let landscape = within(SHORT, turn.scope.host.volumes.landscape()).await?;
    let going = landscape.going(turn.id, all, &named)?;
    Ok(going.into_iter().map(|v| (v.pool, v.volume.name.clone())).collect())
}

impl Handler<Posted<Ask<ListDomainVolumes>>> for DomainActor {
    type Result = Answer<ListDomainVolumes>;
    fn handle(&mut self, posted: Posted<Ask<ListDomainVolumes>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            Ok(within(SHORT, scope.host.volumes.landscape()).await?.of_domain(id))
        };
        Box::pin(look.into_actor(self))
    }
}

command!(AutostartDomain, Read, ["domain.changed"], |turn, command| {
    let order = command.start_order()?;
    // One that Archipel starts must not be started by libvirt too, which knows no order.
    if turn.entity()?.domain().and_then(DomainFacts::start_order) != order {
        within(SHORT, turn.scope.host.domains.set_start_order(turn.id, order)).await?;
    }
    within(SHORT, turn.scope.host.domains.set_autostart(turn.id, command.enabled && order.is_none())).await?;
    Ok(turn.done(&match order {
        Some(StartOrder { order, delay: 0 }) => format!("starts with its host, at place {order}"),
        Some(StartOrder { order, delay }) => format!("starts with its host, at place {order}, and the next one {delay} s later"),
        None if command.enabled => "starts with its host, whenever libvirt does it".to_owned(),
        None => "does not start with its host".to_owned(),
    }))
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
