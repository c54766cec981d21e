//! Who in the whole cell uses a volume: asked here before anything is taken from one or written to it. The ports want the proof
//! ([`Unused`]), so that no command can forget to ask.
//!
//! ```text
//!   change --> where does it lie? --> said what is done with it --> own host and its parked machines, every other host and those
//!                                     (others are told, as long        parked from there --> judged --> Unused --> port
//!                                      as the proof lives)
//! ```
//! What a move copies and removes goes to the migration port and is not asked about here: the saga knows whose it is.

use crate::{
    ask::{Ask, ending},
    hypervisor::{self, HypervisorActor},
    life::Posted,
    migration,
    scope::{LONG, SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Bytes, DomainId, EntityId, Facts, Fault, FaultKind, HypervisorName, PoolId,
    backup::{Archive, Manifest},
    domain::{DomainSpec, Edit, volume_of},
    migration::ShelfNote,
    volume::{
        Answer, Attachment, CopySpec, FindUsers, Inquiry, Landscape, Need, Place, Shelved, Unused, UsedDisk, UsersThere, VolumeUser,
        disks_brought,
    },
    work::Follower,
};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// What this host is doing with volumes right now, told to whoever asks who uses them.
#[derive(Default)]
pub struct Changing(Arc<Mutex<Vec<(u64, Place, String)>>>);

/// One of them; over when it is dropped, wherever that is.
struct Told(Arc<Mutex<Vec<(u64, Place, String)>>>, u64);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.lock().retain(|(number, ..)| *number != self.1);
    }
}

impl Changing {
    fn begin(&self, place: Place, words: String) -> Told {
        let mut all = self.0.lock();
        let number = all.iter().map(|(number, ..)| *number + 1).max().unwrap_or(0);
        all.push((number, place, words));
        Told(self.0.clone(), number)
    }

    fn at(&self, place: &Place) -> Vec<String> {
        self.0.lock().iter().filter(|(_, there, _)| place.may_be(there)).map(|(.., words)| words.clone()).collect()
    }
}

/// What somebody is about to do with something.
struct Wanted {
    /// What it is called, for people.
    name: String,
    path: String,
    need: Need,
    /// The machine that it is for, or that goes with it.
    but: Option<DomainId>,
    /// What may be built on it.
    above: Vec<String>,
}

impl Wanted {
    fn at(path: &str, need: Need, but: Option<DomainId>) -> Wanted {
        Wanted { name: path.to_owned(), path: path.to_owned(), need, but, above: Vec::new() }
    }
}

/// The words for what is being done, for another host's people.
fn words(need: Need, name: &str) -> String {
    match need {
        Need::Gone => format!("{name} is being deleted, renamed or written anew"),
        Need::Still => format!("the size of {name} is being changed"),
        Need::Quiet => format!("{name} is being copied"),
        Need::Base => format!("{name} is being built on"),
        Need::Sole | Need::Shared => format!("{name} is being given to a machine"),
    }
}

/// Asks every host about all of these; the proofs, in their order, or the first reason why it may not be.
async fn asked(scope: &Scope, wanted: Vec<Wanted>, everybody: bool) -> Result<Vec<Unused>, Fault> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let places = within(SHORT, scope.host.volumes.places(wanted.iter().map(|w| w.path.clone()).collect())).await?;
    // Whoever else begins now sees that this has begun.
    let tell = |(w, place): (&Wanted, &Place)| -> Box<dyn Any + Send + Sync> {
        match w.need {
            Need::Quiet | Need::Base | Need::Shared => Box::new(()),
            _ => Box::new(scope.changing.begin(place.clone(), words(w.need, &w.name))),
        }
    };
    let own = places.iter().map(|place| scope.changing.at(place)).collect();
    let told: Vec<_> = wanted.iter().zip(&places).map(tell).collect();
    let answers = answers(scope, &places, own, everybody).await?;
    let judge = |(at, ((w, place), told))| {
        let Wanted { name, need, but, above, .. } = w;
        let of = |(host, same_machine, said): &(Option<HypervisorName>, bool, Result<Vec<UsersThere>, Fault>)| Answer {
            host: host.clone(),
            same_machine: *same_machine,
            said: said.clone().map(|all| all.get(at).cloned().unwrap_or_default()),
        };
        Inquiry { name, place, need, but, above }.judge(&answers.iter().map(of).collect::<Vec<_>>(), told)
    };
    wanted.into_iter().zip(places).zip(told).enumerate().map(judge).collect()
}

type Answers = Vec<(Option<HypervisorName>, bool, Result<Vec<UsersThere>, Fault>)>;

/// What this host, and all others, say of these places.
async fn answers(scope: &Scope, places: &[Place], changing: Vec<Vec<String>>, everybody: bool) -> Result<Answers, Fault> {
    let hosts = if everybody { others(scope).await } else { Ok(Vec::new()) };
    let known = hosts.as_deref().unwrap_or_default();
    let mut shelf = match within(LONG, shelved(scope)).await {
        Ok(shelf) => shelf,
        // What cannot be seen on the shelf is as a host that does not answer.
        Err(fault) if everybody && !scope.peers.is_alone() => {
            return Ok(vec![
                (None, true, look(scope, places, Vec::new(), changing).await),
                (Some(scope.host.name.clone()), true, Err(fault)),
            ]);
        }
        Err(_) => HashMap::new(),
    };
    // Machines that lie there since their host went are judged by what this host has at their paths.
    let mut mine = shelf.remove(scope.host.name.as_str()).unwrap_or_default();
    let gone: Vec<String> = shelf.keys().filter(|from| !known.iter().any(|(host, _)| host.as_str() == from.as_str())).cloned().collect();
    gone.iter().for_each(|from| mine.extend(shelf.remove(from).unwrap_or_default()));
    let mut all: Answers = vec![(None, true, look(scope, places, mine, changing).await)];
    let hosts = match hosts {
        Ok(hosts) => hosts,
        // A host that belongs to no cell has nobody to ask; one that does not reach its cell knows nobody.
        Err(_) if scope.peers.is_alone() => Vec::new(),
        Err(fault) => {
            all.push((Some(scope.host.name.clone()), false, Err(fault)));
            return Ok(all);
        }
    };
    let written = |what: Result<String, serde_json::Error>| {
        what.map_err(|e| Fault::internal("a question could not be written; please report this").because(e))
    };
    let question = written(serde_json::to_string(places))?;
    let questions = hosts.into_iter().map(|(host, same_machine)| {
        let parked = shelf.remove(host.as_str()).filter(|parked| !parked.is_empty());
        let shelved = parked.map(|parked| serde_json::to_string(&parked)).transpose();
        (host, same_machine, FindUsers { places: question.clone(), shelved: shelved.unwrap_or_default() })
    });
    let asked = questions.collect::<Vec<_>>().into_iter().map(|(host, same_machine, question)| async move {
        let said = migration::ask(scope, &host, &question, SHORT).await;
        let whole = said.and_then(|said| match said.len() == places.len() {
            true => Ok(said),
            false => Err(Fault::internal(format!("{host} did not answer all that was asked; compare the versions"))),
        });
        (Some(host), same_machine, whole)
    });
    all.extend(futures::future::join_all(asked).await);
    Ok(all)
}

/// The other hosts of the cell, and whether each is a namespace of this very machine.
async fn others(scope: &Scope) -> Result<Vec<(HypervisorName, bool)>, Fault> {
    let own = hypervisor::facts(scope).and_then(|(_, facts)| facts.kernel);
    let same = |facts: &Facts| matches!(facts, Facts::Hypervisor(f) if f.kernel.is_some() && f.kernel == own);
    let all = migration::hypervisors(scope).await?.into_iter().filter(|h| h.host != scope.host.name);
    Ok(all.map(|h| (h.host.clone(), same(&h.facts))).collect())
}

/// What all parked machines name, by the host they were parked from.
async fn shelved(scope: &Scope) -> Result<HashMap<String, Vec<Shelved>>, Fault> {
    let mut found: HashMap<String, Vec<Shelved>> = HashMap::new();
    for (key, document) in scope.shelf.documents("parked/".to_owned()).await? {
        let unread = |e: &dyn std::fmt::Display| Fault::internal(format!("{key} cannot be read; please report this")).because(e);
        let note: ShelfNote = serde_json::from_slice(&document.body).map_err(|e| unread(&e))?;
        let disks = scope.host.volumes.named(note.definition).await?;
        found.entry(note.parked.from).or_default().push(Shelved { id: note.parked.id, name: note.parked.name, disks });
    }
    Ok(found)
}

/// Who on this host uses what lies in these places.
async fn look(scope: &Scope, places: &[Place], parked: Vec<Shelved>, mut changing: Vec<Vec<String>>) -> Result<Vec<UsersThere>, Fault> {
    let mut landscape = within(SHORT, scope.host.volumes.landscape()).await?;
    for Shelved { id, name, disks } in parked {
        let name: Arc<str> = name.into();
        landscape.attachments.extend(disks.into_iter().map(|disk| Attachment {
            domain: id,
            name: name.clone(),
            device: disk.device,
            read_only: disk.read_only,
            shareable: disk.shareable,
            parked: true,
            running: false,
            paths: disk.paths,
        }));
    }
    let paths = landscape.paths();
    let known = within(SHORT, scope.host.volumes.places(paths.clone())).await?;
    let known: HashMap<String, Place> = paths.into_iter().zip(known).collect();
    changing.resize(places.len(), Vec::new());
    let there = |(place, changing)| {
        let mut there = UsersThere { changing, ..landscape.users_at(place, &known) };
        for user in &mut there.users {
            user.host = Some(scope.host.name.clone());
            let known = scope.board.get(&EntityId::Domain(user.id));
            user.template = known.and_then(|e| e.domain().map(|facts| facts.template)).unwrap_or(false);
        }
        there
    };
    Ok(places.iter().zip(changing).map(there).collect())
}

impl Handler<Posted<Ask<FindUsers>>> for HypervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<UsersThere>, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<FindUsers>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, .. }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let scope = self.scope().clone();
        let looked = async move {
            let bad = |e| Fault::invalid("the question cannot be read; compare the versions").because(e);
            let places: Vec<Place> = serde_json::from_str(&command.places).map_err(bad)?;
            let parked: Option<Vec<Shelved>> = command.shelved.as_deref().map(serde_json::from_str).transpose().map_err(bad)?;
            // What this host does is told last: whatever begins later asks us, and hears of it.
            let mut there = look(&scope, &places, parked.unwrap_or_default(), Vec::new()).await?;
            for (there, place) in there.iter_mut().zip(&places) {
                there.changing = scope.changing.at(place);
            }
            Ok(there)
        };
        Box::pin(looked.into_actor(self))
    }
}

// ------------------------------------------------------------ what commands ask

async fn path(scope: &Scope, pool: PoolId, name: &str) -> Result<String, Fault> {
    Ok(within(SHORT, scope.host.volumes.read(pool, name.to_owned())).await?.facts.path)
}

/// The proof for one volume. `but` is the machine that goes with it.
pub async fn of_volume(scope: &Scope, pool: PoolId, name: &str, need: Need, but: Option<DomainId>) -> Result<Unused, Fault> {
    let wanted = Wanted { name: name.to_owned(), ..Wanted::at(&path(scope, pool, name).await?, need, but) };
    only(asked(scope, vec![wanted], true).await?)
}

/// The same for a volume that was just made here and that nobody else has been told of: only this host is asked.
async fn of_new_volume(scope: &Scope, pool: PoolId, name: &str, need: Need) -> Result<Unused, Fault> {
    let wanted = Wanted { name: name.to_owned(), ..Wanted::at(&path(scope, pool, name).await?, need, None) };
    only(asked(scope, vec![wanted], false).await?)
}

fn only(proofs: Vec<Unused>) -> Result<Unused, Fault> {
    proofs.into_iter().next().ok_or_else(|| Fault::internal("nothing was asked; please report this"))
}

/// The proofs for volumes that go with a machine, or all of a pool.
pub async fn of_volumes(scope: &Scope, volumes: &[(PoolId, String)], but: Option<DomainId>) -> Result<Vec<Unused>, Fault> {
    let mut wanted = Vec::new();
    for (pool, name) in volumes {
        wanted.push(Wanted { name: name.clone(), ..Wanted::at(&path(scope, *pool, name).await?, Need::Gone, but) });
    }
    asked(scope, wanted, true).await
}

/// The proof for a volume that is named as POOL/VOLUME.
pub async fn of_named(scope: &Scope, named: &str, need: Need, domain: Option<DomainId>) -> Result<Unused, Fault> {
    let (pool, volume) = volume_of(named)?;
    let pools = within(SHORT, scope.host.pools.list()).await?;
    let found = pools.into_iter().find(|p| *p.name == *pool);
    let pool = found.ok_or_else(|| Fault::not_found(format!("there is no storage pool {pool}; list them again")))?;
    let wanted = Wanted { name: named.to_owned(), ..Wanted::at(&path(scope, pool.id, &volume).await?, need, domain) };
    only(asked(scope, vec![wanted], true).await?)
}

/// Defines a machine, if nobody else has its disk.
pub async fn define(scope: &Scope, spec: DomainSpec) -> Result<DomainId, Fault> {
    let disks = match &spec.disk {
        Some((pool, volume)) => vec![of_named(scope, &format!("{pool}/{volume}"), Need::Sole, None).await?],
        None => Vec::new(),
    };
    within(LONG, scope.host.domains.define(spec, disks)).await
}

/// Copies a volume, if nobody writes to it; one that takes the place of its original, if nobody uses that.
pub async fn copy(scope: &Scope, pool: PoolId, name: String, copy: CopySpec, follower: Arc<dyn Follower>) -> Result<(), Fault> {
    let need = if copy.pool.is_none() && copy.to == name { Need::Gone } else { Need::Quiet };
    let proof = of_volume(scope, pool, &name, need, None).await?;
    scope.host.volumes.copy(pool, name, copy, proof, follower).await
}

/// Makes a volume larger that was just made here.
pub async fn grow_new(scope: &Scope, pool: PoolId, name: &str, capacity: Bytes) -> Result<(), Fault> {
    let still = of_new_volume(scope, pool, name, Need::Still).await?;
    within(LONG, scope.host.volumes.resize(pool, name.to_owned(), capacity, false, still)).await
}

/// Deletes a volume that was made here a while ago: making the rest may have taken hours, and others may have found it.
pub async fn delete_new(scope: &Scope, pool: PoolId, name: &str) -> Result<(), Fault> {
    let free = of_volume(scope, pool, name, Need::Gone, None).await?;
    within(LONG, scope.host.volumes.delete(pool, name.to_owned(), free)).await
}

/// The proof for what an edit brings, if it brings anything.
pub async fn of_edit(scope: &Scope, domain: DomainId, edit: &Edit) -> Result<Option<Unused>, Fault> {
    match edit.brings() {
        Some((named, need)) => of_named(scope, named, need, Some(domain)).await.map(Some),
        None => Ok(None),
    }
}

/// The proofs for the disks that a new definition of a machine names and the present one does not.
pub async fn of_definition(scope: &Scope, domain: DomainId, xml: &str) -> Result<Vec<Unused>, Fault> {
    let present = within(SHORT, scope.host.domains.xml(domain, true)).await?;
    let present = within(SHORT, scope.host.volumes.named(present)).await?;
    // What people write may be no XML at all, and then it is not libvirt that is to blame.
    let unreadable = |fault: Fault| match fault.kind {
        FaultKind::Internal => Fault::invalid("the definition cannot be read; nothing was changed").because(fault),
        _ => fault,
    };
    let new = within(SHORT, scope.host.volumes.named(xml.to_owned())).await.map_err(unreadable)?;
    asked(scope, brought(new, &present, Some(domain)), true).await
}

fn brought(new: Vec<UsedDisk>, present: &[UsedDisk], but: Option<DomainId>) -> Vec<Wanted> {
    let wanted = |disk: UsedDisk| Some(Wanted::at(disk.paths.first()?, disk.need(), but));
    disks_brought(new, present).into_iter().filter_map(wanted).collect()
}

/// The proofs for what the definition in a backup names beside the disks that come back with it. `domain` is the machine that is taken
/// back; a new one has nothing yet, and gets firmware variables of its own.
pub async fn of_backup(scope: &Scope, newest: &Manifest, domain: Option<DomainId>) -> Result<Vec<Unused>, Fault> {
    let comes = |device: &str| newest.disks.iter().any(|d| d.device == device) || (domain.is_none() && device == "nvram");
    let mut named = within(SHORT, scope.host.volumes.named(newest.definition.clone())).await?;
    named.retain(|disk| !comes(&disk.device));
    let present = match domain {
        None => Vec::new(),
        Some(id) => {
            let xml = within(SHORT, scope.host.domains.xml(id, true)).await?;
            within(SHORT, scope.host.volumes.named(xml)).await?
        }
    };
    asked(scope, brought(named, &present, domain), true).await
}

/// The proofs that the files of these backups may go, in their order, and with each other.
pub async fn of_backups(scope: &Scope, pool: PoolId, archive: &Archive, going: &[Manifest]) -> Result<Vec<Vec<Unused>>, Fault> {
    let dir = within(SHORT, scope.host.pools.read(pool)).await?.facts.path.unwrap_or_default();
    let there = |m: &Manifest| m.disks.iter().map(|d| d.file.clone()).filter(|f| archive.files.contains_key(f)).collect::<Vec<_>>();
    let files: Vec<Vec<String>> = going.iter().map(there).collect();
    let above: Vec<String> = files.iter().flatten().cloned().collect();
    let wanted = |file: &String| Wanted {
        name: file.clone(),
        above: above.clone(),
        ..Wanted::at(&format!("{}/{file}", dir.trim_end_matches('/')), Need::Gone, None)
    };
    let mut proofs = asked(scope, files.iter().flatten().map(wanted).collect(), true).await?.into_iter();
    Ok(files.iter().map(|of_one| proofs.by_ref().take(of_one.len()).collect()).collect())
}

/// The proofs for what making a pool anew would write over.
pub async fn of_ground(scope: &Scope, pool: PoolId) -> Result<Vec<Unused>, Fault> {
    let ground = within(SHORT, scope.host.pools.ground(pool)).await?;
    asked(scope, ground.iter().map(|path| Wanted::at(path, Need::Gone, None)).collect(), true).await
}

/// The proofs that nobody else in the cell uses what a machine writes to, or builds on it.
pub async fn of_machine(scope: &Scope, all: &Landscape, domain: DomainId) -> Result<Vec<Unused>, Fault> {
    let own = all.of_domain(domain).into_iter().filter(|v| !v.read_only);
    asked(scope, own.map(|v| Wanted::at(&v.path, Need::Gone, Some(domain))).collect(), true).await
}

/// Where a machine's own disk is, nearest layer first, and what the layers above the one below are called.
async fn own(scope: &Scope, domain: DomainId, device: &str) -> Result<(Vec<String>, Vec<String>), Fault> {
    let all = within(SHORT, scope.host.volumes.landscape()).await?;
    let layers = all.layers(domain, device);
    if layers.is_empty() {
        return Err(Fault::not_found(format!("it has no disk {device}; list its devices")));
    }
    Ok((layers.iter().map(ToString::to_string).collect(), all.names(&layers)))
}

/// The proof that a machine's own disk may change its size: nobody else runs with it.
pub async fn of_own_disk(scope: &Scope, domain: DomainId, device: &str) -> Result<Unused, Fault> {
    let (layers, _) = own(scope, domain, device).await?;
    only(asked(scope, layers.first().map(|path| Wanted::at(path, Need::Still, Some(domain))).into_iter().collect(), true).await?)
}

/// The proofs that a machine's own layers may be merged downwards, `depth` of them: what is written to is the `depth` below the newest.
pub async fn of_layers(scope: &Scope, domain: DomainId, device: &str, depth: usize) -> Result<Vec<Unused>, Fault> {
    let (layers, above) = own(scope, domain, device).await?;
    let wanted = |path: &String| Wanted { above: above.clone(), ..Wanted::at(path, Need::Sole, Some(domain)) };
    asked(scope, layers.iter().skip(1).take(depth).map(wanted).collect(), true).await
}

/// The proofs that nobody else writes to the disks of a machine, which are to be copied.
pub async fn of_disks(scope: &Scope, domain: DomainId) -> Result<Vec<Unused>, Fault> {
    let present = within(SHORT, scope.host.domains.xml(domain, true)).await?;
    let disks = within(SHORT, scope.host.volumes.named(present)).await?.into_iter().filter(|disk| !disk.read_only);
    let wanted = disks.filter_map(|disk| Some(Wanted::at(disk.paths.first()?, Need::Quiet, Some(domain))));
    asked(scope, wanted.collect(), true).await
}

/// Everybody in the cell who uses a volume, and the hosts that could not be asked.
pub async fn everywhere(scope: &Scope, pool: PoolId, name: &str) -> Result<Vec<VolumeUser>, Fault> {
    let places = within(SHORT, scope.host.volumes.places(vec![path(scope, pool, name).await?])).await?;
    let mut users = Vec::new();
    for (host, _, said) in answers(scope, &places, Vec::new(), true).await? {
        match said {
            Ok(there) => users.extend(there.into_iter().flat_map(|t| t.users)),
            Err(fault) if host.is_none() => return Err(fault),
            Err(fault) => tracing::debug!(?host, %fault, "could not be asked who uses a volume"),
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_done_is_told_until_its_proof_is_gone() {
        let changing = Changing::default();
        let (here, there) = (Place::unknown("/i/a"), Place::unknown("/i/b"));
        let first = changing.begin(here.clone(), "one".into());
        let second = changing.begin(here.clone(), "two".into());
        assert_eq!((changing.at(&here), changing.at(&there)), (vec!["one".to_owned(), "two".to_owned()], vec![]));
        drop(first);
        let third = changing.begin(here.clone(), "three".into());
        drop(second);
        assert_eq!(changing.at(&here), ["three"]);
        drop(third);
        assert!(changing.at(&here).is_empty());
    }
}
