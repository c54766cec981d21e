//! The cell's authority and documents as an agent on another machine has them: asked over its link to the exchange.
//!
//! ```text
//!   offline --------------------> unavailable, nothing was asked
//!   online, hello not answered -> waits: the exchange hears nobody who has not said which host it is
//!   greeted --ask--> answer
//!               |--- session ended before the answer, deadline --> timeout: it may have been done
//! ```
//! A change whose answer was lost may be asked again: the same depart, stay and park find themselves done, and a claim or an
//! unpark that finds itself the owner in the very next epoch is taken for done. Documents are compare-and-set: whoever lost an
//! answer reads before writing again. Nobody leads through a link.

use crate::client::{Client, State};
use crate::stanza::authority::{self, Ask, Body};
use archipel_contract::{
    BoxFuture, CellName, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp,
    port::{Authority, Documents, Leadership, Versioned, check_document},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::watch;

/// How long the exchange may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The cell's authority and documents, through the link.
pub struct LinkAuthority {
    cell: CellName,
    client: Mutex<Option<Client>>,
    /// The last session in which the exchange answered hello.
    greeted: watch::Sender<Option<u64>>,
}

fn offline() -> Fault {
    Fault::unavailable("the cell's authority cannot be asked: there is no link to the exchange at the moment")
}

fn unsupported<T: Send + 'static>(what: &str) -> BoxFuture<'static, Result<T, Fault>> {
    let fault = Fault::new(FaultKind::Unsupported, format!("{what} through a link; that is for processes with the role exchange"));
    Box::pin(std::future::ready(Err(fault)))
}

impl LinkAuthority {
    pub(super) fn new(cell: CellName) -> LinkAuthority {
        LinkAuthority { cell, client: Mutex::new(None), greeted: watch::Sender::new(None) }
    }

    /// The link runs with this client from now on, or not any more.
    pub(super) fn attach(&self, client: Option<Client>) {
        *self.client.lock() = client;
    }

    /// The exchange knows in this session which host we are.
    pub(super) fn greeted(&self, session: u64) {
        self.greeted.send_replace(Some(session));
    }

    /// Waits until the exchange has answered hello in another session than that one, and answers in which. What was asked in an
    /// earlier session may have been done without our knowing.
    pub async fn next_session(&self, before: Option<u64>) -> u64 {
        let mut greeted = self.greeted.subscribe();
        loop {
            // The sender lives as long as we do.
            if let Ok(Some(session)) = greeted.wait_for(|now| now.is_some() && *now != before).await.map(|now| *now) {
                return session;
            }
        }
    }

    async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Fault> {
        let client = self.client.lock().clone();
        let online = |state: &State| matches!(state, State::Online(_));
        let Some(client) = client.filter(|c| online(&c.state().borrow())) else { return Err(offline()) };
        let expected = client.session();
        let (mut greeted, mut state) = (self.greeted.subscribe(), client.state());
        let ready = async {
            tokio::select! {
                known = greeted.wait_for(|known| *known >= Some(expected)) => known.is_ok(),
                _ = state.wait_for(|s| !online(s)) => false,
            }
        };
        match tokio::time::timeout(DEADLINE, ready).await {
            Ok(true) => {}
            Ok(false) => return Err(offline()),
            Err(_) => return Err(Fault::unavailable(format!("the exchange has not greeted this host within {} s", DEADLINE.as_secs()))),
        }
        let session = client.session();
        let answer = client.request(ask.kind(), Some(self.cell.as_str()), ask.print(), DEADLINE).await;
        match answer {
            Ok(answer) => authority::answered(&answer.ok_or_else(|| Fault::internal("the cell's authority answered with nothing"))?),
            // It was sent, perhaps, and perhaps carried out.
            Err(fault) if fault.kind == FaultKind::Unavailable && client.session() != session => Err(Fault::new(
                FaultKind::Timeout,
                "the link to the exchange broke before the cell's authority answered; it may have done it, so look first",
            )
            .because(fault)),
            Err(fault) => Err(fault),
        }
    }
}

impl Authority for LinkAuthority {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(async move {
            let mut all = Vec::with_capacity(domains.len());
            for page in domains.chunks(authority::PAGE) {
                let claim = authority::Claim { owner: owner.clone(), domains: page.to_vec() };
                let held: Vec<Ownership> = self.ask(Ask::Claim(claim)).await?;
                if !held.iter().map(|o| o.domain).eq(page.iter().copied()) {
                    return Err(Fault::internal("the cell's authority answered about other machines than were asked; please report this"));
                }
                all.extend(held);
            }
            Ok(all)
        })
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        Box::pin(self.ask(Ask::Ownership(authority::Look { domain })))
    }

    fn ownerships(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Option<Ownership>>, Fault>> {
        Box::pin(async move {
            let mut all = Vec::with_capacity(domains.len());
            for page in domains.chunks(authority::PAGE) {
                let survey = authority::Survey { domains: page.to_vec() };
                let held: Vec<Option<Ownership>> = self.ask(Ask::Ownerships(survey)).await?;
                let fits = |(asked, held): (&DomainId, &Option<Ownership>)| held.as_ref().is_none_or(|o| o.domain == *asked);
                if held.len() != page.len() || !page.iter().zip(&held).all(fits) {
                    return Err(Fault::internal("the cell's authority answered about other machines than were asked; please report this"));
                }
                all.extend(held);
            }
            Ok(all)
        })
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(async move {
            let taker = match &step {
                OwnershipStep::Claim { by, .. } | OwnershipStep::Unpark { by } => Some(by.clone()),
                OwnershipStep::Depart { .. } | OwnershipStep::Stay { .. } | OwnershipStep::Park { .. } => None,
            };
            let answer = self.ask(Ask::Step(authority::Step { domain, expected, step })).await;
            let (Some(by), Err(FaultKind::Conflict)) = (taker, answer.as_ref().map_err(|f| f.kind)) else { return answer };
            // Perhaps it was asked before, and done, and the answer was lost.
            let next = Epoch(expected.0.saturating_add(1));
            match self.ownership(domain).await? {
                Some(now) if now.owner == by && now.epoch == next && now.hold == Hold::Owned => Ok(now),
                _ => answer,
            }
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(async move {
            let mut all: Vec<Ownership> = Vec::new();
            loop {
                let after = all.last().map(|o| o.domain);
                let page: authority::Parked = self.ask(Ask::Parked(authority::Shelf { after })).await?;
                let goes_on = page.more && page.parked.last().map(|o| o.domain) > after;
                all.extend(page.parked);
                if !goes_on {
                    return Ok(all);
                }
            }
        })
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.ask(Ask::Forget(authority::Forget { domain, expected })))
    }

    fn lead(&self, _: String, _: String, _: Millis, _: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        unsupported("nobody leads")
    }

    fn resign(&self, _: String, _: String) -> BoxFuture<'_, Result<(), Fault>> {
        unsupported("nobody resigns")
    }

    fn vacancy(&self, _: String, _: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        unsupported("nobody waits for a vacancy")
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        unsupported("incarnations are not counted")
    }
}

impl Documents for LinkAuthority {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        Box::pin(async move {
            let found: Option<authority::Document> = self.ask(Ask::Document(authority::Fetch { key })).await?;
            Ok(found.map(authority::Document::versioned))
        })
    }

    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        Box::pin(async move {
            let mut all: Vec<(String, Versioned)> = Vec::new();
            loop {
                let after = all.last().map(|(key, _)| key.clone());
                let browse = authority::Browse { prefix: prefix.clone(), after: after.clone() };
                let page: authority::Documents = self.ask(Ask::Documents(browse)).await?;
                let goes_on = page.more && page.documents.last().map(|d| &d.key) > after.as_ref();
                all.extend(page.documents.into_iter().map(|d| (d.key.clone(), d.versioned())));
                if !goes_on {
                    return Ok(all);
                }
            }
        })
    }

    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move {
            check_document(&key, body.as_deref())?;
            if let Some(body) = &body {
                authority::fits(&key, body)?;
            }
            self.ask(Ask::Write(authority::Write { key, expected, body: body.map(Body) })).await
        })
    }
}
