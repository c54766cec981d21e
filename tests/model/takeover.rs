//! Who leads the cell: two and three exchanges with the real [`Term`] each, and an authority that grants leases. Questions and answers take
//! any time or are lost, processes sleep as long as they like and die, and the next one begins.

use archipel_contract::{Epoch, Millis};
use archipel_xmpp::exchange::term::{Input, Output, Rules, Term};
use stateright::{Checker, HasDiscoveries, Model, Property};

const LEASE: u64 = 3;
const RULES: Rules = Rules { lease: Millis(LEASE), margin: Millis(1) };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wire {
    Quiet,
    /// The question is on its way.
    Asks,
    /// The authority has answered.
    Answers(Option<u64>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Exchange {
    /// `None` while the process is dead.
    term: Option<Term>,
    wire: Wire,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cell {
    now: u64,
    exchanges: Vec<Exchange>,
    /// Who leads, in which epoch, until when.
    lease: Option<(usize, u64, u64)>,
    epoch: u64,
    crashes: u8,
    losses: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Tick,
    /// It is told the time, if it wants to be; until then it sleeps.
    Wake(usize),
    Arrive(usize),
    Hear(usize),
    Lose(usize),
    Vacant(usize),
    Crash(usize),
    Restart(usize),
}

struct Takeover {
    exchanges: usize,
    until: u64,
    losses: u8,
    /// The broken rule: a lease is believed to count from when its grant was heard.
    from_hearing: bool,
}

impl Cell {
    fn tell(&mut self, e: usize, input: Input) {
        let now = Millis(self.now);
        let Some(term) = &mut self.exchanges[e].term else { return };
        let asks = term.on(input, now).contains(&Output::Ask);
        if asks {
            self.exchanges[e].wire = Wire::Asks;
        }
    }

    fn free(&self) -> bool {
        self.lease.is_none_or(|(_, _, until)| until <= self.now)
    }

    fn begins(&mut self, e: usize) {
        self.exchanges[e] = Exchange { term: Some(Term::begin(RULES, Millis(self.now)).0), wire: Wire::Asks };
    }

    fn changing(&self, e: usize, from_hearing: bool) -> bool {
        let Some(term) = &self.exchanges[e].term else { return false };
        // Somebody who forgot the rule would go on for as long as the lease after it was heard of.
        let believes = from_hearing && term.leads().is_some() && matches!(self.exchanges[e].wire, Wire::Quiet);
        term.may_change(Millis(self.now)).is_some() || believes
    }
}

impl Model for Takeover {
    type State = Cell;
    type Action = Act;

    fn init_states(&self) -> Vec<Cell> {
        let exchanges = (0..self.exchanges).map(|_| Exchange { term: None, wire: Wire::Quiet }).collect();
        let mut cell = Cell { now: 0, exchanges, lease: None, epoch: 0, crashes: 1, losses: self.losses };
        (0..self.exchanges).for_each(|e| cell.begins(e));
        vec![cell]
    }

    fn actions(&self, cell: &Cell, acts: &mut Vec<Act>) {
        if cell.now < self.until {
            acts.push(Act::Tick);
        }
        for (e, exchange) in cell.exchanges.iter().enumerate() {
            let Some(term) = &exchange.term else {
                acts.push(Act::Restart(e));
                continue;
            };
            if term.wake().is_some_and(|at| at.0 <= cell.now) {
                acts.push(Act::Wake(e));
            }
            match exchange.wire {
                Wire::Quiet if cell.free() && term.leads().is_none() => acts.push(Act::Vacant(e)),
                Wire::Quiet => {}
                Wire::Asks => acts.push(Act::Arrive(e)),
                Wire::Answers(_) => acts.push(Act::Hear(e)),
            }
            if exchange.wire != Wire::Quiet && cell.losses > 0 {
                acts.push(Act::Lose(e));
            }
            if cell.crashes > 0 {
                acts.push(Act::Crash(e));
            }
        }
    }

    fn next_state(&self, before: &Cell, act: Act) -> Option<Cell> {
        let mut cell = before.clone();
        match act {
            Act::Tick => cell.now += 1,
            Act::Wake(e) => cell.tell(e, Input::Awake),
            Act::Vacant(e) => cell.tell(e, Input::Vacant),
            Act::Arrive(e) => {
                let until = cell.now + LEASE;
                let granted = match cell.lease {
                    // Its own lease that still runs is renewed; whatever ran out is a new term.
                    Some((who, epoch, ends)) if who == e && ends > cell.now => Some(epoch),
                    _ if cell.free() => {
                        cell.epoch += 1;
                        Some(cell.epoch)
                    }
                    _ => None,
                };
                if let Some(epoch) = granted {
                    cell.lease = Some((e, epoch, until));
                }
                cell.exchanges[e].wire = Wire::Answers(granted);
            }
            Act::Hear(e) => {
                let Wire::Answers(answer) = std::mem::replace(&mut cell.exchanges[e].wire, Wire::Quiet) else { return None };
                cell.tell(e, answer.map_or(Input::Refused, |epoch| Input::Granted(Epoch(epoch))));
            }
            Act::Lose(e) => {
                cell.losses -= 1;
                cell.exchanges[e].wire = Wire::Quiet;
                cell.tell(e, Input::Unreachable);
            }
            Act::Crash(e) => {
                cell.crashes -= 1;
                cell.exchanges[e] = Exchange { term: None, wire: Wire::Quiet };
            }
            Act::Restart(e) => cell.begins(e),
        }
        Some(cell)
    }

    fn properties(&self) -> Vec<Property<Takeover>> {
        vec![
            Property::always(ONE, |m: &Takeover, c: &Cell| (0..c.exchanges.len()).filter(|e| c.changing(*e, m.from_hearing)).count() <= 1),
            Property::always("two never serve in one epoch", |_, c: &Cell| {
                let mut epochs: Vec<Epoch> = c.exchanges.iter().filter_map(|e| e.term.as_ref()?.leads()).collect();
                let all = epochs.len();
                epochs.sort();
                epochs.dedup();
                epochs.len() == all
            }),
            Property::always("when faults stop, somebody leads", |m: &Takeover, c: &Cell| m.leads_in_the_end(c)),
            Property::sometimes("another takes over", |_, c: &Cell| {
                c.epoch > 1 && c.exchanges.iter().any(|e| e.term.is_some_and(|t| t.leads().is_some()))
            }),
        ]
    }
}

const ONE: &str = "at most one allows changes";

impl Takeover {
    /// Without faults and with a clock that goes on, somebody leads and may change within ten leases.
    fn leads_in_the_end(&self, cell: &Cell) -> bool {
        let mut cell = cell.clone();
        cell.crashes = 0;
        cell.losses = 0;
        for _ in 0..10 * LEASE {
            loop {
                let mut acts = Vec::new();
                self.actions(&cell, &mut acts);
                let Some(act) = acts.into_iter().find(|a| !matches!(a, Act::Tick | Act::Vacant(_))) else { break };
                match self.next_state(&cell, act) {
                    Some(next) => cell = next,
                    None => break,
                }
            }
            if (0..cell.exchanges.len()).any(|e| cell.changing(e, false)) {
                return true;
            }
            cell.now += 1;
        }
        false
    }
}

fn explore(what: &str, model: Takeover) -> Vec<String> {
    let began = std::time::Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{what}: {} states, depth {}, {:.1?}", checker.unique_state_count(), checker.max_depth(), began.elapsed());
    let found = checker.discoveries().into_iter().filter(|(name, _)| !name.starts_with("another"));
    found.map(|(name, path)| format!("{name}: {:?}\n{:?}", path.clone().into_actions(), path.last_state())).collect()
}

#[test]
fn of_several_exchanges_one_allows_changes() {
    for (exchanges, until, losses) in [(2, 7, 1), (3, 5, 0)] {
        let found = explore(&format!("takeover, {exchanges} exchanges"), Takeover { exchanges, until, losses, from_hearing: false });
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn a_lease_believed_for_too_long_is_caught() {
    let found = explore("takeover, believed from hearing", Takeover { exchanges: 2, until: 8, losses: 0, from_hearing: true });
    assert!(found.iter().any(|f| f.starts_with(ONE)), "two exchanges allowed changes and nobody noticed: {found:?}");
}
