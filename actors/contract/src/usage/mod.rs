//! Usage: what machines and their host take of processor, memory, disks and network.
//!
//! It is no state: nobody is told of it by events, nothing is decided by it, and it is measured only while somebody looks, and once
//! every five minutes for the history. What libvirt has are counters that only grow; two samples of them make figures.
//!
//! ```text
//!   sample, sample --rates--> reading --frame--> what has changed, for whoever looks
//!        \------- every 5 min --> history (24 h, in memory)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `ask` | the commands |
//! | `rates` | figures from two samples (pure) |
//! | `history` | the ring of 24 hours (pure) |
//! | `frame` | what has changed since, on its way to many who look (pure) |

mod ask;
mod frame;
mod history;
mod rates;

pub use ask::*;
pub use frame::{Frame, Ledger, MACHINES as FRAME_MACHINES};
pub use history::{History, Line, POINTS, SLOT, SLOT_BYTES};
pub use rates::{Reading, rates};

use crate::{BoxFuture, Bytes, DomainId, Fault, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How much of the processors, in thousandths of one: 1000 is one CPU that is busy all the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MilliCpu(pub u64);

impl fmt::Display for MilliCpu {
    /// In per cent of one CPU, as `top` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

/// How fast something flows, in bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ByteRate(pub u64);

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.0))
    }
}

/// Processor time since some beginning, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuTime(pub u64);

/// What went in two directions since some beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read, or received.
    pub inward: Bytes,
    /// Written, or sent.
    pub outward: Bytes,
}

/// The memory of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryNow {
    /// What the balloon leaves the guest.
    pub current: Option<Bytes>,
    /// The most it may have.
    pub maximum: Option<Bytes>,
    /// What the guest uses of it, if its balloon driver tells.
    pub used: Option<Bytes>,
    /// What the machine's process has of the host's memory.
    pub resident: Option<Bytes>,
}

/// Everything counted of one active machine. What libvirt does not tell, or not now, is absent and not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Which run of the machine this is; counters of two runs have nothing to do with each other.
    pub run: i64,
    /// Processor time.
    pub cpu: Option<CpuTime>,
    /// Memory; not a counter.
    pub memory: MemoryNow,
    /// All its disks together.
    pub disk: Option<Traffic>,
    /// All its network cards together.
    pub net: Option<Traffic>,
}

/// Everything counted of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Logical CPUs.
    pub cpus: u32,
    /// Time its processors worked.
    pub busy: Option<CpuTime>,
    /// Time all its processors worked and idled, together.
    pub total: Option<CpuTime>,
    /// All its memory.
    pub memory: Option<Bytes>,
    /// What could be given to whoever asks.
    pub available: Option<Bytes>,
}

/// Everything counted at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, since some fixed point, never going back.
    pub at: Millis,
    /// The host.
    pub host: HostCounters,
    /// Every active machine.
    pub machines: Vec<(DomainId, Counters)>,
}

/// Whatever counts.
pub trait UsagePort: Send + Sync {
    /// Everything counted, by one bulk call however many machines there are (`virConnectGetAllDomainStats`). It waits for no machine:
    /// what one that is busy cannot tell now is absent.
    fn sample(&self) -> BoxFuture<'_, Result<Sample, Fault>>;
}

/// Whoever can be looked at.
pub trait Figures: Send + Sync {
    /// Begins to look. It is measured for as long as anybody looks.
    fn look(&self) -> Box<dyn Look>;
}

/// Somebody who looks, until it is dropped.
pub trait Look: Send {
    /// The next reading; the newest, if several were made meanwhile. `None`: there will be no more.
    fn next(&mut self) -> BoxFuture<'_, Option<Arc<Reading>>>;
}
