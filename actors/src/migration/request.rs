//! What people ask of a machine and of a hypervisor about moving, and what agents ask of each other, as messages.

use super::{
    PEER, adoption, arrival, ask, departure, drain, hypervisors, leftover, origin, park,
    place::{self, Load, Offer, Planned},
    plan, refusal, rights,
};
use crate::{
    ask::{Ask, ending},
    domain::{After, Answer, DomainActor, past, turn::Turn},
    hypervisor::HypervisorActor,
    life::Posted,
    scope::{SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Caller, Command, DomainId, Entity, EntityId, Epoch, Facts, Fault, FaultKind, HypervisorName,
    command::{Done, Started},
    hypervisor::HypervisorState,
    migration::*,
};
use std::rc::Rc;

/// Asks hosts whether they could take a machine; nothing is held.
pub async fn offers(
    scope: &Scope,
    hosts: &[HypervisorName],
    passport: &Passport,
    epoch: Epoch,
    way: &Way,
    person: &str,
) -> Result<Vec<Offer>, Fault> {
    let text = |text: Result<String, serde_json::Error>| text.map_err(|e| Fault::internal("a passport could not be written").because(e));
    // What is not to be given away is not asked for either.
    let passport = Passport { definition: String::new(), ..passport.clone() };
    let reserve = Reserve {
        saga: None,
        epoch,
        passport: text(serde_json::to_string(&passport))?,
        way: text(serde_json::to_string(way))?,
        on_behalf_of: person.to_owned(),
        role: None,
    };
    let asked = hosts.iter().map(|host| async {
        let answer = ask(scope, host, &reserve, SHORT).await;
        Offer { host: host.clone(), answer }
    });
    Ok(futures::future::join_all(asked).await)
}

/// The other hypervisors of the cell that libvirt answers on; or that one alone, whatever its state.
pub async fn elsewhere(scope: &Scope, only: Option<&str>) -> Result<Vec<HypervisorName>, Fault> {
    let all = hypervisors(scope).await?;
    let me = &scope.host.name;
    match only {
        Some(name) => {
            let found = all.iter().find(|e| e.host.as_str() == name);
            let found = found.ok_or_else(|| Fault::not_found(format!("there is no hypervisor {name} in this cell; list them")))?;
            Ok(vec![found.host.clone()])
        }
        None => {
            let connected =
                |e: &&Entity| e.state() != "unknown" && matches!(&e.facts, Facts::Hypervisor(f) if f.state == HypervisorState::Connected);
            Ok(all.iter().filter(connected).map(|e| e.host.clone()).filter(|h| h != me).collect())
        }
    }
}

/// What a machine takes from a host.
pub fn load_of(passport: &Passport) -> Load {
    if passport.state.is_active() { Load { memory: passport.memory, vcpus: passport.vcpus } } else { Load::default() }
}

/// Where a machine goes: where it was told to, if nothing stands in the way, or to the best host.
pub async fn destination(
    scope: &Scope,
    entity: &Entity,
    to: Option<&str>,
    among: &[String],
    way: &Way,
    person: &str,
    planned: &Planned,
) -> Result<(HypervisorName, String), Fault> {
    let EntityId::Domain(id) = entity.id else { return Err(Fault::internal("only machines are moved; please report this")) };
    let name = &entity.name;
    if to == Some(scope.host.name.as_str()) {
        return Err(Fault::new(FaultKind::Conflict, format!("{name} is on {} already; name another host", scope.host.name)));
    }
    // The cell and libvirt are asked at the same time.
    let (mut hosts, passport) = futures::try_join!(elsewhere(scope, to), within(SHORT, scope.host.migration.passport(id)))?;
    if to.is_none() && !among.is_empty() {
        hosts.retain(|h| among.iter().any(|a| a == h.as_str()));
    }
    if hosts.is_empty() {
        return Err(Fault::unavailable("there is no other hypervisor in this cell that answers; join one, or look why they are lost"));
    }
    let ranked = place::rank(load_of(&passport), offers(scope, &hosts, &passport, entity.epoch, way, person).await?, planned);
    if let Some(best) = place::best(&ranked) {
        let host: HypervisorName = best.host.parse().map_err(|_| Fault::internal("a host has no name; please report this"))?;
        return Ok((host, best.reason.clone()));
    }
    match (to, &ranked[..]) {
        (Some(_), [only]) if only.room.is_none() => Err(Fault::unavailable(format!("{name} cannot go to {}: {}", only.host, only.reason))),
        (Some(_), [only]) => Err(refusal(name, &hosts[0], &only.obstacles)),
        _ => {
            let reasons: Vec<String> = ranked.iter().map(|c| format!("{}: {}", c.host, c.reason)).collect();
            let list = serde_json::to_string(&ranked).unwrap_or_default();
            Err(Fault::new(FaultKind::Conflict, format!("{name} can go nowhere: {}", reasons.join("; "))).because(list))
        }
    }
}

async fn migrate(turn: &Turn, command: MigrateDomain) -> Result<Started, Fault> {
    let (scope, entity, way) = (&turn.scope, turn.entity()?, command.way());
    let person = crate::ask::bare(&turn.caller.jid).to_owned();
    let (to, why) = destination(scope, &entity, command.to.as_deref(), &[], &way, &person, &Planned::new()).await?;
    free(turn).await?;
    // It may have changed while others were asked.
    let entity = turn.entity()?;
    let task = departure::begin(scope, &entity, to.clone(), way, MigrateDomain::NAME, &person, turn.caller.operation).await?;
    let why = if command.to.is_none() { format!(", the best for it: {why}") } else { String::new() };
    Ok(Started { task, message: format!("{} is being moved to {to}{why}", entity.name) })
}

/// Frees the machine of a move nobody drives.
async fn free(turn: &Turn) -> Result<(), Fault> {
    let held = within(SHORT, turn.scope.authority.ownership(turn.id)).await?;
    match held {
        Some(held) => super::rightful(&turn.scope, held).await.map(drop),
        None => Ok(()),
    }
}

async fn check(scope: Rc<Scope>, id: DomainId, entity: std::sync::Arc<Entity>, ask: Ask<CheckMigration>) -> Result<Vec<Candidate>, Fault> {
    let command = &ask.command;
    crate::domain::in_control(&entity)?;
    let way = Way { copy_storage: command.copy_storage, trust_storage: command.trust_storage, ..Way::default() };
    let hosts = elsewhere(&scope, command.to.as_deref()).await?;
    let passport = within(SHORT, scope.host.migration.passport(id)).await?;
    let mut offers = offers(&scope, &hosts, &passport, entity.epoch, &way, ask.person()).await?;
    if let Some(this) = offers.iter_mut().find(|o| o.host == scope.host.name) {
        let message = format!("it is on {} already", this.host);
        let room = within(SHORT, scope.host.migration.room()).await?;
        this.answer = Ok(Reservation { obstacles: vec![Obstacle::new(ObstacleKind::Itself, message)], room, landing: None });
    }
    Ok(place::rank(load_of(&passport), offers, &Planned::new()))
}

impl Handler<Posted<Ask<MigrateDomain>>> for DomainActor {
    type Result = Answer<MigrateDomain>;
    fn handle(&mut self, posted: Posted<Ask<MigrateDomain>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, After::Event, &[], async |turn: &Turn, command| migrate(turn, command).await)
    }
}

impl Handler<Posted<Ask<ParkDomain>>> for DomainActor {
    type Result = Answer<ParkDomain>;
    fn handle(&mut self, posted: Posted<Ask<ParkDomain>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, After::Event, &[], async |turn: &Turn, _| {
            free(turn).await?;
            park::park(turn).await
        })
    }
}

impl Handler<Posted<Ask<CheckMigration>>> for DomainActor {
    type Result = Answer<CheckMigration>;
    fn handle(&mut self, posted: Posted<Ask<CheckMigration>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.entity());
        Box::pin(async move { check(scope, id, entity?, ask).await }.into_actor(self))
    }
}

macro_rules! asked {
    ($command:ty, $answer:path) => {
        impl Handler<Posted<Ask<$command>>> for HypervisorActor {
            type Result = ResponseFuture<Result<<$command as Command>::Reply, Fault>>;
            fn handle(&mut self, posted: Posted<Ask<$command>>, _: &mut Self::Context) -> Self::Result {
                let Some(Ask { command, caller }) = posted.take() else { return Box::pin(std::future::ready(ending())) };
                let scope = self.scope().clone();
                Box::pin(async move { $answer(&scope, command, caller).await })
            }
        }
    };
}

asked!(Reserve, arrival::reserve);
asked!(Unreserve, arrival::unreserve);
asked!(Receive, arrival::receive);
asked!(Release, arrival::release);
asked!(AskStanding, arrival::standing);
asked!(AskPast, past::tell);
asked!(Yield, adoption::give_up);
asked!(LookAgain, adoption::look_again);
asked!(SendBack, send_back);
asked!(RemoveCopy, leftover::remove);
asked!(UnparkDomain, park::unpark);
asked!(DrainHypervisor, drain::drain);
asked!(PlanDrain, plan::plan);
asked!(UndrainHypervisor, drain::undrain);
asked!(archipel_contract::hypervisor::SetMaintenance, drain::maintain);

/// `hypervisor.send-back`.
async fn send_back(scope: &Rc<Scope>, command: SendBack, caller: Caller) -> Result<Started, Fault> {
    let to = super::asker(scope, &caller)?;
    rights::check(&command.on_behalf_of, command.role)?;
    origin::check(scope, command.domain, &to).await?;
    let way: Way =
        serde_json::from_str(&command.way).map_err(|e| Fault::invalid("the way cannot be read; compare the versions").because(e))?;
    let entity = scope.board.get(&EntityId::Domain(command.domain));
    let entity = entity.ok_or_else(|| Fault::not_found(format!("{} is not on {}", command.domain, scope.host.name)))?;
    crate::domain::in_control(&entity)?;
    if let Some(facts) = entity.domain() {
        archipel_contract::domain::may(MigrateDomain::NAME, facts).check(&entity.name)?;
    }
    let task = departure::begin(scope, &entity, to.clone(), way, MigrateDomain::NAME, &command.on_behalf_of, caller.operation).await?;
    Ok(Started { task, message: format!("{} is being moved back to {to}", entity.name) })
}

/// Follows a task of another hypervisor to its end.
pub async fn follow(scope: &Scope, host: &HypervisorName, task: archipel_contract::TaskId) -> Result<Entity, Fault> {
    let wait = archipel_contract::task::WaitTask { timeout: 60 };
    let asked = super::request(scope, archipel_contract::port::Address::Entity(task.into()), &wait)?;
    let answer = super::patient(host.as_str(), PEER, scope.peers.ask(host.clone(), asked)).await?;
    super::reply::<archipel_contract::task::WaitTask>(answer)
}

/// A sentence for people.
pub(super) fn done(message: impl Into<String>) -> Done {
    Done::new(message)
}
