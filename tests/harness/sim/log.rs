//! The log of a scenario: what happened at which simulated millisecond, with names instead of random ids.
//!
//! What happens within one millisecond between two steps has no order that anybody could rely on, except for each entity by itself.
//! So such lines are sorted by who saw them and about what, and stay in their order otherwise.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tracing::field::{Field, Visit};

/// Where everybody writes to.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Inner>>);

struct Inner {
    began: Instant,
    settled: String,
    open: Vec<Line>,
    names: HashMap<String, String>,
    tasks: usize,
    /// What a brief viewer saw since the last step: how often each topic.
    counts: BTreeMap<(String, String), usize>,
    news: u64,
}

struct Line {
    at: u128,
    who: String,
    about: String,
    text: String,
}

impl Log {
    pub(super) fn new() -> Log {
        let inner = Inner {
            began: Instant::now(),
            settled: String::new(),
            open: Vec::new(),
            names: HashMap::new(),
            tasks: 0,
            counts: BTreeMap::new(),
            news: 0,
        };
        Log(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this id is written as that name.
    pub(super) fn name(&self, id: String, name: &str) {
        self.lock().names.insert(id, name.to_owned());
    }

    /// The number of a task, in the order in which they were seen.
    pub(super) fn task(&self, id: String) {
        let mut inner = self.lock();
        if !inner.names.contains_key(&id) {
            inner.tasks += 1;
            let name = format!("task {}", inner.tasks);
            inner.names.insert(id, name);
        }
    }

    /// The id with that name, or the other way round for a text that is an id.
    pub(super) fn named(&self, id: &str) -> Option<String> {
        self.lock().names.get(id).cloned()
    }

    /// The id that is written as that name.
    pub(super) fn id_of(&self, name: &str) -> Option<String> {
        self.lock().names.iter().find(|(_, n)| *n == name).map(|(id, _)| id.clone())
    }

    /// One line.
    pub(super) fn write(&self, who: &str, about: &str, text: &str) {
        let mut inner = self.lock();
        let at = inner.began.elapsed().as_millis();
        inner.open.push(Line { at, who: who.to_owned(), about: about.to_owned(), text: text.to_owned() });
    }

    /// Counts instead of writing.
    pub(super) fn count(&self, who: &str, what: &str) {
        *self.lock().counts.entry((who.to_owned(), what.to_owned())).or_default() += 1;
    }

    /// A viewer was told something.
    pub(super) fn news(&self) {
        self.lock().news += 1;
    }

    /// How often viewers were told something.
    pub(super) fn told(&self) -> u64 {
        self.lock().news
    }

    /// The next step begins: what came before it is in order now.
    pub(super) fn step(&self, text: &str) {
        let mut inner = self.lock();
        inner.settle();
        let at = inner.began.elapsed().as_millis();
        let _ = writeln!(inner.settled, "{:>10} > {text}", time(at));
    }

    /// Everything so far.
    pub(super) fn text(&self) -> String {
        let mut inner = self.lock();
        inner.settle();
        inner.settled.clone()
    }

    /// How much time was simulated.
    pub(super) fn elapsed(&self) -> std::time::Duration {
        self.lock().began.elapsed()
    }
}

fn time(ms: u128) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

impl Inner {
    fn settle(&mut self) {
        let at = self.began.elapsed().as_millis();
        for ((who, what), count) in std::mem::take(&mut self.counts) {
            self.open.push(Line { at, who, about: what.clone(), text: format!("{count} times {what}") });
        }
        let mut lines = std::mem::take(&mut self.open);
        lines.sort_by(|a, b| (a.at, &a.who, &a.about).cmp(&(b.at, &b.who, &b.about)));
        for line in lines {
            let text = self.plain(&line.text);
            let _ = writeln!(self.settled, "{:>10}   {:<8} {}", time(line.at), line.who, text.trim_end());
        }
    }

    /// The text with names instead of ids.
    fn plain(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let id = rest.get(..36).filter(|t| t.as_bytes().iter().filter(|b| **b == b'-').count() == 4);
            match id.and_then(|id| self.names.get(id)) {
                Some(name) => {
                    out.push_str(name);
                    rest = &rest[36..];
                }
                None => {
                    let mut letters = rest.chars();
                    out.extend(letters.next());
                    rest = letters.as_str();
                }
            }
        }
        out
    }
}

/// Writes the warnings of the code itself into the log: what an operator would see.
pub(super) struct Operator(pub(super) Log);

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    /// The kind of a fault says enough: whether a cut is seen by the reader or the writer first is chance.
    kind: bool,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else if !(field.name() == "fault" && self.kind) {
            self.kind |= field.name() == "kind";
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}

impl tracing::Subscriber for Operator {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("archipel")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level().as_str().to_lowercase();
        self.0.write(&level, &words.message, &format!("{}{}", words.message, words.fields));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
