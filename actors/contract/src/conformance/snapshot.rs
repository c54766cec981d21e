//! What every hypervisor must do with snapshots and saved memory of a running machine.

use super::host::{kind_of, right, spec};
use crate::{
    DomainId, FaultKind,
    domain::{DomainState, Snapshot, SnapshotSpec},
    host::Host,
    work::Unfollowed,
};
use std::sync::Arc;

fn called(name: &str) -> SnapshotSpec {
    SnapshotSpec { name: name.to_owned(), description: Some(format!("<{name}>")), external: false, quiesce: false }
}

async fn tree(host: &Host, id: DomainId) -> Vec<(String, Option<String>, bool)> {
    let all: Vec<Snapshot> = host.snapshots.list(id).await.expect("list");
    let mut tree: Vec<_> = all.into_iter().map(|s| (s.name, s.parent, s.current)).collect();
    tree.sort();
    tree
}

/// The life of the snapshots of a machine without disks. `tag` keeps names apart between runs.
pub async fn snapshot_life(host: &Host, tag: &str) {
    let id = host.domains.define(spec(&format!("album-{tag}")), Vec::new()).await.expect("define");
    let state = async || host.domains.read(id).await.expect("read").facts.state;
    let nobody = || Arc::new(Unfollowed);
    assert!(host.snapshots.list(id).await.expect("list").is_empty());
    host.domains.start(right(host, id), false).await.expect("start");

    host.snapshots.create(id, called("one"), nobody()).await.expect("first");
    host.snapshots.create(id, called("two"), nobody()).await.expect("second");
    assert_eq!(kind_of(host.snapshots.create(id, called("one"), nobody()).await), FaultKind::Conflict);
    let (one, two) = ("one".to_owned(), "two".to_owned());
    assert_eq!(tree(host, id).await, [(one.clone(), None, false), (two.clone(), Some(one.clone()), true)]);
    let first = host.snapshots.list(id).await.expect("list").into_iter().find(|s| s.name == "one").expect("it is listed");
    assert_eq!((first.state.as_str(), first.description.as_deref(), first.external), ("running", Some("<one>"), false));

    host.domains.force_off(id).await.expect("off");
    host.snapshots.revert(right(host, id), one.clone()).await.expect("revert");
    assert_eq!(state().await, DomainState::Running, "it ran when the snapshot was taken");
    assert_eq!(tree(host, id).await, [(one.clone(), None, true), (two.clone(), Some(one.clone()), false)]);
    assert_eq!(kind_of(host.snapshots.revert(right(host, id), "three".into()).await), FaultKind::NotFound);

    host.snapshots.delete(id, one, false).await.expect("delete");
    assert_eq!(tree(host, id).await.iter().map(|(n, p, _)| (n.as_str(), p.as_deref())).collect::<Vec<_>>(), [("two", None)]);
    host.snapshots.delete(id, two.clone(), true).await.expect("delete the rest");
    assert_eq!(kind_of(host.snapshots.delete(id, two, false).await), FaultKind::NotFound);

    host.snapshots.save(id, nobody()).await.expect("save");
    assert!(!state().await.is_active(), "its memory is on disk");
    assert_eq!(kind_of(host.snapshots.save(id, nobody()).await), FaultKind::WrongState);
    host.domains.start(right(host, id), false).await.expect("go on");
    assert_eq!(kind_of(host.snapshots.discard_saved(id).await), FaultKind::WrongState, "the start has used it up");
    host.snapshots.save(id, nobody()).await.expect("save again");
    host.snapshots.discard_saved(id).await.expect("discard");
    host.domains.undefine(id).await.expect("undefine");
    assert_eq!(kind_of(host.snapshots.list(id).await), FaultKind::NotFound);
}
