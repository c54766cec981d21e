//! What agents say to each other about a machine that moves. Only agents may ask these ([`crate::Role::Node`]); the exchange stamps
//! who asks, and whoever is asked checks that it is the host it claims to be.

use super::{Landing, Obstacle, Room, Standing};
use crate::{
    DomainId, Effect, Epoch, MoveId, Role, Target,
    command::{Command, Done, Started, declare},
    domain::Kept,
    port::Request,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the source: hold room for this machine, or say everything that stands in the way.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The move; absent when only what stands in the way is asked, and nothing is held.
    #[serde(default)]
    pub saga: Option<MoveId>,
    /// The epoch the machine has now.
    pub epoch: Epoch,
    /// What it needs: a [`super::Passport`] as JSON.
    pub passport: String,
    /// How it shall travel: a [`super::Way`] as JSON.
    pub way: String,
    /// Who asked for the move: the bare JID. It may be empty when only what stands in the way is asked.
    pub on_behalf_of: String,
    /// What that person may do now: written by the exchange over whatever the asker says ([`vouch`]).
    #[serde(default)]
    pub role: Option<Role>,
}
declare!(Reserve, "hypervisor.reserve", Change, Node, Hypervisor, Reservation);

/// The answer to [`Reserve`]: a place, or obstacles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// Everything that stands in the way. When it is empty, room is held.
    pub obstacles: Vec<Obstacle>,
    /// How much is left here.
    pub room: Room,
    /// Where to send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landing: Option<Landing>,
}

/// From the source: the move is given up; let the place go. Nothing of the machine is touched.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unreserve {
    /// The move.
    pub saga: MoveId,
}
declare!(Unreserve, "hypervisor.unreserve", Change, Node, Hypervisor, Done);

/// From the source: it is yours now, claim it. Sent when libvirt said that the transfer is over, or, for a machine that is off, with its
/// definition.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// The move.
    pub saga: MoveId,
    /// The machine.
    pub domain: DomainId,
    /// The epoch it had at the source.
    pub epoch: Epoch,
    /// The definition of a machine that is off: it is defined here before it is claimed.
    #[serde(default)]
    pub definition: Option<String>,
    /// Whether it shall start with its new host.
    #[serde(default)]
    pub autostart: bool,
    /// What was done on it lately, so that it is not done twice: a JSON array of operations with their ends.
    #[serde(default)]
    pub operations: Option<String>,
}
declare!(Receive, "hypervisor.receive", Change, Node, Hypervisor, Received);

/// The answer to [`Receive`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// The epoch it has now.
    pub epoch: Epoch,
    /// How it stands here.
    pub standing: Standing,
}

/// From the target: I have claimed it; release what is left of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The move.
    pub saga: MoveId,
    /// The machine.
    pub domain: DomainId,
    /// The epoch it has at the target.
    pub epoch: Epoch,
}
declare!(Release, "hypervisor.release", Change, Node, Hypervisor, Done);

/// From any host: how does this machine stand with your libvirt, read freshly.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskStanding {
    /// The machine.
    pub domain: DomainId,
}
declare!(AskStanding, "hypervisor.standing", Read, Node, Hypervisor, Standing);

/// From a host that has this machine without having asked for it, because somebody moved it with other tools: give it up, if it is not
/// with you any more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Yield {
    /// The machine.
    pub domain: DomainId,
    /// The move under which the new host will claim it.
    pub saga: MoveId,
    /// It is off over there: of two definitions that are off, the owner's counts.
    #[serde(default)]
    pub off: bool,
}
declare!(Yield, "hypervisor.yield", Change, Node, Hypervisor, Yielded);

/// From the exchange: this machine is gone from the host that had it, and you have a copy; look whose it is now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookAgain {
    /// The machine.
    pub domain: DomainId,
}
declare!(LookAgain, "hypervisor.look-again", Read, Node, Hypervisor, Done);

/// The answer to [`Yield`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Yielded {
    /// The epoch from which it may be claimed under that move.
    pub epoch: Epoch,
}

/// From the host that has a machine now: what became of its definition where it was before. Answers the versions after that one, oldest
/// first, as many as go into one answer; none: there are no more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskPast {
    /// The machine.
    pub domain: DomainId,
    /// The number of the last version that is known already.
    #[serde(default)]
    pub after: u32,
}
declare!(AskPast, "hypervisor.past", Read, Node, Hypervisor, Vec<Kept>);

/// From a host that was emptied and is open again: move this machine of yours to me.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendBack {
    /// The machine.
    pub domain: DomainId,
    /// How it shall travel: a [`super::Way`] as JSON.
    pub way: String,
    /// Who asked for it: the bare JID.
    pub on_behalf_of: String,
    /// What that person may do now: written by the exchange over whatever the asker says ([`vouch`]).
    #[serde(default)]
    pub role: Option<Role>,
}
declare!(SendBack, "hypervisor.send-back", Change, Node, Hypervisor, Started);

/// In whose name an agent asks, if it asks in a person's: their bare JID.
pub fn person_of(request: &Request) -> Option<&str> {
    let asks_for_somebody = [Reserve::NAME, SendBack::NAME].contains(&&*request.command);
    asks_for_somebody.then(|| request.arguments.get("on_behalf_of")?.as_str()).flatten()
}

/// Writes down what that person may do now, over whatever the asker said about it: whoever passes the request on has looked it up,
/// and `None` is somebody the cell does not know.
pub fn vouch(request: &mut Request, role: Option<Role>) {
    if let Some(arguments) = request.arguments.as_object_mut() {
        arguments.insert("role".to_owned(), role.map_or(Value::Null, |r| r.name().into()));
    }
}
