//! Merging the layers, and reading a merged table while keeping every mistake.

use super::Mistake;
use config::{Config, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

pub(super) type Table = Map<String, Value>;

const ENVIRONMENT: &str = "the environment";

/// A file that was read already. Its values say where they came from in the words of whoever named the file.
#[derive(Debug, Clone)]
struct Layer(Table);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Table, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn stamp(value: Value, origin: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(table.into_iter().map(|(k, v)| (k, stamp(v, origin))).collect()),
        ValueKind::Array(values) => ValueKind::Array(values.into_iter().map(|v| stamp(v, origin)).collect()),
        other => other,
    };
    Value::new(Some(origin), kind)
}

/// All layers in one table. Files that cannot be read are mistakes; the others count.
pub(super) fn layers(files: &[&Path], environment: HashMap<String, String>, mistakes: &mut Vec<Mistake>) -> Table {
    let mut builder = Config::builder();
    for file in files {
        let place = file.display().to_string();
        let read = std::fs::read_to_string(file).map_err(|e| format!("cannot be read: {e}"));
        let table = read.and_then(|text| {
            File::from_str(&text, FileFormat::Toml).collect().map_err(|e| format!("is not TOML: {}", e.to_string().trim_end()))
        });
        match table {
            Ok(table) => {
                builder = builder.add_source(Layer(table.into_iter().map(|(k, v)| (k, stamp(v, &place))).collect()));
            }
            Err(what) => mistakes.push(Mistake { place, key: String::new(), what }),
        }
    }
    let environment = Environment::with_prefix("ARCHIPEL").prefix_separator("__").separator("__").source(Some(environment));
    match builder.add_source(environment).build().and_then(|merged| merged.collect()) {
        Ok(table) => table,
        Err(error) => {
            mistakes.push(Mistake { place: String::new(), key: String::new(), what: error.to_string() });
            Table::new()
        }
    }
}

/// One table on its way to becoming settings. What is asked for is known; the rest is a mistake in the end.
pub(super) struct Section<'a> {
    name: String,
    table: Option<Table>,
    known: BTreeSet<&'static str>,
    origins: HashMap<String, String>,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: &str, table: Table, mistakes: &'a mut Vec<Mistake>) -> Section<'a> {
        Section::of(name.to_owned(), Some(table), mistakes)
    }

    fn of(name: String, table: Option<Table>, mistakes: &'a mut Vec<Mistake>) -> Section<'a> {
        let origins = table.iter().flatten().filter_map(|(k, v)| Some((k.clone(), origin(v)?))).collect();
        Section { name, table, known: BTreeSet::new(), origins, mistakes }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Whether the section is there at all.
    pub(super) fn given(&self) -> bool {
        self.table.is_some()
    }

    /// Takes everything as known.
    pub(super) fn ignore(&mut self) {
        self.table = None;
    }

    pub(super) fn mistake(&mut self, key: &str, what: impl Into<String>) {
        let path = self.path(key);
        let first = key.split('.').next().unwrap_or(key);
        let place = match self.origins.get(first).map(String::as_str) {
            Some(ENVIRONMENT) => format!("environment ARCHIPEL__{}", path.replace('.', "__").to_uppercase()),
            Some(file) => file.to_owned(),
            None => String::new(),
        };
        self.mistakes.push(Mistake { place, key: path, what: what.into() });
    }

    pub(super) fn has_mistake(&self, path: &str) -> bool {
        self.mistakes.iter().any(|m| m.key == path)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.insert(key);
        self.table.as_mut()?.remove(key).filter(|value| value.kind != ValueKind::Nil)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)?.kind {
            ValueKind::String(text) if !text.trim().is_empty() => Some(text),
            ValueKind::String(_) => {
                self.mistake(key, "is empty; give it a value or remove it");
                None
            }
            other => {
                self.mistake(key, format!("must be a text in quotes, not {}", what(&other)));
                None
            }
        }
    }

    pub(super) fn required(&mut self, key: &'static str) -> Option<String> {
        let text = self.text(key);
        let path = self.path(key);
        if text.is_none() && !self.has_mistake(&path) {
            self.mistake(key, "is missing");
        }
        text
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|e: T::Err| self.mistake(key, e.to_string())).ok()
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str, default: &str) -> Option<T> {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        self.parse(key, &text)
    }

    /// `host:port`; the host may be a name, an IPv4 address or an IPv6 address in brackets.
    pub(super) fn address(&mut self, key: &'static str, default: Option<&str>) -> Option<String> {
        let text = self.text(key).or_else(|| default.map(str::to_owned))?;
        self.is_address(key, &text).then_some(text)
    }

    /// One or several of them.
    pub(super) fn addresses(&mut self, key: &'static str) -> Option<Vec<String>> {
        let list = self.list(key)?;
        if list.is_empty() {
            self.mistake(key, "is empty; give it a value or remove it");
        }
        let good = list.iter().filter(|text| self.is_address(key, text)).count();
        (good == list.len() && good > 0).then_some(list)
    }

    fn is_address(&mut self, key: &'static str, text: &str) -> bool {
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            let host_fits = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
                None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)),
            };
            host_fits && port.parse::<u16>().is_ok()
        });
        if !good {
            self.mistake(key, format!("{text:?} is not host:port, for example 127.0.0.1:5222"));
        }
        good
    }

    pub(super) fn integer(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.take(key) else { return default };
        match value.into_uint() {
            Ok(n) if range.contains(&n) => n,
            _ => {
                self.mistake(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        value.into_bool().unwrap_or_else(|_| {
            self.mistake(key, "must be true or false");
            default
        })
    }

    /// A list of texts; in the environment they are separated by commas.
    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.take(key)?.kind {
            ValueKind::Array(values) => {
                let mut list = Vec::with_capacity(values.len());
                for value in values {
                    match value.kind {
                        ValueKind::String(text) => list.push(text),
                        other => self.mistake(key, format!("must be a list of texts, and holds {}", what(&other))),
                    }
                }
                Some(list)
            }
            ValueKind::String(text) => Some(text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect()),
            other => {
                self.mistake(key, format!("must be a list such as [\"a\", \"b\"], not {}", what(&other)));
                None
            }
        }
    }

    /// A table below this one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_> {
        let table = match self.take(key).map(|value| value.kind) {
            None => None,
            Some(ValueKind::Table(table)) => Some(table),
            Some(other) => {
                self.mistake(key, format!("must be a section [{key}], not {}", what(&other)));
                None
            }
        };
        Section::of(self.path(key), table, self.mistakes)
    }

    /// A list of tables below this one.
    pub(super) fn tables<T>(&mut self, key: &'static str, mut read: impl FnMut(Section<'_>) -> Option<T>) -> Vec<T> {
        let values = match self.take(key).map(|value| value.kind) {
            None => return Vec::new(),
            Some(ValueKind::Array(values)) => values,
            Some(other) => {
                self.mistake(
                    key,
                    format!("must be written as [[{key}]], once for each, not as {}; the environment cannot hold it", what(&other)),
                );
                return Vec::new();
            }
        };
        let mut list = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            match value.kind {
                ValueKind::Table(table) => {
                    list.extend(read(Section::of(format!("{}[{}]", self.path(key), number + 1), Some(table), self.mistakes)));
                }
                other => self.mistake(key, format!("must be written as [[{key}]], and holds {}", what(&other))),
            }
        }
        list
    }

    /// Whatever was not asked for is a mistake.
    pub(super) fn finish(mut self) {
        let left: Vec<String> = self.table.take().map(|table| table.into_keys().collect()).unwrap_or_default();
        let known = self.known.iter().copied().collect::<Vec<_>>().join(", ");
        for key in left {
            self.mistake(&key, format!("is unknown; known are {known}"));
        }
    }
}

/// A table has no origin of its own; that of something in it will do.
fn origin(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(table) => table.values().find_map(origin),
        ValueKind::Array(values) => values.iter().find_map(origin),
        _ => value.origin().map(str::to_owned),
    }
}

fn what(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) | ValueKind::Float(_) => "a number",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
    }
}
