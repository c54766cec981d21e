//! The stages of a command with forms. Pure: no I/O, and the time is an argument.
//!
//! ```text
//!   begin --no arguments, harmless--------------------------> run
//!     |---arguments--> [arguments] --submit, harmless-------> run
//!     |                    | ^                  ^
//!     |             submit | | prev             | yes
//!     |                    v |                  |
//!     +--destroys------> [confirm] -------------+--- no ---> declined
//!   cancel ends every stage; a stage left alone for 15 minutes is forgotten.
//! ```

use crate::stanza::{
    adhoc::Action,
    form::{self, Field, FieldKind, Form, FormKind},
};
use archipel_contract::{Effect, EntityId, Fault, Millis, OperationId, catalog::CommandEntry};
use jid::FullJid;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// How long a stage waits for its form.
const LIFETIME: Millis = Millis::seconds(15 * 60);
/// The most open commands of one person; a further one replaces their oldest.
const MAX_OPEN: usize = 8;
/// The most requests under way of one session.
const MAX_RUNNING: usize = 64;

/// Which form was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The arguments.
    Arguments,
    /// Whether it is really meant.
    Confirm,
}

/// One open command.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// Whose it is.
    pub owner: FullJid,
    /// Which command.
    pub entry: &'static CommandEntry,
    /// On what; `None` is the cell.
    pub target: Option<EntityId>,
    /// Which form was shown.
    pub step: Step,
    /// What was filled in so far.
    pub arguments: Map<String, Value>,
    /// The operation it will be.
    pub operation: OperationId,
    /// When it was last touched.
    touched: Millis,
}

/// What to do after a submission.
#[derive(Debug)]
pub(crate) enum Move {
    /// Show this form and wait; the fault says what was wrong with the last one.
    Show(Box<Form>, Step, Option<Fault>),
    /// Carry it out.
    Run,
    /// They gave up.
    Canceled,
    /// They said no.
    Declined,
}

impl Stage {
    /// The first move of a command.
    pub(crate) fn begin(
        owner: FullJid,
        entry: &'static CommandEntry,
        target: Option<EntityId>,
        operation: OperationId,
        now: Millis,
    ) -> Stage {
        Stage { owner, entry, target, step: first(entry), arguments: Map::new(), operation, touched: now }
    }

    /// The form of the step it is in, or running at once.
    pub(crate) fn open(&self, name: &str) -> Move {
        match self.step {
            Step::Arguments if self.entry.arguments.is_empty() => Move::Run,
            Step::Arguments => Move::Show(Box::new(form::of_command(self.entry, &self.arguments)), Step::Arguments, None),
            Step::Confirm => Move::Show(Box::new(confirmation(self.entry, name)), Step::Confirm, None),
        }
    }

    /// What an action with the form that came along means. `name` is how people call the target.
    pub(crate) fn act(&mut self, action: Action, form: Option<&Form>, name: &str, now: Millis) -> Move {
        self.touched = now;
        match (action, self.step) {
            (Action::Cancel, _) => return Move::Canceled,
            (Action::Prev, _) => {
                self.step = first(self.entry);
                return self.open(name);
            }
            (Action::Execute | Action::Next | Action::Complete, _) => {}
        }
        if form.is_some_and(|f| f.kind == FormKind::Cancel) {
            return Move::Canceled;
        }
        match self.step {
            Step::Arguments => {
                let empty = Form::new(FormKind::Submit, "");
                match form::arguments(self.entry, form.unwrap_or(&empty)) {
                    Ok(arguments) => self.arguments = arguments,
                    Err(fault) => return Move::Show(Box::new(form::of_command(self.entry, &self.arguments)), Step::Arguments, Some(fault)),
                }
                if self.entry.effect == Effect::Destroy {
                    self.step = Step::Confirm;
                    return self.open(name);
                }
                Move::Run
            }
            Step::Confirm => match form.and_then(|f| f.value("confirm")).map(|v| matches!(v, "1" | "true")) {
                Some(true) => Move::Run,
                Some(false) => Move::Declined,
                None => Move::Show(
                    Box::new(confirmation(self.entry, name)),
                    Step::Confirm,
                    Some(Fault::invalid("confirm is missing: answer yes or no")),
                ),
            },
        }
    }
}

fn first(entry: &CommandEntry) -> Step {
    if entry.arguments.is_empty() && entry.effect == Effect::Destroy { Step::Confirm } else { Step::Arguments }
}

fn confirmation(entry: &CommandEntry, name: &str) -> Form {
    let mut form = Form::new(FormKind::Form, &form::form_type(&entry.name));
    form.title = Some(format!("{}: are you sure?", entry.title));
    form.instructions = Some(entry.description.clone());
    let mut confirm = Field::new("confirm", FieldKind::Boolean, "0").labelled(format!("Yes, {} {name}", entry.verb.replace('-', " ")));
    confirm.required = true;
    form.fields.push(confirm);
    form
}

/// All open commands, and how many run for each session.
#[derive(Default)]
pub(crate) struct Sessions {
    open: HashMap<String, Stage>,
    running: HashMap<u64, usize>,
}

impl Sessions {
    /// Keeps a stage open under a fresh name that nobody can guess.
    pub(crate) fn keep(&mut self, stage: Stage, now: Millis) -> String {
        self.open.retain(|_, s| now.0.saturating_sub(s.touched.0) < LIFETIME.0);
        let person = stage.owner.to_bare();
        let mut theirs: Vec<(Millis, String)> =
            self.open.iter().filter(|(_, s)| s.owner.to_bare() == person).map(|(id, s)| (s.touched, id.clone())).collect();
        theirs.sort();
        for (_, id) in theirs.iter().rev().skip(MAX_OPEN - 1) {
            self.open.remove(id);
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.open.insert(id.clone(), stage);
        id
    }

    /// Takes a stage out, if it is this person's, of this command, on this target, and not too old.
    pub(crate) fn take(&mut self, id: &str, owner: &FullJid, node: &str, target: Option<&EntityId>, now: Millis) -> Result<Stage, Fault> {
        let fits = |s: &Stage| {
            s.owner == *owner && s.entry.name == node && s.target.as_ref() == target && now.0.saturating_sub(s.touched.0) < LIFETIME.0
        };
        if self.open.get(id).is_some_and(fits)
            && let Some(stage) = self.open.remove(id)
        {
            return Ok(stage);
        }
        Err(Fault::invalid("this command is over or was left alone for too long; begin it again"))
    }

    /// Puts a stage back under its name.
    pub(crate) fn put_back(&mut self, id: String, stage: Stage) {
        self.open.insert(id, stage);
    }

    /// Forgets what a closed session had open.
    pub(crate) fn close(&mut self, owner: &FullJid) {
        self.open.retain(|_, s| s.owner != *owner);
    }

    /// Counts a request that begins to run. `false`: the session has too many already.
    pub(crate) fn start(&mut self, session: u64) -> bool {
        let running = self.running.entry(session).or_default();
        if *running >= MAX_RUNNING {
            return false;
        }
        *running += 1;
        true
    }

    /// Counts a request that ended.
    pub(crate) fn end(&mut self, session: u64) {
        if let Some(running) = self.running.get_mut(&session) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&session);
            }
        }
    }
}
