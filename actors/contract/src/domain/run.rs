//! A program run in a guest by the agent in it.
//!
//! ```text
//!   begun --> ended: its exit code and what it wrote
//!     \-----> time is over: told, with its number in the guest, where it goes on (the agent cannot end it)
//! ```
//! No shell is between: what is asked for is one program and a list of arguments. They are written in one line, with quotes around what
//! holds spaces, because arguments of commands are flat; [`words`] reads the line and expands nothing.

use crate::{
    Effect, Fault, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Run a program in a guest by the agent in it, and answer what it wrote. No shell is between; what it is told is not written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInGuest {
    /// The program, for example id or /usr/bin/id; the audit names it.
    pub program: String,
    /// Its arguments with spaces between them, and quotes around one that holds spaces. Nothing is expanded. Not written down.
    #[serde(default)]
    pub arguments: String,
    /// What it reads; without it, nothing. Not written down.
    #[serde(default)]
    pub input: Option<String>,
    /// How many seconds to wait for its end. After that it goes on in the guest, and nobody hears of it.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout: u32,
}
fn default_timeout() -> u32 {
    20
}
declare!(RunInGuest, "domain.guest-run", Change, AdminRaw, Domain, Ran);

/// What became of a program in a guest. It is the guest's word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ran {
    /// How it ended. Lower case, no full stop.
    pub message: String,
    /// What it ended with; 0 when all is well by its own account. Nothing when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What it wrote, at most 64 KiB. What is no text is replaced.
    pub output: String,
    /// What it wrote about errors, at most 64 KiB.
    pub errors: String,
    /// Whether it wrote more than is here.
    pub truncated: bool,
}

/// Most of each output that is answered, in bytes.
pub const OUTPUT_LIMIT: usize = 64 << 10;
/// Most that a program is told, in bytes: its arguments together, and its input.
pub const TOLD_LIMIT: usize = 64 << 10;

/// A checked order to a guest's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program.
    pub path: String,
    /// Its arguments, each as it is.
    pub arguments: Vec<String>,
    /// What it reads.
    pub input: Option<String>,
}

/// How a program in a guest ended, and what it wrote, cut at [`OUTPUT_LIMIT`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramEnd {
    /// What it ended with.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote.
    pub output: Vec<u8>,
    /// What it wrote about errors.
    pub errors: Vec<u8>,
    /// Whether it wrote more.
    pub truncated: bool,
}

impl RunInGuest {
    /// The checked order, or the first thing that is wrong with it.
    pub fn order(self) -> Result<Program, Fault> {
        if self.program.trim().is_empty() || self.program.len() > 4096 || self.program.chars().any(char::is_control) {
            return Err(Fault::invalid("program must name one, for example /usr/bin/id"));
        }
        let told = self.arguments.len().max(self.input.as_ref().map_or(0, String::len));
        if told > TOLD_LIMIT {
            return Err(Fault::invalid(format!("a program is told at most {TOLD_LIMIT} bytes here; give the guest a file instead")));
        }
        if self.arguments.contains('\0') {
            return Err(Fault::invalid("an argument cannot hold a NUL"));
        }
        Ok(Program { path: self.program, arguments: words(&self.arguments)?, input: self.input })
    }
}

impl ProgramEnd {
    /// The answer for people.
    pub fn told(self, program: &str) -> Ran {
        let message = match (self.exit_code, self.signal) {
            (_, Some(signal)) => format!("{program} was ended by signal {signal}"),
            (Some(code), None) => format!("{program} ended with {code}"),
            (None, None) => format!("{program} ended; the agent does not say how"),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            message,
            exit_code: self.exit_code,
            signal: self.signal,
            output: text(&self.output),
            errors: text(&self.errors),
            truncated: self.truncated,
        }
    }
}

/// The words of a line: separated by white space, which quotes and backslashes keep together as in a shell. Nothing else has a meaning.
///
/// Between single quotes everything is itself; between double quotes a backslash before a double quote or a backslash is not.
pub fn words(line: &str) -> Result<Vec<String>, Fault> {
    let (mut found, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"'), '\\') if matches!(rest.peek(), Some('"' | '\\')) => word.get_or_insert_default().extend(rest.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => {
                let kept = rest.next().ok_or_else(|| Fault::invalid("the arguments end with a backslash; write two for one"))?;
                word.get_or_insert_default().push(kept);
            }
            (None, c) if c.is_whitespace() => found.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(Fault::invalid(format!("the arguments lack a closing {quote}")));
    }
    found.extend(word);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(program: &str, arguments: &str) -> Result<Program, Fault> {
        RunInGuest { program: program.into(), arguments: arguments.into(), input: None, timeout: 1 }.order()
    }

    #[test]
    fn a_line_is_cut_into_words_and_nothing_is_expanded() {
        let cut = |line: &str| words(line).unwrap();
        assert_eq!(cut(""), [""; 0]);
        assert_eq!(cut("  -l  /tmp\t$HOME *;|&`id` "), ["-l", "/tmp", "$HOME", "*;|&`id`"]);
        assert_eq!(cut(r#"-c 'echo "a b"' "" x'y'"z""#), ["-c", r#"echo "a b""#, "", "xyz"]);
        assert_eq!(cut(r#"a\ b "\"\\\n" '\'"#), ["a b", r#""\\n"#, r"\"]);
        for wrong in ["'", "a \"b", r"a\"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_list_of_words_can_be_written(list in proptest::collection::vec(".*", 0..6)) {
            let line: Vec<String> = list.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(words(&line.join(" ")).unwrap(), list);
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        assert_eq!(order("id", "-u").unwrap().arguments, ["-u"]);
        assert!(order(" ", "").is_err() && order("a\nb", "").is_err() && order("id", "a\0b").is_err());
        assert!(order("id", &"x".repeat(TOLD_LIMIT + 1)).is_err());
    }

    #[test]
    fn the_end_is_told_in_words() {
        let end = ProgramEnd { exit_code: Some(3), output: vec![b'a', 0xff], ..ProgramEnd::default() };
        let told = end.told("id");
        assert_eq!((&*told.message, &*told.output), ("id ended with 3", "a\u{fffd}"));
        assert_eq!(ProgramEnd { signal: Some(9), ..ProgramEnd::default() }.told("id").message, "id was ended by signal 9");
    }
}
