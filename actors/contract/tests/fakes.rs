//! The fakes pass the suite that the real ports pass, so that what is tested with them holds. What takes two hosts is in `moving.rs`.
#![cfg(feature = "fake")]
#![allow(clippy::unwrap_used)] // A fault where none was expected is a failed test.

use archipel_contract::{
    DomainId, Fault, FaultKind, HypervisorName, Ownership, conformance,
    domain::{DomainPort, DomainState},
    fake::*,
    migration::{MigrationPort, Standing},
};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Fakes are ready when polled, so one poll must be enough; anything else is a fake that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited although nothing was held"),
    }
}

#[test]
fn the_authority_conforms() {
    now(conformance::authority::first_claim_wins(&MemoryAuthority::default()));
    now(conformance::authority::epochs_only_grow(&MemoryAuthority::default()));
    now(conformance::authority::the_shelf(&MemoryAuthority::default()));
    now(conformance::authority::one_leader_at_a_time(&MemoryAuthority::default()));
}

#[test]
fn the_journal_conforms() {
    now(conformance::journal::the_first_answer_stands(&MemoryJournal::default()));
    now(conformance::journal::an_id_names_one_request(&MemoryJournal::default()));
    now(conformance::journal::the_interrupted_are_found(&MemoryJournal::default()));
    now(conformance::journal::ended_tasks_are_found(&MemoryJournal::default()));
}

#[test]
fn the_documents_conform() {
    now(conformance::documents::a_document_is_changed_from_what_was_read(&MemoryDocuments::default()));
    now(conformance::documents::documents_are_found_by_prefix(&MemoryDocuments::default()));
}

#[test]
fn the_accounts_conform() {
    now(conformance::accounts::life_of_an_account(&MemoryAccounts::default()));
}

#[test]
fn backups_conform() {
    let fake = FakeHost::new("alpha");
    let host = fake.host();
    let pool = now(host.pools.list()).unwrap()[0].id;
    now(conformance::backup::backup_life(&host, pool, "disk.qcow2", "fake"));
}

#[test]
fn the_hypervisor_conforms() {
    let fake = FakeHost::new("alpha");
    let host = fake.host();
    now(conformance::host::domain_life(&host, "fake"));
    now(conformance::host::unknown_domain(&host));
    now(conformance::usage::counters_of_a_machine(&host, "fake"));
    now(conformance::host::network_life(&host));
    now(conformance::host::pool_life(&host));
    now(conformance::storage::pool_definition(&host, "fake", "/fake/made"));
    now(conformance::storage::volume_life(&host, "fake"));
    now(conformance::storage::volume_work(&host, "fake"));
    now(conformance::storage::volume_transfer(&host, "fake", false));
    now(conformance::snapshot::snapshot_life(&host, "fake"));
    now(conformance::definition::edits_of_a_machine_that_is_off(&host, "fake"));
    now(conformance::definition::a_machine_like_another(&host, "fake"));
    now(conformance::definition::edits_of_an_unknown_machine(&host));
    now(conformance::definition::edits_of_a_machine_that_runs(&host, "fake"));
}

/// Parts of tests, and what only stores can pass that know terms of an exchange.
const OTHERS: [&str; 3] = ["both", "stands", "what_a_succeeded_term_changes_is_refused"];

#[test]
fn no_test_of_the_suite_is_left_out() {
    let texts = |folder: &str| -> String {
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect()
    };
    let (suite, tests) = (texts("src/conformance"), texts("tests"));
    let names = suite.split("pub async fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or_default());
    let missing: Vec<&str> = names.filter(|n| !OTHERS.contains(n) && !tests.contains(&format!("::{n}("))).collect();
    assert!(missing.is_empty(), "no fake is put to {missing:?}; call them in this folder");
}

#[test]
fn a_lie_is_done_and_said_to_have_failed_once() {
    let fake = FakeHost::new("alpha");
    let id = fake.add_domain("web", DomainState::Running, true);
    fake.script.lie("domain.pause", 1, Fault::new(FaultKind::Internal, "it failed"));
    assert_eq!(now(fake.pause(id)).unwrap_err().kind, FaultKind::Internal);
    assert_eq!(fake.really(id), Standing::Here(DomainState::Paused), "it was done");
    now(fake.resume(id)).unwrap();
    now(fake.pause(id)).unwrap();
}

#[test]
fn a_libvirt_that_forgets_knows_its_machines_again() {
    let fake = FakeHost::new("alpha");
    let id = fake.add_domain("web", DomainState::Running, true);
    fake.forgets(true);
    assert_eq!(now(DomainPort::list(&*fake)).unwrap(), []);
    assert_eq!(now(DomainPort::read(&*fake, id)).unwrap_err().kind, FaultKind::NotFound);
    assert_eq!((now(fake.standing(id)).unwrap(), fake.really(id)), (Standing::Absent, Standing::Here(DomainState::Running)));
    fake.forgets(false);
    assert_eq!(now(fake.standing(id)).unwrap(), Standing::Here(DomainState::Running));
}

#[derive(Default)]
struct Diary(Mutex<Vec<(DomainId, bool, bool)>>);

impl Witness for Diary {
    fn stands(&self, _: &HypervisorName, id: DomainId, known: bool, executes: bool) {
        self.0.lock().unwrap().push((id, known, executes));
    }
}

#[test]
fn a_witness_sees_what_nobody_is_told() {
    let fake = FakeHost::new("alpha");
    let id = fake.add_domain("web", DomainState::Shutoff, true);
    let diary = Arc::new(Diary::default());
    fake.witness(diary.clone());
    let right = Ownership::owned(id, archipel_contract::Epoch(1), "alpha".parse().unwrap());
    now(fake.start(right.right_to_run(&"alpha".parse().unwrap()).unwrap(), false)).unwrap();
    fake.set_silently(id, |r| r.facts.state = DomainState::Paused);
    fake.remove_silently(id);
    let seen = diary.0.lock().unwrap().clone();
    assert_eq!(seen.first(), Some(&(id, true, false)), "what is there already");
    assert!(seen.contains(&(id, true, true)), "it executes");
    assert_eq!(seen.last(), Some(&(id, false, false)), "it is gone");
}
