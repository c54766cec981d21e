//! Rules about single values and about several together.

use super::reader::Section;
use super::{Hypervisor, Roles};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn uri(section: &mut Section<'_>, key: &str, uri: String) -> Option<String> {
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        section.mistake(key, format!("{uri:?} is not a libvirt address such as qemu:///system"));
        return None;
    }
    Some(uri)
}

pub(super) fn origin(section: &mut Section<'_>, key: &str, origin: &str) {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    if !host.is_some_and(|h| !h.is_empty() && !h.trim_end_matches('/').contains(['/', '*', '?', '#', ' '])) {
        section.mistake(key, format!("{origin:?} is not an origin such as https://panel.example.org"));
    }
}

/// 64 hex digits; colons between them are how other tools print it.
pub(super) fn fingerprint(section: &mut Section<'_>, text: &str) -> Option<String> {
    let hex: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(hex);
    }
    section.mistake("fingerprint", "must be the SHA-256 of the exchange's certificate: 64 hex digits, colons allowed");
    None
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

/// Over a network the exchange is known by its certificate; this machine itself is known anyway.
pub(super) fn fingerprint_needed(section: &mut Section<'_>, servers: &[String]) {
    let local = |host: &str| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !servers.iter().all(|server| local(host(server))) {
        let what = "is missing; the exchange shows it at its start and on its health page (certificate)";
        section.mistake("fingerprint", what);
    }
}

/// A secret lies in a file that others cannot read.
pub(super) fn secret(section: &mut Section<'_>, key: &'static str, file: &Path) {
    let shown = file.display();
    match std::fs::metadata(file) {
        Err(error) => section.mistake(key, format!("{shown} cannot be read ({error})")),
        Ok(meta) if !meta.is_file() => section.mistake(key, format!("{shown} is not a file")),
        Ok(meta) if meta.permissions().mode() & 0o027 != 0 => {
            section.mistake(key, format!("{shown} can be read by others or written by its group; chmod 600 {shown}"));
        }
        Ok(_) => match std::fs::read_to_string(file) {
            Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => section.mistake(key, format!("{shown} is empty")),
            Ok(_) => {}
            Err(error) => section.mistake(key, format!("{shown} cannot be read ({error})")),
        },
    }
}

/// An address of a member of etcd.
pub(super) fn member(section: &mut Section<'_>, url: &str) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if !rest.is_some_and(|r| !r.is_empty() && !r.trim_end_matches('/').contains(['/', '?', '#', ' ', '@'])) {
        section.mistake("etcd", format!("{url:?} is not the address of a member such as http://10.0.0.1:2379"));
    }
}

/// An address that others can connect to.
pub(super) fn reachable(address: &str) -> bool {
    host(address).parse::<std::net::IpAddr>().map_or(true, |ip| !ip.is_unspecified())
}

/// What only several values together tell.
pub(super) fn together(
    root: &mut Section<'_>,
    roles: Roles,
    hypervisors: &[Hypervisor],
    remote: bool,
    xmpp: &str,
    http: &str,
    data_dir: &Path,
) {
    for (number, one) in hypervisors.iter().enumerate() {
        let before = &hypervisors[..number];
        if before.iter().any(|other| other.name == one.name) {
            root.mistake("hypervisor", format!("two are named {}; each needs a name of its own", one.name));
        }
        if before.iter().any(|other| other.uri == one.uri) {
            root.mistake("hypervisor", format!("two have the uri {}; their machines would be the same ones", one.uri));
        }
    }
    if !roles.agent && !hypervisors.is_empty() {
        root.mistake("hypervisor", "only an agent has hypervisors; add agent to roles or remove them");
    }
    if !roles.exchange && !remote {
        root.mistake(
            "exchange",
            "is missing; a process that is no exchange needs [exchange] server and password_file, which `archipeld join` saves you",
        );
    }
    if roles.exchange && remote {
        root.mistake("exchange", "is for a process that is no exchange itself; remove the section, or exchange from roles");
    }
    if roles.exchange && xmpp == http && !xmpp.is_empty() && !xmpp.ends_with(":0") {
        root.mistake("http.listen", format!("{http} is xmpp.listen already; they need two ports"));
    }
    if !data_dir.is_absolute() {
        root.mistake("data_dir", format!("{} must begin with /", data_dir.display()));
    } else if let Some(there) = data_dir.ancestors().find(|path| path.exists())
        && !there.is_dir()
    {
        root.mistake("data_dir", format!("{} is not a folder", there.display()));
    }
}
