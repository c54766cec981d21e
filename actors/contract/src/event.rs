//! What is pushed when something changed. Names are in the past tense: `domain.started`.
//!
//! Every event of an entity carries `(epoch, seq)`; a viewer that sees a hole asks for a snapshot. The event carries the
//! whole entity as it is afterwards, so applying it needs nothing else.

use crate::{CellName, Entity, EntityId, Epoch, Seq, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Why something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Somebody asked for it through us: the bare JID.
    Person(Arc<str>),
    /// libvirt reported it; whoever did it did not come through us.
    Libvirt,
    /// Archipel did it by itself: a restart of an actor, a resync, a lost connection.
    Archipel,
}

/// One change of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whose.
    pub entity: EntityId,
    /// The cell it lives in.
    pub cell: CellName,
    /// What happened, for example `domain.started`. One of [`TOPICS`].
    pub topic: Cow<'static, str>,
    /// The epoch of the entity.
    pub epoch: Epoch,
    /// The number of this event in that epoch.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// More about it for people, for example libvirt's detail `crashed`.
    pub detail: Option<Arc<str>>,
    /// The entity afterwards; `None` when it is gone.
    pub after: Option<Arc<Entity>>,
}

/// Every topic there is, with what it means. The catalog lists them; a test refuses events that are not here.
pub const TOPICS: &[(&str, &str)] = &[
    ("hypervisor.connected", "libvirt answers and everything was listed"),
    ("hypervisor.lost", "libvirt does not answer any more; its entities are unknown"),
    ("hypervisor.changed", "its facts or its condition changed"),
    ("hypervisor.removed", "it was taken out of the configuration"),
    ("domain.added", "a machine appeared: it was defined, or found when control began"),
    ("domain.started", "it runs"),
    ("domain.not-started", "it was to start with its host and did not; why is told beside it"),
    ("domain.paused", "its virtual CPUs stand still"),
    ("domain.resumed", "its virtual CPUs go on"),
    ("domain.shutting-down", "the guest is going down by itself"),
    ("domain.stopped", "it is off"),
    ("domain.crashed", "it stopped by accident"),
    ("domain.suspended", "the guest put itself to sleep"),
    ("domain.rebooted", "the guest rebooted"),
    ("domain.changed", "its definition, name, note or another fact changed"),
    ("domain.agent-connected", "the guest agent answers"),
    ("domain.agent-disconnected", "the guest agent does not answer any more"),
    ("domain.device-added", "a device was plugged in"),
    ("domain.device-removed", "a device was unplugged"),
    ("domain.graphics", "somebody connected to or left its screen"),
    ("domain.console-opened", "somebody opened its screen or serial line through Archipel"),
    ("domain.console-closed", "somebody left its screen or serial line"),
    ("domain.job", "a job of libvirt on it went on or ended"),
    ("domain.block-job", "a job on one of its disks went on or ended"),
    ("domain.io-error", "a disk of it reports errors"),
    ("domain.watchdog", "its watchdog fired"),
    ("domain.snapshots", "a snapshot of it was taken, gone back to or deleted"),
    ("domain.backups", "a backup of it was made, or it was taken back to one"),
    ("domain.degraded", "its actor failed and is being restarted"),
    ("domain.unknown", "control over it was lost"),
    ("domain.known", "control over it is back"),
    ("domain.migrating", "it is being moved to another host"),
    ("domain.migrated", "it is on another host now"),
    ("domain.parked", "it was taken from its host and lies on the cell's shelf"),
    ("domain.duplicate", "it runs on two hosts at once, or does so no more"),
    ("domain.undefined", "it is gone from libvirt"),
    ("network.added", "a network appeared"),
    ("network.started", "it is active"),
    ("network.stopped", "it is inactive"),
    ("network.changed", "a fact of it changed"),
    ("network.undefined", "it is gone from libvirt"),
    ("storage-pool.added", "a storage pool appeared"),
    ("storage-pool.started", "it is active"),
    ("storage-pool.stopped", "it is inactive"),
    ("storage-pool.refreshed", "its volumes were listed again"),
    ("storage-pool.volumes-changed", "a volume in it was made, changed or deleted"),
    ("storage-pool.changed", "a fact of it changed"),
    ("storage-pool.undefined", "it is gone from libvirt"),
    ("task.started", "a long piece of work began"),
    ("task.progressed", "it went on"),
    ("task.finished", "it ended: done, failed or cancelled"),
    ("task.removed", "it was forgotten to make room"),
];

impl Event {
    /// Whether the entity is gone after this.
    pub fn removes(&self) -> bool {
        self.after.is_none()
    }
}

/// The form on the wire: flat, with the addresses written out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Event")]
struct Wire<'a> {
    /// The bare JID of the entity.
    entity: Cow<'a, str>,
    /// What happened.
    topic: Cow<'a, str>,
    /// The epoch of the entity.
    epoch: Epoch,
    /// The number of this event in that epoch.
    seq: Seq,
    /// When.
    at: Timestamp,
    /// `libvirt`, `archipel`, or `{"person": JID}`.
    cause: Cow<'a, Cause>,
    /// More about it for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Arc<str>>,
    /// The entity afterwards; null when it is gone.
    after: Option<Arc<Entity>>,
}

impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Wire {
            entity: self.cell.jid(&self.entity).into(),
            topic: Cow::Borrowed(&self.topic),
            epoch: self.epoch,
            seq: self.seq,
            at: self.at,
            cause: Cow::Borrowed(&self.cause),
            detail: self.detail.clone(),
            after: self.after.clone(),
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let w = Wire::deserialize(d)?;
        let bad = |e: crate::id::BadId| serde::de::Error::custom(e.to_string());
        let (local, cell) = w.entity.split_once('@').ok_or_else(|| serde::de::Error::custom("an event's entity is a bare JID"))?;
        Ok(Event {
            entity: local.parse().map_err(bad)?,
            cell: cell.parse().map_err(bad)?,
            topic: match TOPICS.iter().find(|(t, _)| *t == w.topic) {
                Some((t, _)) => Cow::Borrowed(t),
                None => Cow::Owned(w.topic.into_owned()),
            },
            epoch: w.epoch,
            seq: w.seq,
            at: w.at,
            cause: w.cause.into_owned(),
            detail: w.detail,
            after: w.after,
        })
    }
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }
    fn json_schema(g: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Wire::json_schema(g)
    }
}
