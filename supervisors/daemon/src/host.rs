//! What there is on this host when nobody configured it.

use crate::config::Hypervisor;
use archipel_contract::HypervisorName;
use std::os::unix::net::UnixStream;

/// The sockets of the QEMU driver: of libvirtd, and of the daemon of its own in newer systems. Both start libvirt when needed.
const QEMU_SOCKETS: [&str; 2] = ["/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"];

/// `qemu:///system` if it answers, else libvirt's test driver, so that there is something to see.
pub(crate) fn default_hypervisor() -> Hypervisor {
    let answers = QEMU_SOCKETS.iter().any(|socket| UnixStream::connect(socket).is_ok());
    let uri = if answers { "qemu:///system" } else { "test:///default" };
    if !answers {
        tracing::warn!("qemu:///system does not answer, so libvirt's test driver is shown; configure [[hypervisor]] to say what is meant");
    }
    Hypervisor {
        name: name(&hostname()),
        uri: uri.to_owned(),
        peer_uri: None,
        data_uri: None,
        host_devices: Vec::new(),
        shared_directories: Vec::new(),
    }
}

/// The host's own name.
pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// The first label of a host's name, with whatever a hypervisor's name may not hold left out.
fn name(hostname: &str) -> HypervisorName {
    let label = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fits: String = label.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
    let fits = fits.trim_start_matches('-');
    match fits.parse().or_else(|_| "host".parse()) {
        Ok(name) => name,
        Err(_) => unreachable!("\"host\" is a hypervisor's name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_hypervisor_name() {
        for (host, expected) in [("Node_1.example.org", "node1"), ("-a-b", "a-b"), ("", "host"), ("_._", "host"), ("db7", "db7")] {
            assert_eq!(name(host).as_str(), expected, "{host:?}");
        }
        assert_eq!(name(&"x".repeat(100)).as_str().len(), 60);
    }
}
