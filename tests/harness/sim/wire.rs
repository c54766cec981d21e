//! Wires in memory that can be cut, healed, held and released. Bytes pass in pieces of a size and with a hesitation that the
//! seed decides: what a cell does must not depend on either.

use archipel_contract::{BoxFuture, Fault};
use archipel_xmpp::client::{Connected, Connector, tls::Trust};
use archipel_xmpp::server::{Peer, Server};
use futures::FutureExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// What fits into a wire before whoever writes must wait.
const ROOM: usize = 16 * 1024;

/// Numbers that look like chance and are the same for the same seed (xorshift).
pub(super) struct Chance(AtomicU64);

impl Chance {
    pub(super) fn new(seed: u64) -> Arc<Chance> {
        Arc::new(Chance(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        x % bound
    }
}

/// How long bytes are on their way. It depends on the wire, the direction and the time and on nothing else: two things that happen
/// at once elsewhere arrive here one after the other, and always in the same order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distance {
    /// What makes this wire unlike all others.
    pub(super) salt: u64,
    /// How many milliseconds it takes at most.
    pub(super) most: u64,
    /// When time began.
    pub(super) began: Instant,
}

impl Distance {
    fn back(self) -> Distance {
        Distance { salt: !self.salt, ..self }
    }

    fn now(self) -> Duration {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let chance = Chance::new(self.salt ^ at.wrapping_mul(0x5851_f42d_4c95_7f2d));
        chance.below(1);
        Duration::from_millis(1 + chance.below(self.most))
    }
}

/// How a wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Bytes pass.
    Open,
    /// The connection stands and nothing passes.
    Held,
    /// There is no connection and none can be made.
    Cut,
}

/// Where whoever serves the cell is found.
#[derive(Default)]
pub(super) struct Seat(Mutex<Option<Arc<Server>>>);

impl Seat {
    pub(super) fn server(&self) -> Option<Arc<Server>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody serves from now on; answers who did before.
    pub(super) fn take(&self, server: Option<Arc<Server>>) -> Option<Arc<Server>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), server)
    }
}

/// The wire of one client or agent to the server. It outlives connections, and servers.
pub(super) struct Wire {
    seat: Arc<Seat>,
    chance: Arc<Chance>,
    distance: Option<Distance>,
    way: watch::Sender<Way>,
    pumps: Mutex<Vec<AbortHandle>>,
}

impl Wire {
    /// A wire over which bytes take time if it has a distance.
    pub(super) fn to(seat: &Arc<Seat>, chance: Arc<Chance>, distance: Option<Distance>) -> Arc<Wire> {
        Arc::new(Wire { seat: seat.clone(), chance, distance, way: watch::Sender::new(Way::Open), pumps: Mutex::default() })
    }

    pub(super) fn way(&self) -> Way {
        *self.way.borrow()
    }

    /// A cut ends what is on the wire without a word; what was held goes on when it is opened.
    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
        if way == Way::Cut {
            self.snap();
        }
    }

    /// What is on the wire is lost, and who is at its ends must connect again.
    pub(super) fn snap(&self) {
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        pumps.drain(..).for_each(|pump| pump.abort());
    }

    fn connect(&self) -> Result<DuplexStream, Fault> {
        let server = self.seat.server().ok_or_else(|| Fault::unavailable("nobody serves the cell at the moment"))?;
        let (client, near) = tokio::io::duplex(ROOM);
        let (far, end) = tokio::io::duplex(ROOM);
        let (from_client, to_client) = tokio::io::split(near);
        let (from_server, to_server) = tokio::io::split(far);
        let there = tokio::spawn(pump(from_client, to_server, self.chance.clone(), self.distance, self.way.subscribe()));
        let distance = self.distance.map(Distance::back);
        let back = tokio::spawn(pump(from_server, to_client, self.chance.clone(), distance, self.way.subscribe()));
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner).extend([there.abort_handle(), back.abort_handle()]);
        tokio::spawn(server.accept_stream(end, Peer::in_process("simulation")));
        Ok(client)
    }
}

/// Carries bytes one way until either side ends.
async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    chance: Arc<Chance>,
    distance: Option<Distance>,
    mut way: watch::Receiver<Way>,
) {
    let mut piece = vec![0; ROOM];
    loop {
        let most = usize::try_from(1 + chance.below(ROOM as u64)).unwrap_or(ROOM);
        let Ok(mut count) = from.read(&mut piece[..most]).await else { return };
        if let Some(distance) = distance {
            tokio::time::sleep(distance.now()).await;
            // What was written meanwhile goes along, whether it was written in one piece or in several.
            while count > 0
                && count < ROOM
                && let Some(Ok(more @ 1..)) = from.read(&mut piece[count..]).now_or_never()
            {
                count += more;
            }
        } else {
            for _ in 0..chance.below(3) {
                tokio::task::yield_now().await;
            }
        }
        if way.wait_for(|now| *now == Way::Open).await.is_err() {
            return;
        }
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// Connects over a wire, and waits while it is cut.
pub(super) struct Plug(pub(super) Arc<Wire>);

impl Connector for Plug {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, Fault>> {
        Box::pin(async move {
            let mut way = self.0.way.subscribe();
            let open = way.wait_for(|now| *now != Way::Cut).await.map(|_| ());
            open.map_err(|_| Fault::unavailable("this wire is gone for good"))?;
            Ok(Connected { io: Box::new(self.0.connect()?), private: true })
        })
    }
    fn name(&self) -> &str {
        "the cell"
    }
    fn trust(&self) -> Option<Arc<dyn Trust>> {
        None
    }
}
