//! A command and its stages (XEP-0050), with a form (XEP-0004) for people's clients or JSON (XEP-0335) for ours.
//!
//! ```text
//!   client                            responder
//!   execute            ----------->   executing + form + actions      (a form client, and arguments are missing)
//!   next | complete    ----------->   completed + notes (+ form)
//!   execute + json     ----------->   completed + note + json         (our clients: one stage, no session)
//! ```

use super::{json, set_attr, text_element};
use crate::ns;
use archipel_contract::{Fault, OperationId};
use minidom::Element;
use rxml::xml_ncname;
use serde_json::Value;

/// What the requester wants done with this stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The default of the stage.
    Execute,
    /// Give up.
    Cancel,
    /// Back to the stage before.
    Prev,
    /// On to the next stage.
    Next,
    /// Finish.
    Complete,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 5] = [Action::Execute, Action::Cancel, Action::Prev, Action::Next, Action::Complete];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Action::Execute => "execute",
            Action::Cancel => "cancel",
            Action::Prev => "prev",
            Action::Next => "next",
            Action::Complete => "complete",
        }
    }
    fn from_name(name: &str) -> Result<Action, Fault> {
        Action::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| Fault::invalid(format!("{name:?} is not an action of a command; use execute, next, prev, complete or cancel")))
    }
}

/// How a command stands, said by the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// More is needed.
    Executing,
    /// It is over; notes say how it went.
    Completed,
    /// The requester gave up.
    Canceled,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 3] = [Status::Executing, Status::Completed, Status::Canceled];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Status::Executing => "executing",
            Status::Completed => "completed",
            Status::Canceled => "canceled",
        }
    }
}

/// How serious a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// For information.
    Info,
    /// It went on, but look here.
    Warn,
    /// It failed.
    Error,
}

impl NoteKind {
    /// All kinds.
    pub const ALL: [NoteKind; 3] = [NoteKind::Info, NoteKind::Warn, NoteKind::Error];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            NoteKind::Info => "info",
            NoteKind::Warn => "warn",
            NoteKind::Error => "error",
        }
    }
}

/// A sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How serious it is.
    pub kind: NoteKind,
    /// What it says.
    pub text: String,
}

impl Note {
    /// A note for information.
    pub fn info(text: impl Into<String>) -> Note {
        Note { kind: NoteKind::Info, text: text.into() }
    }
    /// A note about a failure.
    pub fn error(text: impl Into<String>) -> Note {
        Note { kind: NoteKind::Error, text: text.into() }
    }
}

/// The actions a stage offers. `cancel` and `execute` are always possible and never listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// What `execute` means in this stage.
    pub default: Option<Action>,
    /// Those offered: any of `prev`, `next`, `complete`.
    pub offered: Vec<Action>,
}

/// One `<command/>`, in either direction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Command {
    /// The command's name, for example `domain.start`.
    pub node: String,
    /// What the requester wants; missing means `execute` (some clients never send one).
    pub action: Option<Action>,
    /// How it stands; only the responder says.
    pub status: Option<Status>,
    /// The session, from the second stage on.
    pub session: Option<String>,
    /// The operation it is, if the requester chose one.
    pub operation: Option<OperationId>,
    /// A `jabber:x:data` form, unread.
    pub form: Option<Element>,
    /// Arguments or answer as JSON.
    pub json: Option<Value>,
    /// Sentences for people.
    pub notes: Vec<Note>,
    /// What the stage offers.
    pub actions: Option<Actions>,
}

impl Command {
    /// The request of a client of ours: run `node` with these arguments at once.
    pub fn request(node: impl Into<String>, arguments: Value, operation: Option<OperationId>) -> Command {
        Command { node: node.into(), action: Some(Action::Execute), operation, json: Some(arguments), ..Command::default() }
    }

    /// An answer in this state.
    pub fn answer(node: impl Into<String>, session: impl Into<String>, status: Status) -> Command {
        Command { node: node.into(), status: Some(status), session: Some(session.into()), ..Command::default() }
    }

    /// What the requester wants, with the default of the specification.
    pub fn action(&self) -> Action {
        self.action.unwrap_or(Action::Execute)
    }

    /// Whether an element is a command.
    pub fn is(element: &Element) -> bool {
        element.is("command", ns::COMMANDS)
    }

    /// Reads a `<command/>`. Unknown children are ignored, as extensions may add any.
    pub fn parse(element: &Element) -> Result<Command, Fault> {
        if !Command::is(element) {
            return Err(Fault::invalid(format!("<{}/> is not a <command xmlns='{}'/>", element.name(), ns::COMMANDS)));
        }
        let node =
            element.attr("node").filter(|n| !n.is_empty()).ok_or_else(|| Fault::invalid("<command/> needs a node: the command's name"))?;
        let status = element
            .attr("status")
            .map(|s| {
                Status::ALL
                    .into_iter()
                    .find(|k| k.name() == s)
                    .ok_or_else(|| Fault::invalid(format!("{s:?} is not the status of a command")))
            })
            .transpose()?;
        let mut command = Command {
            node: node.to_owned(),
            // An empty attribute is what some clients send for "none".
            action: element.attr("action").filter(|a| !a.is_empty()).map(Action::from_name).transpose()?,
            status,
            session: element.attr("sessionid").filter(|s| !s.is_empty()).map(str::to_owned),
            ..Command::default()
        };
        for child in element.children() {
            if child.is("op", ns::OP) {
                let id = child.attr("id").ok_or_else(|| Fault::invalid("<op/> needs an id: a UUID of your choice"))?;
                command.operation = Some(id.parse().map_err(|e: archipel_contract::id::BadId| Fault::invalid(e.to_string()))?);
            } else if json::is(child) {
                command.json = Some(json::parse(child)?);
            } else if child.is("x", ns::DATA_FORMS) {
                command.form = Some(child.clone());
            } else if child.is("note", ns::COMMANDS) {
                let kind = NoteKind::ALL.into_iter().find(|k| child.attr("type") == Some(k.name())).unwrap_or(NoteKind::Info);
                command.notes.push(Note { kind, text: child.text() });
            } else if child.is("actions", ns::COMMANDS) {
                command.actions = Some(Actions {
                    default: child.attr("execute").filter(|a| !a.is_empty()).map(Action::from_name).transpose()?,
                    offered: child.children().filter_map(|a| Action::from_name(a.name()).ok()).collect(),
                });
            }
        }
        Ok(command)
    }

    /// Prints it, in the order clients expect: actions, form, notes.
    pub fn print(&self) -> Element {
        let mut element = Element::bare("command", ns::COMMANDS);
        set_attr(&mut element, xml_ncname!("node"), &self.node);
        if let Some(action) = self.action {
            set_attr(&mut element, xml_ncname!("action"), action.name());
        }
        if let Some(status) = self.status {
            set_attr(&mut element, xml_ncname!("status"), status.name());
        }
        if let Some(session) = &self.session {
            set_attr(&mut element, xml_ncname!("sessionid"), session);
        }
        if let Some(operation) = &self.operation {
            let mut op = Element::bare("op", ns::OP);
            set_attr(&mut op, xml_ncname!("id"), &operation.to_string());
            element.append_child(op);
        }
        if let Some(actions) = &self.actions {
            let mut list = Element::bare("actions", ns::COMMANDS);
            if let Some(default) = actions.default {
                set_attr(&mut list, xml_ncname!("execute"), default.name());
            }
            for action in &actions.offered {
                list.append_child(Element::bare(action.name(), ns::COMMANDS));
            }
            element.append_child(list);
        }
        if let Some(form) = &self.form {
            element.append_child(form.clone());
        }
        for note in &self.notes {
            let mut printed = text_element("note", ns::COMMANDS, &note.text);
            set_attr(&mut printed, xml_ncname!("type"), note.kind.name());
            element.append_child(printed);
        }
        if let Some(value) = &self.json {
            element.append_child(json::print(value));
        }
        element
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;
    use serde_json::json;

    fn parse(text: &str) -> Result<Command, Fault> {
        Command::parse(&text.parse().expect("it is XML"))
    }

    #[test]
    fn a_request_of_ours_survives_the_wire() {
        let command = Command::request("domain.start", json!({ "paused": true }), Some(OperationId::fresh()));
        assert_eq!(Command::parse(&over_the_wire(&command.print())), Ok(command));
    }

    #[test]
    fn a_stage_with_everything_survives_the_wire() {
        let command = Command {
            actions: Some(Actions { default: Some(Action::Complete), offered: vec![Action::Prev, Action::Complete] }),
            form: Some("<x xmlns='jabber:x:data' type='form'><title>A &amp; B</title></x>".parse().expect("it is XML")),
            notes: vec![Note::info("web1 is starting"), Note::error("no"), Note { kind: NoteKind::Warn, text: "<hm>".into() }],
            json: Some(json!(["a", 1, null])),
            ..Command::answer("domain.define", "s1", Status::Executing)
        };
        assert_eq!(Command::parse(&over_the_wire(&command.print())), Ok(command));
    }

    #[test]
    fn a_missing_or_empty_action_means_execute() {
        for text in [
            "<command xmlns='http://jabber.org/protocol/commands' node='a.b'/>",
            "<command xmlns='http://jabber.org/protocol/commands' node='a.b' action='' sessionid=''/>",
        ] {
            let command = parse(text).expect("it is a command");
            assert_eq!((command.action(), command.session), (Action::Execute, None));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let head = "<command xmlns='http://jabber.org/protocol/commands'";
        for (text, word) in [
            (format!("{head}/>"), "node"),
            (format!("{head} node='a.b' action='explode'/>"), "explode"),
            (format!("{head} node='a.b' status='fine'/>"), "fine"),
            (format!("{head} node='a.b'><op xmlns='urn:archipel:op:0' id='1'/></command>"), "operation id"),
            (format!("{head} node='a.b'><op xmlns='urn:archipel:op:0'/></command>"), "id"),
            (format!("{head} node='a.b'><json xmlns='urn:xmpp:json:0'>{{</json></command>"), "JSON"),
            ("<command xmlns='urn:x' node='a.b'/>".to_owned(), "commands"),
        ] {
            let fault = parse(&text).expect_err(&text);
            assert_eq!(fault.kind, archipel_contract::FaultKind::InvalidRequest);
            assert!(fault.message.contains(word), "{text}: {fault}");
        }
    }
}
