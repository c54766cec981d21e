//! The devices of a machine as rows, and those that are neither disk nor card: screens, devices of the host, and such as need
//! nothing but their kind. Pure.

use super::edit::*;
use crate::{
    Effect, Fault, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A device of a machine, as a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// `disk`, `cdrom`, `floppy`, `nic`, `graphics`, `video`, `serial`, `channel`, `host-device` ...
    pub kind: String,
    /// How commands name it: `vda`, a MAC, an address; empty where there is nothing to name it by.
    pub name: String,
    /// What is behind it on the host: a file, a network, an address it listens on; empty where there is nothing.
    pub source: String,
    /// How the guest sees it: the bus of a disk, the model of a card.
    pub model: String,
    /// What else there is to say of it, in words.
    pub detail: String,
    /// Whether the running guest has it, the definition, or both.
    pub applies: Applies,
}

/// List the devices of a virtual machine: disks, network cards, screens and the rest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListDevices {
    /// Only those of this kind, for example disk or nic.
    pub kind: Option<String>,
}
declare!(ListDevices, "domain.devices", Read, Viewer, Domain, Vec<Device>);

/// A kind of screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScreenKind {
    /// None; what there was is taken away.
    None,
    /// VNC, on loopback only.
    Vnc,
    /// SPICE, on loopback only.
    Spice,
}

/// Change a machine's screen, at its next boot. It is reached through Archipel only: it listens on loopback or on a socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetGraphics {
    /// Which screen it has.
    pub screen: Option<ScreenKind>,
    /// Whether it listens on a socket file instead of a port of loopback.
    pub socket: Option<bool>,
    /// The graphics adapter the guest sees, for example virtio, vga or qxl.
    pub video: Option<String>,
    /// How the keyboards of those who look are laid out, in QEMU's words: de, en-us, fr-ch. Viewers that send keys and not letters, such as
    /// the page, need none; empty for none.
    pub keymap: Option<String>,
    /// When it applies.
    pub when: When,
}
editing!(SetGraphics, "domain.set-graphics", Change, Graphics);

/// Change the password of a machine's screen; it is never shown again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The password, at most 8 characters for VNC; empty for none.
    pub password: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(SetPassword, "domain.set-screen-password", Change, Password);

/// Hand a device of the host to a machine. The host's administrator lists the devices that may be handed out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachHostDevice {
    /// Its address: 0000:03:00.0 for PCI, 1234:abcd (vendor and product) for USB.
    pub device: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(AttachHostDevice, "domain.attach-host-device", Change, AttachHostDevice);

/// Give a device of the host back to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachHostDevice {
    /// Its address: 0000:03:00.0 for PCI, 1234:abcd (vendor and product) for USB.
    pub device: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(DetachHostDevice, "domain.detach-host-device", Destroy, DetachHostDevice);

/// Devices that need nothing but their kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlainDevice {
    /// A source of random numbers.
    #[default]
    Rng,
    /// The channel that the guest agent talks through.
    GuestAgent,
    /// A serial port.
    Serial,
    /// A watchdog that resets a guest that hangs.
    Watchdog,
    /// A sound card.
    Sound,
    /// An empty CD-ROM drive.
    Cdrom,
    /// A pointer that is where the mouse is.
    Tablet,
}

/// Give a machine a device that needs nothing but its kind: a random number source, the agent's channel, a watchdog, sound ...
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDevice {
    /// Which kind.
    pub kind: PlainDevice,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(AddDevice, "domain.add-device", Change, AddDevice);

/// Take such a device from a machine: the last one of its kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveDevice {
    /// Which kind.
    pub kind: PlainDevice,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(RemoveDevice, "domain.remove-device", Change, RemoveDevice);

// ---------------------------------------------------------------- checks

/// The keyboards that QEMU knows (its `pc-bios/keymaps`).
const KEYMAPS: [&str; 34] = [
    "ar", "bepo", "cz", "da", "de", "de-ch", "en-gb", "en-us", "es", "et", "fi", "fo", "fr", "fr-be", "fr-ca", "fr-ch", "hr", "hu", "is",
    "it", "ja", "lt", "lv", "mk", "nl", "no", "pl", "pt", "pt-br", "ru", "sl", "sv", "th", "tr",
];

impl SetGraphics {
    fn check(&self) -> Result<(), Fault> {
        something(self.screen.is_some() || self.socket.is_some() || self.video.is_some() || self.keymap.is_some())?;
        if let Some(keymap) = self.keymap.as_ref().filter(|k| !KEYMAPS.contains(&k.as_str()) && !k.is_empty()) {
            let shown: String = keymap.chars().take(20).collect();
            return Err(Fault::invalid(format!("QEMU knows no keyboard {shown:?}; it knows {}", KEYMAPS.join(" "))));
        }
        self.video.as_deref().into_iter().try_for_each(|v| check_word("a graphics adapter", v, "-_"))?;
        next_boot_only(self.when, "its screen")
    }
}

impl SetPassword {
    fn check(&self) -> Result<(), Fault> {
        if self.password.len() > 8 || !self.password.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Fault::invalid(
                "the password of a VNC screen has at most 8 letters, digits and signs; the protocol knows no longer ones",
            ));
        }
        Ok(())
    }
}

/// A device of the host, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDevice {
    /// Domain, bus, slot and function.
    Pci(u32, u32, u32, u32),
    /// Vendor and product.
    Usb(u32, u32),
}

/// Reads the address of a device of the host.
pub fn host_device_of(text: &str) -> Result<HostDevice, Fault> {
    let bad = || {
        let shown: String = text.chars().take(80).collect();
        Fault::invalid(format!("{shown:?} is not the address of a device: write 0000:03:00.0 for PCI, 1234:abcd for USB"))
    };
    let hex = |part: &str, digits: usize, most: u32| {
        let fits = part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(part, 16).ok().filter(|n| fits && *n <= most).ok_or_else(bad)
    };
    let parts: Vec<&str> = text.split([':', '.']).collect();
    match parts.as_slice() {
        [domain, bus, slot, function] if text.matches('.').count() == 1 && text.rfind(':') < text.find('.') => {
            Ok(HostDevice::Pci(hex(domain, 4, 0xffff)?, hex(bus, 2, 0xff)?, hex(slot, 2, 0x1f)?, hex(function, 1, 7)?))
        }
        [vendor, product] if text.contains(':') => Ok(HostDevice::Usb(hex(vendor, 4, 0xffff)?, hex(product, 4, 0xffff)?)),
        _ => Err(bad()),
    }
}

impl AttachHostDevice {
    fn check(&self) -> Result<(), Fault> {
        host_device_of(&self.device).map(drop)
    }
}

impl DetachHostDevice {
    fn check(&self) -> Result<(), Fault> {
        host_device_of(&self.device).map(drop)
    }
}

impl AddDevice {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

impl RemoveDevice {
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_the_host_are_read_as_lspci_and_lsusb_write_them() {
        assert_eq!(host_device_of("0000:03:00.1").unwrap(), HostDevice::Pci(0, 3, 0, 1));
        assert_eq!(host_device_of("1d6b:0002").unwrap(), HostDevice::Usb(0x1d6b, 2));
        for wrong in ["", "03:00.0", "0000:03:00.8", "0000:03:20.0", "0000.03:00:0", "1d6b", "1d6b.0002", "g000:0000", "0x1d:0002"] {
            assert!(host_device_of(wrong).is_err(), "{wrong}");
        }
    }
}
