//! The settings and commands of `ops/runbooks/etcd.md` do what the page says they do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;

use archipel_contract::FaultKind;
use archipel_contract::port::Documents;
use etcd_cluster::Cluster;
use std::process::Command;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/runbooks/etcd.md")).unwrap()
}

/// The blocks in that language, below the heading that begins so.
fn blocks(language: &str, heading: &str) -> Vec<String> {
    let page = page();
    let section =
        page.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_else(|| panic!("there is a section {heading}"));
    let fence = format!("```{language}\n");
    section.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// What the page has for /etc/default/etcd, as arguments; the quota is another one, as 2 GiB are not filled in a test.
fn settings(quota: &str) -> Vec<String> {
    let block = blocks("ini", "Set up").remove(0);
    let argument = |line: &str| {
        let (name, value) = line.strip_prefix("ETCD_").unwrap().split_once('=').unwrap();
        let name = name.to_lowercase().replace('_', "-");
        format!("--{name}={}", if name == "quota-backend-bytes" { quota } else { value })
    };
    block.lines().map(argument).collect()
}

/// Runs a block as an administrator does, line by line in one shell that stops at what fails.
fn run(cluster: &Cluster, block: &str) -> String {
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", block])
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", cluster.endpoints().join(","))
        .current_dir(cluster.folder());
    let done = shell.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{block}\n{said}");
    said
}

#[tokio::test]
async fn a_full_database_is_named_and_the_commands_of_the_runbook_mend_it() {
    let Some(cluster) = Cluster::begin(3, &settings("6000000")) else { return };
    if Command::new("etcdctl").arg("version").output().is_err() {
        println!("SKIP: there is no etcdctl here; install the package etcd-client");
        return;
    }
    let etcd = cluster.open(&cluster.config());
    cluster.wait_until_it_answers(&etcd).await;
    // One document again and again: it is the history that fills the quota.
    let mut version = None;
    let fault = loop {
        match etcd.write_document("big".into(), version, Some(vec![7; 256 << 10])).await {
            Ok(written) => version = Some(written),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.message.contains("database is full") && fault.message.contains("etcd.md"), "{fault}");
    assert!(run(&cluster, &blocks("sh", "Look").remove(0)).contains("NOSPACE"));
    run(&cluster, &blocks("sh", "\"etcd's database is full").remove(0));
    assert!(!run(&cluster, &blocks("sh", "Look").remove(0)).contains("NOSPACE"));
    let written = etcd.document("big".into()).await.unwrap().expect("nothing was lost").version;
    etcd.write_document("big".into(), Some(written), Some(vec![8; 256 << 10])).await.expect("changes are taken again");
    let said = run(&cluster, &blocks("sh", "Back it up").remove(0));
    assert!(said.contains("cell.snapshot") && cluster.folder().join("cell.snapshot").is_file(), "{said}");
}
