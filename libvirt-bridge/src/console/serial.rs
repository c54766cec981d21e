//! A serial line as a socket: one thread between libvirt's stream and our end of a socket pair.
//!
//! ```text
//!   viewer <==socket pair==> thread <--stream--> libvirtd <--pty--> guest
//!                              ^  |
//!                   bell (a byte) +-- sleeps until the socket or the bell says something
//!                              |
//!                       libvirt's event thread: it only rings
//! ```
//! Nothing is read from one side before the other has taken what came before, so a slow viewer slows the guest's line down
//! (libvirtd and QEMU drop or wait, as for `virsh console`), and neither side fills our memory.

use super::{
    busy_if_open,
    raw::{Line, Tried, wait},
};
use crate::connection::Trouble;
use archipel_contract::Fault;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use virt::{connect::Connect, domain::Domain, sys};

/// Serial lines that may be open at the same time; each has a thread.
const OPEN: usize = 64;
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Room for what is on its way, each way.
const ROOM: usize = 4096;

/// One of the open lines; dropping it makes room.
struct Slot;

impl Slot {
    fn take() -> Result<Slot, Fault> {
        let slot = Slot;
        if COUNT.fetch_add(1, Ordering::AcqRel) >= OPEN {
            return Err(Fault::busy(format!("{OPEN} serial lines are open on this host already; close some")));
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn open(connect: &Connect, domain: &Domain, take_over: bool) -> Result<UnixStream, Trouble> {
    let slot = Slot::take()?;
    let no_socket = |e: std::io::Error| Fault::busy("the host has no socket left; try again later").because(e);
    let (viewer, ours) = UnixStream::pair().map_err(no_socket)?;
    let (bell, ear) = UnixStream::pair().map_err(no_socket)?;
    for end in [&ours, &bell, &ear] {
        end.set_nonblocking(true).map_err(no_socket)?;
    }
    let line = Line::open(connect, domain, take_over).map_err(|e| busy_if_open(e, domain))?;
    let bell: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        let mut bell = &bell;
        // Full: it has rung and nobody has listened yet.
        let _ = bell.write(&[1]);
    });
    let body = move || {
        let _slot = slot;
        let line = carry(line, &ours, &ear, &bell);
        line.close();
        // The viewer sees the end even where somebody else holds our end, too.
        let _ = ours.shutdown(std::net::Shutdown::Both);
    };
    let started = thread::Builder::new().name("lv-serial".to_owned()).stack_size(256 * 1024).spawn(body);
    started.map_err(|e| Fault::busy("the host has no thread left for a serial line; try again later").because(e))?;
    Ok(viewer)
}

/// Bytes that were taken from one side and not yet by the other.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    at: usize,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
    fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.at = 0;
    }
}

/// Carries bytes both ways until either side ends.
fn carry(mut line: Line, mut viewer: &UnixStream, mut ear: &UnixStream, bell: &Arc<dyn Fn() + Send + Sync>) -> Line {
    let (mut out, mut to_guest) = (Held::default(), Held::default());
    let mut room = [0u8; ROOM];
    loop {
        let (mut events, mut moved) = (0, false);
        if out.is_empty() {
            match line.receive(&mut room) {
                Ok(Tried::Some(length)) => (moved, _) = (true, out.fill(&room[..length])),
                Ok(Tried::Later) => events |= sys::VIR_STREAM_EVENT_READABLE,
                Ok(Tried::End) | Err(_) => return line,
            }
        }
        if !out.is_empty() {
            match viewer.write(out.rest()) {
                Ok(length) => (moved, out.at) = (true, out.at + length),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return line,
            }
        }
        if to_guest.is_empty() {
            match viewer.read(&mut room) {
                Ok(0) => return line,
                Ok(length) => (moved, _) = (true, to_guest.fill(&room[..length])),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return line,
            }
        }
        if !to_guest.is_empty() {
            match line.send(to_guest.rest()) {
                Ok(Tried::Some(length)) => (moved, to_guest.at) = (true, to_guest.at + length),
                Ok(Tried::Later) => events |= sys::VIR_STREAM_EVENT_WRITABLE,
                Ok(Tried::End) | Err(_) => return line,
            }
        }
        if moved {
            continue;
        }
        if line.listen(events, bell).is_err() {
            return line;
        }
        let mut wanted = 0;
        if to_guest.is_empty() {
            wanted |= libc::POLLIN;
        }
        if !out.is_empty() {
            wanted |= libc::POLLOUT;
        }
        let file = |file: &UnixStream, events| libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 };
        let mut files = [file(viewer, wanted), file(ear, libc::POLLIN)];
        if wait(&mut files).is_err() {
            return line;
        }
        // A viewer that is gone while something still waits for the guest is not waited for.
        if files[0].revents & (libc::POLLHUP | libc::POLLERR) != 0 {
            return line;
        }
        while matches!(ear.read(&mut room), Ok(1..)) {}
    }
}
