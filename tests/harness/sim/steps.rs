//! The steps of a scenario as text: one a line, words between blanks, `#` begins a comment. Errors name file and line.

use super::viewer::Detail;
use archipel_contract::domain::DomainState;
use archipel_xmpp::client::Origin;
use std::path::Path;
use std::time::Duration;

/// One line of a steps file.
pub(super) struct Step {
    /// Where it stands.
    pub(super) line: usize,
    /// As it is written.
    pub(super) text: String,
    /// Not before this much simulated time has passed.
    pub(super) at: Option<Duration>,
    /// What is done.
    pub(super) act: Act,
}

/// What can happen in a cell.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    Queue(usize),
    Authorities(super::world::Authorities),
    Lan { a: String, b: String, cut: bool },
    Fail { host: String, operation: String, nth: u64 },
    Needs { host: String, name: String, network: String },
    Memory { host: String, mib: u64 },
    Lie { host: String, operation: String },
    Forgets { host: String, everything: bool },
    Slow { host: String, call: Option<Duration> },
    Serve(bool),
    Clock(i64),
    Migrate { name: String, from: String, to: String },
    Count { name: String, executing: usize },
    Host(String),
    Machines { host: String, name: String, count: Option<usize>, state: DomainState, persistent: bool },
    Copy { name: String, from: String, to: String, state: DomainState },
    Viewer { name: String, detail: Detail },
    Agent { host: String, up: bool },
    Link { name: String, way: super::wire::Way },
    Libvirt { host: String, fate: Fate },
    Virsh { verb: Verb, host: String, name: String },
    Trap { host: String, kind: Trap, operation: String, name: String },
    Calm(String),
    Release(String),
    Report { host: String, name: String },
    Ask { who: String, command: String, target: String, arguments: serde_json::Map<String, serde_json::Value>, operation: Option<String> },
    AskAll { who: String, command: String, name: String, count: usize },
    Quiet,
    Advance(Duration),
    Mark,
    Expect(Expectation),
}

/// What becomes of the connection to libvirt.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    Lost,
    Back,
    Overflow(usize),
    Dies,
    Restarts,
}

/// How a call of a host goes wrong.
#[derive(Debug, PartialEq)]
pub(super) enum Trap {
    Panic,
    Hold,
}

/// What somebody does behind our back.
#[derive(Debug, PartialEq)]
pub(super) enum Verb {
    Enter(DomainState, &'static str),
    Define,
    Undefine,
}

/// What must be true at this point.
#[derive(Debug, PartialEq)]
pub(super) enum Expectation {
    State(String, String),
    On(String, String),
    Calls { host: String, operation: String, count: u64 },
    Silence,
    Snapshot(String, Origin),
}

/// Reads a whole file, and tells of every line that is wrong.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Step>> {
    let text = std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("{} cannot be read: {e}", path.display()))?;
    let mut steps = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match step(text) {
            Ok((at, act)) => steps.push(Step { line: number + 1, text: text.to_owned(), at, act }),
            Err(why) => wrong.push(format!("{}:{}: {why}\n    {line}", path.display(), number + 1)),
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    anyhow::ensure!(!steps.is_empty(), "{}: there are no steps", path.display());
    Ok(steps)
}

fn step(text: &str) -> Result<(Option<Duration>, Act), String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut at = None;
    if words.first() == Some(&"at") {
        at = Some(duration(words.get(1).ok_or("after `at` comes a time, for example `at 5s`")?)?);
        words.drain(..2);
    }
    Ok((at, act(&words)?))
}

fn act(words: &[&str]) -> Result<Act, String> {
    let own = |s: &&str| (*s).to_owned();
    Ok(match words {
        ["queue", count] => Act::Queue(number(count)?),
        ["authority", "own"] => Act::Authorities(super::world::Authorities::Own),
        ["authority", "linked"] => Act::Authorities(super::world::Authorities::Linked),
        ["lan", "cut", a, b] => Act::Lan { a: own(a), b: own(b), cut: true },
        ["lan", "heal", a, b] => Act::Lan { a: own(a), b: own(b), cut: false },
        ["fail", host, operation] => Act::Fail { host: own(host), operation: own(operation), nth: 1 },
        ["fail", host, operation, nth] => Act::Fail { host: own(host), operation: own(operation), nth: number(nth)? as u64 },
        ["lie", host, operation] => Act::Lie { host: own(host), operation: own(operation) },
        ["libvirt", host, "forgets"] => Act::Forgets { host: own(host), everything: true },
        ["libvirt", host, "remembers"] => Act::Forgets { host: own(host), everything: false },
        ["slow", host, call] => Act::Slow { host: own(host), call: Some(duration(call)?) },
        ["fast", host] => Act::Slow { host: own(host), call: None },
        ["exchange", "dies"] => Act::Serve(false),
        ["exchange", "takes", "over"] => Act::Serve(true),
        ["needs", host, name, "network", network] => Act::Needs { host: own(host), name: own(name), network: own(network) },
        ["memory", host, mib] => Act::Memory { host: own(host), mib: number(mib)? as u64 },
        ["clock", "forward", time] => Act::Clock(i64::try_from(duration(time)?.as_millis()).unwrap_or(i64::MAX)),
        ["clock", "back", time] => Act::Clock(-i64::try_from(duration(time)?.as_millis()).unwrap_or(i64::MAX)),
        ["virsh", "migrate", from, name, "to", to] => Act::Migrate { name: own(name), from: own(from), to: own(to) },
        ["libvirt", host, "dies"] => Act::Libvirt { host: own(host), fate: Fate::Dies },
        ["libvirt", host, "restarts"] => Act::Libvirt { host: own(host), fate: Fate::Restarts },
        ["expect", name, "executes", count] => Act::Count { name: own(name), executing: number(count)? },
        ["host", name] => Act::Host(own(name)),
        ["machine", host, name, state] => machines(host, name, None, state, true)?,
        ["machine", host, name, state, "transient"] => machines(host, name, None, state, false)?,
        ["machines", host, name, count, state] => machines(host, name, Some(number(count)?), state, true)?,
        ["copy", name, "from", from, "to", to, state] => {
            Act::Copy { name: own(name), from: own(from), to: own(to), state: domain_state(state)? }
        }
        ["viewer", name] => Act::Viewer { name: own(name), detail: Detail::Full },
        ["viewer", name, "counted"] => Act::Viewer { name: own(name), detail: Detail::Counted },
        ["viewer", name, "snapshots"] => Act::Viewer { name: own(name), detail: Detail::Snapshots },
        ["agent", host, "up"] => Act::Agent { host: own(host), up: true },
        ["agent", host, "killed"] => Act::Agent { host: own(host), up: false },
        [how @ ("cut" | "hold" | "open"), "link", name] => Act::Link {
            name: own(name),
            way: match *how {
                "cut" => super::wire::Way::Cut,
                "hold" => super::wire::Way::Held,
                _ => super::wire::Way::Open,
            },
        },
        ["libvirt", host, "lost"] => Act::Libvirt { host: own(host), fate: Fate::Lost },
        ["libvirt", host, "back"] => Act::Libvirt { host: own(host), fate: Fate::Back },
        ["libvirt", host, "overflow", count] => Act::Libvirt { host: own(host), fate: Fate::Overflow(number(count)?) },
        ["virsh", verb, host, name] => Act::Virsh { verb: virsh(verb)?, host: own(host), name: own(name) },
        ["panic", host, operation, name] => trap(host, Trap::Panic, operation, name),
        ["hold", host, operation, name] => trap(host, Trap::Hold, operation, name),
        ["calm", host] => Act::Calm(own(host)),
        ["release", host] => Act::Release(own(host)),
        ["report", host, name] => Act::Report { host: own(host), name: own(name) },
        ["ask", who, command, target, rest @ ..] => {
            let (mut arguments, mut operation) = (serde_json::Map::new(), None);
            for word in rest {
                let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no NAME=VALUE"))?;
                if name == "op" {
                    operation = Some(value.to_owned());
                } else {
                    arguments.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
                }
            }
            Act::Ask { who: own(who), command: own(command), target: own(target), arguments, operation }
        }
        ["ask-all", who, command, name, count] => {
            Act::AskAll { who: own(who), command: own(command), name: own(name), count: number(count)? }
        }
        ["wait", "quiet"] => Act::Quiet,
        ["advance", time] => Act::Advance(duration(time)?),
        ["mark"] => Act::Mark,
        ["expect", "silence"] => Act::Expect(Expectation::Silence),
        ["expect", "calls", host, operation, count] => Act::Expect(Expectation::Calls {
            host: own(host),
            operation: own(operation),
            count: count.parse().map_err(|_| format!("`{count}` is no number"))?,
        }),
        ["expect", "snapshot", viewer, origin] => {
            let origin = match *origin {
                "missed" => Origin::Missed,
                "reconnected" => Origin::Reconnected,
                other => return Err(format!("`{other}` is no reason for a snapshot: missed, reconnected")),
            };
            Act::Expect(Expectation::Snapshot(own(viewer), origin))
        }
        ["expect", name, "on", host] => Act::Expect(Expectation::On(own(name), own(host))),
        ["expect", name, state] => Act::Expect(Expectation::State(own(name), own(state))),
        [verb, ..] => {
            return Err(format!("`{verb}` with {} words after it is no step; see ops/guides/write-a-scenario.md", words.len() - 1));
        }
        [] => return Err("after a time comes what happens then".into()),
    })
}

fn machines(host: &str, name: &str, count: Option<usize>, state: &str, persistent: bool) -> Result<Act, String> {
    Ok(Act::Machines { host: host.to_owned(), name: name.to_owned(), count, state: domain_state(state)?, persistent })
}

fn trap(host: &str, kind: Trap, operation: &str, name: &str) -> Act {
    Act::Trap { host: host.to_owned(), kind, operation: operation.to_owned(), name: name.to_owned() }
}

fn virsh(verb: &str) -> Result<Verb, String> {
    Ok(match verb {
        "start" => Verb::Enter(DomainState::Running, "booted"),
        "suspend" => Verb::Enter(DomainState::Paused, "paused"),
        "resume" => Verb::Enter(DomainState::Running, "unpaused"),
        "destroy" => Verb::Enter(DomainState::Shutoff, "destroyed"),
        "crash" => Verb::Enter(DomainState::Shutoff, "crashed"),
        "define" => Verb::Define,
        "undefine" => Verb::Undefine,
        other => return Err(format!("`virsh {other}` is not played here: start, suspend, resume, destroy, crash, define, undefine")),
    })
}

fn domain_state(word: &str) -> Result<DomainState, String> {
    let found = DomainState::ALL.into_iter().find(|s| s.name() == word);
    found.ok_or_else(|| format!("`{word}` is no state of a machine: {}", DomainState::ALL.map(DomainState::name).join(", ")))
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn duration(word: &str) -> Result<Duration, String> {
    let split = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(split);
    let bad = || format!("`{word}` is no time: write 250ms, 10s, 5min or 2h");
    let count: u64 = digits.parse().map_err(|_| bad())?;
    Ok(match unit {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "min" => Duration::from_secs(count * 60),
        "h" => Duration::from_secs(count * 3600),
        _ => return Err(bad()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_wrong_says_what_would_be_right() {
        for (line, word) in [
            ("dance alpha", "`dance`"),
            ("machine alpha web1 sleeping", "running, paused"),
            ("advance 10", "250ms"),
            ("virsh dance alpha web1", "suspend"),
            ("ask admin domain.start web1 paused", "NAME=VALUE"),
            ("at 5s", "what happens then"),
            ("at", "at 5s"),
        ] {
            let why = step(line).map(|_| ()).unwrap_err();
            assert!(why.contains(word), "{line}: {why}");
        }
    }

    #[test]
    fn every_wrong_line_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps");
        std::fs::write(&path, "# a comment\nhost alpha\nfly\n\nadvance soon # comment\n").unwrap();
        let why = read(&path).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("steps:3: `fly`") && why.contains("steps:5: `soon`"), "{why}");
    }
}
