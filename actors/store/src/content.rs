//! Everything that the file in `data_dir` has of a cell, to be carried over into etcd when the cell gets more than one exchange.
//!
//! The same file holds what belongs to this host's agent alone, with or without a cluster: its sagas, its operations, what it holds and
//! which exchanges it obeyed. That stays where it is.

use crate::Store;
use crate::authority::every_ownership;
use crate::database::Database;
use archipel_contract::port::{Account, Accounts, DoneOperation, Journal, Operation, RosterEntry};
use archipel_contract::{DomainId, EntityId, Epoch, Fault, Ownership, Timestamp};

/// Documents that begin so are the agent's own.
const AGENTS: &[&str] = &["agent/", "exchange-epoch", "cluster/"];

/// What one file has of a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    pub(crate) accounts: Vec<Account>,
    pub(crate) rosters: Vec<(String, RosterEntry)>,
    pub(crate) documents: Vec<(String, Vec<u8>)>,
    /// Each machine's highest epoch, and how it is held unless it was forgotten.
    pub(crate) ownerships: Vec<(DomainId, Epoch, Option<Ownership>)>,
    pub(crate) open: Vec<Operation>,
    pub(crate) done: Vec<DoneOperation>,
}

impl Content {
    /// Whether there is nothing of a cell.
    pub fn is_empty(&self) -> bool {
        *self == Content::default()
    }

    /// In words, for people.
    pub fn summary(&self) -> String {
        let parked = self.documents.iter().filter(|(key, _)| key.starts_with("parked/")).count();
        let members = self.documents.iter().filter(|(key, _)| key.starts_with("member/")).count();
        format!(
            "{} accounts, {members} members, {} machines, {parked} parked definitions, {} documents in all",
            self.accounts.len(),
            self.ownerships.iter().filter(|(_, _, held)| held.is_some()).count(),
            self.documents.len()
        )
    }
}

impl Store {
    /// What this file has of a cell. Operations are those that were asked of `cell` itself.
    pub async fn content(&self, cell: EntityId) -> Result<Content, Fault> {
        let accounts = Accounts::list(self).await?;
        let mut rosters = Vec::new();
        for account in &accounts {
            let entries = self.roster(account.local.clone()).await?;
            rosters.extend(entries.into_iter().map(|entry| (account.local.clone(), entry)));
        }
        let documents = archipel_contract::port::Documents::documents(self, String::new()).await?;
        let documents = documents.into_iter().filter(|(key, _)| !AGENTS.iter().any(|own| key.starts_with(own)));
        let open = self.interrupted().await?.into_iter().filter(|operation| operation.target == cell).collect();
        Ok(Content {
            accounts,
            rosters,
            documents: documents.map(|(key, document)| (key, document.body)).collect(),
            ownerships: self.run(Database::every_ownership).await?,
            open,
            done: self.done_on(cell, Timestamp(0), usize::MAX).await?,
        })
    }
}

impl Database {
    fn every_ownership(&mut self) -> Result<Vec<(DomainId, Epoch, Option<Ownership>)>, Fault> {
        self.transact(every_ownership)
    }
}
