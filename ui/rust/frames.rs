//! Where the frames of a WebSocket end, in bytes that are only passed on (RFC 6455, 5.2): between two frames, and before the closing one,
//! a word of our own may be said.
//!
//! ```text
//!   head --2 to 14 bytes--> payload --all of it--> head ...      closing frame seen: nothing may follow
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// The opcode of the closing frame.
const CLOSE: u8 = 8;

/// Where one stands in a stream of frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; 14],
    /// How many bytes of the head have come.
    came: usize,
    /// How many bytes of the payload are still to come.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Takes note of what is passed on.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            if self.payload > 0 {
                let passed = usize::try_from(self.payload).map_or(bytes.len(), |payload| payload.min(bytes.len()));
                self.payload -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.came] = first;
            self.came += 1;
            bytes = &bytes[1..];
            if self.came == self.length_of_head() {
                self.closed |= self.head[0] & 0x0f == CLOSE;
                self.payload = self.length_of_payload();
                self.came = 0;
            }
        }
    }

    /// Whether a closing frame may be put here.
    pub(crate) fn may_close(&self) -> bool {
        self.came == 0 && self.payload == 0 && !self.closed
    }

    fn length_of_head(&self) -> usize {
        if self.came < 2 {
            return 2;
        }
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.head[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn length_of_payload(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        match self.head[1] & 0x7f {
            126 => number(&self.head[2..4]),
            127 => number(&self.head[2..10]),
            short => u64::from(short),
        }
    }
}

/// A closing frame of a server. A reason has room for 123 bytes.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut frame = BytesMut::with_capacity(4 + end);
    frame.put_u8(0x80 | CLOSE);
    frame.put_u8(2 + end as u8);
    frame.put_u16(code);
    frame.put_slice(&reason.as_bytes()[..end]);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; if masked { 4 } else { 0 } + length]);
        frame
    }

    #[test]
    fn a_word_may_be_said_between_two_frames_and_nowhere_else() {
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 127, 300, 65535, 65536, 70000] {
                let bytes = frame(2, length, masked);
                let mut whole = Frames::default();
                whole.see(&bytes);
                assert!(whole.may_close(), "{length}");
                let mut cut = Frames::default();
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(cut.may_close(), at == 0, "{length} at {at}");
                    cut.see(&[*byte]);
                }
                assert!(cut.may_close());
            }
        }
    }

    #[test]
    fn nothing_follows_a_closing_frame() {
        let mut frames = Frames::default();
        frames.see(&[frame(9, 3, false), frame(2, 200, false)].concat());
        assert!(frames.may_close());
        frames.see(&close(1000, "the machine has closed it"));
        assert!(!frames.may_close());
    }

    #[test]
    fn a_reason_is_cut_to_what_fits() {
        let frame = close(4003, &"ä".repeat(100));
        assert_eq!((frame.len(), frame[1], &frame[..1], &frame[2..4]), (2 + 2 + 122, 124, &[0x88][..], &4003u16.to_be_bytes()[..]));
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
