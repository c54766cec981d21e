//! The consoles of an agent that are open, and the way from a ticket to one.
//!
//! ```text
//!   token + secret --> ticket redeemed --> machine still here and on? --> port opens --> watched --> left
//!                           |                       |                        |              |--> taken over: told by whom
//!                           |                       |                        |              \--> the account changed: sent away
//!                       one refusal              a fault, told to who has the ticket
//! ```
//! It is asked from the HTTP server's thread. What it tells goes through the machine's actor, which alone changes what is known.

pub use crate::tickets::Unopened;
use crate::{
    dispatch::Post,
    domain::{DomainActor, in_control},
    scope::{SHORT, within},
    tickets::{Admitted, Stay, Tickets},
};
use actix::Message;
use archipel_contract::{
    BoxFuture, DomainId, EntityId, Fault, Timestamp,
    domain::{Watching, may},
    port::Clock,
    ticket::{ConsoleLine, ConsolePass, Opens},
};
use parking_lot::Mutex;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Somebody opened or left a console.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Watched {
    /// Which of the console's topics.
    pub topic: &'static str,
    /// The bare JID of who did.
    pub person: Arc<str>,
    /// More for people.
    pub detail: Arc<str>,
}

/// Consoles that may be open at the same time on one agent.
const OPEN: usize = 256;

/// The consoles of one agent.
pub struct Consoles {
    tickets: Arc<Tickets>,
    posts: Vec<Post>,
    clock: Arc<dyn Clock>,
    watched: Mutex<Watch>,
}

#[derive(Default)]
struct Watch {
    next: u64,
    seats: Vec<Seat>,
}

struct Seat {
    number: u64,
    domain: DomainId,
    line: ConsoleLine,
    person: Arc<str>,
    since: Timestamp,
    /// Ends it from elsewhere, with the reason.
    end: Option<oneshot::Sender<String>>,
}

/// A console that was opened.
pub struct Opened {
    /// Its bytes.
    pub stream: UnixStream,
    /// Answers, with the reason, when somebody else ends it.
    pub ended: BoxFuture<'static, String>,
    /// Whoever watches has left when this is dropped.
    pub place: Place,
}

/// A place before a console, given back when it is dropped.
pub struct Place {
    number: u64,
    consoles: Arc<Consoles>,
    _stay: Stay,
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = {
            let mut watch = self.consoles.watched.lock();
            watch.seats.iter().position(|s| s.number == self.number).map(|at| watch.seats.swap_remove(at))
        };
        if let Some(Seat { domain, person, line, .. }) = seat {
            let detail = format!("{person} left the {} console", line.name());
            self.consoles.tell(domain, "domain.console-closed", &person, detail);
        }
    }
}

impl Consoles {
    /// The consoles of an agent with these hypervisors; none is open.
    pub fn new(tickets: Arc<Tickets>, posts: Vec<Post>, clock: Arc<dyn Clock>) -> Consoles {
        Consoles { tickets, posts, clock, watched: Mutex::default() }
    }

    /// Who has a console of this machine open.
    pub fn viewers(&self, domain: DomainId) -> Vec<Watching> {
        let watch = self.watched.lock();
        let of = watch.seats.iter().filter(|s| s.domain == domain);
        of.map(|s| Watching { person: s.person.clone(), kind: s.line.name().into(), since: s.since }).collect()
    }

    /// Opens what the ticket is for, and uses it up.
    pub async fn open(self: Arc<Self>, token: String, secret: String) -> Result<Opened, Unopened> {
        let (Admitted { person, opens: Opens::Console(pass) }, mut stay) = self.tickets.enter(&token, &secret, "console")? else {
            return Err(Unopened::Ticket);
        };
        let sent_away = stay.ended();
        let ConsolePass { domain, line, take_over } = pass;
        let home = self.home(domain).ok_or_else(|| Fault::not_found("the virtual machine is not on this host any more; ask it again"))?;
        let entity = home.board.get(&domain.into()).ok_or_else(|| Fault::not_found("the virtual machine is gone; list them again"))?;
        in_control(&entity)?;
        if let Some(facts) = entity.domain() {
            may("domain.console", facts).check(&entity.name)?;
        }
        if self.watched.lock().seats.len() >= OPEN {
            return Err(Fault::busy(format!("{OPEN} consoles are open on this host already; close some")).into());
        }
        if take_over {
            self.send_away(domain, line, &person);
        } else if line == ConsoleLine::Serial {
            self.is_free(domain, &entity.name)?;
        }
        let stream = within(SHORT, home.host.consoles.open(domain, line, take_over)).await?;
        let (place, ended) = self.sit(domain, line, &person, stay);
        let taken = if take_over { ", and took it over" } else { "" };
        self.tell(domain, "domain.console-opened", &person, format!("{person} opened the {} console{taken}", line.name()));
        let taken_over = async move {
            match ended.await {
                Ok(why) => why,
                // It ends by itself.
                Err(_) => std::future::pending().await,
            }
        };
        let ended: BoxFuture<'static, String> = Box::pin(async move {
            tokio::select! {
                why = taken_over => why,
                why = sent_away => why,
            }
        });
        Ok(Opened { stream, ended, place })
    }

    fn home(&self, domain: DomainId) -> Option<&Post> {
        let known = self.posts.iter().filter_map(|p| p.board.get(&domain.into()).map(|e| (e.epoch, p)));
        known.max_by_key(|(epoch, _)| *epoch).map(|(_, post)| post)
    }

    /// A serial line has one user at a time.
    fn is_free(&self, domain: DomainId, name: &str) -> Result<(), Fault> {
        let viewers = self.viewers(domain);
        match viewers.iter().find(|w| &*w.kind == ConsoleLine::Serial.name()) {
            None => Ok(()),
            Some(other) => Err(Fault::busy(format!("{} has the serial line of {name} open; take it over, or wait", other.person))),
        }
    }

    fn send_away(&self, domain: DomainId, line: ConsoleLine, by: &str) {
        let mut watch = self.watched.lock();
        for seat in watch.seats.iter_mut().filter(|s| s.domain == domain && s.line == line) {
            if let Some(end) = seat.end.take() {
                // Whoever has left meanwhile needs no word.
                let _ = end.send(format!("{by} has taken it over"));
            }
        }
    }

    fn sit(self: &Arc<Self>, domain: DomainId, line: ConsoleLine, person: &Arc<str>, stay: Stay) -> (Place, oneshot::Receiver<String>) {
        let (end, ended) = oneshot::channel();
        let mut watch = self.watched.lock();
        watch.next += 1;
        let number = watch.next;
        watch.seats.push(Seat { number, domain, line, person: person.clone(), since: self.clock.now(), end: Some(end) });
        (Place { number, consoles: self.clone(), _stay: stay }, ended)
    }

    fn tell(&self, domain: DomainId, topic: &'static str, person: &Arc<str>, detail: String) {
        tracing::info!(target: "archipel::audit", who = %person, %domain, what = topic, "{detail}");
        let Some(home) = self.home(domain) else { return };
        let news = Watched { topic, person: person.clone(), detail: detail.into() };
        // A machine with a full mailbox has more to tell than that; who watches can be asked at any time.
        if let Some(actor) = home.directory.find::<DomainActor>(&EntityId::Domain(domain))
            && let Err(why) = actor.tell(news)
        {
            tracing::debug!(%domain, ?why, "nobody was told of a console");
        }
    }
}
