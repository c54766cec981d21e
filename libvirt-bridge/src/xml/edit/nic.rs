//! Network cards.

use super::{Change, Surroundings, absent, devices, devices_mut, taken};
use crate::xml::tree::Element;
use archipel_contract::{
    Bytes, Fault,
    domain::{AttachNic, SetNic, mac_of},
};

/// Whether a device is the card with that MAC.
pub(crate) fn is_card(device: &Element, mac: &str) -> bool {
    device.name == "interface" && device.of("mac", "address").eq_ignore_ascii_case(mac)
}

fn missing(mac: &str) -> Fault {
    absent(&format!("card {mac}"))
}

/// libvirt counts in KiB a second; nothing is rounded down to nothing.
fn limit(card: &mut Element, rate: Bytes) {
    if rate == Bytes(0) {
        return card.remove("bandwidth");
    }
    let bandwidth = card.ensure("bandwidth");
    for way in ["inbound", "outbound"] {
        bandwidth.ensure(way).set("average", rate.0.div_ceil(1024).to_string());
    }
}

/// Puts the card on a network, or on a bridge.
fn place(card: &mut Element, network: Option<&str>, bridge: Option<&str>) {
    let (kind, name) = match (network, bridge) {
        (Some(network), _) => ("network", network),
        (None, Some(bridge)) => ("bridge", bridge),
        (None, None) => return,
    };
    if card.attribute("type") == Some(kind) && card.of("source", kind) == name {
        return;
    }
    card.set("type", kind);
    // What another kind of source has, and which port libvirt gave it there.
    card.take(|e| matches!(e.name.as_str(), "virtualport" | "actual"));
    let source = card.ensure("source");
    source.attributes.clear();
    source.children.clear();
    source.set(kind, name);
}

pub(super) fn attach(root: &mut Element, ask: &AttachNic, with: &Surroundings) -> Result<Change, Fault> {
    let mac = match ask.mac.as_ref().or(with.mac.as_ref()) {
        Some(mac) => mac_of(mac)?,
        None => return Err(Fault::internal("a card without a MAC was asked for; please report this")),
    };
    if devices(root).any(|d| is_card(d, &mac)) {
        return Err(taken(format!("it has a card {mac} already; choose another MAC, or none")));
    }
    let mut card = Element::new("interface").with("type", "network").holding(Element::new("mac").with("address", mac.as_str()));
    place(&mut card, ask.network.as_deref(), ask.bridge.as_deref());
    card.append(Element::new("model").with("type", ask.model.as_deref().unwrap_or("virtio")));
    if let Some(filter) = &ask.filter {
        card.append(Element::new("filterref").with("filter", filter.as_str()));
    }
    if let Some(rate) = ask.bandwidth {
        limit(&mut card, rate);
    }
    if ask.link_down {
        card.append(Element::new("link").with("state", "down"));
    }
    root.ensure("devices").append_beside(card.clone());
    Ok(Change::of(&mac, card))
}

pub(super) fn detach(root: &mut Element, mac: &str) -> Result<Change, Fault> {
    let mac = mac_of(mac)?;
    let lists = root.elements_mut().filter(|e| e.name == "devices");
    let taken = lists.flat_map(|list| list.take(|d| is_card(d, &mac))).next();
    taken.map(|card| Change::of(&mac, card)).ok_or_else(|| missing(&mac))
}

pub(super) fn set(root: &mut Element, ask: &SetNic) -> Result<Change, Fault> {
    let mac = mac_of(&ask.mac)?;
    let Some(card) = devices_mut(root).find(|d| is_card(d, &mac)) else { return Err(missing(&mac)) };
    place(card, ask.network.as_deref(), ask.bridge.as_deref());
    if let Some(model) = &ask.model {
        let before = card.of("model", "type").to_owned();
        if before != *model {
            card.ensure("model").set("type", model.as_str());
            if before == "usb-net" || model == "usb-net" {
                card.remove("address");
            }
        }
    }
    match ask.filter.as_deref() {
        Some("") => card.remove("filterref"),
        Some(filter) => card.ensure("filterref").set("filter", filter),
        None => {}
    }
    if let Some(rate) = ask.bandwidth {
        limit(card, rate);
    }
    // A cable that nobody mentions is in.
    if let Some(link) = ask.link
        && (card.child("link").is_some() || link.name() != "up")
    {
        card.ensure("link").set("state", link.name());
    }
    Ok(Change::of(&mac, card.clone()))
}
