//! The configuration: TOML files in the order given, then the environment (`ARCHIPEL__SECTION__KEY`), each overriding what came before.
//!
//! Every mistake of every file is found before anything is said, because somebody who mends a file wants to do it once. That is why
//! the merged values are read here one by one and not by serde, which stops at the first.

mod check;
mod cluster;
mod reader;

use archipel_contract::{
    CellName, HypervisorName,
    domain::{directory_of, host_device_of},
};
use archipel_supervisors::tree::Limits;
pub(crate) use cluster::Cluster;
use reader::{Section, layers};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Read when no `--config` is given and it exists.
pub(crate) const DEFAULT_FILE: &str = "/etc/archipel/archipel.toml";

const DATA_DIR: &str = "/var/lib/archipel";
/// The configuration of a host that joined a cell, below `data_dir`.
pub(crate) const JOINED: &str = "membership/archipel.toml";

/// One thing that is wrong: where, which key, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    /// The file, or the variable of the environment.
    pub(crate) place: String,
    pub(crate) key: String,
    pub(crate) what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.what)
    }
}

/// What this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) agent: bool,
    pub(crate) exchange: bool,
}

impl Roles {
    pub(crate) fn names(self) -> Vec<&'static str> {
        [(self.agent, "agent"), (self.exchange, "exchange")].into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
    }
}

/// One libvirt connection of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hypervisor {
    pub(crate) name: HypervisorName,
    pub(crate) uri: String,
    /// Where the libvirt of other hosts reaches this one.
    pub(crate) peer_uri: Option<String>,
    /// Where they send the memory of machines, if it is not there.
    pub(crate) data_uri: Option<String>,
    /// Devices of the host that machines may be given.
    pub(crate) host_devices: Vec<String>,
    /// Directories of the host that machines may share.
    pub(crate) shared_directories: Vec<PathBuf>,
}

/// Where the exchange is, for a process that is only an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// `host:port` of the exchange and of its standbys.
    pub(crate) servers: Vec<String>,
    /// How this host proves who it is: by the password of an account, or by the certificate it joined with, which goes first.
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) identity_file: Option<PathBuf>,
    /// SHA-256 of their certificates, or of the authority's that made them, 64 hex digits each.
    pub(crate) fingerprints: Vec<String>,
}

/// What is measured of machines while nobody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Every five minutes, for the history of 24 hours.
    pub(crate) history: bool,
    /// Whenever `/metrics` is read.
    pub(crate) metrics: bool,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Everything, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) cell: CellName,
    pub(crate) data_dir: PathBuf,
    pub(crate) roles: Roles,
    /// Empty: find one out at the start.
    pub(crate) hypervisors: Vec<Hypervisor>,
    pub(crate) xmpp_listen: String,
    pub(crate) resume: Duration,
    pub(crate) http_listen: String,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) remote: Option<Remote>,
    /// The other exchanges; `None` when this is the only one.
    pub(crate) cluster: Option<Cluster>,
    /// How often the cell's authority began anew.
    pub(crate) reign: u32,
    /// How many machines of each hypervisor travel at the same time.
    pub(crate) migration: Limits,
    pub(crate) usage: Usage,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
    /// Where spans go (OTLP over HTTP); needs a build with the feature `otlp`.
    pub(crate) otlp: Option<String>,
}

/// Reads and checks everything. `environment` is passed in, so that tests need not change that of the process.
pub(crate) fn load(files: &[PathBuf], environment: HashMap<String, String>) -> Result<Settings, Vec<Mistake>> {
    let default = Path::new(DEFAULT_FILE);
    let files: Vec<&Path> = match files {
        [] if default.exists() => vec![default],
        some => some.iter().map(PathBuf::as_path).collect(),
    };
    let mut mistakes = Vec::new();
    let joined = joined(&files, &environment);
    let files: Vec<&Path> = files.into_iter().chain(joined.as_deref()).collect();
    let table = layers(&files, environment, &mut mistakes);
    let settings = read(table, &mut mistakes);
    mistakes.sort();
    if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
}

/// What `archipeld join` wrote into `data_dir`. It counts over the files, because it says what became of this host since.
fn joined(files: &[&Path], environment: &HashMap<String, String>) -> Option<PathBuf> {
    let before = layers(files, environment.clone(), &mut Vec::new());
    let data_dir = before.get("data_dir").and_then(|v| v.clone().into_string().ok()).unwrap_or_else(|| DATA_DIR.to_owned());
    let file = Path::new(&data_dir).join(JOINED);
    file.exists().then_some(file)
}

/// Every value has a default, so that reading goes on after a mistake.
fn read(table: reader::Table, mistakes: &mut Vec<Mistake>) -> Settings {
    let mut root = Section::new("", table, mistakes);
    let cell = root.parsed("cell", "vm.localhost").unwrap_or_else(|| fallback("vm.localhost"));
    let data_dir = PathBuf::from(root.text("data_dir").unwrap_or_else(|| DATA_DIR.to_owned()));
    let roles = read_roles(&mut root);
    let hypervisors = root.tables("hypervisor", |mut one| {
        let name = one.required("name").and_then(|text| one.parse("name", &text));
        let uri = one.required("uri").and_then(|uri| check::uri(&mut one, "uri", uri));
        let mut optional = |key| one.text(key).and_then(|uri| check::uri(&mut one, key, uri));
        let (peer_uri, data_uri) = (optional("peer_uri"), optional("data_uri"));
        let host_devices = one.list("host_devices").unwrap_or_default();
        for fault in host_devices.iter().filter_map(|device| host_device_of(device).err()) {
            one.mistake("host_devices", fault.message);
        }
        let mut shared_directories = Vec::new();
        for directory in one.list("shared_directories").unwrap_or_default() {
            match directory_of(&directory) {
                Ok(directory) => shared_directories.push(directory),
                Err(fault) => one.mistake("shared_directories", fault.message),
            }
        }
        one.finish();
        Some(Hypervisor { name: name?, uri: uri?, peer_uri, data_uri, host_devices, shared_directories })
    });

    let mut xmpp = root.section("xmpp");
    let xmpp_listen = xmpp.address("listen", Some("127.0.0.1:5222")).unwrap_or_default();
    let resume = Duration::from_secs(xmpp.integer("resume_seconds", 300, 0..=86_400));
    xmpp.finish();

    let mut http = root.section("http");
    let http_listen = http.address("listen", Some("127.0.0.1:8080")).unwrap_or_default();
    let allowed_origins = http.list("allowed_origins").unwrap_or_default();
    for origin in &allowed_origins {
        check::origin(&mut http, "allowed_origins", origin);
    }
    http.finish();

    let mut exchange = root.section("exchange");
    let given = exchange.given();
    let servers = exchange.addresses("server");
    let password_file = exchange.text("password_file").map(PathBuf::from);
    let identity_file = exchange.text("identity_file").map(PathBuf::from);
    let fingerprints = match (exchange.list("fingerprint"), &servers) {
        (Some(texts), _) => texts.iter().filter_map(|text| check::fingerprint(&mut exchange, text)).collect(),
        (None, Some(servers)) => {
            check::fingerprint_needed(&mut exchange, servers);
            Vec::new()
        }
        (None, None) => Vec::new(),
    };
    if let Some(file) = &password_file {
        check::secret(&mut exchange, "password_file", file);
    }
    if let Some(file) = &identity_file {
        check::secret(&mut exchange, "identity_file", file);
    }
    exchange.finish();

    let (cluster, reign) = cluster::read(root.section("cluster"), &cell, roles, &xmpp_listen, &http_listen);

    let mut migration = root.section("migration");
    let Limits { out, come } = Limits::default();
    let mut at_once = |key, default: usize| migration.integer(key, default as u64, 1..=32) as usize;
    let limits = Limits { out: at_once("at_once_out", out), come: at_once("at_once_in", come) };
    migration.finish();

    let mut usage = root.section("usage");
    let usage_settings = Usage { history: usage.boolean("history", true), metrics: usage.boolean("metrics", false) };
    usage.finish();

    let mut log = root.section("log");
    let log_format = match log.text("format").as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            log.mistake("format", format!("{other:?} is neither text nor json"));
            LogFormat::Text
        }
    };
    // The web server introduces itself in four lines at each start; nobody needs them.
    let log_filter = log.text("filter").unwrap_or_else(|| "info,actix_server=warn".to_owned());
    if let Err(error) = log_filter.parse::<tracing_subscriber::filter::Targets>() {
        log.mistake("filter", format!("{log_filter:?} is not a filter such as info or archipel_xmpp=debug,info ({error})"));
    }
    let otlp = log.text("otlp");
    if otlp.is_some() && !cfg!(feature = "otlp") {
        log.mistake("otlp", "this build sends no traces; build it with --features otlp or remove the key");
    }
    log.finish();

    let mut component = root.section("component");
    if component.given() {
        component.ignore();
        root.mistake("component", "this version has no link to another XMPP server yet; remove the section");
    }

    check::together(&mut root, roles, &hypervisors, given, &xmpp_listen, &http_listen, &data_dir);
    let secret = password_file.is_some() || identity_file.is_some();
    let remote = match (given && !roles.exchange, servers, secret) {
        (true, Some(servers), true) => Some(Remote { servers, password_file, identity_file, fingerprints }),
        (true, servers, secret) => {
            for (key, missing) in [("exchange.server", servers.is_none()), ("exchange.password_file", !secret)] {
                if missing && !root.has_mistake(key) {
                    root.mistake(key, "is missing; an agent needs it to reach the exchange");
                }
            }
            None
        }
        _ => None,
    };
    root.finish();
    Settings {
        cell,
        data_dir,
        roles,
        hypervisors,
        xmpp_listen,
        resume,
        http_listen,
        allowed_origins,
        remote,
        cluster,
        reign,
        migration: limits,
        usage: usage_settings,
        log_format,
        log_filter,
        otlp,
    }
}

fn fallback(name: &str) -> CellName {
    match name.parse() {
        Ok(cell) => cell,
        Err(_) => unreachable!("the default is a cell's name"),
    }
}

fn read_roles(root: &mut Section<'_>) -> Roles {
    let both = Roles { agent: true, exchange: true };
    let Some(names) = root.list("roles") else { return both };
    let mut roles = Roles { agent: false, exchange: false };
    for name in &names {
        match name.as_str() {
            "agent" => roles.agent = true,
            "exchange" => roles.exchange = true,
            other => root.mistake("roles", format!("{other:?} is neither agent nor exchange")),
        }
    }
    if names.is_empty() {
        root.mistake("roles", "a process needs at least one role: agent, exchange or both");
        return both;
    }
    roles
}

#[cfg(test)]
mod tests;
