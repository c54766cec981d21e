//! The agent's side of carriages: the exchange has a request for what a ticket of this host opens, and this host fetches it.
//!
//! ```text
//!   carry --> does the ticket fit? --no--> refused
//!               | yes
//!               v
//!             connect as the link did, ask for the carriage --not in time--> failed, and why
//!               |
//!               v
//!             carried --> the request is served like any other, from the connection instead of from a port
//! ```

use super::LinkConfig;
use crate::client::{self, Client, Config};
use crate::stanza::carriage::{Carry, CarryAnswer};
use crate::stream::{Bounds, wire::BoxedIo};
use archipel_contract::{BoxFuture, Fault, ticket::Proof};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a connection to the exchange may take, login included. The exchange waits a little longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Carriages that may be open, as many as the exchange takes of one host.
const OPEN: usize = crate::exchange::carriages::OPEN_OF_ONE;

/// What a ticket opens, and for whom, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The bare JID of whoever asked for it.
    pub person: String,
    /// What it opens.
    pub what: String,
}

/// Whoever opens what tickets are for on this host.
pub trait Porter: Send + Sync {
    /// What a ticket with this token and proof opens below that path, if one waits. It is not used up.
    fn knows(&self, folder: &str, token: &str, proof: &Proof) -> Option<Known>;
    /// Serves the HTTP request that comes over a connection. Ends with the connection.
    fn serve(&self, io: BoxedIo) -> BoxFuture<'static, ()>;
}

/// The carriages of one link.
#[derive(Clone)]
pub(super) struct Carriages {
    porter: Option<Arc<dyn Porter>>,
    user: String,
    domain: String,
    password: String,
    room: Arc<Semaphore>,
}

impl Carriages {
    pub(super) fn new(config: &LinkConfig, porter: Option<Arc<dyn Porter>>) -> Carriages {
        let user = format!("hv.{}", config.host);
        let (domain, password) = (config.cell.as_str().to_owned(), config.password.clone());
        Carriages { porter, user, domain, password, room: Arc::new(Semaphore::new(OPEN)) }
    }

    /// Fetches the request, and answers when it is fetched and not when it is served.
    pub(super) async fn fetch(&self, client: &Client, carry: Carry) -> CarryAnswer {
        let Some(porter) = self.porter.clone() else { return CarryAnswer::Refused };
        let Some(Known { person, what }) = porter.knows(&carry.folder, &carry.token, &carry.proof) else { return CarryAnswer::Refused };
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return CarryAnswer::Failed { why: format!("{OPEN} consoles and transfers of this host go through the exchange already") };
        };
        match self.connect(client, &carry.carriage).await {
            Ok(io) => {
                let served = porter.serve(io);
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
                CarryAnswer::Carried { person, what }
            }
            Err(fault) => {
                tracing::warn!(%fault, "the exchange could not be reached for a request that it wants to pass on");
                CarryAnswer::Failed { why: fault.to_string() }
            }
        }
    }

    /// The same server by the same way as the link, with the same login.
    async fn connect(&self, client: &Client, carriage: &str) -> Result<BoxedIo, Fault> {
        let via = client.via().ok_or_else(|| Fault::unavailable("there is no link to the exchange"))?;
        let config = Config { bounds: Bounds::NODE, ..Config::once(&self.user, &self.domain, &self.password, via) };
        match tokio::time::timeout(PATIENCE, client::carriage(&config, carriage)).await {
            Ok(connected) => connected,
            Err(_) => Err(Fault::unavailable(format!("no second connection to the exchange within {} s", PATIENCE.as_secs()))),
        }
    }
}
