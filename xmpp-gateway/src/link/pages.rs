//! What goes to the exchange, in stanzas that fit.

use crate::stanza::{json, node};
use archipel_contract::{Entity, Event};
use std::sync::Arc;

/// Entities as JSON, in pages that fit.
pub(super) fn pages(entities: Vec<Arc<Entity>>) -> impl Iterator<Item = Vec<String>> {
    fitting(entities.into_iter().filter_map(|e| json::text(&*e).ok()), node::PAGE_ENTITIES)
}

/// Events as JSON, in messages that fit.
pub(super) fn batches(events: Vec<Event>) -> impl Iterator<Item = Vec<String>> {
    fitting(events.into_iter().filter_map(|e| json::text(&e).ok()), super::EVENTS)
}

/// Groups texts so that each group has at most `count` of them and [`node::PAGE_BYTES`]; a text larger than that goes alone.
fn fitting(texts: impl Iterator<Item = String>, count: usize) -> impl Iterator<Item = Vec<String>> {
    let mut texts = texts.peekable();
    std::iter::from_fn(move || {
        let mut group = vec![texts.next()?];
        let mut bytes = group[0].len();
        while let Some(next) = texts.next_if(|next| group.len() < count && bytes + next.len() < node::PAGE_BYTES) {
            bytes += next.len() + 1;
            group.push(next);
        }
        Some(group)
    })
}
