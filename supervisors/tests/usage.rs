//! Measuring: only while somebody looks, one call for each sample, and once every five minutes for the history. On a paused clock, which
//! goes on by itself when nobody has anything to do: minutes cost nothing, and what happens in them is exact.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use archipel_contract::{
    Caller, DomainId, EntityId, Fault, FaultKind, OperationId, Role,
    domain::DomainState,
    fake::{FakeClock, FakeHost, MemoryAuthority, MemoryDocuments, MemoryJournal, Recorder},
    port::{Address, Request},
    usage::MilliCpu,
};
use archipel_supervisors::tree::{Agent, Tree, start_on};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

struct Lab {
    fake: Arc<FakeHost>,
    agent: Agent,
    web: DomainId,
}

impl Lab {
    fn samples(&self) -> u64 {
        self.fake.script.calls("usage.sample")
    }

    async fn ask(&self, id: impl Into<EntityId>, command: &str) -> Result<Value, Fault> {
        let caller = Caller { jid: "admin@vm.localhost/web".into(), role: Role::Viewer, operation: OperationId::fresh() };
        let request = Request { target: Address::Entity(id.into()), command: command.into(), arguments: json!({}), caller };
        self.agent.dispatcher().call(request).await
    }

    async fn wait(&self, state: DomainState) {
        while self.agent.inventory().entities().iter().all(|e| e.domain().is_none_or(|d| d.state != state)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn hv() -> EntityId {
    "hv.alpha".parse().unwrap()
}

fn minutes(n: u64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs(60 * n))
}

/// A host with one running machine.
fn story(keeps_history: bool, test: impl AsyncFnOnce(&Lab)) {
    let paused = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix::System::with_tokio_rt(paused).block_on(async {
        let fake = FakeHost::new("alpha");
        let web = fake.add_domain("web1", DomainState::Running, true);
        let tree = Tree {
            cell: "vm.localhost".parse().unwrap(),
            hosts: vec![(fake.host(), Arc::new(Recorder::default()))],
            authority: Arc::new(MemoryAuthority::default()),
            journal: Arc::new(MemoryJournal::default()),
            peers: Vec::new(),
            local: Arc::new(MemoryDocuments::default()),
            shelf: Arc::new(MemoryDocuments::default()),
            clock: Arc::new(FakeClock::default()),
            incarnation: 1,
        };
        let agent = start_on(tree, actix::Arbiter::current(), keeps_history).await.unwrap();
        let lab = Lab { fake, agent, web };
        lab.wait(DomainState::Running).await;
        test(&lab).await;
        lab.agent.shutdown().await;
    });
}

#[test]
fn nothing_is_measured_while_nobody_looks() {
    story(false, async |lab| {
        minutes(60).await;
        assert_eq!(lab.samples(), 0);
    });
}

#[test]
fn whoever_looks_is_shown_figures_until_they_look_away() {
    story(false, async |lab| {
        lab.fake.works(lab.web, MilliCpu(1000));
        let figures = lab.agent.figures_of(&"alpha".parse().unwrap()).unwrap();
        let (mut one, mut two) = (figures.look(), figures.look());
        let began = tokio::time::Instant::now();
        let reading = one.next().await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1, "the first figures come soon");
        assert_eq!(reading.machines[&lab.web].cpu, Some(MilliCpu(1000)));
        assert_eq!(reading.host.unwrap().cpus, 8);
        assert_eq!(two.next().await.unwrap(), reading, "all see the same");
        // However many look, one sample every other second.
        let before = lab.samples();
        minutes(1).await;
        let made = lab.samples() - before;
        assert!((29..=30).contains(&made), "{made} samples in a minute");
        assert!(one.next().await.unwrap().machines[&lab.web].disk_written.is_some(), "the newest, and no queue of older ones");
        drop(one);
        minutes(1).await;
        assert!(lab.samples() - before > 50, "somebody looks still");
        drop(two);
        let last = lab.samples();
        minutes(60).await;
        assert_eq!(lab.samples(), last, "nobody looks any more");
    });
}

#[test]
fn a_question_costs_two_samples_and_none_if_somebody_looks() {
    story(false, async |lab| {
        let told = lab.ask(lab.web, "domain.usage").await.unwrap();
        assert_eq!((told["cpu"].as_u64(), told["disk_read"].as_u64(), told["net_sent"].as_u64()), (Some(100), Some(4096), None), "{told}");
        assert_eq!(lab.samples(), 2);
        let host = lab.ask(hv(), "hypervisor.usage").await.unwrap();
        assert_eq!((host["machines"][0]["name"].as_str(), host["disk_written"].as_u64()), (Some("web1"), Some(8192)), "{host}");
        assert_eq!((host["cpus"].as_u64(), host["memory_used"].as_u64()), (Some(8), Some(8 << 30)), "{host}");
        assert_eq!(lab.samples(), 4, "the figures of before are not of now");
        let figures = lab.agent.figures_of(&"alpha".parse().unwrap()).unwrap();
        let mut look = figures.look();
        look.next().await.unwrap();
        let before = lab.samples();
        lab.ask(lab.web, "domain.usage").await.unwrap();
        assert_eq!(lab.samples(), before);
    });
}

#[test]
fn one_that_is_off_and_one_that_cannot_be_measured_say_so() {
    story(false, async |lab| {
        lab.fake.script.fail("usage.sample", 1, Fault::unavailable("libvirt is busy"));
        assert_eq!(lab.ask(hv(), "hypervisor.usage").await.unwrap_err().kind, FaultKind::Unavailable);
        lab.fake.enter(lab.web, DomainState::Shutoff, "shutdown");
        lab.wait(DomainState::Shutoff).await;
        let fault = lab.ask(lab.web, "domain.usage").await.unwrap_err();
        assert!(fault.kind == FaultKind::WrongState && fault.message.contains("is off"), "{fault}");
    });
}

#[test]
fn the_history_grows_every_five_minutes_and_costs_nothing_while_nothing_runs() {
    story(true, async |lab| {
        lab.fake.works(lab.web, MilliCpu(250));
        minutes(16).await;
        assert_eq!(lab.samples(), 3);
        let points = lab.ask(lab.web, "domain.usage-history").await.unwrap();
        let cpus: Vec<_> = points.as_array().unwrap().iter().map(|p| p["cpu"].as_u64()).collect();
        assert_eq!(cpus, [None, Some(250), Some(250)], "the first five minutes have nothing to be compared with");
        lab.fake.enter(lab.web, DomainState::Shutoff, "shutdown");
        lab.wait(DomainState::Shutoff).await;
        minutes(60).await;
        assert_eq!(lab.samples(), 3, "nothing runs");
        let points = lab.ask(lab.web, "domain.usage-history").await.unwrap();
        assert_eq!((points.as_array().unwrap().len(), points[14]["cpu"].as_u64()), (15, None), "the time goes on");
        assert_eq!(lab.ask(hv(), "hypervisor.usage-history").await.unwrap().as_array().unwrap().len(), 15);
    });
}

#[test]
fn whoever_looks_pays_for_the_history_too() {
    story(true, async |lab| {
        let figures = lab.agent.figures_of(&"alpha".parse().unwrap()).unwrap();
        let look = figures.look();
        minutes(16).await;
        let (samples, points) = (lab.samples(), lab.ask(lab.web, "domain.usage-history").await.unwrap());
        assert!(samples <= 16 * 30 + 2, "{samples} samples in 16 minutes: the history made some of its own");
        assert_eq!(points.as_array().unwrap().iter().filter(|p| p["cpu"].as_u64() == Some(100)).count(), 3, "{points}");
        drop(look);
    });
}

#[test]
fn a_glance_shows_what_is_there_and_has_it_measured_for_the_next() {
    story(false, async |lab| {
        assert_eq!(lab.agent.glance(false).len(), 0);
        assert_eq!(lab.agent.glance(true).len(), 0);
        minutes(1).await;
        assert_eq!((lab.agent.glance(false)[0].1.machines.len(), lab.samples()), (1, 1));
        minutes(60).await;
        assert_eq!((lab.agent.glance(false).len(), lab.samples()), (0, 1), "what is old is not shown");
    });
}
