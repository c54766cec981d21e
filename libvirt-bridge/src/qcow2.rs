//! The head of a qcow2 image: whether it is whole, and whether it sends QEMU to other files. libvirt looks only for the image it is
//! built on; an external data file it does not see, and what is broken it takes for something else or leaves to QEMU.

/// Every qcow2 image begins with this.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// As much of an image as has to be read.
pub(crate) const HEAD: usize = 112;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | 1 << 3 | 1 << 4;

fn number<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..at + N)?.try_into().ok()
}

fn word(head: &[u8], at: usize) -> Option<u64> {
    number(head, at).map(u32::from_be_bytes).map(u64::from)
}

fn long(head: &[u8], at: usize) -> Option<u64> {
    number(head, at).map(u64::from_be_bytes)
}

/// Why QEMU should not open an image that begins so and has that many bytes. `None` when nothing is wrong.
pub(crate) fn trouble(head: &[u8], length: u64) -> Option<String> {
    match look(head, length) {
        None => Some("its qcow2 header ends too early".to_owned()),
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
    }
}

fn look(head: &[u8], length: u64) -> Option<Result<(), String>> {
    let broken =
        |what: &str| Some(Err(format!("its qcow2 header is broken ({what}); repair the image with qemu-img check, or put it there again")));
    if number(head, 0)? != MAGIC {
        return broken("no qcow2 image at all");
    }
    let version = word(head, 4)?;
    if !(2..=3).contains(&version) {
        return broken("a version nobody knows");
    }
    let bits = word(head, 20)?;
    if !(9..=21).contains(&bits) {
        return broken("an impossible cluster size");
    }
    let cluster = 1u64 << bits;
    let (backing_at, backing_size) = (long(head, 8)?, word(head, 16)?);
    if backing_at != 0 && (backing_size > 1023 || backing_at.checked_add(backing_size).is_none_or(|end| end > cluster)) {
        return broken("the name of what it is built on lies outside");
    }
    let (size, entries, table) = (long(head, 24)?, word(head, 36)?, long(head, 40)?);
    let per_entry = u128::from(cluster) * u128::from(cluster / 8);
    if u128::from(entries) * per_entry < u128::from(size) || size > 1 << 62 {
        return broken("a table too small for its size");
    }
    let (counts_at, counts) = (long(head, 48)?, word(head, 56)?);
    let outside =
        |at: u64, bytes: u64| !at.is_multiple_of(cluster) || at.checked_add(bytes).is_none_or(|end| end > length.next_multiple_of(cluster));
    if outside(table, entries * 8) || outside(counts_at, counts * cluster) || (entries > 0 && table == 0) || counts_at == 0 || counts == 0 {
        return broken("its tables lie outside of the file");
    }
    if version == 3 {
        let features = long(head, 72)?;
        if features & CORRUPT != 0 {
            return Some(Err("QEMU has marked it as corrupt; repair it with qemu-img check -r".to_owned()));
        }
        if features & DATA_FILE != 0 {
            return Some(Err(
                "its data is in another file, which may be any file of the host; convert it to an image of one file first".to_owned()
            ));
        }
        if features & !KNOWN != 0 {
            return broken("features nobody knows");
        }
    }
    Some(Ok(()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A head like the one `qemu-img create -f qcow2 x 1M` writes.
    pub(crate) fn head() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(4, &3u32.to_be_bytes());
        put(20, &16u32.to_be_bytes());
        put(24, &(1u64 << 20).to_be_bytes());
        put(36, &1u32.to_be_bytes());
        put(40, &0x30000u64.to_be_bytes());
        put(48, &0x10000u64.to_be_bytes());
        put(56, &1u32.to_be_bytes());
        put(96, &4u32.to_be_bytes());
        put(100, &112u32.to_be_bytes());
        head
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = head();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn a_whole_image_is_no_trouble() {
        assert_eq!(trouble(&head(), 0x31000), None);
        assert_eq!(trouble(&with(4, &2u32.to_be_bytes()), 0x40000), None);
    }

    #[test]
    fn what_is_broken_is_told() {
        for (what, head, length) in [
            ("ends too early", head()[..60].to_vec(), 0x40000),
            ("no qcow2 image", with(0, b"QFIx"), 0x40000),
            ("version", with(4, &9u32.to_be_bytes()), 0x40000),
            ("cluster size", with(20, &63u32.to_be_bytes()), 0x40000),
            ("too small for its size", with(24, &(1u64 << 60).to_be_bytes()), 0x40000),
            ("outside of the file", head(), 0x20000),
            ("outside of the file", with(40, &u64::MAX.to_be_bytes()), 0x40000),
            ("built on lies outside", with(8, &[0xff; 8]), 0x40000),
            ("marked it as corrupt", with(72, &CORRUPT.to_be_bytes()), 0x40000),
            ("in another file", with(72, &DATA_FILE.to_be_bytes()), 0x40000),
            ("features nobody knows", with(72, &(1u64 << 40).to_be_bytes()), 0x40000),
        ] {
            let said = trouble(&head, length).unwrap_or_default();
            assert!(said.contains(what), "{what}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(head in proptest::collection::vec(any::<u8>(), 0..HEAD + 8), length: u64, genuine: bool) {
            let mut head = head;
            if genuine && head.len() >= 8 { head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03"); }
            let _ = trouble(&head, length % (1 << 62));
        }
    }
}
