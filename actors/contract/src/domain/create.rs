//! A new machine with everything it needs: from what it comes, what it has, and what it is told at its first boot. Pure.
//!
//! ```text
//!   image  --copied, or built on--> a disk of its own --+
//!   disk   --used as it is------------------------------+--> defined --> started
//!   iso, network boot --> an empty disk ----------------+
//!   user, keys, password, texts --> a seed (cloud-init) +
//! ```

use super::{DefineDomain, DomainSpec, Firmware, Graphics, first_boot::FirstBoot};
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, Started, declare},
    volume::{SEED, check_capacity, check_volume_name, parse_place},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Make a virtual machine with its disk and start it: from an image with cloud-init, from an installation CD, on an existing disk, or by
/// network boot. Either all of it is made, or nothing is left.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateDomain {
    /// Its name: letters, digits and . _ + - (at most 64); without one it gets a free one that can be said aloud.
    pub name: Option<String>,
    /// The image its disk is made from: a volume's name, which is looked for in all running pools of the host, or POOL/VOLUME.
    pub image: Option<String>,
    /// Build its disk on the image instead of copying it: made at once, holds only what differs, and the image must stay.
    pub linked: bool,
    /// An existing volume that becomes its disk as it is, whatever its format: a volume's name or POOL/VOLUME.
    pub disk: Option<String>,
    /// An installation CD, which the machine with an empty disk boots from: a volume's name or POOL/VOLUME.
    pub iso: Option<String>,
    /// Boot from the network first (PXE).
    pub network_boot: bool,
    /// The size of its disk, for example 20GiB: at least that of the image; 20 GiB when the disk begins empty.
    pub size: Option<Bytes>,
    /// The storage pool its volumes are made in; that of the image when not given, else the pool default or the only one.
    pub pool: Option<String>,
    /// Its memory, for example 512MiB.
    pub memory: Bytes,
    /// Its virtual CPUs.
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: u32,
    /// The network its card is on, or none; the network default when not given, else the only one.
    pub network: Option<String>,
    /// Its firmware; that of the hypervisor when not given.
    pub firmware: Option<Firmware>,
    /// Its screen.
    pub graphics: Graphics,
    /// What to remember about it.
    pub note: Option<String>,
    /// Whether it is started.
    pub start: bool,
    /// Whether an image is told its name, users and keys by cloud-init, on a seed CD beside the disk.
    pub cloud_init: bool,
    /// cloud-init: a user who may do everything, with the keys and the password; without one they are those of the image's own user.
    pub user: Option<String>,
    /// cloud-init: public SSH keys that let in, one a line.
    pub ssh_key: Option<String>,
    /// cloud-init: a password for the console. Only its hash is kept.
    pub password: Option<String>,
    /// cloud-init: the name the guest has for itself; that of the machine when not given.
    pub hostname: Option<String>,
    /// cloud-init: the whole user-data, instead of user, key and password.
    pub user_data: Option<String>,
    /// cloud-init: the whole network configuration; without one the guest asks for an address by DHCP.
    pub network_config: Option<String>,
}
declare!(CreateDomain, "domain.create", Change, Admin, Hypervisor, Started);

impl Default for CreateDomain {
    fn default() -> Self {
        CreateDomain {
            name: None,
            image: None,
            linked: false,
            disk: None,
            iso: None,
            network_boot: false,
            size: None,
            pool: None,
            memory: Bytes(2 << 30),
            vcpus: 2,
            network: None,
            firmware: None,
            graphics: Graphics::Vnc,
            note: None,
            start: true,
            cloud_init: true,
            user: None,
            ssh_key: None,
            password: None,
            hostname: None,
            user_data: None,
            network_config: None,
        }
    }
}

/// How large a disk is that begins empty, when nobody says.
pub const EMPTY_DISK: Bytes = Bytes(20 << 30);

/// A volume somebody means: by its pool too, or by its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its pool, if that was said.
    pub pool: Option<String>,
    /// Its name.
    pub volume: String,
}

impl std::str::FromStr for Wanted {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Wanted, Fault> {
        if text.contains('/') {
            return parse_place(text).map(|(pool, volume)| Wanted { pool: Some(pool), volume });
        }
        if text.is_empty() || text.len() > 255 || text == "." || text == ".." || text.chars().any(char::is_control) {
            let shown: String = text.chars().take(80).collect();
            return Err(Fault::invalid(format!("{shown:?} does not name a volume; write its name, or POOL/VOLUME")));
        }
        Ok(Wanted { pool: None, volume: text.to_owned() })
    }
}

/// Where the disk of a new machine comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A copy of an image.
    Copy(Wanted),
    /// An overlay on an image.
    Linked(Wanted),
    /// A volume that is there.
    Disk(Wanted),
    /// Nothing: it begins empty.
    Empty,
}

/// Which network the card of a new machine is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Card {
    /// The usual one.
    Usual,
    /// This one.
    On(String),
    /// It has no card.
    None,
}

/// What is to be made, checked as far as nobody need be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// Its name, unless one is to be found.
    pub name: Option<String>,
    /// Where its disk comes from.
    pub origin: Origin,
    /// Its installation CD.
    pub iso: Option<Wanted>,
    /// Whether it boots from the network first.
    pub network_boot: bool,
    /// The size of its disk, if that was said.
    pub size: Option<Bytes>,
    /// The pool of its volumes, if that was said.
    pub pool: Option<String>,
    /// Its card.
    pub card: Card,
    /// Whether it is started.
    pub start: bool,
    /// What it is told at its first boot, if anything.
    pub first_boot: Option<FirstBoot>,
    /// The rest of its definition; name, disk, media and network are filled in by whoever makes it.
    pub spec: DomainSpec,
}

impl CreateDomain {
    /// The request, checked as far as nobody need be asked.
    pub fn creation(self) -> Result<Creation, Fault> {
        let first_boot = self.first_boot()?;
        let wanted = |text: &Option<String>| text.as_deref().map(str::parse::<Wanted>).transpose();
        let (image, disk, iso) = (wanted(&self.image)?, wanted(&self.disk)?, wanted(&self.iso)?);
        if let Some(size) = self.size {
            check_capacity(size)?;
        }
        let both = |a: &str, b: &str| Err(Fault::invalid(format!("--{a} and --{b} exclude each other; leave one of them away")));
        let origin = match (image, disk) {
            (Some(_), Some(_)) => return both("image", "disk"),
            (Some(_), None) if iso.is_some() => return both("image", "iso"),
            (Some(image), None) if self.linked => Origin::Linked(image),
            (Some(image), None) => Origin::Copy(image),
            (None, _) if self.linked => return Err(Fault::invalid("--linked needs an --image to build on")),
            (None, Some(_)) if self.size.is_some() => {
                return Err(Fault::invalid("a disk that is there is used as it is; resize the volume before, or leave --size away"));
            }
            (None, Some(disk)) => Origin::Disk(disk),
            (None, None) if iso.is_some() || self.network_boot => Origin::Empty,
            (None, None) => {
                return Err(Fault::invalid(
                    "say what it begins with: --image (a disk image), --iso (an installation CD), --disk (a volume that is there) or \
                     --network-boot=true",
                ));
            }
        };
        let card = match self.network.as_deref() {
            None => Card::Usual,
            Some("none") => Card::None,
            Some(name) => Card::On(name.to_owned()),
        };
        if self.network_boot && card == Card::None {
            return Err(Fault::invalid("without a network nothing can be booted from one; leave --network none away"));
        }
        if let Some(pool) = &self.pool {
            let fits = !pool.is_empty() && pool.len() <= 255 && !pool.contains('/') && !pool.chars().any(char::is_control);
            if !fits {
                return Err(Fault::invalid(format!(
                    "{:?} cannot be the name of a storage pool",
                    pool.chars().take(80).collect::<String>()
                )));
            }
        }
        let define = DefineDomain {
            // The same checks for a name that is still to be found.
            name: self.name.clone().unwrap_or_else(|| "new".to_owned()),
            memory: self.memory,
            vcpus: self.vcpus,
            disk: None,
            network: self.network,
            graphics: self.graphics,
            note: self.note,
        };
        let spec = DomainSpec { network: None, firmware: self.firmware, modern: true, ..define.spec()? };
        let network_boot = self.network_boot;
        Ok(Creation {
            name: self.name,
            origin,
            iso,
            network_boot,
            size: self.size,
            pool: self.pool,
            card,
            start: self.start,
            first_boot,
            spec,
        })
    }

    /// What it is told at its first boot: whatever was said, and its name when it comes from an image.
    fn first_boot(&self) -> Result<Option<FirstBoot>, Fault> {
        let said = FirstBoot {
            user: self.user.clone(),
            ssh_keys: self.ssh_key.iter().flat_map(|text| text.lines()).map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect(),
            password: self.password.clone(),
            hostname: self.hostname.clone(),
            user_data: self.user_data.clone(),
            network_config: self.network_config.clone(),
        };
        said.check()?;
        match (self.cloud_init, said == FirstBoot::default()) {
            (false, false) => Err(Fault::invalid(
                "user, ssh-key, password, hostname, user-data and network-config are told by cloud-init; leave them or --cloud-init away",
            )),
            (true, true) if self.image.is_none() => Ok(None),
            (true, _) => Ok(Some(said)),
            (false, true) => Ok(None),
        }
    }
}

/// The names of the volumes of a machine of that name: its disk, and its seed.
pub fn volume_names(machine: &str, holds_files: bool) -> Result<(String, String), Fault> {
    let disk = if holds_files { format!("{machine}.qcow2") } else { machine.to_owned() };
    let seed = format!("{machine}{SEED}");
    check_volume_name(&disk)?;
    check_volume_name(&seed)?;
    Ok((disk, seed))
}

/// The words of a generated name, from a number that chance gives.
pub fn friendly_name(chance: u32) -> String {
    let kind = KINDS[chance as usize % KINDS.len()];
    let animal = ANIMALS[chance as usize / KINDS.len() % ANIMALS.len()];
    format!("{kind}-{animal}")
}

const KINDS: [&str; 64] = [
    "able", "amber", "brave", "breezy", "bright", "brisk", "calm", "candid", "cheery", "chilly", "civil", "clever", "cosy", "crisp",
    "daring", "dapper", "eager", "early", "earnest", "easy", "fair", "fancy", "fleet", "fond", "frank", "fresh", "gentle", "giddy", "glad",
    "golden", "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucky", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "silver",
    "sober", "steady", "sunny", "swift", "tidy", "warm", "witty",
];

const ANIMALS: [&str; 64] = [
    "badger", "beaver", "bison", "bobcat", "camel", "canary", "caribou", "cricket", "curlew", "dolphin", "donkey", "dormouse", "eagle",
    "egret", "falcon", "ferret", "finch", "gannet", "gecko", "gibbon", "giraffe", "goose", "hamster", "hare", "hedgehog", "heron",
    "heifer", "ibex", "impala", "jackdaw", "jaguar", "kestrel", "kitten", "lemur", "leopard", "linnet", "lobster", "magpie", "marmot",
    "marten", "narwhal", "newt", "ocelot", "osprey", "otter", "panda", "pelican", "penguin", "plover", "pony", "puffin", "quail", "rabbit",
    "raven", "robin", "salmon", "seal", "sparrow", "squirrel", "stork", "swan", "tiger", "tortoise", "walrus",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> CreateDomain {
        CreateDomain { name: Some("web1".into()), image: Some("debian12.qcow2".into()), ..CreateDomain::default() }
    }
    fn refused(ask: CreateDomain) -> String {
        let fault = ask.creation().unwrap_err();
        assert_eq!(fault.kind, crate::FaultKind::InvalidRequest);
        fault.message
    }

    #[test]
    fn an_image_is_enough() {
        let creation = ask().creation().unwrap();
        assert_eq!(creation.origin, Origin::Copy(Wanted { pool: None, volume: "debian12.qcow2".into() }));
        assert_eq!((creation.spec.memory, creation.spec.vcpus, creation.start), (Bytes(2 << 30), 2, true));
        assert_eq!(creation.first_boot, Some(FirstBoot::default()), "it is told its name");
        assert_eq!(creation.card, Card::Usual);
        let alone = CreateDomain { cloud_init: false, ..ask() }.creation().unwrap();
        assert_eq!(alone.first_boot, None);
        let linked = CreateDomain { linked: true, image: Some("base/a".into()), ..ask() }.creation().unwrap();
        assert_eq!(linked.origin, Origin::Linked(Wanted { pool: Some("base".into()), volume: "a".into() }));
    }

    #[test]
    fn other_beginnings_have_no_seed_unless_something_is_to_be_said() {
        let iso = || CreateDomain { image: None, iso: Some("cd.iso".into()), ..ask() };
        let creation = iso().creation().unwrap();
        assert_eq!((creation.origin, creation.first_boot), (Origin::Empty, None));
        assert!(CreateDomain { hostname: Some("w".into()), ..iso() }.creation().unwrap().first_boot.is_some());
        let disk = CreateDomain { image: None, disk: Some("p/v".into()), iso: Some("cd.iso".into()), ..ask() }.creation().unwrap();
        assert!(matches!(disk.origin, Origin::Disk(_)) && disk.iso.is_some());
        let pxe = CreateDomain { image: None, network_boot: true, ..ask() }.creation().unwrap();
        assert!(pxe.network_boot && pxe.origin == Origin::Empty);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(refused(CreateDomain { image: None, ..ask() }).contains("say what it begins with"));
        assert!(refused(CreateDomain { disk: Some("p/v".into()), ..ask() }).contains("exclude each other"));
        assert!(refused(CreateDomain { iso: Some("v".into()), ..ask() }).contains("exclude each other"));
        assert!(refused(CreateDomain { image: None, iso: Some("v".into()), linked: true, ..ask() }).contains("--linked needs"));
        assert!(refused(CreateDomain { image: None, disk: Some("p/v".into()), size: Some(Bytes::GIB), ..ask() }).contains("as it is"));
        assert!(refused(CreateDomain { cloud_init: false, user: Some("me".into()), ..ask() }).contains("told by cloud-init"));
        assert!(refused(CreateDomain { network_boot: true, network: Some("none".into()), ..ask() }).contains("without a network"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let long = "a".repeat(300);
        for name in ["", "a/b", "a b", "w\u{435}b1", "-rf", "..", long.as_str()] {
            assert!(refused(CreateDomain { name: Some(name.into()), ..ask() }).contains("cannot be a name"), "{name}");
        }
        for image in ["", "..", "p/../v", "a/b/c", "/etc/passwd", "a\0", long.as_str()] {
            assert!(refused(CreateDomain { image: Some(image.into()), ..ask() }).contains("does not name a volume"), "{image}");
        }
        for size in [Bytes(0), Bytes(10 << 60)] {
            refused(CreateDomain { size: Some(size), ..ask() });
        }
        assert!(refused(CreateDomain { memory: Bytes(0), ..ask() }).contains("memory"));
        assert!(refused(CreateDomain { vcpus: 0, ..ask() }).contains("virtual CPUs"));
        assert!(refused(CreateDomain { pool: Some("a/b".into()), ..ask() }).contains("storage pool"));
        assert!(refused(CreateDomain { network: Some("../x".into()), ..ask() }).contains("network"));
    }

    #[test]
    fn generated_names_are_names_and_many() {
        let names: std::collections::BTreeSet<String> = (0..4096).map(friendly_name).collect();
        assert_eq!(names.len(), 4096, "each number has a name of its own");
        assert!(names.iter().all(|n| super::super::check_name(n).is_ok() && n.len() <= 20));
        assert_eq!(friendly_name(4096), friendly_name(0));
    }
}
