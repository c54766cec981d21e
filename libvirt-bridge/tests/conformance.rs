//! The contract's suite, which every implementation of the ports must pass, against libvirt's test driver and, where
//! `ARCHIPEL_TEST_QEMU_URI` names one, a real QEMU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_contract::conformance::{backup, definition, host, network, snapshot, storage, usage};
use common::{connected, made_up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_edited() {
    let (config, _file) = made_up(3);
    let (host, _recorder) = connected(config);
    definition::edits_of_a_machine_that_is_off(&host, "test").await;
    definition::edits_of_an_unknown_machine(&host).await;
    definition::edits_of_a_machine_that_runs(&host, "test").await;
}

macro_rules! against_the_test_driver {
    ($($name:ident($($tag:expr)?);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (config, _file) = made_up(3);
            let (host, _recorder) = connected(config);
            host::$name(&host $(, $tag)?).await;
        }
    )*};
}

against_the_test_driver! {
    domain_life("test");
    unknown_domain();
    network_life();
    pool_life();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn domain_life_on_qemu() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED domain_life_on_qemu: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let (host, _recorder) = connected(archipel_libvirt::LinkConfig::new("alpha".parse().unwrap(), uri));
    host::domain_life(&host, &std::process::id().to_string()).await;
    host::unknown_domain(&host).await;
    usage::counters_of_a_machine(&host, &std::process::id().to_string()).await;
    definition::edits_of_a_machine_that_is_off(&host, &std::process::id().to_string()).await;
    definition::edits_of_an_unknown_machine(&host).await;
    definition::edits_of_a_machine_that_runs(&host, &std::process::id().to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_machines_are_counted() {
    let (config, _file) = made_up(3);
    let (host, _recorder) = connected(config);
    usage::counters_of_a_machine(&host, "test").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_are_made() {
    let (config, _file) = made_up(3);
    let (host, _recorder) = connected(config);
    network::network_definition(&host, "test", "10.77").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_are_made_on_qemu() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED networks_are_made_on_qemu: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let (host, _recorder) = connected(archipel_libvirt::LinkConfig::new("alpha".parse().unwrap(), uri));
    network::network_definition(&host, "qemu", "10.77").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_and_volumes_live() {
    let (config, _file) = made_up(3);
    let (host, _recorder) = connected(config);
    storage::pool_definition(&host, "test", "/made-pool").await;
    storage::volume_life(&host, "test").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_and_volumes_live_on_qemu() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED pools_and_volumes_live_on_qemu: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let (host, _recorder) = connected(archipel_libvirt::LinkConfig::new("alpha".parse().unwrap(), uri));
    let dir = std::env::var("ARCHIPEL_TEST_QEMU_POOL_DIR").unwrap();
    storage::pool_definition(&host, "qemu", &format!("{dir}/made")).await;
    storage::volume_life(&host, "qemu").await;
    storage::volume_work(&host, "qemu").await;
    storage::volume_transfer(&host, "qemu", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_life_on_the_test_driver() {
    let (config, _file) = made_up(3);
    let (host, _recorder) = connected(config);
    snapshot::snapshot_life(&host, "test").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_memory_is_saved_here_goes_nowhere() {
    let (config, _file) = made_up(1);
    let (host, _recorder) = connected(config);
    let id = host.domains.list().await.unwrap().into_iter().find(|d| d.facts.state.is_active() && d.facts.persistent).unwrap().id;
    host.snapshots.save(id, std::sync::Arc::new(archipel_contract::work::Unfollowed)).await.unwrap();
    let fault = host.migration.passport(id).await.unwrap_err();
    assert!(fault.kind == archipel_contract::FaultKind::WrongState && fault.message.contains("discard-saved"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_live_on_qemu() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED backups_live_on_qemu: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let (host, _recorder) = connected(archipel_libvirt::LinkConfig::new("alpha".parse().unwrap(), uri.clone()));
    // A pool of its own: other tests make volumes meanwhile.
    let dir = format!("{}/kept", std::env::var("ARCHIPEL_TEST_QEMU_POOL_DIR").unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    let connect = virt::connect::Connect::open(Some(&uri)).unwrap();
    let xml = format!("<pool type='dir'><name>kept</name><target><path>{dir}</path></target></pool>");
    let made = connect.create_storage_pool_xml(&xml, 0).unwrap();
    let pool = host.pools.list().await.unwrap().into_iter().find(|p| *p.name == *"kept").unwrap().id;
    let volume = archipel_contract::volume::NewVolume {
        name: "kept.qcow2".to_owned(),
        capacity: Some(archipel_contract::Bytes::mib(8)),
        format: archipel_contract::volume::VolumeFormat::Qcow2,
        preallocation: archipel_contract::volume::Preallocation::None,
        backing: None,
    };
    host.volumes.create(pool, volume).await.unwrap();
    backup::backup_life(&host, pool, "kept.qcow2", "qemu").await;
    made.destroy().unwrap();
}
