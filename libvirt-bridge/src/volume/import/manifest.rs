//! The checksums that an appliance brings for its files: one line each, `SHA256(disk.vmdk)= 0f3a...`.

use sha2::Digest;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    pub file: String,
    pub sum: Vec<u8>,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Sha1,
    Sha256,
    Sha512,
}

/// A sum that is being made.
pub(super) enum Summing {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl How {
    pub(super) fn begin(self) -> Summing {
        match self {
            How::Sha1 => Summing::Sha1(sha1::Sha1::new()),
            How::Sha256 => Summing::Sha256(sha2::Sha256::new()),
            How::Sha512 => Summing::Sha512(Box::new(sha2::Sha512::new())),
        }
    }
    fn bytes(self) -> usize {
        match self {
            How::Sha1 => 20,
            How::Sha256 => 32,
            How::Sha512 => 64,
        }
    }
}

impl Summing {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        match self {
            Summing::Sha1(sum) => sum.update(bytes),
            Summing::Sha256(sum) => sum.update(bytes),
            Summing::Sha512(sum) => sum.update(bytes),
        }
    }
    pub(super) fn end(self) -> Vec<u8> {
        match self {
            Summing::Sha1(sum) => sum.finalize().to_vec(),
            Summing::Sha256(sum) => sum.finalize().to_vec(),
            Summing::Sha512(sum) => sum.finalize().to_vec(),
        }
    }
}

fn line(text: &str) -> Option<Promise> {
    let (how, rest) = text.split_once('(')?;
    let (file, sum) = rest.rsplit_once(')')?;
    let how = match how.trim().to_ascii_uppercase().replace('-', "").as_str() {
        "SHA1" => How::Sha1,
        "SHA256" => How::Sha256,
        "SHA512" => How::Sha512,
        _ => return None,
    };
    let hex = sum.trim().strip_prefix('=')?.trim();
    if hex.len() != how.bytes() * 2 || !hex.is_ascii() {
        return None;
    }
    let sum = (0..how.bytes()).map(|n| u8::from_str_radix(&hex[n * 2..n * 2 + 2], 16).ok()).collect::<Option<_>>()?;
    Some(Promise { file: file.to_owned(), sum, how })
}

/// All that it promises.
pub(super) fn read(text: &str) -> Result<Vec<Promise>, String> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    lines
        .map(|l| {
            line(l).ok_or_else(|| {
                format!("its list of checksums has a line that cannot be read: {:?}", l.chars().take(60).collect::<String>())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_checksums_is_read_as_programs_write_it() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let found = read(&format!("SHA1(a (1).ovf)= {sha1}\r\n\nSHA256(b.vmdk)={sha256}\n")).unwrap();
        assert_eq!((found[0].file.as_str(), found[1].file.as_str()), ("a (1).ovf", "b.vmdk"));
        for promise in found {
            let mut sum = promise.how.begin();
            sum.take(b"ab");
            sum.take(b"c");
            assert_eq!(sum.end(), promise.sum);
        }
    }

    #[test]
    fn a_line_that_promises_nothing_is_told() {
        for bad in [
            "SHA1(a)= 12",
            "MD5(a)= d41d8cd98f00b204e9800998ecf8427e",
            "nonsense",
            "SHA1 a",
            &format!("SHA1(a)= {}", "g".repeat(40)),
            &format!("SHA1(a)= {}", "\u{e4}".repeat(20)),
        ] {
            assert!(read(bad).unwrap_err().contains("cannot be read"), "{bad}");
        }
        assert_eq!(read("\n \n").unwrap(), []);
    }
}
