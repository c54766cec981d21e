//! The joining host's side: it proves the exchange by the token, sends its public key and gets its certificate. The key it made stays
//! on the host.
//!
//! ```text
//!   joining host                              exchange
//!   starttls, TLS 1.3          <------->      its certificate and the authority's
//!   is that the token's authority, and did it make this certificate? no: nothing is sent
//!   iq set join {token, name, key}  ---->     redeems
//!                              <----          {cell, certificate, authority} or a fault
//! ```
//! This happens before any login, in a stream that can do nothing else.

use super::token::{Token, hex};
use crate::client::tls::{Identity, Trust, plain};
use crate::client::{Client, Config, Connector, Retry, Tcp, ask_before_login};
use crate::ns;
use crate::stanza::{self, IqKind, fault, json, node};
use crate::stream::Bounds;
use archipel_contract::{CellName, Fault, FaultKind, HypervisorName, Millis, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long joining may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a joining host says.
#[derive(Clone, Serialize, Deserialize)]
pub struct Request {
    /// The token's secret.
    pub token: String,
    /// The hypervisor it is about to be.
    pub name: HypervisorName,
    /// Its public key: a point of P-256, uncompressed, in base64.
    pub key: String,
}

/// What it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The cell it belongs to now.
    pub cell: CellName,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// Until when its certificate holds.
    pub expires: Timestamp,
    /// The incarnation of the agent that had this name before. The new one begins above it, so that its events count as newer.
    #[serde(default)]
    pub after: u64,
    /// How long to wait before asking for the next certificate.
    #[serde(default)]
    pub renew_after: Option<Millis>,
}

/// A grant with the key it is for.
pub struct Joined {
    /// The grant.
    pub grant: Grant,
    /// The key, PEM.
    pub key: String,
}

impl Joined {
    /// Certificate and key in one text: as it is kept in an [`Identity`]'s file.
    pub fn identity(&self) -> String {
        format!("{}{}", self.grant.certificate, self.key)
    }
}

/// A fresh key, and its public half as it is sent.
pub(crate) fn fresh_key() -> Result<(KeyPair, String), Fault> {
    let key = KeyPair::generate().map_err(|e| Fault::internal("no key can be made").because(e))?;
    let public = BASE64.encode(key.public_key_raw());
    Ok((key, public))
}

/// Believes the authority that the token names, and nobody else.
struct OfToken(String);

impl Trust for OfToken {
    fn check(&self, server: &str, fingerprint: &str) -> Result<(), Fault> {
        if plain(fingerprint) == self.0 {
            return Ok(());
        }
        Err(Fault::new(
            FaultKind::Forbidden,
            format!(
                "{server} does not belong to the cell this token was made for, so nothing was sent to it; check the address, or ask for a \
                 token of that cell"
            ),
        )
        .because(format!("its certificate is {fingerprint}")))
    }
    fn insists(&self) -> bool {
        true
    }
}

/// The payload of the `iq`.
pub(crate) fn print(request: &Request) -> Element {
    let mut join = Element::bare("join", ns::JOIN);
    join.append_child(json::print(request));
    join
}

/// Joins the cell whose exchange is at `server` (`host:port`).
pub async fn join(server: &str, token: &Token, name: &HypervisorName) -> Result<Joined, Fault> {
    let (key, public) = fresh_key()?;
    let connector = Tcp::new(server, Some(Arc::new(OfToken(hex(&token.authority))))).for_members();
    let request = Request { token: token.secret(), name: name.clone(), key: public };
    let answer = ask(Arc::new(connector), &request).await?;
    Ok(Joined { grant: answer, key: key.serialize_pem() })
}

/// Leaves the cell: the exchange takes the certificate back that this connector logs in with.
pub async fn leave(cell: &CellName, name: &HypervisorName, connector: Arc<dyn Connector>) -> Result<(), Fault> {
    let (client, _incoming) = Client::connect(Config::once(format!("hv.{name}"), cell.as_str(), "", connector)).await?;
    let left = client.request(IqKind::Set, Some(cell.as_str()), node::Ask::Leave.print(), DEADLINE).await;
    client.close().await;
    left.map(drop)
}

/// The exchange over any connector.
pub async fn ask(connector: Arc<dyn Connector>, request: &Request) -> Result<Grant, Fault> {
    let server = connector.name().to_owned();
    let config = Config { retry: Retry::Never, bounds: Bounds::NODE, ..Config::once("", "", "", connector) };
    let iq = stanza::iq(IqKind::Set, "join", Some(print(request)));
    let answer = tokio::time::timeout(DEADLINE, ask_before_login(&config, &iq))
        .await
        .map_err(|_| Fault::new(FaultKind::Timeout, format!("{server} did not answer within {} s; try again", DEADLINE.as_secs())))??;
    if IqKind::of(&answer) == Some(IqKind::Error) {
        return Err(fault::of_stanza(&answer));
    }
    let granted = answer.get_child("granted", ns::JOIN);
    granted.map(json::need).unwrap_or_else(|| Err(Fault::unavailable(format!("{server} answered with no certificate; is it an exchange?"))))
}

/// Writes a renewed certificate and its key where the old ones are.
pub(crate) async fn replace(identity: &Identity, grant: &Grant, key: &KeyPair) -> Result<(), Fault> {
    identity.write(&format!("{}{}", grant.certificate, key.serialize_pem())).await
}
