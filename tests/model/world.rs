//! The world one machine moves in, small enough to visit every state of it: hosts with a libvirt and an agent each, the
//! authority, and messages that are lost, late, repeated and out of order.
//!
//! The rules are the real ones: `Ownership::step` decides at the authority and `Saga::step` at the source. Around them stands only
//! what they are told to rely on: how libvirt moves a guest (measured, see the fakes), what a target does when it shall receive, and that an
//! agent that dies begins again from what it had stored.

use archipel_actors::migration::saga::{Input, Output, Saga, Step};
use archipel_contract::{
    DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, MoveId, Ownership, domain::DomainState, migration::Standing,
};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use uuid::Uuid;

pub(crate) const MACHINE: DomainId = DomainId(Uuid::from_u128(1));

static NAMES: LazyLock<[HypervisorName; 3]> = LazyLock::new(|| ["a", "b", "c"].map(|n| n.parse().unwrap_or_else(|e| panic!("{e}"))));

pub(crate) fn name(host: usize) -> HypervisorName {
    NAMES[host].clone()
}

pub(crate) fn index(name: &HypervisorName) -> usize {
    usize::from(name.as_str().as_bytes()[0] - b'a')
}

pub(crate) fn move_id(number: u8) -> MoveId {
    MoveId(Uuid::from_u128(100 + u128::from(number)))
}

/// How the machine stands with one libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lv {
    Absent,
    Off,
    Departed,
    Running,
    /// Its guest is in memory and stands still: for the hand-over, or by somebody's wish.
    Still,
    /// The same, and libvirt does not know whether the guest has gone on over there; it has.
    Doubt,
    Arriving,
}

/// A transfer in libvirt's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Voyage {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) phase: Phase,
    /// The guest was paused before, and arrives paused.
    pub(crate) paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    Copying,
    HandOver,
    Crossed,
}

/// What an agent is doing about its move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// What is to be done next has not begun.
    Idle,
    /// A question is on the wire.
    Asked,
    /// libvirt works.
    Awaits,
}

/// A machine that shall be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inbound {
    pub(crate) order: Order,
    /// Whoever asked still waits.
    pub(crate) live: bool,
}

/// What one move says about itself to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    pub(crate) number: u8,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) epoch: u64,
    pub(crate) off: bool,
    pub(crate) autostart: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    pub(crate) doing: Doing,
    pub(crate) inbound: Option<Inbound>,
    /// The right to run was given out and libvirt has not yet started it.
    pub(crate) starting: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    pub(crate) lv: Lv,
    /// A definition that was here before it began to arrive.
    pub(crate) before: bool,
    pub(crate) autostart: bool,
    /// The agent's own disk says that it owns the machine: then it does not ask the cell before it starts it.
    pub(crate) holds: bool,
    /// Its agent, if it lives.
    pub(crate) agent: Option<Agent>,
    /// What the agent has stored: a move of its own, and a place for one that comes here.
    pub(crate) saga: Option<Saga>,
    pub(crate) place: Option<Order>,
}

/// What is on the wire. A request that nobody waits for any more is not `live`: it may still have its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// To another agent.
    Ask(Question, Order, bool),
    /// To the authority, by this host.
    Step(Change, Order, bool),
    /// Back to the source.
    Answer(usize, Word),
    /// Back to a target: whether it may claim, or has claimed.
    Found(Order, bool),
    Claimed(Order, bool),
    /// From a target, unasked: it has claimed it.
    Release(Order),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Question {
    Reserve,
    Standing,
    Receive,
    Unreserve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Change {
    Depart,
    Stay,
    Look,
    /// The target looks whether the machine is still on its way to it.
    Peek,
    Claim,
}

/// An answer on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Word {
    Reserved(bool),
    Departed(bool),
    Stayed(bool),
    Looked { epoch: u64, owner: usize, moving: Option<(u8, usize)> },
    Theirs(Lv, bool),
    Received(Result<(), Refusal>),
    Unreserved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Refusal {
    Busy,
    Never,
}

/// How much may still go wrong, and be wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    /// Losses, delays and repetitions of messages.
    pub(crate) wire: u8,
    pub(crate) crashes: u8,
    /// Breaks of libvirt, of guests and of hosts.
    pub(crate) breaks: u8,
    pub(crate) moves: u8,
    pub(crate) starts: u8,
    pub(crate) cancels: u8,
}

/// A rule that somebody forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    Nothing,
    /// The authority lets a target claim what its source has taken back.
    ClaimAfterStay,
    /// A transfer that libvirt called failed is believed to have failed.
    BelievesTheAnswer,
    /// A guest that is neither here nor known to be there is started here.
    StartsWhatIsNotKnown,
    /// The source keeps starting it with its host.
    NeverDisarms,
    /// The definition is discarded before the target has claimed the machine.
    DiscardsUnclaimed,
}

/// What the world keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    pub(crate) broken: Broken,
    /// What one host asks of the authority arrives in the order in which it was asked.
    pub(crate) ordered: bool,
}

impl Rules {
    fn bend(self, told: &Input, next: Saga) -> Saga {
        match (self.broken, told) {
            (Broken::BelievesTheAnswer, Input::Transferred(Err(_))) => next.step(Input::Own(Ok(Standing::Here(DomainState::Running)))).0,
            (Broken::DiscardsUnclaimed, Input::Transferred(Ok(()))) => Saga { step: Step::Releasing, ..next },
            (Broken::NeverDisarms, _) if next.step == Step::Disarming => {
                Saga { step: if next.off { Step::Asking { own: None } } else { Step::Transferring }, ..next }
            }
            _ => next,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) hosts: Vec<Host>,
    pub(crate) authority: Ownership,
    pub(crate) voyage: Option<Voyage>,
    pub(crate) wire: BTreeSet<Message>,
    pub(crate) left: Left,
    /// A rule that was broken by a step.
    pub(crate) wrong: Option<&'static str>,
}

pub(crate) fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, "x")
}

pub(crate) fn away() -> Fault {
    fault(FaultKind::Unavailable)
}

/// States that differ only in words are one state.
pub(crate) fn plain(mut saga: Saga) -> Saga {
    saga.fault = saga.fault.map(|f| fault(f.kind));
    saga.hindrance = saga.hindrance.map(|f| fault(f.kind));
    saga.tries = saga.tries.min(1);
    saga
}

impl World {
    pub(crate) fn new(lvs: &[Lv], left: Left, rules: Rules) -> World {
        let host = |(h, lv): (usize, &Lv)| Host {
            lv: *lv,
            before: false,
            autostart: h == 0,
            holds: h == 0,
            agent: Some(Agent { doing: Doing::Idle, inbound: None, starting: false }),
            saga: None,
            place: None,
        };
        World {
            rules,
            hosts: lvs.iter().enumerate().map(host).collect(),
            authority: Ownership::owned(MACHINE, Epoch(1), name(0)),
            voyage: None,
            wire: BTreeSet::new(),
            left,
            wrong: None,
        }
    }

    pub(crate) fn standing(&self, host: usize) -> Standing {
        stands(self.hosts[host].lv, self.voyage.is_some_and(|v| v.from == host))
    }

    pub(crate) fn executing(&self) -> usize {
        self.hosts.iter().filter(|h| h.lv == Lv::Running).count()
    }

    pub(crate) fn defined(&self) -> bool {
        self.hosts.iter().any(|h| !matches!(h.lv, Lv::Absent | Lv::Arriving) || h.before)
    }

    /// Whether this host's agent gives out the right to run: its own disk says that it owns it, or the cell says so.
    pub(crate) fn may_run(&self, host: usize) -> bool {
        self.hosts[host].holds || self.authority.right_to_run(&name(host)).is_some()
    }

    /// A move of this host that is not over.
    pub(crate) fn open(&self, host: usize) -> Option<&Saga> {
        self.hosts[host].saga.as_ref().filter(|s| !s.is_over())
    }

    pub(crate) fn order(&self, host: usize) -> Option<Order> {
        let saga = self.open(host)?;
        Some(Order {
            number: (saga.id.0.as_u128() - 100) as u8,
            from: host,
            to: index(&saga.to),
            epoch: saga.epoch.0,
            off: saga.off,
            autostart: saga.autostart,
        })
    }

    /// Whatever comes back for a question that is not asked any more goes to nobody; the request itself may still have its effect.
    pub(crate) fn forget_question(&mut self, host: usize) {
        let old = std::mem::take(&mut self.wire);
        self.wire = old
            .into_iter()
            .filter_map(|message| match message {
                Message::Answer(to, _) if to == host => None,
                Message::Ask(Question::Receive, order, _) if order.from == host => Some(Message::Ask(Question::Receive, order, false)),
                Message::Ask(_, order, _) if order.from == host => None,
                Message::Step(Change::Look, order, _) if order.from == host => None,
                Message::Step(change @ (Change::Depart | Change::Stay), order, _) if order.from == host => {
                    Some(Message::Step(change, order, false))
                }
                other => Some(other),
            })
            .collect();
        for h in &mut self.hosts {
            if let Some(inbound) = h.agent.as_mut().and_then(|a| a.inbound.as_mut()).filter(|i| i.order.from == host) {
                inbound.live = false;
            }
        }
    }

    /// The agent's move gets an input; the next state is stored and what is to be done begins anew.
    pub(crate) fn feed(&mut self, host: usize, input: Input) {
        let Some(saga) = self.open(host).cloned() else { return };
        let told = input.clone();
        let (next, outputs) = saga.step(input);
        let next = plain(self.rules.bend(&told, next));
        let restarted = told == Input::Restarted;
        let asks_anew = restarted || (&next.step, next.resting) != (&saga.step, saga.resting);
        let only_defined_there = matches!(told, Input::Theirs(Ok(Standing::Off(_) | Standing::Departed | Standing::Absent)));
        if only_defined_there && !next.claimed && self.hosts[host].lv == Lv::Still && matches!(next.step, Step::HandingOver { .. }) {
            self.wrong = Some("a guest was given away to a host that has only a definition of it");
        }
        self.hosts[host].saga = Some(next);
        if self.rules.broken == Broken::StartsWhatIsNotKnown && matches!(told, Input::Theirs(Err(_))) {
            self.hosts[host].lv = Lv::Running;
        }
        if asks_anew {
            self.forget_question(host);
            if let Some(agent) = &mut self.hosts[host].agent {
                agent.doing = Doing::Idle;
            }
        }
        if outputs.contains(&Output::Abort) {
            self.abort(host);
        }
    }

    /// libvirt gives a transfer up, if the guest is still here.
    pub(crate) fn abort(&mut self, host: usize) {
        if self.voyage.is_some_and(|v| v.from == host && v.phase != Phase::Crossed) {
            self.turn_back(true);
        }
    }

    /// A transfer fails before the hand-over: the guest runs on here, and what was received is removed at once or by and by.
    pub(crate) fn turn_back(&mut self, clean: bool) {
        let Some(voyage) = self.voyage.take() else { return };
        if self.hosts[voyage.from].lv == Lv::Still && !voyage.paused {
            self.hosts[voyage.from].lv = Lv::Running;
        }
        if clean {
            self.clean(voyage.to);
        }
        self.transfer_ends(voyage.from, Err(fault(FaultKind::Internal)));
    }

    pub(crate) fn clean(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        if host.lv == Lv::Arriving {
            host.lv = if std::mem::take(&mut host.before) { Lv::Off } else { Lv::Absent };
        }
    }

    /// The call that waits for the transfer answers, if somebody waits.
    pub(crate) fn transfer_ends(&mut self, host: usize, answer: Result<(), Fault>) {
        if self.hosts[host].agent.as_ref().is_some_and(|a| a.doing == Doing::Awaits) {
            let waits = self.open(host).and_then(Saga::work);
            match waits {
                Some(Output::Transfer) => self.feed(host, Input::Transferred(answer)),
                Some(Output::AwaitJob) => self.feed(host, Input::JobEnded),
                _ => {}
            }
        }
    }

    pub(crate) fn crash(&mut self, host: usize) {
        self.hosts[host].agent = None;
        self.forget_question(host);
        // What the authority answers to a dead target goes to nobody.
        self.wire.retain(|m| !matches!(m, Message::Claimed(order, _) | Message::Found(order, _) if order.to == host));
    }

    pub(crate) fn restart(&mut self, host: usize) {
        self.hosts[host].agent = Some(Agent { doing: Doing::Idle, inbound: None, starting: false });
        self.feed(host, Input::Restarted);
    }
}

pub(crate) fn stands(lv: Lv, leaving: bool) -> Standing {
    match lv {
        Lv::Absent => Standing::Absent,
        Lv::Off => Standing::Off(DomainState::Shutoff),
        Lv::Departed => Standing::Departed,
        Lv::Arriving => Standing::Arriving,
        Lv::Running | Lv::Still if leaving => Standing::Leaving,
        Lv::Running => Standing::Here(DomainState::Running),
        Lv::Still | Lv::Doubt => Standing::Here(DomainState::Paused),
    }
}

/// What the authority said, as the source hears it.
pub(crate) fn looked(epoch: u64, owner: usize, moving: Option<(u8, usize)>) -> Ownership {
    let hold = moving.map_or(Hold::Owned, |(number, to)| Hold::Moving { saga: move_id(number), to: name(to) });
    Ownership { domain: MACHINE, epoch: Epoch(epoch), owner: name(owner), hold }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (h, host) in self.hosts.iter().enumerate() {
            let life = host.agent.as_ref().map_or("dead".to_owned(), |a| format!("{:?}", a.doing));
            let saga = host.saga.as_ref().map(|s| (&s.step, s.resting, s.claimed, s.cancelled));
            write!(f, "{}: {:?} holds={} autostart={} {life} {saga:?}; ", name(h), host.lv, host.holds, host.autostart)?;
        }
        write!(
            f,
            "authority {} {} {:?}; {:?} {:?} {:?}",
            self.authority.owner, self.authority.epoch.0, self.authority.hold, self.voyage, self.wire, self.wrong
        )
    }
}
