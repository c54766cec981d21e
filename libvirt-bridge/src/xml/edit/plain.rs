//! Screens, devices of the host, and devices that need nothing but their kind.

use super::{Change, absent, devices, devices_mut, taken};
use crate::xml::{read::AGENT_CHANNEL, tree::Element};
use archipel_contract::{
    Fault,
    domain::{HostDevice, PlainDevice, ScreenKind, SetGraphics, host_device_of},
};

pub(super) fn graphics(root: &mut Element, ask: &SetGraphics) -> Result<Change, Fault> {
    let wanted = match ask.screen {
        Some(ScreenKind::None) => {
            let lists = root.elements_mut().filter(|e| e.name == "devices");
            lists.for_each(|list| list.remove("graphics"));
            None
        }
        Some(ScreenKind::Vnc) => Some("vnc"),
        Some(ScreenKind::Spice) => Some("spice"),
        None => None,
    };
    if let Some(kind) = wanted {
        let has_video = devices(root).any(|d| d.name == "video");
        let list = root.ensure("devices");
        let screen = list.ensure("graphics");
        if screen.attribute("type") != Some(kind) {
            // Of another kind of screen only the password means the same.
            let password = screen.attribute("passwd").map(str::to_owned);
            *screen = Element::new("graphics").with("type", kind);
            password.into_iter().for_each(|p| screen.set("passwd", p));
            listen(screen, ask.socket.unwrap_or(false));
        }
        if !has_video {
            list.append(Element::new("video").holding(Element::new("model").with("type", "vga").with("heads", "1")));
        }
    }
    if let Some(socket) = ask.socket {
        let screen = devices_mut(root).find(|d| d.name == "graphics").ok_or_else(|| absent("screen"))?;
        listen(screen, socket);
    }
    if let Some(keymap) = &ask.keymap {
        let screen = devices_mut(root).find(|d| d.name == "graphics").ok_or_else(|| absent("screen"))?;
        match keymap.as_str() {
            "" => screen.unset(&["keymap"]),
            keymap => screen.set("keymap", keymap),
        }
    }
    if let Some(video) = &ask.video {
        let adapter = root.ensure("devices").ensure("video").ensure("model");
        if adapter.attribute("type") != Some(video) {
            adapter.set("type", video.as_str());
            // Sizes of the other adapter's memory.
            adapter.unset(&["ram", "vram", "vram64", "vgamem", "blob"]);
        }
    }
    Ok(Change::default())
}

/// A screen listens on a socket file of libvirt's choice, or on a port of loopback; never on the network.
fn listen(screen: &mut Element, socket: bool) {
    screen.remove("listen");
    screen.unset(&["port", "tlsPort", "autoport", "listen", "socket"]);
    if socket {
        return screen.append(Element::new("listen").with("type", "socket"));
    }
    if screen.attribute("type") == Some("vnc") {
        screen.set("port", "-1");
    }
    screen.set("autoport", "yes");
    screen.set("listen", "127.0.0.1");
    screen.append(Element::new("listen").with("type", "address").with("address", "127.0.0.1"));
}

pub(super) fn password(root: &mut Element, password: &str) -> Result<Change, Fault> {
    let fits = |d: &&mut Element| d.name == "graphics" && matches!(d.attribute("type"), Some("vnc" | "spice"));
    let screen = devices_mut(root).find(fits).ok_or_else(|| absent("screen that could have a password"))?;
    if password.is_empty() {
        screen.unset(&["passwd"]);
    } else {
        screen.set("passwd", password);
    }
    screen.unset(&["passwdValidTo", "connected"]);
    Ok(Change { device: None, element: Some(screen.clone()), needs: None })
}

fn number(element: &Element, attribute: &str) -> Option<u32> {
    let text = element.attribute(attribute)?;
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Whether a device is that one of the host.
pub(crate) fn is_host_device(device: &Element, wanted: &HostDevice) -> bool {
    let Some(source) = device.child("source").filter(|_| device.name == "hostdev") else { return false };
    match *wanted {
        HostDevice::Pci(domain, bus, slot, function) => {
            let place = source.child("address").filter(|_| device.attribute("type") == Some("pci"));
            place.is_some_and(|a| {
                let part = |name: &str| number(a, name).unwrap_or(0);
                (part("domain"), part("bus"), part("slot"), part("function")) == (domain, bus, slot, function)
            })
        }
        HostDevice::Usb(vendor, product) => {
            let id = |name: &str| source.child(name).and_then(|e| number(e, "id"));
            device.attribute("type") == Some("usb") && (id("vendor"), id("product")) == (Some(vendor), Some(product))
        }
    }
}

pub(super) fn attach_host_device(root: &mut Element, address: &str) -> Result<Change, Fault> {
    let wanted = host_device_of(address)?;
    if devices(root).any(|d| is_host_device(d, &wanted)) {
        return Err(taken(format!("it has the device {address} already")));
    }
    let base = |kind: &str| Element::new("hostdev").with("mode", "subsystem").with("type", kind).with("managed", "yes");
    let element = match wanted {
        HostDevice::Pci(domain, bus, slot, function) => {
            let place = Element::new("address")
                .with("domain", format!("0x{domain:04x}"))
                .with("bus", format!("0x{bus:02x}"))
                .with("slot", format!("0x{slot:02x}"))
                .with("function", format!("0x{function:x}"));
            base("pci").holding(Element::new("source").holding(place))
        }
        HostDevice::Usb(vendor, product) => {
            let id = |name: &str, id: u32| Element::new(name).with("id", format!("0x{id:04x}"));
            base("usb").holding(Element::new("source").holding(id("vendor", vendor)).holding(id("product", product)))
        }
    };
    root.ensure("devices").append_beside(element.clone());
    Ok(Change::of(address, element))
}

pub(super) fn detach_host_device(root: &mut Element, address: &str) -> Result<Change, Fault> {
    let wanted = host_device_of(address)?;
    let lists = root.elements_mut().filter(|e| e.name == "devices");
    let taken = lists.flat_map(|list| list.take(|d| is_host_device(d, &wanted))).next();
    taken.map(|d| Change::of(address, d)).ok_or_else(|| absent(&format!("device {address} of the host")))
}

fn is_plain(device: &Element, kind: PlainDevice) -> bool {
    match kind {
        PlainDevice::Rng => device.name == "rng",
        PlainDevice::GuestAgent => device.name == "channel" && device.of("target", "name") == AGENT_CHANNEL,
        PlainDevice::Serial => device.name == "serial",
        PlainDevice::Watchdog => device.name == "watchdog",
        PlainDevice::Sound => device.name == "sound",
        PlainDevice::Cdrom => device.name == "disk" && device.attribute("device") == Some("cdrom"),
        PlainDevice::Tablet => device.name == "input" && device.attribute("type") == Some("tablet"),
    }
}

/// What a kind is called.
pub(crate) fn word(kind: PlainDevice) -> &'static str {
    match kind {
        PlainDevice::Rng => "random number source",
        PlainDevice::GuestAgent => "channel for the guest agent",
        PlainDevice::Serial => "serial port",
        PlainDevice::Watchdog => "watchdog",
        PlainDevice::Sound => "sound card",
        PlainDevice::Cdrom => "CD-ROM drive",
        PlainDevice::Tablet => "tablet",
    }
}

pub(super) fn add(root: &mut Element, kind: PlainDevice) -> Result<Change, Fault> {
    let single = matches!(kind, PlainDevice::GuestAgent | PlainDevice::Watchdog | PlainDevice::Tablet);
    if single && devices(root).any(|d| is_plain(d, kind)) {
        return Err(taken(format!("it has a {} already", word(kind))));
    }
    let machine = root.at(&["os", "type"]).and_then(|t| t.attribute("machine")).unwrap_or_default();
    let is_old = machine == "pc" || machine.contains("i440fx");
    let element = match kind {
        PlainDevice::Rng => {
            Element::new("rng").with("model", "virtio").holding(Element::new("backend").with("model", "random").saying("/dev/urandom"))
        }
        PlainDevice::GuestAgent => {
            let target = Element::new("target").with("type", "virtio").with("name", AGENT_CHANNEL);
            Element::new("channel").with("type", "unix").holding(target)
        }
        PlainDevice::Serial => {
            let ports = devices(root).filter(|d| is_plain(d, kind)).count();
            Element::new("serial").with("type", "pty").holding(Element::new("target").with("port", ports.to_string()))
        }
        PlainDevice::Watchdog => Element::new("watchdog").with("model", "i6300esb").with("action", "reset"),
        PlainDevice::Sound => Element::new("sound").with("model", if is_old { "ich6" } else { "ich9" }),
        PlainDevice::Cdrom => {
            let bus = if is_old { archipel_contract::domain::Bus::Ide } else { archipel_contract::domain::Bus::Sata };
            let name = super::free_target(&[root], bus);
            let target = Element::new("target").with("dev", name).with("bus", bus.name());
            let driver = Element::new("driver").with("name", "qemu").with("type", "raw");
            let disk = Element::new("disk").with("type", "file").with("device", "cdrom").holding(driver);
            disk.holding(target).holding(Element::new("readonly"))
        }
        PlainDevice::Tablet => Element::new("input").with("type", "tablet").with("bus", "usb"),
    };
    let device = Some(element.of("target", "dev").to_owned()).filter(|_| kind == PlainDevice::Cdrom);
    root.ensure("devices").append_beside(element.clone());
    Ok(Change { device, element: Some(element), needs: None })
}

pub(super) fn remove(root: &mut Element, kind: PlainDevice) -> Result<Change, Fault> {
    if kind == PlainDevice::Cdrom {
        return Err(Fault::invalid("a drive is taken away by its name, with detach-disk"));
    }
    let last = devices(root).filter(|d| is_plain(d, kind)).count().checked_sub(1).ok_or_else(|| absent(word(kind)))?;
    let list = root.ensure("devices");
    let mut seen = 0;
    let taken = list.take(|d| {
        is_plain(d, kind) && {
            seen += 1;
            seen - 1 == last
        }
    });
    if kind == PlainDevice::Serial && last == 0 {
        // The console is the same port under another name, and would bring it back.
        list.take(|d| d.name == "console" && matches!(d.child("target").and_then(|t| t.attribute("type")), None | Some("serial")));
    }
    let element = taken.into_iter().next().ok_or_else(|| absent(word(kind)))?;
    Ok(Change { device: None, element: Some(element), needs: None })
}
