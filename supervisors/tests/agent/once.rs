//! An operation runs at most once: sent twice, at the same time, or interrupted by a crash.

use super::*;

#[test]
fn the_same_operation_runs_once() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let caller = admin();
        let first = lab.as_caller(caller.clone(), id, "domain.start", json!({})).await;
        let again = lab.as_caller(caller.clone(), id, "domain.start", json!({})).await;
        assert!(first.is_ok());
        assert_eq!(first, again);
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
        let other = lab.as_caller(caller, id, "domain.pause", json!({})).await.unwrap_err();
        assert_eq!(other.kind, FaultKind::Conflict);
        let refused = admin();
        let first = lab.as_caller(refused.clone(), id, "domain.start", json!({})).await.unwrap_err();
        lab.done(id, "domain.force-off").await;
        lab.told(id, "domain.stopped");
        let again = lab.as_caller(refused, id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!((first.kind, &first), (FaultKind::WrongState, &again), "a refusal is an answer too");
    });
}

#[test]
fn the_same_operation_at_the_same_time_runs_once() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.start", "");
        let caller = admin();
        let release = async {
            let held = async {
                while lab.fake.script.calls("domain.start") == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, held).await.expect("the call arrives");
            lab.fake.script.release();
        };
        let (one, two, three, ()) = futures::join!(
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            release
        );
        assert!(one.is_ok(), "{one:?}");
        assert_eq!((&one, &one), (&two, &three));
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
    });
}

#[test]
fn a_change_goes_on_when_whoever_asked_has_gone() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.start", "");
        let caller = admin();
        {
            let mut call = std::pin::pin!(lab.as_caller(caller.clone(), id, "domain.start", json!({})));
            let begun = async {
                while lab.fake.script.calls("domain.start") == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { _ = &mut call => panic!("it is held"), () = begun => {} }
        }
        lab.fake.script.release();
        lab.told(id, "domain.started");
        let again = lab.as_caller(caller, id, "domain.start", json!({})).await;
        assert!(again.is_ok(), "{again:?}");
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
    });
}

/// A journal whose end of an operation is written when the test lets it, by a thread of the journal's own.
struct SlowScribe {
    journal: Arc<MemoryJournal>,
    writing: tokio::sync::Semaphore,
    may_write: Arc<tokio::sync::Semaphore>,
}

impl Journal for SlowScribe {
    fn ended_tasks(&self, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        self.journal.ended_tasks(since, most)
    }
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>> {
        self.journal.accept(operation)
    }
    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>> {
        self.journal.recall(operation)
    }
    fn complete(&self, caller: String, id: OperationId, outcome: Result<Value, Fault>, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.writing.add_permits(1);
        Box::pin(async move {
            let (tell, told) = tokio::sync::oneshot::channel();
            let may_write = self.may_write.clone();
            std::thread::spawn(move || futures::executor::block_on(async move { tell.send(may_write.acquire().await.is_ok()) }));
            assert!(told.await.unwrap());
            self.journal.complete(caller, id, outcome, at).await
        })
    }
    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>> {
        self.journal.interrupted()
    }
    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        self.journal.forget_before(time)
    }
}

#[test]
fn the_end_is_written_down_while_the_event_is_awaited_and_the_answer_waits_for_the_event() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.read", "");
        let caller = admin();
        let written = settled(lab, caller.operation);
        let mut call = std::pin::pin!(lab.as_caller(caller.clone(), id, "domain.autostart", json!({"enabled": true})));
        tokio::select! { answer = &mut call => panic!("answered before anybody can see it: {answer:?}"), outcome = written => assert!(outcome.is_ok()) }
        // The same once more finds it written down, and waits all the same.
        let mut again = std::pin::pin!(lab.as_caller(caller.clone(), id, "domain.autostart", json!({"enabled": true})));
        assert!(futures::poll!(&mut again).is_pending());
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut call).is_pending() && futures::poll!(&mut again).is_pending());
        lab.fake.script.release();
        let (first, second) = futures::join!(call, again);
        assert!(first.is_ok());
        assert_eq!(first, second);
        lab.told(id, "domain.changed");
        assert_eq!(lab.fake.script.calls("domain.set-autostart"), 1);
    });
}

#[test]
fn the_answer_waits_until_the_end_is_written_down_though_its_event_is_known() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        let (writing, may_write) = (tokio::sync::Semaphore::new(0), Arc::new(tokio::sync::Semaphore::new(0)));
        let scribe = Arc::new(SlowScribe { journal: lab.journal.clone(), writing, may_write: may_write.clone() });
        lab.scribe = Some(scribe.clone());
        lab.begin().await;
        let caller = admin();
        {
            let mut call = std::pin::pin!(lab.as_caller(caller.clone(), id, "domain.start", json!({})));
            tokio::select! { answer = &mut call => panic!("answered before it is written: {answer:?}"), _ = scribe.writing.acquire() => {} }
            lab.told(id, "domain.started");
            assert!(futures::poll!(&mut call).is_pending());
            assert_eq!(lab.journal.outcome("admin@vm.localhost", caller.operation), None);
        }
        // Whoever asked has gone; it is written down nevertheless, and whoever asks again is told.
        may_write.add_permits(1);
        let again = lab.as_caller(caller, id, "domain.start", json!({})).await;
        assert!(again.is_ok(), "{again:?}");
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
    });
}

async fn accepted(lab: &Lab, command: &str, target: impl Into<EntityId>, arguments: Value) -> OperationId {
    let operation = Operation {
        id: OperationId::fresh(),
        caller: "admin@vm.localhost".into(),
        role: Role::Admin,
        command: command.into(),
        target: target.into(),
        arguments,
        accepted: Timestamp(lab.clock.now().0),
    };
    assert_eq!(lab.journal.accept(operation.clone()).await.unwrap(), Acceptance::New);
    operation.id
}

async fn settled(lab: &Lab, id: OperationId) -> Result<Value, Fault> {
    let outcome = async {
        loop {
            if let Some(outcome) = lab.journal.outcome("admin@vm.localhost", id) {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, outcome).await.expect("the operation is settled")
}

#[test]
fn what_a_crash_interrupted_is_settled_and_never_run_again() {
    story(async |lab| {
        let on = lab.fake.add_domain("on", DomainState::Running, true);
        let off = lab.fake.add_domain("off", DomainState::Shutoff, true);
        let took = accepted(lab, "domain.start", on, json!({})).await;
        let not = accepted(lab, "domain.start", off, json!({})).await;
        let unknown = accepted(lab, "domain.reboot", on, json!({})).await;
        let gone = accepted(lab, "domain.undefine", DomainId(uuid::Uuid::from_u128(77)), json!({})).await;
        let task = TaskId::fresh();
        let ran = accepted(lab, "domain.shutdown", task, json!({"host": "alpha", "target": on.to_string()})).await;
        lab.begin().await;
        let answer = settled(lab, took).await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains("before the restart"), "{answer}");
        let fault = settled(lab, not).await.unwrap_err();
        assert!(fault.message.contains("had not taken effect"), "{fault}");
        let fault = settled(lab, unknown).await.unwrap_err();
        assert!(fault.message.contains("may or may not"), "{fault}");
        assert!(settled(lab, gone).await.is_ok());
        assert!(settled(lab, ran).await.is_err());
        assert_eq!(
            lab.fake.script.calls("domain.start") + lab.fake.script.calls("domain.reboot") + lab.fake.script.calls("domain.undefine"),
            0
        );
        let shown = lab.told(task, "task.finished").after.unwrap();
        assert_eq!(shown.state(), "failed");
        assert_eq!(lab.ask(task, "task.show", json!({})).await.unwrap()["message"], "interrupted");
    });
}

/// Asking the libvirt of another hypervisor would find the machine gone, and call that the effect of a force-off.
#[test]
fn an_interrupted_operation_is_judged_by_its_own_hypervisor_alone() {
    story(async |lab| {
        let beta = FakeHost::new("beta");
        let id = DomainId(uuid::Uuid::from_u128(0xbe7a));
        beta.add_domain("ignored", DomainState::Running, true);
        let id_of_gone = DomainId(uuid::Uuid::from_u128(0xdead));
        for (domain, owner) in [(id, "beta"), (id_of_gone, "gamma")] {
            lab.authority.claim_unowned(vec![domain], owner.parse().unwrap()).await.unwrap();
        }
        let at_gamma = accepted(lab, "domain.force-off", id_of_gone, json!({})).await;
        let at_beta = accepted(lab, "domain.define", EntityId::Hypervisor("beta".parse().unwrap()), json!({"name": "new"})).await;
        let forced = accepted(lab, "domain.force-off", id, json!({})).await;
        // Beta cannot be looked at when it is asked the first time; it is asked again by itself.
        beta.script.fail("domain.read", 1, Fault::new(FaultKind::Timeout, "libvirt did not answer"));
        lab.begin_with(vec![beta.clone()]).await;
        let fault = settled(lab, at_gamma).await.unwrap_err();
        assert!(fault.message.contains("not served here"), "{fault}");
        assert!(settled(lab, at_beta).await.unwrap_err().message.contains("had not taken effect"));
        let answer = settled(lab, forced).await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains("had taken effect"), "{answer}");
        assert_eq!(lab.fake.script.calls("domain.read"), 0, "alpha was asked about a machine of beta");
    });
}

#[test]
fn a_machine_defined_anew_before_its_ownership_was_forgotten_can_be_started() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let epoch = lab.entity(id).unwrap().epoch;
        // What is left when the old machine's ownership is let go after the new one was claimed.
        lab.authority.forget(id, epoch).await.unwrap();
        assert_eq!(lab.done(id, "domain.start").await, "web1 is started");
    });
}
