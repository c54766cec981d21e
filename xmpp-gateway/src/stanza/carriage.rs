//! Carriages: connections that an agent makes so that the exchange can pass an HTTP request on to it.
//!
//! ```text
//!   exchange                                agent
//!   carry {carriage, token, proof, folder} ---- iq set ---->      does such a ticket wait here?
//!                                         <---- reply ------      no: refused
//!                <carry id='CARRIAGE'/>   <---- a second connection, logged in as the first one; instead of a resource
//!   <carried/>                            ----------------->      from here on: one HTTP request, and whatever becomes of it
//!                                         <---- reply ------      carried {person, what}, or failed {why}
//! ```

use super::set_attr;
use crate::ns;
use archipel_contract::ticket::Proof;
use minidom::Element;
use rxml::xml_ncname;
use serde::{Deserialize, Serialize};

/// The exchange has a request for what a ticket of this agent opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    /// Which carriage the agent is to ask for; nobody else knows it.
    pub carriage: String,
    /// The path below which the token was presented.
    pub folder: String,
    /// The token as it was presented.
    pub token: String,
    /// The SHA-256 of the secret that came with it.
    pub proof: Proof,
}

/// What the agent says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CarryAnswer {
    /// No such ticket waits here.
    Refused,
    /// The ticket is good, and the carriage could not be made.
    Failed {
        /// What is in the way, a sentence.
        why: String,
    },
    /// It is there.
    Carried {
        /// Whose ticket it is.
        person: String,
        /// What it opens, for the log.
        what: String,
    },
}

/// The stream feature by which an agent sees that it can make carriages here.
pub(crate) fn feature() -> String {
    format!("<carry xmlns='{}'/>", ns::CARRIAGE)
}

/// Asks for a carriage instead of a resource.
pub(crate) fn ask(carriage: &str) -> Element {
    let mut ask = Element::bare("carry", ns::CARRIAGE);
    set_attr(&mut ask, xml_ncname!("id"), carriage);
    ask
}

/// The carriage that is asked for.
pub(crate) fn asked(element: &Element) -> Option<&str> {
    if element.is("carry", ns::CARRIAGE) { element.attr("id") } else { None }
}

/// From here on the connection is bytes.
pub(crate) fn carried() -> String {
    format!("<carried xmlns='{}'/>", ns::CARRIAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{node, tests::over_the_wire};

    #[test]
    fn what_is_asked_and_answered_survives_the_wire() {
        let carry = Carry {
            carriage: "c1".into(),
            folder: "console".into(),
            token: "beta~<&'\"".into(),
            proof: "a".repeat(43).parse().expect("a proof"),
        };
        let ask = over_the_wire(&node::Ask::Carry(carry.clone()).print());
        assert!(matches!(node::Ask::parse(&ask), Ok(node::Ask::Carry(back)) if back == carry));
        let carried = CarryAnswer::Carried { person: "ada@c".into(), what: "the vnc console".into() };
        for answer in [CarryAnswer::Refused, CarryAnswer::Failed { why: "it rains".into() }, carried] {
            let value = serde_json::to_value(&answer).expect("JSON");
            assert_eq!(node::replied(&over_the_wire(&node::reply(&value))), Ok(answer));
        }
        assert_eq!(asked(&over_the_wire(&super::ask("c1"))), Some("c1"));
        assert_eq!(asked(&Element::bare("bind", ns::BIND)), None);
    }
}
