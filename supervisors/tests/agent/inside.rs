//! What a host is made of, what its agent logged, and a host that is in maintenance.

use super::*;
use archipel_contract::hypervisor::{LogLevel, LogLine};
use archipel_supervisors::diary::DIARY;

fn closed(lab: &Lab) -> bool {
    lab.entity(hv()).unwrap().to_json()["closed"] == true
}

#[test]
fn a_host_in_maintenance_shows_it_until_it_is_opened() {
    story(async |lab| {
        lab.begin().await;
        assert!(!closed(lab));
        let answer = lab.ask(hv(), "hypervisor.maintenance", json!({})).await.unwrap();
        assert_eq!(answer["message"], "alpha is in maintenance and takes no machine of another host");
        let event = lab.recorder.wait(SOON, "closed", |e| e.detail.as_deref() == Some("closed"));
        assert_eq!((&*event.topic, event.cause.clone()), ("hypervisor.changed", person()));
        assert!(closed(lab));
        // Listing everything again does not open it.
        lab.fake.lose("libvirtd is restarted");
        lab.told(hv(), "hypervisor.lost");
        lab.fake.restore();
        lab.recorder.wait(SOON, "it is back", |e| e.topic == "hypervisor.connected" && e.seq.0 > event.seq.0);
        assert!(closed(lab));
        lab.ask(hv(), "hypervisor.maintenance", json!({"enabled": false})).await.unwrap();
        lab.recorder.wait(SOON, "open", |e| e.detail.as_deref() == Some("open"));
        assert!(!closed(lab));
        assert_eq!(lab.ask(hv(), "hypervisor.maintenance", json!({"enabled": "yes"})).await.unwrap_err().kind, FaultKind::InvalidRequest);
    });
}

#[test]
fn a_host_tells_what_it_is_made_of() {
    story(async |lab| {
        lab.begin().await;
        let told = lab.ask(hv(), "hypervisor.capabilities", json!({})).await.unwrap();
        assert_eq!((told["cpus"].as_u64(), told["numa"][0]["cpus"].as_str()), (Some(8), Some("0-7")), "{told}");
        let all = lab.ask(hv(), "hypervisor.devices", json!({})).await.unwrap();
        assert_eq!(all.as_array().unwrap().len(), 2);
        let storage = lab.ask(hv(), "hypervisor.devices", json!({"kind": "storage"})).await.unwrap();
        assert_eq!((storage.as_array().unwrap().len(), storage[0]["name"].as_str()), (1, Some("block_sda")));
    });
}

#[test]
fn an_administrator_sees_the_last_lines_of_the_log() {
    story(async |lab| {
        lab.begin().await;
        for (n, level) in [(1, LogLevel::Warn), (2, LogLevel::Info), (3, LogLevel::Debug)] {
            DIARY.enter(LogLine { at: Timestamp(n), level, part: "test".into(), text: format!("line {n}") });
        }
        let texts = async |arguments: Value| {
            let lines = lab.ask(hv(), "hypervisor.log", arguments).await.unwrap();
            lines.as_array().unwrap().iter().map(|l| l["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(json!({})).await, ["line 1", "line 2"]);
        assert_eq!(texts(json!({"level": "debug", "lines": 2})).await, ["line 2", "line 3"]);
        assert_eq!(texts(json!({"level": "warn"})).await, ["line 1"]);
        for lines in [0, 1001] {
            assert_eq!(lab.ask(hv(), "hypervisor.log", json!({"lines": lines})).await.unwrap_err().kind, FaultKind::InvalidRequest);
        }
        let viewer = Caller { role: Role::Viewer, ..admin() };
        assert_eq!(lab.as_caller(viewer, hv(), "hypervisor.log", json!({})).await.unwrap_err().kind, FaultKind::Forbidden);
    });
}
