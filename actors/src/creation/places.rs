//! What a new machine needs and what there is on this host: image, disk, CD, pool, network. Each is found before anything is made; what
//! is missing or means several things is refused with what there is.

use crate::{
    making::{is_running, running_pool},
    scope::{SHORT, Scope, within},
    users,
};
use archipel_contract::{
    Bytes, Fault, FaultKind,
    domain::{Card, Creation, Origin, Wanted, volume_names},
    network::{NetworkRecord, NetworkState},
    storage_pool::{PoolRecord, PoolType},
    volume::{Landscape, Need, PlacedVolume, UNFINISHED},
};

/// Everything a creation needs of what is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The image its disk is made from.
    pub(super) image: Option<PlacedVolume>,
    /// Whether the disk is built on the image.
    pub(super) linked: bool,
    /// The volume that becomes its disk.
    pub(super) disk: Option<PlacedVolume>,
    /// Its installation CD.
    pub(super) iso: Option<PlacedVolume>,
    /// The pool its disk is made in, unless it has one.
    pub(super) pool: Option<PoolRecord>,
    /// Whether the volumes of that pool are files.
    pub(super) holds_files: bool,
    /// How its disk is called.
    pub(super) disk_name: String,
    /// Where its seed goes, and how it is called.
    pub(super) seed: Option<(PoolRecord, String)>,
    /// The network of its card.
    pub(super) network: Option<String>,
    /// What whoever asked should know.
    pub(super) remark: Option<String>,
}

/// Finds everything, or says what is missing.
pub(super) async fn find(scope: &Scope, creation: &Creation, name: &str) -> Result<Found, Fault> {
    let landscape = within(SHORT, scope.host.volumes.landscape()).await?;
    let pools = within(SHORT, scope.host.pools.list()).await?;
    let networks = within(SHORT, scope.host.networks.list()).await?;
    let mut found = Found::default();
    match &creation.origin {
        Origin::Copy(wanted) | Origin::Linked(wanted) => {
            let image = choose(&landscape, wanted, What::Image)?;
            check_image(&landscape, image, creation.size)?;
            found.linked = matches!(creation.origin, Origin::Linked(_));
            if found.linked {
                users::of_volume(scope, image.pool, &image.volume.name, Need::Base, None).await?;
            }
            found.image = Some(image.clone());
        }
        Origin::Disk(wanted) => {
            let disk = choose(&landscape, wanted, What::Disk)?;
            landscape.check_free(&disk.volume.name, &disk.volume.facts, None)?;
            found.disk = Some(disk.clone());
        }
        Origin::Empty => {}
    }
    if let Some(wanted) = &creation.iso {
        found.iso = Some(choose(&landscape, wanted, What::Iso)?.clone());
    }
    let near = found.image.as_ref().or(found.disk.as_ref()).map(|v| v.pool_name.to_string());
    let pool = match (&creation.pool, near) {
        (Some(named), _) => running_pool(scope, named).await?,
        (None, Some(near)) => running_pool(scope, &near).await?,
        (None, None) => usual_pool(&pools)?.clone(),
    };
    let holds_files = PoolType::holds_files(&pool.facts.pool_type);
    let (disk_name, seed_name) = volume_names(name, holds_files)?;
    if found.disk.is_none() {
        free(&landscape, &pool, &disk_name)?;
    }
    if creation.first_boot.is_some() {
        let place = if holds_files { pool.clone() } else { seed_pool(&pools, &pool)?.clone() };
        free(&landscape, &place, &seed_name)?;
        found.seed = Some((place, seed_name));
    }
    (found.holds_files, found.disk_name, found.pool) = (holds_files, disk_name, Some(pool));
    (found.network, found.remark) = network(&networks, &creation.card, creation.network_boot, creation.start)?;
    Ok(found)
}

/// For what a volume is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Image,
    Disk,
    Iso,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Image => "image",
            What::Disk => "volume",
            What::Iso => "installation CD",
        }
    }
}

/// The one volume that is meant.
fn choose<'a>(landscape: &'a Landscape, wanted: &Wanted, what: What) -> Result<&'a PlacedVolume, Fault> {
    let is_it = |v: &&PlacedVolume| v.volume.name == wanted.volume && wanted.pool.as_deref().is_none_or(|p| *v.pool_name == *p);
    let meant: Vec<&PlacedVolume> = landscape.volumes.iter().filter(is_it).collect();
    let shown: String = wanted.volume.chars().take(80).collect();
    match meant.as_slice() {
        [one] => {
            check_fits(one, what)?;
            Ok(one)
        }
        [] => {
            let place = wanted.pool.as_ref().map_or("any running pool of this host".to_owned(), |p| format!("the pool {p}"));
            let there = told(landscape.volumes.iter().filter(|v| check_fits(v, what).is_ok()));
            let there = if there.is_empty() {
                "there is none at all; send one with volume upload".to_owned()
            } else {
                format!("there are {there}")
            };
            Err(Fault::not_found(format!("there is no {} {shown:?} in {place}; {there}", what.name())))
        }
        several => {
            let text = format!("{shown:?} is in several pools: {}; say which one", told(several.iter().copied()));
            Err(Fault::new(FaultKind::Conflict, text))
        }
    }
}

/// Volumes as people name them, some of them.
fn told<'a>(volumes: impl Iterator<Item = &'a PlacedVolume>) -> String {
    const SHOWN: usize = 20;
    let mut all: Vec<String> = volumes.map(|v| format!("{}/{}", v.pool_name, v.volume.name)).collect();
    all.sort();
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// What a name promises and libvirt does not find in the content.
const FORMATS: [&str; 5] = ["qcow2", "qcow", "vmdk", "vhdx", "vdi"];

fn check_fits(volume: &PlacedVolume, what: What) -> Result<(), Fault> {
    let (name, facts) = (&volume.volume.name, &volume.volume.facts);
    if name.ends_with(UNFINISHED) {
        return Err(Fault::wrong_state(format!("{name} is unfinished: a copy to it goes on or was interrupted; choose another")));
    }
    if let Some(why) = &facts.refused {
        return Err(Fault::invalid(format!("{name} cannot be a disk: {why}")));
    }
    match (what, volume.volume.is_iso()) {
        (What::Iso, true) | (What::Image | What::Disk, false) => {}
        (What::Iso, false) => return Err(Fault::invalid(format!("{name} is no installation CD; give it as --image or --disk"))),
        (_, true) => return Err(Fault::invalid(format!("{name} is a CD; give it as --iso"))),
    }
    let promised = name.rsplit('.').next().filter(|end| FORMATS.contains(end));
    if let (Some(promised), Some("raw")) = (promised, facts.format.as_deref()) {
        return Err(Fault::invalid(format!(
            "{name} is called a {promised} image and does not begin like one: it is damaged or something else; put it there again"
        )));
    }
    Ok(())
}

fn check_image(landscape: &Landscape, image: &PlacedVolume, size: Option<Bytes>) -> Result<(), Fault> {
    let (name, facts) = (&image.volume.name, &image.volume.facts);
    if let Some(size) = size.filter(|size| *size < facts.capacity) {
        let least = facts.capacity;
        return Err(Fault::invalid(format!("{name} has {least}, and a disk of {size} cannot hold it; give at least --size {}", least.0)));
    }
    landscape.check_quiet(name, facts)
}

/// The pool for a disk that begins empty: `default`, or the only one.
fn usual_pool(pools: &[PoolRecord]) -> Result<&PoolRecord, Fault> {
    let running: Vec<&PoolRecord> = pools.iter().filter(|p| is_running(p)).collect();
    if let Some(default) = running.iter().find(|p| &*p.name == "default") {
        return Ok(default);
    }
    match running.as_slice() {
        [one] => Ok(one),
        [] => Err(Fault::wrong_state("no storage pool of this host is started; start one, or define one with storage-pool define")),
        several => {
            let names: Vec<&str> = several.iter().map(|p| &*p.name).collect();
            Err(Fault::invalid(format!("choose the pool of its disk with --pool: {}", names.join(", "))))
        }
    }
}

/// A pool beside one that holds no files: a seed is a file.
fn seed_pool<'a>(pools: &'a [PoolRecord], of: &PoolRecord) -> Result<&'a PoolRecord, Fault> {
    let fits = |p: &&PoolRecord| is_running(p) && PoolType::holds_files(&p.facts.pool_type);
    let default = pools.iter().filter(fits).find(|p| &*p.name == "default");
    default.or_else(|| pools.iter().find(fits)).ok_or_else(|| {
        let name = &of.name;
        Fault::wrong_state(format!(
            "the seed for cloud-init is a file, and neither {name} nor another started pool holds files; start one, or say --cloud-init=false"
        ))
    })
}

/// Refuses a name that a volume has.
fn free(landscape: &Landscape, pool: &PoolRecord, name: &str) -> Result<(), Fault> {
    if landscape.volumes.iter().any(|v| v.pool == pool.id && v.volume.name == name) {
        let text = format!("there is a volume {name} in {} already; choose another name for the machine, or give it as --disk", pool.name);
        return Err(Fault::new(FaultKind::Conflict, text));
    }
    Ok(())
}

/// The network of its card, and a word about it.
fn network(all: &[NetworkRecord], card: &Card, boots: bool, starts: bool) -> Result<(Option<String>, Option<String>), Fault> {
    let names = || all.iter().map(|n| &*n.name).collect::<Vec<_>>().join(", ");
    let chosen = match card {
        Card::None => return Ok((None, None)),
        Card::On(name) => all.iter().find(|n| *n.name == **name).ok_or_else(|| {
            let there = if all.is_empty() { "this host has none".to_owned() } else { format!("there are {}", names()) };
            Fault::not_found(format!("there is no network {name:?}; {there}"))
        })?,
        Card::Usual => {
            let active: Vec<&NetworkRecord> = all.iter().filter(|n| n.facts.state == NetworkState::Active).collect();
            let usual = all.iter().find(|n| &*n.name == "default" && n.facts.state == NetworkState::Active);
            match (usual, active.as_slice()) {
                (Some(usual), _) => usual,
                (None, [one]) => one,
                (None, several) if boots => {
                    let why = if several.is_empty() { "no network of this host is started" } else { "this host has several networks" };
                    return Err(Fault::invalid(format!("{why}; choose the one to boot from with --network")));
                }
                (None, []) => return Ok((None, Some("it has no network card, as no network of this host is started".to_owned()))),
                (None, _) => {
                    return Ok((
                        None,
                        Some(format!("it has no network card, as this host has several networks ({}) and none was chosen", names())),
                    ));
                }
            }
        }
    };
    if starts && chosen.facts.state != NetworkState::Active {
        return Err(Fault::wrong_state(format!("the network {} is not started; start it first", chosen.name)));
    }
    Ok((Some(chosen.name.to_string()), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{
        NetworkId, PoolId,
        network::NetworkFacts,
        volume::{Attachment, VolumeFacts, VolumeRecord},
    };
    use uuid::Uuid;

    fn volume(pool: &str, name: &str, format: &str) -> PlacedVolume {
        let facts =
            VolumeFacts { format: Some(format.into()), capacity: Bytes::GIB, path: format!("/{pool}/{name}"), ..VolumeFacts::default() };
        PlacedVolume { pool: PoolId(Uuid::nil()), pool_name: pool.into(), volume: VolumeRecord { name: name.into(), facts } }
    }
    fn landscape() -> Landscape {
        let mut broken = volume("a", "broken.qcow2", "qcow2");
        broken.volume.facts.refused = Some("backing file outside of any pool".into());
        let volumes = vec![
            volume("a", "debian.qcow2", "qcow2"),
            volume("a", "twice", "raw"),
            volume("b", "twice", "raw"),
            volume("a", "cd.iso", "iso"),
            volume("a", "text.qcow2", "raw"),
            volume("a", "half.archipel-part", "raw"),
            broken,
        ];
        Landscape { attachments: Vec::new(), volumes }
    }
    fn chosen(text: &str, what: What) -> Result<String, Fault> {
        choose(&landscape(), &text.parse().unwrap(), what).map(|v| format!("{}/{}", v.pool_name, v.volume.name))
    }

    #[test]
    fn a_name_alone_is_looked_for_in_every_pool() {
        assert_eq!(chosen("debian.qcow2", What::Image), Ok("a/debian.qcow2".into()));
        assert_eq!(chosen("b/twice", What::Disk), Ok("b/twice".into()));
        assert_eq!(chosen("cd.iso", What::Iso), Ok("a/cd.iso".into()));
        let several = chosen("twice", What::Image).unwrap_err();
        assert!(several.kind == FaultKind::Conflict && several.message.contains("a/twice, b/twice"), "{several}");
        let missing = chosen("debain.qcow2", What::Image).unwrap_err();
        assert!(missing.message.contains("there are a/debian.qcow2, a/twice, b/twice"), "{missing}");
        assert!(!missing.message.contains("broken") && !missing.message.contains("cd.iso"), "only what could be taken is named");
        assert!(chosen("b/debian.qcow2", What::Image).unwrap_err().message.contains("in the pool b"));
    }

    #[test]
    fn what_cannot_be_it_is_refused_with_the_reason() {
        for (name, what, word) in [
            ("broken.qcow2", What::Image, "backing file outside"),
            ("text.qcow2", What::Image, "does not begin like one"),
            ("half.archipel-part", What::Disk, "unfinished"),
            ("cd.iso", What::Image, "--iso"),
            ("debian.qcow2", What::Iso, "no installation CD"),
        ] {
            let fault = chosen(name, what).unwrap_err();
            assert!(fault.message.contains(word), "{fault}");
        }
        let mut used = landscape();
        let attachment = |running, read_only| Attachment {
            domain: archipel_contract::DomainId(Uuid::nil()),
            name: "web9".into(),
            device: "vda".into(),
            running,
            read_only,
            paths: vec!["/a/debian.qcow2".into()],
            ..Attachment::default()
        };
        used.attachments = vec![attachment(true, false)];
        let image = used.volumes[0].clone();
        assert!(check_image(&used, &image, None).unwrap_err().message.contains("written to by web9"));
        used.attachments = vec![attachment(true, true)];
        assert!(check_image(&used, &image, None).is_ok() && check_image(&used, &image, Some(Bytes::GIB)).is_ok());
        let small = check_image(&used, &image, Some(Bytes::MIB)).unwrap_err();
        assert!(small.message.contains("has 1 GiB") && small.message.contains("--size 1073741824"), "{small}");
    }

    fn net(name: &str, state: NetworkState) -> NetworkRecord {
        let facts = NetworkFacts { state, bridge: None, forward: "nat".into(), persistent: true, autostart: true };
        NetworkRecord { id: NetworkId(Uuid::nil()), name: name.into(), facts }
    }

    #[test]
    fn the_usual_network_is_default_or_the_only_one() {
        use NetworkState::*;
        let chosen = |all: &[NetworkRecord]| network(all, &Card::Usual, false, true).unwrap();
        assert_eq!(chosen(&[net("a", Active), net("default", Active)]).0.as_deref(), Some("default"));
        assert_eq!(chosen(&[net("a", Active), net("default", Inactive)]), (Some("a".into()), None));
        assert!(chosen(&[]).1.unwrap().contains("no network card"));
        assert!(chosen(&[net("a", Active), net("b", Active)]).1.unwrap().contains("a, b"));
        assert_eq!(network(&[net("a", Active)], &Card::None, false, true), Ok((None, None)));
        let missing = network(&[net("a", Active)], &Card::On("x".into()), false, true).unwrap_err();
        assert!(missing.message.contains("there are a"), "{missing}");
        let down = network(&[net("a", Inactive)], &Card::On("a".into()), false, true).unwrap_err();
        assert!(down.message.contains("start it first"), "{down}");
        assert!(network(&[net("a", Inactive)], &Card::On("a".into()), false, false).is_ok(), "it stays off");
        assert!(network(&[], &Card::Usual, true, true).unwrap_err().message.contains("to boot from"));
    }
}
