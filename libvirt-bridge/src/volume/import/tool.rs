//! `qemu-img`, which knows the formats that others write. libvirt lets it write too, but libvirt has no name for some formats and none
//! for an image within an archive, so it is run here.
//!
//! ```text
//!   asked --> prlimit (files, room, memory) --> setpriv (no capability, no way to get one, dies with us) --> qemu-img
//!                                                    |  told to stop: killed, its end is waited for
//!                                                    +-- its progress is read from what it says
//! ```
//! What it opens was looked at before (`image`): it names no other file. Format and place are told to it and never guessed. It runs as
//! the owner of the image, without a shell and without the agent's environment.

use super::image::Format;
use crate::{connection::Trouble, volume::copy::stopped};
use archipel_contract::{Bytes, Fault, FaultKind, domain::Extent, work::Follower};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    io::Read,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

/// Address space; it needs a few hundred MiB.
const MEMORY: u64 = 4 << 30;
/// What is kept of what it complains about.
const WORDS: usize = 4096;
/// The kernel's signal for a file that becomes larger than it may.
const TOO_LARGE: i32 = libc::SIGXFSZ;

/// An image, and where it lies.
pub(super) struct Input<'a> {
    pub path: &'a Path,
    pub extent: Extent,
    pub format: Format,
}

/// How QEMU is told to open it.
fn described(input: &Input<'_>) -> Result<String, Fault> {
    let path = input.path.to_str().ok_or_else(|| Fault::invalid("the path of the image is no text; give its pool another place"))?;
    let file = json!({ "driver": "file", "filename": path });
    let place = json!({ "driver": "raw", "offset": input.extent.offset, "size": input.extent.length, "file": file });
    let image = match input.format {
        Format::Raw => place,
        // That it is built on nothing was found out before; should that have changed meanwhile, it is not followed.
        Format::Qcow2 | Format::Vmdk => json!({ "driver": input.format.name(), "backing": null, "file": place }),
        _ => json!({ "driver": input.format.name(), "file": place }),
    };
    Ok(format!("json:{image}"))
}

fn command(input: &Input<'_>, to: &Path, room: Bytes, owner: Option<(u32, u32)>) -> Result<Command, Fault> {
    let mut command = Command::new("prlimit");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
    command.args(["--core=0", "--nofile=64"]).arg(format!("--as={MEMORY}")).arg(format!("--fsize={}", room.0)).arg("--");
    command.args(["setpriv", "--no-new-privs", "--pdeathsig=KILL", "--inh-caps=-all"]);
    if let Some((user, group)) = owner {
        command.args(["--bounding-set=-all", "--clear-groups"]).arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
    }
    command.args(["--", "qemu-img", "convert", "-p", "-O", "qcow2", "-o", "compat=1.1", "--"]);
    command.arg(described(input)?).arg(to);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// How far it says it is: the last whole `(12.34/100%)`.
fn share(text: &str) -> Option<u8> {
    let number = text.rsplit('(').find_map(|part| part.split_once("/100%)"))?.0;
    let whole = number.split('.').next()?;
    whole.trim().parse().ok().filter(|n| *n <= 100)
}

/// What it complained about, in one line.
fn complaint(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("it said nothing");
    let line = line.strip_prefix("qemu-img: ").unwrap_or(line);
    // Behind the last colon stands why; before it how QEMU was told to open it, which nobody wants to read.
    let why = if line.contains("json:") { line.rsplit("': ").next().unwrap_or(line) } else { line };
    why.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Writes it as qcow2 to a file that is there and empty.
pub(super) fn convert(input: &Input<'_>, to: &Path, room: Bytes, follower: &Arc<dyn Follower>) -> Result<(), Trouble> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    let unowned = |e| Fault::internal("the owner of an image could not be found out; see the cause").because(e);
    let owner = if is_root {
        let image = std::fs::metadata(input.path).map_err(unowned)?;
        std::os::unix::fs::chown(to, Some(image.uid()), Some(image.gid())).map_err(unowned)?;
        Some((image.uid(), image.gid()))
    } else {
        None
    };
    let words = format!("writing it anew as qcow2 from {}", input.format.name());
    follower.advance(Some(0), &words);
    let mut child = command(input, to, room, owner)?.spawn().map_err(|error| {
        Fault::new(FaultKind::Unsupported, "qemu-img cannot be run on this host; install qemu-utils and util-linux there").because(error)
    })?;
    let (said, complained) = (child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let victim = child.clone();
    follower.on_cancel(Box::new(move || {
        // It may have ended by itself.
        let _ = victim.lock().kill();
    }));
    let complaints = thread::scope(|scope| {
        let listener = scope.spawn(move || heard(complained, |_| {}));
        heard(said, |text| {
            if let Some(percent) = share(text) {
                follower.advance(Some(percent.min(99)), &words);
            }
        });
        listener.join().unwrap_or_default()
    });
    let ended = child.lock().wait().map_err(|e| Fault::internal("the end of qemu-img was not seen; please report this").because(e))?;
    if follower.is_cancelled() {
        return Err(stopped());
    }
    // Whether it is killed or told depends on who started us: some let their children ignore the signal.
    let full = ["File too large", "No space left"].iter().any(|words| complaints.contains(words));
    if ended.signal() == Some(TOO_LARGE) || (full && !ended.success()) {
        return Err(Fault::wrong_state(format!(
            "it needs more than the {room} that its pool has left; make room there or choose another pool"
        ))
        .into());
    }
    if !ended.success() {
        let format = input.format.name();
        return Err(Fault::invalid(format!("it cannot be read as {format}: {}; send the image again", complaint(&complaints))).into());
    }
    if is_root {
        // New volumes belong to root until a machine is given them; that machine's libvirt changes it then.
        std::os::unix::fs::chown(to, Some(0), Some(0)).map_err(unowned)?;
    }
    Ok(())
}

/// Reads to the end, hands on what comes and keeps the beginning.
fn heard(from: Option<impl Read>, mut tell: impl FnMut(&str)) -> String {
    let (mut kept, mut piece) = (String::new(), [0; 1024]);
    let Some(mut from) = from else { return kept };
    while let Ok(count) = from.read(&mut piece) {
        if count == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&piece[..count]);
        tell(&text);
        if kept.len() < WORDS {
            kept.push_str(&text);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::work::Unfollowed;

    #[test]
    fn progress_is_read_from_what_it_says() {
        assert_eq!(share("    (0.00/100%)\r    (12.34/100%)\r"), Some(12));
        assert_eq!(share("    (99.99/100%)\r    (100.0"), Some(99));
        assert_eq!((share(""), share("(x/100%)"), share("(300/100%)")), (None, None, None));
    }

    #[test]
    fn a_complaint_is_one_line_without_how_it_was_asked() {
        let said = "qemu-img: Could not open 'json:{\"driver\": \"vmdk\"}': Footer mismatch\nmore";
        assert_eq!(complaint(said), "Footer mismatch");
        assert_eq!(complaint("\n"), "it said nothing");
    }

    #[test]
    fn an_image_is_opened_as_what_it_was_found_to_be_and_nothing_else_is() {
        let input = Input { path: Path::new("/p/a \"b\",c"), extent: Extent { offset: 512, length: 99 }, format: Format::Vmdk };
        let text = described(&input).unwrap();
        let read: serde_json::Value = serde_json::from_str(text.strip_prefix("json:").unwrap()).unwrap();
        assert_eq!(read["file"]["file"]["filename"], "/p/a \"b\",c");
        assert_eq!((read["file"]["offset"].as_u64(), read["file"]["size"].as_u64()), (Some(512), Some(99)));
        assert!(read["backing"].is_null() && read["driver"] == "vmdk");
    }

    #[test]
    fn what_is_no_image_is_told_and_room_is_kept_to() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, vec![7u8; 3 << 20]).unwrap();
        std::fs::write(&to, b"").unwrap();
        let input = |format| Input { path: &from, extent: Extent { offset: 0, length: 3 << 20 }, format };
        let follower: Arc<dyn Follower> = Arc::new(Unfollowed);
        let told = |made: Result<(), Trouble>| match made {
            Err(Trouble::Ours(fault)) => fault.message,
            Err(_) => panic!("libvirt has no part in this"),
            Ok(()) => String::new(),
        };
        let said = told(convert(&input(Format::Vhdx), &to, Bytes(1 << 30), &follower));
        assert!(said.contains("cannot be read as vhdx"), "{said}");
        let said = told(convert(&input(Format::Raw), &to, Bytes(1 << 20), &follower));
        assert!(said.contains("make room"), "{said}");
        let said = told(convert(&input(Format::Raw), &to, Bytes(1 << 30), &follower));
        assert_eq!(said, "");
        assert_eq!(&std::fs::read(&to).unwrap()[..4], b"QFI\xfb");
    }
}
