//! What can be seen of a running machine and typed into it: its screen, its serial line, its keyboard.
//!
//! ```text
//!   domain.console --proof--> ticket --(HTTP, once)--> open --+--> closed: the viewer leaves, the machine stops
//!                                                             +--> taken over: somebody else asked with `take-over`
//! ```

use crate::{
    BoxFuture, DomainId, Fault, Millis, Timestamp, Verdict,
    command::{Command, Document, Done, Started, declare},
    domain::DomainState,
    ticket::{ConsoleLine, Proof, Ticket},
    {Effect, Role, Target},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Which console is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleKind {
    /// The screen, over a WebSocket.
    #[default]
    Vnc,
    /// The serial line, over a WebSocket.
    Serial,
    /// The screen as a file for a SPICE viewer.
    Spice,
}

/// Open the screen or the serial line of a virtual machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenConsole {
    /// Which one.
    pub kind: ConsoleKind,
    /// The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret. Needed but for spice.
    pub proof: Option<Proof>,
    /// Send away everybody else who has it open.
    pub take_over: bool,
}
declare!(OpenConsole, "domain.console", Read, Admin, Domain, ConsoleOffer);

/// The answer of `domain.console`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleOffer {
    /// What opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// A file for virt-viewer, when a SPICE screen was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Document>,
    /// What it is. Lower case, no full stop.
    pub message: String,
}

/// List who has the screen or the serial line of a virtual machine open.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListViewers {}
declare!(ListViewers, "domain.viewers", Read, Viewer, Domain, Vec<Watching>);

/// Somebody who has a console open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watching {
    /// Their bare JID.
    pub person: Arc<str>,
    /// What they have open: vnc or serial.
    pub kind: Arc<str>,
    /// Since when.
    pub since: Timestamp,
}

/// Take a picture of the screen of a virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TakeScreenshot {
    /// A small picture, for a list.
    pub thumbnail: bool,
    /// The greatest width in pixels; it may come smaller, so that it fits into one answer.
    #[schemars(range(min = 16, max = 4096))]
    pub width: u32,
}
impl Default for TakeScreenshot {
    fn default() -> Self {
        TakeScreenshot { thumbnail: false, width: 1920 }
    }
}
declare!(TakeScreenshot, "domain.screenshot", Read, Viewer, Domain, Picture);

/// The width of a small picture.
pub const THUMBNAIL: u32 = 192;
/// The most bytes of a picture, so that its text fits into a stanza with room to spare.
pub const PICTURE_LIMIT: usize = 150_000;

/// A picture as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Picture {
    /// `image/png`.
    pub media_type: String,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The file in base64.
    pub base64: String,
}

/// Press keys of a virtual machine's keyboard together, for example ctrl+alt+delete.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendKey {
    /// The keys, joined by +; several strokes one after the other are parted by spaces.
    pub keys: String,
    /// How many milliseconds they are held.
    #[serde(default = "hold")]
    #[schemars(range(min = 1, max = 5000))]
    pub hold: u32,
}
fn hold() -> u32 {
    50
}
declare!(SendKey, "domain.send-key", Change, Admin, Domain, Done);

/// Type a text on a virtual machine's keyboard.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasteText {
    /// The text, at most 2048 characters.
    #[schemars(with = "String", extend("format" = "password"))]
    pub text: String,
    /// The layout the guest has set for its keyboard.
    #[serde(default)]
    pub layout: Layout,
    /// Press Enter at the end.
    #[serde(default)]
    pub enter: bool,
}
declare!(PasteText, "domain.paste", Change, Admin, Domain, Started);

/// Most characters of a text that is typed.
pub const PASTE_LIMIT: usize = 2048;

/// What a keyboard's keys mean to the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// English, United States.
    #[default]
    Us,
    /// English, United Kingdom.
    Uk,
    /// German.
    De,
    /// French.
    Fr,
}

/// Whether a console command may run in this state.
pub fn console_may(command: &str, state: DomainState) -> Verdict {
    use DomainState::*;
    match (command, state) {
        (_, Shutoff | Crashed) => Verdict::refused("is off; start it first"),
        ("domain.send-key" | "domain.paste", Paused) => Verdict::refused("is paused and takes no keys; resume it first"),
        _ => Verdict::Allowed,
    }
}

/// A SPICE screen as the definition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiceAddress {
    /// Where it listens.
    pub host: String,
    /// Its port without TLS.
    pub port: Option<u16>,
    /// Its port with TLS.
    pub tls_port: Option<u16>,
}

/// What a running machine has to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlets {
    /// Whether it has a VNC screen.
    pub vnc: bool,
    /// Its SPICE screen; `Some(None)`: it has one that listens nowhere.
    pub spice: Option<Option<SpiceAddress>>,
    /// Whether it has a serial line or another text console.
    pub serial: bool,
}

/// A picture as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The PNG.
    pub png: Vec<u8>,
}

/// What the inside needs of a hypervisor to show a machine and to type into it.
pub trait ConsolePort: Send + Sync {
    /// What the running machine has.
    fn outlets(&self, id: DomainId) -> BoxFuture<'_, Result<Outlets, Fault>>;
    /// A socket with its screen (RFB) or its serial line behind it; closing it closes the console. The machine's end closes
    /// when it stops. A serial line has one user at a time: `busy` if there is one, unless it is taken over.
    fn open(&self, id: DomainId, line: ConsoleLine, take_over: bool) -> BoxFuture<'_, Result<UnixStream, Fault>>;
    /// A picture of the screen, at most so wide, and smaller until it has at most so many bytes (`virDomainScreenshot`).
    fn screenshot(&self, id: DomainId, width: u32, limit: usize) -> BoxFuture<'_, Result<Image, Fault>>;
    /// Presses these keys (Linux key codes) together for that long (`virDomainSendKey`).
    fn press(&self, id: DomainId, keys: Vec<u32>, hold: Millis) -> BoxFuture<'_, Result<(), Fault>>;
}
