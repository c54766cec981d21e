//! The bell by which `archipeld account` tells the running daemon that an account has changed: a datagram socket in `data_dir`.
//!
//! The store already holds the new truth when it rings, so a lost ring costs nothing but time: sessions that are open stay as they
//! were until they end. With several exchanges the active one hears of it from etcd as well, wherever it is. Who may write to the folder may ring; all it does is to end what is
//! open with the account it names: sessions, and at every host consoles and transfers.

use crate::cell::Seat;
use archipel_contract::Fault;
use archipel_xmpp::server::StreamCondition;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixDatagram;

fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("archipel.sock")
}

/// Whoever ended the account, and what those who use it are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    /// Its password or role is another one.
    Changed,
    /// It is gone.
    Removed,
}

impl Ring {
    fn word(self) -> &'static str {
        match self {
            Ring::Changed => "changed",
            Ring::Removed => "removed",
        }
    }

    fn read(text: &str) -> Option<(Ring, &str)> {
        let (word, local) = text.split_once(' ')?;
        [Ring::Changed, Ring::Removed].into_iter().find(|ring| ring.word() == word).map(|ring| (ring, local))
    }

    fn condition(self) -> StreamCondition {
        match self {
            Ring::Changed => StreamCondition::Reset,
            Ring::Removed => StreamCondition::NotAuthorized,
        }
    }
}

/// Rings, if somebody listens.
pub(crate) fn ring(data_dir: &Path, ring: Ring, local: &str) {
    let told = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|bell| bell.send_to(format!("{} {local}", ring.word()).as_bytes(), socket(data_dir)));
    // Mostly no daemon runs; and if one does and cannot be told, the next login tells.
    drop(told);
}

/// Listens for as long as the process lives, and ends the sessions of accounts that changed.
pub(crate) fn listen(data_dir: &Path, seat: Arc<Seat>) -> Result<(), Fault> {
    let path = socket(data_dir);
    // The lock on the folder is ours, so what lies here is left from a process that was killed.
    let _ = std::fs::remove_file(&path);
    let bell = UnixDatagram::bind(&path).and_then(|bell| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(bell)
    });
    let bell =
        bell.map_err(|e| Fault::unavailable(format!("cannot listen on {}; a shorter data_dir may help", path.display())).because(e))?;
    tokio::spawn(async move {
        let mut bytes = [0; 1024];
        loop {
            let length = match bell.recv(&mut bytes).await {
                Ok(length) => length,
                Err(error) => {
                    tracing::error!(%error, "changes of accounts are not heard any more; they count from the next login");
                    return;
                }
            };
            let text = String::from_utf8_lossy(&bytes[..length]);
            if let Some((ring, local)) = Ring::read(&text) {
                end_sessions(&seat, ring, local);
            }
        }
    });
    Ok(())
}

/// Ends what is open with an account that has changed, if this process has the exchange.
pub(crate) fn end_sessions(seat: &Seat, ring: Ring, local: &str) {
    let cell = seat.cell();
    let sessions = cell.as_ref().map(|cell| cell.server.sessions_of(local)).unwrap_or_default();
    tracing::info!(account = local, what = ring.word(), sessions = sessions.len(), "an account has changed");
    for session in sessions {
        session.close(ring.condition());
    }
    // Streams first: whoever has none asks for no more tickets.
    if let Some(cell) = cell {
        cell.exchange.expel(local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rung_is_understood() {
        for ring in [Ring::Changed, Ring::Removed] {
            assert_eq!(Ring::read(&format!("{} zoe", ring.word())), Some((ring, "zoe")));
        }
        assert_eq!(Ring::read("exploded zoe"), None);
        assert_eq!(Ring::read("changed"), None);
    }
}
