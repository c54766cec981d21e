//! Pools and volumes as libvirt wants them described, and the disks that a machine's definition names.

use super::tree::{self, BadXml, Element, write};
use archipel_contract::{
    Bytes,
    storage_pool::{PoolSpec, PoolType},
    volume::VolumeFormat,
};

fn plain(name: &str, text: &str) -> Element {
    Element::new(name).saying(text)
}

/// A pool's definition.
pub fn pool(spec: &PoolSpec) -> String {
    let kind = spec.pool_type;
    let host = spec.host.as_ref().map(|(name, port)| {
        let host = Element::new("host").with("name", name.as_str());
        match port {
            Some(port) => host.with("port", port.to_string()),
            None => host,
        }
    });
    let devices = spec.devices.iter().map(|path| Element::new("device").with("path", path.as_str()));
    let auth = spec.auth.as_ref().map(|(user, secret)| {
        let scheme = if kind == PoolType::Rbd { "ceph" } else { "chap" };
        let secret = Element::new("secret").with("uuid", secret.to_string());
        Element::new("auth").with("type", scheme).with("username", user.as_str()).holding(secret)
    });
    let format = match (kind, &spec.format) {
        (PoolType::Logical, _) => Some("lvm2"),
        (_, format) => format.as_deref(),
    };
    let name = spec.source_name.as_deref().map(|name| match kind {
        PoolType::Scsi => Element::new("adapter").with("type", "scsi_host").with("name", name),
        _ => plain("name", name),
    });
    let source = Element::new("source")
        .holding_all(host)
        .holding_all(devices)
        .holding_all(spec.dir.as_deref().map(|path| Element::new("dir").with("path", path)))
        .holding_all(name)
        .holding_all(auth)
        .holding_all(format.map(|format| Element::new("format").with("type", format)));
    let usual = match kind {
        PoolType::Logical => spec.source_name.as_deref().map(|name| format!("/dev/{name}")),
        PoolType::Iscsi | PoolType::Scsi => Some("/dev/disk/by-path".to_owned()),
        _ => None,
    };
    let target = spec.target.clone().or(usual).map(|path| Element::new("target").holding(plain("path", &path)));
    let has_source = !source.children.is_empty();
    let root = Element::new("pool").with("type", kind.name()).holding(plain("name", &spec.name));
    write(&root.holding_all(has_source.then_some(source)).holding_all(target))
}

/// A volume to be made.
#[derive(Debug, Clone, Copy)]
pub struct VolumeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its size.
    pub capacity: Bytes,
    /// What of it is taken at once.
    pub allocation: Bytes,
    /// Its format.
    pub format: VolumeFormat,
    /// Path and format of what it is built on.
    pub backing: Option<(&'a str, &'a str)>,
}

/// A volume's description. A qcow2 volume is always of version 1.1: without a word libvirt makes one that can have no checkpoints.
pub fn volume(spec: &VolumeSpec<'_>) -> String {
    let format = |name: &str| Element::new("format").with("type", name);
    let mut target = Element::new("target").holding(format(spec.format.name()));
    if spec.format == VolumeFormat::Qcow2 {
        target = target.holding(plain("compat", "1.1"));
    }
    let size = |name: &str, size: Bytes| plain(name, &size.0.to_string()).with("unit", "bytes");
    let backing = spec.backing.map(|(path, of)| Element::new("backingStore").holding(plain("path", path)).holding(format(of)));
    let root = Element::new("volume")
        .holding(plain("name", spec.name))
        .holding(size("capacity", spec.capacity))
        .holding(size("allocation", spec.allocation));
    write(&root.holding(target).holding_all(backing))
}

/// Where something a machine uses is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// At a path of the host, or by that name in a pool of the network.
    Path(String),
    /// In a pool, by their names.
    Volume(String, String),
}

/// Something a machine's definition names: a disk, its firmware's variables, its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// `vda`, `nvram`, `kernel` ...
    pub device: String,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether other machines may have it too.
    pub shareable: bool,
    /// The image itself, then those it is built on as far as libvirt tells.
    pub chain: Vec<Source>,
}

/// What a machine's definition names.
pub fn used(xml: &str) -> Result<Vec<Used>, BadXml> {
    let root = tree::parse(xml)?;
    let mut found = Vec::new();
    for (device, read_only) in [("nvram", false), ("kernel", true), ("initrd", true), ("dtb", true)] {
        let path = root.at(&["os", device]).map(|e| e.text().trim().to_owned()).filter(|p| !p.is_empty());
        found.extend(path.map(|path| Used { device: device.to_owned(), read_only, shareable: false, chain: vec![Source::Path(path)] }));
    }
    for disk in root.child("devices").iter().flat_map(|d| d.elements()).filter(|e| e.name == "disk") {
        let mut chain = Vec::new();
        let mut level = Some(disk);
        while let Some(element) = level {
            let kind = element.attribute("type").unwrap_or("file");
            chain.extend(element.child("source").and_then(|s| source(s, kind)));
            // While a copy is being made it is used as well.
            chain.extend(element.child("mirror").and_then(|m| {
                let inner = m.child("source");
                inner
                    .and_then(|s| source(s, m.attribute("type").unwrap_or("file")))
                    .or_else(|| m.attribute("file").map(|f| Source::Path(f.into())))
            }));
            level = element.child("backingStore");
        }
        if chain.is_empty() {
            continue;
        }
        let device = disk.child("target").and_then(|t| t.attribute("dev")).unwrap_or("disk").to_owned();
        let read_only = disk.child("readonly").is_some() || disk.attribute("device") == Some("cdrom");
        let shareable = disk.child("shareable").is_some();
        found.push(Used { device, read_only, shareable, chain });
    }
    Ok(found)
}

fn source(element: &Element, kind: &str) -> Option<Source> {
    let value = |name: &str| element.attribute(name).map(str::to_owned).filter(|v| !v.is_empty());
    match kind {
        "block" => value("dev").map(Source::Path),
        "dir" => value("dir").map(Source::Path),
        "network" => value("name").map(Source::Path),
        "volume" => Some(Source::Volume(value("pool")?, value("volume")?)),
        _ => value("file").map(Source::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::parse;
    use proptest::prelude::*;

    fn spec(pool_type: PoolType) -> PoolSpec {
        PoolSpec { name: "p".into(), pool_type, ..PoolSpec::default() }
    }

    #[test]
    fn every_type_of_pool_is_described_as_libvirt_documents_it() {
        let dir = PoolSpec { target: Some("/srv/p".into()), ..spec(PoolType::Dir) };
        assert_eq!(pool(&dir), "<pool type='dir'><name>p</name><target><path>/srv/p</path></target></pool>");
        let fs = PoolSpec {
            devices: vec!["/dev/sdb1".into()],
            format: Some("ext4".into()),
            ..PoolSpec { pool_type: PoolType::Fs, ..dir.clone() }
        };
        assert_eq!(
            pool(&fs),
            "<pool type='fs'><name>p</name><source><device path='/dev/sdb1'/><format type='ext4'/></source><target><path>/srv/p</path></target></pool>"
        );
        let netfs = PoolSpec {
            host: Some(("nas".into(), None)),
            dir: Some("/export".into()),
            format: Some("nfs".into()),
            ..PoolSpec { pool_type: PoolType::Netfs, ..dir.clone() }
        };
        assert_eq!(
            pool(&netfs),
            "<pool type='netfs'><name>p</name><source><host name='nas'/><dir path='/export'/><format type='nfs'/></source><target><path>/srv/p</path></target></pool>"
        );
        let logical =
            PoolSpec { source_name: Some("vg0".into()), devices: vec!["/dev/sdb".into(), "/dev/sdc".into()], ..spec(PoolType::Logical) };
        assert_eq!(
            pool(&logical),
            "<pool type='logical'><name>p</name><source><device path='/dev/sdb'/><device path='/dev/sdc'/><name>vg0</name><format type='lvm2'/></source><target><path>/dev/vg0</path></target></pool>"
        );
        let iscsi =
            PoolSpec { host: Some(("san".into(), Some(3260))), devices: vec!["iqn.2026-01.example:p".into()], ..spec(PoolType::Iscsi) };
        assert_eq!(
            pool(&iscsi),
            "<pool type='iscsi'><name>p</name><source><host name='san' port='3260'/><device path='iqn.2026-01.example:p'/></source><target><path>/dev/disk/by-path</path></target></pool>"
        );
        let secret = uuid::Uuid::from_u128(7);
        let rbd = PoolSpec {
            host: Some(("mon1".into(), Some(6789))),
            source_name: Some("vms".into()),
            auth: Some(("libvirt".into(), secret)),
            ..spec(PoolType::Rbd)
        };
        assert_eq!(
            pool(&rbd),
            format!(
                "<pool type='rbd'><name>p</name><source><host name='mon1' port='6789'/><name>vms</name><auth type='ceph' username='libvirt'><secret uuid='{secret}'/></auth></source></pool>"
            )
        );
        let zfs = PoolSpec { source_name: Some("tank/vms".into()), ..spec(PoolType::Zfs) };
        assert_eq!(pool(&zfs), "<pool type='zfs'><name>p</name><source><name>tank/vms</name></source></pool>");
        let scsi = PoolSpec { source_name: Some("host0".into()), ..spec(PoolType::Scsi) };
        assert_eq!(
            pool(&scsi),
            "<pool type='scsi'><name>p</name><source><adapter type='scsi_host' name='host0'/></source><target><path>/dev/disk/by-path</path></target></pool>"
        );
    }

    #[test]
    fn a_qcow2_volume_is_of_version_1_1() {
        let made = VolumeSpec {
            name: "a",
            capacity: Bytes::MIB,
            allocation: Bytes(0),
            format: VolumeFormat::Qcow2,
            backing: Some(("/p/b", "raw")),
        };
        let root = parse(&volume(&made)).unwrap();
        assert_eq!(root.at(&["target", "compat"]).unwrap().text(), "1.1");
        assert_eq!(root.at(&["backingStore", "format"]).unwrap().attribute("type"), Some("raw"));
        assert_eq!(root.child("capacity").unwrap().text(), "1048576");
        let raw = parse(&volume(&VolumeSpec { format: VolumeFormat::Raw, backing: None, ..made })).unwrap();
        assert!(raw.at(&["target", "compat"]).is_none() && raw.child("backingStore").is_none());
    }

    #[test]
    fn everything_a_machine_holds_is_found() {
        let xml = "<domain><os><nvram>/v/a.fd</nvram></os><devices>\
            <disk type='file' device='disk'><source file='/p/a'/><backingStore type='file'><source file='/p/b'/><backingStore type='block'>\
            <source dev='/dev/vg/c'/><backingStore/></backingStore></backingStore><target dev='vda'/></disk>\
            <disk type='volume' device='disk'><source pool='images' volume='d'/><target dev='vdb'/></disk>\
            <disk type='network' device='disk'><source protocol='rbd' name='vms/e'/><target dev='vdc'/></disk>\
            <disk type='file' device='cdrom'><source file='/p/f.iso'/><target dev='sda'/><readonly/></disk>\
            <disk type='file' device='cdrom'><target dev='sdb'/><readonly/></disk></devices></domain>";
        let found = used(xml).unwrap();
        let path = |p: &str| Source::Path(p.into());
        assert_eq!(found.iter().map(|u| u.device.as_str()).collect::<Vec<_>>(), ["nvram", "vda", "vdb", "vdc", "sda"]);
        assert_eq!(found[1].chain, [path("/p/a"), path("/p/b"), path("/dev/vg/c")]);
        assert_eq!(found[2].chain, [Source::Volume("images".into(), "d".into())]);
        assert_eq!((found[3].chain.as_slice(), found[4].read_only, found[1].read_only), (&[path("vms/e")][..], true, false));
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_place(name in "\\PC{1,20}", dir in "\\PC{1,20}", format in "\\PC{1,9}", path in "\\PC{1,20}") {
            let made = PoolSpec { name: name.clone(), dir: Some(dir.clone()), format: Some(format.clone()), target: Some(path.clone()), ..spec(PoolType::Netfs) };
            let root = parse(&pool(&made)).unwrap();
            prop_assert_eq!(root.child("name").unwrap().text(), name);
            prop_assert_eq!(root.at(&["source", "dir"]).unwrap().attribute("path"), Some(dir.as_str()));
            prop_assert_eq!(root.at(&["target", "path"]).unwrap().text(), path);
            prop_assert_eq!(root.elements().count(), 3);
        }

        #[test]
        fn no_text_makes_the_reader_of_disks_panic(text in "(<domain>|<devices>|<disk|<source|<backingStore>|[<>/a-c='\"&; ]){0,20}") {
            let _ = used(&text);
        }
    }
}
