//! From where a page comes that wants to open a socket.
//!
//! A browser sends the `Origin` of the page, and a page of somebody else must not be able to talk to the cell with the visitor's
//! network position. Programs that are no browser send none and are let through: they could write any.

use actix_web::HttpRequest;
use actix_web::http::header;

/// The `Host` of the request, if it looks like one and can be put into a header or a document as it is.
pub(crate) fn host(request: &HttpRequest) -> Option<&str> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let fits = !host.is_empty() && host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    fits.then_some(host)
}

/// Whether a page of this origin may open a socket; the error is the origin that may not.
pub(crate) fn check(request: &HttpRequest, allowed: &[String]) -> Result<(), String> {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
    let own = origin
        .split_once("://")
        .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && host(request).is_some_and(|h| h.eq_ignore_ascii_case(rest)));
    if own || allowed.iter().any(|a| a.trim_end_matches('/').eq_ignore_ascii_case(&origin)) { Ok(()) } else { Err(origin) }
}

/// Where the sockets of an origin are: `https://host` becomes `wss://host`.
pub(crate) fn socket(origin: &str) -> String {
    let origin = origin.trim_end_matches('/');
    origin.strip_prefix("http").map_or_else(|| origin.to_owned(), |rest| format!("ws{rest}"))
}
