//! What a machine needs of a host that shall receive it, read where it is.

use crate::{
    LinkConfig,
    connection::{Session, Trouble},
    count::ask,
    domain::{state, unreadable},
    xml::{needs, read},
};
use archipel_contract::{
    Bytes, DomainId, Fault,
    migration::{DiskNeed, Passport},
};
use virt::{domain::Domain, sys};

impl Session {
    pub(super) fn passport(&self, config: &LinkConfig, id: DomainId) -> Result<Passport, Trouble> {
        let domain = self.domain(id)?;
        let (state, _) = state(&domain)?;
        let active = ask(|| domain.is_active())?;
        // What is saved here stays here, and a start from it after a life elsewhere would destroy the disks.
        if !active && ask(|| domain.has_managed_save(0)).unwrap_or(false) {
            let why =
                "its memory is saved on this host and would stay behind; start it first, or throw that away with domain.discard-saved";
            return Err(Fault::wrong_state(why).into());
        }
        // A running guest has what it was started with; one that is off will have what its definition says.
        let secret = sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_MIGRATABLE;
        let definition = ask(|| domain.xml_desc(secret | sys::VIR_DOMAIN_XML_INACTIVE))?;
        let now = if active { ask(|| domain.xml_desc(secret))? } else { definition.clone() };
        let told = read::domain(&now).map_err(|e| unreadable("a virtual machine", e))?;
        let needs = needs::needs(&now).map_err(|e| unreadable("a virtual machine", e))?;
        let cpu = match needs.cpu {
            None if needs.host_cpu && active => self.own_cpu(&needs.arch)?,
            cpu => cpu,
        };
        let mut disks: Vec<DiskNeed> = needs.disks.into_iter().map(|disk| self.disk_need(&domain, disk)).collect();
        // The firmware's variables and the TPM of a running guest travel with its memory; everything else must be there.
        let files = needs.files.into_iter().filter(|(device, _)| !active || !matches!(device.as_str(), "nvram" | "tpm"));
        disks.extend(files.map(|(device, source)| {
            let kind = if matches!(device.as_str(), "loader" | "nvram" | "tpm") { device.clone() } else { "file".to_owned() };
            DiskNeed { device, source, kind, read_only: true, capacity: None }
        }));
        Ok(Passport {
            domain: id,
            name: domain.name()?,
            from: config.name.clone(),
            state,
            persistent: ask(|| domain.is_persistent())?,
            autostart: ask(|| domain.autostart())?,
            memory: told.memory,
            vcpus: told.vcpus,
            virtualization: told.virtualization,
            arch: needs.arch,
            machine: needs.machine,
            cpu,
            disks,
            networks: needs.networks,
            bridges: needs.bridges,
            devices: needs.devices,
            // A driver that knows no snapshots keeps none.
            snapshots: ask(|| domain.num_snapshots(0)).unwrap_or(0),
            libvirt: u64::from(ask(|| self.connect.lib_version())?),
            hypervisor: u64::from(ask(|| self.connect.hyp_version())?),
            definition,
        })
    }

    /// The processor of the host itself, for guests that see it as it is.
    fn own_cpu(&self, arch: &str) -> Result<Option<String>, Trouble> {
        let xml = ask(|| self.connect.capabilities())?;
        Ok(needs::offer(&xml, arch).map_err(|e| unreadable("the host", e))?.cpu)
    }

    fn disk_need(&self, domain: &Domain, disk: needs::Disk) -> DiskNeed {
        // Its size matters only when it is copied, and then libvirt can tell it.
        let capacity = if disk.read_only { None } else { ask(|| domain.block_info(&disk.device, 0)).ok().map(|info| Bytes(info.capacity)) };
        DiskNeed { device: disk.device, source: disk.source, kind: disk.kind, read_only: disk.read_only, capacity }
    }
}
