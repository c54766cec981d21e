//! What the machines of the fake hypervisor take: between two samples a second goes by, whatever the clock says, in which each active
//! machine works as much as it was told to.

use super::host::FakeHost;
use crate::{
    BoxFuture, Bytes, DomainId, Fault, Millis,
    usage::{Counters, CpuTime, HostCounters, MemoryNow, MilliCpu, Sample, Traffic, UsagePort},
};
use std::collections::BTreeMap;

/// How busy a machine is that was told nothing.
const USUAL: MilliCpu = MilliCpu(100);

/// What was counted so far.
#[derive(Default)]
pub(super) struct Meters {
    seconds: u64,
    runs: i64,
    busy: BTreeMap<DomainId, MilliCpu>,
    machines: BTreeMap<DomainId, Counters>,
}

impl Meters {
    /// The run of a machine ends.
    pub(super) fn stop(&mut self, id: DomainId) {
        self.machines.remove(&id);
    }
}

impl FakeHost {
    /// From now on this machine works so much.
    pub fn works(&self, id: DomainId, busy: MilliCpu) {
        super::lock(&self.model).meters.busy.insert(id, busy);
    }
}

impl UsagePort for FakeHost {
    fn sample(&self) -> BoxFuture<'_, Result<Sample, Fault>> {
        self.call("usage.sample", String::new(), |model| {
            let meters = &mut model.meters;
            meters.seconds += 1;
            let active = model.domains.values().filter(|d| d.facts.state.is_active());
            let mut machines = Vec::new();
            for machine in active {
                let (runs, busy) = (&mut meters.runs, meters.busy.get(&machine.id).copied().unwrap_or(USUAL));
                let counters = meters.machines.entry(machine.id).or_insert_with(|| {
                    *runs += 1;
                    Counters { run: *runs, cpu: Some(CpuTime(0)), disk: Some(Traffic::default()), ..Counters::default() }
                });
                if let Some(cpu) = &mut counters.cpu {
                    cpu.0 += busy.0 * 1_000_000;
                }
                if let Some(disk) = &mut counters.disk {
                    disk.inward.0 += 4096;
                    disk.outward.0 += 8192;
                }
                counters.memory = MemoryNow {
                    current: Some(machine.facts.memory),
                    maximum: Some(machine.facts.memory),
                    used: Some(Bytes(machine.facts.memory.0 / 2)),
                    resident: Some(machine.facts.memory),
                };
                machines.push((machine.id, *counters));
            }
            let second = 1_000_000_000 * meters.seconds;
            let host = HostCounters {
                cpus: 8,
                busy: Some(CpuTime(second)),
                total: Some(CpuTime(second * 8)),
                memory: Some(model.memory),
                available: Some(Bytes(model.memory.0 / 2)),
            };
            Ok(Sample { at: Millis::seconds(meters.seconds), host, machines })
        })
    }
}
