//! XEP-0156: tells clients that know only the domain where the WebSocket is.

use crate::{Shared, origin};
use actix_web::{HttpRequest, HttpResponse, web};

const RELATION: &str = "urn:xmpp:alt-connections:websocket";

/// The WebSocket of this process, then those of the other exchanges.
fn addresses(request: &HttpRequest, shared: &Shared) -> Vec<String> {
    let Some(host) = origin::host(request).filter(|_| shared.hooks.websocket.is_some()) else { return Vec::new() };
    // A proxy in front that speaks TLS says so.
    let secure = request.headers().get("x-forwarded-proto").is_some_and(|v| v == "https");
    let own = format!("{}://{host}", if secure { "wss" } else { "ws" });
    let others = shared.config.pages.iter().map(|page| origin::socket(page)).filter(|other| !other.ends_with(&format!("://{host}")));
    std::iter::once(own).chain(others).map(|origin| format!("{origin}/xmpp-websocket")).collect()
}

fn nowhere() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("there is no XMPP WebSocket here\n")
}

pub(crate) async fn host_meta(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let addresses = addresses(&request, &shared);
    if addresses.is_empty() {
        return nowhere();
    }
    let links: String = addresses.iter().map(|address| format!("  <Link rel='{RELATION}' href='{address}'/>\n")).collect();
    let body = format!("<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n{links}</XRD>\n");
    HttpResponse::Ok().insert_header(("access-control-allow-origin", "*")).content_type("application/xrd+xml").body(body)
}

pub(crate) async fn host_meta_json(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let addresses = addresses(&request, &shared);
    if addresses.is_empty() {
        return nowhere();
    }
    let links: Vec<_> = addresses.iter().map(|address| serde_json::json!({ "rel": RELATION, "href": address })).collect();
    let body = serde_json::json!({ "links": links });
    HttpResponse::Ok().insert_header(("access-control-allow-origin", "*")).content_type("application/json").body(body.to_string())
}
