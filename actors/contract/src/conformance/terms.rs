//! What every store must do that several exchanges share: what one of them changes in a term that is over is not changed.

use crate::{
    DomainId, EntityId, Epoch, Fault, FaultKind, HypervisorName, OperationId, OwnershipStep, Role, Timestamp,
    port::{Account, AccountKind, Accounts, Authority, Documents, Journal, Operation, RosterEntry, ScramKeys},
};

fn name(s: &str) -> HypervisorName {
    s.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn domain(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn account(local: &str, iterations: u32) -> Account {
    let keys = ScramKeys { stored: vec![1], server: vec![2] };
    Account { local: local.into(), kind: AccountKind::Person(Role::Viewer), salt: vec![3], iterations, sha1: keys.clone(), sha256: keys }
}

fn operation(n: u128) -> Operation {
    Operation {
        id: OperationId(uuid::Uuid::from_u128(n)),
        caller: "admin@cell".into(),
        role: Role::Admin,
        command: "domain.start".into(),
        target: EntityId::Domain(domain(n)),
        arguments: serde_json::json!({}),
        accepted: Timestamp(1000),
    }
}

fn too_late<T: std::fmt::Debug>(what: &str, result: Result<T, Fault>) {
    let fault = result.expect_err(what);
    assert_eq!(fault.kind, FaultKind::Unavailable, "{what}: {fault}");
    assert!(fault.message.contains("is over"), "{what}: {fault}");
}

/// `old` and `new` are the same store in two terms. `succeed` ends the term of `old` and begins that of `new`.
pub async fn what_a_succeeded_term_changes_is_refused<S, F>(old: &S, succeed: F)
where
    S: Authority + Documents + Accounts + Journal,
    F: AsyncFnOnce() -> S,
{
    let (alpha, entry) = (name("alpha"), RosterEntry { jid: "a@b".into(), name: None, groups: vec![] });
    old.claim_unowned(vec![domain(1), domain(2)], alpha.clone()).await.expect("claim");
    let version = old.write_document("plan".into(), None, Some(vec![1])).await.expect("write");
    old.add(account("zoe", 1)).await.expect("add");
    old.put_roster("zoe".into(), entry.clone()).await.expect("put");
    old.accept(operation(1)).await.expect("accept");
    let before = old.incarnation().await.expect("count");
    let new = succeed().await;

    too_late("claim", old.claim_unowned(vec![domain(3)], alpha.clone()).await);
    too_late("step", old.step(domain(1), Epoch(1), OwnershipStep::Park { by: alpha.clone() }).await);
    too_late("forget", old.forget(domain(1), Epoch(1)).await);
    too_late("write", old.write_document("plan".into(), Some(version), Some(vec![2])).await);
    too_late("a first write", old.write_document("other".into(), None, Some(vec![2])).await);
    too_late("add", old.add(account("yan", 1)).await);
    too_late("replace", old.replace(account("zoe", 2)).await);
    too_late("remove", old.remove("zoe".into()).await);
    too_late("put into a roster", old.put_roster("zoe".into(), RosterEntry { jid: "c@d".into(), ..entry.clone() }).await);
    too_late("take from a roster", old.remove_roster("zoe".into(), "a@b".into()).await);
    too_late("accept", old.accept(operation(2)).await);
    too_late("complete", old.complete("admin@cell".into(), operation(1).id, Ok(serde_json::json!(1)), Timestamp(2000)).await);
    too_late("count", old.incarnation().await);

    assert_eq!(new.ownership(domain(3)).await.expect("read"), None);
    let held = new.ownership(domain(1)).await.expect("read").expect("it is owned");
    assert_eq!((held.epoch, held.right_to_run(&alpha).is_some()), (Epoch(1), true));
    assert_eq!(new.parked().await.expect("list"), []);
    assert_eq!(new.document("plan".into()).await.expect("read").map(|d| (d.version, d.body)), Some((version, vec![1])));
    assert_eq!(new.document("other".into()).await.expect("read"), None);
    assert_eq!(new.list().await.expect("list"), [account("zoe", 1)]);
    assert_eq!(new.roster("zoe".into()).await.expect("list"), std::slice::from_ref(&entry));
    assert_eq!(new.interrupted().await.expect("list"), [operation(1)]);
    assert_eq!(new.incarnation().await.expect("count"), before + 1);
    // What is there may still be looked at; and the new term is obeyed.
    assert_eq!(old.document("plan".into()).await.expect("read").map(|d| d.version), Some(version));
    new.write_document("plan".into(), Some(version), Some(vec![3])).await.expect("the new term changes it");
}
