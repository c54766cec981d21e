//! What a machine itself is: processors, memory, firmware, from what it boots, what follows an end. Pure.

use super::edit::*;
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Change how many virtual CPUs a machine has. A running guest can be given more, up to its maximum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetVcpus {
    /// How many it has.
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: Option<u32>,
    /// How many it can be given while it runs; changes at the next boot only.
    #[schemars(range(min = 1, max = 512))]
    pub maximum: Option<u32>,
    /// When it applies.
    pub when: When,
}
editing!(SetVcpus, "domain.set-vcpus", Change, Vcpus);

/// Change how much memory a machine has. A running guest's balloon is moved, up to its maximum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetMemory {
    /// How much it has, for example 2GiB: the size of its balloon.
    pub memory: Option<Bytes>,
    /// How much it can be given while it runs; changes at the next boot only.
    pub maximum: Option<Bytes>,
    /// The size of the huge pages its memory is made of, for example 2MiB; 0 for ordinary pages. At the next boot.
    pub huge_pages: Option<Bytes>,
    /// When it applies.
    pub when: When,
}
editing!(SetMemory, "domain.set-memory", Change, Memory);

/// Which processor a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMode {
    /// What the hypervisor gives if nobody says anything.
    Default,
    /// A named model.
    Custom,
    /// The nearest model to the host's own that can be moved.
    HostModel,
    /// The host's own.
    HostPassthrough,
    /// All that the hypervisor can give.
    Maximum,
}

impl CpuMode {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            CpuMode::Default => "default",
            CpuMode::Custom => "custom",
            CpuMode::HostModel => "host-model",
            CpuMode::HostPassthrough => "host-passthrough",
            CpuMode::Maximum => "maximum",
        }
    }
}

/// Change which processor the guest sees, and on which processors of the host it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetCpu {
    /// Which processor the guest sees.
    pub mode: Option<CpuMode>,
    /// The name of the model, for example Nehalem; means mode custom.
    pub model: Option<String>,
    /// How the virtual CPUs are arranged: SOCKETS:CORES:THREADS, for example 1:2:2; their product is the maximum of virtual CPUs.
    pub topology: Option<String>,
    /// Processors of the host that every virtual CPU may run on, for example 0-3,^1; "all" takes the limit away. Also now.
    pub pin: Option<String>,
    /// Only this virtual CPU is pinned.
    #[schemars(range(min = 0, max = 511))]
    pub vcpu: Option<u32>,
    /// When it applies.
    pub when: When,
}
editing!(SetCpu, "domain.set-cpu", Change, Cpu);

/// Change from what a machine boots, at its next boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetBoot {
    /// Devices in order, with commas: hd, cdrom, network, fd; or disks and cards by name, for example vda,52:54:00:12:34:56.
    pub order: Option<String>,
    /// Whether the firmware shows its menu.
    pub menu: Option<bool>,
    /// The machine type, for example q35 or pc.
    pub machine: Option<String>,
    /// When it applies.
    pub when: When,
}
editing!(SetBoot, "domain.set-boot", Change, Boot);

/// A machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// The old one.
    Bios,
    /// UEFI, without Secure Boot.
    Uefi,
    /// UEFI that runs only what is signed.
    SecureBoot,
}

/// Change a machine's firmware and its trusted platform module, at its next boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetFirmware {
    /// Which firmware.
    pub firmware: Option<Firmware>,
    /// Whether it has an emulated trusted platform module (TPM 2.0).
    pub tpm: Option<bool>,
    /// When it applies.
    pub when: When,
}
editing!(SetFirmware, "domain.set-firmware", Change, Firmware);

/// What becomes of a machine after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is off.
    Destroy,
    /// It is started again.
    Restart,
    /// It stays as it is, for somebody to look at.
    Preserve,
}

impl Ending {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Destroy => "destroy",
            Ending::Restart => "restart",
            Ending::Preserve => "preserve",
        }
    }
}

/// Which time a guest's clock shows when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockOffset {
    /// UTC, as Linux expects.
    Utc,
    /// The host's local time, as Windows expects.
    Localtime,
}

impl ClockOffset {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            ClockOffset::Utc => "utc",
            ClockOffset::Localtime => "localtime",
        }
    }
}

/// Change what happens when a guest powers off, reboots or crashes, and which time its clock shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetLifecycle {
    /// When the guest powers off.
    pub on_poweroff: Option<Ending>,
    /// When the guest reboots.
    pub on_reboot: Option<Ending>,
    /// When the guest crashes.
    pub on_crash: Option<Ending>,
    /// The time its clock shows; changes at the next boot only.
    pub clock: Option<ClockOffset>,
    /// When it applies.
    pub when: When,
}
editing!(SetLifecycle, "domain.set-lifecycle", Change, Lifecycle);

/// Most virtual CPUs of a machine.
pub const VCPUS_LIMIT: u32 = 512;
/// Most memory of a machine.
pub const MEMORY_LIMIT: Bytes = Bytes(16 << 40);

fn check_memory(what: &str, memory: Bytes) -> Result<(), Fault> {
    if memory < Bytes::mib(1) || memory > MEMORY_LIMIT {
        return Err(Fault::invalid(format!("{what} must be between 1 MiB and 16 TiB, not {memory}")));
    }
    Ok(())
}

fn check_vcpus(count: u32) -> Result<(), Fault> {
    if !(1..=VCPUS_LIMIT).contains(&count) {
        return Err(Fault::invalid(format!("a machine has 1 to {VCPUS_LIMIT} virtual CPUs, not {count}")));
    }
    Ok(())
}

impl SetVcpus {
    fn check(&self) -> Result<(), Fault> {
        something(self.vcpus.is_some() || self.maximum.is_some())?;
        self.vcpus.into_iter().chain(self.maximum).try_for_each(check_vcpus)?;
        match (self.vcpus, self.maximum) {
            (Some(now), Some(most)) if now > most => {
                Err(Fault::invalid(format!("{now} virtual CPUs are more than the maximum of {most}; name a larger maximum")))
            }
            _ => Ok(()),
        }
    }
}

impl SetMemory {
    fn check(&self) -> Result<(), Fault> {
        something(self.memory.is_some() || self.maximum.is_some() || self.huge_pages.is_some())?;
        self.memory.into_iter().try_for_each(|m| check_memory("memory", m))?;
        self.maximum.into_iter().try_for_each(|m| check_memory("the maximum", m))?;
        if let Some(size) = self.huge_pages
            && !(size == Bytes(0) || size.0.is_power_of_two() && (Bytes::kib(64)..=Bytes(16 << 30)).contains(&size))
        {
            return Err(Fault::invalid(format!("huge pages of {size} do not exist; x86 has 2MiB and 1GiB, and 0 means ordinary ones")));
        }
        match (self.memory, self.maximum) {
            (Some(now), Some(most)) if now > most => {
                Err(Fault::invalid(format!("{now} of memory are more than the maximum of {most}; name a larger maximum")))
            }
            _ => Ok(()),
        }
    }
}

impl SetCpu {
    /// The topology as sockets, cores and threads.
    pub fn arrangement(&self) -> Result<Option<[u32; 3]>, Fault> {
        let Some(text) = &self.topology else { return Ok(None) };
        let numbers: Vec<u32> = text.split(':').filter_map(|n| n.parse().ok()).filter(|n| (1..=VCPUS_LIMIT).contains(n)).collect();
        match *numbers.as_slice() {
            [sockets, cores, threads] if text.split(':').count() == 3 => {
                match sockets.checked_mul(cores).and_then(|n| n.checked_mul(threads)) {
                    Some(product) if product <= VCPUS_LIMIT => Ok(Some([sockets, cores, threads])),
                    _ => Err(Fault::invalid(format!("{text} has more than {VCPUS_LIMIT} virtual CPUs"))),
                }
            }
            _ => Err(Fault::invalid(format!("{text:?} is not SOCKETS:CORES:THREADS, for example 1:2:2"))),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        something(self.mode.is_some() || self.model.is_some() || self.topology.is_some() || self.pin.is_some())?;
        self.arrangement()?;
        if let Some(model) = &self.model {
            check_word("a processor model", model, "-_.+")?;
        }
        match (self.mode, &self.model) {
            (Some(CpuMode::Custom), None) => return Err(Fault::invalid("mode custom needs a model, for example --model Nehalem")),
            (Some(mode), Some(_)) if mode != CpuMode::Custom => {
                return Err(Fault::invalid(format!("a model is only named with mode custom, not with {}", mode.name())));
            }
            _ => {}
        }
        if let Some(pin) = &self.pin
            && pin != "all"
        {
            parse_cpus(pin)?;
        }
        if self.vcpu.is_some() && self.pin.is_none() {
            return Err(Fault::invalid("a virtual CPU is named but not where it shall run; add --pin"));
        }
        Ok(())
    }
}

/// Processors of a host from libvirt's notation, such as `0-3,^1,7`, in order.
pub fn parse_cpus(text: &str) -> Result<Vec<u32>, Fault> {
    const MOST: u32 = 4096;
    let bad = || Fault::invalid(format!("{:?} is no set of processors such as 0-3,^1", text.chars().take(80).collect::<String>()));
    let mut set = std::collections::BTreeSet::new();
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n < MOST && t.bytes().all(|b| b.is_ascii_digit())).ok_or_else(bad);
    for part in text.split(',') {
        if let Some(without) = part.strip_prefix('^') {
            set.remove(&number(without)?);
        } else if let Some((from, to)) = part.split_once('-') {
            let (from, to) = (number(from)?, number(to)?);
            if from > to {
                return Err(bad());
            }
            set.extend(from..=to);
        } else {
            set.insert(number(part)?);
        }
    }
    if set.is_empty() { Err(bad()) } else { Ok(set.into_iter().collect()) }
}

impl SetBoot {
    /// What it boots from, in order.
    pub fn devices(&self) -> Vec<&str> {
        self.order.iter().flat_map(|o| o.split(',')).map(str::trim).filter(|d| !d.is_empty()).collect()
    }

    fn check(&self) -> Result<(), Fault> {
        something(self.order.is_some() || self.menu.is_some() || self.machine.is_some())?;
        let devices = self.devices();
        if self.order.is_some() && devices.is_empty() {
            return Err(Fault::invalid("the boot order is empty; name at least one device, for example hd"));
        }
        for (place, device) in devices.iter().enumerate() {
            check_word("a device to boot from", device, ":-")?;
            if devices[..place].contains(device) {
                return Err(Fault::invalid(format!("{device} is named twice in the boot order")));
            }
        }
        self.machine.iter().try_for_each(|m| check_word("a machine type", m, "-_."))?;
        next_boot_only(self.when, "from what it boots")
    }
}

impl SetFirmware {
    fn check(&self) -> Result<(), Fault> {
        something(self.firmware.is_some() || self.tpm.is_some())?;
        next_boot_only(self.when, "its firmware")
    }
}

impl SetLifecycle {
    fn check(&self) -> Result<(), Fault> {
        something(self.on_poweroff.is_some() || self.on_reboot.is_some() || self.on_crash.is_some() || self.clock.is_some())?;
        if self.when == When::Now && self.clock.is_some() {
            return next_boot_only(self.when, "its clock");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused<C: Editing>(arguments: serde_json::Value) -> String {
        crate::command::parse_arguments::<C>(arguments).and_then(Editing::edit).expect_err("it was accepted").message
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_the_reason() {
        assert!(refused::<SetMemory>(json!({"memory": 0})).contains("between 1 MiB and 16 TiB"));
        assert!(refused::<SetMemory>(json!({"memory": -1})).contains("a size cannot be -1"));
        assert!(refused::<SetMemory>(json!({"memory": 10u64 << 60})).contains("not 10485760 TiB"));
        assert!(refused::<SetMemory>(json!({"memory": "2GiB", "maximum": "1GiB"})).contains("more than the maximum"));
        assert!(refused::<SetMemory>(json!({"huge_pages": "3MiB"})).contains("do not exist"));
        assert!(refused::<SetVcpus>(json!({"vcpus": 0})).contains("1 to 512"));
        assert!(refused::<SetVcpus>(json!({"vcpus": 3, "maximum": 2})).contains("more than the maximum"));
        assert!(refused::<SetVcpus>(json!({})).contains("nothing was named"));
    }

    #[test]
    fn processors_are_read_as_libvirt_writes_them() {
        assert_eq!(parse_cpus("0-3,^1,7").unwrap(), [0, 2, 3, 7]);
        for wrong in ["", "x", "3-1", "^0", "0,,1", "+1", "99999", "1-"] {
            assert!(parse_cpus(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_processor_is_described_in_one_way() {
        assert!(refused::<SetCpu>(json!({"mode": "custom"})).contains("needs a model"));
        assert!(refused::<SetCpu>(json!({"mode": "host-model", "model": "Nehalem"})).contains("only named with mode custom"));
        assert!(refused::<SetCpu>(json!({"topology": "2:2"})).contains("SOCKETS:CORES:THREADS"));
        assert!(refused::<SetCpu>(json!({"topology": "512:512:512"})).contains("more than 512"));
        assert!(refused::<SetCpu>(json!({"model": "a'/>"})).contains("cannot be a processor model"));
        assert!(refused::<SetCpu>(json!({"pin": "0", "vcpu": 1, "mode": "custom"})).contains("needs a model"));
    }

    #[test]
    fn what_a_guest_sees_only_at_boot_is_not_promised_now() {
        assert!(refused::<SetBoot>(json!({"order": "hd", "when": "now"})).contains("only change at the next boot"));
        assert!(refused::<SetFirmware>(json!({"tpm": true, "when": "now"})).contains("only change at the next boot"));
        assert!(refused::<SetBoot>(json!({"order": "hd,hd"})).contains("twice"));
        assert!(refused::<SetBoot>(json!({"order": " , "})).contains("empty"));
    }
}
