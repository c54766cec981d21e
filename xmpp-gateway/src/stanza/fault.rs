//! A fault as a stanza error, and back. Both tables are matches without a wildcard arm, so that a new kind or condition does not
//! compile until somebody has decided.

use super::{set_attr, text_element};
use crate::ns;
use archipel_contract::{Fault, FaultKind};
use minidom::Element;
use rxml::xml_ncname;
use xmpp_parsers::stanza_error::DefinedCondition;

/// The error's type and condition for a kind (decision 0002).
pub fn condition(kind: FaultKind) -> (&'static str, &'static str) {
    match kind {
        FaultKind::InvalidRequest => ("modify", "bad-request"),
        FaultKind::NotFound => ("cancel", "item-not-found"),
        FaultKind::Forbidden => ("auth", "forbidden"),
        FaultKind::WrongState => ("wait", "unexpected-request"),
        FaultKind::Conflict => ("cancel", "conflict"),
        FaultKind::Busy => ("wait", "resource-constraint"),
        FaultKind::Timeout => ("wait", "remote-server-timeout"),
        FaultKind::Unavailable => ("wait", "recipient-unavailable"),
        FaultKind::Unsupported => ("cancel", "feature-not-implemented"),
        FaultKind::Internal => ("cancel", "internal-server-error"),
    }
}

/// The kind nearest to a condition somebody else chose.
fn kind_of(condition: &DefinedCondition) -> FaultKind {
    match condition {
        DefinedCondition::BadRequest
        | DefinedCondition::JidMalformed
        | DefinedCondition::NotAcceptable
        | DefinedCondition::UndefinedCondition => FaultKind::InvalidRequest,
        DefinedCondition::ItemNotFound | DefinedCondition::Gone { .. } | DefinedCondition::RemoteServerNotFound => FaultKind::NotFound,
        DefinedCondition::Forbidden
        | DefinedCondition::NotAllowed
        | DefinedCondition::NotAuthorized
        | DefinedCondition::RegistrationRequired
        | DefinedCondition::SubscriptionRequired => FaultKind::Forbidden,
        DefinedCondition::UnexpectedRequest => FaultKind::WrongState,
        DefinedCondition::Conflict => FaultKind::Conflict,
        DefinedCondition::ResourceConstraint | DefinedCondition::PolicyViolation => FaultKind::Busy,
        DefinedCondition::RemoteServerTimeout => FaultKind::Timeout,
        DefinedCondition::RecipientUnavailable | DefinedCondition::ServiceUnavailable | DefinedCondition::Redirect { .. } => {
            FaultKind::Unavailable
        }
        DefinedCondition::FeatureNotImplemented => FaultKind::Unsupported,
        DefinedCondition::InternalServerError => FaultKind::Internal,
    }
}

/// The `<error/>` for a fault.
pub fn print(fault: &Fault) -> Element {
    let (kind, condition) = condition(fault.kind);
    let mut error = Element::bare("error", ns::CLIENT);
    set_attr(&mut error, xml_ncname!("type"), kind);
    error.append_child(Element::bare(condition, ns::STANZA_ERRORS));
    error.append_child(text_element("text", ns::STANZA_ERRORS, &fault.message));
    let mut detail = Element::bare("fault", ns::FAULT);
    set_attr(&mut detail, xml_ncname!("kind"), fault.kind.name());
    if let Some(cause) = &fault.cause {
        detail.append_child(text_element("cause", ns::FAULT, cause));
    }
    error.append_child(detail);
    error
}

/// The fault in an `<error/>`, ours or anybody's. It always answers something: an error that says nothing is `internal`.
pub fn parse(error: &Element) -> Fault {
    let condition = error.children().find(|c| c.ns() == ns::STANZA_ERRORS && c.name() != "text");
    let detail = error.get_child("fault", ns::FAULT);
    let kind = detail
        .and_then(|d| d.attr("kind"))
        .and_then(FaultKind::from_name)
        .or_else(|| condition.and_then(|c| DefinedCondition::try_from(c.clone()).ok()).map(|c| kind_of(&c)))
        .unwrap_or(FaultKind::Internal);
    let message =
        error.get_child("text", ns::STANZA_ERRORS).map(Element::text).filter(|t| !t.is_empty()).unwrap_or_else(|| match condition {
            Some(c) => format!("the other side refused it as {}", c.name()),
            None => "the other side refused it without saying why".to_owned(),
        });
    let mut fault = Fault::new(kind, message);
    if let Some(cause) = detail.and_then(|d| d.get_child("cause", ns::FAULT)) {
        fault = fault.because(cause.text());
    }
    fault
}

/// The fault of an `iq` or other stanza of type `error`.
pub fn of_stanza(stanza: &Element) -> Fault {
    match stanza.children().find(|c| c.name() == "error") {
        Some(error) => parse(error),
        None => Fault::internal("the other side answered with an error that has no content"),
    }
}

/// The answer to a stanza (`iq`, `message` or `presence`) that failed: addresses swapped, the same id.
pub fn answer(stanza: &Element, fault: &Fault) -> Element {
    let mut answer = Element::bare(stanza.name(), ns::CLIENT);
    set_attr(&mut answer, xml_ncname!("type"), "error");
    for (name, from) in [(xml_ncname!("to"), "from"), (xml_ncname!("from"), "to"), (xml_ncname!("id"), "id")] {
        if let Some(value) = stanza.attr(from) {
            set_attr(&mut answer, name, value);
        }
    }
    answer.append_child(print(fault));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;

    #[test]
    fn every_kind_comes_back_as_itself() {
        for kind in FaultKind::ALL {
            for fault in [Fault::new(kind, "web1 is running already"), Fault::new(kind, "x").because("libvirt: <boom> & \u{7}bell")] {
                let back = parse(&over_the_wire(&print(&fault)));
                assert_eq!(back.kind, kind);
                assert_eq!(back.message, fault.message);
                assert_eq!(back.cause.is_some(), fault.cause.is_some());
            }
        }
    }

    #[test]
    fn every_kind_keeps_its_meaning_without_our_own_element() {
        // A foreign server may rebuild the error and drop what it does not know.
        for kind in FaultKind::ALL {
            let mut error = print(&Fault::new(kind, "x"));
            error.remove_child("fault", ns::FAULT);
            assert_eq!(parse(&error).kind, kind);
        }
    }

    #[test]
    fn an_error_of_a_stranger_is_a_fault_with_words() {
        let error: Element =
            "<error xmlns='jabber:client' type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
                .parse()
                .expect("it is XML");
        let fault = parse(&error);
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.message.contains("service-unavailable"));
        assert_eq!(parse(&Element::bare("error", ns::CLIENT)).kind, FaultKind::Internal);
    }

    #[test]
    fn an_answer_goes_back_where_the_stanza_came_from() {
        let stanza: Element = "<iq xmlns='jabber:client' type='set' id='7' from='a@c/x' to='b@c'/>".parse().expect("it is XML");
        let answer = answer(&stanza, &Fault::busy("later"));
        assert_eq!(
            (answer.attr("to"), answer.attr("from"), answer.attr("id"), answer.attr("type")),
            (Some("a@c/x"), Some("b@c"), Some("7"), Some("error"))
        );
        assert_eq!(of_stanza(&answer), Fault::busy("later"));
    }
}
