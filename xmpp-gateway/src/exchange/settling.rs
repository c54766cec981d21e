//! The first moments of an exchange that has taken over: it knows nothing yet, and its agents are about to tell. People are let in when
//! all of them have, so that nobody sees an empty cell, and an answer that a machine is not there is true.
//!
//! ```text
//!   begun --the hosts of the cell are read, each asserts--> settled: people's streams are read
//!     +--------------- LIMIT: some host is away -------------> settled; that host is not waited for next time
//! ```

use archipel_contract::{Fault, FaultKind, HypervisorName, port::Documents};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The document with the names of the hosts whose agents were with the exchange.
const HOSTS: &str = "exchange/hosts";
/// How long people wait at most.
const LIMIT: Duration = Duration::from_millis(2500);

#[derive(Default)]
struct Hosts {
    /// From the document; `None` until it was read.
    expected: Option<BTreeSet<HypervisorName>>,
    asserted: BTreeSet<HypervisorName>,
    /// Those whose agent lives in this very process: when it goes, they go with it, and the next exchange need not wait for them.
    inside: BTreeSet<HypervisorName>,
}

impl Hosts {
    fn are_all_here(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.is_subset(&self.asserted))
    }
}

/// Who is waited for.
pub struct Settling {
    hosts: Mutex<Hosts>,
    settled: watch::Sender<bool>,
    documents: Option<Arc<dyn Documents>>,
}

impl Settling {
    /// Nobody: for an exchange without standbys.
    pub fn none() -> Arc<Settling> {
        Arc::new(Settling { hosts: Mutex::default(), settled: watch::Sender::new(true), documents: None })
    }

    /// The hosts that were with the exchange before. Must be called within a tokio runtime.
    pub fn begin(documents: Arc<dyn Documents>) -> Arc<Settling> {
        let settling = Arc::new(Settling { hosts: Mutex::default(), settled: watch::Sender::new(false), documents: Some(documents) });
        let waiting = settling.clone();
        tokio::spawn(async move { waiting.wait().await });
        settling
    }

    async fn wait(&self) {
        let all = async {
            match self.read().await {
                Ok((expected, _)) => self.hosts.lock().expected = Some(expected),
                // Then it takes as long as it may.
                Err(fault) => tracing::warn!(%fault, "which hosts to wait for is not known"),
            }
            self.look();
            let mut settled = self.settled.subscribe();
            let _ = settled.wait_for(|settled| *settled).await;
        };
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            let away: Vec<String> = {
                let hosts = self.hosts.lock();
                hosts.expected.iter().flatten().filter(|h| !hosts.asserted.contains(*h)).map(ToString::to_string).collect()
            };
            tracing::warn!(away = away.join(","), "not every host has told what it has; people are let in");
            self.settled.send_replace(true);
            self.keep(true).await;
        }
    }

    fn look(&self) {
        if self.hosts.lock().are_all_here() {
            self.settled.send_replace(true);
        }
    }

    /// A host's agent, which may be in this process, has told everything.
    pub(super) fn asserted(self: &Arc<Self>, host: &HypervisorName, inside: bool) {
        let news = {
            let mut hosts = self.hosts.lock();
            let other = if inside { hosts.inside.insert(host.clone()) } else { hosts.inside.remove(host) };
            hosts.asserted.insert(host.clone()) || other
        };
        if self.documents.is_some() && news {
            self.look();
            let settling = self.clone();
            tokio::spawn(async move { settling.keep(false).await });
        }
    }

    /// Waits until people may be let in.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut settled = self.settled.subscribe();
        async move {
            // Whoever goes away meanwhile takes the question along.
            let _ = settled.wait_for(|settled| *settled).await;
        }
    }

    async fn read(&self) -> Result<(BTreeSet<HypervisorName>, Option<u64>), Fault> {
        let Some(documents) = &self.documents else { return Ok(Default::default()) };
        let Some(found) = documents.document(HOSTS.to_owned()).await? else { return Ok(Default::default()) };
        let hosts =
            serde_json::from_slice(&found.body).map_err(|e| Fault::internal(format!("the document {HOSTS} cannot be read")).because(e));
        Ok((hosts?, Some(found.version)))
    }

    /// Writes down who has told everything; `only` them, or beside those who did before.
    async fn keep(&self, only: bool) {
        let Some(documents) = &self.documents else { return };
        loop {
            let written = async {
                let (before, version) = self.read().await?;
                let (mut now, inside) = {
                    let hosts = self.hosts.lock();
                    (hosts.asserted.clone(), hosts.inside.clone())
                };
                if !only {
                    now.extend(before.iter().cloned());
                }
                now.retain(|host| !inside.contains(host));
                if now == before {
                    return Ok(());
                }
                let body = serde_json::to_vec(&now).map_err(|e| Fault::internal("names of hosts cannot be written").because(e))?;
                documents.write_document(HOSTS.to_owned(), version, Some(body)).await.map(drop)
            };
            match written.await {
                Ok(()) => return,
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                Err(fault) => return tracing::warn!(%fault, "which hosts there are could not be written down"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::fake::MemoryDocuments;

    fn host(name: &str) -> HypervisorName {
        name.parse().unwrap()
    }

    async fn written(documents: &MemoryDocuments) -> String {
        let found = documents.document(HOSTS.to_owned()).await.unwrap();
        found.map(|v| String::from_utf8(v.body).unwrap()).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn people_wait_for_the_hosts_that_were_there_before_and_not_for_ever() {
        let documents = Arc::new(MemoryDocuments::default());
        let first = Settling::begin(documents.clone());
        first.settled().await;
        for name in ["alpha", "beta"] {
            first.asserted(&host(name), false);
        }
        while !written(&documents).await.contains("beta") {
            tokio::task::yield_now().await;
        }
        let second = Settling::begin(documents.clone());
        let mut people = std::pin::pin!(second.settled());
        second.asserted(&host("alpha"), false);
        tokio::time::sleep(LIMIT / 2).await;
        assert!(futures::poll!(&mut people).is_pending(), "beta has not told yet");
        second.asserted(&host("beta"), false);
        people.await;
        let began = tokio::time::Instant::now();
        let third = Settling::begin(documents.clone());
        third.asserted(&host("alpha"), false);
        third.settled().await;
        assert_eq!(began.elapsed().as_millis(), LIMIT.as_millis());
        while written(&documents).await.contains("beta") {
            tokio::task::yield_now().await;
        }
        assert_eq!(written(&documents).await, "[\"alpha\"]");
        third.asserted(&host("alpha"), true);
        while written(&documents).await != "[]" {
            tokio::task::yield_now().await;
        }
        Settling::begin(documents).settled().await;
    }
}
