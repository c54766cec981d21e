//! `[cluster]`: the exchanges that stand by for each other, and the etcd that they share.

use super::reader::Section;
use super::{Roles, check};
use archipel_contract::{CellName, Millis};
use archipel_store::EtcdConfig;
use std::path::PathBuf;

/// One exchange among several.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cluster {
    pub(crate) etcd: EtcdConfig,
    /// How long nobody hears of the active exchange before another may take over.
    pub(crate) lease: Millis,
    /// Where others reach this exchange's XMPP port; `None`: where it listens.
    pub(crate) advertise: Option<String>,
    /// This exchange's page, as browsers reach it.
    pub(crate) page: Option<String>,
    /// Those of all exchanges.
    pub(crate) pages: Vec<String>,
    /// Whether what `data_dir` has of a cell is carried over at the first start.
    pub(crate) carry_over: bool,
}

/// Reads the section. Answers the cluster, if there is one, and the reign.
pub(super) fn read(
    mut section: Section<'_>,
    cell: &CellName,
    roles: Roles,
    xmpp_listen: &str,
    http_listen: &str,
) -> (Option<Cluster>, u32) {
    let given = section.given();
    let endpoints = section.list("etcd");
    for url in endpoints.iter().flatten() {
        check::member(&mut section, url);
    }
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        section.mistake("etcd", "is empty; name all members, or remove it");
    }
    let lease = Millis::seconds(section.integer("lease_seconds", 3, 2..=60));
    let advertise = section.address("advertise", None);
    let mut pages: Vec<String> = section.list("pages").unwrap_or_default();
    let page = section.text("page");
    for (key, origin) in pages.iter().map(|p| ("pages", p)).chain(page.iter().map(|p| ("page", p))) {
        check::origin(&mut section, key, origin);
    }
    for origin in &mut pages {
        origin.truncate(origin.trim_end_matches('/').len());
    }
    // Where it listens may be where browsers reach it.
    let page = page.or_else(|| pages.iter().find(|p| p.split_once("://").is_some_and(|(_, host)| host == http_listen)).cloned());
    let highest = 1 << 20;
    let reign = section.integer("reign", u64::from(endpoints.is_some()), u64::from(endpoints.is_some())..=highest);
    let files = ["ca_file", "cert_file", "key_file"].map(|key| {
        let file = section.text(key).map(PathBuf::from);
        if let Some(file) = file.as_ref().filter(|f| !f.is_file()) {
            section.mistake(key, format!("{} is not a file that can be read", file.display()));
        }
        file
    });
    let [ca_file, cert_file, key_file] = files;
    if cert_file.is_some() != key_file.is_some() {
        section.mistake("key_file", "cert_file and key_file go together; give both or none");
    }
    let user = section.text("user");
    let password_file = section.text("password_file").map(PathBuf::from);
    if let Some(file) = &password_file {
        check::secret(&mut section, "password_file", file);
    }
    if user.is_some() != password_file.is_some() {
        section.mistake("user", "user and password_file go together; give both or none");
    }
    let carry_over = match section.text("carry_over").as_deref() {
        None | Some("once") => true,
        Some("never") => false,
        Some(other) => {
            section
                .mistake("carry_over", format!("{other:?} is neither once (what data_dir has of the cell is brought to etcd) nor never"));
            true
        }
    };
    if given && !roles.exchange {
        section.mistake("etcd", "only an exchange uses etcd; an agent reaches what it needs through the exchange. Remove the section");
    }
    if endpoints.is_some() && advertise.is_none() && !check::reachable(xmpp_listen) {
        section.mistake("advertise", format!("is missing; xmpp.listen is {xmpp_listen}, so say how others reach this exchange"));
    }
    section.finish();
    let cluster = endpoints.map(|endpoints| {
        let etcd = EtcdConfig { ca_file, cert_file, key_file, user, password_file, ..EtcdConfig::new(endpoints, cell) };
        Cluster { etcd, lease, advertise, page, pages, carry_over }
    });
    // It was checked to fit.
    (cluster, u32::try_from(reign).unwrap_or_default())
}
