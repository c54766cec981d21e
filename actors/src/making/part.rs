//! The progress of one step, as a share of that of the whole making; and bytes as what a step writes.

use archipel_contract::{Fault, volume::Source, work::Follower};
use std::sync::Arc;

/// One step of a whole.
pub(super) struct Part {
    /// Whoever follows the whole.
    pub(super) whole: Arc<dyn Follower>,
    /// Where the step begins, in percent of the whole.
    pub(super) from: u8,
    /// Where it ends.
    pub(super) to: u8,
}

impl Follower for Part {
    fn advance(&self, percent: Option<u8>, message: &str) {
        self.whole.advance(percent.map(|p| scaled(self.from, self.to, p)), message);
    }
    fn is_cancelled(&self) -> bool {
        self.whole.is_cancelled()
    }
    fn on_cancel(&self, stop: Box<dyn FnOnce() + Send>) {
        self.whole.on_cancel(stop);
    }
}

fn scaled(from: u8, to: u8, percent: u8) -> u8 {
    from.saturating_add(u8::try_from(u16::from(to.saturating_sub(from)) * u16::from(percent.min(100)) / 100).unwrap_or(0))
}

/// Bytes that are all there.
pub(super) struct Bytewise(pub(super) Option<Vec<u8>>);

impl Source for Bytewise {
    fn next(&mut self) -> Option<Result<Vec<u8>, Fault>> {
        self.0.take().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn a_step_is_a_part_of_the_whole() {
        assert_eq!((scaled(10, 90, 0), scaled(10, 90, 50), scaled(10, 90, 100), scaled(90, 10, 50)), (10, 50, 90, 90));
    }
}
