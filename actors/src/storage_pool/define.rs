//! A new storage pool on a hypervisor. What was asked for beside the definition is done in order; when a step fails, what was
//! defined is forgotten again, so that nothing half made is left.

use crate::{
    ask::{Ask, bare, ending},
    hypervisor::{HypervisorActor, facts},
    life::Posted,
    scope::{LONG, SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Fault, FaultKind, PoolId,
    hypervisor::HypervisorState,
    storage_pool::{DefinePool, DefinedPool},
};

impl Handler<Posted<Ask<DefinePool>>> for HypervisorActor {
    type Result = ResponseActFuture<Self, Result<DefinedPool, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<DefinePool>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let scope = self.scope().clone();
        let define = async move {
            let spec = command.spec()?;
            match facts(&scope) {
                Some((_, f)) if f.state == HypervisorState::Connected => {}
                _ => {
                    let host = &scope.host.name;
                    return Err(Fault::unavailable(format!("libvirt on {host} does not answer; define it when control is back")));
                }
            }
            let id = within(SHORT, scope.host.pools.define(spec)).await?;
            tracing::debug!(pool = %id, who = bare(&caller.jid), "defined a storage pool");
            if let Err(fault) = prepare(&scope, id, &command).await {
                // A step whose end nobody knows may have been taken: then the pool stays, to be looked at.
                if fault.kind != FaultKind::Timeout && fault.kind != FaultKind::Unavailable {
                    let undone = within(SHORT, scope.host.pools.undefine(id)).await;
                    if let Err(error) = undone {
                        tracing::warn!(pool = %id, %error, "a pool that could not be prepared stays defined");
                    }
                }
                return Err(fault);
            }
            let and =
                if command.start { "is defined and started" } else { "is defined; build it if its place is not there yet, and start it" };
            Ok(DefinedPool { id, message: format!("{} {and}", command.name) })
        };
        Box::pin(define.into_actor(self))
    }
}

async fn prepare(scope: &Scope, id: PoolId, command: &DefinePool) -> Result<(), Fault> {
    let pools = &scope.host.pools;
    if command.build {
        within(LONG, pools.build(id, false, Vec::new())).await?;
    }
    if command.autostart {
        within(SHORT, pools.set_autostart(id, true)).await?;
    }
    if command.start {
        within(LONG, pools.start(id)).await?;
    }
    Ok(())
}
