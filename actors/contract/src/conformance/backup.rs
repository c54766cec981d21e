//! What every hypervisor must do to back a machine up and bring it back.

use super::host::{kind_of, right, spec};
use crate::{
    DomainId, FaultKind, PoolId, Timestamp,
    backup::*,
    domain::{DomainSpec, DomainState},
    host::Host,
    volume::Need,
    work::{Follower, Unfollowed},
};
use std::sync::Arc;

/// Whoever follows wants it to stop at once.
struct Impatient;

impl Follower for Impatient {
    fn advance(&self, _: Option<u8>, _: &str) {}
    fn is_cancelled(&self) -> bool {
        true
    }
    fn on_cancel(&self, stop: Box<dyn FnOnce() + Send>) {
        stop();
    }
}

fn order(pool: PoolId, at: u64, base: Result<Manifest, String>) -> BackupOrder {
    // Names are made of whole seconds.
    BackupOrder { pool, at: Timestamp(at * 1000), base, strict: false, quiesce: false, limit: None }
}

async fn names(host: &Host, pool: PoolId) -> Vec<String> {
    let mut names: Vec<String> = host.backups.archive(pool).await.expect("archive").manifests.into_iter().map(|m| m.name).collect();
    names.sort();
    names
}

async fn volumes(host: &Host, pool: PoolId) -> Vec<String> {
    let mut names: Vec<String> = host.volumes.list(pool).await.expect("volumes").into_iter().map(|v| v.name).collect();
    names.sort();
    names
}

async fn checkpoints(host: &Host, id: DomainId) -> Vec<String> {
    host.backups.checkpoints(id).await.expect("checkpoints").into_iter().map(|c| c.name).collect()
}

/// The life of the backups of a machine that has one disk, a qcow2 volume of this pool, in which there are no backups. `tag` keeps
/// names apart.
pub async fn backup_life(host: &Host, pool: PoolId, volume: &str, tag: &str) {
    let place = host.pools.read(pool).await.expect("pool").name.to_string();
    let machine = DomainSpec { disk: Some((place, volume.to_owned())), ..spec(&format!("kept-{tag}")) };
    let id = host.domains.define(machine, vec![super::unused(host, pool, volume, Need::Sole).await]).await.expect("define");
    let nobody = || Arc::new(Unfollowed);
    let first = || Err("it is the first".to_owned());
    let take = async |order| host.backups.take(id, order, nobody()).await;
    assert!(names(host, pool).await.is_empty() && checkpoints(host, id).await.is_empty());

    let before = volumes(host, pool).await;
    assert!(host.backups.take(id, order(pool, 1, first()), Arc::new(Impatient)).await.is_err(), "it was stopped");
    assert!(names(host, pool).await.is_empty() && volumes(host, pool).await == before, "nothing of it stays");
    let off = take(order(pool, 2, first())).await.expect("of what is off");
    assert_eq!((off.kind, &off.checkpoint, off.disks.len(), off.running), (BackupKind::Full, &None, 1, false));
    let strict = BackupOrder { strict: true, ..order(pool, 3, Ok(off.clone())) };
    assert_eq!(kind_of(take(strict).await), FaultKind::WrongState, "of what is off there are only full ones");

    host.domains.start(right(host, id), false).await.expect("start");
    let full = take(order(pool, 4, first())).await.expect("of what runs");
    assert_eq!((full.kind, full.running, full.checkpoint.is_some()), (BackupKind::Full, true, true));
    let part = take(order(pool, 5, Ok(full.clone()))).await.expect("what was written since");
    assert_eq!((part.kind, part.parent.as_ref()), (BackupKind::Incremental, Some(&full.name)));
    assert_eq!(checkpoints(host, id).await, part.checkpoint.iter().cloned().collect::<Vec<_>>(), "only the last one is needed");
    let archive = host.backups.archive(pool).await.expect("archive");
    assert!(archive.unreadable.is_empty() && archive.manifests.iter().all(|m| archive.trouble(&m.name).is_none()), "{archive:?}");
    assert_eq!(archive.base(id, &checkpoints(host, id).await).expect("the next builds on it").name, part.name);
    let chain: Vec<Manifest> = archive.chain(&part.name).expect("chain").into_iter().cloned().collect();
    assert_eq!(chain, [full.clone(), part.clone()]);
    host.backups.verify(pool, chain.clone(), nobody()).await.expect("verify");

    let restore = async |restore_as| {
        let order = RestoreOrder { pool, chain: chain.clone(), into: None, restore_as, now: Timestamp(9000) };
        host.backups.restore(order, Vec::new(), nobody()).await
    };
    let name = format!("back-{tag}");
    let made = restore(RestoreAs::New(name.clone())).await.expect("a new machine");
    let record = host.domains.read(made.id).await.expect("it is there");
    assert!(made.id != id && *record.name == *name && record.facts.state == DomainState::Shutoff && made.made.len() == 1);
    assert_eq!(kind_of(restore(RestoreAs::New(name)).await), FaultKind::Conflict);
    assert_eq!(kind_of(restore(RestoreAs::InPlace(id)).await), FaultKind::WrongState, "it runs");
    host.domains.undefine(made.id).await.expect("the copy goes");

    assert_eq!(kind_of(host.backups.delete_checkpoint(id, "none".into()).await), FaultKind::NotFound);
    host.domains.force_off(id).await.expect("off");
    let back = restore(RestoreAs::InPlace(id)).await.expect("in place");
    assert!(back.id == id && back.made.len() == 1 && back.before.len() == 1, "{back:?}");
    assert!(checkpoints(host, id).await.is_empty(), "its disks are others now");
    assert!(host.backups.abandon(id).await.expect("nothing is half done").is_empty());
    assert_eq!(kind_of(host.backups.remove(pool, part.clone(), Vec::new()).await), FaultKind::Conflict, "nobody was asked");
    assert_eq!(names(host, pool).await.len(), 3, "it is whole still");
    for manifest in [part, full, off] {
        let mut proofs = Vec::new();
        for disk in &manifest.disks {
            proofs.push(super::unused(host, pool, &disk.file, Need::Gone).await);
        }
        host.backups.remove(pool, manifest, proofs).await.expect("remove");
    }
    assert!(names(host, pool).await.is_empty());
    assert!(volumes(host, pool).await.iter().all(|v| !v.contains("Z.full") && !v.contains("Z.inc")), "their files are gone");
    host.domains.undefine(id).await.expect("undefine");
}
