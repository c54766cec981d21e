//! What every authority must do: compare-and-set, epochs that only grow, leases that fence.

use crate::{DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, Timestamp, port::Authority};

fn domain(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn name(s: &str) -> HypervisorName {
    s.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn refused<T: std::fmt::Debug>(result: Result<T, Fault>) {
    assert_eq!(result.expect_err("must be refused").kind, FaultKind::Conflict);
}

/// A machine is claimed once; the others are told who holds it.
pub async fn first_claim_wins(authority: &dyn Authority) {
    let ids = vec![domain(1), domain(2)];
    let mine = authority.claim_unowned(ids.clone(), name("a")).await.expect("claim");
    assert!(mine.iter().all(|o| o.owner == name("a") && o.epoch == Epoch(1)), "{mine:?}");
    assert_eq!(mine.iter().map(|o| o.domain).collect::<Vec<_>>(), ids, "answers stand in the order of the question");
    let theirs = authority.claim_unowned(vec![domain(2), domain(3)], name("b")).await.expect("claim");
    assert_eq!(theirs[0].owner, name("a"), "the first claim stands");
    assert_eq!(theirs[1].owner, name("b"));
    assert_eq!(authority.ownership(domain(1)).await.expect("read").map(|o| o.owner), Some(name("a")));
    assert_eq!(authority.ownership(domain(99)).await.expect("read"), None);
}

/// Ownership moves only from the expected epoch, and the epoch never returns, not even after it was forgotten.
pub async fn epochs_only_grow(authority: &dyn Authority) {
    let id = domain(10);
    authority.claim_unowned(vec![id], name("a")).await.expect("claim");
    let moved = authority.transfer(id, Epoch(1), name("b")).await.expect("transfer");
    assert_eq!((moved.epoch, moved.owner), (Epoch(2), name("b")));
    refused(authority.transfer(id, Epoch(1), name("c")).await);
    refused(authority.forget(id, Epoch(1)).await);
    assert_eq!(authority.ownership(id).await.expect("read").map(|o| o.epoch), Some(Epoch(2)), "a refusal changes nothing");
    authority.forget(id, Epoch(2)).await.expect("forget");
    assert_eq!(authority.ownership(id).await.expect("read"), None);
    let again = authority.claim_unowned(vec![id], name("a")).await.expect("claim again");
    assert!(again[0].epoch > Epoch(2), "{again:?}");
}

/// One leader at a time; renewing keeps the epoch, succession raises it.
pub async fn one_leader_at_a_time(authority: &dyn Authority) {
    let lead = |who: &str, now: u64| authority.lead("exchange".into(), who.into(), Millis(100), Timestamp(now));
    let first = lead("x", 1000).await.expect("lead");
    assert_eq!(first.until, Timestamp(1100));
    refused(lead("y", 1050).await);
    let renewed = lead("x", 1050).await.expect("renew");
    assert_eq!((renewed.epoch, renewed.until), (first.epoch, Timestamp(1150)));
    let second = lead("y", 1151).await.expect("succeed");
    assert!(second.epoch > first.epoch);
    refused(lead("x", 1200).await);
    let a = authority.incarnation().await.expect("incarnation");
    let b = authority.incarnation().await.expect("incarnation");
    assert!(b > a);
}
