//! How a request presents a ticket, and the one answer to all that open nothing.

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpResponse, HttpResponseBuilder};
use archipel_contract::ticket::SUB_PROTOCOL;
use archipel_contract::{Fault, FaultKind};

/// The header that tells what kind of fault an answer is.
pub(crate) const FAULT: &str = "archipel-fault";

/// Why nothing was opened.
#[derive(Debug)]
pub enum Unopened {
    /// The ticket is unknown, used, expired or somebody else's; which of these is nobody's business.
    Ticket,
    /// The ticket was good, and then it failed.
    Fault(Fault),
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Unopened {
        Unopened::Fault(fault)
    }
}

/// The secret that goes with the token: of a WebSocket among its sub-protocols.
pub(crate) fn of_socket(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|v| v.to_str().ok());
    offered.flat_map(|v| v.split(',')).find_map(|protocol| protocol.trim().strip_prefix(SUB_PROTOCOL)).map(str::to_owned)
}

/// The secret that goes with the token: of a request in its `Authorization`.
pub(crate) fn of_request(headers: &HeaderMap) -> Option<String> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim().to_owned())
}

/// Nothing is behind this token, or nothing any more, or not for you.
pub(crate) fn refused() -> HttpResponse {
    plain(HttpResponse::NotFound(), "nothing waits behind this token; ask for a fresh one")
}

pub(crate) fn plain(mut status: HttpResponseBuilder, text: &str) -> HttpResponse {
    status.insert_header((header::CACHE_CONTROL, "no-store")).content_type("text/plain; charset=utf-8").body(format!("{text}\n"))
}

/// A fault as an answer: its sentence as text, its kind as status and in a header.
pub(crate) fn failed(fault: &Fault) -> HttpResponse {
    let mut status = match fault.kind {
        FaultKind::InvalidRequest => HttpResponse::BadRequest(),
        FaultKind::NotFound => HttpResponse::NotFound(),
        FaultKind::Forbidden => HttpResponse::Forbidden(),
        FaultKind::WrongState | FaultKind::Conflict | FaultKind::Busy => HttpResponse::Conflict(),
        FaultKind::Timeout => HttpResponse::GatewayTimeout(),
        FaultKind::Unavailable => HttpResponse::ServiceUnavailable(),
        FaultKind::Unsupported => HttpResponse::NotImplemented(),
        FaultKind::Internal => HttpResponse::InternalServerError(),
    };
    status.insert_header((FAULT, fault.kind.name()));
    plain(status, &fault.to_string())
}
