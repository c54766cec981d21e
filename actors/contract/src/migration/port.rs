//! What the inside needs of a hypervisor to move machines.

use super::{Landing, Obstacle, Passport, Progress, Room, Standing, Transferred, Way};
use crate::{BoxFuture, DomainId, Fault};

/// What the inside needs of a hypervisor to move machines. Methods fail with `unavailable` while the connection is lost and
/// with `not-found` for a machine that is not there, except where they say otherwise.
pub trait MigrationPort: Send + Sync {
    /// What a machine needs of a host that shall receive it. Reads only.
    fn passport(&self, id: DomainId) -> BoxFuture<'_, Result<Passport, Fault>>;
    /// Everything that stands in the way of receiving this machine here; empty when nothing does. Reads only.
    fn obstacles(&self, passport: Passport, way: Way) -> BoxFuture<'_, Result<Vec<Obstacle>, Fault>>;
    /// How much is left here. Reads only.
    fn room(&self) -> BoxFuture<'_, Result<Room, Fault>>;
    /// Where the libvirt of another host reaches this one.
    fn landing(&self) -> BoxFuture<'_, Result<Landing, Fault>>;
    /// Moves a machine that is active, and answers when libvirt says how it ended (`virDomainMigrateToURI3`, peer to peer,
    /// live, persistent over there, definition kept here). A fault says nothing about where the guest is: read [`Self::standing`].
    fn transfer(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>>;
    /// How far the transfer is; `None` when no transfer of this machine is under way (`virDomainGetJobStats`).
    fn progress(&self, id: DomainId) -> BoxFuture<'_, Result<Option<Progress>, Fault>>;
    /// Asks libvirt to give a transfer up (`virDomainAbortJob`); `wrong-state` when none is under way. It is over when
    /// [`Self::transfer`] has answered.
    fn cancel(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Frees a transfer that libvirt has given up while QEMU does not end it, and answers whether that was so. A QEMU that is told to give
    /// up in the moment in which it hands over may wait for ever for a word that nobody says (seen with 7.2): libvirt waits for QEMU, and
    /// the guest stands still. The word is said (`virDomainQemuMonitorCommand`: `migrate-continue`); where nothing hangs nothing is done.
    fn free_given_up(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>>;
    /// Switches a transfer to post-copy (`virDomainMigrateStartPostCopy`); possible once its first pass is done.
    fn switch_to_post_copy(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Goes on with a post-copy that broke (`VIR_MIGRATE_POSTCOPY_RESUME`). Only after the target was seen executing.
    fn recover_post_copy(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>>;
    /// How a machine stands with this libvirt now; `Absent` when it is not there.
    fn standing(&self, id: DomainId) -> BoxFuture<'_, Result<Standing, Fault>>;
    /// Defines a machine from a definition another host gave, under its own UUID (`virDomainDefineXML`). A definition of the
    /// same UUID that is off is replaced; `conflict` when the name is another machine's, `wrong-state` when it is active here.
    fn define(&self, id: DomainId, definition: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Forgets the definition of a machine that has departed or is off, keeping what belongs to it on disk (NVRAM, TPM);
    /// nothing when it is not there, `wrong-state` when its guest is here.
    fn discard(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Removes the disks libvirt made here for a copy that was given up, as libvirt leaves them; answers how many. Only for a
    /// machine whose [`Self::obstacles`] with `copy_storage` were asked here and found none of its disks, and `wrong-state` while
    /// libvirt knows the machine here. A hypervisor that copies nothing has nothing to remove.
    fn remove_copies(&self, passport: Passport) -> BoxFuture<'_, Result<u32, Fault>> {
        let _ = passport;
        Box::pin(std::future::ready(Ok(0)))
    }
}
