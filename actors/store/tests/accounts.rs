//! Accounts and rosters on SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use archipel_contract::port::{Account, AccountKind, Accounts, RosterEntry, ScramKeys};
use archipel_contract::{FaultKind, Role};
use archipel_store::Store;

fn account(local: &str, kind: AccountKind) -> Account {
    let keys = |n: u8| ScramKeys { stored: vec![n; 20], server: vec![n + 1; 20] };
    Account { local: local.into(), kind, salt: vec![9; 16], iterations: 4096, sha1: keys(1), sha256: keys(3) }
}

#[tokio::test]
async fn an_account_is_added_found_replaced_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (person, node) = (account("zoe", AccountKind::Person(Role::Viewer)), account("hv.alpha", AccountKind::Node));
    store.add(person.clone()).await.unwrap();
    store.add(node.clone()).await.unwrap();
    assert_eq!(store.add(person.clone()).await.unwrap_err().kind, FaultKind::Conflict);
    assert_eq!(store.find("zoe".into()).await.unwrap(), Some(person.clone()));
    assert_eq!(store.list().await.unwrap(), [node, person.clone()]);
    let raised = Account { kind: AccountKind::Person(Role::Admin), salt: vec![1; 16], ..person };
    store.replace(raised.clone()).await.unwrap();
    assert_eq!(store.find("zoe".into()).await.unwrap(), Some(raised.clone()));
    store.remove("zoe".into()).await.unwrap();
    assert_eq!(store.find("zoe".into()).await.unwrap(), None);
    assert_eq!(store.remove("zoe".into()).await.unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(store.replace(raised).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn a_roster_belongs_to_its_account_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let entry = |jid: &str| RosterEntry { jid: jid.into(), name: Some("Web \"1\"".into()), groups: vec!["a,b".into(), "ü".into()] };
    assert_eq!(store.put_roster("zoe".into(), entry("a@b")).await.unwrap_err().kind, FaultKind::NotFound);
    store.add(account("zoe", AccountKind::Person(Role::Viewer))).await.unwrap();
    store.put_roster("zoe".into(), entry("b@b")).await.unwrap();
    store.put_roster("zoe".into(), entry("a@b")).await.unwrap();
    let renamed = RosterEntry { name: None, groups: vec![], ..entry("a@b") };
    store.put_roster("zoe".into(), renamed.clone()).await.unwrap();
    assert_eq!(store.roster("zoe".into()).await.unwrap(), [renamed, entry("b@b")]);
    store.remove_roster("zoe".into(), "a@b".into()).await.unwrap();
    assert_eq!(store.remove_roster("zoe".into(), "a@b".into()).await.unwrap_err().kind, FaultKind::NotFound);
    store.remove("zoe".into()).await.unwrap();
    store.add(account("zoe", AccountKind::Person(Role::Viewer))).await.unwrap();
    assert_eq!(store.roster("zoe".into()).await.unwrap(), []);
}

#[tokio::test]
async fn a_command_beside_the_daemon_is_seen_by_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Store::open(dir.path()).unwrap();
    let command = Store::open_beside(dir.path()).unwrap();
    command.add(account("zoe", AccountKind::Person(Role::Viewer))).await.unwrap();
    assert!(daemon.find("zoe".into()).await.unwrap().is_some());
    command.remove("zoe".into()).await.unwrap();
    assert!(daemon.find("zoe".into()).await.unwrap().is_none());
}
