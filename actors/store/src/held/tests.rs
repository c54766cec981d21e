//! Two agents, one machine, and a cell whose link loses requests, loses answers and delivers late: every order of everything, to a
//! depth. Never do both agents have the right to run, and never one that the cell might have given away.

use super::known::Known;
use super::record::Record;
use super::*;
use archipel_contract::{Hold, MoveId};
use futures::FutureExt;
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use uuid::Uuid;

const MACHINE: DomainId = DomainId(Uuid::nil());

fn name(host: usize) -> HypervisorName {
    ["a", "b"][host].parse().unwrap()
}

fn saga(n: u8) -> MoveId {
    MoveId(Uuid::from_u128(n.into()))
}

/// A request to the cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Request {
    Claim(HypervisorName),
    Look,
    Step(Epoch, OwnershipStep),
    Forget(Epoch),
}

/// The cell's authority for the one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Cell {
    held: Option<Ownership>,
    highest: Epoch,
}

impl Cell {
    fn serve(&mut self, request: &Request) -> Result<Option<Ownership>, Fault> {
        match request {
            Request::Look => {}
            Request::Claim(owner) if self.held.is_none() => {
                self.held = Some(Ownership::owned(MACHINE, Epoch(self.highest.0 + 1), owner.clone()));
            }
            Request::Claim(_) => {}
            Request::Step(expected, step) => match &self.held {
                None => return Err(Fault::not_found("nobody owns it")),
                Some(held) => self.held = Some(held.step(*expected, step)?),
            },
            Request::Forget(expected) => match &self.held {
                Some(held) if held.epoch == *expected => self.held = None,
                _ => return Err(Fault::new(FaultKind::Conflict, "not at that epoch")),
            },
        }
        self.highest = self.held.as_ref().map_or(self.highest, |held| held.epoch);
        Ok(self.held.clone())
    }
}

/// What the link does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Delivers,
    LosesRequest,
    LosesAnswer,
    /// The request is delivered at some later time, and whoever sent it is told that nobody answered.
    Late,
}

/// One agent's link to the cell: the first requests meet what was planned, the others are delivered.
#[derive(Default)]
struct Wire {
    cell: Cell,
    plan: VecDeque<Link>,
    late: Vec<Request>,
}

struct Linked(Arc<Mutex<Wire>>);

impl Linked {
    fn send(&self, request: Request) -> Result<Option<Ownership>, Fault> {
        let mut wire = self.0.lock().unwrap();
        let away = || Err(Fault::unavailable("the cell does not answer"));
        match wire.plan.pop_front().unwrap_or(Link::Delivers) {
            Link::Delivers => wire.cell.serve(&request),
            Link::LosesRequest => away(),
            Link::LosesAnswer => {
                let _ = wire.cell.serve(&request);
                away()
            }
            Link::Late => {
                wire.late.push(request);
                away()
            }
        }
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

impl Authority for Linked {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> Answer<'_, Vec<Ownership>> {
        let answer = self.send(Request::Claim(owner)).map(|held| vec![held.unwrap(); domains.len()]);
        Box::pin(std::future::ready(answer))
    }
    fn ownership(&self, _: DomainId) -> Answer<'_, Option<Ownership>> {
        Box::pin(std::future::ready(self.send(Request::Look)))
    }
    fn step(&self, _: DomainId, expected: Epoch, step: OwnershipStep) -> Answer<'_, Ownership> {
        Box::pin(std::future::ready(self.send(Request::Step(expected, step)).map(Option::unwrap)))
    }
    fn forget(&self, _: DomainId, expected: Epoch) -> Answer<'_, ()> {
        Box::pin(std::future::ready(self.send(Request::Forget(expected)).map(drop)))
    }
    fn parked(&self) -> Answer<'_, Vec<Ownership>> {
        unreachable!()
    }
    fn lead(&self, _: String, _: String, _: Millis, _: Timestamp) -> Answer<'_, Leadership> {
        unreachable!()
    }
    fn resign(&self, _: String, _: String) -> Answer<'_, ()> {
        unreachable!()
    }
    fn vacancy(&self, _: String, _: Timestamp) -> Answer<'_, ()> {
        unreachable!()
    }
    fn incarnation(&self) -> Answer<'_, u64> {
        unreachable!()
    }
}

/// A disk with one row.
struct Disk(Arc<Mutex<Known>>);

impl Record for Disk {
    fn read(&self, domains: Vec<DomainId>) -> Answer<'_, Vec<Known>> {
        Box::pin(std::future::ready(Ok(vec![self.0.lock().unwrap().clone(); domains.len()])))
    }
    fn all(&self) -> Answer<'_, Vec<Known>> {
        let row = self.0.lock().unwrap().clone();
        let all = if row.held.is_some() || row.leaving { vec![row] } else { vec![] };
        Box::pin(std::future::ready(Ok(all)))
    }
    fn write(&self, changes: Vec<Known>) -> Answer<'_, Vec<Known>> {
        let mut row = self.0.lock().unwrap();
        for change in changes {
            if change.turn == row.turn {
                assert!(change.highest >= row.highest, "an epoch went back: {change:?}");
                *row = Known { turn: row.turn + 1, ..change };
            }
        }
        Box::pin(std::future::ready(Ok(vec![row.clone()])))
    }
    fn incarnation(&self) -> Answer<'_, u64> {
        unreachable!()
    }
}

/// Everything there is, between two actions. Agents hold nothing in memory, so a crash is the loss of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    cell: Cell,
    rows: [Known; 2],
    late: Vec<Request>,
    /// The move that was begun last: its number, its epoch, and how far the protocol of moves went: a source stays only if
    /// the target never tried to claim, and a target does not claim what stayed.
    saga: u8,
    epoch: Epoch,
    claimed: bool,
    stayed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Claim,
    Depart,
    Stay,
    Arrive,
    Park,
    Unpark,
    Forget,
    Look,
    Verify,
}

const ACTIONS: [Action; 9] = [
    Action::Claim,
    Action::Depart,
    Action::Stay,
    Action::Arrive,
    Action::Park,
    Action::Unpark,
    Action::Forget,
    Action::Look,
    Action::Verify,
];

const PLANS: [&[Link]; 7] = [
    &[],
    &[Link::LosesRequest],
    &[Link::LosesAnswer],
    &[Link::Late],
    &[Link::Delivers, Link::LosesRequest],
    &[Link::Delivers, Link::LosesAnswer],
    &[Link::Delivers, Link::Late],
];

impl World {
    fn new() -> World {
        let rows = [Known::nothing(MACHINE), Known::nothing(MACHINE)];
        World { cell: Cell::default(), rows, late: vec![], saga: 0, epoch: Epoch(0), claimed: false, stayed: false }
    }

    /// Lets one agent do one thing. `None` if it would not, or the answer it got.
    fn act(&self, host: usize, action: Action, plan: &[Link]) -> Option<(World, Result<Option<Ownership>, Fault>)> {
        let mut next = self.clone();
        let by = name(host);
        // The epoch that the agent believes in, and that of the move, which the other agent told it.
        let here = self.rows[host].highest;
        let step = match action {
            Action::Depart => {
                if here != self.epoch || self.stayed || self.saga == 0 {
                    (next.saga, next.epoch, next.claimed, next.stayed) = (self.saga + 1, here, false, false);
                }
                Some((here, OwnershipStep::Depart { by: by.clone(), saga: saga(next.saga), to: name(1 - host) }))
            }
            Action::Stay if !self.claimed && self.saga > 0 => {
                next.stayed = true;
                Some((here, OwnershipStep::Stay { by: by.clone(), saga: saga(self.saga) }))
            }
            Action::Arrive if !self.stayed && self.saga > 0 => {
                next.claimed = true;
                Some((self.epoch, OwnershipStep::Claim { by: by.clone(), saga: saga(self.saga) }))
            }
            Action::Stay | Action::Arrive => return None,
            Action::Park => Some((here, OwnershipStep::Park { by: by.clone() })),
            Action::Unpark => Some((self.cell.highest, OwnershipStep::Unpark { by: by.clone() })),
            Action::Claim | Action::Forget | Action::Look | Action::Verify => None,
        };
        let disk = Arc::new(Mutex::new(self.rows[host].clone()));
        let plan = plan.iter().copied().collect();
        let wire = Arc::new(Mutex::new(Wire { cell: self.cell.clone(), plan, late: self.late.clone() }));
        let held = Held { record: Arc::new(Disk(disk.clone())), cell: Arc::new(Linked(wire.clone())), ours: Arc::new([by.clone()].into()) };
        let answer = match step {
            Some((expected, step)) => held.step(MACHINE, expected, step).now_or_never().unwrap().map(Some),
            None => match action {
                Action::Claim => held.claim_unowned(vec![MACHINE], by).now_or_never().unwrap().map(|mut all| all.pop()),
                Action::Forget => held.forget(MACHINE, here).now_or_never().unwrap().map(|()| None),
                Action::Verify => held.verify().now_or_never().unwrap().map(|_| None),
                _ => held.ownership(MACHINE).now_or_never().unwrap(),
            },
        };
        let mut wire = wire.lock().unwrap();
        if !wire.plan.is_empty() {
            // Fewer requests than planned: another plan has shown this.
            return None;
        }
        next.cell = wire.cell.clone();
        next.late = std::mem::take(&mut wire.late);
        next.rows[host] = disk.lock().unwrap().clone();
        Some((next, answer))
    }

    fn deliver(&self, late: usize) -> World {
        let mut next = self.clone();
        let request = next.late.remove(late);
        let _ = next.cell.serve(&request);
        next
    }

    /// What must be true whatever happened.
    fn wrong(&self) -> Option<&'static str> {
        let rights: Vec<(usize, &Ownership)> = (0..2).filter_map(|h| Some((h, self.rows[h].right()?))).collect();
        if rights.len() > 1 {
            return Some("both may run it");
        }
        let given_away = |(host, right): &(usize, &Ownership)| {
            !self.cell.held.as_ref().is_some_and(|held| held.owner == name(*host) && held.epoch == right.epoch)
        };
        rights.iter().any(given_away).then_some("one may run what the cell gave away")
    }

    /// The same without what never matters for what can happen next, so that the number of states stays finite.
    fn essence(&self) -> World {
        let mut world = self.clone();
        world.rows.iter_mut().for_each(|row| row.turn = row.turn.min(1));
        world.late.sort_by_key(|r| format!("{r:?}"));
        world
    }

    /// When the faults stop, a few questions bring everybody to what the cell says.
    fn settles(&self) -> bool {
        let mut world = self.clone();
        while !world.late.is_empty() {
            world = world.deliver(0);
        }
        for host in 0..2 {
            world = world.act(host, Action::Verify, &[]).unwrap().0;
            // Steps that the cell never heard of are taken again or given up by whoever took them.
            let row = &world.rows[host];
            let again = match row.held.as_ref().map(|held| &held.hold) {
                Some(Hold::Moving { saga, to }) => {
                    let (by, moving) = (name(host), Request::Step(row.highest, OwnershipStep::Stay { by: name(host), saga: *saga }));
                    let unheard = world.cell.held.as_ref().is_some_and(|c| c.owner == by && c.hold == Hold::Owned && *to != by);
                    unheard.then_some(moving)
                }
                Some(Hold::Parked) => Some(Request::Step(row.highest, OwnershipStep::Park { by: name(host) })),
                _ => None,
            };
            if let Some(Request::Step(epoch, step)) = again {
                let disk = Arc::new(Mutex::new(row.clone()));
                let wire = Arc::new(Mutex::new(Wire { cell: world.cell.clone(), ..Wire::default() }));
                let ours = Arc::new([name(host)].into());
                let held = Held { record: Arc::new(Disk(disk.clone())), cell: Arc::new(Linked(wire.clone())), ours };
                if held.step(MACHINE, epoch, step).now_or_never().unwrap().is_err() {
                    return false;
                }
                world.cell = wire.lock().unwrap().cell.clone();
                world.rows[host] = disk.lock().unwrap().clone();
            }
        }
        (0..2).all(|host| {
            let (after, answer) = world.act(host, Action::Look, &[]).unwrap();
            answer.is_ok_and(|answer| answer == after.cell.held)
        })
    }
}

/// Walks through everything that can happen within `depth` actions and `highest` epochs, and answers how many states there are.
fn explore(depth: usize, highest: u64) -> usize {
    let mut seen: HashSet<World> = HashSet::new();
    let mut front = vec![(World::new(), Vec::new())];
    seen.insert(World::new());
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, path) in &front {
            let mut step = |after: World, what: String, answer: Option<&Ownership>, host: usize| {
                let path = || path.iter().cloned().chain([what.clone()]).collect::<Vec<String>>();
                let trace = || format!("\n{}\n{after:#?}", path().join("\n"));
                assert_eq!(after.wrong(), None, "{}", trace());
                // Whoever is told that it may run it has that on its disk.
                if let Some(answer) = answer.filter(|a| a.right_to_run(&name(host)).is_some()) {
                    assert_eq!(after.rows[host].right(), Some(answer), "{}", trace());
                }
                let essence = after.essence();
                if after.late.len() <= 1 && after.cell.highest.0 <= highest && !seen.contains(&essence) {
                    assert!(after.settles(), "it never settles: {}", trace());
                    seen.insert(essence);
                    next.push((after, path()));
                }
            };
            for late in 0..world.late.len() {
                step(world.deliver(late), format!("late {:?}", world.late[late]), None, 0);
            }
            for host in 0..2 {
                for action in ACTIONS {
                    for plan in PLANS {
                        if let Some((after, answer)) = world.act(host, action, plan) {
                            step(after, format!("{} {action:?} {plan:?}", name(host)), answer.ok().flatten().as_ref(), host);
                        }
                    }
                }
            }
        }
        front = next;
    }
    seen.len()
}

#[test]
fn no_loss_and_no_order_gives_two_hosts_the_right_to_run() {
    // Seven actions are some 70,000 states and take a quarter of a minute; run that after a change of the rule.
    let depth = std::env::var("ARCHIPEL_DEPTH").map_or(5, |text| text.parse().unwrap());
    let begin = std::time::Instant::now();
    let states = explore(depth, 3);
    println!("{states} states in {} ms", begin.elapsed().as_millis());
    assert!(states > 1000, "{states}");
}
