//! The edge of the embedded server, said and read byte by byte. Time is paused: nothing here waits for a clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod echo;
mod limits;
mod login;
mod raw;
mod resume;
mod stream;

use echo::Told;
use tokio::sync::mpsc::UnboundedReceiver;

/// The next thing the handler was told, as a word.
async fn next(tells: &mut UnboundedReceiver<Told>) -> String {
    match tells.recv().await.unwrap() {
        Told::Opened(s) => format!("opened {}", s.jid()),
        Told::Stanza(e) => format!("{} from {}", e.name(), e.attr("from").unwrap()),
        Told::Suspended(s) => format!("suspended {}", s.jid()),
        Told::Resumed(s) => format!("resumed {}", s.jid()),
        Told::Closed(s) => format!("closed {}", s.jid()),
    }
}
