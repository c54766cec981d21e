//! What survives a restart: who owns which machine, which operations were accepted, and the accounts. All of it is one SQLite
//! file in `data_dir`, written by one thread; in a cell with several exchanges the same ports are served by [`mod@etcd`].
//!
//! SQLite blocks, so the connection lives on a thread of its own and the async side sends it work over a bounded queue. When
//! the queue is full the answer is `busy` at once: waiting would only hide that the disk cannot keep up. Dropping a future does not
//! undo its work, because whoever asked may already be gone while the write must still happen.
//!
//! ```text
//!   open --(lock, check, migrate)--> serving --(last handle dropped)--> queue drained, file closed, lock released
//!     |                                 |
//!     +--> Fault: path and what to do   +--(process killed)--> committed work is in the write-ahead log; the next open reads it
//! ```
//!
//! How much a crash may lose is decided in `ops/decisions/0003-journal-durability.md`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod accounts;
mod authority;
mod content;
mod database;
mod documents;
pub mod etcd;
mod held;
mod journal;

pub use content::Content;
pub use etcd::{Carried, Etcd, EtcdConfig, Watch, Watched};
pub use held::Held;

use archipel_contract::Fault;
use database::Database;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// How many requests may wait for the disk before new ones are answered `busy`.
pub const QUEUE: usize = 4096;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// The open data of one daemon. Cheap to clone; the file is closed and the lock released when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    worker: Arc<Worker>,
}

struct Worker {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens (and creates or migrates) the data in `data_dir`, for the daemon: a second daemon on the same folder is refused.
    pub fn open(data_dir: &Path) -> Result<Store, Fault> {
        Store::start(Database::open(data_dir, database::Use::Daemon)?)
    }

    /// Opens the same data for one short command beside a running daemon. It takes no lock: SQLite's own locking orders the
    /// writes, and nothing a daemon keeps in memory is changed by them.
    pub fn open_beside(data_dir: &Path) -> Result<Store, Fault> {
        Store::start(Database::open(data_dir, database::Use::Command)?)
    }

    fn start(mut database: Database) -> Result<Store, Fault> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // Ends when the last sender is dropped; what is queued by then is still written.
                for job in queue {
                    job(&mut database);
                    database.tidy();
                }
            })
            .map_err(|e| Fault::internal("cannot start the thread of the store").because(e))?;
        Ok(Store { worker: Arc::new(Worker { jobs: Some(jobs), thread: Some(thread) }) })
    }

    /// Runs `work` on the store's thread.
    async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            // Whoever asked may be gone; the work is done nevertheless.
            let _ = answer.send(work(database));
        });
        let stopped = || Fault::internal("the store has stopped; restart archipeld and read its log for the cause");
        match self.worker.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => outcome.await.map_err(|_| stopped())?,
            Some(Err(TrySendError::Full(_))) => Err(Fault::busy("the disk cannot keep up; try again in a moment")),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(stopped()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Waits for at most the queued writes, so that whoever opens the folder next finds it unlocked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::FaultKind;
    use archipel_contract::port::Authority;

    #[tokio::test]
    async fn a_full_queue_is_answered_busy_and_what_is_in_it_is_still_done() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, beginning) = oneshot::channel();
        let jobs = store.worker.jobs.as_ref().unwrap();
        jobs.try_send(Box::new(move |_| {
            let _ = begun.send(());
            let _ = held.recv();
        }))
        .ok()
        .unwrap();
        beginning.await.unwrap();
        for _ in 0..QUEUE {
            jobs.try_send(Box::new(|database| {
                database
                    .connection
                    .execute("INSERT INTO counter VALUES ('incarnation', 1) ON CONFLICT DO UPDATE SET value = value + 1", [])
                    .unwrap();
            }))
            .ok()
            .unwrap();
        }
        assert_eq!(store.incarnation().await.unwrap_err().kind, FaultKind::Busy);
        release.send(()).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.incarnation().await.unwrap(), QUEUE as u64 + 1);
    }
}
