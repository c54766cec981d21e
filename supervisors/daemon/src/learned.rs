//! Where the exchanges of the cell are, as the cell itself says it: kept in `data_dir`, and tried besides the configured addresses. So an
//! agent finds an exchange that came to the cell after its configuration was written.
//!
//! What it says is believed because the stream was proven to be the cell's; a learned address must prove the same again. Where nothing is
//! pinned that could prove it, only addresses of this machine are used.

use crate::agent;
use crate::config::Remote;
use archipel_contract::port::{Documents, Versioned};
use archipel_contract::{Fault, FaultKind};
use archipel_xmpp::client::Connector;
use std::sync::Arc;
use tokio::sync::watch;

/// The agent's own document.
const KEY: &str = "agent/exchanges";
/// More than anybody has; whoever says more is not believed.
const MOST: usize = 64;

/// What all links of one process share.
pub(crate) struct Learned {
    /// Where they put down what they are told.
    pub(crate) told: watch::Sender<Vec<String>>,
    /// What they try besides.
    pub(crate) servers: watch::Receiver<Vec<Arc<dyn Connector>>>,
}

impl Learned {
    /// With what was learned before, and keeping what is learned from now on for as long as a link listens.
    pub(crate) async fn begin(remote: &Remote, documents: Arc<dyn Documents>) -> Result<Learned, Fault> {
        let (mut version, known) = read(&*documents).await?;
        let told = watch::Sender::new(known.clone());
        let servers = watch::Sender::new(others(remote, &known)?);
        let learned = Learned { servers: servers.subscribe(), told: told.clone() };
        let (mut heard, remote) = (told.subscribe(), remote.clone());
        drop(told);
        tokio::spawn(async move {
            while heard.changed().await.is_ok() {
                let mut now = heard.borrow_and_update().clone();
                now.truncate(MOST);
                tracing::info!(exchanges = now.join(","), "the cell says where its exchanges are");
                match others(&remote, &now) {
                    Ok(others) => drop(servers.send_replace(others)),
                    Err(fault) => tracing::warn!(%fault, "the exchanges of the cell cannot be used"),
                }
                if let Err(fault) = write(&*documents, &mut version, &now).await {
                    tracing::warn!(%fault, "where the exchanges of the cell are is forgotten with the next start");
                }
            }
        });
        Ok(learned)
    }
}

async fn read(documents: &dyn Documents) -> Result<(Option<u64>, Vec<String>), Fault> {
    let Some(Versioned { version, body }) = documents.document(KEY.to_owned()).await? else { return Ok((None, Vec::new())) };
    // What cannot be read is learned anew.
    Ok((Some(version), serde_json::from_slice(&body).unwrap_or_default()))
}

async fn write(documents: &dyn Documents, version: &mut Option<u64>, addresses: &[String]) -> Result<(), Fault> {
    let body = serde_json::to_vec(addresses).map_err(|e| Fault::internal("addresses cannot be written").because(e))?;
    loop {
        match documents.write_document(KEY.to_owned(), *version, Some(body.clone())).await {
            Ok(written) => {
                *version = Some(written);
                return Ok(());
            }
            Err(fault) if fault.kind == FaultKind::Conflict => *version = read(documents).await?.0,
            Err(fault) => return Err(fault),
        }
    }
}

/// Those that are not configured and may be used.
fn others(remote: &Remote, addresses: &[String]) -> Result<Vec<Arc<dyn Connector>>, Fault> {
    let usable = |address: &&String| {
        let here = address.rsplit_once(':').is_some_and(|(host, _)| {
            let host = host.trim_matches(['[', ']']);
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        !remote.servers.contains(address) && (here || !remote.fingerprints.is_empty())
    };
    let others: Vec<String> = addresses.iter().filter(usable).cloned().collect();
    agent::connectors_to(remote, &others, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::fake::MemoryDocuments;

    fn remote(fingerprints: &[&str]) -> Remote {
        Remote {
            servers: vec!["a.test:1".into()],
            password_file: None,
            identity_file: None,
            fingerprints: fingerprints.iter().map(|&f| f.to_owned()).collect(),
        }
    }

    fn names(learned: &Learned) -> Vec<String> {
        learned.servers.borrow().iter().map(|s| s.name().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_the_cell_said_is_tried_at_once_and_after_the_next_start() {
        let pinned = "ab".repeat(32);
        let (remote, disk) = (remote(&[&pinned]), Arc::new(MemoryDocuments::default()));
        let mut learned = Learned::begin(&remote, disk.clone()).await.unwrap();
        assert!(names(&learned).is_empty());
        for said in [vec!["a.test:1", "b.test:1"], vec!["c.test:1", "a.test:1", "b.test:1"]] {
            let said: Vec<String> = said.into_iter().map(str::to_owned).collect();
            learned.told.send_replace(said);
            learned.servers.changed().await.unwrap();
        }
        assert_eq!(names(&learned), ["c.test:1", "b.test:1"]);
        while read(&*disk).await.unwrap().1.len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(names(&Learned::begin(&remote, disk).await.unwrap()), ["c.test:1", "b.test:1"]);
    }

    #[tokio::test]
    async fn where_nothing_is_pinned_only_this_machine_is_believed() {
        let disk = Arc::new(MemoryDocuments::default());
        let mut learned = Learned::begin(&remote(&[]), disk).await.unwrap();
        learned.told.send_replace(vec!["b.test:1".into(), "127.0.0.1:2".into(), "[::1]:3".into()]);
        learned.servers.changed().await.unwrap();
        assert_eq!(names(&learned), ["127.0.0.1:2", "[::1]:3"]);
    }
}
