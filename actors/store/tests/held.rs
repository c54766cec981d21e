//! An agent's authority: its own disk (SQLite) before the cell's authority, over a link that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use archipel_contract::conformance::authority;
use archipel_contract::fake::MemoryAuthority;
use archipel_contract::port::{Authority, Leadership};
use archipel_contract::{
    BoxFuture, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, MoveId, Ownership, OwnershipStep, Timestamp,
};
use archipel_store::{Held, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// What the link does to requests.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Mode {
    Delivers,
    LosesRequests,
    LosesAnswers,
    /// Requests are carried out, and their answers wait until they are released.
    HoldsAnswers,
}

/// The cell's authority behind a link that fails.
struct Flaky {
    cell: MemoryAuthority,
    mode: AtomicU8,
    asked: AtomicU64,
    gate: Semaphore,
}

impl Flaky {
    fn new() -> Arc<Flaky> {
        let gate = Semaphore::new(0);
        Arc::new(Flaky { cell: MemoryAuthority::default(), mode: AtomicU8::new(0), asked: AtomicU64::new(0), gate })
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// How often the cell was asked since the last time.
    fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn send<'a, T: Send + 'a>(
        &'a self,
        request: impl FnOnce() -> BoxFuture<'a, Result<T, Fault>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Fault>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mode = self.mode.load(Ordering::SeqCst);
        Box::pin(async move {
            if mode == Mode::LosesRequests as u8 {
                return Err(Fault::unavailable("the cell cannot be reached"));
            }
            let answer = request().await;
            if mode == Mode::LosesAnswers as u8 {
                return Err(Fault::unavailable("the cell did not answer"));
            }
            if mode == Mode::HoldsAnswers as u8 {
                self.gate.acquire().await.unwrap().forget();
            }
            answer
        })
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

impl Authority for Flaky {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> Answer<'_, Vec<Ownership>> {
        self.send(|| self.cell.claim_unowned(domains, owner))
    }
    fn ownership(&self, domain: DomainId) -> Answer<'_, Option<Ownership>> {
        self.send(move || self.cell.ownership(domain))
    }
    fn ownerships(&self, domains: Vec<DomainId>) -> Answer<'_, Vec<Option<Ownership>>> {
        self.send(move || self.cell.ownerships(domains))
    }
    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> Answer<'_, Ownership> {
        self.send(move || self.cell.step(domain, expected, step))
    }
    fn parked(&self) -> Answer<'_, Vec<Ownership>> {
        self.send(|| self.cell.parked())
    }
    fn forget(&self, domain: DomainId, expected: Epoch) -> Answer<'_, ()> {
        self.send(move || self.cell.forget(domain, expected))
    }
    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> Answer<'_, Leadership> {
        self.send(move || self.cell.lead(role, holder, lease, now))
    }
    fn resign(&self, role: String, holder: String) -> Answer<'_, ()> {
        self.send(|| self.cell.resign(role, holder))
    }
    fn vacancy(&self, role: String, now: Timestamp) -> Answer<'_, ()> {
        self.send(move || self.cell.vacancy(role, now))
    }
    fn incarnation(&self) -> Answer<'_, u64> {
        self.send(|| self.cell.incarnation())
    }
}

fn name(text: &str) -> HypervisorName {
    text.parse().unwrap()
}

fn domain(n: u128) -> DomainId {
    DomainId(Uuid::from_u128(n))
}

fn saga(n: u128) -> MoveId {
    MoveId(Uuid::from_u128(n))
}

/// The agent of one hypervisor, with a disk.
struct Host {
    disk: TempDir,
    cell: Arc<Flaky>,
    name: HypervisorName,
}

impl Host {
    fn new(text: &str, cell: &Arc<Flaky>) -> Host {
        Host { disk: tempfile::tempdir().unwrap(), cell: cell.clone(), name: name(text) }
    }

    /// The agent starts.
    fn start(&self) -> Held {
        Held::new(Store::open(self.disk.path()).unwrap(), self.cell.clone(), [self.name.clone()])
    }
}

/// Whether the owner may run the machine, as the agent sees it.
async fn may_run(held: &Held, id: DomainId, who: &str) -> bool {
    held.ownership(id).await.ok().flatten().is_some_and(|o| o.right_to_run(&name(who)).is_some())
}

fn depart(saga: MoveId) -> OwnershipStep {
    OwnershipStep::Depart { by: name("a"), saga, to: name("b") }
}

#[tokio::test]
async fn it_is_an_authority() {
    for suite in 0..4 {
        let disk = tempfile::tempdir().unwrap();
        let held = Held::new(Store::open(disk.path()).unwrap(), Arc::new(MemoryAuthority::default()), ["a", "b", "c"].map(name));
        match suite {
            0 => authority::first_claim_wins(&held).await,
            1 => authority::epochs_only_grow(&held).await,
            2 => authority::the_shelf(&held).await,
            _ => authority::one_leader_at_a_time(&held).await,
        }
    }
    // And where others hold what it is asked about.
    let (one, two) = (Host::new("a", &Flaky::new()), Host::new("a", &Flaky::new()));
    authority::first_claim_wins(&one.start()).await;
    authority::the_shelf(&two.start()).await;
}

#[tokio::test]
async fn what_it_holds_needs_no_cell_and_what_is_new_does() {
    let cell = Flaky::new();
    let host = Host::new("a", &cell);
    let ids: Vec<DomainId> = (0..10_000).map(domain).collect();
    let first = host.start().claim_unowned(ids.clone(), name("a")).await.unwrap();
    assert_eq!(cell.asked(), 1, "one question for all");
    // The cell is away, and the agent starts again.
    cell.set(Mode::LosesRequests);
    let held = host.start();
    let begin = Instant::now();
    assert_eq!(held.claim_unowned(ids.clone(), name("a")).await.unwrap(), first);
    println!("10,000 machines claimed again without the cell: {} ms", begin.elapsed().as_millis());
    assert!(may_run(&held, ids[7], "a").await);
    assert_eq!(cell.asked(), 0);
    let new = held.claim_unowned(vec![ids[0], domain(10_001)], name("a")).await.unwrap_err();
    assert_eq!((new.kind, cell.asked()), (FaultKind::Unavailable, 1));
    assert_eq!(held.ownership(domain(10_001)).await.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(held.incarnation().await.unwrap(), 1, "counted on its own disk");
    // Another hypervisor's name is not answered from what this one holds.
    assert_eq!(held.claim_unowned(vec![ids[0]], name("x")).await.unwrap()[0].owner, name("a"));
}

#[tokio::test]
async fn the_right_is_given_up_before_the_cell_is_asked_and_stays_so_over_a_crash() {
    for lost in [Mode::LosesRequests, Mode::LosesAnswers] {
        for step in [depart(saga(1)), OwnershipStep::Park { by: name("a") }] {
            let cell = Flaky::new();
            let host = Host::new("a", &cell);
            let held = host.start();
            held.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
            cell.set(lost);
            assert_eq!(held.step(domain(1), Epoch(1), step.clone()).await.unwrap_err().kind, FaultKind::Unavailable);
            assert!(!may_run(&held, domain(1), "a").await);
            drop(held);
            let held = host.start();
            assert!(!may_run(&held, domain(1), "a").await, "not after a restart either");
            let again = held.claim_unowned(vec![domain(1)], name("a")).await.unwrap().remove(0);
            assert_ne!(again.hold, Hold::Owned, "nor by claiming it while the cell is away");
            cell.set(Mode::Delivers);
            let again = held.claim_unowned(vec![domain(1)], name("a")).await.unwrap().remove(0);
            assert_ne!(again.hold, Hold::Owned, "nor by claiming it from a cell that has not heard of it");
            let done = held.step(domain(1), Epoch(1), step).await.expect("asked again it is done");
            assert_eq!(cell.cell.ownership(domain(1)).await.unwrap(), Some(done));
        }
    }
}

#[tokio::test]
async fn staying_takes_the_cell_and_brings_the_right_back() {
    let cell = Flaky::new();
    let host = Host::new("a", &cell);
    let held = host.start();
    held.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
    held.step(domain(1), Epoch(1), depart(saga(1))).await.unwrap();
    let stay = OwnershipStep::Stay { by: name("a"), saga: saga(1) };
    for lost in [Mode::LosesRequests, Mode::LosesAnswers] {
        cell.set(lost);
        assert_eq!(held.step(domain(1), Epoch(1), stay.clone()).await.unwrap_err().kind, FaultKind::Unavailable);
        assert!(!may_run(&held, domain(1), "a").await);
    }
    cell.set(Mode::Delivers);
    held.step(domain(1), Epoch(1), stay).await.unwrap();
    cell.set(Mode::LosesRequests);
    assert!(may_run(&held, domain(1), "a").await);
}

#[tokio::test]
async fn a_machine_that_arrived_is_its_owners_although_the_answer_was_lost() {
    let cell = Flaky::new();
    let (a, b) = (Host::new("a", &cell), Host::new("b", &cell));
    let (source, target) = (a.start(), b.start());
    source.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
    source.step(domain(1), Epoch(1), depart(saga(1))).await.unwrap();
    cell.set(Mode::LosesAnswers);
    let claim = OwnershipStep::Claim { by: name("b"), saga: saga(1) };
    assert_eq!(target.step(domain(1), Epoch(1), claim.clone()).await.unwrap_err().kind, FaultKind::Unavailable);
    assert!(!may_run(&target, domain(1), "b").await);
    cell.set(Mode::Delivers);
    // Asked again it is too late for this epoch, and what the cell said is known from then on.
    assert_eq!(target.step(domain(1), Epoch(1), claim).await.unwrap_err().kind, FaultKind::Conflict);
    cell.set(Mode::LosesRequests);
    assert!(may_run(&target, domain(1), "b").await);
    assert!(!may_run(&source, domain(1), "a").await);
    cell.set(Mode::Delivers);
    assert_eq!(source.ownership(domain(1)).await.unwrap().map(|o| (o.owner, o.epoch)), Some((name("b"), Epoch(2))));
    let late = source.step(domain(1), Epoch(1), OwnershipStep::Stay { by: name("a"), saga: saga(1) }).await.unwrap_err();
    assert_eq!(late.kind, FaultKind::Conflict);
}

#[tokio::test]
async fn an_answer_that_was_overtaken_gives_no_right() {
    let cell = Flaky::new();
    let host = Host::new("a", &cell);
    host.start().claim_unowned(vec![domain(1)], name("a")).await.unwrap();
    // A disk that knows nothing of it, so that the cell is asked, and says: yours.
    let anew = Host::new("a", &cell);
    let held = anew.start();
    cell.asked();
    cell.set(Mode::HoldsAnswers);
    let (asking, id) = (held.clone(), domain(1));
    let slow = tokio::spawn(async move { asking.claim_unowned(vec![id], name("a")).await });
    while cell.asked() == 0 {
        tokio::task::yield_now().await;
    }
    cell.set(Mode::Delivers);
    held.step(domain(1), Epoch(1), depart(saga(1))).await.unwrap();
    // Only now the first answer arrives.
    cell.gate.add_permits(1);
    let answer = slow.await.unwrap();
    assert!(!answer.as_ref().is_ok_and(|all| all[0].hold == Hold::Owned), "{answer:?}");
    assert!(!may_run(&held, domain(1), "a").await);
}

#[tokio::test]
async fn verifying_names_what_others_have_now_and_takes_the_right_to_run_it() {
    let cell = Flaky::new();
    let host = Host::new("a", &cell);
    let held = host.start();
    let ids: Vec<DomainId> = (0..1000).map(domain).collect();
    held.claim_unowned(ids.clone(), name("a")).await.unwrap();
    // Somebody with authority over the cell moves one to b and forgets another while this host is away.
    cell.cell.step(ids[3], Epoch(1), depart(saga(3))).await.unwrap();
    cell.cell.step(ids[3], Epoch(1), OwnershipStep::Claim { by: name("b"), saga: saga(3) }).await.unwrap();
    cell.cell.forget(ids[4], Epoch(1)).await.unwrap();
    cell.set(Mode::LosesRequests);
    assert_eq!(held.verify().await.unwrap_err().kind, FaultKind::Unavailable);
    assert!(may_run(&held, ids[3], "a").await, "nothing is known yet");
    cell.set(Mode::Delivers);
    cell.asked();
    let stale = held.verify().await.unwrap();
    assert_eq!(cell.asked(), 2, "one question for five hundred");
    assert_eq!(stale, [Ownership::owned(ids[3], Epoch(2), name("b"))]);
    cell.set(Mode::LosesRequests);
    assert!(!may_run(&held, ids[3], "a").await);
    assert!(!may_run(&held, ids[4], "a").await);
    assert!(may_run(&held, ids[5], "a").await);
    cell.set(Mode::Delivers);
    assert_eq!(held.verify().await.unwrap(), [], "it is not stale any more");
    let refused = held.step(ids[3], Epoch(1), depart(saga(4))).await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::Conflict);
    assert!(refused.message.contains("epoch 1 is over"), "{refused}");
}

#[tokio::test]
async fn a_machine_that_was_forgotten_without_an_answer_comes_back_under_a_new_epoch() {
    for lost in [Mode::LosesRequests, Mode::LosesAnswers] {
        let cell = Flaky::new();
        let host = Host::new("a", &cell);
        let held = host.start();
        held.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
        cell.set(lost);
        assert_eq!(held.forget(domain(1), Epoch(1)).await.unwrap_err().kind, FaultKind::Unavailable);
        assert!(!may_run(&held, domain(1), "a").await);
        drop(held);
        let held = host.start();
        assert_eq!(held.claim_unowned(vec![domain(1)], name("a")).await.unwrap_err().kind, FaultKind::Unavailable);
        cell.set(Mode::Delivers);
        let again = held.claim_unowned(vec![domain(1)], name("a")).await.unwrap().remove(0);
        assert_eq!((again.epoch, again.hold), (Epoch(2), Hold::Owned));
        held.forget(domain(1), Epoch(2)).await.unwrap();
        assert_eq!(held.ownership(domain(1)).await.unwrap(), None);
        assert_eq!(held.forget(domain(1), Epoch(2)).await.unwrap_err().kind, FaultKind::Conflict);
    }
}

#[tokio::test]
async fn a_cell_that_went_back_in_time_is_not_believed() {
    let cell = Flaky::new();
    let host = Host::new("a", &cell);
    let held = host.start();
    held.claim_unowned(vec![domain(1), domain(2)], name("a")).await.unwrap();
    held.forget(domain(1), Epoch(1)).await.unwrap();
    held.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
    held.step(domain(1), Epoch(2), depart(saga(1))).await.unwrap();
    drop(held);
    // Its data was lost, and b was given the first epoch of both once more.
    let empty = Flaky::new();
    empty.cell.claim_unowned(vec![domain(1)], name("b")).await.unwrap();
    empty.cell.claim_unowned(vec![domain(2)], name("b")).await.unwrap();
    let held = Held::new(Store::open(host.disk.path()).unwrap(), empty.clone(), [name("a")]);
    for refused in [
        held.claim_unowned(vec![domain(1)], name("a")).await.map(drop),
        held.ownership(domain(1)).await.map(drop),
        held.step(domain(1), Epoch(1), OwnershipStep::Park { by: name("a") }).await.map(drop),
    ] {
        let fault = refused.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert!(fault.message.contains("this host has seen 2"), "{fault}");
    }
    assert_eq!(held.verify().await.unwrap(), [Ownership::owned(domain(2), Epoch(1), name("b"))], "what others have now is named");
    assert!(!may_run(&held, domain(2), "a").await);
}
