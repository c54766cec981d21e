//! Moves that go well, and those that are refused.

use super::*;

#[test]
fn a_running_machine_moves_and_keeps_its_address() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("alpha").set_silently(id, |r| r.facts.autostart = true);
        lab.begin_all().await;
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        let moving = lab.seen("alpha", id, "domain.migrating");
        assert_eq!((moving.cause.clone(), moving.after.unwrap().to_json()["moving_to"].clone()), (person(), json!("beta")));
        let ended = lab.ends("alpha", task).await;
        assert_eq!(ended["state"], "done", "{ended}");
        assert!(ended["message"].as_str().unwrap().contains("stood still for 40 ms"), "{ended}");
        let there = lab.seen("beta", id, "domain.migrated");
        assert_eq!(there.cause, person());
        assert_eq!(there.after.as_ref().unwrap().to_json()["autostart"], true, "{there:?}");
        assert!(lab.seen("alpha", id, "domain.migrated").removes());
        lab.at_rest(id, "beta").await;
        assert_eq!(lab.ownership(id).await.epoch, Epoch(2));
        assert_eq!((lab.fake("alpha").really(id), lab.fake("beta").executes(id)), (Standing::Absent, true));
        // On its way it never looked like anything but running.
        let states: Vec<String> = lab
            .site("alpha")
            .recorder
            .events()
            .iter()
            .filter(|e| e.entity == EntityId::Domain(id))
            .filter_map(|e| e.after.as_ref().map(|a| a.state().to_owned()))
            .collect();
        assert!(states.iter().all(|s| s == "running"), "{states:?}");
        // And back, where it may be used as before.
        let task = lab.started("beta", id, "domain.migrate", json!({"to": "alpha"})).await;
        assert_eq!(lab.ends("beta", task).await["state"], "done");
        lab.at_rest(id, "alpha").await;
        lab.ask("alpha", id, "domain.pause", json!({})).await.unwrap();
        assert_eq!(lab.ownership(id).await.epoch, Epoch(3));
    });
}

#[test]
fn a_machine_that_is_off_moves_as_its_definition() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
        assert_eq!(lab.fake("alpha").really(id), Standing::Absent);
        lab.ask("beta", id, "domain.start", json!({})).await.unwrap();
        assert!(lab.fake("beta").executes(id));
    });
}

#[test]
fn everything_that_stands_in_the_way_is_told_at_once_and_nothing_is_left() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("beta").add_domain("web1", DomainState::Shutoff, true);
        lab.fake("alpha").needs(id, |n| {
            n.networks.push("lan".to_owned());
            n.devices.push("the disk controller".to_owned());
        });
        lab.begin_all().await;
        let fault = lab.refused("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(fault.kind, FaultKind::Conflict);
        for word in ["is called web1", "no network lan", "disk controller"] {
            assert!(fault.message.contains(word), "{fault}");
        }
        let list: Value = serde_json::from_str(fault.cause.as_deref().unwrap()).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
        let checked = lab.ask("alpha", id, "domain.migrate-check", json!({})).await.unwrap();
        assert_eq!((&checked[0]["host"], &checked[0]["possible"]), (&json!("beta"), &json!(false)));
        assert_eq!(checked[0]["obstacles"].as_array().unwrap().len(), 3);
        lab.at_rest(id, "alpha").await;
        assert_eq!(lab.fake("alpha").script.calls("migration.transfer"), 0);
    });
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let itself = lab.refused("alpha", id, "domain.migrate", json!({"to": "alpha"})).await;
        assert!(itself.kind == FaultKind::Conflict && itself.message.contains("on alpha already"), "{itself}");
        let unknown = lab.refused("alpha", id, "domain.migrate", json!({"to": "gamma"})).await;
        assert!(unknown.kind == FaultKind::NotFound && unknown.message.contains("gamma"), "{unknown}");
        lab.board.silence(&"beta".parse().unwrap(), true);
        let silent = lab.refused("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(silent.kind, FaultKind::Unavailable, "{silent}");
        lab.board.silence(&"beta".parse().unwrap(), false);
        // While it moves, nothing else is done to it, and nobody may start it anywhere.
        lab.fake("alpha").script.hold("migration.copy", "");
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        lab.until("it is on its way", |l| l.fake("alpha").script.calls("migration.copy") == 1).await;
        for command in ["domain.migrate", "domain.force-off", "domain.pause", "domain.park"] {
            let fault = lab.refused("alpha", id, command, json!({})).await;
            assert!(fault.kind == FaultKind::WrongState && fault.message.contains("is being moved to beta"), "{command}: {fault}");
        }
        assert!(matches!(lab.ownership(id).await.hold, Hold::Moving { .. }));
        lab.fake("alpha").script.release();
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
    });
}

#[test]
fn without_a_host_the_best_is_chosen_and_said_why() {
    story(&["alpha", "beta", "gamma"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("beta").set_memory(archipel_contract::Bytes::mib(20));
        lab.begin_all().await;
        let answer = lab.ask("alpha", id, "domain.migrate", json!({})).await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains("gamma, the best for it"), "{answer}");
        let task = serde_json::from_value::<Started>(answer).unwrap().task;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "gamma").await;
    });
}

#[test]
fn only_so_many_leave_at_once_and_the_others_wait_their_turn() {
    story(&["alpha", "beta", "gamma"], async |lab| {
        let ids: Vec<DomainId> = (0..4).map(|n| lab.fake("alpha").add_domain(&format!("vm{n}"), DomainState::Running, true)).collect();
        lab.begin_all().await;
        lab.fake("alpha").script.hold("migration.copy", "");
        let mut tasks = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            tasks.push(lab.started("alpha", *id, "domain.migrate", json!({"to": if n % 2 == 0 { "beta" } else { "gamma" }})).await);
        }
        lab.until("two are on their way", |l| l.fake("alpha").script.calls("migration.copy") == 2).await;
        let waiting = |l: &Lab| {
            tasks
                .iter()
                .filter(|t| {
                    l.entity("alpha", **t)
                        .is_some_and(|e| e.to_json()["message"].as_str().unwrap().starts_with("waiting: 2 machines leave"))
                })
                .count()
        };
        lab.until("two wait and say so", |l| waiting(l) == 2).await;
        lab.fake("alpha").script.release();
        for (id, task) in ids.into_iter().zip(&tasks) {
            assert_eq!(lab.ends("alpha", *task).await["state"], "done");
            assert!(matches!(lab.ownership(id).await.owner.as_str(), "beta" | "gamma"));
        }
    });
}

#[test]
fn what_was_done_on_a_machine_is_not_done_again_on_its_next_host() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        let caller = admin();
        let first = lab.as_caller("alpha", caller.clone(), id, "domain.start", json!({})).await;
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        let again = lab.as_caller("beta", caller, id, "domain.start", json!({})).await;
        assert!(first.is_ok());
        assert_eq!(first, again);
        assert_eq!(lab.fake("beta").script.calls("domain.start"), 0);
    });
}

#[test]
fn only_the_agent_of_a_host_speaks_for_it() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let person = lab.refused("beta", hv("beta"), "hypervisor.standing", json!({"domain": id})).await;
        assert_eq!(person.kind, FaultKind::Forbidden);
        let node = |name: &str| Caller { jid: format!("hv.{name}@vm.localhost/x"), role: Role::Node, operation: OperationId::fresh() };
        let passport = lab.fake("alpha").host().migration.passport(id).await.unwrap();
        let ask =
            json!({"epoch": 1, "passport": serde_json::to_string(&passport).unwrap(), "way": "{}", "on_behalf_of": "x", "role": "admin"});
        let foreign = lab.as_caller("beta", node("gamma"), hv("beta"), "hypervisor.reserve", ask.clone()).await.unwrap_err();
        assert_eq!(foreign.kind, FaultKind::Forbidden, "{foreign}");
        assert!(lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.reserve", ask).await.is_ok());
        // Nobody claims what is not moved to them, and nobody gives up what is here.
        let receive = json!({"saga": uuid::Uuid::from_u128(9), "domain": id, "epoch": 1});
        let claim = lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.receive", receive).await.unwrap_err();
        assert_eq!(claim.kind, FaultKind::Conflict, "{claim}");
        let give_up = json!({"saga": uuid::Uuid::from_u128(9), "domain": id});
        let here = lab.as_caller("alpha", node("beta"), hv("alpha"), "hypervisor.yield", give_up).await.unwrap_err();
        assert!(here.kind == FaultKind::WrongState && here.message.contains("on alpha as well"), "{here}");
        lab.at_rest(id, "alpha").await;
    });
}

#[test]
fn a_place_asked_for_too_late_is_not_held() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let saga = |n| uuid::Uuid::from_u128(n);
        // The two requests have overtaken each other on the way.
        lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.unreserve", json!({"saga": saga(1)})).await.unwrap();
        let late =
            lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.reserve", lab.place("alpha", id, 1).await).await.unwrap_err();
        assert!(late.message.contains("given back"), "{late}");
        lab.at_rest(id, "alpha").await;
        // A source that never begins to move keeps no place for ever.
        for n in 2..4 {
            lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.reserve", lab.place("alpha", id, n).await).await.unwrap();
        }
        lab.clock.advance(archipel_contract::Millis::seconds(301));
        lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.reserve", lab.place("alpha", id, 4).await).await.unwrap();
        let held = lab.site("beta").local.documents("agent/beta/arrival/".to_owned()).await.unwrap();
        assert_eq!(held.len(), 1);
        lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.unreserve", json!({"saga": saga(4)})).await.unwrap();
        lab.at_rest(id, "alpha").await;
    });
}

#[test]
fn the_past_of_its_definition_goes_where_the_machine_goes() {
    story(&["alpha", "beta", "gamma"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let past = async |lab: &Lab, at: &str| lab.ask(at, id, "domain.history", json!({})).await.unwrap();
        let arrives = async |lab: &Lab, at: &str, whole: &Value| {
            let whole = whole.as_array().unwrap();
            let arrived = async {
                while !past(lab, at).await.as_array().unwrap().starts_with(whole) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(SOON, arrived).await.unwrap_or_else(|_| panic!("{at} does not have {whole:?}"));
        };
        lab.ask("alpha", id, "domain.set-memory", json!({"memory": 1 << 29, "when": "next-boot"})).await.unwrap();
        let before = past(lab, "alpha").await;
        assert_eq!(before.as_array().unwrap().len(), 2, "as it was found, and the change: {before}");

        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        arrives(lab, "beta", &before).await;
        // Whoever does not have the machine is told nothing of it.
        let refused = lab.as_caller("alpha", node("gamma"), hv("alpha"), "hypervisor.past", json!({"domain": id})).await.unwrap_err();
        assert_eq!(refused.kind, FaultKind::Forbidden, "{refused}");

        // It is changed there, and comes back, over the shelf: nothing is told twice.
        lab.ask("beta", id, "domain.set-memory", json!({"memory": 1 << 28, "when": "next-boot"})).await.unwrap();
        let longer = past(lab, "beta").await;
        assert!(longer.as_array().unwrap().len() > 2, "{longer}");
        lab.ask("beta", id, "domain.force-off", json!({})).await.unwrap();
        lab.seen("beta", id, "domain.stopped");
        lab.ask("beta", id, "domain.park", json!({})).await.unwrap();
        lab.ask("alpha", hv("alpha"), "domain.unpark", json!({"machine": "web1"})).await.unwrap();
        arrives(lab, "alpha", &longer).await;
        lab.at_rest(id, "alpha").await;
    });
}
