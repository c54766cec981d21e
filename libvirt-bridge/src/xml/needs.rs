//! What a definition asks of a host, taken out of it, so that another host can be asked before anything is moved; and what a
//! host's capabilities offer.

use super::tree::{self, BadXml, Element, write};

/// What a definition asks of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its UUID as written.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// `x86_64` ...
    pub arch: String,
    /// The machine type.
    pub machine: String,
    /// The `cpu` element, if it says which processor the guest sees.
    pub cpu: Option<String>,
    /// Whether the guest sees the host's own processor.
    pub host_cpu: bool,
    /// Its disks that have a source.
    pub disks: Vec<Disk>,
    /// What it needs beside its disks: its firmware and the variables of that, kernels, what an emulated TPM holds.
    pub files: Vec<(String, String)>,
    /// Virtual networks, by name.
    pub networks: Vec<String>,
    /// Bridges and other interfaces of the host.
    pub bridges: Vec<String>,
    /// Devices of the host it holds, and others that cannot travel.
    pub devices: Vec<String>,
}

/// A disk with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name for the guest.
    pub device: String,
    /// `file`, `block`, `network`, `volume` ...
    pub kind: String,
    /// What names its source.
    pub source: String,
    /// Only read, or shared: libvirt never copies it.
    pub read_only: bool,
}

/// Reads what a definition asks for.
pub fn needs(xml: &str) -> Result<Needs, BadXml> {
    let root = tree::parse(xml)?;
    let said = |path: &[&str]| root.at(path).map(Element::text).unwrap_or_default();
    let os_type = root.at(&["os", "type"]);
    let of_type = |name: &str| os_type.and_then(|t| t.attribute(name)).unwrap_or_default().to_owned();
    let cpu = root.child("cpu");
    let mode = cpu.map(|c| c.attribute("mode").unwrap_or("custom"));
    let mut needs = Needs {
        uuid: said(&["uuid"]),
        name: said(&["name"]),
        arch: of_type("arch"),
        machine: of_type("machine"),
        cpu: cpu.filter(|c| mode == Some("custom") && c.child("model").is_some()).map(write),
        host_cpu: mode == Some("host-passthrough"),
        ..Needs::default()
    };
    for device in ["loader", "nvram", "kernel", "initrd", "dtb"] {
        let path = said(&["os", device]);
        // A firmware without a path is the hypervisor's own.
        if device != "loader" && !path.trim().is_empty() || path.trim().starts_with('/') {
            needs.files.push((device.to_owned(), path.trim().to_owned()));
        }
    }
    let devices = root.child("devices");
    for device in devices.iter().flat_map(|d| d.elements()) {
        match device.name.as_str() {
            "disk" => needs.disks.extend(disk(device)),
            "interface" => card(device, &mut needs),
            "hostdev" => needs.devices.push(host_device(device)),
            "filesystem" => {
                let dir = device.child("source").and_then(|s| s.attribute("dir")).unwrap_or("a directory");
                needs.devices.push(format!("the directory {dir} it shares with its host"));
            }
            "tpm" => match device.child("backend") {
                Some(backend) if backend.attribute("type") == Some("passthrough") => {
                    let path = backend.child("device").and_then(|d| d.attribute("path")).unwrap_or("/dev/tpm0");
                    needs.devices.push(format!("the TPM of its host ({path})"));
                }
                Some(backend) if backend.attribute("type") == Some("emulator") => needs.files.push(("tpm".to_owned(), needs.uuid.clone())),
                _ => {}
            },
            "shmem" => needs.devices.push(format!("the shared memory {}", device.attribute("name").unwrap_or("without a name"))),
            _ => {}
        }
    }
    needs.networks.sort();
    needs.networks.dedup();
    needs.bridges.sort();
    needs.bridges.dedup();
    Ok(needs)
}

fn disk(device: &Element) -> Option<Disk> {
    let source = device.child("source")?;
    let kind = device.attribute("type").unwrap_or("file");
    let value = |name: &str| source.attribute(name).unwrap_or_default();
    let named = match kind {
        "file" => value("file").to_owned(),
        "block" => value("dev").to_owned(),
        "dir" => value("dir").to_owned(),
        "volume" => format!("{}/{}", value("pool"), value("volume")),
        _ => format!("{}:{}", value("protocol"), value("name")),
    };
    let is_only_read =
        matches!(device.attribute("device"), Some("cdrom")) || device.child("readonly").is_some() || device.child("shareable").is_some();
    (named.len() > 1).then(|| Disk {
        device: device.child("target").and_then(|t| t.attribute("dev")).unwrap_or_default().to_owned(),
        kind: kind.to_owned(),
        source: named,
        read_only: is_only_read,
    })
}

fn card(device: &Element, needs: &mut Needs) {
    let value = |name: &str| device.child("source").and_then(|s| s.attribute(name)).map(str::to_owned);
    match device.attribute("type") {
        Some("network") => needs.networks.extend(value("network")),
        Some("bridge") => needs.bridges.extend(value("bridge")),
        Some("direct") => needs.bridges.extend(value("dev")),
        Some("hostdev") => needs.devices.push(host_device(device)),
        Some("vdpa") => needs.devices.push(value("dev").unwrap_or_else(|| "a vdpa device".to_owned())),
        _ => {}
    }
}

/// Words for a device of the host, for example `pci 0000:03:00.0`.
fn host_device(device: &Element) -> String {
    let source = device.child("source");
    let bus = source.and_then(|s| s.child("address")).map(|a| a.attribute("type").map(str::to_owned).unwrap_or_default());
    let kind = device.attribute("type").filter(|t| *t != "hostdev").map(str::to_owned).or(bus).unwrap_or_default();
    let address = source.and_then(|s| s.child("address")).map(|a| {
        let part = |name: &str| a.attribute(name).unwrap_or("0").trim_start_matches("0x").to_owned();
        match (a.attribute("uuid"), a.attribute("slot"), a.attribute("bus")) {
            (Some(uuid), ..) => uuid.to_owned(),
            (_, Some(_), _) => format!("{}:{}:{}.{}", part("domain"), part("bus"), part("slot"), part("function")),
            _ => format!("{}:{}", part("bus"), part("device")),
        }
    });
    let id = || {
        let of =
            |name: &str| source.and_then(|s| s.child(name)).and_then(|v| v.attribute("id")).map(|v| v.trim_start_matches("0x").to_owned());
        Some(format!("{}:{}", of("vendor")?, of("product")?))
    };
    let said = address.or_else(id).unwrap_or_else(|| "of the host".to_owned());
    if kind.is_empty() { said } else { format!("{kind} {said}") }
}

/// What a host offers for one kind of guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Architectures it has, in its order.
    pub archs: Vec<String>,
    /// Kinds of virtualization for the architecture asked for.
    pub kinds: Vec<String>,
    /// Machine types for that architecture, with their most virtual CPUs (0: it does not say).
    pub machines: Vec<(String, u32)>,
    /// The host's own `cpu` element.
    pub cpu: Option<String>,
}

impl Offer {
    /// Whether it has that machine type. A hypervisor that names none has none to choose.
    pub fn has_machine(&self, machine: &str) -> bool {
        machine.is_empty() || self.machines.is_empty() || self.machines.iter().any(|(name, _)| name == machine)
    }
}

/// Reads the capabilities of a host for one architecture.
pub fn offer(capabilities: &str, arch: &str) -> Result<Offer, BadXml> {
    let root = tree::parse(capabilities)?;
    let mut offer = Offer { cpu: root.at(&["host", "cpu"]).map(write), ..Offer::default() };
    for found in root.elements().filter(|e| e.name == "guest").filter_map(|g| g.child("arch")) {
        let name = found.attribute("name").unwrap_or_default();
        if !offer.archs.iter().any(|a| a == name) {
            offer.archs.push(name.to_owned());
        }
        if name != arch {
            continue;
        }
        // Machine types stand beside the kinds of virtualization, or within them where they differ.
        let kinds: Vec<&Element> = found.elements().filter(|e| e.name == "domain").collect();
        let machines = found.elements().chain(kinds.iter().flat_map(|k| k.elements())).filter(|e| e.name == "machine");
        offer.kinds.extend(kinds.iter().filter_map(|k| k.attribute("type")).map(str::to_owned));
        for machine in machines {
            let most = machine.attribute("maxCpus").and_then(|n| n.parse().ok()).unwrap_or(0);
            offer.machines.extend(machine.attribute("canonical").map(|name| (name.to_owned(), most)));
            offer.machines.push((machine.text(), most));
        }
    }
    Ok(offer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "<domain type='kvm'><name>web1</name><uuid>u</uuid><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\
        <loader readonly='yes' type='pflash'>/usr/share/OVMF.fd</loader><nvram template='/t'>/var/lib/web1.fd</nvram></os><cpu mode='custom' match='exact'><model fallback='forbid'>Nehalem</model></cpu><devices>\
        <disk type='file' device='disk'><source file='/srv/a.qcow2'/><target dev='vda'/></disk>\
        <disk type='file' device='cdrom'><target dev='sda'/></disk>\
        <disk type='block' device='disk'><source dev='/dev/vg/x'/><target dev='vdb'/><shareable/></disk>\
        <disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vdc'/></disk>\
        <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdd'/><readonly/></disk>\
        <interface type='network'><source network='lan' portid='1'/></interface><interface type='network'><source network='lan'/></interface>\
        <interface type='bridge'><source bridge='br0'/></interface><interface type='direct'><source dev='eth1' mode='bridge'/></interface>\
        <interface type='user'/><hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source></hostdev>\
        <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>\
        <interface type='hostdev'><source><address type='pci' domain='0x0000' bus='0x05' slot='0x10' function='0x0'/></source></interface>\
        <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm><tpm model='tpm-tis'><backend type='passthrough'/></tpm>\
        <filesystem type='mount'><source dir='/export'/><target dir='x'/></filesystem></devices></domain>";

    #[test]
    fn everything_a_host_must_have_is_found() {
        let needs = needs(MACHINE).unwrap();
        assert_eq!(
            (needs.uuid.as_str(), needs.name.as_str(), needs.arch.as_str(), needs.machine.as_str()),
            ("u", "web1", "x86_64", "pc-q35-7.2")
        );
        assert!(needs.cpu.as_ref().unwrap().contains("Nehalem") && !needs.host_cpu);
        let disks: Vec<_> = needs.disks.iter().map(|d| (d.device.as_str(), d.kind.as_str(), d.source.as_str(), d.read_only)).collect();
        let wanted = [
            ("vda", "file", "/srv/a.qcow2", false),
            ("vdb", "block", "/dev/vg/x", true),
            ("vdc", "network", "rbd:p/i", false),
            ("vdd", "volume", "p/v", true),
        ];
        assert_eq!(disks, wanted);
        let wanted = [("loader", "/usr/share/OVMF.fd"), ("nvram", "/var/lib/web1.fd"), ("tpm", "u")];
        assert_eq!(needs.files, wanted.map(|(device, source)| (device.to_owned(), source.to_owned())));
        assert_eq!((needs.networks, needs.bridges), (vec!["lan".to_owned()], vec!["br0".to_owned(), "eth1".to_owned()]));
        let wanted = [
            "pci 0000:03:00.1",
            "usb 1234:beef",
            "pci 0000:05:10.0",
            "the TPM of its host (/dev/tpm0)",
            "the directory /export it shares with its host",
        ];
        assert_eq!(needs.devices, wanted);
    }

    #[test]
    fn the_hosts_own_processor_is_no_model_to_compare() {
        let passed = needs(&MACHINE.replace("mode='custom' match='exact'", "mode='host-passthrough'")).unwrap();
        assert!(passed.cpu.is_none() && passed.host_cpu);
        let bare = needs("<domain type='test'><name>x</name><os><type>hvm</type><loader>rombios</loader></os></domain>").unwrap();
        assert!(bare.cpu.is_none() && !bare.host_cpu && bare.disks.is_empty() && bare.files.is_empty() && bare.machine.is_empty());
    }

    #[test]
    fn capabilities_tell_kinds_and_machines_of_one_architecture() {
        let text = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>\
            <guest><arch name='i686'><domain type='qemu'/><machine>isapc</machine></arch></guest>\
            <guest><arch name='x86_64'><machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine><domain type='qemu'/>\
            <domain type='kvm'><machine maxCpus='288'>microvm</machine></domain></arch></guest></capabilities>";
        let offer = offer(text, "x86_64").unwrap();
        assert_eq!((offer.archs.clone(), offer.kinds.clone()), (vec!["i686".into(), "x86_64".into()], vec!["qemu".into(), "kvm".into()]));
        assert!(
            offer.has_machine("pc") && offer.has_machine("pc-i440fx-7.2") && offer.has_machine("microvm") && !offer.has_machine("isapc")
        );
        assert!(offer.has_machine("") && offer.machines.contains(&("microvm".into(), 288)));
        assert!(super::offer(text, "riscv64").unwrap().kinds.is_empty());
    }
}
