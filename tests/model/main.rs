//! Every state that one move of one machine can get into, visited: loss, delay, repetition and disorder of messages, crashes and
//! restarts at every step, breaks of libvirt. The rules are the real ones; see `world` for what stands around them.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // State counts are part of the result.

mod acts;
mod deeds;
mod parking;
mod takeover;
mod world;

use acts::Act;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Instant;
use world::{Broken, Left, Lv, Rules, World};

struct Moves {
    /// How the machine may stand with the hosts at the beginning.
    begin: Vec<Vec<Lv>>,
    left: Left,
    rules: Rules,
}

impl Model for Moves {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        self.begin.iter().map(|lvs| World::new(lvs, self.left, self.rules)).collect()
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        world.acts(acts);
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.clone();
        next.act(act);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Moves>> {
        vec![
            Property::always(TWICE, |_, w: &World| w.executing() <= 1),
            Property::always(GONE, |_, w: &World| w.defined()),
            Property::always(WRONG, |_, w: &World| w.wrong.is_none()),
            Property::always(ENDS, |_, w: &World| w.smooth().is_ok()),
            Property::sometimes(MOVES, |_, w: &World| w.authority.epoch.0 > 1 && w.left.moves == 0 && w.open(0).is_none()),
        ]
    }
}

const TWICE: &str = "never two running copies";
const GONE: &str = "never zero definitions";
const WRONG: &str = "epochs grow, and only the owner has a right to run";
const ENDS: &str = "when faults stop, it ends";

const MOVES: &str = "a move succeeds";

const NOTHING: Left = Left { wire: 0, crashes: 0, breaks: 0, moves: 1, starts: 0, cancels: 0 };
const SOUND: Rules = Rules { broken: Broken::Nothing, ordered: true };

/// Running, off or paused on the first host; the second has never heard of it, or has an old definition of it.
fn two() -> Vec<Vec<Lv>> {
    let firsts = [Lv::Running, Lv::Off, Lv::Still];
    firsts.into_iter().flat_map(|lv| [vec![lv, Lv::Absent], vec![lv, Lv::Off]]).collect()
}

/// Running or off on the first host; no other has heard of it.
fn plainly(hosts: usize) -> Vec<Vec<Lv>> {
    let others = std::iter::repeat_n(Lv::Absent, hosts - 1);
    [Lv::Running, Lv::Off].into_iter().map(|lv| std::iter::once(lv).chain(others.clone()).collect()).collect()
}

/// Explores until something is violated, and answers that, with the shortest way there.
fn explore(what: &str, model: Moves) -> Vec<(&'static str, String)> {
    let began = Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{what}: {} states, depth {}, {:.1?}", checker.unique_state_count(), checker.max_depth(), began.elapsed());
    let mut found = Vec::new();
    let discoveries = checker.discoveries();
    let failed = discoveries.keys().any(|name| *name != MOVES);
    assert!(failed || discoveries.contains_key(MOVES), "{what}: no move ever succeeds, so nothing was shown");
    for (name, path) in discoveries {
        if name == MOVES {
            continue;
        }
        let last = path.last_state().clone();
        let mut told = format!("  {}\n", path.clone().into_states()[0]);
        for act in path.into_actions() {
            told.push_str(&format!("  {act:?}\n"));
        }
        told.push_str(&format!("  {last}\n"));
        if name == ENDS
            && let Err(stuck) = last.smooth()
        {
            let (why, end) = *stuck;
            told.push_str(&format!("  {why}: {end}\n"));
        }
        found.push((name, told));
    }
    found
}

fn holds(what: &str, model: Moves) {
    let found = explore(what, model);
    assert!(found.is_empty(), "{what}: {}", found.iter().map(|(n, t)| format!("violated: {n}\n{t}")).collect::<String>());
}

#[test]
fn a_move_between_two_hosts_keeps_its_promises() {
    let left = Left { wire: 1, crashes: 1, breaks: 1, starts: 1, ..NOTHING };
    holds("two hosts, one fault of each kind", Moves { begin: two(), left, rules: SOUND });
}

#[test]
fn many_faults_of_one_kind_break_no_promise() {
    let wire = Left { wire: 3, cancels: 1, ..NOTHING };
    holds("two hosts, three losses", Moves { begin: two(), left: wire, rules: SOUND });
    let crashes = Left { crashes: 3, starts: 1, ..NOTHING };
    holds("two hosts, three crashes", Moves { begin: two(), left: crashes, rules: SOUND });
    let breaks = Left { breaks: 3, starts: 1, ..NOTHING };
    holds("two hosts, three breaks of libvirt", Moves { begin: two(), left: breaks, rules: SOUND });
}

#[test]
fn a_move_back_does_not_meet_what_the_first_one_left() {
    let left = Left { wire: 1, moves: 2, starts: 1, ..NOTHING };
    holds("two hosts, two moves, a loss", Moves { begin: plainly(2), left, rules: SOUND });
    let left = Left { crashes: 1, moves: 2, starts: 1, ..NOTHING };
    holds("two hosts, two moves, a crash", Moves { begin: plainly(2), left, rules: SOUND });
}

#[test]
fn moves_among_three_hosts_keep_their_promises() {
    let left = Left { wire: 1, moves: 2, ..NOTHING };
    holds("three hosts, two moves, a loss", Moves { begin: plainly(3), left, rules: SOUND });
    let left = Left { crashes: 1, moves: 2, ..NOTHING };
    holds("three hosts, two moves, a crash", Moves { begin: plainly(3)[..1].to_vec(), left, rules: SOUND });
}

/// A model that cannot find a mistake proves nothing: each of these is one somebody could make.
#[test]
fn a_rule_that_is_forgotten_is_missed() {
    let all = Left { wire: 1, crashes: 1, breaks: 1, starts: 1, cancels: 1, ..NOTHING };
    for (broken, promises) in [
        (Broken::ClaimAfterStay, &[TWICE, WRONG, ENDS] as &[&str]),
        (Broken::BelievesTheAnswer, &[TWICE, WRONG, ENDS]),
        (Broken::StartsWhatIsNotKnown, &[TWICE]),
        (Broken::NeverDisarms, &[TWICE]),
        (Broken::DiscardsUnclaimed, &[ENDS, GONE]),
    ] {
        let model = Moves { begin: two(), left: all, rules: Rules { broken, ..SOUND } };
        let found: Vec<&str> = explore(&format!("{broken:?}"), model).into_iter().map(|f| f.0).collect();
        println!("{broken:?} is caught: {found:?}");
        assert!(found.iter().any(|f| promises.contains(f)), "{broken:?} is not caught, only {found:?}");
    }
}

/// What one host asks of the authority must take effect in the order in which it was asked: a `depart` that was given up, and that
/// takes effect after the `stay`, lets a late target claim what its source believes to own.
#[test]
fn the_order_of_what_is_asked_of_the_authority_is_needed() {
    let left = Left { wire: 2, cancels: 1, starts: 1, ..NOTHING };
    let found = explore("no order", Moves { begin: plainly(2), left, rules: Rules { ordered: false, ..SOUND } });
    assert!(!found.is_empty(), "nothing needs the order any more: say so in the decision record, and let the model go without it");
}
