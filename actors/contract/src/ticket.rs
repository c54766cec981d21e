//! What a ticket is: the right of one person to open one thing once, within half a minute, over HTTP.
//!
//! ```text
//!   client: secret (random), proof = base64url(SHA-256(secret))
//!      | command with `proof`, over XMPP, as the person who is logged in
//!      v
//!   agent: keeps (person, proof, what it opens), answers a Ticket with a token
//!      |                                             GET /console/<token>   sub-protocols: binary, archipel.<secret>
//!      | HTTP with token *and* secret                GET|PUT /volume/<token>          Authorization: Bearer <secret>
//!      v
//!   agent: SHA-256(secret) = proof? -> open, and the ticket is used up
//! ```
//! Whoever serves the page passes a request for another host's ticket on to that host. The token alone is in the address, so it may be
//! seen in logs, histories and on screens: it opens nothing without the secret, which never left the client before. Whoever did not ask
//! for the ticket cannot have the secret.

use crate::{
    DomainId, Effect, HypervisorName, PoolId, Role, Target,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How many seconds a ticket waits to be used.
pub const SECONDS: u32 = 30;
/// The fewest and the most characters of a secret.
pub const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 32..=128;
/// How a WebSocket presents the secret: as a sub-protocol with this before it, beside `binary`.
pub const SUB_PROTOCOL: &str = "archipel.";

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The SHA-256 of a secret that only the client knows, in base64url without padding: 43 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Proof(String);

impl Proof {
    /// The proof as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Proof {
    type Err = String;
    fn from_str(text: &str) -> Result<Proof, String> {
        if text.len() == 43 && is_base64url(text) {
            return Ok(Proof(text.to_owned()));
        }
        Err("a proof is the SHA-256 of the client's secret in base64url without padding, 43 characters".to_owned())
    }
}

impl TryFrom<String> for Proof {
    type Error = String;
    fn try_from(text: String) -> Result<Proof, String> {
        text.parse()
    }
}

impl From<Proof> for String {
    fn from(proof: Proof) -> String {
        proof.0
    }
}

/// What the address of the thing to be opened ends with: the hypervisor that keeps the ticket, `~`, and 22 random characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Token {
    text: String,
    host: HypervisorName,
}

impl Token {
    /// The token of this hypervisor with that random part.
    pub fn new(host: HypervisorName, random: &str) -> Result<Token, String> {
        format!("{host}~{random}").parse()
    }
    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Where the ticket is kept.
    pub fn host(&self) -> &HypervisorName {
        &self.host
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Token {
    type Err = String;
    fn from_str(text: &str) -> Result<Token, String> {
        match text.split_once('~') {
            Some((host, random)) if random.len() == 22 && is_base64url(random) => {
                Ok(Token { text: text.to_owned(), host: host.parse().map_err(|_| "not a token".to_owned())? })
            }
            _ => Err("not a token".to_owned()),
        }
    }
}

impl TryFrom<String> for Token {
    type Error = String;
    fn try_from(text: String) -> Result<Token, String> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> String {
        token.text
    }
}

/// The answer of a command that lets the client open something over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ticket {
    /// The token; the ticket is used up by the first request that presents it with the secret.
    pub token: Token,
    /// Where it is presented, below the address of the page: `/console/<token>` or `/volume/<token>`.
    pub path: String,
    /// How many seconds it waits to be used.
    pub seconds: u32,
    /// The host that keeps it. Whichever host serves the page passes the request on to that one.
    pub host: HypervisorName,
    /// What it opens. Lower case, no full stop.
    pub message: String,
}

/// From the exchange: a person's account has changed or is gone. Whatever they have opened with a ticket on this host ends, and tickets that
/// wait are worth nothing; who still may logs in again and opens it anew.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expel {
    /// The bare JID of the person.
    pub person: String,
}
declare!(Expel, "hypervisor.expel", Read, Node, Hypervisor, Done);

/// What a ticket opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opens {
    /// A machine's screen or serial line.
    Console(ConsolePass),
    /// The contents of a volume.
    Volume(VolumePass),
}

impl Opens {
    /// The path below which the token is presented.
    pub fn folder(&self) -> &'static str {
        match self {
            Opens::Console(_) => "console",
            Opens::Volume(_) => "volume",
        }
    }
    /// What it is, for the log.
    pub fn words(&self) -> String {
        match self {
            Opens::Console(ConsolePass { domain, line, .. }) => format!("the {} console of {domain}", line.name()),
            Opens::Volume(VolumePass { pool, volume, way: VolumeWay::Download, .. }) => format!("download of {volume:?} in {pool}"),
            Opens::Volume(VolumePass { pool, volume, way: VolumeWay::Upload, .. }) => format!("upload of {volume:?} in {pool}"),
        }
    }
}

/// What goes over a console's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsoleLine {
    /// The screen, as the RFB protocol of VNC.
    Vnc,
    /// The serial line, byte by byte.
    Serial,
}

impl ConsoleLine {
    /// Its name on every surface.
    pub fn name(self) -> &'static str {
        match self {
            ConsoleLine::Vnc => "vnc",
            ConsoleLine::Serial => "serial",
        }
    }
}

/// The right to one console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsolePass {
    /// The machine.
    pub domain: DomainId,
    /// Which of its consoles.
    pub line: ConsoleLine,
    /// Whether everybody else who has it open is sent away.
    pub take_over: bool,
}

/// The right to the contents of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePass {
    /// Its pool.
    pub pool: PoolId,
    /// Its name.
    pub volume: String,
    /// Which way the bytes go.
    pub way: VolumeWay,
}

/// Which way the bytes of a volume go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeWay {
    /// From the host.
    Download,
    /// To the host.
    Upload,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_host_and_nothing_else_is_a_token() {
        let token = Token::new("host-1.example".parse().unwrap(), &"aB3_-".repeat(5)[..22]).unwrap();
        assert_eq!((token.host().as_str(), token.as_str().parse()), ("host-1.example", Ok(token.clone())));
        for text in
            ["", "~", "alpha", "alpha~short", "alpha~aaaaaaaaaaaaaaaaaaaaa/", "Alpha~aaaaaaaaaaaaaaaaaaaaaa", "~aaaaaaaaaaaaaaaaaaaaaa"]
        {
            assert!(text.parse::<Token>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_proof_is_a_digest() {
        assert!("a".repeat(43).parse::<Proof>().is_ok());
        for text in ["".to_owned(), "a".repeat(42), "a".repeat(44), "=".repeat(43)] {
            assert!(text.parse::<Proof>().is_err(), "{text:?}");
        }
    }
}
