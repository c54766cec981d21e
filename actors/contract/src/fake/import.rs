//! What the fake hypervisor finds in volumes that are imported: a name ending with `.ova` is an appliance with one disk and a card, one
//! ending with `.bad` leads elsewhere, and everything else is the image of a disk.

use super::host::FakeHost;
use crate::{
    BoxFuture, Bytes, Fault, PoolId,
    domain::{Appliance, Bus, Extent, FoundCard, FoundDisk, ImportPort},
    volume::{NewVolume, Preallocation, VolumeFormat, VolumePort},
    work::Follower,
};
use std::sync::Arc;

impl ImportPort for FakeHost {
    fn look(&self, pool: PoolId, volume: String, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Appliance, Fault>> {
        Box::pin(async move {
            let found = VolumePort::read(self, pool, volume.clone()).await?;
            follower.advance(Some(100), "looking into it");
            if volume.ends_with(".bad") {
                return Err(Fault::invalid(format!("{volume} cannot be imported: it leads elsewhere")));
            }
            let is_appliance = volume.ends_with(".ova");
            let extent = Extent { offset: 0, length: found.facts.allocation.0 };
            Ok(Appliance {
                vcpus: is_appliance.then_some(2),
                memory: is_appliance.then_some(Bytes::mib(256)),
                disks: vec![FoundDisk { extent: Some(extent), capacity: found.facts.capacity, bus: Bus::Sata }],
                cards: vec![FoundCard { network: is_appliance.then(|| "lab".to_owned()), model: "e1000".to_owned() }],
                ..Appliance::default()
            })
        })
    }

    fn bring(
        &self,
        pool: PoolId,
        volume: String,
        _: Extent,
        to: (PoolId, String),
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let found = VolumePort::read(self, pool, volume).await?;
            follower.advance(Some(50), "writing it anew");
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let capacity = Some(found.facts.capacity);
            let (format, preallocation) = (VolumeFormat::Qcow2, Preallocation::None);
            VolumePort::create(self, to.0, NewVolume { name: to.1, capacity, format, preallocation, backing: None }).await
        })
    }
}
