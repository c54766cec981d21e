//! The C calls of streams that `virt` lacks, and two of the kernel. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use virt::{error::Error, stream::Stream, sys};

/// What came out of a sparse stream.
pub(super) enum Piece {
    /// So many bytes, in the buffer.
    Data(usize),
    /// So many bytes of nothing.
    Hole(u64),
    /// That was all.
    End,
}

/// Takes the next piece from a stream that was opened as a sparse one (`virStreamRecvFlags`, `virStreamRecvHole`).
pub(super) fn receive(stream: &Stream, buffer: &mut [u8]) -> Result<Piece, Error> {
    // SAFETY: the stream is live as long as the reference, and libvirt writes at most as many bytes as it is told.
    let answer =
        unsafe { sys::virStreamRecvFlags(stream.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), sys::VIR_STREAM_RECV_STOP_AT_HOLE) };
    match answer {
        -3 => {
            let mut length = 0;
            // SAFETY: the stream is live as long as the reference; the length is a variable of ours.
            let hole = unsafe { sys::virStreamRecvHole(stream.as_ptr(), &mut length, 0) };
            if hole < 0 { Err(Error::last_error()) } else { Ok(Piece::Hole(u64::try_from(length).unwrap_or(0))) }
        }
        0 => Ok(Piece::End),
        count => usize::try_from(count).map(Piece::Data).map_err(|_| Error::last_error()),
    }
}

/// Says that so many bytes of nothing follow (`virStreamSendHole`).
pub(super) fn send_hole(stream: &Stream, length: u64) -> Result<(), Error> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // SAFETY: the stream is live as long as the reference.
    ask(|| match unsafe { sys::virStreamSendHole(stream.as_ptr(), length, 0) } {
        answer if answer < 0 => Err(Error::last_error()),
        _ => Ok(()),
    })
}

/// Gives a file another name, unless something has that name already.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (old, new) = (text(from)?, text(to)?);
    // SAFETY: both strings end with a null byte and outlive the call.
    let answer = unsafe { libc::renameat2(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), libc::RENAME_NOREPLACE) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A file system that cannot do it in one step.
        Some(libc::EINVAL | libc::ENOSYS) if !to.exists() => std::fs::rename(from, to),
        _ => Err(error),
    }
}

/// Asks a process to end.
pub(super) fn end(process: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers; one above 1 is a single process.
    if process > 1 && unsafe { libc::kill(process, libc::SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
