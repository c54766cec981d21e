//! The port for the hypervisor as a whole, and whether hardware virtualization really works.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    definition::allowed,
    domain::unreadable,
    fault,
    xml::{domain::Kind, host, read},
};
use archipel_contract::{
    BoxFuture, Bytes, Fault,
    hypervisor::{HostInside, HypervisorFacts, HypervisorPort, HypervisorState, NodeDevice},
};
use std::{
    io::Read,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use virt::error::Error;

const INACTIVE: u32 = virt::sys::VIR_DOMAIN_XML_INACTIVE;
/// How long `virt-host-validate` may take. It only looks at files; on a healthy host it takes some hundredths of a second.
const PROOF_DEADLINE: Duration = Duration::from_secs(10);

impl Session {
    /// libvirt's name of the driver, for example `QEMU`.
    pub(crate) fn driver(&self) -> Result<Arc<str>, Error> {
        if let Some(known) = self.driver.get() {
            return Ok(known.clone());
        }
        let driver = ask(|| self.connect.driver_type())?;
        // The test driver shouts its name, and no other does.
        let driver: Arc<str> = if driver == "TEST" { "Test".into() } else { driver.into() };
        Ok(self.driver.get_or_init(|| driver).clone())
    }

    /// What new machines run on here; found out once for each connection, as libvirt may probe QEMU for seconds.
    pub(crate) fn kind(&self) -> Result<Kind, Trouble> {
        if let Some(known) = self.kind.get() {
            return Ok(known.clone());
        }
        let driver = self.driver()?;
        let kind = match &*driver {
            "QEMU" => {
                let xml = ask(|| self.connect.capabilities())?;
                let (arch, offered) = read::capabilities(&xml).map_err(|e| unreadable("the host", e))?;
                // Capabilities and the device node alone prove nothing: /dev/kvm can open and still run no guest.
                Kind::Qemu { arch, kvm: offered && is_local_qemu(&self.uri) && kvm_is_proved() }
            }
            "Test" => Kind::Test,
            other => Kind::Other(other.to_lowercase()),
        };
        Ok(self.kind.get_or_init(|| kind).clone())
    }

    /// `kvm`, `software` or `none`.
    fn acceleration(&self) -> Result<Arc<str>, Trouble> {
        Ok(match self.kind()? {
            Kind::Qemu { kvm: true, .. } => "kvm".into(),
            Kind::Qemu { kvm: false, .. } => "software".into(),
            Kind::Test | Kind::Other(_) => "none".into(),
        })
    }
}

/// Whether the address means QEMU on this very machine: only here can the proof be made.
pub(crate) fn is_local_qemu(uri: &str) -> bool {
    ["qemu://", "qemu+unix://"].iter().any(|scheme| uri.strip_prefix(scheme).is_some_and(|rest| rest.starts_with('/')))
}

/// Whether `virt-host-validate` says that QEMU's hardware virtualization works. No tool, no answer or no `PASS`: no.
fn kvm_is_proved() -> bool {
    match validate() {
        Ok(text) => passes(&text),
        Err(error) => {
            tracing::info!(%error, "virt-host-validate gives no answer, so guests are emulated in software");
            false
        }
    }
}

fn validate() -> std::io::Result<String> {
    let mut child = Command::new("virt-host-validate")
        .arg("qemu")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + PROOF_DEADLINE;
    // Its output is a page, far less than a pipe holds, so it can be read after the end.
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not end in time"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    Ok(text)
}

/// The lines that matter are there and all say `PASS`.
fn passes(text: &str) -> bool {
    let verdicts = |what: &str| text.lines().filter(|l| l.contains(what)).map(|l| l.trim_end().ends_with(": PASS")).collect::<Vec<_>>();
    ["hardware virtualization", "/dev/kvm"].iter().all(|what| {
        let found = verdicts(what);
        !found.is_empty() && found.iter().all(|pass| *pass)
    })
}

/// libvirt's number as people write it: 9000000 is 9.0.0.
fn version(number: u32) -> Arc<str> {
    format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000).into()
}

/// What the kernel says in a file, if libvirt is on this very host.
fn of_kernel(session: &Session, file: &str) -> Option<String> {
    if !session.uri.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/')) {
        return None;
    }
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn inside(session: &Session) -> Result<HostInside, Trouble> {
    let node = ask(|| session.connect.node_info())?;
    let said = host::inside(&ask(|| session.connect.capabilities())?).map_err(|e| unreadable("the host", e))?;
    let uptime = of_kernel(session, "/proc/uptime").and_then(|text| text.split('.').next()?.parse().ok());
    Ok(HostInside {
        cpus: node.cpus,
        memory: Bytes::kib(node.memory),
        libvirt_version: version(ask(|| session.connect.lib_version())?).to_string(),
        hypervisor_version: version(ask(|| session.connect.hyp_version())?).to_string(),
        kernel: of_kernel(session, "/proc/sys/kernel/osrelease"),
        archipel_version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime,
        ..said
    })
}

/// Which devices of the host machines have, with their names.
fn holders(session: &Session) -> Result<Vec<(String, String)>, Trouble> {
    let mut found = Vec::new();
    for domain in ask(|| session.connect.list_all_domains(0))? {
        // One that goes meanwhile has nothing any more.
        let described = ask(|| domain.name()).and_then(|name| Ok((name, ask(|| domain.xml_desc(0))?, ask(|| domain.xml_desc(INACTIVE)))));
        let Ok((name, live, config)) = described else { continue };
        for xml in [Some(live), config.ok()].into_iter().flatten().filter(|xml| xml.contains("<hostdev")) {
            for address in host::held(&xml).map_err(|e| unreadable(&name, e))? {
                if !found.contains(&(address.clone(), name.clone())) {
                    found.push((address, name.clone()));
                }
            }
        }
    }
    Ok(found)
}

fn devices(session: &Session, list: &[String]) -> Result<Vec<NodeDevice>, Trouble> {
    let holders = holders(session)?;
    let mut found = Vec::new();
    for device in ask(|| session.connect.list_all_node_devices(0))? {
        let xml = match ask(|| device.xml_desc(0)) {
            Ok(xml) => xml,
            // It was unplugged meanwhile.
            Err(error) if fault::is_gone(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(mut device) = host::node_device(&xml).map_err(|e| unreadable("a device", e))? else { continue };
        device.allowed = !device.address.is_empty() && allowed(list, &device.address).is_ok();
        device.held_by =
            holders.iter().filter(|(address, _)| !address.is_empty() && *address == device.address).map(|(_, name)| name.clone()).collect();
        found.push(device);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl HypervisorPort for Link {
    fn inside(&self) -> BoxFuture<'_, Result<HostInside, Fault>> {
        self.call(Lane::Read, "reading the host", inside)
    }
    fn devices(&self) -> BoxFuture<'_, Result<Vec<NodeDevice>, Fault>> {
        let list = self.config().host_devices.clone();
        self.call(Lane::Read, "listing the devices of the host", move |session| devices(session, &list))
    }
    fn facts(&self) -> BoxFuture<'_, Result<HypervisorFacts, Fault>> {
        self.call(Lane::Read, "reading the hypervisor", |session| {
            let node = ask(|| session.connect.node_info())?;
            Ok(HypervisorFacts {
                kernel: crate::volume::kernel(&session.uri).map(Into::into),
                state: HypervisorState::Connected,
                uri: session.uri.clone(),
                driver: session.driver()?,
                acceleration: session.acceleration()?,
                hostname: ask(|| session.connect.hostname())?.into(),
                libvirt_version: version(ask(|| session.connect.lib_version())?),
                hypervisor_version: version(ask(|| session.connect.hyp_version())?),
                cpus: node.cpus,
                memory: Bytes::kib(node.memory),
                closed: false,
                strangers: Vec::new(),
                restarts: 0,
                last_restart: None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "  QEMU: Checking for hardware virtualization          : PASS\n  QEMU: Checking if device /dev/kvm exists  : PASS\n\
                        \x20 QEMU: Checking if device /dev/kvm is accessible     : PASS\n  QEMU: Checking for device assignment IOMMU support : WARN (x)\n";

    #[test]
    fn hardware_virtualization_needs_every_line_to_pass() {
        assert!(passes(GOOD));
        assert!(!passes(&GOOD.replacen("PASS", "FAIL (CPU features not found)", 1)));
        assert!(!passes(&GOOD.replace("accessible     : PASS", "accessible     : FAIL (Check /dev/kvm is world writable)")));
        assert!(!passes(&GOOD.lines().filter(|l| !l.contains("/dev/kvm")).collect::<Vec<_>>().join("\n")));
        assert!(!passes(""));
    }

    #[test]
    fn only_this_very_machine_is_proved() {
        assert!(is_local_qemu("qemu:///system") && is_local_qemu("qemu:///system?socket=/run/x") && is_local_qemu("qemu+unix:///session"));
        assert!(!is_local_qemu("qemu://host/system") && !is_local_qemu("qemu+ssh://host/system") && !is_local_qemu("test:///default"));
    }

    #[test]
    fn versions_read_like_people_write_them() {
        assert_eq!(&*version(9_000_000), "9.0.0");
        assert_eq!(&*version(7_002_022), "7.2.22");
    }
}
