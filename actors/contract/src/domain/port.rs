//! What the inside needs of a hypervisor to handle virtual machines.

use super::{DomainRecord, DomainSpec, StartOrder};
use crate::{BoxFuture, DomainId, Fault, RightToRun, volume::Unused};

/// What the inside needs of a hypervisor to handle virtual machines. Every method may fail with `unavailable` while the
/// connection is lost, and with `not-found` for a machine that is gone. State changes are reported as events
/// ([`crate::host::HostChange`]), never by these answers.
pub trait DomainPort: Send + Sync {
    /// All machines, active and inactive (`virConnectListAllDomains`).
    fn list(&self) -> BoxFuture<'_, Result<Vec<DomainRecord>, Fault>>;
    /// One machine as it is now.
    fn read(&self, id: DomainId) -> BoxFuture<'_, Result<DomainRecord, Fault>>;
    /// The definition as XML (`virDomainGetXMLDesc`), without secrets.
    fn xml(&self, id: DomainId, inactive: bool) -> BoxFuture<'_, Result<String, Fault>>;
    /// Defines a new machine (`virDomainDefineXML`). `conflict` when the name is taken. Each disk it is given needs its proof.
    fn define(&self, spec: DomainSpec, disks: Vec<Unused>) -> BoxFuture<'_, Result<DomainId, Fault>>;
    /// Forgets the definition (`virDomainUndefineFlags`). The variables of its firmware stay where they are.
    fn undefine(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// The same, and the variables of its firmware are deleted.
    fn undefine_with_variables(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Whether it has a firmware that keeps variables in a file.
    fn has_variables(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>>;
    /// Starts it (`virDomainCreateWithFlags`). Consumes the right to run.
    fn start(&self, right: RightToRun, paused: bool) -> BoxFuture<'_, Result<(), Fault>>;
    /// Asks the guest to power off (`virDomainShutdown`).
    fn shutdown(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Asks the guest to reboot (`virDomainReboot`).
    fn reboot(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Cuts the power (`virDomainDestroy`).
    fn force_off(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Presses reset (`virDomainReset`).
    fn reset(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Stops the virtual CPUs (`virDomainSuspend`).
    fn pause(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Lets them go on (`virDomainResume`, `virDomainPMWakeup`).
    fn resume(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Lets libvirt start it with its host or not (`virDomainSetAutostart`).
    fn set_autostart(&self, id: DomainId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>>;
    /// Writes into its definition, live and persistent, when Archipel starts it after a boot of its host; `None`: Archipel does not.
    /// libvirt's own autostart is not touched.
    fn set_start_order(&self, id: DomainId, order: Option<StartOrder>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Gives it another name (`virDomainRename`). `conflict` when the name is taken.
    fn rename(&self, id: DomainId, to: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Sets the description, live and persistent (`virDomainSetMetadata`); `None` removes it.
    fn set_note(&self, id: DomainId, note: Option<String>) -> BoxFuture<'_, Result<(), Fault>>;
}
