//! A small ISO 9660 image of some files in one directory: the seed of a new machine. Pure.
//!
//! cloud-init looks for files with small letters and hyphens, which ISO 9660 itself cannot name. Both common extensions can, and
//! readers know one or the other: Rock Ridge (NM, PX) in the first tree, Joliet (UCS-2) in a second one that shares the contents.
//!
//! ```text
//!   sector 16 primary volume | 17 Joliet volume | 18 end of volumes
//!          19 path table, little endian | 20 big endian | 21, 22 the same for Joliet
//!          23 root directory, Rock Ridge | 24 root directory, Joliet | 25 ... contents
//! ```
//! (ECMA-119; IEEE P1281 and P1282; Joliet specification.)

use archipel_contract::{Fault, Timestamp};

const SECTOR: usize = 2048;
const PRIMARY: usize = 16;
const JOLIET: usize = 17;
const LAST: usize = 18;
const TABLES: usize = 19;
const ROOT: usize = 23;
const JOLIET_ROOT: usize = 24;
const CONTENTS: usize = 25;
/// A path table with nothing but the root.
const TABLE_BYTES: u32 = 10;
/// The most bytes of all files together.
const MOST: usize = 16 << 20;

/// A file with its name: letters, digits, `.`, `_` and `-`.
pub(super) struct File<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What is in it.
    pub(super) bytes: &'a [u8],
}

/// The image. Its label is what a seed is found by.
pub(super) fn image(label: &str, files: &[File<'_>], at: Timestamp) -> Result<Vec<u8>, Fault> {
    let broken = |why: &str| Fault::internal(format!("a seed could not be written ({why}); please report this"));
    let fits = |name: &str, most: usize| {
        !name.is_empty() && name.len() <= most && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !fits(label, 16) || !files.iter().all(|f| fits(f.name, 48)) || files.iter().map(|f| f.bytes.len()).sum::<usize>() > MOST {
        return Err(broken("a name or a size that does not fit"));
    }
    let date = Date::of(at);
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(files.len());
    let mut next = CONTENTS;
    for file in files {
        placed.push(Placed { name: file.name, sector: next, length: file.bytes.len() });
        next += file.bytes.len().div_ceil(SECTOR).max(1);
    }
    let mut image = vec![0; next * SECTOR];
    let mut put = |sector: usize, bytes: &[u8]| {
        let at = sector * SECTOR;
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(PRIMARY, &volume(1, label, next, ROOT, TABLES, &date));
    put(JOLIET, &volume(2, label, next, JOLIET_ROOT, TABLES + 2, &date));
    put(LAST, &[255, b'C', b'D', b'0', b'0', b'1', 1]);
    for (sector, root, big) in
        [(TABLES, ROOT, false), (TABLES + 1, ROOT, true), (TABLES + 2, JOLIET_ROOT, false), (TABLES + 3, JOLIET_ROOT, true)]
    {
        put(sector, &path_table(root, big));
    }
    for (sector, is_joliet) in [(ROOT, false), (JOLIET_ROOT, true)] {
        let directory = directory(sector, is_joliet, &placed, &date);
        if directory.len() > SECTOR {
            return Err(broken("too many files"));
        }
        put(sector, &directory);
    }
    for (file, place) in files.iter().zip(&placed) {
        put(place.sector, file.bytes);
    }
    Ok(image)
}

struct Placed<'a> {
    name: &'a str,
    sector: usize,
    length: usize,
}

/// A time as ISO 9660 writes it, in its two ways.
struct Date {
    long: [u8; 17],
    short: [u8; 7],
}

impl Date {
    fn of(at: Timestamp) -> Date {
        // "2026-01-31T23:59:59.000Z": digits where they are needed.
        let text = at.to_string();
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).chain(std::iter::repeat(b'0')).take(16).collect();
        let mut long = [0; 17];
        long[..16].copy_from_slice(&digits);
        let number = |at: usize| (digits[at] - b'0') * 10 + (digits[at + 1] - b'0');
        let century = u16::from(number(0)) * 100 + u16::from(number(2));
        let year = u8::try_from(century.saturating_sub(1900)).unwrap_or(0);
        Date { long, short: [year, number(4), number(6), number(8), number(10), number(12), 0] }
    }
}

/// Both byte orders, one behind the other, as most numbers here stand.
fn both32(n: usize) -> [u8; 8] {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let mut both = [0; 8];
    both[..4].copy_from_slice(&n.to_le_bytes());
    both[4..].copy_from_slice(&n.to_be_bytes());
    both
}

fn both16(n: u16) -> [u8; 4] {
    let (little, big) = (n.to_le_bytes(), n.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn volume(kind: u8, label: &str, sectors: usize, root: usize, tables: usize, date: &Date) -> Vec<u8> {
    let is_joliet = kind == 2;
    let mut d = vec![0; SECTOR];
    d[0] = kind;
    d[1..6].copy_from_slice(b"CD001");
    d[6] = 1;
    let blank = |d: &mut [u8]| {
        for (n, byte) in d.iter_mut().enumerate() {
            // A space, in one byte or in two.
            *byte = if is_joliet && n.is_multiple_of(2) { 0 } else { b' ' };
        }
    };
    for (from, to) in [(8, 40), (40, 72), (190, 318), (318, 446), (446, 574), (574, 702)] {
        blank(&mut d[from..to]);
    }
    d[702..813].fill(if is_joliet { 0 } else { b' ' });
    let name = if is_joliet { ucs2(label) } else { label.as_bytes().to_vec() };
    d[40..40 + name.len()].copy_from_slice(&name);
    d[80..88].copy_from_slice(&both32(sectors));
    if is_joliet {
        d[88..91].copy_from_slice(b"%/E");
    }
    d[120..124].copy_from_slice(&both16(1));
    d[124..128].copy_from_slice(&both16(1));
    d[128..132].copy_from_slice(&both16(2048));
    d[132..140].copy_from_slice(&both32(TABLE_BYTES as usize));
    d[140..144].copy_from_slice(&both32(tables)[..4]);
    d[148..152].copy_from_slice(&both32(tables + 1)[4..]);
    let own = record(&[0], root, SECTOR, true, date, &[]);
    d[156..156 + own.len()].copy_from_slice(&own);
    d[813..830].copy_from_slice(&date.long);
    d[830..847].copy_from_slice(&date.long);
    // Sixteen zeros as digits: never.
    d[847..863].fill(b'0');
    d[864..880].fill(b'0');
    d[881] = 1;
    d
}

fn path_table(root: usize, big: bool) -> Vec<u8> {
    let both = both32(root);
    let (sector, parent) = if big { (&both[4..], [0, 1]) } else { (&both[..4], [1, 0]) };
    let mut table = vec![1, 0];
    table.extend_from_slice(sector);
    table.extend_from_slice(&parent);
    table.extend_from_slice(&[0, 0]);
    table
}

fn directory(own: usize, is_joliet: bool, files: &[Placed<'_>], date: &Date) -> Vec<u8> {
    let rock = |fields: Vec<u8>| if is_joliet { Vec::new() } else { fields };
    let mut first = Vec::new();
    // Rock Ridge is spoken here, and how it is called.
    first.extend_from_slice(&[b'S', b'P', 7, 1, 0xbe, 0xef, 0]);
    first.extend(posix(0o040_555, 2));
    first.extend_from_slice(&[b'E', b'R', 18, 1, 10, 0, 0, 1]);
    first.extend_from_slice(b"RRIP_1991A");
    let mut all = record(&[0], own, SECTOR, true, date, &rock(first));
    all.extend(record(&[1], own, SECTOR, true, date, &rock(posix(0o040_555, 2))));
    let mut rows: Vec<(Vec<u8>, Vec<u8>, &Placed<'_>)> = Vec::with_capacity(files.len());
    for (n, file) in files.iter().enumerate() {
        if is_joliet {
            rows.push((ucs2(&format!("{};1", file.name)), Vec::new(), file));
        } else {
            let mut fields = vec![b'N', b'M', u8::try_from(file.name.len() + 5).unwrap_or(u8::MAX), 1, 0];
            fields.extend_from_slice(file.name.as_bytes());
            fields.extend(posix(0o100_444, 1));
            rows.push((plain_name(file.name, n).into_bytes(), fields, file));
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, fields, file) in rows {
        all.extend(record(&name, file.sector, file.length, false, date, &fields));
    }
    all
}

/// A name as ISO 9660 allows it, unlike that of any other file here.
fn plain_name(name: &str, number: usize) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    format!("{}{number:02}.;1", letters.to_ascii_uppercase())
}

/// PX: mode, links, owner and group.
fn posix(mode: usize, links: usize) -> Vec<u8> {
    let mut field = vec![b'P', b'X', 36, 1];
    for n in [mode, links, 0, 0] {
        field.extend_from_slice(&both32(n));
    }
    field
}

fn record(name: &[u8], sector: usize, length: usize, is_directory: bool, date: &Date, fields: &[u8]) -> Vec<u8> {
    let mut r = vec![0, 0];
    r.extend_from_slice(&both32(sector));
    r.extend_from_slice(&both32(length));
    r.extend_from_slice(&date.short);
    r.extend_from_slice(&[u8::from(is_directory) * 2, 0, 0]);
    r.extend_from_slice(&both16(1));
    r.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    r.extend_from_slice(name);
    if name.len().is_multiple_of(2) {
        r.push(0);
    }
    r.extend_from_slice(fields);
    if !r.len().is_multiple_of(2) {
        r.push(0);
    }
    r[0] = u8::try_from(r.len()).unwrap_or(u8::MAX);
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_767_225_599_000);

    fn number(bytes: &[u8], at: usize) -> usize {
        let (little, big) = (&bytes[at..at + 4], &bytes[at + 4..at + 8]);
        let reversed: Vec<u8> = big.iter().rev().copied().collect();
        assert_eq!(little, reversed, "both byte orders say the same");
        u32::from_le_bytes(little.try_into().unwrap()) as usize
    }

    /// Reads one tree as a reader does: from the volume to the root to the files. Names are Rock Ridge's or Joliet's.
    fn read(image: &[u8], volume: usize) -> Vec<(String, Vec<u8>)> {
        let v = &image[volume * SECTOR..(volume + 1) * SECTOR];
        assert_eq!((&v[1..6], number(v, 80)), (&b"CD001"[..], image.len() / SECTOR));
        let (root, length) = (number(v, 158), number(v, 166));
        let mut rest = &image[root * SECTOR..root * SECTOR + length];
        let mut found = Vec::new();
        while let Some(&size) = rest.first().filter(|s| **s > 0) {
            let (one, more) = rest.split_at(usize::from(size));
            rest = more;
            let bytes = usize::from(one[32]);
            let name = &one[33..33 + bytes];
            if one[25] & 2 != 0 {
                continue;
            }
            let mut text = match v[0] {
                2 => String::from_utf16(&name.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect::<Vec<_>>()).unwrap(),
                _ => String::from_utf8(name.to_vec()).unwrap(),
            };
            let mut fields = &one[33 + bytes + (bytes + 1) % 2..];
            while fields.len() > 4 {
                let (field, next) = fields.split_at(usize::from(fields[2]));
                if &field[..2] == b"NM" {
                    text = String::from_utf8(field[5..].to_vec()).unwrap();
                }
                fields = next;
            }
            let (sector, length) = (number(one, 2), number(one, 10));
            found.push((text.trim_end_matches(";1").to_owned(), image[sector * SECTOR..sector * SECTOR + length].to_vec()));
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_written_is_read_by_either_name() {
        let big: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        let files =
            [File { name: "user-data", bytes: &big }, File { name: "meta-data", bytes: b"x" }, File { name: "network-config", bytes: b"" }];
        let image = image("cidata", &files, AT).unwrap();
        assert!(image.len().is_multiple_of(SECTOR));
        let expected = vec![("meta-data".into(), b"x".to_vec()), ("network-config".into(), Vec::new()), ("user-data".into(), big.clone())];
        assert_eq!(read(&image, PRIMARY), expected);
        assert_eq!(read(&image, JOLIET), expected);
        assert_eq!(&image[PRIMARY * SECTOR + 40..PRIMARY * SECTOR + 48], b"cidata  ");
        assert_eq!(&image[PRIMARY * SECTOR + 813..PRIMARY * SECTOR + 829], b"2025123123595900");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let none: [File<'_>; 0] = [];
        assert!(image("a label that is too long", &none, AT).is_err());
        assert!(image("cidata", &[File { name: "../x", bytes: b"" }], AT).is_err());
        assert!(image("cidata", &[File { name: "", bytes: b"" }], AT).is_err());
        let many: Vec<String> = (0..40).map(|n| format!("file-{n}")).collect();
        let many: Vec<File<'_>> = many.iter().map(|name| File { name, bytes: b"" }).collect();
        assert!(image("cidata", &many, AT).unwrap_err().message.contains("too many"));
    }
}
