//! The cell's authority and documents for an agent with several hypervisors: each acts through its own link, because the cell
//! lets nobody act for another host. What any of them may ask goes through the first that gets an answer.

use super::LinkAuthority;
use archipel_contract::{
    BoxFuture, DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp,
    port::{Authority, Documents, Leadership, Versioned},
};
use std::sync::Arc;

/// The links of one agent.
pub struct LinkAuthorities(Vec<(HypervisorName, Arc<LinkAuthority>)>);

impl LinkAuthorities {
    /// The links of these hypervisors; at least one.
    pub fn new(links: impl IntoIterator<Item = (HypervisorName, Arc<LinkAuthority>)>) -> LinkAuthorities {
        LinkAuthorities(links.into_iter().collect())
    }

    fn of(&self, host: &HypervisorName) -> Result<&LinkAuthority, Fault> {
        let found = self.0.iter().find(|(name, _)| name == host).map(|(_, link)| &**link);
        found.ok_or_else(|| Fault::new(FaultKind::Forbidden, format!("{host} is no hypervisor of this agent; act there")))
    }

    /// Asks one link after the other until one may and can ask. A question that may have been heard is asked nobody else.
    async fn any<'a, T>(&'a self, ask: impl Fn(&'a LinkAuthority) -> BoxFuture<'a, Result<T, Fault>>) -> Result<T, Fault> {
        let mut why = Fault::unavailable("this agent has no link to the exchange");
        for (_, link) in &self.0 {
            match ask(link).await {
                Err(fault) if matches!(fault.kind, FaultKind::Unavailable | FaultKind::Forbidden) => why = fault,
                answer => return answer,
            }
        }
        Err(why)
    }
}

impl Authority for LinkAuthorities {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(async move { self.of(&owner)?.claim_unowned(domains, owner).await })
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        Box::pin(self.any(move |link| link.ownership(domain)))
    }

    fn ownerships(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Option<Ownership>>, Fault>> {
        Box::pin(self.any(move |link| link.ownerships(domains.clone())))
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(async move { self.of(step.by())?.step(domain, expected, step).await })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(self.any(|link| link.parked()))
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.any(move |link| link.forget(domain, expected)))
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        Box::pin(self.any(move |link| link.lead(role.clone(), holder.clone(), lease, now)))
    }

    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.any(move |link| link.resign(role.clone(), holder.clone())))
    }

    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.any(move |link| link.vacancy(role.clone(), now)))
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(self.any(|link| link.incarnation()))
    }
}

impl Documents for LinkAuthorities {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        Box::pin(self.any(move |link| link.document(key.clone())))
    }

    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        Box::pin(self.any(move |link| link.documents(prefix.clone())))
    }

    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(self.any(move |link| link.write_document(key.clone(), expected, body.clone())))
    }
}
