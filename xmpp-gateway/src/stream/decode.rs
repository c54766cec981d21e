//! Bytes to elements, with every limit enforced while reading: what is too large, too deep or forbidden is refused before it
//! is kept, so an attacker costs at most one parser token (8 KiB) beyond the limit.
//!
//! ```text
//!                  <stream:stream>             <iq> ... </iq>
//!   before --------------------------> open ---------------------> open
//!                    Piece::Open        |       Piece::Element
//!                                       | </stream:stream>
//!                                       v Piece::Close
//!   a WebSocket frame is one document: <open/>, <close/> or one element
//! ```

use super::condition::{StreamCondition, StreamError};
use super::ns;
use minidom::Element;
use rxml::error::EndOrError;
use rxml::{NcName, Parse, RawEvent, RawParser, RawQName};

/// What one top-level element may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes on the wire.
    pub bytes: usize,
    /// Levels of nesting, the element itself included.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Elements altogether; each costs far more memory than its four bytes on the wire.
    pub elements: usize,
}

impl Bounds {
    /// Before login: the least that RFC 6120 section 13.12 allows.
    pub const BEFORE_LOGIN: Bounds = Bounds { bytes: 10 * 1024, depth: 32, attributes: 64, elements: 256 };
    /// For people.
    pub const PERSON: Bounds = Bounds { bytes: 256 * 1024, depth: 32, attributes: 64, elements: 16 * 1024 };
    /// For agents, which assert pages of entities.
    pub const NODE: Bounds = Bounds { bytes: 1024 * 1024, depth: 32, attributes: 64, elements: 64 * 1024 };
    /// For what a person's program gets from the server it chose: the list of a cell of ten thousand machines is one answer of
    /// four mebibytes. The server itself queues no more than this for anybody.
    pub const ANSWER: Bounds = Bounds { bytes: 8 * 1024 * 1024, depth: 32, attributes: 64, elements: 64 * 1024 };
}

/// The attributes of a stream header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// Whom the peer means to talk to.
    pub to: Option<String>,
    /// Who the peer says it is.
    pub from: Option<String>,
    /// The stream's id (from a server).
    pub id: Option<String>,
    /// The protocol's version.
    pub version: Option<String>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// The peer opened (or restarted) the stream.
    Open(Header),
    /// One complete top-level element.
    Element(Element),
    /// The peer closed the stream.
    Close,
}

/// An element whose head is being read.
struct Head {
    name: RawQName,
    attributes: Vec<(RawQName, String)>,
}

/// Reads one stream, or one frame. After an error it must not be used again.
pub struct Decoder {
    parser: RawParser,
    bounds: Bounds,
    framed: bool,
    begun: bool,
    head: Option<Head>,
    /// Namespace declarations in force: at which depth, which prefix, which namespace.
    scopes: Vec<(usize, Option<NcName>, String)>,
    /// The open elements of the current piece.
    stack: Vec<Element>,
    depth: usize,
    spent: usize,
    elements: usize,
    last: usize,
}

impl Decoder {
    /// A stream over bytes: a header, elements, a footer.
    pub fn stream(bounds: Bounds) -> Decoder {
        Decoder {
            parser: RawParser::new(),
            bounds,
            framed: false,
            begun: false,
            head: None,
            scopes: Vec::new(),
            stack: Vec::new(),
            depth: 0,
            spent: 0,
            elements: 0,
            last: 0,
        }
    }

    /// One frame of RFC 7395: exactly one element.
    pub fn frame(text: &str, bounds: Bounds) -> Result<Piece, StreamError> {
        if text.len() > bounds.bytes {
            return Err(too_large(&bounds));
        }
        let mut decoder = Decoder { framed: true, ..Decoder::stream(bounds) };
        let mut input = text.as_bytes();
        let piece = decoder.feed(&mut input)?;
        let rest = input.iter().all(u8::is_ascii_whitespace);
        match piece {
            Some(Piece::Element(element)) if rest => Ok(match (element.name(), element.has_ns(ns::FRAMING)) {
                ("open", true) => Piece::Open(Header {
                    to: element.attr("to").map(str::to_owned),
                    from: element.attr("from").map(str::to_owned),
                    id: element.attr("id").map(str::to_owned),
                    version: element.attr("version").map(str::to_owned),
                }),
                ("close", true) => Piece::Close,
                _ => Piece::Element(element),
            }),
            _ => Err(StreamError::new(StreamCondition::NotWellFormed, "a frame holds exactly one complete element")),
        }
    }

    /// Other bounds from the next element on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The size in bytes of the piece last returned.
    pub fn last_len(&self) -> usize {
        self.last
    }

    /// Reads from `input`, consuming it, until a piece is complete or the input is used up.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Piece>, StreamError> {
        // A keepalive may come before the header of a restarted stream, where XML itself allows no white space.
        while !self.begun {
            match input.split_first() {
                None => return Ok(None),
                Some((byte, rest)) if byte.is_ascii_whitespace() => *input = rest,
                Some((b'<', _)) => self.begun = true,
                // Said at once, since the parser would wait for the end of what it takes for text.
                Some(_) => return Err(StreamError::new(StreamCondition::NotWellFormed, "this is not XML")),
            }
        }
        loop {
            let event = match self.parser.parse(input, false) {
                Ok(Some(event)) => event,
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(not_xml(error)),
            };
            if let Some(piece) = self.event(event)? {
                return Ok(Some(piece));
            }
        }
    }

    fn event(&mut self, event: RawEvent) -> Result<Option<Piece>, StreamError> {
        self.spent += event.metrics().len();
        if self.spent > self.bounds.bytes && !(self.between() && matches!(event, RawEvent::Text(..))) {
            return Err(too_large(&self.bounds));
        }
        match event {
            RawEvent::XmlDeclaration(..) => Ok(None),
            RawEvent::ElementHeadOpen(_, name) => {
                self.elements += 1;
                if self.stack.len() >= self.bounds.depth {
                    return Err(StreamError::new(
                        StreamCondition::PolicyViolation,
                        format!("more than {} levels of nesting", self.bounds.depth),
                    ));
                }
                if self.elements > self.bounds.elements {
                    return Err(StreamError::new(
                        StreamCondition::PolicyViolation,
                        format!("more than {} elements in one stanza", self.bounds.elements),
                    ));
                }
                self.depth += 1;
                self.head = Some(Head { name, attributes: Vec::new() });
                Ok(None)
            }
            RawEvent::Attribute(_, name, value) => self.attribute(name, value).map(|()| None),
            RawEvent::ElementHeadClose(_) => self.opened(),
            RawEvent::Text(_, text) => {
                if let Some(top) = self.stack.last_mut() {
                    top.append_text(text);
                } else if text.bytes().all(|b| b.is_ascii_whitespace()) {
                    self.spent = 0;
                } else {
                    return Err(StreamError::new(StreamCondition::BadFormat, "text between stanzas"));
                }
                Ok(None)
            }
            RawEvent::ElementFoot(_) => Ok(self.closed()),
        }
    }

    /// Whether we are between two top-level elements.
    fn between(&self) -> bool {
        self.stack.is_empty() && self.head.is_none()
    }

    fn attribute(&mut self, name: RawQName, value: String) -> Result<(), StreamError> {
        let Some(head) = self.head.as_mut() else {
            return Err(StreamError::new(StreamCondition::NotWellFormed, "an attribute outside of an element"));
        };
        if head.attributes.len() >= self.bounds.attributes {
            return Err(StreamError::new(
                StreamCondition::PolicyViolation,
                format!("more than {} attributes in one element", self.bounds.attributes),
            ));
        }
        if head.attributes.iter().any(|(known, _)| *known == name) {
            return Err(StreamError::new(StreamCondition::NotWellFormed, "an attribute twice in one element"));
        }
        match &name {
            (Some(prefix), local) if prefix == "xmlns" => self.scopes.push((self.depth, Some(local.clone()), value.clone())),
            (None, local) if local == "xmlns" => self.scopes.push((self.depth, None, value.clone())),
            _ => {}
        }
        head.attributes.push((name, value));
        Ok(())
    }

    fn lookup(&self, prefix: Option<&NcName>) -> Result<&str, StreamError> {
        match (prefix, self.scopes.iter().rev().find(|(_, known, _)| known.as_ref() == prefix)) {
            (_, Some((_, _, namespace))) => Ok(namespace),
            (None, None) => Ok(""),
            (Some(prefix), None) if prefix == "xml" => Ok(rxml::XMLNS_XML),
            (Some(prefix), None) => {
                Err(StreamError::new(StreamCondition::NotWellFormed, format!("the prefix {:.32} is not declared", prefix.as_str())))
            }
        }
    }

    /// A head is complete.
    fn opened(&mut self) -> Result<Option<Piece>, StreamError> {
        let Some(Head { name: (prefix, local), attributes }) = self.head.take() else {
            return Err(StreamError::new(StreamCondition::NotWellFormed, "the end of a head without its beginning"));
        };
        let namespace = self.lookup(prefix.as_ref())?;
        if !self.framed && self.depth == 1 {
            let header = self.header(namespace, &local, attributes)?;
            self.last = std::mem::take(&mut self.spent);
            return Ok(Some(header));
        }
        let mut element = Element::bare(local.as_str(), namespace);
        for ((prefix, local), value) in attributes {
            let space = match &prefix {
                Some(p) if p == "xmlns" => continue,
                None if local == "xmlns" => continue,
                None => rxml::Namespace::NONE,
                Some(p) if p == "xml" => rxml::Namespace::XML,
                Some(p) => rxml::Namespace::from(self.lookup(Some(p))?.to_owned()),
            };
            if element.attrs_mut().insert(space, local, value).is_some() {
                return Err(StreamError::new(StreamCondition::NotWellFormed, "an attribute twice in one element"));
            }
        }
        self.stack.push(element);
        Ok(None)
    }

    fn header(&self, namespace: &str, local: &str, attributes: Vec<(RawQName, String)>) -> Result<Piece, StreamError> {
        if namespace != ns::STREAMS || self.lookup(None)? != ns::CLIENT {
            return Err(StreamError::new(
                StreamCondition::InvalidNamespace,
                format!("a stream here is <stream:stream xmlns='{}' xmlns:stream='{}'>", ns::CLIENT, ns::STREAMS),
            ));
        }
        if local != "stream" {
            return Err(StreamError::new(StreamCondition::BadFormat, "a stream begins with <stream:stream>"));
        }
        let mut header = Header::default();
        for ((prefix, name), value) in attributes {
            match (prefix, name.as_str()) {
                (None, "to") => header.to = Some(value),
                (None, "from") => header.from = Some(value),
                (None, "id") => header.id = Some(value),
                (None, "version") => header.version = Some(value),
                _ => {}
            }
        }
        Ok(Piece::Open(header))
    }

    /// An element ends.
    fn closed(&mut self) -> Option<Piece> {
        while self.scopes.last().is_some_and(|(depth, _, _)| *depth == self.depth) {
            self.scopes.pop();
        }
        self.depth -= 1;
        let Some(element) = self.stack.pop() else {
            self.last = std::mem::take(&mut self.spent);
            return Some(Piece::Close);
        };
        match self.stack.last_mut() {
            Some(parent) => {
                parent.append_child(element);
                None
            }
            None => {
                self.last = std::mem::take(&mut self.spent);
                self.elements = 0;
                Some(Piece::Element(element))
            }
        }
    }
}

fn too_large(bounds: &Bounds) -> StreamError {
    StreamError::new(StreamCondition::PolicyViolation, format!("more than {} bytes in one stanza; send less at a time", bounds.bytes))
}

fn not_xml(error: rxml::Error) -> StreamError {
    use StreamCondition::{NotWellFormed, PolicyViolation, RestrictedXml};
    let condition = match &error {
        rxml::Error::RestrictedXml(what) if what.starts_with("long") || what.contains("too long") => PolicyViolation,
        rxml::Error::RestrictedXml(_) | rxml::Error::UndeclaredEntity => RestrictedXml,
        // "<!" that begins neither a comment nor CDATA begins a DTD.
        rxml::Error::InvalidSyntax(what) if what.starts_with("malformed cdata or comment") => RestrictedXml,
        _ => NotWellFormed,
    };
    StreamError::new(condition, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str =
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='c' version='1.0'>";
    const SMALL: Bounds = Bounds { bytes: 2000, depth: 8, attributes: 6, elements: 50 };

    /// Feeds the text in pieces of `step` bytes and answers everything read, and how many bytes were taken.
    fn read(text: &str, step: usize) -> (Vec<Piece>, Option<StreamError>, usize) {
        let mut decoder = Decoder::stream(SMALL);
        let mut pieces = Vec::new();
        let mut taken = 0;
        for chunk in text.as_bytes().chunks(step) {
            taken += chunk.len();
            let mut input = chunk;
            loop {
                match decoder.feed(&mut input) {
                    Ok(Some(piece)) => pieces.push(piece),
                    Ok(None) => break,
                    Err(error) => return (pieces, Some(error), taken),
                }
            }
        }
        (pieces, None, taken)
    }

    fn refused(body: &str) -> StreamCondition {
        read(&format!("{OPEN}{body}"), 7).1.unwrap_or_else(|| panic!("{body:.80} was accepted")).condition
    }

    #[test]
    fn pieces_are_the_same_however_the_bytes_arrive() {
        let text =
            format!("\n{OPEN} \n<iq id='1' xml:lang='en'><q xmlns='urn:q'>a&amp;<![CDATA[<b>]]></q></iq>\n<stream:error/></stream:stream>");
        let whole = read(&text, text.len());
        assert_eq!(whole.1, None);
        assert_eq!(whole.0.len(), 4);
        let Piece::Element(iq) = &whole.0[1] else { panic!("{:?}", whole.0) };
        assert_eq!(iq.get_child("q", "urn:q").unwrap().text(), "a&<b>");
        let Piece::Element(error) = &whole.0[2] else { panic!("{:?}", whole.0) };
        assert!(error.is("error", ns::STREAMS));
        for step in 1..50 {
            assert_eq!(read(&text, step).0, whole.0, "in steps of {step}");
        }
    }

    #[test]
    fn what_xmpp_forbids_is_restricted_xml() {
        for body in ["<!DOCTYPE a []>", "<?php ?>", "<!-- c -->", "<a>&foo;</a>", "<a><!ENTITY b 'c'></a>", "<a b='&c;'/>"] {
            assert_eq!(refused(body), StreamCondition::RestrictedXml, "{body}");
        }
        let bomb = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'>]><stream:stream>";
        assert_eq!(read(bomb, 5).1.map(|e| e.condition), Some(StreamCondition::RestrictedXml));
    }

    #[test]
    fn what_is_no_xml_is_not_well_formed() {
        for body in
            ["<a></b>", "<a b='1' b='2'/>", "<a xmlns:p='x' xmlns:q='x' p:b='1' q:b='2'/>", "<p:a/>", "<a", "<a \u{1}/>", "<a>&#0;</a>"]
        {
            let got = read(&format!("{OPEN}{body}   <"), 3).1.map(|e| e.condition);
            assert_eq!(got, Some(StreamCondition::NotWellFormed), "{body}");
        }
        assert_eq!(refused("text<"), StreamCondition::BadFormat);
    }

    #[test]
    fn headers_of_other_protocols_are_refused() {
        let condition = |text: &str| read(text, 9).1.map(|e| e.condition);
        assert_eq!(
            condition("<stream:stream xmlns='jabber:client' xmlns:stream='http://example.org'>"),
            Some(StreamCondition::InvalidNamespace)
        );
        assert_eq!(
            condition("<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>"),
            Some(StreamCondition::InvalidNamespace)
        );
        assert_eq!(
            condition("<s:flow xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>"),
            Some(StreamCondition::BadFormat)
        );
        assert_eq!(condition("GET / HTTP/1.1\r\n"), Some(StreamCondition::NotWellFormed));
    }

    #[test]
    fn limits_bite_at_the_limit_and_not_before() {
        assert_eq!(read(&format!("{OPEN}{}{}", "<a>".repeat(8), "</a>".repeat(8)), 11).0.len(), 2);
        assert_eq!(refused(&"<a>".repeat(9)), StreamCondition::PolicyViolation);
        let attributes = |n: usize| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
        assert_eq!(read(&format!("{OPEN}<a{}/>", attributes(6)), 11).0.len(), 2);
        assert_eq!(refused(&format!("<a{}/>", attributes(7))), StreamCondition::PolicyViolation);
        assert_eq!(refused(&format!("<a>{}", "<b/>".repeat(50))), StreamCondition::PolicyViolation);
        assert_eq!(read(&format!("{OPEN}<a>{}</a>", "x".repeat(1990)), 11).0.len(), 2);
        assert_eq!(refused(&format!("<a>{}</a>", "x".repeat(2000))), StreamCondition::PolicyViolation);
        assert_eq!(refused(&format!("<a b='{}'/>", "x".repeat(9000))), StreamCondition::PolicyViolation);
        assert_eq!(read(&format!("{OPEN}{}<a/>", " ".repeat(30_000)), 11).0.len(), 2, "keepalives are free");
    }

    #[test]
    fn the_huge_and_the_deep_are_refused_while_reading() {
        let (_, error, taken) = read(&format!("{OPEN}<a>{}</a>", "x".repeat(10_000_000)), 4096);
        assert_eq!(error.map(|e| e.condition), Some(StreamCondition::PolicyViolation));
        assert!(taken < 32 * 1024, "{taken} bytes were taken");
        let (_, error, taken) = read(&format!("{OPEN}{}", "<a>".repeat(1000)), 16);
        assert_eq!(error.map(|e| e.condition), Some(StreamCondition::PolicyViolation));
        assert!(taken < 300, "{taken} bytes were taken");
    }

    #[test]
    fn frames_hold_one_element() {
        assert!(
            matches!(Decoder::frame("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='c'/>", SMALL), Ok(Piece::Open(Header { to: Some(t), .. })) if t == "c")
        );
        assert_eq!(Decoder::frame("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", SMALL), Ok(Piece::Close));
        assert!(matches!(Decoder::frame("<iq xmlns='jabber:client'/> ", SMALL), Ok(Piece::Element(_))));
        for bad in ["", " ", "<a xmlns='x'>", "<a xmlns='x'/><b xmlns='x'/>", "<a xmlns='x'/>t", "x"] {
            assert!(Decoder::frame(bad, SMALL).is_err(), "{bad}");
        }
        assert_eq!(Decoder::frame(&"x".repeat(3000), SMALL).unwrap_err().condition, StreamCondition::PolicyViolation);
    }
}
