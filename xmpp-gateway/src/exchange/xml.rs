//! Writing XML without building a tree: every stanza the exchange sends is made here, so that nothing which came in is ever
//! passed on unescaped. Names are constants of ours; values are escaped; characters that XML cannot carry become U+FFFD.

use minidom::Element;

/// An XML document being written. Elements still open are closed by [`Xml::finish`].
#[derive(Debug)]
pub(crate) struct Xml {
    out: String,
    stack: Vec<&'static str>,
    /// Whether the start tag of the innermost element still lacks its `>`.
    in_tag: bool,
}

impl Xml {
    /// A document whose root is `name` in the namespace `ns`.
    pub(crate) fn new(name: &'static str, ns: &str) -> Xml {
        let mut xml = Xml { out: String::with_capacity(256), stack: Vec::with_capacity(8), in_tag: false };
        xml.open(name).attr("xmlns", ns);
        xml
    }

    /// A stanza (`iq`, `message`, `presence`).
    pub(crate) fn stanza(name: &'static str) -> Xml {
        Xml::new(name, "jabber:client")
    }

    /// Opens a child element in its parent's namespace.
    pub(crate) fn open(&mut self, name: &'static str) -> &mut Xml {
        self.end_tag();
        self.out.push('<');
        self.out.push_str(name);
        self.stack.push(name);
        self.in_tag = true;
        self
    }

    /// Opens a child element in another namespace.
    pub(crate) fn open_ns(&mut self, name: &'static str, ns: &str) -> &mut Xml {
        self.open(name).attr("xmlns", ns)
    }

    /// An attribute of the element just opened.
    pub(crate) fn attr(&mut self, name: &'static str, value: &str) -> &mut Xml {
        debug_assert!(self.in_tag, "attribute {name} after content");
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        escape_into(&mut self.out, value);
        self.out.push('\'');
        self
    }

    /// An attribute, if there is a value.
    pub(crate) fn attr_opt(&mut self, name: &'static str, value: Option<&str>) -> &mut Xml {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Text inside the innermost element.
    pub(crate) fn text(&mut self, text: &str) -> &mut Xml {
        self.end_tag();
        escape_into(&mut self.out, text);
        self
    }

    /// Closes the innermost element.
    pub(crate) fn close(&mut self) -> &mut Xml {
        if let Some(name) = self.stack.pop() {
            if self.in_tag {
                self.out.push_str("/>");
                self.in_tag = false;
            } else {
                self.out.push_str("</");
                self.out.push_str(name);
                self.out.push('>');
            }
        }
        self
    }

    /// A child element that holds text only.
    pub(crate) fn leaf(&mut self, name: &'static str, text: &str) -> &mut Xml {
        self.open(name).text(text).close()
    }

    /// An empty child element in its own namespace.
    pub(crate) fn empty(&mut self, name: &'static str, ns: &str) -> &mut Xml {
        self.open_ns(name, ns).close()
    }

    /// A child that was parsed or built as a tree; it is written anew from that tree.
    pub(crate) fn element(&mut self, element: &Element) -> &mut Xml {
        self.end_tag();
        self.out.push_str(&String::from(element));
        self
    }

    /// Text that is XML already, made by this type.
    pub(crate) fn ready(&mut self, xml: &str) -> &mut Xml {
        self.end_tag();
        self.out.push_str(xml);
        self
    }

    /// Closes what is open and gives the text away.
    pub(crate) fn finish(mut self) -> String {
        while !self.stack.is_empty() {
            self.close();
        }
        self.out
    }

    fn end_tag(&mut self) {
        if self.in_tag {
            self.out.push('>');
            self.in_tag = false;
        }
    }
}

/// Appends `text`, escaped for both content and attributes in single quotes.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let replacement = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&#39;",
            '\r' => "&#13;",
            '\n' | '\t' => continue,
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        out.push_str(replacement);
        plain = at + c.len_utf8();
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut xml = Xml::stanza("message");
        xml.attr("to", "a'b<&>@c").open("body").text("1 < 2 & '\u{1}\u{ffff}' ]]>").close().empty("x", "urn:y");
        let text = xml.finish();
        let element: Element = text.parse().unwrap();
        assert_eq!(element.attr("to"), Some("a'b<&>@c"));
        assert_eq!(element.get_child("body", "jabber:client").unwrap().text(), "1 < 2 & '\u{fffd}\u{fffd}' ]]>");
        assert!(element.has_child("x", "urn:y"));
    }
}
