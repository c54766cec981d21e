//! Hours in which anything happens to a whole cell, as a seed decides: people move, start and stop machines while agents die (also in
//! the middle of what they do), links are cut or held, libvirts vanish, lie, dawdle and break transfers, and the clock is set.
//!
//! No guest may ever execute on two hosts: that is counted at every change of every libvirt. After every event no machine may be lost.
//! In the end everything heals, and then everybody must agree and nothing be left behind.

use super::log::{Log, Operator};
use super::wire::{Chance, Way};
use super::world::{Authorities, CELL, World};
use super::{PATIENCE, Stage, check};
use anyhow::{Context, Result};
use archipel_contract::{
    DomainId, Fault, FaultKind,
    domain::DomainState,
    migration::{MigrationPort, Way as Travel},
    port::{Authority, Documents},
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How large and how long.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Hosts.
    pub hosts: usize,
    /// Virtual machines.
    pub machines: usize,
    /// Simulated hours of storm.
    pub hours: u64,
}

/// What was seen.
pub struct Stormed {
    /// What happened and what everybody was told, with the time of each.
    pub log: String,
    /// How many things happened to the cell.
    pub events: u64,
    /// At how many changes of machines it was looked whether one runs twice.
    pub changes: u64,
    /// How much time passed in the cell.
    pub simulated: Duration,
    /// How many transfers libvirt was asked for.
    pub transfers: u64,
    /// How often people heard which answer.
    pub answers: BTreeMap<String, u64>,
}

/// A fault that heals at its time.
enum Broken {
    Agent(String),
    Link(String),
    Libvirt(String),
    Daemon(String),
    Lan(String, String),
    Slow(String),
}

const COMMANDS: [&str; 5] = ["domain.start", "domain.shutdown", "domain.force-off", "domain.pause", "domain.resume"];
const STEPS: [&str; 6] =
    ["migration.prepare", "migration.copy", "migration.switch", "migration.finish", "migration.answer", "migration.standing"];

/// Calls of libvirt that may say that they failed although they did not. What a transfer says is a step of its own.
const LIES: [&str; 8] = [
    "domain.start",
    "domain.shutdown",
    "domain.force-off",
    "domain.pause",
    "domain.resume",
    "domain.set-autostart",
    "migration.define",
    "migration.discard",
];
/// A process that dies in the middle of what it does has looked at its disk or at the cell at most so often more.
const LOOKS: u64 = 60;
/// How many milliseconds what is said takes at most.
const DISTANCE: u64 = 20;
/// How long a call of a slow libvirt takes at most, in milliseconds.
const SLOW: u64 = 20_000;

/// Lets it storm.
pub fn storm(seed: u64, weather: Weather) -> Result<Stormed> {
    let runtime = || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        built.unwrap_or_else(|e| panic!("no runtime: {e}"))
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let log = Log::new();
        let _operator = tracing::subscriber::set_default(Operator(log.clone()));
        let stage = Stage { world: World::new(seed, log.clone()).await?, log, mark: 0 };
        let mut storm = Storm {
            stage,
            chance: Chance::new(seed ^ 0x5707),
            weather,
            machines: Vec::new(),
            broken: BTreeMap::new(),
            events: 0,
            answers: Arc::default(),
        };
        let result = storm.play().await;
        let log = &storm.stage.log;
        result.with_context(|| format!("{}\nwith seed {seed} and {weather:?}: this is how it ended", log.text()))?;
        let transfers = storm.stage.world.sites.values().map(|s| s.fake.script.calls("migration.transfer")).sum();
        let answers = storm.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (simulated, events, changes) = (log.elapsed(), storm.events, storm.stage.world.census.changes());
        let stormed = Stormed { log: log.text(), events, changes, simulated, transfers, answers };
        storm.stage.world.end().await;
        Ok(stormed)
    })
}

struct Storm {
    stage: Stage,
    chance: Arc<Chance>,
    weather: Weather,
    machines: Vec<DomainId>,
    /// What is broken, by when it heals (in seconds) and a number.
    broken: BTreeMap<(u64, u64), Broken>,
    events: u64,
    answers: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Storm {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap_or(0)
    }

    fn host(&self) -> String {
        format!("h{}", self.below(self.weather.hosts))
    }

    fn machine(&self) -> DomainId {
        self.machines[self.below(self.machines.len())]
    }

    fn now(&self) -> u64 {
        self.stage.log.elapsed().as_secs()
    }

    fn note(&mut self, what: String) {
        self.events += 1;
        self.stage.log.step(&what);
    }

    async fn play(&mut self) -> Result<()> {
        let world = &mut self.stage.world;
        world.authorities = Authorities::Linked;
        world.distance = DISTANCE;
        for h in 0..self.weather.hosts {
            world.host(&format!("h{h}")).await?;
        }
        for m in 0..self.weather.machines {
            let state = if m % 2 == 0 { DomainState::Running } else { DomainState::Shutoff };
            let (fake, name) = (&world.site(&format!("h{}", m % self.weather.hosts))?.fake, format!("m{m}"));
            let id = fake.add_domain(&name, state, true);
            self.stage.log.name(id.to_string(), &name);
            self.machines.push(id);
        }
        let pace = self.chance.clone();
        world.lan.pace(move |_| Box::pin(tokio::time::sleep(Duration::from_millis(50 + pace.below(3_000)))));
        world.viewer("viewer", super::viewer::Detail::Full).await?;
        for h in 0..self.weather.hosts {
            self.stage.world.begin(&format!("h{h}")).await?;
            // Keys are stretched on other threads; one login at a time keeps the order the same in every play.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.stage.quiet().await?;
        let end = self.weather.hours * 3600;
        while self.now() < end {
            tokio::time::sleep(Duration::from_millis(200 + self.chance.below(40_000))).await;
            self.heal(false).await?;
            self.happens().await?;
            self.invariants().await?;
            self.stage.world.bury();
        }
        self.note("everything heals".to_owned());
        self.heal(true).await?;
        // Whoever waited tries again after half a minute at most; people's requests end, moves end, drains end.
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_secs(15)).await;
            self.invariants().await?;
        }
        self.stage.quiet().await?;
        self.invariants().await?;
        check::nothing_is_left_behind(&self.stage.world).await?;
        self.owners_are_where_guests_are().await?;
        let agree = check::everybody_agrees(&mut self.stage.world).await;
        if agree.is_err() {
            self.tell_where_everything_is().await?;
        }
        agree
    }

    /// One event.
    async fn happens(&mut self) -> Result<()> {
        let dice = self.below(100);
        let (host, other, id) = (self.host(), self.host(), self.machine());
        let name = self.machines.iter().position(|m| *m == id).unwrap_or_default();
        match dice {
            0..35 => {
                self.note(format!("move m{name} to {host}"));
                self.ask(&format!("{id}@{CELL}"), "domain.migrate", json!({ "to": host })).await?;
            }
            35..60 => {
                let command = COMMANDS[self.below(COMMANDS.len())];
                self.note(format!("{command} m{name}"));
                self.ask(&format!("{id}@{CELL}"), command, json!({})).await?;
            }
            60..64 => {
                self.note(format!("park m{name}"));
                self.ask(&format!("{id}@{CELL}"), "domain.park", json!({})).await?;
            }
            64..70 => {
                self.note(format!("unpark m{name} on {host} and {other}"));
                for host in [&host, &other] {
                    self.ask(&format!("hv.{host}@{CELL}"), "domain.unpark", json!({ "machine": id.to_string() })).await?;
                }
            }
            70 => {
                self.note(format!("drain {host}"));
                self.ask(&format!("hv.{host}@{CELL}"), "hypervisor.drain", json!({})).await?;
            }
            71..75 => {
                self.note(format!("undrain {host}"));
                self.ask(&format!("hv.{host}@{CELL}"), "hypervisor.undrain", json!({})).await?;
            }
            75..78 => {
                let step = STEPS[self.below(STEPS.len())];
                self.note(format!("{step} will fail on {host}"));
                self.stage.world.site(&host)?.fake.script.fail(step, 1, failed());
            }
            78..80 => {
                let call = LIES[self.below(LIES.len())];
                self.note(format!("{call} will be done on {host} and said to have failed"));
                self.stage.world.site(&host)?.fake.script.lie(call, 1, failed());
            }
            80..82 => {
                self.note(format!("the guest of m{name} crashes"));
                let hosts = self.stage.world.sites.values().filter(|s| s.fake.executes(id));
                hosts.for_each(|s| s.fake.enter(id, DomainState::Shutoff, "crashed"));
            }
            82..84 => {
                self.note(format!("virsh moves m{name} to {host}"));
                let to = self.stage.world.site(&host)?.fake.landing().await;
                let source = self.stage.world.sites.values().find(|s| s.fake.executes(id)).map(|s| s.fake.clone());
                if let (Some(source), Ok(to)) = (source, to) {
                    tokio::spawn(async move { source.transfer(id, to, Travel::default()).await.map(drop) });
                }
            }
            84..85 => {
                let by = self.chance.below(7_200_000) as i64 - 3_600_000;
                self.note(format!("the clock is set by {by} ms"));
                self.stage.world.clock.step(by);
            }
            _ => self.breaks(dice, host, other)?,
        }
        Ok(())
    }

    fn breaks(&mut self, dice: usize, host: String, other: String) -> Result<()> {
        // Most are short, so that much gets done; some are longer than the window of a session.
        let longest = if self.chance.below(4) == 0 { 900 } else { 60 };
        let until = (self.now() + 5 + self.chance.below(longest), self.events);
        let (asks, done) = (self.chance.below(LOOKS), self.chance.below(2) == 0);
        let world = &mut self.stage.world;
        let lives = world.lives(&host);
        let site = world.sites.get_mut(&host).context("a host")?;
        let broken = match (dice, &site.agent) {
            (85..87, Some(_)) if lives => {
                world.kill(&host)?;
                Broken::Agent(host.clone())
            }
            (87..89, Some(agent)) if lives => {
                agent.process.doom(asks, done);
                Broken::Agent(host.clone())
            }
            (89..93, Some(agent)) if lives && agent.wire.way() == Way::Open => {
                agent.wire.set(if dice == 89 { Way::Held } else { Way::Cut });
                Broken::Link(host.clone())
            }
            (93..95, _) if site.libvirt => {
                site.fake.lose("the connection was reset");
                site.libvirt = false;
                Broken::Libvirt(host.clone())
            }
            (95..97, _) if site.libvirt => {
                site.fake.libvirt_dies();
                site.libvirt = false;
                Broken::Daemon(host.clone())
            }
            (97, _) => {
                let chance = self.chance.clone();
                site.fake.script.slow_down(move |_| Box::pin(tokio::time::sleep(Duration::from_millis(chance.below(SLOW)))));
                Broken::Slow(host.clone())
            }
            (98.., _) if host != other => {
                world.lan.cut(&host, &other);
                Broken::Lan(host.clone(), other)
            }
            _ => return Ok(()),
        };
        let what = match &broken {
            Broken::Agent(_) if dice < 87 => "agent dies".to_owned(),
            Broken::Agent(_) => format!("agent dies when it has asked {asks} times more, done: {done},"),
            Broken::Link(_) => "link breaks".to_owned(),
            Broken::Libvirt(_) => "libvirt is lost".to_owned(),
            Broken::Daemon(_) => "libvirt dies".to_owned(),
            Broken::Slow(_) => "libvirt is slow".to_owned(),
            Broken::Lan(..) => "network between libvirts is cut".to_owned(),
        };
        self.note(format!("{host}: {what} until {}", until.0));
        self.broken.insert(until, broken);
        Ok(())
    }

    /// What is due heals, or all of it.
    async fn heal(&mut self, all: bool) -> Result<()> {
        let now = self.now();
        while let Some(entry) = self.broken.first_entry().filter(|e| all || e.key().0 <= now) {
            let world = &mut self.stage.world;
            match entry.remove() {
                Broken::Agent(host) => {
                    // One that was to die in the middle of something may have had nothing to do.
                    if world.site(&host)?.agent.is_some() {
                        world.kill(&host)?;
                    }
                    world.begin(&host).await?;
                }
                // An agent that died meanwhile begins with a link of its own.
                Broken::Link(host) if world.lives(&host) => world.wire(&host)?.set(Way::Open),
                Broken::Link(_) => {}
                Broken::Libvirt(host) => {
                    let site = world.sites.get_mut(&host).context("a host")?;
                    site.fake.restore();
                    site.libvirt = true;
                }
                Broken::Daemon(host) => {
                    let site = world.sites.get_mut(&host).context("a host")?;
                    site.fake.libvirt_restarts();
                    site.libvirt = true;
                }
                Broken::Slow(host) => world.site(&host)?.fake.script.hurry(),
                Broken::Lan(a, b) => world.lan.heal(&a, &b),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    async fn ask(&mut self, target: &str, command: &'static str, arguments: serde_json::Value) -> Result<()> {
        let client = self.stage.world.person("admin").await?;
        let (target, log, answers) = (target.to_owned(), self.stage.log.clone(), self.answers.clone());
        tokio::spawn(async move {
            let answer = client.command(&target, command, arguments, None, PATIENCE).await;
            log.news();
            let word = answer.as_ref().err().map_or("done", |fault| fault.kind.name());
            *answers.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{command}: {word}")).or_default() += 1;
            log.write("admin", &target, &format!("{target} {command}: {}", super::said(answer)));
        });
        Ok(())
    }

    async fn invariants(&self) -> Result<()> {
        check::nothing_runs_twice(&self.stage.world)?;
        for id in self.stage.world.census.on_no_host() {
            let lies = self.stage.world.documents.document(format!("parked/{id}")).await?.is_some();
            let n = self.machines.iter().position(|m| *m == id).unwrap_or_default();
            anyhow::ensure!(lies, "m{n} is on no host and not on the shelf");
        }
        Ok(())
    }

    /// For whoever looks for the cause.
    async fn tell_where_everything_is(&mut self) -> Result<()> {
        for (n, id) in self.machines.clone().into_iter().enumerate() {
            let held = self.stage.world.authority.ownership(id).await?.map(|o| format!("{} {} {:?}", o.owner, o.epoch.0, o.hold));
            let sites = self.stage.world.sites.iter().filter(|(_, s)| s.fake.domain(id).is_some());
            let places: Vec<String> = sites.map(|(host, s)| format!("{host} {:?}", s.fake.really(id))).collect();
            self.note(format!("m{n} {id}: {places:?}, authority {held:?}"));
        }
        Ok(())
    }

    async fn owners_are_where_guests_are(&self) -> Result<()> {
        for (n, id) in self.machines.iter().enumerate() {
            let Some(held) = self.stage.world.authority.ownership(*id).await? else { continue };
            for (host, _) in self.stage.world.sites.iter().filter(|(_, s)| s.fake.executes(*id)) {
                anyhow::ensure!(held.owner.as_str() == host, "m{n} runs on {host} and is owned by {} ({:?})", held.owner, held.hold);
            }
        }
        Ok(())
    }
}

fn failed() -> Fault {
    Fault::new(FaultKind::Internal, "libvirt failed as it was told to")
}
