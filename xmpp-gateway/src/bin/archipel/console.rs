//! The serial console of a virtual machine in the terminal: what is typed goes there, what the guest says is shown.
//!
//! ```text
//!   domain.console (proof) --> ticket --> WebSocket (token, secret) <==> terminal in raw mode
//!                                                                  Ctrl-] leaves, like virsh console
//! ```
//! From a pipe, lines are sent as they are, and the end of the input leaves once the guest has been silent for a while.

use crate::follow::say;
use crate::login::Login;
use crate::websocket::{Message, WebSocket};
use archipel_contract::{Fault, domain::ConsoleOffer};
use archipel_xmpp::client::{Client, DEADLINE};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::io::{self, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// How long the guest must be silent after the end of a piped input.
const SILENCE: Duration = Duration::from_secs(2);

/// Opens the console and stays until somebody leaves.
pub(crate) async fn stay(client: &Client, login: &Login, target: &str, name: &str, mut arguments: Map<String, Value>) -> Result<(), Fault> {
    let secret = secret()?;
    arguments.insert("kind".to_owned(), "serial".into());
    arguments.insert("proof".to_owned(), proof(&secret).into());
    let reply = client.command(target, "domain.console", Value::Object(arguments), None, DEADLINE).await?;
    let offer: ConsoleOffer = serde_json::from_value(reply).map_err(|e| Fault::internal("the answer is no ticket").because(e))?;
    let ticket = offer.ticket.ok_or_else(|| Fault::internal("the answer holds no ticket; is the daemon of another version?"))?;
    let mut socket = WebSocket::open(&login.page, &ticket.path, &secret).await?;
    let interactive = io::stdin().is_terminal();
    let raw = interactive.then(Raw::begin).transpose()?;
    if interactive {
        say(&format!("connected to the serial line of {name}; Ctrl-] leaves\r"));
    }
    let ended = talk(&mut socket, keys(), interactive).await;
    drop(raw);
    if interactive {
        say("");
    }
    match ended? {
        None => Ok(()),
        Some(why) => Err(Fault::unavailable(if why.is_empty() { "the console was closed".to_owned() } else { why })),
    }
}

/// What goes with a command in place of the secret.
pub(crate) fn proof(secret: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

/// What only whoever asked for a ticket knows.
pub(crate) fn secret() -> Result<String, Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// What is typed, from a thread of its own: a terminal cannot be read without blocking.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut chunk = [0; 1024];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut chunk) {
            if send.blocking_send(chunk[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receive
}

/// Both ways until somebody leaves: `None` if that was us, else what the other side said.
async fn talk(socket: &mut WebSocket, mut keys: mpsc::Receiver<Vec<u8>>, interactive: bool) -> Result<Option<String>, Fault> {
    let mut over = false;
    loop {
        let silence = async { if over { tokio::time::sleep(SILENCE).await } else { std::future::pending().await } };
        tokio::select! {
            typed = keys.recv(), if !over => match typed {
                None => over = true,
                Some(typed) => {
                    let leaves = interactive.then(|| typed.iter().position(|b| *b == LEAVE)).flatten();
                    socket.send(&typed[..leaves.unwrap_or(typed.len())]).await?;
                    if leaves.is_some() {
                        socket.close().await;
                        return Ok(None);
                    }
                }
            },
            said = socket.receive() => match said? {
                Message::Bytes(bytes) => {
                    let mut out = io::stdout().lock();
                    if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
                        socket.close().await;
                        return Ok(None);
                    }
                }
                Message::Closed(why) => return Ok(Some(why)),
            },
            () = silence => {
                socket.close().await;
                return Ok(None);
            }
        }
    }
}

/// The terminal hands on every key as it is, until this is dropped. `stty` does it, so that no unsafe code is needed.
struct Raw(String);

fn stty(arguments: &[&str]) -> Result<String, Fault> {
    let broken = |e: &dyn std::fmt::Display| Fault::internal("the terminal could not be set with stty").because(e);
    let done = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().map_err(|e| broken(&e))?;
    if !done.status.success() {
        return Err(broken(&String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

impl Raw {
    fn begin() -> Result<Raw, Fault> {
        let before = Raw(stty(&["-g"])?);
        stty(&["raw", "-echo"])?;
        Ok(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(fault) = stty(&[&self.0]) {
            say(&format!("{fault}; type reset\r"));
        }
    }
}
