//! A machine that stands still because its disk could not be written: why, and what to do.
//!
//! ```text
//!   running --SUSPENDED ioerror--> paused (ioerror) --pools of its disks are looked at--> told: which is full, make room, resume
//!                                        \--resumed meanwhile: nothing is told
//! ```
//! QEMU keeps the write that failed and does it again when it goes on, so nothing is lost by waiting. It is looked once, at the
//! moment it happens: what libvirt knows of a pool's room is as old as the last look.

use super::DomainActor;
use crate::{
    board::{Change, Draft},
    scope::{LONG, SHORT, within},
};
use actix::prelude::*;
use archipel_contract::{
    Bytes, DomainId, Facts, Fault,
    domain::DomainState,
    event::Cause,
    host::{DomainChange, Host},
    volume::Landscape,
};
use std::sync::Arc;

/// libvirt's word for a pause that a disk caused.
const IO_ERROR: &str = "ioerror";
/// With less left than this a pool counts as full: a write of the guest takes more than its own bytes.
const FULL: Bytes = Bytes::mib(4);

/// Whether this report says that a disk made it stand still.
pub(super) fn stalls(change: &DomainChange) -> bool {
    matches!(change, DomainChange::State(DomainState::Paused, IO_ERROR))
}

/// The pools that the disks of a machine grow in.
fn pools(landscape: &Landscape, domain: DomainId) -> Vec<(archipel_contract::PoolId, Arc<str>)> {
    let own = landscape.attachments.iter().filter(|a| a.domain == domain && !a.read_only);
    let mut found: Vec<_> = own.filter_map(|a| landscape.at(a.paths.first()?)).map(|v| (v.pool, v.pool_name.clone())).collect();
    found.sort();
    found.dedup();
    found
}

/// Why it stands still, as far as its pools tell.
async fn reason(host: &Host, domain: DomainId) -> Result<String, Fault> {
    let landscape = within(SHORT, host.volumes.landscape()).await?;
    for (pool, name) in pools(&landscape, domain) {
        // A pool that libvirt copies something in cannot be looked through now; then what it knew counts.
        if let Err(fault) = within(LONG, host.pools.refresh(pool)).await {
            tracing::debug!(%pool, %fault, "a pool was not looked through");
        }
        let facts = within(SHORT, host.pools.read(pool)).await?.facts;
        if facts.available < FULL {
            return Ok(format!("is paused: the pool {name} is full; make room, then resume"));
        }
    }
    Ok("is paused: one of its disks reports errors and no pool of it is full; look at the host's storage, then resume".to_owned())
}

impl DomainActor {
    /// Tells why the machine stands still. The state itself has been told already.
    pub(super) fn explain(&mut self, ctx: &mut Context<Self>) {
        let (scope, id) = (self.scope.clone(), self.id);
        let look = async move { reason(&scope.host, id).await };
        ctx.spawn(look.into_actor(self).map(|found, this, _| {
            let why: Arc<str> = match found {
                Ok(why) => why.into(),
                Err(fault) => return tracing::warn!(domain = %this.id, %fault, "nobody could find out why it stands still"),
            };
            let Some(entity) = this.known() else { return };
            let Some(facts) = entity.domain().filter(|f| f.state == DomainState::Paused && f.reason.as_deref() == Some(IO_ERROR)) else {
                return;
            };
            let mut facts = facts.clone();
            facts.reason = Some(why.clone());
            let mut draft = Draft::of(&entity);
            draft.facts = Facts::Domain(facts);
            this.scope.board.publish(Change::to(this.id, "domain.io-error", Cause::Libvirt, draft).with_detail(Some(why)));
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{
        PoolId,
        fake::FakeHost,
        storage_pool::PoolState,
        volume::{Attachment, PlacedVolume, VolumeFacts, VolumeRecord},
    };
    use uuid::Uuid;

    #[test]
    fn only_what_it_writes_to_can_be_full() {
        let id = DomainId(Uuid::from_u128(1));
        let disk = |device: &str, path: &str, read_only| Attachment {
            domain: id,
            name: "web1".into(),
            device: device.into(),
            running: true,
            read_only,
            paths: vec![path.into()],
            ..Attachment::default()
        };
        let volume = |pool: u128, path: &str| PlacedVolume {
            pool: PoolId(Uuid::from_u128(pool)),
            pool_name: format!("pool{pool}").into(),
            volume: VolumeRecord { name: "v".into(), facts: VolumeFacts { path: path.into(), ..VolumeFacts::default() } },
        };
        let landscape = Landscape {
            attachments: vec![
                disk("vda", "/a", false),
                disk("vdb", "/b", false),
                disk("sda", "/iso", true),
                disk("vdc", "/nowhere", false),
            ],
            volumes: vec![volume(1, "/a"), volume(1, "/b"), volume(2, "/iso")],
        };
        let found: Vec<_> = pools(&landscape, id).into_iter().map(|(_, name)| name.to_string()).collect();
        assert_eq!(found, ["pool1"]);
        assert!(stalls(&DomainChange::State(DomainState::Paused, "ioerror")) && !stalls(&DomainChange::State(DomainState::Paused, "user")));
    }

    #[tokio::test]
    async fn a_machine_without_a_full_pool_is_said_to_have_another_trouble() {
        let host = FakeHost::new("alpha").host();
        assert!(host.pools.list().await.unwrap()[0].facts.state == PoolState::Running);
        let said = reason(&host, DomainId(Uuid::from_u128(1))).await.unwrap();
        assert!(said.contains("no pool of it is full"), "{said}");
    }
}
