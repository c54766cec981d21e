//! What every authority must do: compare-and-set, epochs that only grow, leases that fence.

use crate::{DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, MoveId, OwnershipStep, Timestamp, port::Authority};

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
    let asked = authority.ownerships(vec![domain(3), domain(99), domain(1), domain(3)]).await.expect("read");
    let owners: Vec<Option<HypervisorName>> = asked.into_iter().map(|held| held.map(|o| o.owner)).collect();
    assert_eq!(owners, [Some(name("b")), None, Some(name("a")), Some(name("b"))], "each in its place, and nothing is claimed");
    assert_eq!(authority.ownership(domain(99)).await.expect("read"), None);
}

/// Ownership moves only from the expected epoch, and the epoch never returns, not even after it was forgotten.
pub async fn epochs_only_grow(authority: &dyn Authority) {
    let id = domain(10);
    authority.claim_unowned(vec![id], name("a")).await.expect("claim");
    let saga = MoveId(uuid::Uuid::from_u128(7));
    let depart = OwnershipStep::Depart { by: name("a"), saga, to: name("b") };
    let claim = |by: &str| OwnershipStep::Claim { by: name(by), saga };
    refused(authority.step(id, Epoch(1), claim("b")).await);
    let moving = authority.step(id, Epoch(1), depart).await.expect("depart");
    assert_eq!((moving.epoch, &moving.hold), (Epoch(1), &Hold::Moving { saga, to: name("b") }));
    assert_eq!(authority.ownership(id).await.expect("read"), Some(moving.clone()));
    assert_eq!(authority.claim_unowned(vec![id], name("b")).await.expect("claim"), vec![moving], "what moves is not unowned");
    refused(authority.step(id, Epoch(1), claim("c")).await);
    refused(authority.forget(id, Epoch(1)).await);
    let moved = authority.step(id, Epoch(1), claim("b")).await.expect("claim");
    assert_eq!((moved.epoch, moved.owner, moved.hold), (Epoch(2), name("b"), Hold::Owned));
    refused(authority.step(id, Epoch(1), claim("b")).await);
    refused(authority.forget(id, Epoch(1)).await);
    assert_eq!(authority.ownership(id).await.expect("read").map(|o| o.epoch), Some(Epoch(2)), "a refusal changes nothing");
    authority.forget(id, Epoch(2)).await.expect("forget");
    assert_eq!(authority.ownership(id).await.expect("read"), None);
    let again = authority.claim_unowned(vec![id], name("a")).await.expect("claim again");
    assert!(again[0].epoch > Epoch(2), "{again:?}");
}

/// What is parked is nobody's to run, is listed, and is taken from the shelf once.
pub async fn the_shelf(authority: &dyn Authority) {
    let (one, two) = (domain(20), domain(21));
    authority.claim_unowned(vec![one, two, domain(22)], name("a")).await.expect("claim");
    for id in [two, one] {
        authority.step(id, Epoch(1), OwnershipStep::Park { by: name("a") }).await.expect("park");
    }
    let shelf: Vec<DomainId> = authority.parked().await.expect("list").into_iter().map(|o| o.domain).collect();
    assert_eq!(shelf, [one, two], "by id, and nothing else");
    refused(authority.forget(one, Epoch(1)).await);
    let held = authority.claim_unowned(vec![one], name("b")).await.expect("claim").remove(0);
    assert_eq!((&held.hold, held.right_to_run(&name("a")).is_none()), (&Hold::Parked, true));
    let unpark = |by: &str| OwnershipStep::Unpark { by: name(by) };
    let taken = authority.step(one, Epoch(1), unpark("b")).await.expect("unpark");
    assert_eq!((taken.epoch, taken.owner.as_str()), (Epoch(2), "b"));
    refused(authority.step(one, Epoch(1), unpark("c")).await);
    assert_eq!(authority.parked().await.expect("list").len(), 1);
    let nobodys = authority.step(domain(99), Epoch(1), unpark("b")).await.expect_err("nobody owns it");
    assert_eq!(nobodys.kind, FaultKind::NotFound);
}

/// One leader at a time; renewing keeps the epoch, succession raises it.
pub async fn one_leader_at_a_time(authority: &dyn Authority) {
    let lead = |who: &str, now: u64| authority.lead("exchange".into(), who.into(), Millis(100), Timestamp(now));
    let first = lead("x", 1000).await.expect("lead");
    assert_eq!(first.until, Timestamp(1100));
    refused(lead("y", 1050).await);
    let renewed = lead("x", 1050).await.expect("renew");
    assert_eq!((renewed.epoch, renewed.until), (first.epoch, Timestamp(1150)));
    // Where the time is not the test's, the lease must really run out.
    authority.vacancy("exchange".into(), Timestamp(1050)).await.expect("its lease ends");
    let second = lead("y", 1151).await.expect("succeed");
    assert!(second.epoch > first.epoch);
    refused(lead("x", 1200).await);
    authority.resign("exchange".into(), "x".into()).await.expect("not the holder: nothing happens");
    refused(lead("x", 1200).await);
    authority.resign("exchange".into(), "y".into()).await.expect("resign");
    authority.vacancy("exchange".into(), Timestamp(1200)).await.expect("it is vacant");
    let third = lead("x", 1200).await.expect("lead what was given back");
    assert!(third.epoch > second.epoch);
    let a = authority.incarnation().await.expect("incarnation");
    let b = authority.incarnation().await.expect("incarnation");
    assert!(b > a);
}
