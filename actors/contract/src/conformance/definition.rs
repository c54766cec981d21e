//! What every hypervisor must do with edits of a definition: make the one change, say when it applies, refuse the rest whole.

use super::{
    alone,
    host::{kind_of, right, spec},
};
use crate::{Bytes, DomainId, FaultKind, domain::*, host::Host, volume::Need, work::Unfollowed};
use std::sync::Arc;

const MAC: &str = "52:54:00:c0:4f:01";

fn card(mac: &str) -> Edit {
    Edit::AttachNic(AttachNic { network: Some("default".into()), mac: Some(mac.into()), ..AttachNic::default() })
}

async fn has(host: &Host, id: DomainId, name: &str) -> Option<Applies> {
    let devices = host.definitions.devices(id).await.expect("devices");
    devices.into_iter().find(|d| d.name == name).map(|d| d.applies)
}

/// Edits of a machine that is off: each is seen when it is read, applies at the next boot, and applies once.
pub async fn edits_of_a_machine_that_is_off(host: &Host, tag: &str) {
    let id = host.domains.define(spec(&format!("edits-{tag}")), Vec::new()).await.expect("define");
    let other = host.domains.define(spec(&format!("edits-too-{tag}")), Vec::new()).await.expect("define the other");
    let edits = &host.definitions;

    let ask = || Edit::Vcpus(SetVcpus { vcpus: Some(2), ..SetVcpus::default() });
    let applied = edits.edit(id, ask(), When::Both, None).await.expect("vcpus");
    assert_eq!(applied.applies, Applies::NextBoot);
    assert_ne!(applied.before, applied.after, "the definition is told before and after");
    assert_eq!(host.domains.read(id).await.expect("read").facts.vcpus, 2);
    assert_eq!(edits.edit(id, ask(), When::Both, None).await.expect("vcpus again").applies, Applies::Nothing);
    assert_eq!(kind_of(edits.edit(id, ask(), When::Now, None).await), FaultKind::WrongState, "nothing can change now while it is off");

    let ask = Edit::Memory(SetMemory { memory: Some(Bytes::mib(32)), ..SetMemory::default() });
    edits.edit(id, ask, When::NextBoot, None).await.expect("memory");
    assert_eq!(host.domains.read(id).await.expect("read").facts.memory, Bytes::mib(32));

    let applied = edits.edit(id, card(MAC), When::Both, None).await.expect("a card");
    assert_eq!((applied.applies, applied.device.as_deref()), (Applies::NextBoot, Some(MAC)));
    assert_eq!(has(host, id, MAC).await, Some(Applies::NextBoot));
    let owner = edits.owner_of_mac(MAC.to_uppercase(), None).await.expect("owner");
    assert_eq!(owner.as_deref(), Some(&*format!("edits-{tag}")));
    assert_eq!(edits.owner_of_mac(MAC.into(), Some(id)).await.expect("owner"), None);
    assert_eq!(kind_of(edits.edit(id, card(MAC), When::Both, None).await), FaultKind::Conflict, "it has that card already");

    let applied =
        edits.edit(id, Edit::AttachNic(AttachNic { network: Some("default".into()), ..AttachNic::default() }), When::Both, None).await;
    let made_up = applied.expect("a card without a MAC").device.expect("it is named");
    assert!(made_up.starts_with("52:54:00:") && made_up != MAC, "{made_up}");

    let gone = Edit::DetachNic(DetachNic { mac: MAC.into(), when: When::Both });
    edits.edit(id, gone.clone(), When::Both, None).await.expect("the card goes");
    assert_eq!(has(host, id, MAC).await, None);
    assert_eq!(kind_of(edits.edit(id, gone, When::Both, None).await), FaultKind::NotFound);
    let disk = Edit::DetachDisk(DetachDisk { disk: "vdz".into(), when: When::Both });
    assert_eq!(kind_of(edits.edit(id, disk, When::Both, None).await), FaultKind::NotFound);
    let nowhere = AttachDisk { volume: "default/no such volume".into(), ..AttachDisk::default() };
    assert_eq!(kind_of(edits.edit(id, Edit::AttachDisk(nowhere), When::Both, None).await), FaultKind::NotFound);

    let share = |directory: &str| {
        Edit::AttachFilesystem(AttachFilesystem { directory: directory.into(), tag: "t".into(), ..AttachFilesystem::default() })
    };
    assert_eq!(kind_of(edits.edit(id, share("/etc"), When::Both, None).await), FaultKind::Forbidden, "no host lists it");
    let unshare = Edit::DetachFilesystem(DetachFilesystem { tag: "t".into(), when: When::Both });
    assert_eq!(kind_of(edits.edit(id, unshare, When::Both, None).await), FaultKind::NotFound);

    let text = host.domains.xml(other, true).await.expect("xml");
    assert_eq!(kind_of(edits.replace(id, text, Vec::new()).await), FaultKind::InvalidRequest, "a definition of another machine");
    host.domains.undefine(id).await.expect("undefine");
    host.domains.undefine(other).await.expect("undefine the other");
}

/// A machine is defined that is like another: another machine, with a card of its own, off, and no template though its original is one.
pub async fn a_machine_like_another(host: &Host, tag: &str) {
    let id = host.domains.define(spec(&format!("like-{tag}")), Vec::new()).await.expect("define");
    let edits = &host.definitions;
    assert_eq!(edits.edit(id, Edit::Template(true), When::NextBoot, None).await.expect("a template").applies, Applies::NextBoot);
    assert!(host.domains.read(id).await.expect("read").facts.template);
    assert_eq!(edits.edit(id, Edit::Template(true), When::NextBoot, None).await.expect("again").applies, Applies::Nothing);
    let likeness = || Likeness { name: format!("likened-{tag}"), disks: Vec::new(), note: Some("a copy".into()) };
    let made = edits.liken(id, likeness()).await.expect("liken").id;
    assert_ne!(made, id);
    let read = host.domains.read(made).await.expect("read");
    assert_eq!((&*read.name, read.facts.note.as_deref(), read.facts.template), (&*format!("likened-{tag}"), Some("a copy"), false));
    assert!(!read.facts.state.is_active() && read.facts.persistent);
    assert_eq!(kind_of(edits.liken(id, likeness()).await), FaultKind::Conflict, "a name is taken once");
    assert_eq!(edits.edit(id, Edit::Template(false), When::NextBoot, None).await.expect("no template").applies, Applies::NextBoot);
    assert!(!host.domains.read(id).await.expect("read").facts.template);
    host.domains.undefine(made).await.expect("undefine the copy");
    host.domains.undefine(id).await.expect("undefine");
    assert_eq!(kind_of(edits.liken(id, likeness()).await), FaultKind::NotFound);
}

/// A machine nobody has answers every edit with `not-found`.
pub async fn edits_of_an_unknown_machine(host: &Host) {
    let id = DomainId(uuid::Uuid::from_u128(0xdead_beef_0000_4000_8000_0000_0000_0002));
    let edits = &host.definitions;
    assert_eq!(kind_of(edits.devices(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(edits.edit(id, card(MAC), When::Both, None).await), FaultKind::NotFound);
    assert_eq!(kind_of(edits.resize_disk(id, "vda".into(), Bytes::GIB, alone("/nowhere", Need::Still)).await), FaultKind::NotFound);
    assert_eq!(
        kind_of(edits.commit_disk(id, "vda".into(), alone("/nowhere", Need::Sole), Arc::new(Unfollowed)).await),
        FaultKind::NotFound
    );
    assert_eq!(
        kind_of(edits.replace(id, format!("<domain><name>x</name><uuid>{id}</uuid></domain>"), Vec::new()).await),
        FaultKind::NotFound
    );
}

/// An edit of a running machine says that it applies now too, and what the guest cannot be given waits for the next boot.
pub async fn edits_of_a_machine_that_runs(host: &Host, tag: &str) {
    let id = host.domains.define(spec(&format!("hot-{tag}")), Vec::new()).await.expect("define");
    let edits = &host.definitions;
    host.domains.start(right(host, id), false).await.expect("start");
    let ask = |memory| Edit::Memory(SetMemory { memory: Some(memory), ..SetMemory::default() });
    let applied = edits.edit(id, ask(Bytes::mib(8)), When::NextBoot, None).await.expect("memory at the next boot");
    assert_eq!(applied.applies, Applies::NextBoot);
    host.domains.force_off(id).await.expect("force-off");
    host.domains.undefine(id).await.expect("undefine");
}
