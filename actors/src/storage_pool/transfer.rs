//! Tickets for the contents of volumes, and the task of an upload. The contents themselves go over HTTP: see [`crate::transfers`].

use super::{Pool, PoolActor, volume::Answer};
use crate::{
    ask::{Ask, ending},
    life::Posted,
    noun,
    scope::{SHORT, within},
    transfers::{Inlet, Receive, stoppable},
    work,
};
use actix::prelude::*;
use archipel_contract::{
    Bytes, Caller, Command, Fault, OperationId, Role,
    host::PoolChange,
    ticket::{Opens, VolumePass, VolumeWay},
    volume::*,
    work::Follower,
};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Handler<Posted<Ask<UploadVolume>>> for PoolActor {
    type Result = Answer<UploadVolume>;
    fn handle(&mut self, posted: Posted<Ask<UploadVolume>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.usable(UploadVolume::NAME));
        let offer = async move {
            let pool = entity?.name.clone();
            let UploadVolume { volume, proof, resume } = command;
            check_volume_name(&volume)?;
            let begun = within(SHORT, scope.host.volumes.begun(id, volume.clone())).await?;
            let bytes = match (resume, begun) {
                (false, _) => Bytes(0),
                (true, Some(bytes)) => bytes,
                (true, None) => return Err(Fault::not_found(format!("nothing is there of {volume}; begin anew without --resume"))),
            };
            let message = format!("send {volume} to {pool} from byte {} on", bytes.0);
            let opens = Opens::Volume(VolumePass { pool: id, volume, way: VolumeWay::Upload });
            let ticket = scope.tickets.issue(&scope.host.name, &caller.jid, proof, opens, message.clone())?;
            Ok(VolumeTicket { ticket, bytes, message })
        };
        Box::pin(offer.into_actor(self))
    }
}

impl Handler<Posted<Ask<DownloadVolume>>> for PoolActor {
    type Result = Answer<DownloadVolume>;
    fn handle(&mut self, posted: Posted<Ask<DownloadVolume>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.usable(DownloadVolume::NAME));
        let offer = async move {
            entity?;
            let DownloadVolume { volume, proof } = command;
            let record = within(SHORT, scope.host.volumes.read(id, volume.clone())).await?;
            // What is being written to cannot be fetched as one whole.
            within(SHORT, scope.host.volumes.landscape()).await?.check_quiet(&volume, &record.facts)?;
            let bytes = within(SHORT, scope.host.volumes.length(id, volume.clone())).await?;
            let message = format!("fetch {volume}, {bytes}");
            let opens = Opens::Volume(VolumePass { pool: id, volume, way: VolumeWay::Download });
            let ticket = scope.tickets.issue(&scope.host.name, &caller.jid, proof, opens, message.clone())?;
            Ok(VolumeTicket { ticket, bytes, message })
        };
        Box::pin(offer.into_actor(self))
    }
}

impl Handler<Posted<Receive>> for PoolActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<Receive>, _: &mut Self::Context) {
        let Some(Receive { person, spec, pieces, ended }) = posted.take() else { return };
        // Whoever sent it may have gone: the task tells it too.
        if let Err(fault) = self.usable(UploadVolume::NAME) {
            let _ = ended.send(Err(fault));
            return;
        }
        self.expect(&person);
        let (scope, id, name) = (self.scope().clone(), self.id(), spec.name.clone());
        let caller = Caller { jid: person.to_string(), role: Role::Admin, operation: OperationId::fresh() };
        let words = format!("taking {name}");
        let mine = scope.clone();
        let work = move |follower: Arc<dyn Follower>| async move {
            let (stop, stopped) = oneshot::channel();
            follower.on_cancel(Box::new(move || {
                // Whoever hands pieces on may have ended already.
                let _ = stop.send(());
            }));
            let source = Box::new(Inlet(stoppable(pieces, stopped)));
            let taken = mine.host.volumes.upload(id, spec.clone(), source, follower).await;
            noun::reported::<Pool>(&mine, id, PoolChange::Volumes);
            let outcome = match taken {
                Ok(()) => within(SHORT, mine.host.volumes.read(id, spec.name.clone())).await.map(|volume| match volume.facts.refused {
                    None => format!("{} is there", spec.name),
                    Some(why) => format!("{} is there and cannot be a disk: {why}", spec.name),
                }),
                Err(fault) => Err(fault),
            };
            let told = outcome.clone();
            let _ = ended.send(told);
            outcome
        };
        work::begin(&scope, id.into(), UploadVolume::NAME, &name, &caller, words, work);
    }
}
