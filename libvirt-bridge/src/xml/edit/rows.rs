//! The devices of a definition as rows: what commands name, and what people want to know of each.

use super::devices;
use crate::xml::tree::Element;
use archipel_contract::{
    Bytes,
    domain::{Applies, Device},
};

fn row(device: &Element, applies: Applies) -> Option<Device> {
    let attribute = |name: &str| device.attribute(name).unwrap_or_default().to_owned();
    let (kind, name, source, model) = match device.name.as_str() {
        "disk" => (attribute("device"), device.of("target", "dev").to_owned(), disk_source(device), device.of("target", "bus").to_owned()),
        "interface" => {
            let source = device.child("source");
            let of = |name: &str| source.and_then(|s| s.attribute(name)).map(|v| format!("{name} {v}"));
            let place = of("network").or_else(|| of("bridge")).or_else(|| of("dev")).unwrap_or_else(|| attribute("type"));
            ("nic".to_owned(), device.of("mac", "address").to_owned(), place, device.of("model", "type").to_owned())
        }
        "graphics" => ("graphics".to_owned(), attribute("type"), listens(device), String::new()),
        "video" => ("video".to_owned(), String::new(), String::new(), device.of("model", "type").to_owned()),
        "hostdev" => ("host-device".to_owned(), host_address(device), attribute("type"), String::new()),
        "serial" | "parallel" | "console" | "channel" => {
            let target = device.child("target");
            let of = |name: &str| target.and_then(|t| t.attribute(name)).unwrap_or_default().to_owned();
            let name = Some(of("name")).filter(|n| !n.is_empty()).unwrap_or_else(|| of("port"));
            (device.name.clone(), name, device.of("source", "path").to_owned(), attribute("type"))
        }
        "filesystem" => {
            ("filesystem".to_owned(), device.of("target", "dir").to_owned(), device.of("source", "dir").to_owned(), attribute("type"))
        }
        "rng" => (
            "rng".to_owned(),
            String::new(),
            device.child("backend").map(|b| b.text().trim().to_owned()).unwrap_or_default(),
            attribute("model"),
        ),
        "tpm" => ("tpm".to_owned(), String::new(), device.of("backend", "type").to_owned(), attribute("model")),
        "input" => ("input".to_owned(), attribute("type"), String::new(), attribute("bus")),
        "controller" => {
            ("controller".to_owned(), format!("{}{}", attribute("type"), attribute("index")), String::new(), attribute("model"))
        }
        // The program that runs the machine is no device of it.
        "emulator" => return None,
        other => (other.to_owned(), attribute("name"), String::new(), attribute("model")),
    };
    Some(Device { kind, name, source, model, detail: detail(device), applies })
}

fn disk_source(disk: &Element) -> String {
    let Some(source) = disk.child("source") else { return String::new() };
    let value = |name: &str| source.attribute(name).map(str::to_owned);
    let volume = || Some(format!("{}/{}", source.attribute("pool")?, source.attribute("volume")?));
    let remote = || Some(format!("{}:{}", source.attribute("protocol")?, source.attribute("name").unwrap_or_default()));
    value("file").or_else(|| value("dev")).or_else(|| value("dir")).or_else(volume).or_else(remote).unwrap_or_default()
}

fn listens(screen: &Element) -> String {
    let listen = screen.child("listen");
    if let Some(socket) = listen.filter(|l| l.attribute("type") == Some("socket")) {
        return socket.attribute("socket").or(screen.attribute("socket")).unwrap_or("socket").to_owned();
    }
    let address = listen.and_then(|l| l.attribute("address")).or(screen.attribute("listen")).unwrap_or("127.0.0.1");
    match screen.attribute("port") {
        None | Some("-1") => address.to_owned(),
        Some(port) => format!("{address}:{port}"),
    }
}

fn host_address(device: &Element) -> String {
    let Some(source) = device.child("source") else { return String::new() };
    let hex =
        |element: Option<&Element>, name: &str| element.and_then(|e| e.attribute(name)).unwrap_or("0").trim_start_matches("0x").to_owned();
    if let (Some(vendor), Some(product)) = (source.child("vendor"), source.child("product")) {
        return format!("{}:{}", hex(Some(vendor), "id"), hex(Some(product), "id"));
    }
    let address = source.child("address");
    if device.attribute("type") == Some("pci") {
        let part = |name| hex(address, name);
        return format!("{:0>4}:{:0>2}:{:0>2}.{}", part("domain"), part("bus"), part("slot"), part("function"));
    }
    address.and_then(|a| a.attribute("uuid")).unwrap_or_default().to_owned()
}

fn detail(device: &Element) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut say = |word: String| words.push(word);
    if let Some(driver) = device.child("driver") {
        for name in ["type", "cache", "discard", "io"] {
            if let Some(value) = driver.attribute(name) {
                say(if name == "type" { value.to_owned() } else { format!("{name} {value}") });
            }
        }
    }
    for flag in ["readonly", "shareable", "transient"] {
        if device.child(flag).is_some() {
            say(flag.to_owned());
        }
    }
    for limit in device.child("iotune").into_iter().flat_map(Element::elements) {
        say(format!("{} {}", limit.name.trim_end_matches("_sec").replace('_', " "), limit.text().trim()));
    }
    if device.of("link", "state") == "down" {
        say("link down".to_owned());
    }
    if let Some(filter) = device.child("filterref").and_then(|f| f.attribute("filter")) {
        say(format!("filter {filter}"));
    }
    for way in ["inbound", "outbound"] {
        let average = device.child("bandwidth").map(|b| b.of(way, "average")).unwrap_or_default();
        if let Ok(kib) = average.parse::<u64>() {
            say(format!("{way} {}/s", Bytes(kib.saturating_mul(1024))));
        }
    }
    if let Some(order) = device.child("boot").and_then(|b| b.attribute("order")) {
        say(format!("boots as {order}"));
    }
    if device.name == "interface"
        && let Some(tap) = device.child("target").and_then(|t| t.attribute("dev"))
    {
        say(format!("as {tap}"));
    }
    if device.name == "watchdog" {
        say(format!("action {}", device.attribute("action").unwrap_or("reset")));
    }
    words.join(", ")
}

/// The devices of a machine: those of the running guest, and those of its definition. One that both have is one row.
pub fn rows(live: Option<&Element>, config: Option<&Element>) -> Vec<Device> {
    let of = |root: Option<&Element>, applies: Applies| -> Vec<Device> {
        root.into_iter().flat_map(devices).filter_map(|d| row(d, applies)).collect()
    };
    let mut rows = of(live, Applies::Now);
    let mut paired = vec![false; rows.len()];
    for device in of(config, Applies::NextBoot) {
        let same = |r: &Device| (&r.kind, &r.name) == (&device.kind, &device.name);
        match rows.iter().enumerate().position(|(at, r)| same(r) && paired.get(at) == Some(&false)) {
            Some(at) => {
                // What runs is shown; another medium in the definition is the definition's affair.
                rows[at].applies = Applies::Both;
                paired[at] = true;
            }
            None => rows.push(device),
        }
    }
    rows
}
