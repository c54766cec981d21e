//! The server's side of SASL (RFC 6120 section 6): elements in, elements out.
//!
//! ```text
//!            auth (with data)                        response
//!   idle --------------------> SCRAM challenge sent ----------> Success | Failure --> idle
//!     |  auth (empty)                                  ^
//!     +--------------> empty challenge --- response ---+       abort, anything wrong: Failure --> idle
//! ```
//! EXTERNAL (XEP-0178) ends in one step: the peer showed a certificate in the TLS 1.3 handshake, and whether that is a member's is
//! asked of the membership. Only there is a reason given, because it was the certificate's owner who asked.
//!
//! An account that does not exist goes through the same steps, with a salt that is always the same for the same name, and fails
//! at the end as a wrong password does: nobody learns which accounts there are.

use super::scram::{ClientFirst, Hash, ScramError, ServerExchange, nonce, prepare};
use super::throttle::{Throttle, ThrottleRules};
use crate::membership::Membership;
use crate::stream::{escape_into, ns};
use archipel_contract::FaultKind;
use archipel_contract::port::{Account, AccountKind, Accounts, ScramKeys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minidom::Element;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account's local part.
    pub local: String,
    /// Who the account is for.
    pub kind: AccountKind,
}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The peer gave up.
    Aborted,
    /// Not base64.
    IncorrectEncoding,
    /// As somebody else than themselves.
    InvalidAuthzid,
    /// No such mechanism here, or not without TLS.
    InvalidMechanism,
    /// Not the mechanism's grammar.
    MalformedRequest,
    /// A wrong password, or no such account.
    NotAuthorized,
    /// The certificate does not log in; the text says why.
    Certificate(String),
    /// Not now; the text says why.
    Temporary(String),
}

impl Failure {
    /// The condition's name on the wire and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Failure::Aborted => "aborted",
            Failure::IncorrectEncoding => "incorrect-encoding",
            Failure::InvalidAuthzid => "invalid-authzid",
            Failure::InvalidMechanism => "invalid-mechanism",
            Failure::MalformedRequest => "malformed-request",
            Failure::NotAuthorized | Failure::Certificate(_) => "not-authorized",
            Failure::Temporary(_) => "temporary-auth-failure",
        }
    }

    fn to_xml(&self) -> String {
        let mut xml = format!("<failure xmlns='{}'><{}/>", ns::SASL, self.name());
        let text = match self {
            Failure::NotAuthorized => "wrong name or password",
            Failure::Temporary(text) | Failure::Certificate(text) => text,
            _ => "",
        };
        if !text.is_empty() {
            xml.push_str("<text xml:lang='en'>");
            escape_into(&mut xml, text);
            xml.push_str("</text>");
        }
        xml.push_str("</failure>");
        xml
    }
}

impl From<ScramError> for Failure {
    fn from(error: ScramError) -> Failure {
        match error {
            ScramError::WrongProof => Failure::NotAuthorized,
            _ => Failure::MalformedRequest,
        }
    }
}

/// What came of one element.
#[derive(Debug)]
pub enum Step {
    /// Write this and wait for the next element.
    Challenge(String),
    /// Write this and restart the stream.
    Success(String, Identity),
    /// Write this; the peer may try again.
    Failure(String, Failure),
}

/// Under which name the throttle counts tokens: none that an account could have.
const TOKEN: &str = "a token";

/// How many passwords of PLAIN are hashed at once; the others wait their turn, on the clock of their login.
const HASHING: usize = 2;

/// What all logins share.
pub struct Gate {
    accounts: Arc<dyn Accounts>,
    cell: String,
    throttle: Mutex<Throttle>,
    began: Instant,
    /// Passwords that are hashed at the same time, for PLAIN: it costs us more than whoever sends it.
    hashing: tokio::sync::Semaphore,
    /// Makes up salts for accounts that do not exist.
    secret: Vec<u8>,
    /// How many rounds those pretend to.
    iterations: u32,
}

enum Stage {
    Idle,
    /// The mechanism is chosen and the first message is to come.
    Chosen(String),
    /// The proof is to come.
    Scram {
        exchange: ServerExchange,
        local: String,
        identity: Option<Identity>,
    },
}

/// One connection's logins, one after the other.
pub struct Login {
    gate: Arc<Gate>,
    /// What the throttle knows the peer by.
    host: String,
    /// Whether passwords may be sent as they are.
    secure: bool,
    /// What the peer showed in the TLS handshake, and who knows whose it is.
    certificate: Option<(Arc<Membership>, CertificateDer<'static>)>,
    stage: Stage,
}

impl Gate {
    /// A gate before these accounts. `secret` should outlive a restart, so that salts of accounts that do not exist do, too.
    pub fn new(accounts: Arc<dyn Accounts>, cell: String, rules: ThrottleRules, secret: Vec<u8>) -> Gate {
        Gate {
            accounts,
            cell,
            throttle: Mutex::new(Throttle::new(rules)),
            began: Instant::now(),
            hashing: tokio::sync::Semaphore::new(HASHING),
            secret,
            iterations: crate::accounts::ITERATIONS,
        }
    }

    /// The account of that name, or one that looks like it and that nobody can log in to.
    async fn find(&self, name: &str) -> Result<(Account, Option<Identity>), Failure> {
        let local = jid::NodePart::new(name).map(|n| n.to_string());
        if let Ok(local) = &local {
            let found = self.accounts.find(local.clone()).await.map_err(|fault| {
                tracing::error!(%fault, "accounts cannot be read");
                Failure::Temporary("accounts cannot be read at the moment; try again later".into())
            })?;
            if let Some(account) = found {
                let identity = Identity { local: account.local.clone(), kind: account.kind };
                return Ok((account, Some(identity)));
            }
        }
        let made_up = |what: &str| Hash::Sha256.hmac(&self.secret, format!("{what}:{name}").as_bytes());
        let keys = |hash: &str, length: usize| {
            let cut = |mut key: Vec<u8>| {
                key.truncate(length);
                key
            };
            ScramKeys { stored: cut(made_up(&format!("stored {hash}"))), server: cut(made_up(&format!("server {hash}"))) }
        };
        let mut salt = made_up("salt");
        salt.truncate(16);
        let account = Account {
            local: name.to_owned(),
            kind: AccountKind::Node,
            salt,
            iterations: self.iterations,
            sha1: keys("1", 20),
            sha256: keys("256", 32),
        };
        Ok((account, None))
    }

    /// The delay for a token that was not good. Tokens cannot be guessed; this is for whoever tries all the same.
    pub(crate) fn wrong_token(&self, host: &str) -> std::time::Duration {
        self.throttle.lock().failed(TOKEN, host, self.began.elapsed())
    }

    /// Whether somebody at this address tried too many tokens.
    pub(crate) fn check_tokens(&self, host: &str) -> Result<(), Failure> {
        self.check_lock(TOKEN, host)
    }

    fn check_lock(&self, local: &str, host: &str) -> Result<(), Failure> {
        match self.throttle.lock().locked(local, host, self.began.elapsed()) {
            None => Ok(()),
            Some(left) => Err(Failure::Temporary(format!(
                "too many wrong passwords for this account from your address; try again in {} seconds",
                left.as_secs() + 1
            ))),
        }
    }
}

impl Login {
    /// For a new stream.
    pub fn new(gate: Arc<Gate>, host: String, secure: bool) -> Login {
        Login { gate, host, secure, certificate: None, stage: Stage::Idle }
    }

    /// The same for a peer that showed this certificate.
    #[must_use]
    pub(crate) fn with_certificate(self, members: Arc<Membership>, certificate: CertificateDer<'static>) -> Login {
        Login { certificate: Some((members, certificate)), ..self }
    }

    /// The `<mechanisms/>` feature, the strongest first.
    pub fn mechanisms(&self) -> String {
        let plain = if self.secure { "<mechanism>PLAIN</mechanism>" } else { "" };
        let external = if self.certificate.is_some() { "<mechanism>EXTERNAL</mechanism>" } else { "" };
        format!(
            "<mechanisms xmlns='{}'>{external}<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>{plain}</mechanisms>",
            ns::SASL
        )
    }

    /// Whether the element is one of SASL's.
    pub fn is_sasl(element: &Element) -> bool {
        element.has_ns(ns::SASL)
    }

    /// The peer's next element. Wrong passwords are answered late.
    pub async fn step(&mut self, element: &Element) -> Step {
        match self.advance(element).await {
            Ok(step) => step,
            Err((failure, account)) => {
                self.stage = Stage::Idle;
                if let (Failure::NotAuthorized, Some(account)) = (&failure, account) {
                    let delay = self.gate.throttle.lock().failed(&account, &self.host, self.gate.began.elapsed());
                    tracing::warn!(account, host = self.host, "wrong name or password");
                    tokio::time::sleep(delay).await;
                }
                Step::Failure(failure.to_xml(), failure)
            }
        }
    }

    async fn advance(&mut self, element: &Element) -> Result<Step, (Failure, Option<String>)> {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let text = element.text();
        let decoded = || match text.trim() {
            "=" => Ok(Vec::new()),
            encoded => BASE64.decode(encoded).map_err(|_| (Failure::IncorrectEncoding, None)),
        };
        match (element.name(), stage) {
            ("abort", _) => Err((Failure::Aborted, None)),
            ("auth", _) => {
                let mechanism = element.attr("mechanism").unwrap_or_default().to_owned();
                let known = match mechanism.as_str() {
                    "SCRAM-SHA-1" | "SCRAM-SHA-256" => true,
                    "PLAIN" => self.secure,
                    "EXTERNAL" => self.certificate.is_some(),
                    _ => false,
                };
                match text.trim() {
                    _ if !known => Err((Failure::InvalidMechanism, None)),
                    "" => {
                        self.stage = Stage::Chosen(mechanism);
                        Ok(Step::Challenge(format!("<challenge xmlns='{}'/>", ns::SASL)))
                    }
                    _ => self.first(&mechanism, decoded()?).await,
                }
            }
            ("response", Stage::Chosen(mechanism)) => self.first(&mechanism, decoded()?).await,
            ("response", Stage::Scram { exchange, local, identity }) => {
                let message = String::from_utf8(decoded()?).map_err(|_| (Failure::MalformedRequest, None))?;
                // Once more: a thousand exchanges begun before the lock would be a thousand guesses.
                self.gate.check_lock(&local, &self.host).map_err(|f| (f, None))?;
                let proven = exchange.finish(&message).map_err(|error| (Failure::from(error), Some(local.clone())))?;
                // The keys of an account that does not exist are made up, so no proof can fit them; this says it once more.
                let identity = identity.ok_or((Failure::NotAuthorized, Some(local)))?;
                Ok(self.welcome(identity, Some(&proven)))
            }
            _ => Err((Failure::MalformedRequest, None)),
        }
    }

    async fn first(&mut self, mechanism: &str, message: Vec<u8>) -> Result<Step, (Failure, Option<String>)> {
        let message = String::from_utf8(message).map_err(|_| (Failure::MalformedRequest, None))?;
        match mechanism {
            "SCRAM-SHA-256" => self.scram(Hash::Sha256, &message).await,
            "SCRAM-SHA-1" => self.scram(Hash::Sha1, &message).await,
            "EXTERNAL" => self.external(&message).await,
            _ => self.plain(&message).await,
        }
    }

    async fn scram(&mut self, hash: Hash, message: &str) -> Result<Step, (Failure, Option<String>)> {
        let first = ClientFirst::parse(message).map_err(|e| (Failure::from(e), None))?;
        let (account, identity) = self.gate.find(&first.user).await.map_err(|f| (f, None))?;
        self.admit(&account.local, first.authzid.as_deref())?;
        let fresh = nonce().map_err(|error| {
            tracing::error!(%error, "the system gives no random numbers");
            (Failure::Temporary("the server has no random numbers".into()), None)
        })?;
        let keys = match hash {
            Hash::Sha1 => account.sha1,
            Hash::Sha256 => account.sha256,
        };
        let (exchange, challenge) = ServerExchange::begin(hash, &first, &account.salt, account.iterations, keys, &fresh);
        self.stage = Stage::Scram { exchange, local: account.local, identity };
        Ok(Step::Challenge(format!("<challenge xmlns='{}'>{}</challenge>", ns::SASL, BASE64.encode(challenge))))
    }

    async fn plain(&mut self, message: &str) -> Result<Step, (Failure, Option<String>)> {
        let mut parts = message.split('\0');
        let (Some(authzid), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err((Failure::MalformedRequest, None));
        };
        let (account, identity) = self.gate.find(name).await.map_err(|f| (f, None))?;
        self.admit(&account.local, Some(authzid).filter(|a| !a.is_empty()))?;
        let password = prepare(password).unwrap_or_default();
        let (salt, iterations) = (account.salt, account.iterations);
        let stopping = |_| (Failure::Temporary("the server is stopping".into()), None);
        let permit = self.gate.hashing.acquire().await.map_err(stopping)?;
        // While it waited, others may have guessed often enough.
        self.gate.check_lock(&account.local, &self.host).map_err(|f| (f, None))?;
        let keys = tokio::task::spawn_blocking(move || Hash::Sha256.keys(&password, &salt, iterations))
            .await
            .map_err(|_| (Failure::Temporary("the server is stopping".into()), None))?;
        drop(permit);
        let right = bool::from(keys.stored.ct_eq(&account.sha256.stored));
        match identity {
            Some(identity) if right => Ok(self.welcome(identity, None)),
            _ => Err((Failure::NotAuthorized, Some(account.local))),
        }
    }

    /// The peer says that its certificate is proof enough, and perhaps whose it is.
    async fn external(&mut self, authzid: &str) -> Result<Step, (Failure, Option<String>)> {
        let Some((members, certificate)) = &self.certificate else { return Err((Failure::InvalidMechanism, None)) };
        let name = members.identify(certificate).await.map_err(|fault| {
            tracing::warn!(host = self.host, %fault, "a certificate was refused");
            match fault.kind {
                FaultKind::Forbidden => (Failure::Certificate(fault.to_string()), None),
                _ => (Failure::Temporary("the cell's members cannot be read at the moment; try again later".into()), None),
            }
        })?;
        let local = format!("hv.{name}");
        self.admit(&local, Some(authzid).filter(|a| !a.is_empty()))?;
        Ok(self.welcome(Identity { local, kind: AccountKind::Node }, None))
    }

    /// Nobody acts as somebody else, and nobody guesses on while locked out.
    fn admit(&self, local: &str, authzid: Option<&str>) -> Result<(), (Failure, Option<String>)> {
        if let Some(authzid) = authzid {
            let own = jid::BareJid::new(authzid)
                .is_ok_and(|j| j.node().is_some_and(|n| n.as_str() == local) && j.domain().as_str() == self.gate.cell);
            if !own {
                return Err((Failure::InvalidAuthzid, None));
            }
        }
        self.gate.check_lock(local, &self.host).map_err(|f| (f, None))
    }

    fn welcome(&mut self, identity: Identity, data: Option<&str>) -> Step {
        self.gate.throttle.lock().succeeded(&identity.local, &self.host);
        let data = data.map(|d| BASE64.encode(d)).unwrap_or_default();
        Step::Success(format!("<success xmlns='{}'>{data}</success>", ns::SASL), identity)
    }
}
