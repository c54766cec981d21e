//! Long work of a port as a task: followed, told of, and stopped when somebody asks.
//!
//! ```text
//!   begin --> running --port answers--> done | failed
//!                |  cancel: the port is told, cleans up, and answers
//!                +--------------------> cancelled      (done, if the work was quicker)
//! ```
//! The work belongs to the task's actor: if that fails, or the daemon does, the task is told as failed and nothing is run again. What its
//! port has begun goes on to its end.

use crate::{
    domain::turn::outliving,
    migration::departure::Ending,
    scope::Scope,
    task::{self, Plan},
};
use archipel_contract::{Caller, EntityId, Fault, TaskId, command::Started, task::TaskState, work::Follower};
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;

/// What is to be done, once; it says itself how it ended.
pub type Doing = Box<dyn FnOnce(TaskId, Arc<dyn Follower>) -> LocalBoxFuture<'static, Ending>>;

/// Begins long work on an entity and answers the task. `words` say what goes on, and are its first progress.
pub fn begin<F, W>(scope: &Scope, target: EntityId, command: &'static str, name: &str, caller: &Caller, words: String, doing: F) -> Started
where
    F: FnOnce(Arc<dyn Follower>) -> W + 'static,
    W: Future<Output = Result<String, Fault>> + 'static,
{
    let judged = |_, follower: Arc<dyn Follower>| async move {
        match doing(follower.clone()).await {
            Err(_) if follower.is_cancelled() => (TaskState::Cancelled, Ok("stopped; nothing half done is left".to_owned())),
            Err(fault) => (TaskState::Failed, Err(fault)),
            Ok(message) => (TaskState::Done, Ok(message)),
        }
    };
    begin_judged(scope, target, command, name, caller, words, judged)
}

/// The same with work that says itself how it ended: it may have been stopped and yet leave something behind.
pub(crate) fn begin_judged<F, W>(
    scope: &Scope,
    target: EntityId,
    command: &'static str,
    name: &str,
    caller: &Caller,
    words: String,
    doing: F,
) -> Started
where
    F: FnOnce(TaskId, Arc<dyn Follower>) -> W + 'static,
    W: Future<Output = Ending> + 'static,
{
    let plan = Plan::Work { words: words.clone(), doing: Box::new(|task, follower| Box::pin(doing(task, follower))) };
    Started { task: task::begin(scope, plan, target, command, name, caller), message: words }
}

type Progress = (Option<u8>, String);
type Stop = Box<dyn FnOnce() + Send>;

/// What a running work is held by: its progress comes out, the wish to stop goes in.
pub struct Reins {
    told: watch::Sender<Progress>,
    /// `None` once somebody asked to stop.
    stops: Mutex<Option<Vec<Stop>>>,
}

impl Reins {
    pub(crate) fn new() -> Arc<Reins> {
        Arc::new(Reins { told: watch::Sender::new((None, String::new())), stops: Mutex::new(Some(Vec::new())) })
    }

    /// Asks the work to stop; nothing happens the second time.
    pub(crate) fn stop(&self) {
        let stops = self.stops.lock().take();
        for stop in stops.unwrap_or_default() {
            stop();
        }
    }
}

impl Follower for Reins {
    fn advance(&self, percent: Option<u8>, message: &str) {
        let news = (percent, message.to_owned());
        self.told.send_if_modified(|old| {
            let differs = *old != news;
            *old = news;
            differs
        });
    }
    fn is_cancelled(&self) -> bool {
        self.stops.lock().is_none()
    }
    fn on_cancel(&self, stop: Stop) {
        if let Some(stops) = &mut *self.stops.lock() {
            return stops.push(stop);
        }
        stop();
    }
}

/// Does the work and tells how far it is until it has ended.
pub(crate) async fn drive(scope: Rc<Scope>, id: TaskId, reins: Arc<Reins>, doing: Doing) -> Ending {
    let mut told = reins.told.subscribe();
    // A task whose actor dies is told as interrupted; but what it has begun goes on, and what it keeps away is kept away until that has ended.
    let mut work = std::pin::pin!(outliving(doing(id, reins.clone())));
    loop {
        tokio::select! {
            biased;
            ended = &mut work => break ended,
            Ok(()) = told.changed() => {
                let (percent, message) = told.borrow_and_update().clone();
                task::progress(&scope, id, percent, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn whoever_works_is_told_once_to_stop_early_or_late() {
        let (reins, told) = (Reins::new(), Arc::new(AtomicUsize::new(0)));
        let listener = || {
            let told = told.clone();
            Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            })
        };
        reins.on_cancel(listener());
        assert!(!reins.is_cancelled() && told.load(Ordering::Relaxed) == 0);
        reins.stop();
        reins.stop();
        assert!(reins.is_cancelled() && told.load(Ordering::Relaxed) == 1);
        reins.on_cancel(listener());
        assert_eq!(told.load(Ordering::Relaxed), 2, "whoever comes late is told at once");
    }
}
