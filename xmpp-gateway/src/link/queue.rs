//! Events on their way to the exchange. Bounded; when it is full everything in it is dropped at once and the link asserts the
//! whole host again: a state told late is right, a queue without an end is not.

use archipel_contract::{Event, port::Announcer};
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    overflowed: bool,
    dropped: u64,
    /// Events announced so far, and how many of them are on the stream or were dropped.
    announced: u64,
    passed: u64,
}

/// The agent's mouth: takes events from the actors, never waits, and keeps their order.
pub struct LinkAnnouncer {
    waiting: Mutex<Waiting>,
    bound: usize,
    more: Notify,
    sent: Notify,
}

impl LinkAnnouncer {
    pub(super) fn new(bound: usize) -> LinkAnnouncer {
        LinkAnnouncer { waiting: Mutex::default(), bound: bound.max(1), more: Notify::new(), sent: Notify::new() }
    }

    /// Waits until there is something to tell, or everything to assert again.
    pub(super) async fn ready(&self) {
        loop {
            // Registered before the look, so that nothing announced in between is slept through.
            let more = self.more.notified();
            {
                let waiting = self.waiting.lock();
                if !waiting.events.is_empty() || waiting.overflowed {
                    return;
                }
            }
            more.await;
        }
    }

    /// Takes up to `most` events. `None`: events were dropped, assert everything instead.
    pub(super) fn take(&self, most: usize) -> Option<Vec<Event>> {
        let mut waiting = self.waiting.lock();
        if waiting.overflowed {
            return None;
        }
        let count = most.min(waiting.events.len());
        Some(waiting.events.drain(..count).collect())
    }

    /// An assertion of everything is about to read the inventory: what was dropped is made good by it.
    pub(super) fn forgive(&self) {
        {
            let mut waiting = self.waiting.lock();
            waiting.overflowed = false;
            // What was taken and not sent because the session changed is part of the assertion as well.
            waiting.passed = waiting.announced - waiting.events.len() as u64;
        }
        self.sent.notify_waiters();
    }

    /// So many of the events taken are on the stream.
    pub(super) fn passed(&self, count: usize) {
        self.waiting.lock().passed += count as u64;
        self.sent.notify_waiters();
    }

    /// Waits until everything announced before this call is on the stream, so that an answer does not overtake what it caused.
    pub(super) async fn caught_up(&self) {
        let goal = self.waiting.lock().announced;
        loop {
            let mut sent = std::pin::pin!(self.sent.notified());
            sent.as_mut().enable();
            if self.waiting.lock().passed >= goal {
                return;
            }
            sent.await;
        }
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().events.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events were dropped since the start, because the exchange was away or slow for too long.
    pub fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }
}

impl Announcer for LinkAnnouncer {
    fn announce(&self, events: Vec<Event>) {
        {
            let mut waiting = self.waiting.lock();
            waiting.announced += events.len() as u64;
            if waiting.overflowed {
                waiting.dropped += events.len() as u64;
                waiting.passed = waiting.announced;
                return;
            }
            if waiting.events.len() + events.len() > self.bound {
                waiting.dropped += (waiting.events.len() + events.len()) as u64;
                waiting.events = VecDeque::new();
                waiting.overflowed = true;
                waiting.passed = waiting.announced;
                tracing::warn!(bound = self.bound, "the queue of events for the exchange is full; everything will be asserted again");
            } else {
                waiting.events.extend(events);
            }
        }
        self.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::feed::tests::event;

    #[tokio::test]
    async fn a_full_queue_drops_everything_and_says_so_once() {
        let queue = LinkAnnouncer::new(3);
        queue.announce(vec![event(1, 1), event(1, 2)]);
        assert_eq!(queue.take(1), Some(vec![event(1, 1)]));
        queue.announce(vec![event(1, 3), event(1, 4), event(1, 5)]);
        assert_eq!((queue.take(10), queue.dropped(), queue.len()), (None, 4, 0));
        queue.announce(vec![event(1, 6)]);
        assert_eq!((queue.take(10), queue.dropped()), (None, 5));
        queue.ready().await;
        queue.forgive();
        queue.announce(vec![event(1, 7)]);
        assert_eq!(queue.take(10), Some(vec![event(1, 7)]));
        assert!(queue.is_empty());
    }
}
