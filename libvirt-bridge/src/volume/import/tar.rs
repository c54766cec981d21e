//! The members of a tar file, which is what an OVA is: where each begins and how long it is. Nothing is unpacked, so nothing can be
//! written outside of anywhere; what would have to be unpacked to be understood (links, directories, devices) is refused.

use std::collections::HashSet;

/// A tar file is made of blocks of so many bytes.
pub(crate) const BLOCK: u64 = 512;
/// An appliance is a description, a list of checksums and some disks.
const MOST_MEMBERS: usize = 256;
/// The longest extended header that is read.
const LONGEST_HEADER: u64 = 64 << 10;

/// One file in a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name: one part, no way to anywhere.
    pub name: String,
    /// Where its first byte is.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Brings bytes from a place; fewer than asked for only at the end.
pub(crate) type Reading<'a> = &'a dyn Fn(u64, usize) -> std::io::Result<Vec<u8>>;

/// Whether a file that begins so is a tar file.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

fn broken(why: impl std::fmt::Display) -> String {
    format!("the archive is broken: {why}; send it again")
}

/// A number of a header: octal digits, or (from GNU tar, for what is large) binary behind a mark.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let (first, rest) = field.split_first()?;
        // Negative numbers have all bits of the first byte set, and no file has so many bytes.
        return rest.iter().try_fold(u64::from(first & 0x7f), |n, b| n.checked_mul(256)?.checked_add(u64::from(*b)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c: char| c == ' ' || c == '\0');
    if text.is_empty() { Some(0) } else { text.bytes().all(|b| b.is_ascii_digit()).then(|| u64::from_str_radix(text, 8).ok())? }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Whether the header's own sum is right, counted as bytes or, as some old programs do, as signed ones.
fn sum_is_right(header: &[u8]) -> bool {
    let Some(said) = number(&header[148..156]) else { return false };
    let bytes = || header.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { b' ' } else { *b });
    let plain: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
    said == plain || i64::try_from(said) == Ok(signed)
}

/// The name of a member, if it is only a name.
fn name_of(bytes: &[u8]) -> Result<String, String> {
    let shown = || String::from_utf8_lossy(bytes).chars().take(80).collect::<String>();
    let Ok(name) = std::str::from_utf8(bytes) else { return Err(format!("the archive has a member {:?} whose name is no text", shown())) };
    let leads_out = name.contains(['/', '\\']) || name == "." || name == "..";
    if leads_out {
        return Err(format!(
            "the archive has a member {:?} whose name leads elsewhere; an appliance holds its files beside each other, pack it so",
            shown()
        ));
    }
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(format!("the archive has a member {:?}, which cannot be the name of a file", shown()));
    }
    Ok(name.to_owned())
}

/// What extended headers say about the member that follows.
#[derive(Default)]
struct More {
    name: Option<Vec<u8>>,
    length: Option<u64>,
}

/// Reads the records of a pax header: `LENGTH KEY=VALUE\n`, the length that of the whole record.
fn pax(mut rest: &[u8], more: &mut More) -> Result<(), String> {
    while !rest.is_empty() {
        let record = || {
            let space = rest.iter().position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let body = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = body.iter().position(|b| *b == b'=')?;
            Some((length, &body[..equals], &body[equals + 1..]))
        };
        let (length, key, value) = record().ok_or_else(|| broken("an extended header cannot be read"))?;
        match key {
            b"path" => more.name = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                more.length = Some(size.ok_or_else(|| broken("an extended header has a size that is no number"))?);
            }
            b"linkpath" => return Err("the archive has links; pack it with the files themselves".to_owned()),
            _ if key.starts_with(b"GNU.sparse") => {
                return Err("the archive has sparse members, which are not read here; pack it without --sparse".to_owned());
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// All members of an archive of that many bytes, in their order.
pub(crate) fn members(length: u64, read: Reading<'_>) -> Result<Vec<Member>, String> {
    let fetch = |at: u64, count: u64| -> Result<Vec<u8>, String> {
        if at.checked_add(count).is_none_or(|end| end > length) {
            return Err(broken("it ends before its end"));
        }
        let wanted = usize::try_from(count).map_err(broken)?;
        let bytes = read(at, wanted).map_err(broken)?;
        if bytes.len() == wanted { Ok(bytes) } else { Err(broken("it ends before its end")) }
    };
    let (mut found, mut names, mut at, mut more) = (Vec::new(), HashSet::new(), 0u64, More::default());
    loop {
        // Some programs leave the empty blocks at the end away.
        if at == length {
            break;
        }
        let header = fetch(at, BLOCK)?;
        if header.iter().all(|b| *b == 0) {
            break;
        }
        if !is_tar(&header) || !sum_is_right(&header) {
            return Err(broken(format!("no header where one should be, at byte {at}")));
        }
        let said = number(&header[124..136]).ok_or_else(|| broken("a member has a size that is no number"))?;
        let kind = header[156];
        let extends = matches!(kind, b'x' | b'g' | b'L');
        let size = if extends { said } else { more.length.unwrap_or(said) };
        let begins = at + BLOCK;
        let next = size.checked_next_multiple_of(BLOCK).and_then(|size| begins.checked_add(size));
        let Some(next) = next.filter(|_| begins.checked_add(size).is_some_and(|end| end <= length)) else {
            return Err(broken("it ends before its last member does"));
        };
        if extends {
            if size > LONGEST_HEADER {
                return Err(broken("an extended header is too long"));
            }
            let body = fetch(begins, size)?;
            match kind {
                b'x' => pax(&body, &mut more)?,
                b'L' => more.name = Some(text(&body).to_vec()),
                // What is said of all members may not be what is said of one.
                _ => {
                    let mut all = More::default();
                    pax(&body, &mut all)?;
                    if all.name.is_some() || all.length.is_some() {
                        return Err(broken("a header says one name or size for all members"));
                    }
                }
            }
        } else {
            let own = {
                let prefix = if &header[257..263] == b"ustar\0" { text(&header[345..500]) } else { b"" };
                let name = text(&header[..100]);
                if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
            };
            let name = name_of(&std::mem::take(&mut more).name.unwrap_or(own))?;
            let refused = match kind {
                b'0' | 0 | b'7' => None,
                b'1' | b'2' => Some("a link"),
                b'3' | b'4' | b'6' => Some("a device"),
                b'5' => Some("a directory"),
                b'S' => Some("a sparse file, which is not read here"),
                _ => Some("of a kind nobody knows"),
            };
            if let Some(what) = refused {
                return Err(format!("the archive has a member {name:?} that is {what}; an appliance holds plain files only, pack it so"));
            }
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(format!("the archive has two members named {name:?}; nobody can tell which of them counts"));
            }
            if found.len() == MOST_MEMBERS {
                return Err(format!("the archive has more than {MOST_MEMBERS} members, so it is no appliance"));
            }
            found.push(Member { name, offset: begins, length: size });
        }
        at = next.min(length);
    }
    if more.name.is_some() || more.length.is_some() {
        return Err(broken("it ends after a header that speaks of a member to come"));
    }
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header as tar writes it.
    pub(crate) fn header(name: &[u8], kind: u8, size: u64) -> Vec<u8> {
        let mut block = vec![0u8; 512];
        block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    pub(crate) fn member(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut all = header(name.as_bytes(), kind, body.len() as u64);
        all.extend_from_slice(body);
        all.resize(all.len().next_multiple_of(512), 0);
        all
    }

    pub(crate) fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut all = parts.concat();
        all.resize(all.len() + 1024, 0);
        all
    }

    fn listed(bytes: &[u8]) -> Result<Vec<Member>, String> {
        members(bytes.len() as u64, &|at, count| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[at..(at + count).min(bytes.len())].to_vec())
        })
    }

    fn pax_record(key: &str, value: &str) -> String {
        let bare = key.len() + value.len() + 3;
        let length = (bare + bare.to_string().len()..).find(|n| bare + n.to_string().len() == *n).unwrap();
        format!("{length} {key}={value}\n")
    }

    #[test]
    fn members_are_found_where_they_are() {
        let plain = archive(&[member("a.ovf", b'0', b"<x/>"), member("a-disk.vmdk", b'0', &[7; 600]), member("a.mf", 0, b"")]);
        let found = listed(&plain).unwrap();
        let told: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.offset, m.length)).collect();
        assert_eq!(told, [("a.ovf", 512, 4), ("a-disk.vmdk", 1536, 600), ("a.mf", 3072, 0)]);
        assert_eq!(listed(&plain[..3072]).unwrap(), found, "the empty blocks at its end may be missing");
    }

    #[test]
    fn extended_headers_are_understood() {
        let records = format!("{}{}{}", pax_record("mtime", "1.5"), pax_record("path", "longer.ovf"), pax_record("size", "4"));
        let found = listed(&archive(&[member("x", b'x', records.as_bytes()), member("short", b'0', b"<x/>")])).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].length), ("longer.ovf", 4));
        let found = listed(&archive(&[member("././@LongLink", b'L', b"gnu-long.ovf\0"), member("gnu", b'0', b"")])).unwrap();
        assert_eq!(found[0].name, "gnu-long.ovf");
        let mut large = header(b"large", b'0', 0);
        large[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        seal(&mut large);
        assert_eq!(listed(&archive(&[large, vec![1; 512]])).unwrap()[0].length, 512);
    }

    #[test]
    fn what_leads_elsewhere_or_is_no_file_is_refused() {
        let deep = |name: &str| archive(&[member("a.ovf", b'0', b""), member(name, b'0', b"x")]);
        for name in ["../up", "/etc/passwd", "a/b", "./a", "..", ".", "a\\b", "a\u{7}"] {
            let said = listed(&deep(name)).unwrap_err();
            assert!(said.contains("leads elsewhere") || said.contains("cannot be the name"), "{name}: {said}");
        }
        let hidden = archive(&[member("x", b'x', pax_record("path", "../up").as_bytes()), member("fine", b'0', b"")]);
        assert!(listed(&hidden).unwrap_err().contains("leads elsewhere"));
        let mut prefixed = header(b"passwd", b'0', 0);
        prefixed[345..349].copy_from_slice(b"/etc");
        seal(&mut prefixed);
        assert!(listed(&archive(&[prefixed])).unwrap_err().contains("leads elsewhere"));
        for (kind, word) in [
            (b'1', "a link"),
            (b'2', "a link"),
            (b'3', "a device"),
            (b'4', "a device"),
            (b'5', "a directory"),
            (b'6', "a device"),
            (b'S', "sparse"),
            (b'?', "nobody knows"),
        ] {
            assert!(listed(&archive(&[member("a", kind, b"")])).unwrap_err().contains(word), "{kind}");
        }
        for key in ["linkpath", "GNU.sparse.major"] {
            assert!(listed(&archive(&[member("x", b'x', pax_record(key, "1").as_bytes()), member("a", b'0', b"")])).is_err());
        }
        let twice = archive(&[member("a.ovf", b'0', b""), member("A.OVF", b'0', b"")]);
        assert!(listed(&twice).unwrap_err().contains("two members"));
        let many: Vec<_> = (0..300).map(|n| member(&format!("m{n}"), b'0', b"")).collect();
        assert!(listed(&archive(&many)).unwrap_err().contains("more than 256"));
    }

    #[test]
    fn what_is_broken_is_told() {
        let good = archive(&[member("a.ovf", b'0', &[1; 700])]);
        for cut in [100, 511, 512, 600, 1211] {
            assert!(listed(&good[..cut]).unwrap_err().contains("broken"), "cut at {cut}");
        }
        let mut wrong = good.clone();
        wrong[0] = b'b';
        assert!(listed(&wrong).unwrap_err().contains("no header"), "its sum is wrong");
        let mut nonsense = header(b"a", b'0', 0);
        nonsense[124..136].copy_from_slice(b"zzzzzzzzzzz\0");
        seal(&mut nonsense);
        assert!(listed(&archive(&[nonsense])).unwrap_err().contains("no number"));
        let mut endless = header(b"a", b'0', 0);
        endless[124..136].copy_from_slice(&[0xff; 12]);
        seal(&mut endless);
        assert!(listed(&archive(&[endless])).is_err());
        for body in ["9 a", "x path=a\n", "3 a=\n", "99 path=a\n", "8 path=a", "12 size=xxx\n"] {
            assert!(listed(&archive(&[member("x", b'x', body.as_bytes()), member("a", b'0', b"")])).is_err(), "{body}");
        }
        assert!(listed(&archive(&[member("x", b'g', pax_record("size", "1").as_bytes()), member("a", b'0', b"")])).is_err());
        assert!(listed(&archive(&[member("x", b'x', pax_record("path", "a").as_bytes())])).unwrap_err().contains("to come"));
        assert!(listed(&archive(&[header(b"x", b'x', 1 << 32)])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_point_outside(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), genuine: bool, at in 0usize..2048, with: u8) {
            if genuine {
                bytes = archive(&[member("a.ovf", b'0', &bytes), member("x", b'x', pax_record("path", "b").as_bytes()), member("b", b'0', b"yy")]);
                let place = at.min(bytes.len() - 1);
                bytes[place] = with;
            }
            for member in listed(&bytes).unwrap_or_default() {
                prop_assert!(member.offset + member.length <= bytes.len() as u64);
                prop_assert!(!member.name.contains('/') && member.name != "..");
            }
        }
    }
}
