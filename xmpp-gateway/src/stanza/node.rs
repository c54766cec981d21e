//! The link between an agent and the exchange: what is said once the stream is up.
//!
//! ```text
//!   agent                                 exchange
//!   hello            ---- iq set ---->    result: the exchange's epoch; a new assertion begins
//!   assert [ENTITY]  ---- iq set ---->    result          (repeated; at most 200 entities and 128 KiB each)
//!   asserted         ---- iq set ---->    result: what was known of this host and not asserted is gone
//!   announce [EVENT] ---- message --->
//!                    <--- iq set ----     request to an entity of this host
//!                    <--- iq set ----     carry: a request for what a ticket here opens; see `carriage`
//!   reply            ---- result ---->
//!   request          ---- iq set ---->    routed to the agent of another hypervisor
//!                    <--- message ---     warning: something is wrong with this host that its people should know
//!                    <--- message ---     exchanges: where all exchanges of the cell are, as in the welcome, when that changes
//!                    <--- message ---     watch {on}: somebody looks at what the machines of this host take, or nobody any more
//!   usage {frame}    ---- message --->    what has changed of that, as long as somebody looks
//!   renew {key}      ---- iq set ---->    result: the next certificate
//!   leave            ---- iq set ---->    result: this host does not belong to the cell any more
//! ```

use super::{carriage::Carry, json};
use crate::ns;
use archipel_contract::{Entity, Epoch, Event, Fault, HypervisorName, Millis, Timestamp, port::Request, usage::Frame};
use minidom::Element;
use rxml::xml_ncname;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::Arc;

/// The most entities in one `assert`.
pub const PAGE_ENTITIES: usize = 200;
/// The most JSON in one `assert` or `announce`, in bytes; stanzas are limited to twice that.
pub const PAGE_BYTES: usize = 128 * 1024;

/// Who an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of its program.
    pub version: String,
    /// The hypervisor it is the agent of.
    pub host: HypervisorName,
    /// How often its data was opened; grows with every start.
    pub incarnation: u64,
    /// How many entities it is about to assert.
    pub entities: usize,
    /// Made up at its start: two that run at once with one identity differ in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What time it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Timestamp>,
}

/// Whom an agent is talking to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The fencing number of the exchange's leadership.
    pub exchange_epoch: u64,
    /// What is wrong with the agent, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How long it may wait before it asks for its next certificate; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_after: Option<Millis>,
    /// The addresses of all exchanges of the cell; none when it has only this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<String>,
}

/// The public key of an agent that asks for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// A point of P-256, uncompressed, in base64.
    pub key: String,
}

/// What an `iq` of the link asks.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Begins a new assertion.
    Hello(Hello),
    /// Some of what the agent has.
    Assert(Vec<Arc<Entity>>),
    /// That was all.
    Asserted,
    /// Carry this out.
    Request(Box<Request>),
    /// The agent's certificate is nearly over.
    Renew(Renewal),
    /// The host leaves the cell.
    Leave,
    /// Come and fetch a request for what a ticket opens.
    Carry(Carry),
}

impl Ask {
    /// Whether an element belongs to the link.
    pub fn is(element: &Element) -> bool {
        element.ns() == ns::NODE
    }

    /// Reads the payload of an `iq` of type `set`.
    pub fn parse(element: &Element) -> Result<Ask, Fault> {
        if !Ask::is(element) {
            return Err(Fault::invalid(format!("<{}/> is not of {}", element.name(), ns::NODE)));
        }
        match element.name() {
            "hello" => json::need(element).map(Ask::Hello),
            "assert" => json::need(element).map(Ask::Assert),
            "asserted" => Ok(Ask::Asserted),
            "renew" => json::need(element).map(Ask::Renew),
            "leave" => Ok(Ask::Leave),
            "carry" => json::need(element).map(Ask::Carry),
            "request" => json::need(element).map(Box::new).map(Ask::Request),
            other => Err(Fault::invalid(format!("<{other}/> means nothing on the link; the other side may be of another version"))),
        }
    }

    /// As the payload of an `iq` of type `set`.
    pub fn print(&self) -> Element {
        match self {
            Ask::Hello(hello) => holding("hello", json::print(hello)),
            Ask::Assert(entities) => holding("assert", json::print(entities)),
            Ask::Asserted => holding("asserted", json::print(&serde_json::json!({}))),
            Ask::Request(request) => holding("request", json::print(request)),
            Ask::Renew(renewal) => holding("renew", json::print(renewal)),
            Ask::Leave => holding("leave", json::print(&serde_json::json!({}))),
            Ask::Carry(carry) => holding("carry", json::print(carry)),
        }
    }
}

/// An `assert` of entities that are JSON already.
pub fn assert_json(entities: &[String]) -> Element {
    holding("assert", json::of_text(array(entities)))
}

/// An `announce` of events that are JSON already: the payload of a message.
pub fn announce_json(events: &[String]) -> Element {
    holding("announce", json::of_text(array(events)))
}

/// An `announce`: the payload of a message.
pub fn announce(events: &[Event]) -> Element {
    holding("announce", json::print(events))
}

/// The events of a message, `None` when it does not announce any.
pub fn announced(message: &Element) -> Option<Result<Vec<Event>, Fault>> {
    message.get_child("announce", ns::NODE).map(json::need)
}

/// A `warning`: the payload of a message.
pub fn warning(warnings: &[String]) -> Element {
    holding("warning", json::print(warnings))
}

/// The warnings of a message, `None` when it holds none that can be read.
pub fn warned(message: &Element) -> Option<Vec<String>> {
    message.get_child("warning", ns::NODE).and_then(|w| json::need(w).ok())
}

/// Whether somebody looks at what machines take: the payload of a message.
pub fn watch(on: bool) -> Element {
    holding("watch", json::print(&serde_json::json!({ "on": on })))
}

/// Whether a message says that somebody looks; `None` when it says nothing of it.
pub fn watched(message: &Element) -> Option<bool> {
    let said: Value = message.get_child("watch", ns::NODE).and_then(|w| json::need(w).ok())?;
    said["on"].as_bool()
}

/// What has changed of what machines take: the payload of a message.
pub fn usage(frame: &Frame) -> Element {
    holding("usage", json::print(frame))
}

/// The frame of a message, `None` when it holds none.
pub fn usage_of(message: &Element) -> Option<Result<Frame, Fault>> {
    message.get_child("usage", ns::NODE).map(json::need)
}

/// The addresses of all exchanges of the cell: the payload of a message.
pub fn exchanges(addresses: &[String]) -> Element {
    holding("exchanges", json::print(addresses))
}

/// The addresses of a message, `None` when it holds none that can be read.
pub fn exchanges_of(message: &Element) -> Option<Vec<String>> {
    message.get_child("exchanges", ns::NODE).and_then(|e| json::need(e).ok())
}

/// The good answer to a `renew`.
pub fn renewed<T: Serialize>(grant: &T) -> Element {
    holding("renewed", json::print(grant))
}

/// The good answer to a `hello`.
pub fn welcome(welcome: Welcome) -> Element {
    holding("welcome", json::print(&welcome))
}

/// Reads the good answer to a `hello`.
pub fn welcomed(element: &Element) -> Result<Welcome, Fault> {
    json::need(element)
}

/// Writes into a request of an exchange in which epoch it was sent.
pub fn stamp(mut request: Element, exchange: Epoch) -> Element {
    super::set_attr(&mut request, xml_ncname!("exchange-epoch"), &exchange.0.to_string());
    request
}

/// The epoch of the exchange that sent a request; `None` from one that does not write it.
pub fn stamped(request: &Element) -> Option<Epoch> {
    request.attr("exchange-epoch")?.parse().ok().map(Epoch)
}

/// The good answer to a `request`.
pub fn reply(value: &Value) -> Element {
    holding("reply", json::print(value))
}

/// Reads the good answer to a `request`.
pub fn replied<T: DeserializeOwned>(element: &Element) -> Result<T, Fault> {
    if !element.is("reply", ns::NODE) {
        return Err(Fault::invalid(format!("<{}/> is not a reply", element.name())));
    }
    json::need(element)
}

fn holding(name: &str, container: Element) -> Element {
    let mut element = Element::bare(name, ns::NODE);
    element.append_child(container);
    element
}

fn array(texts: &[String]) -> String {
    let mut all = String::with_capacity(texts.iter().map(|t| t.len() + 1).sum::<usize>() + 2);
    all.push('[');
    for (n, text) in texts.iter().enumerate() {
        if n > 0 {
            all.push(',');
        }
        all.push_str(text);
    }
    all.push(']');
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{
        feed::tests::{event, machine},
        tests::over_the_wire,
    };
    use archipel_contract::{Caller, OperationId, Role, port::Address};
    use serde_json::json;

    fn parse(ask: &Ask) -> Ask {
        Ask::parse(&over_the_wire(&ask.print())).expect("it parses back")
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let host: HypervisorName = "alpha".parse().expect("a name");
        let (instance, now) = (Some("a1".into()), Some(Timestamp(17_000)));
        let hello = Hello { version: "0.1.0".into(), host: host.clone(), incarnation: 7, entities: 1003, instance, now };
        assert!(matches!(parse(&Ask::Hello(hello.clone())), Ask::Hello(back) if back == hello));
        let greeting =
            Welcome { exchange_epoch: 3, warnings: vec!["late".into()], renew_after: Some(Millis(5)), exchanges: vec!["a:5222".into()] };
        assert_eq!(welcomed(&over_the_wire(&welcome(greeting.clone()))), Ok(greeting));
        // As versions before write and read them.
        let old: Hello =
            serde_json::from_value(json!({"version": "0.1.0", "host": "alpha", "incarnation": 1, "entities": 0})).expect("it reads");
        assert_eq!((old.host, old.instance, old.now), (host, None, None));
        assert_eq!(json::text(&Welcome { exchange_epoch: 3, ..Welcome::default() }), Ok("{\"exchange_epoch\":3}".into()));
    }

    #[test]
    fn an_assertion_survives_the_wire() {
        let all = vec![machine(1, 1), machine(2, 1)];
        assert!(matches!(parse(&Ask::Assert(all.clone())), Ask::Assert(back) if back == all));
        let texts: Vec<String> = all.iter().map(|e| json::text(e).expect("JSON")).collect();
        assert!(matches!(Ask::parse(&over_the_wire(&assert_json(&texts))), Ok(Ask::Assert(back)) if back == all));
        assert!(matches!(parse(&Ask::Asserted), Ask::Asserted));
    }

    #[test]
    fn announced_events_survive_the_wire() {
        let events = vec![event(1, 2), event(2, 3)];
        let texts: Vec<String> = events.iter().map(|e| json::text(e).expect("JSON")).collect();
        for payload in [announce(&events), announce_json(&texts)] {
            let mut message = Element::bare("message", ns::CLIENT);
            message.append_child(payload);
            assert_eq!(announced(&over_the_wire(&message)), Some(Ok(events.clone())));
        }
        assert_eq!(announced(&Element::bare("message", ns::CLIENT)), None);
    }

    #[test]
    fn what_machines_take_survives_the_wire() {
        let message = |payload| {
            let mut message = Element::bare("message", ns::CLIENT);
            message.append_child(payload);
            over_the_wire(&message)
        };
        for on in [true, false] {
            assert_eq!(watched(&message(watch(on))), Some(on));
        }
        let reading = archipel_contract::usage::Reading::default();
        let frame = Frame::between(&"alpha".parse().expect("a name"), None, &reading);
        assert_eq!(usage_of(&message(usage(&frame))), Some(Ok(frame)));
        let other = Element::bare("message", ns::CLIENT);
        assert_eq!((watched(&other), usage_of(&other)), (None, None));
    }

    #[test]
    fn a_request_and_its_reply_survive_the_wire() {
        let request = Request {
            target: Address::Entity(machine(1, 1).id.clone()),
            command: "domain.start".into(),
            arguments: json!({ "paused": true }),
            caller: Caller { jid: "admin@vm.localhost/web".into(), role: Role::Admin, operation: OperationId::fresh() },
        };
        let Ask::Request(back) = parse(&Ask::Request(Box::new(request.clone()))) else { panic!("it is a request") };
        assert_eq!(
            (back.target.clone(), back.command.clone(), back.arguments.clone(), back.caller.clone()),
            (request.target, request.command, request.arguments, request.caller)
        );
        let stamped_one = over_the_wire(&stamp(Ask::Request(back).print(), Epoch(7)));
        assert_eq!((stamped(&stamped_one), Ask::parse(&stamped_one).is_ok()), (Some(Epoch(7)), true));
        let value = json!({ "message": "web1 is starting" });
        assert_eq!(replied::<Value>(&over_the_wire(&reply(&value))), Ok(value));
        assert!(replied::<Value>(&Element::bare("hello", ns::NODE)).is_err());
    }

    #[test]
    fn what_the_link_does_not_know_is_refused() {
        assert!(Ask::parse(&Element::bare("dance", ns::NODE)).is_err());
        assert!(Ask::parse(&Element::bare("hello", "urn:x")).is_err());
        assert!(Ask::parse(&Element::bare("hello", ns::NODE)).is_err());
    }
}
