//! From the first byte to a bound resource, or to a refusal.
//!
//! ```text
//!   header --> features(starttls, mechanisms) --starttls--> TLS --> header (again, now protected)
//!                |                    --auth/response--> SASL --success--> header --> features(bind, sm, ...)
//!                |                                                                        | bind -> new session
//!                |                    --join--> a certificate, or why not                 | resume -> old session
//!                |                                                                        | carry  -> handed over as it is
//!                +-- anything else: a stream error, and only this stream ends
//! ```
//! All of it is on one clock: whoever is not through in time is shown out.

use super::config::Peer;
use super::join;
use super::metrics::METRICS;
use super::opening::{failed, footer, header, random_hex, refusal};
use super::registry::Bind;
use super::session::{Session, Transport};
use super::{Berth, Server, StreamCondition};
use crate::sasl::{Identity, Login, Step};
use crate::stanza::carriage;
use crate::stream::wire::{self, ReadError, Reader, Writer};
use crate::stream::{Header, Piece, StreamError, escape_into, ns, write_element};
use archipel_contract::port::AccountKind;
use minidom::Element;
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, watch};

/// A connection that has a session.
pub(super) struct Bound {
    pub(super) session: Arc<Session>,
    /// Which of the session's connections this is.
    pub(super) number: u64,
    /// Held until the connection has done its last deed.
    pub(super) attachment: OwnedMutexGuard<()>,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) transport: Transport,
}

/// What a negotiation leads to.
enum Way {
    /// A session, which of its connections this is, and what is held until that has done its last deed.
    Session(Arc<Session>, u64, OwnedMutexGuard<()>),
    /// Bytes for somebody else.
    Carriage(Berth),
}

/// How a negotiation ends without either.
enum Stop {
    /// The peer is told why.
    Error(StreamError),
    /// The peer closed the stream.
    Closed,
    /// There is nobody to tell.
    Gone,
}

impl From<StreamError> for Stop {
    fn from(error: StreamError) -> Stop {
        Stop::Error(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Stop {
        Stop::Gone
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        match error {
            ReadError::Stream(error) => Stop::Error(error),
            ReadError::End | ReadError::Io(_) => Stop::Gone,
        }
    }
}

fn error(condition: StreamCondition, text: impl Into<String>) -> Stop {
    Stop::Error(StreamError::new(condition, text))
}

/// One connection on its way in.
pub(super) struct Negotiation {
    server: Arc<Server>,
    /// Absent only while TLS takes the place of the plain connection, and when it failed to.
    wire: Option<(Reader, Writer)>,
    peer: Peer,
    transport: Transport,
    /// Too many others are waiting.
    full: bool,
    stopping: watch::Receiver<bool>,
    /// TLS was negotiated on this stream.
    protected: bool,
    /// A host that is no member yet may hand in a token: the stream is in TLS 1.3, and we have an authority.
    joinable: bool,
    /// We have sent our header for the current stream.
    opened: bool,
    who: Option<Identity>,
    login: Login,
}

impl Negotiation {
    pub(super) fn new(
        server: Arc<Server>,
        reader: Reader,
        writer: Writer,
        peer: Peer,
        transport: Transport,
        full: bool,
        stopping: watch::Receiver<bool>,
    ) -> Negotiation {
        let login = Login::new(server.gate.clone(), peer.host.clone(), peer.secure);
        Negotiation {
            server,
            wire: Some((reader, writer)),
            peer,
            transport,
            full,
            stopping,
            protected: false,
            joinable: false,
            opened: false,
            who: None,
            login,
        }
    }

    /// Answers the session's connection, or nothing when the stream is over (and was closed properly).
    pub(super) async fn run(mut self) -> Option<Bound> {
        let limit = self.server.config.limits.time_to_log_in;
        let mut stopping = self.stopping.clone();
        let stop = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => error(StreamCondition::SystemShutdown, ""),
            ended = tokio::time::timeout(limit, self.negotiate()) => match ended {
                Ok(Ok(Way::Carriage(berth))) => {
                    let (reader, writer) = self.wire?;
                    // Whoever waited may have given up meanwhile; then the connection ends.
                    let _ = berth.send(wire::release(reader, writer)?);
                    return None;
                }
                Ok(Ok(Way::Session(session, number, attachment))) => {
                    let (reader, writer) = self.wire?;
                    return Some(Bound { session, number, attachment, reader, writer, transport: self.transport });
                }
                Ok(Err(stop)) => stop,
                Err(_) => error(StreamCondition::ConnectionTimeout, "you did not log in in time"),
            },
        };
        let farewell = self.server.config.limits.farewell;
        // A peer that does not even read its dismissal is left alone.
        let _ = tokio::time::timeout(farewell, self.dismiss(stop)).await;
        None
    }

    async fn dismiss(&mut self, stop: Stop) {
        let mut text = String::new();
        let Some((reader, writer)) = self.wire.as_mut() else { return };
        let framed = reader.is_framed();
        match stop {
            Stop::Gone => return,
            Stop::Closed => {}
            Stop::Error(error) => {
                self.server.refused(error.condition);
                tracing::info!(peer = self.peer.name, %error, "stream refused");
                if !self.opened {
                    let Ok(header) = header(&self.server.config.cell, framed) else { return };
                    text.push_str(&header);
                    if framed && writer.write(&std::mem::take(&mut text)).await.is_err() {
                        return;
                    }
                }
                text.push_str(&error.to_xml());
                if framed && writer.write(&std::mem::take(&mut text)).await.is_err() {
                    return;
                }
            }
        }
        text.push_str(footer(framed));
        if writer.write(&text).await.is_ok() {
            writer.shutdown().await;
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), Stop> {
        match self.wire.as_mut() {
            Some((_, writer)) => Ok(writer.write(text).await?),
            None => Err(Stop::Gone),
        }
    }

    async fn negotiate(&mut self) -> Result<Way, Stop> {
        if self.full {
            return Err(error(StreamCondition::ResourceConstraint, "too many connections are logging in; try again in a while"));
        }
        loop {
            let piece = match self.wire.as_mut() {
                Some((reader, _)) => reader.next().await?,
                None => return Err(Stop::Gone),
            };
            match piece {
                Piece::Open(header) => self.open(&header).await?,
                Piece::Close => return Err(Stop::Closed),
                Piece::Element(_) if !self.opened => {
                    return Err(error(StreamCondition::BadFormat, "the stream must be opened first"));
                }
                Piece::Element(element) => match self.who.clone() {
                    None => self.before_login(&element).await?,
                    Some(who) => {
                        if let Some(bound) = self.after_login(&who, &element).await? {
                            return Ok(bound);
                        }
                    }
                },
            }
        }
    }

    /// The peer's header: checked, and answered with ours and the features in one write.
    async fn open(&mut self, theirs: &Header) -> Result<(), Stop> {
        if self.opened {
            return Err(error(StreamCondition::BadFormat, "the stream is open already"));
        }
        let cell = &self.server.config.cell;
        if theirs.to.as_ref().is_some_and(|to| !to.eq_ignore_ascii_case(cell)) {
            return Err(error(StreamCondition::HostUnknown, format!("this server serves {cell}")));
        }
        let supported = theirs.version.as_deref().and_then(|v| v.split('.').next()).and_then(|v| v.parse::<u32>().ok()).unwrap_or(0) >= 1;
        if !supported {
            return Err(error(StreamCondition::UnsupportedVersion, "this server speaks XMPP 1.0"));
        }
        let framed = self.transport == Transport::WebSocket;
        let mut text = header(cell, framed).map_err(|_| error(StreamCondition::InternalServerError, "no random numbers"))?;
        if framed {
            self.write(&text).await?;
            text.clear();
        }
        text.push_str("<stream:features xmlns:stream='http://etherx.jabber.org/streams'>");
        match &self.who {
            None => {
                if !framed && !self.peer.may_log_in() && !self.tls_possible() {
                    return Err(error(StreamCondition::PolicyViolation, "this server has no certificate and serves only its own machine"));
                }
                if framed && !self.peer.may_log_in() {
                    return Err(error(StreamCondition::PolicyViolation, "a login over an open network needs https"));
                }
                if self.tls_possible() {
                    let required = if self.peer.may_log_in() { "" } else { "<required/>" };
                    text.push_str(&format!("<starttls xmlns='{}'>{required}</starttls>", ns::TLS));
                }
                if self.peer.may_log_in() {
                    text.push_str(&self.login.mechanisms());
                }
                if self.joinable {
                    text.push_str(&join::feature());
                }
            }
            Some(who) => {
                if who.kind == AccountKind::Node {
                    text.push_str(&carriage::feature());
                }
                text.push_str(&format!("<bind xmlns='{}'/>", ns::BIND));
                text.push_str(&format!("<session xmlns='{}'><optional/></session>", ns::SESSION));
                text.push_str(&format!("<sm xmlns='{}'/>", ns::SM));
                for feature in &self.server.config.features {
                    text.push_str(feature);
                }
            }
        }
        text.push_str("</stream:features>");
        self.opened = true;
        self.write(&text).await
    }

    fn tls_possible(&self) -> bool {
        self.server.config.tls.is_some() && !self.protected && !self.peer.secure && self.transport != Transport::WebSocket
    }

    async fn before_login(&mut self, element: &Element) -> Result<(), Stop> {
        if element.is("starttls", ns::TLS) && self.tls_possible() {
            return self.start_tls().await;
        }
        if self.joinable && join::is(element) {
            let tls = self.server.config.tls.clone();
            let Some(members) = tls.as_ref().and_then(|tls| tls.members()) else { return Err(Stop::Gone) };
            let answer = join::answer(members, &self.server.gate, &self.peer.host, element).await;
            let mut text = String::new();
            write_element(&mut text, &answer);
            return self.write(&text).await;
        }
        if !Login::is_sasl(element) || !self.peer.may_log_in() {
            return Err(error(StreamCondition::NotAuthorized, "log in first"));
        }
        match self.login.step(element).await {
            Step::Challenge(text) => self.write(&text).await,
            Step::Failure(text, failure) => {
                METRICS.login_failures.with_label_values(&[failure.name()]).inc();
                self.write(&text).await
            }
            Step::Success(text, identity) => {
                let bounds = match identity.kind {
                    AccountKind::Person(_) => self.server.config.limits.person,
                    AccountKind::Node => self.server.config.limits.node,
                };
                self.who = Some(identity);
                self.opened = false;
                if let Some((reader, _)) = self.wire.as_mut() {
                    reader.restart(bounds);
                }
                self.write(&text).await
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), Stop> {
        let Some(tls) = self.server.config.tls.clone() else { return Err(Stop::Gone) };
        let Some((reader, mut writer)) = self.wire.take() else { return Err(Stop::Gone) };
        writer.write(&format!("<proceed xmlns='{}'/>", ns::TLS)).await?;
        // Anything that came in plain text behind <starttls/> would be taken for protected; such a peer is attacked or broken.
        let io = wire::reunite(reader, writer).ok_or(Stop::Gone)?;
        let io = tls.acceptor().accept(io).await?;
        let (_, connection) = io.get_ref();
        let modern = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let certificate = connection.peer_certificates().and_then(|chain| chain.first().cloned()).filter(|_| modern);
        self.wire = Some(wire::over_bytes(Box::new(io), self.server.config.limits.before_login));
        self.protected = true;
        self.opened = false;
        self.peer.secure = true;
        self.login = Login::new(self.server.gate.clone(), self.peer.host.clone(), true);
        if let Some(members) = tls.members().filter(|_| modern) {
            self.joinable = true;
            if let Some(certificate) = certificate {
                let login = Login::new(self.server.gate.clone(), self.peer.host.clone(), true);
                self.login = login.with_certificate(members.clone(), certificate);
            }
        }
        Ok(())
    }

    async fn after_login(&mut self, who: &Identity, element: &Element) -> Result<Option<Way>, Stop> {
        if who.kind == AccountKind::Node
            && let Some(carriage) = carriage::asked(element)
        {
            let berth = self.server.handler.berth(&who.local, carriage);
            let berth = berth.ok_or_else(|| error(StreamCondition::PolicyViolation, "nobody waits for that carriage, or not any more"))?;
            self.write(&carriage::carried()).await?;
            return Ok(Some(Way::Carriage(berth)));
        }
        if element.is("resume", ns::SM) {
            return self.resume(who, element).await;
        }
        if element.is("enable", ns::SM) {
            self.write(&failed("unexpected-request")).await?;
            return Ok(None);
        }
        match element.get_child("bind", ns::BIND) {
            Some(bind) if element.is("iq", ns::CLIENT) && element.attr("type") == Some("set") => self.bind(who, element, bind).await,
            _ => Err(error(StreamCondition::NotAuthorized, "bind a resource first")),
        }
    }

    async fn bind(&mut self, who: &Identity, iq: &Element, bind: &Element) -> Result<Option<Way>, Stop> {
        let id = iq.attr("id").unwrap_or_default().to_owned();
        let wish = bind.get_child("resource", ns::BIND).map(Element::text).filter(|r| !r.is_empty());
        let random = || random_hex(8).map_err(|_| error(StreamCondition::InternalServerError, "no random numbers"));
        let mut resource = match &wish {
            Some(wish) => wish.clone(),
            None => random()?,
        };
        loop {
            let Ok(jid) = jid::FullJid::new(&format!("{}@{}/{resource}", who.local, self.server.config.cell)) else {
                self.write(&refusal(&id, "modify", "bad-request", "that resource cannot be part of an address")).await?;
                return Ok(None);
            };
            let limits = &self.server.config.limits;
            match self.server.registry.bind(who, &jid, limits.sessions_per_account, limits.queue, self.transport, &self.peer.name) {
                Bind::Bound(session, attachment) => {
                    let mut xml = String::from("<iq xmlns='jabber:client' type='result' id='");
                    escape_into(&mut xml, &id);
                    xml.push_str(&format!("'><bind xmlns='{}'><jid>", ns::BIND));
                    escape_into(&mut xml, jid.as_str());
                    xml.push_str("</jid></bind></iq>");
                    session.plain(xml);
                    tracing::info!(session = session.id(), %jid, peer = self.peer.name, transport = self.transport.name(), "session opened");
                    // From the binding to here nothing waits, so nothing can tear the handler's first call from its last.
                    self.server.handler.opened(&session);
                    return Ok(Some(Way::Session(session, 0, attachment)));
                }
                Bind::Taken(holder) if who.kind == AccountKind::Node => evict(&self.server, &holder).await,
                // Who is here goes before who may come back: a page loaded a hundred times must not lock its user out.
                Bind::Crowded(oldest) => evict(&self.server, &oldest).await,
                Bind::Taken(_) => resource = format!("{}-{}", wish.as_deref().unwrap_or("r"), random()?),
                Bind::TooMany => {
                    self.write(&refusal(&id, "wait", "resource-constraint", "this account has too many sessions; close some")).await?;
                    return Ok(None);
                }
            }
        }
    }

    async fn resume(&mut self, who: &Identity, element: &Element) -> Result<Option<Way>, Stop> {
        let h = element.attr("h").and_then(|h| h.parse::<u32>().ok());
        let session = element.attr("previd").and_then(|id| self.server.registry.find_resumable(id, who));
        if let (Some(h), Some(session)) = (h, session)
            && let Some(claim) = Claim::new(&self.server, &session)
        {
            let attachment = session.attachment.clone().lock_owned().await;
            if session.attach(claim.number, h, self.transport, self.peer.name.clone()).is_some() {
                let number = claim.keep();
                METRICS.resumptions.with_label_values(&["resumed"]).inc();
                tracing::info!(session = session.id(), jid = %session.jid(), peer = self.peer.name, "session resumed");
                self.server.handler.resumed(&session);
                return Ok(Some(Way::Session(session, number, attachment)));
            }
        }
        METRICS.resumptions.with_label_values(&["failed"]).inc();
        self.write(&failed("item-not-found")).await?;
        Ok(None)
    }
}

/// Ends a session to make room: an agent that comes back takes its own place, whatever became of the connection it had, and a
/// new session of a crowded account that of one which nobody came back to.
async fn evict(server: &Arc<Server>, holder: &Arc<Session>) {
    let claim = Claim::new(server, holder);
    let _attachment = holder.attachment.lock().await;
    drop(claim);
    // One that was ending already, and that nobody is attached to any more.
    if holder.finish(None) {
        server.retire(holder);
    }
}

/// A successor's right to a session: taken from whoever has it. If it is not kept, not even because the successor itself
/// went away while it waited, the session ends; otherwise nobody would ever guard it again.
struct Claim {
    server: Arc<Server>,
    session: Arc<Session>,
    number: u64,
    kept: bool,
}

impl Claim {
    fn new(server: &Arc<Server>, session: &Arc<Session>) -> Option<Claim> {
        session.supersede().map(|number| Claim { server: server.clone(), session: session.clone(), number, kept: false })
    }

    fn keep(mut self) -> u64 {
        self.kept = true;
        self.number
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept && self.session.finish(Some(self.number)) {
            self.server.retire(&self.session);
        }
    }
}
