//! Who may have a machine moved, as the host sees it that receives it.

use super::*;
use archipel_contract::migration::{Candidate, ObstacleKind};

const ADMIN: &str = "admin@vm.localhost";

fn node(name: &str) -> Caller {
    Caller { jid: format!("hv.{name}@vm.localhost/x"), role: Role::Node, operation: OperationId::fresh() }
}

#[test]
fn the_move_of_somebody_who_may_not_any_more_is_refused_by_the_target() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        for (role, words) in [(Some(Role::Viewer), "has the role viewer now"), (None, "has no account in this cell")] {
            lab.board.role(ADMIN, role);
            // Their session, and so the source, still takes them for an administrator.
            let fault = lab.refused("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
            assert!(fault.kind == FaultKind::Forbidden && fault.message.contains(words), "{fault}");
        }
        let held = lab.site("beta").local.documents("agent/beta/arrival/".to_owned()).await.unwrap();
        assert!(held.is_empty() && lab.fake("alpha").script.calls("migration.transfer") == 0);
        lab.board.role(ADMIN, Some(Role::AdminRaw));
        let task = lab.started("alpha", id, "domain.migrate", json!({"to": "beta"})).await;
        assert_eq!(lab.ends("alpha", task).await["state"], "done");
        lab.at_rest(id, "beta").await;
    });
}

#[test]
fn the_check_names_missing_rights_together_with_everything_else() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("alpha").needs(id, |n| {
            n.devices.push("a graphics card".to_owned());
            n.networks.push("lan9".to_owned());
        });
        lab.begin_all().await;
        let guest = Caller { jid: "guest@vm.localhost/web".into(), role: Role::Viewer, operation: OperationId::fresh() };
        lab.board.role("guest@vm.localhost", Some(Role::Viewer));
        let answer = lab.as_caller("alpha", guest, id, "domain.migrate-check", json!({"to": "beta"})).await.unwrap();
        let found: Vec<Candidate> = serde_json::from_value(answer).unwrap();
        let kinds: Vec<ObstacleKind> = found[0].obstacles.iter().map(|o| o.kind).collect();
        assert_eq!(kinds, [ObstacleKind::Network, ObstacleKind::Device, ObstacleKind::Rights], "{found:?}");
        let own: Vec<Candidate> = serde_json::from_value(lab.ask("alpha", id, "domain.migrate-check", json!({})).await.unwrap()).unwrap();
        assert!(own.iter().all(|c| c.obstacles.iter().all(|o| o.kind != ObstacleKind::Rights)), "{own:?}");
    });
}

#[test]
fn a_drain_stops_moving_when_its_person_may_not_any_more() {
    story(&["alpha", "beta"], async |lab| {
        for n in 0..4 {
            lab.fake("alpha").add_domain(&format!("vm{n}"), DomainState::Running, true);
        }
        lab.begin_all().await;
        lab.fake("alpha").script.hold("migration.copy", "");
        let task = lab.started("alpha", hv("alpha"), "hypervisor.drain", json!({})).await;
        lab.until("two are on their way", |l| l.fake("alpha").script.calls("migration.copy") == 2).await;
        lab.board.role(ADMIN, Some(Role::Viewer));
        lab.fake("alpha").script.release();
        let ended = lab.ends("alpha", task).await;
        let message = ended["message"].as_str().unwrap();
        assert!(
            message.starts_with("2 of 4 machines moved; 2 could not be: vm2:") && message.contains("has the role viewer now"),
            "{ended}"
        );
        assert_eq!(lab.fake("alpha").script.calls("migration.transfer"), 2);
    });
}

#[test]
fn only_the_host_a_machine_came_from_asks_for_it_back_and_only_for_somebody_who_may() {
    story(&["alpha", "beta", "gamma"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let send_back = async |lab: &Lab, at: &str, to: &str, role: &str| {
            let asked = json!({"domain": id, "way": "{}", "on_behalf_of": ADMIN, "role": role});
            lab.as_caller(at, node(to), hv(at), "hypervisor.send-back", asked).await
        };
        let moved = async |lab: &Lab, from: &str, to: &str| {
            let task = lab.started(from, id, "domain.migrate", json!({"to": to})).await;
            assert_eq!(lab.ends(from, task).await["state"], "done");
            lab.at_rest(id, to).await;
        };
        let at_home = send_back(lab, "alpha", "beta", "admin").await.unwrap_err();
        assert!(at_home.kind == FaultKind::Forbidden && at_home.message.contains("did not come to alpha from beta"), "{at_home}");
        moved(lab, "alpha", "beta").await;
        for (to, role) in [("gamma", "admin"), ("alpha", "viewer"), ("alpha", "node")] {
            let fault = send_back(lab, "beta", to, role).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Forbidden, "{to} {role}: {fault}");
        }
        // Away and back again: what was noted before counts for nothing.
        moved(lab, "beta", "gamma").await;
        moved(lab, "gamma", "beta").await;
        assert_eq!(send_back(lab, "beta", "alpha", "admin").await.unwrap_err().kind, FaultKind::Forbidden);
        // Also after a restart.
        lab.end("beta").await;
        lab.begin_again("beta").await;
        let started: Started = serde_json::from_value(send_back(lab, "beta", "gamma", "admin").await.unwrap()).unwrap();
        assert_eq!(lab.ends("beta", started.task).await["state"], "done");
        lab.at_rest(id, "gamma").await;
    });
}

#[test]
fn a_definition_by_hand_has_no_mac_of_a_machine_of_another_host() {
    story(&["alpha", "beta"], async |lab| {
        let mine = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        let theirs = lab.fake("beta").add_domain("web2", DomainState::Shutoff, true);
        lab.begin_all().await;
        lab.ask("beta", theirs, "domain.attach-nic", json!({"network": "default", "mac": "52:54:00:aa:bb:cc"})).await.unwrap();
        let xml = lab.ask("alpha", mine, "domain.xml", json!({})).await.unwrap()["text"].as_str().unwrap().to_owned();
        let with = |mac: &str| json!({"xml": xml.replace("</domain>", &format!("<interface><mac address='{mac}'/></interface></domain>"))});
        let edit = async |lab: &Lab, mac: &str| {
            let raw = Caller { role: Role::AdminRaw, ..admin() };
            lab.as_caller("alpha", raw, mine, "domain.edit-xml", with(mac)).await
        };
        let fault = edit(lab, "52:54:00:AA:bb:cc").await.unwrap_err();
        assert!(fault.kind == FaultKind::Conflict && fault.message.contains("web2 on beta has a card 52:54:00:aa:bb:cc"), "{fault}");
        edit(lab, "52:54:00:aa:bb:cd").await.unwrap();
        lab.board.silence(&"beta".parse().unwrap(), true);
        let said = edit(lab, "52:54:00:aa:bb:ce").await.unwrap();
        assert!(said["message"].as_str().unwrap().contains("whether machines on beta have its MACs could not be asked"), "{said}");
    });
}
