//! Work that goes on after its command was answered.

use super::*;

#[test]
fn shutdown_is_followed_to_its_end() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "domain.shutdown", json!({})).await;
        let shown = lab.ask(task, "task.wait", json!({"timeout": 20})).await.unwrap();
        assert_eq!(shown["state"], "done");
        assert_eq!(lab.told(id, "domain.stopped").cause, person());
        assert_eq!(lab.ask(task, "task.cancel", json!({})).await.unwrap_err().kind, FaultKind::WrongState);

        lab.done(id, "domain.start").await;
        lab.told(id, "domain.started");
        lab.fake.guests_listen(false);
        let deaf = lab.started(id, "domain.shutdown", json!({"timeout": 1})).await;
        let fault = lab.told(deaf, "task.finished").after.unwrap().to_json()["fault"].clone();
        assert_eq!(fault["kind"], "timeout");
        assert!(fault["message"].as_str().unwrap().contains("force-off"));

        let cancelled = lab.started(id, "domain.shutdown", json!({"timeout": 3600})).await;
        assert_eq!(lab.ask(cancelled, "task.wait", json!({"timeout": 0})).await.unwrap()["state"], "running");
        lab.done(cancelled, "task.cancel").await;
        assert_eq!(lab.told(cancelled, "task.finished").after.unwrap().state(), "cancelled");
    });
}

#[test]
fn a_pool_is_refreshed_by_a_task_and_its_volumes_are_listed() {
    story(async |lab| {
        lab.begin().await;
        let pool = lab.pool();
        let task = lab.started(pool, "storage-pool.refresh", json!({})).await;
        assert_eq!(lab.told(task, "task.finished").after.unwrap().state(), "done");
        assert_eq!(lab.told(pool, "storage-pool.refreshed").cause, person());
        let volumes = lab.ask(pool, "volume.list", json!({})).await.unwrap();
        assert_eq!(volumes[0]["id"], format!("{pool}/disk.qcow2"));
        assert_eq!(lab.ask(pool, "volume.info", json!({"volume": "disk.qcow2"})).await.unwrap()["host"], "alpha");
        lab.done(pool, "storage-pool.stop").await;
        lab.told(pool, "storage-pool.stopped");
        assert_eq!(lab.ask(pool, "volume.list", json!({})).await.unwrap_err().kind, FaultKind::WrongState);
        lab.done(pool, "storage-pool.start").await;
        assert_eq!(lab.told(pool, "storage-pool.started").cause, person());
    });
}

#[test]
fn a_task_does_not_say_that_a_guest_runs_on_when_nobody_can_see_it() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.fake.guests_listen(false);
        let task = lab.started(id, "domain.shutdown", json!({"timeout": 1})).await;
        lab.fake.lose("connection reset");
        let fault = lab.told(task, "task.finished").after.unwrap().to_json()["fault"].clone();
        assert_eq!(fault["kind"], "unavailable", "{fault}");
        assert!(fault["message"].as_str().unwrap().contains("nobody knows"), "{fault}");
    });
}

#[test]
fn ended_tasks_are_known_after_a_restart_and_what_it_interrupted_has_failed() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let done = lab.started(id, "domain.shutdown", json!({})).await;
        lab.told(id, "domain.stopped");
        lab.done(id, "domain.start").await;
        lab.told(id, "domain.started");
        lab.fake.guests_listen(false);
        let failed = lab.started(id, "domain.shutdown", json!({"timeout": 1})).await;
        lab.told(failed, "task.finished");
        let cancelled = lab.started(id, "domain.shutdown", json!({"timeout": 3600})).await;
        lab.done(cancelled, "task.cancel").await;
        let running = lab.started(id, "domain.shutdown", json!({"timeout": 3600})).await;
        let known = |task: TaskId| {
            let told = lab.told(task, "task.finished").after.unwrap().to_json();
            ["name", "state", "command", "target", "caller", "percent", "message", "fault", "started", "ended"].map(|key| told[key].clone())
        };
        let before = [done, failed, cancelled].map(known);
        for task in [done, failed, cancelled] {
            let written = async {
                while lab.journal.outcome("admin@vm.localhost", OperationId(task.0)).is_none() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, written).await.expect("its end is written down");
        }
        lab.end().await;
        lab.begin().await;
        for (task, before) in [done, failed, cancelled].into_iter().zip(before) {
            let shown = lab.ask(task, "task.wait", json!({"timeout": 0})).await.unwrap();
            let keys = ["name", "state", "command", "target", "caller", "percent", "message", "fault", "started", "ended"];
            assert_eq!(keys.map(|key| shown[key].clone()), before);
        }
        let interrupted = lab.told(running, "task.finished").after.unwrap().to_json();
        assert_eq!((&interrupted["state"], &interrupted["fault"]["kind"]), (&json!("failed"), &json!("unavailable")), "{interrupted}");
        let told: Vec<_> = lab.recorder.events().into_iter().filter(|e| matches!(e.entity, EntityId::Task(_))).map(|e| e.entity).collect();
        assert_eq!(told, [EntityId::Task(running)], "what had ended is no news");
        // It is known as failed from now on, too.
        lab.end().await;
        lab.begin().await;
        let shown = lab.ask(running, "task.show", json!({})).await.unwrap();
        assert_eq!((&shown["state"], &shown["fault"]), (&json!("failed"), &interrupted["fault"]));
    });
}
