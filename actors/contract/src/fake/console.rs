//! The consoles of the fake hypervisor: a serial line that sends back what it gets, and a screen that greets as RFB does.

use super::host::{FakeHost, Model};
use super::lock;
use crate::{
    BoxFuture, DomainId, Fault, Millis,
    domain::{ConsolePort, Image, Outlets},
    ticket::ConsoleLine,
};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// What is open of the machines, and what was pressed.
#[derive(Default)]
pub(super) struct Lines {
    open: Vec<(DomainId, ConsoleLine, UnixStream)>,
    pressed: Vec<(DomainId, Vec<u32>)>,
}

impl Lines {
    /// The machine has stopped.
    pub(super) fn close(&mut self, id: DomainId) {
        self.open.retain(|(of, _, machine)| {
            if *of == id {
                // A viewer that is gone already is no news.
                let _ = machine.shutdown(Shutdown::Both);
            }
            *of != id
        });
    }
}

/// Whether the viewer on the other end has left.
fn is_left(machine: &UnixStream) -> bool {
    let look = || {
        machine.set_nonblocking(true)?;
        let mut one = [0; 1];
        let mut end: &UnixStream = machine;
        let read = end.read(&mut one);
        machine.set_nonblocking(false)?;
        read
    };
    matches!(look(), Ok(0))
}

fn active(model: &Model, id: DomainId) -> Result<(), Fault> {
    let Some(record) = model.domains.get(&id) else {
        return Err(Fault::not_found(format!("there is no virtual machine {id}; list them again")));
    };
    if record.facts.state.is_active() {
        return Ok(());
    }
    Err(Fault::wrong_state(format!("{} is off; start it first", record.name)))
}

fn broken(e: std::io::Error) -> Fault {
    Fault::internal("the fake has no socket to give").because(e)
}

impl FakeHost {
    /// What was pressed on the keyboards, in order.
    pub fn pressed(&self) -> Vec<(DomainId, Vec<u32>)> {
        lock(&self.model).lines.pressed.clone()
    }
}

impl ConsolePort for FakeHost {
    fn outlets(&self, id: DomainId) -> BoxFuture<'_, Result<Outlets, Fault>> {
        self.call("console.outlets", id.to_string(), move |model| {
            active(model, id)?;
            Ok(Outlets { vnc: true, spice: None, serial: true })
        })
    }

    fn open(&self, id: DomainId, line: ConsoleLine, take_over: bool) -> BoxFuture<'_, Result<UnixStream, Fault>> {
        self.call("console.open", id.to_string(), move |model| {
            active(model, id)?;
            let other = model.lines.open.iter().position(|(of, which, end)| *of == id && *which == ConsoleLine::Serial && !is_left(end));
            match (line, other, take_over) {
                (ConsoleLine::Serial, Some(_), false) => {
                    return Err(Fault::busy("somebody has the serial line open; take it over or wait"));
                }
                (ConsoleLine::Serial, Some(at), true) => {
                    let _ = model.lines.open.remove(at).2.shutdown(Shutdown::Both);
                }
                _ => {}
            }
            let (viewer, machine) = UnixStream::pair().map_err(broken)?;
            let mut guest = machine.try_clone().map_err(broken)?;
            model.lines.open.push((id, line, machine));
            std::thread::spawn(move || {
                if line == ConsoleLine::Vnc && guest.write_all(b"RFB 003.008\n").is_err() {
                    return;
                }
                let mut chunk = [0; 4096];
                while let Ok(length @ 1..) = guest.read(&mut chunk) {
                    if guest.write_all(&chunk[..length]).is_err() {
                        return;
                    }
                }
                let _ = guest.shutdown(Shutdown::Both);
            });
            Ok(viewer)
        })
    }

    fn screenshot(&self, id: DomainId, width: u32, _: usize) -> BoxFuture<'_, Result<Image, Fault>> {
        self.call("console.screenshot", id.to_string(), move |model| {
            active(model, id)?;
            Ok(Image { size: (width.min(720), width.min(720) * 5 / 9), png: b"\x89PNG\r\n\x1a\n".to_vec() })
        })
    }

    fn press(&self, id: DomainId, keys: Vec<u32>, _: Millis) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("console.press", id.to_string(), move |model| {
            active(model, id)?;
            model.lines.pressed.push((id, keys));
            Ok(())
        })
    }
}
