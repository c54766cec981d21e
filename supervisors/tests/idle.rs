//! Ten thousand machines of which nothing is asked: what they weigh, and that nothing at all runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use archipel_contract::{
    domain::DomainState,
    fake::{FakeClock, FakeHost, MemoryAuthority, MemoryDocuments, MemoryJournal, Recorder},
    port::Announcer,
};
use archipel_supervisors::tree::{Tree, start};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MACHINES: usize = 10_000;

/// Counts events and lets them go, as a link does that has sent them.
#[derive(Default)]
struct Count(AtomicUsize);

impl Announcer for Count {
    fn announce(&self, events: Vec<archipel_contract::Event>) {
        self.0.fetch_add(events.len(), Ordering::Relaxed);
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Processor time of all threads of this process.
fn worked() -> Duration {
    let of = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().flatten().map(of).sum())
}

/// Waits until half a second went by in which next to nothing was done: the start has its tail (memory is given back,
/// a thread of the store ends), which a busy machine draws out, so the first quiet window counts, not a certain one.
async fn rests() {
    let (mut before, begun) = (worked(), std::time::Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = worked();
        if now - before < Duration::from_millis(2) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it never rests: {:?} in the last half second", now - before);
        before = now;
    }
}

#[test]
fn ten_thousand_idle_machines_are_light_and_still() {
    actix::System::new().block_on(async {
        let fake = FakeHost::new("alpha");
        for n in 0..MACHINES {
            fake.add_domain(&format!("vm{n}"), DomainState::Running, true);
        }
        let before = resident();
        let (count, recorder) = (Arc::new(Count::default()), Arc::new(Recorder::default()));
        let tree = Tree {
            cell: "vm.localhost".parse().unwrap(),
            hosts: vec![(fake.host(), count.clone()), (FakeHost::new("beta").host(), recorder.clone())],
            authority: Arc::new(MemoryAuthority::default()),
            journal: Arc::new(MemoryJournal::default()),
            peers: Vec::new(),
            local: Arc::new(MemoryDocuments::default()),
            shelf: Arc::new(MemoryDocuments::default()),
            clock: Arc::new(FakeClock::default()),
            incarnation: 1,
        };
        let begun = std::time::Instant::now();
        let agent = start(tree).await.unwrap();
        let listed = async {
            while !agent.health().ok {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), listed).await.expect("everything is listed");
        let took = begun.elapsed();
        let inventory = agent.inventory_of(&"alpha".parse().unwrap()).unwrap();
        assert_eq!(inventory.entities().len(), MACHINES + 3);
        let each = resident().saturating_sub(before) / MACHINES;
        println!("{MACHINES} machines listed in {took:?}, {each} bytes each");
        assert!(each <= 4096, "{each} bytes for each idle machine");

        // Stillness is measured in real time, because processor time is. Then nothing is asked and nothing told either.
        rests().await;
        let (calls, told) = (fake.script.all_calls(), count.0.load(Ordering::Relaxed));
        rests().await;
        assert_eq!((fake.script.all_calls(), count.0.load(Ordering::Relaxed)), (calls, told));
        agent.shutdown().await;
    });
}
