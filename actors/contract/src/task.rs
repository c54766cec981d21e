//! A task: work that goes on after its command was answered. It has an address, reports progress as events and can be
//! cancelled where that is possible.
//!
//! ```text
//!   running --> done
//!      |------> failed      (also: interrupted by a restart of the daemon)
//!      +------> cancelled
//! ```

use crate::{
    Effect, EntityId, Fault, Millis, Role, Target, Timestamp, Verdict,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It goes on.
    Running,
    /// It ended well.
    Done,
    /// It ended badly.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl TaskState {
    /// All states.
    pub const ALL: [TaskState; 4] = [TaskState::Running, TaskState::Done, TaskState::Failed, TaskState::Cancelled];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Running => "running",
            TaskState::Done => "done",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskFacts {
    /// How it stands.
    #[serde(rename = "progress_state")]
    pub state: TaskState,
    /// The command that began it.
    pub command: Arc<str>,
    /// The entity it works on, as the local part of its address.
    pub target: EntityId,
    /// Who asked: the bare JID.
    pub caller: Arc<str>,
    /// How far it is, 0 to 100; absent when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What it is doing, or how it ended. Lower case, no full stop.
    pub message: Arc<str>,
    /// The fault, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// How many ended tasks an agent remembers.
pub const REMEMBERED: usize = 200;
/// How long it remembers them over a restart.
pub const REMEMBERED_FOR: Millis = Millis::seconds(24 * 3600);

/// List the tasks of the cell, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListTasks {
    /// Only those on this hypervisor.
    pub host: Option<String>,
    /// Only those in this state, for example running.
    pub state: Option<String>,
}
declare!(ListTasks, "task.list", Read, Viewer, Cell, Vec<crate::Entity>);

/// Show how a task stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowTask {}
declare!(ShowTask, "task.show", Read, Viewer, Task, crate::Entity);

/// Stop a task. What it has already done stays done.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelTask {}
declare!(CancelTask, "task.cancel", Change, Admin, Task, Done);

/// Wait until a task ends, at most the given time; answers how it stands then.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WaitTask {
    /// How many seconds to wait at most.
    #[schemars(range(min = 0, max = 3600))]
    pub timeout: u32,
}
impl Default for WaitTask {
    fn default() -> Self {
        WaitTask { timeout: 60 }
    }
}
declare!(WaitTask, "task.wait", Read, Viewer, Task, crate::Entity);

/// May this command run on a task with these facts, and if not, why.
pub fn may(command: &str, facts: &TaskFacts) -> Verdict {
    match (command, facts.state) {
        ("task.cancel", TaskState::Running) => Verdict::Allowed,
        ("task.cancel", _) => Verdict::refused("has ended already"),
        _ => Verdict::Allowed,
    }
}
