//! What an agent asks of the cell's authority and of its documents: who owns which machine, and what is on the shelf.
//!
//! ```text
//!   agent                                            exchange
//!   claim {owner, domains <= 500}  ---- iq set ----> [OWNERSHIP], in the order of the question
//!   ownership {domain}             ---- iq get ----> OWNERSHIP or null
//!   ownerships {domains <= 500}    ---- iq get ----> [OWNERSHIP or null], in the order of the question
//!   step {domain, expected, step}  ---- iq set ----> OWNERSHIP afterwards
//!   forget {domain, expected}      ---- iq set ----> null
//!   parked {after}                 ---- iq get ----> {parked: [OWNERSHIP], more}
//!   document {key}                 ---- iq get ----> DOCUMENT or null
//!   documents {prefix, after}      ---- iq get ----> {documents: [DOCUMENT], more}
//!   write {key, expected, body}    ---- iq set ----> the version
//! ```
//! Each is one element of [`ns::AUTHORITY`] that holds one JSON object and nothing else; the answer is `<answer/>` with one JSON
//! value. Bodies of documents are base64: XML inside JSON inside XML would grow beyond any limit worth stating.

use super::{IqKind, json};
use crate::ns;
use archipel_contract::{DomainId, Epoch, Fault, HypervisorName, Ownership, OwnershipStep, port::Versioned};
use base64::{Engine, engine::general_purpose::STANDARD};
use minidom::Element;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The most machines in one `claim`, and the most rows of one answer.
pub const PAGE: usize = 500;
/// The largest document that travels over a link, in bytes: as base64 it fits a stanza of an agent, which may have a MiB.
pub const DOCUMENT_BYTES: usize = 512 * 1024;

/// Takes every machine nobody owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// For whom.
    pub owner: HypervisorName,
    /// Which; at most [`PAGE`].
    pub domains: Vec<DomainId>,
}

/// How one machine stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Which.
    pub domain: DomainId,
}

/// How several machines stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// Which; at most [`PAGE`].
    pub domains: Vec<DomainId>,
}

/// One change of an ownership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Whose.
    pub domain: DomainId,
    /// From which epoch.
    pub expected: Epoch,
    /// Which change.
    pub step: OwnershipStep,
}

/// Forgets a machine that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// Which.
    pub domain: DomainId,
    /// In which epoch.
    pub expected: Epoch,
}

/// A page of what is parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shelf {
    /// From the one after this one on.
    pub after: Option<DomainId>,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Its key.
    pub key: String,
}

/// A page of documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Browse {
    /// How their keys begin.
    pub prefix: String,
    /// From the one after this key on.
    #[serde(default)]
    pub after: Option<String>,
}

/// Writes a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Its key.
    pub key: String,
    /// The version it must have; none: there must be no document.
    pub expected: Option<u64>,
    /// What it shall be; none: it is removed.
    pub body: Option<Body>,
}

/// A document's bytes, base64 on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Body, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        if bytes.len() > DOCUMENT_BYTES {
            return Err(serde::de::Error::custom(format!("a document may have {DOCUMENT_BYTES} bytes here")));
        }
        Ok(Body(bytes))
    }
}

/// One document as an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: u64,
    /// What is in it.
    pub body: Body,
}

impl Document {
    /// As an answer; refused when it is too large to travel.
    pub fn of(key: String, document: Versioned) -> Result<Document, Fault> {
        fits(&key, &document.body)?;
        Ok(Document { key, version: document.version, body: Body(document.body) })
    }

    /// As its port has it.
    pub fn versioned(self) -> Versioned {
        Versioned { version: self.version, body: self.body.0 }
    }
}

/// Refuses what is too large for a link.
pub fn fits(key: &str, body: &[u8]) -> Result<(), Fault> {
    if body.len() <= DOCUMENT_BYTES {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "the document {key} has {} bytes and over a link it may have {DOCUMENT_BYTES}; make it smaller",
        body.len()
    )))
}

/// A page of documents as an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    /// By key.
    pub documents: Vec<Document>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A page of the shelf as an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    /// By id.
    pub parked: Vec<Ownership>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// What an agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Answered with the ownerships in the order of the question.
    Claim(Claim),
    /// Answered with an ownership or null.
    Ownership(Look),
    /// Answered with ownerships or nulls in the order of the question.
    Ownerships(Survey),
    /// Answered with the ownership afterwards.
    Step(Step),
    /// Answered with null.
    Forget(Forget),
    /// Answered with [`Parked`].
    Parked(Shelf),
    /// Answered with a [`Document`] or null.
    Document(Fetch),
    /// Answered with [`Documents`].
    Documents(Browse),
    /// Answered with the new version.
    Write(Write),
}

impl Ask {
    /// Whether an element belongs here.
    pub fn is(element: &Element) -> bool {
        element.ns() == ns::AUTHORITY
    }

    /// The kind of `iq` it travels in: what changes something is a `set`.
    pub fn kind(&self) -> IqKind {
        match self {
            Ask::Ownership(_) | Ask::Ownerships(_) | Ask::Parked(_) | Ask::Document(_) | Ask::Documents(_) => IqKind::Get,
            Ask::Claim(_) | Ask::Step(_) | Ask::Forget(_) | Ask::Write(_) => IqKind::Set,
        }
    }

    /// Reads the payload of an `iq` of this kind.
    pub fn parse(element: &Element, kind: IqKind) -> Result<Ask, Fault> {
        if !Ask::is(element) {
            return Err(Fault::invalid(format!("<{}/> is not of {}", element.name(), ns::AUTHORITY)));
        }
        let ask = match element.name() {
            "claim" => Ask::Claim(only(element)?),
            "ownership" => Ask::Ownership(only(element)?),
            "ownerships" => Ask::Ownerships(only(element)?),
            "step" => Ask::Step(only(element)?),
            "forget" => Ask::Forget(only(element)?),
            "parked" => Ask::Parked(only(element)?),
            "document" => Ask::Document(only(element)?),
            "documents" => Ask::Documents(only(element)?),
            "write" => Ask::Write(only(element)?),
            other => {
                return Err(Fault::invalid(format!(
                    "the authority of the cell answers no <{other}/> to an agent; nobody leads through a link"
                )));
            }
        };
        if ask.kind() != kind {
            return Err(Fault::invalid(format!("<{}/> is asked in an iq of type {}", element.name(), ask.kind().name())));
        }
        match &ask {
            Ask::Claim(claim) if claim.domains.len() > PAGE => {
                Err(Fault::invalid(format!("{} machines are claimed at once, and {PAGE} may be; claim them in parts", claim.domains.len())))
            }
            Ask::Ownerships(survey) if survey.domains.len() > PAGE => {
                Err(Fault::invalid(format!("{} machines are asked after at once, and {PAGE} may be; ask in parts", survey.domains.len())))
            }
            _ => Ok(ask),
        }
    }

    /// As the payload of an `iq`.
    pub fn print(&self) -> Element {
        match self {
            Ask::Claim(ask) => holding("claim", ask),
            Ask::Ownership(ask) => holding("ownership", ask),
            Ask::Ownerships(ask) => holding("ownerships", ask),
            Ask::Step(ask) => holding("step", ask),
            Ask::Forget(ask) => holding("forget", ask),
            Ask::Parked(ask) => holding("parked", ask),
            Ask::Document(ask) => holding("document", ask),
            Ask::Documents(ask) => holding("documents", ask),
            Ask::Write(ask) => holding("write", ask),
        }
    }
}

/// A good answer.
pub fn answer<T: Serialize>(value: &T) -> Element {
    holding("answer", value)
}

/// Reads a good answer.
pub fn answered<T: DeserializeOwned>(element: &Element) -> Result<T, Fault> {
    if !element.is("answer", ns::AUTHORITY) {
        return Err(Fault::invalid(format!("<{}/> is not an answer of the cell's authority", element.name())));
    }
    only(element)
}

fn holding<T: Serialize>(name: &str, value: &T) -> Element {
    let mut element = Element::bare(name, ns::AUTHORITY);
    element.append_child(json::print(value));
    element
}

/// The JSON in an element that holds nothing else.
fn only<T: DeserializeOwned>(element: &Element) -> Result<T, Fault> {
    let mut nodes = element.nodes();
    match (nodes.next().and_then(|n| n.as_element()).filter(|e| json::is(e)), nodes.next(), element.attrs().len()) {
        (Some(container), None, 0) if container.children().next().is_none() => json::parse(container),
        _ => Err(Fault::invalid(format!("<{}/> holds one <json xmlns='{}'/> and nothing else", element.name(), ns::JSON))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;
    use archipel_contract::{FaultKind, MoveId};

    fn name(s: &str) -> HypervisorName {
        s.parse().expect("a name")
    }

    fn domain(n: u128) -> DomainId {
        DomainId(uuid::Uuid::from_u128(n))
    }

    fn all() -> Vec<Ask> {
        let saga = MoveId(uuid::Uuid::from_u128(7));
        let steps = [
            OwnershipStep::Depart { by: name("a"), saga, to: name("b") },
            OwnershipStep::Stay { by: name("a"), saga },
            OwnershipStep::Claim { by: name("b"), saga },
            OwnershipStep::Park { by: name("a") },
            OwnershipStep::Unpark { by: name("b") },
        ];
        let mut all: Vec<Ask> = steps.into_iter().map(|step| Ask::Step(Step { domain: domain(1), expected: Epoch(3), step })).collect();
        all.extend([
            Ask::Claim(Claim { owner: name("a"), domains: (0..PAGE as u128).map(domain).collect() }),
            Ask::Ownership(Look { domain: domain(2) }),
            Ask::Ownerships(Survey { domains: (0..PAGE as u128).map(domain).collect() }),
            Ask::Forget(Forget { domain: domain(2), expected: Epoch(u64::MAX) }),
            Ask::Parked(Shelf { after: Some(domain(9)) }),
            Ask::Document(Fetch { key: "parked/x".into() }),
            Ask::Documents(Browse { prefix: "parked/".into(), after: None }),
            Ask::Write(Write { key: "parked/x".into(), expected: None, body: Some(Body((0..=255).collect())) }),
            Ask::Write(Write { key: "parked/x".into(), expected: Some(4), body: None }),
        ]);
        all
    }

    #[test]
    fn everything_that_is_asked_survives_the_wire() {
        for ask in all() {
            let element = over_the_wire(&ask.print());
            assert_eq!(Ask::parse(&element, ask.kind()), Ok(ask.clone()));
            let other = if ask.kind() == IqKind::Get { IqKind::Set } else { IqKind::Get };
            assert_eq!(Ask::parse(&element, other).expect_err("the wrong kind of iq").kind, FaultKind::InvalidRequest);
        }
        let row = Ownership::owned(domain(1), Epoch(3), name("a"));
        assert_eq!(answered::<Option<Ownership>>(&over_the_wire(&answer(&Some(row.clone())))), Ok(Some(row)));
        assert_eq!(answered::<Option<Ownership>>(&over_the_wire(&answer(&()))), Ok(None));
    }

    #[test]
    fn what_is_not_said_strictly_is_refused() {
        let container = |text: &str| format!("<json xmlns='urn:xmpp:json:0'>{text}</json>");
        let good = container(&format!("{{\"domain\":\"{}\"}}", domain(1)));
        let one = |name: &str, inside: &str| format!("<{name} xmlns='urn:archipel:authority:0'>{inside}</{name}>");
        assert!(Ask::parse(&one("ownership", &good).parse().expect("XML"), IqKind::Get).is_ok());
        for text in [
            one("ownership", ""),
            one("ownership", &format!("{good}{good}")),
            one("ownership", &format!("{good}text")),
            one("ownership", &container("{}")),
            one("ownership", &container(&format!("{{\"domain\":\"{}\",\"by\":\"b\"}}", domain(1)))),
            one("ownership", &container(&format!("{{\"domain\":\"{}\"}}<b/>", domain(1)))),
            one("lead", &good),
            one("resign", &good),
            format!("<ownership xmlns='urn:archipel:authority:0' by='b'>{good}</ownership>"),
            format!("<ownership xmlns='urn:archipel:node:0'>{good}</ownership>"),
        ] {
            let fault = Ask::parse(&text.parse().expect("XML"), IqKind::Get).expect_err(&text);
            assert_eq!(fault.kind, FaultKind::InvalidRequest, "{text}");
        }
        let many = Ask::Claim(Claim { owner: name("a"), domains: (0..=PAGE as u128).map(domain).collect() });
        assert!(Ask::parse(&many.print(), IqKind::Set).is_err(), "one more than a page");
        let many = Ask::Ownerships(Survey { domains: (0..=PAGE as u128).map(domain).collect() });
        assert!(Ask::parse(&many.print(), IqKind::Get).is_err(), "one more than a page");
    }

    #[test]
    fn the_largest_document_fits_a_stanza_and_a_larger_one_is_refused() {
        let write = |bytes| Ask::Write(Write { key: "parked/x".into(), expected: None, body: Some(Body(vec![b'<'; bytes])) });
        let largest = write(DOCUMENT_BYTES);
        let text = crate::stream::Stanza::from(&largest.print()).to_text();
        assert!(text.len() + 1024 < crate::stream::Bounds::NODE.bytes, "{} bytes", text.len());
        assert_eq!(Ask::parse(&largest.print(), IqKind::Set), Ok(largest));
        assert!(Ask::parse(&write(DOCUMENT_BYTES + 1).print(), IqKind::Set).is_err());
        assert!(fits("k", &vec![0; DOCUMENT_BYTES + 1]).is_err());
    }
}
