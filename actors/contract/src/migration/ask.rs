//! What people may ask about moving machines.

use super::{Obstacle, Room, Transport, Way};
use crate::{
    DomainId, Effect, Role, Target, Timestamp,
    command::{Command, Done, Started, declare},
    domain::Defined,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Move a virtual machine to another host. A running one goes on running; one that is off only changes its place.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MigrateDomain {
    /// The hypervisor to move it to; without one the best is chosen, and the task says why.
    pub to: Option<String>,
    /// How the memory travels.
    pub transport: Transport,
    /// Copy its disks as well, to pools of the same path.
    pub copy_storage: bool,
    /// Slow the guest down if its memory changes faster than it travels.
    pub auto_converge: bool,
    /// The most it may send, in MiB a second.
    #[schemars(range(min = 1, max = 1000000))]
    pub bandwidth_mib: Option<u32>,
    /// Over how many connections at once.
    #[schemars(range(min = 1, max = 64))]
    pub parallel: Option<u32>,
    /// Switch to post-copy after the first pass. A break of the network then may cost the guest.
    pub post_copy: bool,
    /// Believe that its disks are shared although libvirt cannot tell.
    pub trust_storage: bool,
}
declare!(MigrateDomain, "domain.migrate", Change, Admin, Domain, Started);

impl MigrateDomain {
    /// How it shall travel.
    pub fn way(&self) -> Way {
        Way {
            transport: self.transport,
            copy_storage: self.copy_storage,
            auto_converge: self.auto_converge,
            bandwidth_mib: self.bandwidth_mib,
            parallel: self.parallel,
            post_copy: self.post_copy,
            trust_storage: self.trust_storage,
        }
    }
}

/// Say what would stand in the way of moving a virtual machine, for one host or for all, best first. Nothing is moved.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckMigration {
    /// Only this hypervisor.
    pub to: Option<String>,
    /// As if its disks were copied.
    pub copy_storage: bool,
    /// As if its disks were known to be shared.
    pub trust_storage: bool,
}
declare!(CheckMigration, "domain.migrate-check", Read, Viewer, Domain, Vec<Candidate>);

/// One host a machine could go to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The hypervisor.
    pub host: String,
    /// Whether nothing stands in the way.
    pub possible: bool,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
    /// How much it has left; absent when it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// Why it stands where it stands in the list, for people.
    pub reason: String,
}

/// Take a virtual machine that is off from its host and keep its definition in the cell. Its disks stay.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParkDomain {}
declare!(ParkDomain, "domain.park", Change, Admin, Domain, Done);

/// Put a parked virtual machine on this hypervisor; it stays off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnparkDomain {
    /// Its UUID or name.
    pub machine: String,
}
declare!(UnparkDomain, "domain.unpark", Change, Admin, Hypervisor, Defined);

/// List the virtual machines that are parked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListParked {}
declare!(ListParked, "domain.parked", Read, Viewer, Cell, Vec<Parked>);

/// A machine on the shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    /// Its UUID.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// The host it was on.
    pub from: String,
    /// Who parked it: the bare JID.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What the cell keeps of a parked machine, as the document `parked/<uuid>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfNote {
    /// What people see of it.
    #[serde(flatten)]
    pub parked: Parked,
    /// Its definition, with secrets.
    pub definition: String,
    /// Whether it started with its host.
    pub autostart: bool,
}

/// The key of the document of a parked machine.
pub fn shelf_key(id: DomainId) -> String {
    format!("parked/{id}")
}

/// Empty a host for maintenance: plan, then move every machine away, some at a time. Nothing new comes here until it is undone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainHypervisor {
    /// Only to these hypervisors, separated by commas; without them the best is chosen for each machine.
    pub to: Option<String>,
    /// Only these machines (names or UUIDs, separated by commas, or `#tag` for those whose note has that word). The host is not
    /// closed to new ones then.
    pub only: Option<String>,
    /// Move machines that are off as well.
    pub include_off: bool,
    /// How many at a time; without it as many as the host sends at once, which is also the most.
    #[schemars(range(min = 1, max = 32))]
    pub at_a_time: Option<u32>,
    /// Copy their disks as well.
    pub copy_storage: bool,
    /// Believe that their disks are shared.
    pub trust_storage: bool,
}
impl Default for DrainHypervisor {
    fn default() -> Self {
        DrainHypervisor { to: None, only: None, include_off: true, at_a_time: None, copy_storage: false, trust_storage: false }
    }
}
declare!(DrainHypervisor, "hypervisor.drain", Change, Admin, Hypervisor, Started);

/// Show where every machine of a host would go if it were emptied now. Nothing is moved.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanDrain {
    /// Only to these hypervisors, separated by commas.
    pub to: Option<String>,
    /// Only these machines, as for `hypervisor.drain`.
    pub only: Option<String>,
    /// As if their disks were copied.
    pub copy_storage: bool,
    /// As if their disks were known to be shared.
    pub trust_storage: bool,
}
declare!(PlanDrain, "hypervisor.drain-plan", Read, Viewer, Hypervisor, Vec<PlannedMove>);

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedMove {
    /// The machine.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// Where it would go; absent when it can go nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why there, or why nowhere.
    pub reason: String,
}

/// Open a host again that was emptied, and bring back what was moved away from it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UndrainHypervisor {
    /// Bring the machines back; without it the host is only opened.
    pub bring_back: bool,
}
impl Default for UndrainHypervisor {
    fn default() -> Self {
        UndrainHypervisor { bring_back: true }
    }
}
declare!(UndrainHypervisor, "hypervisor.undrain", Change, Admin, Hypervisor, Started);

/// Remove the definition of a virtual machine that is off here and belongs to another host, as a move with other tools leaves it. Its
/// disks stay, and its owner keeps it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveCopy {
    /// Its UUID or name, as this hypervisor lists it under `strangers`.
    pub machine: String,
}
declare!(RemoveCopy, "hypervisor.remove-copy", Destroy, Admin, Hypervisor, Done);
