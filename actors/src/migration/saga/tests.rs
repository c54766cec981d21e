//! What libvirt was measured to leave behind after each kind of break, and what the move makes of it.

use super::*;
use archipel_contract::domain::DomainState;
use uuid::Uuid;

const RUNNING: Standing = Standing::Here(DomainState::Running);
const OFF: Standing = Standing::Off(DomainState::Shutoff);

fn saga() -> Saga {
    let name = |n: &str| n.parse().unwrap();
    Saga::new(MoveId(Uuid::from_u128(7)), DomainId(Uuid::from_u128(1)), name("a"), name("b"), Epoch(3), false, true)
}

fn owned(owner: &str, epoch: u64) -> Option<Ownership> {
    Some(Ownership::owned(DomainId(Uuid::from_u128(1)), Epoch(epoch), owner.parse().unwrap()))
}

/// What the world answers; each list is used up from the front and its last entry stands for ever.
struct World {
    transfer: Answer,
    own: Vec<Answer<Standing>>,
    theirs: Vec<Answer<Standing>>,
    receive: Vec<Answer>,
    stay: Answer,
    authority: Option<Ownership>,
    done: Vec<Output>,
}

fn away() -> Fault {
    Fault::unavailable("it cannot be reached")
}

fn broke() -> Fault {
    Fault::internal("unable to write to socket")
}

fn world(own: Standing, theirs: Standing) -> World {
    World {
        transfer: Err(broke()),
        own: vec![Ok(own)],
        theirs: vec![Ok(theirs)],
        receive: vec![Ok(())],
        stay: Ok(()),
        authority: owned("a", 3),
        done: Vec::new(),
    }
}

fn take<T: Clone>(list: &mut Vec<T>) -> T {
    if list.len() > 1 { list.remove(0) } else { list[0].clone() }
}

impl World {
    fn answer(&mut self, output: &Output) -> Input {
        match output {
            Output::Reserve => Input::Reserved(Ok(())),
            Output::Depart => Input::Departed(Ok(())),
            Output::Disarm => Input::Disarmed(Ok(())),
            Output::Transfer => Input::Transferred(self.transfer.clone()),
            Output::AskOwn => Input::Own(take(&mut self.own)),
            Output::AskTarget => Input::Theirs(take(&mut self.theirs)),
            Output::AwaitJob => Input::JobEnded,
            Output::Recover => Input::Recovered(Ok(())),
            Output::Receive => Input::Received(take(&mut self.receive)),
            Output::LookAtAuthority => Input::Authority(Ok(self.authority.clone())),
            Output::Discard => Input::Discarded(Ok(())),
            Output::Stay => Input::Stayed(self.stay.clone()),
            Output::Rearm => Input::Rearmed(Ok(())),
            Output::Unreserve => Input::Unreserved(Ok(())),
            Output::Rest(_) => Input::Rested,
            Output::Abort | Output::Refuse(_) | Output::Tell(_) => panic!("{output:?} has no answer"),
        }
    }

    /// Goes on from there until the move ends, or until `enough` things were done.
    fn go(&mut self, mut saga: Saga, enough: usize) -> Saga {
        while let Some(work) = saga.work().filter(|_| self.done.len() < enough) {
            self.done.push(work.clone());
            let (next, outputs) = saga.step(self.answer(&work));
            let stored: Saga = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
            assert_eq!(stored, next, "what is stored is read back as it was");
            assert_eq!(outputs.into_iter().rfind(|o| !matches!(o, Output::Tell(_))), next.work());
            saga = next;
        }
        saga
    }

    fn ends(&mut self, saga: Saga) -> (End, Option<Fault>) {
        let last = self.go(saga, 100);
        assert!(last.is_over(), "it goes on for ever: {:?}", self.done);
        (last.end().unwrap(), last.fault)
    }

    fn did(&self, output: &Output) -> usize {
        self.done.iter().filter(|o| *o == output).count()
    }
}

#[test]
fn a_move_that_goes_well_takes_each_step_once() {
    use Output::*;
    let mut w = World { transfer: Ok(()), ..world(Standing::Departed, RUNNING) };
    assert_eq!(w.ends(saga()), (End::Moved, None));
    assert_eq!(w.done, [Reserve, Depart, Disarm, Transfer, AskOwn, AskTarget, Receive, Discard]);
}

#[test]
fn a_machine_that_is_off_travels_as_its_definition() {
    let mut w = world(OFF, Standing::Absent);
    assert_eq!(w.ends(Saga { off: true, autostart: false, ..saga() }), (End::Moved, None));
    assert_eq!((w.did(&Output::Transfer), w.did(&Output::Disarm), w.did(&Output::Receive)), (0, 0, 1));
    // Somebody started it meanwhile.
    let mut w = world(RUNNING, Standing::Absent);
    assert_eq!(w.ends(Saga { off: true, ..saga() }).0, End::Stayed);
    // Somebody started it and moved it on with other tools: a second definition elsewhere could be started.
    let mut w = world(Standing::Departed, Standing::Absent);
    assert_eq!(w.ends(Saga { off: true, ..saga() }).0, End::Lost);
    assert_eq!(w.did(&Output::Receive), 0);
    // The name is taken over there.
    let taken = Fault::new(FaultKind::Conflict, "the name is taken");
    let mut w = World { receive: vec![Err(taken.clone())], ..world(OFF, Standing::Absent) };
    assert_eq!(w.ends(Saga { off: true, ..saga() }), (End::Stayed, Some(taken)));
}

/// A, B, C, E, I, J, K, K2 and L of the table: after a break of pre-copy the guest is at the source, whatever the call said.
#[test]
fn a_break_of_pre_copy_leaves_the_guest_here() {
    for theirs in [Standing::Absent, Standing::Arriving] {
        let mut w = world(RUNNING, theirs);
        assert_eq!(w.ends(saga()), (End::Stayed, Some(broke())));
        let undone = [Output::AskOwn, Output::Stay, Output::Rearm, Output::Unreserve];
        assert_eq!(w.done[4..], undone, "the target is not even asked");
    }
    // K2: libvirt here still holds it when the call has answered; it is asked until it says something else.
    let mut w = World { own: vec![Ok(Standing::Leaving), Ok(RUNNING)], ..world(RUNNING, Standing::Absent) };
    assert_eq!(w.ends(saga()).0, End::Stayed);
    assert_eq!((w.did(&Output::AwaitJob), w.did(&Output::Transfer)), (1, 1));
    // C: libvirt here does not answer for a while.
    let mut w = World { own: vec![Err(away()), Err(away()), Ok(RUNNING)], ..world(RUNNING, Standing::Absent) };
    assert_eq!(w.ends(saga()).0, End::Stayed);
    assert_eq!((w.did(&Output::Rest(Millis::seconds(1))), w.did(&Output::Rest(Millis::seconds(2)))), (1, 1));
}

/// F: the call may fail although the guest arrived, or succeed late.
#[test]
fn a_fault_of_the_transfer_says_nothing_about_where_the_guest_is() {
    let mut w = world(Standing::Departed, RUNNING);
    assert_eq!(w.ends(saga()), (End::Moved, None));
    let mut w = World { transfer: Ok(()), ..world(RUNNING, Standing::Absent) };
    let (end, fault) = w.ends(saga());
    assert_eq!((end, fault.map(|f| f.kind)), (End::Stayed, Some(FaultKind::Internal)));
}

/// The two libvirts lost each other when the target had been told to run it: the source keeps a copy that stands still.
#[test]
fn a_guest_that_stands_still_stays_only_when_the_target_does_not_have_it() {
    let paused = Standing::Here(DomainState::Paused);
    let mut w = world(paused, Standing::Absent);
    assert_eq!(w.ends(saga()), (End::Stayed, Some(broke())));
    let mut w = World { theirs: vec![Err(away()), Ok(Standing::Arriving), Ok(RUNNING)], ..world(paused, RUNNING) };
    let last = w.go(saga(), 60);
    assert_eq!((last.end(), w.did(&Output::Stay), w.did(&Output::Receive)), (Some(End::Moved), 0, 1));
    // Nobody destroys the copy: a person is told.
    let (next, _) = Saga { step: Step::Releasing, ..last }.step(Input::Discarded(Err(Fault::wrong_state("it is here"))));
    assert!(next.is_over() && next.fault.unwrap().message.contains("look at both hosts"));
}

/// D, and H when the source is gone: reported, never repaired by starting something.
#[test]
fn a_guest_that_died_on_the_way_is_reported_and_not_started() {
    for own in [Standing::Off(DomainState::Crashed), OFF, Standing::Departed, Standing::Absent] {
        let mut w = world(own, Standing::Absent);
        let (end, fault) = w.ends(saga());
        assert_eq!(end, End::Lost);
        assert!(fault.unwrap().message.contains("nothing was started"));
        assert_eq!((w.did(&Output::Stay), w.did(&Output::Discard), w.did(&Output::Receive)), (1, 0, 0), "its definition stays here");
    }
}

/// G, G2, G3.
#[test]
fn post_copy_is_taken_up_again_only_after_the_target_was_seen_executing() {
    let heals = vec![Ok(Standing::Split), Ok(Standing::Split), Ok(Standing::Departed)];
    let mut w = World { own: heals.clone(), ..world(RUNNING, RUNNING) };
    assert_eq!(w.ends(saga()).0, End::Moved);
    assert_eq!((w.did(&Output::Recover), w.did(&Output::Stay)), (2, 0));
    // G2: it was seen before it broke there as well.
    let mut w = World { own: heals.clone(), theirs: vec![Ok(RUNNING), Ok(Standing::Split), Ok(RUNNING)], ..world(RUNNING, RUNNING) };
    assert_eq!(w.ends(saga()).0, End::Moved);
    assert_eq!(w.did(&Output::Recover), 2);
    // Never seen: it waits, says what a person can do, and starts nothing.
    let mut w = World { theirs: vec![Ok(Standing::Split)], ..world(Standing::Split, RUNNING) };
    let last = w.go(saga(), 60);
    assert!(!last.is_over() && last.hindrance.unwrap().message.contains("force it off here"));
    assert_eq!((w.did(&Output::Recover), w.did(&Output::Stay), w.did(&Output::Receive)), (0, 0, 0));
    // The target cannot be reached while the link is cut.
    let mut w = World { own: heals, theirs: vec![Err(away()), Ok(RUNNING)], ..world(RUNNING, RUNNING) };
    assert_eq!(w.ends(saga()).0, End::Moved);
}

/// G2' and H.
#[test]
fn post_copy_without_the_targets_memory_is_lost() {
    let mut w = world(Standing::Split, Standing::Absent);
    let (end, fault) = w.ends(saga());
    assert_eq!(end, End::Lost);
    assert!(fault.unwrap().message.contains("force it off here"));
    assert_eq!((w.did(&Output::Recover), w.did(&Output::Discard)), (0, 0));
}

#[test]
fn what_is_not_known_waits_longer_and_longer_and_starts_nothing() {
    let mut w = World { theirs: vec![Err(away())], ..world(Standing::Departed, RUNNING) };
    let last = w.go(saga(), 60);
    assert_eq!(last.hindrance, Some(away()));
    let pauses: Vec<_> = w.done.iter().filter_map(|o| if let Output::Rest(m) = o { Some(m.0 / 1000) } else { None }).collect();
    assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 30, 30, 30]);
    for never in [Output::Stay, Output::Discard, Output::Receive, Output::Recover] {
        assert_eq!(w.did(&never), 0, "{never:?}");
    }
    let (_, refused) = last.step(Input::Cancel);
    assert!(matches!(&refused[..], [Output::Refuse(fault)] if fault.message.contains("handed over")));
}

#[test]
fn a_target_that_claimed_and_could_not_say_so_is_believed_by_the_authority() {
    let mut w = World { receive: vec![Err(away())], authority: owned("b", 4), ..world(Standing::Departed, RUNNING) };
    assert_eq!(w.ends(saga()), (End::Moved, None));
    assert_eq!((w.did(&Output::Receive), w.did(&Output::Discard)), (1, 1));
    // It has not claimed: it is asked again, after its standing.
    let mut w = World { receive: vec![Err(away()), Err(away()), Ok(())], ..world(Standing::Departed, RUNNING) };
    assert_eq!(w.ends(saga()).0, End::Moved);
    assert_eq!((w.did(&Output::Receive), w.did(&Output::Discard)), (3, 1));
    // Its own word comes first.
    let mut w = World { receive: vec![Err(away())], ..world(Standing::Departed, RUNNING) };
    let (last, outputs) = w.go(saga(), 30).step(Input::Claimed);
    assert!(last.claimed);
    let mut w = world(Standing::Departed, RUNNING);
    assert!(outputs.is_empty() || outputs == [Output::Discard], "{outputs:?}");
    assert_eq!(w.ends(last).0, End::Moved);
}

#[test]
fn too_late_to_stay_means_that_it_moves() {
    let late = Err(Fault::new(FaultKind::Conflict, "b owns it"));
    let mut w = World { stay: late.clone(), authority: owned("b", 4), ..world(Standing::Departed, Standing::Absent) };
    w.theirs = vec![Ok(Standing::Absent), Ok(RUNNING)];
    assert_eq!(w.ends(saga()), (End::Moved, None));
    assert_eq!((w.did(&Output::Stay), w.did(&Output::Discard)), (1, 1));
    // Its guest is here and the target has claimed it: told to people, nothing discarded.
    let mut w = World { stay: late, authority: owned("b", 4), ..world(RUNNING, Standing::Absent) };
    let (end, fault) = w.ends(saga());
    assert!(end == End::Moved && fault.unwrap().message.contains("look at both hosts"));
    assert_eq!(w.did(&Output::Discard), 0);
}

#[test]
fn a_cancelled_move_stays_while_that_is_possible() {
    for (done, stays) in [(0, true), (1, true), (2, true), (5, false), (6, false), (7, false)] {
        let mut w = World { transfer: Ok(()), ..world(Standing::Departed, RUNNING) };
        let begun = w.go(saga(), done);
        let (next, outputs) = begun.step(Input::Cancel);
        assert_eq!(matches!(outputs[..], [Output::Refuse(_)]), !stays, "{:?}: {outputs:?}", begun.step);
        let (end, fault) = w.ends(next);
        assert_eq!(end, if stays { End::Stayed } else { End::Moved }, "{:?}", begun.step);
        assert_eq!(fault.is_some(), stays);
    }
    // While libvirt moves it, libvirt is asked to give up, and what it then has is what counts.
    for (own, end) in [(RUNNING, End::Stayed), (Standing::Departed, End::Moved)] {
        let mut w = world(own, RUNNING);
        let (next, outputs) = w.go(saga(), 3).step(Input::Cancel);
        assert_eq!((&next.step, &outputs[..]), (&Step::Transferring, &[Output::Abort][..]));
        assert_eq!(w.ends(next).0, end);
    }
}

#[test]
fn a_restart_at_any_point_transfers_nothing_twice_and_ends() {
    for done in 0..8 {
        let mut w = World { transfer: Ok(()), ..world(Standing::Departed, RUNNING) };
        let begun = w.go(saga(), done);
        // What it was about to do may or may not have been done; until the transfer was begun the guest is here.
        let here = done < 3;
        let mut after = world(if here { RUNNING } else { Standing::Departed }, RUNNING);
        let (next, outputs) = begun.step(Input::Restarted);
        assert_eq!(outputs.last(), next.work().as_ref());
        let end = after.ends(next).0;
        assert_eq!(end, if here { End::Stayed } else { End::Moved }, "{:?}", begun.step);
        assert_eq!(after.did(&Output::Transfer), 0);
    }
    // It was interrupted before libvirt had done anything.
    let (next, _) = world(RUNNING, RUNNING).go(saga(), 3).step(Input::Restarted);
    let (end, fault) = world(RUNNING, Standing::Absent).ends(next);
    assert!(end == End::Stayed && fault.unwrap().message.contains("interrupted"));
    // Libvirt went on alone.
    let (next, _) = world(RUNNING, RUNNING).go(saga(), 3).step(Input::Restarted);
    let mut w = World { own: vec![Ok(Standing::Leaving), Ok(Standing::Departed)], ..world(RUNNING, RUNNING) };
    assert_eq!(w.ends(next).0, End::Moved);
    assert_eq!(w.did(&Output::AwaitJob), 1);
}

#[test]
fn after_a_long_absence_nothing_is_discarded_that_the_target_does_not_have() {
    let mut w = World { transfer: Ok(()), ..world(Standing::Departed, RUNNING) };
    let releasing = w.go(saga(), 7);
    assert_eq!(releasing.step, Step::Releasing);
    let (next, _) = releasing.step(Input::Restarted);
    let mut w = world(Standing::Departed, Standing::Absent);
    let (end, fault) = w.ends(next);
    assert!(end == End::Moved && fault.unwrap().message.contains("was left here"));
    assert_eq!(w.did(&Output::Discard), 0);
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    let refused = Fault::new(FaultKind::Conflict, "there is no room");
    let (next, outputs) = saga().step(Input::Reserved(Err(refused.clone())));
    assert_eq!(outputs, [Output::Stay]);
    let mut w = world(RUNNING, Standing::Absent);
    assert_eq!(w.ends(next), (End::Stayed, Some(refused)));
    assert_eq!(w.did(&Output::Unreserve), 1, "the refusal may be the answer to the second of two requests");
}

#[test]
fn the_end_is_told_once() {
    let mut w = world(RUNNING, Standing::Absent);
    let clearing = w.go(saga(), 7);
    assert_eq!(clearing.end(), Some(End::Stayed));
    let (rests, outputs) = clearing.step(Input::Unreserved(Err(away())));
    assert_eq!(outputs, [Output::Rest(Millis::seconds(1))], "the target is told when it is back");
    assert_eq!(rests.step(Input::Restarted).1, [Output::Unreserve]);
    assert!(rests.step(Input::Rested).0.step(Input::Unreserved(Ok(()))).0.is_over());
}

#[test]
fn answers_nobody_waits_for_change_nothing() {
    let begun = world(RUNNING, RUNNING).go(saga(), 3);
    for late in [Input::Reserved(Err(away())), Input::Own(Ok(RUNNING)), Input::Stayed(Ok(())), Input::Discarded(Ok(())), Input::Rested] {
        assert_eq!(begun.step(late), (begun.clone(), vec![]));
    }
}
