//! Being told of changes as they are made, by whichever exchange or command makes them.
//!
//! Every member is watched at once, as the one that a watch hangs on may be on the very host that died; so each change is told up to
//! once for each member, and only where it is: whoever is told looks for himself. When watches broke, something may have been missed,
//! and everything is to be looked at again.
//!
//! ```text
//!   read the revision --"everything"--> watching from there on --a key was written--> its name, to whoever listens
//!        ^                                    |
//!        +---- a pause <-- half of them broke +
//! ```

use super::Etcd;
use super::call::get;
use super::members::Member;
use etcd_client::WatchOptions;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two attempts to watch.
const PAUSE: Duration = Duration::from_millis(500);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Accounts, but not their rosters; told by their local part.
    Accounts,
    /// Documents whose key begins so; told by their key.
    Documents(&'static str),
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Anything may have changed until now: at the beginning, and after a gap.
    Everything,
    /// This was written or removed.
    One(String),
}

impl Etcd {
    /// Tells of every change, until nobody listens any more. A slow listener slows only this watch.
    pub async fn watch(&self, what: Watch, tell: mpsc::Sender<Watched>) {
        let (root, prefix) = match what {
            Watch::Accounts => (self.key("account/"), self.key("account/")),
            Watch::Documents(prefix) => (self.key("document/"), self.key(format_args!("document/{prefix}"))),
        };
        let listening = async {
            loop {
                match self.call().look(vec![get(&prefix)]).await {
                    Ok(now) => {
                        if tell.send(Watched::Everything).await.is_err() {
                            return;
                        }
                        self.watch_from(now.revision + 1, &root, &prefix, &tell).await;
                    }
                    Err(fault) => tracing::debug!(?what, %fault, "etcd cannot be watched"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = tell.closed() => {}
        }
    }

    /// Ends as soon as half of the members are not watched any more.
    async fn watch_from(&self, revision: i64, root: &str, prefix: &str, tell: &mpsc::Sender<Watched>) {
        let members = self.members.all();
        let mut watches: FuturesUnordered<_> =
            members.iter().map(|member| changes(member, revision, root, prefix, self.members.timeout, tell)).collect();
        while 2 * watches.len() > members.len() {
            match watches.next().await {
                Some(trouble) => tracing::debug!(prefix, trouble, "a watch in etcd ended"),
                None => return,
            }
        }
    }
}

/// Tells what one member sees, until it does not watch any more; answers why.
async fn changes(member: &Member, revision: i64, root: &str, prefix: &str, patience: Duration, tell: &mpsc::Sender<Watched>) -> String {
    let options = WatchOptions::new().with_start_revision(revision).with_prefix();
    let begin = async { member.client().await?.watch_client().watch(prefix, Some(options)).await };
    let mut watch = match tokio::time::timeout(patience, begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer".into(),
    };
    loop {
        let news = match watch.message().await {
            Ok(Some(news)) if news.canceled() => return news.cancel_reason().to_owned(),
            Ok(Some(news)) => news,
            Ok(None) => return "the stream ended".into(),
            Err(error) => return error.to_string(),
        };
        for event in news.events() {
            let key = event.kv().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).unwrap_or_default();
            let one = Watched::One(key.strip_prefix(root).unwrap_or_default().to_owned());
            if tell.send(one).await.is_err() {
                return "nobody listens".into();
            }
        }
    }
}
