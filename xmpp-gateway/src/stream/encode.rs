//! Elements to text. Written here and not by `minidom`, whose encoder allocates for every token.

use minidom::{Element, Node};
use std::fmt;
use std::sync::Arc;

/// A stanza or other top-level element ready to be written: serialised once, shared by many receivers.
///
/// Of a stanza that goes to many, the head is each receiver's own and the body is kept once for all of them: hundreds of sessions
/// that wait to be resumed would otherwise keep hundreds of copies.
#[derive(Clone, PartialEq, Eq)]
pub struct Stanza {
    head: Arc<str>,
    /// The body, and what closes the elements around it.
    rest: Option<(Arc<str>, &'static str)>,
}

impl Stanza {
    /// One whose body others share. Together the three parts must be one complete, well-formed element.
    pub fn sharing(head: String, body: Arc<str>, tail: &'static str) -> Stanza {
        Stanza { head: head.into(), rest: Some((body, tail)) }
    }
    /// Appends the text: a complete element with its own namespace declarations.
    pub fn write_to(&self, out: &mut String) {
        out.push_str(&self.head);
        if let Some((body, tail)) = &self.rest {
            out.push_str(body);
            out.push_str(tail);
        }
    }
    /// The text of it.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.len());
        self.write_to(&mut text);
        text
    }
    /// Its size on the wire in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.as_ref().map_or(0, |(body, tail)| body.len() + tail.len())
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Element> for Stanza {
    fn from(element: Element) -> Stanza {
        Stanza::from(&element)
    }
}

impl From<&Element> for Stanza {
    fn from(element: &Element) -> Stanza {
        let mut text = String::with_capacity(512);
        write_element(&mut text, element);
        Stanza::from(text)
    }
}

/// The text must be one complete, well-formed element that declares its namespace.
impl From<String> for Stanza {
    fn from(text: String) -> Stanza {
        Stanza { head: text.into(), rest: None }
    }
}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// Appends the element with its namespace declarations.
pub fn write_element(out: &mut String, element: &Element) {
    write_within(out, element, None);
}

fn write_within(out: &mut String, element: &Element, inherited: Option<&str>) {
    out.push('<');
    out.push_str(element.name());
    let own;
    let namespace = match inherited {
        Some(ns) if element.has_ns(ns) => ns,
        _ => {
            own = element.ns();
            out.push_str(" xmlns='");
            escape_into(out, &own);
            out.push('\'');
            own.as_str()
        }
    };
    for (number, ((ns, name), value)) in element.attrs().iter().enumerate() {
        let ns: &str = ns;
        if ns.is_empty() {
            out.push(' ');
        } else if ns == rxml::XMLNS_XML {
            out.push_str(" xml:");
        } else {
            // A prefix of its own for each foreign attribute: rare, and always right.
            let prefix = format!("a{number}");
            out.push_str(" xmlns:");
            out.push_str(&prefix);
            out.push_str("='");
            escape_into(out, ns);
            out.push_str("' ");
            out.push_str(&prefix);
            out.push(':');
        }
        out.push_str(name);
        out.push_str("='");
        escape_into(out, value);
        out.push('\'');
    }
    let mut empty = true;
    for node in element.nodes() {
        if empty {
            out.push('>');
            empty = false;
        }
        match node {
            Node::Element(child) => write_within(out, child, Some(namespace)),
            Node::Text(text) => escape_into(out, text),
        }
    }
    if empty {
        out.push_str("/>");
    } else {
        out.push_str("</");
        out.push_str(element.name());
        out.push('>');
    }
}

/// Appends text so that it is safe in content and in an attribute in either kind of quotes. What XML cannot carry at all
/// (control characters) becomes U+FFFD, so that one bad byte from outside never ends somebody's stream.
pub fn escape_into(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let replacement = match byte {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'\'' => "&apos;",
            b'"' => "&quot;",
            // Line breaks and tabs would be normalised to spaces in attributes, and CR to LF in content.
            b'\r' => "&#xd;",
            b'\n' => "&#xa;",
            b'\t' => "&#x9;",
            0..=0x1f => "\u{fffd}",
            // U+FFFE and U+FFFF are EF BF BE and EF BF BF.
            0xbe | 0xbf if at >= 2 && text.as_bytes().get(at - 2..at) == Some(&[0xef, 0xbf]) => {
                out.push_str(text.get(from..at - 2).unwrap_or_default());
                out.push('\u{fffd}');
                from = at + 1;
                continue;
            }
            _ => continue,
        };
        out.push_str(text.get(from..at).unwrap_or_default());
        out.push_str(replacement);
        from = at + 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_body_is_kept_once_and_written_whole() {
        let body: Arc<str> = "x".repeat(1000).into();
        let all: Vec<Stanza> = (0..3).map(|n| Stanza::sharing(format!("<m n='{n}'>"), body.clone(), "</m>")).collect();
        assert_eq!(Arc::strong_count(&body), 4, "no copies");
        assert_eq!(all[2].to_text(), format!("<m n='2'>{body}</m>"));
        assert_eq!(all[2].len(), all[2].to_text().len());
    }

    fn round(text: &str) -> Element {
        let element: Element = text.parse().unwrap();
        let mut out = String::new();
        write_element(&mut out, &element);
        let again: Element = out.parse().unwrap();
        assert_eq!(again, element, "{out}");
        element
    }

    #[test]
    fn elements_survive_writing_and_reading() {
        round("<a xmlns='x' b='1&amp;&apos;&quot;&#xa;&#x9;'>t&lt;&gt;&#xd;\n<c xmlns='y'><d/><e xmlns='x'/></c>z</a>");
        round("<a xmlns='x' xml:lang='en' xmlns:q='urn:q' q:r='1' q:s='2'/>");
        round("<a xmlns='x'>\u{1F600} \u{fffd}\u{ff}</a>");
    }

    #[test]
    fn the_namespace_is_declared_once() {
        let element: Element = "<iq xmlns='jabber:client'><error/></iq>".parse().unwrap();
        assert_eq!(Stanza::from(element).to_text(), "<iq xmlns='jabber:client'><error/></iq>");
    }

    #[test]
    fn what_xml_cannot_carry_is_replaced() {
        let mut out = String::new();
        escape_into(&mut out, "a\u{0}b\u{1f}c\u{ffff}d\u{fffe}e\u{ffbf}f\u{fffd}");
        assert_eq!(out, "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{ffbf}f\u{fffd}");
        assert!(format!("<a xmlns='x'>{out}</a>").parse::<Element>().is_ok());
    }
}
