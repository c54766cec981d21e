//! Elements, attributes and text as a tree. Reading and writing keep the meaning of every part, also of parts that nobody
//! here knows: other people's XML comes back whole after an edit.
//!
//! Strict on purpose: no document type, no entities but the five of XML and character references, one root, limits on
//! size and depth. Adjacent texts and CDATA sections become one text, and line ends become `\n`, as XML itself says.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

/// Largest text that is read, in bytes. libvirt's own limit for a definition is 4 MiB on the wire.
pub const SIZE_LIMIT: usize = 4 << 20;
/// Deepest nesting that is read.
pub const DEPTH_LIMIT: usize = 64;
/// Most attributes of one element.
pub const ATTRIBUTE_LIMIT: usize = 256;

/// Why a text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadXml {
    /// It is larger than [`SIZE_LIMIT`], nested deeper than [`DEPTH_LIMIT`] or has too many attributes.
    #[error("the XML exceeds the limit on {0}")]
    Limit(&'static str),
    /// It has something that is refused, for example a document type.
    #[error("the XML has {0}, which is refused")]
    Refused(&'static str),
    /// It is not well-formed.
    #[error("the XML is not well-formed near byte {at}: {why}")]
    Broken {
        /// Where it was noticed, in bytes.
        at: u64,
        /// What is wrong.
        why: String,
    },
}

/// One element with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name as written, with its prefix.
    pub name: String,
    /// Its attributes as written, namespace declarations included, in order.
    pub attributes: Vec<(String, String)>,
    /// What it holds, in order.
    pub children: Vec<Node>,
}

/// What an element can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Another element.
    Element(Element),
    /// Text, without escapes.
    Text(String),
    /// A comment.
    Comment(String),
    /// A processing instruction, target and data as written.
    Instruction(String),
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Element {
        Element { name: name.into(), attributes: Vec::new(), children: Vec::new() }
    }
    /// The same with one attribute more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Element {
        self.attributes.push((name.into(), value.into()));
        self
    }
    /// The same with one child more.
    pub fn holding(mut self, child: Element) -> Element {
        self.children.push(Node::Element(child));
        self
    }
    /// The same with these children more.
    pub fn holding_all(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }
    /// The same with text.
    pub fn saying(mut self, text: impl Into<String>) -> Element {
        self.children.push(Node::Text(text.into()));
        self
    }
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|c| match c {
            Node::Element(e) => Some(e),
            _ => None,
        })
    }
    /// The first child element of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|e| e.name == name)
    }
    /// The first element at the end of a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |e, name| e.child(name))
    }
    /// All text directly in it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for child in &self.children {
            if let Node::Text(t) = child {
                text.push_str(t);
            }
        }
        text
    }
}

/// Reads a whole document. What stands around its root (declaration, comments) is not kept.
pub fn parse(text: &str) -> Result<Element, BadXml> {
    if text.len() > SIZE_LIMIT {
        return Err(BadXml::Limit("size"));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        let event = reader.read_event().map_err(|e| BadXml::Broken { at: reader.error_position(), why: e.to_string() })?;
        let broken = |why: &str| BadXml::Broken { at: reader.buffer_position(), why: why.into() };
        let text = match event {
            Event::Start(start) => {
                if open.len() >= DEPTH_LIMIT {
                    return Err(BadXml::Limit("depth"));
                }
                if root.is_some() {
                    return Err(broken("a second root element"));
                }
                open.push(element(&start).map_err(|why| why.unwrap_or_else(broken))?);
                continue;
            }
            Event::Empty(start) => {
                let element = element(&start).map_err(|why| why.unwrap_or_else(broken))?;
                close(element, &mut open, &mut root).map_err(broken)?;
                continue;
            }
            Event::End(_) => {
                // The reader has checked that the names match.
                let element = open.pop().ok_or_else(|| broken("an end without a beginning"))?;
                close(element, &mut open, &mut root).map_err(broken)?;
                continue;
            }
            Event::Text(text) => text.xml10_content().map_err(|e| broken(&e.to_string()))?.into_owned(),
            Event::CData(data) => data.xml10_content().map_err(|e| broken(&e.to_string()))?.into_owned(),
            Event::GeneralRef(name) => match name.resolve_char_ref().map_err(|e| broken(&e.to_string()))? {
                Some(c) if is_xml_char(c) => c.to_string(),
                Some(_) => return Err(broken("a character XML cannot carry")),
                None => match &*name.decode().map_err(|e| broken(&e.to_string()))? {
                    "lt" => "<".into(),
                    "gt" => ">".into(),
                    "amp" => "&".into(),
                    "quot" => "\"".into(),
                    "apos" => "'".into(),
                    _ => return Err(BadXml::Refused("an entity of its own")),
                },
            },
            Event::Comment(comment) => {
                if let Some(parent) = open.last_mut() {
                    let comment = comment.xml10_content().map_err(|e| broken(&e.to_string()))?.into_owned();
                    check_chars(&comment).map_err(broken)?;
                    parent.children.push(Node::Comment(comment));
                }
                continue;
            }
            Event::PI(instruction) => {
                if let Some(parent) = open.last_mut() {
                    let instruction = std::str::from_utf8(&instruction).map_err(|e| broken(&e.to_string()))?.to_owned();
                    check_chars(&instruction).map_err(broken)?;
                    parent.children.push(Node::Instruction(instruction));
                }
                continue;
            }
            Event::Decl(_) if open.is_empty() && root.is_none() => continue,
            Event::Decl(_) => return Err(broken("a declaration inside")),
            Event::DocType(_) => return Err(BadXml::Refused("a document type")),
            Event::Eof => break,
        };
        check_chars(&text).map_err(broken)?;
        match open.last_mut() {
            Some(parent) => match parent.children.last_mut() {
                Some(Node::Text(before)) => before.push_str(&text),
                _ if text.is_empty() => {}
                _ => parent.children.push(Node::Text(text)),
            },
            None if text.chars().all(|c| matches!(c, ' ' | '\t' | '\n' | '\r')) => {}
            None => return Err(broken("text outside the root element")),
        }
    }
    match root {
        Some(root) if open.is_empty() => Ok(root),
        _ => Err(BadXml::Broken { at: text.len() as u64, why: "it ends too early".into() }),
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), &'static str> {
    match open.last_mut() {
        Some(parent) => parent.children.push(Node::Element(element)),
        None if root.is_some() => return Err("a second root element"),
        None => *root = Some(element),
    }
    Ok(())
}

/// `Err(Ok(_))` would read oddly, so: `Err(Some(bad))` is ready, and the closure of the caller places plain reasons.
fn element(start: &BytesStart<'_>) -> Result<Element, Reason> {
    let name = utf8(start.name().as_ref())?;
    check_name(&name)?;
    let mut element = Element::new(&name);
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| Reason::Plain("an attribute that is broken or comes twice"))?;
        if element.attributes.len() >= ATTRIBUTE_LIMIT {
            return Err(Reason::Ready(BadXml::Limit("attributes")));
        }
        let key = utf8(attribute.key.as_ref())?;
        check_name(&key)?;
        let raw = utf8(&attribute.value)?;
        if raw.contains('<') {
            return Err(Reason::Plain("an unescaped < in an attribute"));
        }
        // White space written as such becomes a space, as XML says; written as a reference it stays.
        let spaced = raw.replace("\r\n", " ").replace(['\n', '\t', '\r'], " ");
        let value = quick_xml::escape::unescape(&spaced).map_err(|_| Reason::Plain("an unknown entity in an attribute"))?.into_owned();
        check_chars(&value).map_err(Reason::Plain)?;
        element.attributes.push((key, value));
    }
    Ok(element)
}

enum Reason {
    Ready(BadXml),
    Plain(&'static str),
}

impl Reason {
    fn unwrap_or_else(self, place: impl FnOnce(&str) -> BadXml) -> BadXml {
        match self {
            Reason::Ready(bad) => bad,
            Reason::Plain(why) => place(why),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Reason> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Reason::Plain("bytes that are not UTF-8"))
}

fn check_name(name: &str) -> Result<(), Reason> {
    let begins = |c: char| c.is_alphabetic() || c == '_' || c == ':';
    let goes_on = |c: char| begins(c) || c.is_alphanumeric() || matches!(c, '-' | '.' | '\u{b7}') || ('\u{300}'..='\u{36f}').contains(&c);
    if name.chars().next().is_some_and(begins) && name.chars().all(goes_on) {
        Ok(())
    } else {
        Err(Reason::Plain("a name that XML does not allow"))
    }
}

fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn check_chars(text: &str) -> Result<(), &'static str> {
    if text.chars().all(is_xml_char) { Ok(()) } else { Err("a character XML cannot carry") }
}

/// Writes an element so that reading it again gives the same tree. Characters XML cannot carry become `U+FFFD`.
pub fn write(element: &Element) -> String {
    let mut out = String::new();
    write_to(element, &mut out);
    out
}

fn write_to(element: &Element, out: &mut String) {
    out.push('<');
    out.push_str(&element.name);
    for (name, value) in &element.attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("='");
        escape(value, true, out);
        out.push('\'');
    }
    if element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    for child in &element.children {
        match child {
            Node::Element(e) => write_to(e, out),
            Node::Text(text) => escape(text, false, out),
            Node::Comment(text) => {
                // No comment that was read has two hyphens or ends with one; one made here must not end early.
                out.push_str("<!--");
                out.push_str(&text.replace("--", "- -"));
                out.push_str(if text.ends_with('-') { " -->" } else { "-->" });
            }
            Node::Instruction(text) => {
                out.push_str("<?");
                out.push_str(text);
                out.push_str("?>");
            }
        }
    }
    out.push_str("</");
    out.push_str(&element.name);
    out.push('>');
}

fn escape(text: &str, attribute: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' if attribute => out.push_str("&apos;"),
            '"' if attribute => out.push_str("&quot;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\t' if attribute => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(text: &str) -> String {
        write(&parse(text).unwrap())
    }

    #[test]
    fn unknown_parts_come_back() {
        let text = "<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><metadata><x:y xmlns:x='urn:x' a='1&#10;2'>t &amp; u</x:y>\
                    <!-- kept --><?note kept too?></metadata><q:commandline><q:arg value='&lt;-S>'/></q:commandline></domain>";
        let tree = parse(text).unwrap();
        assert_eq!(parse(&write(&tree)).unwrap(), tree);
        assert_eq!(tree.at(&["metadata", "x:y"]).unwrap().attribute("a"), Some("1\n2"));
        assert!(write(&tree).contains("<!-- kept --><?note kept too?>"));
    }

    #[test]
    fn text_and_cdata_and_references_are_one_text() {
        assert_eq!(parse("<a>x&lt;<![CDATA[<&>]]>&#x41;\r\ny</a>").unwrap().text(), "x<<&>A\ny");
        assert_eq!(round("<a><![CDATA[]]></a>"), "<a/>");
    }

    #[test]
    fn document_types_and_entities_are_refused() {
        assert_eq!(parse("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Err(BadXml::Refused("a document type")));
        assert_eq!(parse("<a>&x;</a>"), Err(BadXml::Refused("an entity of its own")));
        for broken in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "x<a/>",
            "<a b='1' b='2'/>",
            "<a b='&x;'/>",
            "<a b='<'/>",
            "<a>&#0;</a>",
            "<a>\u{1}</a>",
            "<1/>",
        ] {
            assert!(parse(broken).is_err(), "{broken:?} was read");
        }
    }

    #[test]
    fn limits_hold() {
        let deep = format!("{}{}", "<a>".repeat(DEPTH_LIMIT + 1), "</a>".repeat(DEPTH_LIMIT + 1));
        assert_eq!(parse(&deep), Err(BadXml::Limit("depth")));
        assert_eq!(parse(&" ".repeat(SIZE_LIMIT + 1)), Err(BadXml::Limit("size")));
        let wide: String = (0..=ATTRIBUTE_LIMIT).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(parse(&format!("<a{wide}/>")), Err(BadXml::Limit("attributes")));
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[a-zA-Z_][a-zA-Z0-9_.-]{0,6}(:[a-z]{1,4})?").unwrap()
    }

    fn trees() -> impl Strategy<Value = Element> {
        let value = || "[ -~\n\t\r\u{80}-\u{2ff}\u{1f600}]{0,12}";
        let attributes = move || proptest::collection::btree_map(name(), value(), 0..4);
        let leaf = (name(), attributes()).prop_map(|(name, a)| Element { name, attributes: a.into_iter().collect(), children: vec![] });
        leaf.prop_recursive(4, 40, 5, move |inner| {
            let child = prop_oneof![
                inner.prop_map(Node::Element),
                value().prop_map(Node::Text),
                "[ a-z]{0,8}".prop_map(Node::Comment),
                "[a-w]{1,4} [a-z ]{0,6}".prop_map(Node::Instruction),
            ];
            (name(), attributes(), proptest::collection::vec(child, 0..5)).prop_map(|(name, a, children)| {
                // Empty texts and neighbouring texts have no form of their own in XML.
                let mut kept: Vec<Node> = Vec::new();
                for child in children {
                    match (kept.last_mut(), child) {
                        (_, Node::Text(t)) if t.is_empty() => {}
                        (Some(Node::Text(before)), Node::Text(t)) => before.push_str(&t),
                        (_, child) => kept.push(child),
                    }
                }
                Element { name, attributes: a.into_iter().collect(), children: kept }
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(tree in trees()) {
            let text = write(&tree);
            let back = parse(&text);
            prop_assert_eq!(back, Ok(tree), "{}", text);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[<>/a-c='\"&;!\\[\\]?x# \n-]{0,60}") {
            if let Ok(tree) = parse(&text) {
                prop_assert_eq!(parse(&write(&tree)), Ok(tree));
            }
        }
    }
}
