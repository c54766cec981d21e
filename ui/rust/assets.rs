//! The page's files, packed at build time.

use crate::{Shared, origin};
use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use std::io::Read;

/// One file of the page.
pub(crate) struct Asset {
    path: &'static str,
    media_type: &'static str,
    etag: &'static str,
    gzip: bool,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|a| a.path == path)
}

/// The file, or the page itself for a path of the page's own router, or 404 for a file that is not there.
pub(crate) async fn answer(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET, HEAD")).finish();
    }
    let path = request.path();
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.')) || path.starts_with("/assets/");
    if !is_file && let Some(standby) = shared.hooks.websocket.as_ref().and_then(|w| w.standby()) {
        return standby.page();
    }
    let asset = match find(path) {
        Some(asset) => Some(asset),
        None if is_file => None,
        None => find("/index.html"),
    };
    let Some(asset) = asset else {
        return HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("there is no such file\n");
    };
    let known = |value: &header::HeaderValue| {
        value.to_str().is_ok_and(|tags| tags.split(',').any(|t| t.trim().trim_start_matches("W/") == asset.etag || t.trim() == "*"))
    };
    let unchanged = request.headers().get(header::IF_NONE_MATCH).is_some_and(known);
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, asset.etag))
        // Names are stable and contents change, so the browser asks every time and mostly hears 304.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::VARY, "accept-encoding"))
        .insert_header((header::CONTENT_SECURITY_POLICY, content_security_policy(&request, &shared.config.pages)));
    if unchanged {
        return response.finish();
    }
    response.content_type(asset.media_type);
    if !asset.gzip {
        return response.body(asset.bytes);
    }
    if accepts_gzip(&request) {
        return response.insert_header((header::CONTENT_ENCODING, "gzip")).body(asset.bytes);
    }
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(asset.bytes).read_to_end(&mut plain) {
        Ok(_) => response.body(plain),
        Err(error) => {
            tracing::error!(%error, path = asset.path, "an embedded file cannot be unpacked");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let mut values = request.headers().get_all(header::ACCEPT_ENCODING).filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    values.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        matches!(name.trim(), "gzip" | "*") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// Only our own files, and sockets only to where the page came from (older browsers do not count `ws:` as `'self'`) and to the
/// exchanges that may take over.
fn content_security_policy(request: &HttpRequest, pages: &[String]) -> String {
    let mut sockets = origin::host(request).map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    for page in pages {
        sockets.push(' ');
        sockets.push_str(&origin::socket(page));
    }
    format!(
        "default-src 'self'; connect-src 'self'{sockets}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}
