//! What every hypervisor must count: its active machines and no other, each run by itself.

use super::host::{right, spec};
use crate::{
    DomainId,
    host::Host,
    usage::{Counters, Sample},
};

async fn sample(host: &Host) -> Sample {
    host.usage.sample().await.expect("a sample")
}

fn of(sample: &Sample, id: DomainId) -> Option<Counters> {
    sample.machines.iter().find(|(other, _)| *other == id).map(|(_, counters)| *counters)
}

/// A machine is counted while it is active, its counters only grow, and its next run is another one.
pub async fn counters_of_a_machine(host: &Host, tag: &str) {
    let id = host.domains.define(spec(&format!("counted-{tag}")), Vec::new()).await.expect("define");
    assert_eq!(of(&sample(host).await, id), None, "one that is off takes nothing");
    host.domains.start(right(host, id), false).await.expect("start");
    let (first, second) = (sample(host).await, sample(host).await);
    assert!(second.at >= first.at, "time went back from {:?} to {:?}", first.at, second.at);
    let (before, after) = (of(&first, id).expect("it is active"), of(&second, id).expect("it is still active"));
    assert_eq!(before.run, after.run);
    assert!(after.cpu >= before.cpu, "{before:?} {after:?}");
    for (before, after) in [(before.disk, after.disk), (before.net, after.net)] {
        assert!(before.zip(after).is_none_or(|(b, a)| a.inward >= b.inward && a.outward >= b.outward), "{before:?} {after:?}");
    }
    assert!(first.host.cpus > 0, "a host has processors");
    assert!(second.host.busy >= first.host.busy && second.host.total >= first.host.total, "{:?} {:?}", first.host, second.host);
    host.domains.force_off(id).await.expect("force-off");
    assert_eq!(of(&sample(host).await, id), None);
    host.domains.start(right(host, id), false).await.expect("start again");
    assert_ne!(of(&sample(host).await, id).expect("it is active again").run, before.run);
    host.domains.force_off(id).await.expect("force-off again");
    host.domains.undefine(id).await.expect("undefine");
}
