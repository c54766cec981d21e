//! The disks of a machine: how they are attached, changed, fed with media, resized, copied and merged. Pure.
//!
//! A disk is named by what the guest's side of it is called, for example `vda`.

use super::{edit::*, nic::check_rate};
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, Done, Started, declare},
    volume::Need,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a disk is connected to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// The fast one, for guests that know it.
    Virtio,
    /// SCSI, on a virtio controller.
    Scsi,
    /// SATA.
    Sata,
    /// IDE, which every guest knows. Not while it runs.
    Ide,
    /// USB.
    Usb,
}

impl Bus {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            Bus::Virtio => "virtio",
            Bus::Scsi => "scsi",
            Bus::Sata => "sata",
            Bus::Ide => "ide",
            Bus::Usb => "usb",
        }
    }
    /// How names of its disks begin.
    pub fn prefix(self) -> &'static str {
        match self {
            Bus::Virtio => "vd",
            Bus::Ide => "hd",
            Bus::Scsi | Bus::Sata | Bus::Usb => "sd",
        }
    }
}

/// How the host caches a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The hypervisor's choice.
    Default,
    /// Not at all; can be moved to another host.
    None,
    /// Reads only.
    Writethrough,
    /// Reads and writes; the guest's flushes are obeyed.
    Writeback,
    /// Not at all, and every write waits for the disk.
    Directsync,
    /// Everything, and flushes are ignored: data is lost when the host fails.
    Unsafe,
}

impl Cache {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            Cache::Default => "default",
            Cache::None => "none",
            Cache::Writethrough => "writethrough",
            Cache::Writeback => "writeback",
            Cache::Directsync => "directsync",
            Cache::Unsafe => "unsafe",
        }
    }
}

/// Limits of a disk, as libvirt names them; 0 means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limits {
    pub total_iops: Option<u64>,
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
    pub total_bytes: Option<u64>,
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
}

impl Limits {
    /// Each limit that is named, with libvirt's word for it.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let all = [
            ("total_bytes_sec", self.total_bytes),
            ("read_bytes_sec", self.read_bytes),
            ("write_bytes_sec", self.write_bytes),
            ("total_iops_sec", self.total_iops),
            ("read_iops_sec", self.read_iops),
            ("write_iops_sec", self.write_iops),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    fn check(&self) -> Result<(), Fault> {
        // libvirt's own bound (QEMU takes no more).
        const MOST: u64 = 1_000_000_000_000_000;
        if let Some((name, value)) = self.named().find(|(_, v)| *v > MOST) {
            return Err(Fault::invalid(format!("{name} cannot be {value}; the largest limit is {MOST}, and 0 means no limit")));
        }
        for (total, parts) in
            [(self.total_iops, [self.read_iops, self.write_iops]), (self.total_bytes, [self.read_bytes, self.write_bytes])]
        {
            if total.is_some_and(|t| t > 0) && parts.into_iter().flatten().any(|p| p > 0) {
                return Err(Fault::invalid("a limit is set for reads and writes together or for each, not both"));
            }
        }
        Ok(())
    }
}

/// Give a machine another disk. The volume must not be a disk of another machine, unless both share it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachDisk {
    /// The volume as POOL/VOLUME.
    pub volume: String,
    /// What the guest's side of it is called, for example vdb; without it the next free one.
    #[serde(default)]
    pub device: Option<String>,
    /// How it is connected; virtio without it.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// How the host caches it.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// Whether what the guest discards is given back to the pool.
    #[serde(default)]
    pub discard: Option<bool>,
    /// Whether the guest can only read it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether several machines use it at once, with a file system made for that.
    #[serde(default)]
    pub shareable: bool,
    /// Whether it is a CD-ROM drive with that volume in it.
    #[serde(default)]
    pub cdrom: bool,
    /// Most operations in a second.
    #[serde(default)]
    pub iops: Option<u64>,
    /// Most bytes in a second, for example 50MiB.
    #[serde(default)]
    pub bandwidth: Option<Bytes>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(AttachDisk, "domain.attach-disk", Change, AttachDisk);

/// Take a disk from a machine. Its volume stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachDisk {
    /// Which one, for example vdb.
    pub disk: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(DetachDisk, "domain.detach-disk", Destroy, DetachDisk);

/// Change how a disk is connected, cached and limited. Limits apply now; the rest at the next boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDisk {
    /// Which one, for example vda.
    pub disk: String,
    /// How it is connected; its name changes with it.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// How the host caches it.
    #[serde(default)]
    pub cache: Option<Cache>,
    /// Whether what the guest discards is given back to the pool.
    #[serde(default)]
    pub discard: Option<bool>,
    /// Most operations in a second; 0 for no limit.
    #[serde(default)]
    pub iops: Option<u64>,
    /// Most reads in a second; 0 for no limit.
    #[serde(default)]
    pub read_iops: Option<u64>,
    /// Most writes in a second; 0 for no limit.
    #[serde(default)]
    pub write_iops: Option<u64>,
    /// Most bytes in a second, for example 50MiB; 0 for no limit.
    #[serde(default)]
    pub bandwidth: Option<Bytes>,
    /// Most bytes read in a second; 0 for no limit.
    #[serde(default)]
    pub read_bandwidth: Option<Bytes>,
    /// Most bytes written in a second; 0 for no limit.
    #[serde(default)]
    pub write_bandwidth: Option<Bytes>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}
editing!(SetDisk, "domain.set-disk", Change, SetDisk);

/// Put another medium into a CD-ROM or floppy drive, or take it out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeMedia {
    /// Which drive, for example sda; without it the only one there is.
    pub drive: Option<String>,
    /// The medium as POOL/VOLUME; without it the drive is emptied.
    pub volume: Option<String>,
    /// Take the old medium out even if the guest has locked the drive.
    pub force: bool,
    /// When it applies.
    pub when: When,
}
editing!(ChangeMedia, "domain.change-media", Change, Media);

/// Make a disk larger. A running guest sees it at once; the file system in it is the guest's affair.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeDisk {
    /// Which one, for example vda.
    pub disk: String,
    /// Its new size, for example 20GiB.
    pub size: Bytes,
}
declare!(ResizeDisk, "domain.resize-disk", Change, Admin, Domain, Done);

/// Copy a disk of a running machine to another volume, and let the machine go on with the copy. The old volume stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyDisk {
    /// Which one, for example vda.
    pub disk: String,
    /// The volume it is copied to, as POOL/VOLUME. It must exist, be as large, and be no machine's disk.
    pub to: String,
    /// Most bytes in a second, for example 50MiB.
    #[serde(default)]
    pub bandwidth: Option<Bytes>,
}
declare!(CopyDisk, "domain.copy-disk", Change, Admin, Domain, Started);

/// Merge the newest layer of a running machine's disk into the one below it, and let the machine go on with that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitDisk {
    /// Which one, for example vda.
    pub disk: String,
}
declare!(CommitDisk, "domain.commit-disk", Change, Admin, Domain, Started);

// ---------------------------------------------------------------- checks

/// Pool and volume from `POOL/VOLUME`.
pub fn volume_of(text: &str) -> Result<(String, String), Fault> {
    let plain = |s: &str| !s.is_empty() && s.len() <= 255 && !s.contains('/') && !s.contains("..") && !s.chars().any(char::is_control);
    match text.split_once('/') {
        Some((pool, volume)) if plain(pool) && plain(volume) => Ok((pool.to_owned(), volume.to_owned())),
        _ => Err(Fault::invalid(format!("a volume is written POOL/VOLUME, not {:?}", text.chars().take(80).collect::<String>()))),
    }
}

fn check_target(target: &str) -> Result<(), Fault> {
    let letters = ["vd", "sd", "hd", "fd", "xvd"].iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or_default();
    if (1..=3).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(Fault::invalid(format!("{:?} is not the name of a disk such as vda", target.chars().take(80).collect::<String>())))
}

impl AttachDisk {
    /// What the volume is wanted for.
    pub fn need(&self) -> Need {
        if self.shareable || self.read_only || self.cdrom { Need::Shared } else { Need::Sole }
    }
    /// Its limits.
    pub fn limits(&self) -> Limits {
        Limits { total_iops: self.iops, total_bytes: self.bandwidth.map(|b| b.0), ..Limits::default() }
    }
    fn check(&self) -> Result<(), Fault> {
        volume_of(&self.volume)?;
        self.device.as_deref().into_iter().try_for_each(check_target)?;
        if let (Some(target), Some(bus)) = (&self.device, self.bus)
            && !target.starts_with(bus.prefix())
        {
            return Err(Fault::invalid(format!("names of disks on {} begin with {}, not like {target}", bus.name(), bus.prefix())));
        }
        self.limits().check()
    }
}

impl DetachDisk {
    fn check(&self) -> Result<(), Fault> {
        check_target(&self.disk)
    }
}

impl SetDisk {
    /// Its limits.
    pub fn limits(&self) -> Limits {
        let bytes = |b: Option<Bytes>| b.map(|b| b.0);
        Limits {
            total_iops: self.iops,
            read_iops: self.read_iops,
            write_iops: self.write_iops,
            total_bytes: bytes(self.bandwidth),
            read_bytes: bytes(self.read_bandwidth),
            write_bytes: bytes(self.write_bandwidth),
        }
    }
    /// Whether it changes something a running guest cannot be given.
    pub fn needs_boot(&self) -> bool {
        self.bus.is_some() || self.cache.is_some() || self.discard.is_some()
    }
    fn check(&self) -> Result<(), Fault> {
        check_target(&self.disk)?;
        something(self.needs_boot() || self.limits().named().next().is_some())?;
        if self.needs_boot() {
            next_boot_only(self.when, "how a disk is connected and cached")?;
        }
        self.limits().check()
    }
}

impl ChangeMedia {
    fn check(&self) -> Result<(), Fault> {
        self.drive.as_deref().into_iter().try_for_each(check_target)?;
        self.volume.as_deref().into_iter().try_for_each(|v| volume_of(v).map(drop))
    }
}

impl ResizeDisk {
    /// Refuses sizes that cannot be.
    pub fn check(&self) -> Result<(), Fault> {
        check_target(&self.disk)?;
        if self.size < Bytes::MIB || self.size > Bytes(1 << 50) || !self.size.0.is_multiple_of(512) {
            return Err(Fault::invalid(format!("a disk has between 1 MiB and 1024 TiB in whole blocks of 512 bytes, not {}", self.size)));
        }
        Ok(())
    }
}

impl CopyDisk {
    /// Refuses what cannot be a copy.
    pub fn check(&self) -> Result<(), Fault> {
        check_target(&self.disk)?;
        volume_of(&self.to)?;
        check_rate(self.bandwidth)
    }
}

impl CommitDisk {
    /// Refuses what is no disk.
    pub fn check(&self) -> Result<(), Fault> {
        check_target(&self.disk)
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
    fn names_that_leave_their_place_are_refused() {
        for volume in ["", "a", "a/", "/a", "p/../etc/passwd", "p/a/b", "p/a\u{0}"] {
            assert!(refused::<AttachDisk>(json!({ "volume": volume })).contains("POOL/VOLUME"), "{volume:?}");
        }
        for target in ["", "vd", "xda", "vda1", "vdA", "vdabcd", "sd/", "v\u{e4}a"] {
            assert!(refused::<DetachDisk>(json!({ "disk": target })).contains("not the name of a disk"), "{target:?}");
        }
    }

    #[test]
    fn limits_are_sensible_together() {
        assert!(refused::<SetDisk>(json!({"disk": "vda", "iops": 5, "read_iops": 1})).contains("not both"));
        assert!(refused::<SetDisk>(json!({"disk": "vda", "iops": 10u64 << 60})).contains("largest limit"));
        assert!(refused::<SetDisk>(json!({"disk": "vda"})).contains("nothing was named"));
        assert!(refused::<SetDisk>(json!({"disk": "vda", "cache": "none", "when": "now"})).contains("next boot"));
    }

    #[test]
    fn disks_have_sizes_that_can_be() {
        for size in [0, 1, 1 << 20 | 1, 10 << 60] {
            assert!(ResizeDisk { disk: "vda".into(), size: Bytes(size) }.check().is_err(), "{size}");
        }
        assert!(ResizeDisk { disk: "vda".into(), size: Bytes(1 << 30) }.check().is_ok());
    }
}
