//! The program as its user meets it: arguments, exit codes, words, signals.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bed;

use archipel_xmpp::client::{Client, Config, State, Tcp};
use bed::{Bed, Running, archipeld, feed};
use std::net::TcpListener;
use std::sync::Arc;

#[test]
fn a_wrong_command_line_exits_64_and_help_exits_0() {
    for wrong in [vec![], vec!["fly"], vec!["account", "add"], vec!["account", "add", "a", "--role", "king"], vec!["run", "--fast"]] {
        assert_eq!(archipeld(&wrong).code, 64, "{wrong:?}");
    }
    let help = archipeld(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.out.contains("Exit codes: 0 done; 64"), "{}", help.out);
    for version in [["--version"], ["version"]] {
        let said = archipeld(&version);
        assert_eq!((said.code, said.out.trim()), (0, concat!("archipeld ", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn all_mistakes_in_the_configuration_are_said_at_once_with_file_and_key() {
    let bed = Bed::new();
    bed.configure("cell = 'UPPER'\nspeed = 3\n[http]\nlisten = 'x'\n");
    for verb in ["check-config", "run"] {
        let said = bed.archipeld(&[verb]);
        assert_eq!(said.code, 78, "{}", said.err);
        for part in ["archipel.toml: cell: \"UPPER\"", "archipel.toml: speed: is unknown; known are", "archipel.toml: http.listen: \"x\""] {
            assert!(said.err.contains(part), "{part} is missing in {}", said.err);
        }
        assert_eq!(said.err.lines().count(), 3, "{}", said.err);
    }
}

#[test]
fn a_good_configuration_passes_and_changes_nothing() {
    let bed = Bed::new();
    let said = bed.archipeld(&["check-config"]);
    assert_eq!((said.code, said.out.as_str()), (0, "the configuration is good\n"), "{}", said.err);
    assert!(!bed.data_dir().exists());
    // The option may stand after the verb.
    let said = archipeld(&["check-config", "--config", &bed.config()]);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn an_occupied_port_ends_the_start_and_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["http", "xmpp"] {
        let bed = Bed::new();
        let said = bed.archipeld_with(&["run"], &[(&format!("ARCHIPEL__{}__LISTEN", key.to_uppercase()), &address)]);
        assert_eq!(said.code, 69, "{}", said.err);
        assert!(said.err.contains(&address) && said.err.contains(&format!("{key}.listen")), "{}", said.err);
    }
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_start_and_is_named() {
    let bed = Bed::new();
    let said = bed.archipeld_with(&["run"], &[("ARCHIPEL__DATA_DIR", "/proc/archipel")]);
    assert_eq!(said.code, 69, "{}", said.err);
    assert!(said.err.contains("/proc/archipel") && said.err.contains("data_dir"), "{}", said.err);
    let below_a_file = format!("{}/data", bed.config());
    let said = bed.archipeld_with(&["run"], &[("ARCHIPEL__DATA_DIR", &below_a_file)]);
    assert_eq!(said.code, 78, "{}", said.err);
    assert!(said.err.contains("is not a folder"), "{}", said.err);
}

#[test]
fn it_says_where_it_listens_serves_and_ends_well_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let bed = Bed::new();
        let mut daemon = bed.run();
        let (code, page) = daemon.get("/");
        assert!(code == 200 && page.to_lowercase().contains("<!doctype html>"), "{code} {page}");
        let health = daemon.health_until("healthy", |health| health["healthy"] == true);
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(health["roles"], serde_json::json!(["agent", "exchange"]));
        assert_eq!(health["hypervisors"][0]["name"], "alpha");
        let (code, metrics) = daemon.get("/metrics");
        assert_eq!(code, 200);
        for name in ["process_resident_memory_bytes", "archipel_libvirt_calls_total"] {
            assert!(metrics.lines().any(|l| l.starts_with(name)), "{name} is missing in {metrics}");
        }
        daemon.signal(signal);
        assert_eq!(daemon.end(), Some(0), "{}", daemon.log());
    }
}

#[test]
fn without_libvirt_it_runs_and_says_why_it_waits() {
    let bed = Bed::new();
    let missing = bed.path("no-such-socket");
    bed.configure_hypervisor(&format!("qemu+unix:///system?socket={missing}"));
    let daemon = bed.run();
    let health = daemon.health_until("a reason", |health| health["reasons"].as_array().is_some_and(|r| !r.is_empty()));
    assert_eq!(daemon.get("/health").0, 503);
    assert_eq!(health["healthy"], false);
    assert_eq!(health["hypervisors"][0]["state"], "connecting");
    assert!(health["reasons"].to_string().contains("alpha"), "{health}");
}

#[test]
fn a_second_daemon_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let bed = Bed::new();
    let daemon = bed.run();
    let said = bed.archipeld(&["run"]);
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("in use by another archipeld") && said.err.contains(&daemon.pid().to_string()), "{}", said.err);
    assert_eq!(daemon.get("/").0, 200);
}

#[test]
fn a_killed_daemon_starts_again_on_the_same_folder() {
    let bed = Bed::new();
    let mut daemon = bed.run();
    daemon.signal("KILL");
    assert_eq!(daemon.end(), None);
    let again = bed.run();
    again.health_until("healthy", |health| health["healthy"] == true);
}

fn login(daemon: &Running, user: &str, password: &str) -> Result<(), archipel_contract::Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::once(user, "vm.test", password, Arc::new(Tcp::new(daemon.xmpp(), None)));
        let (client, _incoming) = Client::connect(config).await?;
        client.close().await;
        Ok(())
    })
}

#[test]
fn accounts_change_while_the_daemon_runs_and_count_from_the_next_login() {
    let bed = Bed::new();
    let daemon = bed.run();
    assert!(login(&daemon, "zoe", "first").is_err());
    let said = feed(bed.command(&["account", "add", "zoe@vm.test", "--role", "viewer", "--password-stdin"]), "first\n");
    assert_eq!(said.code, 0, "{}", said.err);
    login(&daemon, "zoe", "first").unwrap();
    assert_eq!(feed(bed.command(&["account", "add", "zoe", "--password-stdin"]), "x\n").code, 73);
    let said = feed(bed.command(&["account", "passwd", "zoe", "--password-stdin"]), "second");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(login(&daemon, "zoe", "first").is_err());
    login(&daemon, "zoe", "second").unwrap();
    let listed = bed.archipeld(&["account", "list"]).out;
    assert!(listed.lines().any(|l| l.split_whitespace().eq(["zoe@vm.test", "viewer"])), "{listed}");
    assert!(listed.lines().any(|l| l.split_whitespace().eq(["hv.alpha@vm.test", "node"])), "{listed}");
    assert_eq!(bed.archipeld(&["account", "remove", "zoe"]).code, 0);
    assert!(login(&daemon, "zoe", "second").is_err());
    assert_eq!(bed.archipeld(&["account", "remove", "zoe"]).code, 66);
}

#[test]
fn whoever_is_logged_in_is_logged_out_when_the_account_changes_and_others_are_not() {
    let bed = Bed::new();
    let daemon = bed.run();
    for name in ["zoe", "ann"] {
        assert_eq!(feed(bed.command(&["account", "add", name, "--password-stdin"]), "first").code, 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = |user: &str, password: &str| Config::once(user, "vm.test", password, Arc::new(Tcp::new(daemon.xmpp(), None)));
        let (ann, _ann_hears) = Client::connect(config("ann", "first")).await.unwrap();
        for (password, args) in
            [("first", ["account", "passwd", "zoe", "--password-stdin"].as_slice()), ("second", &["account", "remove", "zoe"])]
        {
            let (zoe, _zoe_hears) = Client::connect(config("zoe", password)).await.unwrap();
            assert_eq!(feed(bed.command(args), "second").code, 0);
            let mut state = zoe.state();
            let gone = tokio::time::timeout(bed::PATIENCE, state.wait_for(|s| matches!(s, State::Offline(Some(_))))).await;
            assert!(matches!(gone, Ok(Ok(_))), "zoe is still logged in after {args:?}");
        }
        // Asked after zoe was logged out, so it is not merely early.
        assert!(ann.command("vm.test", "hypervisor.list", serde_json::json!({}), None, bed::PATIENCE).await.is_ok());
    });
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let bed = Bed::new();
    let socket = std::os::unix::net::UnixDatagram::bind(bed.path("notify")).unwrap();
    socket.set_read_timeout(Some(bed::PATIENCE)).unwrap();
    let told = || {
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut daemon = bed.run_with(&[("NOTIFY_SOCKET", &bed.path("notify"))]);
    assert_eq!(told(), "READY=1");
    daemon.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(daemon.end(), Some(0), "{}", daemon.log());
}

#[test]
fn accounts_can_be_made_before_the_first_start_and_a_made_up_password_works() {
    let bed = Bed::new();
    let said = bed.archipeld(&["account", "add", "admin", "--role", "admin"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let password = said.out.lines().find_map(|l| l.strip_prefix("password: ")).unwrap().to_owned();
    let daemon = bed.run();
    login(&daemon, "admin", &password).unwrap();
}

#[test]
fn names_that_belong_to_entities_or_other_cells_are_refused() {
    let bed = Bed::new();
    for wrong in ["hv.alpha", "4dea22b3-1d52-4d8f-9f3b-0a8c1c0e6a11", "zoe@elsewhere.test", "a b"] {
        assert_eq!(bed.archipeld(&["account", "add", wrong]).code, 64, "{wrong}");
    }
    assert_eq!(bed.archipeld(&["account", "add", "zoe", "--role", "node"]).code, 64);
    assert_eq!(bed.archipeld(&["account", "add", "hv.beta", "--role", "node"]).code, 0);
}

#[test]
fn an_agent_on_its_own_joins_the_exchange_by_its_certificate() {
    let exchange_bed = Bed::new();
    exchange_bed.configure(&exchange_bed.basics("roles = ['exchange']\n"));
    assert_eq!(feed(exchange_bed.command(&["account", "add", "hv.beta", "--role", "node", "--password-stdin"]), "between us\n").code, 0);
    let exchange = exchange_bed.run();
    let certificate =
        exchange.health_until("healthy", |health| health["healthy"] == true)["exchange"]["certificate"].as_str().unwrap().to_owned();

    let agent_bed = Bed::new();
    agent_bed.secret("password", "between us\n");
    let configure = |fingerprint: &str| {
        let (server, file) = (exchange.xmpp(), agent_bed.path("password"));
        let section = format!("[exchange]\nserver = '{server}'\npassword_file = '{file}'\nfingerprint = '{fingerprint}'\n");
        agent_bed
            .configure(&(agent_bed.basics("roles = ['agent']\n") + "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n" + &section));
    };
    configure(&"AB:".repeat(32)[..95]);
    let agent = agent_bed.run();
    let refused = agent.health_until("a refused certificate", |health| health["hypervisors"][0]["link"]["last_error"].is_object());
    assert!(refused["reasons"].to_string().contains("which is not the one you trust"), "{refused}");
    drop(agent);

    configure(&certificate);
    let mut agent = agent_bed.run();
    agent.health_until("linked", |health| health["healthy"] == true);
    exchange
        .health_until("one host with its machine", |health| health["exchange"]["hosts_linked"] == 1 && health["exchange"]["entities"] == 4);
    agent.signal("TERM");
    assert_eq!(agent.end(), Some(0), "{}", agent.log());
    exchange.health_until("the host gone", |health| health["exchange"]["hosts_linked"] == 0);
}

/// libvirt's test driver has the same machine, running, in every process: that is what a copied disk and definition look like.
#[test]
fn a_machine_that_runs_on_two_hosts_is_an_alarm_until_a_person_ends_one() {
    let first = Bed::new();
    assert_eq!(feed(first.command(&["account", "add", "hv.beta", "--role", "node", "--password-stdin"]), "between us\n").code, 0);
    assert_eq!(feed(first.command(&["account", "add", "admin", "--role", "admin", "--password-stdin"]), "secret\n").code, 0);
    let exchange = first.run();
    let health = exchange.health_until("healthy", |health| health["healthy"] == true && health["exchange"]["entities"] == 4);
    let second = Bed::new();
    second.secret("password", "between us\n");
    let (server, file, seen) = (exchange.xmpp(), second.path("password"), health["exchange"]["certificate"].as_str().unwrap());
    let section = format!("[exchange]\nserver = '{server}'\npassword_file = '{file}'\nfingerprint = '{seen}'\n");
    second.configure(&(second.basics("roles = ['agent']\n") + "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n" + &section));
    let agent = second.run();
    agent.health_until("linked", |health| health["healthy"] == true);
    let health = exchange.health_until("the alarm", |health| health["exchange"]["duplicates"][0].is_string());
    assert!(health["reasons"].to_string().contains("runs on several hosts: alpha, beta"), "{health}");
    assert_eq!(exchange.get("/health").0, 503);
    let (_, metrics) = exchange.get("/metrics");
    for row in ["archipel_duplicates 1", "archipel_domain_running_copies_max 2"] {
        assert!(metrics.lines().any(|l| l == row), "{row} is missing in {metrics}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::once("admin", "vm.test", "secret", Arc::new(Tcp::new(exchange.xmpp(), None)));
        let (client, _incoming) = Client::connect(config).await.unwrap();
        let ask = async |to: &str, command: &str| client.command(to, command, serde_json::json!({}), None, bed::PATIENCE).await.unwrap();
        let machine = ask("vm.test", "domain.list").await[0].clone();
        assert_eq!((&machine["host"], &machine["state"], &machine["condition"]), (&"alpha".into(), &"running".into(), &"degraded".into()));
        assert!(machine["why"].as_str().unwrap().starts_with("runs on alpha and on beta: "), "{machine}");
        let beta = ask("hv.beta@vm.test", "hypervisor.info").await;
        assert_eq!((&beta["strangers"][0]["id"], &beta["strangers"][0]["state"]), (&machine["id"], &"running".into()));
        // A person decides which one.
        ask(machine["jid"].as_str().unwrap(), "domain.force-off").await;
        client.close().await;
    });
    exchange.health_until("the end of the alarm", |health| {
        health["healthy"] == true && health["exchange"]["duplicates"] == serde_json::json!([])
    });
}

/// The exchange is away, the machine gets another owner meanwhile, and whoever had it learns so when the exchange is back.
#[test]
fn an_agent_that_was_overtaken_while_it_was_away_shows_its_copy_as_a_stranger() {
    use archipel_contract::{MoveId, OwnershipStep, port::Authority};
    let first = Bed::new();
    first.configure(&first.basics("roles = ['exchange']\n"));
    assert_eq!(feed(first.command(&["account", "add", "hv.beta", "--role", "node", "--password-stdin"]), "between us\n").code, 0);
    let mut exchange = first.run();
    let health = exchange.health_until("healthy", |health| health["healthy"] == true);
    let (server, seen) = (exchange.xmpp(), health["exchange"]["certificate"].as_str().unwrap().to_owned());
    let second = Bed::new();
    second.secret("password", "between us\n");
    let section = format!("[exchange]\nserver = '{server}'\npassword_file = '{}'\nfingerprint = '{seen}'\n", second.path("password"));
    second.configure(&(second.basics("roles = ['agent']\n") + "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n" + &section));
    let agent = second.run();
    exchange.health_until("the machine", |health| health["exchange"]["entities"] == 4);
    exchange.signal("TERM");
    assert_eq!(exchange.end(), Some(0), "{}", exchange.log());
    agent.health_until("the exchange is away", |health| health["healthy"] == false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = archipel_store::Store::open_beside(&first.data_dir()).unwrap();
        let (beta, gamma): (archipel_contract::HypervisorName, archipel_contract::HypervisorName) =
            ("beta".parse().unwrap(), "gamma".parse().unwrap());
        let id = "6695eb01-f6a4-8304-79aa-97f2502e193f".parse().unwrap();
        let held = store.ownership(id).await.unwrap().unwrap();
        assert_eq!(held.owner, beta, "it was claimed through the link");
        let saga: MoveId = "0c7a8f0e-6f0b-4d8e-8a44-2f1f6d3f0c11".parse().unwrap();
        store.step(id, held.epoch, OwnershipStep::Depart { by: beta, saga, to: gamma.clone() }).await.unwrap();
        store.step(id, held.epoch, OwnershipStep::Claim { by: gamma, saga }).await.unwrap();
    });
    let exchange = first.run_with(&[("ARCHIPEL__XMPP__LISTEN", &server)]);
    let entities = |health: &serde_json::Value| health["exchange"]["entities"] == 3 && health["exchange"]["hosts_linked"] == 1;
    exchange.health_until("the machine is not beta's any more", entities);
    agent.health_until("well again", |health| health["healthy"] == true && health["hypervisors"][0]["entities"] == 3);
    assert!(agent.log().contains("it changed hands while this host was away"), "{}", agent.log());
}

/// Asks the cell something as its administrator.
fn asked(exchange: &Running, command: &str, arguments: serde_json::Value) -> Result<serde_json::Value, archipel_contract::Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = Arc::new(Tcp::new(exchange.xmpp(), None));
        let (client, _) = Client::connect(Config::once("admin", "vm.test", "secret words", connector)).await?;
        let operation = Some(archipel_contract::OperationId::fresh());
        client.command("vm.test", command, arguments, operation, archipel_xmpp::client::DEADLINE).await
    })
}

#[test]
fn a_host_joins_with_a_token_serves_and_leaves_again() {
    let exchange_bed = Bed::new();
    exchange_bed.configure(&exchange_bed.basics("roles = ['exchange']\n"));
    assert_eq!(feed(exchange_bed.command(&["account", "add", "admin", "--role", "admin", "--password-stdin"]), "secret words\n").code, 0);
    let exchange = exchange_bed.run();
    let invitation = asked(&exchange, "cell.invite", serde_json::json!({"name": "beta"})).unwrap();
    let line = invitation["command"].as_str().unwrap().to_owned();
    let join: Vec<&str> = line.split(' ').skip(1).collect();
    assert_eq!((join[0], join[1], join[3..].join(" ")), ("join", exchange.xmpp().as_str(), "--name beta".to_owned()));

    let host = Bed::new();
    host.configure_hypervisor("test:///default");
    let said = host.archipeld(&join);
    assert!(said.code == 64 && said.err.contains("names this hypervisor alpha"), "{}", said.err);
    assert!(!host.data_dir().exists(), "nothing is left behind");
    host.configure(&(host.basics("") + "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n"));
    let said = host.archipeld(&join);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("beta joined the cell vm.test"), "{}", said.out);
    let said = host.archipeld(&join);
    assert!(said.code == 73 && said.err.contains("leave that first"), "{}", said.err);
    let late = Bed::new();
    late.configure(&(late.basics("") + "[[hypervisor]]\nname = 'beta'\nuri = 'test:///default'\n"));
    let said = late.archipeld(&join);
    assert!(said.code == 77 && said.err.contains("was used by beta"), "{}", said.err);
    assert!(!late.data_dir().exists(), "nothing is left behind");

    let mut agent = host.run();
    let health = agent.health_until("linked", |health| health["healthy"] == true);
    assert_eq!(health["roles"], serde_json::json!(["agent"]), "what it joined counts over its configuration");
    exchange.health_until("its machine", |health| health["exchange"]["hosts_linked"] == 1 && health["exchange"]["entities"] == 4);
    assert_eq!(asked(&exchange, "cell.members", serde_json::json!({})).unwrap()[0]["state"], "linked");
    let said = host.archipeld(&["leave"]);
    assert!(said.code == 75 && said.err.contains("stop it first"), "{}", said.err);
    agent.signal("TERM");
    assert_eq!(agent.end(), Some(0), "{}", agent.log());
    let said = host.archipeld(&["leave"]);
    assert_eq!(said.code, 0, "{}", said.err);
    exchange.health_until("nothing of it", |health| health["exchange"]["entities"] == 0);
    assert_eq!(asked(&exchange, "cell.members", serde_json::json!({})).unwrap(), serde_json::json!([]));
    let said = host.archipeld(&["leave"]);
    assert!(said.code == 65 && said.err.contains("joined no cell"), "{}", said.err);
}
