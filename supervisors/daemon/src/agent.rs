//! The agent role.
use crate::cell::Cell;
use crate::config::Settings;
use archipel_contract::Fault;
use archipel_contract::port::Clock;
use archipel_store::Store;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Agent {}

pub(crate) async fn start(
    _settings: &Settings,
    _store: &Store,
    _clock: Arc<dyn Clock>,
    _incarnation: u64,
    _cell: Option<&Cell>,
) -> Result<Agent, Fault> {
    Ok(Agent {})
}

impl Agent {
    pub(crate) fn hypervisors(&self, _reasons: &mut Vec<String>) -> Vec<Value> {
        Vec::new()
    }
    pub(crate) fn restarts(&self) -> Vec<Value> {
        Vec::new()
    }
    pub(crate) async fn given_up(&self) -> Fault {
        std::future::pending().await
    }
    pub(crate) async fn stop(&self, _limit: Duration) {}
}
