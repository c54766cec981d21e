//! Remembers everything that was announced.

use super::lock;
use crate::{EntityId, Event, port::Announcer};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An announcer that keeps all events, in batches as they came.
#[derive(Default)]
pub struct Recorder {
    batches: Mutex<Vec<Vec<Event>>>,
    news: Condvar,
}

impl Recorder {
    /// All events so far, in order.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.batches).iter().flatten().cloned().collect()
    }
    /// All batches so far, in order.
    pub fn batches(&self) -> Vec<Vec<Event>> {
        lock(&self.batches).clone()
    }
    /// The topics of one entity's events, in order.
    pub fn topics(&self, entity: &EntityId) -> Vec<String> {
        self.events().into_iter().filter(|e| e.entity == *entity).map(|e| e.topic.into_owned()).collect()
    }
    /// Forgets what was recorded.
    pub fn clear(&self) {
        lock(&self.batches).clear();
    }
    /// Blocks until an event fits, and answers it; panics with the topics seen when the deadline passes.
    pub fn wait(&self, deadline: Duration, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + deadline;
        let mut batches = lock(&self.batches);
        loop {
            if let Some(event) = batches.iter().flatten().find(|e| fits(e)) {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            let topics: Vec<_> = batches.iter().flatten().map(|e| format!("{} {}", e.entity, e.topic)).collect();
            assert!(!left.is_zero(), "no {what} within {deadline:?}; seen: {topics:?}");
            batches = self.news.wait_timeout(batches, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Announcer for Recorder {
    fn announce(&self, events: Vec<Event>) {
        lock(&self.batches).push(events);
        self.news.notify_all();
    }
}
