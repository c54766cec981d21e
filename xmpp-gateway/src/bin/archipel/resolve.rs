//! From the word a person typed to an address. A UUID or an address is taken as it is; a name is looked up and must be one.

use archipel_contract::{CellName, DomainId, EntityId, Fault, FaultKind, Kind, NetworkId, PoolId, Target, TaskId};
use archipel_xmpp::client::{Client, DEADLINE};
use serde_json::{Value, json};
use uuid::Uuid;

/// What people call the things a target may be.
fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::Hypervisor => "hypervisor",
        Kind::Domain => "virtual machine",
        Kind::Network => "network",
        Kind::StoragePool => "storage pool",
        Kind::Task => "task",
    }
}

/// What a word means without asking anybody; `None` when it must be looked up by name.
fn address(kind: Kind, word: &str, cell: &CellName) -> Result<Option<EntityId>, Fault> {
    if let Ok(id) = cell.entity(word).or_else(|_| word.parse::<EntityId>())
        && id.kind() == kind
    {
        return Ok(Some(id));
    }
    let uuid = Uuid::parse_str(word).ok();
    Ok(match kind {
        Kind::Hypervisor => {
            Some(EntityId::Hypervisor(word.parse().map_err(|e: archipel_contract::id::BadId| Fault::invalid(e.to_string()))?))
        }
        Kind::Task => match uuid {
            Some(uuid) => Some(TaskId(uuid).into()),
            None => return Err(Fault::invalid(format!("{word:?} is not the id of a task; see `archipel task list`"))),
        },
        Kind::Domain => uuid.map(|u| DomainId(u).into()),
        Kind::Network => uuid.map(|u| NetworkId(u).into()),
        Kind::StoragePool => uuid.map(|u| PoolId(u).into()),
    })
}

/// The address of a command's target.
pub(crate) async fn target(client: &Client, cell: &CellName, target: Target, word: &str, host: Option<&str>) -> Result<String, Fault> {
    let Some(kind) = target.kind() else { return Ok(cell.to_string()) };
    if let Some(id) = address(kind, word, cell)? {
        return Ok(cell.jid(&id));
    }
    let mut filter = json!({ "name": word });
    if let Some(host) = host {
        filter["host"] = host.into();
    }
    let found = client.command(cell.as_str(), &format!("{}.list", kind.name()), filter, None, DEADLINE).await?;
    the_one(kind, word, host, &found)
}

fn the_one(kind: Kind, word: &str, host: Option<&str>, found: &Value) -> Result<String, Fault> {
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match found.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(text(one, "jid")),
        None | Some([]) => {
            let on = host.map(|h| format!(" on {h}")).unwrap_or_default();
            Err(Fault::not_found(format!("no {} is called {word}{on}; see `archipel {} list`", called(kind), kind.name())))
        }
        Some(many) => {
            let list: Vec<String> = many.iter().map(|row| format!("{} on {}", text(row, "id"), text(row, "host"))).collect();
            Err(Fault::new(
                FaultKind::Conflict,
                format!("{} {}s are called {word}: {}; use the UUID or --host", many.len(), called(kind), list.join(", ")),
            ))
        }
    }
}

/// The hypervisor to do something on: the one that was chosen, or the only one.
pub(crate) async fn hypervisor(client: &Client, cell: &CellName, host: Option<&str>) -> Result<String, Fault> {
    if let Some(host) = host {
        return target(client, cell, Target::Hypervisor, host, None).await;
    }
    let found = client.command(cell.as_str(), "hypervisor.list", json!({}), None, DEADLINE).await?;
    the_only(&found)
}

fn the_only(found: &Value) -> Result<String, Fault> {
    match found.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one.get("jid").and_then(Value::as_str).unwrap_or_default().to_owned()),
        None | Some([]) => Err(Fault::unavailable("the cell has no hypervisor yet; start an agent")),
        Some(many) => {
            let names: Vec<&str> = many.iter().filter_map(|h| h.get("name").and_then(Value::as_str)).collect();
            Err(Fault::invalid(format!("the cell has {} hypervisors; choose one with --host: {}", many.len(), names.join(", "))))
        }
    }
}

/// Whoever can be talked with by this word: a virtual machine first, then a hypervisor.
pub(crate) async fn anybody(client: &Client, cell: &CellName, word: &str, host: Option<&str>) -> Result<String, Fault> {
    if let Ok(id) = cell.entity(word).or_else(|_| word.parse::<EntityId>()) {
        return Ok(cell.jid(&id));
    }
    let missing = match target(client, cell, Target::Domain, word, host).await {
        Err(fault) if fault.kind == FaultKind::NotFound => fault,
        other => return other,
    };
    let found = client.command(cell.as_str(), "hypervisor.list", json!({ "name": word }), None, DEADLINE).await?;
    the_one(Kind::Hypervisor, word, None, &found).map_err(|_| missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_and_addresses_need_no_lookup() {
        let cell: CellName = "vm.localhost".parse().expect("a cell");
        let u = "4dea22b3-1d52-4d8f-9f3b-0a8c1c0e6a11";
        for (kind, word, address_of) in [
            (Kind::Domain, u.to_owned(), Some(u.to_owned())),
            (Kind::Domain, format!("{u}@vm.localhost"), Some(u.to_owned())),
            (Kind::Network, u.to_owned(), Some(format!("net.{u}"))),
            (Kind::StoragePool, format!("pool.{u}"), Some(format!("pool.{u}"))),
            (Kind::Task, u.to_owned(), Some(format!("task.{u}"))),
            (Kind::Hypervisor, "alpha".to_owned(), Some("hv.alpha".to_owned())),
            (Kind::Hypervisor, "hv.alpha".to_owned(), Some("hv.alpha".to_owned())),
            (Kind::Domain, "web1".to_owned(), None),
            (Kind::Network, "default".to_owned(), None),
        ] {
            assert_eq!(address(kind, &word, &cell).expect(&word).map(|id| id.to_string()), address_of, "{word}");
        }
        assert!(address(Kind::Task, "1", &cell).is_err());
        assert!(address(Kind::Hypervisor, "No Name", &cell).is_err());
    }

    #[test]
    fn a_name_must_be_one() {
        let row = |id: &str, host: &str| json!({"id": id, "jid": format!("{id}@c"), "host": host});
        assert_eq!(the_one(Kind::Domain, "w", None, &json!([row("1", "a")])), Ok("1@c".into()));
        assert_eq!(the_one(Kind::Domain, "w", None, &json!([])).expect_err("none").kind, FaultKind::NotFound);
        let fault = the_one(Kind::Domain, "w", None, &json!([row("1", "a"), row("2", "b")])).expect_err("two");
        assert_eq!(fault.kind.exit_code(), 73);
        assert!(fault.message.contains("1 on a, 2 on b"), "{fault}");
    }

    #[test]
    fn the_hypervisor_is_chosen_or_the_only_one() {
        let row = |name: &str| json!({"name": name, "jid": format!("hv.{name}@c")});
        assert_eq!(the_only(&json!([row("a")])), Ok("hv.a@c".into()));
        let fault = the_only(&json!([row("a"), row("b")])).expect_err("two");
        assert!(fault.message.contains("--host: a, b"), "{fault}");
        assert_eq!(the_only(&json!([])).expect_err("none").kind, FaultKind::Unavailable);
    }
}
