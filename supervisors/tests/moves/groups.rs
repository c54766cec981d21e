//! Hosts that are emptied and filled again.

use super::*;

#[test]
fn a_host_is_emptied_by_a_plan_and_filled_again() {
    story(&["alpha", "beta", "gamma"], async |lab| {
        let running: Vec<DomainId> = (0..3).map(|n| lab.fake("alpha").add_domain(&format!("vm{n}"), DomainState::Running, true)).collect();
        let off = lab.fake("alpha").add_domain("spare", DomainState::Shutoff, true);
        let stuck = lab.fake("alpha").add_domain("stuck", DomainState::Running, true);
        lab.fake("alpha").needs(stuck, |n| n.devices.push("a graphics card".to_owned()));
        lab.begin_all().await;
        let plan = lab.ask("alpha", hv("alpha"), "hypervisor.drain-plan", json!({})).await.unwrap();
        let line = |name: &str| plan.as_array().unwrap().iter().find(|l| l["name"] == name).unwrap().clone();
        assert!(line("vm0")["to"].is_string() && line("stuck")["to"].is_null(), "{plan}");
        assert!(line("stuck")["reason"].as_str().unwrap().contains("graphics card"));
        let task = lab.started("alpha", hv("alpha"), "hypervisor.drain", json!({})).await;
        let ended = lab.ends("alpha", task).await;
        assert_eq!(ended["state"], "failed", "{ended}");
        assert!(ended["message"].as_str().unwrap().starts_with("4 of 5 machines moved; 1 could not be: stuck:"), "{ended}");
        assert!(lab.entity("alpha", stuck).is_some());
        for id in running.iter().chain([&off]) {
            assert_ne!(lab.ownership(*id).await.owner.as_str(), "alpha");
        }
        assert_eq!(lab.entity("alpha", hv("alpha")).unwrap().to_json()["closed"], true);
        // Nothing comes here while it is closed, not even after a restart.
        lab.end("alpha").await;
        lab.begin_again("alpha").await;
        let at = lab.ownership(running[0]).await.owner;
        let fault = lab.refused(at.as_str(), running[0], "domain.migrate", json!({"to": "alpha"})).await;
        assert!(fault.message.contains("alpha is closed"), "{fault}");
        let task = lab.started("alpha", hv("alpha"), "hypervisor.undrain", json!({})).await;
        let ended = lab.ends("alpha", task).await;
        assert_eq!((&ended["state"], &ended["message"]), (&json!("done"), &json!("4 of 4 machines are back")));
        for id in running.into_iter().chain([off]) {
            lab.at_rest(id, "alpha").await;
        }
        assert!(lab.entity("alpha", hv("alpha")).unwrap().to_json().get("closed").is_none());
    });
}

#[test]
fn a_drain_goes_on_after_a_restart_of_the_daemon() {
    story(&["alpha", "beta"], async |lab| {
        let ids: Vec<DomainId> = (0..4).map(|n| lab.fake("alpha").add_domain(&format!("vm{n}"), DomainState::Running, true)).collect();
        lab.begin_all().await;
        lab.fake("alpha").script.hold("migration.copy", "");
        let task = lab.started("alpha", hv("alpha"), "hypervisor.drain", json!({})).await;
        lab.until("two are on their way", |l| l.fake("alpha").script.calls("migration.copy") == 2).await;
        lab.end("alpha").await;
        lab.fake("alpha").script.release();
        lab.begin_again("alpha").await;
        let ended = lab.ends("alpha", task).await;
        assert_eq!((&ended["state"], &ended["message"]), (&json!("done"), &json!("4 of 4 machines moved")));
        for id in ids {
            lab.at_rest(id, "beta").await;
        }
        assert_eq!(lab.fake("alpha").script.calls("migration.transfer"), 4);
    });
}

#[test]
fn a_selection_moves_by_name_and_tag_and_leaves_the_host_open() {
    story(&["alpha", "beta"], async |lab| {
        let ids: Vec<DomainId> = ["web1", "web2", "db1", "db2"].map(|n| lab.fake("alpha").add_domain(n, DomainState::Running, true)).into();
        lab.fake("alpha").set_silently(ids[1], |r| r.facts.note = Some("shop #front".into()));
        lab.begin_all().await;
        let unknown = lab.refused("alpha", hv("alpha"), "hypervisor.drain", json!({"only": "web9"})).await;
        assert!(unknown.kind == FaultKind::NotFound && unknown.message.contains("web9"), "{unknown}");
        let task = lab.started("alpha", hv("alpha"), "hypervisor.drain", json!({"only": "db1, #front", "to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["message"], "2 of 2 machines moved");
        let owners: Vec<String> =
            futures::future::join_all(ids.iter().map(|id| async { lab.ownership(*id).await.owner.to_string() })).await;
        assert_eq!(owners, ["alpha", "beta", "beta", "alpha"]);
        assert!(lab.entity("alpha", hv("alpha")).unwrap().to_json().get("closed").is_none());
    });
}

#[test]
fn a_drain_moves_as_many_at_once_as_the_hosts_may_and_says_how_many_that_are() {
    story(&["alpha", "beta"], async |lab| {
        lab.limits = Limits { out: 3, come: 4 };
        let ids: Vec<DomainId> = (0..5).map(|n| lab.fake("alpha").add_domain(&format!("vm{n}"), DomainState::Running, true)).collect();
        lab.begin_all().await;
        let of = |what: &str, answer: Value| -> (TaskId, String) {
            let started: Started = serde_json::from_value(answer).unwrap_or_else(|e| panic!("{what}: {e}"));
            (started.task, started.message)
        };
        lab.fake("alpha").script.hold("migration.copy", "");
        let (task, message) = of("drain", lab.ask("alpha", hv("alpha"), "hypervisor.drain", json!({"at_a_time": 8})).await.unwrap());
        assert_eq!(
            message,
            "5 machines are being moved away from alpha, 3 at a time; 8 were asked for, and 3 is the most it sends ([migration] at_once_out)"
        );
        lab.until("three are on their way", |l| l.fake("alpha").script.calls("migration.copy") == 3).await;
        let begun = ids.iter().filter(|id| lab.entity("alpha", **id).unwrap().domain().unwrap().moving_to.is_some()).count();
        assert_eq!(begun, 3, "the others are not even asked for");
        lab.fake("alpha").script.release();
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        let (task, message) = of("undrain", lab.ask("alpha", hv("alpha"), "hypervisor.undrain", json!({})).await.unwrap());
        assert_eq!(message, "alpha is open, and 5 machines are being brought back, 4 at a time");
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        let (task, message) = of("drain", lab.ask("alpha", hv("alpha"), "hypervisor.drain", json!({})).await.unwrap());
        assert_eq!(message, "5 machines are being moved away from alpha, 3 at a time");
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
    });
}
