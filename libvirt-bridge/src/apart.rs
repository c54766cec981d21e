//! Work that takes as long as it takes: a thread and a connection of its own for each.
//!
//! ```text
//!   asked --> thread --> connected --> begun ------> libvirt answers --> told
//!                |            |
//!                +-- 30 s ----+--> withdrawn: nothing was done
//! ```
//! A connection of its own, because libvirtd answers five calls of one client at a time: a few long ones on the common
//! connection, and every other call, signs of life included, would wait for the first of them to end.

use crate::{
    LinkConfig,
    connection::{Lane, Link, Trouble},
    count::{self, ask},
    event::raw::start_event_loop,
    fault,
};
use archipel_contract::{
    BoxFuture, DomainId, Fault, FaultKind,
    work::{Follower, percent},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::oneshot;
use virt::{connect::Connect, error::Error};

/// One of the long works that may be under way; dropping it makes room.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(link: &Link) -> Result<Slot, Fault> {
        let most = link.config().transfers;
        let slot = Slot(link.transfers.clone());
        if slot.0.fetch_add(1, Ordering::AcqRel) >= most {
            let name = &link.config().name;
            return Err(Fault::busy(format!("{most} long works are under way on {name} already; wait until one has ended")));
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Link {
    /// Does long work on a thread and a connection of its own. `doing` completes the sentence "timeout while ...". Whoever stops
    /// waiting does not stop the work.
    pub(crate) fn apart<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connect) -> Result<T, Trouble> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Fault>> {
        // Each connection to the test driver is a host of its own.
        if self.config().uri.starts_with("test:") {
            return self.call(Lane::Long, doing, move |session| work(&session.connect));
        }
        Box::pin(async move {
            self.reachable()?;
            let slot = Slot::take(self)?;
            let config = self.config().clone();
            let patience = config.deadline;
            let (begin, begun) = oneshot::channel::<()>();
            let (send, receive) = oneshot::channel();
            let given_up = Arc::new(AtomicBool::new(false));
            let withdrawn = given_up.clone();
            let body = move || {
                let answer = catch_unwind(AssertUnwindSafe(|| {
                    let connect = connect(&config, doing)?;
                    // Exactly one side gets to say how it goes on: the caller who waited too long, or this thread.
                    if withdrawn.swap(true, Ordering::AcqRel) {
                        return Err(Fault::unavailable("nobody waits for this any more"));
                    }
                    let _ = begin.send(());
                    work(&connect).map_err(|trouble| told(&config, &connect, doing, trouble))
                }));
                drop(slot);
                let defect = || Fault::internal(format!("a defect in the libvirt bridge showed while {doing}; please report it"));
                // A receiver that is gone wants no answer; that is its own affair.
                let _ = send.send(answer.unwrap_or_else(|_| Err(defect())));
            };
            if let Err(error) = thread::Builder::new().name("lv-apart".to_owned()).stack_size(1 << 20).spawn(body) {
                return Err(Fault::busy(format!("the host has no thread left for {doing}; try again later")).because(error));
            }
            let late = tokio::time::timeout(patience, begun).await.is_err();
            if late && !given_up.swap(true, Ordering::AcqRel) {
                count::TIMEOUTS.fetch_add(1, Ordering::Relaxed);
                let (name, seconds) = (&self.config().name, patience.as_secs_f32());
                let text = format!("{name} did not answer for {seconds} s, so nothing was done while {doing}; ask again later");
                return Err(Fault::new(FaultKind::Timeout, text));
            }
            receive
                .await
                .unwrap_or_else(|_| Err(Fault::internal(format!("the thread that was {doing} ended without a word; look what it did"))))
        })
    }
}

fn connect(config: &LinkConfig, doing: &str) -> Result<Connect, Fault> {
    let open = || {
        start_event_loop()?;
        let connect = ask(|| Connect::open(Some(&config.uri)))?;
        if config.keepalive_seconds > 0 {
            // A driver that knows no signs of life works without.
            let _ = ask(|| connect.set_keep_alive(i32::from(config.keepalive_seconds), u32::from(config.keepalive_count)));
        }
        Ok(connect)
    };
    open().map_err(|error: Error| fault::fault(&error, doing))
}

fn told(config: &LinkConfig, connect: &Connect, doing: &str, trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Ours(fault) => fault,
        Trouble::Libvirt(error) if fault::may_mean_dead(&error) && !matches!(ask(|| connect.is_alive()), Ok(true)) => {
            let text = format!("the connection to {} was lost while {doing}; it may go on, look what became of it", config.name);
            Fault::unavailable(text).because(error.message())
        }
        Trouble::Libvirt(error) => fault::fault(&error, doing),
    }
}

/// How often libvirt is asked how far a job is, while one is under way and somebody follows it.
const LOOK: Duration = Duration::from_secs(1);

/// Follows libvirt's job on a machine while `work` goes on, and gives the job up when somebody asks to stop.
pub(crate) fn followed<'a, T: Send + 'a>(
    link: &'a Link,
    id: DomainId,
    follower: Arc<dyn Follower>,
    words: String,
    mut work: BoxFuture<'a, Result<T, Fault>>,
) -> BoxFuture<'a, Result<T, Fault>> {
    Box::pin(async move {
        let (stop, mut stopped) = oneshot::channel();
        follower.on_cancel(Box::new(move || {
            // The work may have ended already.
            let _ = stop.send(());
        }));
        let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        let mut asked_to_stop = false;
        loop {
            tokio::select! {
                biased;
                answer = &mut work => return answer,
                Ok(()) = &mut stopped, if !asked_to_stop => {
                    asked_to_stop = true;
                    // What cannot be given up ends by itself.
                    if let Err(fault) = link.call(Lane::Change, "giving a job up", move |session| session.abort_job(id)).await {
                        tracing::debug!(domain = %id, %fault, "a job could not be given up");
                    }
                }
                _ = looks.tick() => {
                    let share = link.call(Lane::Read, "reading how far a job is", move |session| session.job_share(id)).await;
                    if let Ok(Some((done, whole))) = share {
                        follower.advance(percent(done, whole), &words);
                    }
                }
            }
        }
    })
}
