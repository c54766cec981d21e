//! Who decides which host may run a machine, as the agent of this process has it.
//!
//! | this process | authority | shelf |
//! |---|---|---|
//! | is the only exchange of the cell | the store in `data_dir`: there is nothing behind it | the same |
//! | is one of several exchanges | what the own disk records, and etcd behind it | etcd |
//! | has its exchange elsewhere | what the own disk records, and the links behind it | the links |
//!
//! Whenever the exchange greets this host in a new session, what the disk records is compared with what the cell says. A host that
//! was away may have been overtaken: it lists everything again then, shows what is not its own as a stranger, and starts none of it.

use crate::cell_store::CellStore;
use archipel_contract::port::{Authority, Documents};
use archipel_contract::{HypervisorName, Ownership};
use archipel_store::{Held, Store};
use archipel_supervisors::tree;
use archipel_xmpp::client::Pauses;
use archipel_xmpp::link::{LinkAuthorities, LinkAuthority};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What decides, and how it is kept true.
pub(crate) struct Deciding {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) shelf: Arc<dyn Documents>,
    held: Option<Held>,
}

impl Deciding {
    /// For the agent with these links. `ours` is what this process keeps of the cell, and whether other exchanges share it.
    pub(crate) fn new(store: &Store, ours: Option<(&CellStore, bool)>, links: Vec<(HypervisorName, Arc<LinkAuthority>)>) -> Deciding {
        let names: Vec<HypervisorName> = links.iter().map(|(name, _)| name.clone()).collect();
        let (cell, shelf): (Arc<dyn Authority>, Arc<dyn Documents>) = match ours {
            Some((cell, false)) => {
                return Deciding { authority: cell.authority.clone(), shelf: cell.documents.clone(), held: None };
            }
            Some((cell, true)) => (cell.authority.clone(), cell.documents.clone()),
            None => {
                let links = Arc::new(LinkAuthorities::new(links));
                (links.clone(), links)
            }
        };
        let held = Held::new(store.clone(), cell, names);
        Deciding { authority: Arc::new(held.clone()), shelf, held: Some(held) }
    }

    /// Compares with the cell in every session of this link, for ever. Does nothing where there is nothing to compare with.
    pub(crate) fn follow(
        &self,
        name: HypervisorName,
        link: Arc<LinkAuthority>,
        tree: Weak<tree::Agent>,
    ) -> impl Future<Output = ()> + use<> {
        let held = self.held.clone();
        async move {
            let Some(held) = held else { return };
            let mut session = None;
            loop {
                session = Some(link.next_session(session).await);
                let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(30));
                loop {
                    let verified = held.verify().await;
                    let Some(tree) = tree.upgrade() else { return };
                    let Err(fault) = verified.map(|stale| settle(&name, &tree, stale)) else { break };
                    drop(tree);
                    tracing::warn!(host = %name, %fault, "what this host holds could not be compared with the cell; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(pauses.next_pause()) => {}
                        next = link.next_session(session) => session = Some(next),
                    }
                }
            }
        }
    }
}

/// The comparison is done: whoever was overtaken looks again at what is here, and so does whoever could not look before.
fn settle(name: &HypervisorName, tree: &tree::Agent, stale: Vec<Ownership>) {
    for now in &stale {
        tracing::warn!(domain = %now.domain, host = %name, owner = %now.owner, epoch = now.epoch.0,
            "it changed hands while this host was away; it has no right to run here any more");
    }
    let listed = tree.inventory_of(name).is_none_or(|all| all.is_complete());
    if !stale.is_empty() || !listed {
        tree.list_again();
    }
}
