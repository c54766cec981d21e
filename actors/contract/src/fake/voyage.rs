//! One machine on its way from one fake to another, in libvirt's order of events.
//!
//! ```text
//!   step                target                          source                        when it fails here
//!   migration.prepare   (nothing)                       running                       nobody noticed
//!   migration.copy      STARTED migrated: half received iterations                    source runs on, target is cleaned
//!   migration.switch    "                               iterations                    the same
//!   migration.finish    "                               SUSPENDED migrated            the same, the source resumes
//!   migration.confirm   DEFINED, RESUMED migrated       "                             target runs, source stays paused
//!   migration.answer    "                               STOPPED migrated              it moved, and the call says a fault
//!   migration.pages     RESUMED postcopy                SUSPENDED postcopy            post-copy: the guest is on both sides
//! ```
//! A step is held, failed or counted by the script of the source under that name; it stands for what comes after it. Half-received
//! copies are removed by the target's libvirt, and if that is dead, when it starts again.

use super::lan::{FakeLan, Slot};
use super::{FakeHost, lock};
use crate::{
    Bytes, DomainId, Fault, FaultKind, Millis,
    domain::{DomainRecord, DomainState},
    host::DomainChange,
    migration::{Progress, Transferred},
};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// A transfer that is under way.
pub(super) struct Voyage {
    pub(super) id: DomainId,
    pub(super) source: Arc<FakeHost>,
    pub(super) target: Arc<FakeHost>,
    lan: Arc<FakeLan>,
    may_post_copy: bool,
    copy_storage: bool,
    pub(super) answer: Slot<Result<Transferred, Fault>>,
    course: Mutex<Course>,
}

#[derive(Default)]
struct Course {
    /// Why it cannot go on.
    wreck: Option<Fault>,
    /// The target has been told to run it: no way back.
    over: bool,
    iteration: u32,
    to_post_copy: bool,
    post_copy: bool,
    /// The passes are done: too late for post-copy.
    passed: bool,
    waiting: Option<Waker>,
}

fn broken(cause: &str) -> Fault {
    Fault::unavailable("the transfer broke; ask both hosts where the machine is").because(cause)
}

impl Voyage {
    pub(super) fn new(
        id: DomainId,
        source: Arc<FakeHost>,
        target: Arc<FakeHost>,
        lan: Arc<FakeLan>,
        way: &crate::migration::Way,
    ) -> Arc<Self> {
        let (may_post_copy, copy_storage) = (way.post_copy, way.copy_storage);
        Arc::new(Voyage { id, source, target, lan, may_post_copy, copy_storage, answer: Slot::default(), course: Mutex::default() })
    }

    pub(super) fn touches(&self, host: &str) -> bool {
        self.source.name_of() == host || self.target.name_of() == host
    }

    /// It cannot go on, unless the target runs it already. Whoever gets the waker wakes it when nothing is locked.
    pub(super) fn wreck(&self, fault: Fault) -> Option<Waker> {
        let mut course = lock(&self.course);
        course.wreck.get_or_insert(fault);
        course.waiting.take()
    }

    pub(super) fn cancel(&self) -> Result<Option<Waker>, Fault> {
        if lock(&self.course).over {
            return Err(Fault::wrong_state("it is too late to cancel: the other host runs it already"));
        }
        let fault = Fault::new(FaultKind::Busy, "it was cancelled by somebody; ask again if it is still wanted");
        Ok(self.wreck(fault.because("operation aborted: migration out job: canceled by client")))
    }

    pub(super) fn switch_to_post_copy(&self) -> Result<Option<Waker>, Fault> {
        let mut course = lock(&self.course);
        if !self.may_post_copy || course.iteration == 0 || course.passed {
            return Err(Fault::wrong_state("it cannot go over to post-copy now; allow it from the start and wait for the first pass"));
        }
        course.to_post_copy = true;
        Ok(course.waiting.take())
    }

    pub(super) fn progress(&self, memory: Bytes) -> Progress {
        let course = lock(&self.course);
        let disks = if self.copy_storage { Bytes::mib(64) } else { Bytes(0) };
        let total = Bytes(memory.0 + disks.0);
        let remaining = Bytes(total.0 >> course.iteration.min(63));
        Progress {
            total,
            processed: Bytes(total.0 - remaining.0),
            remaining,
            elapsed: Millis(u64::from(course.iteration) * 400),
            iteration: course.iteration,
            post_copy: course.post_copy,
        }
    }

    /// One step: held, slowed down or failed as written, and broken by whatever happens meanwhile.
    async fn step(&self, name: &'static str) -> Result<(), Fault> {
        let about = self.id.to_string();
        let mut work = pin!(async {
            self.source.script.play(name, &about).await?;
            if let Some(wait) = self.lan.wait(name) {
                wait.await;
            }
            Ok(())
        });
        poll_fn(|context| {
            let lives = self.source.libvirt_lives();
            {
                let mut course = lock(&self.course);
                course.waiting = Some(context.waker().clone());
                // What happens after the target was told to run it is no reason to go back, only to hear nothing.
                let fault = course.wreck.take();
                if let Some(fault) = fault.filter(|_| !course.over || !lives) {
                    return Poll::Ready(Err(fault));
                }
                if course.to_post_copy && !course.post_copy {
                    return Poll::Ready(Ok(()));
                }
            }
            work.as_mut().poll(context)
        })
        .await
    }

    fn wants_post_copy(&self) -> bool {
        let mut course = lock(&self.course);
        course.passed = true;
        course.post_copy = course.to_post_copy;
        course.post_copy
    }

    fn iteration(&self) {
        let pass = {
            let mut course = lock(&self.course);
            course.iteration += 1;
            course.iteration
        };
        self.source.change(|m| m.tell_domain(self.id, DomainChange::Job(format!("migration pass {pass}").into())));
    }

    /// From here on nothing can bring it back.
    fn cross(&self) {
        lock(&self.course).over = true;
    }

    pub(super) async fn sail(self: Arc<Self>) {
        let result = self.clone().course().await;
        // Whatever happened, it is under way no more.
        self.source.change(|m| m.leaving.remove(&self.id));
        self.target.change(|m| m.inbound.remove(&self.id));
        self.answer.put(result);
    }

    async fn course(self: Arc<Self>) -> Result<Transferred, Fault> {
        let id = self.id;
        self.step("migration.prepare").await?;
        let record = self.source.domain(id).filter(|r| r.facts.state.is_active());
        let record = record.ok_or_else(|| Fault::wrong_state("it is not running; start it or move it as one that is off"))?;
        let memory = record.facts.memory;
        self.prepare(record)?;
        self.iteration();
        if let Err(fault) = self.passes().await {
            self.turn_back();
            return Err(fault);
        }
        if self.wants_post_copy() {
            self.split().await?;
        } else {
            let was = self.stand_still();
            if let Err(fault) = self.step("migration.finish").await {
                self.turn_back();
                if was == DomainState::Running {
                    self.wake_source();
                }
                return Err(fault);
            }
            if let Err(fault) = self.hand_over(was) {
                self.turn_back();
                self.wake_source();
                return Err(fault);
            }
            if let Err(fault) = self.step("migration.confirm").await {
                // libvirt does not know whether it runs over there, so it stays as it is.
                self.source.change(|m| m.standing_still.remove(&self.id));
                return Err(fault);
            }
        }
        self.leave();
        self.step("migration.answer").await?;
        Ok(Transferred { downtime: Some(Millis(40)), took: Millis(1_000), sent: memory })
    }

    async fn passes(&self) -> Result<(), Fault> {
        self.step("migration.copy").await?;
        self.iteration();
        self.step("migration.switch").await
    }

    /// The target begins to receive it.
    fn prepare(&self, mut record: DomainRecord) -> Result<(), Fault> {
        let (from, to) = (self.source.name_of(), self.target.name_of());
        if !self.lan.reaches(from, to) || !self.target.libvirt_lives() {
            return Err(broken(&format!("unable to connect to server at '{to}:16509'")));
        }
        let needs = lock(&self.source.model).needs.get(&self.id).cloned();
        self.target.change(|m| {
            if m.domains.values().any(|r| *r.name == *record.name && r.id != record.id) {
                return Err(Fault::new(FaultKind::Conflict, format!("there is a virtual machine {} already; rename one", record.name)));
            }
            if m.domains.get(&self.id).is_some_and(|r| r.facts.state.is_active()) {
                return Err(Fault::new(FaultKind::Conflict, format!("{} is active there already; look at both hosts", record.name)));
            }
            // A definition that is there already comes back if the machine does not arrive.
            let before = m.domains.remove(&self.id);
            record.facts.state = DomainState::Paused;
            record.facts.reason = Some("migration".into());
            record.facts.persistent = false;
            m.domains.insert(self.id, record);
            needs.map(|n| m.needs.insert(self.id, n));
            m.arriving.insert(self.id, before);
            m.tell_domain(self.id, DomainChange::Appeared("migrated"));
            Ok(())
        })
    }

    /// The guest stands still at the source. Answers what it did before.
    fn stand_still(&self) -> DomainState {
        self.source.change(|m| {
            let was = m.domains.get(&self.id).map_or(DomainState::Shutoff, |r| r.facts.state);
            if was == DomainState::Running {
                m.enter(self.id, DomainState::Paused, "migration");
                m.standing_still.insert(self.id);
            }
            was
        })
    }

    fn wake_source(&self) {
        self.source.change(|m| m.wake_up(self.id));
    }

    /// The target has everything: it runs there, and is defined.
    fn hand_over(&self, was: DomainState) -> Result<(), Fault> {
        if !self.target.libvirt_lives() || !self.lan.reaches(self.source.name_of(), self.target.name_of()) {
            return Err(broken("client socket is closed"));
        }
        self.target.change(|m| {
            if m.arriving.remove(&self.id).is_none() {
                return Err(broken("the virtual machine disappeared there"));
            }
            if let Some(record) = m.domains.get_mut(&self.id) {
                record.facts.persistent = true;
            }
            m.tell_domain(self.id, DomainChange::Defined("added"));
            let paused_by_somebody = was == DomainState::Paused;
            m.enter(self.id, was, if paused_by_somebody { "user" } else { "migrated" });
            Ok(())
        })?;
        self.cross();
        Ok(())
    }

    /// The source lets it go: its definition stays.
    fn leave(&self) {
        self.source.change(|m| {
            m.leaving.remove(&self.id);
            m.standing_still.remove(&self.id);
            m.split.remove(&self.id);
            m.enter(self.id, DomainState::Shutoff, "migrated");
            m.tell_domain(self.id, DomainChange::Job("migration completed".into()));
        });
    }

    /// What the target has received is removed, if its libvirt lives.
    fn turn_back(&self) {
        self.target.change(|m| {
            if m.libvirt {
                m.drop_half(self.id);
            }
        });
    }

    /// Post-copy: it runs over there, and the rest of its memory follows.
    async fn split(&self) -> Result<(), Fault> {
        if !self.target.libvirt_lives() || !lock(&self.target.model).arriving.contains_key(&self.id) {
            self.turn_back();
            return Err(broken("the virtual machine disappeared there"));
        }
        self.stand_still_for("postcopy");
        self.target.change(|m| {
            m.arriving.remove(&self.id);
            if let Some(record) = m.domains.get_mut(&self.id) {
                record.facts.persistent = true;
            }
            m.tell_domain(self.id, DomainChange::Defined("added"));
            m.enter(self.id, DomainState::Running, "postcopy");
        });
        if let Err(fault) = self.step("migration.pages").await {
            self.stand_still_for("postcopy-failed");
            self.source.change(|m| m.split.insert(self.id));
            return Err(fault);
        }
        self.cross();
        Ok(())
    }

    fn stand_still_for(&self, reason: &'static str) {
        self.source.change(|m| m.enter(self.id, DomainState::Paused, reason));
    }

    /// The rest of a post-copy that broke, if the target still has it.
    pub(super) fn mend(&self) -> Result<Transferred, Fault> {
        let there = self.target.domain(self.id).is_some_and(|r| r.facts.state.is_active());
        if !there || !self.lan.reaches(self.source.name_of(), self.target.name_of()) || !self.target.libvirt_lives() {
            return Err(broken("the other half of it does not answer"));
        }
        self.target.change(|m| m.enter(self.id, DomainState::Running, "migrated"));
        self.leave();
        Ok(Transferred { downtime: None, took: Millis(1_000), sent: Bytes::MIB })
    }
}
