//! What stanzas carry, as types: each module prints and parses one kind of payload, and knows nothing of streams.
//!
//! | module | payload |
//! |---|---|
//! | [`json`] | any value as JSON inside XML (XEP-0335) |
//! | [`fault`] | a [`archipel_contract::Fault`] as a stanza error, and back |
//! | [`adhoc`] | a command and its stages (XEP-0050) |
//! | [`form`] | data forms (XEP-0004), and commands as forms |
//! | [`feed`] | the cell feed: subscription, snapshot pages, pushed events |
//! | [`node`] | the link between an agent and the exchange |
//! | [`authority`] | what an agent asks of the cell's authority and documents |
//!
//! An element that cannot be understood becomes a fault (`invalid-request`) that names what is wrong with it; whoever received
//! it answers with that.

pub mod adhoc;
pub mod authority;
pub mod carriage;
pub mod fault;
pub mod feed;
pub mod form;
pub mod json;
pub mod node;
pub mod usage;

use crate::ns;
use minidom::Element;
use rxml::{NcNameStr, xml_ncname};
use std::borrow::Cow;

/// The kinds of an `iq` (RFC 6120 8.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IqKind {
    /// Asks for something.
    Get,
    /// Asks to change something.
    Set,
    /// The good answer.
    Result,
    /// The bad answer.
    Error,
}

impl IqKind {
    /// The word in the `type` attribute.
    pub fn name(self) -> &'static str {
        match self {
            IqKind::Get => "get",
            IqKind::Set => "set",
            IqKind::Result => "result",
            IqKind::Error => "error",
        }
    }
    /// The kind of an `iq` element, if it is one and says.
    pub fn of(stanza: &Element) -> Option<IqKind> {
        if stanza.name() != "iq" {
            return None;
        }
        [IqKind::Get, IqKind::Set, IqKind::Result, IqKind::Error].into_iter().find(|k| stanza.attr("type") == Some(k.name()))
    }
}

/// Sets an attribute, replacing an earlier value. Characters that XML cannot carry are replaced.
pub fn set_attr(element: &mut Element, name: &NcNameStr, value: &str) {
    element.set_attr(rxml::Namespace::NONE, name.to_owned(), clean(value).into_owned());
}

/// An `iq` without addresses; the stream or the caller adds them.
pub fn iq(kind: IqKind, id: &str, payload: Option<Element>) -> Element {
    let mut iq = Element::bare("iq", ns::CLIENT);
    set_attr(&mut iq, xml_ncname!("type"), kind.name());
    set_attr(&mut iq, xml_ncname!("id"), id);
    if let Some(payload) = payload {
        iq.append_child(payload);
    }
    iq
}

/// Puts `to` on a stanza.
pub fn addressed(mut stanza: Element, to: &str) -> Element {
    set_attr(&mut stanza, xml_ncname!("to"), to);
    stanza
}

/// Puts `from` on a stanza.
pub fn sent_by(mut stanza: Element, from: &str) -> Element {
    set_attr(&mut stanza, xml_ncname!("from"), from);
    stanza
}

/// An element with one text in it.
pub fn text_element(name: &str, namespace: &str, text: &str) -> Element {
    let mut element = Element::bare(name, namespace);
    element.append_text(clean(text).into_owned());
    element
}

/// The same text with the characters that XML 1.0 cannot carry (controls, U+FFFE, U+FFFF) replaced by U+FFFD. libvirt, guests
/// and people may send any of them, and one of them would break the whole stream.
pub fn clean(text: &str) -> Cow<'_, str> {
    let unfit = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(unfit) { Cow::Owned(text.replace(unfit, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Prints an element and parses the text again, as a wire would.
    pub(crate) fn over_the_wire(element: &Element) -> Element {
        let mut text = Vec::new();
        element.write_to(&mut text).expect("an element prints");
        String::from_utf8(text).expect("as UTF-8").parse().expect("and parses back")
    }

    #[test]
    fn texts_that_xml_cannot_carry_do_not_break_the_stream() {
        let bad = "a\u{0}b\u{1b}[31mc\u{ffff}\td\u{fffe}";
        let mut element = text_element("text", "urn:x", bad);
        set_attr(&mut element, xml_ncname!("name"), bad);
        let back = over_the_wire(&element);
        assert_eq!(back.text(), "a\u{fffd}b\u{fffd}[31mc\u{fffd}\td\u{fffd}");
        assert!(back.attr("name").expect("the attribute").starts_with("a\u{fffd}b"));
    }

    #[test]
    fn the_kind_of_an_iq_is_read_strictly() {
        for kind in [IqKind::Get, IqKind::Set, IqKind::Result, IqKind::Error] {
            assert_eq!(IqKind::of(&over_the_wire(&iq(kind, "1", None))), Some(kind));
        }
        assert_eq!(IqKind::of(&Element::bare("iq", ns::CLIENT)), None);
        assert_eq!(IqKind::of(&Element::bare("message", ns::CLIENT)), None);
    }
}
