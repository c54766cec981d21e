//! What the facts need, taken out of libvirt's XML.

use super::tree::{self, BadXml, Element};
use archipel_contract::{
    Bytes, Timestamp,
    domain::{DELAY_LIMIT, ORDER_LIMIT, Snapshot, StartOrder},
};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

/// What a machine's definition tells beyond what calls tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFacts {
    /// `kvm`, `qemu`, `test`, `xen` ...
    pub virtualization: String,
    /// Its description.
    pub note: Option<String>,
    /// Memory it may use.
    pub memory: Bytes,
    /// Virtual CPUs it has now.
    pub vcpus: u32,
    /// Whether libvirt says that its guest agent is connected.
    pub agent: bool,
    /// Whether it is marked as a template.
    pub template: bool,
    /// When Archipel starts it after a boot of its host.
    pub start_order: Option<StartOrder>,
}

/// The namespace of what says when Archipel starts a machine after a boot of its host.
pub const STARTS: &str = "urn:archipel:autostart:0";

/// The order that an element of the metadata tells, if it is of that namespace and makes sense.
fn start_order(element: &Element) -> Option<StartOrder> {
    if !is_of(element, "autostart", STARTS) {
        return None;
    }
    let number = |name: &str, limit: u32| element.attribute(name)?.parse().ok().filter(|n| *n <= limit);
    Some(StartOrder { order: number("order", ORDER_LIMIT)?, delay: number("delay", DELAY_LIMIT).unwrap_or_default() })
}

/// Whether it is an element of that name in that namespace, which it declares itself, as libvirt keeps it.
fn is_of(element: &Element, name: &str, namespace: &str) -> bool {
    let (prefix, local) = element.name.split_once(':').unwrap_or(("", &element.name));
    let declared = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
    local == name && element.attribute(&declared) == Some(namespace)
}

/// Whether an element of the metadata is a note of ours that says something of one machine alone, and nothing of one made after it.
pub(crate) fn is_of_one_machine(element: &Element) -> bool {
    is_template_mark(element) || is_of(element, "autostart", STARTS)
}

/// The namespace of the mark that makes a machine a template.
pub const TEMPLATE: &str = "urn:archipel:template:0";

/// Whether an element of the metadata is that mark.
pub(crate) fn is_template_mark(element: &Element) -> bool {
    is_of(element, "template", TEMPLATE)
}

/// The name of the channel the QEMU guest agent talks through.
pub const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// Reads a machine's facts. It reads no further than it must: with thousands of machines this is most of a listing.
pub fn domain(xml: &str) -> Result<DomainFacts, BadXml> {
    let mut facts = DomainFacts::default();
    // The text says where the agent's channel is; only then the devices, the larger part, have to be looked at.
    let wants_devices = xml.contains(AGENT_CHANNEL);
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut text = String::new();
    loop {
        let broken = |why: String, at: u64| BadXml::Broken { at, why };
        let event = reader.read_event().map_err(|e| broken(e.to_string(), reader.error_position()))?;
        match event {
            Event::Start(start) => {
                if path.is_empty() {
                    facts.virtualization = value(&start, b"type").unwrap_or_default();
                } else if path.len() == 1 {
                    match start.name().as_ref() {
                        b"os" if !wants_devices => break,
                        b"description" | b"memory" | b"vcpu" => text.clear(),
                        b"metadata" => {
                            let end = start.to_end().into_owned();
                            let begins = reader.buffer_position();
                            let span = reader.read_to_end(end.name()).map_err(|e| broken(e.to_string(), reader.error_position()))?;
                            let place = usize::try_from(begins).ok().zip(usize::try_from(span.end).ok());
                            let text = place.and_then(|(from, to)| xml.get(from..to)).unwrap_or_default();
                            if text.contains(TEMPLATE) || text.contains(STARTS) {
                                let notes = tree::parse(&format!("<m>{text}</m>"))?;
                                facts.template = notes.elements().any(is_template_mark);
                                facts.start_order = notes.elements().find_map(start_order);
                            }
                            continue;
                        }
                        _ => {}
                    }
                    if start.name().as_ref() == b"memory" {
                        facts.memory = Bytes(unit(value(&start, b"unit").as_deref()));
                    }
                    if start.name().as_ref() == b"vcpu" {
                        facts.vcpus = value(&start, b"current").and_then(|v| v.parse().ok()).unwrap_or(0);
                    }
                }
                path.push(start.name().as_ref().to_vec());
                if path.len() > tree::DEPTH_LIMIT {
                    return Err(BadXml::Limit("depth"));
                }
            }
            Event::Empty(start) if is_channel(&path) && start.name().as_ref() == b"target" => {
                let is_agent = value(&start, b"name").as_deref() == Some(AGENT_CHANNEL);
                facts.agent |= is_agent && value(&start, b"state").as_deref() == Some("connected");
            }
            Event::Text(part) if path.len() == 2 => {
                text.push_str(&part.xml10_content().map_err(|e| broken(e.to_string(), reader.buffer_position()))?);
            }
            Event::CData(part) if path.len() == 2 => {
                text.push_str(&part.xml10_content().map_err(|e| broken(e.to_string(), reader.buffer_position()))?);
            }
            Event::GeneralRef(name) if path.len() == 2 => {
                let character = name.resolve_char_ref().ok().flatten();
                match (character, name.as_ref()) {
                    (Some(c), _) => text.push(c),
                    (None, b"lt") => text.push('<'),
                    (None, b"gt") => text.push('>'),
                    (None, b"amp") => text.push('&'),
                    (None, b"quot") => text.push('"'),
                    (None, b"apos") => text.push('\''),
                    _ => return Err(BadXml::Refused("an entity of its own")),
                }
            }
            Event::End(_) => {
                if path.len() == 2 {
                    match path[1].as_slice() {
                        b"description" => facts.note = Some(std::mem::take(&mut text)).filter(|t| !t.is_empty()),
                        b"memory" => facts.memory = Bytes(text.trim().parse::<u64>().unwrap_or(0).saturating_mul(facts.memory.0)),
                        b"vcpu" if facts.vcpus == 0 => facts.vcpus = text.trim().parse().unwrap_or(0),
                        _ => {}
                    }
                }
                path.pop();
            }
            Event::DocType(_) => return Err(BadXml::Refused("a document type")),
            Event::Eof => break,
            _ => {}
        }
    }
    Ok(facts)
}

fn is_channel(path: &[Vec<u8>]) -> bool {
    matches!(path, [_, devices, channel] if devices == b"devices" && channel == b"channel")
}

fn value(start: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let attribute = start.attributes().with_checks(false).flatten().find(|a| a.key.as_ref() == name)?;
    attribute.unescape_value().ok().map(|v| v.into_owned())
}

/// How many bytes libvirt's unit is. Without one, memory is in KiB.
pub(crate) fn unit(name: Option<&str>) -> u64 {
    match name {
        Some("b" | "bytes") => 1,
        None | Some("k" | "K" | "KiB") => 1 << 10,
        Some("KB") => 1000,
        Some("m" | "M" | "MiB") => 1 << 20,
        Some("MB") => 1_000_000,
        Some("g" | "G" | "GiB") => 1 << 30,
        Some("GB") => 1_000_000_000,
        Some("t" | "T" | "TiB") => 1 << 40,
        Some("TB") => 1_000_000_000_000,
        Some(_) => 1 << 10,
    }
}

/// What a snapshot's description tells. Whether it is the current one is not in it.
pub fn snapshot(xml: &str) -> Result<Snapshot, BadXml> {
    let root = tree::parse(xml)?;
    let text = |name: &str| root.child(name).map(Element::text);
    let memory = root.child("memory").and_then(|m| m.attribute("snapshot")).unwrap_or("no");
    let disks: Vec<&Element> = root
        .child("disks")
        .map(|d| d.elements().filter(|e| e.name == "disk" && e.attribute("snapshot") != Some("no")).collect())
        .unwrap_or_default();
    Ok(Snapshot {
        name: text("name").unwrap_or_default(),
        parent: root.at(&["parent", "name"]).map(Element::text),
        state: text("state").unwrap_or_else(|| "unknown".to_owned()),
        current: false,
        memory: memory != "no",
        external: memory == "external" || disks.iter().any(|d| d.attribute("snapshot") == Some("external")),
        created: Timestamp(text("creationTime").and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1000)),
        disks: disks.iter().filter_map(|d| d.attribute("name").map(str::to_owned)).collect(),
        description: text("description").filter(|t| !t.is_empty()),
    })
}

/// What a network's definition tells: its bridge, and how it is forwarded.
pub fn network(xml: &str) -> Result<(Option<String>, String), BadXml> {
    let root = tree::parse(xml)?;
    let bridge = root.child("bridge").and_then(|b| b.attribute("name")).map(str::to_owned);
    let forward = match root.child("forward") {
        // Without a mode libvirt means NAT; without the element, nothing leaves the network.
        Some(forward) => forward.attribute("mode").unwrap_or("nat").to_owned(),
        None => "isolated".to_owned(),
    };
    Ok((bridge, forward))
}

/// What a pool's definition tells: its type, and where it is.
pub fn pool(xml: &str) -> Result<(String, Option<String>), BadXml> {
    let root = tree::parse(xml)?;
    let path = root.at(&["target", "path"]).map(|p| p.text().trim().to_owned()).filter(|p| !p.is_empty());
    Ok((root.attribute("type").unwrap_or("unknown").to_owned(), path))
}

/// What making a pool's place writes to, where it puts something of its own onto a device: the devices, and where it will be.
pub fn ground(xml: &str) -> Result<Vec<String>, BadXml> {
    let root = tree::parse(xml)?;
    if !matches!(root.attribute("type"), Some("fs" | "logical" | "disk")) {
        return Ok(Vec::new());
    }
    let devices = root.elements().filter(|e| e.name == "source").flat_map(|s| s.elements()).filter(|e| e.name == "device");
    let mut all: Vec<String> = devices.filter_map(|d| d.attribute("path")).map(str::to_owned).collect();
    all.extend(pool(xml)?.1);
    Ok(all)
}

/// A volume as its description tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeFacts {
    /// `file`, `block`, `dir`, `network`, `netdir` or `ploop`.
    pub volume_type: String,
    /// The format of its content, if libvirt says.
    pub format: Option<String>,
    /// Its size as a guest sees it.
    pub capacity: Bytes,
    /// What it takes.
    pub allocation: Bytes,
    /// Where it is.
    pub path: String,
    /// What it is built on, if it is.
    pub backing: Option<String>,
}

/// Reads a volume's description.
pub fn volume(xml: &str) -> Result<VolumeFacts, BadXml> {
    let root = tree::parse(xml)?;
    let size = |name: &str| {
        let element = root.child(name);
        let number = element.and_then(|e| e.text().trim().parse::<u64>().ok()).unwrap_or(0);
        Bytes(number.saturating_mul(unit(element.and_then(|e| e.attribute("unit")).or(Some("bytes")))))
    };
    Ok(VolumeFacts {
        volume_type: root.attribute("type").unwrap_or("file").to_owned(),
        format: root.at(&["target", "format"]).and_then(|f| f.attribute("type")).map(str::to_owned).filter(|f| f != "unknown"),
        capacity: size("capacity"),
        allocation: size("allocation"),
        path: root.at(&["target", "path"]).map(Element::text).unwrap_or_default(),
        backing: root.at(&["backingStore", "path"]).map(Element::text).filter(|p| !p.is_empty()),
    })
}

/// What the host's capabilities tell: its architecture, and whether libvirt offers `kvm` for it.
pub fn capabilities(xml: &str) -> Result<(String, bool), BadXml> {
    let root = tree::parse(xml)?;
    let arch = root.at(&["host", "cpu", "arch"]).map(Element::text).unwrap_or_default();
    let kvm = root
        .elements()
        .filter(|e| e.name == "guest")
        .filter_map(|g| g.child("arch"))
        .filter(|a| a.attribute("name") == Some(&arch))
        .any(|a| a.elements().any(|d| d.name == "domain" && d.attribute("type") == Some("kvm")));
    Ok((arch, kvm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::domain::{Kind, definition};
    use archipel_contract::{
        DomainId,
        domain::{DomainSpec, Graphics},
    };
    use proptest::prelude::*;

    const RUNNING: &str = "<domain type='qemu' id='3'><name>web1</name><metadata><x:description xmlns:x='urn:x'>no</x:description>\
        <os/></metadata><description>a &lt;b&gt; &amp; c</description><memory unit='KiB'>131072</memory>\
        <currentMemory unit='KiB'>65536</currentMemory><vcpu placement='static' current='2'>4</vcpu><os><type>hvm</type></os>\
        <devices><channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>\
        </channel></devices></domain>";

    #[test]
    fn a_running_machine_is_read() {
        let facts = domain(RUNNING).unwrap();
        assert_eq!(
            facts,
            DomainFacts {
                virtualization: "qemu".into(),
                note: Some("a <b> & c".into()),
                memory: Bytes::mib(128),
                vcpus: 2,
                agent: true,
                template: false,
                start_order: None,
            }
        );
        assert!(!domain(&RUNNING.replace("'connected'", "'disconnected'")).unwrap().agent);
    }

    #[test]
    fn a_start_order_is_read_where_it_is_ours_and_makes_sense() {
        let read = |note: &str| domain(&RUNNING.replace("<metadata>", &format!("<metadata>{note}"))).unwrap();
        let ours = read("<archipel:autostart xmlns:archipel='urn:archipel:autostart:0' order='10' delay='30'/>");
        assert_eq!((ours.start_order, ours.template), (Some(StartOrder { order: 10, delay: 30 }), false));
        let both = "<a:autostart xmlns:a='urn:archipel:autostart:0' order='0'/><t:template xmlns:t='urn:archipel:template:0'/>";
        assert_eq!((read(both).start_order, read(both).template), (Some(StartOrder { order: 0, delay: 0 }), true));
        for not in [
            "<a:autostart xmlns:a='urn:other' order='1'>urn:archipel:autostart:0</a:autostart>",
            "<a:autostart xmlns:a='urn:archipel:autostart:0'/>",
            "<a:autostart xmlns:a='urn:archipel:autostart:0' order='-1'/>",
            "<a:autostart xmlns:a='urn:archipel:autostart:0' order='10000'/>",
        ] {
            assert_eq!(read(not).start_order, None, "{not}");
        }
    }

    #[test]
    fn units_are_honoured() {
        let facts = domain("<domain type='test'><memory unit='GiB'>2</memory><vcpu>1</vcpu></domain>").unwrap();
        assert_eq!((facts.memory, facts.vcpus, facts.note), (Bytes(2 << 30), 1, None));
    }

    #[test]
    fn networks_pools_volumes_and_hosts_are_read() {
        let net = "<network><name>default</name><forward mode='route'/><bridge name='virbr0'/></network>";
        assert_eq!(network(net).unwrap(), (Some("virbr0".into()), "route".into()));
        assert_eq!(network("<network><name>n</name></network>").unwrap(), (None, "isolated".into()));
        assert_eq!(network("<network><forward/></network>").unwrap().1, "nat");
        let text = "<pool type='dir'><name>p</name><target><path>/srv/p</path></target></pool>";
        assert_eq!(pool(text).unwrap(), ("dir".into(), Some("/srv/p".into())));
        let text = "<volume type='file'><name>a.qcow2</name><capacity unit='bytes'>1048576</capacity><allocation unit='KiB'>4</allocation>\
                    <target><path>/srv/p/a.qcow2</path><format type='qcow2'/></target></volume>";
        let found = volume(text).unwrap();
        assert_eq!((found.capacity, found.allocation, found.format.as_deref()), (Bytes::MIB, Bytes(4096), Some("qcow2")));
        let text = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host><guest><os_type>hvm</os_type><arch name='x86_64'>\
                    <domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>";
        assert_eq!(capabilities(text).unwrap(), ("x86_64".into(), true));
        assert_eq!(capabilities(&text.replace("<domain type='kvm'/>", "")).unwrap(), ("x86_64".into(), false));
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(note in "[ -~\n\u{80}-\u{2ff}]{1,60}", mib in 1u64..1_000_000, vcpus in 1u32..512, emulated: bool) {
            let spec = DomainSpec {
                name: "x".into(),
                memory: Bytes::mib(mib),
                vcpus,
                disk: None,
                network: None,
                graphics: Graphics::Vnc,
                note: Some(note.clone()),
                ..DomainSpec::default()
            };
            let kind = if !emulated { Kind::Test } else { Kind::Qemu { arch: "x86_64".into(), kvm: false } };
            let xml = definition(DomainId(uuid::Uuid::nil()), &spec, None, &kind);
            let facts = domain(&xml).unwrap();
            prop_assert_eq!(facts.note, Some(note));
            prop_assert_eq!((facts.memory, facts.vcpus, facts.agent), (Bytes::mib(mib), vcpus, false));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in "(<domain>|</?memory|</?os>|<vcpu|<metadata|[<>/a-c='\"&;!\\[\\]?x# ]){0,20}") {
            let _ = (domain(&text), network(&text), pool(&text), volume(&text), capabilities(&text));
        }
    }
}
