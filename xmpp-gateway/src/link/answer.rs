//! Carrying out what the exchange asks of this host.

use super::carriage::Carriages;
use super::{LinkAnnouncer, LinkConfig};
use crate::client::Client;
use crate::ns;
use crate::stanza::{self, IqKind, carriage::Carry, fault, node};
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
    carriages: &Carriages,
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
    let (client, dispatcher, carriages, room, ahead) = (client.clone(), dispatcher.clone(), carriages.clone(), room.clone(), ahead.clone());
    let permit = room.try_acquire_owned();
    tokio::spawn(async move {
        let mut eventless = false;
        let outcome = match (asked, &permit) {
            (Err(fault), _) => Err(fault),
            (Ok(_), Err(_)) => Err(Fault::busy("this host carries out as many requests as it can; try again in a moment")),
            (Ok(Asked::Request(request)), Ok(_)) => dispatcher.call(*request).await,
            (Ok(Asked::Carry(carry)), Ok(_)) => {
                eventless = true;
                serde_json::to_value(carriages.fetch(&client, carry).await).map_err(|e| Fault::internal("an answer is no JSON").because(e))
            }
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
        if !eventless {
            let _ = tokio::time::timeout(EVENTS_FIRST, ahead.caught_up()).await;
        }
        // Whoever asked has been told by the exchange if the link is gone.
        let _ = client.send(&answer).await;
        if let Some(fault) = stale {
            client.leave(fault).await;
        }
    });
}

/// What an agent can be asked.
enum Asked {
    Request(Box<Request>),
    Carry(Carry),
}

/// What an `iq` asks, if whoever sent it may ask us: the cell, or another agent of it. Callers are inside a request, so
/// nobody else's may be read.
fn request(stanza: &Element, cell: &CellName) -> Result<Asked, Fault> {
    let from = stanza.attr("from").unwrap_or_default();
    let bare = from.split('/').next().unwrap_or_default();
    let trusted = bare == cell.as_str() || cell.entity(bare).is_ok_and(|e| e.kind() == archipel_contract::Kind::Hypervisor);
    let payload = stanza.children().next().filter(|p| node::Ask::is(p));
    match payload {
        Some(_) if !trusted => Err(Fault::new(FaultKind::Forbidden, "only the exchange may ask an agent")),
        Some(payload) => match node::Ask::parse(payload)? {
            node::Ask::Request(request) => Ok(Asked::Request(request)),
            node::Ask::Carry(carry) if from == cell.as_str() => Ok(Asked::Carry(carry)),
            node::Ask::Carry(_) => Err(Fault::new(FaultKind::Forbidden, "only the exchange asks for a carriage")),
            node::Ask::Hello(_) | node::Ask::Assert(_) | node::Ask::Asserted | node::Ask::Renew(_) | node::Ask::Leave => {
                Err(Fault::invalid("an agent can be asked only requests"))
            }
        },
        None => Err(Fault::new(FaultKind::Unsupported, format!("an agent answers only requests of {}", ns::NODE))),
    }
}
