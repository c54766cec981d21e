//! The members of the etcd cluster, each with a connection of its own, and which of them is asked first.
//!
//! A member that is dead, paused or cut off must cost a call some time and not the call; the client's own balancer would send
//! every third request to it.

use super::EtcdConfig;
use archipel_contract::{Fault, FaultKind};
use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until};

/// After all members refused: an election takes longer than this, and asking costs little.
const PAUSE: Duration = Duration::from_millis(50);
/// A member that says nothing for so long is not relied on: another one is asked as well.
const SILENCE: Duration = Duration::from_millis(500);
/// A silent connection with an open watch is probed this often. etcd closes connections that probe more than every 5 s.
const PROBE: Duration = Duration::from_secs(10);
/// And is given up when the probe is not answered.
const PROBE_ANSWER: Duration = Duration::from_secs(3);

// Codes of gRPC that repeating the request elsewhere cannot change.
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

pub(super) struct Member {
    endpoint: String,
    options: ConnectOptions,
    client: OnceCell<Client>,
}

impl Member {
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let connect = || Client::connect([self.endpoint.as_str()], Some(self.options.clone()));
        self.client.get_or_try_init(connect).await.cloned()
    }
}

pub(super) struct Members {
    list: Vec<Member>,
    first: AtomicUsize,
    pub(super) timeout: Duration,
    user: Option<String>,
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path)
        .map_err(|e| Fault::invalid(format!("cannot read {}; check its path and who may read it", path.display())).because(e))
}

/// Who is asked next, beginning with `first`: somebody whose answer is not awaited, else the one that was asked longest ago.
fn turn(asked: &[Option<Instant>], first: usize) -> usize {
    let cycle = (0..asked.len()).map(|n| (first + n) % asked.len());
    cycle.min_by_key(|at| asked[*at]).unwrap_or(0)
}

impl Members {
    pub(super) fn new(config: &EtcdConfig) -> Result<Members, Fault> {
        if config.endpoints.is_empty() {
            return Err(Fault::invalid("no member of etcd is named; give the client addresses of all of them"));
        }
        if config.timeout.0 == 0 {
            return Err(Fault::invalid("calls to etcd may take no time at all; give them some seconds"));
        }
        let secure = config.endpoints.iter().filter(|e| e.starts_with("https://")).count();
        if secure != 0 && secure != config.endpoints.len() {
            return Err(Fault::invalid("some members of etcd are reached with https and some without; use one for all"));
        }
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(config.timeout.duration())
            .with_keep_alive(PROBE, PROBE_ANSWER)
            .with_auto_token_refresh(true);
        match (&config.ca_file, secure > 0) {
            (Some(ca), true) => {
                let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
                match (&config.cert_file, &config.key_file) {
                    (Some(cert), Some(key)) => tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?)),
                    (None, None) => {}
                    _ => {
                        return Err(Fault::invalid(
                            "a certificate for etcd needs its key and a key its certificate; give both files or none",
                        ));
                    }
                }
                options = options.with_tls(tls);
            }
            (None, true) => return Err(Fault::invalid("etcd over https needs the file of the authority that signed its certificates")),
            (None, false) if config.cert_file.is_none() && config.key_file.is_none() => {}
            (_, false) => return Err(Fault::invalid("certificates are given for etcd, but its addresses are not https://")),
        }
        match (&config.user, &config.password_file) {
            (Some(user), Some(file)) => {
                let text = String::from_utf8(read(file)?)
                    .map_err(|e| Fault::invalid(format!("the password in {} is not text", file.display())).because(e))?;
                options = options.with_user(user, text.lines().next().unwrap_or_default());
            }
            (None, None) => {}
            _ => return Err(Fault::invalid("a user of etcd needs a password file and a password file its user; give both or none")),
        }
        let member = |endpoint: &String| Member { endpoint: endpoint.clone(), options: options.clone(), client: OnceCell::new() };
        Ok(Members {
            list: config.endpoints.iter().map(member).collect(),
            first: AtomicUsize::new(0),
            timeout: config.timeout.duration(),
            user: config.user.clone(),
        })
    }

    pub(super) fn all(&self) -> &[Member] {
        &self.list
    }

    /// Asks members until one answers or `end` has come. A member that says nothing is still waited for while others are asked, and
    /// a request that a member took before an election is lost for good, so what is asked must bear being asked again.
    pub(super) async fn ask<T, F>(&self, end: Instant, attempt: impl Fn(Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let first = self.first.load(Ordering::Relaxed);
        let mut asked: Vec<Option<Instant>> = vec![None; self.list.len()];
        let mut answers = FuturesUnordered::new();
        let (mut next, mut refused, mut trouble) = (Instant::now(), 0, String::from("no answer"));
        loop {
            tokio::select! {
                biased;
                Some(answer) = answers.next() => {
                    let (at, answer): (usize, Result<T, Error>) = answer;
                    let member = &self.list[at];
                    let error = match answer {
                        Ok(answer) => {
                            if at != first {
                                tracing::info!(member = %member.endpoint, %trouble, "etcd is asked at another member");
                                self.first.store(at, Ordering::Relaxed);
                            }
                            return Ok(answer);
                        }
                        Err(error) => error,
                    };
                    if let Some(fault) = self.refusal(&error) {
                        return Err(fault.because(error));
                    }
                    trouble = format!("{}: {error}", member.endpoint);
                    asked[at] = None;
                    refused += 1;
                    // The others at once; when all of them refused, an election may be on.
                    let wait = if refused % self.list.len() == 0 { PAUSE } else { Duration::ZERO };
                    next = next.min(Instant::now() + wait);
                }
                () = sleep_until(end) => return Err(self.away(&trouble)),
                () = sleep_until(next) => {
                    let at = turn(&asked, first + refused);
                    let member = &self.list[at];
                    let answer = async { attempt(member.client().await?).await };
                    answers.push(async move { (at, answer.await) });
                    asked[at] = Some(next);
                    next = Instant::now() + SILENCE;
                }
            }
        }
    }

    /// No majority, or nobody there. A change that was asked for may have been made all the same.
    pub(super) fn away(&self, trouble: &str) -> Fault {
        let endpoints: Vec<&str> = self.list.iter().map(|m| m.endpoint.as_str()).collect();
        Fault::unavailable(format!(
            "etcd has no majority or cannot be reached ({}); changes are frozen, guests are not touched; look at `etcdctl endpoint status`",
            endpoints.join(", ")
        ))
        .because(trouble)
    }

    /// Why no member will ever do this; `None` if another one, or the same one later, may.
    fn refusal(&self, error: &Error) -> Option<Fault> {
        let Error::GRpcStatus(status) = error else {
            return match error {
                Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
                    Some(Fault::invalid("etcd cannot be asked as it is configured; check its addresses, certificates and user"))
                }
                _ => None,
            };
        };
        let user = self.user.as_deref().unwrap_or("(nobody)");
        let forbidden = |message: String| Some(Fault::new(FaultKind::Forbidden, message));
        match (i32::from(status.code()), status.message()) {
            (INVALID_ARGUMENT, m) if m.contains("too large") => {
                Some(Fault::invalid("this is too large for etcd, which takes 1.5 MiB at once"))
            }
            (INVALID_ARGUMENT | UNAUTHENTICATED | FAILED_PRECONDITION, m) if m.contains("authentication") || m.contains("user name") => {
                forbidden(format!("etcd does not let {user} in; check the user and password for etcd against `etcdctl user list`"))
            }
            (PERMISSION_DENIED, _) => {
                forbidden(format!("etcd does not let {user} read and write the keys of this cell; see `etcdctl role grant-permission`"))
            }
            (RESOURCE_EXHAUSTED, m) if m.contains("space") => Some(Fault::unavailable(
                "etcd's database is full, so changes are frozen and guests are not touched; compact and defragment it and then run \
                 `etcdctl alarm disarm`, as ops/runbooks/etcd.md says",
            )),
            // The session is over; the next attempt logs in again.
            (UNAUTHENTICATED, _) => None,
            (FAILED_PRECONDITION, m) if m.contains("leader") => None,
            (INVALID_ARGUMENT | FAILED_PRECONDITION | OUT_OF_RANGE | UNIMPLEMENTED, _) => {
                Some(Fault::internal("etcd refuses what it was asked; please report this"))
            }
            _ => None,
        }
    }
}
