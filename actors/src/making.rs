//! The making of a machine: several steps that are long work together, and of which either all are left or none.
//!
//! ```text
//!   begin: the name is taken --> step --> step --> ... --> done: all of it stays
//!                                  |  fails, or is cancelled: what was made goes again, the last first
//!                                  +--> failed | cancelled, with what could not be removed by name
//!
//!   each step: not cancelled? --> written down --> port --> made, written down, told
//!   the daemon dies: what stands written down is looked at when its host is listed again. What is unfinished is removed;
//!   what is whole is named, and not removed: nobody knows what was done with it meanwhile
//! ```
//! Whoever makes a machine in some way (from an image, as a clone, from a foreign format) writes the steps in order with the methods
//! of [`Making`] and returns at the first fault. Nothing that was there before is ever overwritten or removed: ports refuse a name
//! that is taken, and only what a port said it had made is removed.

mod part;

use crate::{
    ask::{Ask, bare},
    domain::DomainActor,
    hypervisor,
    migration::departure::Ending,
    noun,
    scope::{LONG, SHORT, Scope, within},
    storage_pool::Pool,
    users, work,
};
use archipel_contract::{
    Bytes, Caller, DomainId, Entity, EntityId, Fault, FaultKind, PoolId, TaskId,
    command::Started,
    domain::{DomainSpec, StartDomain, check_name},
    host::PoolChange,
    hypervisor::HypervisorState,
    port::Versioned,
    storage_pool::{PoolRecord, PoolState},
    task::TaskState,
    volume::{CopySpec, NewVolume, UNFINISHED, UploadSpec},
    work::Follower,
};
use part::{Bytewise, Part};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a machine that was just defined may take to be known here.
const KNOWN: Duration = Duration::from_secs(30);
/// How long what has happened may take to be known.
const TOLD: Duration = Duration::from_secs(2);

/// Something that a making has made, or may have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
enum Made {
    Volume {
        pool: PoolId,
        pool_name: Arc<str>,
        name: String,
        /// Its port said that all of it is there.
        whole: bool,
    },
    Domain {
        name: String,
        /// `None` until libvirt has said that it is defined.
        id: Option<DomainId>,
    },
}

/// What stands written down of a making that goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    made: Vec<Made>,
}

/// A name that a machine shall get; free again when it is dropped, unless the machine is there.
struct Named {
    scope: Rc<Scope>,
    name: String,
    defined: bool,
}

impl Named {
    fn take(scope: &Rc<Scope>, name: &str, caller: &Caller) -> Result<Named, Fault> {
        check_name(name)?;
        if scope.board.domain_named(name).is_some() {
            let text = format!("a virtual machine named {name} exists already; choose another name");
            return Err(Fault::new(FaultKind::Conflict, text));
        }
        if scope.expected.borrow().contains_key(name) {
            return Err(Fault::new(FaultKind::Conflict, format!("{name} is being made already; choose another name")));
        }
        scope.expected.borrow_mut().insert(name.to_owned(), bare(&caller.jid).into());
        Ok(Named { scope: scope.clone(), name: name.to_owned(), defined: false })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // The first event of a machine that was defined is still to come, and takes the name from there.
        if !self.defined {
            self.scope.expected.borrow_mut().remove(&self.name);
        }
    }
}

/// Whether a name is free for a new machine on this host, as far as anybody knows here.
pub fn is_free(scope: &Scope, name: &str) -> bool {
    scope.board.domain_named(name).is_none() && !scope.expected.borrow().contains_key(name)
}

/// A machine that is being made, and what was made for it so far.
pub struct Making {
    scope: Rc<Scope>,
    task: TaskId,
    caller: Caller,
    follower: Arc<dyn Follower>,
    named: Named,
    made: Vec<Made>,
    /// The version of what stands written down, if anything does.
    written: Option<u64>,
}

/// Refuses while libvirt does not answer.
pub fn in_control(scope: &Scope) -> Result<(), Fault> {
    match hypervisor::facts(scope) {
        Some((_, f)) if f.state == HypervisorState::Connected => Ok(()),
        _ => {
            let host = &scope.host.name;
            Err(Fault::unavailable(format!("libvirt on {host} does not answer; ask again when control is back")))
        }
    }
}

/// Begins the making of a machine of that name on this host, as a task. Refused at once when the name is taken or libvirt does not
/// answer; everything else is found out by the steps.
pub fn begin<F>(
    scope: &Rc<Scope>,
    target: EntityId,
    command: &'static str,
    name: &str,
    caller: &Caller,
    words: String,
    steps: F,
) -> Result<Started, Fault>
where
    F: AsyncFnOnce(&mut Making) -> Result<String, Fault> + 'static,
{
    in_control(scope)?;
    let named = Named::take(scope, name, caller)?;
    let (mine, person) = (scope.clone(), caller.clone());
    let doing = move |task, follower| async move {
        let mut making = Making { scope: mine, task, caller: person, follower, named, made: Vec::new(), written: None };
        match steps(&mut making).await {
            Ok(message) => {
                making.forget().await;
                (TaskState::Done, Ok(message))
            }
            Err(fault) => making.unmake(fault).await,
        }
    };
    Ok(work::begin_judged(scope, target, command, name, caller, words, doing))
}

impl Making {
    /// The ports and everything else the actors of this host share.
    pub fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }

    /// The name the machine gets.
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// Says what goes on, and how far the whole is.
    pub fn says(&self, percent: u8, words: &str) {
        self.follower.advance(Some(percent), words);
    }

    /// Refuses to go on when somebody has asked to stop. Every step begins with it.
    pub fn check(&self) -> Result<(), Fault> {
        if self.follower.is_cancelled() { Err(Fault::busy("it was stopped")) } else { Ok(()) }
    }

    /// A follower of one step, whose 0 to 100 percent are these of the whole.
    pub fn part(&self, from: u8, to: u8) -> Arc<dyn Follower> {
        Arc::new(Part { whole: self.follower.clone(), from, to })
    }

    /// A pool of this host that can be written to, by name.
    pub async fn pool(&self, name: &str) -> Result<PoolRecord, Fault> {
        running_pool(&self.scope, name).await
    }

    /// Makes an empty volume, or one built on another.
    pub async fn create(&mut self, pool: &PoolRecord, volume: NewVolume) -> Result<(), Fault> {
        let (volumes, id, name) = (self.scope.host.volumes.clone(), pool.id, volume.name.clone());
        self.volume(pool, name, async move { within(LONG, volumes.create(id, volume)).await }).await
    }

    /// Copies a volume; `copy.pool` must name `to`. Its progress is that of the whole between these percentages.
    pub async fn copy(&mut self, of: (PoolId, String), copy: CopySpec, to: &PoolRecord, share: (u8, u8)) -> Result<(), Fault> {
        let (scope, name, follower) = (self.scope.clone(), copy.to.clone(), self.part(share.0, share.1));
        self.volume(to, name, async move { users::copy(&scope, of.0, of.1, copy, follower).await }).await
    }

    /// Writes a volume whose bytes are known.
    pub async fn write(&mut self, pool: &PoolRecord, name: &str, bytes: Vec<u8>) -> Result<(), Fault> {
        let upload = UploadSpec { name: name.to_owned(), from: 0, size: Some(bytes.len() as u64) };
        // Whoever stops it stops it before or after: it takes no time worth speaking of.
        let (volumes, id, follower) = (self.scope.host.volumes.clone(), pool.id, self.follower.clone());
        self.volume(pool, name.to_owned(), async move { volumes.upload(id, upload, Box::new(Bytewise(Some(bytes))), follower).await }).await
    }

    /// A step that makes a volume in a way of its own.
    pub async fn volume(&mut self, pool: &PoolRecord, name: String, work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
        let made = |whole| Made::Volume { pool: pool.id, pool_name: pool.name.clone(), name: name.clone(), whole };
        self.write_down(made(false)).await?;
        let outcome = work.await;
        // Told even when it failed: something may have been there for a while.
        noun::reported::<Pool>(&self.scope, pool.id, PoolChange::Volumes);
        outcome?;
        self.replace_last(made(true)).await
    }

    /// Makes a volume of this making larger.
    pub async fn grow(&mut self, pool: &PoolRecord, name: &str, capacity: Bytes) -> Result<(), Fault> {
        self.check()?;
        users::grow_new(&self.scope, pool.id, name, capacity).await
    }

    /// Defines the machine.
    pub async fn define(&mut self, spec: DomainSpec) -> Result<DomainId, Fault> {
        let scope = self.scope.clone();
        self.domain(async move { users::define(&scope, spec).await }).await
    }

    /// A step that defines the machine in a way of its own.
    pub async fn domain(&mut self, work: impl Future<Output = Result<DomainId, Fault>>) -> Result<DomainId, Fault> {
        let name = self.name().to_owned();
        self.write_down(Made::Domain { name: name.clone(), id: None }).await?;
        let id = work.await?;
        self.named.defined = true;
        self.replace_last(Made::Domain { name, id: Some(id) }).await?;
        // Whoever is told that it is made looks for it next.
        if !self.known(id).await {
            tracing::debug!(domain = %id, "defined, and libvirt has not told of it yet");
        }
        Ok(id)
    }

    /// Starts the machine in its turn, as whoever asked, with the right to run.
    pub async fn start(&self, id: DomainId) -> Result<(), Fault> {
        self.check()?;
        let known = self.known(id).await;
        let post = self.scope.directory.find::<DomainActor>(&EntityId::Domain(id)).filter(|_| known);
        let Some(post) = post else {
            return Err(Fault::new(
                FaultKind::Timeout,
                format!("{} is defined and was not started: libvirt did not tell of it", self.name()),
            ));
        };
        let ask = Ask { command: StartDomain::default(), caller: self.caller.clone() };
        let gone = || Fault::unavailable(format!("the actor of {} was restarted while it was started; look at it", self.name()));
        post.ask(ask).await.ok_or_else(gone)??;
        // Its event is on its way; a guest that ended at once is not waited for.
        let runs = |e: Option<&Entity>| e.and_then(Entity::domain).is_some_and(|f| f.state.is_active());
        let _ = tokio::time::timeout(TOLD, self.scope.board.until(&EntityId::Domain(id), runs)).await;
        Ok(())
    }

    /// Waits until the machine is known here, or long enough.
    async fn known(&self, id: DomainId) -> bool {
        let entity = EntityId::Domain(id);
        tokio::time::timeout(KNOWN, self.scope.board.until(&entity, |e| e.is_some())).await.is_ok()
    }

    fn key(&self) -> String {
        key(self.task)
    }

    async fn write_down(&mut self, made: Made) -> Result<(), Fault> {
        self.check()?;
        self.made.push(made);
        let written = self.keep().await;
        if written.is_err() {
            // Nothing is made that nobody could find again.
            self.made.pop();
        }
        written
    }

    async fn replace_last(&mut self, made: Made) -> Result<(), Fault> {
        self.made.pop();
        self.made.push(made);
        self.keep().await
    }

    async fn keep(&mut self) -> Result<(), Fault> {
        let unwritten = |e| Fault::internal("what is made could not be written down; please report this").because(e);
        let body = serde_json::to_vec(&Record { made: self.made.clone() }).map_err(unwritten)?;
        self.written = Some(self.scope.local.write_document(self.key(), self.written, Some(body)).await?);
        Ok(())
    }

    /// It has ended: nothing need be found again.
    async fn forget(&mut self) {
        if let Some(version) = self.written.take()
            && let Err(fault) = self.scope.local.write_document(self.key(), Some(version), None).await
        {
            tracing::warn!(task = %self.task, %fault, "a making that ended is still written down");
        }
    }

    /// Removes what was made, the last first, and says how it all ended.
    async fn unmake(mut self, fault: Fault) -> Ending {
        let mut left = Vec::new();
        let made = std::mem::take(&mut self.made);
        let any = !made.is_empty();
        if any {
            self.follower.advance(None, "removing what was made");
        }
        for made in made.into_iter().rev() {
            let undone = match &made {
                Made::Volume { whole: true, .. } => remove_volume(&self.scope, &made, "").await,
                Made::Volume { whole: false, .. } => remove_part(&self.scope, &made, doubtful(&fault)).await,
                Made::Domain { id: Some(id), .. } => self.remove_domain(*id).await,
                Made::Domain { id: None, name } => self.look_for_domain(name, doubtful(&fault)).await,
            };
            left.extend(undone.err());
        }
        self.forget().await;
        judge(fault, self.follower.is_cancelled(), any, &left)
    }

    async fn remove_domain(&mut self, id: DomainId) -> Result<(), String> {
        // A start that nobody saw the end of may have brought it up, and somebody else may have: then it keeps everything.
        let now = within(SHORT, self.scope.host.domains.read(id)).await;
        if now.is_ok_and(|record| record.facts.state.is_active()) {
            return Err(format!("the virtual machine {}, which runs", self.name()));
        }
        match within(SHORT, self.scope.host.domains.undefine(id)).await {
            Err(fault) if fault.kind != FaultKind::NotFound => {
                return Err(format!("the virtual machine {} ({})", self.name(), fault.message));
            }
            _ => self.named.defined = false,
        }
        Ok(())
    }

    async fn look_for_domain(&self, name: &str, doubtful: bool) -> Result<(), String> {
        if !doubtful {
            return Ok(());
        }
        match within(SHORT, self.scope.host.domains.list()).await {
            Ok(all) if !all.iter().any(|r| *r.name == *name) => Ok(()),
            Ok(_) => Err(format!("a virtual machine {name}, which may be this one")),
            Err(_) => Err(format!("perhaps the virtual machine {name}")),
        }
    }
}

/// How a making ended that did not end well, in words.
fn judge(fault: Fault, cancelled: bool, any: bool, left: &[String]) -> Ending {
    let left = (!left.is_empty()).then(|| format!("left behind, to be removed by hand: {}", left.join(", ")));
    match (cancelled, left) {
        (true, None) => (TaskState::Cancelled, Ok("stopped; nothing half done is left".to_owned())),
        (true, Some(left)) => (TaskState::Cancelled, Ok(format!("stopped; {left}"))),
        (false, None) if any => {
            let message = format!("{}; what had been made was removed again", fault.message);
            (TaskState::Failed, Err(Fault { message, ..fault }))
        }
        (false, None) => (TaskState::Failed, Err(fault)),
        (false, Some(left)) => (TaskState::Failed, Err(Fault { message: format!("{}; {left}", fault.message), ..fault })),
    }
}

/// Whether a call that failed so may have had its effect all the same.
fn doubtful(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Timeout | FaultKind::Unavailable | FaultKind::Internal)
}

/// Deletes a volume, or what is unfinished of it; in words when it stays.
async fn remove_volume(scope: &Rc<Scope>, made: &Made, ending: &str) -> Result<(), String> {
    let Made::Volume { pool, pool_name, name, .. } = made else { return Ok(()) };
    let name = format!("{name}{ending}");
    match users::delete_new(scope, *pool, &name).await {
        Ok(()) => {
            noun::reported::<Pool>(scope, *pool, PoolChange::Volumes);
            Ok(())
        }
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
        Err(fault) => Err(format!("the volume {pool_name}/{name} ({})", fault.message)),
    }
}

/// Deletes what is unfinished of a volume. Whether all of it is there all the same is looked at when its port may not have known.
async fn remove_part(scope: &Rc<Scope>, made: &Made, doubtful: bool) -> Result<(), String> {
    let Made::Volume { pool, pool_name, name, .. } = made else { return Ok(()) };
    remove_volume(scope, made, UNFINISHED).await?;
    if !doubtful {
        return Ok(());
    }
    match within(SHORT, scope.host.volumes.read(*pool, name.clone())).await {
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
        Ok(_) => Err(format!("the volume {pool_name}/{name}, which may be of this")),
        Err(_) => Err(format!("perhaps the volume {pool_name}/{name}")),
    }
}

fn key(task: TaskId) -> String {
    format!("making/{}", task.0)
}

/// What a making that was interrupted by the end of the daemon has left, in words; `None` when nothing stands written down of that
/// task. What is unfinished is removed.
pub async fn left_behind(scope: &Rc<Scope>, task: TaskId) -> Result<Option<String>, Fault> {
    let Some(Versioned { version, body }) = scope.local.document(key(task)).await? else { return Ok(None) };
    let record: Record = serde_json::from_slice(&body).unwrap_or_else(|error| {
        tracing::warn!(%task, %error, "what stands written down of a making cannot be read");
        Record::default()
    });
    let mut left = Vec::new();
    for made in record.made.iter().rev() {
        let found = match made {
            Made::Volume { pool, pool_name, name, .. } => {
                let part = remove_volume(scope, made, UNFINISHED).await;
                let whole = within(SHORT, scope.host.volumes.read(*pool, name.clone())).await;
                let whole = there(whole)?.then(|| format!("the volume {pool_name}/{name}"));
                part.err().into_iter().chain(whole).collect::<Vec<_>>()
            }
            Made::Domain { name, id } => {
                let all = within(SHORT, scope.host.domains.list()).await?;
                let is_it = |r: &archipel_contract::domain::DomainRecord| id.map_or(*r.name == **name, |id| r.id == id);
                all.iter().any(is_it).then(|| format!("the virtual machine {name}")).into_iter().collect()
            }
        };
        left.extend(found);
    }
    scope.local.write_document(key(task), Some(version), None).await?;
    Ok(Some(match left.as_slice() {
        [] => "nothing of it is left; ask again".to_owned(),
        left => format!("left of it: {}; look at them, and remove them before asking again", left.join(", ")),
    }))
}

fn there<T>(found: Result<T, Fault>) -> Result<bool, Fault> {
    match found {
        Ok(_) => Ok(true),
        Err(fault) if fault.kind == FaultKind::Unavailable => Err(fault),
        Err(_) => Ok(false),
    }
}

/// Whether volumes can be made in a pool.
pub fn is_running(pool: &PoolRecord) -> bool {
    matches!(pool.facts.state, PoolState::Running | PoolState::Degraded)
}

/// A pool of this host that can be written to, by name.
pub async fn running_pool(scope: &Scope, name: &str) -> Result<PoolRecord, Fault> {
    let pools = within(SHORT, scope.host.pools.list()).await?;
    let Some(pool) = pools.iter().find(|p| *p.name == *name) else {
        let shown: String = name.chars().take(80).collect();
        let names: Vec<&str> = pools.iter().map(|p| &*p.name).collect();
        return Err(Fault::not_found(match names.as_slice() {
            [] => format!("there is no storage pool {shown:?}; this host has none, define one with storage-pool define"),
            names => format!("there is no storage pool {shown:?}; there are {}", names.join(", ")),
        }));
    };
    if !is_running(pool) {
        return Err(Fault::wrong_state(format!("the storage pool {name} is not started; start it first")));
    }
    Ok(pool.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_kept_quiet() {
        let fault = || Fault::wrong_state("the pool is full");
        let left = vec!["the volume p/v (busy)".to_owned()];
        assert_eq!(judge(fault(), true, true, &[]), (TaskState::Cancelled, Ok("stopped; nothing half done is left".into())));
        let (state, told) = judge(fault(), true, true, &left);
        assert!(state == TaskState::Cancelled && told.unwrap().contains("left behind, to be removed by hand: the volume p/v"));
        let (state, told) = judge(fault(), false, true, &left);
        let told = told.unwrap_err();
        assert!(state == TaskState::Failed && told.kind == FaultKind::WrongState, "{told}");
        assert!(told.message.starts_with("the pool is full; left behind"), "{told}");
        assert_eq!(judge(fault(), false, false, &[]), (TaskState::Failed, Err(fault())), "nothing had been made");
        assert!(judge(fault(), false, true, &[]).1.unwrap_err().message.contains("removed again"));
    }
}
