//! Directories that a machine shares with its host.
//!
//! virtiofs is a program of its own beside QEMU that works on the guest's memory, so that memory must be shared between the two. It is,
//! from the next boot on, when the first directory comes; it stays so when the last one goes, which harms nobody.

use super::{Change, absent, devices, taken};
use crate::xml::tree::Element;
use archipel_contract::{Fault, domain::AttachFilesystem};

fn is_tagged(device: &Element, tag: &str) -> bool {
    device.name == "filesystem" && device.of("target", "dir") == tag
}

/// Whether QEMU shares the guest's memory with other programs.
pub fn shares_memory(root: &Element) -> bool {
    root.child("memoryBacking").is_some_and(|m| m.of("access", "mode") == "shared")
}

/// Lets QEMU share the guest's memory, and keeps what kind of memory it is.
fn share_memory(root: &mut Element) {
    let backing = root.ensure("memoryBacking");
    backing.ensure("access").set("mode", "shared");
    let anonymous = matches!(backing.of("source", "type"), "" | "anonymous");
    if anonymous && backing.child("hugepages").is_none() {
        backing.ensure("source").set("type", "memfd");
    }
    // A cell that says otherwise would count more.
    let cells = root.elements_mut().filter(|e| e.name == "cpu").flat_map(Element::elements_mut).filter(|e| e.name == "numa");
    cells.flat_map(Element::elements_mut).for_each(|cell| cell.unset(&["memAccess"]));
}

/// `ask` names the directory by what it leads to.
pub(super) fn attach(root: &mut Element, ask: &AttachFilesystem) -> Result<Change, Fault> {
    if devices(root).any(|d| is_tagged(d, &ask.tag)) {
        return Err(taken(format!("it has a directory {} already; choose another tag", ask.tag)));
    }
    let mut element = Element::new("filesystem")
        .with("type", "mount")
        .with("accessmode", "passthrough")
        .holding(Element::new("driver").with("type", "virtiofs"))
        .holding(Element::new("source").with("dir", ask.directory.as_str()))
        .holding(Element::new("target").with("dir", ask.tag.as_str()));
    if ask.read_only {
        element.append(Element::new("readonly"));
    }
    share_memory(root);
    root.ensure("devices").append_beside(element.clone());
    Ok(Change::of(&ask.tag, element))
}

pub(super) fn detach(root: &mut Element, tag: &str) -> Result<Change, Fault> {
    let lists = root.elements_mut().filter(|e| e.name == "devices");
    let gone = lists.flat_map(|list| list.take(|d| is_tagged(d, tag))).next();
    gone.map(|d| Change::of(tag, d)).ok_or_else(|| absent(&format!("shared directory {tag}")))
}

/// The directories of the host that a definition shares.
pub fn shared_directories(root: &Element) -> Vec<String> {
    let shared = devices(root).filter(|d| d.name == "filesystem" && matches!(d.attribute("type"), None | Some("mount")));
    shared.map(|d| d.of("source", "dir").to_owned()).filter(|dir| !dir.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::{parse, write};

    fn ask(tag: &str, read_only: bool) -> AttachFilesystem {
        AttachFilesystem { directory: "/srv/share".into(), tag: tag.into(), read_only, ..AttachFilesystem::default() }
    }

    #[test]
    fn a_shared_directory_brings_shared_memory_and_leaves_it_when_it_goes() {
        let mut root =
            parse("<domain><cpu><numa><cell id='0' memAccess='private'/></numa></cpu><devices><rng/></devices></domain>").unwrap();
        assert!(!shares_memory(&root));
        attach(&mut root, &ask("data", false)).unwrap();
        assert!(shares_memory(&root));
        let text = write(&root);
        assert!(text.contains("<access mode='shared'/><source type='memfd'/>") && text.contains("<cell id='0'/>"), "{text}");
        let device = "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/><source dir='/srv/share'/><target dir='data'/></filesystem>";
        assert!(text.contains(device), "{text}");
        assert_eq!(shared_directories(&root), ["/srv/share"]);
        assert!(attach(&mut root, &ask("data", false)).unwrap_err().message.contains("another tag"));
        assert!(write(&attach(&mut root, &ask("more", true)).unwrap().element.unwrap()).contains("<readonly/>"));
        detach(&mut root, "more").unwrap();
        detach(&mut root, "data").unwrap();
        assert!(detach(&mut root, "data").is_err() && shares_memory(&root) && shared_directories(&root).is_empty());
    }

    #[test]
    fn memory_that_is_of_another_kind_stays_of_that_kind() {
        for kind in ["<hugepages/>", "<source type='file'/>"] {
            let mut root = parse(&format!("<domain><memoryBacking>{kind}<access mode='private'/></memoryBacking></domain>")).unwrap();
            attach(&mut root, &ask("data", false)).unwrap();
            assert!(shares_memory(&root) && write(&root).contains(kind) && !write(&root).contains("memfd"), "{}", write(&root));
        }
    }
}
