//! What a person may do in whose name an agent asks another. Who asked is the agent's word: it has checked them when they asked it. What
//! they may do *now* is looked up here and written into the request, over whatever the agent says, and whoever is asked decides by that.

use super::Exchange;
use archipel_contract::{
    Fault, Role,
    migration::{person_of, vouch},
    port::{AccountKind, Request},
};

impl Exchange {
    /// Writes into a request of an agent what the person may do in whose name it asks.
    pub(super) async fn vouch(&self, request: &mut Request) -> Result<(), Fault> {
        if let Some(person) = person_of(request) {
            let role = self.role_of(person).await?;
            vouch(request, role);
        }
        Ok(())
    }

    /// What a person of this cell may do now; `None` when it knows nobody of that name.
    async fn role_of(&self, person: &str) -> Result<Option<Role>, Fault> {
        let Some((local, _)) = person.split_once('@').filter(|(_, domain)| *domain == self.cell.as_str()) else { return Ok(None) };
        Ok(match self.accounts.find(local.to_owned()).await?.map(|account| account.kind) {
            Some(AccountKind::Person(role)) => Some(role),
            Some(AccountKind::Node) | None => None,
        })
    }
}
