//! The C calls of consoles that `virt` lacks, or has in a form that cannot be used: its streams treat "try again later" as a failure,
//! and keep the address of a Rust value that may move. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::{connection::Trouble, count::ask};
use archipel_contract::Fault;
use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use virt::{connect::Connect, domain::Domain, error::Error, stream::Stream, sys};

/// One end of a socket pair whose other end QEMU has as a client of its screen (`virDomainOpenGraphicsFD`). Whoever asks libvirt
/// for it is let in without the screen's password.
pub(super) fn open_graphics(domain: &Domain, index: u32) -> Result<UnixStream, Error> {
    let fd = domain.open_graphics_fd(index, sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)?;
    // SAFETY: libvirt made the descriptor for whoever called, and nobody else has it.
    Ok(UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd as c_int) }))
}

/// The picture as libvirt sends it, PPM or PNG (`virDomainScreenshot`); one of more bytes than that is refused.
pub(super) fn screenshot(connect: &Connect, domain: &Domain, limit: usize) -> Result<Vec<u8>, Trouble> {
    let stream = ask(|| Stream::new(connect, 0))?;
    ask(|| domain.screenshot(&stream, 0, 0))?;
    let (mut file, mut chunk) = (Vec::new(), vec![0u8; 64 * 1024]);
    loop {
        // SAFETY: the stream is live, and the buffer has as many bytes as is said.
        let length = unsafe { sys::virStreamRecv(stream.as_ptr(), chunk.as_mut_ptr().cast(), chunk.len()) };
        match usize::try_from(length) {
            Ok(0) => {
                ask(|| stream.finish())?;
                return Ok(file);
            }
            Ok(length) if file.len() + length <= limit => file.extend_from_slice(&chunk[..length]),
            Ok(_) => {
                // It is given up; whether libvirt liked that does not matter any more.
                let _ = stream.abort();
                return Err(Fault::internal("the picture of the screen is too large to be taken; use the console").into());
            }
            Err(_) => return Err(Error::last_error().into()),
        }
    }
}

/// What came of trying to send or receive without waiting.
pub(super) enum Tried {
    /// So many bytes.
    Some(usize),
    /// The other side has ended it.
    End,
    /// Not now: wait for the event.
    Later,
}

/// A stream that never waits and says when it can go on.
pub(super) struct Line {
    stream: Stream,
    listening: bool,
}

/// What the callback holds: it is called on libvirt's event thread, and must not block.
struct Bell(Arc<dyn Fn() + Send + Sync>);

unsafe extern "C" fn ring(stream: sys::virStreamPtr, _: c_int, bell: *mut c_void) {
    // SAFETY: libvirt calls this with the pointer it was given, and frees it by `drop_bell` after the last call.
    let bell = unsafe { &*bell.cast::<Bell>() };
    // It would be called again and again until the thread has done something; the thread asks for more when it wants to.
    // SAFETY: libvirt keeps the stream while it calls.
    unsafe { sys::virStreamEventUpdateCallback(stream, 0) };
    // Must not unwind into C. The order matters: told after it was switched off, the thread switches it on again.
    let _ = catch_unwind(AssertUnwindSafe(|| (bell.0)()));
}

unsafe extern "C" fn drop_bell(bell: *mut c_void) {
    // SAFETY: it was made by `Box::into_raw` in `listen`, and libvirt calls this once.
    drop(unsafe { Box::from_raw(bell.cast::<Bell>()) });
}

impl Line {
    /// A stream to a machine's first serial line (`virDomainOpenConsole`).
    pub(super) fn open(connect: &Connect, domain: &Domain, take_over: bool) -> Result<Line, Error> {
        let stream = ask(|| Stream::new(connect, sys::VIR_STREAM_NONBLOCK))?;
        let flags = if take_over { sys::VIR_DOMAIN_CONSOLE_FORCE } else { sys::VIR_DOMAIN_CONSOLE_SAFE };
        match ask(|| domain.open_console(None, &stream, flags)) {
            // A driver that cannot keep two apart lets in whoever comes.
            Err(error) if !take_over && crate::fault::is_unknown_flag(&error) => ask(|| domain.open_console(None, &stream, 0))?,
            other => other?,
        }
        Ok(Line { stream, listening: false })
    }

    /// Has the bell rung once when one of these events comes.
    pub(super) fn listen(&mut self, events: u32, bell: &Arc<dyn Fn() + Send + Sync>) -> Result<(), Error> {
        let events = (events | sys::VIR_STREAM_EVENT_ERROR | sys::VIR_STREAM_EVENT_HANGUP) as c_int;
        let answer = if self.listening {
            // SAFETY: the stream is live as long as the reference.
            unsafe { sys::virStreamEventUpdateCallback(self.stream.as_ptr(), events) }
        } else {
            let bell = Box::into_raw(Box::new(Bell(bell.clone()))).cast::<c_void>();
            // SAFETY: the stream is live; the bell is freed by libvirt, or below when it did not take it.
            let answer = unsafe { sys::virStreamEventAddCallback(self.stream.as_ptr(), events, Some(ring), bell, Some(drop_bell)) };
            if answer < 0 {
                // SAFETY: libvirt frees it only when it has taken it.
                unsafe { drop_bell(bell) };
            }
            self.listening = answer >= 0;
            answer
        };
        if answer < 0 { Err(Error::last_error()) } else { Ok(()) }
    }

    fn tried(answer: c_int) -> Result<Tried, Error> {
        match answer {
            0 => Ok(Tried::End),
            -2 => Ok(Tried::Later),
            length => usize::try_from(length).map(Tried::Some).map_err(|_| Error::last_error()),
        }
    }

    /// Takes what the guest has said.
    pub(super) fn receive(&self, room: &mut [u8]) -> Result<Tried, Error> {
        // SAFETY: the stream is live, and the buffer has as many bytes as is said.
        Line::tried(unsafe { sys::virStreamRecv(self.stream.as_ptr(), room.as_mut_ptr().cast(), room.len()) })
    }

    /// Says something to the guest.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<Tried, Error> {
        // SAFETY: the stream is live, and there are as many bytes as is said.
        Line::tried(unsafe { sys::virStreamSend(self.stream.as_ptr(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// Leaves it.
    pub(super) fn close(self) {
        if self.listening {
            // SAFETY: the stream is live; libvirt frees the bell after its last call.
            unsafe { sys::virStreamEventRemoveCallback(self.stream.as_ptr()) };
        }
        // One that has ended already cannot be given up; it is over either way.
        let _ = self.stream.abort();
    }
}

/// Waits, without a deadline, until one of these can be read, or written where that is asked for.
pub(super) fn wait(files: &mut [libc::pollfd]) -> std::io::Result<()> {
    let count = libc::nfds_t::try_from(files.len()).unwrap_or(0);
    // SAFETY: the list is ours and has as many entries as is said.
    if unsafe { libc::poll(files.as_mut_ptr(), count, -1) } < 0 {
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}
