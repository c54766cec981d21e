//! The agent's certificate, renewed over its own link before it ends. The exchange says when, by its own clock, as how long to wait:
//! the clock of this host may be wrong.
//!
//! ```text
//!   waiting --due--> asking --granted--> written --> waiting (for the next)
//!                       +-- refused, or no link --> waiting (an hour)
//! ```

use crate::client::Client;
use crate::client::tls::Identity;
use crate::membership::join::{Grant, fresh_key, replace};
use crate::stanza::{IqKind, json, node};
use archipel_contract::{CellName, Fault, Millis};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the exchange may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// The pause after what did not work.
const PAUSE: Duration = Duration::from_secs(3600);
/// However soon the exchange wants the next one.
const LEAST: Duration = Duration::from_secs(60);

/// Renews for as long as the link runs. `due` says when, as soon as the exchange has said it.
pub(super) async fn keep(client: Client, cell: CellName, identity: Arc<Identity>, mut due: watch::Receiver<Option<Instant>>) {
    let mut own: Option<Instant> = None;
    loop {
        let at = own.or(*due.borrow_and_update());
        let told = async {
            match at {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => false,
                    changed = due.changed() => changed.is_ok(),
                },
                None => due.changed().await.is_ok(),
            }
        }
        .await;
        if told {
            own = None;
            continue;
        }
        if at.is_none() {
            return;
        }
        let pause = match renew(&client, &cell, &identity).await {
            Ok(grant) => {
                tracing::info!(until = %grant.expires, "this host's certificate was renewed");
                grant.renew_after.map_or(PAUSE, Millis::duration).max(LEAST)
            }
            Err(fault) => {
                tracing::warn!(kind = fault.kind.name(), %fault, "this host's certificate cannot be renewed; trying again in an hour");
                PAUSE
            }
        };
        own = Some(Instant::now() + pause);
    }
}

async fn renew(client: &Client, cell: &CellName, identity: &Identity) -> Result<Grant, Fault> {
    let (key, public) = fresh_key()?;
    let ask = node::Ask::Renew(node::Renewal { key: public }).print();
    let answer = client.request(IqKind::Set, Some(cell.as_str()), ask, DEADLINE).await?;
    let answer = answer.ok_or_else(|| Fault::internal("the exchange answered with no certificate"))?;
    let grant: Grant = json::need(&answer)?;
    replace(identity, &grant, &key).await?;
    Ok(grant)
}
