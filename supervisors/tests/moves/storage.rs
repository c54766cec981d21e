//! Storage that several hosts have: what a machine on one host uses, no other host takes from it.

use super::*;
use archipel_contract::host::Host;

const POOL: &str = "/fake/images";

async fn pool(lab: &Lab, at: &str) -> archipel_contract::PoolId {
    Host::clone(&lab.fake(at).host()).pools.list().await.unwrap()[0].id
}

/// The same volume is in the pool of both hosts, and a machine on beta has it.
async fn shared(lab: &mut Lab) -> DomainId {
    for at in ["alpha", "beta"] {
        lab.fake(at).share(POOL, "nas:/images");
    }
    lab.begin_all().await;
    let id = define(lab, "beta", "web1").await.unwrap();
    lab.until("web1 is known", |lab| lab.entity("beta", id).is_some()).await;
    id
}

async fn define(lab: &Lab, at: &str, name: &str) -> Result<DomainId, Fault> {
    let answer = lab.ask(at, hv(at), "domain.define", json!({"name": name, "disk": "default/disk.qcow2"})).await?;
    Ok(serde_json::from_value(answer["id"].clone()).unwrap())
}

/// Everything alpha could do to the volume, and how each ends.
async fn attempts(lab: &Lab) -> Vec<(&'static str, Result<Value, Fault>)> {
    let id = pool(lab, "alpha").await;
    let changes: [(&str, Value); 6] = [
        ("volume.resize", json!({"volume": "disk.qcow2", "capacity": "128MiB"})),
        ("volume.rename", json!({"volume": "disk.qcow2", "to": "other"})),
        ("volume.wipe", json!({"volume": "disk.qcow2"})),
        ("volume.convert", json!({"volume": "disk.qcow2", "format": "raw"})),
        ("storage-pool.delete", json!({"with_volumes": true})),
        ("volume.delete", json!({"volume": "disk.qcow2"})),
    ];
    let mut ends = Vec::new();
    for (command, arguments) in changes {
        let mut end = lab.ask("alpha", id, command, arguments).await;
        if let Some(task) = end.as_ref().ok().and_then(|answer| answer.get("task")) {
            let task = lab.ends("alpha", serde_json::from_value(task.clone()).unwrap()).await;
            if task["progress_state"] == "failed" {
                end = Err(Fault::busy(task["message"].as_str().unwrap_or_default()));
            }
        }
        ends.push((command, end));
    }
    ends
}

#[test]
fn no_host_takes_from_a_machine_of_another_what_it_uses() {
    story(&["alpha", "beta"], async |lab| {
        let web1 = shared(lab).await;
        lab.ask("beta", web1, "domain.start", json!({})).await.unwrap();
        let id = pool(lab, "alpha").await;
        let users = lab.ask("alpha", id, "volume.users", json!({"volume": "disk.qcow2"})).await.unwrap();
        assert_eq!((&users[0]["name"], &users[0]["host"], users.as_array().unwrap().len()), (&json!("web1"), &json!("beta"), 1), "{users}");
        for (command, end) in attempts(lab).await {
            let fault = end.expect_err(command);
            assert!(fault.message.contains("web1 (vda) on beta"), "{command}: {fault}");
        }
        let second = define(lab, "alpha", "web2").await.unwrap_err();
        assert!(second.kind == FaultKind::Conflict && second.message.contains("a disk of web1 (vda) on beta"), "{second}");
        let other = lab.fake("alpha").add_domain("other", DomainState::Shutoff, true);
        lab.until("other is known", |lab| lab.entity("alpha", other).is_some()).await;
        let attach = lab.refused("alpha", other, "domain.attach-disk", json!({"volume": "default/disk.qcow2"})).await;
        assert!(attach.message.contains("web1 (vda) on beta"), "{attach}");
        let xml = lab.ask("alpha", other, "domain.xml", json!({})).await.unwrap()["text"].as_str().unwrap().to_owned();
        let named = xml.replace("</domain>", &format!("\n<disk name='vdb' source='{POOL}/disk.qcow2'/>\n</domain>"));
        let raw = Caller { role: Role::AdminRaw, ..admin() };
        let raw = lab.as_caller("alpha", raw, other, "domain.edit-xml", json!({"xml": named})).await.unwrap_err();
        assert!(raw.message.contains("web1 (vda) on beta"), "{raw}");
        let clone = lab.started("alpha", id, "volume.clone", json!({"volume": "disk.qcow2", "to": "copy"})).await;
        let clone = lab.ends("alpha", clone).await;
        assert!(clone["message"].as_str().unwrap().contains("is written to by web1 (vda) on beta"), "{clone}");
    });
}

#[test]
fn what_nobody_uses_any_more_may_go() {
    story(&["alpha", "beta"], async |lab| {
        let web1 = shared(lab).await;
        lab.ask("beta", web1, "domain.undefine", json!({})).await.unwrap();
        for (command, end) in attempts(lab).await {
            match command {
                // Renaming is the second: whatever follows finds it no more.
                "volume.resize" | "volume.rename" | "storage-pool.delete" => drop(end.unwrap_or_else(|f| panic!("{command}: {f}"))),
                _ => assert!(end.is_err(), "{command}"),
            }
        }
    });
}

#[test]
fn a_machine_that_is_off_or_parked_keeps_what_it_has() {
    story(&["alpha", "beta"], async |lab| {
        let web1 = shared(lab).await;
        let id = pool(lab, "alpha").await;
        let delete = json!({"volume": "disk.qcow2"});
        let off = lab.refused("alpha", id, "volume.delete", delete.clone()).await;
        assert!(off.message.contains("web1 (vda) on beta"), "{off}");
        lab.ask("beta", web1, "domain.park", json!({})).await.unwrap();
        let parked = lab.refused("alpha", id, "volume.delete", delete.clone()).await;
        assert!(parked.message.contains("web1 (vda, parked) on beta"), "{parked}");
        let here = lab.refused("beta", pool(lab, "beta").await, "volume.delete", delete).await;
        assert!(here.message.contains("web1 (vda, parked)"), "{here}");
    });
}

#[test]
fn a_host_that_cannot_be_asked_may_use_what_is_shared_and_not_what_is_not() {
    story(&["alpha", "beta"], async |lab| {
        let web1 = shared(lab).await;
        lab.ask("beta", web1, "domain.undefine", json!({})).await.unwrap();
        let id = pool(lab, "alpha").await;
        // The agent is there, and its libvirt is not.
        lab.fake("beta").script.fail("volume.landscape", 1, Fault::unavailable("libvirt does not answer"));
        let fault = lab.refused("alpha", id, "volume.delete", json!({"volume": "disk.qcow2"})).await;
        assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("revoke it from the cell"), "{fault}");
        lab.ask("alpha", id, "volume.delete", json!({"volume": "disk.qcow2"})).await.unwrap();
        // Nobody answers at all.
        lab.ask("alpha", id, "volume.create", json!({"volume": "new", "capacity": "1MiB"})).await.unwrap();
        lab.board.silence(&"beta".parse().unwrap(), true);
        let fault = lab.refused("alpha", id, "volume.delete", json!({"volume": "new"})).await;
        assert!(fault.message.contains("whether machines on beta use new could not be asked"), "{fault}");
        let clone = lab.started("alpha", id, "volume.clone", json!({"volume": "new", "to": "copy"})).await;
        assert_eq!(lab.ends("alpha", clone).await["progress_state"], "done", "a copy harms nobody");
    });
    story(&["alpha", "beta"], async |lab| {
        lab.begin_all().await;
        lab.board.silence(&"beta".parse().unwrap(), true);
        let id = pool(lab, "alpha").await;
        lab.ask("alpha", id, "volume.delete", json!({"volume": "disk.qcow2"})).await.expect("it is on a file system of alpha alone");
    });
}

#[test]
fn hosts_with_directories_of_their_own_do_not_get_in_each_others_way() {
    story(&["alpha", "beta"], async |lab| {
        lab.begin_all().await;
        define(lab, "beta", "web1").await.unwrap();
        define(lab, "alpha", "web2").await.expect("it is another file of the same path");
        let id = pool(lab, "alpha").await;
        let users = lab.ask("alpha", id, "volume.users", json!({"volume": "disk.qcow2"})).await.unwrap();
        assert_eq!((users.as_array().unwrap().len(), &users[0]["host"]), (1, &json!("alpha")), "{users}");
    });
}

#[test]
fn of_two_hosts_that_begin_at_once_at_most_one_goes_on() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let (a, b) = (pool(lab, "alpha").await, pool(lab, "beta").await);
        let delete = json!({"volume": "disk.qcow2"});
        let script = &lab.fake("alpha").script;
        script.hold("volume.delete", "disk.qcow2");
        let first = lab.ask("alpha", a, "volume.delete", delete.clone());
        let second = async {
            lab.until("alpha is about to delete it", |_| script.calls("volume.delete") == 1).await;
            let refused = lab.refused("beta", b, "volume.delete", delete.clone()).await;
            script.release();
            refused
        };
        let (first, second) = futures::join!(first, second);
        first.unwrap();
        assert!(second.kind == FaultKind::Busy && second.message.contains("on alpha right now"), "{second}");
        lab.ask("beta", b, "volume.delete", delete).await.expect("alpha has ended what it did");
    });
}

/// Machines on both hosts have a disk of that name, and only now it turns out to be one and the same.
async fn one_disk_of_two(lab: &mut Lab) -> (DomainId, DomainId) {
    lab.begin_all().await;
    let (mine, theirs) = (define(lab, "alpha", "web1").await.unwrap(), define(lab, "beta", "web2").await.unwrap());
    lab.until("both are known", |lab| lab.entity("alpha", mine).is_some() && lab.entity("beta", theirs).is_some()).await;
    for at in ["alpha", "beta"] {
        lab.fake(at).share(POOL, "nas:/images");
    }
    (mine, theirs)
}

#[test]
fn a_disk_keeps_its_size_while_another_machine_runs_with_it() {
    story(&["alpha", "beta"], async |lab| {
        let (mine, theirs) = one_disk_of_two(lab).await;
        let larger = json!({"disk": "vda", "size": "128MiB"});
        lab.ask("alpha", mine, "domain.start", json!({})).await.unwrap();
        lab.ask("alpha", mine, "domain.resize-disk", larger.clone()).await.expect("nobody else runs with it");
        lab.ask("beta", theirs, "domain.start", json!({})).await.unwrap();
        let fault = lab.refused("alpha", mine, "domain.resize-disk", larger.clone()).await;
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("web2 (vda) on beta"), "{fault}");
        lab.board.silence(&"beta".parse().unwrap(), true);
        let fault = lab.refused("alpha", mine, "domain.resize-disk", larger).await;
        assert!(fault.kind == FaultKind::Unavailable, "{fault}");
        assert_eq!(lab.fake("alpha").script.calls("domain.resize-disk"), 1, "libvirt was not asked again");
    });
}

/// A machine of its own layer on a base that both hosts have.
async fn layered(lab: &Lab, at: &str, name: &str) -> DomainId {
    let (pool, volume) = (pool(lab, at).await, format!("{name}.qcow2"));
    lab.ask(at, pool, "volume.create", json!({"volume": volume, "backing": "default/disk.qcow2"})).await.unwrap();
    let answer = lab.ask(at, hv(at), "domain.define", json!({"name": name, "disk": format!("default/{volume}")})).await.unwrap();
    let id = serde_json::from_value(answer["id"].clone()).unwrap();
    lab.until("it is known", |lab| lab.entity(at, id).is_some()).await;
    id
}

#[test]
fn nothing_is_merged_into_what_a_machine_of_another_host_is_built_on() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let mine = layered(lab, "alpha", "web1").await;
        lab.ask("alpha", mine, "domain.start", json!({})).await.unwrap();
        let task = lab.started("alpha", mine, "snapshot.create", json!({"name": "outside", "external": true})).await;
        assert_eq!(lab.ends("alpha", task).await["progress_state"], "done");
        let task = lab.started("alpha", mine, "domain.commit-disk", json!({"disk": "vda"})).await;
        assert_eq!(lab.ends("alpha", task).await["progress_state"], "done", "only its own layer is built on it");

        let theirs = layered(lab, "beta", "web2").await;
        let fault = lab.refused("alpha", mine, "domain.commit-disk", json!({"disk": "vda"})).await;
        assert!(fault.message.contains("web2 (vda, built on it as /fake/images/web2.qcow2) on beta"), "{fault}");
        let fault = lab.refused("alpha", mine, "snapshot.delete", json!({"snapshot": "outside"})).await;
        assert!(fault.message.contains("web2 (vda, built on it as"), "{fault}");
        // The machine is forgotten, and its layer stays.
        lab.ask("beta", theirs, "domain.undefine", json!({})).await.unwrap();
        let fault = lab.refused("alpha", mine, "domain.commit-disk", json!({"disk": "vda"})).await;
        assert!(fault.message.contains("web2.qcow2 on beta is built on"), "{fault}");
        lab.ask("beta", pool(lab, "beta").await, "volume.delete", json!({"volume": "web2.qcow2"})).await.unwrap();
        let task = lab.started("alpha", mine, "snapshot.delete", json!({"snapshot": "outside"})).await;
        assert_eq!(lab.ends("alpha", task).await["progress_state"], "done");
    });
}

async fn backup(lab: &Lab, at: &str, id: DomainId) -> String {
    let task = lab.started(at, id, "backup.create", json!({"pool": "default"})).await;
    assert_eq!(lab.ends(at, task).await["progress_state"], "done");
    let all = lab.ask(at, id, "domain.backups", json!({})).await.unwrap();
    all.as_array().unwrap().last().unwrap()["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_whose_file_a_machine_of_another_host_uses_stays() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let mine = define(lab, "alpha", "web1").await.unwrap();
        lab.until("web1 is known", |lab| lab.entity("alpha", mine).is_some()).await;
        let (name, id) = (backup(lab, "alpha", mine).await, pool(lab, "alpha").await);
        let file = format!("{name}.vda.qcow2");
        // Somebody on beta looks into it with a machine.
        lab.ask("beta", pool(lab, "beta").await, "volume.create", json!({"volume": file, "capacity": "64MiB"})).await.unwrap();
        let theirs =
            lab.ask("beta", hv("beta"), "domain.define", json!({"name": "web2", "disk": format!("default/{file}")})).await.unwrap();
        let theirs: DomainId = serde_json::from_value(theirs["id"].clone()).unwrap();
        lab.until("web2 is known", |lab| lab.entity("beta", theirs).is_some()).await;
        let fault = lab.refused("alpha", id, "backup.delete", json!({"backup": name})).await;
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("web2 (vda) on beta"), "{fault}");
        assert_eq!(lab.fake("alpha").script.calls("backup.remove"), 0);
        lab.ask("beta", theirs, "domain.undefine", json!({})).await.unwrap();
        lab.ask("alpha", id, "backup.delete", json!({"backup": name})).await.unwrap();
    });
}

#[test]
fn a_backup_does_not_bring_back_a_disk_that_another_machine_has_now() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let mine = define(lab, "alpha", "web1").await.unwrap();
        lab.until("web1 is known", |lab| lab.entity("alpha", mine).is_some()).await;
        for at in ["alpha", "beta"] {
            lab.ask(at, pool(lab, at).await, "volume.create", json!({"volume": "data", "capacity": "1MiB"})).await.unwrap();
        }
        // What is plugged in is in the definition of a backup and not among its files, as a whole device would be.
        lab.ask("alpha", mine, "domain.attach-disk", json!({"volume": "default/data", "device": "vdb"})).await.unwrap();
        let name = backup(lab, "alpha", mine).await;
        let into = json!({"backup": name, "to": "web3"});
        let task = lab.started("alpha", pool(lab, "alpha").await, "backup.restore", into).await;
        let end = lab.ends("alpha", task).await;
        assert!(end["message"].as_str().unwrap().contains("is a disk of web1"), "a new machine has no part in it: {end}");
        let task = lab.started("alpha", mine, "domain.restore", json!({"backup": name})).await;
        assert_eq!(lab.ends("alpha", task).await["progress_state"], "done", "it has that disk now");

        lab.ask("alpha", mine, "domain.detach-disk", json!({"disk": "vdb"})).await.unwrap();
        let arguments = json!({"name": "web2", "disk": "default/data"});
        lab.ask("beta", hv("beta"), "domain.define", arguments).await.unwrap();
        let task = lab.started("alpha", mine, "domain.restore", json!({"backup": name})).await;
        let end = lab.ends("alpha", task).await;
        assert!(end["message"].as_str().unwrap().contains("is a disk of web2 (vda) on beta"), "{end}");
    });
}

#[test]
fn no_pool_is_built_over_what_a_machine_of_another_host_has() {
    story(&["alpha", "beta"], async |lab| {
        let web1 = shared(lab).await;
        let asked = json!({"name": "again", "type": "fs", "path": POOL, "source_device": "/dev/sdx1", "source_format": "ext4"});
        let made = lab.ask("alpha", hv("alpha"), "storage-pool.define", asked).await.unwrap();
        let again: archipel_contract::PoolId = serde_json::from_value(made["id"].clone()).unwrap();
        lab.until("it is known", |lab| lab.entity("alpha", again).is_some()).await;
        lab.ask("alpha", again, "storage-pool.build", json!({})).await.expect("libvirt itself looks whether something is there");
        let over = json!({"overwrite": true});
        let fault = lab.refused("alpha", again, "storage-pool.build", over.clone()).await;
        assert!(fault.message.contains("web1 (vda) on beta"), "{fault}");
        lab.ask("beta", web1, "domain.undefine", json!({})).await.unwrap();
        lab.until("web1 is gone", |lab| lab.entity("beta", web1).is_none()).await;
        lab.board.silence(&"beta".parse().unwrap(), true);
        assert_eq!(lab.refused("alpha", again, "storage-pool.build", over.clone()).await.kind, FaultKind::Unavailable);
        lab.board.silence(&"beta".parse().unwrap(), false);
        lab.ask("alpha", again, "storage-pool.build", over).await.expect("nobody has anything there");
    });
}

#[test]
fn a_template_stays_one_while_a_machine_of_another_host_is_built_on_it() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let mine = define(lab, "alpha", "web1").await.unwrap();
        lab.until("web1 is known", |lab| lab.entity("alpha", mine).is_some()).await;
        lab.ask("alpha", mine, "domain.template", json!({})).await.unwrap();
        let theirs = layered(lab, "beta", "web2").await;
        let back = json!({"enabled": false});
        let fault = lab.refused("alpha", mine, "domain.template", back.clone()).await;
        assert!(fault.message.starts_with("web1 stays a template: ") && fault.message.contains("web2 (vda, built on it"), "{fault}");
        lab.ask("beta", theirs, "domain.undefine", json!({"with_volumes": "all"})).await.unwrap();
        lab.until("web2 is gone", |lab| lab.entity("beta", theirs).is_none()).await;
        lab.board.silence(&"beta".parse().unwrap(), true);
        let fault = lab.refused("alpha", mine, "domain.template", back.clone()).await;
        assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("stays a template"), "{fault}");
        lab.board.silence(&"beta".parse().unwrap(), false);
        lab.ask("alpha", mine, "domain.template", back).await.unwrap();
        lab.ask("alpha", mine, "domain.start", json!({})).await.unwrap();
    });
}

#[test]
fn what_a_clone_that_failed_leaves_stays_when_a_machine_of_another_host_has_it() {
    story(&["alpha", "beta"], async |lab| {
        for at in ["alpha", "beta"] {
            lab.fake(at).share(POOL, "nas:/images");
        }
        lab.begin_all().await;
        let mine = define(lab, "alpha", "web1").await.unwrap();
        lab.until("web1 is known", |lab| lab.entity("alpha", mine).is_some()).await;
        let script = &lab.fake("alpha").script;
        script.fail("domain.liken", 1, Fault::wrong_state("no room"));
        script.hold("domain.liken", "");
        let task = lab.started("alpha", mine, "domain.clone", json!({"to": "web2"})).await;
        lab.until("its volume is there", |_| script.calls("domain.liken") == 1).await;
        lab.ask("beta", pool(lab, "beta").await, "volume.create", json!({"volume": "web2.qcow2", "capacity": "64MiB"})).await.unwrap();
        lab.ask("beta", hv("beta"), "domain.define", json!({"name": "web3", "disk": "default/web2.qcow2"})).await.unwrap();
        script.release();
        let end = lab.ends("alpha", task).await;
        let said = end["message"].as_str().unwrap();
        assert!(said.contains("left behind") && said.contains("web3 (vda) on beta"), "{end}");
        assert_eq!(script.calls("volume.delete"), 0);
    });
}

#[test]
fn nothing_is_built_on_the_disk_of_a_machine_of_another_host() {
    story(&["alpha", "beta"], async |lab| {
        shared(lab).await;
        let top = json!({"volume": "top.qcow2", "backing": "default/disk.qcow2"});
        let fault = lab.refused("alpha", pool(lab, "alpha").await, "volume.create", top).await;
        assert!(
            fault.kind == FaultKind::Busy && fault.message.contains("web1 (vda) on beta") && fault.message.contains("template"),
            "{fault}"
        );
        let create = json!({"name": "web2", "image": "default/disk.qcow2", "linked": true});
        let fault = lab.refused("alpha", hv("alpha"), "domain.create", create).await;
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("breaks as soon as"), "{fault}");
    });
}
