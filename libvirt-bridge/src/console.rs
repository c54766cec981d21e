//! The port for consoles: sockets with a screen or a serial line behind them, pictures, keys.
//!
//! ```text
//!   screen: libvirt hands over one end of a socket pair whose other end QEMU has; no listener is needed, and no password
//!           (else, on the host itself, a connection to where the definition says that it listens)
//!   serial: socket pair <-- a thread --> stream of libvirt
//! ```

mod picture;
mod raw;
mod serial;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::tree::{self, Element},
};
use archipel_contract::{
    BoxFuture, DomainId, Fault, Millis,
    domain::{ConsolePort, Image, Outlets, SpiceAddress},
    ticket::ConsoleLine,
};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use virt::{domain::Domain, error::ErrorNumber, sys};

/// One `<graphics>` of a running machine.
struct Screen {
    /// Which of all screens it is.
    index: u32,
    socket: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    tls_port: Option<u16>,
}

fn devices(domain: &Domain) -> Result<Vec<Element>, Trouble> {
    let xml = ask(|| domain.xml_desc(0))?;
    let root = tree::parse(&xml).map_err(|e| unreadable("a virtual machine", e))?;
    Ok(root.child("devices").map(|d| d.elements().cloned().collect()).unwrap_or_default())
}

fn screen(devices: &[Element], kind: &str) -> Option<Screen> {
    let mut all = (0..).zip(devices.iter().filter(|d| d.name == "graphics"));
    let (index, graphics) = all.find(|(_, d)| d.attribute("type") == Some(kind))?;
    let listen = graphics.child("listen");
    let of_listen = |name: &str| listen.and_then(|l| l.attribute(name)).map(str::to_owned);
    let port = |name: &str| graphics.attribute(name).and_then(|p| p.parse().ok()).filter(|p| *p > 0);
    Some(Screen {
        index,
        socket: of_listen("socket").or_else(|| graphics.attribute("socket").map(str::to_owned)),
        host: of_listen("address").or_else(|| graphics.attribute("listen").map(str::to_owned)),
        port: port("port"),
        tls_port: port("tlsPort"),
    })
}

fn outlets(devices: &[Element]) -> Outlets {
    let spice = screen(devices, "spice").map(|s| {
        let host = s.host.filter(|_| s.port.or(s.tls_port).is_some())?;
        Some(SpiceAddress { host, port: s.port, tls_port: s.tls_port })
    });
    let serial = devices.iter().any(|d| matches!(&*d.name, "serial" | "console"));
    Outlets { vnc: screen(devices, "vnc").is_some(), spice, serial }
}

fn active(session: &Session, id: DomainId) -> Result<Domain, Trouble> {
    let domain = session.domain(id)?;
    if ask(|| domain.is_active())? {
        return Ok(domain);
    }
    Err(Fault::wrong_state(format!("{} is off; start it first", domain.name()?)).into())
}

fn open_screen(domain: &Domain) -> Result<UnixStream, Trouble> {
    let devices = devices(domain)?;
    let name = domain.name()?;
    let screen = screen(&devices, "vnc").ok_or_else(|| Fault::wrong_state(format!("{name} has no VNC screen; try its serial line")))?;
    let error = match ask(|| raw::open_graphics(domain, screen.index)) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    // A libvirt on another host cannot hand a socket over; then there is no other way either.
    if !matches!(error.code().known(), Some(ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::ArgumentUnsupported))
    {
        return Err(error.into());
    }
    let unreachable = |e: std::io::Error| Fault::unavailable(format!("the screen of {name} cannot be reached from this host")).because(e);
    match (&screen.socket, &screen.host, screen.port) {
        (Some(path), _, _) => Ok(UnixStream::connect(path).map_err(unreachable)?),
        (None, Some(host), Some(port)) if host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) => {
            let tcp = TcpStream::connect((host.as_str(), port)).map_err(unreachable)?;
            // Both are sockets, and nothing is done with it that only one of them can.
            Ok(UnixStream::from(OwnedFd::from(tcp)))
        }
        _ => Err(error.into()),
    }
}

impl ConsolePort for Link {
    fn outlets(&self, id: DomainId) -> BoxFuture<'_, Result<Outlets, Fault>> {
        self.call(Lane::Read, "looking for its consoles", move |session| Ok(outlets(&devices(&active(session, id)?)?)))
    }

    fn open(&self, id: DomainId, line: ConsoleLine, take_over: bool) -> BoxFuture<'_, Result<UnixStream, Fault>> {
        self.call(Lane::Change, "opening a console", move |session| {
            let domain = active(session, id)?;
            match line {
                ConsoleLine::Vnc => open_screen(&domain),
                ConsoleLine::Serial => serial::open(&session.connect, &domain, take_over),
            }
        })
    }

    fn screenshot(&self, id: DomainId, width: u32, limit: usize) -> BoxFuture<'_, Result<Image, Fault>> {
        self.call(Lane::Read, "taking a picture of its screen", move |session| {
            let domain = active(session, id)?;
            let file = raw::screenshot(&session.connect, &domain, picture::FILE_LIMIT)?;
            let shot = picture::read(&file).map_err(|why| unreadable("a picture", why))?;
            Ok(shot.fitting(width, limit).map_err(|why| unreadable("a picture", why))?)
        })
    }

    fn press(&self, id: DomainId, keys: Vec<u32>, hold: Millis) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "pressing keys", move |session| {
            let domain = active(session, id)?;
            let mut keys = keys;
            let (count, hold) = (i32::try_from(keys.len()).unwrap_or(0), u32::try_from(hold.0).unwrap_or(u32::MAX));
            Ok(ask(|| domain.send_key(sys::VIR_KEYCODE_SET_LINUX, hold, keys.as_mut_ptr(), count, 0))?)
        })
    }
}

/// Opening a serial line that somebody has open fails in words; the number is that of many failures.
fn busy_if_open(error: virt::error::Error, domain: &Domain) -> Trouble {
    let taken = matches!(error.code().known(), Some(ErrorNumber::OperationFailed | ErrorNumber::OperationInvalid));
    if taken && fault::may_be_state(&error) && matches!(domain.is_active(), Ok(true)) {
        let name = domain.name().unwrap_or_default();
        return Fault::busy(format!("somebody has the serial line of {name} open; take it over, or wait")).because(error.message()).into();
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(devices: &str) -> Vec<Element> {
        tree::parse(&format!("<devices>{devices}</devices>")).unwrap().elements().cloned().collect()
    }

    #[test]
    fn the_screen_is_counted_among_all_screens() {
        let all = of("<disk/><graphics type='spice' port='5901' tlsPort='-1'><listen type='address' address='127.0.0.1'/></graphics>\
             <graphics type='vnc' port='-1'><listen type='none'/></graphics><console type='pty'/>");
        let vnc = screen(&all, "vnc").unwrap();
        assert_eq!((vnc.index, vnc.port, vnc.host, vnc.socket), (1, None, None, None));
        let address = SpiceAddress { host: "127.0.0.1".into(), port: Some(5901), tls_port: None };
        assert_eq!(outlets(&all), Outlets { vnc: true, spice: Some(Some(address)), serial: true });
        assert_eq!(outlets(&of("<disk/>")), Outlets::default());
        let nowhere = of("<graphics type='spice'><listen type='none'/></graphics>");
        assert_eq!(outlets(&nowhere).spice, Some(None));
        let socket = of("<graphics type='vnc' socket='/run/x'><listen type='socket' socket='/run/x'/></graphics>");
        assert_eq!(screen(&socket, "vnc").unwrap().socket.as_deref(), Some("/run/x"));
    }
}
