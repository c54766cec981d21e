//! Names that a network answers in DNS beside those of its machines. Pure: what can be one, and which one a person means.
//!
//! libvirt hands them to a name server whose configuration is made of lines, so what could end a line, begin a comment or be
//! taken for two values is refused here.

use super::spec::is_dns_name;
use crate::{
    Effect, Fault, FaultKind, Role, Target,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// So long is the longest string in a record of kind TXT.
const LONGEST_TEXT: usize = 255;
/// The protocols that libvirt has services of.
const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

/// A kind of record in DNS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DnsKind {
    /// The address of a name.
    #[default]
    Host,
    /// Where a service is: its host and port.
    Srv,
    /// A text.
    Txt,
}

impl DnsKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            DnsKind::Host => "host",
            DnsKind::Srv => "srv",
            DnsKind::Txt => "txt",
        }
    }
}

/// A name that a network answers in DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DnsName {
    /// The kind of record.
    pub kind: DnsKind,
    /// The name: git.lab.example, or a service such as _sip._tcp.
    pub name: String,
    /// An address, a text, or the host and port of a service such as pbx.lab.example:5060.
    pub value: String,
}

/// List the names that a network answers in DNS beside those of its machines.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListNames {}
declare!(ListNames, "network.names", Read, Viewer, Network, Vec<DnsName>);

/// Let a network answer a name in DNS, from now on and when it starts again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddName {
    /// The name: git.lab.example, or a service such as _sip._tcp.
    pub name: String,
    /// An address, a text, or the host and port of a service such as pbx.lab.example:5060.
    pub value: String,
    /// The kind of record.
    #[serde(default)]
    pub kind: DnsKind,
}
declare!(AddName, "network.add-name", Change, Admin, Network, Done);

/// Let a network answer a name in DNS no more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveName {
    /// The name.
    pub name: String,
    /// The kind of record.
    #[serde(default)]
    pub kind: DnsKind,
    /// Only the record with this value: a service may be at several hosts.
    #[serde(default)]
    pub value: Option<String>,
}
declare!(RemoveName, "network.remove-name", Change, Admin, Network, Done);

/// The service, the protocol and the domain of `_sip._tcp` or `_sip._tcp.lab.example`.
pub fn service_named(name: &str) -> Option<(&str, &str, Option<&str>)> {
    let mut parts = name.splitn(3, '.');
    let (service, protocol) = (parts.next()?.strip_prefix('_')?, parts.next()?.strip_prefix('_')?);
    let plain = is_dns_name(service) && PROTOCOLS.contains(&protocol);
    let domain = parts.next();
    (plain && domain.is_none_or(is_dns_name)).then_some((service, protocol, domain))
}

/// The host and the port of `pbx.lab.example:5060`.
pub fn service_of(value: &str) -> Option<(&str, u16)> {
    let (target, port) = value.rsplit_once(':')?;
    let plain = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|p| plain && *p > 0)?;
    is_dns_name(target).then_some((target, port))
}

/// Whether this can be the name of a text: some begin with an underscore, such as _dmarc.lab.example.
fn is_text_name(name: &str) -> bool {
    name.split('.').all(|label| is_dns_name(label.strip_prefix('_').unwrap_or(label))) && name.len() <= 253
}

fn conflict(text: String) -> Fault {
    Fault::new(FaultKind::Conflict, text)
}

/// Refuses names of a network that has no name server. `answers`: the host has an address on it, and DNS is not switched off.
pub fn check_answers(network: &str, answers: bool) -> Result<(), Fault> {
    let text = || format!("{network} answers no names: its host has no address on it, or its definition switches DNS off");
    if answers { Ok(()) } else { Err(Fault::wrong_state(text())) }
}

/// One more name, checked and as it is written, beside those that are there.
pub fn check_dns(asked: &DnsName, network: &str, there: &[DnsName]) -> Result<DnsName, Fault> {
    let shown = |text: &str| -> String { text.chars().take(60).collect() };
    let (name, value) = (asked.name.trim().to_ascii_lowercase(), asked.value.trim());
    let value = match asked.kind {
        DnsKind::Host => {
            if !is_dns_name(&name) {
                return Err(Fault::invalid(format!("{:?} is no name in DNS: use letters, digits, - and dots", shown(&name))));
            }
            let address: IpAddr = value.parse().map_err(|_| Fault::invalid(format!("{:?} is no address", shown(value))))?;
            if address.is_unspecified() || address.is_multicast() {
                return Err(Fault::invalid(format!("{address} is not an address that a host can have")));
            }
            address.to_string()
        }
        DnsKind::Srv => {
            if service_named(&name).is_none() {
                let text = format!("{:?} is no service: name it like _sip._tcp, or _sip._tcp.lab.example", shown(&name));
                return Err(Fault::invalid(text));
            }
            let value = value.to_ascii_lowercase();
            if service_of(&value).is_none() {
                return Err(Fault::invalid(format!("{:?} is no host with a port, such as pbx.lab.example:5060", shown(&value))));
            }
            value
        }
        DnsKind::Txt => {
            if !is_text_name(&name) {
                return Err(Fault::invalid(format!("{:?} is no name in DNS: use letters, digits, -, _ and dots", shown(&name))));
            }
            if value.is_empty() || value.len() > LONGEST_TEXT || value.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
                return Err(Fault::invalid(format!(
                    "a text has 1 to {LONGEST_TEXT} bytes, and none of them is a quote, a backslash or a line end"
                )));
            }
            value.to_owned()
        }
    };
    let same = |n: &&DnsName| n.kind == asked.kind && n.name.eq_ignore_ascii_case(&name);
    match there.iter().filter(same).find(|n| asked.kind != DnsKind::Srv || n.value.eq_ignore_ascii_case(&value)) {
        Some(old) => Err(conflict(format!("{network} answers {name} already, with {}; remove that first", old.value))),
        None => Ok(DnsName { kind: asked.kind, name, value }),
    }
}

/// The record that a person means.
pub fn find_dns<'a>(there: &'a [DnsName], kind: DnsKind, name: &str, value: Option<&str>, network: &str) -> Result<&'a DnsName, Fault> {
    let (name, value) = (name.trim(), value.map(str::trim));
    let fits = |n: &&DnsName| n.kind == kind && n.name.eq_ignore_ascii_case(name) && value.is_none_or(|v| n.value.eq_ignore_ascii_case(v));
    let mut found = there.iter().filter(fits);
    let shown: String = name.chars().take(60).collect();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(conflict(format!("{network} has several records {shown}; say with --value which one"))),
        (None, _) => {
            let text = format!("{network} answers no {} {shown:?}; list what it answers with network.names", kind.name());
            Err(Fault::not_found(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: DnsKind, name: &str, value: &str) -> DnsName {
        DnsName { kind, name: name.into(), value: value.into() }
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_no_name() {
        use DnsKind::{Host, Srv, Txt};
        let long = "x".repeat(256);
        for (kind, what, value) in [
            (Host, "", "10.0.0.1"),
            (Host, "a b", "10.0.0.1"),
            (Host, "a_b", "10.0.0.1"),
            (Host, "git\nserver=8.8.8.8", "10.0.0.1"),
            (Host, "git", "10.0.0"),
            (Host, "git", "10.0.0.1\n10.0.0.2 bank.example"),
            (Host, "git", "0.0.0.0"),
            (Host, "git", "224.0.0.1"),
            (Host, "git", ""),
            (Srv, "sip", "pbx:1"),
            (Srv, "_sip", "pbx:1"),
            (Srv, "_sip._sctp", "pbx:1"),
            (Srv, "_sip._tcp.", "pbx:1"),
            (Srv, "_sip._tcp", "pbx"),
            (Srv, "_sip._tcp", "pbx:0"),
            (Srv, "_sip._tcp", "pbx:70000"),
            (Srv, "_sip._tcp", "pbx:+1"),
            (Srv, "_sip._tcp", "pb,x:1"),
            (Txt, "a b", "text"),
            (Txt, "a,b", "text"),
            (Txt, "__a", "text"),
            (Txt, "about", ""),
            (Txt, "about", "two\nlines"),
            (Txt, "about", "\"quoted\""),
            (Txt, "about", "back\\slash"),
            (Txt, "about", &long),
        ] {
            let fault = check_dns(&name(kind, what, value), "lab", &[]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::InvalidRequest, "{kind:?} {what:?} {value:?}");
        }
    }

    #[test]
    fn a_name_is_written_as_dns_compares_it() {
        use DnsKind::{Host, Srv, Txt};
        for (asked, written) in [
            (name(Host, " Git.Lab ", "fd00:0::0:1"), name(Host, "git.lab", "fd00::1")),
            (name(Srv, "_SIP._tcp", "PBX.lab:5060"), name(Srv, "_sip._tcp", "pbx.lab:5060")),
            (name(Srv, "_sip._udp.lab.example", "pbx:1"), name(Srv, "_sip._udp.lab.example", "pbx:1")),
            (name(Txt, "_dmarc.Lab", "v=DMARC1; p=none, #1"), name(Txt, "_dmarc.lab", "v=DMARC1; p=none, #1")),
        ] {
            assert_eq!(check_dns(&asked, "lab", &[]).unwrap(), written);
        }
        assert_eq!(service_named("_sip._udp.lab.example"), Some(("sip", "udp", Some("lab.example"))));
    }

    #[test]
    fn a_name_has_one_address_and_one_text_but_a_service_may_have_several_hosts() {
        use DnsKind::{Host, Srv, Txt};
        let there = [name(Host, "git", "10.0.0.1"), name(Txt, "git", "text"), name(Srv, "_a._tcp", "one:1"), name(Srv, "_a._tcp", "two:1")];
        for again in [name(Host, "GIT", "10.0.0.2"), name(Txt, "git", "other"), name(Srv, "_a._tcp", "ONE:1")] {
            let fault = check_dns(&again, "lab", &there).unwrap_err();
            assert!(fault.kind == FaultKind::Conflict && fault.message.contains("already"), "{fault}");
        }
        assert!(check_dns(&name(Srv, "_a._tcp", "three:1"), "lab", &there).is_ok());
        assert!(check_dns(&name(Host, "web", "10.0.0.1"), "lab", &there).is_ok(), "an address may have several names");
        assert_eq!(find_dns(&there, Host, "Git", None, "lab").unwrap(), &there[0]);
        assert_eq!(find_dns(&there, Srv, "_a._tcp", None, "lab").unwrap_err().kind, FaultKind::Conflict);
        assert_eq!(find_dns(&there, Srv, "_a._tcp", Some("Two:1"), "lab").unwrap(), &there[3]);
        assert_eq!(find_dns(&there, Host, "web", None, "lab").unwrap_err().kind, FaultKind::NotFound);
        assert_eq!(check_answers("lab", false).unwrap_err().kind, FaultKind::WrongState);
    }
}
