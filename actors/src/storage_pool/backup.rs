//! The backups in a pool: listed, read through, brought back as new machines, deleted.

use super::{
    PoolActor,
    volume::{Answer, Plan, begin, look},
};
use crate::{
    ask::Ask,
    life::Posted,
    scope::{LONG, SHORT, Scope, within},
    users,
};
use actix::prelude::*;
use archipel_contract::{Bytes, Entity, Fault, FaultKind, PoolId, backup::*, command::Started, domain::check_name, host::Host};

/// The backups of a pool as people see them, oldest first; those that cannot be read at the end.
pub(crate) fn listed_backups(entity: &Entity, archive: &Archive) -> Vec<Backup> {
    let row = |name: &str, broken: Option<String>| Backup {
        id: format!("{}/{name}", entity.id.plain()),
        jid: entity.jid(),
        name: name.to_owned(),
        state: if broken.is_some() { "broken" } else { "whole" }.to_owned(),
        broken,
        host: entity.host.clone(),
        epoch: entity.epoch,
        seq: entity.seq,
        pool: entity.name.to_string(),
        machine: String::new(),
        uuid: None,
        kind: None,
        at: None,
        size: Bytes(0),
        parent: None,
        because: String::new(),
        quiesced: false,
        disks: Vec::new(),
        left_out: Vec::new(),
    };
    let read = archive.manifests.iter().map(|m| Backup {
        machine: m.machine.clone(),
        uuid: Some(m.uuid),
        kind: Some(m.kind),
        at: Some(m.at),
        size: m.size(),
        parent: m.parent.clone(),
        because: m.because.clone(),
        quiesced: m.quiesced,
        disks: m.disks.iter().map(|d| d.device.clone()).collect(),
        left_out: m.left_out.clone(),
        ..row(&m.name, archive.trouble(&m.name))
    });
    read.chain(archive.unreadable.iter().map(|(name, why)| row(name, Some(why.clone())))).collect()
}

impl Handler<Posted<Ask<ListBackups>>> for PoolActor {
    type Result = Answer<ListBackups>;
    fn handle(&mut self, posted: Posted<Ask<ListBackups>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, entity: &Entity, id, command: ListBackups| {
            let archive = within(SHORT, host.backups.archive(id)).await?;
            let wanted = |b: &Backup| match &command.machine {
                None => true,
                Some(machine) => b.machine == *machine || b.uuid.is_some_and(|id| id.to_string() == *machine),
            };
            Ok(listed_backups(entity, &archive).into_iter().filter(wanted).collect())
        })
    }
}

/// What a backup needs to be brought back, if all of it is there.
async fn chain(host: &Host, pool: PoolId, name: &str) -> Result<Vec<Manifest>, Fault> {
    let archive = within(SHORT, host.backups.archive(pool)).await?;
    archive.layers(name)?;
    Ok(archive.chain(name)?.into_iter().cloned().collect())
}

impl Handler<Posted<Ask<VerifyBackup>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<VerifyBackup>>, _: &mut Self::Context) -> Self::Result {
        begin(self, posted, |entity, command: VerifyBackup| {
            let name = command.backup;
            Ok(Plan {
                words: format!("reading {name} in {} through", entity.name),
                name: name.clone(),
                there: None,
                doing: Box::new(move |scope, id, follower| {
                    Box::pin(async move {
                        let host = &scope.host;
                        let chain = chain(host, id, &name).await?;
                        let count = chain.len();
                        host.backups.verify(id, chain, follower).await?;
                        Ok(match count {
                            1 => format!("{name} is what was written"),
                            _ => format!("{name} and the {} it builds on are what was written", count - 1),
                        })
                    })
                }),
            })
        })
    }
}

impl Handler<Posted<Ask<RestoreBackup>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<RestoreBackup>>, _: &mut Self::Context) -> Self::Result {
        let scope = self.scope().clone();
        begin(self, posted, |_, command: RestoreBackup| {
            check_name(&command.to)?;
            if scope.board.domain_named(&command.to).is_some() {
                let text = format!("a virtual machine named {} exists already; choose another name", command.to);
                return Err(Fault::new(FaultKind::Conflict, text));
            }
            let (name, to) = (command.backup, command.to);
            Ok(Plan {
                words: format!("making {to} from {name}"),
                name: name.clone(),
                there: command.into.clone(),
                doing: Box::new(move |scope, pool, follower| {
                    let now = scope.clock.now();
                    Box::pin(async move {
                        let host = &scope.host;
                        let chain = chain(host, pool, &name).await?;
                        let restore_as = RestoreAs::New(to.clone());
                        let disks = match chain.last() {
                            Some(newest) => users::of_backup(scope, newest, None).await?,
                            None => Vec::new(),
                        };
                        let order = RestoreOrder { pool, chain, into: command.into, restore_as, now };
                        let restored = host.backups.restore(order, disks, follower).await?;
                        Ok(format!("{to} is made from {name}, off, with a UUID and MACs of its own, on {}", restored.made.join(", ")))
                    })
                }),
            })
        })
    }
}

impl Handler<Posted<Ask<DeleteBackup>>> for PoolActor {
    type Result = Answer<DeleteBackup>;
    fn handle(&mut self, posted: Posted<Ask<DeleteBackup>>, _: &mut Self::Context) -> Self::Result {
        super::volume::change(self, posted, async |scope: &Scope, pool, command: DeleteBackup| {
            let host = &scope.host;
            let archive = within(SHORT, host.backups.archive(pool)).await?;
            let going: Vec<Manifest> = archive.going(&command.backup, command.with_later)?.into_iter().cloned().collect();
            let names: Vec<String> = going.iter().map(|m| m.name.clone()).collect();
            let proofs = users::of_backups(scope, pool, &archive, &going).await?;
            for (manifest, unused) in going.into_iter().zip(proofs) {
                within(LONG, host.backups.remove(pool, manifest, unused)).await?;
            }
            Ok(format!("deleted: {}", names.join(", ")))
        })
    }
}
