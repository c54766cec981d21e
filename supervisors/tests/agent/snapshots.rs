//! Snapshots: taken, gone back to and deleted as tasks; what is lost is said before; and going back needs the right to run.

use super::*;
use archipel_contract::{Epoch, OwnershipStep};

async fn ended(lab: &Lab, task: TaskId) -> Value {
    lab.told(task, "task.finished").after.unwrap().to_json()
}

#[test]
fn a_machine_goes_back_to_what_it_was() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "snapshot.create", json!({"name": "fresh", "description": "just installed"})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
        let event = lab.told(id, "domain.snapshots");
        assert_eq!((event.cause, event.detail.as_deref()), (person(), Some("fresh taken")));
        lab.done(id, "domain.force-off").await;

        let fault = lab.ask(id, "snapshot.revert", json!({"snapshot": "fresh"})).await.unwrap_err();
        assert!(fault.kind == FaultKind::InvalidRequest && fault.message.contains("would be lost"), "{fault}");
        let fault = lab.ask(id, "snapshot.revert", json!({"snapshot": "stale", "discard": true})).await.unwrap_err();
        assert!(fault.kind == FaultKind::NotFound && fault.message.contains("there are fresh"), "{fault}");

        let task = lab.started(id, "snapshot.revert", json!({"snapshot": "fresh", "keep_as": "before"})).await;
        assert_eq!(ended(lab, task).await["message"], "web1 is as it was in the snapshot fresh");
        lab.told(id, "domain.started");
        let all = lab.ask(id, "snapshot.list", json!({})).await.unwrap();
        let names: Vec<_> = all.as_array().unwrap().iter().map(|s| (s["name"].as_str().unwrap(), s["current"] == true)).collect();
        assert_eq!(names, [("fresh", true), ("before", false)], "what it was before going back is kept");

        let task = lab.started(id, "snapshot.delete", json!({"snapshot": "fresh", "children": true})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
        assert_eq!(lab.ask(id, "snapshot.list", json!({})).await.unwrap(), json!([]));
    });
}

#[test]
fn going_back_starts_nothing_that_another_host_owns() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "snapshot.create", json!({"name": "fresh"})).await;
        ended(lab, task).await;
        lab.done(id, "domain.force-off").await;
        let step = OwnershipStep::Park { by: "alpha".parse().unwrap() };
        lab.authority.step(id, Epoch(1), step).await.unwrap();
        let task = lab.started(id, "snapshot.revert", json!({"snapshot": "fresh", "discard": true})).await;
        let fault = ended(lab, task).await["fault"].clone();
        assert_eq!(fault["kind"], "conflict", "{fault}");
        assert_eq!(lab.fake.script.calls("snapshot.revert"), 0, "libvirt was not even asked");
    });
}

#[test]
fn files_of_a_machine_that_is_off_are_merged_by_its_owner_alone() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        for name in ["first", "second", "third"] {
            let task = lab.started(id, "snapshot.create", json!({"name": name, "external": true})).await;
            assert_eq!(ended(lab, task).await["state"], "done");
        }
        let task = lab.started(id, "snapshot.delete", json!({"snapshot": "first"})).await;
        assert_eq!(ended(lab, task).await["message"], "the snapshot first was deleted");
        lab.done(id, "domain.force-off").await;
        lab.told(id, "domain.stopped");
        let task = lab.started(id, "snapshot.delete", json!({"snapshot": "second"})).await;
        assert_eq!(ended(lab, task).await["state"], "done", "its owner may");
        let step = OwnershipStep::Park { by: "alpha".parse().unwrap() };
        lab.authority.step(id, Epoch(1), step).await.unwrap();
        let task = lab.started(id, "snapshot.delete", json!({"snapshot": "third"})).await;
        let fault = ended(lab, task).await["fault"].clone();
        assert_eq!(fault["kind"], "conflict", "{fault}");
        assert_eq!(lab.fake.script.calls("snapshot.delete"), 2, "its disks are somebody else's now");
    });
}

#[test]
fn memory_is_saved_and_its_start_goes_on() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "domain.save", json!({})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
        let event = lab.told(id, "domain.stopped");
        assert_eq!(event.detail.as_deref(), Some("saved"));
        assert_eq!(lab.ask(id, "domain.save", json!({})).await.unwrap_err().kind, FaultKind::WrongState);
        lab.done(id, "domain.discard-saved").await;
        assert_eq!(lab.ask(id, "domain.discard-saved", json!({})).await.unwrap_err().kind, FaultKind::WrongState);
    });
}

#[test]
fn a_machine_whose_memory_is_saved_keeps_its_disks() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.ask(id, "domain.attach-disk", json!({"volume": "default/disk.qcow2", "device": "vdb"})).await.unwrap();
        lab.fake.keep_memory(id);
        let xml = lab.ask(id, "domain.xml", json!({})).await.unwrap()["text"].clone();
        let raw = Caller { role: Role::AdminRaw, ..admin() };
        for (caller, command, arguments) in
            [(admin(), "domain.detach-disk", json!({"disk": "vdb"})), (raw, "domain.edit-xml", json!({"xml": xml}))]
        {
            let fault = lab.as_caller(caller, id, command, arguments).await.unwrap_err();
            assert!(fault.kind == FaultKind::WrongState && fault.message.contains("discard-saved"), "{command}: {fault}");
        }
        lab.done(id, "domain.discard-saved").await;
        lab.ask(id, "domain.detach-disk", json!({"disk": "vdb"})).await.unwrap();
    });
}
