//! Which hosts belong to the cell: the cell's certificate authority, invitations, and certificates that were given out or taken back.
//!
//! ```text
//!   invite/<hash>:  open --redeemed, by one--> used        member/<name>:  (none) --redeemed--> serials --renewed--> serials
//!                     +--its time is over--> expired                         ^                    |
//!                                                                            +-- left, revoked ---+--> revoked/<serial>
//! ```
//! Everything is a document of the cell, changed by compare-and-set, so that any exchange of the cell can carry on, and two hosts that
//! redeem one token at once are told apart by the store. A certificate logs in while it is made by our authority, holds, is listed
//! with its member, and is not taken back; each of the four is asked at every login.

pub(crate) mod authority;
pub mod join;
pub(crate) mod roll;
mod token;

pub use roll::Roll;
pub use token::Token;

use archipel_contract::{
    CellName, Fault, FaultKind, HypervisorName, Millis, Timestamp,
    port::{Accounts, Clock, Documents, Versioned},
};
use authority::{Authority, Kept, Unfit, Usage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use join::{Grant, Request};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

const HOUR: u64 = 3600 * 1000;
const DAY: u64 = 24 * HOUR;
/// How long an agent's certificate holds.
pub const CERTIFICATE: Millis = Millis(90 * DAY);
/// How long an exchange's own certificate holds.
const OF_EXCHANGE: Millis = Millis(365 * DAY);
/// It is made anew at a start when less than this is left.
const OF_EXCHANGE_LEFT: Millis = Millis(30 * DAY);
/// How long a token that is over is remembered, so that whoever tries it is told what became of it.
const REMEMBERED: u64 = 2 * DAY;
/// So often a change is tried again when somebody else changed the same document.
const ATTEMPTS: usize = 8;

/// A certificate that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    serial: String,
    pub(crate) expires: Timestamp,
}

/// A host that belongs to the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: HypervisorName,
    pub(crate) joined: Timestamp,
    /// The newest last. The one before it holds on until its time is over, should the answer with the new one be lost.
    given: Vec<Given>,
}

impl Record {
    pub(crate) fn expires(&self) -> Timestamp {
        self.given.last().map_or(Timestamp(0), |g| g.expires)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Invite {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<HypervisorName>,
    expires: Timestamp,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Used>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Used {
    by: HypervisorName,
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Revoked {
    name: HypervisorName,
    at: Timestamp,
    why: String,
    /// When the certificate would have ended; after that nobody needs this.
    expires: Timestamp,
}

/// The membership of a cell, as an exchange keeps it.
pub struct Membership {
    cell: CellName,
    documents: Arc<dyn Documents>,
    accounts: Arc<dyn Accounts>,
    clock: Arc<dyn Clock>,
    authority: Authority,
    lifetime: Millis,
    /// Where joining hosts reach us, `host:port`.
    address: String,
    /// Whom we met.
    pub(crate) roll: Arc<Roll>,
}

fn member(name: &HypervisorName) -> String {
    format!("member/{name}")
}

fn refused(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Forbidden, message)
}

fn read<T: DeserializeOwned>(key: &str, document: &Versioned) -> Result<T, Fault> {
    serde_json::from_slice(&document.body)
        .map_err(|e| Fault::internal(format!("the cell's document {key} cannot be read; restore it from a copy")).because(e))
}

fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|e| Fault::internal("a document cannot be written").because(e))
}

impl Membership {
    /// The membership kept in these documents. The authority is made when there is none; of two exchanges that do so at once, one
    /// wins and the other takes over what it made. `address` is where joining hosts reach this exchange.
    pub async fn open(
        cell: CellName,
        documents: Arc<dyn Documents>,
        accounts: Arc<dyn Accounts>,
        clock: Arc<dyn Clock>,
        address: impl Into<String>,
    ) -> Result<Arc<Membership>, Fault> {
        const KEY: &str = "ca/authority";
        let kept = loop {
            if let Some(document) = documents.document(KEY.into()).await? {
                break read::<Kept>(KEY, &document)?;
            }
            let fresh = Kept::make(&cell, clock.now())?;
            match documents.write_document(KEY.into(), None, Some(written(&fresh)?)).await {
                Ok(_) => break fresh,
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                Err(fault) => return Err(fault),
            }
        };
        let authority = Authority::new(&kept)?;
        let (lifetime, address, roll) = (CERTIFICATE, address.into(), Arc::default());
        Ok(Arc::new(Membership { cell, documents, accounts, clock, authority, lifetime, address, roll }))
    }

    /// SHA-256 of the authority's certificate, in pairs with colons.
    pub fn fingerprint(&self) -> String {
        crate::client::tls::fingerprint(&self.authority.certificate)
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.authority.pem
    }

    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority.certificate
    }

    /// Where joining hosts reach us.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The certificate with which an exchange that is reached by `names` serves: the one it has while that holds long enough, or a new
    /// one for the same key.
    pub(crate) fn for_exchange(&self, names: &[String], key: &KeyPair, now: Option<&CertificateDer<'_>>) -> Result<Option<String>, Fault> {
        let (from, soon) = (self.clock.now(), Timestamp(self.clock.now().0 + OF_EXCHANGE_LEFT.0));
        let holds = |leaf: &CertificateDer<'_>| authority::examine(self.authority(), leaf, Usage::Exchange, soon).is_ok();
        if now.is_some_and(|leaf| holds(leaf) && authority::names_all(leaf, names)) {
            return Ok(None);
        }
        let until = Timestamp(from.0 + OF_EXCHANGE.0);
        Ok(Some(self.authority.for_exchange(names, key, from, until)?.pem))
    }

    // ------------------------------------------------------------ documents

    /// Changes one document by compare-and-set, however often others come in between. `None` removes it.
    async fn change<T, R>(&self, key: &str, act: impl Fn(Option<T>) -> Result<(Option<T>, R), Fault> + Send + Sync) -> Result<R, Fault>
    where
        T: Serialize + DeserializeOwned + Send,
        R: Send,
    {
        for _ in 0..ATTEMPTS {
            let there = self.documents.document(key.to_owned()).await?;
            let version = there.as_ref().map(|d| d.version);
            let value = there.map(|d| read(key, &d)).transpose()?;
            let (after, answer) = act(value)?;
            let body = after.map(|v| written(&v)).transpose()?;
            if body.is_none() && version.is_none() {
                return Ok(answer);
            }
            match self.documents.write_document(key.to_owned(), version, body).await {
                Ok(_) => return Ok(answer),
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::busy("others change the same at the same time; try again in a moment"))
    }

    async fn one<T: DeserializeOwned>(&self, key: String) -> Result<Option<T>, Fault> {
        self.documents.document(key.clone()).await?.map(|d| read(&key, &d)).transpose()
    }

    /// Everybody who belongs to the cell by certificate, by name.
    pub(crate) async fn records(&self) -> Result<Vec<Record>, Fault> {
        let all = self.documents.documents("member/".into()).await?;
        all.iter().map(|(key, document)| read(key, document)).collect()
    }

    pub(crate) async fn record(&self, name: &HypervisorName) -> Result<Option<Record>, Fault> {
        self.one(member(name)).await
    }

    /// The names of agents that log in by password.
    pub(crate) async fn by_account(&self) -> Result<Vec<HypervisorName>, Fault> {
        let accounts = self.accounts.list().await?;
        let nodes = accounts.into_iter().filter(|a| a.kind == archipel_contract::port::AccountKind::Node);
        Ok(nodes.filter_map(|a| a.local.strip_prefix("hv.").and_then(|name| name.parse().ok())).collect())
    }

    /// Whether an agent of that name may be linked at all.
    pub(crate) async fn belongs(&self, name: &HypervisorName) -> Result<bool, Fault> {
        Ok(self.record(name).await?.is_some() || self.accounts.find(format!("hv.{name}")).await?.is_some())
    }

    // ------------------------------------------------------------ coming in

    /// A token for one host, and until when it holds.
    pub(crate) async fn invite(&self, by: &str, name: Option<HypervisorName>, lifetime: Millis) -> Result<(Token, Timestamp), Fault> {
        let now = self.clock.now();
        if let Some(name) = &name {
            self.free(name, true).await?;
        }
        for (key, document) in self.documents.documents("invite/".into()).await? {
            let over = read::<Invite>(&key, &document).map_or(Timestamp(0), |i| i.expires);
            if over.0 + REMEMBERED < now.0 {
                // Somebody else may have swept it already.
                let _ = self.documents.write_document(key, Some(document.version), None).await;
            }
        }
        let token = Token::fresh(self.authority.fingerprint)?;
        let expires = Timestamp(now.0 + lifetime.0);
        let invite = Invite { name, expires, by: by.to_owned(), used: None };
        self.documents.write_document(format!("invite/{}", token.hash()), None, Some(written(&invite)?)).await?;
        Ok((token, expires))
    }

    /// Whether a host may join by that name. With `replacing`, one that is away may be replaced.
    async fn free(&self, name: &HypervisorName, replacing: bool) -> Result<(), Fault> {
        let taken = |text: String| Err(Fault::new(FaultKind::Conflict, text));
        if self.accounts.find(format!("hv.{name}")).await?.is_some() {
            return taken(format!(
                "{name} is a hypervisor of the cell already and logs in by password; choose another name, or remove the account hv.{name} first"
            ));
        }
        if self.record(name).await?.is_none() {
            return Ok(());
        }
        if self.roll.met(name).is_some_and(|met| met.linked) {
            return taken(format!("{name} is a member of the cell and linked at this moment; choose another name, or revoke it first"));
        }
        match replacing {
            true => Ok(()),
            false => taken(format!(
                "{name} is a member of the cell and away; choose another name, or let it be replaced: archipel cell invite --name {name}"
            )),
        }
    }

    /// A host with a token joins. Of two that redeem one token, one wins; a token that is refused for another reason stays open.
    pub async fn redeem(&self, request: &Request) -> Result<Grant, Fault> {
        let unknown = || refused("this token is not known here: it is not of this cell, or it was over long ago; ask for a new one");
        let key = format!("invite/{}", token::hash_of_sent(&request.token).ok_or_else(unknown)?);
        let now = self.clock.now();
        let invite: Invite = self.one(key.clone()).await?.ok_or_else(unknown)?;
        let check = |invite: &Invite| match invite {
            Invite { used: Some(used), .. } => {
                Err(refused(format!("this token was used by {} at {}; a token works once, so ask for a new one", used.by, used.at)))
            }
            Invite { expires, .. } if expires.0 <= now.0 => {
                Err(refused(format!("this token was good until {expires} and it is {now} now; ask for a new one")))
            }
            Invite { name: Some(name), .. } if *name != request.name => Err(refused(format!(
                "this token is for {name} and not for {}; run it with --name {name}, or ask for another",
                request.name
            ))),
            _ => Ok(()),
        };
        check(&invite)?;
        self.free(&request.name, invite.name.is_some()).await?;
        let public = BASE64.decode(&request.key).map_err(|e| Fault::invalid("the public key is not base64").because(e))?;
        let (issued, expires) = self.issue(&request.name, &public)?;
        self.change(&key, |invite: Option<Invite>| {
            let mut invite = invite.ok_or_else(unknown)?;
            check(&invite)?;
            invite.used = Some(Used { by: request.name.clone(), at: now });
            Ok((Some(invite), ()))
        })
        .await?;
        let given = Given { serial: issued.serial.clone(), expires };
        let before = self
            .change(&member(&request.name), |before: Option<Record>| {
                Ok((Some(Record { name: request.name.clone(), joined: now, given: vec![given.clone()] }), before))
            })
            .await?;
        if let Some(before) = before {
            self.take_back(&before, "another host joined in its place").await?;
        }
        tracing::info!(host = %request.name, invited_by = invite.by, "a host joined the cell");
        let after = self.roll.met(&request.name).map_or(0, |met| met.incarnation);
        Ok(self.grant(issued, expires, after))
    }

    fn grant(&self, issued: authority::Issued, expires: Timestamp, after: u64) -> Grant {
        let renew_after = Some(Millis(self.lifetime.0 - self.lifetime.0 / 3));
        let (cell, authority) = (self.cell.clone(), self.authority.pem.clone());
        Grant { cell, certificate: issued.pem, authority, expires, after, renew_after }
    }

    fn issue(&self, name: &HypervisorName, public: &[u8]) -> Result<(authority::Issued, Timestamp), Fault> {
        let now = self.clock.now();
        let expires = Timestamp(now.0 + self.lifetime.0);
        Ok((self.authority.for_agent(&self.cell, name, public, now, expires)?, expires))
    }

    /// Who this certificate is, at a login.
    pub(crate) async fn identify(&self, leaf: &CertificateDer<'_>) -> Result<HypervisorName, Fault> {
        authority::examine(self.authority(), leaf, Usage::Agent, self.clock.now()).map_err(|unfit| match unfit {
            Unfit::Expired(at) => refused(format!("the certificate was good until {at}; join again with a new token")),
            Unfit::Early(at) => refused(format!("the certificate is good from {at} on; look at the exchange's clock")),
            Unfit::Foreign(why) => refused("the certificate was not made by this cell's authority; join with a token of it").because(why),
        })?;
        let (name, cell, serial) = authority::subject(leaf)?;
        if cell != self.cell {
            return Err(refused(format!("the certificate is for the cell {cell} and this one is {}", self.cell)));
        }
        if let Some(revoked) = self.one::<Revoked>(format!("revoked/{serial}")).await? {
            return Err(refused(format!(
                "the certificate of {name} was taken back at {}: {}; join again with a new token",
                revoked.at, revoked.why
            )));
        }
        match self.record(&name).await? {
            Some(record) if record.given.iter().any(|g| g.serial == serial) => Ok(name),
            _ => Err(refused(format!("{name} is not a member of this cell; join with a new token"))),
        }
    }

    /// How long a member may wait before it asks for its next certificate: until a third of the time is left.
    pub(crate) async fn renew_after(&self, name: &HypervisorName) -> Result<Option<Millis>, Fault> {
        let due = self.record(name).await?.map(|r| r.expires().0.saturating_sub(self.lifetime.0 / 3));
        Ok(due.map(|due| Millis(due.saturating_sub(self.clock.now().0))))
    }

    /// A member's next certificate, for a key it made.
    pub(crate) async fn renew(&self, name: &HypervisorName, key: &str) -> Result<Grant, Fault> {
        let public = BASE64.decode(key).map_err(|e| Fault::invalid("the public key is not base64").because(e))?;
        let issued = self.issue(name, &public)?;
        let (now, expires) = (self.clock.now(), issued.1);
        let given = Given { serial: issued.0.serial.clone(), expires };
        self.change(&member(name), |record: Option<Record>| {
            let mut record = record.ok_or_else(|| refused(format!("{name} is not a member of this cell by certificate")))?;
            record.given.retain(|g| g.expires.0 > now.0);
            let old = record.given.len().saturating_sub(1);
            record.given.drain(..old);
            record.given.push(given.clone());
            Ok((Some(record), ()))
        })
        .await?;
        tracing::info!(host = %name, until = %expires, "an agent's certificate was renewed");
        Ok(self.grant(issued.0, expires, 0))
    }

    // ------------------------------------------------------------ going

    /// A member goes, or is made to. Its certificates are worth nothing from here on.
    pub(crate) async fn remove(&self, name: &HypervisorName, why: &str) -> Result<(), Fault> {
        let Some(record) = self.record(name).await? else {
            return match self.accounts.find(format!("hv.{name}")).await? {
                Some(_) => Err(Fault::wrong_state(format!(
                    "{name} logs in by password and has no certificate; take its account away: archipeld account remove hv.{name}"
                ))),
                None => Err(Fault::not_found(format!("no host of the cell is called {name}; see `archipel cell members`"))),
            };
        };
        // The list first: a crash in between leaves a member that cannot log in, and the command can be repeated.
        self.take_back(&record, why).await?;
        self.change(&member(name), |now: Option<Record>| {
            // Whoever joined by that name since then stays.
            Ok((now.filter(|now| now.given.iter().all(|g| !record.given.contains(g))), ()))
        })
        .await
    }

    async fn take_back(&self, record: &Record, why: &str) -> Result<(), Fault> {
        let now = self.clock.now();
        for (key, document) in self.documents.documents("revoked/".into()).await? {
            if read::<Revoked>(&key, &document).is_ok_and(|r| r.expires.0 < now.0) {
                let _ = self.documents.write_document(key, Some(document.version), None).await;
            }
        }
        // What has ended by itself needs no list.
        for given in record.given.iter().filter(|g| g.expires.0 >= now.0) {
            let revoked = || Revoked { name: record.name.clone(), at: now, why: why.to_owned(), expires: given.expires };
            self.change(&format!("revoked/{}", given.serial), |before: Option<Revoked>| Ok((Some(before.unwrap_or_else(revoked)), ())))
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
