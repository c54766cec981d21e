//! `qemu-img`, for what libvirt has no call for: an image of several layers written as one, an image checked.
//!
//! Each layer is named with the one below it, so that nothing that is written in an image decides which files are opened.

use super::raw;
use crate::connection::Trouble;
use archipel_contract::{Fault, FaultKind, volume::VolumeFormat, work::Follower};
use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// How often a running one is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// What is kept of its complaints.
const WORDS: u64 = 4096;

pub(crate) fn stopped() -> Fault {
    Fault::busy("it was stopped; nothing half done is left")
}

/// How QEMU is told to open an image and those below it, oldest first.
pub(super) fn layered(files: &[&Path]) -> String {
    let mut below = serde_json::Value::Null;
    for file in files {
        below = serde_json::json!({
            "driver": "qcow2",
            "file": { "driver": "file", "filename": file.to_string_lossy() },
            "backing": below,
        });
    }
    format!("json:{below}")
}

/// How far it is, in hundredths of a percent: it writes `    (12.50/100%)` and a carriage return, again and again.
fn share(line: &str) -> Option<u32> {
    let (percent, _) = line.trim().strip_prefix('(')?.split_once("/100%")?;
    let percent: f64 = percent.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some((percent * 100.0) as u32)
}

/// Runs it to its end, or ends it when somebody asks to stop. `progress` hears hundredths of a percent.
fn run(arguments: &[&str], follower: &dyn Follower, progress: &dyn Fn(u32)) -> Result<(), Trouble> {
    let mut command = Command::new("qemu-img");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("LC_ALL", "C");
    raw::mortal(&mut command);
    let mut child = command.spawn().map_err(|error| {
        Fault::new(FaultKind::Unsupported, "qemu-img cannot be run on this host; install it (Debian: qemu-utils)").because(error)
    })?;
    let (told, mut output, mut complaints) = (AtomicU32::new(0), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut line, mut piece) = (Vec::new(), [0; 256]);
            while let Some(Ok(count @ 1..)) = output.as_mut().map(|o| o.read(&mut piece)) {
                for byte in &piece[..count] {
                    match byte {
                        b'\r' | b'\n' => {
                            share(&String::from_utf8_lossy(&line)).into_iter().for_each(|share| told.store(share, Ordering::Release));
                            line.clear();
                        }
                        other if line.len() < 64 => line.push(*other),
                        _ => {}
                    }
                }
            }
        });
        let words = scope.spawn(|| {
            let mut words = Vec::new();
            let _ = complaints.as_mut().map(|c| c.take(WORDS).read_to_end(&mut words));
            String::from_utf8_lossy(&words).trim().to_owned()
        });
        let mut killed = false;
        let status = loop {
            match child.try_wait() {
                Ok(None) => {}
                ended => break ended,
            }
            if follower.is_cancelled() && !killed {
                killed = true;
                let _ = child.kill();
            }
            progress(told.load(Ordering::Acquire));
            thread::sleep(LOOK);
        };
        let words = words.join().unwrap_or_default();
        match status {
            _ if follower.is_cancelled() => Err(stopped().into()),
            Ok(Some(status)) if status.success() => Ok(()),
            _ => {
                let text = "qemu-img could not do it; see the cause, make room if a pool is full, and ask again";
                Err(Fault::internal(text).because(words).into())
            }
        }
    })
}

/// As what an image is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Written {
    Volume(VolumeFormat),
    /// As in an appliance: packed, and only what is in use. Every product reads it from front to back.
    Streamed,
}

impl Written {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Written::Volume(VolumeFormat::Raw) => &["-O", "raw"],
            Written::Volume(VolumeFormat::Qcow2) => &["-O", "qcow2", "-o", "compat=1.1"],
            Written::Streamed => &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        }
    }
}

/// Writes an image anew. `from` is a path with a format, or what [`layered`] says.
pub(crate) fn convert(
    from: (&str, Option<&str>),
    to: &Path,
    written: Written,
    limit: Option<u64>,
    follower: &dyn Follower,
    progress: &dyn Fn(u32),
) -> Result<(), Trouble> {
    let (to, limit) = (to.to_string_lossy(), limit.map(|l| l.to_string()));
    let mut arguments = vec!["convert", "-p"];
    arguments.extend(written.arguments());
    if let Some(format) = from.1 {
        arguments.extend(["-f", format]);
    }
    if let Some(limit) = &limit {
        arguments.extend(["-r", limit]);
    }
    arguments.extend(["--", from.0, &to]);
    run(&arguments, follower, progress)
}

/// Whether an image is whole in itself.
pub(super) fn check(file: &Path, format: VolumeFormat, follower: &dyn Follower) -> Result<(), Trouble> {
    if format == VolumeFormat::Raw {
        return Ok(());
    }
    run(&["check", "-q", &layered(&[file])], follower, &|_| {})
}

/// Writes into an image on which other it is built, or that it is built on none.
pub(super) fn build_on(file: &Path, below: Option<&str>, follower: &dyn Follower) -> Result<(), Trouble> {
    let mut arguments = vec!["rebase", "-u", "-f", "qcow2", "-b", below.unwrap_or_default()];
    if below.is_some() {
        arguments.extend(["-F", "qcow2"]);
    }
    let file = file.to_string_lossy();
    arguments.extend(["--", &file]);
    run(&arguments, follower, &|_| {})
}

/// Takes the notes of a checkpoint out of an image that nobody uses.
pub(super) fn forget_bitmap(file: &str, name: &str) -> Result<(), Trouble> {
    run(&["bitmap", "--remove", "-f", "qcow2", "--", file, name], &archipel_contract::work::Unfollowed, &|_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_is_named_and_the_last_is_built_on_nothing() {
        let said = layered(&[Path::new("/p/a.qcow2"), Path::new("/p/b \"x\".qcow2")]);
        let read: serde_json::Value = serde_json::from_str(said.strip_prefix("json:").unwrap()).unwrap();
        assert_eq!(read["file"]["filename"], "/p/b \"x\".qcow2");
        assert_eq!(read["backing"]["file"]["filename"], "/p/a.qcow2");
        assert!(read["backing"]["backing"].is_null() && read["backing"].as_object().unwrap().contains_key("backing"));
    }

    #[test]
    fn progress_is_read_from_what_it_writes() {
        assert_eq!((share("    (12.50/100%)"), share("(100.00/100%)"), share("(0.00/100%)")), (Some(1250), Some(10000), Some(0)));
        for other in ["", "(x/100%)", "No errors", "(101/100%)", "(-1/100%)"] {
            assert_eq!(share(other), None, "{other}");
        }
    }
}
