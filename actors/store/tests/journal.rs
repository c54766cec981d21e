//! The write-ahead journal on SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use archipel_contract::port::{Acceptance, Journal, Operation};
use archipel_contract::{Fault, FaultKind, Millis, OperationId, Role, Timestamp};
use archipel_store::Store;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use uuid::Uuid;

const HOUR: u64 = Millis::seconds(3600).0;

fn operation(n: u128, at: u64) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(n)),
        caller: "admin@vm.localhost".into(),
        role: Role::Admin,
        command: "domain.start".into(),
        target: Uuid::from_u128(7).to_string().parse().unwrap(),
        arguments: json!({"paused": false, "boot": "disk"}),
        accepted: Timestamp(at),
    }
}

async fn complete(store: &Store, operation: &Operation, outcome: Result<Value, Fault>, at: u64) -> Result<(), Fault> {
    store.complete(operation.caller.clone(), operation.id, outcome, Timestamp(at)).await
}

#[tokio::test]
async fn an_operation_runs_once_and_is_answered_the_same_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let op = operation(1, 1000);
    assert_eq!(store.accept(op.clone()).await.unwrap(), Acceptance::New);
    assert_eq!(store.accept(op.clone()).await.unwrap(), Acceptance::Running);
    complete(&store, &op, Ok(json!({"message": "web1 is starting"})), 1001).await.unwrap();
    let done = Acceptance::Done(Ok(json!({"message": "web1 is starting"})));
    assert_eq!(store.accept(op.clone()).await.unwrap(), done);
    // A second outcome does not replace the one that was answered.
    complete(&store, &op, Err(Fault::busy("later")), 1002).await.unwrap();
    assert_eq!(store.accept(op.clone()).await.unwrap(), done);
    // Another person's operation with the same id is another operation.
    let other = Operation { caller: "eve@vm.localhost".into(), ..op };
    assert_eq!(store.accept(other).await.unwrap(), Acceptance::New);
}

#[tokio::test]
async fn a_failed_operation_keeps_its_fault_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let op = operation(1, 1000);
    store.accept(op.clone()).await.unwrap();
    let fault = Fault::wrong_state("web1 is running already").because("libvirt: Requested operation is not valid");
    complete(&store, &op, Err(fault.clone()), 1001).await.unwrap();
    assert_eq!(store.accept(op).await.unwrap(), Acceptance::Done(Err(fault)));
}

#[tokio::test]
async fn the_same_id_for_another_request_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let op = operation(1, 1000);
    store.accept(op.clone()).await.unwrap();
    let others = [
        Operation { command: "domain.destroy".into(), ..op.clone() },
        Operation { target: Uuid::from_u128(8).to_string().parse().unwrap(), ..op.clone() },
        Operation { arguments: json!({"paused": true, "boot": "disk"}), ..op.clone() },
    ];
    for other in others {
        assert_eq!(store.accept(other).await.unwrap_err().kind, FaultKind::Conflict);
    }
    // The order of the arguments is no difference, nor is a later time.
    let same = Operation { arguments: json!({"boot": "disk", "paused": false}), accepted: Timestamp(2000), ..op };
    assert_eq!(store.accept(same).await.unwrap(), Acceptance::Running);
}

#[tokio::test]
async fn completing_what_was_never_accepted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(complete(&store, &operation(1, 0), Ok(Value::Null), 1).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn operations_done_a_day_ago_are_forgotten_and_open_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (old, open) = (operation(1, 10 * HOUR), operation(2, 10 * HOUR));
    store.accept(old.clone()).await.unwrap();
    store.accept(open.clone()).await.unwrap();
    complete(&store, &old, Ok(Value::Null), 10 * HOUR).await.unwrap();
    // Within the day it is kept, whatever else is written.
    store.accept(operation(3, 33 * HOUR)).await.unwrap();
    assert_eq!(store.accept(old.clone()).await.unwrap(), Acceptance::Done(Ok(Value::Null)));
    // A day later the next write makes the store forget it, without anybody asking.
    store.accept(operation(4, 35 * HOUR)).await.unwrap();
    assert_eq!(store.accept(old.clone()).await.unwrap(), Acceptance::New);
    assert_eq!(store.accept(open.clone()).await.unwrap(), Acceptance::Running);
    // On request.
    complete(&store, &old, Ok(Value::Null), 40 * HOUR).await.unwrap();
    assert_eq!(store.forget_before(Timestamp(40 * HOUR)).await.unwrap(), 0);
    assert_eq!(store.forget_before(Timestamp(40 * HOUR + 1)).await.unwrap(), 1);
    let left: Vec<_> = store.interrupted().await.unwrap().into_iter().map(|o| o.id.0.as_u128()).collect();
    assert_eq!(left, [2, 3, 4]);
}

#[tokio::test]
async fn what_was_done_on_a_machine_goes_with_it_and_is_not_done_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (Store::open(here.path()).unwrap(), Store::open(there.path()).unwrap());
    let ops: Vec<Operation> = (1..=4).map(|n| operation(n, 10 * HOUR)).collect();
    for (n, op) in ops.iter().enumerate() {
        here.accept(op.clone()).await.unwrap();
        if n < 3 {
            complete(&here, op, Ok(json!({"n": n})), (10 + n as u64) * HOUR).await.unwrap();
        }
    }
    let target = ops[0].target.clone();
    let done = here.done_on(target.clone(), Timestamp(11 * HOUR), 10).await.unwrap();
    let found: Vec<_> = done.iter().map(|d| (d.operation.id, d.at.0 / HOUR)).collect();
    assert_eq!(found, [(ops[2].id, 12), (ops[1].id, 11)], "newest first; neither what is older nor what is open");
    assert_eq!(here.done_on(target, Timestamp(0), 1).await.unwrap().len(), 1);
    assert!(here.done_on(Uuid::from_u128(99).to_string().parse().unwrap(), Timestamp(0), 10).await.unwrap().is_empty());
    there.adopt(done.clone()).await.unwrap();
    there.adopt(done).await.unwrap();
    assert_eq!(there.accept(ops[1].clone()).await.unwrap(), Acceptance::Done(Ok(json!({"n": 1}))));
    assert_eq!(there.accept(ops[0].clone()).await.unwrap(), Acceptance::New);
}

/// What the child process of the test below does: it is killed in the middle, by its own hand and without any clean-up.
#[tokio::test]
async fn child_that_dies_after_three_operations() {
    let Ok(dir) = std::env::var("ARCHIPEL_TEST_DIES_IN") else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for n in 1..=3 {
        store.accept(operation(n, n as u64)).await.unwrap();
    }
    complete(&store, &operation(2, 2), Ok(json!("two")), 5).await.unwrap();
    std::process::abort();
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_was_told_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_dies_after_three_operations"])
        .env("ARCHIPEL_TEST_DIES_IN", dir.path())
        .output()
        .unwrap()
        .status;
    assert!(!status.success(), "the child was meant to abort");
    let store = Store::open(dir.path()).unwrap();
    let open = store.interrupted().await.unwrap();
    assert_eq!(open, [operation(1, 1), operation(3, 3)]);
    assert_eq!(store.accept(operation(2, 2)).await.unwrap(), Acceptance::Done(Ok(json!("two"))));
}

#[tokio::test]
async fn accepting_and_completing_takes_microseconds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let rounds = 500u32;
    let begin = Instant::now();
    for n in 0..rounds {
        let op = operation(u128::from(n), 1000);
        store.accept(op.clone()).await.unwrap();
        complete(&store, &op, Ok(Value::Null), 1000).await.unwrap();
    }
    let each = begin.elapsed() / (2 * rounds);
    println!("accept or complete, with the thread hop: {each:?}");
    let limit = if cfg!(debug_assertions) { Duration::from_millis(5) } else { Duration::from_micros(200) };
    assert!(each < limit, "{each:?}");
}
