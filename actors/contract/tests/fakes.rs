//! The fakes pass the suite that the real ports pass, so that what is tested with them holds.
#![cfg(feature = "fake")]

use archipel_contract::{conformance, fake::*};
use std::future::Future;
use std::pin::pin;
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
fn the_hypervisor_conforms() {
    let fake = FakeHost::new("alpha");
    let host = fake.host();
    now(conformance::host::domain_life(&host, "fake"));
    now(conformance::host::unknown_domain(&host));
    now(conformance::host::network_life(&host));
    now(conformance::host::pool_life(&host));
    now(conformance::storage::pool_definition(&host, "fake", "/fake/made"));
    now(conformance::storage::volume_life(&host, "fake"));
    now(conformance::storage::volume_work(&host, "fake"));
    now(conformance::storage::volume_transfer(&host, "fake", false));
    now(conformance::snapshot::snapshot_life(&host, "fake"));
    now(conformance::definition::edits_of_a_machine_that_is_off(&host, "fake"));
    now(conformance::definition::edits_of_an_unknown_machine(&host));
    now(conformance::definition::edits_of_a_machine_that_runs(&host, "fake"));
}
