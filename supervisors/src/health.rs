//! How an agent is, for whoever watches it.

use crate::restarts::Restart;
use archipel_contract::HypervisorName;
use serde::Serialize;

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Whether every hypervisor is connected and no actor is given up.
    pub ok: bool,
    /// Each hypervisor with its state and how many entities it has, and how many of those are not well.
    pub hypervisors: Vec<HostHealth>,
    /// The last restarts, oldest first.
    pub restarts: Vec<Restart>,
}

/// How one hypervisor is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostHealth {
    /// Its name.
    pub name: HypervisorName,
    /// Its state.
    pub state: &'static str,
    /// Entities on it.
    pub entities: usize,
    /// Entities whose condition is not ok.
    pub not_well: usize,
}
