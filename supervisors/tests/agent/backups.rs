//! Backups of machines that were taken back to one.

use super::*;

async fn ended(lab: &Lab, task: TaskId) -> Value {
    lab.told(task, "task.finished").after.unwrap().to_json()
}

async fn backup(lab: &Lab, id: DomainId) -> String {
    lab.clock.advance(archipel_contract::Millis::seconds(1));
    let task = lab.started(id, "backup.create", json!({"pool": "default"})).await;
    let end = ended(lab, task).await;
    assert_eq!(end["state"], "done", "{end}");
    end["message"].as_str().unwrap().to_owned()
}

async fn checkpoints(lab: &Lab, id: DomainId) -> Vec<String> {
    let all = lab.ask(id, "checkpoint.list", json!({})).await.unwrap();
    all.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_crash_left_noted_of_other_images_does_not_stand_in_the_way_of_the_next_backup() {
    story(async |lab| {
        lab.begin().await;
        let defined = lab.ask(hv(), "domain.define", json!({"name": "web1", "disk": "default/disk.qcow2"})).await.unwrap();
        let id: DomainId = serde_json::from_value(defined["id"].clone()).unwrap();
        lab.told(id, "domain.added");
        lab.done(id, "domain.start").await;
        assert!(backup(lab, id).await.contains("a full backup"));
        assert!(backup(lab, id).await.contains("an incremental backup"), "what is still noted in its images is of use");
        assert_eq!(lab.fake.script.calls("checkpoint.delete"), 0);
        let [last] = checkpoints(lab, id).await.try_into().unwrap();

        lab.done(id, "domain.force-off").await;
        let task = lab.started(id, "domain.restore", json!({"backup": last})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
        lab.fake.remember_checkpoint(id, &last);
        lab.done(id, "domain.start").await;
        assert!(backup(lab, id).await.contains("a full backup"), "its disks are others");
        let now = checkpoints(lab, id).await;
        assert!(now.len() == 1 && now[0] != last, "{now:?}");
        assert!(backup(lab, id).await.contains("an incremental backup"));
    });
}
