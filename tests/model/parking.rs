//! The shelf: two and three hosts park and unpark one machine, and die at any point. `Ownership::step` is the real rule; the order of
//! what is done around it is that of the actors (`migration/park.rs`), and so is what is settled after a restart.

use crate::world::{MACHINE, index, name};
use archipel_contract::{Epoch, Hold, Ownership, OwnershipStep};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// What a host is about to do next. It is lost when its agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Next {
    Nothing,
    /// Parking: the document, the authority, the definition.
    Write,
    Park,
    Discard,
    /// Unparking: the authority at the epoch that was read, the definition, the document.
    Unpark(u64),
    Define,
    Remove,
    /// It could not be defined: back on the shelf.
    PutBack,
    /// After a restart.
    Settle,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Site {
    defined: bool,
    running: bool,
    alive: bool,
    next: Next,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shelf {
    sites: Vec<Site>,
    document: bool,
    held: Ownership,
    crashes: u8,
    faults: u8,
    wishes: u8,
    won: u8,
    wrong: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Go(usize),
    /// It was done, and the answer is lost: whoever asked gives up.
    Unheard(usize),
    /// libvirt refuses to define it.
    Refused(usize),
    Crash(usize),
    Restart(usize),
    Park(usize),
    Unpark(usize),
    Start(usize),
    Stop(usize),
}

struct Parking {
    hosts: usize,
    /// The broken rule: whoever wants to unpark is believed without asking the authority.
    unasked: bool,
}

impl Shelf {
    fn step(&mut self, h: usize, expected: u64, step: &OwnershipStep) -> bool {
        let Ok(next) = self.held.step(Epoch(expected), step) else { return false };
        self.wrong |= next.epoch < self.held.epoch || (next.owner != self.held.owner && next.epoch == self.held.epoch);
        if matches!(step, OwnershipStep::Unpark { .. }) {
            self.won += 1;
        }
        let _ = h;
        self.held = next;
        true
    }

    fn go(&mut self, h: usize, unasked: bool) {
        let by = name(h);
        let epoch = self.held.epoch.0;
        let next = match self.sites[h].next {
            Next::Nothing => Next::Nothing,
            Next::Write => {
                self.document = true;
                Next::Park
            }
            Next::Park => {
                if self.step(h, epoch, &OwnershipStep::Park { by }) {
                    Next::Discard
                } else {
                    Next::Nothing
                }
            }
            Next::Discard => {
                self.sites[h].defined &= self.sites[h].running;
                Next::Nothing
            }
            Next::Unpark(read) => {
                let won = self.step(h, read, &OwnershipStep::Unpark { by });
                if won || unasked { Next::Define } else { Next::Nothing }
            }
            Next::Define => {
                self.sites[h].defined = true;
                Next::Remove
            }
            Next::Remove => {
                self.document = false;
                Next::Nothing
            }
            Next::PutBack => {
                self.step(h, epoch, &OwnershipStep::Park { by });
                Next::Nothing
            }
            Next::Settle => self.settles(h),
        };
        self.sites[h].next = next;
    }

    fn settles(&self, h: usize) -> Next {
        if !self.document || index(&self.held.owner) != h {
            return Next::Nothing;
        }
        match (&self.held.hold, self.sites[h].defined) {
            (Hold::Parked, true) => Next::Discard,
            (Hold::Owned, false) => Next::Define,
            (Hold::Owned, true) => Next::Remove,
            _ => Next::Nothing,
        }
    }

    /// Everybody lives again, and what was begun is ended.
    fn ends(&self) -> bool {
        let mut shelf = self.clone();
        for h in 0..shelf.sites.len() {
            if !shelf.sites[h].alive || shelf.sites[h].next == Next::Nothing {
                shelf.sites[h].alive = true;
                shelf.sites[h].next = Next::Settle;
            }
            while shelf.sites[h].next != Next::Nothing {
                shelf.go(h, false);
            }
        }
        // What one host lays down another may have been about to settle.
        (0..shelf.sites.len()).for_each(|h| {
            shelf.sites[h].next = Next::Settle;
            while shelf.sites[h].next != Next::Nothing {
                shelf.go(h, false);
            }
        });
        let owner = index(&shelf.held.owner);
        match shelf.held.hold {
            Hold::Parked => shelf.document,
            _ => shelf.sites[owner].defined && !shelf.document,
        }
    }
}

impl Model for Parking {
    type State = Shelf;
    type Action = Act;

    fn init_states(&self) -> Vec<Shelf> {
        let site = |h| Site { defined: h == 0, running: false, alive: true, next: Next::Nothing };
        let held = Ownership::owned(MACHINE, Epoch(1), name(0));
        let sites = (0..self.hosts).map(site).collect();
        vec![Shelf { sites, document: false, held, crashes: 2, faults: 1, wishes: 4, won: 0, wrong: false }]
    }

    fn actions(&self, shelf: &Shelf, acts: &mut Vec<Act>) {
        for (h, site) in shelf.sites.iter().enumerate() {
            if !site.alive {
                acts.push(Act::Restart(h));
                continue;
            }
            if shelf.crashes > 0 {
                acts.push(Act::Crash(h));
            }
            if site.next != Next::Nothing {
                acts.push(Act::Go(h));
                if shelf.faults > 0 {
                    acts.push(Act::Unheard(h));
                    if site.next == Next::Define {
                        acts.push(Act::Refused(h));
                    }
                }
                continue;
            }
            let right = shelf.held.right_to_run(&name(h)).is_some();
            if site.running {
                acts.push(Act::Stop(h));
            } else if right && site.defined {
                acts.push(Act::Start(h));
                if shelf.wishes > 0 {
                    acts.push(Act::Park(h));
                }
            }
            if shelf.wishes > 0 && shelf.document && shelf.held.hold == Hold::Parked {
                acts.push(Act::Unpark(h));
            }
        }
    }

    fn next_state(&self, shelf: &Shelf, act: Act) -> Option<Shelf> {
        let mut next = shelf.clone();
        match act {
            Act::Go(h) => next.go(h, self.unasked),
            Act::Unheard(h) => {
                next.faults -= 1;
                next.go(h, self.unasked);
                // What it had begun is settled after the next listing.
                next.sites[h].next = Next::Settle;
            }
            Act::Refused(h) => {
                next.faults -= 1;
                next.sites[h].next = Next::PutBack;
            }
            Act::Crash(h) => {
                next.crashes -= 1;
                next.sites[h] = Site { alive: false, next: Next::Nothing, ..next.sites[h].clone() };
            }
            Act::Restart(h) => next.sites[h] = Site { alive: true, next: Next::Settle, ..next.sites[h].clone() },
            Act::Park(h) => {
                next.wishes -= 1;
                next.sites[h].next = Next::Write;
            }
            Act::Unpark(h) => {
                next.wishes -= 1;
                next.sites[h].next = Next::Unpark(next.held.epoch.0);
            }
            Act::Start(h) => next.sites[h].running = true,
            Act::Stop(h) => next.sites[h].running = false,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Parking>> {
        vec![
            Property::always("never two running copies", |_, s: &Shelf| s.sites.iter().filter(|x| x.running).count() <= 1),
            Property::always("never zero definitions", |_, s: &Shelf| s.document || s.sites.iter().any(|x| x.defined)),
            Property::always("epochs grow", |_, s: &Shelf| !s.wrong),
            Property::always("what is begun ends", |_, s: &Shelf| s.ends()),
            Property::sometimes("two wanted it and one got it", |_, s: &Shelf| {
                s.won == 1 && s.sites.iter().filter(|x| matches!(x.next, Next::Unpark(_) | Next::Define)).count() == 2
            }),
        ]
    }
}

fn explore(what: &str, model: Parking) -> Vec<String> {
    let began = std::time::Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{what}: {} states, depth {}, {:.1?}", checker.unique_state_count(), checker.max_depth(), began.elapsed());
    let found = checker.discoveries();
    let failed = found.into_iter().filter(|(name, _)| !name.starts_with("two wanted"));
    failed.map(|(name, path)| format!("{name}: {:?}\n{:?}", path.clone().into_actions(), path.last_state())).collect()
}

#[test]
fn of_hosts_that_unpark_at_once_one_wins_and_no_definition_is_lost() {
    for hosts in [2, 3] {
        let found = explore(&format!("parking, {hosts} hosts"), Parking { hosts, unasked: false });
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

#[test]
fn unparking_without_the_authority_is_caught() {
    let found = explore("parking, nobody asked", Parking { hosts: 2, unasked: true });
    assert!(!found.is_empty(), "two hosts took one machine from the shelf and nobody noticed");
}
