//! How a client reaches its server: over TCP, or over a pipe in memory when both live in one process.

use super::tls::{Identity, Shows, Trust};
use crate::stream::wire::BoxedIo;
use archipel_contract::{BoxFuture, Fault, FaultKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;

/// How long a TCP connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The same when there are other servers to try.
const CONNECT_DEADLINE_OF_ONE: Duration = Duration::from_secs(2);

/// A fresh connection.
pub struct Connected {
    /// The bytes.
    pub io: BoxedIo,
    /// Whether nobody else can listen: loopback or memory. Only then may a password's proof and commands travel without TLS.
    pub private: bool,
}

/// Whoever makes connections to one server.
pub trait Connector: Send + Sync {
    /// A fresh connection, or `unavailable` with a message that says what to do.
    fn connect(&self) -> BoxFuture<'_, Result<Connected, Fault>>;
    /// The server's name in messages and in the memory of certificates, for example `127.0.0.1:5222`.
    fn name(&self) -> &str;
    /// Who decides whether the server's certificate is the right one. Without anybody, TLS is refused.
    fn trust(&self) -> Option<Arc<dyn Trust>>;
    /// The server hung and was given up. Answers whether the next attempt will reach another one; otherwise it is not asked for a while.
    fn gave_up(&self) -> bool {
        false
    }
    /// What is shown of oneself. Whoever shows something insists on TLS.
    fn shows(&self) -> Shows {
        Shows::Nothing
    }
}

/// Over TCP, with TCP_NODELAY: without it every request would wait for a delayed acknowledgement.
pub struct Tcp {
    address: String,
    trust: Option<Arc<dyn Trust>>,
    patience: Duration,
    member: bool,
    identity: Option<Arc<Identity>>,
}

impl Tcp {
    /// To `host:port`.
    pub fn new(address: impl Into<String>, trust: Option<Arc<dyn Trust>>) -> Tcp {
        Tcp { address: address.into(), trust, patience: CONNECT_DEADLINE, member: false, identity: None }
    }

    /// The same, to an exchange that is known by the cell's authority.
    #[must_use]
    pub fn for_members(self) -> Tcp {
        Tcp { member: true, ..self }
    }

    /// The same, logging in with this certificate.
    #[must_use]
    pub fn with_identity(self, identity: Arc<Identity>) -> Tcp {
        Tcp { identity: Some(identity), ..self.for_members() }
    }

    /// The same for one of several servers: less is waited for, as another may be serving already.
    #[must_use]
    pub fn one_of_several(self) -> Tcp {
        Tcp { patience: CONNECT_DEADLINE_OF_ONE, ..self }
    }
}

impl Connector for Tcp {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, Fault>> {
        Box::pin(async move {
            let opened = tokio::time::timeout(self.patience, TcpStream::connect(&self.address)).await;
            let stream = match opened {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(refused(&self.address, &error)),
                Err(_) => {
                    return Err(Fault::unavailable(format!(
                        "{} does not answer within {} s; check the address and the firewall",
                        self.address,
                        self.patience.as_secs()
                    )));
                }
            };
            stream.set_nodelay(true).map_err(|e| refused(&self.address, &e))?;
            let private = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
            Ok(Connected { io: Box::new(stream), private })
        })
    }
    fn name(&self) -> &str {
        &self.address
    }
    fn trust(&self) -> Option<Arc<dyn Trust>> {
        self.trust.clone()
    }
    fn shows(&self) -> Shows {
        match &self.identity {
            Some(identity) => Shows::Certificate(identity.clone()),
            None if self.member => Shows::Membership,
            None => Shows::Nothing,
        }
    }
}

fn refused(address: &str, error: &std::io::Error) -> Fault {
    let advice = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "nobody listens there; start the daemon with `archipeld run`, or set ARCHIPEL_SERVER to the address it listens on"
        }
        std::io::ErrorKind::InvalidInput => "write the address as HOST:PORT, for example 127.0.0.1:5222",
        _ => "check the address in ARCHIPEL_SERVER",
    };
    Fault::new(FaultKind::Unavailable, format!("cannot connect to {address}: {advice}")).because(error)
}

/// Over a pipe in memory. The factory hands out the client's end and gives the other one to the server; `None` means that the
/// server is not there at the moment.
pub struct InMemory<F> {
    factory: F,
}

impl<F: Fn() -> Option<DuplexStream> + Send + Sync> InMemory<F> {
    /// Pipes made by this factory.
    pub fn new(factory: F) -> InMemory<F> {
        InMemory { factory }
    }
}

impl<F: Fn() -> Option<DuplexStream> + Send + Sync> Connector for InMemory<F> {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, Fault>> {
        Box::pin(async move {
            match (self.factory)() {
                Some(io) => Ok(Connected { io: Box::new(io), private: true }),
                None => Err(Fault::unavailable("the exchange of this process is not there at the moment")),
            }
        })
    }
    fn name(&self) -> &str {
        "memory"
    }
    fn trust(&self) -> Option<Arc<dyn Trust>> {
        None
    }
}
