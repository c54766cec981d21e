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

/// Processor time of this process, in clock ticks.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
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

        // Stillness is measured in real time, because processor time is: half a second without a tick is as telling as 60 s.
        // This is the one place where a test waits for a time: there is no condition for "nothing happens".
        let (calls, told, worked) = (fake.script.all_calls(), count.0.load(Ordering::Relaxed), ticks());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let worked_late = ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(ticks(), worked_late, "nothing runs (it was at {worked} before it came to rest)");
        assert_eq!((fake.script.all_calls(), count.0.load(Ordering::Relaxed)), (calls, told));
        agent.shutdown().await;
    });
}
