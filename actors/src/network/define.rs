//! A new network on a hypervisor, and what the hypervisor has for networks. When what was asked for beside the definition fails, what was
//! defined is forgotten again, so that nothing half made is left.

use crate::{
    ask::{Ask, bare, ending},
    hypervisor::{HypervisorActor, facts},
    life::Posted,
    scope::{LONG, SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Command, Fault, FaultKind, NetworkId,
    command::Document,
    hypervisor::HypervisorState,
    network::{DefineNetwork, DefinedNetwork, HostInterface, ListFilters, ListInterfaces, NetworkFilter, ShowFilterXml},
};
use std::rc::Rc;

pub(crate) type Answer<C> = ResponseActFuture<HypervisorActor, Result<<C as Command>::Reply, Fault>>;

/// Does something with a hypervisor that is under control.
pub(crate) fn with<C, F>(actor: &HypervisorActor, posted: Posted<Ask<C>>, work: F) -> Answer<C>
where
    C: Command,
    F: AsyncFnOnce(&Rc<Scope>, Ask<C>) -> Result<C::Reply, Fault> + 'static,
{
    let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
    let scope = actor.scope().clone();
    let work = async move {
        match facts(&scope) {
            Some((_, f)) if f.state == HypervisorState::Connected => work(&scope, ask).await,
            _ => {
                let host = &scope.host.name;
                Err(Fault::unavailable(format!("libvirt on {host} does not answer; ask again when control is back")))
            }
        }
    };
    Box::pin(work.into_actor(actor))
}

impl Handler<Posted<Ask<DefineNetwork>>> for HypervisorActor {
    type Result = Answer<DefineNetwork>;
    fn handle(&mut self, posted: Posted<Ask<DefineNetwork>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, Ask { command, caller }: Ask<DefineNetwork>| {
            let id = within(SHORT, scope.host.networks.define(command.spec()?)).await?;
            tracing::debug!(network = %id, who = bare(&caller.jid), "defined a network");
            if let Err(fault) = prepare(scope, id, &command).await {
                // A step whose end nobody knows may have been taken: then the network stays, to be looked at.
                if fault.kind != FaultKind::Timeout && fault.kind != FaultKind::Unavailable {
                    let undone = within(LONG, scope.host.networks.undefine(id)).await;
                    if let Err(error) = undone {
                        tracing::warn!(network = %id, %error, "a network that could not be prepared stays defined");
                    }
                }
                return Err(fault);
            }
            let and = if command.start { "is defined and active" } else { "is defined; start it to use it" };
            Ok(DefinedNetwork { id, message: format!("{} {and}", command.name) })
        })
    }
}

async fn prepare(scope: &Scope, id: NetworkId, command: &DefineNetwork) -> Result<(), Fault> {
    if command.autostart {
        within(SHORT, scope.host.networks.set_autostart(id, true)).await?;
    }
    if command.start {
        within(LONG, scope.host.networks.start(id)).await?;
    }
    Ok(())
}

impl Handler<Posted<Ask<ListInterfaces>>> for HypervisorActor {
    type Result = Answer<ListInterfaces>;
    fn handle(&mut self, posted: Posted<Ask<ListInterfaces>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, ask: Ask<ListInterfaces>| {
            let mut found: Vec<HostInterface> = within(SHORT, scope.host.networks.interfaces()).await?;
            found.retain(|i| ask.command.kind.as_ref().is_none_or(|kind| i.kind == *kind));
            Ok(found)
        })
    }
}

impl Handler<Posted<Ask<ListFilters>>> for HypervisorActor {
    type Result = Answer<ListFilters>;
    fn handle(&mut self, posted: Posted<Ask<ListFilters>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, _: Ask<ListFilters>| -> Result<Vec<NetworkFilter>, Fault> {
            within(SHORT, scope.host.networks.filters()).await
        })
    }
}

impl Handler<Posted<Ask<ShowFilterXml>>> for HypervisorActor {
    type Result = Answer<ShowFilterXml>;
    fn handle(&mut self, posted: Posted<Ask<ShowFilterXml>>, _: &mut Self::Context) -> Self::Result {
        with(self, posted, async |scope: &Rc<Scope>, ask: Ask<ShowFilterXml>| {
            let text = within(SHORT, scope.host.networks.filter_xml(ask.command.nwfilter)).await?;
            Ok(Document { media_type: "application/xml".to_owned(), text })
        })
    }
}
