//! Which backups belong together: what one needs to be brought back, what may be deleted, and on what the next one builds. Pure.
//!
//! ```text
//!   full <-- inc <-- inc      each names its parent; of a chain that is broken nothing after the break can be brought back
//!      vda: full, inc, inc  -->  layers of vda: all three
//!      vdb: full, full, inc -->  layers of vdb: the last two      (a raw disk, or one that grew, is taken whole each time)
//! ```

use super::{BackupDisk, BackupKind, Checkpoint, MANIFEST, Manifest};
use crate::{
    Bytes, DomainId, Fault, FaultKind,
    volume::{UsedDisk, VolumeFormat},
};
use std::collections::BTreeMap;

/// Longer chains are not followed: whoever made one wants to make a full backup now and then.
const LONGEST: usize = 1000;

/// The backups in one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// What could be read.
    pub manifests: Vec<Manifest>,
    /// What could not: names and reasons.
    pub unreadable: Vec<(String, String)>,
    /// How long each file that a manifest names is; those that are missing are not here.
    pub files: BTreeMap<String, Bytes>,
}

/// The files of one disk, oldest first; the first holds all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The disk's name in the machine.
    pub device: String,
    /// Its size.
    pub capacity: Bytes,
    /// How it was written.
    pub format: VolumeFormat,
    /// Where it was.
    pub source: String,
    /// The files.
    pub files: Vec<String>,
}

fn broken(message: String) -> Fault {
    Fault::new(FaultKind::WrongState, message)
}

impl Archive {
    /// Whether a volume of the pool is part of a backup.
    pub fn holds(&self, volume: &str) -> bool {
        self.files.contains_key(volume) || volume.ends_with(MANIFEST)
    }

    /// The backup with that name.
    pub fn find(&self, name: &str) -> Result<&Manifest, Fault> {
        if let Some(found) = self.manifests.iter().find(|m| m.name == name) {
            return Ok(found);
        }
        let shown: String = name.chars().take(100).collect();
        match self.unreadable.iter().find(|(unreadable, _)| unreadable == name) {
            Some((_, why)) => Err(broken(format!("the backup {shown} cannot be read: {why}"))),
            None => Err(Fault::not_found(format!("there is no backup {shown:?} in that pool; list its backups"))),
        }
    }

    /// The backup and all it builds on, oldest first.
    pub fn chain(&self, name: &str) -> Result<Vec<&Manifest>, Fault> {
        let newest = self.find(name)?;
        let mut chain = vec![newest];
        let mut at = newest;
        while at.kind == BackupKind::Incremental {
            let Some(parent) = &at.parent else {
                return Err(broken(format!("{} is broken: it is incremental and does not say on what it builds", at.name)));
            };
            let Some(below) = self.manifests.iter().find(|m| m.name == *parent) else {
                return Err(broken(format!("{name} is broken: {parent} is missing, on which {} builds", at.name)));
            };
            if below.uuid != newest.uuid {
                return Err(broken(format!("{name} is broken: {parent}, on which it builds, is of another machine")));
            }
            if chain.len() >= LONGEST || chain.iter().any(|m| m.name == below.name) {
                return Err(broken(format!("{name} is broken: the backups it builds on build on each other")));
            }
            chain.push(below);
            at = below;
        }
        chain.reverse();
        Ok(chain)
    }

    /// What brings each disk of a backup back.
    pub fn layers(&self, name: &str) -> Result<Vec<Layers>, Fault> {
        let chain = self.chain(name)?;
        let all = layers(&chain)?;
        for file in chain.iter().flat_map(|m| &m.disks).filter(|d| all.iter().any(|l| l.files.contains(&d.file))) {
            match self.files.get(&file.file) {
                None => return Err(broken(format!("{name} is broken: its file {} is missing", file.file))),
                Some(length) if *length != file.length => {
                    let text = format!("{name} is broken: {} has {} bytes and should have {}", file.file, length.0, file.length.0);
                    return Err(broken(text));
                }
                Some(_) => {}
            }
        }
        Ok(all)
    }

    /// What is wrong with a backup, if something can be seen to be without reading it through.
    pub fn trouble(&self, name: &str) -> Option<String> {
        self.layers(name).err().map(|fault| fault.message)
    }

    /// The backup on which the next one of that machine builds, or why there is none.
    pub fn base(&self, machine: DomainId, checkpoints: &[String]) -> Result<&Manifest, String> {
        let last = self.manifests.iter().filter(|m| m.uuid == machine).max_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        let Some(last) = last else { return Err("it is the first backup of this machine in this pool".to_owned()) };
        if let Some(why) = self.trouble(&last.name) {
            return Err(why);
        }
        if self.chain(&last.name).is_ok_and(|c| c.len() >= LONGEST) {
            return Err(format!("{LONGEST} backups build on each other already"));
        }
        match &last.checkpoint {
            None => Err(format!("the last backup, {}, was made while the machine was off", last.name)),
            Some(checkpoint) if !checkpoints.contains(checkpoint) => {
                Err(format!("the checkpoint of the last backup, {}, is gone", last.name))
            }
            Some(_) => Ok(last),
        }
    }

    /// The backups that are deleted when this one is, in the order in which each can go; refused while others build on it unless they
    /// go as well.
    pub fn going(&self, name: &str, with_later: bool) -> Result<Vec<&Manifest>, Fault> {
        let first = self.find(name)?;
        let mut going = vec![first];
        let mut at = 0;
        while at < going.len() {
            let above = |m: &&Manifest| m.parent.as_ref() == Some(&going[at].name) && !going.iter().any(|g| g.name == m.name);
            let more: Vec<&Manifest> = self.manifests.iter().filter(above).collect();
            going.extend(more);
            at += 1;
        }
        if going.len() > 1 && !with_later {
            let names: Vec<&str> = going.iter().skip(1).map(|m| m.name.as_str()).collect();
            return Err(Fault::busy(format!(
                "{name} is needed by {}, which build on it; say --with-later to delete them as well",
                names.join(", ")
            )));
        }
        // Whatever builds on another goes first, so that nothing is ever left that builds on nothing.
        going.reverse();
        Ok(going)
    }
}

/// The checkpoints of a machine that are of images it has no more: it was taken back to a backup, and whoever did that died before it had
/// forgotten them. `disks` is what it has now. Of a checkpoint that no backup tells of, and of disks that are gone, nobody can say that.
pub fn outlived<'a>(checkpoints: &'a [Checkpoint], manifests: &[Manifest], disks: &[UsedDisk]) -> Vec<&'a str> {
    let other = |disk: &BackupDisk| {
        let now = disks.iter().find(|d| d.device == disk.device);
        disk.source.starts_with('/') && now.is_some_and(|now| !now.paths.contains(&disk.source))
    };
    let of = |name: &str| manifests.iter().find(|m| m.checkpoint.as_deref() == Some(name));
    let is_outlived = |name: &&str| of(name).is_some_and(|m| !m.disks.is_empty() && m.disks.iter().all(other));
    checkpoints.iter().map(|c| c.name.as_str()).filter(is_outlived).collect()
}

/// What brings each disk of the last of these back; they are one chain, oldest first.
pub fn layers(chain: &[&Manifest]) -> Result<Vec<Layers>, Fault> {
    let Some(newest) = chain.last() else { return Ok(Vec::new()) };
    newest
        .disks
        .iter()
        .map(|disk| {
            let mut files = Vec::new();
            for manifest in chain.iter().rev() {
                let Some(layer) = manifest.disks.iter().find(|d| d.device == disk.device) else { break };
                files.push(layer.file.clone());
                if layer.kind == BackupKind::Full {
                    files.reverse();
                    let (device, source) = (disk.device.clone(), disk.source.clone());
                    return Ok(Layers { device, capacity: disk.capacity, format: disk.format, source, files });
                }
            }
            Err(broken(format!("{} is broken: nothing it builds on holds all of {}", newest.name, disk.device)))
        })
        .collect()
}

/// What is taken of a disk: what was written since only where QEMU noted that, which it does in qcow2 images, and only of the same image
/// with the same size.
pub fn disk_kind(base: Option<&Manifest>, device: &str, source: &str, capacity: Bytes, format: VolumeFormat) -> BackupKind {
    let before = base.and_then(|base| base.disks.iter().find(|d| d.device == device));
    match before {
        Some(before)
            if format == VolumeFormat::Qcow2 && before.source == source && before.capacity == capacity && before.format == format =>
        {
            BackupKind::Incremental
        }
        _ => BackupKind::Full,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Timestamp, backup::BackupDisk};

    fn disk(device: &str, name: &str, kind: BackupKind) -> BackupDisk {
        BackupDisk {
            device: device.to_owned(),
            file: format!("{name}.{device}.qcow2"),
            kind,
            capacity: Bytes::MIB,
            format: VolumeFormat::Qcow2,
            source: format!("/images/{device}"),
            length: Bytes(7),
            sha256: String::new(),
        }
    }

    pub(crate) fn full(name: &str, at: u64) -> Manifest {
        Manifest {
            version: super::super::MANIFEST_VERSION,
            name: name.to_owned(),
            machine: "web1".to_owned(),
            uuid: DomainId(uuid::Uuid::from_u128(1)),
            host: "alpha".parse().unwrap(),
            at: Timestamp(at),
            kind: BackupKind::Full,
            because: String::new(),
            parent: None,
            checkpoint: Some(name.to_owned()),
            running: true,
            quiesced: false,
            disks: vec![disk("vda", name, BackupKind::Full), disk("vdb", name, BackupKind::Full)],
            left_out: Vec::new(),
            definition: "<domain/>".to_owned(),
        }
    }

    fn inc(name: &str, at: u64, parent: &str) -> Manifest {
        let disks = vec![disk("vda", name, BackupKind::Incremental), disk("vdb", name, BackupKind::Full)];
        Manifest { kind: BackupKind::Incremental, parent: Some(parent.to_owned()), disks, ..full(name, at) }
    }

    fn archive(manifests: Vec<Manifest>) -> Archive {
        let files = manifests.iter().flat_map(|m| &m.disks).map(|d| (d.file.clone(), d.length)).collect();
        Archive { manifests, unreadable: vec![("torn".into(), "it ends too early".into())], files }
    }

    fn three() -> Archive {
        archive(vec![inc("c", 3, "b"), full("a", 1), inc("b", 2, "a")])
    }

    fn names(found: &[&Manifest]) -> Vec<String> {
        found.iter().map(|m| m.name.clone()).collect()
    }

    #[test]
    fn a_backup_comes_back_by_all_it_builds_on_and_no_more() {
        let all = three();
        assert_eq!(names(&all.chain("c").unwrap()), ["a", "b", "c"]);
        assert_eq!(names(&all.chain("a").unwrap()), ["a"]);
        let layers = all.layers("c").unwrap();
        assert_eq!(layers[0].files, ["a.vda.qcow2", "b.vda.qcow2", "c.vda.qcow2"]);
        assert_eq!(layers[1].files, ["c.vdb.qcow2"], "a disk that was taken whole needs nothing older");
        assert_eq!(all.layers("a").unwrap()[0].files, ["a.vda.qcow2"]);
    }

    #[test]
    fn every_break_of_a_chain_is_found_and_only_after_it() {
        // Each manifest and each file is taken away in turn.
        for (gone, whole) in [("a", vec![]), ("b", vec!["a"]), ("c", vec!["a", "b"])] {
            let mut all = three();
            all.manifests.retain(|m| m.name != gone);
            for name in ["a", "b", "c"] {
                assert_eq!(all.trouble(name).is_none(), whole.contains(&name), "without {gone}, {name}");
            }
        }
        for (gone, broken) in
            [("a.vda", vec!["a", "b", "c"]), ("b.vda", vec!["b", "c"]), ("c.vda", vec!["c"]), ("a.vdb", vec!["a"]), ("b.vdb", vec!["b"])]
        {
            let (mut missing, mut short) = (three(), three());
            missing.files.remove(&format!("{gone}.qcow2"));
            short.files.insert(format!("{gone}.qcow2"), Bytes(6));
            for name in ["a", "b", "c"] {
                assert_eq!(missing.trouble(name).is_some(), broken.contains(&name), "without {gone}, {name}");
                assert_eq!(short.trouble(name).is_some(), broken.contains(&name), "with a short {gone}, {name}");
            }
        }
    }

    #[test]
    fn chains_that_cannot_be_are_refused_and_end() {
        let looped =
            archive(vec![inc("a", 1, "b"), inc("b", 2, "a"), inc("self", 3, "self"), Manifest { parent: None, ..inc("alone", 4, "") }]);
        for name in ["a", "b", "self", "alone"] {
            assert_eq!(looped.chain(name).unwrap_err().kind, FaultKind::WrongState, "{name}");
        }
        let stranger = Manifest { uuid: DomainId(uuid::Uuid::from_u128(2)), ..full("a", 1) };
        assert!(archive(vec![stranger, inc("b", 2, "a")]).trouble("b").unwrap().contains("another machine"));
        let mut hollow = three();
        hollow.manifests[1].disks.retain(|d| d.device == "vdb");
        assert!(hollow.trouble("c").unwrap().contains("holds all of vda"));
        assert_eq!(three().find("none").unwrap_err().kind, FaultKind::NotFound);
        assert!(three().find("torn").unwrap_err().message.contains("ends too early"));
    }

    #[test]
    fn the_next_one_builds_on_the_last_if_its_checkpoint_is_there() {
        let me = DomainId(uuid::Uuid::from_u128(1));
        let have = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(three().base(me, &have(&["a", "c"])).unwrap().name, "c");
        assert!(three().base(me, &have(&["a", "b"])).unwrap_err().contains("checkpoint of the last backup, c, is gone"));
        assert!(three().base(DomainId(uuid::Uuid::from_u128(9)), &have(&["c"])).unwrap_err().contains("first backup"));
        let off = archive(vec![full("a", 1), Manifest { checkpoint: None, ..full("b", 2) }]);
        assert!(off.base(me, &have(&["a"])).unwrap_err().contains("was off"));
        let mut torn = three();
        torn.files.remove("a.vda.qcow2");
        assert!(torn.base(me, &have(&["c"])).unwrap_err().contains("a.vda.qcow2 is missing"));
    }

    #[test]
    fn what_others_build_on_goes_only_with_them_and_after_them() {
        let all = archive(vec![full("a", 1), inc("b", 2, "a"), inc("c", 3, "b"), inc("d", 4, "a"), full("z", 5)]);
        assert_eq!(names(&all.going("c", false).unwrap()), ["c"]);
        assert_eq!(names(&all.going("z", false).unwrap()), ["z"]);
        let refused = all.going("a", false).unwrap_err();
        assert!(refused.kind == FaultKind::Busy && refused.message.contains("b, d, c"), "{}", refused.message);
        let order = names(&all.going("a", true).unwrap());
        let place = |name: &str| order.iter().position(|n| n == name).unwrap();
        assert_eq!(order.len(), 4);
        assert!(place("c") < place("b") && place("b") < place("a") && place("d") < place("a"), "{order:?}");
        let looped = archive(vec![inc("a", 1, "b"), inc("b", 2, "a")]);
        assert_eq!(looped.going("a", true).unwrap().len(), 2, "what is broken can still be deleted");
    }

    #[test]
    fn only_the_same_qcow2_image_of_the_same_size_is_taken_in_part() {
        let base = full("a", 1);
        let kind = |device, source, size, format| disk_kind(Some(&base), device, source, Bytes(size), format);
        let size = Bytes::MIB.0;
        assert_eq!(kind("vda", "/images/vda", size, VolumeFormat::Qcow2), BackupKind::Incremental);
        assert_eq!(kind("vda", "/images/vda", size, VolumeFormat::Raw), BackupKind::Full);
        assert_eq!(kind("vda", "/images/other", size, VolumeFormat::Qcow2), BackupKind::Full);
        assert_eq!(kind("vda", "/images/vda", size + 512, VolumeFormat::Qcow2), BackupKind::Full);
        assert_eq!(kind("vdc", "/images/vdc", size, VolumeFormat::Qcow2), BackupKind::Full);
        assert_eq!(disk_kind(None, "vda", "/images/vda", Bytes(size), VolumeFormat::Qcow2), BackupKind::Full);
    }

    #[test]
    fn a_checkpoint_is_outlived_when_the_machine_has_none_of_its_images() {
        let note = |name: &str| Checkpoint {
            name: name.to_owned(),
            parent: None,
            created: Timestamp(0),
            disks: vec!["vda".into(), "vdb".into()],
            description: None,
        };
        let has = |disks: &[(&str, &[&str])]| -> Vec<UsedDisk> {
            let one = |(device, paths): &(&str, &[&str])| UsedDisk {
                device: device.to_string(),
                paths: paths.iter().map(ToString::to_string).collect(),
                ..UsedDisk::default()
            };
            disks.iter().map(one).collect()
        };
        let notes = [note("a"), note("unknown")];
        let gone = |disks: &[(&str, &[&str])]| outlived(&notes, &[full("a", 1)], &has(disks)).len();
        assert_eq!(gone(&[("vda", &["/images/vda"]), ("vdb", &["/images/vdb"])]), 0);
        assert_eq!(gone(&[("vda", &["/new/vda"]), ("vdb", &["/new/vdb"])]), 1);
        assert_eq!(gone(&[("vda", &["/new/vda"]), ("vdb", &["/images/vdb"])]), 0, "one of them is still noted in");
        assert_eq!(
            gone(&[("vda", &["/snap/vda", "/images/vda"]), ("vdb", &["/snap/vdb", "/images/vdb"])]),
            0,
            "a layer on top changes nothing"
        );
        assert_eq!(gone(&[("vda", &["/new/vda"])]), 0, "of a disk that is gone nothing is said");
        assert_eq!(gone(&[]), 0);
    }
}
