//! Any value as JSON inside XML: `<json xmlns='urn:xmpp:json:0'>...</json>` (XEP-0335).

use crate::ns;
use archipel_contract::Fault;
use minidom::Element;
use serde::{Serialize, de::DeserializeOwned};

/// The value as JSON text that XML can carry. JSON itself escapes control characters; the two non-characters that XML refuses
/// are written as escapes too.
pub fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    let text = serde_json::to_string(value).map_err(|e| Fault::internal("a value could not be written as JSON").because(e))?;
    if text.contains(['\u{fffe}', '\u{ffff}']) {
        return Ok(text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"));
    }
    Ok(text)
}

/// The container with this value. A value that JSON cannot write (none of ours) becomes `null`.
pub fn print<T: Serialize + ?Sized>(value: &T) -> Element {
    of_text(text(value).unwrap_or_else(|_| "null".to_owned()))
}

/// The container around JSON text that [`text`] made.
pub fn of_text(text: String) -> Element {
    let mut element = Element::bare("json", ns::JSON);
    element.append_text(text);
    element
}

/// Whether this element is a container.
pub fn is(element: &Element) -> bool {
    element.is("json", ns::JSON)
}

/// The value in a container.
pub fn parse<T: DeserializeOwned>(container: &Element) -> Result<T, Fault> {
    let text = container.text();
    serde_json::from_str(&text).map_err(|e| Fault::invalid("the JSON inside <json/> cannot be read").because(e))
}

/// The value in the container that is a child of this element; `None` when it has none.
pub fn find<T: DeserializeOwned>(parent: &Element) -> Result<Option<T>, Fault> {
    parent.get_child("json", ns::JSON).map(parse).transpose()
}

/// The value in the container that must be a child of this element.
pub fn need<T: DeserializeOwned>(parent: &Element) -> Result<T, Fault> {
    find(parent)?.ok_or_else(|| Fault::invalid(format!("<{}/> needs a <json xmlns='{}'/> inside", parent.name(), ns::JSON)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    proptest! {
        #[test]
        fn every_text_survives_the_wire(text in any::<String>()) {
            let value = json!({ "note": text });
            let back: Value = parse(&over_the_wire(&print(&value))).expect("it parses back");
            prop_assert_eq!(back, value);
        }
    }

    #[test]
    fn non_characters_survive_the_wire() {
        let value = json!("a\u{fffe}\u{ffff}\u{0}<&]]>\r\n");
        assert_eq!(parse::<Value>(&over_the_wire(&print(&value))), Ok(value));
    }

    #[test]
    fn broken_json_is_an_invalid_request_that_names_the_place() {
        let broken = of_text("{\"a\":".into());
        let fault = parse::<Value>(&broken).expect_err("it is broken");
        assert_eq!(fault.kind, archipel_contract::FaultKind::InvalidRequest);
        assert!(fault.to_string().contains("line 1"), "{fault}");
        assert!(need::<Value>(&Element::bare("hello", ns::NODE)).is_err());
        assert_eq!(find::<Value>(&Element::bare("hello", ns::NODE)), Ok(None));
    }
}
