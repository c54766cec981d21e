//! Snapshots and saved memory of the fake hypervisor.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, DomainId, Fault, FaultKind, RightToRun, Timestamp,
    domain::{DomainRecord, DomainState, Snapshot, SnapshotPort, SnapshotSpec},
    work::Follower,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the fake keeps of snapshots.
#[derive(Default)]
pub(super) struct Album {
    taken: BTreeMap<DomainId, Vec<Snapshot>>,
    saved: BTreeSet<DomainId>,
}

impl Album {
    /// A machine starts: its saved memory is used up.
    pub(super) fn started(&mut self, id: DomainId) {
        self.saved.remove(&id);
    }
}

impl FakeHost {
    /// Memory of a machine that is off was saved here some time ago.
    pub fn keep_memory(&self, id: DomainId) {
        self.change(|model| {
            model.album.saved.insert(id);
        });
    }
}

fn machine(model: &mut Model, id: DomainId) -> Result<&mut DomainRecord, Fault> {
    model.domains.get_mut(&id).ok_or_else(|| Fault::not_found(format!("there is no virtual machine {id}; list them again")))
}

fn position(model: &Model, id: DomainId, name: &str) -> Result<usize, Fault> {
    let all = model.album.taken.get(&id).map(Vec::as_slice).unwrap_or_default();
    all.iter().position(|s| s.name == name).ok_or_else(|| Fault::not_found("there is no such snapshot; list them again"))
}

impl SnapshotPort for FakeHost {
    fn list(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Snapshot>, Fault>> {
        self.call("snapshot.list", id.to_string(), move |model| {
            machine(model, id)?;
            Ok(model.album.taken.get(&id).cloned().unwrap_or_default())
        })
    }

    fn create(&self, id: DomainId, spec: SnapshotSpec, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("snapshot.create", id.to_string(), move |model| {
            let state = machine(model, id)?.facts.state;
            if follower.is_cancelled() {
                return Err(Fault::busy("it was cancelled; nothing was taken"));
            }
            let all = model.album.taken.entry(id).or_default();
            if all.iter().any(|s| s.name == spec.name) {
                return Err(Fault::new(FaultKind::Conflict, format!("there is a snapshot {} already; choose another name", spec.name)));
            }
            let parent = all.iter_mut().find(|s| s.current).map(|s| {
                s.current = false;
                s.name.clone()
            });
            all.push(Snapshot {
                name: spec.name,
                parent,
                state: if spec.external { "disk-snapshot" } else { state.name() }.to_owned(),
                current: true,
                memory: state.is_active() && !spec.external,
                external: spec.external,
                created: Timestamp(0),
                disks: vec!["vda".to_owned()],
                description: spec.description,
            });
            Ok(())
        })
    }

    fn revert(&self, right: RightToRun, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        let id = right.domain();
        self.call("snapshot.revert", id.to_string(), move |model| {
            machine(model, id)?;
            let at = position(model, id, &name)?;
            let all = model.album.taken.entry(id).or_default();
            all.iter_mut().enumerate().for_each(|(n, s)| s.current = n == at);
            let state = match all[at].state.as_str() {
                "running" => DomainState::Running,
                "paused" => DomainState::Paused,
                _ => DomainState::Shutoff,
            };
            if machine(model, id)?.facts.state != state {
                model.enter(id, state, "from snapshot");
            }
            Ok(())
        })
    }

    fn delete(&self, id: DomainId, name: String, children: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("snapshot.delete", id.to_string(), move |model| {
            machine(model, id)?;
            let at = position(model, id, &name)?;
            let all = model.album.taken.entry(id).or_default();
            let gone = all.remove(at);
            if gone.current
                && let Some(parent) = all.iter_mut().find(|s| Some(&s.name) == gone.parent.as_ref())
            {
                parent.current = true;
            }
            let mut lost = vec![gone.name];
            while let Some(orphan) = all.iter().position(|s| s.parent.as_ref().is_some_and(|p| lost.contains(p))) {
                if children {
                    lost.push(all.remove(orphan).name);
                } else {
                    all[orphan].parent = gone.parent.clone();
                }
            }
            Ok(())
        })
    }

    fn save(&self, id: DomainId, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.save", id.to_string(), move |model| {
            if !machine(model, id)?.facts.state.is_active() {
                return Err(Fault::wrong_state("it is off, so there is no memory to save"));
            }
            if follower.is_cancelled() {
                return Err(Fault::busy("it was cancelled; it runs on"));
            }
            model.album.saved.insert(id);
            model.enter(id, DomainState::Shutoff, "saved");
            Ok(())
        })
    }

    fn is_saved(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call("domain.is-saved", id.to_string(), move |model| machine(model, id).map(drop).map(|()| model.album.saved.contains(&id)))
    }

    fn discard_saved(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.discard-saved", id.to_string(), move |model| {
            machine(model, id)?;
            if model.album.saved.remove(&id) {
                Ok(())
            } else {
                Err(Fault::wrong_state("it has no saved memory; its next start is a cold one"))
            }
        })
    }
}
