//! What lasts: the stream of events, and the way of a task to its end.

use crate::output::{self, Style};
use archipel_contract::{CellName, Entity, EntityId, Facts, Fault, FaultKind, TaskId, task::TaskFacts, task::TaskState};
use archipel_xmpp::client::{Change, Client, Feed, Incoming, Origin};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// A line for people on standard error.
pub(crate) fn say(text: &str) {
    // Nobody may be reading any more; then there is nobody to tell.
    let _ = writeln!(io::stderr(), "archipel: {text}");
}

fn broken(error: &io::Error) -> Fault {
    Fault::internal("the output cannot be written").because(error)
}

/// Prints every change until interrupted.
pub(crate) async fn events(client: Client, incoming: Incoming, cell: &CellName, style: Style) -> Result<(), Fault> {
    let mut feed = client.follow(incoming, cell.as_str());
    let mut offline = false;
    loop {
        let Some(change) = feed.next().await else { return Err(Fault::unavailable("the connection was closed")) };
        match change? {
            Change::Event(event) => {
                offline = false;
                let mut out = io::stdout().lock();
                match output::event(&mut out, &event, style).and_then(|()| out.flush()) {
                    Ok(()) => {}
                    // Whoever read has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(broken(&error)),
                }
            }
            Change::Snapshot(origin, entities) => {
                offline = false;
                let why = match origin {
                    Origin::Beginning => "following",
                    Origin::Reconnected => "connected again; took a snapshot, because events may be missing:",
                    Origin::Missed => "too slow; took a snapshot, because events are missing:",
                };
                say(&format!("{why} {cell}, {} entities", entities.len()));
            }
            Change::Offline(fault) if fault.kind == FaultKind::Forbidden => return Err(fault),
            Change::Offline(fault) => {
                if !offline {
                    say(&format!("{fault}; trying again"));
                }
                offline = true;
            }
        }
    }
}

/// Follows a task to its end. Interrupting ends only the following.
pub(crate) async fn task(client: Client, incoming: Incoming, cell: &CellName, task: TaskId) -> Result<Arc<Entity>, Fault> {
    let feed = client.follow(incoming, cell.as_str());
    tokio::select! {
        ended = to_the_end(feed, task) => ended,
        _ = tokio::signal::ctrl_c() => {
            Err(Fault::new(FaultKind::Timeout, format!("stopped waiting; the work goes on, see `archipel task show {task}`")))
        }
    }
}

/// How long a task may take to become visible: its answer and its first event come different ways.
const APPEARANCE: Duration = Duration::from_secs(10);

async fn to_the_end(mut feed: Feed, task: TaskId) -> Result<Arc<Entity>, Fault> {
    let id = EntityId::Task(task);
    let mut told = String::new();
    let unknown = || Fault::not_found(format!("the cell does not know task {task}; look at its target"));
    let mut appearance = tokio::time::Instant::now() + APPEARANCE;
    let mut seen = false;
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = tokio::time::sleep_until(appearance), if !seen => return Err(unknown()),
        };
        let Some(change) = next else { return Err(Fault::unavailable("the connection was closed; the work goes on")) };
        let found = match change? {
            Change::Snapshot(origin, entities) => match entities.into_iter().find(|e| e.id == id) {
                Some(found) => found,
                // An exchange that has just taken over is still being told.
                None if origin == Origin::Reconnected => {
                    seen = false;
                    appearance = tokio::time::Instant::now() + APPEARANCE;
                    continue;
                }
                None if seen => return Err(unknown()),
                None => continue,
            },
            Change::Event(event) if event.entity == id => match event.after {
                Some(after) => after,
                None => return Err(Fault::not_found(format!("the cell has forgotten task {task}; look at its target"))),
            },
            Change::Event(_) => continue,
            Change::Offline(fault) if fault.kind == FaultKind::Forbidden => return Err(fault),
            Change::Offline(fault) => {
                say(&format!("{fault}; the work goes on, trying again"));
                continue;
            }
        };
        seen = true;
        let Facts::Task(facts) = &found.facts else { continue };
        if facts.state != TaskState::Running {
            if io::stderr().is_terminal() && !told.is_empty() {
                let _ = writeln!(io::stderr());
            }
            return Ok(found);
        }
        progress(&mut told, facts);
    }
}

/// One line that is written over on a terminal, one line for each step otherwise.
fn progress(told: &mut String, facts: &TaskFacts) {
    let percent = facts.percent.map(|p| format!("{p}% ")).unwrap_or_default();
    let line = format!("{percent}{}", output::printable(&facts.message));
    if line == *told {
        return;
    }
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\u{1b}[K{line}");
    } else {
        say(&line);
    }
    *told = line;
}

/// The fault of a task that did not end well.
pub(crate) fn verdict(entity: &Entity) -> Result<(), Fault> {
    let Facts::Task(facts) = &entity.facts else { return Ok(()) };
    match facts.state {
        TaskState::Done => Ok(()),
        TaskState::Failed => Err(facts.fault.clone().unwrap_or_else(|| Fault::internal(facts.message.to_string()))),
        TaskState::Cancelled => Err(Fault::busy(format!("the work was cancelled: {}", facts.message))),
        TaskState::Running => Err(Fault::new(FaultKind::Timeout, "the work goes on; wait again or look at it with `archipel task show`")),
    }
}
