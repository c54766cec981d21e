//! What people and scripts see. People get aligned tables and `key: value`; scripts get JSON as it came. A state is always a
//! word; colour only repeats it, on a terminal, unless NO_COLOR is set.

use archipel_contract::{
    Bytes, Event,
    usage::{ByteRate, MilliCpu},
};
use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// One JSON document instead of text.
    pub(crate) json: bool,
    /// Colour the states.
    pub(crate) colour: bool,
}

impl Style {
    /// What fits the terminal.
    pub(crate) fn of(json: bool, variable: &dyn Fn(&str) -> Option<String>) -> Style {
        let refused = variable("NO_COLOR").is_some_and(|v| !v.is_empty()) || variable("TERM").is_some_and(|t| t == "dumb");
        Style { json, colour: !json && !refused && io::stdout().is_terminal() }
    }
}

/// A column: its heading and the key of its values.
type Column = (String, String);

/// The columns of a list: those that stand here, by command or for the entities of a noun, else what the catalog says that its rows hold.
fn columns(command: &str) -> Vec<Column> {
    let own = |list: &[(&str, &str)]| list.iter().map(|(heading, key)| ((*heading).to_owned(), (*key).to_owned())).collect();
    let entry = archipel_contract::catalog::Catalog::shipped().find(command);
    let row = entry.map(|e| &e.reply["items"]);
    let is_entity = row.is_none_or(|r| r["$ref"] == "Entity");
    if let Some(list) = of_command(command) {
        return own(list);
    }
    if let Some(list) = of_noun(command.split('.').next().unwrap_or_default()).filter(|_| is_entity || command.ends_with(".list")) {
        return own(list);
    }
    let fields = entry.zip(row).map(|(entry, row)| {
        let name = row["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
        let schema = name.map_or(row, |name| &entry.reply["$defs"][name]);
        schema["properties"].as_object().map(|p| p.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    });
    match fields.filter(|f| !f.is_empty()) {
        Some(mut fields) => {
            // Its name first, what only programs read last.
            fields.sort_by_key(|key| match key.as_str() {
                "name" => 0,
                "id" => 2,
                _ => 1,
            });
            fields.into_iter().map(|key| (key.replace('_', " ").to_uppercase(), key)).collect()
        }
        None => own(&[("NAME", "name"), ("STATE", "state"), ("HOST", "host"), ("ID", "id")]),
    }
}

/// The columns of commands whose rows are their own.
fn of_command(command: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match command {
        "domain.migrate-check" => &[("HOST", "host"), ("POSSIBLE", "possible"), ("REASON", "reason"), ("OBSTACLES", "obstacles")],
        "domain.devices" => {
            &[("KIND", "kind"), ("NAME", "name"), ("MODEL", "model"), ("SOURCE", "source"), ("APPLIES", "applies"), ("DETAIL", "detail")]
        }
        "domain.history" => &[("VERSION", "version"), ("AT", "at"), ("BY", "by"), ("WHAT", "what"), ("LINES", "lines")],
        "domain.usage-history" | "hypervisor.usage-history" => &[
            ("AT", "at"),
            ("CPU", "cpu"),
            ("MEMORY", "memory"),
            ("READ", "disk_read"),
            ("WRITTEN", "disk_written"),
            ("RECEIVED", "net_received"),
            ("SENT", "net_sent"),
        ],
        "top" | "hypervisor.usage" => &[
            ("NAME", "name"),
            ("CPU", "cpu"),
            ("MEMORY", "memory"),
            ("USED", "memory_used"),
            ("READ", "disk_read"),
            ("WRITTEN", "disk_written"),
            ("RECEIVED", "net_received"),
            ("SENT", "net_sent"),
            ("HOST", "host"),
        ],
        "domain.viewers" => &[("PERSON", "person"), ("KIND", "kind"), ("SINCE", "since")],
        "domain.volumes" => &[("DISK", "device"), ("POOL", "pool"), ("VOLUME", "volume"), ("OTHERS", "others"), ("PATH", "path")],
        "storage-pool.orphans" => return of_noun("volume"),
        "domain.backups" => return of_noun("backup"),
        "cell.members" => return of_noun("cell"),
        "hypervisor.devices" => &[
            ("NAME", "name"),
            ("KIND", "kind"),
            ("ADDRESS", "address"),
            ("GROUP", "iommu_group"),
            ("DRIVER", "driver"),
            ("ALLOWED", "allowed"),
            ("HELD BY", "held_by"),
            ("PRODUCT", "product"),
        ],
        "hypervisor.log" => &[("AT", "at"), ("LEVEL", "level"), ("PART", "part"), ("TEXT", "text")],
        "volume.users" => &[
            ("NAME", "name"),
            ("HOST", "host"),
            ("DISK", "device"),
            ("RUNNING", "running"),
            ("READ ONLY", "read_only"),
            ("THROUGH", "through"),
        ],
        "network.attached" => &[("NAME", "name"), ("MAC", "mac"), ("RUNNING", "running"), ("INTERFACE", "interface"), ("UUID", "id")],
        "network.hosts" => &[("NAME", "name"), ("ADDRESS", "address"), ("MAC", "mac")],
        "network.names" => &[("KIND", "kind"), ("NAME", "name"), ("VALUE", "value")],
        "network.leases" => &[("ADDRESS", "address"), ("MAC", "mac"), ("NAME", "name"), ("EXPIRES", "expires")],
        "interface.list" => &[("NAME", "name"), ("STATE", "state"), ("KIND", "kind"), ("MAC", "mac"), ("MEMBERS", "members")],
        "nwfilter.list" => &[("NAME", "name"), ("UUID", "id")],
        "domain.parked" => &[("NAME", "name"), ("FROM", "from"), ("BY", "by"), ("AT", "at"), ("UUID", "id")],
        "hypervisor.drain-plan" => &[("NAME", "name"), ("TO", "to"), ("REASON", "reason"), ("UUID", "id")],
        _ => return None,
    })
}

/// The columns of a noun's entities.
fn of_noun(noun: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match noun {
        "domain" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("HOST", "host"),
            ("VCPUS", "vcpus"),
            ("MEMORY", "memory"),
            ("AUTOSTART", "autostart"),
            ("TEMPLATE", "template"),
            ("UUID", "id"),
        ],
        "cell" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("LOGIN", "login"),
            ("JOINED", "joined"),
            ("EXPIRES", "expires"),
            ("VERSION", "version"),
            ("CLOCK", "clock_offset"),
            ("WARNINGS", "warnings"),
        ],
        "hypervisor" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("DRIVER", "driver"),
            ("CPUS", "cpus"),
            ("MEMORY", "memory"),
            ("ACCELERATION", "acceleration"),
            ("URI", "uri"),
        ],
        "network" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("HOST", "host"),
            ("FORWARD", "forward"),
            ("BRIDGE", "bridge"),
            ("AUTOSTART", "autostart"),
            ("UUID", "id"),
        ],
        "storage-pool" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("HOST", "host"),
            ("TYPE", "type"),
            ("CAPACITY", "capacity"),
            ("AVAILABLE", "available"),
            ("AUTOSTART", "autostart"),
            ("UUID", "id"),
        ],
        "volume" => &[
            ("NAME", "name"),
            ("TYPE", "type"),
            ("FORMAT", "format"),
            ("CAPACITY", "capacity"),
            ("ALLOCATION", "allocation"),
            ("PATH", "path"),
        ],
        "snapshot" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("CURRENT", "current"),
            ("MEMORY", "memory"),
            ("EXTERNAL", "external"),
            ("CREATED", "created"),
            ("PARENT", "parent"),
        ],
        "backup" => &[
            ("NAME", "name"),
            ("STATE", "state"),
            ("MACHINE", "machine"),
            ("KIND", "kind"),
            ("AT", "at"),
            ("SIZE", "size"),
            ("POOL", "pool"),
            ("BUILDS ON", "parent"),
        ],
        "checkpoint" => &[("NAME", "name"), ("CREATED", "created"), ("DISKS", "disks"), ("PARENT", "parent"), ("WHAT FOR", "description")],
        "task" => &[
            ("ID", "id"),
            ("STATE", "state"),
            ("COMMAND", "command"),
            ("HOST", "host"),
            ("DONE", "percent"),
            ("STARTED", "started"),
            ("MESSAGE", "message"),
        ],
        _ => return None,
    })
}

/// Control characters would move the cursor or worse; names and notes come from anybody.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Text of many lines from a guest: its lines and tabs stay, what else would move the cursor does not. It ends with a line's end.
fn lines(text: &str) -> String {
    let mut kept: String = text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect();
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    kept
}

/// A value for people; sizes with their unit.
fn shown(key: &str, value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Number(number)) if key == "clock_offset" => format!("{:+} s", number.as_i64().unwrap_or_default()),
        Some(Value::Number(number)) => match (key, number.as_u64()) {
            (
                "memory" | "memory_maximum" | "memory_used" | "memory_resident" | "capacity" | "allocation" | "available" | "provisioned"
                | "bytes" | "size" | "used",
                Some(bytes),
            ) => Bytes(bytes).to_string(),
            ("disk_read" | "disk_written" | "net_received" | "net_sent", Some(rate)) => ByteRate(rate).to_string(),
            ("cpu", Some(cpu)) => MilliCpu(cpu).to_string(),
            ("percent", Some(percent)) => format!("{percent}%"),
            _ => number.to_string(),
        },
        Some(Value::Object(fault)) if fault.contains_key("message") => {
            let text = |key: &str| fault.get(key).and_then(Value::as_str).map(printable);
            let message = text("message").unwrap_or_default();
            text("cause").map_or(message.clone(), |cause| format!("{message} ({cause})"))
        }
        Some(Value::Array(texts)) if texts.is_empty() => "-".to_owned(),
        Some(Value::Array(texts)) if texts.iter().all(Value::is_string) => {
            texts.iter().filter_map(Value::as_str).map(printable).collect::<Vec<_>>().join("; ")
        }
        Some(Value::Array(told)) if told.iter().all(|o| o.get("message").is_some_and(Value::is_string)) => {
            told.iter().filter_map(|o| o.get("message")?.as_str()).map(printable).collect::<Vec<_>>().join("; ")
        }
        Some(Value::Array(rows)) if rows.iter().all(Value::is_object) => {
            let fields = |row: &Value| {
                let fields = row
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| format!("{} {}", key.replace('_', " "), shown(key, Some(value))));
                fields.collect::<Vec<_>>().join(", ")
            };
            rows.iter().map(fields).collect::<Vec<_>>().join("; ")
        }
        Some(other) => printable(&other.to_string()),
    }
}

/// The state with the colour of its mood.
fn coloured(state: &str, padded: String, style: Style) -> String {
    if !style.colour {
        return padded;
    }
    let code = match state {
        "running" | "active" | "connected" | "done" | "available" => "32",
        "paused" | "pmsuspended" | "shutdown" | "connecting" | "building" | "cancelled" => "33",
        "crashed" | "failed" | "lost" | "inaccessible" => "31",
        "unknown" | "degraded" => "35",
        _ => return padded,
    };
    format!("\u{1b}[{code}m{padded}\u{1b}[0m")
}

/// Rows under headings, aligned; the last column is not padded.
pub(crate) fn table(out: &mut dyn Write, command: &str, rows: &[Value], style: Style) -> io::Result<()> {
    let columns = columns(command);
    let cells: Vec<Vec<String>> = rows.iter().map(|row| columns.iter().map(|(_, key)| shown(key, row.get(key))).collect()).collect();
    let width = |index: usize| {
        let heading = columns.get(index).map_or(0, |(h, _)| h.len());
        cells.iter().filter_map(|row| row.get(index)).map(|c| c.chars().count()).fold(heading, usize::max)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = (usize, String, bool)>| -> io::Result<()> {
        let mut text = String::new();
        for (index, cell, is_state) in cells {
            let last = index + 1 == columns.len();
            let missing = if last { 0 } else { widths[index].saturating_sub(cell.chars().count()) };
            text.push_str(&if is_state { coloured(&cell, cell.clone(), style) } else { cell });
            text.extend(std::iter::repeat_n(' ', if last { 0 } else { missing + 2 }));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut columns.iter().enumerate().map(|(i, (heading, _))| (i, heading.clone(), false)))?;
    for row in cells {
        line(&mut row.into_iter().enumerate().map(|(i, cell)| (i, cell, columns[i].1 == "state")))?;
    }
    Ok(())
}

/// One object as `key: value`, what everybody asks for first.
fn details(out: &mut dyn Write, object: &Map<String, Value>, style: Style) -> io::Result<()> {
    const FIRST: [&str; 6] = ["name", "state", "condition", "why", "host", "id"];
    let width = object.keys().map(String::len).max().unwrap_or(0);
    let rest = object.keys().map(String::as_str).filter(|k| !FIRST.contains(k));
    for key in FIRST.into_iter().filter(|k| object.contains_key(*k)).chain(rest) {
        let value = shown(key, object.get(key));
        let value = if key == "state" { coloured(&value, value.clone(), style) } else { value };
        writeln!(out, "{:width$}  {value}", format!("{}:", key.replace('_', " ")), width = width + 1)?;
    }
    Ok(())
}

/// The answer of a command.
pub(crate) fn reply(out: &mut dyn Write, command: &str, reply: &Value, style: Style) -> io::Result<()> {
    if style.json {
        serde_json::to_writer_pretty(&mut *out, reply)?;
        return writeln!(out);
    }
    match reply {
        Value::Array(rows) => table(out, command, rows, style),
        Value::Object(object) => {
            if let ("hypervisor.usage", Some(Value::Array(machines))) = (command, object.get("machines")) {
                let host: Map<String, Value> =
                    object.iter().filter(|(k, _)| *k != "machines").map(|(k, v)| (k.clone(), v.clone())).collect();
                details(out, &host, style)?;
                writeln!(out)?;
                return table(out, command, machines, style);
            }
            let text = |key: &str| object.get(key).and_then(Value::as_str);
            if let (Some(_), Some(document)) = (text("media_type"), text("text")) {
                return if document.ends_with('\n') { write!(out, "{document}") } else { writeln!(out, "{document}") };
            }
            if command == "domain.guest-run" {
                // What it wrote is all that goes to the standard output; how it ended is said beside.
                return ["output", "errors"].into_iter().filter_map(text).try_for_each(|wrote| write!(out, "{}", lines(wrote)));
            }
            match text("message").filter(|_| !object.contains_key("jid")) {
                Some(message) => {
                    writeln!(out, "{}", printable(message))?;
                    let rest: Map<String, Value> =
                        object.iter().filter(|(k, _)| *k != "message").map(|(k, v)| (k.clone(), v.clone())).collect();
                    if rest.is_empty() { Ok(()) } else { details(out, &rest, style) }
                }
                None => details(out, object, style),
            }
        }
        other => writeln!(out, "{}", shown("", Some(other))),
    }
}

/// One event on one line.
pub(crate) fn event(out: &mut dyn Write, event: &Event, style: Style) -> io::Result<()> {
    if style.json {
        serde_json::to_writer(&mut *out, event)?;
        return writeln!(out);
    }
    let mut line = format!("{}  {:<24}", event.at, event.topic);
    match &event.after {
        Some(after) => {
            let state = after.state();
            line.push_str(&format!("  {} on {}: {}", printable(&after.name), after.host, coloured(state, state.to_owned(), style)));
            if let archipel_contract::Facts::Task(task) = &after.facts {
                if let Some(percent) = task.percent {
                    line.push_str(&format!(" {percent}%"));
                }
                line.push_str(&format!(", {}", printable(&task.message)));
            }
        }
        None => line.push_str(&format!("  {} is gone", event.entity)),
    }
    if let Some(detail) = &event.detail {
        line.push_str(&format!(" ({})", printable(detail)));
    }
    if let archipel_contract::Cause::Person(who) = &event.cause {
        line.push_str(&format!(" by {}", printable(who)));
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Style = Style { json: false, colour: false };

    fn printed(noun: &str, value: &Value, style: Style) -> String {
        let mut out = Vec::new();
        reply(&mut out, noun, value, style).expect("it prints");
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn lists_are_aligned_and_sizes_readable() {
        let rows = json!([
            {"name": "web1", "state": "running", "host": "alpha", "vcpus": 2, "memory": 268_435_456, "autostart": true, "id": "u1"},
            {"name": "a-longer-näme", "state": "shutoff", "host": "b", "vcpus": 16, "memory": 1_610_612_736, "autostart": false, "template": true, "id": "u2"},
        ]);
        assert_eq!(
            printed("domain", &rows, PLAIN),
            "NAME           STATE    HOST   VCPUS  MEMORY   AUTOSTART  TEMPLATE  UUID\n\
             web1           running  alpha  2      256 MiB  yes        -         u1\n\
             a-longer-näme  shutoff  b      16     1.5 GiB  no         yes       u2\n"
        );
        assert_eq!(printed("network", &json!([]), PLAIN), "NAME  STATE  HOST  FORWARD  BRIDGE  AUTOSTART  UUID\n");
    }

    #[test]
    fn lists_of_what_is_no_entity_have_their_own_columns() {
        let rows = json!([
            {"host": "b", "possible": true, "obstacles": [], "reason": "most memory left"},
            {"host": "c", "possible": false, "reason": "it cannot take it", "obstacles": [{"kind": "name", "message": "x"}, {"kind": "disk", "message": "y"}]},
        ]);
        assert_eq!(
            printed("domain.migrate-check", &rows, PLAIN),
            "HOST  POSSIBLE  REASON             OBSTACLES\n\
             b     yes       most memory left   -\n\
             c     no        it cannot take it  x; y\n"
        );
    }

    #[test]
    fn no_list_of_the_catalog_has_columns_that_its_rows_do_not() {
        let catalog = archipel_contract::catalog::Catalog::shipped();
        for entry in catalog.commands.iter().filter(|e| e.reply["type"] == "array") {
            let row = &entry.reply["items"];
            let name = row["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
            let Some(fields) = name.map_or(row, |name| &entry.reply["$defs"][name])["properties"].as_object() else { continue };
            let strangers: Vec<Column> = columns(&entry.name).into_iter().filter(|(_, key)| !fields.contains_key(key)).collect();
            assert!(strangers.is_empty(), "{}: {strangers:?}; its rows hold {:?}", entry.name, fields.keys());
        }
    }

    #[test]
    fn colour_only_repeats_the_word() {
        let rows = json!([{"name": "w", "state": "running"}]);
        let coloured = printed("domain", &rows, Style { json: false, colour: true });
        assert!(coloured.contains("\u{1b}[32mrunning\u{1b}[0m"), "{coloured}");
        assert_eq!(coloured.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""), printed("domain", &rows, PLAIN));
    }

    #[test]
    fn details_begin_with_what_matters() {
        let text =
            printed("domain", &json!({"jid": "u@c", "id": "u", "state": "paused", "name": "web1", "memory": 1024, "message": null}), PLAIN);
        assert!(text.starts_with("name:     web1\nstate:    paused\nid:       u\n"), "{text}");
        assert!(text.contains("memory:   1 KiB\n"), "{text}");
    }

    #[test]
    fn answers_for_people_are_sentences() {
        assert_eq!(printed("domain", &json!({"message": "web1 is starting"}), PLAIN), "web1 is starting\n");
        let started = printed("domain", &json!({"message": "web1 was asked", "task": "t1"}), PLAIN);
        assert_eq!(started, "web1 was asked\ntask:  t1\n");
        assert_eq!(printed("domain", &json!({"media_type": "application/xml", "text": "<a/>"}), PLAIN), "<a/>\n");
    }

    #[test]
    fn what_a_program_in_a_guest_wrote_is_printed_as_it_is_without_what_moves_the_cursor() {
        let ran = json!({"message": "ls ended with 0", "exit_code": 0, "output": "a\tb\n\u{1b}[2Jc", "errors": "", "truncated": false});
        assert_eq!(printed("domain.guest-run", &ran, PLAIN), "a\tb\n\u{fffd}[2Jc\n");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let text = printed("domain", &json!([{"name": "a\u{1b}[2Jb", "state": "running"}]), PLAIN);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn json_is_one_document_as_it_came() {
        let value = json!([{"name": "a\u{1b}", "memory": 1}]);
        let text = printed("domain", &value, Style { json: true, colour: false });
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }
}
