//! What every pair of hypervisors must do with a machine that goes from one to the other: tell what it needs and what stands
//! in its way, move it once, and say afterwards, each for itself, where it is.
//!
//! The suite makes its machines itself, without disks, on two hosts that reach each other. A machine that takes long to be
//! moved is the business of whoever calls [`a_transfer_can_be_given_up`].

use super::{
    Probe,
    host::{kind_of, right, spec},
};
use crate::{
    Bytes, DomainId, FaultKind, Millis,
    domain::DomainState,
    host::{DomainChange, Host, HostChange},
    migration::{Obstacle, ObstacleKind, Passport, Standing, Way},
};
use std::task::Poll;
use std::time::Instant;

const SOON: Millis = Millis::seconds(20);
/// A machine nobody has.
const NOBODY: DomainId = DomainId(uuid::Uuid::from_u128(0xdead_0000_0000_4000_8000_0000_0000_0000));

async fn define(host: &Host, name: &str) -> DomainId {
    host.domains.define(spec(name), Vec::new()).await.expect("define")
}

/// Lets others go on once. The suite has no runtime of its own.
async fn breathe() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Asks again and again how a machine stands until it is as expected. There is no event for every step, hence the question.
pub async fn stands(host: &Host, id: DomainId, wanted: Standing) {
    let end = Instant::now() + SOON.duration();
    loop {
        let now = host.migration.standing(id).await.expect("standing");
        if now == wanted {
            return;
        }
        assert!(Instant::now() < end, "{id} stands {now:?} on {} and not {wanted:?}", host.name);
        breathe().await;
    }
}

fn watched(host: &Host) -> std::sync::Arc<Probe> {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    probe
}

async fn passport(host: &Host, id: DomainId) -> Passport {
    host.migration.passport(id).await.expect("passport")
}

async fn obstacles(host: &Host, passport: &Passport) -> Vec<Obstacle> {
    host.migration.obstacles(passport.clone(), trusting()).await.expect("obstacles")
}

fn trusting() -> Way {
    Way { trust_storage: true, ..Way::default() }
}

fn kinds(found: &[Obstacle]) -> Vec<ObstacleKind> {
    let worded = |o: &Obstacle| !o.message.is_empty() && !o.message.ends_with('.') && !o.message.starts_with(char::is_uppercase);
    assert!(found.iter().all(worded), "obstacles are told in lower case, without a full stop: {found:?}");
    found.iter().map(|o| o.kind).collect()
}

fn is_state(id: DomainId, state: DomainState, why: &'static str) -> impl Fn(&HostChange) -> bool {
    move |change| *change == HostChange::Domain(id, DomainChange::State(state, why))
}

/// A machine that is nowhere has no passport, moves nowhere, stands absent, and is forgotten without a word.
pub async fn absent_machine(host: &Host) {
    let port = &host.migration;
    assert_eq!(port.standing(NOBODY).await, Ok(Standing::Absent));
    assert_eq!(kind_of(port.passport(NOBODY).await), FaultKind::NotFound);
    assert_eq!(kind_of(port.progress(NOBODY).await), FaultKind::NotFound);
    assert_eq!(kind_of(port.cancel(NOBODY).await), FaultKind::NotFound);
    assert_eq!(kind_of(port.switch_to_post_copy(NOBODY).await), FaultKind::NotFound);
    let landing = port.landing().await.expect("landing");
    assert_eq!(kind_of(port.transfer(NOBODY, landing.clone(), Way::default()).await), FaultKind::NotFound);
    assert_eq!(kind_of(port.recover_post_copy(NOBODY, landing, Way::default()).await), FaultKind::NotFound);
    assert_eq!(port.discard(NOBODY).await, Ok(()));
}

/// A running machine goes there and comes back: its passport, the events of both sides, how it stands at each step.
pub async fn there_and_back(source: &Host, target: &Host, tag: &str) {
    let name = format!("travels-{tag}");
    let (from, to) = (watched(source), watched(target));
    let id = define(source, &name).await;
    source.domains.start(right(source, id), false).await.expect("start");
    stands(source, id, Standing::Here(DomainState::Running)).await;
    stands(target, id, Standing::Absent).await;
    assert_eq!(source.migration.progress(id).await, Ok(None), "nothing is under way");
    assert_eq!(kind_of(source.migration.cancel(id).await), FaultKind::WrongState);
    assert_eq!(kind_of(source.migration.switch_to_post_copy(id).await), FaultKind::WrongState);
    assert_eq!(kind_of(source.migration.discard(id).await), FaultKind::WrongState, "its guest is here");

    let needs = passport(source, id).await;
    assert_eq!((needs.domain, needs.name.as_str(), &needs.from), (id, name.as_str(), &source.name));
    assert_eq!((needs.state, needs.persistent, needs.memory, needs.vcpus), (DomainState::Running, true, Bytes::mib(16), 1));
    assert!(needs.definition.contains(&name) && needs.snapshots == 0);
    assert_eq!(obstacles(target, &needs).await, []);
    assert!(kinds(&obstacles(source, &needs).await).contains(&ObstacleKind::Itself));
    let room = target.migration.room().await.expect("room");
    assert!(room.cpus > 0 && room.memory_free > Bytes(0) && room.memory >= room.memory_free, "{room:?}");

    let landing = target.migration.landing().await.expect("landing");
    let (mut left, mut arrived) = (from.seen().len(), to.seen().len());
    let done = source.migration.transfer(id, landing, trusting()).await.expect("transfer");
    assert!(done.took.duration() <= SOON.duration());
    left = from.wait(left, SOON, "the end at the source", is_state(id, DomainState::Shutoff, "migrated"));
    arrived = to.wait(arrived, SOON, "the arrival", is_state(id, DomainState::Running, "migrated"));
    stands(source, id, Standing::Departed).await;
    stands(target, id, Standing::Here(DomainState::Running)).await;
    let read = target.domains.read(id).await.expect("read at the target");
    assert!(*read.name == *name && read.facts.persistent, "{read:?}");
    let again = source.migration.landing().await.expect("landing");
    assert_eq!(kind_of(source.migration.transfer(id, again.clone(), trusting()).await), FaultKind::WrongState, "it is not here any more");

    // Back to a host that still has the definition, which is no obstacle.
    let needs = passport(target, id).await;
    assert_eq!(needs.from, target.name);
    assert_eq!(obstacles(source, &needs).await, []);
    target.migration.transfer(id, again, trusting()).await.expect("transfer back");
    from.wait(left, SOON, "the return", is_state(id, DomainState::Running, "migrated"));
    to.wait(arrived, SOON, "the end at the target", is_state(id, DomainState::Shutoff, "migrated"));
    stands(source, id, Standing::Here(DomainState::Running)).await;
    stands(target, id, Standing::Departed).await;
    target.migration.discard(id).await.expect("discard");
    target.migration.discard(id).await.expect("discarding twice is discarding");
    stands(target, id, Standing::Absent).await;
    source.domains.force_off(id).await.expect("force-off");
    stands(source, id, Standing::Off(DomainState::Shutoff)).await;
    source.migration.discard(id).await.expect("discard at the source");
    stands(source, id, Standing::Absent).await;
}

/// A paused machine arrives paused.
pub async fn a_paused_machine_stays_paused(source: &Host, target: &Host, tag: &str) {
    let id = define(source, &format!("pauses-{tag}")).await;
    source.domains.start(right(source, id), true).await.expect("start paused");
    let landing = target.migration.landing().await.expect("landing");
    source.migration.transfer(id, landing, trusting()).await.expect("transfer");
    stands(source, id, Standing::Departed).await;
    stands(target, id, Standing::Here(DomainState::Paused)).await;
    target.domains.resume(id).await.expect("resume");
    stands(target, id, Standing::Here(DomainState::Running)).await;
    target.domains.force_off(id).await.expect("force-off");
    for host in [source, target] {
        host.migration.discard(id).await.expect("discard");
    }
}

/// A machine that is off travels as its definition: taken in under its own UUID, forgotten at the source.
pub async fn a_definition_travels(source: &Host, target: &Host, tag: &str) {
    let name = format!("rests-{tag}");
    let id = define(source, &name).await;
    let needs = passport(source, id).await;
    assert_eq!(needs.state, DomainState::Shutoff);
    assert_eq!(obstacles(target, &needs).await, []);
    let landing = target.migration.landing().await.expect("landing");
    assert_eq!(kind_of(source.migration.transfer(id, landing, trusting()).await), FaultKind::WrongState, "there is no guest to transfer");

    let port = &target.migration;
    assert_eq!(kind_of(port.define(NOBODY, needs.definition.clone()).await), FaultKind::InvalidRequest, "that is another machine");
    assert_eq!(kind_of(port.define(id, "no definition".into()).await), FaultKind::InvalidRequest);
    port.define(id, needs.definition.clone()).await.expect("define");
    stands(target, id, Standing::Off(DomainState::Shutoff)).await;
    port.define(id, needs.definition.clone()).await.expect("a definition that is there is replaced");
    assert_eq!(*target.domains.read(id).await.expect("read").name, *name);
    source.migration.discard(id).await.expect("discard");
    stands(source, id, Standing::Absent).await;

    target.domains.start(right(target, id), false).await.expect("start");
    assert_eq!(kind_of(port.define(id, needs.definition).await), FaultKind::WrongState, "it is active");
    assert_eq!(kind_of(port.discard(id).await), FaultKind::WrongState, "its guest is here");
    target.domains.force_off(id).await.expect("force-off");
    port.discard(id).await.expect("discard");
}

/// What stands in the way is told, all of it at once, and what was refused left nothing behind.
pub async fn obstacles_are_told_at_once(source: &Host, target: &Host, tag: &str) {
    let name = format!("clash-{tag}");
    let id = define(source, &name).await;
    let other = define(target, &name).await;
    source.domains.start(right(source, id), false).await.expect("start");
    let mut needs = passport(source, id).await;
    assert_eq!(kinds(&obstacles(target, &needs).await), [ObstacleKind::Name], "the name is another machine's");
    needs.networks = vec!["no-such-network".into()];
    needs.devices = vec!["pci 0000:00:1f.0".into()];
    needs.snapshots = 2;
    needs.memory = Bytes(u64::MAX / 4);
    let found = kinds(&obstacles(target, &needs).await);
    let wanted = [ObstacleKind::Name, ObstacleKind::Memory, ObstacleKind::Network, ObstacleKind::Device, ObstacleKind::Snapshot];
    assert_eq!(found, wanted, "everything at once, in one order");
    assert_eq!(kind_of(target.migration.define(id, needs.definition.clone()).await), FaultKind::Conflict);

    let landing = target.migration.landing().await.expect("landing");
    source.migration.transfer(id, landing, trusting()).await.expect_err("the name is taken");
    stands(source, id, Standing::Here(DomainState::Running)).await;
    stands(target, id, Standing::Absent).await;
    target.migration.discard(other).await.expect("discard the other");
    source.domains.force_off(id).await.expect("force-off");
    source.migration.discard(id).await.expect("discard");
}

/// A machine that runs on the source and whose memory changes faster than `way` sends it: the transfer is seen, its figures make
/// sense, and it can be given up. Then the machine is where it was, and nothing of it is on the target.
pub async fn a_transfer_can_be_given_up(source: &Host, target: &Host, id: DomainId, way: Way) {
    let landing = target.migration.landing().await.expect("landing");
    let transfer = source.migration.transfer(id, landing.clone(), way.clone());
    let giving_up = async {
        let end = Instant::now() + SOON.duration();
        let seen = loop {
            if let Some(seen) = source.migration.progress(id).await.expect("progress")
                && seen.total > Bytes(0)
            {
                break seen;
            }
            assert!(Instant::now() < end, "the transfer is not seen");
            breathe().await;
        };
        assert!(!seen.post_copy && seen.remaining <= seen.total, "{seen:?}");
        assert!(seen.percent().is_some_and(|p| p < 100), "{seen:?}");
        stands(source, id, Standing::Leaving).await;
        stands(target, id, Standing::Arriving).await;
        assert_eq!(kind_of(target.migration.discard(id).await), FaultKind::WrongState, "a QEMU waits there");
        source.migration.cancel(id).await.expect("cancel");
    };
    let (answer, ()) = both(transfer, giving_up).await;
    answer.expect_err("it was given up");
    stands(source, id, Standing::Here(DomainState::Running)).await;
    stands(target, id, Standing::Absent).await;
    assert_eq!(source.migration.progress(id).await, Ok(None));
    assert_eq!(kind_of(source.migration.cancel(id).await), FaultKind::WrongState, "nothing is under way");
}

/// Both at once, without a runtime of ours. The first is begun first.
pub async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut x, mut y) = (None, None);
    std::future::poll_fn(|context| {
        if x.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            x = Some(value);
        }
        if y.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            y = Some(value);
        }
        if x.is_some() && y.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match (x, y) {
        (Some(x), Some(y)) => (x, y),
        _ => unreachable!("both are ready"),
    }
}
