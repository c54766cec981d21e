//! The contract's conformance suites, on SQLite.
#![allow(clippy::unwrap_used)]

use archipel_contract::conformance::{accounts, authority, documents, journal};
use archipel_store::Store;

async fn fresh<F: AsyncFnOnce(&Store)>(suite: F) {
    let dir = tempfile::tempdir().unwrap();
    suite(&Store::open(dir.path()).unwrap()).await;
}

#[tokio::test]
async fn it_is_an_authority() {
    fresh(async |store| authority::first_claim_wins(store).await).await;
    fresh(async |store| authority::epochs_only_grow(store).await).await;
    fresh(async |store| authority::the_shelf(store).await).await;
    fresh(async |store| authority::one_leader_at_a_time(store).await).await;
}

#[tokio::test]
async fn it_is_a_journal() {
    fresh(async |store| journal::the_first_answer_stands(store).await).await;
    fresh(async |store| journal::an_id_names_one_request(store).await).await;
    fresh(async |store| journal::the_interrupted_are_found(store).await).await;
    fresh(async |store| journal::ended_tasks_are_found(store).await).await;
}

#[tokio::test]
async fn it_keeps_accounts() {
    fresh(async |store| accounts::life_of_an_account(store).await).await;
}

#[tokio::test]
async fn it_keeps_documents() {
    fresh(async |store| documents::a_document_is_changed_from_what_was_read(store).await).await;
    fresh(async |store| documents::documents_are_found_by_prefix(store).await).await;
}
