//! The actor of one virtual network: what a network is to the [`crate::noun`] actor, and its commands.

use crate::{
    ask::Ask,
    board::Draft,
    life::Posted,
    noun::{Noun, NounActor, Topics},
    scope::{LONG, SHORT, within},
};
use actix::prelude::*;
use archipel_contract::{
    BoxFuture, Condition, Entity, Epoch, Facts, Fault, NetworkId, Verdict,
    command::Done,
    host::{Host, NetworkChange},
    network::*,
};

/// A network.
pub enum Network {}

/// The actor of one network.
pub type NetworkActor = NounActor<Network>;

impl Noun for Network {
    type Id = NetworkId;
    type Record = NetworkRecord;
    type Change = NetworkChange;
    const WORD: &'static str = "network";
    const TOPICS: Topics = Topics { added: "network.added", changed: "network.changed", undefined: "network.undefined" };
    const AGAIN: NetworkChange = NetworkChange::Defined;

    fn read(host: &Host, id: NetworkId) -> BoxFuture<'_, Result<NetworkRecord, Fault>> {
        host.networks.read(id)
    }
    fn id(record: &NetworkRecord) -> NetworkId {
        record.id
    }
    fn draft(record: NetworkRecord) -> Draft {
        Draft::new(record.name, Epoch(0), Facts::Network(record.facts))
    }
    fn topic(before: &Entity, after: &Facts) -> &'static str {
        match (&before.facts, after) {
            (Facts::Network(old), Facts::Network(new)) if before.condition == Condition::Ok && old.state != new.state => match new.state {
                NetworkState::Active => "network.started",
                NetworkState::Inactive => "network.stopped",
            },
            _ => Self::TOPICS.changed,
        }
    }
    fn may(command: &str, facts: &Facts) -> Verdict {
        if let Facts::Network(facts) = facts { may(command, facts) } else { Verdict::Allowed }
    }
    fn begins(change: &NetworkChange) -> bool {
        *change != NetworkChange::Undefined
    }
}

impl Handler<Posted<Ask<ShowNetwork>>> for NetworkActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.show()
    }
}

impl Handler<Posted<Ask<StartNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StartNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| within(LONG, host.networks.start(id)).await.map(|()| "is active"))
    }
}

impl Handler<Posted<Ask<StopNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StopNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| within(LONG, host.networks.stop(id)).await.map(|()| "is not active any more"))
    }
}

impl Handler<Posted<Ask<AutostartNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AutostartNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, command: AutostartNetwork| {
            within(SHORT, host.networks.set_autostart(id, command.enabled)).await?;
            Ok(if command.enabled { "starts with its host" } else { "does not start with its host" })
        })
    }
}
