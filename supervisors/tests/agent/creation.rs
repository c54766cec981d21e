//! Machines that are created: everything that was asked for is there in the end, or nothing is.

use super::*;
use archipel_contract::{
    Bytes,
    port::Documents,
    volume::{NewVolume, Preallocation, VolumeFormat},
};

async fn ended(lab: &Lab, task: TaskId) -> Value {
    lab.told(task, "task.finished").after.unwrap().to_json()
}

async fn volumes(lab: &Lab) -> Vec<String> {
    let all = lab.ask(lab.pool(), "volume.list", json!({})).await.unwrap();
    all.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
}

fn named(lab: &Lab, name: &str) -> Option<Value> {
    let all = lab.agent().inventory().entities();
    all.into_iter().find(|e| &*e.name == name && matches!(e.id, EntityId::Domain(_))).map(|e| e.to_json())
}

const JUST_THE_IMAGE: [&str; 1] = ["disk.qcow2"];

#[test]
fn an_image_is_all_that_a_machine_needs() {
    story(async |lab| {
        lab.begin().await;
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
        let end = ended(lab, task).await;
        assert_eq!(end["state"], "done", "{end}");
        assert!(end["message"].as_str().unwrap().starts_with("web1 is created and started"), "{end}");
        let entity = named(lab, "web1").unwrap();
        assert_eq!((&entity["state"], &entity["vcpus"]), (&json!("running"), &json!(2)));
        let id: DomainId = entity["id"].as_str().unwrap().parse().unwrap();
        assert_eq!((lab.told(id, "domain.added").cause, lab.told(id, "domain.started").cause), (person(), person()));
        assert_eq!(volumes(lab).await, ["disk.qcow2", "web1.qcow2", "web1-seed.iso"]);
        let disks = lab.ask(id, "domain.volumes", json!({})).await.unwrap();
        let shown: Vec<_> = disks.as_array().unwrap().iter().map(|d| (d["volume"].as_str().unwrap(), d["read_only"] == true)).collect();
        assert_eq!(shown, [("web1-seed.iso", true), ("web1.qcow2", false)]);
        lab.done(id, "domain.force-off").await;
        lab.ask(id, "domain.undefine", json!({"with_volumes": "all"})).await.unwrap();
        assert_eq!(volumes(lab).await, JUST_THE_IMAGE, "the seed goes with its machine");
    });
}

#[test]
fn a_machine_without_a_name_gets_one_that_can_be_said() {
    story(async |lab| {
        lab.begin().await;
        let ask = json!({"image": "default/disk.qcow2", "linked": true, "size": "1GiB", "start": false, "cloud_init": false});
        let task = lab.started(hv(), "domain.create", ask).await;
        let end = ended(lab, task).await;
        let said = end["message"].as_str().unwrap().to_owned();
        let name = said.split(' ').next().unwrap();
        assert!(end["state"] == "done" && name.contains('-') && said.ends_with("is created and off"), "{end}");
        assert_eq!(named(lab, name).unwrap()["state"], "shutoff");
        assert_eq!(volumes(lab).await, ["disk.qcow2".to_owned(), format!("{name}.qcow2")], "there is nothing to tell it");
    });
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    story(async |lab| {
        lab.begin().await;
        let full = || Fault::wrong_state("the pool is full");
        for (operation, left) in [("volume.copy", 0), ("volume.upload", 1), ("domain.define", 2), ("domain.start", 3)] {
            lab.fake.script.fail(operation, 1, full());
            let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
            let end = ended(lab, task).await;
            assert_eq!((&end["state"], &end["fault"]["kind"]), (&json!("failed"), &json!("wrong-state")), "{operation}: {end}");
            let said = end["message"].as_str().unwrap();
            assert!(said.contains("the pool is full; what had been made was removed again"), "{operation} ({left} made): {said}");
            assert_eq!(volumes(lab).await, JUST_THE_IMAGE, "{operation}");
            assert!(lab.fake.host().domains.list().await.unwrap().is_empty(), "{operation}");
        }
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
        assert_eq!(ended(lab, task).await["state"], "done", "the name is free again");
    });
}

#[test]
fn what_could_not_be_removed_is_named() {
    story(async |lab| {
        lab.begin().await;
        lab.fake.script.fail("domain.define", 1, Fault::wrong_state("no such machine type"));
        lab.fake.script.fail("volume.delete", 1, Fault::busy("somebody holds it"));
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
        let end = ended(lab, task).await;
        let said = end["message"].as_str().unwrap();
        assert!(
            said.contains("no such machine type; left behind, to be removed by hand: the volume default/web1-seed.iso (somebody holds it)")
        );
        assert_eq!(volumes(lab).await, ["disk.qcow2", "web1-seed.iso"]);
    });
}

#[test]
fn a_machine_that_may_run_is_not_taken_apart() {
    story(async |lab| {
        lab.begin().await;
        lab.fake.script.lie("domain.start", 1, Fault::new(FaultKind::Timeout, "libvirt did not answer within 120 s"));
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
        let end = ended(lab, task).await;
        let said = end["message"].as_str().unwrap();
        assert!(end["state"] == "failed" && said.contains("left behind"), "{end}");
        for left in ["the virtual machine web1", "default/web1.qcow2", "default/web1-seed.iso"] {
            assert!(said.contains(left), "{left} is not named: {said}");
        }
        // The task ends with the answer; that the guest runs is told by libvirt, in its own time.
        let started = lab.seen("domain.started").after.unwrap().to_json();
        assert_eq!((&started["name"], &started["state"]), (&json!("web1"), &json!("running")), "its guest goes on");
        assert_eq!(volumes(lab).await.len(), 3);
    });
}

#[test]
fn a_creation_that_is_cancelled_leaves_nothing() {
    story(async |lab| {
        lab.begin().await;
        for step in ["volume.copy", "volume.upload", "domain.define"] {
            lab.fake.script.hold(step, "");
            let before = lab.fake.script.calls(step);
            let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
            let begun = async {
                while lab.fake.script.calls(step) == before {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, begun).await.expect("the step begins");
            lab.done(task, "task.cancel").await;
            lab.fake.script.release();
            let end = ended(lab, task).await;
            assert_eq!((&end["state"], &end["message"]), (&json!("cancelled"), &json!("stopped; nothing half done is left")), "{step}");
            assert_eq!(volumes(lab).await, JUST_THE_IMAGE, "{step}");
            assert!(lab.fake.host().domains.list().await.unwrap().is_empty(), "{step}");
        }
    });
}

#[test]
fn a_name_is_taken_from_the_start() {
    story(async |lab| {
        lab.fake.add_domain("old", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("volume.copy", "");
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "image": "disk.qcow2"})).await;
        for (command, ask) in [
            ("domain.create", json!({"name": "web1", "image": "disk.qcow2"})),
            ("domain.define", json!({"name": "web1"})),
            ("domain.create", json!({"name": "old", "image": "disk.qcow2"})),
        ] {
            let fault = lab.ask(hv(), command, ask).await.unwrap_err();
            assert!(fault.kind == FaultKind::Conflict && fault.message.contains("choose another name"), "{fault}");
        }
        lab.fake.script.release();
        assert_eq!(ended(lab, task).await["state"], "done");
    });
}

#[test]
fn what_is_there_is_never_overwritten_and_a_used_disk_is_not_given_twice() {
    story(async |lab| {
        lab.begin().await;
        let task = lab.started(hv(), "domain.create", json!({"name": "web1", "disk": "disk.qcow2"})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
        assert_eq!(volumes(lab).await, JUST_THE_IMAGE, "the disk is used as it is");
        let fault = lab.ask(hv(), "domain.create", json!({"name": "web2", "disk": "disk.qcow2"})).await.unwrap_err();
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("used by web1"), "{fault}");
        let fault = lab.ask(hv(), "domain.create", json!({"name": "web2", "image": "disk.qcow2"})).await.unwrap_err();
        assert!(fault.message.contains("written to by web1"), "{fault}");
        lab.ask(lab.pool(), "volume.create", json!({"volume": "web3.qcow2", "capacity": "1GiB"})).await.unwrap();
        let ask = json!({"name": "web3", "network_boot": true});
        let fault = lab.ask(hv(), "domain.create", ask).await.unwrap_err();
        assert!(fault.kind == FaultKind::Conflict && fault.message.contains("there is a volume web3.qcow2 in default already"), "{fault}");
    });
}

#[test]
fn a_creation_that_a_restart_interrupted_says_what_is_left_of_it() {
    story(async |lab| {
        // As the agent before this one left it: the disk is whole, of the seed there is a part, and nothing is defined.
        let pool = lab.fake.host().pools.list().await.unwrap()[0].id;
        let made = |name: &str, whole| json!({"what": "volume", "pool": pool, "pool_name": "default", "name": name, "whole": whole});
        let record =
            json!({"made": [made("disk.qcow2", true), made("web1-seed.iso", false), {"what": "domain", "name": "web1", "id": null}]});
        let task = TaskId::fresh();
        let key = format!("making/{}", task.0);
        lab.local.write_document(key.clone(), None, Some(record.to_string().into_bytes())).await.unwrap();
        let part = NewVolume {
            name: "web1-seed.iso.archipel-part".into(),
            capacity: Some(Bytes::MIB),
            format: VolumeFormat::Raw,
            preallocation: Preallocation::None,
            backing: None,
        };
        lab.fake.host().volumes.create(pool, part).await.unwrap();
        let operation = Operation {
            id: OperationId(task.0),
            caller: "admin@vm.localhost".into(),
            role: Role::Admin,
            command: "domain.create".into(),
            target: task.into(),
            arguments: json!({"host": "alpha", "target": "hv.alpha"}),
            accepted: Timestamp(0),
        };
        lab.journal.accept(operation).await.unwrap();
        lab.begin().await;
        let end = lab.told(task, "task.finished").after.unwrap().to_json();
        let said = end["fault"]["message"].as_str().unwrap();
        assert!(end["state"] == "failed" && said.contains("interrupted by a restart"), "{said}");
        assert!(said.contains("left of it: the volume default/disk.qcow2; look at"), "{said}");
        assert_eq!(volumes(lab).await, JUST_THE_IMAGE, "the part is gone, and what is whole stays: somebody may have taken it meanwhile");
        assert_eq!(lab.local.document(key).await.unwrap(), None);
    });
}
