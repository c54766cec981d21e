//! One thing a person may ask of one kind of entity, declared once.
//!
//! From the declaration come the actix message, the ad-hoc command with its form, the CLI verb, the TypeScript type, the
//! button, the chat verb, the metric label, the audit record and the manual. Arguments are flat (a test refuses nested
//! ones); something big travels as one named document.

use crate::{Fault, Kind, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a command does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Changes nothing; may be repeated freely and is not journalled.
    Read,
    /// Changes something; journalled, runs at most once.
    Change,
    /// May lose data or cut off a running guest; surfaces ask before they send it.
    Destroy,
}

/// To whose address a command is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The cell itself (its bare domain): lists.
    Cell,
    /// A hypervisor.
    Hypervisor,
    /// A virtual machine.
    Domain,
    /// A virtual network.
    Network,
    /// A storage pool.
    StoragePool,
    /// A task.
    Task,
}

impl Target {
    /// The kind of entity that answers, or `None` for the cell.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Target::Cell => None,
            Target::Hypervisor => Some(Kind::Hypervisor),
            Target::Domain => Some(Kind::Domain),
            Target::Network => Some(Kind::Network),
            Target::StoragePool => Some(Kind::StoragePool),
            Target::Task => Some(Kind::Task),
        }
    }
}

/// A command: its arguments are the fields of the type, its documentation is the manual.
pub trait Command: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// `noun.verb`, the name on every surface.
    const NAME: &'static str;
    /// What it does to the world.
    const EFFECT: Effect;
    /// The least role that may use it.
    const ACCESS: Role;
    /// Whose address it is sent to.
    const TARGET: Target;
    /// What comes back. Change commands answer little; the new state arrives as an event.
    type Reply: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// Reads a command's arguments from JSON. Unknown and ill-typed arguments are refused with the command's name.
///
/// `null` counts as "no arguments".
pub fn parse_arguments<C: Command>(arguments: serde_json::Value) -> Result<C, Fault> {
    let arguments = if arguments.is_null() { serde_json::Value::Object(Default::default()) } else { arguments };
    if !arguments.is_object() {
        return Err(Fault::invalid(format!("the arguments of {} must be a JSON object", C::NAME)));
    }
    serde_json::from_value::<C>(arguments.clone()).map_err(|e| {
        let words = e.to_string();
        match culprit::<C>(&arguments, &words) {
            Some(name) => Fault::invalid(format!("{}: {name}: {words}", C::NAME)),
            None => Fault::invalid(format!("{}: {words}", C::NAME)),
        }
    })
}

/// The argument that serde complains about without naming it: the one without which it would say something else.
fn culprit<C: Command>(arguments: &serde_json::Value, words: &str) -> Option<String> {
    let given = arguments.as_object()?;
    given.keys().filter(|name| !words.contains(&format!("`{name}`"))).find_map(|name| {
        let mut rest = given.clone();
        rest.remove(name);
        let said = serde_json::from_value::<C>(serde_json::Value::Object(rest)).err().map(|e| e.to_string());
        (said.as_deref() != Some(words)).then(|| name.clone())
    })
}

/// The answer of a command that changed something: a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// What was done, for example `web1 is starting`. Lower case, no full stop.
    pub message: String,
}

impl Done {
    /// An answer with that message.
    pub fn new(message: impl Into<String>) -> Done {
        Done { message: message.into() }
    }
}

/// The answer of a command that goes on after it was answered: follow the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The task that carries on.
    pub task: crate::TaskId,
    /// What is going on. Lower case, no full stop.
    pub message: String,
}

/// A document answered as text, such as a definition in XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// The media type, for example `application/xml`.
    pub media_type: String,
    /// The text.
    pub text: String,
}

/// Declares a command: its type, name, effect, access, target and reply.
macro_rules! declare {
    ($type:ty, $name:literal, $effect:ident, $access:ident, $target:ident, $reply:ty) => {
        impl Command for $type {
            const NAME: &'static str = $name;
            const EFFECT: Effect = Effect::$effect;
            const ACCESS: Role = Role::$access;
            const TARGET: Target = Target::$target;
            type Reply = $reply;
        }
    };
}
pub(crate) use declare;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RenameDomain, StartDomain};
    use serde_json::json;

    fn refused<C: Command>(arguments: serde_json::Value) -> String {
        parse_arguments::<C>(arguments).err().map(|f| f.message).unwrap_or_default()
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(parse_arguments::<StartDomain>(serde_json::Value::Null).is_ok());
        assert!(refused::<StartDomain>(json!({"paused": "maybe"})).starts_with("domain.start: paused: invalid type"));
        assert!(refused::<StartDomain>(json!({"pausedd": true})).contains("unknown field `pausedd`"));
        assert_eq!(refused::<RenameDomain>(json!({})), "domain.rename: missing field `to`");
        assert!(refused::<RenameDomain>(json!({"to": 7})).starts_with("domain.rename: to: invalid type"));
        assert!(refused::<StartDomain>(json!([])).contains("must be a JSON object"));
    }
}
