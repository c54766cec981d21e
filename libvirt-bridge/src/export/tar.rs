//! A tar file as it is written: a header for each member, its bytes, and zeros up to the next block (POSIX ustar; a length that does not
//! fit into its octal digits is written in binary, as GNU tar does).

/// A tar file is made of blocks of so many bytes.
const BLOCK: usize = 512;
/// Two empty blocks end it.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The largest length that fits into eleven octal digits.
const OCTAL: u64 = (1 << 33) - 1;
/// The longest name.
pub(super) const NAME: usize = 100;

/// The header of a member. Whoever asks keeps to names of at most [`NAME`] bytes.
pub(super) fn member(name: &str, length: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(NAME)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if length <= OCTAL {
        put(124, format!("{length:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &length.to_be_bytes());
    }
    // No time: what is exported twice is the same twice.
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The zeros behind a member of that length.
pub(super) fn rest(length: u64) -> &'static [u8] {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    if over == 0 { &[] } else { &ZEROS[over..] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::import::tar as reader;

    fn written(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, bytes) in members {
            all.extend(member(name, bytes.len() as u64));
            all.extend(*bytes);
            all.extend(rest(bytes.len() as u64));
        }
        all.extend(END);
        all
    }

    #[test]
    fn what_is_written_is_read_again() {
        let all = written(&[("web1.ovf", b"<x/>"), ("web1.mf", &[7; 512]), ("web1-disk1.vmdk", &[])]);
        assert_eq!(all.len() % BLOCK, 0);
        let bring = |at: u64, count: usize| {
            let at = usize::try_from(at).unwrap().min(all.len());
            Ok(all[at..(at + count).min(all.len())].to_vec())
        };
        let found = reader::members(all.len() as u64, &bring).unwrap();
        let shown: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.length)).collect();
        assert_eq!(shown, [("web1.ovf", 4), ("web1.mf", 512), ("web1-disk1.vmdk", 0)]);
        assert_eq!(&all[usize::try_from(found[0].offset).unwrap()..][..4], b"<x/>");
    }

    #[test]
    fn the_common_tool_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.ova");
        std::fs::write(&file, written(&[("a.ovf", b"<x/>"), ("a.mf", b"sums")])).unwrap();
        let said = std::process::Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success() && said.stderr.is_empty() && text.contains("a.ovf") && text.contains("a.mf"), "{said:?}");
    }

    #[test]
    fn long_members_have_their_length_in_binary() {
        let header = member("x", 1 << 40);
        assert_eq!((header[124], &header[128..136]), (0x80, &(1u64 << 40).to_be_bytes()[..]));
        assert_eq!(&member("x", OCTAL)[124..136], b"77777777777\0");
    }
}
