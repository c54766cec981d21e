//! What an image is, told from its first bytes, and whether opening it would lead QEMU anywhere else. This is found out before any
//! program opens it: a description of a disk may name other files of the host, and QEMU would follow.

use crate::qcow2;
use archipel_contract::Bytes;

/// What an image is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhdx,
    Vdi,
    Vpc,
}

impl Format {
    /// QEMU's word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vhdx => "vhdx",
            Format::Vdi => "vdi",
            Format::Vpc => "vpc",
        }
    }
}

/// An image that one may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    pub format: Format,
    /// Its size as a guest sees it, as its header tells.
    pub capacity: Bytes,
}

/// Brings bytes of the image; fewer than asked for only at the end.
pub(crate) type Reading<'a> = super::tar::Reading<'a>;

const SECTOR: u64 = 512;
/// The longest description of a VMDK that is read.
const DESCRIPTOR: u64 = 64 << 10;

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}
fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

fn broken(what: &str) -> String {
    format!("its {what} header is broken; send the image again")
}

/// What an image of that many bytes is, or why it is not taken.
pub(crate) fn look(length: u64, read: Reading<'_>) -> Result<Image, String> {
    let fetch = |at: u64, count: usize| read(at, count).map_err(|e| format!("it cannot be read: {e}"));
    if length == 0 {
        return Err("it is empty".to_owned());
    }
    let head = fetch(0, 4096)?;
    let starts = |magic: &[u8]| head.starts_with(magic);
    let image = |format, capacity| Image { format, capacity: Bytes(capacity) };
    if starts(&qcow2::MAGIC) {
        if let Some(why) = qcow2::trouble(&head[..head.len().min(qcow2::HEAD)], length) {
            return Err(why);
        }
        if be64(&head, 8).is_none_or(|backing| backing != 0) {
            return Err(
                "it is built on another image, which is not in it; convert it to an image of its own first (volume convert)".to_owned()
            );
        }
        let encrypted = be32(&head, 32).is_none_or(|method| method != 0);
        if encrypted {
            return Err("it is encrypted; decrypt it first".to_owned());
        }
        return Ok(image(Format::Qcow2, be64(&head, 24).ok_or_else(|| broken("qcow2"))?));
    }
    if starts(b"KDMV") {
        return vmdk(&head, length, &fetch).map(|capacity| image(Format::Vmdk, capacity));
    }
    if starts(b"# Disk Descriptor") {
        return Err(
            "it is only the description of a disk, whose content is in other files; export it as one file (streamOptimized)".to_owned()
        );
    }
    if starts(b"COWD") {
        return Err("it is a disk of an old VMware ESX; export it as one file (streamOptimized)".to_owned());
    }
    if starts(b"vhdxfile") {
        return vhdx(length, &fetch).map(|capacity| image(Format::Vhdx, capacity));
    }
    if le32(&head, 64) == Some(0xbeda_107f) {
        // 1 grows, 2 is whole; 3 and 4 belong to other images.
        return match (le32(&head, 76), le64(&head, 368)) {
            (Some(1 | 2), Some(capacity)) => Ok(image(Format::Vdi, capacity)),
            (Some(_), Some(_)) => Err("it is a VDI that is built on another image, which is not in it; export it as a whole".to_owned()),
            _ => Err(broken("VDI")),
        };
    }
    let footer = if starts(b"conectix") { head.clone() } else { fetch(length.saturating_sub(SECTOR), 512)? };
    if footer.starts_with(b"conectix") {
        return match (be32(&footer, 60), be64(&footer, 48)) {
            (Some(2 | 3), Some(capacity)) => Ok(image(Format::Vpc, capacity)),
            (Some(4), _) => Err("it is a VHD that is built on another image, which is not in it; merge it first".to_owned()),
            _ => Err(broken("VHD")),
        };
    }
    let packed = [
        (&b"\x1f\x8b"[..], "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf", "7z"),
    ];
    if let Some((_, name)) = packed.iter().find(|(magic, _)| starts(magic)) {
        return Err(format!("it is compressed ({name}); unpack it and send what is in it"));
    }
    if starts(b"QED\0") || starts(b"WithoutFreeSpace") || starts(b"WithouFreSpacExt") || starts(b"OOOM\0") {
        return Err("its format is not taken here; convert it to qcow2, raw, vmdk, vhdx, vdi or vhd first".to_owned());
    }
    if fetch(0x8001, 5)? == b"CD001" {
        return Err("it is a medium to install from and no disk; put it into the drive of a machine instead".to_owned());
    }
    Ok(image(Format::Raw, length))
}

type Fetch<'a> = dyn Fn(u64, usize) -> Result<Vec<u8>, String> + 'a;

/// A VMDK of one file: its own description must name no other.
fn vmdk(head: &[u8], length: u64, fetch: &Fetch<'_>) -> Result<u64, String> {
    let fields = (le32(head, 4), le64(head, 12), le64(head, 28), le64(head, 36));
    let (Some(version), Some(capacity), Some(at), Some(sectors)) = fields else { return Err(broken("VMDK")) };
    // With a capacity of nothing QEMU takes all there is for a description and follows it.
    if !(1..=3).contains(&version) || capacity == 0 || at == 0 || sectors == 0 {
        return Err("it is a VMDK without a description of its own in it; export it as one file (streamOptimized)".to_owned());
    }
    let (Some(begins), Some(bytes)) = (at.checked_mul(SECTOR), sectors.checked_mul(SECTOR)) else { return Err(broken("VMDK")) };
    if bytes > DESCRIPTOR || begins.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(broken("VMDK"));
    }
    let description = fetch(begins, usize::try_from(bytes).map_err(|_| broken("VMDK"))?)?;
    let text = String::from_utf8_lossy(description.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    let mut extents = 0;
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once('=').map_or((line, ""), |(k, v)| (k.trim(), v.trim().trim_matches('"')));
        match key.to_ascii_lowercase().as_str() {
            "createtype" if !matches!(value.to_ascii_lowercase().as_str(), "streamoptimized" | "monolithicsparse") => {
                return Err(format!(
                    "it is a VMDK of the kind {value:.40}, whose content is in other files; export it as one file (streamOptimized)"
                ));
            }
            "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => {
                return Err("it is a VMDK that is built on another image, which is not in it; export it as a whole".to_owned());
            }
            key if key.starts_with("parentfilename") => {
                return Err("it is a VMDK that is built on another image, which is not in it; export it as a whole".to_owned());
            }
            _ => {}
        }
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) && words.next().is_some_and(|w| w.parse::<u64>().is_ok()) {
            extents += 1;
            if words.next() != Some("SPARSE") {
                return Err("it is a VMDK whose content is in other files; export it as one file (streamOptimized)".to_owned());
            }
        }
    }
    match extents {
        1 => capacity.checked_mul(SECTOR).ok_or_else(|| broken("VMDK")),
        _ => Err(format!("it is a VMDK of {extents} parts, which are in other files; export it as one file (streamOptimized)")),
    }
}

/// Identifiers of a VHDX as they stand in it: the table of what it is, the size it has, and whom it is built on.
const METADATA: [u8; 16] = [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
const DISK_SIZE: [u8; 16] = [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
const PARAMETERS: [u8; 16] = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
const PARENT: [u8; 16] = [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];

/// A VHDX: it may say that it is built on another.
fn vhdx(length: u64, fetch: &Fetch<'_>) -> Result<u64, String> {
    const TABLE: usize = 64 << 10;
    let bad = || broken("VHDX");
    let regions = fetch(192 << 10, TABLE)?;
    if !regions.starts_with(b"regi") {
        return Err(bad());
    }
    let count = le32(&regions, 8).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 2047).ok_or_else(bad)?;
    let region = (0..count).map(|n| 16 + n * 32).find(|at| array(&regions, *at) == Some(METADATA)).ok_or_else(bad)?;
    let begins = le64(&regions, region + 16).filter(|at| *at < length).ok_or_else(bad)?;
    let table = fetch(begins, TABLE)?;
    if !table.starts_with(b"metadata") {
        return Err(bad());
    }
    let count = array(&table, 10).map(u16::from_le_bytes).map(usize::from).filter(|n| *n <= 2047).ok_or_else(bad)?;
    let item = |id: [u8; 16]| (0..count).map(|n| 32 + n * 32).find(|at| array(&table, *at) == Some(id));
    let value = |at: usize, size: usize| -> Result<Vec<u8>, String> {
        let place = le32(&table, at + 16).and_then(|offset| begins.checked_add(u64::from(offset))).ok_or_else(bad)?;
        fetch(place, size)
    };
    let parameters = item(PARAMETERS).map(|at| value(at, 8)).ok_or_else(bad)??;
    let has_parent = le32(&parameters, 4).ok_or_else(bad)? & 2 != 0;
    if has_parent || item(PARENT).is_some() {
        return Err("it is a VHDX that is built on another image, which is not in it; merge it first".to_owned());
    }
    let size = item(DISK_SIZE).map(|at| value(at, 8)).ok_or_else(bad)??;
    le64(&size, 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn looked(bytes: &[u8]) -> Result<Image, String> {
        look(bytes.len() as u64, &|at, count| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[at..(at + count).min(bytes.len())].to_vec())
        })
    }

    fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
        bytes[at..at + what.len()].copy_from_slice(what);
    }

    fn with(mut bytes: Vec<u8>, at: usize, what: &[u8]) -> Vec<u8> {
        put(&mut bytes, at, what);
        bytes
    }

    fn qcow2() -> Vec<u8> {
        let mut image = crate::qcow2::tests::head();
        image.resize(0x40000, 0);
        image
    }

    fn vmdk(description: &str) -> Vec<u8> {
        let mut image = vec![0; 8192];
        put(&mut image, 0, b"KDMV\x03\0\0\0");
        put(&mut image, 12, &2048u64.to_le_bytes());
        put(&mut image, 28, &1u64.to_le_bytes());
        put(&mut image, 36, &4u64.to_le_bytes());
        put(&mut image, 512, description.as_bytes());
        image
    }
    const STREAM: &str = "# Disk DescriptorFile\nversion=1\nCID=5e929341\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n# Extent description\nRW 2048 SPARSE \"a.vmdk\"\n";

    fn vdi(kind: u32) -> Vec<u8> {
        let mut image = vec![0; 4096];
        put(&mut image, 64, &0xbeda_107fu32.to_le_bytes());
        put(&mut image, 76, &kind.to_le_bytes());
        put(&mut image, 368, &(1u64 << 20).to_le_bytes());
        image
    }

    fn vpc(kind: u32, at_its_end: bool) -> Vec<u8> {
        let mut image = vec![7; 4096];
        let at = if at_its_end { 4096 - 512 } else { 0 };
        put(&mut image, at, b"conectix");
        put(&mut image, at + 48, &(1u64 << 20).to_be_bytes());
        put(&mut image, at + 60, &kind.to_be_bytes());
        image
    }

    /// A VHDX with these items of metadata, each with its value.
    fn vhdx(items: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let mut image = vec![0; 512 << 10];
        put(&mut image, 0, b"vhdxfile");
        let (regions, table) = (192 << 10, 320 << 10);
        put(&mut image, regions, b"regi");
        put(&mut image, regions + 8, &1u32.to_le_bytes());
        put(&mut image, regions + 16, &METADATA);
        put(&mut image, regions + 32, &(table as u64).to_le_bytes());
        put(&mut image, table, b"metadata");
        put(&mut image, table + 10, &u16::try_from(items.len()).unwrap().to_le_bytes());
        for (n, (id, value)) in items.iter().enumerate() {
            let offset = 65536 + n * 64;
            put(&mut image, table + 32 + n * 32, id);
            put(&mut image, table + 32 + n * 32 + 16, &u32::try_from(offset).unwrap().to_le_bytes());
            put(&mut image, table + offset, value);
        }
        image
    }
    const PLAIN: [u8; 8] = [0, 0, 16, 0, 0, 0, 0, 0];
    const CHILD: [u8; 8] = [0, 0, 16, 0, 2, 0, 0, 0];
    const SIZE: [u8; 8] = (1u64 << 20).to_le_bytes();

    #[test]
    fn formats_are_told_by_what_they_begin_with() {
        for (format, bytes) in [
            (Format::Qcow2, qcow2()),
            (Format::Vmdk, vmdk(STREAM)),
            (Format::Vmdk, vmdk(&STREAM.replace("streamOptimized", "monolithicSparse"))),
            (Format::Vdi, vdi(1)),
            (Format::Vdi, vdi(2)),
            (Format::Vpc, vpc(3, false)),
            (Format::Vpc, vpc(2, true)),
            (Format::Vhdx, vhdx(&[(PARAMETERS, &PLAIN), (DISK_SIZE, &SIZE)])),
            (Format::Raw, vec![1; 1 << 20]),
        ] {
            assert_eq!(looked(&bytes), Ok(Image { format, capacity: Bytes::MIB }), "{}", format.name());
        }
    }

    #[test]
    fn what_leads_to_another_file_is_refused() {
        let parent = STREAM.replace("CID=5e929341\nparentCID=ffffffff", "CID=1\nparentCID=5e929341");
        let hint = format!("{STREAM}parentFileNameHint=\"/etc/passwd\"\n");
        let two = format!("{STREAM}RW 2048 SPARSE \"/etc/passwd\"\n");
        for (what, bytes, word) in [
            ("qcow2 with a backing file", with(qcow2(), 8, &[0, 0, 0, 0, 0, 0, 1, 0]), "built on another"),
            ("qcow2 with a data file", with(qcow2(), 72, &4u64.to_be_bytes()), "another file"),
            ("VMDK of a flat file", vmdk(&STREAM.replace("SPARSE", "FLAT")), "other files"),
            ("VMDK of zeros", vmdk(&STREAM.replace("SPARSE", "VMFS")), "other files"),
            ("VMDK of another kind", vmdk(&STREAM.replace("streamOptimized", "twoGbMaxExtentSparse")), "other files"),
            ("VMDK of two parts", vmdk(&two), "2 parts"),
            ("VMDK of no part", vmdk("# Disk DescriptorFile\n"), "0 parts"),
            ("VMDK with a parent", vmdk(&parent), "built on another"),
            ("VMDK with a hint", vmdk(&hint), "built on another"),
            ("VMDK that is followed", with(vmdk(STREAM), 12, &0u64.to_le_bytes()), "without a description"),
            ("VMDK without a description", with(vmdk(STREAM), 28, &0u64.to_le_bytes()), "without a description"),
            ("VMDK description", b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n".to_vec(), "only the description"),
            ("VDI child", vdi(4), "built on another"),
            ("VHD child", vpc(4, false), "built on another"),
            ("VHD child, fixed", vpc(4, true), "built on another"),
            ("VHDX child", vhdx(&[(PARAMETERS, &CHILD), (DISK_SIZE, &SIZE)]), "built on another"),
            ("VHDX with a locator", vhdx(&[(PARAMETERS, &PLAIN), (PARENT, &[]), (DISK_SIZE, &SIZE)]), "built on another"),
        ] {
            let said = looked(&bytes).expect_err(what);
            assert!(said.contains(word), "{what}: {said}");
        }
    }

    #[test]
    fn what_is_broken_or_no_disk_is_refused() {
        let mut cd = vec![0; 40 << 10];
        put(&mut cd, 0x8001, b"CD001");
        for (what, bytes, word) in [
            ("nothing", vec![], "empty"),
            ("encrypted", with(qcow2(), 32, &2u32.to_be_bytes()), "encrypted"),
            ("torn qcow2", qcow2()[..60].to_vec(), "broken"),
            ("qcow2 of old", with(qcow2(), 4, &1u32.to_be_bytes()), "version"),
            ("gzip", b"\x1f\x8b\x08 and more".to_vec(), "compressed"),
            ("xz", b"\xfd7zXZ\0 and more".to_vec(), "compressed"),
            ("zip", b"PK\x03\x04 and more".to_vec(), "compressed"),
            ("ESX", b"COWD and more".to_vec(), "old VMware"),
            ("QED", b"QED\0 and more".to_vec(), "not taken"),
            ("CD", cd, "medium"),
            ("torn VMDK", vmdk(STREAM)[..600].to_vec(), "VMDK header is broken"),
            ("VMDK far away", with(vmdk(STREAM), 28, &u64::MAX.to_le_bytes()), "broken"),
            ("VMDK with a long tale", with(vmdk(STREAM), 36, &(1u64 << 40).to_le_bytes()), "broken"),
            ("VHDX without regions", b"vhdxfile".to_vec(), "VHDX header is broken"),
            ("VHDX without metadata", with(vhdx(&[]), 320 << 10, b"xxxxxxxx"), "VHDX header is broken"),
            ("VHDX without parameters", vhdx(&[(DISK_SIZE, &SIZE)]), "VHDX header is broken"),
            ("VHDX without a size", vhdx(&[(PARAMETERS, &PLAIN)]), "VHDX header is broken"),
            ("VHDX of too many items", with(vhdx(&[]), (320 << 10) + 10, &[0xff, 0xff]), "VHDX header is broken"),
            ("VHD of no kind", vpc(9, false), "VHD header is broken"),
        ] {
            let said = looked(&bytes).expect_err(what);
            assert!(said.contains(word), "{what}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(which in 0usize..7, at in 0usize..600, noise in proptest::collection::vec(any::<u8>(), 1..64), cut in any::<u16>()) {
            let start = [qcow2(), vmdk(STREAM), vdi(1), vpc(3, false), vhdx(&[(PARAMETERS, &PLAIN), (DISK_SIZE, &SIZE)]), vec![0; 700], vec![]];
            let mut bytes = start[which].clone();
            let at = at.min(bytes.len());
            let end = (at + noise.len()).min(bytes.len());
            let count = end - at;
            bytes[at..end].copy_from_slice(&noise[..count]);
            let _ = looked(&bytes);
            let length = bytes.len().min(usize::from(cut));
            let _ = looked(&bytes[..length]);
            let _ = looked(&noise);
        }
    }
}
