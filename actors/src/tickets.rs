//! The tickets an agent has given out: each opens one thing, once, soon, for whoever asked.
//!
//! ```text
//!            its own timer
//!   open --------------------> expired --+
//!    |  secret fits                      +--> remembered for a while, for the log, then forgotten
//!    +-----------------------> used -----+
//!    |  secret does not fit: still open (whoever only saw the token must not be able to use it up)
//!
//!   used --> inside --leaves--> gone        the account changes (hypervisor.expel): what waits ends, who is inside is sent away
//! ```
//! To whoever presents one, all refusals are one: the same answer, after the same work. What was wrong is told in the agent's log.
//! The store knows tokens and secrets by their digests only, so nothing that is compared is what was presented.

use crate::{
    ask::{Ask, bare, ending},
    hypervisor::HypervisorActor,
    life::Posted,
};
use actix::Handler;
use archipel_contract::{
    BoxFuture, Fault, HypervisorName,
    command::Done,
    ticket::{Expel, Opens, Proof, SECONDS, SECRET_LENGTH, Ticket, Token},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Tickets that may wait, of everybody together.
const OPEN: usize = 512;
/// Tickets that may wait, of one person.
const OPEN_OF_ONE: usize = 32;
/// Ended tickets that are remembered to tell in the log what was wrong.
const REMEMBERED: usize = 512;

type Key = [u8; 32];

/// The tickets of one agent.
#[derive(Default)]
pub struct Tickets {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    open: HashMap<Key, Waiting>,
    /// Oldest first.
    ended: VecDeque<(Key, Arc<str>, End)>,
    /// Who has something open.
    inside: Vec<Inside>,
    /// The number of the next one.
    next: u64,
}

struct Inside {
    number: u64,
    person: Arc<str>,
    send_away: oneshot::Sender<String>,
}

struct Waiting {
    person: Arc<str>,
    proof: Proof,
    opens: Opens,
    until: Instant,
    /// `None` until the timer was begun.
    timer: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Used,
    Expired,
    /// The account of whoever asked for it has changed.
    Revoked,
}

/// What was opened, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The bare JID of whoever asked for the ticket.
    pub person: Arc<str>,
    /// What it opens.
    pub opens: Opens,
}

/// The ticket opens nothing. Why is nobody's business but the log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Why nothing was opened.
#[derive(Debug)]
pub enum Unopened {
    /// The ticket opens nothing.
    Ticket,
    /// The ticket was good.
    Fault(Fault),
}

impl From<Refused> for Unopened {
    fn from(_: Refused) -> Unopened {
        Unopened::Ticket
    }
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Unopened {
        Unopened::Fault(fault)
    }
}

fn digest(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

impl Tickets {
    /// Gives out a ticket of this hypervisor to the person with that JID. Must be called inside a tokio runtime, whose timer ends it.
    pub fn issue(self: &Arc<Self>, host: &HypervisorName, jid: &str, proof: Proof, opens: Opens, message: String) -> Result<Ticket, Fault> {
        let person: Arc<str> = bare(jid).into();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Fault::internal("the host gives no random numbers; look at its log").because(e))?;
        let token = Token::new(host.clone(), &BASE64_URL_SAFE_NO_PAD.encode(random))
            .map_err(|e| Fault::internal("a token could not be made; please report this").because(e))?;
        let path = format!("/{}/{token}", opens.folder());
        let key = digest(token.as_str());
        let until = Instant::now() + Duration::from_secs(SECONDS.into());
        {
            let mut inner = self.inner.lock();
            if inner.open.len() >= OPEN || inner.open.values().filter(|w| w.person == person).count() >= OPEN_OF_ONE {
                return Err(Fault::busy(format!("too many tickets wait to be used already; ask again in {SECONDS} s")));
            }
            tracing::info!(target: "archipel::audit", who = %person, what = %opens.words(), "gave out a ticket");
            inner.open.insert(key, Waiting { person, proof, opens, until, timer: None });
        }
        // One timer a ticket, at the ticket's own time; using it ends the timer.
        let timer = tokio::spawn(expire(Arc::downgrade(self), key, until)).abort_handle();
        if let Some(waiting) = self.inner.lock().open.get_mut(&key) {
            waiting.timer = Some(timer);
        }
        Ok(Ticket { token, path, seconds: SECONDS, host: host.clone(), message })
    }

    /// Whose ticket this is and what it opens, if it waits, that is its proof and it opens a thing of that kind. It is not used up: whoever
    /// asks only wants to know whether it is worth while to bring the request here.
    pub fn fits(&self, token: &str, proof: &Proof, folder: &str) -> Result<Admitted, Refused> {
        let (key, now) = (digest(token), Instant::now());
        let inner = self.inner.lock();
        match inner.judge(&key, proof.as_str(), folder, now) {
            Ok(waiting) => Ok(Admitted { person: waiting.person.clone(), opens: waiting.opens.clone() }),
            Err(wrong) => Err(inner.refuse(&key, wrong)),
        }
    }

    /// Uses up the ticket, if it waits, the secret is the one whose proof came with the command, and it opens a thing of that kind. Whoever
    /// used it is inside as long as the stay lives.
    pub fn enter(self: &Arc<Self>, token: &str, secret: &str, folder: &str) -> Result<(Admitted, Stay), Refused> {
        let mut inner = self.inner.lock();
        let admitted = inner.redeem(token, secret, folder)?;
        let (send_away, sent_away) = oneshot::channel();
        let number = inner.next;
        inner.next += 1;
        inner.inside.push(Inside { number, person: admitted.person.clone(), send_away });
        Ok((admitted, Stay { number, tickets: self.clone(), sent_away: Some(sent_away) }))
    }

    /// The account of this person has changed: nothing that was opened with it stays open. Answers how much that was.
    pub fn expel(&self, person: &str) -> usize {
        let (waited, inside) = {
            let mut inner = self.inner.lock();
            let waiting: Vec<Key> = inner.open.iter().filter(|(_, w)| *w.person == *person).map(|(key, _)| *key).collect();
            let waited = waiting.into_iter().filter_map(|key| inner.end(key, End::Revoked)).count();
            (waited, inner.inside.extract_if(.., |i| *i.person == *person).collect::<Vec<_>>())
        };
        let closed = waited + inside.len();
        for Inside { send_away, .. } in inside {
            // Whoever is leaving at this moment needs no word.
            let _ = send_away.send("the account has changed; log in again".to_owned());
        }
        if closed > 0 {
            tracing::info!(target: "archipel::audit", who = person, closed, "closed what an account that has changed had open");
        }
        closed
    }

    /// The same without anybody inside.
    #[cfg(test)]
    fn redeem(&self, token: &str, secret: &str, folder: &str) -> Result<Admitted, Refused> {
        self.inner.lock().redeem(token, secret, folder)
    }

    /// How many wait to be used.
    pub fn open(&self) -> usize {
        self.inner.lock().open.len()
    }
}

/// Somebody has something open that a ticket was for; they have left when this is dropped.
pub struct Stay {
    number: u64,
    tickets: Arc<Tickets>,
    sent_away: Option<oneshot::Receiver<String>>,
}

impl Stay {
    /// Answers, with the reason, when they are sent away; asked once.
    pub fn ended(&mut self) -> BoxFuture<'static, String> {
        let sent_away = self.sent_away.take();
        Box::pin(async move {
            match sent_away {
                Some(sent_away) => match sent_away.await {
                    Ok(why) => why,
                    // They leave by themselves.
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.tickets.inner.lock().inside.retain(|i| i.number != self.number);
    }
}

impl Handler<Posted<Ask<Expel>>> for HypervisorActor {
    type Result = Result<Done, Fault>;
    fn handle(&mut self, posted: Posted<Ask<Expel>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, .. }) = posted.take() else { return ending() };
        let closed = self.scope().tickets.expel(bare(&command.person));
        Ok(Done::new(format!("{closed} of {} closed", command.person)))
    }
}

impl Inner {
    fn redeem(&mut self, token: &str, secret: &str, folder: &str) -> Result<Admitted, Refused> {
        let (key, mut proof) = (digest(token), BASE64_URL_SAFE_NO_PAD.encode(digest(secret)));
        if !SECRET_LENGTH.contains(&secret.len()) {
            proof.replace_range(.., "+++++++++++++++++++++++++++++++++++++++++++");
        }
        if let Err(wrong) = self.judge(&key, &proof, folder, Instant::now()) {
            return Err(self.refuse(&key, wrong));
        }
        let Some(waiting) = self.end(key, End::Used) else { return Err(Refused) };
        tracing::info!(target: "archipel::audit", who = %waiting.person, what = %waiting.opens.words(), "used a ticket");
        Ok(Admitted { person: waiting.person, opens: waiting.opens })
    }

    /// The ticket, or what is wrong. Whatever it is, one look-up and one comparison are made.
    fn judge(&self, key: &Key, proof: &str, folder: &str, now: Instant) -> Result<&Waiting, &'static str> {
        let found = self.open.get(key);
        let wanted = found.map_or("-------------------------------------------", |w| w.proof.as_str());
        let fits = bool::from(wanted.as_bytes().ct_eq(proof.as_bytes()));
        match found {
            Some(waiting) if now >= waiting.until => Err("has expired"),
            Some(_) if !fits => Err("is somebody else's: the secret does not fit"),
            Some(waiting) if waiting.opens.folder() != folder => Err("opens something else"),
            Some(waiting) => Ok(waiting),
            None => Err(match self.ended(key) {
                Some((_, _, End::Used)) => "was used already",
                Some((_, _, End::Expired)) => "has expired",
                Some((_, _, End::Revoked)) => "is of an account that has changed since",
                None => "is not known",
            }),
        }
    }

    fn ended(&self, key: &Key) -> Option<&(Key, Arc<str>, End)> {
        self.ended.iter().find(|(ended, ..)| ended == key)
    }

    /// Tells the log, and nobody else, what was wrong.
    fn refuse(&self, key: &Key, wrong: &'static str) -> Refused {
        let owner = self.open.get(key).map(|w| &w.person).or_else(|| self.ended(key).map(|(_, person, _)| person));
        tracing::warn!(target: "archipel::audit", owner = owner.map_or("nobody", |o| o), wrong, "refused a ticket");
        Refused
    }

    fn end(&mut self, key: Key, end: End) -> Option<Waiting> {
        let waiting = self.open.remove(&key)?;
        if let Some(timer) = &waiting.timer {
            timer.abort();
        }
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((key, waiting.person.clone(), end));
        Some(waiting)
    }
}

async fn expire(tickets: Weak<Tickets>, key: Key, at: Instant) {
    tokio::time::sleep_until(at).await;
    if let Some(tickets) = tickets.upgrade() {
        tickets.inner.lock().end(key, End::Expired);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{
        DomainId, FaultKind,
        ticket::{ConsoleLine, ConsolePass},
    };

    const SECRET: &str = "0123456789012345678901234567890123456789";

    fn opens() -> Opens {
        let domain = DomainId(uuid::Uuid::from_u128(7));
        Opens::Console(ConsolePass { domain, line: ConsoleLine::Vnc, take_over: false })
    }

    fn proof(secret: &str) -> Proof {
        BASE64_URL_SAFE_NO_PAD.encode(digest(secret)).parse().unwrap()
    }

    fn issue(tickets: &Arc<Tickets>, jid: &str) -> Result<Ticket, Fault> {
        tickets.issue(&"alpha".parse().unwrap(), jid, proof(SECRET), opens(), "opens".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_opens_once_what_was_asked_for() {
        let tickets = Arc::<Tickets>::default();
        let ticket = issue(&tickets, "ada@c/laptop").unwrap();
        assert_eq!(ticket.path, format!("/console/{}", ticket.token));
        let admitted = tickets.redeem(ticket.token.as_str(), SECRET, "console").unwrap();
        assert_eq!((&*admitted.person, admitted.opens), ("ada@c", opens()));
        assert_eq!(tickets.redeem(ticket.token.as_str(), SECRET, "console"), Err(Refused), "replayed");
        assert_eq!(tickets.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_was_only_seen_opens_nothing_and_stays_its_owners() {
        let tickets = Arc::<Tickets>::default();
        let ticket = issue(&tickets, "ada@c").unwrap();
        for stolen in ["", "guess", &SECRET.replace('0', "1"), proof(SECRET).as_str()] {
            assert_eq!(tickets.redeem(ticket.token.as_str(), stolen, "console"), Err(Refused), "{stolen:?}");
        }
        assert_eq!(tickets.redeem(ticket.token.as_str(), SECRET, "volume"), Err(Refused), "of another kind");
        assert!(tickets.redeem(ticket.token.as_str(), SECRET, "console").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_expires_at_its_own_time() {
        let tickets = Arc::<Tickets>::default();
        let first = issue(&tickets, "ada@c").unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let second = issue(&tickets, "ada@c").unwrap();
        tokio::time::sleep(Duration::from_millis(20_001)).await;
        assert_eq!(tickets.open(), 1, "only the first one's time is over");
        assert_eq!(tickets.redeem(first.token.as_str(), SECRET, "console"), Err(Refused));
        assert!(tickets.redeem(second.token.as_str(), SECRET, "console").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_fills_the_store() {
        let tickets = Arc::<Tickets>::default();
        for _ in 0..OPEN_OF_ONE {
            issue(&tickets, "ada@c/1").unwrap();
        }
        assert_eq!(issue(&tickets, "ada@c/2").unwrap_err().kind, FaultKind::Busy);
        let mut others = 0;
        while issue(&tickets, &format!("p{}@c", others / 8)).is_ok() {
            others += 1;
        }
        assert_eq!(OPEN_OF_ONE + others, OPEN);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(tickets.open(), 0);
        assert!(issue(&tickets, "ada@c").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_is_looked_at_is_not_used_up() {
        let tickets = Arc::<Tickets>::default();
        let ticket = issue(&tickets, "ada@c").unwrap();
        let token = ticket.token.as_str();
        assert_eq!(tickets.fits(token, &proof("another"), "console"), Err(Refused));
        assert_eq!(tickets.fits(token, &proof(SECRET), "volume"), Err(Refused));
        assert_eq!(tickets.fits(&token.replace('~', "~x"), &proof(SECRET), "console"), Err(Refused));
        for _ in 0..2 {
            assert_eq!(&*tickets.fits(token, &proof(SECRET), "console").unwrap().person, "ada@c");
        }
        assert!(tickets.redeem(token, SECRET, "console").is_ok());
        assert_eq!(tickets.fits(token, &proof(SECRET), "console"), Err(Refused), "used");
        let late = issue(&tickets, "ada@c").unwrap();
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(tickets.fits(late.token.as_str(), &proof(SECRET), "console"), Err(Refused), "expired");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_account_that_changed_had_open_or_waiting_ends() {
        let tickets = Arc::<Tickets>::default();
        let [used, waits] = [issue(&tickets, "ada@c/1").unwrap(), issue(&tickets, "ada@c/2").unwrap()];
        let bobs = issue(&tickets, "bob@c").unwrap();
        let (_, mut stay) = tickets.enter(used.token.as_str(), SECRET, "console").unwrap();
        let (_, mut other) = tickets.enter(bobs.token.as_str(), SECRET, "console").unwrap();
        let (ended, goes_on) = (stay.ended(), other.ended());
        assert_eq!(tickets.expel("ada@c"), 2);
        assert!(ended.await.contains("log in again"));
        assert!(tokio::time::timeout(Duration::from_secs(60), goes_on).await.is_err(), "that of another account stays open");
        assert_eq!(tickets.redeem(waits.token.as_str(), SECRET, "console"), Err(Refused));
        drop((stay, other));
        assert!(tickets.inner.lock().inside.is_empty());
        assert_eq!(tickets.expel("ada@c"), 0);
        assert!(issue(&tickets, "ada@c").is_ok(), "who logs in again opens it anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_secret_never_fits() {
        let tickets = Arc::<Tickets>::default();
        let ticket = tickets.issue(&"alpha".parse().unwrap(), "ada@c", proof("short"), opens(), String::new()).unwrap();
        assert_eq!(tickets.redeem(ticket.token.as_str(), "short", "console"), Err(Refused));
    }
}
