//! Whatever breaks: one guest, one owner, and nothing is started by itself.

use super::*;

/// Holds the transfer at that point and waits until it is there.
async fn held_at(lab: &Lab, step: &str, id: DomainId) -> TaskId {
    lab.fake("alpha").script.hold(step, "");
    let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
    lab.until(step, |l| l.fake("alpha").script.calls(step) == 1).await;
    task
}

#[test]
fn a_transfer_that_breaks_leaves_the_machine_as_it_was() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("alpha").set_silently(id, |r| r.facts.autostart = true);
        lab.begin_all().await;
        for step in ["migration.prepare", "migration.copy", "migration.switch", "migration.finish"] {
            lab.fake("alpha").script.fail(step, 1, Fault::internal("unable to write to socket"));
            let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
            let ended = lab.ends("alpha", task).await;
            assert_eq!((&ended["state"], &ended["fault"]["kind"]), (&json!("failed"), &json!("internal")), "{step}: {ended}");
            lab.at_rest(id, "alpha").await;
            assert!(lab.fake("alpha").executes(id) && !lab.fake("beta").executes(id), "{step}");
            assert_eq!((lab.fake("alpha").unfinished(), lab.fake("beta").unfinished()), (vec![], vec![]), "{step}");
            assert!(lab.fake("alpha").domain(id).unwrap().facts.autostart, "{step}");
            assert_eq!(lab.ownership(id).await.epoch, Epoch(1));
        }
        lab.ask("alpha", id, "domain.pause", json!({})).await.unwrap();
    });
}

#[test]
fn a_cut_between_the_libvirts_ends_the_move_and_not_the_guest() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.copy", id).await;
        lab.lan.cut("alpha", "beta");
        assert_eq!(lab.ends("alpha", task).await["state"], "failed");
        lab.at_rest(id, "alpha").await;
        assert!(lab.fake("alpha").executes(id) && lab.fake("beta").unfinished().is_empty());
    });
}

#[test]
fn a_transfer_whose_answer_is_lost_is_finished_by_what_the_hosts_say() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        lab.fake("alpha").script.fail("migration.answer", 1, Fault::internal("connection reset"));
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
        assert!(lab.fake("beta").executes(id));
    });
}

#[test]
fn a_move_is_cancelled_while_that_is_possible() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.copy", id).await;
        lab.ask("alpha", task, "task.cancel", json!({})).await.unwrap();
        let ended = lab.ends("alpha", task).await;
        assert_eq!(ended["state"], "cancelled", "{ended}");
        lab.at_rest(id, "alpha").await;
        assert!(lab.fake("alpha").executes(id));
        let late = lab.refused("alpha", task, "task.cancel", json!({})).await;
        assert_eq!(late.kind, FaultKind::WrongState);
    });
}

#[test]
fn a_restart_of_the_source_takes_the_transfer_up_again_under_the_same_task() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.copy", id).await;
        lab.end("alpha").await;
        lab.begin_again("alpha").await;
        let again = lab.seen("alpha", id, "domain.added");
        assert!(again.after.is_some());
        lab.until("it is shown as moving", |l| l.entity("alpha", id).is_some_and(|e| e.domain().unwrap().moving_to.is_some())).await;
        lab.fake("alpha").script.release();
        let ended = lab.ends("alpha", task).await;
        assert_eq!(ended["state"], "done", "{ended}");
        assert_eq!(lab.fake("alpha").script.calls("migration.transfer"), 1, "it is not transferred twice");
        lab.at_rest(id, "beta").await;
    });
}

#[test]
fn a_restart_of_the_source_before_the_transfer_undoes_what_was_prepared() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("alpha").set_silently(id, |r| r.facts.autostart = true);
        lab.begin_all().await;
        let task = held_at(lab, "domain.set-autostart", id).await;
        lab.end("alpha").await;
        lab.fake("alpha").script.release();
        lab.begin_again("alpha").await;
        let ended = lab.ends("alpha", task).await;
        assert!(ended["state"] == "failed" && ended["message"].as_str().unwrap().contains("restart"), "{ended}");
        lab.at_rest(id, "alpha").await;
        assert!(lab.fake("alpha").domain(id).unwrap().facts.autostart);
    });
}

#[test]
fn a_target_that_falls_silent_is_waited_for_and_nothing_is_started() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.finish", id).await;
        lab.end("beta").await;
        lab.fake("alpha").script.release();
        let says = |l: &Lab| l.entity("alpha", task).map(|e| e.to_json()["message"].as_str().unwrap().to_owned()).unwrap_or_default();
        lab.until("it says that it waits", |l| says(l).contains("waiting:") && says(l).contains("nothing is started")).await;
        let fault = lab.refused("alpha", id, "domain.start", json!({})).await;
        assert!(fault.message.contains("is being moved to beta"), "{fault}");
        let fault = lab.refused("alpha", task, "task.cancel", json!({})).await;
        assert!(fault.message.contains("handed over"), "{fault}");
        lab.begin_again("beta").await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
    });
}

#[test]
fn a_target_claims_by_itself_what_it_sees_when_the_source_is_gone() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.finish", id).await;
        lab.end("alpha").await;
        lab.fake("alpha").script.release();
        lab.seen("beta", id, "domain.migrated");
        assert_eq!((lab.ownership(id).await.owner.as_str(), lab.ownership(id).await.epoch), ("beta", Epoch(2)));
        lab.begin_again("alpha").await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
        assert_eq!(lab.fake("alpha").really(id), Standing::Absent, "what was left of it is released");
    });
}

#[test]
fn a_guest_that_dies_on_the_way_is_reported_and_may_be_started_again() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let task = held_at(lab, "migration.copy", id).await;
        lab.fake("alpha").enter(id, DomainState::Shutoff, "crashed");
        lab.fake("alpha").script.release();
        let ended = lab.ends("alpha", task).await;
        assert!(ended["state"] == "failed" && ended["message"].as_str().unwrap().contains("nothing was started"), "{ended}");
        lab.at_rest(id, "alpha").await;
        assert_eq!(lab.fake("alpha").script.calls("domain.start") + lab.fake("beta").script.calls("domain.start"), 0);
        lab.ask("alpha", id, "domain.start", json!({})).await.unwrap();
    });
}

#[test]
fn a_machine_moved_with_other_tools_is_adopted() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let host = lab.fake("alpha").host();
        let landing = lab.fake("beta").host().migration.landing().await.unwrap();
        host.migration.transfer(id, landing, Default::default()).await.unwrap();
        let adopted = lab.seen("beta", id, "domain.migrated");
        assert_eq!(adopted.cause, Cause::Libvirt);
        lab.at_rest(id, "beta").await;
        assert!(lab.seen("alpha", id, "domain.migrated").removes());
        // What other tools left at the source is not ours to start.
        assert_eq!(lab.ask("alpha", id, "domain.start", json!({})).await.unwrap_err().kind, FaultKind::NotFound);
    });
}

#[test]
fn what_libvirt_moved_away_is_not_started_while_its_guest_may_be_elsewhere() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        lab.board.silence(&"beta".parse().unwrap(), true);
        let host = lab.fake("alpha").host();
        let landing = lab.fake("beta").host().migration.landing().await.unwrap();
        host.migration.transfer(id, landing, Default::default()).await.unwrap();
        lab.seen("alpha", id, "domain.stopped");
        let fault = lab.refused("alpha", id, "domain.start", json!({})).await;
        assert!(fault.message.contains("could run twice"), "{fault}");
        assert_eq!(lab.fake("alpha").script.calls("domain.start"), 0);
    });
}

#[test]
fn a_move_that_nobody_drives_any_more_does_not_hold_its_machine() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        let step = archipel_contract::OwnershipStep::Depart {
            by: "alpha".parse().unwrap(),
            saga: archipel_contract::MoveId::fresh(),
            to: "beta".parse().unwrap(),
        };
        lab.authority.step(id, Epoch(1), step).await.unwrap();
        lab.ask("alpha", id, "domain.start", json!({})).await.unwrap();
        lab.at_rest(id, "alpha").await;
    });
}

#[test]
fn a_machine_that_was_given_up_is_not_taken_back_while_it_may_run_elsewhere() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        // Given up, and both agents end before anybody claims it: only the authority knows of it.
        yields(lab, id).await.unwrap();
        lab.end("alpha").await;
        lab.begin_again("alpha").await;
        lab.board.silence(&"beta".parse().unwrap(), true);
        let fault = lab.refused("alpha", id, "domain.start", json!({})).await;
        assert!(fault.message.contains("nobody may start it"), "{fault}");
        assert_eq!(lab.fake("alpha").script.calls("domain.start"), 0);
        // It is not there, and so it stays.
        lab.board.silence(&"beta".parse().unwrap(), false);
        lab.ask("alpha", id, "domain.start", json!({})).await.unwrap();
        lab.at_rest(id, "alpha").await;
    });
}

fn yields(lab: &Lab, id: DomainId) -> impl Future<Output = Result<Value, Fault>> + '_ {
    let node = Caller { jid: "hv.beta@vm.localhost/x".into(), role: Role::Node, operation: OperationId::fresh() };
    lab.as_caller("alpha", node, hv("alpha"), "hypervisor.yield", json!({"domain": id, "saga": uuid::Uuid::from_u128(9)}))
}

#[test]
fn a_machine_that_is_being_started_is_not_given_up() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        // Its right to run was looked at, and libvirt takes its time.
        lab.fake("alpha").script.hold("domain.start", "");
        let start = lab.ask("alpha", id, "domain.start", json!({}));
        let yielded = async {
            lab.until("libvirt was asked to start it", |l| l.fake("alpha").script.calls("domain.start") == 1).await;
            let looked = lab.fake("alpha").script.calls("migration.standing");
            let mut asked = std::pin::pin!(yields(lab, id));
            // Whoever else is asked meanwhile has the whole agent to itself, and still nobody looks at the machine.
            tokio::select! {
                answer = &mut asked => panic!("it was answered while the machine is being started: {answer:?}"),
                shown = lab.ask("alpha", hv("alpha"), "hypervisor.info", json!({})) => drop(shown.unwrap()),
            }
            assert_eq!(lab.fake("alpha").script.calls("migration.standing"), looked);
            assert_eq!(lab.ownership(id).await.hold, Hold::Owned);
            lab.fake("alpha").script.release();
            asked.await
        };
        let (started, yielded) = futures::join!(start, yielded);
        started.unwrap();
        let fault = yielded.unwrap_err();
        assert!(fault.kind == FaultKind::WrongState && fault.message.contains("on alpha as well"), "{fault}");
        lab.at_rest(id, "alpha").await;
    });
}

#[test]
fn a_machine_that_is_being_given_up_is_not_started() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        lab.fake("alpha").script.hold("migration.standing", "");
        let before = lab.fake("alpha").script.calls("migration.standing");
        let start = async {
            lab.until("it is being looked at", |l| l.fake("alpha").script.calls("migration.standing") == before + 1).await;
            let mut start = std::pin::pin!(lab.ask("alpha", id, "domain.start", json!({})));
            tokio::select! {
                answer = &mut start => panic!("it was answered while the machine is being given up: {answer:?}"),
                shown = lab.ask("alpha", hv("alpha"), "hypervisor.info", json!({})) => drop(shown.unwrap()),
            }
            lab.fake("alpha").script.release();
            start.await
        };
        let (yielded, started) = futures::join!(yields(lab, id), start);
        yielded.unwrap();
        assert_eq!(started.unwrap_err().kind, FaultKind::NotFound);
        assert_eq!(lab.fake("alpha").script.calls("domain.start"), 0);
    });
}

#[test]
fn a_transfer_that_hangs_after_it_was_given_up_is_freed_and_its_guest_goes_on() {
    for restarted in [false, true] {
        story(&["alpha", "beta"], async |lab| {
            let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
            lab.begin_all().await;
            let task = held_at(lab, "migration.finish", id).await;
            lab.fake("alpha").hangs_in_giving_up(id);
            if restarted {
                lab.end("alpha").await;
                lab.begin_again("alpha").await;
            }
            assert_eq!(lab.ends("alpha", task).await["state"], "failed");
            lab.at_rest(id, "alpha").await;
            lab.until("the guest goes on", |l| l.fake("alpha").executes(id)).await;
            assert!(lab.fake("alpha").unfinished().is_empty() && !lab.fake("beta").executes(id));
        });
    }
}
