//! The last lines that this process logged, for whoever may see them without a shell on the host. What is logged holds no secrets; what is
//! kept here is what is logged, cut where it is long.

use archipel_contract::hypervisor::{LogLevel, LogLine};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// How many lines are kept.
pub const LINES: usize = 1000;
/// How much of a line is kept, in bytes.
const LENGTH: usize = 1000;

/// The process's own: there is one log.
pub static DIARY: Diary = Diary::new();

/// The last lines of a log.
pub struct Diary(Mutex<VecDeque<LogLine>>);

impl Diary {
    /// One without lines.
    pub const fn new() -> Diary {
        Diary(Mutex::new(VecDeque::new()))
    }

    /// Enters a line; the oldest makes room.
    pub fn enter(&self, mut line: LogLine) {
        if line.text.len() > LENGTH {
            let end = (0..=LENGTH).rev().find(|at| line.text.is_char_boundary(*at)).unwrap_or(0);
            line.text.truncate(end);
            line.text.push_str(" ...");
        }
        let mut lines = self.0.lock();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last so many that matter at least so much, oldest first.
    pub fn last(&self, count: usize, least: LogLevel) -> Vec<LogLine> {
        let lines = self.0.lock();
        let mut found: Vec<LogLine> = lines.iter().rev().filter(|line| line.level <= least).take(count).cloned().collect();
        found.reverse();
        found
    }
}

impl Default for Diary {
    fn default() -> Diary {
        Diary::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::Timestamp;

    fn line(n: u64, level: LogLevel) -> LogLine {
        LogLine { at: Timestamp(n), level, part: "test".into(), text: format!("line {n}") }
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let diary = Diary::new();
        for n in 0..3 * LINES as u64 {
            diary.enter(line(n, if n % 10 == 0 { LogLevel::Warn } else { LogLevel::Info }));
        }
        let texts = |count, least| diary.last(count, least).into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(texts(2, LogLevel::Info), ["line 2998", "line 2999"]);
        assert_eq!(texts(2, LogLevel::Warn), ["line 2980", "line 2990"]);
        assert_eq!((texts(5000, LogLevel::Debug).len(), texts(5, LogLevel::Error).len()), (LINES, 0));
    }

    #[test]
    fn a_long_line_is_cut_between_letters() {
        let diary = Diary::new();
        diary.enter(LogLine { text: "ä".repeat(LENGTH), ..line(1, LogLevel::Info) });
        let text = &diary.last(1, LogLevel::Info)[0].text;
        assert!(text.len() <= LENGTH + 4 && text.ends_with("ä ..."), "{}", text.len());
    }
}
