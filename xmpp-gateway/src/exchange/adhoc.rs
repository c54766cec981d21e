//! Ad-hoc commands (XEP-0050): the JSON path of our own clients, and the forms of everybody else's. `stage.rs` decides what
//! comes next; this file carries it out and answers.

use super::{
    Exchange,
    dispatch::{entry, fits, missing},
    reply::Reply,
    sentence,
    stage::{Move, Stage, Step},
    words,
};
use crate::{
    server::session::Session,
    stanza::{
        adhoc::{Action, Actions, Command, Note, Status},
        form::Form,
    },
};
use archipel_contract::{
    Caller, Condition, Effect, Entity, EntityId, Fault, OperationId, Role, Verdict,
    access::authorise,
    catalog::CommandEntry,
    port::{Address, Dispatcher, Request},
};
use minidom::Element;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a command on an entity in this state would say, if it must be refused.
pub(super) fn refusal(entry: &CommandEntry, entity: Option<&Entity>) -> Option<String> {
    let entity = entity?;
    // With control lost nobody knows the state; whoever carries it out decides.
    if matches!(entity.condition, Condition::ControlLost | Condition::Unreachable) {
        return None;
    }
    match entry.policy.get(entity.facts.state()) {
        Some(Verdict::Refused(reason)) => Some(format!("{} {reason}", entity.name)),
        Some(Verdict::Allowed) | None => None,
    }
}

impl Exchange {
    /// A `<command/>` sent to the cell (`entity` is `None`) or to an entity.
    pub(super) fn on_command(
        self: &Arc<Self>,
        session: &Arc<Session>,
        role: Role,
        entity: Option<Arc<Entity>>,
        payload: &Element,
        reply: Reply,
    ) {
        let outcome = Command::parse(payload).and_then(|command| match command.json.clone() {
            Some(arguments) => self.run_json(session, role, entity.as_ref().map(|e| &e.id), command, arguments, &reply),
            None => self.run_stage(session, role, entity.as_deref(), command, &reply),
        });
        if let Err(fault) = outcome {
            reply.fault(&fault);
        }
    }

    /// A `<command/>` sent to an entity that is not there. An operation that is repeated may be why it is gone.
    pub(super) fn on_command_of_absent(
        self: &Arc<Self>,
        session: &Arc<Session>,
        role: Role,
        id: &EntityId,
        payload: &Element,
        reply: Reply,
    ) {
        let outcome = Command::parse(payload).and_then(|command| match command.json.clone() {
            Some(arguments) => self.run_json(session, role, Some(id), command, arguments, &reply),
            None => Err(missing(&self.locations.read(), id)),
        });
        if let Err(fault) = outcome {
            reply.fault(&fault);
        }
    }

    fn run_json(
        self: &Arc<Self>,
        session: &Arc<Session>,
        role: Role,
        target: Option<&EntityId>,
        command: Command,
        arguments: Value,
        reply: &Reply,
    ) -> Result<(), Fault> {
        let request = self.request(session, role, target, &command.node, arguments, command.operation);
        let reply = reply.clone();
        self.run(session.id(), request, move |outcome| match outcome {
            Ok(value) => {
                let id = command.session.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
                let mut answer = Command::answer(command.node, id, Status::Completed);
                answer.notes.extend(words::message(&value).map(Note::info));
                answer.json = Some(value);
                reply.element(&answer.print());
            }
            Err(fault) => reply.fault(&fault),
        })
    }

    fn run_stage(
        self: &Arc<Self>,
        session: &Arc<Session>,
        role: Role,
        entity: Option<&Entity>,
        command: Command,
        reply: &Reply,
    ) -> Result<(), Fault> {
        let now = self.clock.monotonic();
        let name = entity.map_or(self.cell.as_str(), |e| &*e.name);
        let target = entity.map(|e| &e.id);
        let form = command.form.as_ref().map(Form::parse).transpose()?;
        let (id, mut stage, step) = match &command.session {
            Some(id) => {
                let mut stage = self.commands.lock().take(id, session.jid(), &command.node, target, now)?;
                let step = stage.act(command.action(), form.as_ref(), name, now);
                (Some(id.clone()), stage, step)
            }
            None => {
                // An unknown node is `item-not-found`, as the specification asks.
                let entry = entry(self.catalog, &command.node).map_err(|f| Fault::not_found(f.message))?;
                let operation = command.operation.unwrap_or_else(OperationId::fresh);
                authorise(&Caller { jid: session.jid().to_string(), role, operation }, &entry.name, entry.access)?;
                fits(entry, entity.map(Entity::kind))?;
                if command.action() == Action::Cancel {
                    let answer = Command::answer(&*command.node, uuid::Uuid::new_v4().to_string(), Status::Canceled);
                    reply.element(&answer.print());
                    return Ok(());
                }
                if let Some(reason) = refusal(entry, entity) {
                    self.finish(reply, entry, None, &Err(Fault::wrong_state(reason)));
                    return Ok(());
                }
                let mut stage = Stage::begin(session.jid().clone(), entry, target.cloned(), operation, now);
                // Some clients fill the form in at once.
                let step = match &form {
                    Some(form) => stage.act(command.action(), Some(form), name, now),
                    None => stage.open(name),
                };
                (None, stage, step)
            }
        };
        let entry = stage.entry;
        match step {
            Move::Show(form, step, wrong) => {
                stage.step = step;
                let id = match id {
                    Some(id) => {
                        self.commands.lock().put_back(id.clone(), stage);
                        id
                    }
                    None => self.commands.lock().keep(stage, now),
                };
                let mut answer = Command::answer(&*entry.name, id, Status::Executing);
                answer.actions = Some(actions(entry, step));
                answer.notes.extend(wrong.map(|f| Note::error(sentence(&f))));
                answer.form = Some(form.print());
                reply.element(&answer.print());
                Ok(())
            }
            Move::Canceled => {
                let answer = Command::answer(&*entry.name, id.unwrap_or_default(), Status::Canceled);
                reply.element(&answer.print());
                Ok(())
            }
            Move::Declined => {
                let mut answer = Command::answer(&*entry.name, id.unwrap_or_default(), Status::Completed);
                answer.notes.push(Note::info("nothing was done"));
                reply.element(&answer.print());
                Ok(())
            }
            Move::Run => {
                if let Some(reason) = refusal(entry, entity) {
                    self.finish(reply, entry, id, &Err(Fault::wrong_state(reason)));
                    return Ok(());
                }
                let arguments = Value::Object(std::mem::take(&mut stage.arguments));
                let request = self.request(session, role, target, &entry.name, arguments, Some(stage.operation));
                let (exchange, reply) = (self.clone(), reply.clone());
                self.run(session.id(), request, move |outcome| exchange.finish(&reply, entry, id, &outcome))
            }
        }
    }

    /// The last stage for a form client: a note that says it all, and a form for tables.
    fn finish(&self, reply: &Reply, entry: &CommandEntry, id: Option<String>, outcome: &Result<Value, Fault>) {
        let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut answer = Command::answer(&*entry.name, id, Status::Completed);
        match outcome {
            Ok(value) => {
                answer.notes.push(Note::info(words::answer(value)));
                answer.form = words::result_form(&entry.name, &entry.title, value).map(|f| f.print());
            }
            Err(fault) => answer.notes.push(Note::error(sentence(fault))),
        }
        reply.element(&answer.print());
    }

    /// A request of somebody, with what the edge knows of them.
    pub(super) fn request(
        &self,
        session: &Session,
        role: Role,
        target: Option<&EntityId>,
        command: &str,
        arguments: Value,
        operation: Option<OperationId>,
    ) -> Request {
        Request {
            target: target.map_or(Address::Cell, |id| Address::Entity(id.clone())),
            command: command.to_owned(),
            arguments: if arguments.is_null() { Value::Object(Map::new()) } else { arguments },
            caller: Caller { jid: session.jid().to_string(), role, operation: operation.unwrap_or_else(OperationId::fresh) },
        }
    }

    /// Carries a request out beside everything else, at most so many for one session.
    pub(super) fn run(
        self: &Arc<Self>,
        session: u64,
        request: Request,
        then: impl FnOnce(Result<Value, Fault>) + Send + 'static,
    ) -> Result<(), Fault> {
        if !self.commands.lock().start(session) {
            return Err(Fault::busy("too many commands are under way for you; wait for some of them"));
        }
        let running = Running { exchange: self.clone(), session };
        tokio::spawn(async move {
            let outcome = running.exchange.call(request).await;
            drop(running);
            then(outcome);
        });
        Ok(())
    }
}

/// Takes a request off the count when it ends, however it ends.
struct Running {
    exchange: Arc<Exchange>,
    session: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.exchange.commands.lock().end(self.session);
    }
}

fn actions(entry: &CommandEntry, step: Step) -> Actions {
    match step {
        Step::Arguments if entry.effect == Effect::Destroy => Actions { default: Some(Action::Next), offered: vec![Action::Next] },
        Step::Arguments => Actions { default: Some(Action::Complete), offered: vec![Action::Complete] },
        Step::Confirm if entry.arguments.is_empty() => Actions { default: Some(Action::Complete), offered: vec![Action::Complete] },
        Step::Confirm => Actions { default: Some(Action::Complete), offered: vec![Action::Prev, Action::Complete] },
    }
}
