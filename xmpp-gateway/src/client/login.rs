//! From fresh bytes to a bound stream: header, TLS, SASL, binding, stream management.
//!
//! ```text
//!   header --> features --> [starttls --> TLS --> header --> features] --> SASL --> header --> features
//!                                                                                               |
//!                       +----------------------------- resume known? ---------------------------+
//!                       v yes                                                                   v no
//!                    <resume/> --> <resumed/>: the old session goes on          bind --> <enable/> --> <enabled/>
//!                       |                                                                       ^
//!                       +--> <failed/>: ---------------------------------------------------------+
//! ```

use super::Config;
use super::auth::authenticate;
use super::tls::{self, Shows};
use super::transport::Connected;
use crate::ns;
use crate::sm::Ledger;
use crate::stanza::{self, IqKind, fault, set_attr, text_element};
use crate::stream::wire::{BoxedIo, ReadError, Reader, Writer, over_bytes, release, reunite};
use crate::stream::{Piece, Stanza, escape_into, write_element};
use archipel_contract::{Fault, FaultKind};
use minidom::Element;
use parking_lot::Mutex;
use rxml::xml_ncname;
use std::sync::Arc;

/// A managed session that outlives its connection (XEP-0198).
#[derive(Clone)]
pub(super) struct Managed {
    /// The session's id at the server; `None` when it cannot be resumed.
    pub(super) id: Option<String>,
    /// Who has what.
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

/// A stream that is ready for stanzas.
pub(super) struct Attached {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// The full JID the server bound.
    pub(super) jid: String,
    pub(super) managed: Option<Managed>,
    /// Whether the session before went on.
    pub(super) resumed: bool,
}

/// The text of a fault about a connection that ended.
pub(super) fn ended(server: &str, error: &ReadError) -> Fault {
    Fault::unavailable(format!("the connection to {server} ended")).because(error)
}

/// What a stream error means.
pub(super) fn stream_error(server: &str, element: &Element) -> Fault {
    let condition = element.children().find(|c| c.ns() == ns::STREAM_ERRORS && c.name() != "text");
    let text = element.get_child("text", ns::STREAM_ERRORS).map(Element::text).unwrap_or_default();
    let name = condition.map_or("an error without a name", Element::name);
    let kind = match name {
        "conflict" => FaultKind::Conflict,
        "not-authorized" | "policy-violation" => FaultKind::Forbidden,
        "host-unknown" => FaultKind::NotFound,
        _ => FaultKind::Unavailable,
    };
    let message = match name {
        "conflict" if text.is_empty() => format!("{server} closed this stream because another one took its resource"),
        "host-unknown" => format!("{server} does not serve that domain; check the JID"),
        _ => format!("{server} closed the stream: {name}"),
    };
    let fault = Fault::new(kind, message);
    if text.is_empty() { fault } else { fault.because(text) }
}

/// A stream while it is negotiated: strictly question and answer.
pub(super) struct Talk<'a> {
    pub(super) config: &'a Config,
    reader: Reader,
    writer: Writer,
}

impl Talk<'_> {
    pub(super) fn server(&self) -> &str {
        self.config.connector.name()
    }

    async fn write(&mut self, text: &str) -> Result<(), Fault> {
        self.writer
            .write(text)
            .await
            .map_err(|e| Fault::unavailable(format!("the connection to {} broke", self.config.connector.name())).because(e))
    }

    pub(super) async fn send(&mut self, element: &Element) -> Result<(), Fault> {
        let mut text = String::new();
        write_element(&mut text, element);
        self.write(&text).await
    }

    pub(super) async fn element(&mut self) -> Result<Element, Fault> {
        loop {
            match self.reader.next().await {
                Ok(Piece::Element(element)) if element.is("error", ns::STREAM) => return Err(stream_error(self.server(), &element)),
                Ok(Piece::Element(element)) => return Ok(element),
                Ok(Piece::Open(_)) => {}
                Ok(Piece::Close) => return Err(Fault::unavailable(format!("{} closed the stream", self.server()))),
                Err(error) => return Err(ended(self.server(), &error)),
            }
        }
    }

    /// Opens (or restarts) the stream and answers its features.
    async fn open(&mut self) -> Result<Element, Fault> {
        let mut header = format!("<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' version='1.0'", ns::CLIENT, ns::STREAM);
        // Whoever joins learns the domain only then.
        if !self.config.domain.is_empty() {
            header.push_str(" to='");
            escape_into(&mut header, &self.config.domain);
            header.push('\'');
        }
        header.push('>');
        self.write(&header).await?;
        let features = self.element().await?;
        if features.is("features", ns::STREAM) {
            Ok(features)
        } else {
            Err(Fault::unavailable(format!(
                "{} does not speak XMPP as a server does: <{}/> came instead of features",
                self.server(),
                features.name()
            )))
        }
    }
}

/// A protected stream, with what the server offers on it.
async fn protected(config: &Config) -> Result<(Talk<'_>, Element), Fault> {
    let Connected { io, private } = config.connector.connect().await?;
    let (reader, writer) = over_bytes(io, config.bounds);
    let mut talk = Talk { config, reader, writer };
    let mut features = talk.open().await?;
    let offered = features.get_child("starttls", ns::TLS);
    let required = offered.is_some_and(|s| s.has_child("required", ns::TLS));
    let trust = config.connector.trust();
    let shows = config.connector.shows();
    let wanted = !private || required || !matches!(shows, Shows::Nothing) || trust.as_ref().is_some_and(|t| t.insists());
    if wanted {
        if offered.is_none() {
            return Err(Fault::new(
                FaultKind::Forbidden,
                format!("{} offers no TLS and is not on this machine; nothing secret is sent to it", talk.server()),
            ));
        }
        let trust = trust.ok_or_else(|| {
            Fault::new(FaultKind::Forbidden, format!("{} wants TLS and there is no fingerprint to know it by", config.connector.name()))
        })?;
        talk = starttls(talk, trust, &shows).await?;
        features = talk.open().await?;
    }
    Ok((talk, features))
}

/// Asks one thing of a server without logging in. The caller sets the deadline.
pub(crate) async fn ask_before_login(config: &Config, iq: &Element) -> Result<Element, Fault> {
    let (mut talk, features) = protected(config).await?;
    if !features.has_child("join", ns::JOIN) {
        let message = format!("{} is no exchange that hosts can join; check the address, and the version there", talk.server());
        return Err(Fault::new(FaultKind::Unsupported, message));
    }
    talk.send(iq).await?;
    let answer = talk.element().await?;
    // The answer is there; whether the goodbye arrives does not matter.
    let _ = talk.write("</stream:stream>").await;
    Ok(answer)
}

/// Does all of it. The caller sets the deadline.
pub(super) async fn attach(config: &Config, before: Option<(&Managed, &str)>) -> Result<Attached, Fault> {
    let (mut talk, features) = protected(config).await?;
    authenticate(&mut talk, &features).await?;
    talk.reader.restart(config.bounds);
    let features = talk.open().await?;
    let can_manage = config.managed && features.has_child("sm", ns::SM);
    if let Some((managed, jid)) = before
        && can_manage
        && let Some(id) = &managed.id
        && resume(&mut talk, managed, id).await?
    {
        let jid = jid.to_owned();
        return Ok(Attached { reader: talk.reader, writer: talk.writer, jid, managed: Some(managed.clone()), resumed: true });
    }
    let jid = bind(&mut talk).await?;
    let managed = if can_manage { enable(&mut talk).await? } else { None };
    Ok(Attached { reader: talk.reader, writer: talk.writer, jid, managed, resumed: false })
}

/// Logs in and asks for a carriage instead of a resource: from then on the connection is bytes. The caller sets the deadline.
pub(crate) async fn carriage(config: &Config, id: &str) -> Result<BoxedIo, Fault> {
    let (mut talk, features) = protected(config).await?;
    authenticate(&mut talk, &features).await?;
    talk.reader.restart(config.bounds);
    if !talk.open().await?.has_child("carry", ns::CARRIAGE) {
        let message = format!("{} takes no carriages; it is of an older version", talk.server());
        return Err(Fault::new(FaultKind::Unsupported, message));
    }
    talk.send(&stanza::carriage::ask(id)).await?;
    let answer = talk.element().await?;
    if !answer.is("carried", ns::CARRIAGE) {
        return Err(Fault::unavailable(format!("{} answered a carriage with <{}/>", talk.server(), answer.name())));
    }
    release(talk.reader, talk.writer).ok_or_else(|| Fault::internal("a carriage cannot go over a WebSocket"))
}

async fn starttls<'a>(mut talk: Talk<'a>, trust: Arc<dyn tls::Trust>, shows: &Shows) -> Result<Talk<'a>, Fault> {
    talk.send(&Element::bare("starttls", ns::TLS)).await?;
    let answer = talk.element().await?;
    let server = talk.server().to_owned();
    if !answer.is("proceed", ns::TLS) {
        return Err(Fault::unavailable(format!("{server} refused to begin TLS")));
    }
    let io = reunite(talk.reader, talk.writer).ok_or_else(|| {
        Fault::new(FaultKind::Forbidden, format!("{server} sent plain text where TLS begins; somebody may have put it there"))
    })?;
    let host = server.rsplit_once(':').map_or(&*server, |(host, _)| host).trim_matches(['[', ']']);
    let name = if talk.config.domain.is_empty() { host } else { &talk.config.domain };
    let io = tls::upgrade(io, &server, name, trust, shows).await?;
    let (reader, writer) = over_bytes(io, talk.config.bounds);
    Ok(Talk { config: talk.config, reader, writer })
}

async fn bind(talk: &mut Talk<'_>) -> Result<String, Fault> {
    let mut bind = Element::bare("bind", ns::BIND);
    if let Some(resource) = &talk.config.resource {
        bind.append_child(text_element("resource", ns::BIND, resource));
    }
    talk.send(&stanza::iq(IqKind::Set, "bind", Some(bind))).await?;
    let answer = talk.element().await?;
    if IqKind::of(&answer) == Some(IqKind::Error) {
        return Err(fault::of_stanza(&answer));
    }
    answer
        .get_child("bind", ns::BIND)
        .and_then(|b| b.get_child("jid", ns::BIND))
        .map(Element::text)
        .ok_or_else(|| Fault::unavailable(format!("{} did not say which address it bound", talk.server())))
}

async fn enable(talk: &mut Talk<'_>) -> Result<Option<Managed>, Fault> {
    let mut enable = Element::bare("enable", ns::SM);
    set_attr(&mut enable, xml_ncname!("resume"), "true");
    talk.send(&enable).await?;
    let answer = talk.element().await?;
    if !answer.is("enabled", ns::SM) {
        // Management is a comfort; without it a cut means a new session.
        return Ok(None);
    }
    let resumable = matches!(answer.attr("resume"), Some("true" | "1"));
    let id = answer.attr("id").filter(|_| resumable).map(str::to_owned);
    Ok(Some(Managed { id, ledger: Arc::new(Mutex::new(Ledger::new(Default::default()))) }))
}

/// Tries to go on with the session before. What the server had not received is sent again, in order.
async fn resume(talk: &mut Talk<'_>, managed: &Managed, id: &str) -> Result<bool, Fault> {
    let mut resume = Element::bare("resume", ns::SM);
    set_attr(&mut resume, xml_ncname!("previd"), id);
    let handled = managed.ledger.lock().handled();
    set_attr(&mut resume, xml_ncname!("h"), &handled.to_string());
    talk.send(&resume).await?;
    let answer = talk.element().await?;
    let count = answer.attr("h").and_then(|h| h.parse().ok());
    let Some(count) = count.filter(|_| answer.is("resumed", ns::SM)) else { return Ok(false) };
    let again: Vec<Stanza> = {
        let mut ledger = managed.ledger.lock();
        let Ok(again) = ledger.resume(count) else {
            return Err(Fault::internal(format!("{} counted stanzas that were never sent", talk.server())));
        };
        // Counted before they are written, so that a cut in the middle cannot lose any.
        again.into_iter().inspect(|stanza| ledger.sent(stanza.clone())).collect()
    };
    let mut scratch = String::new();
    talk.writer
        .write_batch(again.iter(), &mut scratch)
        .await
        .map_err(|e| Fault::unavailable(format!("the connection to {} broke", talk.server())).because(e))?;
    Ok(true)
}
