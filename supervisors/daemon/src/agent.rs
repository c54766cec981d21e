//! The agent role: one libvirt connection and one link to the exchange for each hypervisor, and one tree of actors below them.
//!
//! ```text
//!   libvirt --reports--> actors (a thread of their own) --events--> link --stream--> exchange
//!                          ^------------- requests ---------------------'   (a pipe in this process, or TLS to another)
//! ```

use crate::carriages::Doorman;
use crate::cell::{self, Seat};
use crate::cell_store::CellStore;
use crate::config::{Hypervisor, Remote, Settings};
use crate::host;
use crate::learned::Learned;
use crate::ownership::Deciding;
use archipel_contract::port::{Accounts, Announcer, Clock, Peers};
use archipel_contract::usage::Sample;
use archipel_contract::{BoxFuture, DomainId, EntityId, Fault, HypervisorName};
use archipel_store::Store;
use archipel_supervisors::tree::{self, Tree};
use archipel_xmpp::client::tls::{Identity, Pinned, Trust};
use archipel_xmpp::client::{Connector, Pauses, Tcp};
use archipel_xmpp::link::{Fence, Link, LinkConfig, LinkWatcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The tree of actors, for as long as it is there: taken when the agent is stopped. Nobody may keep what is got from it.
#[derive(Clone)]
pub(crate) struct Grown(Arc<Mutex<Option<Arc<tree::Agent>>>>);

impl Grown {
    /// It; `None` while the agent is stopping.
    pub(crate) fn get(&self) -> Option<Arc<tree::Agent>> {
        self.0.lock().clone()
    }
}

/// The running agent.
pub(crate) struct Agent {
    tree: Grown,
    posts: Vec<Post>,
}

/// One hypervisor as seen from here.
struct Post {
    name: HypervisorName,
    uri: String,
    link: Arc<LinkWatcher>,
    running: JoinHandle<()>,
}

/// What was measured last on a hypervisor.
pub(crate) struct Glance {
    pub(crate) host: HypervisorName,
    pub(crate) sample: Arc<Sample>,
    pub(crate) names: HashMap<DomainId, Arc<str>>,
}

/// How the exchange is reached, and with which password.
struct Way {
    connector: Arc<dyn Connector>,
    others: Vec<Arc<dyn Connector>>,
    password: String,
    /// What has to be done before the password is good.
    before: BoxFuture<'static, ()>,
}

async fn way(settings: &Settings, ours: Option<(&Arc<Seat>, &CellStore)>, name: &HypervisorName) -> Result<Way, Fault> {
    if let Some((seat, store)) = ours {
        let (connector, others) = seat.connectors(name, store);
        let password = crate::account::random_password()?;
        let mut before: BoxFuture<'static, ()> = Box::pin(std::future::ready(()));
        if seat.is_shared() {
            // etcd may be away while this host starts; its agent works meanwhile.
            before = Box::pin(admitted(store.accounts.clone(), name.clone(), password.clone()));
        } else {
            cell::admit(&*store.accounts, name, &password).await?;
        }
        return Ok(Way { connector, others, password, before });
    }
    let Some(remote) = &settings.remote else {
        return Err(Fault::invalid("an agent needs [exchange] server and password_file to reach the exchange"));
    };
    let password = match (&remote.identity_file, &remote.password_file) {
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|e| Fault::unavailable(format!("cannot read {} (exchange.password_file)", file.display())).because(e))?,
        _ => String::new(),
    };
    let mut connectors = connectors(remote)?.into_iter();
    let connector = connectors.next().ok_or_else(|| Fault::invalid("exchange.server names no address"))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Way { connector, others: connectors.collect(), password, before: Box::pin(std::future::ready(())) })
}

/// How an exchange elsewhere and its standbys are reached.
pub(crate) fn connectors(remote: &Remote) -> Result<Vec<Arc<dyn Connector>>, Fault> {
    connectors_to(remote, &remote.servers, remote.servers.len() > 1)
}

/// The same at other addresses, `several` if they are not alone.
pub(crate) fn connectors_to(remote: &Remote, servers: &[String], several: bool) -> Result<Vec<Arc<dyn Connector>>, Fault> {
    let pinned = remote.fingerprints.iter().map(|text| Pinned::new(text)).collect::<Result<Vec<_>, Fault>>()?;
    let trust = (!pinned.is_empty()).then(|| Arc::new(AnyOf(pinned)) as Arc<dyn Trust>);
    let identity = remote.identity_file.as_ref().map(|file| Arc::new(Identity::new(file)));
    let one = |server: &String| {
        let mut tcp = Tcp::new(server.clone(), trust.clone());
        if let Some(identity) = &identity {
            tcp = tcp.with_identity(identity.clone());
        }
        Arc::new(if several { tcp.one_of_several() } else { tcp }) as Arc<dyn Connector>
    };
    Ok(servers.iter().map(one).collect())
}

/// The hypervisors of this host: those that are configured, or the one there is. A host that joined has the name it joined by.
fn hypervisors(settings: &Settings) -> Result<Vec<Hypervisor>, Fault> {
    let identity = settings.remote.as_ref().and_then(|remote| remote.identity_file.as_ref());
    let joined = identity.map(|file| Identity::new(file).name()).transpose()?;
    match (settings.hypervisors.as_slice(), joined) {
        ([], None) => Ok(vec![host::default_hypervisor()]),
        ([], Some(name)) => Ok(vec![Hypervisor { name, ..host::default_hypervisor() }]),
        (some, None) => Ok(some.to_vec()),
        ([one], Some(name)) if one.name == name => Ok(vec![one.clone()]),
        (_, Some(name)) => Err(Fault::invalid(format!(
            "this host joined the cell as {name}, so its configuration can have one [[hypervisor]] and that must be named {name}"
        ))),
    }
}

/// Until the agent's account is in the cell's store.
async fn admitted(accounts: Arc<dyn Accounts>, name: HypervisorName, password: String) {
    let mut pauses = Pauses::new(Duration::from_millis(250), Duration::from_secs(5));
    while let Err(fault) = cell::admit(&*accounts, &name, &password).await {
        tracing::warn!(host = %name, %fault, "the agent has no account in the cell yet; trying again");
        tokio::time::sleep(pauses.next_pause()).await;
    }
}

/// The certificates of an exchange and of its standbys.
struct AnyOf(Vec<Pinned>);

impl Trust for AnyOf {
    fn check(&self, server: &str, fingerprint: &str) -> Result<(), Fault> {
        let mut last = Ok(());
        for pinned in &self.0 {
            last = pinned.check(server, fingerprint);
            if last.is_ok() {
                break;
            }
        }
        last
    }
    fn insists(&self) -> bool {
        true
    }
}

/// Begins to connect everything, and returns before any connection is there.
pub(crate) async fn start(
    settings: &Settings,
    store: &Store,
    clock: Arc<dyn Clock>,
    incarnation: u64,
    ours: Option<(&Arc<Seat>, &CellStore)>,
) -> Result<Agent, Fault> {
    let (mut hosts, mut links) = (Vec::new(), Vec::new());
    let fence = Fence::kept(Arc::new(store.clone()));
    let learned = match (&settings.remote, ours) {
        (Some(remote), None) => Some(Learned::begin(remote, Arc::new(store.clone())).await?),
        _ => None,
    };
    for Hypervisor { name, uri, peer_uri, data_uri, host_devices, shared_directories } in hypervisors(settings)? {
        let Way { connector, others, password, before } = way(settings, ours, &name).await?;
        let mut config = LinkConfig::new(settings.cell.clone(), name.clone(), password, connector, clock.clone());
        if !others.is_empty() {
            config = config.with_others(others);
        }
        config.fence = fence.clone();
        if let Some(learned) = &learned {
            (config.exchanges, config.learned) = (learned.told.clone(), learned.servers.clone());
        }
        let (announcer, link) = Link::new(config);
        let to_libvirt = archipel_libvirt::LinkConfig {
            peer_uri,
            data_uri,
            host_devices,
            shared_directories,
            ..archipel_libvirt::LinkConfig::new(name.clone(), uri.clone())
        };
        let host = archipel_libvirt::open(to_libvirt);
        hosts.push((host, announcer as Arc<dyn Announcer>));
        links.push((name, uri, link, before));
    }
    // An exchange that is always this process opens its tickets itself.
    let elsewhere = ours.is_none_or(|(seat, _)| seat.is_shared());
    let ours = ours.map(|(seat, cell)| (cell, seat.is_shared()));
    let deciding = Deciding::new(store, ours, links.iter().map(|(name, _, link, _)| (name.clone(), link.authority())).collect());
    let tree = Tree {
        cell: settings.cell.clone(),
        hosts,
        authority: deciding.authority.clone(),
        journal: Arc::new(store.clone()),
        peers: links.iter().map(|(_, _, link, _)| link.peers() as Arc<dyn Peers>).collect(),
        local: Arc::new(store.clone()),
        shelf: deciding.shelf.clone(),
        clock,
        incarnation,
    };
    let tree = tree::start_within(tree, settings.migration, settings.usage.history).await?;
    let tree = Arc::new(tree);
    let grown = Grown(Arc::new(Mutex::new(Some(tree.clone()))));
    let doorman = elsewhere.then(|| Doorman::begin(grown.clone()).map(Arc::new)).transpose()?;
    let mut posts = Vec::new();
    for (name, uri, link, before) in links {
        let Some(inventory) = tree.inventory_of(&name) else {
            return Err(Fault::internal(format!("the hypervisor {name} is not in the tree; please report this")));
        };
        let link = match tree.figures_of(&name) {
            Some(figures) => link.showing(figures),
            None => link,
        };
        let watcher = link.watcher();
        let verified = deciding.follow(name.clone(), link.authority(), Arc::downgrade(&tree));
        let link = match &doorman {
            Some(doorman) => link.with_porter(doorman.clone()),
            None => link,
        };
        let linked = link.run(tree.dispatcher(), inventory, incarnation);
        let running = tokio::spawn(async move {
            before.await;
            tokio::join!(linked, verified);
        });
        posts.push(Post { name, uri, link: watcher, running });
    }
    Ok(Agent { tree: grown, posts })
}

impl Agent {
    fn tree(&self) -> Option<Arc<tree::Agent>> {
        self.tree.get()
    }

    /// The tree, for whoever asks it later.
    pub(crate) fn grown(&self) -> Grown {
        self.tree.clone()
    }

    /// The hypervisors of this process.
    pub(crate) fn names(&self) -> Vec<HypervisorName> {
        self.posts.iter().map(|post| post.name.clone()).collect()
    }

    /// Each hypervisor for the health page; what is not well goes to `reasons`.
    pub(crate) fn hypervisors(&self, reasons: &mut Vec<String>) -> Vec<Value> {
        let Some(tree) = self.tree() else {
            reasons.push("the daemon is stopping".to_owned());
            return Vec::new();
        };
        let health = tree.health();
        let mut shown = Vec::new();
        for post in &self.posts {
            let Post { name, uri, link, .. } = post;
            let link = link.health();
            let id = EntityId::Hypervisor(name.clone());
            let entity = tree.inventory_of(name).and_then(|all| all.entities().into_iter().find(|e| e.id == id));
            let own = health.hypervisors.iter().find(|h| h.name == *name);
            let state = own.map_or("connecting", |h| h.state);
            let why = entity.as_ref().and_then(|e| e.why.as_deref());
            if state != "connected" {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                reasons.push(format!("hypervisor {name} is {state} ({uri}){why}"));
            }
            if !link.is_well() {
                let why = link.last_error.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
                reasons.push(format!("hypervisor {name} is not announced to the exchange{why}"));
            }
            shown.push(json!({
                "name": name,
                "uri": uri,
                "state": state,
                "why": why,
                "entities": own.map(|h| h.entities),
                "not_well": own.map(|h| h.not_well),
                "link": link,
            }));
        }
        shown
    }

    /// What was measured last of each hypervisor's machines, with their names; `renew`: it is measured again for whoever asks next.
    pub(crate) fn glance(&self, renew: bool) -> Vec<Glance> {
        let Some(tree) = self.tree() else { return Vec::new() };
        let named = |(host, sample)| {
            let entities = tree.inventory_of(&host).map(|all| all.entities()).unwrap_or_default();
            let names = entities.iter().filter_map(|e| Some((e.id.domain()?, e.name.clone()))).collect();
            Glance { host, sample, names }
        };
        tree.glance(renew).into_iter().map(named).collect()
    }

    /// The last restarts of actors, with their causes.
    pub(crate) fn restarts(&self) -> Value {
        json!(self.tree().map(|tree| tree.restarts()).unwrap_or_default())
    }

    /// Waits until the supervision gives up.
    pub(crate) async fn given_up(&self) -> Fault {
        match self.tree() {
            Some(tree) => Fault::internal(tree.failed().await),
            None => std::future::pending().await,
        }
    }

    /// Ends the actors in order, for at most that long, and then the links.
    pub(crate) async fn stop(&self, limit: Duration) {
        let tree = self.tree.0.lock().take().and_then(Arc::into_inner);
        if let Some(tree) = tree
            && tokio::time::timeout(limit, tree.shutdown()).await.is_err()
        {
            tracing::warn!("commands are still under way after {} s; they are settled at the next start", limit.as_secs());
        }
        for post in &self.posts {
            post.running.abort();
        }
    }
}
