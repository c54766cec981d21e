//! Carrying out requests for the whole cell: authorise, then answer lists from the location table or forward to the agent that
//! holds the lease. Every surface (ad-hoc commands, chat, and whoever else holds the [`Dispatcher`]) comes through here.

use super::{Exchange, location::Locations};
use archipel_contract::{
    BoxFuture, Condition, Effect, Entity, EntityId, Facts, Fault, FaultKind, Kind, Millis, Target,
    access::authorise,
    catalog::{Catalog, CommandEntry},
    command::parse_arguments,
    domain::ListDomains,
    hypervisor::{HypervisorState, ListHypervisors},
    network::ListNetworks,
    port::{Address, Dispatcher, Request},
    storage_pool::ListPools,
    task::ListTasks,
};
use serde_json::Value;
use std::sync::Arc;

impl Dispatcher for Exchange {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(async move {
            let outcome = self.carry_out(&request).await;
            self.metrics.command(&request.command, outcome.as_ref().err().map(|f| f.kind));
            outcome
        })
    }
}

/// The entry of a command, or the fault that names it.
pub(super) fn entry(catalog: &'static Catalog, command: &str) -> Result<&'static CommandEntry, Fault> {
    catalog.find(command).ok_or_else(|| {
        let shown: String = command.chars().take(80).collect();
        Fault::invalid(format!("there is no command {shown:?}; ask the address for its list of commands"))
    })
}

/// The same words whether it does not exist or may not be known.
pub(super) fn no_such(target: &str) -> Fault {
    let shown: String = target.chars().take(80).collect();
    Fault::not_found(format!("there is no {shown}, or you may not see it"))
}

/// What to say of an entity that is not known. After a start nobody may call a machine gone before every hypervisor was
/// listed: somebody could believe it and define or start it again.
pub(super) fn missing(table: &Locations, id: &EntityId) -> Fault {
    let mut hosts = table.of_kind(Kind::Hypervisor).peekable();
    let why = if hosts.peek().is_none() {
        "no agent has reported yet".to_owned()
    } else if let Some(host) = hosts.find(|h| matches!(&h.facts, Facts::Hypervisor(f) if f.state == HypervisorState::Connecting)) {
        format!("{} was not listed yet", host.name)
    } else {
        return no_such(&id.plain());
    };
    match id.kind() {
        Kind::Hypervisor | Kind::Task => no_such(&id.plain()),
        _ => Fault::unavailable(format!("{} is not known here, but {why}; ask again in a moment", id.plain())),
    }
}

/// Refuses a command sent to the wrong kind of address.
pub(super) fn fits(entry: &CommandEntry, kind: Option<Kind>) -> Result<(), Fault> {
    if entry.target.kind() == kind {
        return Ok(());
    }
    let word = |k: Option<Kind>| k.map_or("cell", Kind::name);
    Err(Fault::invalid(format!("{} is a command of a {}, not of a {}", entry.name, word(entry.target.kind()), word(kind))))
}

impl Exchange {
    async fn carry_out(&self, request: &Request) -> Result<Value, Fault> {
        let entry = entry(self.catalog, &request.command)?;
        authorise(&request.caller, &entry.name, entry.access)?;
        if entry.effect != Effect::Read {
            self.proof.check().await?;
        }
        let id = match &request.target {
            Address::Cell => {
                fits(entry, None)?;
                if let Some(outcome) = self.on_cell_command(entry, request).await {
                    return outcome;
                }
                if request.command == "domain.parked" {
                    let parked = self.desk.parked().await?;
                    return serde_json::to_value(parked).map_err(|e| Fault::internal("the list cannot be written").because(e));
                }
                return self.list(&request.command, request.arguments.clone());
            }
            Address::Entity(id) => id,
        };
        let found = {
            let table = self.locations.read();
            match (table.get(id), table.grave(id)) {
                (Some(entity), _) => Ok((entity.clone(), table.shift(entity), table.mark(id).cloned())),
                (None, Some(host)) if entry.effect != Effect::Read => Err(host.clone()),
                (None, _) => return Err(missing(&table, id)),
            }
        };
        fits(entry, Some(id.kind()))?;
        let (entity, shift, mark) = match found {
            Ok(found) => found,
            // It went lately, perhaps by this very operation: its agent knows the first answer.
            Err(host) => return self.ask_host(&host, &self.cell.jid(id), request, self.patience(request)).await,
        };
        if entity.condition == Condition::Unreachable {
            // What was known last is still worth showing; its state says `unknown`.
            if answers_itself(entry) {
                return Ok(entity.to_json());
            }
            return Err(Fault::unavailable(format!(
                "{} is on {} and {}",
                entity.name,
                entity.host,
                entity.why.as_deref().unwrap_or("its agent does not answer")
            )));
        }
        let to = self.cell.jid(id);
        let mut value = self.ask_host(&entity.host, &to, request, self.patience(request)).await?;
        if answers_itself(entry) {
            as_shown(&mut value, shift, mark.as_deref());
        }
        Ok(value)
    }

    /// How long to wait for an answer.
    pub(super) fn patience(&self, request: &Request) -> Millis {
        if request.command == "task.wait" {
            let asked = request.arguments.get("timeout").and_then(Value::as_u64).unwrap_or(60).min(3600);
            return Millis(asked * 1000 + self.answer_within.0);
        }
        self.answer_within
    }

    /// The commands of the cell itself.
    fn list(&self, command: &str, arguments: Value) -> Result<Value, Fault> {
        let found = match command {
            "domain.list" => {
                let q: ListDomains = parse_arguments(arguments)?;
                self.select(Kind::Domain, q.name.as_deref(), q.host.as_deref(), q.state.as_deref())
            }
            "hypervisor.list" => {
                let q: ListHypervisors = parse_arguments(arguments)?;
                self.select(Kind::Hypervisor, q.name.as_deref(), None, None)
            }
            "network.list" => {
                let q: ListNetworks = parse_arguments(arguments)?;
                self.select(Kind::Network, q.name.as_deref(), q.host.as_deref(), None)
            }
            "storage-pool.list" => {
                let q: ListPools = parse_arguments(arguments)?;
                self.select(Kind::StoragePool, q.name.as_deref(), q.host.as_deref(), None)
            }
            "task.list" => {
                let q: ListTasks = parse_arguments(arguments)?;
                let mut tasks = self.select(Kind::Task, None, q.host.as_deref(), q.state.as_deref());
                tasks.sort_by_key(|t| std::cmp::Reverse(if let Facts::Task(f) = &t.facts { f.started } else { t.since }));
                tasks
            }
            other => return Err(Fault::new(FaultKind::Unsupported, format!("the cell does not know how to carry out {other}"))),
        };
        serde_json::to_value(found).map_err(|e| Fault::internal("the list cannot be written").because(e))
    }

    /// Entities by name, then id, that pass the filters.
    pub(super) fn select(&self, kind: Kind, name: Option<&str>, host: Option<&str>, state: Option<&str>) -> Vec<Arc<Entity>> {
        let table = self.locations.read();
        let mut found: Vec<Arc<Entity>> = match name {
            Some(name) => table.named(kind, name),
            None => table.of_kind(kind).cloned().collect(),
        };
        found.retain(|e| host.is_none_or(|h| e.host.as_str() == h) && state.is_none_or(|s| e.state() == s));
        found.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        found
    }

    /// The entity with that id.
    pub(super) fn entity(&self, id: &EntityId) -> Option<Arc<Entity>> {
        self.locations.read().get(id).cloned()
    }
}

/// Whether a command's answer is the entity itself.
fn answers_itself(entry: &CommandEntry) -> bool {
    entry.effect == Effect::Read
        && entry.target != Target::Cell
        && entry.reply.get("$ref").and_then(Value::as_str) == Some("Entity")
        && entry.verb != "wait"
}

/// An agent's own answer as viewers see it: with their numbers, and with what the exchange says over it.
fn as_shown(value: &mut Value, shift: u64, mark: Option<&str>) {
    if let Some(seq) = value.get("seq").and_then(Value::as_u64).filter(|_| shift > 0) {
        value["seq"] = seq.saturating_add(shift).into();
    }
    if let Some(why) = mark
        && matches!(value.get("condition").and_then(Value::as_str), Some("ok" | "degraded"))
    {
        value["condition"] = "degraded".into();
        value["why"] = why.into();
    }
}
