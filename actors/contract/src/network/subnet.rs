//! Addresses of a network, and what must not be twice on it. Pure.

use super::{StaticHost, spec::is_dns_name};
use crate::{Fault, FaultKind, domain::mac_of};
use std::fmt;
use std::net::IpAddr;

/// So many addresses libvirt gives out at most from one range.
const LARGEST_RANGE: u128 = 65_536;

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The host's own address.
    pub address: IpAddr,
    /// How many bits all addresses there have in common.
    pub prefix: u8,
}

fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

impl fmt::Display for Subnet {
    /// The subnet, without the host's own part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.edges().0;
        match self.address {
            IpAddr::V4(_) => write!(f, "{}", IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(first).unwrap_or(0))))?,
            IpAddr::V6(_) => write!(f, "{}", IpAddr::from(std::net::Ipv6Addr::from(first)))?,
        }
        write!(f, "/{}", self.prefix)
    }
}

impl Subnet {
    /// The first and the last number in it.
    fn edges(&self) -> (u128, u128) {
        let (own, width) = number(self.address);
        let rest = u32::from(width.saturating_sub(self.prefix));
        let low = if rest >= 128 { u128::MAX } else { (1u128 << rest) - 1 };
        (own & !low, own | low)
    }

    /// Whether an address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        let ((wanted, width), (first, last)) = (number(address), self.edges());
        width == number(self.address).1 && (first..=last).contains(&wanted)
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        let ((a, b), (c, d)) = (self.edges(), other.edges());
        number(self.address).1 == number(other.address).1 && a <= d && c <= b
    }

    /// What is written as `192.168.100.1/24`: an address that a host can have in a subnet that has room for others.
    pub fn of_host(text: &str) -> Result<Subnet, String> {
        let shown: String = text.chars().take(60).collect();
        let bad = || format!("address {shown:?} is none with a prefix, such as 192.168.100.1/24");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        let subnet = Subnet { address: address.parse().map_err(|_| bad())?, prefix };
        let most = number(subnet.address).1 - 2;
        if !(8..=most).contains(&prefix) {
            return Err(format!("address {shown}: the prefix is between 8 and {most}"));
        }
        let (a, v4_local) = match subnet.address {
            IpAddr::V4(v4) => (subnet.address, v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240),
            IpAddr::V6(_) => (subnet.address, false),
        };
        if a.is_loopback() || a.is_multicast() || a.is_unspecified() || v4_local {
            return Err(format!("address {shown} is not one that a host can have"));
        }
        if !subnet.usable(subnet.address) {
            return Err(format!("address {shown} is that of the subnet itself or of all in it; use the one after {subnet}"));
        }
        Ok(subnet)
    }

    /// Whether one machine can have the address.
    fn usable(&self, address: IpAddr) -> bool {
        let ((own, width), (first, last)) = (number(address), self.edges());
        self.holds(address) && own != first && (own != last || width == 128)
    }

    /// A range of it that can be given out.
    pub fn range(&self, start: &str, end: &str) -> Result<(IpAddr, IpAddr), String> {
        let read = |text: &str| -> Result<IpAddr, String> {
            let shown: String = text.chars().take(60).collect();
            let address: IpAddr = text.parse().map_err(|_| format!("{shown:?} is no address"))?;
            match self.usable(address) {
                true => Ok(address),
                false => Err(format!("{address} is outside of {self}, or that of the subnet itself or of all in it")),
            }
        };
        let (start, end) = (read(start)?, read(end)?);
        let (from, to, own) = (number(start).0, number(end).0, number(self.address).0);
        if from > to {
            return Err(format!("{end} is before {start}"));
        }
        if (from..=to).contains(&own) {
            return Err(format!("{start} to {end} has the host's own address {} in it", self.address));
        }
        if to - from >= LARGEST_RANGE {
            return Err(format!("{start} to {end} is more than {LARGEST_RANGE} addresses"));
        }
        Ok((start, end))
    }
}

/// Refuses addresses that another network of the same host has.
pub fn check_no_overlap<'a>(subnet: &Subnet, others: impl IntoIterator<Item = (&'a str, Subnet)>) -> Result<(), Fault> {
    match others.into_iter().find(|(_, other)| other.overlaps(subnet)) {
        Some((name, other)) => {
            let text = format!("{subnet} overlaps with {other} of the network {name}; choose another address");
            Err(Fault::new(FaultKind::Conflict, text))
        }
        None => Ok(()),
    }
}

/// A host that shall always get the same address, checked against the network it is on.
pub fn check_static(asked: &StaticHost, name: &str, subnets: &[Subnet], there: &[StaticHost]) -> Result<StaticHost, Fault> {
    let mac = mac_of(&asked.mac)?;
    let shown: String = asked.address.chars().take(60).collect();
    let address: IpAddr = asked.address.trim().parse().map_err(|_| Fault::invalid(format!("{shown:?} is no address")))?;
    let Some(subnet) = subnets.iter().find(|s| s.usable(address)) else {
        let all: Vec<String> = subnets.iter().map(Subnet::to_string).collect();
        return Err(Fault::invalid(match all.is_empty() {
            true => format!("{name} gives out no addresses: its host has none on it"),
            false => format!("{address} is outside of {}, or that of the subnet itself or of all in it", all.join(" and ")),
        }));
    };
    if subnet.address == address {
        return Err(Fault::invalid(format!("{address} is the host's own address on {name}")));
    }
    if asked.name.as_deref().is_some_and(|n| !is_dns_name(n)) {
        return Err(Fault::invalid("the name is no name in DNS: use letters, digits and -"));
    }
    let taken = |what: &str| Fault::new(FaultKind::Conflict, format!("{name} has a host with {what} already; remove that one first"));
    for other in there {
        if other.mac.eq_ignore_ascii_case(&mac) {
            return Err(taken(&mac));
        }
        if other.address.parse() == Ok(address) {
            return Err(taken(&address.to_string()));
        }
        if asked.name.is_some() && other.name == asked.name {
            return Err(taken(&format!("the name {}", asked.name.as_deref().unwrap_or_default())));
        }
    }
    Ok(StaticHost { mac, address: address.to_string(), name: asked.name.clone() })
}

/// The host that a person means by its MAC, its address or its name.
pub fn find_static<'a>(there: &'a [StaticHost], which: &str, network: &str) -> Result<&'a StaticHost, Fault> {
    let which = which.trim();
    let fits = |h: &&StaticHost| h.mac.eq_ignore_ascii_case(which) || h.address == which || h.name.as_deref() == Some(which);
    let shown: String = which.chars().take(60).collect();
    there.iter().find(fits).ok_or_else(|| Fault::not_found(format!("{network} has no host {shown:?}; list them with network.hosts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::of_host(text).unwrap()
    }

    #[test]
    fn an_address_is_one_that_a_host_can_have() {
        for bad in [
            "192.168.1.1",
            "192.168.1.1/",
            "192.168.1.1/33",
            "192.168.1.1/31",
            "192.168.1.1/7",
            "192.168.1.0/24",
            "192.168.1.255/24",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "0.0.0.1/8",
            "169.254.1.1/16",
            "255.255.255.254/24",
            "1.2.3/24",
            "300.1.1.1/24",
            "192.168.1.1/+24",
            "::1/64",
            "ff02::1/64",
            "192.168.1.1/24/24",
            "nonsense",
        ] {
            assert!(Subnet::of_host(bad).is_err(), "{bad}");
        }
        assert_eq!(subnet("192.168.7.9/24").to_string(), "192.168.7.0/24");
        assert_eq!(subnet("fd00:1::1/64").to_string(), "fd00:1::/64");
    }

    #[test]
    fn subnets_with_addresses_in_common_are_refused_by_name() {
        let mine = subnet("10.1.0.1/16");
        let others = [("far", subnet("10.2.0.1/16")), ("inner", subnet("10.1.9.1/24")), ("six", subnet("fd00::1/64"))];
        assert!(check_no_overlap(&mine, others).unwrap_err().message.contains("10.1.9.0/24 of the network inner"));
        assert!(check_no_overlap(&mine, [others[0], others[2]]).is_ok());
        assert!(subnet("10.1.9.1/24").overlaps(&mine) && mine.overlaps(&subnet("10.0.0.1/8")));
    }

    #[test]
    fn a_static_host_is_alone_with_its_address() {
        let host = |mac: &str, address: &str, name: Option<&str>| StaticHost {
            mac: mac.into(),
            address: address.into(),
            name: name.map(str::to_owned),
        };
        let there = [host("52:54:00:00:00:01", "10.1.0.5", Some("web"))];
        let check = |asked: StaticHost| check_static(&asked, "lab", &[subnet("10.1.0.1/24")], &there);
        assert_eq!(check(host("52:54:00:00:00:0A", "10.1.0.6", None)).unwrap().mac, "52:54:00:00:00:0a");
        for (asked, word) in [
            (host("52:54:00:00:00:01", "10.1.0.6", None), "already"),
            (host("52:54:00:00:00:02", "10.1.0.5", None), "already"),
            (host("52:54:00:00:00:02", "10.1.0.6", Some("web")), "already"),
            (host("52:54:00:00:00:02", "10.2.0.6", None), "outside of 10.1.0.0/24"),
            (host("52:54:00:00:00:02", "10.1.0.1", None), "the host's own"),
            (host("52:54:00:00:00:02", "10.1.0.6", Some("a b")), "DNS"),
            (host("52:54:00:00:00", "10.1.0.6", None), "MAC"),
        ] {
            assert!(check(asked.clone()).unwrap_err().message.contains(word), "{asked:?}");
        }
        assert!(check_static(&there[0], "lab", &[], &[]).unwrap_err().message.contains("no addresses"));
        assert_eq!(find_static(&there, "WEB", "lab").unwrap_err().kind, FaultKind::NotFound);
        assert!(find_static(&there, "10.1.0.5", "lab").is_ok() && find_static(&there, "web", "lab").is_ok());
    }
}
