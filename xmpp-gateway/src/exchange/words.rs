//! What a command answered, for people: as text for notes and chat, and as a result form.

use crate::stanza::form::{Field, FieldKind, Form, FormKind, form_type};
use archipel_contract::{Bytes, Entity, Facts, hypervisor::Stranger};
use serde_json::{Map, Value};

/// The most lines of a list in one answer; the rest is counted.
const MAX_LINES: usize = 200;
/// What is of no use to people.
const NOT_SHOWN: [&str; 2] = ["epoch", "seq"];
/// What is shown first, in this order.
const FIRST: [&str; 8] = ["name", "state", "condition", "why", "kind", "host", "id", "jid"];

/// One line about an entity, for example `running, 2 vCPU, 4 GiB`.
pub(crate) fn about(entity: &Entity) -> String {
    let state = entity.state();
    match &entity.facts {
        Facts::Domain(f) => format!("{state}, {} vCPU, {}", f.vcpus, f.memory),
        Facts::Hypervisor(f) => format!("{state}, {}, {} CPUs, {}", f.driver, f.cpus, f.memory),
        Facts::Network(f) => format!("{state}, {}", f.forward),
        Facts::StoragePool(f) => format!("{state}, {} free of {}", f.available, f.capacity),
        Facts::Task(f) => match f.percent {
            Some(percent) => format!("{state}, {percent} %: {}", f.message),
            None => format!("{state}: {}", f.message),
        },
    }
}

/// How an entity stands, as one would say it; everything else is what `info` is for.
pub(crate) fn standing(entity: &Entity) -> String {
    let mut lines = vec![format!("{} is {}, on {} (since {})", entity.name, about(entity), entity.host, entity.since)];
    lines.extend(entity.why.iter().map(|why| why.to_string()));
    if let Facts::Domain(f) = &entity.facts {
        lines.extend(f.note.iter().map(|note| format!("note: {note}")));
    }
    if let Facts::Hypervisor(f) = &entity.facts {
        // One that runs where it does not belong must not be overlooked.
        let state = |s: &Stranger| if s.state.is_active() { s.state.name().to_uppercase() } else { s.state.name().to_owned() };
        lines.extend(f.strangers.iter().map(|s| match s.left {
            false => format!("also here, though another host has it: {} ({}), {}", s.name, s.id, state(s)),
            true => format!("left here when it was moved away: the definition of {} ({}); remove-copy removes it", s.name, s.id),
        }));
    }
    lines.push("info says everything, help what can be done".to_owned());
    lines.join("\n")
}

/// The answer as text.
pub(crate) fn answer(value: &Value) -> String {
    match value {
        Value::Null => "done".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(rows) if rows.is_empty() => "there are none".to_owned(),
        Value::Array(rows) => {
            let mut lines: Vec<String> = rows.iter().take(MAX_LINES).map(line).collect();
            if rows.len() > MAX_LINES {
                lines.push(format!("... and {} more; narrow it down by name, host or state", rows.len() - MAX_LINES));
            }
            lines.join("\n")
        }
        Value::Object(object) => {
            if let Some(text) = object.get("text").and_then(Value::as_str).filter(|_| object.contains_key("media_type")) {
                return text.to_owned();
            }
            let mut lines: Vec<String> = object.get("message").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
            if !lines.is_empty() && object.contains_key("jid") {
                lines.clear();
            }
            let said = !lines.is_empty();
            lines.extend(
                pairs(object).into_iter().filter(|(k, _)| !(said && k == "message")).map(|(k, v)| format!("{}: {v}", k.replace('_', " "))),
            );
            lines.join("\n")
        }
        other => other.to_string(),
    }
}

/// The sentence in an answer, if it has one.
pub(crate) fn message(value: &Value) -> Option<&str> {
    value.get("message").and_then(Value::as_str)
}

/// The answer as a form for machines and tables.
pub(crate) fn result_form(command: &str, title: &str, value: &Value) -> Option<Form> {
    let mut form = Form::new(FormKind::Result, &form_type(command));
    form.title = Some(title.to_owned());
    match value {
        // Nothing but a sentence: the note has it, and an empty-looking form would only be in the way.
        Value::Object(object) if object.len() == 1 && object.contains_key("message") => return None,
        Value::Object(object) => {
            for (key, text) in pairs(object) {
                let mut field = Field::new(&key, FieldKind::TextSingle, "").labelled(key.replace('_', " "));
                if text.contains('\n') {
                    field.kind = FieldKind::TextMulti;
                    field.values = text.lines().map(str::to_owned).collect();
                } else {
                    field.values = vec![text];
                }
                form.fields.push(field);
            }
        }
        Value::Array(rows) if !rows.is_empty() => {
            let names = ["name", "state", "host", "id", "jid"];
            form.columns = names.iter().map(|n| ((*n).to_owned(), (*n).to_owned())).collect();
            form.rows = rows.iter().take(MAX_LINES).map(|row| names.iter().map(|n| text(n, &row[*n])).collect()).collect();
        }
        _ => return None,
    }
    Some(form)
}

/// One row of a list.
fn line(row: &Value) -> String {
    // Only what looks like an entity is worth the copy.
    if row.get("kind").is_some()
        && let Ok(entity) = serde_json::from_value::<Entity>(row.clone())
    {
        return format!("{}: {} (on {})", entity.name, about(&entity), entity.host);
    }
    match row {
        Value::Object(object) => {
            let name = object.get("name").and_then(Value::as_str).unwrap_or("?");
            let rest: Vec<String> = pairs(object)
                .into_iter()
                .filter(|(k, _)| !FIRST.contains(&k.as_str()))
                .map(|(k, v)| format!("{} {v}", k.replace('_', " ")))
                .collect();
            format!("{name}: {}", rest.join(", "))
        }
        other => text("", other),
    }
}

/// The fields of an answer in the order people read them.
fn pairs(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = object
        .iter()
        .filter(|(k, v)| !NOT_SHOWN.contains(&k.as_str()) && !v.is_null())
        .filter(|(k, v)| !(*k == "condition" && *v == "ok"))
        .map(|(k, v)| (k.clone(), text(k, v)))
        .collect();
    pairs.sort_by_key(|(k, _)| FIRST.iter().position(|f| f == k).unwrap_or(FIRST.len()));
    pairs
}

fn text(key: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) => match (key, n.as_u64()) {
            ("memory" | "capacity" | "allocation" | "available", Some(bytes)) => Bytes(bytes).to_string(),
            _ => n.to_string(),
        },
        Value::Object(object) => object.get("message").and_then(Value::as_str).map_or_else(|| value.to_string(), str::to_owned),
        Value::Array(_) => value.to_string(),
    }
}
