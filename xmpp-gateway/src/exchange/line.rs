//! What a line of chat means. Pure: text in, a meaning out.
//!
//! ```text
//! help [VERB] · status · confirm CODE · VERB [VALUE | NAME=VALUE | NAME="A VALUE"]...
//! ```
//! A verb is that of a command of the address one writes to (`start`), or its full name (`domain.start`). Values without a name go
//! to the arguments in their order, the required ones first.

use crate::stanza::form;
use archipel_contract::{
    Effect, Entity, Fault, Kind, Role,
    catalog::{Argument, CommandEntry},
};
use serde_json::{Map, Value};

/// A line's meaning.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// They want to know what can be said; about one verb, if named.
    Help(Option<String>),
    /// They confirm with this code.
    Confirm(String),
    /// How things stand.
    Status,
    /// What is on a hypervisor.
    OnHost,
    /// A command.
    Command(&'static CommandEntry, Map<String, Value>),
    /// No such verb here.
    Unknown(String),
    /// The verb is right and the rest is not.
    Wrong(Fault),
}

/// Splits at blanks; double quotes keep blanks together.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut begun) = (false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                begun = true;
            }
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Reads a line written to the cell (`None`) or to an entity of this kind. `commands` are those of that address.
pub(crate) fn read(text: &str, kind: Option<Kind>, commands: &[&'static CommandEntry]) -> Line {
    let words = split(text);
    let Some(first) = words.first() else { return Line::Help(None) };
    let verb = first.to_lowercase();
    let rest = &words[1..];
    // `snapshot list` is the same as `snapshot.list`.
    let both = rest.first().and_then(|second| commands.iter().find(|c| c.noun == verb && c.verb == second.to_lowercase()).copied());
    let meant = both.map(|entry| (entry, &rest[1..])).or_else(|| find(&verb, kind, commands).map(|entry| (entry, rest)));
    if let Some((entry, rest)) = meant {
        return match arguments(entry, rest) {
            Ok(arguments) => Line::Command(entry, arguments),
            Err(fault) => Line::Wrong(fault),
        };
    }
    match verb.as_str() {
        "help" | "?" | "hello" | "hi" => Line::Help(rest.first().map(|w| w.to_lowercase())),
        "confirm" | "yes" => Line::Confirm(rest.first().map(|c| c.to_uppercase()).unwrap_or_default()),
        "status" | "info" | "show" => Line::Status,
        "list" | "machines" if kind == Some(Kind::Hypervisor) => Line::OnHost,
        _ => Line::Unknown(first.chars().take(40).collect()),
    }
}

/// The command a verb means at such an address.
pub(crate) fn find(verb: &str, kind: Option<Kind>, commands: &[&'static CommandEntry]) -> Option<&'static CommandEntry> {
    let named = |name: &str| commands.iter().find(|c| c.name == name).copied();
    if let Some(entry) = named(verb) {
        return Some(entry);
    }
    let Some(kind) = kind else {
        // The cell's own commands all say `list`: what is listed is the verb.
        return match verb {
            "list" | "machines" | "vms" | "domains" | "ls" => named("domain.list"),
            "hypervisors" | "hosts" => named("hypervisor.list"),
            "networks" => named("network.list"),
            "pools" | "storage" => named("storage-pool.list"),
            "tasks" => named("task.list"),
            _ => None,
        };
    };
    // `info` is the status, which is answered from what is known here.
    if let Some(entry) = named(&format!("{}.{verb}", kind.name())) {
        return Some(entry);
    }
    // A host answers with its machines, whatever else of it can be listed.
    if kind == Kind::Hypervisor && verb == "list" {
        return None;
    }
    // A verb of other nouns means something only as long as it means one thing: a snapshot is listed, a machine is not.
    let mut fitting = commands.iter().filter(|c| c.verb == verb);
    fitting.next().filter(|_| fitting.next().is_none()).copied()
}

fn arguments(entry: &CommandEntry, words: &[String]) -> Result<Map<String, Value>, Fault> {
    let mut arguments = Map::new();
    let mut open: Vec<&Argument> = entry.arguments.iter().collect();
    for word in words {
        let named = word.split_once('=').and_then(|(name, value)| {
            let name = name.trim_start_matches('-').replace('-', "_");
            open.iter().position(|a| a.name == name).map(|at| (at, value))
        });
        let (at, text) = match named {
            Some(found) => found,
            None if word.contains('=') || open.is_empty() => {
                return Err(Fault::invalid(format!("{word:?} is not understood; {}", usage(entry))));
            }
            None => (0, word.as_str()),
        };
        let argument = open.remove(at);
        arguments.insert(argument.name.clone(), form::read(argument, text)?);
    }
    if let Some(missing) = open.iter().find(|a| a.required) {
        return Err(Fault::invalid(format!("{} is missing; {}", missing.name, usage(entry))));
    }
    Ok(arguments)
}

/// How to write a command.
pub(crate) fn usage(entry: &CommandEntry) -> String {
    let mut text = format!("write {}", verb_here(entry));
    for argument in &entry.arguments {
        if argument.required {
            text.push_str(&format!(" {}=...", argument.name));
        } else {
            text.push_str(&format!(" [{}=...]", argument.name));
        }
    }
    text
}

fn verb_here(entry: &CommandEntry) -> &str {
    match (entry.target.kind(), entry.noun.as_str()) {
        (None, "domain") => "list",
        (None, "hypervisor") => "hypervisors",
        (None, "network") => "networks",
        (None, "storage-pool") => "pools",
        (None, "task") => "tasks",
        (Some(kind), noun) if noun == kind.name() => &entry.verb,
        _ => &entry.name,
    }
}

/// The answer to `help`: only what this person may do here, and why something cannot be done now.
pub(crate) fn help(
    kind: Option<Kind>,
    entity: Option<&Entity>,
    commands: &[&'static CommandEntry],
    role: Role,
    verb: Option<&str>,
    refusal: impl Fn(&CommandEntry) -> Option<String>,
) -> String {
    let allowed: Vec<&CommandEntry> = commands.iter().copied().filter(|c| role.covers(c.access)).collect();
    if let Some(entry) = verb.and_then(|v| find(v, kind, commands)).filter(|e| role.covers(e.access)) {
        let mut text = format!("{}\n{}", entry.description, usage(entry));
        for argument in &entry.arguments {
            text.push_str(&format!("\n  {}: {}", argument.name, argument.description));
            if !argument.choices.is_empty() {
                text.push_str(&format!(" ({})", argument.choices.join(", ")));
            }
        }
        if entry.effect == Effect::Destroy {
            text.push_str("\nit asks for a confirmation first");
        }
        if let Some(reason) = refusal(entry) {
            text.push_str(&format!("\nnot now: {reason}"));
        }
        return text;
    }
    let mut lines = vec![match entity {
        Some(entity) => format!("{} is a {}; it understands:", entity.name, entity.kind().name().replace('-', " ")),
        None => "this is the cell; it understands:".to_owned(),
    }];
    lines.push("help [VERB] - what can be said here".to_owned());
    lines.push("status - how things stand".to_owned());
    if kind == Some(Kind::Hypervisor) {
        lines.push("list - the machines here".to_owned());
    }
    for entry in allowed {
        if entry.verb == "info" && entry.noun != "volume" {
            continue;
        }
        let now = refusal(entry).map(|reason| format!(" (not now: {reason})")).unwrap_or_default();
        lines.push(format!("{} - {}{now}", verb_here(entry), entry.title));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{catalog::Catalog, domain, hypervisor, volume};

    fn commands() -> Vec<&'static CommandEntry> {
        use archipel_contract::catalog::entry;
        let all = Catalog::of(vec![
            entry::<domain::StartDomain>(),
            entry::<domain::ShutdownDomain>(),
            entry::<domain::ForceOffDomain>(),
            entry::<domain::RenameDomain>(),
            entry::<domain::NoteDomain>(),
            entry::<domain::ShowDomain>(),
        ]);
        Box::leak(Box::new(all)).commands.iter().collect()
    }

    fn of(text: &str) -> Line {
        read(text, Some(Kind::Domain), &commands())
    }

    fn arguments_of(line: Line) -> (String, Value) {
        match line {
            Line::Command(entry, arguments) => (entry.name.clone(), Value::Object(arguments)),
            other => panic!("not a command: {other:?}"),
        }
    }

    #[test]
    fn verbs_and_full_names_mean_commands() {
        use serde_json::json;
        for (text, name, arguments) in [
            ("start", "domain.start", json!({})),
            ("  Start  paused=yes ", "domain.start", json!({ "paused": true })),
            ("domain.start", "domain.start", json!({})),
            ("start true", "domain.start", json!({ "paused": true })),
            ("shutdown --timeout=30", "domain.shutdown", json!({ "timeout": 30 })),
            ("rename web2", "domain.rename", json!({ "to": "web2" })),
            ("rename to=web2", "domain.rename", json!({ "to": "web2" })),
            ("note \"back at = five\"", "domain.note", json!({ "text": "back at = five" })),
            ("note text=\"a b\"", "domain.note", json!({ "text": "a b" })),
            ("force-off", "domain.force-off", json!({})),
        ] {
            if text.contains("= five") {
                // A quoted value with an equals sign still needs its name.
                assert!(matches!(of(text), Line::Wrong(_)), "{text}");
                continue;
            }
            assert_eq!(arguments_of(of(text)), (name.to_owned(), arguments), "{text}");
        }
    }

    #[test]
    fn wrong_lines_say_what_to_write() {
        for (text, word) in [
            ("rename", "write rename to=..."),
            ("shutdown timeout=soon", "whole number"),
            ("shutdown timeout=0", "1 to 3600"),
            ("start speed=9", "write start [paused=...]"),
            ("start yes no", "write start"),
        ] {
            match of(text) {
                Line::Wrong(fault) => assert!(fault.message.contains(word), "{text}: {fault}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn small_talk_is_understood() {
        assert_eq!(of(""), Line::Help(None));
        assert_eq!(of("help start"), Line::Help(Some("start".into())));
        assert_eq!(of("confirm 4f7k"), Line::Confirm("4F7K".into()));
        assert_eq!(of("STATUS"), Line::Status);
        assert_eq!(of("dance with me"), Line::Unknown("dance".into()));
        assert_eq!(read("list", Some(Kind::Hypervisor), &[]), Line::OnHost);
    }

    #[test]
    fn a_verb_of_other_nouns_means_one_thing_or_nothing() {
        let all: Vec<&'static CommandEntry> = Catalog::shipped().of_target(archipel_contract::Target::Hypervisor).collect();
        let here = |text: &str| read(text, Some(Kind::Hypervisor), &all);
        assert_eq!(here("list"), Line::OnHost, "a host's list is its machines");
        assert!(matches!(here("nwfilter list"), Line::Command(entry, _) if entry.name == "nwfilter.list"));
        assert!(matches!(here("nwfilter.list"), Line::Command(entry, _) if entry.name == "nwfilter.list"));
        assert!(matches!(here("define x"), Line::Unknown(_)), "machines, networks and pools are defined here");
        assert!(matches!(here("unpark"), Line::Wrong(_)), "one noun alone has it");
    }

    #[test]
    fn the_verb_of_the_own_noun_wins() {
        use archipel_contract::{catalog::entry, storage_pool};
        let all =
            Catalog::of(vec![entry::<volume::ShowVolume>(), entry::<storage_pool::ShowPool>(), entry::<hypervisor::ShowHypervisor>()]);
        let all: Vec<&'static CommandEntry> = Box::leak(Box::new(all)).commands.iter().collect();
        assert_eq!(find("info", Some(Kind::StoragePool), &all).map(|c| &*c.name), Some("storage-pool.info"));
    }

    #[test]
    fn help_hides_what_may_not_be_done() {
        let viewer = help(Some(Kind::Domain), None, &commands(), Role::Viewer, None, |_| None);
        assert!(!viewer.contains("start"), "{viewer}");
        let admin = help(Some(Kind::Domain), None, &commands(), Role::Admin, None, |c| {
            (c.verb == "start").then(|| "web1 is running already".into())
        });
        assert!(admin.contains("not now: web1 is running already"), "{admin}");
        assert!(help(Some(Kind::Domain), None, &commands(), Role::Admin, Some("force-off"), |_| None).contains("confirmation"));
    }
}
