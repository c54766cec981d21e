//! What every journal must do: remember what was accepted, and answer it once.

use crate::{
    EntityId, Fault, FaultKind, OperationId, Role, Timestamp,
    port::{Acceptance, Journal, Operation},
};
use serde_json::json;

fn operation(id: OperationId) -> Operation {
    Operation {
        id,
        caller: "admin@cell".into(),
        role: Role::Admin,
        command: "domain.start".into(),
        target: EntityId::Domain(crate::DomainId(uuid::Uuid::nil())),
        arguments: json!({"paused": false}),
        accepted: Timestamp(1000),
    }
}

/// The same operation sent again gets the first answer, a success as well as a fault.
pub async fn the_first_answer_stands(journal: &dyn Journal) {
    for outcome in [Ok(json!({"message": "started"})), Err(Fault::wrong_state("web1 is running already").because("libvirt: 55"))] {
        let op = operation(OperationId::fresh());
        assert_eq!(journal.recall(op.clone()).await.expect("recall"), None);
        assert_eq!(journal.accept(op.clone()).await.expect("accept"), Acceptance::New, "recalling writes nothing");
        assert_eq!(journal.accept(op.clone()).await.expect("accept"), Acceptance::Running);
        assert_eq!(journal.recall(op.clone()).await.expect("recall"), Some(Acceptance::Running));
        journal.complete(op.caller.clone(), op.id, outcome.clone(), Timestamp(2000)).await.expect("complete");
        assert_eq!(journal.accept(op.clone()).await.expect("accept"), Acceptance::Done(outcome.clone()));
        let late = journal.complete(op.caller.clone(), op.id, Err(Fault::internal("another")), Timestamp(3000)).await;
        assert!(late.is_ok(), "completing twice is harmless");
        assert_eq!(journal.recall(op.clone()).await.expect("recall"), Some(Acceptance::Done(outcome.clone())));
        assert_eq!(journal.accept(op).await.expect("accept"), Acceptance::Done(outcome), "and changes nothing");
    }
}

/// An id names one request: the same id with something else in it is refused, and another person's id is another operation.
pub async fn an_id_names_one_request(journal: &dyn Journal) {
    let op = operation(OperationId::fresh());
    journal.accept(op.clone()).await.expect("accept");
    for other in [
        Operation { command: "domain.pause".into(), ..op.clone() },
        Operation { arguments: json!({"paused": true}), ..op.clone() },
        Operation { target: EntityId::Domain(crate::DomainId(uuid::Uuid::max())), ..op.clone() },
    ] {
        assert_eq!(journal.accept(other).await.expect_err("must be refused").kind, FaultKind::Conflict);
    }
    let theirs = Operation { caller: "eve@cell".into(), ..op.clone() };
    assert_eq!(journal.accept(theirs).await.expect("accept"), Acceptance::New);
    let later = Operation { accepted: Timestamp(9000), role: Role::Viewer, ..op };
    assert_eq!(journal.accept(later).await.expect("accept"), Acceptance::Running, "time and role are not part of the request");
}

/// What was accepted and not done is found again; what is done and old is forgotten.
pub async fn the_interrupted_are_found(journal: &dyn Journal) {
    let (open, done) = (operation(OperationId::fresh()), operation(OperationId::fresh()));
    journal.accept(open.clone()).await.expect("accept");
    journal.accept(done.clone()).await.expect("accept");
    journal.complete(done.caller.clone(), done.id, Ok(json!(null)), Timestamp(2000)).await.expect("complete");
    let found = journal.interrupted().await.expect("interrupted");
    assert!(found.contains(&open) && !found.iter().any(|o| o.id == done.id), "{found:?}");
    assert!(journal.forget_before(Timestamp(2001)).await.expect("forget") >= 1);
    assert_eq!(journal.accept(done).await.expect("accept"), Acceptance::New, "forgotten");
    assert!(journal.interrupted().await.expect("interrupted").contains(&open), "an open operation is never forgotten");
}

/// Tasks that ended are found again by whoever begins anew, the newest first; what else was done, and what goes on, is not among them.
pub async fn ended_tasks_are_found(journal: &dyn Journal) {
    let base = 1_000_000_000_000;
    let task = |n: u64| Operation {
        target: EntityId::Task(crate::TaskId::fresh()),
        arguments: json!({"host": "alpha", "name": format!("task {n}")}),
        accepted: Timestamp(base + n),
        ..operation(OperationId::fresh())
    };
    let (old, first, second, open) = (task(1), task(2), task(3), task(4));
    let plain = operation(OperationId::fresh());
    for op in [&old, &first, &second, &open, &plain] {
        journal.accept(op.clone()).await.expect("accept");
    }
    let failed = Err(Fault::unavailable("its disk is gone"));
    for (op, outcome, at) in [
        (&old, Ok(json!({})), 10),
        (&second, failed.clone(), 30),
        (&first, Ok(json!({"message": "made"})), 20),
        (&plain, Ok(json!({})), 40),
    ] {
        journal.complete(op.caller.clone(), op.id, outcome, Timestamp(base + at)).await.expect("complete");
    }
    let found = journal.ended_tasks(Timestamp(base + 11), 10).await.expect("ended");
    let told: Vec<_> = found.iter().map(|d| (&d.operation, &d.outcome, d.at)).collect();
    assert_eq!(told, [(&second, &failed, Timestamp(base + 30)), (&first, &Ok(json!({"message": "made"})), Timestamp(base + 20))]);
    let one = journal.ended_tasks(Timestamp(base), 1).await.expect("ended");
    assert_eq!(one.iter().map(|d| d.operation.id).collect::<Vec<_>>(), [second.id]);
}
