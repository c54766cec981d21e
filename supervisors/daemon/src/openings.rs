//! What tickets open, as the HTTP server sees it.

use crate::agent::Grown;
use archipel_contract::{BoxFuture, Fault};
use archipel_supervisors::consoles::{self, Opened};
use archipel_ui::{Console, ConsoleAcceptor, Unopened};

/// The consoles of this process's agent.
pub(crate) struct Screens(pub(crate) Grown);

impl ConsoleAcceptor for Screens {
    fn open(&self, token: String, secret: String) -> BoxFuture<'static, Result<Console, Unopened>> {
        let consoles = self.0.get().map(|tree| tree.consoles().clone());
        Box::pin(async move {
            let consoles = consoles.ok_or_else(|| Fault::unavailable("the daemon is stopping; ask again when it is back"))?;
            match consoles.open(token, secret).await {
                Ok(Opened { stream, ended, place }) => Ok(Console { stream, ended, held: Box::new(place) }),
                Err(consoles::Unopened::Ticket) => Err(Unopened::Ticket),
                Err(consoles::Unopened::Fault(fault)) => Err(Unopened::Fault(fault)),
            }
        })
    }
}
