//! The auditor: counts on how many hosts each machine runs, and raises the alarm when it is more than one.
//!
//! ```text
//!             two or more seen              all of them say so when asked
//!   fine ------------------------> looked at ----------------------------> alarmed
//!    ^ ^                              | one says no                           |
//!    | +------------------------------+                                       |
//!    +---------------------------- one or none seen --------------------------+
//!
//!   looked at: an agent that is linked and does not answer is asked again; one that is not linked is asked when it is back
//! ```
//! A copy is a machine whose virtual CPUs run: the owner's, and every stranger that a hypervisor tells of. A copy that stands
//! still is none, and so a migration, whose target stands still until the source does, is no alarm. Since two hosts are heard over
//! two links, the start on one may be heard before the stop on the other: that is why they are asked before anybody is woken.
//!
//! Nothing is ever done about it here. Which copy holds the truth no program knows, and ending the wrong one loses it.

use super::{
    Exchange,
    location::{Change, Locations, Outcome},
};
use archipel_contract::{
    Caller, DomainId, Entity, EntityId, Facts, FaultKind, HypervisorName, OperationId, Role, Timestamp,
    domain::DomainState,
    port::{Address, Request},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many machines are looked at at a time; others wait.
const LOOKED_AT: usize = 8;
/// The pause before an agent that did not answer is asked again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The hosts a machine runs on.
pub(crate) type Copies = BTreeSet<HypervisorName>;

/// Whether the virtual CPUs of a machine in this state run.
fn runs(state: DomainState) -> bool {
    match state {
        DomainState::Running | DomainState::Shutdown => true,
        DomainState::Paused | DomainState::Pmsuspended | DomainState::Shutoff | DomainState::Crashed => false,
    }
}

fn owner_runs(entity: &Entity) -> bool {
    entity.domain().is_some_and(|f| runs(f.state))
}

/// The machines of other owners that run on this hypervisor.
fn strangers(entity: Option<&Entity>) -> impl Iterator<Item = DomainId> {
    let all = entity.map(|e| if let Facts::Hypervisor(f) = &e.facts { &f.strangers[..] } else { &[] }).unwrap_or_default();
    all.iter().filter(|s| runs(s.state)).map(|s| s.id)
}

/// What is counted. Pure.
#[derive(Debug, Default)]
pub(crate) struct Auditor {
    /// Where machines run that are another host's there.
    abroad: HashMap<DomainId, Copies>,
    /// What is looked at, and whether something about it changed meanwhile.
    looked_at: HashMap<DomainId, bool>,
    /// What runs more than once.
    alarmed: BTreeMap<DomainId, Copies>,
}

impl Auditor {
    /// Takes changes in, and takes alarms back or rewords them. Answers what must be looked at.
    pub(crate) fn follow(&mut self, table: &mut Locations, changes: &mut Vec<Change>, now: Timestamp) -> Vec<DomainId> {
        let mut touched = BTreeSet::new();
        for change in changes.iter() {
            let (before, after) = (change.before.as_deref(), change.event.after.as_deref());
            match &change.event.entity {
                EntityId::Hypervisor(host) => {
                    for id in strangers(before) {
                        self.leave(id, host);
                        touched.insert(id);
                    }
                    for id in strangers(after) {
                        self.abroad.entry(id).or_default().insert(host.clone());
                        touched.insert(id);
                    }
                }
                EntityId::Domain(id) if self.abroad.contains_key(id) || self.alarmed.contains_key(id) => {
                    touched.insert(*id);
                }
                _ => {}
            }
        }
        let mut suspects = Vec::new();
        for id in touched {
            let copies = self.copies(table, id);
            match (copies.len() > 1, self.alarmed.get(&id)) {
                (true, None) => match self.looked_at.get_mut(&id) {
                    Some(changed) => *changed = true,
                    None => {
                        self.looked_at.insert(id, false);
                        suspects.push(id);
                    }
                },
                (true, Some(known)) if *known != copies => changes.extend(self.alarm(table, id, now).changes),
                (false, Some(_)) => {
                    tracing::warn!(domain = %id, on = %listed(&copies), "it does not run twice any more");
                    self.alarmed.remove(&id);
                    let detail =
                        if copies.is_empty() { "it runs nowhere now".to_owned() } else { format!("it runs on {} alone", listed(&copies)) };
                    changes.extend(table.say(&id.into(), None, "domain.duplicate", detail.into(), now).changes);
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        suspects
    }

    fn leave(&mut self, id: DomainId, host: &HypervisorName) {
        if let Some(hosts) = self.abroad.get_mut(&id) {
            hosts.remove(host);
            if hosts.is_empty() {
                self.abroad.remove(&id);
            }
        }
    }

    /// Where a machine runs, as far as was told.
    pub(crate) fn copies(&self, table: &Locations, id: DomainId) -> Copies {
        let mut all = self.abroad.get(&id).cloned().unwrap_or_default();
        all.extend(table.get(&id.into()).filter(|e| owner_runs(e)).map(|e| e.host.clone()));
        all
    }

    /// It does run more than once, the hosts say. What was told since then counts as well.
    fn alarm(&mut self, table: &mut Locations, id: DomainId, now: Timestamp) -> Outcome {
        let copies = self.copies(table, id);
        self.looked_at.remove(&id);
        if copies.len() < 2 {
            return Outcome::default();
        }
        let hosts: Vec<String> = copies.iter().map(|h| format!("on {h}")).collect();
        let why: Arc<str> =
            format!("runs {}: shut one down by hand at the right place; nothing is done automatically", hosts.join(" and ")).into();
        let name = table.get(&id.into()).map_or_else(|| id.to_string(), |e| e.name.to_string());
        tracing::error!(domain = %id, name, %why, "A MACHINE RUNS MORE THAN ONCE");
        self.alarmed.insert(id, copies);
        table.say(&id.into(), Some(why.clone()), "domain.duplicate", why, now)
    }

    /// Nothing was found. Answers whether something changed while it was looked at, so that it must be looked at again.
    fn unconfirmed(&mut self, id: DomainId) -> bool {
        match self.looked_at.get_mut(&id) {
            Some(changed) if *changed => {
                *changed = false;
                true
            }
            _ => {
                self.looked_at.remove(&id);
                false
            }
        }
    }

    /// What runs more than once, and where.
    pub(crate) fn alarmed(&self) -> &BTreeMap<DomainId, Copies> {
        &self.alarmed
    }
}

fn listed(copies: &Copies) -> String {
    copies.iter().map(HypervisorName::as_str).collect::<Vec<_>>().join(", ")
}

/// What the hosts said together.
enum Word {
    /// It runs on so many of them.
    RunsOn(usize),
    /// It may run on several: one is linked and did not answer.
    Silent,
    /// It may run on several: one is not linked or has lost control. Its return is a change, and looked at then.
    Away(HypervisorName),
}

/// What one host said.
enum Answer {
    Runs(bool),
    Silent,
    Away(HypervisorName),
}

/// What the answers mean together. One that is missing matters only where it could make the second copy.
fn together(answers: Vec<Answer>) -> Word {
    let running = answers.iter().filter(|a| matches!(a, Answer::Runs(true))).count();
    let missing = answers.iter().filter(|a| !matches!(a, Answer::Runs(_))).count();
    if running > 1 || running + missing < 2 {
        return Word::RunsOn(running);
    }
    let away = answers.into_iter().find_map(|a| if let Answer::Away(host) = a { Some(host) } else { None });
    away.map_or(Word::Silent, Word::Away)
}

/// The room for asking.
pub(crate) struct Room(Semaphore);

impl Default for Room {
    fn default() -> Room {
        Room(Semaphore::new(LOOKED_AT))
    }
}

impl Exchange {
    /// Looks at a machine that seems to run more than once, until it is known.
    pub(super) async fn look_at(self: Arc<Self>, id: DomainId) {
        let mut pause = FIRST_PAUSE;
        loop {
            let copies = {
                let table = self.locations.read();
                self.audit.lock().copies(&table, id)
            };
            let word = if copies.len() < 2 { Word::RunsOn(copies.len()) } else { self.ask_where_it_runs(id, &copies).await };
            match word {
                Word::RunsOn(2..) => {
                    self.change(|table, now| self.audit.lock().alarm(table, id, now));
                    return;
                }
                Word::Silent => {
                    tracing::warn!(domain = %id, on = %listed(&copies), "it seems to run on several hosts, and one does not answer; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Word::Away(host) => {
                    tracing::error!(domain = %id, on = %listed(&copies), away = %host,
                        "it seems to run on several hosts, and one cannot be reached: look there yourself");
                }
                Word::RunsOn(_) => tracing::debug!(domain = %id, "it runs once: one host was heard before the other"),
            }
            if !self.audit.lock().unconfirmed(id) {
                return;
            }
        }
    }

    async fn ask_where_it_runs(&self, id: DomainId, copies: &Copies) -> Word {
        let Ok(_room) = self.auditing.0.acquire().await else { return Word::Silent };
        let entity = self.entity(&id.into());
        let asked = copies.iter().map(|host| async {
            let owner = entity.as_ref().is_some_and(|e| e.host == *host);
            let (target, command) = if owner { (id.into(), "domain.info") } else { (host.clone().into(), "hypervisor.info") };
            let to = self.cell.jid(&target);
            let caller = Caller { jid: self.cell.to_string(), role: Role::Viewer, operation: OperationId::fresh() };
            let request = Request { target: Address::Entity(target), command: command.into(), arguments: serde_json::json!({}), caller };
            let answer = self.ask_host(host, &to, &request, self.answer_within).await;
            match answer.map(serde_json::from_value::<Entity>) {
                // Without control its state is what it was once.
                Ok(Ok(now)) if matches!(now.state(), "unknown" | "lost" | "connecting") => Answer::Away(host.clone()),
                Ok(Ok(now)) if owner => Answer::Runs(owner_runs(&now)),
                Ok(Ok(now)) => Answer::Runs(strangers(Some(&now)).any(|s| s == id)),
                Err(fault) if fault.kind == FaultKind::NotFound => Answer::Runs(false),
                Err(_) if self.locations.read().link(host).is_none() => Answer::Away(host.clone()),
                Ok(Err(_)) | Err(_) => Answer::Silent,
            }
        });
        together(futures::future::join_all(asked).await)
    }

    /// A sentence for each machine that runs more than once.
    pub fn duplicates(&self) -> Vec<String> {
        let table = self.locations.read();
        let audit = self.audit.lock();
        let name = |id: &DomainId| table.get(&(*id).into()).map_or_else(|| id.to_string(), |e| e.name.to_string());
        audit.alarmed().iter().map(|(id, on)| format!("{} ({id}) runs on several hosts: {}", name(id), listed(on))).collect()
    }
}
