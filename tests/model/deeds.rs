//! What the things that can happen do to the world.

use crate::world::*;
use archipel_actors::migration::saga::{End, Input, Output, Saga};
use archipel_contract::{Epoch, FaultKind, Hold, Ownership, OwnershipStep, migration::Standing};

impl World {
    /// What the move says is next. Whatever is answered at once is answered if somebody lives to hear it.
    pub(crate) fn does(&mut self, h: usize, hears: bool) {
        let Some(saga) = self.open(h).cloned() else { return };
        let (Some(order), Some(work)) = (self.order(h), saga.work()) else { return };
        let answer = match work {
            Output::Reserve => return self.asks(h, Message::Ask(Question::Reserve, order, true)),
            Output::AskTarget => return self.asks(h, Message::Ask(Question::Standing, order, true)),
            Output::Receive => return self.asks(h, Message::Ask(Question::Receive, order, true)),
            Output::Unreserve => return self.asks(h, Message::Ask(Question::Unreserve, order, true)),
            Output::Depart => {
                // The own disk lets the right go before the cell is asked.
                self.hosts[h].holds = false;
                return self.asks(h, Message::Step(Change::Depart, order, true));
            }
            Output::Stay => return self.asks(h, Message::Step(Change::Stay, order, true)),
            Output::LookAtAuthority => return self.asks(h, Message::Step(Change::Look, order, true)),
            Output::Transfer => {
                let begun = self.transfer(h, order.to);
                if begun && hears {
                    if let Some(agent) = &mut self.hosts[h].agent {
                        agent.doing = Doing::Awaits;
                    }
                    return;
                }
                Input::Transferred(Err(fault(FaultKind::WrongState)))
            }
            Output::AwaitJob => {
                if let Some(agent) = &mut self.hosts[h].agent {
                    agent.doing = Doing::Awaits;
                }
                return;
            }
            Output::Disarm => {
                self.hosts[h].autostart = false;
                Input::Disarmed(Ok(()))
            }
            Output::Rearm => {
                self.hosts[h].autostart = !matches!(self.hosts[h].lv, Lv::Absent);
                Input::Rearmed(Ok(()))
            }
            Output::AskOwn => Input::Own(Ok(self.standing(h))),
            Output::Discard => Input::Discarded(match self.hosts[h].lv {
                Lv::Running | Lv::Still | Lv::Doubt | Lv::Arriving => Err(fault(FaultKind::WrongState)),
                Lv::Off | Lv::Departed | Lv::Absent => {
                    self.hosts[h].lv = Lv::Absent;
                    self.hosts[h].autostart = false;
                    Ok(())
                }
            }),
            // No post-copy in this world; pauses and words are no deeds.
            Output::Recover | Output::Rest(_) | Output::Abort | Output::Refuse(_) | Output::Tell(_) => return,
        };
        if hears {
            self.feed(h, answer);
        }
    }

    fn asks(&mut self, h: usize, message: Message) {
        if let Some(agent) = &mut self.hosts[h].agent {
            agent.doing = Doing::Asked;
            self.wire.insert(message);
        }
    }

    /// The answer to what is being done is a fault that says nothing.
    pub(crate) fn feed_fault(&mut self, h: usize) {
        let input = match self.open(h).and_then(Saga::work) {
            Some(Output::Reserve) => Input::Reserved(Err(away())),
            Some(Output::Depart) => Input::Departed(Err(away())),
            Some(Output::Disarm) => Input::Disarmed(Err(away())),
            Some(Output::Transfer) => Input::Transferred(Err(away())),
            Some(Output::AskOwn) => Input::Own(Err(away())),
            Some(Output::AskTarget) => Input::Theirs(Err(away())),
            Some(Output::Receive) => Input::Received(Err(away())),
            Some(Output::LookAtAuthority) => Input::Authority(Err(away())),
            Some(Output::Discard) => Input::Discarded(Err(away())),
            Some(Output::Stay) => Input::Stayed(Err(away())),
            Some(Output::Rearm) => Input::Rearmed(Err(away())),
            Some(Output::Unreserve) => Input::Unreserved(Err(away())),
            _ => return,
        };
        self.feed(h, input);
    }

    pub(crate) fn gives_up(&mut self, h: usize) {
        self.forget_question(h);
        self.feed_fault(h);
    }

    pub(crate) fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(Question::Reserve, order, live) => {
                let free = self.open(order.to).is_none();
                if free {
                    self.hosts[order.to].place = Some(order);
                }
                self.answer(live, order.from, Word::Reserved(free));
            }
            Message::Ask(Question::Standing, order, live) => {
                let leaving = self.voyage.is_some_and(|v| v.from == order.to);
                self.answer(live, order.from, Word::Theirs(self.hosts[order.to].lv, leaving));
            }
            Message::Ask(Question::Unreserve, order, live) => {
                if self.hosts[order.to].place == Some(order) {
                    self.hosts[order.to].place = None;
                }
                self.answer(live, order.from, Word::Unreserved);
            }
            Message::Ask(Question::Receive, order, live) => self.receives(order, live),
            Message::Step(change, order, live) => self.authority_hears(change, order, live),
            Message::Answer(h, word) => self.hears(h, word),
            Message::Found(order, on_its_way) => self.may_claim(order, on_its_way),
            Message::Claimed(order, done) => self.target_hears(order, done),
            Message::Release(order) => {
                if self.order(order.from).is_some_and(|o| o.number == order.number) {
                    self.feed(order.from, Input::Claimed);
                }
            }
        }
    }

    fn answer(&mut self, live: bool, to: usize, word: Word) {
        if live {
            self.wire.insert(Message::Answer(to, word));
        }
    }

    fn hears(&mut self, h: usize, word: Word) {
        let done = |yes: bool| if yes { Ok(()) } else { Err(fault(FaultKind::Conflict)) };
        let input = match word {
            Word::Reserved(yes) => Input::Reserved(done(yes)),
            Word::Departed(yes) => Input::Departed(done(yes)),
            Word::Stayed(yes) => {
                self.hosts[h].holds |= yes;
                Input::Stayed(done(yes))
            }
            Word::Looked { epoch, owner, moving } => Input::Authority(Ok(Some(looked(epoch, owner, moving)))),
            Word::Theirs(lv, leaving) => Input::Theirs(Ok(stands(lv, leaving))),
            Word::Received(Ok(())) => Input::Received(Ok(())),
            Word::Received(Err(Refusal::Busy)) => Input::Received(Err(fault(FaultKind::Busy))),
            Word::Received(Err(Refusal::Never)) => Input::Received(Err(fault(FaultKind::Conflict))),
            Word::Unreserved => Input::Unreserved(Ok(())),
        };
        self.feed(h, input);
    }

    /// A target takes what it is given. It looks whether the machine is still on its way hither, then it must have it, then it claims it.
    pub(crate) fn receives(&mut self, order: Order, live: bool) {
        let Some(agent) = &mut self.hosts[order.to].agent else { return };
        match &mut agent.inbound {
            Some(inbound) if inbound.order == order => inbound.live |= live,
            Some(_) => self.answer(live, order.from, Word::Received(Err(Refusal::Busy))),
            None => {
                agent.inbound = Some(Inbound { order, live });
                self.wire.insert(Message::Step(Change::Peek, order, true));
            }
        }
    }

    fn may_claim(&mut self, order: Order, on_its_way: bool) {
        let to = order.to;
        if self.hosts[to].agent.as_ref().and_then(|a| a.inbound).is_none_or(|i| i.order != order) {
            return;
        }
        let refusal = match self.standing(to) {
            _ if !on_its_way => Some(Refusal::Never),
            Standing::Absent if order.off => {
                self.hosts[to].lv = Lv::Off;
                None
            }
            Standing::Absent | Standing::Arriving => Some(Refusal::Busy),
            Standing::Here(_) | Standing::Leaving | Standing::Off(_) | Standing::Departed | Standing::Split => None,
        };
        match refusal {
            Some(refusal) => self.answer_receive(to, Err(refusal)),
            None => {
                self.wire.insert(Message::Step(Change::Claim, order, true));
            }
        }
    }

    fn authority_hears(&mut self, change: Change, order: Order, live: bool) {
        let (from, to, saga) = (name(order.from), name(order.to), move_id(order.number));
        let step = match change {
            Change::Look => {
                let moving = match &self.authority.hold {
                    Hold::Moving { saga, to } => Some(((saga.0.as_u128() - 100) as u8, index(to))),
                    _ => None,
                };
                let (epoch, owner) = (self.authority.epoch.0, index(&self.authority.owner));
                return self.answer(live, order.from, Word::Looked { epoch, owner, moving });
            }
            Change::Peek => {
                // Ours already, or on its way to us under that move.
                let mine = self.authority.owner == to && self.authority.epoch.0 > order.epoch;
                if live && mine {
                    self.wire.insert(Message::Claimed(order, true));
                } else if live {
                    let here = matches!(&self.authority.hold, Hold::Moving { saga: s, to: t } if *s == saga && *t == to);
                    self.wire.insert(Message::Found(order, here && self.authority.epoch.0 == order.epoch));
                }
                return;
            }
            Change::Depart => OwnershipStep::Depart { by: from, saga, to: to.clone() },
            Change::Stay => OwnershipStep::Stay { by: from, saga },
            Change::Claim => OwnershipStep::Claim { by: to.clone(), saga },
        };
        let mut result = self.authority.step(Epoch(order.epoch), &step);
        let after_stay = self.authority.epoch.0 == order.epoch && self.authority.hold == Hold::Owned;
        if self.rules.broken == Broken::ClaimAfterStay && change == Change::Claim && after_stay {
            result = Ok(Ownership::owned(MACHINE, Epoch(order.epoch + 1), to.clone()));
        }
        let done = result.is_ok();
        if let Ok(next) = result {
            let gave_up = |s: &Saga| s.id == saga && matches!(s.end(), Some(End::Stayed | End::Lost));
            if change == Change::Claim && self.hosts[order.from].saga.as_ref().is_some_and(gave_up) {
                self.wrong = Some("what was said to stay was claimed");
            }
            if next.epoch < self.authority.epoch || (next.owner != self.authority.owner && next.epoch == self.authority.epoch) {
                self.wrong = Some("an epoch did not grow");
            }
            self.authority = next;
        }
        match change {
            Change::Claim => {
                // It has claimed it before, and did not hear so.
                let mine = self.authority.owner == to && self.authority.epoch.0 > order.epoch;
                if live {
                    self.wire.insert(Message::Claimed(order, done || mine));
                }
            }
            Change::Depart => self.answer(live, order.from, Word::Departed(done)),
            _ => self.answer(live, order.from, Word::Stayed(done)),
        }
    }

    fn target_hears(&mut self, order: Order, done: bool) {
        let host = &mut self.hosts[order.to];
        if host.agent.as_ref().and_then(|a| a.inbound).is_none_or(|i| i.order != order) {
            return;
        }
        if done {
            host.autostart = order.autostart;
            host.holds = true;
            host.place = None;
            self.wire.insert(Message::Release(order));
        }
        self.answer_receive(order.to, if done { Ok(()) } else { Err(Refusal::Never) });
    }

    pub(crate) fn answer_receive(&mut self, target: usize, result: Result<(), Refusal>) {
        let inbound = self.hosts[target].agent.as_mut().and_then(|a| a.inbound.take());
        if let Some(inbound) = inbound {
            for yes in [true, false] {
                self.wire.remove(&Message::Claimed(inbound.order, yes));
                self.wire.remove(&Message::Found(inbound.order, yes));
            }
            self.wire.remove(&Message::Step(Change::Peek, inbound.order, true));
            if self.wire.remove(&Message::Step(Change::Claim, inbound.order, true)) {
                self.wire.insert(Message::Step(Change::Claim, inbound.order, false));
            }
            self.answer(inbound.live, inbound.order.from, Word::Received(result));
        }
    }

    /// libvirt begins a transfer, unless it refuses.
    fn transfer(&mut self, from: usize, to: usize) -> bool {
        let fits = self.voyage.is_none()
            && matches!(self.hosts[from].lv, Lv::Running | Lv::Still)
            && matches!(self.hosts[to].lv, Lv::Absent | Lv::Off | Lv::Departed);
        if fits {
            self.hosts[to].before = self.hosts[to].lv != Lv::Absent;
            self.hosts[to].lv = Lv::Arriving;
            self.voyage = Some(Voyage { from, to, phase: Phase::Copying, paused: self.hosts[from].lv == Lv::Still });
        }
        fits
    }

    pub(crate) fn sails(&mut self) {
        let Some(voyage) = self.voyage else { return };
        let phase = match voyage.phase {
            Phase::Copying => {
                self.hosts[voyage.from].lv = Lv::Still;
                Phase::HandOver
            }
            Phase::HandOver => {
                self.hosts[voyage.to].lv = if voyage.paused { Lv::Still } else { Lv::Running };
                self.hosts[voyage.to].before = false;
                Phase::Crossed
            }
            Phase::Crossed => return self.ends(Ok(())),
        };
        self.voyage = Some(Voyage { phase, ..voyage });
    }

    pub(crate) fn ends(&mut self, answer: Result<(), archipel_contract::Fault>) {
        let Some(voyage) = self.voyage.take() else { return };
        self.hosts[voyage.from].lv = Lv::Departed;
        self.transfer_ends(voyage.from, answer);
    }

    pub(crate) fn breaks(&mut self, clean: bool) {
        match self.voyage {
            // The source does not know whether it runs over there, and lets it stand still.
            Some(Voyage { from, phase: Phase::Crossed, paused, .. }) => {
                self.voyage = None;
                if !paused {
                    self.hosts[from].lv = Lv::Doubt;
                }
                self.transfer_ends(from, Err(away()));
            }
            _ => self.turn_back(clean),
        }
    }

    pub(crate) fn guest_dies(&mut self, h: usize) {
        self.hosts[h].lv = Lv::Off;
        if let Some(voyage) = self.voyage.filter(|v| v.from == h && v.phase == Phase::Copying) {
            self.voyage = None;
            self.clean(voyage.to);
            self.transfer_ends(h, Err(fault(FaultKind::Internal)));
        }
    }

    pub(crate) fn reboots(&mut self, h: usize) {
        if self.hosts[h].agent.is_some() {
            self.crash(h);
        }
        if matches!(self.hosts[h].lv, Lv::Running | Lv::Still | Lv::Doubt) {
            self.hosts[h].lv = Lv::Off;
        }
        self.clean(h);
        match self.voyage {
            Some(v) if v.from == h => {
                self.voyage = None;
                self.clean(v.to);
            }
            Some(v) if v.to == h && v.phase == Phase::Crossed => self.ends(Ok(())),
            Some(v) if v.to == h => self.turn_back(true),
            _ => {}
        }
        // libvirt starts what shall start with its host. It asks nobody.
        if self.hosts[h].autostart && matches!(self.hosts[h].lv, Lv::Off | Lv::Departed) {
            self.hosts[h].lv = Lv::Running;
        }
    }

    pub(crate) fn moves(&mut self, h: usize, to: usize) {
        self.left.moves -= 1;
        let host = &mut self.hosts[h];
        let id = move_id(self.left.moves);
        let off = host.lv == Lv::Off;
        let saga = Saga::new(id, MACHINE, name(h), name(to), self.authority.epoch, off, host.autostart);
        host.saga = Some(plain(Saga { paused: host.lv == Lv::Still, ..saga }));
        if let Some(agent) = &mut host.agent {
            agent.doing = Doing::Idle;
        }
    }

    /// A host that starts its machines by itself asks nobody; this is then alarmed and not repaired.
    fn started_by_its_host(&self) -> bool {
        false
    }

    /// What is left to do when nothing goes wrong any more is done, in turn. Answers why it does not end, if it does not.
    pub(crate) fn smooth(&self) -> Result<World, Box<(&'static str, World)>> {
        let mut world = self.clone();
        world.left = Left { wire: 0, crashes: 0, breaks: 0, moves: 0, starts: 0, cancels: 0 };
        let mut acts = Vec::new();
        for turn in 0..600 {
            acts.clear();
            world.acts(&mut acts);
            acts.retain(|a| a.is_smooth());
            if acts.is_empty() {
                break;
            }
            world.act(acts[turn % acts.len()]);
        }
        let owner = index(&world.authority.owner);
        let why = if !acts.is_empty() {
            "it never ends"
        } else if (0..world.hosts.len()).any(|h| world.open(h).is_some()) {
            "a move hangs"
        } else if world.authority.hold != Hold::Owned && !matches!(world.hosts[owner].lv, Lv::Running | Lv::Still | Lv::Off) {
            // Whoever finds its guest or its definition with itself, and no move of its own, says that it stays when it is used next.
            "nobody may ever run it again"
        } else if matches!(world.hosts[owner].lv, Lv::Absent | Lv::Arriving) {
            "its owner does not have it"
        } else if world.executing() > 1 {
            "it runs twice"
        } else if world.executing() == 1 && world.hosts[owner].lv != Lv::Running && !self.started_by_its_host() {
            "it runs where it is not owned"
        } else {
            return Ok(world);
        };
        Err(Box::new((why, world)))
    }
}
