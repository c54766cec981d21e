//! Made-up hosts for tests and benchmarks: libvirt's test driver reads one from a file, at `test:///FILE`.

use crate::xml::tree::{Element, write};
use uuid::Uuid;

/// The UUID of the made-up machine with that number, counted from 0.
pub fn domain_uuid(number: usize) -> Uuid {
    Uuid::from_u128(0xa5c1_1e00_0000_4000_8000_0000_0000_0000 + number as u128)
}

/// A host with that many machines, `vm00000` and so on, as XML for `test:///FILE`. Every second one runs, the others are
/// off; all are persistent, have 128 MiB and one virtual CPU. There is one active network `default` (NAT) and one
/// running pool `default` (`dir`) with the volumes `disk0.qcow2` and `boot.tick`.
///
/// Every `open` of such a file is a host of its own, and what is changed on it is forgotten with the connection.
pub fn test_driver_xml(domains: usize) -> String {
    let plain = |name: &str, text: &str| Element::new(name).saying(text);
    let host = Element::new("cpu")
        .holding(plain("mhz", "2000"))
        .holding(plain("model", "i986"))
        .holding(plain("active", "8"))
        .holding(plain("nodes", "1"))
        .holding(plain("sockets", "1"))
        .holding(plain("cores", "8"))
        .holding(plain("threads", "1"));
    let network = Element::new("network")
        .with("type", "test")
        .holding(plain("name", "default"))
        .holding(plain("uuid", "a5c11e00-0000-4000-8000-00000000f001"))
        .holding(Element::new("bridge").with("name", "virbr0"))
        .holding(Element::new("forward").with("mode", "nat"))
        .holding(Element::new("ip").with("address", "192.168.122.1").with("netmask", "255.255.255.0"));
    let volume = |name: &str, bytes: u64, format: &str| {
        let target = Element::new("target")
            .holding(plain("path", &format!("/default-pool/{name}")))
            .holding(Element::new("format").with("type", format));
        Element::new("volume")
            .with("type", "file")
            .holding(plain("name", name))
            .holding(plain("capacity", &bytes.to_string()))
            .holding(plain("allocation", "0"))
            .holding(target)
    };
    let pool = Element::new("pool")
        .with("type", "dir")
        .holding(plain("name", "default"))
        .holding(plain("uuid", "a5c11e00-0000-4000-8000-00000000f002"))
        .holding(Element::new("target").holding(plain("path", "/default-pool")))
        .holding(volume("disk0.qcow2", 10 << 30, "qcow2"))
        .holding(volume("boot.tick", 1 << 20, "raw"));
    let machines = (0..domains).map(|number| {
        let state = if number % 2 == 0 { "1" } else { "5" };
        Element::new("domain")
            .with("type", "test")
            .with("xmlns:test", "http://libvirt.org/schemas/domain/test/1.0")
            .holding(plain("name", &format!("vm{number:05}")))
            .holding(plain("uuid", &domain_uuid(number).to_string()))
            .holding(plain("memory", "131072"))
            .holding(plain("vcpu", "1"))
            .holding(Element::new("os").holding(plain("type", "hvm")))
            .holding(plain("test:runstate", state))
    });
    write(&Element::new("node").holding(host).holding(network).holding(pool).holding_all(machines))
}
