//! Follows the cell feed: a snapshot, then every change in order; another snapshot whenever something was missed.
//!
//! ```text
//!   online, new session --> subscribe --> snapshot --> event, event, event ...
//!                                            ^                     |
//!                                            +--- hole in numbers -+
//!   online, resumed ----> nothing: no event was lost
//! ```

use super::{Client, DEADLINE, Happening, Incoming};
use crate::stanza::{IqKind, feed};
use archipel_contract::{Entity, EntityId, Epoch, Event, Fault, Seq};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the first one.
    Beginning,
    /// The connection was lost and the session could not be resumed.
    Reconnected,
    /// The server had to drop something, because we were too slow.
    Missed,
}

/// What a follower learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Everything there is; what was known before is void.
    Snapshot(Origin, Vec<Arc<Entity>>),
    /// One change.
    Event(Event),
    /// The connection is down; it is tried again.
    Offline(Fault),
}

/// The feed of a cell.
pub struct Feed {
    client: Client,
    incoming: Incoming,
    cell: String,
    /// The number of the next push.
    expected: u64,
    /// The newest number known of each entity, so that what the snapshot contains already is not told again.
    known: HashMap<EntityId, (Epoch, Seq)>,
    ready: VecDeque<Change>,
    begun: bool,
}

impl Feed {
    pub(super) fn new(client: Client, incoming: Incoming, cell: String) -> Feed {
        Feed { client, incoming, cell, expected: 1, known: HashMap::new(), ready: VecDeque::new(), begun: false }
    }

    /// The next change. `None` when the client has ended; an error when the cell refuses to be followed.
    pub async fn next(&mut self) -> Option<Result<Change, Fault>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(Ok(change));
            }
            match self.incoming.recv().await? {
                Happening::Offline(fault) => return Some(Ok(Change::Offline(fault))),
                Happening::Online { resumed: true, .. } => {}
                Happening::Online { resumed: false, jid } => {
                    if let Err(fault) = self.subscribe(jid).await {
                        // The connection may have gone again meanwhile; then another `Online` follows.
                        if matches!(fault.kind, archipel_contract::FaultKind::Unavailable) {
                            continue;
                        }
                        return Some(Err(fault));
                    }
                }
                // Anybody of the cell may send a message that looks like a push; only the cell's own count.
                Happening::Stanza(stanza) if stanza.attr("from") != Some(&self.cell) => {}
                Happening::Stanza(stanza) => match feed::Push::parse(&stanza) {
                    Some(Ok(push)) => {
                        if let Err(fault) = self.pushed(push).await
                            && !matches!(fault.kind, archipel_contract::FaultKind::Unavailable)
                        {
                            return Some(Err(fault));
                        }
                    }
                    Some(Err(fault)) => return Some(Err(fault)),
                    None => {}
                },
            }
        }
    }

    async fn subscribe(&mut self, jid: String) -> Result<(), Fault> {
        let ask = feed::Ask::Subscribe { jid };
        self.client.request(IqKind::Set, Some(&self.cell), ask.print(), DEADLINE).await?;
        self.expected = 1;
        let origin = if self.begun { Origin::Reconnected } else { Origin::Beginning };
        self.snapshot(origin).await?;
        self.begun = true;
        Ok(())
    }

    async fn snapshot(&mut self, origin: Origin) -> Result<(), Fault> {
        let entities = self.client.snapshot(&self.cell).await?;
        self.known = entities.iter().map(|e| (e.id.clone(), (e.epoch, e.seq))).collect();
        self.ready.push_back(Change::Snapshot(origin, entities));
        Ok(())
    }

    async fn pushed(&mut self, push: feed::Push) -> Result<(), Fault> {
        let hole = push.id != self.expected;
        self.expected = push.id + 1;
        if hole {
            self.snapshot(Origin::Missed).await?;
        }
        for event in push.events {
            let number = (event.epoch, event.seq);
            if self.known.get(&event.entity).is_some_and(|known| *known >= number) {
                continue;
            }
            if event.removes() {
                self.known.remove(&event.entity);
            } else {
                self.known.insert(event.entity.clone(), number);
            }
            self.ready.push_back(Change::Event(event));
        }
        Ok(())
    }
}
