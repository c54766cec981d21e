//! Requests for what tickets open, between the host that serves the page and the host that keeps the ticket.
//!
//! ```text
//!   exchange: HTTP --[Mail]--> exchange --link: carry--> agent --[Doorman]--> tickets: does it fit?
//!             HTTP <=========== carriage that the agent made ===========> consoles, volumes of the agent
//! ```

use crate::agent::Grown;
use crate::cell::Seat;
use crate::contents::Contents;
use crate::openings::Screens;
use archipel_contract::ticket::{Proof, Token};
use archipel_contract::{BoxFuture, Fault, HypervisorName};
use archipel_ui::{Carriage, Carriages, Carrier, Unopened};
use archipel_xmpp::exchange::carriages::Uncarried;
use archipel_xmpp::link::{Known, Porter};
use archipel_xmpp::stream::wire::BoxedIo;
use std::sync::Arc;

/// The exchange's side: passes on what is not of this process's own hypervisors.
pub(crate) struct Mail {
    pub(crate) seat: Arc<Seat>,
    pub(crate) own: Vec<HypervisorName>,
}

impl Carrier for Mail {
    fn takes(&self, token: &str) -> bool {
        token.parse::<Token>().is_ok_and(|token| !self.own.contains(token.host()))
    }

    fn carry(&self, folder: &'static str, token: String, proof: Proof) -> BoxFuture<'static, Result<Carriage, Unopened>> {
        let cell = self.seat.cell();
        Box::pin(async move {
            // On a standby nobody has a ticket to present: the commands are given elsewhere.
            let (Some(cell), Ok(host)) = (cell, token.parse::<Token>().map(|token| token.host().clone())) else {
                return Err(Unopened::Ticket);
            };
            let carried = cell.exchange.carry(&host, folder, token, proof).await.map_err(|why| match why {
                Uncarried::Ticket => Unopened::Ticket,
                Uncarried::Fault(fault) => Unopened::Fault(fault),
            })?;
            Ok(Carriage { io: Box::new(carried.io), ended: carried.ended, held: Box::new(carried.place) })
        })
    }
}

/// The agent's side.
pub(crate) struct Doorman {
    tree: Grown,
    carriages: Carriages,
}

impl Doorman {
    pub(crate) fn begin(tree: Grown) -> Result<Doorman, Fault> {
        let carriages = Carriages::begin(Arc::new(Screens(tree.clone())), Arc::new(Contents(tree.clone())))?;
        Ok(Doorman { tree, carriages })
    }
}

impl Porter for Doorman {
    fn knows(&self, folder: &str, token: &str, proof: &Proof) -> Option<Known> {
        let admitted = self.tree.get()?.tickets().fits(token, proof, folder).ok()?;
        Some(Known { person: admitted.person.to_string(), what: admitted.opens.words() })
    }

    fn serve(&self, io: BoxedIo) -> BoxFuture<'static, ()> {
        self.carriages.serve(Box::new(io))
    }
}
