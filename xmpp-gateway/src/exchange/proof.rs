//! Whether changes may be taken at this moment. The clock alone closes this gate: whoever looks at it needs no message that the lease
//! has run out, and a process that was stopped for a minute finds it closed when it goes on.

use archipel_contract::{Fault, Millis, port::Clock};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a change waits for the proof to come back. An etcd that loses one member elects a leader in that time, and nobody notices.
const PATIENCE: Duration = Duration::from_secs(3);

/// The proof that this exchange leads, and until when it holds.
pub struct Proof {
    clock: Arc<dyn Clock>,
    until: watch::Sender<Millis>,
}

impl Proof {
    /// For an exchange that shares its cell with no other.
    pub fn for_ever(clock: Arc<dyn Clock>) -> Arc<Proof> {
        Proof::until(clock, Millis(u64::MAX))
    }

    /// Until that monotonic time.
    pub fn until(clock: Arc<dyn Clock>, until: Millis) -> Arc<Proof> {
        Arc::new(Proof { clock, until: watch::Sender::new(until) })
    }

    /// The lease was renewed.
    pub fn prolong(&self, until: Millis) {
        self.until.send_replace(until);
    }

    /// Whether changes are refused.
    pub fn is_frozen(&self) -> bool {
        self.clock.monotonic() >= *self.until.borrow()
    }

    /// Refuses when nothing proves, now or within a moment, that no other exchange leads.
    pub async fn check(&self) -> Result<(), Fault> {
        if !self.is_frozen() {
            return Ok(());
        }
        let mut until = self.until.subscribe();
        let proven = until.wait_for(|until| self.clock.monotonic() < *until);
        match tokio::time::timeout(PATIENCE, proven).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Fault::unavailable(
                "changes are frozen: this exchange cannot prove that it still leads the cell, because its etcd does not answer; guests run \
                 on, nothing was changed, and it goes on by itself when etcd is back",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::fake::FakeClock;

    #[tokio::test(start_paused = true)]
    async fn the_gate_closes_by_the_clock_alone() {
        let clock = Arc::new(FakeClock::default());
        let now = clock.monotonic();
        let proof = Proof::until(clock.clone(), Millis(now.0 + 100));
        assert_eq!(proof.check().await, Ok(()));
        clock.advance(Millis(100));
        assert!(proof.is_frozen());
        let fault = proof.check().await.unwrap_err();
        assert!(fault.message.contains("frozen") && fault.message.contains("guests run on"), "{fault}");
        proof.prolong(Millis(now.0 + 300));
        assert_eq!(proof.check().await, Ok(()));
        assert_eq!(Proof::for_ever(clock).check().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_a_moment_for_the_proof_to_come_back() {
        let clock = Arc::new(FakeClock::default());
        let now = clock.monotonic();
        let proof = Proof::until(clock, now);
        let mut change = std::pin::pin!(proof.check());
        assert!(futures::poll!(&mut change).is_pending());
        proof.prolong(Millis(now.0 + 100));
        assert_eq!(change.await, Ok(()));
    }
}
