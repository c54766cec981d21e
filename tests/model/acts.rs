//! Everything that can happen next in the world, and what it does.

use crate::world::*;
use archipel_actors::migration::saga::{Input, Output};
use archipel_contract::FaultKind;

/// One thing that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The agent does what its move says is next.
    Do(usize),
    /// It does that, and dies before the answer is stored.
    DoAndDie(usize),
    /// This host's libvirt does not answer; nothing happened.
    DoFails(usize),
    /// This host's libvirt did it, and the answer was a fault.
    DoLies(usize),
    /// A pause ends.
    Rested(usize),
    Deliver(Message),
    /// The same once more, later.
    Twice(Message),
    /// The question is given up while it or its answer is still on the wire.
    Late(usize),
    /// The question or its answer is gone.
    Lost(usize),
    /// Whoever was asked has died over it.
    Silence(usize),
    /// A target sees a guest it has held a place for.
    Seen(usize),
    /// A target gives up waiting for the authority.
    ClaimLate(usize),
    Crash(usize),
    Restart(usize),
    /// libvirt takes the transfer a step further.
    Sail,
    /// The transfer breaks; the target cleans up at once or later.
    Break(bool),
    Clean(usize),
    /// The call that waits for the transfer ends with a fault, and the transfer goes on.
    AnswerEarly,
    /// The transfer ends well, and the call says a fault.
    EndLying,
    JobEnded(usize),
    GuestDies(usize),
    Reboot(usize),
    Move(usize, usize),
    Cancel(usize),
    /// Somebody starts it: the right is given out ...
    Start(usize),
    /// ... and libvirt consumes it.
    StartNow(usize),
    Resume(usize),
}

/// What the target asks of the authority, and not the source.
fn by_target(change: Change) -> bool {
    matches!(change, Change::Peek | Change::Claim)
}

impl Act {
    /// What happens by itself when nothing goes wrong any more.
    pub(crate) fn is_smooth(self) -> bool {
        matches!(
            self,
            Act::Do(_)
                | Act::Rested(_)
                | Act::Deliver(_)
                | Act::Silence(_)
                | Act::Restart(_)
                | Act::Sail
                | Act::Clean(_)
                | Act::JobEnded(_)
                | Act::StartNow(_)
        )
    }
}

impl World {
    pub(crate) fn acts(&self, acts: &mut Vec<Act>) {
        let left = self.left;
        for (h, host) in self.hosts.iter().enumerate() {
            match &host.agent {
                None => acts.push(Act::Restart(h)),
                Some(agent) => self.agent_acts(h, agent, acts),
            }
            if host.lv == Lv::Arriving && self.voyage.is_none_or(|v| v.to != h) {
                acts.push(Act::Clean(h));
            }
            if left.breaks > 0 {
                acts.push(Act::Reboot(h));
                if host.lv == Lv::Running {
                    acts.push(Act::GuestDies(h));
                }
            }
        }
        for message in &self.wire {
            if self.deliverable(message) {
                acts.push(Act::Deliver(*message));
                let effect = matches!(
                    message,
                    Message::Ask(Question::Receive, ..)
                        | Message::Step(Change::Depart | Change::Stay | Change::Claim, ..)
                        | Message::Release(_)
                );
                if left.wire > 0 && effect {
                    acts.push(Act::Twice(*message));
                }
            }
        }
        if let Some(voyage) = self.voyage {
            acts.push(Act::Sail);
            if left.breaks > 0 {
                acts.extend([Act::Break(true), Act::Break(false)]);
                if self.hosts[voyage.from].agent.as_ref().is_some_and(|a| a.doing == Doing::Awaits) {
                    acts.push(Act::AnswerEarly);
                    if voyage.phase == Phase::Crossed {
                        acts.push(Act::EndLying);
                    }
                }
            }
        }
    }

    fn agent_acts(&self, h: usize, agent: &Agent, acts: &mut Vec<Act>) {
        let left = self.left;
        let host = &self.hosts[h];
        if left.crashes > 0 {
            acts.push(Act::Crash(h));
        }
        if agent.starting {
            acts.push(Act::StartNow(h));
        }
        if agent.inbound.is_none() && host.place.is_some() && matches!(host.lv, Lv::Running | Lv::Still) {
            acts.push(Act::Seen(h));
        }
        if left.wire > 0 && agent.inbound.is_some() {
            acts.push(Act::ClaimLate(h));
        }
        if let Some(saga) = self.open(h) {
            match agent.doing {
                Doing::Idle if saga.resting => acts.push(Act::Rested(h)),
                Doing::Idle => {
                    acts.push(Act::Do(h));
                    let local =
                        matches!(saga.work(), Some(Output::AskOwn | Output::Disarm | Output::Rearm | Output::Discard | Output::Transfer));
                    if local && left.breaks > 0 {
                        acts.push(Act::DoFails(h));
                        if saga.work() != Some(Output::Transfer) && saga.work() != Some(Output::AskOwn) {
                            acts.push(Act::DoLies(h));
                        }
                    }
                    if local && left.crashes > 0 {
                        acts.push(Act::DoAndDie(h));
                    }
                }
                Doing::Asked => {
                    let waits = self.wire.iter().any(|m| match m {
                        Message::Ask(_, order, live) => *live && order.from == h,
                        Message::Step(change, order, live) => *live && !by_target(*change) && order.from == h,
                        Message::Answer(to, _) => *to == h,
                        Message::Found(..) | Message::Claimed(..) | Message::Release(_) => false,
                    });
                    let held = self.hosts.iter().filter_map(|x| x.agent.as_ref()?.inbound).any(|i| i.live && i.order.from == h);
                    if !waits && !held {
                        acts.push(Act::Silence(h));
                    } else if left.wire > 0 {
                        acts.extend([Act::Late(h), Act::Lost(h)]);
                    }
                }
                Doing::Awaits if saga.work() == Some(Output::AwaitJob) && self.voyage.is_none_or(|v| v.from != h) => {
                    acts.push(Act::JobEnded(h));
                }
                Doing::Awaits => {}
            }
            if left.cancels > 0 && !saga.cancelled {
                acts.push(Act::Cancel(h));
            }
        } else if agent.inbound.is_none() && !agent.starting && self.may_run(h) {
            match host.lv {
                Lv::Running | Lv::Off | Lv::Still if left.moves > 0 => {
                    acts.extend((0..self.hosts.len()).filter(|to| *to != h).map(|to| Act::Move(h, to)));
                }
                _ => {}
            }
            match host.lv {
                Lv::Off | Lv::Departed if left.starts > 0 => acts.push(Act::Start(h)),
                Lv::Still | Lv::Doubt if left.starts > 0 && self.voyage.is_none_or(|v| v.from != h) => acts.push(Act::Resume(h)),
                _ => {}
            }
        }
    }

    fn deliverable(&self, message: &Message) -> bool {
        match message {
            Message::Ask(_, order, _) => self.hosts[order.to].agent.is_some(),
            Message::Step(change, order, live) => {
                let older = |m: &Message| matches!(m, Message::Step(Change::Depart | Change::Stay, o, false) if o.from == order.from);
                !(self.rules.ordered && *live && !by_target(*change) && self.wire.iter().any(older))
            }
            Message::Answer(to, _) => self.hosts[*to].agent.is_some(),
            Message::Found(order, _) | Message::Claimed(order, _) => self.hosts[order.to].agent.is_some(),
            Message::Release(order) => self.hosts[order.from].agent.is_some(),
        }
    }

    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Do(h) => self.does(h, true),
            Act::DoAndDie(h) => {
                self.left.crashes -= 1;
                self.does(h, false);
                self.crash(h);
            }
            Act::DoFails(h) => {
                self.left.breaks -= 1;
                self.feed_fault(h);
            }
            Act::DoLies(h) => {
                self.left.breaks -= 1;
                self.does(h, false);
                self.feed_fault(h);
            }
            Act::Rested(h) => self.feed(h, Input::Rested),
            Act::Deliver(message) => {
                self.wire.remove(&message);
                self.deliver(message);
            }
            Act::Twice(message) => {
                self.left.wire -= 1;
                self.wire.remove(&message);
                let again = match message {
                    Message::Ask(question, order, _) => Message::Ask(question, order, false),
                    Message::Step(change, order, _) => Message::Step(change, order, false),
                    other => other,
                };
                self.deliver(message);
                self.wire.insert(again);
            }
            Act::Late(h) => {
                self.left.wire -= 1;
                self.gives_up(h);
            }
            Act::Lost(h) => {
                self.left.wire -= 1;
                self.wire.retain(|m| {
                    !matches!(m, Message::Ask(_, order, true) if order.from == h)
                        && !matches!(m, Message::Step(Change::Depart | Change::Stay | Change::Look, order, true) if order.from == h)
                });
                self.gives_up(h);
            }
            Act::Silence(h) => self.gives_up(h),
            Act::Seen(h) => {
                if let Some(order) = self.hosts[h].place {
                    self.receives(order, false);
                }
            }
            Act::ClaimLate(h) => {
                self.left.wire -= 1;
                self.answer_receive(h, Err(Refusal::Busy));
            }
            Act::Crash(h) => {
                self.left.crashes -= 1;
                self.crash(h);
            }
            Act::Restart(h) => self.restart(h),
            Act::Sail => self.sails(),
            Act::Break(clean) => {
                self.left.breaks -= 1;
                self.breaks(clean);
            }
            Act::Clean(h) => self.clean(h),
            Act::AnswerEarly => {
                self.left.breaks -= 1;
                if let Some(voyage) = self.voyage {
                    self.transfer_ends(voyage.from, Err(away()));
                }
            }
            Act::EndLying => {
                self.left.breaks -= 1;
                self.ends(Err(fault(FaultKind::Internal)));
            }
            Act::JobEnded(h) => self.feed(h, Input::JobEnded),
            Act::GuestDies(h) => {
                self.left.breaks -= 1;
                self.guest_dies(h);
            }
            Act::Reboot(h) => {
                self.left.breaks -= 1;
                self.reboots(h);
            }
            Act::Move(h, to) => self.moves(h, to),
            Act::Cancel(h) => {
                self.left.cancels -= 1;
                self.feed(h, Input::Cancel);
            }
            Act::Start(h) => {
                self.left.starts -= 1;
                if let Some(agent) = &mut self.hosts[h].agent {
                    agent.starting = true;
                }
            }
            Act::StartNow(h) => {
                if let Some(agent) = &mut self.hosts[h].agent {
                    agent.starting = false;
                }
                if index(&self.authority.owner) != h {
                    self.wrong = Some("a right to run was used by a host that does not own the machine");
                }
                if matches!(self.hosts[h].lv, Lv::Off | Lv::Departed) {
                    self.hosts[h].lv = Lv::Running;
                    // Its disk goes on: a guest that stands still elsewhere must never go on from what it remembers.
                    self.hosts.iter_mut().filter(|x| x.lv == Lv::Still).for_each(|x| x.lv = Lv::Doubt);
                }
            }
            Act::Resume(h) => {
                self.left.starts -= 1;
                if self.hosts[h].lv == Lv::Doubt {
                    self.wrong = Some("a guest went on here that had gone on elsewhere");
                }
                self.hosts[h].lv = Lv::Running;
            }
        }
    }
}
