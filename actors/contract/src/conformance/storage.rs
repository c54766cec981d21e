//! What every hypervisor must do with pools and volumes. The first part needs no QEMU and runs against libvirt's test driver too;
//! the second one works on real images.

use super::host::{kind_of, spec};
use super::{Probe, unused};
use crate::{
    Bytes, FaultKind, Millis, PoolId,
    domain::DomainSpec,
    host::{Host, HostChange, PoolChange},
    storage_pool::{PoolRecord, PoolSpec, PoolState, PoolType},
    volume::{CopySpec, Need, NewVolume, Preallocation, Sink, Source, UploadSpec, VolumeFormat},
    work::{Follower, Unfollowed},
};
use std::sync::Arc;

const SOON: Millis = Millis::seconds(20);

fn new(name: &str, format: VolumeFormat) -> NewVolume {
    NewVolume { name: name.into(), capacity: Some(Bytes::mib(4)), format, preallocation: Preallocation::None, backing: None }
}

async fn names(host: &Host, pool: PoolId) -> Vec<String> {
    let mut names: Vec<String> = host.volumes.list(pool).await.expect("list").into_iter().map(|v| v.name).collect();
    names.sort();
    names
}

async fn first_running(host: &Host) -> PoolRecord {
    let pools = host.pools.list().await.expect("list");
    pools.into_iter().find(|p| p.facts.state == PoolState::Running).expect("a running pool to try")
}

/// A pool is defined at that directory, built, started, emptied, deleted and forgotten, each seen as an event.
pub async fn pool_definition(host: &Host, tag: &str, dir: &str) {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    let mut at = probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    let name = format!("made-{tag}");
    let asked = PoolSpec { name: name.clone(), pool_type: PoolType::Dir, target: Some(dir.to_owned()), ..PoolSpec::default() };
    let pools = &host.pools;

    let id = pools.define(asked.clone()).await.expect("define");
    at = probe.wait(at, SOON, "defined", |c| *c == HostChange::StoragePool(id, PoolChange::Defined));
    assert_eq!(kind_of(pools.define(asked).await), FaultKind::Conflict, "a name is taken once");
    let record = pools.read(id).await.expect("read");
    assert_eq!((&*record.name, record.facts.state, record.facts.path.as_deref()), (&*name, PoolState::Inactive, Some(dir)));
    assert_eq!(kind_of(pools.delete(id, false, Vec::new()).await), FaultKind::WrongState, "nobody can see whether it is empty");
    pools.build(id, false, Vec::new()).await.expect("build");
    pools.start(id).await.expect("start");
    at = probe.wait(at, SOON, "started", |c| *c == HostChange::StoragePool(id, PoolChange::Started));
    assert_eq!(kind_of(pools.build(id, false, Vec::new()).await), FaultKind::WrongState);
    assert_eq!(kind_of(pools.undefine(id).await), FaultKind::WrongState, "what runs is not forgotten");

    host.volumes.create(id, new("a", VolumeFormat::Raw)).await.expect("create");
    assert_eq!(kind_of(pools.delete(id, false, Vec::new()).await), FaultKind::WrongState, "it is not empty");
    assert_eq!(pools.read(id).await.expect("read").facts.state, PoolState::Running, "a refusal changes nothing");
    pools.delete(id, true, vec![unused(host, id, "a", Need::Gone).await]).await.expect("delete with its volumes");
    at = probe.wait(at, SOON, "stopped", |c| *c == HostChange::StoragePool(id, PoolChange::Stopped));
    pools.undefine(id).await.expect("undefine");
    probe.wait(at, SOON, "undefined", |c| *c == HostChange::StoragePool(id, PoolChange::Undefined));
    assert_eq!(kind_of(pools.read(id).await), FaultKind::NotFound);
}

/// A volume is made and deleted in the first pool that runs; what is there already is not touched.
pub async fn volume_life(host: &Host, tag: &str) {
    let pool = first_running(host).await.id;
    let (name, volumes) = (format!("life-{tag}"), &host.volumes);
    let before = names(host, pool).await;
    volumes.create(pool, new(&name, VolumeFormat::Qcow2)).await.expect("create");
    let made = volumes.read(pool, name.clone()).await.expect("read");
    assert_eq!((made.facts.capacity, made.facts.format.as_deref(), made.state()), (Bytes::mib(4), Some("qcow2"), "available"));
    assert!(volumes.list(pool).await.expect("list").contains(&made), "a volume reads the same alone and in the list");
    assert_eq!(kind_of(volumes.create(pool, new(&name, VolumeFormat::Raw)).await), FaultKind::Conflict, "a name is taken once");
    assert_eq!(volumes.read(pool, name.clone()).await.expect("read"), made, "what was there is as it was");
    assert_eq!(
        kind_of(volumes.resize(pool, name.clone(), Bytes::MIB, false, unused(host, pool, &name, Need::Still).await).await),
        FaultKind::InvalidRequest,
        "nothing is cut off unasked"
    );
    let all = volumes.landscape().await.expect("landscape");
    assert!(all.users(&made.facts.path).is_empty() && all.orphans(pool).iter().any(|v| v.name == name));
    volumes.delete(pool, name.clone(), unused(host, pool, &name, Need::Gone).await).await.expect("delete");
    assert_eq!(kind_of(volumes.read(pool, name.clone()).await), FaultKind::NotFound);
    assert_eq!(kind_of(volumes.delete(pool, name.clone(), unused(host, pool, &name, Need::Gone).await).await), FaultKind::NotFound);
    assert_eq!(
        kind_of(volumes.resize(pool, name.clone(), Bytes::MIB, true, unused(host, pool, &name, Need::Still).await).await),
        FaultKind::NotFound
    );
    assert_eq!(
        kind_of(volumes.rename(pool, name.clone(), "other".into(), unused(host, pool, &name, Need::Gone).await).await),
        FaultKind::NotFound
    );
    assert_eq!(kind_of(volumes.wipe(pool, name.clone(), unused(host, pool, &name, Need::Gone).await).await), FaultKind::NotFound);
    assert_eq!(names(host, pool).await, before);
}

/// Pieces to send, and what was fetched.
#[derive(Default, Clone)]
struct Pipe(Arc<std::sync::Mutex<std::collections::VecDeque<Piece>>>);

type Piece = Result<Vec<u8>, crate::Fault>;

impl Pipe {
    fn of(pieces: impl IntoIterator<Item = Piece>) -> Pipe {
        Pipe(Arc::new(std::sync::Mutex::new(pieces.into_iter().collect())))
    }
    fn all(&self) -> Vec<u8> {
        self.0.lock().expect("pipe").iter().flatten().flatten().copied().collect()
    }
}

impl Source for Pipe {
    fn next(&mut self) -> Option<Result<Vec<u8>, crate::Fault>> {
        self.0.lock().expect("pipe").pop_front()
    }
}

impl Sink for Pipe {
    fn put(&mut self, bytes: Vec<u8>) -> bool {
        self.0.lock().expect("pipe").push_back(Ok(bytes));
        true
    }
}

/// Contents are sent in pieces, cut off, gone on with and fetched; `keeps` says whether what is written can be read again.
pub async fn volume_transfer(host: &Host, tag: &str, keeps: bool) {
    let id = first_running(host).await.id;
    let volumes = &host.volumes;
    let before = names(host, id).await;
    let name = format!("sent-{tag}");
    let nobody: Arc<dyn Follower> = Arc::new(Unfollowed);
    let spec = |from| UploadSpec { name: name.clone(), from, size: Some(200_000) };
    let (first, hole, last) = (vec![7u8; 50_000], vec![0u8; 100_000], vec![9u8; 50_000]);

    assert_eq!(volumes.begun(id, name.clone()).await.expect("begun"), None);
    let cut = Pipe::of([Ok(first.clone()), Err(crate::Fault::unavailable("the line was cut"))]);
    assert_eq!(kind_of(volumes.upload(id, spec(0), Box::new(cut), nobody.clone()).await), FaultKind::Unavailable);
    assert_eq!(kind_of(volumes.read(id, name.clone()).await), FaultKind::NotFound, "half a volume has no name");
    assert_eq!(volumes.begun(id, name.clone()).await.expect("begun"), Some(Bytes(50_000)));
    let rest = Pipe::of([Ok(hole.clone()), Ok(last.clone())]);
    volumes.upload(id, spec(50_000), Box::new(rest), nobody.clone()).await.expect("go on");
    assert_eq!(volumes.length(id, name.clone()).await.expect("length"), Bytes(200_000));
    assert_eq!(kind_of(volumes.begun(id, name.clone()).await), FaultKind::Conflict);
    assert_eq!(kind_of(volumes.upload(id, spec(0), Box::new(Pipe::default()), nobody.clone()).await), FaultKind::Conflict);
    let (all, part) = (Pipe::default(), Pipe::default());
    volumes.download(id, name.clone(), 0, 200_000, Box::new(all.clone())).await.expect("fetch");
    volumes.download(id, name.clone(), 149_999, 3, Box::new(part.clone())).await.expect("fetch a part");
    assert_eq!((all.all().len(), part.all().len()), (200_000, 3));
    if keeps {
        assert!(all.all() == [first.clone(), hole, last].concat() && part.all() == [0, 9, 9], "what was sent is what is fetched");
    }
    volumes.delete(id, name.clone(), unused(host, id, &name, Need::Gone).await).await.expect("delete");
    let stopped = volumes.upload(id, spec(0), Box::new(Pipe::of([Ok(first)])), Arc::new(Stopped)).await;
    assert!(stopped.is_err(), "it was stopped");
    assert_eq!(names(host, id).await, before, "what is stopped leaves nothing");
}

/// Stops before it has begun.
struct Stopped;

impl Follower for Stopped {
    fn advance(&self, _: Option<u8>, _: &str) {}
    fn is_cancelled(&self) -> bool {
        true
    }
    fn on_cancel(&self, stop: Box<dyn FnOnce() + Send>) {
        stop();
    }
}

fn copy(to: &str, format: Option<VolumeFormat>) -> CopySpec {
    CopySpec { pool: None, to: to.into(), format }
}

/// Volumes are grown, built upon, renamed, copied, converted and overwritten; what a machine uses is not taken from it.
pub async fn volume_work(host: &Host, tag: &str) {
    let pool = first_running(host).await;
    let (id, volumes) = (pool.id, &host.volumes);
    let before = names(host, id).await;
    let [base, top, moved, copied, other] = ["base", "top", "moved", "copied", "other"].map(|n| format!("{n}-{tag}"));
    let nobody: Arc<dyn Follower> = Arc::new(Unfollowed);

    volumes.create(id, new(&base, VolumeFormat::Qcow2)).await.expect("create");
    volumes.resize(id, base.clone(), Bytes::mib(8), false, unused(host, id, &base, Need::Still).await).await.expect("grow");
    assert_eq!(volumes.read(id, base.clone()).await.expect("read").facts.capacity, Bytes::mib(8));
    let on_base = NewVolume { capacity: None, backing: Some((pool.name.to_string(), base.clone())), ..new(&top, VolumeFormat::Qcow2) };
    volumes.create(id, on_base).await.expect("build on it");
    let facts = volumes.read(id, top.clone()).await.expect("read").facts;
    let below = volumes.read(id, base.clone()).await.expect("read").facts;
    assert_eq!((facts.capacity, facts.backing.as_deref()), (Bytes::mib(8), Some(below.path.as_str())));
    assert_eq!(
        kind_of(volumes.delete(id, base.clone(), unused(host, id, &base, Need::Gone).await).await),
        FaultKind::Busy,
        "something is built on it"
    );
    assert_eq!(kind_of(volumes.rename(id, base.clone(), moved.clone(), unused(host, id, &base, Need::Gone).await).await), FaultKind::Busy);

    let machine = DomainSpec { disk: Some((pool.name.to_string(), top.clone())), ..spec(&format!("user-{tag}")) };
    let domain = host.domains.define(machine, vec![unused(host, id, &top, Need::Sole).await]).await.expect("define a machine with it");
    let users = volumes.landscape().await.expect("landscape").users(&below.path);
    let own = users.iter().map(|u| (u.id, u.running, u.through.as_deref())).collect::<Vec<_>>();
    assert_eq!(own, [(domain, false, Some(facts.path.as_str()))], "a machine uses what its disk is built on");
    for refused in [
        volumes.delete(id, top.clone(), unused(host, id, &top, Need::Gone).await).await,
        volumes.rename(id, top.clone(), moved.clone(), unused(host, id, &top, Need::Gone).await).await,
        volumes.wipe(id, top.clone(), unused(host, id, &top, Need::Gone).await).await,
        volumes.copy(id, top.clone(), copy(&top, Some(VolumeFormat::Raw)), unused(host, id, &top, Need::Gone).await, nobody.clone()).await,
    ] {
        let fault = refused.expect_err("it is used");
        assert!(fault.kind == FaultKind::Busy && fault.message.contains(&format!("user-{tag}")), "{fault}");
    }
    volumes
        .copy(id, top.clone(), copy(&copied, None), unused(host, id, &top, Need::Gone).await, nobody.clone())
        .await
        .expect("copy what is not written to");
    let same = volumes.read(id, copied.clone()).await.expect("read").facts;
    assert_eq!((same.capacity, same.format, same.backing), (facts.capacity, facts.format, facts.backing), "a copy is what it is a copy of");
    host.domains.undefine(domain).await.expect("undefine");

    assert_eq!(
        kind_of(volumes.copy(id, top.clone(), copy(&copied, None), unused(host, id, &top, Need::Gone).await, nobody.clone()).await),
        FaultKind::Conflict
    );
    let stopped = volumes.copy(id, top.clone(), copy(&other, None), unused(host, id, &top, Need::Gone).await, Arc::new(Stopped)).await;
    assert!(stopped.is_err() && !names(host, id).await.iter().any(|n| n.starts_with(&other)), "what is stopped leaves nothing");
    volumes
        .copy(id, top.clone(), copy(&top, Some(VolumeFormat::Raw)), unused(host, id, &top, Need::Gone).await, nobody.clone())
        .await
        .expect("convert in its place");
    let raw = volumes.read(id, top.clone()).await.expect("read").facts;
    assert_eq!((raw.format.as_deref(), raw.backing, raw.capacity), (Some("raw"), None, Bytes::mib(8)));
    volumes
        .copy(id, top.clone(), copy(&other, Some(VolumeFormat::Qcow2)), unused(host, id, &top, Need::Gone).await, nobody)
        .await
        .expect("convert beside it");
    assert_eq!(volumes.read(id, other.clone()).await.expect("read").facts.format.as_deref(), Some("qcow2"));

    volumes.rename(id, top.clone(), moved.clone(), unused(host, id, &top, Need::Gone).await).await.expect("rename");
    assert_eq!(kind_of(volumes.read(id, top.clone()).await), FaultKind::NotFound);
    assert_eq!(
        kind_of(volumes.rename(id, moved.clone(), base.clone(), unused(host, id, &moved, Need::Gone).await).await),
        FaultKind::Conflict,
        "nothing is written over"
    );
    volumes.wipe(id, moved.clone(), unused(host, id, &moved, Need::Gone).await).await.expect("wipe");
    for name in [moved, copied, other, base] {
        volumes.delete(id, name.clone(), unused(host, id, &name, Need::Gone).await).await.expect("delete");
    }
    assert_eq!(names(host, id).await, before, "nothing is left");
}
