//! How the exchange is, in numbers. Nothing here is counted unless somebody asks.

use super::Exchange;
use archipel_contract::Kind;

/// How the exchange is doing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Entities known.
    pub entities: usize,
    /// Hosts whose agent is linked.
    pub hosts_linked: usize,
    /// Hosts whose agent was linked and is not now.
    pub hosts_lost: usize,
    /// Sessions of people.
    pub people: usize,
    /// Subscriptions to the feed.
    pub subscribers: usize,
    /// Who looks at what machines take.
    pub viewers: usize,
    /// Requests sent to agents and not yet answered.
    pub waiting: usize,
    /// Machines that run on more than one host, a sentence for each.
    pub duplicates: Vec<String>,
}

impl Exchange {
    /// Numbers for the health page.
    pub fn health(&self) -> Health {
        let (entities, hosts_linked, hosts_lost) = {
            let table = self.locations.read();
            let linked = table.hosts().filter(|(_, live)| *live).count();
            (table.len(), linked, table.hosts().count() - linked)
        };
        // Each lock is let go before the next is taken: within one expression they would all be held until its end, in an order that
        // is not the order of everybody else.
        let people = self.people.lock().sessions();
        let subscribers = self.feed.subscribers();
        let viewers = self.watching.viewers();
        let waiting = self.links.counts().1;
        let duplicates = self.duplicates();
        Health { entities, hosts_linked, hosts_lost, people, subscribers, viewers, waiting, duplicates }
    }

    /// Brings the gauges up to date; to be called at a scrape.
    pub fn collect(&self) {
        let mut counts = std::collections::HashMap::new();
        {
            let table = self.locations.read();
            for entity in Kind::ALL.into_iter().flat_map(|k| table.of_kind(k)) {
                *counts.entry((entity.kind().name(), entity.state())).or_insert(0i64) += 1;
            }
        }
        self.metrics.entities(&counts);
        let running = counts.iter().any(|((kind, state), count)| (*kind, *state) == (Kind::Domain.name(), "running") && *count > 0);
        let audit = self.audit.lock();
        let most = audit.alarmed().values().map(std::collections::BTreeSet::len).max().unwrap_or(usize::from(running));
        self.metrics.copies(most, audit.alarmed().len());
    }
}
