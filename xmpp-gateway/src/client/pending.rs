//! Requests that wait for their answers, by the id of the `iq`.
//!
//! Every session (a bind) is a generation. When it ends for good, whatever waits fails, and what is still queued to be sent
//! belongs to the past and is dropped: an old command must not run in a new session that nobody waits on.

use archipel_contract::Fault;
use minidom::Element;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::oneshot;

struct Waiting {
    from: Option<String>,
    answer: oneshot::Sender<Result<Element, Fault>>,
}

struct Table {
    generation: u64,
    counter: u64,
    closed: Option<Fault>,
    waiting: HashMap<String, Waiting>,
}

/// The table.
pub(super) struct Pending {
    // Ids that cannot be guessed: somebody else's `iq` must not answer ours.
    prefix: String,
    table: Mutex<Table>,
}

/// One request that waits. Dropping it forgets the request.
pub(super) struct Ticket<'a> {
    pending: &'a Pending,
    pub(super) id: String,
    pub(super) generation: u64,
    answer: oneshot::Receiver<Result<Element, Fault>>,
}

impl Pending {
    pub(super) fn new() -> Pending {
        let prefix = uuid::Uuid::new_v4().simple().to_string();
        Pending {
            prefix: prefix.get(..12).unwrap_or_default().to_owned(),
            table: Mutex::new(Table { generation: 0, counter: 0, closed: None, waiting: HashMap::new() }),
        }
    }

    /// Opens a ticket for a request to `to`.
    pub(super) fn open(&self, to: Option<&str>) -> Result<Ticket<'_>, Fault> {
        let (sender, answer) = oneshot::channel();
        let mut table = self.table.lock();
        if let Some(fault) = &table.closed {
            return Err(fault.clone());
        }
        table.counter += 1;
        let id = format!("{}-{}", self.prefix, table.counter);
        table.waiting.insert(id.clone(), Waiting { from: to.map(str::to_owned), answer: sender });
        Ok(Ticket { pending: self, id, generation: table.generation, answer })
    }

    pub(super) fn generation(&self) -> u64 {
        self.table.lock().generation
    }

    /// Gives an answer to whoever waits for it; gives it back when nobody does. An answer counts only when it comes from where the
    /// request went.
    pub(super) fn answer(&self, id: &str, from: Option<&str>, result: Result<Element, Fault>) -> bool {
        let mut table = self.table.lock();
        let fits = table.waiting.get(id).is_some_and(|w| match (&w.from, from) {
            (None, _) | (_, None) => true,
            (Some(to), Some(from)) => bare(to) == bare(from),
        });
        if !fits {
            return false;
        }
        if let Some(waiting) = table.waiting.remove(id) {
            // Whoever waited may have given up just now.
            let _ = waiting.answer.send(result);
        }
        true
    }

    /// The session is over for good: everybody who waits gets this fault, and a new generation begins.
    pub(super) fn fail(&self, fault: &Fault, for_ever: bool) {
        let mut table = self.table.lock();
        table.generation += 1;
        if for_ever {
            table.closed = Some(fault.clone());
        }
        for (_, waiting) in table.waiting.drain() {
            let _ = waiting.answer.send(Err(fault.clone()));
        }
    }
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}

impl Ticket<'_> {
    /// Waits for the answer.
    pub(super) async fn wait(&mut self) -> Result<Element, Fault> {
        match (&mut self.answer).await {
            Ok(result) => result,
            Err(_) => Err(Fault::unavailable("the connection was closed before the answer came")),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.table.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_from_somebody_else_is_no_answer() {
        let pending = Pending::new();
        let mut ticket = pending.open(Some("web1@c")).expect("open");
        let answer = Element::bare("iq", crate::ns::CLIENT);
        assert!(!pending.answer(&ticket.id, Some("mallory@c/x"), Ok(answer.clone())));
        assert!(!pending.answer("other", Some("web1@c"), Ok(answer.clone())));
        assert!(pending.answer(&ticket.id, Some("web1@c/alpha"), Ok(answer.clone())));
        assert_eq!(ticket.wait().await, Ok(answer.clone()));
        assert!(!pending.answer(&ticket.id, Some("web1@c"), Ok(answer)), "a second answer is nobody's");
    }

    #[tokio::test]
    async fn the_end_of_a_session_fails_what_waits_and_begins_a_generation() {
        let pending = Pending::new();
        let mut ticket = pending.open(None).expect("open");
        assert_eq!(ticket.generation, 0);
        pending.fail(&Fault::unavailable("cut"), false);
        assert_eq!(ticket.wait().await, Err(Fault::unavailable("cut")));
        assert_eq!(pending.open(None).expect("open").generation, 1);
        pending.fail(&Fault::unavailable("closed"), true);
        assert!(pending.open(None).is_err());
    }

    #[test]
    fn a_request_given_up_is_forgotten() {
        let pending = Pending::new();
        drop(pending.open(None).expect("open"));
        assert!(pending.table.lock().waiting.is_empty());
    }
}
