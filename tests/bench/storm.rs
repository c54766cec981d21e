//! A storm over a cell of several hosts: real processes, one exchange and agents that joined it, each with its machines on
//! libvirt's test driver; several people start, pause and resume all of them at once, and one looks on.
//!
//! ```text
//!   archipeld (exchange)  <-- TLS, certificate --  archipeld (agent h1), h2, h3 ...  each: test:///h1.xml
//!        ^       ^
//!        |       +-- clients, each with its share of all machines, many commands under way at once
//!        +---------- a viewer of the feed
//! ```
//! The program `archipeld` is the one beside this one: the same profile.

use crate::figures::{cpu_time_of, resident_kib_of};
use anyhow::{Context, Result};
use archipel_contract::EntityId;
use archipel_xmpp::client::{Change, Client, Config, Feed, Incoming, Tcp};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const CELL: &str = "vm.localhost";
const PASSWORD: &str = "bench";
/// The server lets a person ask 200 times a second, with a thousand on credit; a storm is many people.
const CLIENTS: usize = 16;
/// How many commands each of them has under way.
const AT_ONCE: usize = 16;
const DEADLINE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) joined_s: f64,
    pub(crate) resident_alone_kib: u64,
    pub(crate) resident_kib: u64,
    pub(crate) agent_kib: u64,
    pub(crate) joining_cpu_s: f64,
    pub(crate) rounds: Vec<Round>,
}

/// One command to all machines.
#[derive(Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) verb: String,
    pub(crate) answered_s: f64,
    pub(crate) seen_s: f64,
    pub(crate) faults: usize,
    pub(crate) first_fault: Option<String>,
    pub(crate) events: usize,
    pub(crate) snapshots: usize,
    pub(crate) stanzas: f64,
    pub(crate) exchange_cpu_s: f64,
    pub(crate) agents_cpu_s: f64,
    pub(crate) resident_kib: u64,
    /// Whether the viewer's picture is the cell's own, and what was asked for.
    pub(crate) truth: bool,
}

/// An `archipeld` with a folder of its own; it ends with the value.
struct Daemon {
    config: PathBuf,
    http: SocketAddr,
    xmpp: SocketAddr,
    child: Option<Child>,
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Daemon {
    fn new(work: &Path, name: &str, top: &str, host: &str) -> Result<Daemon> {
        let folder = work.join(name);
        std::fs::create_dir_all(&folder)?;
        let (http, xmpp) = (free_address()?, free_address()?);
        let data = folder.join("data");
        let text = format!(
            "cell = \"{CELL}\"\ndata_dir = \"{}\"\n{top}\n{host}\n[xmpp]\nlisten = \"{xmpp}\"\n[http]\nlisten = \"{http}\"\n",
            data.display()
        );
        std::fs::create_dir_all(data)?;
        let config = folder.join("archipel.toml");
        std::fs::write(&config, text)?;
        Ok(Daemon { config, http, xmpp, child: None })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let program = std::env::current_exe()?.with_file_name("archipeld");
        anyhow::ensure!(program.exists(), "{} is missing; build the package archipeld in the same profile", program.display());
        let mut command = Command::new(program);
        command.arg("--config").arg(&self.config).args(arguments);
        Ok(command)
    }

    fn run_to_end(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut child = self.command(arguments)?.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        anyhow::ensure!(output.status.success(), "archipeld {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.config.with_file_name("log"))?;
        self.child = Some(self.command(&["run"])?.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        let end = Instant::now() + DEADLINE;
        while !self.get("/health").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            anyhow::ensure!(Instant::now() < end, "archipeld is not healthy within {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn pid(&self) -> String {
        self.child.as_ref().map(|child| child.id().to_string()).unwrap_or_default()
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Stanzas read and written so far.
    fn stanzas(&self) -> Result<f64> {
        let text = self.get("/metrics")?;
        let lines = text.lines().filter(|line| line.starts_with("archipel_xmpp_stanzas_total"));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    async fn client(&self) -> Result<(Client, Incoming)> {
        Ok(Client::connect(Config::once("admin", CELL, PASSWORD, Arc::new(Tcp::new(self.xmpp.to_string(), None)))).await?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A host of the test driver whose machines are all off and have names of their own in the cell.
fn host_xml(host: usize, machines: usize) -> String {
    let off = "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>5</test:runstate>";
    let machine = |n: usize| {
        let id = host * 1_000_000 + n;
        format!(
            "<domain type='test'><name>h{host}-{n:04}</name><uuid>00000000-0000-4000-9000-{id:012x}</uuid><memory>65536</memory>\
             <vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>{off}</domain>"
        )
    };
    format!("<node>{}</node>", (0..machines).map(machine).collect::<String>())
}

/// What the viewer sees: the state of every machine, and how much it was told.
#[derive(Default)]
struct Picture {
    machines: HashMap<String, &'static str>,
    events: usize,
    snapshots: usize,
}

/// Follows the feed until it ends; tells after each change how many machines are in each state.
async fn look(mut feed: Feed, picture: Arc<Mutex<Picture>>, told: watch::Sender<()>) {
    while let Some(Ok(change)) = feed.next().await {
        if let Ok(mut picture) = picture.lock() {
            match change {
                Change::Snapshot(_, entities) => {
                    picture.snapshots += 1;
                    picture.machines =
                        entities.iter().filter(|e| matches!(e.id, EntityId::Domain(_))).map(|e| (e.jid(), e.state())).collect();
                }
                Change::Event(event) => {
                    picture.events += 1;
                    if let (EntityId::Domain(_), Some(after)) = (&event.entity, &event.after) {
                        picture.machines.insert(after.jid(), after.state());
                    }
                }
                Change::Offline(_) => {}
            }
        }
        told.send_replace(());
    }
}

struct Cell {
    exchange: Daemon,
    agents: Vec<Daemon>,
    clients: Vec<Client>,
    picture: Arc<Mutex<Picture>>,
    told: watch::Receiver<()>,
}

impl Cell {
    fn count(&self, state: &str) -> usize {
        self.picture.lock().map(|p| p.machines.values().filter(|s| state.is_empty() || **s == state).count()).unwrap_or_default()
    }

    /// Waits until the viewer sees so many machines in that state (any, if it is empty).
    async fn seen(&mut self, wanted: usize, state: &str) -> Result<()> {
        let end = tokio::time::Instant::now() + DEADLINE;
        while self.count(state) < wanted {
            let told = tokio::time::timeout_at(end, self.told.changed()).await;
            anyhow::ensure!(told.is_ok(), "the viewer sees {} of {wanted} machines {state} after {DEADLINE:?}", self.count(state));
            told?.context("the viewer's connection ended")?;
        }
        Ok(())
    }

    fn agents_cpu(&self) -> Duration {
        self.agents.iter().map(|agent| cpu_time_of(&agent.pid())).sum()
    }

    async fn round(&mut self, verb: &str, becomes: &str) -> Result<Round> {
        let (jids, events, snapshots) = match self.picture.lock() {
            Ok(p) => (p.machines.keys().cloned().collect::<Vec<_>>(), p.events, p.snapshots),
            Err(_) => anyhow::bail!("the viewer panicked"),
        };
        let pid = self.exchange.pid();
        let (stanzas, cpu, agents_cpu) = (self.exchange.stanzas()?, cpu_time_of(&pid), self.agents_cpu());
        let start = Instant::now();
        let share = jids.len().div_ceil(self.clients.len());
        let work = self.clients.iter().zip(jids.chunks(share)).map(|(client, mine)| {
            let asked = mine.iter().map(|jid| client.command(jid, verb, json!({}), None, DEADLINE));
            stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(|answer| async { answer.err() }).collect::<Vec<_>>()
        });
        let faults: Vec<_> = futures::future::join_all(work).await.into_iter().flatten().collect();
        let answered_s = start.elapsed().as_secs_f64();
        let seen = self.seen(jids.len() - faults.len(), becomes).await;
        let seen_s = start.elapsed().as_secs_f64();
        let first = self.clients.first().context("nobody asks")?;
        let truth: HashMap<_, _> =
            first.snapshot(CELL).await?.iter().filter(|e| matches!(e.id, EntityId::Domain(_))).map(|e| (e.jid(), e.state())).collect();
        let stanzas = self.exchange.stanzas()? - stanzas;
        let Ok(picture) = self.picture.lock() else { anyhow::bail!("the viewer panicked") };
        Ok(Round {
            verb: verb.to_owned(),
            answered_s,
            seen_s,
            faults: faults.len(),
            first_fault: faults.first().map(ToString::to_string),
            events: picture.events - events,
            snapshots: picture.snapshots - snapshots,
            stanzas,
            exchange_cpu_s: (cpu_time_of(&pid) - cpu).as_secs_f64(),
            agents_cpu_s: (self.agents_cpu() - agents_cpu).as_secs_f64(),
            resident_kib: resident_kib_of(&pid),
            truth: seen.is_ok() && truth == picture.machines,
        })
    }
}

pub(crate) fn measure(hosts: usize, machines: usize) -> Result<Figures> {
    let work = tempfile::tempdir()?;
    let mut exchange = Daemon::new(work.path(), "exchange", "roles = [\"exchange\"]", "")?;
    exchange.run_to_end(&["account", "add", &format!("admin@{CELL}"), "--role", "admin", "--password-stdin"], &format!("{PASSWORD}\n"))?;
    exchange.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(exchange.client().await?.0);
        }
        let (viewer, incoming) = exchange.client().await?;
        let picture = Arc::new(Mutex::new(Picture::default()));
        let (tell, told) = watch::channel(());
        tokio::spawn(look(viewer.follow(incoming, CELL), picture.clone(), tell));
        let resident_alone_kib = resident_kib_of(&exchange.pid());
        let mut cell = Cell { exchange, agents: Vec::new(), clients, picture, told };
        let mut joined_s = 0.0;
        for number in 1..=hosts {
            let file = work.path().join(format!("h{number}.xml"));
            std::fs::write(&file, host_xml(number, machines))?;
            let host = format!("[[hypervisor]]\nname = \"h{number}\"\nuri = \"test://{}\"\n", file.display());
            let mut agent = Daemon::new(work.path(), &format!("h{number}"), "", &host)?;
            let admin = cell.clients.first().context("nobody asks")?;
            let invitation = admin.command(CELL, "cell.invite", json!({}), None, DEADLINE).await?;
            let token = invitation.get("token").and_then(|t| t.as_str()).context("an invitation without a token")?;
            agent.run_to_end(&["join", &cell.exchange.xmpp.to_string(), token], "")?;
            let start = Instant::now();
            agent.start()?;
            cell.agents.push(agent);
            cell.seen(number * machines, "").await?;
            joined_s += start.elapsed().as_secs_f64();
        }
        let pid = cell.exchange.pid();
        let (resident_kib, joining_cpu_s) = (resident_kib_of(&pid), cpu_time_of(&pid).as_secs_f64());
        let agent_kib = cell.agents.iter().map(|a| resident_kib_of(&a.pid())).max().unwrap_or_default();
        let mut rounds = Vec::new();
        for (verb, becomes) in [("domain.start", "running"), ("domain.pause", "paused"), ("domain.resume", "running")] {
            rounds.push(cell.round(verb, becomes).await?);
        }
        Ok(Figures { joined_s, resident_alone_kib, resident_kib, agent_kib, joining_cpu_s, rounds })
    })
}

/// Prints it.
pub(crate) fn table(hosts: usize, machines: usize, figures: &Figures) {
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let all = hosts * machines;
    println!("--- {hosts} agents joined, {machines} machines of the test driver each: {CLIENTS} people ask, one looks on");
    println!("all {all} machines seen {:.1} s after the agents' starts, one after the other", figures.joined_s);
    println!(
        "exchange: {} resident ({} before anybody joined), {:.2} s of processor time so far; the largest agent: {}",
        mib(figures.resident_kib),
        mib(figures.resident_alone_kib),
        figures.joining_cpu_s,
        mib(figures.agent_kib)
    );
    for r in &figures.rounds {
        println!(
            "{}: all answered in {:.2} s, all seen after {:.2} s: {:.0} stanzas/s at the exchange, {:.0} events/s at the viewer",
            r.verb,
            r.answered_s,
            r.seen_s,
            r.stanzas / r.seen_s,
            r.events as f64 / r.seen_s
        );
        println!(
            "    exchange {:.2} s of processor time, {} resident; agents together {:.2} s; {} refused{}; {}; {}",
            r.exchange_cpu_s,
            mib(r.resident_kib),
            r.agents_cpu_s,
            r.faults,
            r.first_fault.as_ref().map(|f| format!(" ({f})")).unwrap_or_default(),
            if r.snapshots == 0 { "nothing missed".to_owned() } else { format!("{} new snapshots", r.snapshots) },
            if r.truth { "the viewer ended with the truth" } else { "THE VIEWER DID NOT END WITH THE TRUTH" }
        );
    }
}
