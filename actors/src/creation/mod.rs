//! A machine is created: what was asked for is found on this host first, and refused while whoever asked still listens; then it is
//! made as one task ([`crate::making`]).
//!
//! ```text
//!   asked --> image, disk, CD, pool, network looked up --> refused
//!                         |
//!                         +--> task: disk --> seed --> definition --> start --> done
//!                                      \-------\----------\-----------\--> everything removed again
//! ```

mod iso;
mod places;

use crate::{
    ask::{Ask, ending},
    hypervisor::HypervisorActor,
    life::Posted,
    making::{self, Making},
    scope::{SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Bytes, Caller, Command, DomainId, Fault, Timestamp,
    command::Started,
    domain::{BootFrom, CreateDomain, Creation, DomainSpec, EMPTY_DISK, FirstBoot, friendly_name},
    volume::{CopySpec, NewVolume, PlacedVolume, Preallocation, VolumeFormat},
};
use places::{Found, find};
use std::rc::Rc;
use uuid::Uuid;

/// The smallest disk that is made from an image: firmware finds nothing to boot on one that is smaller than a cylinder.
const LEAST_DISK: Bytes = Bytes::MIB;
/// How often a name is sought before it is given up.
const NAMES: u32 = 64;

impl Handler<Posted<Ask<CreateDomain>>> for HypervisorActor {
    type Result = ResponseActFuture<Self, Result<Started, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<CreateDomain>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let scope = self.scope().clone();
        Box::pin(async move { create(&scope, command, &caller).await }.into_actor(self))
    }
}

async fn create(scope: &Rc<Scope>, command: CreateDomain, caller: &Caller) -> Result<Started, Fault> {
    let creation = command.creation()?;
    making::in_control(scope)?;
    let name = match &creation.name {
        Some(name) => name.clone(),
        None => free_name(|name| making::is_free(scope, name))?,
    };
    let found = find(scope, &creation, &name).await?;
    let words = match &found.image {
        Some(image) => format!("creating {name} from {}/{}", image.pool_name, image.volume.name),
        None => format!("creating {name}"),
    };
    making::begin(scope, scope.host.name.clone().into(), CreateDomain::NAME, &name, caller, words, async move |making: &mut Making| {
        make(making, creation, found).await
    })
}

/// A name that nobody has here.
fn free_name(is_free: impl Fn(&str) -> bool) -> Result<String, Fault> {
    for _ in 0..NAMES {
        let chance = getrandom::u32().map_err(|e| Fault::internal("no chance could be had for a name; give one").because(e))?;
        let name = friendly_name(chance);
        if is_free(&name) {
            return Ok(name);
        }
    }
    Err(Fault::busy("no free name was found; give one"))
}

async fn make(making: &mut Making, creation: Creation, found: Found) -> Result<String, Fault> {
    let id = DomainId(Uuid::new_v4());
    let disk = make_disk(making, &creation, &found).await?;
    let seed = match (&creation.first_boot, &found.seed) {
        (Some(first_boot), Some((pool, name))) => {
            making.says(92, "writing its seed");
            let image = seed(first_boot, id, making.name(), making.scope().clock.now())?;
            making.write(pool, name, image).await?;
            Some((pool.name.to_string(), name.clone()))
        }
        _ => None,
    };
    making.says(95, "defining it");
    let spec = DomainSpec {
        name: making.name().to_owned(),
        id: Some(id),
        disk: Some(disk),
        seed,
        iso: found.iso.as_ref().map(place),
        network: found.network.clone(),
        boot: boot_order(&creation, &found),
        ..creation.spec
    };
    making.define(spec).await?;
    if let Some(disk) = &found.disk {
        // Somebody may have taken it meanwhile; two machines that write to one disk destroy it.
        let landscape = within(SHORT, making.scope().host.volumes.landscape()).await?;
        landscape.check_free(&disk.volume.name, &disk.volume.facts, Some(id))?;
    }
    let name = making.name().to_owned();
    let mut said = vec![if creation.start { format!("{name} is created and started") } else { format!("{name} is created and off") }];
    if creation.start {
        making.says(98, "starting it");
        making.start(id).await?;
    }
    said.extend(found.remark);
    if creation.first_boot.as_ref().is_some_and(|f| !f.lets_in()) {
        said.push("no key, password or user-data was given, so that only what is in the image lets you in".to_owned());
    }
    Ok(said.join("; "))
}

fn place(volume: &PlacedVolume) -> (String, String) {
    (volume.pool_name.to_string(), volume.volume.name.clone())
}

/// Gives the machine its disk.
async fn make_disk(making: &mut Making, creation: &Creation, found: &Found) -> Result<(String, String), Fault> {
    let pool = match (&found.disk, &found.pool) {
        (Some(disk), _) => return Ok(place(disk)),
        (None, Some(pool)) => pool,
        (None, None) => return Err(Fault::internal("nobody chose a pool; please report this")),
    };
    let name = found.disk_name.clone();
    let empty = |capacity: Option<Bytes>, backing| NewVolume {
        name: name.clone(),
        capacity,
        format: if found.holds_files { VolumeFormat::Qcow2 } else { VolumeFormat::Raw },
        preallocation: Preallocation::None,
        backing,
    };
    match &found.image {
        Some(image) if found.linked => making.create(pool, empty(Some(size_of(creation, image)), Some(place(image)))).await?,
        Some(image) => {
            let copy = CopySpec { pool: Some(pool.name.to_string()), to: name.clone(), format: format_of_copy(found.holds_files, image) };
            making.copy((image.pool, image.volume.name.clone()), copy, pool, (0, 90)).await?;
            if size_of(creation, image) > image.volume.facts.capacity {
                making.grow(pool, &name, size_of(creation, image)).await?;
            }
        }
        None => making.create(pool, empty(Some(creation.size.unwrap_or(EMPTY_DISK)), None)).await?,
    }
    Ok((pool.name.to_string(), name))
}

/// How large a disk is that comes from an image.
fn size_of(creation: &Creation, image: &PlacedVolume) -> Bytes {
    creation.size.unwrap_or_default().max(image.volume.facts.capacity).max(LEAST_DISK)
}

/// A copy keeps its format when it is QEMU's own; everything else becomes that, or the bytes alone where a pool holds no files.
fn format_of_copy(holds_files: bool, image: &PlacedVolume) -> Option<VolumeFormat> {
    match (holds_files, image.volume.facts.format.as_deref()) {
        (true, Some("qcow2")) => None,
        (true, _) => Some(VolumeFormat::Qcow2),
        (false, _) => Some(VolumeFormat::Raw),
    }
}

/// From what it boots. A disk that begins empty comes before the CD: as long as nothing is on it the CD boots, and what was installed
/// boots afterwards. A disk with something on it comes behind the CD.
fn boot_order(creation: &Creation, found: &Found) -> Vec<BootFrom> {
    let mut order = Vec::new();
    if creation.network_boot {
        order.push(BootFrom::Network);
    }
    match (&found.iso, &found.disk) {
        (None, _) => order.push(BootFrom::Disk),
        (Some(_), None) => order.extend([BootFrom::Disk, BootFrom::Iso]),
        (Some(_), Some(_)) => order.extend([BootFrom::Iso, BootFrom::Disk]),
    }
    order
}

/// The image of a seed.
fn seed(first_boot: &FirstBoot, id: DomainId, machine: &str, at: Timestamp) -> Result<Vec<u8>, Fault> {
    let hash = first_boot.password.as_deref().map(hashed).transpose()?;
    let files = first_boot.files(&id.0.to_string(), machine, hash.as_deref())?;
    let files: Vec<iso::File<'_>> = files.iter().map(|(name, text)| iso::File { name, bytes: text.as_bytes() }).collect();
    iso::image("cidata", &files, at)
}

/// A password as Linux keeps it: SHA-512 crypt with a salt of its own.
fn hashed(password: &str) -> Result<String, Fault> {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let failed = |why: String| Fault::internal("a password could not be hashed; please report this").because(why);
    let mut chance = [0u8; 16];
    getrandom::fill(&mut chance).map_err(|e| failed(e.to_string()))?;
    let salt: String = chance.iter().map(|b| LETTERS[usize::from(b % 64)] as char).collect();
    let rounds = sha_crypt::Sha512Params::new(sha_crypt::ROUNDS_DEFAULT).map_err(|e| failed(format!("{e:?}")))?;
    let hash = sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &rounds).map_err(|e| failed(format!("{e:?}")))?;
    Ok(format!("$6${salt}${hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_linux_does() {
        // The example of the specification of SHA-crypt.
        let rounds = sha_crypt::Sha512Params::new(sha_crypt::ROUNDS_DEFAULT).unwrap();
        let hash = sha_crypt::sha512_crypt_b64(b"Hello world!", b"saltstring", &rounds).unwrap();
        assert_eq!(hash, "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1");
        let (one, two) = (hashed("geheim").unwrap(), hashed("geheim").unwrap());
        assert!(one != two && one.starts_with("$6$") && one.split('$').nth(2).is_some_and(|s| s.len() == 16), "{one}");
    }

    #[test]
    fn a_seed_holds_the_hash_and_the_uuid() {
        let first = FirstBoot { password: Some("geheim".into()), ..FirstBoot::default() };
        let id = DomainId(Uuid::from_u128(7));
        let image = seed(&first, id, "web1", Timestamp(0)).unwrap();
        let holds = |text: &str| image.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(holds("cidata") && holds("#cloud-config\n") && holds("$6$") && holds(&id.0.to_string()) && !holds("geheim"));
    }

    #[test]
    fn a_taken_name_is_not_given_twice() {
        let first = std::cell::RefCell::new(None);
        let name = free_name(|name| first.borrow_mut().get_or_insert_with(|| name.to_owned()) != name).unwrap();
        assert_ne!(Some(&name), first.borrow().as_ref());
        assert!(free_name(|_| false).unwrap_err().message.contains("give one"));
    }
}
