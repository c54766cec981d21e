//! What an administrator looks at: `/metrics` and `/health`. Nothing here is measured unless somebody asks.

use crate::agent::{Agent, Glance};
use crate::cell::Seat;
use crate::config::Settings;
use archipel_contract::Timestamp;
use archipel_contract::port::Clock;
use archipel_contract::usage::Counters;
use archipel_ui::Health;
use prometheus::TextEncoder;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// Everything that can be asked how it is.
pub(crate) struct Admin {
    cell_name: String,
    roles: Vec<&'static str>,
    started: Timestamp,
    incarnation: u64,
    seat: Arc<Seat>,
    agent: Option<Arc<Agent>>,
    /// Whether reading the metrics counts as looking at what machines take.
    measures: bool,
}

impl Admin {
    pub(crate) fn new(settings: &Settings, clock: &dyn Clock, incarnation: u64, seat: Arc<Seat>, agent: Option<Arc<Agent>>) -> Admin {
        Admin {
            cell_name: settings.cell.to_string(),
            roles: settings.roles.names(),
            started: clock.now(),
            incarnation,
            seat,
            agent,
            measures: settings.usage.metrics,
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let cell = self.seat.cell();
        if let Some(cell) = &cell {
            cell.exchange.collect();
        }
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        let libvirt = archipel_libvirt::counters();
        let rows = [
            ("archipel_libvirt_calls_total", "counter", "Calls of libvirt", libvirt.calls as f64),
            ("archipel_libvirt_failures_total", "counter", "Calls of libvirt that failed", libvirt.failures as f64),
            ("archipel_libvirt_refused_total", "counter", "Requests refused because their queue was full", libvirt.refused as f64),
            ("archipel_libvirt_timeouts_total", "counter", "Requests whose caller was told timeout", libvirt.timeouts as f64),
            ("archipel_libvirt_connects_total", "counter", "Connections made to libvirt", libvirt.connects as f64),
            ("process_start_time_seconds", "gauge", "When the process started", self.started.0 as f64 / 1000.0),
        ];
        let frozen = cell.as_ref().is_some_and(|cell| cell.proof.is_frozen());
        let leading = [
            ("archipel_exchange_active", "gauge", "Whether this process serves the cell", f64::from(u8::from(cell.is_some()))),
            (
                "archipel_exchange_frozen",
                "gauge",
                "Whether it refuses changes, as it cannot prove that it leads",
                f64::from(u8::from(frozen)),
            ),
            ("archipel_exchange_terms_total", "counter", "How often it began to serve", self.seat.terms() as f64),
        ];
        for (name, kind, help, value) in rows.into_iter().chain(leading).chain(process()) {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        if let Some(agent) = &self.agent {
            machines(&mut text, &agent.glance(self.measures));
        }
        let labels = format!("version=\"{}\",cell=\"{}\"", env!("CARGO_PKG_VERSION"), self.cell_name);
        let _ = writeln!(text, "# HELP archipel_info What runs here\n# TYPE archipel_info gauge\narchipel_info{{{labels}}} 1");
        text
    }

    /// The body of `/health`.
    pub(crate) fn health(&self) -> Health {
        let mut reasons: Vec<String> = Vec::new();
        let cell = self.seat.cell();
        let frozen = cell.as_ref().is_some_and(|cell| cell.proof.is_frozen());
        match self.seat.trouble() {
            Some(fault) if frozen => reasons.push(format!("changes are frozen, as nothing proves that this exchange leads: {fault}")),
            None if frozen => reasons.push("changes are frozen until it is clear which exchange leads".to_owned()),
            Some(fault) if cell.is_none() => reasons.push(format!("this exchange cannot stand by: {fault}")),
            Some(_) | None => {}
        }
        reasons.extend(cell.iter().flat_map(|cell| cell.exchange.duplicates()));
        let hypervisors: Vec<Value> = self.agent.iter().flat_map(|agent| agent.hypervisors(&mut reasons)).collect();
        let mut details = json!({
            "healthy": reasons.is_empty(),
            "reasons": reasons,
            "version": env!("CARGO_PKG_VERSION"),
            "cell": self.cell_name,
            "roles": self.roles,
            "started": self.started,
            "incarnation": self.incarnation,
            "hypervisors": hypervisors,
            "restarts": self.agent.as_ref().map_or_else(|| json!([]), |agent| agent.restarts()),
        });
        if let Some(cell) = &cell {
            details["exchange"] = json!(cell.exchange.health());
            details["exchange"]["epoch"] = json!(cell.epoch);
            details["exchange"]["certificate"] = json!(cell.certificate);
            details["exchange"]["xmpp"] = json!(cell.address.to_string());
            details["exchange"]["role"] = json!("active");
            details["exchange"]["frozen"] = json!(frozen);
        } else if self.seat.is_shared() {
            details["exchange"] = json!({ "role": "standby", "active": self.seat.active() });
        }
        Health { healthy: reasons.is_empty(), details }
    }
}

/// What was measured last of the machines of this agent, as counters that only grow as long as a machine runs.
fn machines(text: &mut String, glances: &[Glance]) {
    type Of = fn(&Counters) -> Option<f64>;
    let rows: [(&str, &str, &str, Of); 7] = [
        ("archipel_domain_cpu_seconds_total", "counter", "Processor time of a machine", |c| c.cpu.map(|cpu| cpu.0 as f64 / 1e9)),
        ("archipel_domain_memory_bytes", "gauge", "Memory that the balloon leaves the guest", |c| c.memory.current.map(|b| b.0 as f64)),
        ("archipel_domain_memory_used_bytes", "gauge", "Memory that the guest uses, if it tells", |c| c.memory.used.map(|b| b.0 as f64)),
        ("archipel_domain_disk_read_bytes_total", "counter", "Read from its disks", |c| c.disk.map(|d| d.inward.0 as f64)),
        ("archipel_domain_disk_written_bytes_total", "counter", "Written to its disks", |c| c.disk.map(|d| d.outward.0 as f64)),
        ("archipel_domain_net_received_bytes_total", "counter", "Received by its network cards", |c| c.net.map(|n| n.inward.0 as f64)),
        ("archipel_domain_net_sent_bytes_total", "counter", "Sent by its network cards", |c| c.net.map(|n| n.outward.0 as f64)),
    ];
    if glances.is_empty() {
        return;
    }
    for (name, kind, help, of) in rows {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (glance, (id, counters)) in glances.iter().flat_map(|glance| glance.sample.machines.iter().map(move |m| (glance, m))) {
            let Some(value) = of(counters) else { continue };
            let machine = glance.names.get(id).map_or("", |name| name);
            let escaped = machine.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(text, "{name}{{host=\"{}\",domain=\"{id}\",name=\"{escaped}\"}} {value}", glance.host);
        }
    }
}

type Row = (&'static str, &'static str, &'static str, f64);

/// What the kernel knows of this process, under the names every Prometheus client uses.
fn process() -> Vec<Row> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |key: &str| -> Option<f64> { status.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok() };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program stands in parentheses and may hold anything; the numbers begin after it. Linux counts in 1/100 s.
    let after: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| after.get(index).and_then(|t| t.parse::<f64>().ok());
    let files = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count() as f64).ok();
    [
        ("process_resident_memory_bytes", "gauge", "Memory in use", number("VmRSS:").map(|kib| kib * 1024.0)),
        ("process_virtual_memory_bytes", "gauge", "Memory reserved", number("VmSize:").map(|kib| kib * 1024.0)),
        ("process_threads", "gauge", "Threads", number("Threads:")),
        ("process_open_fds", "gauge", "Open files and sockets", files),
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time used",
            ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / 100.0),
        ),
    ]
    .into_iter()
    .filter_map(|(name, kind, help, value)| Some((name, kind, help, value?)))
    .collect()
}
