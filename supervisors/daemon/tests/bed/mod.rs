//! A folder, a configuration and the program in it. Everything ends with the test.

use serde_json::Value;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Generous, because other tests share the machine; it is only reached when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a run of the program left behind.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_archipeld"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What the person who runs the tests has set is no part of them.
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ARCHIPEL") || key == "NOTIFY_SOCKET") {
        command.env_remove(key);
    }
    command
}

fn said(mut command: Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the program without a configuration file.
pub(crate) fn archipeld(args: &[&str]) -> Said {
    said(program(args))
}

/// Runs a command with that on its standard input.
pub(crate) fn feed(mut command: Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let bed = Bed { dir: tempfile::tempdir().unwrap() };
        bed.configure_hypervisor("test:///default");
        bed
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn config(&self) -> String {
        self.path("archipel.toml")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// What every configuration here begins with: its own folder, free ports, and `first` before any section.
    pub(crate) fn basics(&self, first: &str) -> String {
        let data = self.path("data");
        format!("cell = 'vm.test'\ndata_dir = '{data}'\n{first}[xmpp]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\n")
    }

    /// A whole cell with one hypervisor.
    pub(crate) fn configure_hypervisor(&self, uri: &str) {
        self.configure(&(self.basics("") + &format!("[[hypervisor]]\nname = 'alpha'\nuri = '{uri}'\n")));
    }

    /// A file that only its owner reads.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let config = self.config();
        let mut all = vec!["--config", &config];
        all.extend(args);
        program(&all)
    }

    pub(crate) fn archipeld(&self, args: &[&str]) -> Said {
        said(self.command(args))
    }

    pub(crate) fn archipeld_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Said {
        let mut command = self.command(args);
        command.envs(environment.iter().copied());
        said(command)
    }

    /// Starts the daemon and waits until it says where it listens.
    pub(crate) fn run(&self) -> Running {
        self.run_with(&[])
    }

    pub(crate) fn run_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut child = self.command(&["run"]).envs(environment.iter().copied()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut running = Running { child, lines, log: RefCell::default(), http: String::new(), xmpp: String::new() };
        let line = running.wait_for_line("archipel is ready");
        let value =
            |key: &str| line.split(&format!("{key}=")).nth(1).unwrap().split_whitespace().next().unwrap().trim_matches('"').to_owned();
        running.http = value("http");
        running.xmpp = value("xmpp");
        running
    }
}

/// A running daemon; it is killed when the test ends.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    log: RefCell<String>,
    http: String,
    xmpp: String,
}

impl Running {
    fn wait_for_line(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.borrow_mut().push_str(&format!("{line}\n"));
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?}; the log:\n{}", self.log.borrow()),
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow_mut().extend(self.lines.try_iter().map(|line| line + "\n"));
        self.log.borrow().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn xmpp(&self) -> String {
        self.xmpp.clone()
    }

    /// The status and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: vm.test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Asks for the health until it is as wanted. There is nothing that pushes it, as nobody but a person looks at it.
    pub(crate) fn health_until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let health: Value = serde_json::from_str(&self.get("/health").1).unwrap();
            if fits(&health) {
                return health;
            }
            assert!(Instant::now() < end, "never {what}: {health}\n{}", self.log());
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end and answers the exit code, or nothing when a signal killed it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        // Its standard error ends with it.
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.borrow_mut().push_str(&format!("{line}\n")),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; the log:\n{}", self.log.borrow()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
