//! Long work that a port does: whoever asked for it follows how far it is, and can stop it.
//!
//! ```text
//!   port --advance(percent, words)--> Follower --> the task, at most as often as something differs
//!   person --task.cancel--> Follower --on_cancel--> the port stops, removes what is half done, and answers an error
//! ```

/// Follows long work. The actors make one for each task; a port is handed it with the call.
pub trait Follower: Send + Sync {
    /// Tells how far the work is: 0 to 100, or `None` when nobody can tell, and what it is doing (lower case, no full stop).
    /// Only the newest is kept, so it may be called often. Must not block.
    fn advance(&self, percent: Option<u8>, message: &str);
    /// Whether somebody asked to stop. Whoever works in steps looks before each of them.
    fn is_cancelled(&self) -> bool;
    /// Runs `stop` once when somebody asks to stop; at once if they have already. It must not block: it wakes whoever works.
    fn on_cancel(&self, stop: Box<dyn FnOnce() + Send>);
}

/// Nobody follows, nobody stops it.
pub struct Unfollowed;

impl Follower for Unfollowed {
    fn advance(&self, _: Option<u8>, _: &str) {}
    fn is_cancelled(&self) -> bool {
        false
    }
    fn on_cancel(&self, _: Box<dyn FnOnce() + Send>) {}
}

/// How much of a whole is done, in percent; 100 only when all of it is.
pub fn percent(done: u64, whole: u64) -> Option<u8> {
    if whole == 0 {
        return None;
    }
    u8::try_from(u128::from(done.min(whole)) * 100 / u128::from(whole)).ok()
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percent_is_whole_only_at_the_end() {
        assert_eq!(
            (percent(0, 0), percent(0, 7), percent(6, 7), percent(7, 7), percent(8, 7)),
            (None, Some(0), Some(85), Some(100), Some(100))
        );
        assert_eq!(percent(u64::MAX - 1, u64::MAX), Some(99));
    }
}
