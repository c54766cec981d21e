//! What every hypervisor must do for whoever looks at its machines: sockets that end with the machine, and one user of a serial line.

use super::host::kind_of;
use crate::{DomainId, FaultKind, Millis, host::Host, ticket::ConsoleLine};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

fn ends(stream: &mut UnixStream, what: &str) {
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(_) => {}
            // A socket that was cut is as good as one that was closed.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(e) => panic!("{what} did not end: {e}"),
        }
    }
}

/// The consoles of a running machine that has a VNC screen and a serial line; it is off afterwards.
pub async fn consoles_of_a_machine(host: &Host, id: DomainId) {
    let outlets = host.consoles.outlets(id).await.expect("outlets");
    assert!(outlets.vnc && outlets.serial, "{outlets:?}");

    let mut screen = host.consoles.open(id, ConsoleLine::Vnc, false).await.expect("the screen");
    screen.set_nonblocking(false).expect("a socket");
    screen.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut greeting = [0; 12];
    screen.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting[..4], b"RFB ", "a screen speaks RFB");
    let mut second = host.consoles.open(id, ConsoleLine::Vnc, false).await.expect("two may look at one screen");

    let mut serial = host.consoles.open(id, ConsoleLine::Serial, false).await.expect("the serial line");
    assert_eq!(kind_of(host.consoles.open(id, ConsoleLine::Serial, false).await), FaultKind::Busy, "a serial line has one user");
    let mut taken = host.consoles.open(id, ConsoleLine::Serial, true).await.expect("it is taken over");
    ends(&mut serial, "the serial line that was taken over");

    let image = host.consoles.screenshot(id, 320, 150_000).await.expect("a picture");
    assert!(image.size.0 <= 320 && image.png.starts_with(b"\x89PNG") && image.png.len() <= 150_000, "{:?}", image.size);
    host.consoles.press(id, vec![30], Millis(10)).await.expect("a key");

    host.domains.force_off(id).await.expect("off");
    for (stream, what) in [(&mut screen, "a screen"), (&mut second, "the second screen"), (&mut taken, "a serial line")] {
        ends(stream, what);
    }
    let off = host.consoles.open(id, ConsoleLine::Vnc, false).await;
    assert_eq!(kind_of(off), FaultKind::WrongState, "one that is off has nothing to show");
}

/// A machine that nobody knows.
pub async fn no_console_of_nothing(host: &Host) {
    let nobody = DomainId(Uuid::from_u128(0xdead));
    assert_eq!(kind_of(host.consoles.outlets(nobody).await), FaultKind::NotFound);
    assert_eq!(kind_of(host.consoles.open(nobody, ConsoleLine::Serial, true).await), FaultKind::NotFound);
    assert_eq!(kind_of(host.consoles.screenshot(nobody, 320, 1000).await), FaultKind::NotFound);
    assert_eq!(kind_of(host.consoles.press(nobody, vec![30], Millis(10)).await), FaultKind::NotFound);
}
