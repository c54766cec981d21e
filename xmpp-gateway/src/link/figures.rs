//! What the machines of this host take, told to the exchange as long as somebody there looks.
//!
//! ```text
//!   resting --- watch ---> looking: what changed since the last that was sent, as fast as the stream takes it
//!      ^                      | unwatch, another session, offline
//!      +----------------------+
//! ```
//! A stream that is slow gets the newest: what is measured while one is being sent is skipped, and what changed is found out when the next
//! is sent.

use crate::client::{Client, State};
use crate::stanza::{self, node};
use crate::{link::LinkConfig, ns};
use archipel_contract::usage::{Figures, Frame, Reading};
use minidom::Element;
use std::sync::Arc;
use tokio::sync::watch;

/// Whether the exchange wants to know, as it said last. Every word of it counts: whoever says it again has forgotten what it knew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    number: u64,
    on: bool,
}

impl Wanted {
    pub(super) fn say(known: &watch::Sender<Wanted>, on: bool) {
        known.send_modify(|wanted| *wanted = Wanted { number: wanted.number + 1, on });
    }
}

/// Tells for ever; ends when the client does.
pub(super) async fn tell(config: &LinkConfig, client: Client, figures: Option<Arc<dyn Figures>>, mut wanted: watch::Receiver<Wanted>) {
    let Some(figures) = figures else { return std::future::pending().await };
    let mut state = client.state();
    loop {
        let Ok(this) = wanted.wait_for(|wanted| wanted.on).await.map(|wanted| *wanted) else { return };
        if state.wait_for(|state| matches!(state, State::Online(_))).await.is_err() {
            return;
        }
        // It may have been said otherwise meanwhile.
        if *wanted.borrow() != this {
            continue;
        }
        tokio::select! {
            () = show(config, &client, &*figures) => {}
            _ = wanted.wait_for(|now| *now != this) => {}
            _ = state.wait_for(|state| !matches!(state, State::Online(_))) => {}
        }
    }
}

/// Looks, and tells what changed.
async fn show(config: &LinkConfig, client: &Client, figures: &dyn Figures) {
    let mut look = figures.look();
    let mut sent: Option<Arc<Reading>> = None;
    while let Some(reading) = look.next().await {
        for piece in Frame::between(&config.host, sent.as_deref(), &reading).pieces() {
            let mut message = Element::bare("message", ns::CLIENT);
            message.append_child(node::usage(&piece));
            if client.send(&stanza::addressed(message, config.cell.as_str())).await.is_err() {
                return;
            }
        }
        sent = Some(reading);
    }
}
