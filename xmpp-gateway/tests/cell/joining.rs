//! Hosts that join over TCP and TLS, log in by their certificate, are cloned, run late, and are thrown out.

use crate::world::*;
use archipel_contract::fake::{FakeClock, MemoryAuthority, MemoryDocuments, MemoryJournal};
use archipel_contract::port::Clock;
use archipel_contract::{EntityId, Epoch, Fault, FaultKind, Millis, OperationId, domain::DomainState};
use archipel_xmpp::client::tls::{Identity, Pinned};
use archipel_xmpp::client::{Client, Config, Tcp};
use archipel_xmpp::exchange::{Exchange, ExchangeConfig};
use archipel_xmpp::link::LinkConfig;
use archipel_xmpp::membership::{Membership, Token, join};
use archipel_xmpp::server::{Limits, Server, ServerConfig};
use archipel_xmpp::tls::Tls;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A cell that is reached over TCP.
struct Site {
    exchange: Arc<Exchange>,
    members: Arc<Membership>,
    clock: Arc<FakeClock>,
    address: String,
    data: tempfile::TempDir,
    admin: Client,
}

async fn site() -> Site {
    site_in(tempfile::tempdir().unwrap()).await
}

async fn site_in(data: tempfile::TempDir) -> Site {
    let (accounts, clock, documents) = (accounts().await, Arc::<FakeClock>::default(), Arc::<MemoryDocuments>::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cell: archipel_contract::CellName = CELL.parse().unwrap();
    let members = Membership::open(cell.clone(), documents.clone(), accounts.clone(), clock.clone(), address.clone()).await.unwrap();
    let authority = Arc::<MemoryAuthority>::default();
    let mut config = ExchangeConfig::new(cell, accounts.clone(), authority, documents, clock.clone(), Epoch(1));
    config.members = Some(members.clone());
    config.journal = Some(Arc::<MemoryJournal>::default());
    config.version = "1.4.0".into();
    let exchange = Exchange::new(config);
    let tls = Some(Arc::new(Tls::of_cell(data.path(), members.clone(), &[CELL.into(), "127.0.0.1".into()]).unwrap()));
    let limits = Limits { resume_window: Duration::from_secs(2), ..Limits::default() };
    let server = Server::new(ServerConfig { cell: CELL.into(), accounts, tls, limits, features: Vec::new() }, exchange.clone()).unwrap();
    tokio::spawn(server.clone().serve_tcp(listener));
    let wire = Wire::to(&server);
    let (admin, _) = connect(&wire).await;
    Site { exchange, members, clock, address, data, admin }
}

/// A host with what joining gave it.
struct Host {
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new(joined: &join::Joined) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("identity.pem");
        Identity::new(&file).create(&joined.identity()).unwrap();
        Host { file, _folder: folder }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }
}

impl Site {
    async fn ask(&self, command: &str, arguments: Value) -> Result<Value, Fault> {
        self.admin.command(CELL, command, arguments, Some(OperationId::fresh()), PATIENCE).await
    }

    async fn token(&self, arguments: Value) -> Token {
        let answer = self.ask("cell.invite", arguments).await.unwrap();
        Token::parse(answer["token"].as_str().unwrap()).unwrap()
    }

    async fn join(&self, name: &str) -> Host {
        let token = self.token(json!({})).await;
        Host::new(&join::join(&self.address, &token, &name.parse().unwrap()).await.unwrap())
    }

    fn tcp(&self, host: &Host) -> Arc<Tcp> {
        let trust = Arc::new(Pinned::new(&self.members.fingerprint()).unwrap());
        Arc::new(Tcp::new(self.address.clone(), Some(trust)).with_identity(Arc::new(Identity::new(&host.file))))
    }

    fn link(&self, agent: &Arc<Agent>, host: &Host, change: impl FnOnce(&mut LinkConfig)) -> Running {
        let (connector, clock) = (self.tcp(host), self.clock.clone());
        link(agent, &Arc::<Wire>::default(), |config| {
            (config.connector, config.clock, config.password) = (connector, clock, String::new());
            config.version = "1.4.0".into();
            change(config);
        })
    }

    async fn member(&self, name: &str) -> Option<Value> {
        let all = self.ask("cell.members", json!({})).await.unwrap();
        all.as_array().unwrap().iter().find(|m| m["name"] == name).cloned()
    }

    fn hypervisor(&self, name: &str) -> Option<Arc<archipel_contract::Entity>> {
        self.exchange.look_up(&EntityId::Hypervisor(name.parse().unwrap()))
    }
}

fn last_error(link: &Running) -> Option<Fault> {
    link.watcher.health().last_error
}

#[tokio::test]
async fn a_host_joins_logs_in_by_its_certificate_is_revoked_and_joins_again() {
    let site = site().await;
    let host = site.join("gamma").await;
    let agent = Agent::new("gamma");
    let web1 = agent.machine(1, "web1", DomainState::Running);
    let link = site.link(&agent, &host, |_| {});
    link.well().await;
    assert_eq!(site.exchange.look_up(&web1).unwrap().state(), "running");
    let member = site.member("gamma").await.unwrap();
    assert_eq!((&member["state"], &member["login"], &member["version"]), (&json!("linked"), &json!("certificate"), &json!("1.4.0")));
    assert_eq!((&member["warnings"], member["expires"].is_string()), (&json!([]), true));
    assert_eq!(site.member("alpha").await.unwrap()["login"], "account");

    site.ask("cell.revoke", json!({"name": "gamma"})).await.unwrap();
    until("the link is cut and refused for good", || last_error(&link).is_some_and(|f| f.kind == FaultKind::Forbidden)).await;
    let fault = last_error(&link).unwrap().to_string();
    assert!(fault.contains("taken back"), "{fault}");
    until("its machine is unknown", || site.exchange.look_up(&web1).unwrap().state() == "unknown").await;
    assert_eq!(site.member("gamma").await, None);
    drop(link);

    let again = site.join("gamma").await;
    let link = site.link(&agent, &again, |_| {});
    link.well().await;
    until("it is known again", || site.exchange.look_up(&web1).unwrap().state() == "running").await;
}

#[tokio::test]
async fn an_invitation_asked_twice_is_one_and_is_not_written_down_with_its_token() {
    let site = site().await;
    let operation = Some(OperationId::fresh());
    let ask = async || site.admin.command(CELL, "cell.invite", json!({"lifetime": 5}), operation, PATIENCE).await;
    let (first, second) = (ask().await.unwrap(), ask().await.unwrap());
    assert_eq!(first, second);
    let line = format!("archipeld join {} {}", site.address, first["token"].as_str().unwrap());
    assert_eq!((first["command"].as_str(), &first["fingerprint"]), (Some(line.as_str()), &json!(site.members.fingerprint())));
    let other = site.admin.command(CELL, "cell.invite", json!({"lifetime": 6}), operation, PATIENCE).await;
    assert_eq!(other.unwrap_err().kind, FaultKind::Conflict);
    assert_eq!(site.ask("cell.invite", json!({"lifetime": 0})).await.unwrap_err().kind, FaultKind::InvalidRequest);
    assert_eq!(site.ask("cell.revoke", json!({"name": "nobody"})).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn a_host_gives_its_secret_to_no_exchange_but_that_of_its_token() {
    let (site, other) = (site().await, site().await);
    let token = site.token(json!({})).await;
    let gamma = "gamma".parse().unwrap();
    let fault = join::join(&other.address, &token, &gamma).await.err().unwrap();
    assert!(fault.kind == FaultKind::Forbidden && fault.message.contains("does not belong to the cell"), "{fault}");
    assert!(join::join(&site.address, &token, &gamma).await.is_ok(), "the token was not used up");
    let fault = join::join(&site.address, &token, &"delta".parse().unwrap()).await.err().unwrap();
    assert!(fault.message.contains("was used by gamma"), "{fault}");
    let unused = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    assert_eq!(join::join(&unused, &token, &gamma).await.err().unwrap().kind, FaultKind::Unavailable);
}

#[tokio::test]
async fn a_certificate_of_another_cell_does_not_log_in_and_is_told_why() {
    let (site, other) = (site().await, site().await);
    let foreign = other.join("gamma").await;
    let (connector, nobody) = (site.tcp(&foreign), "hv.gamma");
    let fault = Client::connect(Config::once(nobody, CELL, "", connector.clone())).await.err().unwrap();
    assert!(fault.kind == FaultKind::Forbidden && fault.to_string().contains("not made by this cell's authority"), "{fault}");
    // And a good one logs in as nobody else.
    let ours = site.join("gamma").await;
    let fault = Client::connect(Config::once("hv.alpha", CELL, "", site.tcp(&ours))).await.err().unwrap();
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault}");
    assert!(Client::connect(Config::once(nobody, CELL, "", site.tcp(&ours))).await.is_ok());
}

#[tokio::test]
async fn two_hosts_with_one_identity_are_both_told_and_the_first_one_stays() {
    let site = site().await;
    let host = site.join("gamma").await;
    let (first, second) = (Agent::new("gamma"), Agent::new("gamma"));
    let one = site.link(&first, &host, |_| {});
    one.well().await;
    let two = site.link(&second, &host, |_| {});
    until("the second is told", || last_error(&two).is_some_and(|f| f.to_string().contains("two hosts use one identity"))).await;
    until("the first is told", || one.watcher.health().warnings.iter().any(|w| w.contains("two hosts use one identity"))).await;
    let shown = site.hypervisor("gamma").unwrap();
    assert!(shown.why.as_deref().is_some_and(|why| why.contains("two hosts use one identity")), "{shown:?}");
    assert!(site.member("gamma").await.unwrap()["warnings"][0].as_str().unwrap().contains("two hosts"));
    assert!(one.watcher.health().is_well() && !two.watcher.health().is_well());
    assert_eq!((one.watcher.health().connections, two.watcher.health().connections), (1, 1), "nobody flaps");
    drop(two);
    // A new start of the one that is left is no conflict, and clears the warning.
    drop(one);
    let again = site.link(&first, &host, |_| {});
    again.well().await;
    until("all is well", || site.hypervisor("gamma").is_some_and(|h| h.why.is_none())).await;
    assert!(again.watcher.health().warnings.is_empty());
}

#[tokio::test]
async fn a_wrong_clock_and_another_version_are_let_in_and_named() {
    let site = site().await;
    let host = site.join("gamma").await;
    let agent = Agent::new("gamma");
    let late = Arc::new(FakeClock::at(site.clock.now().0 - Millis::seconds(3600).0));
    let link = site.link(&agent, &host, |config| {
        config.clock = late;
        config.version = "1.3.0".into();
    });
    link.well().await;
    let member = site.member("gamma").await.unwrap();
    assert_eq!((&member["clock_offset"], member["warnings"].as_array().unwrap().len()), (&json!(-3600), 2), "{member}");
    let shown = site.hypervisor("gamma").unwrap();
    let why = shown.why.as_deref().unwrap();
    assert!(why.contains("60 minutes behind") && why.contains("archipel 1.3.0"), "{why}");
    assert_eq!(link.watcher.health().warnings.len(), 2);
    drop(link);
    let future = site.link(&agent, &host, |config| config.version = "2.0.0".into());
    until("it is refused", || last_error(&future).is_some_and(|f| f.kind == FaultKind::Unsupported)).await;
    assert!(last_error(&future).unwrap().message.contains("upgrade the exchange"));
}

#[tokio::test]
async fn a_certificate_is_renewed_over_the_link_and_logs_in_from_then_on() {
    let site = site().await;
    let host = site.join("gamma").await;
    let before = host.text();
    site.clock.advance(Millis::seconds(61 * 24 * 3600));
    let agent = Agent::new("gamma");
    let link = site.link(&agent, &host, |_| {});
    link.well().await;
    until("the file holds another certificate", || host.text() != before).await;
    drop(link);
    // The first one is over by now.
    site.clock.advance(Millis::seconds(40 * 24 * 3600));
    let link = site.link(&agent, &host, |_| {});
    link.well().await;
}

#[tokio::test]
async fn a_host_that_leaves_takes_what_it_had_with_it() {
    let site = site().await;
    let host = site.join("gamma").await;
    let agent = Agent::new("gamma");
    let web1 = agent.machine(1, "web1", DomainState::Running);
    let link = site.link(&agent, &host, |_| {});
    link.well().await;
    drop(link);
    let (cell, gamma) = (CELL.parse().unwrap(), "gamma".parse().unwrap());
    join::leave(&cell, &gamma, site.tcp(&host)).await.unwrap();
    until("nothing of it is shown", || site.hypervisor("gamma").is_none() && site.exchange.look_up(&web1).is_none()).await;
    assert_eq!(site.member("gamma").await, None);
    let fault = join::leave(&cell, &gamma, site.tcp(&host)).await.unwrap_err();
    assert!(fault.kind == FaultKind::Forbidden && fault.to_string().contains("left the cell"), "{fault}");
    // The name is free, and counts from the beginning.
    let again = site.join("gamma").await;
    site.link(&agent, &again, |_| {}).well().await;
}

#[tokio::test]
async fn a_fingerprint_from_before_there_was_an_authority_is_still_shown_to_those_who_know_it() {
    let data = tempfile::tempdir().unwrap();
    let old = Tls::load_or_create(data.path(), CELL).unwrap().fingerprint().to_owned();
    let site = site_in(data).await;
    let by_password = |print: &str| {
        let trust = Arc::new(Pinned::new(print).unwrap());
        Client::connect(Config::once("hv.alpha", CELL, PASSWORD, Arc::new(Tcp::new(site.address.clone(), Some(trust)))))
    };
    assert!(by_password(&old).await.is_ok());
    let fault = by_password(&site.members.fingerprint()).await.err().unwrap();
    assert!(fault.kind == FaultKind::Forbidden && fault.message.contains("is not the one you trust"), "{fault}");
    let host = site.join("gamma").await;
    assert!(Client::connect(Config::once("hv.gamma", CELL, "", site.tcp(&host))).await.is_ok());
    // Without one from before everybody is shown the authority's, which stays when the certificate is made anew.
    let fresh = self::site().await;
    let files: Vec<_> = std::fs::read_dir(fresh.data.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert!(files.contains(&"exchange-key.pem".to_owned()) && !files.iter().any(|f| f.starts_with("xmpp-")), "{files:?}");
    let trust = Arc::new(Pinned::new(&fresh.members.fingerprint()).unwrap());
    let connector = Arc::new(Tcp::new(fresh.address.clone(), Some(trust)));
    assert!(Client::connect(Config::once("hv.alpha", CELL, PASSWORD, connector)).await.is_ok());
}
