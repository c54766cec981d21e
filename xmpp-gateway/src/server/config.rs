//! What the server is told, and what it allows.

use crate::sasl::ThrottleRules;
use crate::stream::Bounds;
use crate::tls::Tls;
use archipel_contract::port::Accounts;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the server serves.
pub struct ServerConfig {
    /// The domain.
    pub cell: String,
    /// Who may log in.
    pub accounts: Arc<dyn Accounts>,
    /// The certificate. Without one only this machine itself may connect.
    pub tls: Option<Arc<Tls>>,
    /// What a stream may cost.
    pub limits: Limits,
    /// Stream features of the handler, as XML, announced after login (for example roster versioning).
    pub features: Vec<String>,
}

/// How much may wait in one session, written and unacknowledged stanzas included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Stanzas.
    pub stanzas: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for QueueBounds {
    fn default() -> QueueBounds {
        QueueBounds { stanzas: 4096, bytes: 8 * 1024 * 1024 }
    }
}

/// How fast one person's session may talk. Whoever talks faster is read later; nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Stanzas a second, in the long run.
    pub stanzas: f64,
    /// Stanzas at once.
    pub stanza_burst: f64,
    /// Bytes a second, in the long run.
    pub bytes: f64,
    /// Bytes at once.
    pub byte_burst: f64,
}

/// What a stream may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One element before login.
    pub before_login: Bounds,
    /// One stanza of a person.
    pub person: Bounds,
    /// One stanza of an agent.
    pub node: Bounds,
    /// What may wait for a slow or absent peer.
    pub queue: QueueBounds,
    /// Connections that have not logged in yet, altogether.
    pub unauthenticated: usize,
    /// The same from one address, so that one peer cannot take all places.
    pub unauthenticated_per_peer: usize,
    /// Sessions of one account, the suspended ones included.
    pub sessions_per_account: usize,
    /// Until when one must have logged in and bound a resource.
    pub time_to_log_in: Duration,
    /// How long a broken session waits for its peer.
    pub resume_window: Duration,
    /// How long a stream may be silent before it is asked for a sign of life, and how long it then has to give one.
    pub silence: Duration,
    /// How long one write may stall.
    pub write_stall: Duration,
    /// How long a closing stream may take to say goodbye.
    pub farewell: Duration,
    /// How fast a person's session may talk. Agents are exempt.
    pub rate: Rate,
    /// How strict to be about wrong passwords.
    pub throttle: ThrottleRules,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            before_login: Bounds::BEFORE_LOGIN,
            person: Bounds::PERSON,
            node: Bounds::NODE,
            queue: QueueBounds::default(),
            unauthenticated: 1000,
            unauthenticated_per_peer: 500,
            sessions_per_account: 100,
            time_to_log_in: Duration::from_secs(30),
            resume_window: Duration::from_secs(300),
            silence: Duration::from_secs(90),
            write_stall: Duration::from_secs(60),
            farewell: Duration::from_secs(5),
            rate: Rate { stanzas: 200.0, stanza_burst: 1000.0, bytes: 1024.0 * 1024.0, byte_burst: 4.0 * 1024.0 * 1024.0 },
            throttle: ThrottleRules::default(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// For logs and for [`super::Session::peer`].
    pub name: String,
    /// What wrong passwords are counted by: the address without the port.
    pub host: String,
    /// The other end is this machine, so nobody can listen.
    pub local: bool,
    /// The transport is encrypted already (a WebSocket behind TLS).
    pub secure: bool,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        let ip = address.ip().to_canonical();
        Peer { name: SocketAddr::new(ip, address.port()).to_string(), host: ip.to_string(), local: ip.is_loopback(), secure: false }
    }
}

impl Peer {
    /// The other end is in this process.
    pub fn in_process(name: impl Into<String>) -> Peer {
        let name = name.into();
        Peer { host: name.clone(), name, local: true, secure: true }
    }

    /// The same peer over an encrypted transport.
    pub fn encrypted(self) -> Peer {
        Peer { secure: true, ..self }
    }

    /// Whether a login may go over this connection as it is.
    pub(super) fn may_log_in(&self) -> bool {
        self.local || self.secure
    }
}
