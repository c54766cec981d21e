//! The highest epoch of an exchange that this agent has obeyed, kept over restarts. An exchange of a lower one has been succeeded,
//! whether it knows it or not, and is not obeyed any more.
//!
//! ```text
//!   welcome(epoch) -- lower ------> refused: leave that stream, try other addresses
//!                  -- the same ---> obeyed
//!                  -- higher -----> written down, then obeyed
//!   request(epoch) -- lower ------> refused as well, and left
//! ```
//! One exchange alone (reign 0) may have lost its data and begun to count anew: it has no rival, so that its lower epoch is believed.

use crate::exchange::term::reign;
use archipel_contract::{
    Epoch, Fault, FaultKind,
    port::{Documents, Versioned},
};
use parking_lot::Mutex;
use std::sync::Arc;

/// Where it is written down.
const KEY: &str = "exchange-epoch";

/// The memory. All links of a process share one, so that what one of them has learned fences the others.
pub struct Fence {
    highest: Mutex<Option<Epoch>>,
    documents: Option<Arc<dyn Documents>>,
    /// The version of the document, once it was read. Held while it is written.
    version: tokio::sync::Mutex<Option<Option<u64>>>,
}

impl Fence {
    /// Forgets with the process: for tests, and for an agent that lives in the process of its only exchange.
    pub fn forgetful() -> Arc<Fence> {
        Arc::new(Fence { highest: Mutex::new(None), documents: None, version: tokio::sync::Mutex::new(None) })
    }

    /// Written down on the agent's own disk.
    pub fn kept(documents: Arc<dyn Documents>) -> Arc<Fence> {
        Arc::new(Fence { highest: Mutex::new(None), documents: Some(documents), version: tokio::sync::Mutex::new(None) })
    }

    /// Refuses what comes from an exchange that has been succeeded.
    pub fn check(&self, epoch: Epoch) -> Result<(), Fault> {
        match *self.highest.lock() {
            Some(highest) if epoch < highest && !(reign(epoch) == 0 && reign(highest) == 0) => Err(Fault::new(
                FaultKind::Conflict,
                format!(
                    "this exchange has epoch {} and one with {} was obeyed already; it has been succeeded, or the cell's etcd was lost or \
                     restored: then raise cluster.reign on all exchanges",
                    epoch.0, highest.0
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Takes an exchange's epoch for obeyed, or refuses it. A higher one is on the disk before this answers.
    pub async fn admit(&self, epoch: Epoch) -> Result<(), Fault> {
        let mut version = self.version.lock().await;
        if let (None, Some(documents)) = (*version, &self.documents) {
            let found = documents.document(KEY.to_owned()).await?;
            *version = Some(found.as_ref().map(|v| v.version));
            if let Some(Versioned { body, .. }) = found {
                *self.highest.lock() = Some(read(&body)?);
            }
        }
        self.check(epoch)?;
        let before = *self.highest.lock();
        if before == Some(epoch) {
            return Ok(());
        }
        if let Some(before) = before.filter(|b| *b > epoch) {
            tracing::warn!(before = before.0, now = epoch.0, "the exchange counts its terms anew; its data was lost or restored");
        }
        if let Some(documents) = &self.documents {
            // Read anew next time if this is broken off, as nobody knows then whether it was written.
            let expected = version.take().flatten();
            let written = documents.write_document(KEY.to_owned(), expected, Some(epoch.0.to_string().into_bytes())).await?;
            *version = Some(Some(written));
        }
        *self.highest.lock() = Some(epoch);
        Ok(())
    }
}

fn read(body: &[u8]) -> Result<Epoch, Fault> {
    let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
    number
        .map(Epoch)
        .ok_or_else(|| Fault::internal(format!("the agent's own document {KEY} cannot be read; restore data_dir from a backup")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::term::in_reign;
    use archipel_contract::fake::MemoryDocuments;

    #[tokio::test]
    async fn a_lower_epoch_is_refused_even_after_a_restart() {
        let disk = Arc::new(MemoryDocuments::default());
        let fence = Fence::kept(disk.clone());
        let epoch = |n| in_reign(1, Epoch(n));
        for n in [3, 3, 7] {
            assert_eq!(fence.admit(epoch(n)).await, Ok(()), "{n}");
        }
        for fence in [fence, Fence::kept(disk)] {
            let fault = fence.admit(epoch(6)).await.unwrap_err();
            assert!(fault.kind == FaultKind::Conflict && fault.message.contains("cluster.reign"), "{fault}");
            assert_eq!(fence.check(epoch(6)).unwrap_err().kind, FaultKind::Conflict);
            assert_eq!(fence.admit(Epoch(900)).await.unwrap_err().kind, FaultKind::Conflict, "a lone exchange does not succeed a cluster");
            assert_eq!(fence.admit(epoch(7)).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_new_reign_is_above_all_epochs_of_the_one_before() {
        let fence = Fence::forgetful();
        assert_eq!(fence.admit(Epoch(57)).await, Ok(()));
        assert_eq!(fence.admit(in_reign(1, Epoch(1))).await, Ok(()));
        assert_eq!(fence.admit(in_reign(1, Epoch(9))).await, Ok(()));
        assert_eq!(fence.admit(in_reign(2, Epoch(1))).await, Ok(()));
        assert!(fence.admit(in_reign(1, Epoch(10))).await.is_err());
    }

    #[tokio::test]
    async fn a_lone_exchange_that_lost_its_data_is_believed() {
        let fence = Fence::kept(Arc::new(MemoryDocuments::default()));
        assert_eq!(fence.admit(Epoch(57)).await, Ok(()));
        assert_eq!(fence.admit(Epoch(1)).await, Ok(()));
        assert_eq!(fence.check(Epoch(1)), Ok(()));
    }
}
