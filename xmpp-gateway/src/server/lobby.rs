//! Who is connected and has not logged in yet: counted altogether and by address, so that neither many strangers nor one alone
//! can keep everybody else out for longer than a login may take.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_host: HashMap<String, usize>,
}

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Lobby(Mutex<Counts>);

/// A place in the lobby, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    host: String,
    /// How many were there before, altogether and from this address.
    before: (usize, usize),
}

impl Lobby {
    /// Takes a place, for as long as the answer lives.
    pub(super) fn enter(self: &Arc<Self>, host: &str) -> Place {
        let mut counts = self.0.lock();
        let counts = &mut *counts;
        let from_here = counts.by_host.entry(host.to_owned()).or_default();
        let before = (counts.all, *from_here);
        counts.all += 1;
        *from_here += 1;
        Place { lobby: self.clone(), host: host.to_owned(), before }
    }
}

impl Place {
    /// Whether there were so many already that this one is too much.
    pub(super) fn beyond(&self, all: usize, from_one_host: usize) -> bool {
        self.before.0 >= all || self.before.1 >= from_one_host
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.lobby.0.lock();
        counts.all -= 1;
        if let Some(count) = counts.by_host.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                counts.by_host.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let lobby = Arc::new(Lobby::default());
        let flood: Vec<Place> = (0..3).map(|_| lobby.enter("10.0.0.1")).collect();
        assert!(lobby.enter("10.0.0.1").beyond(10, 3));
        assert!(!lobby.enter("10.0.0.2").beyond(10, 3));
        assert!(lobby.enter("10.0.0.2").beyond(3, 3));
        drop(flood);
        assert!(!lobby.enter("10.0.0.1").beyond(1, 1));
        assert!(lobby.0.lock().by_host.is_empty(), "nobody is remembered");
    }
}
