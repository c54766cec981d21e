//! Exports of the fake: a volume appears that says what it is, and holds no bytes.

use super::host::FakeHost;
use crate::{
    BoxFuture, Bytes, DomainId, Fault, PoolId,
    domain::{ExportPort, Exported},
    volume::{NewVolume, Preallocation, Unused, VolumeFormat, VolumePort},
    work::Follower,
};
use std::sync::Arc;

impl ExportPort for FakeHost {
    fn export(
        &self,
        domain: DomainId,
        to: (PoolId, String),
        _: Vec<Unused>,
        _: bool,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<Exported, Fault>> {
        Box::pin(async move {
            self.call("domain.export", domain.to_string(), |_| Ok(())).await?;
            follower.advance(Some(50), "packing its disks");
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let (capacity, format) = (Some(Bytes::MIB), VolumeFormat::Raw);
            VolumePort::create(self, to.0, NewVolume { name: to.1, capacity, format, preallocation: Preallocation::None, backing: None })
                .await?;
            Ok(Exported { size: Bytes::MIB, remarks: Vec::new() })
        })
    }
}
