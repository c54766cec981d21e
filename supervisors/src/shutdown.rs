//! The order in which an agent ends, and how long each step may take. Guests are never touched.
//!
//! ```text
//!   no new changes, those under way end     10 s   what does not end is found in the journal at the next start
//!   connections are closed                         nothing is reported any more
//!   hypervisors' actors end                  2 s
//!   their children end                       3 s   what is left is ended at once
//! ```

use crate::tree::Local;
use archipel_actors::dispatch::Routes;
use std::time::Duration;

/// For changes under way.
const CHANGES: Duration = Duration::from_secs(10);
/// For hypervisors' actors.
const HYPERVISORS: Duration = Duration::from_secs(2);
/// For their children.
const CHILDREN: Duration = Duration::from_secs(3);

pub(crate) async fn in_order(local: &Local, routes: &Routes) {
    if !routes.close(CHANGES).await {
        tracing::warn!("changes were still under way after {} s; they are settled at the next start", CHANGES.as_secs());
    }
    for scope in local.scopes() {
        scope.host.link.close();
    }
    let mut killed = local.hosts.quit_all(HYPERVISORS).await;
    for nursery in &local.nurseries {
        killed += nursery.quit_all(CHILDREN).await;
    }
    if killed > 0 {
        tracing::warn!(killed, "actors did not end in time and were ended at once");
    }
}
