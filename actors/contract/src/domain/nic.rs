//! The network cards of a machine: how they are attached, changed and detached. Pure.
//!
//! A card is named by its MAC, which no other machine of the cell has.

use super::edit::*;
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Give a machine another network card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttachNic {
    /// The network it is on.
    pub network: Option<String>,
    /// The host's bridge it is on, instead of a network.
    pub bridge: Option<String>,
    /// Its model; virtio without it.
    pub model: Option<String>,
    /// Its MAC; without it a new one that nobody has.
    pub mac: Option<String>,
    /// The filter its traffic goes through.
    pub filter: Option<String>,
    /// Most bytes in a second, each way, for example 10MiB.
    pub bandwidth: Option<Bytes>,
    /// Whether its cable is out.
    pub link_down: bool,
    /// When it applies.
    pub when: When,
}
editing!(AttachNic, "domain.attach-nic", Change, AttachNic);

/// Take a network card from a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachNic {
    /// Which one: its MAC.
    pub mac: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(DetachNic, "domain.detach-nic", Destroy, DetachNic);

/// Whether a card's cable is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is in.
    Up,
    /// It is out.
    Down,
}

impl LinkState {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Up => "up",
            LinkState::Down => "down",
        }
    }
}

/// Change a network card: its cable, its network, its filter, its bandwidth. Its model changes at the next boot only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetNic {
    /// Which one: its MAC.
    pub mac: String,
    /// Whether its cable is in.
    #[serde(default)]
    pub link: Option<LinkState>,
    /// The network it is on.
    #[serde(default)]
    pub network: Option<String>,
    /// The host's bridge it is on, instead of a network.
    #[serde(default)]
    pub bridge: Option<String>,
    /// Its model, for example virtio or e1000.
    #[serde(default)]
    pub model: Option<String>,
    /// The filter its traffic goes through; empty for none.
    #[serde(default)]
    pub filter: Option<String>,
    /// Most bytes in a second, each way, for example 10MiB; 0 for no limit.
    #[serde(default)]
    pub bandwidth: Option<Bytes>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(SetNic, "domain.set-nic", Change, SetNic);

/// Say which virtual machine of a host has a network card with a MAC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindMac {
    /// The MAC.
    pub mac: String,
}
declare!(FindMac, "hypervisor.find-mac", Read, Viewer, Hypervisor, MacOwner);

/// Who has a MAC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MacOwner {
    /// The MAC, as libvirt writes it.
    pub mac: String,
    /// The machine that has it; none when nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

// ---------------------------------------------------------------- checks

/// A MAC as libvirt writes it: six pairs of lower-case digits; of one machine only, so not one for groups.
pub fn mac_of(text: &str) -> Result<String, Fault> {
    let mac = text.trim().to_ascii_lowercase();
    let bytes: Vec<u8> =
        mac.split(':').filter(|p| p.len() == 2 && !p.starts_with('+')).filter_map(|p| u8::from_str_radix(p, 16).ok()).collect();
    if bytes.len() != 6 || mac.len() != 17 {
        return Err(Fault::invalid(format!("{:?} is not a MAC such as 52:54:00:12:34:56", text.chars().take(80).collect::<String>())));
    }
    if bytes[0] & 1 == 1 || bytes.iter().all(|b| *b == 0) {
        return Err(Fault::invalid(format!("{mac} cannot be the MAC of one card: it is for groups or for nobody; use 52:54:00:...")));
    }
    Ok(mac)
}

fn check_place(network: Option<&String>, bridge: Option<&String>) -> Result<(), Fault> {
    if network.is_some() && bridge.is_some() {
        return Err(Fault::invalid("a card is on a network or on a bridge, not on both"));
    }
    network.into_iter().try_for_each(|n| check_word("the name of a network", n, "._+- "))?;
    bridge.into_iter().try_for_each(|b| check_word("the name of a bridge", b, "._-:"))
}

pub(crate) fn check_rate(bandwidth: Option<Bytes>) -> Result<(), Fault> {
    match bandwidth {
        Some(rate) if rate > Bytes(1 << 40) || (rate > Bytes(0) && rate < Bytes::KIB) => {
            Err(Fault::invalid(format!("a bandwidth is between 1 KiB and 1 TiB a second, not {rate}")))
        }
        _ => Ok(()),
    }
}

impl AttachNic {
    fn check(&self) -> Result<(), Fault> {
        check_place(self.network.as_ref(), self.bridge.as_ref())?;
        something(self.network.is_some() || self.bridge.is_some())?;
        self.mac.as_deref().into_iter().try_for_each(|m| mac_of(m).map(drop))?;
        self.model.as_deref().into_iter().try_for_each(|m| check_word("the model of a card", m, "-_."))?;
        self.filter.as_deref().into_iter().try_for_each(|f| check_word("the name of a filter", f, "._+-"))?;
        check_rate(self.bandwidth)
    }
}

impl DetachNic {
    fn check(&self) -> Result<(), Fault> {
        mac_of(&self.mac).map(drop)
    }
}

impl SetNic {
    fn check(&self) -> Result<(), Fault> {
        mac_of(&self.mac)?;
        let placed = self.network.is_some() || self.bridge.is_some();
        something(placed || self.link.is_some() || self.model.is_some() || self.filter.is_some() || self.bandwidth.is_some())?;
        check_place(self.network.as_ref(), self.bridge.as_ref())?;
        if let Some(model) = &self.model {
            check_word("the model of a card", model, "-_.")?;
            next_boot_only(self.when, "the model of a card")?;
        }
        self.filter.as_deref().filter(|f| !f.is_empty()).into_iter().try_for_each(|f| check_word("the name of a filter", f, "._+-"))?;
        check_rate(self.bandwidth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused<C: Editing>(arguments: serde_json::Value) -> String {
        crate::command::parse_arguments::<C>(arguments).and_then(Editing::edit).expect_err("it was accepted").message
    }

    #[test]
    fn a_card_has_one_place() {
        assert!(refused::<AttachNic>(json!({"network": "a'/><x"})).contains("cannot be the name of a network"));
        assert!(refused::<AttachNic>(json!({"network": "a", "bridge": "br0"})).contains("not on both"));
        assert!(refused::<AttachNic>(json!({})).contains("nothing was named"));
        assert!(refused::<SetNic>(json!({"mac": "52:54:00:00:00:01", "bandwidth": 1})).contains("1 KiB"));
    }

    #[test]
    fn a_card_has_an_address_of_its_own() {
        assert_eq!(mac_of("52:54:00:AB:cd:0f").unwrap(), "52:54:00:ab:cd:0f");
        for wrong in
            ["", "52:54:00:12:34", "52:54:00:12:34:5g", "52-54-00-12-34-56", "525400123456", "52:54:00:12:34:567", "+2:54:00:12:34:56"]
        {
            assert!(mac_of(wrong).is_err(), "{wrong}");
        }
        for groups in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(mac_of(groups).unwrap_err().message.contains("for groups"), "{groups}");
        }
    }
}
