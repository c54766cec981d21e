//! Any command as an actix message.
//!
//! `actix::Message` cannot be implemented for every `C: Command` (both are foreign here), but it can for this wrapper, which
//! is also the place for who asks.

use actix::Message;
use archipel_contract::{Caller, Command, Fault, Role, event::Cause};

/// One command on its way to the actor of its target.
pub struct Ask<C: Command> {
    /// What is asked, with its arguments checked.
    pub command: C,
    /// Who asks, authorised already.
    pub caller: Caller,
}

impl<C: Command> Message for Ask<C> {
    type Result = Result<C::Reply, Fault>;
}

impl<C: Command> Ask<C> {
    /// The bare JID of who asks.
    pub fn person(&self) -> &str {
        bare(&self.caller.jid)
    }
}

/// A JID without its resource.
pub fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or_default()
}

/// Whose doing it is: a person's, or Archipel's own when an agent asks by itself.
pub(crate) fn cause(caller: &Caller) -> Cause {
    match caller.role {
        Role::Node => Cause::Archipel,
        _ => Cause::Person(bare(&caller.jid).into()),
    }
}

/// The answer to a message that reached an actor while it was ending: nothing was begun.
pub fn ending<T>() -> Result<T, Fault> {
    Err(Fault::unavailable("its actor was being restarted and did not begin; ask again"))
}
