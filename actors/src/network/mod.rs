//! The actor of one virtual network: what a network is to the [`crate::noun`] actor, and its commands. Defining one, and
//! what the host has for networks, is in `define`.

pub(crate) mod define;

use crate::{
    ask::{Ask, ending},
    board::Draft,
    life::Posted,
    noun::{Noun, NounActor, Topics},
    scope::{LONG, SHORT, within},
};
use actix::prelude::*;
use archipel_contract::{
    BoxFuture, Command, Condition, Entity, Epoch, Facts, Fault, NetworkId, Verdict,
    command::{Document, Done},
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

impl Handler<Posted<Ask<UndefineNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<UndefineNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| within(LONG, host.networks.undefine(id)).await.map(|()| "is forgotten"))
    }
}

impl Handler<Posted<Ask<AddHost>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AddHost>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, AddHost { mac, address, name }| {
            within(SHORT, host.networks.add_host(id, StaticHost { mac, address, name })).await.map(|()| "gives it that address from now on")
        })
    }
}

impl Handler<Posted<Ask<RemoveHost>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<RemoveHost>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, command: RemoveHost| {
            within(SHORT, host.networks.remove_host(id, command.which)).await.map(|()| "gives it any address again")
        })
    }
}

type Answer<C> = ResponseActFuture<NetworkActor, Result<<C as Command>::Reply, Fault>>;

/// Looks at something of the network.
fn look<C, F>(actor: &NetworkActor, posted: Posted<Ask<C>>, work: F) -> Answer<C>
where
    C: Command,
    F: AsyncFnOnce(&Host, NetworkId, C) -> Result<C::Reply, Fault> + 'static,
{
    let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
    let (scope, id, usable) = (actor.scope().clone(), actor.id(), actor.usable(C::NAME));
    let look = async move {
        usable?;
        work(&scope.host, id, ask.command).await
    };
    Box::pin(look.into_actor(actor))
}

impl Handler<Posted<Ask<ShowNetworkXml>>> for NetworkActor {
    type Result = Answer<ShowNetworkXml>;
    fn handle(&mut self, posted: Posted<Ask<ShowNetworkXml>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, id, command: ShowNetworkXml| {
            let text = within(SHORT, host.networks.xml(id, command.inactive)).await?;
            Ok(Document { media_type: "application/xml".to_owned(), text })
        })
    }
}

impl Handler<Posted<Ask<ListLeases>>> for NetworkActor {
    type Result = Answer<ListLeases>;
    fn handle(&mut self, posted: Posted<Ask<ListLeases>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, id, _| within(SHORT, host.networks.leases(id)).await)
    }
}

impl Handler<Posted<Ask<ListAttached>>> for NetworkActor {
    type Result = Answer<ListAttached>;
    fn handle(&mut self, posted: Posted<Ask<ListAttached>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, id, _| within(SHORT, host.networks.attached(id)).await)
    }
}

impl Handler<Posted<Ask<ListHosts>>> for NetworkActor {
    type Result = Answer<ListHosts>;
    fn handle(&mut self, posted: Posted<Ask<ListHosts>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, id, _| within(SHORT, host.networks.hosts(id)).await)
    }
}

impl Handler<Posted<Ask<ListNames>>> for NetworkActor {
    type Result = Answer<ListNames>;
    fn handle(&mut self, posted: Posted<Ask<ListNames>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, id, _| within(SHORT, host.networks.names(id)).await)
    }
}

impl Handler<Posted<Ask<AddName>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AddName>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, AddName { name, value, kind }| {
            within(SHORT, host.networks.add_name(id, DnsName { kind, name, value })).await.map(|()| "answers that name from now on")
        })
    }
}

impl Handler<Posted<Ask<RemoveName>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<RemoveName>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, which: RemoveName| {
            within(SHORT, host.networks.remove_name(id, which)).await.map(|()| "answers that name no more")
        })
    }
}

impl Handler<Posted<Ask<SetRange>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<SetRange>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, range: SetRange| {
            within(SHORT, host.networks.set_range(id, range)).await.map(|()| "gives out these addresses from now on")
        })
    }
}
