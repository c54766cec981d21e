//! Several servers of one cell, of which one serves at a time: which is tried next.
//!
//! ```text
//!   a fails -> b fails -> c fails -> (a pause) -> a ...
//!   a hangs -> b fails -> c fails -> (a pause) -> b -> c ... until a has rested
//! ```
//! A server that refuses at once costs nothing to ask again; one that takes the connection and then says nothing costs seconds each
//! time, and must not stand in the way of the one that takes over meanwhile.

use super::Connector;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server that hung, or that we left, is not asked while there are others.
const REST: Duration = Duration::from_secs(5);

struct Server {
    connector: Arc<dyn Connector>,
    rests_until: Option<Instant>,
}

impl Server {
    fn rested(connector: Arc<dyn Connector>) -> Server {
        Server { connector, rests_until: None }
    }
}

/// The servers, in turn.
pub(super) struct Round {
    servers: Vec<Server>,
    /// The first so many were known from the beginning.
    configured: usize,
    at: usize,
    failures: usize,
}

impl Round {
    pub(super) fn new(first: Arc<dyn Connector>, others: Vec<Arc<dyn Connector>>) -> Round {
        let servers: Vec<Server> = std::iter::once(first).chain(others).map(Server::rested).collect();
        Round { configured: servers.len(), servers, at: 0, failures: 0 }
    }

    /// From now on these are tried besides the configured ones, instead of those that were learned before.
    pub(super) fn learn(&mut self, learned: &[Arc<dyn Connector>]) {
        let current = self.current();
        let before = self.servers.split_off(self.configured);
        for connector in learned {
            let rests_until = before.iter().find(|s| s.connector.name() == connector.name()).and_then(|s| s.rests_until);
            self.servers.push(Server { connector: connector.clone(), rests_until });
        }
        self.at = self.servers.iter().position(|s| s.connector.name() == current.name()).unwrap_or(0);
    }

    /// Whether there is more than one.
    pub(super) fn has_others(&self) -> bool {
        self.servers.len() > 1
    }

    /// The one to try now.
    pub(super) fn current(&self) -> Arc<dyn Connector> {
        self.servers[self.at].connector.clone()
    }

    /// The current one let us in. When it goes, the others have had time to recover.
    pub(super) fn settled(&mut self) {
        self.failures = 0;
        for server in &mut self.servers {
            server.rests_until = None;
        }
    }

    /// The current one failed, and `hung` if it took its time. The next one is current; answers whether all have failed now.
    pub(super) fn failed(&mut self, hung: bool, now: Instant) -> bool {
        if hung && !self.servers[self.at].connector.gave_up() {
            self.servers[self.at].rests_until = Some(now + REST);
        }
        self.failures += 1;
        let count = self.servers.len();
        let awake = |server: &Server| server.rests_until.is_none_or(|until| until <= now);
        let next = (1..=count).map(|step| (self.at + step) % count).find(|&index| awake(&self.servers[index]));
        self.at = next.unwrap_or((self.at + 1) % count);
        let around = self.failures >= self.servers.iter().filter(|s| awake(s)).count();
        if around {
            self.failures = 0;
        }
        around
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::InMemory;

    fn round(count: usize) -> Round {
        let mut all = (0..count).map(|_| Arc::new(InMemory::new(|| None)) as Arc<dyn Connector>);
        Round::new(all.next().expect("one"), all.collect())
    }

    #[test]
    fn each_is_tried_once_before_a_pause() {
        let now = Instant::now();
        let mut three = round(3);
        assert_eq!([three.failed(false, now), three.failed(false, now), three.failed(false, now)], [false, false, true]);
        assert_eq!(three.at, 0);
        let mut one = round(1);
        assert!(one.failed(true, now) && one.failed(false, now) && !one.has_others());
    }

    #[test]
    fn what_is_learned_is_tried_besides_the_configured_ones() {
        let now = Instant::now();
        let tcp = |name: &str| Arc::new(crate::client::Tcp::new(name, None)) as Arc<dyn Connector>;
        let mut round = Round::new(tcp("a"), Vec::new());
        assert!(!round.has_others() && round.failed(false, now));
        round.learn(&[tcp("b"), tcp("c")]);
        let mut tried = || {
            round.failed(false, now);
            round.current().name().to_owned()
        };
        assert_eq!([tried(), tried(), tried(), tried()], ["b", "c", "a", "b"]);
        round.learn(&[tcp("d"), tcp("b")]);
        assert_eq!(round.current().name(), "b", "it stays with the one it is at");
        round.learn(&[]);
        assert!(round.current().name() == "a" && !round.has_others(), "unless that is gone");
    }

    #[test]
    fn one_that_hangs_does_not_stand_in_the_way() {
        let now = Instant::now();
        let mut two = round(2);
        two.settled();
        assert!(two.failed(true, now), "only the other one is left to be asked, after a pause");
        assert_eq!(two.at, 1);
        assert!(two.failed(false, now));
        assert_eq!(two.at, 1);
        two.settled();
        assert!(!two.failed(false, now), "what was long ago does not count");
        assert_eq!(two.at, 0);
        assert!(two.failed(true, now), "it still hangs");
        assert_eq!(two.at, 1);
        let later = now + REST;
        assert!(!two.failed(false, later));
        assert_eq!(two.at, 0, "it has rested");
        two.failed(true, later);
        two.failed(true, later);
        assert_eq!(two.at, 0, "if all hang, all are tried");
    }
}
