//! The bridge against a real `qemu:///system`. It runs where `ARCHIPEL_TEST_QEMU_URI` names one, and says so where not.
//!
//! `ARCHIPEL_TEST_QEMU_POOL_DIR` is a directory that libvirtd and this test both see; a boot-sector image is put there.
//! `ARCHIPEL_TEST_QEMU_RESTART` is a shell command that kills libvirtd and starts it again; without it the test of a
//! restart is skipped too. `ARCHIPEL_TEST_QEMU_PID_FILE` holds libvirtd's process id, for the test that stops its clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_contract::{
    Bytes, DomainId, FaultKind,
    domain::{DomainSpec, DomainState, Graphics},
    host::{DomainChange, Host, HostChange},
};
use archipel_libvirt::LinkConfig;
use common::{Recorder, connected, kind, right};
use std::{process::Command, sync::Arc, time::Duration};

fn link(test: &str) -> Option<LinkConfig> {
    match std::env::var("ARCHIPEL_TEST_QEMU_URI") {
        Ok(uri) => Some(LinkConfig::new("alpha".parse().unwrap(), uri)),
        Err(_) => {
            println!("SKIPPED {test}: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
            None
        }
    }
}

/// A boot sector that halts: it needs no guest operating system and starts at once.
fn boot_sector() -> Vec<u8> {
    let mut image = vec![0u8; 1 << 20];
    // sti; hlt; jmp back to hlt
    image[..4].copy_from_slice(&[0xfb, 0xf4, 0xeb, 0xfd]);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// A pool with the boot sector in it, made through libvirt itself, as the bridge has no port for that yet.
fn pool_with_boot_sector(uri: &str, test: &str) -> Option<(virt::storage_pool::StoragePool, String, String)> {
    let Ok(dir) = std::env::var("ARCHIPEL_TEST_QEMU_POOL_DIR") else {
        println!("SKIPPED {test}: ARCHIPEL_TEST_QEMU_POOL_DIR names no directory");
        return None;
    };
    let image = format!("{test}.tick");
    std::fs::write(format!("{dir}/{image}"), boot_sector()).unwrap();
    let connect = virt::connect::Connect::open(Some(uri)).unwrap();
    let name = format!("test-{test}");
    let xml = format!("<pool type='dir'><name>{name}</name><target><path>{dir}</path></target></pool>");
    let pool = match connect.lookup_storage_pool_by_target_path(&dir) {
        Ok(pool) => pool,
        Err(_) => connect.create_storage_pool_xml(&xml, 0).unwrap(),
    };
    pool.refresh(0).unwrap();
    let name = pool.name().unwrap();
    Some((pool, name, image))
}

async fn define(host: &Host, name: &str, disk: Option<(String, String)>) -> DomainId {
    // What an earlier run left behind.
    for record in host.domains.list().await.unwrap() {
        if *record.name == *name {
            if record.facts.state.is_active() {
                host.domains.force_off(record.id).await.unwrap();
            }
            host.domains.undefine(record.id).await.unwrap();
        }
    }
    let spec = DomainSpec {
        name: name.into(),
        memory: Bytes::mib(32),
        vcpus: 1,
        disk,
        network: None,
        graphics: Graphics::Vnc,
        note: Some("made by a <test> & removed".into()),
        ..DomainSpec::default()
    };
    host.domains.define(spec).await.unwrap()
}

fn is(id: DomainId, state: DomainState, why: &'static str) -> HostChange {
    HostChange::Domain(id, DomainChange::State(state, why))
}

#[tokio::test]
async fn a_machine_lives_its_whole_life_on_qemu() {
    let Some(config) = link("a_machine_lives_its_whole_life_on_qemu") else { return };
    let Some((_pool, pool, image)) = pool_with_boot_sector(&config.uri, "life") else { return };
    let (host, recorder) = connected(config);
    let facts = host.hypervisor.facts().await.unwrap();
    assert_eq!((&*facts.driver, facts.cpus > 0), ("QEMU", true));

    let id = define(&host, "test-life", Some((pool, image))).await;
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Defined("added")));
    let record = host.domains.read(id).await.unwrap();
    assert_eq!((record.facts.state, record.facts.memory, record.facts.vcpus), (DomainState::Shutoff, Bytes::mib(32), 1));
    assert_eq!(record.facts.note.as_deref(), Some("made by a <test> & removed"));
    assert_eq!(&*record.facts.virtualization, if &*facts.acceleration == "kvm" { "kvm" } else { "qemu" });
    assert!(host.domains.xml(id, true).await.unwrap().contains("type='raw'"), "the format of the disk is not written out");

    host.domains.start(right(id), false).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Running, "booted"));
    let fault = host.domains.start(right(id), false).await.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::WrongState, "test-life is running already"));
    assert_eq!(kind(host.domains.undefine(id).await), FaultKind::WrongState);
    host.domains.pause(id).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Paused, "user"));
    assert_eq!(host.domains.read(id).await.unwrap().facts.reason.as_deref(), Some("user"));
    assert_eq!(kind(host.domains.pause(id).await), FaultKind::WrongState);
    host.domains.set_note(id, Some("noted while it runs".into())).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Changed("metadata")));
    assert_eq!(host.domains.read(id).await.unwrap().facts.note.as_deref(), Some("noted while it runs"));
    host.domains.resume(id).await.unwrap();
    host.domains.reset(id).await.unwrap();
    host.domains.force_off(id).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Shutoff, "destroyed"));
    assert_eq!(host.domains.read(id).await.unwrap().facts.note.as_deref(), Some("noted while it runs"));

    // Started paused: it must not have run in between.
    recorder.forget();
    host.domains.start(right(id), true).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Paused, "user"));
    assert_eq!(host.domains.read(id).await.unwrap().facts.state, DomainState::Paused);
    host.domains.force_off(id).await.unwrap();

    host.domains.rename(id, "test-life-2".into()).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Defined("renamed")));
    host.domains.undefine(id).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Undefined));
}

#[tokio::test]
async fn a_killed_emulator_is_reported_as_off_and_crashed() {
    let Some(config) = link("a_killed_emulator_is_reported_as_off_and_crashed") else { return };
    let Some((_pool, pool, image)) = pool_with_boot_sector(&config.uri, "killed") else { return };
    let (host, recorder) = connected(config);
    let id = define(&host, "test-killed", Some((pool, image))).await;
    host.domains.start(right(id), false).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Running, "booted"));
    let pid = emulator(id).expect("no emulator runs for the machine");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    recorder.wait_for(&is(id, DomainState::Shutoff, "failed"));
    let facts = host.domains.read(id).await.unwrap().facts;
    assert_eq!((facts.state, facts.reason.as_deref()), (DomainState::Shutoff, Some("crashed")));
    host.domains.undefine(id).await.unwrap();
}

/// The process that runs a machine, found by the UUID on its command line.
fn emulator(id: DomainId) -> Option<u32> {
    let uuid = id.to_string();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        (line.starts_with(b"/usr/bin/qemu") && String::from_utf8_lossy(&line).contains(&uuid)).then_some(pid)
    })
}

#[tokio::test]
async fn a_restarted_libvirtd_is_lost_and_found_again_and_its_guests_live_on() {
    let test = "a_restarted_libvirtd_is_lost_and_found_again_and_its_guests_live_on";
    let Some(config) = link(test) else { return };
    let Ok(restart) = std::env::var("ARCHIPEL_TEST_QEMU_RESTART") else {
        println!("SKIPPED {test}: ARCHIPEL_TEST_QEMU_RESTART names no command");
        return;
    };
    let Some((_pool, pool, image)) = pool_with_boot_sector(&config.uri, "restart") else { return };
    let (host, recorder) = connected(config);
    let id = define(&host, "test-restart", Some((pool, image))).await;
    host.domains.start(right(id), false).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Running, "booted"));
    let pid = emulator(id);
    assert!(pid.is_some());
    recorder.forget();

    let restarting = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &restart]).status().unwrap());
    let watcher: Arc<Recorder> = recorder.clone();
    tokio::task::spawn_blocking(move || watcher.wait("a loss", |seen| seen.iter().any(|c| matches!(c, HostChange::Lost(_)))))
        .await
        .unwrap();
    if !recorder.all().contains(&HostChange::Connected) {
        assert_eq!(kind(host.domains.read(id).await), FaultKind::Unavailable);
    }
    assert!(restarting.await.unwrap().success());
    recorder.wait_for(&HostChange::Connected);
    assert_eq!(host.domains.read(id).await.unwrap().facts.state, DomainState::Running);
    assert_eq!(emulator(id), pid, "the guest was started anew");
    host.domains.pause(id).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Paused, "user"));
    host.domains.force_off(id).await.unwrap();
    recorder.wait_for(&is(id, DomainState::Shutoff, "destroyed"));
    host.domains.undefine(id).await.unwrap();
}

#[tokio::test]
async fn a_frozen_libvirtd_blocks_nobody_and_is_given_up() {
    let test = "a_frozen_libvirtd_blocks_nobody_and_is_given_up";
    let Some(mut config) = link(test) else { return };
    let Ok(pid_file) = std::env::var("ARCHIPEL_TEST_QEMU_PID_FILE") else {
        println!("SKIPPED {test}: ARCHIPEL_TEST_QEMU_PID_FILE names no file");
        return;
    };
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().to_owned();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    (config.keepalive_seconds, config.keepalive_count) = (1, 2);
    config.deadline = Duration::from_millis(500);
    let (host, recorder) = connected(config);
    host.domains.list().await.unwrap();

    signal("-STOP");
    // More than there are threads: some calls block in libvirt, the rest wait in the queue, nobody here stands still.
    let asked: Vec<_> = (0..8).map(|_| host.domains.list()).collect();
    let (mut begun, mut withdrawn) = (0, 0);
    for answer in futures::future::join_all(asked).await {
        let fault = answer.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
        if fault.message.contains("nothing was done") { withdrawn += 1 } else { begun += 1 }
    }
    assert_eq!((begun, withdrawn), (2, 6), "two threads read");
    let watcher = recorder.clone();
    let lost = move || watcher.wait("a loss", |seen| matches!(seen.last(), Some(HostChange::Lost(_))));
    let waited = tokio::task::spawn_blocking(lost).await;
    signal("-CONT");
    waited.unwrap();
    recorder.wait("the return", |seen| seen.last() == Some(&HostChange::Connected));
    host.domains.list().await.unwrap();
}
