//! Real etcd clusters for tests: members on loopback with their data in a folder that goes away, killed when the test ends. Any test
//! crate may take this file in with `#[path = ".../etcd_cluster/mod.rs"] mod etcd_cluster;`.
//!
//! Addresses are made of the process's id and ports lie below those the kernel gives away, so nothing has to be probed
//! for being free and clusters of tests that run at once cannot meet.
#![allow(dead_code)] // Each test crate uses its part.

use archipel_contract::Millis;
use archipel_contract::port::Documents;
use archipel_store::{Etcd, EtcdConfig};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a cluster may take until it answers, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

static CLUSTERS: AtomicU16 = AtomicU16::new(0);

/// One etcd process.
struct Member {
    arguments: Vec<String>,
    log: File,
    process: Child,
}

impl Member {
    fn start(arguments: Vec<String>, log: File) -> Member {
        let process = run(&arguments, &log);
        Member { arguments, log, process }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {name}");
    }
}

fn run(arguments: &[String], log: &File) -> Child {
    let out = log.try_clone().unwrap();
    Command::new("etcd").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(out).spawn().unwrap()
}

impl Drop for Member {
    fn drop(&mut self) {
        // Also ends a stopped one.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A cluster of etcd members.
pub(crate) struct Cluster {
    members: Vec<Member>,
    clients: Vec<String>,
    folder: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until it answers. `None`, and it says so, where there is no etcd; with `ARCHIPEL_NEED_ETCD` set
    /// that is a failure.
    pub(crate) async fn start(count: u16) -> Option<Cluster> {
        let cluster = Cluster::begin(count, &[])?;
        cluster.wait_until_it_answers(&cluster.open(&cluster.config())).await;
        Some(cluster)
    }

    /// Starts a cluster with more arguments for each member and does not wait. With a certificate (for [`address`]) its clients
    /// use https.
    pub(crate) fn begin(count: u16, more: &[String]) -> Option<Cluster> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("ARCHIPEL_NEED_ETCD").is_none(), "etcd is missing: install the package etcd-server");
            println!("SKIP: there is no etcd here; install the package etcd-server");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let scheme = if more.iter().any(|a| a.starts_with("--cert-file")) { "https" } else { "http" };
        let host = address();
        let base = 20_000 + CLUSTERS.fetch_add(1, Ordering::Relaxed) * 16;
        let client = |i: u16| format!("{scheme}://{host}:{}", base + 2 * i);
        let peer = |i: u16| format!("http://{host}:{}", base + 2 * i + 1);
        let all = (0..count).map(|i| format!("m{i}={}", peer(i))).collect::<Vec<_>>().join(",");
        let members = (0..count)
            .map(|i| {
                let mut arguments: Vec<String> = [
                    ("--name", format!("m{i}")),
                    ("--data-dir", folder.path().join(format!("m{i}")).display().to_string()),
                    ("--listen-client-urls", client(i)),
                    ("--advertise-client-urls", client(i)),
                    ("--listen-peer-urls", peer(i)),
                    ("--initial-advertise-peer-urls", peer(i)),
                    ("--initial-cluster", all.clone()),
                    ("--initial-cluster-token", host.clone()),
                    ("--logger", "zap".into()),
                ]
                .map(|(name, value)| format!("{name}={value}"))
                .to_vec();
                arguments.extend_from_slice(more);
                Member::start(arguments, File::create(folder.path().join(format!("m{i}.log"))).unwrap())
            })
            .collect();
        Some(Cluster { members, clients: (0..count).map(client).collect(), folder })
    }

    /// Waits until a change can be made through every member.
    pub(crate) async fn wait_until_it_answers(&self, etcd: &Etcd) {
        let end = Instant::now() + PATIENCE;
        loop {
            match etcd.documents("ready/".into()).await {
                Ok(_) => return,
                Err(fault) => assert!(Instant::now() < end, "{fault}\n{}", self.logs()),
            }
        }
    }

    /// The members' client addresses.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.clients
    }

    /// How it is reached: with a patience that a loaded machine does not use up.
    pub(crate) fn config(&self) -> EtcdConfig {
        let config = EtcdConfig::new(self.clients.clone(), &"vm.localhost".parse().unwrap());
        EtcdConfig { timeout: Millis::seconds(20), ..config }
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &EtcdConfig) -> Etcd {
        Etcd::open(config).unwrap()
    }

    /// The folder of its data, for what a test adds.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills a member as a power cut would.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].process.kill().unwrap();
        self.members[member].process.wait().unwrap();
    }

    /// Starts a killed member again on its old data.
    pub(crate) fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.process = run(&member.arguments, &member.log);
    }

    /// Pauses a member: it answers nothing and closes nothing.
    pub(crate) fn pause(&self, member: usize) {
        self.members[member].signal("-STOP");
    }

    /// Lets a paused member go on.
    pub(crate) fn resume(&self, member: usize) {
        self.members[member].signal("-CONT");
    }

    /// Which member leads the cluster.
    pub(crate) async fn leader(&self) -> usize {
        let mut ids = Vec::new();
        let mut leader = 0;
        for endpoint in &self.clients {
            let mut client = etcd_client::Client::connect([endpoint], None).await.unwrap();
            let status = client.status().await.unwrap();
            ids.push(status.header().unwrap().member_id());
            leader = status.leader();
        }
        ids.iter().position(|id| *id == leader).expect("one of them leads")
    }

    /// How many watches a member serves.
    pub(crate) async fn watches(&self, member: usize) -> u64 {
        let mut stream = tokio::net::TcpStream::connect(self.clients[member].trim_start_matches("http://")).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("etcd_debugging_mvcc_watcher_total ")).unwrap();
        line.parse().unwrap()
    }

    /// Waits until every member serves a watch.
    pub(crate) async fn wait_until_it_is_watched(&self) {
        let end = Instant::now() + PATIENCE;
        for member in 0..self.members.len() {
            while self.watches(member).await == 0 {
                assert!(Instant::now() < end, "member {member} serves no watch");
            }
        }
    }

    fn logs(&self) -> String {
        let tail = |i: usize| {
            let text = std::fs::read_to_string(self.folder.path().join(format!("m{i}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        (0..self.members.len()).map(|i| format!("m{i}:\n{}\n", tail(i))).collect()
    }
}

/// A loopback address that no other process uses.
pub(crate) fn address() -> String {
    let id = std::process::id();
    format!("127.{}.{}.{}", 1 + (id >> 16 & 0x3f), id >> 8 & 0xff, id & 0xff)
}
