//! Scriptable fakes of every port: an in-memory hypervisor with libvirt's order of events, an authority, a journal, accounts,
//! a clock and a recorder of announcements. They need no runtime: a call is done when it is polled, unless the script says
//! that it fails, waits or panics.

mod accounts;
mod announcer;
mod authority;
mod backup;
mod boot;
mod clock;
mod console;
mod definition;
mod documents;
mod domain;
mod export;
mod guest;
mod host;
mod import;
mod journal;
mod lan;
mod migration;
mod network;
mod peers;
mod population;
mod script;
mod snapshot;
mod storage_pool;
mod usage;
mod volume;
mod voyage;

pub use accounts::MemoryAccounts;
pub use announcer::Recorder;
pub use authority::MemoryAuthority;
pub use clock::FakeClock;
pub use documents::MemoryDocuments;
pub use host::FakeHost;
pub use journal::MemoryJournal;
pub use lan::{FakeLan, Pace};
pub use migration::Needs;
pub use peers::Switchboard;
pub use population::Witness;
pub use script::Script;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A fake keeps working after a scripted panic, so a poisoned lock is no news.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
