//! A bounded queue between async callers and worker threads. Full means refused, never waited for.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many wait as may.
    Full,
    /// The queue takes nothing any more.
    Closed,
}

/// Many producers, many consumers, first in first out.
pub(crate) struct Queue<T> {
    capacity: usize,
    state: Mutex<(VecDeque<T>, bool)>,
    ready: Condvar,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Queue<T> {
        Queue { capacity, state: Mutex::new((VecDeque::new(), false)), ready: Condvar::new() }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.1 {
            return Err(Refused::Closed);
        }
        if state.0.len() >= self.capacity {
            return Err(Refused::Full);
        }
        state.0.push_back(item);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next item, waiting for it. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.0.pop_front() {
                return Some(item);
            }
            if state.1 {
                return None;
            }
            self.ready.wait(&mut state);
        }
    }

    /// Takes nothing more. What waits is still handed out.
    pub(crate) fn close(&self) {
        self.state.lock().1 = true;
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_a_closed_one_still_hands_out_what_waits() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(Refused::Full)));
        assert_eq!(queue.pop(), Some(1));
        queue.close();
        assert_eq!(queue.push(4), Err(Refused::Closed));
        assert_eq!((queue.pop(), queue.pop()), (Some(2), None));
    }
}
