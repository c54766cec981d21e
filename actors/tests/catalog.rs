//! The catalog that every surface reads is generated from the routes and checked in. `ARCHIPEL_UPDATE=1` writes it anew.

use archipel_contract::catalog::{ArgumentKind, Catalog};
use std::path::Path;

#[test]
fn the_checked_in_catalog_is_the_one_of_the_routes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract/catalog.json");
    let current = archipel_actors::routes::catalog();
    if std::env::var_os("ARCHIPEL_UPDATE").is_some() {
        std::fs::write(&path, current.to_text()).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let shipped: Catalog = serde_json::from_str(&text).unwrap();
    assert!(
        shipped == current,
        "actors/contract/catalog.json is stale: run ARCHIPEL_UPDATE=1 cargo test -p archipel-actors --test catalog"
    );
}

#[test]
fn arguments_carry_kind_default_range_and_choices() {
    let catalog = archipel_actors::routes::catalog();
    let define = catalog.find("domain.define").unwrap();
    let argument = |name: &str| define.arguments.iter().find(|a| a.name == name).unwrap();
    assert!(argument("name").required && argument("name").kind == ArgumentKind::Text);
    assert_eq!(define.arguments[0].name, "name", "required arguments come first");
    assert_eq!(argument("memory").kind, ArgumentKind::Bytes);
    assert_eq!(argument("memory").default, Some(serde_json::json!(1u64 << 30)));
    assert_eq!((argument("vcpus").minimum, argument("vcpus").maximum), (Some(1), Some(512)));
    assert_eq!(argument("graphics").kind, ArgumentKind::Choice);
    assert_eq!(argument("graphics").choices, ["none", "vnc"]);
    assert_eq!(argument("graphics").default, Some(serde_json::json!("vnc")));
    assert_eq!(argument("disk").kind, ArgumentKind::Text);
    assert!(!argument("disk").required);
    let shutdown = catalog.find("domain.shutdown").unwrap();
    let timeout = shutdown.arguments.iter().find(|a| a.name == "timeout").unwrap();
    assert_eq!(timeout.default, Some(serde_json::json!(120)));
    assert_eq!(shutdown.policy["shutoff"], archipel_contract::Verdict::refused("is off"));
    assert!(catalog.find("domain.info").unwrap().policy.is_empty());
    assert_eq!(catalog.find("domain.list").unwrap().reply, serde_json::json!({"type": "array", "items": {"$ref": "Entity"}}));
}

#[test]
fn every_command_is_listed_once() {
    let catalog = archipel_actors::routes::catalog();
    let names: std::collections::BTreeSet<&str> = catalog.commands.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names.len(), catalog.commands.len());
}
