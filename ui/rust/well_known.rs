//! XEP-0156: tells clients that know only the domain where the WebSocket is.

use crate::{Shared, origin};
use actix_web::{HttpRequest, HttpResponse, web};

const RELATION: &str = "urn:xmpp:alt-connections:websocket";

fn address(request: &HttpRequest, shared: &Shared) -> Option<String> {
    let host = origin::host(request)?;
    shared.hooks.websocket.as_ref()?;
    // A proxy in front that speaks TLS says so.
    let secure = request.headers().get("x-forwarded-proto").is_some_and(|v| v == "https");
    Some(format!("{}://{host}/xmpp-websocket", if secure { "wss" } else { "ws" }))
}

fn nowhere() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("there is no XMPP WebSocket here\n")
}

pub(crate) async fn host_meta(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let Some(address) = address(&request, &shared) else { return nowhere() };
    let body = format!(
        "<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n  <Link rel='{RELATION}' href='{address}'/>\n</XRD>\n"
    );
    HttpResponse::Ok().insert_header(("access-control-allow-origin", "*")).content_type("application/xrd+xml").body(body)
}

pub(crate) async fn host_meta_json(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let Some(address) = address(&request, &shared) else { return nowhere() };
    let body = serde_json::json!({ "links": [{ "rel": RELATION, "href": address }] });
    HttpResponse::Ok().insert_header(("access-control-allow-origin", "*")).content_type("application/json").body(body.to_string())
}
