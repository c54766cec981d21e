//! A whole cell in one thread on a clock that stands still until nobody has anything left to do.
//!
//! ```text
//!   fake host -- agent (supervisors, actors, link) --[wire]--+
//!   fake host -- agent --------------------------- --[wire]--+-- server + exchange --[wire]-- viewers, people
//!                                                    |
//!                          cut, held, opened; bytes in pieces as the seed decides
//! ```
//! Everything between the hosts and the viewers is what ships; only libvirt, the disks, the network and the time are played.
//! A scenario is a folder: `README.md` says in one sentence what must be true, `steps` what happens, `expected.log` what was
//! seen. The log must not depend on the seed. At the end of every scenario viewers, exchange and hosts must agree.

mod census;
mod check;
mod log;
mod mortal;
mod steps;
mod storm;
mod viewer;
mod wire;
mod world;

use anyhow::{Context, Result};
use archipel_contract::{
    Bytes, DomainId, Fault, FaultKind, OperationId,
    domain::{DomainRecord, DomainState},
    host::DomainChange,
    migration::{MigrationPort, Way},
};
use archipel_xmpp::client::Client;
use futures::StreamExt;
use log::{Log, Operator};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use steps::{Act, Expectation, Fate, Step, Trap, Verb};
pub use storm::{Stormed, Weather, storm};
use world::{CELL, World};

/// How long a person waits for an answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many things one person asks at a time when they ask for many.
const AT_A_TIME: usize = 64;
/// It is quiet when nothing came for this many looks.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(100);
/// After this much simulated time without quiet there never will be.
const NEVER: Duration = Duration::from_secs(1800);

/// What was seen.
pub struct Played {
    /// The log.
    pub log: String,
    /// How much time passed in the cell.
    pub simulated: Duration,
}

/// Plays the scenario in that folder.
pub fn play(dir: &Path, seed: u64) -> Result<Played> {
    let path = dir.join("steps");
    let steps = steps::read(&path)?;
    let runtime = || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        built.unwrap_or_else(|e| panic!("no runtime: {e}"))
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let log = Log::new();
        let _operator = tracing::subscriber::set_default(Operator(log.clone()));
        let mut stage = Stage { world: World::new(seed, log.clone()).await?, log: log.clone(), mark: 0 };
        for step in &steps {
            let place = || format!("{}:{}: {}", path.display(), step.line, step.text);
            if let Err(error) = stage.step(step).await {
                return Err(error.context(format!("{}\nso far, with seed {seed}:\n{}", place(), log.text())));
            }
        }
        stage.quiet().await?;
        let left = check::nothing_is_left_behind(&stage.world).await;
        let checked = match left {
            Ok(()) => check::everybody_agrees(&mut stage.world).await,
            Err(left) => Err(left),
        };
        let played = Played { log: log.text(), simulated: log.elapsed() };
        checked.with_context(|| format!("{}: at the end\n{}", dir.display(), played.log))?;
        stage.world.end().await;
        Ok(played)
    })
}

struct Stage {
    world: World,
    log: Log,
    mark: u64,
}

impl Stage {
    async fn step(&mut self, step: &Step) -> Result<()> {
        if let Some(at) = step.at {
            let left = at.checked_sub(self.log.elapsed()).context("that time is over already; write a later one")?;
            tokio::time::sleep(left).await;
        }
        self.log.step(&step.text);
        self.act(&step.act).await?;
        check::nothing_runs_twice(&self.world)
    }

    async fn act(&mut self, act: &Act) -> Result<()> {
        let world = &mut self.world;
        match act {
            Act::Queue(count) => world.queue = Some(*count),
            Act::Authorities(how) => world.authorities = *how,
            Act::Lan { a, b, cut: true } => world.lan.cut(a, b),
            Act::Lan { a, b, cut: false } => world.lan.heal(a, b),
            Act::Fail { host, operation, nth } => {
                let fault = Fault::new(FaultKind::Internal, "libvirt failed as it was told to").because("a scripted fault");
                world.site(host)?.fake.script.fail(operation, *nth, fault);
            }
            Act::Needs { host, name, network } => {
                let id = machine(world, host, name)?.id;
                world.site(host)?.fake.needs(id, |needs| needs.networks.push(network.clone()));
            }
            Act::Memory { host, mib } => world.site(host)?.fake.set_memory(Bytes::mib(*mib)),
            Act::Lie { host, operation } => {
                let fault = Fault::new(FaultKind::Internal, "libvirt says that it failed").because("a scripted lie");
                world.site(host)?.fake.script.lie(operation, 1, fault);
            }
            Act::Forgets { host, everything } => world.site(host)?.fake.forgets(*everything),
            Act::Slow { host, call } => {
                let script = &world.site(host)?.fake.script;
                match *call {
                    Some(time) => script.slow_down(move |_| Box::pin(tokio::time::sleep(time))),
                    None => script.hurry(),
                }
            }
            Act::Serve(true) => world.serve()?,
            Act::Serve(false) => world.unseat(),
            Act::Clock(by) => world.clock.step(*by),
            Act::Migrate { name, from, to } => {
                let (id, source) = (machine(world, from, name)?.id, world.site(from)?.fake.clone());
                let landing = world.site(to)?.fake.landing().await?;
                tokio::spawn(async move { source.transfer(id, landing, Way::default()).await });
            }
            Act::Count { name, executing } => {
                let found =
                    world.sites.values().filter(|s| s.fake.domains().iter().any(|r| *r.name == **name && s.fake.executes(r.id))).count();
                anyhow::ensure!(found == *executing, "{name} executes on {found} hosts");
            }
            Act::Host(name) => world.host(name).await?,
            Act::Machines { host, name, count, state, persistent } => {
                let names: Vec<String> = match count {
                    Some(count) => (1..=*count).map(|n| format!("{name}{n:04}")).collect(),
                    None => vec![name.clone()],
                };
                for name in names {
                    let id = world.site(host)?.fake.add_domain(&name, *state, *persistent);
                    self.log.name(id.to_string(), &name);
                }
            }
            Act::Copy { name, from, to, state } => {
                world.census.copied();
                let mut record = machine(world, from, name)?;
                record.facts.state = *state;
                world.site(to)?.fake.adopt(record);
            }
            Act::Viewer { name, detail } => world.viewer(name, *detail).await?,
            Act::Agent { host, up: true } => world.begin(host).await?,
            Act::Agent { host, up: false } => world.kill(host)?,
            Act::Link { name, way } => world.wire(name)?.set(*way),
            Act::Libvirt { host, fate } => {
                let site = world.sites.get_mut(host).context("there is no such host")?;
                match fate {
                    Fate::Lost => site.fake.lose("the connection was reset"),
                    Fate::Back => site.fake.restore(),
                    Fate::Overflow(count) => site.fake.drop_changes(*count),
                    Fate::Dies => site.fake.libvirt_dies(),
                    Fate::Restarts => site.fake.libvirt_restarts(),
                }
                site.libvirt = !matches!(fate, Fate::Lost | Fate::Dies);
            }
            Act::Virsh { verb, host, name } => self.virsh(verb, host, name)?,
            Act::Trap { host, kind, operation, name } => {
                let about = if name == "*" { String::new() } else { machine(world, host, name)?.id.to_string() };
                let script = &world.site(host)?.fake.script;
                match kind {
                    Trap::Panic => script.panic(operation, &about),
                    Trap::Hold => script.hold(operation, &about),
                }
            }
            Act::Calm(host) => world.site(host)?.fake.script.calm(),
            Act::Release(host) => world.site(host)?.fake.script.release(),
            Act::Report { host, name } => {
                let id = machine(world, host, name)?.id;
                world.site(host)?.fake.report(id, DomainChange::Changed("metadata"));
            }
            Act::Ask { who, command, target, arguments, operation } => {
                let target = address(world, &self.log, target)?;
                let operation = operation.as_deref().map(operation_named);
                let client = world.person(who).await?;
                let (log, who, command) = (self.log.clone(), who.clone(), command.clone());
                let arguments = Value::Object(arguments.clone());
                tokio::spawn(async move {
                    let answer = client.command(&target, &command, arguments, operation, PATIENCE).await;
                    log.news();
                    log.write(&who, &command, &format!("{command}: {}", said(answer)));
                });
            }
            Act::AskAll { who, command, name, count } => {
                let targets: Vec<String> =
                    (1..=*count).map(|n| address(world, &self.log, &format!("{name}{n:04}"))).collect::<Result<_>>()?;
                let client = world.person(who).await?;
                tokio::spawn(ask_all(client, who.clone(), command.clone(), targets, self.log.clone()));
            }
            Act::Quiet => self.quiet().await?,
            Act::Advance(time) => tokio::time::sleep(*time).await,
            Act::Mark => {
                self.quiet().await?;
                self.mark = self.log.told();
            }
            Act::Expect(expectation) => self.expect(expectation)?,
        }
        Ok(())
    }

    fn virsh(&self, verb: &Verb, host: &str, name: &str) -> Result<()> {
        let fake = &self.world.site(host)?.fake;
        match verb {
            Verb::Define => {
                let id = fake.add_domain(name, DomainState::Shutoff, true);
                self.log.name(id.to_string(), name);
            }
            Verb::Enter(state, reason) => fake.enter(machine(&self.world, host, name)?.id, *state, reason),
            Verb::Undefine => {
                let record = machine(&self.world, host, name)?;
                if record.facts.state.is_active() {
                    fake.set_silently(record.id, |r| r.facts.persistent = false);
                } else {
                    fake.remove_silently(record.id);
                }
                fake.report(record.id, DomainChange::Undefined);
            }
        }
        Ok(())
    }

    /// Waits until nobody was told anything for a second and everybody who can be linked is.
    async fn quiet(&self) -> Result<()> {
        let (mut told, mut looks) = (self.log.told(), 0);
        let mut left = NEVER.as_millis() / LOOK.as_millis();
        while looks < LOOKS {
            tokio::time::sleep(LOOK).await;
            check::nothing_runs_twice(&self.world)?;
            let now = self.log.told();
            looks = if now == told && self.world.linked() { looks + 1 } else { 0 };
            told = now;
            left -= 1;
            anyhow::ensure!(left > 0, "it did not become quiet within {NEVER:?}");
        }
        Ok(())
    }

    fn expect(&self, expectation: &Expectation) -> Result<()> {
        let believes = |name: &str, what: &dyn Fn(&archipel_contract::Entity) -> bool, otherwise: &str| {
            for viewer in &self.world.viewers {
                let belief = viewer.belief();
                let found = belief.known.values().find(|e| *e.name == *name);
                let fits = found.map_or(otherwise == "gone", |e| what(e));
                let seen = found.map_or("nothing of it".to_owned(), |e| format!("{} on {}, {:?}", e.state(), e.host, e.condition));
                anyhow::ensure!(fits, "{} sees {seen}", viewer.name);
            }
            Ok(())
        };
        match expectation {
            Expectation::State(name, word) if word == "degraded" => {
                believes(name, &|e| e.condition == archipel_contract::Condition::Degraded, word)
            }
            Expectation::State(name, word) => believes(name, &|e| e.state() == word, word),
            Expectation::On(name, host) => believes(name, &|e| e.host.as_str() == host, host),
            Expectation::Calls { host, operation, count } => {
                let calls = self.world.site(host)?.fake.script.calls(operation);
                anyhow::ensure!(calls == *count, "{operation} was called {calls} times");
                Ok(())
            }
            Expectation::Silence => {
                let news = self.log.told() - self.mark;
                anyhow::ensure!(news == 0, "viewers and people were told {news} things");
                Ok(())
            }
            Expectation::Snapshot(name, origin) => {
                let viewer = self.world.viewers.iter().find(|v| v.name == *name).with_context(|| format!("there is no viewer {name}"))?;
                let snapshots = viewer.belief().snapshots.clone();
                anyhow::ensure!(snapshots.contains(origin), "{name} took snapshots because of {snapshots:?}");
                Ok(())
            }
        }
    }
}

fn machine(world: &World, host: &str, name: &str) -> Result<DomainRecord> {
    let found = world.site(host)?.fake.domains().into_iter().find(|r| *r.name == *name);
    found.with_context(|| format!("there is no machine {name} on {host}"))
}

/// The address people write to: `cell`, `hv.NAME`, or the name of a machine.
fn address(world: &World, log: &Log, target: &str) -> Result<String> {
    if target == "cell" {
        return Ok(CELL.to_owned());
    }
    if let Some(number) = target.strip_prefix("task-") {
        let id = log.id_of(&format!("task {number}")).with_context(|| format!("nobody has seen {target} yet"))?;
        return Ok(format!("task.{id}@{CELL}"));
    }
    if target.starts_with("hv.") {
        return Ok(format!("{target}@{CELL}"));
    }
    let mut all = world.sites.keys().filter_map(|host| machine(world, host, target).ok());
    let id: DomainId = all.next().with_context(|| format!("there is no machine {target} anywhere"))?.id;
    Ok(format!("{id}@{CELL}"))
}

/// The same name is the same operation in every run.
fn operation_named(name: &str) -> OperationId {
    OperationId(uuid::Uuid::from_u128(name.bytes().fold(0x0198, |n: u128, b| n.wrapping_mul(257).wrapping_add(u128::from(b)))))
}

fn said(answer: Result<Value, Fault>) -> String {
    match answer {
        Ok(value) => value["message"].as_str().map_or_else(|| value.to_string(), str::to_owned),
        Err(fault) => format!("{}: {fault}", fault.kind.name()),
    }
}

async fn ask_all(client: Client, who: String, command: String, targets: Vec<String>, log: Log) {
    let (client, command, log, who) = (&client, &command, &log, &who);
    let asked = futures::stream::iter(targets).for_each_concurrent(AT_A_TIME, |target| async move {
        let mut answer = Err(Fault::new(FaultKind::Busy, "not asked yet"));
        // Busy means: come back in a moment.
        while matches!(&answer, Err(fault) if fault.kind == FaultKind::Busy) {
            answer = client.command(&target, command, json!({}), None, PATIENCE).await;
        }
        log.news();
        log.count(who, &answer.map_or_else(|f| format!("{command}: {}", f.kind.name()), |_| format!("{command}: done")));
    });
    asked.await;
}

/// The lines that differ, with three lines around them.
pub fn difference(expected: &str, seen: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), seen.lines().collect());
    let mut longest = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = if old[i] == new[j] { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines: Vec<(char, &str)> = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let mut out = String::new();
    let mut last = None;
    for (n, (sign, line)) in lines.iter().enumerate() {
        let near = lines[n.saturating_sub(3)..(n + 4).min(lines.len())].iter().any(|(s, _)| *s != ' ');
        if near {
            if last.is_none_or(|l| l + 1 != n) {
                out.push_str("  ...\n");
            }
            let _ = writeln!(out, "{sign} {line}");
            last = Some(n);
        }
    }
    out
}
