//! Talking to an entity or to the cell. A line means what `line.rs` says; it runs the same command as a form or a button would,
//! and the answer comes back as a line of chat to the session that wrote.
//!
//! ```text
//!   destructive line --> asked, with a code --confirm CODE within 60 s--> run
//! ```

use super::{
    Exchange, adhoc, disco,
    line::{self, Line},
    reply::Refused,
    sentence, words,
    xml::Xml,
};
use crate::{server::handler::Stanza, server::session::Session};
use archipel_contract::{
    Effect, Entity, EntityId, Fault, Kind, Millis, Role,
    access::authorise,
    catalog::CommandEntry,
    port::{Address, Request},
};
use minidom::Element;
use std::{collections::HashMap, sync::Arc};

const RECEIPTS: &str = "urn:xmpp:receipts";
/// How long a confirmation code is good for.
const CODE_LIFETIME: Millis = Millis::seconds(60);
/// Lines a person may write in a second, and at once.
const RATE: u64 = 5;
/// The most people and questions that are remembered.
const MAX_REMEMBERED: usize = 4096;
/// The longest line that is read, in bytes.
const MAX_LINE: usize = 4096;

struct Question {
    code: String,
    request: Request,
    asked: Millis,
}

/// A bucket of lines: it fills with [`RATE`] a second.
struct Bucket {
    milli_lines: u64,
    at: Millis,
    /// Whether they were told that they are too fast.
    told: bool,
}

/// Open questions and how fast people write.
#[derive(Default)]
pub(crate) struct Talks {
    /// By the full JID that was asked and the entity it is about.
    questions: HashMap<(String, Option<EntityId>), Question>,
    buckets: HashMap<String, Bucket>,
}

/// Whether a line may be answered.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    Fine,
    /// Too fast, and they are to be told.
    Tell,
    /// Too fast, and they know.
    Silent,
}

impl Talks {
    fn pace(&mut self, who: &str, now: Millis) -> Pace {
        let full = RATE * 1000;
        if self.buckets.len() >= MAX_REMEMBERED {
            self.buckets.retain(|_, b| now.0.saturating_sub(b.at.0) < 1000);
        }
        let bucket = self.buckets.entry(who.to_owned()).or_insert(Bucket { milli_lines: full, at: now, told: false });
        bucket.milli_lines = (bucket.milli_lines + now.0.saturating_sub(bucket.at.0) * RATE).min(full);
        bucket.at = now;
        if bucket.milli_lines >= 1000 {
            bucket.milli_lines -= 1000;
            bucket.told = false;
            return Pace::Fine;
        }
        if std::mem::replace(&mut bucket.told, true) { Pace::Silent } else { Pace::Tell }
    }

    fn ask(&mut self, who: String, about: Option<EntityId>, request: Request, now: Millis) -> String {
        self.questions.retain(|_, q| now.0.saturating_sub(q.asked.0) < CODE_LIFETIME.0);
        let code = code();
        if self.questions.len() < MAX_REMEMBERED {
            self.questions.insert((who, about), Question { code: code.clone(), request, asked: now });
        }
        code
    }

    /// Forgets what a session was asked.
    pub(super) fn close(&mut self, who: &str) {
        self.questions.retain(|(asked, _), _| asked != who);
    }

    fn confirm(&mut self, who: String, about: Option<EntityId>, code: &str, now: Millis) -> Result<Request, Fault> {
        let key = (who, about);
        let question = self.questions.get(&key).filter(|q| now.0.saturating_sub(q.asked.0) < CODE_LIFETIME.0);
        match question {
            None => Err(Fault::invalid("there is nothing to confirm here, or more than 60 seconds went by; write the command again")),
            Some(q) if q.code != code => Err(Fault::invalid(format!("that is not the code; write confirm {}", q.code))),
            Some(_) => self.questions.remove(&key).map(|q| q.request).ok_or_else(|| Fault::internal("the question is gone")),
        }
    }
}

/// Four characters that cannot be confused. It guards against slips, not against attackers: whoever could guess it may as well
/// read it.
fn code() -> String {
    const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    uuid::Uuid::new_v4().as_bytes()[..4].iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect()
}

/// Where a line of chat came from and where its answer goes.
#[derive(Clone)]
struct Talk {
    session: Arc<Session>,
    /// The address that was written to.
    with: String,
    thread: Option<String>,
}

impl Talk {
    fn say(&self, text: &str) {
        let mut xml = Xml::stanza("message");
        xml.attr("type", "chat")
            .attr("id", &uuid::Uuid::new_v4().to_string())
            .attr("from", &self.with)
            .attr("to", &self.session.jid().to_string());
        if let Some(thread) = &self.thread {
            xml.leaf("thread", thread);
        }
        xml.leaf("body", text);
        self.send(xml);
    }

    fn received(&self, id: &str) {
        let mut xml = Xml::stanza("message");
        xml.attr("type", "chat").attr("from", &self.with).attr("to", &self.session.jid().to_string());
        xml.open_ns("received", RECEIPTS).attr("id", id);
        self.send(xml);
    }

    fn send(&self, xml: Xml) {
        if self.session.send(Stanza::from(xml.finish())).is_err() {
            tracing::debug!(to = %self.session.jid(), "a line of chat was dropped because the queue is full");
        }
    }
}

impl Exchange {
    /// A message to the cell (`entity` is `None`) or to an entity.
    pub(super) fn on_chat(self: &Arc<Self>, session: &Arc<Session>, role: Role, entity: Option<Arc<Entity>>, message: &Element) {
        match message.attr("type").unwrap_or("normal") {
            "chat" | "normal" => {}
            // There is no room to enter here; headlines and errors want no answer.
            "groupchat" => return self.bounce(session, message, Refused::ServiceUnavailable, None),
            _ => return,
        }
        // Typing notifications, receipts and markers have no body.
        let Some(body) = message.get_child("body", "jabber:client").map(Element::text) else { return };
        let Some(with) = message.attr("to").map(str::to_owned) else { return };
        let thread = message.get_child("thread", "jabber:client").map(Element::text);
        let talk = Talk { session: session.clone(), with, thread };
        let now = self.clock.monotonic();
        let who = session.jid().to_bare().to_string();
        let pace = self.chat.lock().pace(&who, now);
        match pace {
            Pace::Fine => {}
            Pace::Tell => {
                return self.bounce(session, message, Refused::ResourceConstraint, Some("not so fast: at most 5 lines a second"));
            }
            Pace::Silent => return,
        }
        if let Some(id) = message.attr("id").filter(|_| message.has_child("request", RECEIPTS)) {
            talk.received(id);
        }
        if message.has_child("encrypted", "eu.siacs.conversations.axolotl") {
            return talk.say("this message is encrypted with OMEMO, which a machine cannot read; turn it off for this contact");
        }
        let entity = entity.as_deref();
        let kind = entity.map(Entity::kind);
        let commands: Vec<&'static CommandEntry> = self.catalog.of_target(disco::target_of(kind)).collect();
        let help = |verb: Option<&str>| line::help(kind, entity, &commands, role, verb, |c| adhoc::refusal(c, entity));
        if body.len() > MAX_LINE {
            return talk.say(&format!("this line is too long; {} bytes are read at most", MAX_LINE));
        }
        match line::read(&body, kind, &commands) {
            Line::Help(verb) => talk.say(&help(verb.as_deref())),
            Line::Unknown(verb) => talk.say(&format!("{verb:?} is not understood here\n{}", help(None))),
            Line::Wrong(fault) => talk.say(&sentence(&fault)),
            Line::Status => talk.say(&self.status(entity)),
            Line::OnHost => talk.say(&self.on_host(entity)),
            Line::Confirm(code) => {
                let confirmed = self.chat.lock().confirm(session.jid().to_string(), entity.map(|e| e.id.clone()), &code, now);
                match confirmed {
                    Ok(request) => self.say_outcome(talk, request),
                    Err(fault) => talk.say(&sentence(&fault)),
                }
            }
            Line::Command(entry, arguments) => {
                let request = self.request(session, role, entity.map(|e| &e.id), &entry.name, arguments.into(), None);
                if let Err(fault) = authorise(&request.caller, &entry.name, entry.access) {
                    return talk.say(&sentence(&fault));
                }
                if let Some(reason) = adhoc::refusal(entry, entity) {
                    return talk.say(&reason);
                }
                if entry.effect == Effect::Destroy {
                    let name = entity.map_or(self.cell.as_str(), |e| &*e.name).to_owned();
                    let code = self.chat.lock().ask(session.jid().to_string(), entity.map(|e| e.id.clone()), request, now);
                    return talk.say(&format!(
                        "{} {name}? {}\nwrite confirm {code} within 60 seconds",
                        entry.verb.replace('-', " "),
                        entry.description
                    ));
                }
                self.say_outcome(talk, request);
            }
        }
    }

    fn say_outcome(self: &Arc<Self>, talk: Talk, request: Request) {
        let session = talk.session.id();
        let told = talk.clone();
        debug_assert!(matches!(request.target, Address::Cell | Address::Entity(_)));
        let started = self.run(session, request, move |outcome| match outcome {
            Ok(value) => told.say(&words::answer(&value)),
            Err(fault) => told.say(&sentence(&fault)),
        });
        if let Err(fault) = started {
            talk.say(&sentence(&fault));
        }
    }

    fn status(&self, entity: Option<&Entity>) -> String {
        if let Some(entity) = entity {
            return words::standing(entity);
        }
        let table = self.locations.read();
        let mut lines = vec![format!("cell {}, Archipel {}", self.cell, self.version)];
        for kind in Kind::ALL {
            let mut states: std::collections::BTreeMap<&str, usize> = Default::default();
            for entity in table.of_kind(kind) {
                *states.entry(entity.state()).or_default() += 1;
            }
            if states.is_empty() {
                continue;
            }
            let counts: Vec<String> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
            lines.push(format!("{}: {}", kind.name().replace('-', " "), counts.join(", ")));
        }
        lines.join("\n")
    }

    fn on_host(&self, entity: Option<&Entity>) -> String {
        let Some(entity) = entity else { return String::new() };
        let machines = self.select(Kind::Domain, None, Some(entity.host.as_str()), None);
        words::answer(&serde_json::to_value(machines).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_lines_a_second_and_one_warning() {
        let mut talks = Talks::default();
        let paces: Vec<Pace> = (0..8).map(|_| talks.pace("a@c", Millis(0))).collect();
        assert!(paces[..5].iter().all(|p| *p == Pace::Fine));
        assert_eq!(paces[5..], [Pace::Tell, Pace::Silent, Pace::Silent]);
        assert_eq!(talks.pace("b@c", Millis(0)), Pace::Fine);
        assert_eq!(talks.pace("a@c", Millis(200)), Pace::Fine);
        assert_eq!(talks.pace("a@c", Millis(201)), Pace::Tell);
    }
}
