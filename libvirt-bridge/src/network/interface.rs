//! The interfaces of the host, as libvirt's driver for them tells; where it has none and the host is this one, as the kernel does.

use crate::{
    connection::{Session, Trouble},
    count::ask,
    fault,
    hypervisor::is_local_qemu,
    xml::network,
};
use archipel_contract::network::HostInterface;
use std::{fs, path::Path};

/// Where the kernel shows its interfaces.
const KERNEL: &str = "/sys/class/net";

impl Session {
    /// All interfaces of the host, by name.
    pub(super) fn interfaces(&self) -> Result<Vec<HostInterface>, Trouble> {
        let listed = match ask(|| self.connect.list_all_interfaces(0)) {
            Ok(listed) => listed,
            Err(error) => {
                return match is_local_qemu(&self.uri) {
                    true => Ok(of_kernel(Path::new(KERNEL))),
                    false => Err(error.into()),
                };
            }
        };
        let mut found = Vec::with_capacity(listed.len());
        for interface in &listed {
            let told = ask(|| interface.name()).and_then(|name| Ok((name, ask(|| interface.is_active())?)));
            let (name, active) = match told {
                Ok(told) => told,
                // It went away meanwhile.
                Err(error) if fault::is_gone(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            // libvirt cannot describe everything the kernel has; then its name and MAC must do.
            let described = ask(|| interface.xml_desc(0)).ok().and_then(|xml| network::interface(&xml).ok());
            let mac = || ask(|| interface.mac_string()).ok().filter(|m| !m.is_empty());
            let described = described.unwrap_or_else(|| HostInterface { kind: "other".to_owned(), mac: mac(), ..HostInterface::default() });
            let state = if active { "active" } else { "inactive" }.to_owned();
            found.push(HostInterface { name, state, source: "libvirt".to_owned(), ..described });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

/// What the kernel shows below this folder.
fn of_kernel(root: &Path) -> Vec<HostInterface> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let word = |path: &Path| fs::read_to_string(path).map(|t| t.trim().to_owned()).ok().filter(|t| !t.is_empty());
    let one = |name: String| {
        let at = root.join(&name);
        // Beside interfaces there are files, such as `bonding_masters`.
        at.is_dir().then(|| {
            let told = word(&at.join("uevent")).unwrap_or_default();
            let kind = match () {
                () if at.join("bridge").is_dir() => "bridge",
                () if at.join("bonding").is_dir() => "bond",
                () if told.contains("DEVTYPE=vlan") => "vlan",
                () if word(&at.join("type")).as_deref() == Some("1") && at.join("device").exists() => "ethernet",
                () => "other",
            };
            let up = matches!(word(&at.join("operstate")).as_deref(), Some("up" | "unknown"));
            HostInterface {
                kind: kind.to_owned(),
                state: if up { "active" } else { "inactive" }.to_owned(),
                mac: word(&at.join("address")),
                members: names(&at.join("brif")),
                source: "kernel".to_owned(),
                name,
            }
        })
    };
    names(root).into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_cards_and_bridges_and_what_is_on_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("eth0/type", "1\n");
        write("eth0/device/vendor", "0x1af4\n");
        write("eth0/address", "52:54:00:00:00:01\n");
        write("eth0/operstate", "up\n");
        write("br0/bridge/stp_state", "0\n");
        write("br0/brif/eth0", "");
        write("br0/operstate", "down\n");
        write("lan.5/uevent", "DEVTYPE=vlan\nINTERFACE=lan.5\n");
        write("bonding_masters", "bond0\n");
        let found = of_kernel(root.path());
        let told: Vec<_> = found.iter().map(|i| (i.name.as_str(), i.kind.as_str(), i.state.as_str())).collect();
        assert_eq!(told, [("br0", "bridge", "inactive"), ("eth0", "ethernet", "active"), ("lan.5", "vlan", "inactive")]);
        assert_eq!(found[0].members, ["eth0"]);
        assert_eq!((found[1].mac.as_deref(), found[1].source.as_str()), (Some("52:54:00:00:00:01"), "kernel"));
    }
}
