//! Moving machines between fakes: hosts that were introduced to each other move a machine at once.

use super::FakeHost;
use crate::{
    BoxFuture, DomainId, Fault, FaultKind,
    migration::{Landing, MigrationPort, Obstacle, Passport, Progress, Room, Standing, Transferred, Way},
};
use std::future::ready;

fn not_yet<T: Send + 'static>() -> BoxFuture<'static, Result<T, Fault>> {
    Box::pin(ready(Err(Fault::new(FaultKind::Unsupported, "this hypervisor moves no machines"))))
}

impl MigrationPort for FakeHost {
    fn passport(&self, _: DomainId) -> BoxFuture<'_, Result<Passport, Fault>> {
        not_yet()
    }
    fn obstacles(&self, _: Passport, _: Way) -> BoxFuture<'_, Result<Vec<Obstacle>, Fault>> {
        not_yet()
    }
    fn room(&self) -> BoxFuture<'_, Result<Room, Fault>> {
        not_yet()
    }
    fn landing(&self) -> BoxFuture<'_, Result<Landing, Fault>> {
        not_yet()
    }
    fn transfer(&self, _: DomainId, _: Landing, _: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        not_yet()
    }
    fn progress(&self, _: DomainId) -> BoxFuture<'_, Result<Option<Progress>, Fault>> {
        not_yet()
    }
    fn cancel(&self, _: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        not_yet()
    }
    fn switch_to_post_copy(&self, _: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        not_yet()
    }
    fn recover_post_copy(&self, _: DomainId, _: Landing, _: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        not_yet()
    }
    fn standing(&self, _: DomainId) -> BoxFuture<'_, Result<Standing, Fault>> {
        not_yet()
    }
    fn define(&self, _: DomainId, _: String) -> BoxFuture<'_, Result<(), Fault>> {
        not_yet()
    }
    fn discard(&self, _: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        not_yet()
    }
}
