//! Defining a machine that is like another; what may differ and must is decided in [`crate::xml::likeness`].

use super::{define, fresh_mac, present};
use crate::{
    connection::{Session, Trouble},
    count::ask,
    domain::conflict,
    xml::{
        likeness::{self, Own},
        tree::write,
    },
};
use archipel_contract::{
    DomainId, Fault,
    domain::{Likened, Likeness},
};
use uuid::Uuid;

pub(super) fn make(session: &Session, id: DomainId, wanted: &Likeness) -> Result<Likened, Trouble> {
    let original = present(session, id)?;
    let name = original.domain.name()?;
    if original.live.is_some() {
        return Err(Fault::wrong_state(format!("{name} was started meanwhile; shut it down first")).into());
    }
    let Some(config) = &original.config else {
        return Err(Fault::wrong_state(format!("{name} has no definition that stays; define it first")).into());
    };
    if ask(|| session.connect.lookup_domain_by_name(&wanted.name)).is_ok() {
        return Err(conflict(&wanted.name).into());
    }
    let mut disks = Vec::with_capacity(wanted.disks.len());
    for (device, pool, volume) in &wanted.disks {
        disks.push((device.clone(), session.volume_for_disk(pool, volume)?));
    }
    let mut macs: Vec<String> = Vec::new();
    while macs.len() < likeness::cards(config) {
        // Two that were made up one after the other may be the same one.
        let mac = fresh_mac(&session.connect)?;
        if !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    let own = Own {
        id: DomainId(Uuid::new_v4()),
        name: &wanted.name,
        note: wanted.note.as_deref(),
        disks: &disks,
        generation: Uuid::new_v4(),
        macs: &macs,
    };
    let (root, remarks) = likeness::of(config, &own)?;
    define(session, &write(&root), false)?;
    Ok(Likened { id: own.id, remarks })
}
