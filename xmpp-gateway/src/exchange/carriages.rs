//! Requests for what tickets of other hosts open are passed on to those hosts, over connections that they make.
//!
//! ```text
//!   page --request--> asked: does such a ticket wait there? --no------------------> the one answer to all that open nothing
//!                       | yes, and the agent connects, within 10 s
//!                       v
//!                     open: bytes both ways ---either side ends it----------------> over
//!                       +---------------------link gone, exchange ends------------> over, with the reason
//! ```
//! What opens what is the agent's to know: it is told token and proof before anything is opened, and the secret comes with the request
//! itself. A carriage is known by random bits that only the asked agent was told, may be made by that agent alone, once, in time.

use super::{Exchange, metrics};
use crate::server::{Berth, StreamCondition};
use crate::stanza::carriage::{Carry, CarryAnswer};
use crate::stanza::node::Ask;
use crate::stream::wire::BoxedIo;
use archipel_contract::{BoxFuture, Fault, FaultKind, HypervisorName, Millis, ticket::Proof};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Weak;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long an agent may take until its carriage is there.
const PATIENCE: Millis = Millis::seconds(10);
/// Requests for which one host is being asked. Anybody can make us ask, so this is small: an honest answer takes some milliseconds.
const ASKED_OF_ONE: usize = 32;
/// Carriages of one host that may be open.
pub const OPEN_OF_ONE: usize = 128;
/// The same of all hosts together.
pub const OPEN: usize = 512;

/// A connection to an agent that expects one HTTP request.
pub struct Carriage {
    /// The bytes.
    pub io: BoxedIo,
    /// Answers, with the reason for people, when it has to end.
    pub ended: BoxFuture<'static, String>,
    /// Given back when this is dropped.
    pub place: Place,
}

/// Why there is no carriage.
#[derive(Debug)]
pub enum Uncarried {
    /// There is no such ticket as far as anybody is told; the log says more.
    Ticket,
    /// The ticket is good.
    Fault(Fault),
}

/// The carriages of one exchange.
#[derive(Default)]
pub(crate) struct Carriages {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    asked: HashMap<String, Asked>,
    open: HashMap<u64, Open>,
    /// The exchange has ended: why.
    over: Option<&'static str>,
}

struct Asked {
    host: HypervisorName,
    /// Taken by the carriage that comes.
    berth: Option<Berth>,
}

struct Open {
    host: HypervisorName,
    /// The session of the link over which it was asked for.
    link: u64,
    end: oneshot::Sender<String>,
}

/// A place among the open carriages.
pub struct Place {
    number: u64,
    carriages: Weak<Exchange>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(exchange) = self.carriages.upgrade()
            && exchange.carriages.state.lock().open.remove(&self.number).is_some()
        {
            metrics::carriages(-1);
        }
    }
}

/// Takes what is asked off the books, however the asking ends.
struct Asking<'a> {
    carriages: &'a Carriages,
    id: &'a str,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.carriages.state.lock().asked.remove(self.id);
    }
}

impl Carriages {
    fn ask<'a>(&'a self, host: &HypervisorName, id: &'a str) -> Option<(Asking<'a>, oneshot::Receiver<BoxedIo>)> {
        let (berth, arrival) = oneshot::channel();
        let mut state = self.state.lock();
        if state.asked.values().filter(|asked| asked.host == *host).count() >= ASKED_OF_ONE {
            return None;
        }
        state.asked.insert(id.to_owned(), Asked { host: host.clone(), berth: Some(berth) });
        Some((Asking { carriages: self, id }, arrival))
    }

    /// Where the carriage with this id is to go, if it was asked of the node with that local part, and only once.
    pub(super) fn berth(&self, node: &str, id: &str) -> Option<Berth> {
        let mut state = self.state.lock();
        let asked = state.asked.get_mut(id).filter(|asked| node.strip_prefix("hv.") == Some(asked.host.as_str()))?;
        asked.berth.take()
    }

    fn open(&self, exchange: &Weak<Exchange>, host: &HypervisorName, link: u64) -> Result<(Place, oneshot::Receiver<String>), Fault> {
        let (end, ended) = oneshot::channel();
        let mut state = self.state.lock();
        if let Some(over) = state.over {
            return Err(Fault::unavailable(over));
        }
        if state.open.len() >= OPEN {
            return Err(Fault::busy(format!("{OPEN} consoles and transfers go through this exchange already; end some")));
        }
        if state.open.values().filter(|open| open.host == *host).count() >= OPEN_OF_ONE {
            return Err(Fault::busy(format!("{OPEN_OF_ONE} consoles and transfers of {host} go through this exchange already; end some")));
        }
        state.next += 1;
        let number = state.next;
        state.open.insert(number, Open { host: host.clone(), link, end });
        metrics::carriages(1);
        Ok((Place { number, carriages: exchange.clone() }, ended))
    }

    /// Ends those of a link, or all.
    fn end(&self, link: Option<u64>, why: impl Fn(&HypervisorName) -> String) {
        let ended: Vec<Open> = {
            let mut state = self.state.lock();
            state.open.extract_if(|_, open| link.is_none_or(|link| open.link == link)).map(|(_, open)| open).collect()
        };
        for open in ended {
            metrics::carriages(-1);
            // Whoever has left meanwhile needs no word.
            let _ = open.end.send(why(&open.host));
        }
    }

    pub(super) fn on_link_closed(&self, link: u64) {
        self.end(Some(link), |host| format!("the agent on {host} is gone; try again when it is back"));
    }

    pub(super) fn on_dismissed(&self, why: StreamCondition) {
        let why = match why {
            StreamCondition::Reset => "another exchange takes over; open it again",
            _ => "the exchange is stopping; open it again when it is back",
        };
        self.state.lock().over = Some(why);
        self.end(None, |_| why.to_owned());
    }
}

impl Exchange {
    /// Asks the agent of that host to come for a request with this token and the secret of that proof.
    pub async fn carry(&self, host: &HypervisorName, folder: &str, token: String, proof: Proof) -> Result<Carriage, Uncarried> {
        let outcome = self.try_to_carry(host, folder, token, proof).await;
        metrics::carried(match &outcome {
            Ok(_) => "carried",
            Err(Uncarried::Ticket) => "refused",
            Err(Uncarried::Fault(_)) => "failed",
        });
        outcome
    }

    async fn try_to_carry(&self, host: &HypervisorName, folder: &str, token: String, proof: Proof) -> Result<Carriage, Uncarried> {
        let until = Instant::now() + PATIENCE.duration();
        let nothing = |why: &dyn std::fmt::Display| {
            tracing::warn!(target: "archipel::audit", %host, %why, "a request for what a ticket opens was not passed on");
            Uncarried::Ticket
        };
        let Some(link) = self.locations.read().link(host) else { return Err(nothing(&"there is no link to that host")) };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| nothing(&e))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let asking = self.carriages.ask(host, &id);
        let (asking, arrival) = asking.ok_or_else(|| nothing(&"it is being asked for too many already"))?;
        let carry = Carry { carriage: id.clone(), folder: folder.to_owned(), token, proof };
        let answer = self.links.ask_agent(self.cell.as_str(), self.epoch, link, &Ask::Carry(carry), PATIENCE).await;
        // Until here nobody knows whether whoever sent the request has a ticket at all.
        let answer = answer.and_then(read).map_err(|fault| nothing(&fault))?;
        let (person, what) = match answer {
            CarryAnswer::Refused => return Err(Uncarried::Ticket),
            CarryAnswer::Failed { why } => {
                let message = format!("{host} could not be reached for it; look at the log of its agent");
                return Err(Uncarried::Fault(Fault::unavailable(message).because(why)));
            }
            CarryAnswer::Carried { person, what } => (person, what),
        };
        let late =
            || Uncarried::Fault(Fault::new(FaultKind::Timeout, format!("the connection from {host} did not come in time; try again")));
        let Ok(Ok(io)) = timeout_at(until, arrival).await else { return Err(late()) };
        drop(asking);
        let (place, ended) = self.carriages.open(&self.me, host, link).map_err(Uncarried::Fault)?;
        if self.links.host(link).is_none() {
            // It went between its answer and now, and nobody would end this any more.
            return Err(late());
        }
        tracing::info!(target: "archipel::audit", who = person, %host, what, "passes on to another host");
        let ended: BoxFuture<'static, String> = Box::pin(async move {
            match ended.await {
                Ok(why) => why,
                // It ends by itself.
                Err(_) => std::future::pending().await,
            }
        });
        Ok(Carriage { io, ended, place })
    }
}

fn read(answer: Value) -> Result<CarryAnswer, Fault> {
    serde_json::from_value(answer)
        .map_err(|e| Fault::invalid("the agent's answer means nothing here; is it of another version?").because(e))
}
