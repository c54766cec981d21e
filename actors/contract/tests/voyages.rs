//! How machines travel between fakes: libvirt's order of events, and what each break of the failure table leaves behind.
#![cfg(feature = "fake")]
#![allow(clippy::unwrap_used)] // A fault where none was expected is a failed test.

use archipel_contract::{
    DomainId, Fault, FaultKind, Ownership,
    conformance::Probe,
    domain::{DomainPort, DomainState},
    fake::{FakeHost, FakeLan},
    host::{DomainChange, HostChange, HostLink},
    migration::{MigrationPort, ObstacleKind, Standing, Transferred, Way},
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited although nothing was held"),
    }
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<Transferred, Fault>> + Send + 'a>>;

fn look(call: &mut Call<'_>) -> Option<Result<Transferred, Fault>> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

const RUNNING: Standing = Standing::Here(DomainState::Running);
const PAUSED: Standing = Standing::Here(DomainState::Paused);

struct Two {
    a: Arc<FakeHost>,
    b: Arc<FakeHost>,
    lan: Arc<FakeLan>,
    web: DomainId,
}

fn two() -> Two {
    let (a, b) = (FakeHost::new("a"), FakeHost::new("b"));
    let lan = FakeLan::of(&[&a, &b]);
    let web = a.add_domain("web", DomainState::Running, true);
    Two { a, b, lan, web }
}

impl Two {
    fn go(&self, way: Way) -> Call<'_> {
        let to = now(self.b.landing()).unwrap();
        self.a.transfer(self.web, to, way)
    }
    fn standings(&self) -> (Standing, Standing) {
        (self.a.really(self.web), self.b.really(self.web))
    }
    /// Begins and stops before the step of that name.
    fn held_at(&self, step: &str, way: Way) -> Call<'_> {
        self.a.script.hold(step, "");
        let mut call = self.go(way);
        assert!(look(&mut call).is_none(), "{step} is not held");
        call
    }
}

fn told(probe: &Probe, id: DomainId) -> Vec<String> {
    let changes = probe.seen().into_iter().filter_map(|c| match c {
        HostChange::Domain(d, change) if d == id => Some(match change {
            DomainChange::State(state, reason) => format!("{} {reason}", state.name()),
            DomainChange::Appeared(word) => format!("appeared {word}"),
            DomainChange::Defined(word) => format!("defined {word}"),
            DomainChange::Job(word) => word.to_string(),
            DomainChange::Undefined => "undefined".into(),
            other => format!("{other:?}"),
        }),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_machine_travels_in_libvirts_order_of_events() {
    let t = two();
    let (at_a, at_b) = (Probe::new(), Probe::new());
    t.a.watch(at_a.clone());
    t.b.watch(at_b.clone());
    now(t.go(Way::default())).unwrap();
    assert_eq!(told(&at_a, t.web), ["migration pass 1", "migration pass 2", "paused migration", "shutoff migrated", "migration completed"]);
    assert_eq!(told(&at_b, t.web), ["appeared migrated", "defined added", "running migrated"]);
    assert_eq!(t.standings(), (Standing::Departed, RUNNING));
    assert!(t.b.domain(t.web).unwrap().facts.persistent && t.a.domain(t.web).unwrap().facts.persistent);
    assert!(t.a.unfinished().is_empty() && t.b.unfinished().is_empty());
}

#[test]
fn each_step_shows_where_the_machine_is() {
    for (step, a, b) in [
        ("migration.prepare", Standing::Leaving, Standing::Absent),
        ("migration.copy", Standing::Leaving, Standing::Arriving),
        ("migration.switch", Standing::Leaving, Standing::Arriving),
        ("migration.finish", Standing::Leaving, Standing::Arriving),
        ("migration.confirm", Standing::Leaving, RUNNING),
        ("migration.answer", Standing::Departed, RUNNING),
    ] {
        let t = two();
        let mut call = t.held_at(step, Way::default());
        assert_eq!(t.standings(), (a, b), "{step}");
        assert_eq!(usize::from(t.a.executes(t.web)) + usize::from(t.b.executes(t.web)), usize::from(step != "migration.finish"), "{step}");
        t.a.script.release();
        assert!(look(&mut call).is_some_and(|r| r.is_ok()), "{step}");
        assert_eq!(t.standings(), (Standing::Departed, RUNNING), "{step}");
    }
}

#[test]
fn a_transfer_goes_on_when_nobody_waits_for_it_any_more() {
    let t = two();
    drop(t.held_at("migration.copy", Way::default()));
    assert!(now(t.a.progress(t.web)).unwrap().is_some());
    t.a.script.release();
    assert_eq!(t.standings(), (Standing::Departed, RUNNING));
    assert!(now(t.a.progress(t.web)).unwrap().is_none());
}

#[test]
fn breaks_before_the_hand_over_leave_it_at_the_source() {
    type Break = (&'static str, fn(&Two), Standing);
    let breaks: [Break; 7] = [
        ("A the target's QEMU is killed", |t| t.b.enter(t.web, DomainState::Shutoff, "crashed"), Standing::Absent),
        ("B the target's libvirt is killed", |t| t.b.libvirt_dies(), Standing::Arriving),
        ("C the source's libvirt is killed", |t| t.a.libvirt_dies(), Standing::Absent),
        ("E the link is cut", |t| t.lan.cut("a", "b"), Standing::Absent),
        ("J it is cancelled", |t| now(t.a.cancel(t.web)).unwrap(), Standing::Absent),
        ("a step fails", |_| {}, Standing::Absent),
        ("the power is cut over there", |t| now(t.b.force_off(t.web)).unwrap(), Standing::Absent),
    ];
    for (name, cause, left) in breaks {
        for step in ["migration.copy", "migration.switch", "migration.finish"] {
            let t = two();
            t.a.script.fail(step, 1, Fault::internal("operation failed: it broke"));
            let mut call = t.held_at(step, Way::default());
            cause(&t);
            if name == "a step fails" {
                t.a.script.release();
            }
            assert!(look(&mut call).is_some_and(|r| r.is_err()), "{name} at {step}");
            assert_eq!(t.b.really(t.web), left, "{name} at {step}");
            t.b.libvirt_restarts();
            t.a.libvirt_restarts();
            assert_eq!(t.standings(), (RUNNING, Standing::Absent), "{name} at {step}");
            assert!(t.a.unfinished().is_empty() && t.b.unfinished().is_empty(), "{name} at {step}");
        }
    }
}

#[test]
fn the_source_dying_loses_the_guest_and_nothing_else() {
    let t = two();
    let mut call = t.held_at("migration.copy", Way::default());
    t.a.enter(t.web, DomainState::Crashed, "panicked");
    assert!(look(&mut call).is_some_and(|r| r.is_err()));
    assert_eq!(t.standings(), (Standing::Off(DomainState::Crashed), Standing::Absent));
}

#[test]
fn libvirt_may_lie_about_a_machine_that_moved() {
    let t = two();
    t.a.script.fail("migration.answer", 1, Fault::unavailable("client socket is closed"));
    assert!(now(t.go(Way::default())).is_err());
    assert_eq!(t.standings(), (Standing::Departed, RUNNING));

    let t = two();
    let mut call = t.held_at("migration.copy", Way::default());
    t.a.lose("reset");
    assert!(look(&mut call).is_some_and(|r| r.is_err_and(|f| f.kind == FaultKind::Unavailable)));
    assert!(t.a.executes(t.web));
    t.a.script.release();
    assert_eq!(t.standings(), (Standing::Departed, RUNNING), "our connection is not libvirt's");
}

#[test]
fn a_source_that_does_not_know_the_end_keeps_its_guest_standing_still() {
    for broken in [true, false] {
        let t = two();
        t.a.script.fail("migration.confirm", 1, Fault::unavailable("no answer to finish"));
        let mut call = t.held_at("migration.confirm", Way::default());
        if broken {
            t.a.libvirt_dies();
        } else {
            t.a.script.release();
        }
        assert!(look(&mut call).is_some_and(|r| r.is_err()));
        t.a.libvirt_restarts();
        assert_eq!(t.standings(), (PAUSED, RUNNING));
    }
}

#[test]
fn a_machine_that_arrives_cannot_be_started_or_resumed() {
    let t = two();
    let _call = t.held_at("migration.finish", Way::default());
    assert_eq!(now(t.b.resume(t.web)).unwrap_err().kind, FaultKind::Busy);
    assert_eq!(now(t.a.resume(t.web)).unwrap_err().kind, FaultKind::Busy);
    let name = "b".parse().unwrap();
    let right = Ownership::owned(t.web, archipel_contract::Epoch(2), name).right_to_run(&"b".parse().unwrap()).unwrap();
    assert_eq!(now(t.b.start(right, false)).unwrap_err().kind, FaultKind::WrongState);
    assert_eq!(now(t.a.transfer(t.web, now(t.b.landing()).unwrap(), Way::default())).unwrap_err().kind, FaultKind::Busy);
}

#[test]
fn a_definition_that_was_there_is_there_again_after_a_failure() {
    let t = two();
    now(t.go(Way::default())).unwrap();
    let back = now(t.a.landing()).unwrap();
    t.b.script.fail("migration.switch", 1, Fault::internal("it broke"));
    assert!(now(t.b.transfer(t.web, back.clone(), Way::default())).is_err());
    assert_eq!(t.standings(), (Standing::Off(DomainState::Shutoff), RUNNING));
    now(t.b.transfer(t.web, back, Way::default())).unwrap();
    assert_eq!(t.standings(), (RUNNING, Standing::Departed));
}

#[test]
fn a_paused_machine_arrives_paused() {
    let t = two();
    now(t.a.pause(t.web)).unwrap();
    now(t.go(Way::default())).unwrap();
    assert_eq!(t.standings(), (Standing::Departed, PAUSED));
}

#[test]
fn post_copy_that_breaks_is_mended_while_the_target_lives() {
    let way = Way { post_copy: true, ..Way::default() };
    let t = two();
    assert_eq!(now(t.a.switch_to_post_copy(t.web)).unwrap_err().kind, FaultKind::WrongState);
    let mut call = t.held_at("migration.copy", way.clone());
    t.a.script.hold("migration.pages", "");
    now(t.a.switch_to_post_copy(t.web)).unwrap();
    assert_eq!(t.standings(), (Standing::Leaving, RUNNING));
    assert!(t.b.executes(t.web) && !t.a.executes(t.web));
    t.lan.cut("a", "b");
    assert!(look(&mut call).is_some_and(|r| r.is_err()));
    assert_eq!(t.standings(), (Standing::Split, RUNNING));
    let to = now(t.b.landing()).unwrap();
    assert!(now(t.a.recover_post_copy(t.web, to.clone(), way.clone())).is_err(), "the link is cut");
    t.lan.heal("a", "b");
    now(t.a.recover_post_copy(t.web, to, way)).unwrap();
    assert_eq!(t.standings(), (Standing::Departed, RUNNING));
    assert!(t.a.unfinished().is_empty());
}

#[test]
fn post_copy_whose_target_dies_costs_the_guest() {
    let t = two();
    let way = Way { post_copy: true, ..Way::default() };
    let mut call = t.held_at("migration.copy", way.clone());
    t.a.script.hold("migration.pages", "");
    now(t.a.switch_to_post_copy(t.web)).unwrap();
    t.b.enter(t.web, DomainState::Shutoff, "crashed");
    assert!(look(&mut call).is_some_and(|r| r.is_err()));
    assert_eq!(t.standings(), (Standing::Split, Standing::Off(DomainState::Shutoff)));
    assert!(now(t.a.recover_post_copy(t.web, now(t.b.landing()).unwrap(), way)).is_err());
}

#[test]
fn all_obstacles_are_told_at_once() {
    let t = two();
    t.b.add_domain("web", DomainState::Shutoff, true);
    t.a.needs(t.web, |n| {
        n.networks.push("dmz".into());
        n.disks[0].source = "/elsewhere/web.qcow2".into();
        n.devices.push("pci_0000_01_00_0".into());
        n.snapshots = 2;
    });
    t.b.set_memory(archipel_contract::Bytes::MIB);
    let passport = now(t.a.passport(t.web)).unwrap();
    let kinds = |host: &FakeHost| -> Vec<ObstacleKind> {
        now(host.obstacles(passport.clone(), Way::default())).unwrap().iter().map(|o| o.kind).collect()
    };
    use ObstacleKind as K;
    assert_eq!(kinds(&t.b), [K::Name, K::Memory, K::Disk, K::Network, K::Device, K::Snapshot]);
    assert_eq!(kinds(&t.a), [K::Itself]);
}

#[test]
fn a_definition_travels_alone() {
    let t = two();
    let off = t.a.add_domain("off", DomainState::Shutoff, true);
    now(t.a.set_note(off, Some("#shop".into()))).unwrap();
    let passport = now(t.a.passport(off)).unwrap();
    now(MigrationPort::define(&*t.b, off, passport.definition.clone())).unwrap();
    assert_eq!(t.b.domain(off).unwrap().facts, t.a.domain(off).unwrap().facts);
    assert_eq!(now(MigrationPort::define(&*t.a, t.web, passport.definition)).unwrap_err().kind, FaultKind::InvalidRequest);
    now(t.a.discard(off)).unwrap();
    now(t.a.discard(off)).unwrap();
    assert_eq!(t.standings_of(off), (Standing::Absent, Standing::Off(DomainState::Shutoff)));
    assert_eq!(now(t.a.discard(t.web)).unwrap_err().kind, FaultKind::WrongState);
}

impl Two {
    fn standings_of(&self, id: DomainId) -> (Standing, Standing) {
        (self.a.really(id), self.b.really(id))
    }
}
