//! What a process shows that stands by for another one: who serves the cell, and the way there.

use actix_web::HttpResponse;
use actix_web::http::header;

/// Another process serves the cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standby {
    /// The other's page, as browsers reach it.
    pub page: Option<String>,
    /// Where its XMPP port is.
    pub address: Option<String>,
}

impl Standby {
    /// In one sentence.
    pub(crate) fn sentence(&self) -> String {
        match (&self.page, &self.address) {
            (Some(page), _) => format!("this exchange stands by; the active one is at {page}"),
            (None, Some(address)) => format!("this exchange stands by; the active one is at {address}"),
            (None, None) => "this exchange stands by, and no other is known to be active".to_owned(),
        }
    }

    /// As a page. 503, so that a proxy in front of several exchanges sends people to the one that serves.
    pub(crate) fn page(&self) -> HttpResponse {
        let there = match (&self.page, &self.address) {
            (Some(page), _) => {
                let page = escape(page);
                format!("The active one is at <a href=\"{page}\">{page}</a>.")
            }
            (None, Some(address)) => format!("The active one is at {} (XMPP).", escape(address)),
            (None, None) => "No other is known to be active; one takes over as soon as etcd lets it.".to_owned(),
        };
        let body = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>Archipel: standby</title>\n<h1>This exchange stands by</h1>\n<p>{there}</p>\n<p>Machines run on whichever exchange is \
             active.</p>\n</html>\n"
        );
        HttpResponse::ServiceUnavailable()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::RETRY_AFTER, "5"))
            .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"))
            .content_type("text/html; charset=utf-8")
            .body(body)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
