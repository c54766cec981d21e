//! The same ports on etcd, for a cell with more than one exchange: what the cell knows is then where a majority of etcd's members
//! is, and survives any one host.
//!
//! Every change is one transaction that compares the `mod_revision` of what it read. A request whose answer is lost is sent again to
//! the next member until its deadline, which is safe: each value carries the mark of the call that wrote it, so a call that
//! finds its own mark knows that its first attempt was made, and a late first attempt finds the revision changed and does
//! nothing. For that reason what is removed stays as an empty value, wherever an old attempt could bring it back.
//!
//! ```text
//!   call --> member A --answer--> done                       all refused --pause--> again, until the deadline
//!              | refused, no leader, or nothing said for half a second                 |
//!              v                                                                       v
//!            member B as well --first answer--> done, and asked first from now on    `unavailable`
//! ```
//!
//! What an exchange changes belongs to one term of its leadership ([`Etcd::in_term`]): every such transaction also compares that the key
//! of that very term is there. What was still on its way when the term ended comes too late, whoever sent it and whenever it arrives.
//!
//! `unavailable` does not say that a change was not made: as with every lost answer, whoever asked looks again. Nobody's clock
//! here decides whether a lease has run out; etcd decides, and a holder counts its own from before it asked.
//!
//! | key, under the prefix | value |
//! |---|---|
//! | `own/<machine>` | epoch, and how it is held unless it was forgotten |
//! | `shelf/<machine>` | the same for every parked machine, so that listing them reads nothing else |
//! | `lead/<role>` | holder and epoch; bound to a lease of etcd, which removes it |
//! | `lead-epoch/<role>` | the highest epoch of that role; it stays |
//! | `open/<operation>/<caller>` | an operation accepted and not done |
//! | `done/<operation>/<caller>` | the same with its outcome |
//! | `aged/<time>/<operation>/<caller>` | which of them are done, by time |
//! | `document/<key>` | a document; its version is the key's `mod_revision` |
//! | `account/<name>`, `roster/<name>/<jid>` | accounts and their rosters |
//! | `incarnation` | a counter |
//! | `carried` | who brought the content of a cell that had one exchange, and whether all of it is there |

mod accounts;
mod authority;
mod call;
mod carry;
mod documents;
mod journal;
mod leadership;
mod members;
mod watch;

pub use carry::Carried;
pub use watch::{Watch, Watched};

use archipel_contract::{CellName, Epoch, Fault, Millis};
use members::Members;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch as watch_channel;
use tokio::time::Instant;

/// How long a call may take unless configured otherwise: longer than etcd's election of a new leader (1 to 2 s with its defaults),
/// so that nobody notices the loss of one member.
pub const TIMEOUT: Millis = Millis::seconds(3);

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Its members' client addresses, such as `http://10.0.0.1:2379` or `https://etcd1.example.org:2379`. Name all of them: the
    /// loss of one is then not noticed.
    pub endpoints: Vec<String>,
    /// What all keys begin with; see [`EtcdConfig::new`].
    pub prefix: String,
    /// How long each call may take.
    pub timeout: Millis,
    /// PEM file with the authority that signed the members' certificates. Needed for `https`.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate, if the members ask for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    pub key_file: Option<PathBuf>,
    /// The user, if etcd's authentication is on.
    pub user: Option<String>,
    /// File with that user's password in its first line.
    pub password_file: Option<PathBuf>,
}

impl EtcdConfig {
    /// The members at these addresses, without TLS and user; the keys of `cell` begin with `/archipel/<cell>/`.
    pub fn new(endpoints: Vec<String>, cell: &CellName) -> EtcdConfig {
        EtcdConfig {
            endpoints,
            prefix: format!("/archipel/{cell}/"),
            timeout: TIMEOUT,
            ca_file: None,
            cert_file: None,
            key_file: None,
            user: None,
            password_file: None,
        }
    }
}

/// What the cell knows, kept in etcd. Cheap to clone. All clones must be used from one runtime: the connections live there.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    prefix: Arc<str>,
    /// Changes are made only as long as this lasts; without one, always.
    term: Option<Arc<Term>>,
    /// Nothing is asked before this is true.
    gate: Option<watch_channel::Receiver<bool>>,
}

/// One term of a role.
struct Term {
    /// The key of whoever leads the role.
    key: String,
    /// The revision that made it for this term: the next term's is another one.
    made: i64,
    role: String,
    epoch: Epoch,
}

impl Term {
    fn over(role: &str, epoch: Epoch) -> Fault {
        Fault::unavailable(format!(
            "term {} of the {role} is over, so nothing more is changed in it; look at what stands now and ask again: whoever leads now answers",
            epoch.0
        ))
    }
}

impl Etcd {
    /// Checks the configuration and reads its files. Members are connected when they are first asked, so etcd may be away
    /// meanwhile; everything is then `unavailable` until a majority is there.
    pub fn open(config: &EtcdConfig) -> Result<Etcd, Fault> {
        let prefix = config.prefix.trim_end_matches('/');
        if !prefix.starts_with('/') || prefix.len() > 200 || prefix.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Fault::invalid(format!(
                "{:?} is not a prefix for etcd's keys; use one like /archipel/vm.example.org/",
                config.prefix
            )));
        }
        Ok(Etcd { members: Arc::new(Members::new(config)?), prefix: format!("{prefix}/").into(), term: None, gate: None })
    }

    /// The same, but nothing is asked before `gate` is true; until then everything is `unavailable`, as if etcd were not there.
    #[must_use]
    pub fn behind(&self, gate: watch_channel::Receiver<bool>) -> Etcd {
        Etcd { gate: Some(gate), ..self.clone() }
    }

    async fn opened(&self, end: Instant) -> Result<(), Fault> {
        let Some(gate) = self.gate.as_ref().filter(|gate| !*gate.borrow()) else { return Ok(()) };
        let mut gate = gate.clone();
        let opened = matches!(tokio::time::timeout_at(end, gate.wait_for(|open| *open)).await, Ok(Ok(_)));
        if opened {
            Ok(())
        } else {
            Err(Fault::unavailable("what this host has of the cell is not in etcd yet; the log says what it waits for"))
        }
    }

    fn key(&self, rest: impl std::fmt::Display) -> String {
        format!("{}{rest}", self.prefix)
    }
}
