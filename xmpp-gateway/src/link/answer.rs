//! Carrying out what the exchange asks of this host.

use super::{LinkAnnouncer, LinkConfig};
use crate::client::Client;
use crate::ns;
use crate::stanza::{self, IqKind, fault, node};
use archipel_contract::port::{Dispatcher, Request};
use archipel_contract::{CellName, Fault, FaultKind};
use minidom::Element;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long an answer waits at most for the events before it.
const EVENTS_FIRST: Duration = Duration::from_secs(1);

/// Carries out what the exchange asks, in a task of its own. Never waits.
pub(super) fn answer(
    stanza: Element,
    config: &LinkConfig,
    client: &Client,
    dispatcher: &Arc<dyn Dispatcher>,
    room: &Arc<Semaphore>,
    ahead: &Arc<LinkAnnouncer>,
) {
    if !matches!(IqKind::of(&stanza), Some(IqKind::Get | IqKind::Set)) {
        return;
    }
    // An exchange that was succeeded is told so, and left.
    let stale = stanza.children().next().and_then(node::stamped).and_then(|epoch| config.fence.check(epoch).err());
    let asked = match &stale {
        None => request(&stanza, &config.cell),
        Some(fault) => Err(fault.clone()),
    };
    let (client, dispatcher, room, ahead) = (client.clone(), dispatcher.clone(), room.clone(), ahead.clone());
    let permit = room.try_acquire_owned();
    tokio::spawn(async move {
        let outcome = match (asked, &permit) {
            (Err(fault), _) => Err(fault),
            (Ok(_), Err(_)) => Err(Fault::busy("this host carries out as many requests as it can; try again in a moment")),
            (Ok(request), Ok(_)) => dispatcher.call(request).await,
        };
        let answer = match outcome {
            Ok(value) => {
                let mut iq = stanza::iq(IqKind::Result, stanza.attr("id").unwrap_or_default(), Some(node::reply(&value)));
                for (to, from) in [(true, "from"), (false, "to")] {
                    if let Some(address) = stanza.attr(from) {
                        iq = if to { stanza::addressed(iq, address) } else { stanza::sent_by(iq, address) };
                    }
                }
                iq
            }
            Err(fault) => fault::answer(&stanza, &fault),
        };
        // The events of a command go before its answer; an exchange that takes none now must not hold the answer up for long.
        let _ = tokio::time::timeout(EVENTS_FIRST, ahead.caught_up()).await;
        // Whoever asked has been told by the exchange if the link is gone.
        let _ = client.send(&answer).await;
        if let Some(fault) = stale {
            client.leave(fault).await;
        }
    });
}

/// The request in an `iq`, if whoever sent it may ask us: the cell, or another agent of it. Callers are inside the request, so
/// nobody else's may be read.
fn request(stanza: &Element, cell: &CellName) -> Result<Request, Fault> {
    let from = stanza.attr("from").unwrap_or_default();
    let bare = from.split('/').next().unwrap_or_default();
    let trusted = bare == cell.as_str() || cell.entity(bare).is_ok_and(|e| e.kind() == archipel_contract::Kind::Hypervisor);
    let payload = stanza.children().next().filter(|p| node::Ask::is(p));
    match payload {
        Some(_) if !trusted => Err(Fault::new(FaultKind::Forbidden, "only the exchange may ask an agent")),
        Some(payload) => match node::Ask::parse(payload)? {
            node::Ask::Request(request) => Ok(*request),
            node::Ask::Hello(_) | node::Ask::Assert(_) | node::Ask::Asserted | node::Ask::Renew(_) | node::Ask::Leave => {
                Err(Fault::invalid("an agent can be asked only requests"))
            }
        },
        None => Err(Fault::new(FaultKind::Unsupported, format!("an agent answers only requests of {}", ns::NODE))),
    }
}
