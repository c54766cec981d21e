//! Short work between two threads that goes on right where it is woken, whether or not anybody still waits for it.
//!
//! ```text
//!            Pending, and no wake-up came meanwhile            Ready, or a panic
//!   polling ----------------------------------------> resting    polling ------> over
//!      ^  |                                              |
//!      |  +-- a wake-up came meanwhile --> polling again |
//!      +------------------- woken -----------------------+
//! ```
//! A task of a runtime would cost one more thread that must be woken for what takes a microsecond: when the store has written,
//! its own thread hands the result on. So glue never blocks, never computes, and takes no lock that whoever wakes it may hold.

use parking_lot::Mutex;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State {
    Resting(Work),
    Polling { woken: bool },
    Over,
}

struct Glue(Mutex<State>);

/// Begins here; every further step is taken by the thread that wakes it.
pub(crate) fn carry(work: impl Future<Output = ()> + Send + 'static) {
    Arc::new(Glue(Mutex::new(State::Polling { woken: false }))).poll(Box::pin(work));
}

impl Glue {
    /// The lock is never held while the work runs: it may be woken from within, and drops what others wait for.
    fn poll(self: Arc<Self>, mut work: Work) {
        let waker = Waker::from(self.clone());
        loop {
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&waker)))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => break,
                Err(_) => {
                    // The thread belongs to somebody else and must live on. Whoever waits sees that the work was dropped.
                    tracing::error!("a step between two threads panicked; please report this");
                    break;
                }
            }
            let mut state = self.0.lock();
            if let State::Polling { woken: true } = *state {
                *state = State::Polling { woken: false };
            } else {
                *state = State::Resting(work);
                return;
            }
        }
        *self.0.lock() = State::Over;
        // What is dropped here may panic as well.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(work)));
    }
}

impl Wake for Glue {
    fn wake(self: Arc<Self>) {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Polling { woken: false }) {
            State::Resting(work) => {
                drop(state);
                self.poll(work);
            }
            State::Polling { .. } => *state = State::Polling { woken: true },
            State::Over => *state = State::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use tokio::sync::oneshot;

    #[test]
    fn it_begins_here_and_goes_on_where_it_is_woken() {
        let (answer, asked) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let begun = tell.clone();
        carry(async move {
            begun.send(thread::current().id()).unwrap();
            asked.await.unwrap();
            tell.send(thread::current().id()).unwrap();
        });
        assert_eq!(told.recv(), Ok(thread::current().id()));
        let other = thread::spawn(move || {
            answer.send(()).unwrap();
            thread::current().id()
        });
        assert_eq!(told.recv(), Ok(other.join().unwrap()));
    }

    #[test]
    fn a_wake_up_from_within_is_not_lost() {
        let (tell, told) = mpsc::channel();
        let mut polls = 0;
        carry(std::future::poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls < 3 {
                return Poll::Pending;
            }
            tell.send(polls).unwrap();
            Poll::Ready(())
        }));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn wake_ups_from_two_threads_are_not_lost() {
        for _ in 0..2000 {
            let (one, first) = oneshot::channel();
            let (two, second) = oneshot::channel();
            let (tell, told) = mpsc::channel();
            carry(async move {
                let _ = futures::join!(first, second);
                tell.send(()).unwrap();
            });
            let other = thread::spawn(move || one.send(()));
            two.send(()).unwrap();
            other.join().unwrap().unwrap();
            assert_eq!(told.recv(), Ok(()));
        }
    }

    #[test]
    fn a_panic_stays_within_and_drops_what_others_wait_for() {
        let (answer, asked) = oneshot::channel::<()>();
        let (held, waiting) = oneshot::channel::<()>();
        carry(async move {
            let _held = held;
            let _ = asked.await;
            panic!("on purpose");
        });
        answer.send(()).unwrap();
        assert!(waiting.blocking_recv().is_err());
    }
}
