//! The other agents of the cell, reached through the exchange.

use super::LinkAuthority;
use crate::client::{Client, State};
use crate::stanza::{IqKind, node};
use archipel_contract::{
    BoxFuture, CellName, Fault, HypervisorName,
    port::{Peers, Request},
};
use parking_lot::Mutex;
use serde_json::Value;
use std::time::Duration;

/// How long another agent may take to answer.
const PEER_DEADLINE: Duration = Duration::from_secs(120);

/// The other agents of the cell, through the link.
pub struct LinkPeers {
    cell: CellName,
    client: Mutex<Option<Client>>,
}

impl LinkPeers {
    pub(super) fn new(cell: CellName) -> LinkPeers {
        LinkPeers { cell, client: Mutex::new(None) }
    }
}

impl Peers for LinkPeers {
    fn ask(&self, peer: HypervisorName, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(self.request(self.cell.jid(&peer.into()), request))
    }
    fn ask_cell(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(self.request(self.cell.to_string(), request))
    }
}

impl LinkPeers {
    async fn request(&self, to: String, request: Request) -> Result<Value, Fault> {
        let client = self.client.lock().clone();
        let online = client.filter(|c| matches!(*c.state().borrow(), State::Online(_)));
        let Some(client) = online else {
            return Err(Fault::unavailable(format!("{to} cannot be asked: there is no link to the exchange at the moment")));
        };
        let ask = node::Ask::Request(Box::new(request));
        let payload = client.request(IqKind::Set, Some(&to), ask.print(), PEER_DEADLINE).await?;
        node::replied(&payload.ok_or_else(|| Fault::internal(format!("{to} answered with nothing")))?)
    }
}

/// Takes the client back from those who ask through it, also when the link is aborted: as long as anybody holds it, it does not say
/// good-bye, and the exchange waits for its return.
pub(super) struct Lent<'a>(&'a LinkPeers, &'a LinkAuthority);

impl Lent<'_> {
    pub(super) fn to<'a>(peers: &'a LinkPeers, authority: &'a LinkAuthority, client: &Client) -> Lent<'a> {
        *peers.client.lock() = Some(client.clone());
        authority.attach(Some(client.clone()));
        Lent(peers, authority)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.0.client.lock() = None;
        self.1.attach(None);
    }
}
