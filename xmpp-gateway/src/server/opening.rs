//! What the server says while a stream is negotiated, and how it closes one.

use crate::stream::{escape_into, ns};

/// Our side of the stream's opening, with a fresh random id.
pub(super) fn header(cell: &str, framed: bool) -> Result<String, getrandom::Error> {
    let id = random_hex(16)?;
    let mut host = String::new();
    escape_into(&mut host, cell);
    Ok(if framed {
        format!("<open xmlns='{}' from='{host}' id='{id}' version='1.0' xml:lang='en'/>", ns::FRAMING)
    } else {
        format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' from='{host}' id='{id}' version='1.0' xml:lang='en'>",
            ns::CLIENT,
            ns::STREAMS
        )
    })
}

/// Our side of the stream's closing.
pub(super) fn footer(framed: bool) -> &'static str {
    if framed { "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>" } else { "</stream:stream>" }
}

/// Random bytes as text.
pub(super) fn random_hex(bytes: usize) -> Result<String, getrandom::Error> {
    let mut raw = vec![0u8; bytes];
    getrandom::fill(&mut raw)?;
    Ok(raw.iter().fold(String::with_capacity(2 * bytes), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Stream management refuses.
pub(super) fn failed(condition: &str) -> String {
    format!("<failed xmlns='{}'><{condition} xmlns='{}'/></failed>", ns::SM, ns::STANZA_ERRORS)
}

/// An `iq` is refused.
pub(super) fn refusal(id: &str, kind: &str, condition: &str, text: &str) -> String {
    let mut xml = String::from("<iq xmlns='jabber:client' type='error' id='");
    escape_into(&mut xml, id);
    xml.push_str(&format!("'><error type='{kind}'><{condition} xmlns='{}'/><text xmlns='{}'>", ns::STANZA_ERRORS, ns::STANZA_ERRORS));
    escape_into(&mut xml, text);
    xml.push_str("</text></error></iq>");
    xml
}
