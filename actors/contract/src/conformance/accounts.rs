//! What every store of accounts must do.

use crate::{
    FaultKind, Role,
    port::{Account, AccountKind, Accounts, RosterEntry, ScramKeys},
};

fn account(local: &str) -> Account {
    Account {
        local: local.into(),
        kind: AccountKind::Person(Role::Viewer),
        salt: vec![1, 2, 3],
        iterations: 4096,
        sha1: ScramKeys { stored: vec![4; 20], server: vec![5; 20] },
        sha256: ScramKeys { stored: vec![6; 32], server: vec![7; 32] },
    }
}

/// Accounts are added once, replaced, listed by name and removed with their roster.
pub async fn life_of_an_account(accounts: &dyn Accounts) {
    assert_eq!(accounts.find("zoe".into()).await.expect("find"), None);
    accounts.add(account("zoe")).await.expect("add");
    accounts.add(account("ann")).await.expect("add");
    assert_eq!(accounts.add(account("zoe")).await.expect_err("twice").kind, FaultKind::Conflict);
    let admin = Account { kind: AccountKind::Person(Role::Admin), ..account("zoe") };
    accounts.replace(admin.clone()).await.expect("replace");
    assert_eq!(accounts.find("zoe".into()).await.expect("find"), Some(admin));
    assert_eq!(accounts.replace(account("bob")).await.expect_err("nobody").kind, FaultKind::NotFound);
    let names: Vec<String> = accounts.list().await.expect("list").into_iter().map(|a| a.local).collect();
    assert!(names.is_sorted() && names.contains(&"ann".to_owned()) && names.contains(&"zoe".to_owned()), "{names:?}");

    let entry = RosterEntry { jid: "hv.a@cell".into(), name: Some("alpha".into()), groups: vec!["one".into()] };
    accounts.put_roster("zoe".into(), entry.clone()).await.expect("put");
    let renamed = RosterEntry { name: None, ..entry };
    accounts.put_roster("zoe".into(), renamed.clone()).await.expect("replace");
    assert_eq!(accounts.roster("zoe".into()).await.expect("roster"), vec![renamed]);
    accounts.remove_roster("zoe".into(), "hv.a@cell".into()).await.expect("remove");
    assert_eq!(accounts.remove_roster("zoe".into(), "hv.a@cell".into()).await.expect_err("gone").kind, FaultKind::NotFound);

    let node = Account { kind: AccountKind::Node, ..account("hv.alpha") };
    accounts.add(node.clone()).await.expect("add");
    assert_eq!(accounts.find("hv.alpha".into()).await.expect("find"), Some(node));
    for local in ["zoe", "ann", "hv.alpha"] {
        accounts.remove(local.into()).await.expect("remove");
        assert_eq!(accounts.find(local.into()).await.expect("find"), None);
        assert_eq!(accounts.remove(local.into()).await.expect_err("gone").kind, FaultKind::NotFound);
    }
}
