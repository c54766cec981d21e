//! What machines take, live: told by the cell every other second for as long as this looks.

use crate::follow::say;
use crate::output::{self, Style};
use archipel_contract::{CellName, DomainId, Fault, FaultKind, HypervisorName, usage::Frame};
use archipel_xmpp::client::{Client, DEADLINE, Happening, Incoming};
use archipel_xmpp::stanza::{IqKind, usage};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IsTerminal, Write};

/// What is known, by host.
#[derive(Default)]
struct Table {
    hosts: BTreeMap<HypervisorName, Seen>,
    names: HashMap<DomainId, String>,
}

#[derive(Default)]
struct Seen {
    host: Value,
    machines: BTreeMap<DomainId, Value>,
}

impl Table {
    /// Takes a frame and answers which machines have no name here.
    fn take(&mut self, frame: &Frame) -> bool {
        let seen = self.hosts.entry(frame.host.clone()).or_default();
        seen.host = json!(frame.node);
        for (id, usage) in &frame.machines {
            match usage {
                Some(usage) => seen.machines.insert(*id, json!(usage)),
                None => seen.machines.remove(id),
            };
        }
        seen.machines.keys().any(|id| !self.names.contains_key(id))
    }

    /// Every machine as a row, the busiest first; the hosts before them.
    fn rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        let cpu = |row: &Value| row["cpu"].as_u64();
        let row = |host: &HypervisorName, name: &str, usage: &Value| {
            let mut row = usage.clone();
            row["name"] = json!(name);
            row["host"] = json!(host);
            row
        };
        for (host, seen) in &self.hosts {
            let named = seen.machines.iter().map(|(id, usage)| {
                let mut row = row(host, self.names.get(id).map_or("?", String::as_str), usage);
                row["id"] = json!(id);
                row
            });
            rows.extend(named);
        }
        rows.sort_by(|a, b| cpu(b).cmp(&cpu(a)).then_with(|| a["name"].as_str().cmp(&b["name"].as_str())));
        let hosts = self.hosts.iter().filter(|(_, seen)| seen.host.is_object());
        hosts.map(|(host, seen)| row(host, &format!("({host})"), &seen.host)).chain(rows).collect()
    }

    fn show(&self, frame: &Frame, style: Style) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        if style.json {
            let machines: Vec<Value> =
                self.rows().into_iter().filter(|row| row.get("id").is_some() && row["host"] == json!(frame.host)).collect();
            writeln!(out, "{}", json!({ "host": frame.host, "at": frame.at, "node": frame.node, "machines": machines }))?;
            return out.flush();
        }
        if io::stdout().is_terminal() {
            // From the top left, as `top` does.
            write!(out, "\u{1b}[H\u{1b}[2J")?;
        }
        output::table(&mut out, "top", &self.rows(), style)?;
        if !io::stdout().is_terminal() {
            writeln!(out)?;
        }
        out.flush()
    }
}

/// Looks until interrupted, or so many times.
pub(crate) async fn look(
    client: &Client,
    mut incoming: Incoming,
    cell: &CellName,
    host: Option<HypervisorName>,
    count: Option<u64>,
    style: Style,
) -> Result<(), Fault> {
    let mut table = Table::default();
    let hosts: BTreeSet<HypervisorName> = host.into_iter().collect();
    let mut shown = 0;
    while let Some(happening) = incoming.recv().await {
        match happening {
            Happening::Online { resumed: true, .. } => {}
            Happening::Online { resumed: false, .. } => {
                table.hosts.clear();
                let watch = usage::Ask::Watch(hosts.clone()).print();
                match client.request(IqKind::Set, Some(cell.as_str()), watch, DEADLINE).await {
                    // Another connection follows.
                    Err(fault) if fault.kind == FaultKind::Unavailable => {}
                    other => drop(other?),
                }
            }
            Happening::Offline(fault) if fault.kind == FaultKind::Forbidden => return Err(fault),
            Happening::Offline(fault) => say(&format!("{fault}; trying again")),
            Happening::Stanza(stanza) if stanza.attr("from") == Some(cell.as_str()) => {
                let Some(frame) = usage::pushed(&stanza) else { continue };
                let frame = frame?;
                if table.take(&frame) {
                    // A machine that was not here when this began, or this is the beginning.
                    let all = client.snapshot(cell.as_str()).await?;
                    table.names = all.iter().filter_map(|e| Some((e.id.domain()?, e.name.to_string()))).collect();
                }
                if frame.more {
                    continue;
                }
                match table.show(&frame, style) {
                    Ok(()) => {}
                    // Whoever read has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(Fault::internal("the output cannot be written").because(error)),
                }
                shown += 1;
                if count == Some(shown) {
                    return Ok(());
                }
            }
            Happening::Stanza(_) => {}
        }
    }
    Err(Fault::unavailable("the connection was closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::usage::{DomainUsage, HostUsage, MilliCpu};
    use uuid::Uuid;

    fn frame(host: &str, machines: &[(u128, Option<u64>)]) -> Frame {
        let usage = |cpu| DomainUsage { cpu: Some(MilliCpu(cpu)), ..DomainUsage::default() };
        Frame {
            host: host.parse().unwrap(),
            at: Default::default(),
            node: Some(HostUsage { cpus: 2, cpu: Some(MilliCpu(9)), ..HostUsage::default() }),
            machines: machines.iter().map(|(n, cpu)| (DomainId(Uuid::from_u128(*n)), cpu.map(usage))).collect(),
            more: false,
        }
    }

    #[test]
    fn frames_are_merged_and_the_busiest_stands_first() {
        let mut table = Table::default();
        assert!(table.take(&frame("alpha", &[(1, Some(5)), (2, Some(50))])), "nobody has a name yet");
        table.names = [(1, "web"), (2, "db"), (3, "mail")].map(|(n, name)| (DomainId(Uuid::from_u128(n)), name.into())).into();
        assert!(!table.take(&frame("beta", &[(3, Some(7))])));
        assert!(!table.take(&frame("alpha", &[(1, Some(900))])), "what is not told again stays");
        let names = |table: &Table| table.rows().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&table), ["(alpha)", "(beta)", "web", "db", "mail"]);
        table.take(&Frame { node: None, ..frame("alpha", &[(1, None), (2, None)]) });
        assert_eq!(names(&table), ["(beta)", "mail"], "one that is gone is not shown");
    }
}
