//! A host that is not a member yet hands in its token: the one thing a stream can do without a login, and only inside TLS 1.3, where
//! the host has made sure of us before.

use crate::membership::{Membership, join::Request};
use crate::ns;
use crate::sasl::server::Gate;
use crate::stanza::{self, IqKind, fault, json};
use archipel_contract::{Fault, FaultKind};
use minidom::Element;

/// The stream feature by which a host sees that it can join here.
pub(super) fn feature() -> String {
    format!("<join xmlns='{}'/>", ns::JOIN)
}

/// Whether an element is a host's wish to join.
pub(super) fn is(element: &Element) -> bool {
    element.is("iq", ns::CLIENT) && element.attr("type") == Some("set") && element.has_child("join", ns::JOIN)
}

/// The answer to it. Tokens that are not good cost the peer time, and too many lock its address for a while.
pub(super) async fn answer(members: &Membership, gate: &Gate, host: &str, iq: &Element) -> Element {
    let outcome = match gate.check_tokens(host) {
        Err(_) => Err(Fault::busy("too many tokens from your address were not good; try again in some minutes")),
        Ok(()) => match iq.get_child("join", ns::JOIN).map(json::need::<Request>) {
            Some(Ok(request)) => members.redeem(&request).await,
            Some(Err(fault)) => Err(fault),
            None => Err(Fault::invalid("there is no <join/>")),
        },
    };
    match outcome {
        Ok(grant) => {
            let mut granted = Element::bare("granted", ns::JOIN);
            granted.append_child(json::print(&grant));
            stanza::iq(IqKind::Result, iq.attr("id").unwrap_or_default(), Some(granted))
        }
        Err(refused) => {
            tracing::warn!(host, fault = %refused, "a host was not let into the cell");
            if refused.kind == FaultKind::Forbidden {
                tokio::time::sleep(gate.wrong_token(host)).await;
            }
            fault::answer(iq, &refused)
        }
    }
}
