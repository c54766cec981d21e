//! Opening: what is created, and what is refused with words that help.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use archipel_contract::FaultKind;
use archipel_contract::port::Authority;
use archipel_store::Store;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn refusal(path: &Path) -> archipel_contract::Fault {
    Store::open(path).err().expect("must be refused")
}

#[test]
fn two_daemons_on_one_folder_are_refused_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let clone = first.clone();
    drop(first);
    let fault = refusal(dir.path());
    assert_eq!(fault.kind, FaultKind::Busy);
    let (folder, pid) = (dir.path().display().to_string(), std::process::id().to_string());
    assert!(fault.message.contains(&folder) && fault.message.contains(&pid), "{fault}");
    drop(clone);
    Store::open(dir.path()).unwrap();
}

#[test]
fn the_folder_is_created_and_only_its_owner_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let store = Store::open(&data).unwrap();
    let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("archipel.db")), 0o600);
    assert_eq!(mode(&data.join("archipel.db-wal")), 0o600);
    drop(store);
}

#[test]
fn a_folder_that_cannot_be_is_refused_with_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().join("data"), Path::new("/proc/archipel").to_owned()] {
        let fault = refusal(&path);
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.message.contains(&path.display().to_string()) && fault.message.contains("data_dir"), "{fault}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("archipel.db");
    std::fs::write(&db, "this is not a database, whatever its name says. ".repeat(200)).unwrap();
    let before = std::fs::read(&db).unwrap();
    let fault = refusal(dir.path());
    assert!(fault.message.contains("damaged") && fault.message.contains(&db.display().to_string()), "{fault}");
    assert_eq!(std::fs::read(&db).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_page_is_noticed_when_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let domains = (0..5000u128).map(|n| archipel_contract::DomainId(uuid::Uuid::from_u128(n))).collect();
    store.claim_unowned(domains, "alpha".parse().unwrap()).await.unwrap();
    drop(store);
    let db = dir.path().join("archipel.db");
    let mut bytes = std::fs::read(&db).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&db, bytes).unwrap();
    let fault = refusal(dir.path());
    assert!(fault.message.contains("damaged"), "{fault}");
}
