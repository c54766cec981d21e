//! Looking at what machines take: whoever looks says so to the cell, and is told until they say otherwise or their session ends.
//!
//! ```text
//!   <watch xmlns='urn:archipel:usage:0'/>                       every host of the cell
//!   <watch ...><host>alpha</host><host>beta</host></watch>      these hosts; it replaces what was watched before
//!   <unwatch xmlns='urn:archipel:usage:0'/>
//! ```
//! What is pushed is a message with `<usage xmlns='urn:archipel:usage:0'>` and a frame as JSON in it: what has changed since the last
//! that was sent here.

use super::json;
use crate::ns;
use archipel_contract::{Fault, HypervisorName, usage::Frame};
use minidom::Element;
use std::collections::BTreeSet;

/// The most hosts one may name.
const MAX_HOSTS: usize = 1000;

/// What a person asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Look at these hosts; at all of them, if none is named.
    Watch(BTreeSet<HypervisorName>),
    /// Look no more.
    Unwatch,
}

impl Ask {
    /// Whether an element is one.
    pub fn is(element: &Element) -> bool {
        element.ns() == ns::USAGE
    }

    /// Reads the payload of an `iq` of type `set`.
    pub fn parse(element: &Element) -> Result<Ask, Fault> {
        match element.name() {
            "watch" => {
                let hosts = element.children().filter(|c| c.is("host", ns::USAGE)).take(MAX_HOSTS);
                let named = hosts.map(|host| host.text().parse::<HypervisorName>().map_err(|e| Fault::invalid(e.to_string())));
                named.collect::<Result<_, _>>().map(Ask::Watch)
            }
            "unwatch" => Ok(Ask::Unwatch),
            other => Err(Fault::invalid(format!("<{other}/> means nothing here; usage is watched or unwatched"))),
        }
    }

    /// As the payload of an `iq` of type `set`.
    pub fn print(&self) -> Element {
        match self {
            Ask::Watch(hosts) => {
                let mut element = Element::bare("watch", ns::USAGE);
                for host in hosts {
                    element.append_child(super::text_element("host", ns::USAGE, host.as_str()));
                }
                element
            }
            Ask::Unwatch => Element::bare("unwatch", ns::USAGE),
        }
    }
}

/// The frame of a message; `None` when it holds none.
pub fn pushed(message: &Element) -> Option<Result<Frame, Fault>> {
    message.get_child("usage", ns::USAGE).map(json::need)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;

    #[test]
    fn what_is_asked_survives_the_wire() {
        let host = |name: &str| name.parse::<HypervisorName>().expect("a name");
        for ask in [Ask::Watch(BTreeSet::new()), Ask::Watch([host("alpha"), host("beta")].into()), Ask::Unwatch] {
            let element = over_the_wire(&ask.print());
            assert!(Ask::is(&element));
            assert_eq!(Ask::parse(&element), Ok(ask));
        }
        assert!(Ask::parse(&"<watch xmlns='urn:archipel:usage:0'><host>no/name</host></watch>".parse().expect("XML")).is_err());
        assert!(Ask::parse(&Element::bare("dance", ns::USAGE)).is_err());
        assert_eq!(pushed(&Element::bare("message", ns::CLIENT)), None);
    }
}
