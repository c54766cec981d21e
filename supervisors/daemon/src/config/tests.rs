use super::*;

fn with(text: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, text).unwrap();
    load_words(&[file], environment)
}

fn load_words(files: &[PathBuf], environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    load(files, environment).map_err(|mistakes| {
        let name = |m: &Mistake| m.place.rsplit('/').next().unwrap_or_default().to_owned();
        mistakes.into_iter().map(|m| Mistake { place: name(&m), ..m }.to_string()).collect()
    })
}

#[test]
fn an_empty_file_is_a_whole_configuration() {
    let settings = with("", &[]).unwrap();
    assert_eq!(settings.cell.as_str(), "vm.localhost");
    assert_eq!(settings.data_dir, Path::new("/var/lib/archipel"));
    assert_eq!(settings.roles, Roles { agent: true, exchange: true });
    assert_eq!((settings.xmpp_listen.as_str(), settings.http_listen.as_str()), ("127.0.0.1:5222", "127.0.0.1:8080"));
    assert!(settings.hypervisors.is_empty() && settings.remote.is_none());
    assert_eq!(settings.migration, Limits { out: 2, come: 2 });
    assert_eq!(settings.usage, Usage { history: true, metrics: false });
}

#[test]
fn the_environment_overrides_files_and_later_files_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
    std::fs::write(&a, "cell = 'a.test'\n[xmpp]\nlisten = '127.0.0.1:1'\nresume_seconds = 5\n[[hypervisor]]\nname='x'\nuri='test:///x'")
        .unwrap();
    std::fs::write(&b, "[xmpp]\nlisten = '127.0.0.1:2'\n[[hypervisor]]\nname='y'\nuri='test:///y'\n").unwrap();
    let environment =
        [("ARCHIPEL__HTTP__LISTEN", "[::1]:3"), ("ARCHIPEL__XMPP__RESUME_SECONDS", "7"), ("ARCHIPEL__ROLES", "exchange,agent")];
    let settings = load_words(&[a, b], &environment).unwrap();
    assert_eq!(settings.cell.as_str(), "a.test");
    assert_eq!((settings.xmpp_listen.as_str(), settings.http_listen.as_str()), ("127.0.0.1:2", "[::1]:3"));
    assert_eq!(settings.resume, Duration::from_secs(7));
    let names: Vec<_> = settings.hypervisors.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["y"], "a later list replaces an earlier one");
}

#[test]
fn all_mistakes_of_all_places_are_reported_together() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
    let text = "cel = 'x'\ncell = 'Not A Cell'\nroles = ['agent', 'king']\n[xmpp]\nlisten = 'nonsense'\nport = 3\n[[hypervisor]]\nname = 'UPPER'\nuri = 'qemu'\npeer_uri = 'h2'\n[http]\nlisten = 5\n";
    std::fs::write(&a, text).unwrap();
    std::fs::write(&b, "[log]\nformat = 'loud'\n").unwrap();
    let missing = dir.path().join("c.toml");
    let found = load_words(&[a, b, missing], &[("ARCHIPEL__LOG__COLOR", "red"), ("ARCHIPEL__XMPP__RESUME_SECONDS", "long")]).unwrap_err();
    let all = found.join("\n");
    for expected in [
        "a.toml: cel: is unknown; known are cell,",
        "a.toml: cell: \"Not A Cell\" is not a cell name",
        "a.toml: roles: \"king\" is neither agent nor exchange",
        "a.toml: xmpp.listen: \"nonsense\" is not host:port",
        "a.toml: xmpp.port: is unknown; known are listen, resume_seconds",
        "a.toml: hypervisor[1].name: \"UPPER\" is not a hypervisor name",
        "a.toml: hypervisor[1].uri: \"qemu\" is not a libvirt address",
        "a.toml: hypervisor[1].peer_uri: \"h2\" is not a libvirt address",
        "a.toml: http.listen: must be a text in quotes, not a number",
        "b.toml: log.format: \"loud\" is neither text nor json",
        "c.toml: cannot be read",
        "environment ARCHIPEL__LOG__COLOR: log.color: is unknown",
        "environment ARCHIPEL__XMPP__RESUME_SECONDS: xmpp.resume_seconds: must be a whole number",
    ] {
        assert!(all.contains(expected), "missing {expected:?} in:\n{all}");
    }
    // The role that was named wrongly leaves no exchange, which is one more.
    assert_eq!(found.len(), 14, "{all}");
}

#[test]
fn a_file_that_is_not_toml_is_named_and_the_others_are_still_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
    std::fs::write(&a, "cell = [").unwrap();
    std::fs::write(&b, "cells = 'x'").unwrap();
    let found = load_words(&[a, b], &[]).unwrap_err();
    assert!(found.len() == 2 && found[0].starts_with("a.toml: is not TOML") && found[1].starts_with("b.toml: cells"), "{found:?}");
}

#[test]
fn an_agent_alone_needs_to_know_its_exchange_and_a_safe_password_file() {
    use std::os::unix::fs::PermissionsExt;
    let agent = "roles = ['agent']\n";
    let found = with(agent, &[]).unwrap_err().join("\n");
    assert!(found.contains("exchange: is missing"), "{found}");
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "x\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!("{agent}[exchange]\nserver = '127.0.0.1:5222'\npassword_file = '{}'\n", secret.display());
    assert!(with(&text, &[]).unwrap_err().join("\n").contains("chmod 600"));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let remote = with(&text, &[]).unwrap().remote.unwrap();
    assert_eq!((remote.servers, remote.fingerprints), (vec!["127.0.0.1:5222".to_owned()], vec![]));
    let several = text.replace("'127.0.0.1:5222'", "['a.test:5222', 'b.test:5222']");
    let prints = [format!("{}AA", "00:".repeat(31)), "bb".repeat(32)];
    let remote = with(&format!("{several}fingerprint = ['{}', '{}']\n", prints[0], prints[1]), &[]).unwrap().remote.unwrap();
    assert_eq!((remote.servers.len(), remote.fingerprints[0].ends_with("00aa"), &remote.fingerprints[1]), (2, true, &prints[1]));
    let found = with(&several.replace("b.test:5222", "nonsense"), &[]).unwrap_err().join("\n");
    assert!(found.contains("\"nonsense\" is not host:port"), "{found}");
    let found = with(&text.replace("['agent']", "['agent', 'exchange']"), &[]).unwrap_err().join("\n");
    assert!(found.contains("is for a process that is no exchange itself"), "{found}");
    let found = with(&format!("{text}fingerprint = 'abc'\n"), &[]).unwrap_err().join("\n");
    assert!(found.contains("64 hex digits"), "{found}");
    let found = with(&text.replace("127.0.0.1", "ex.test"), &[]).unwrap_err();
    assert!(found.len() == 1 && found[0].contains("exchange.fingerprint: is missing"), "{found:?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let twice = "[[hypervisor]]\nname='a'\nuri='test:///default'\n[[hypervisor]]\nname='a'\nuri='test:///default'\n";
    let found = with(twice, &[]).unwrap_err();
    assert!(found.len() == 2 && found[0].contains("two"), "{found:?}");
    let found = with("[http]\nlisten='127.0.0.1:5222'\n", &[]).unwrap_err();
    assert!(found[0].contains("two ports"), "{found:?}");
    let found = with("data_dir='here'\n[http]\nallowed_origins=['*']\n", &[]).unwrap_err();
    assert!(found.len() == 2 && found.iter().any(|f| f.contains("must begin with /")), "{found:?}");
    assert!(with("[component]\nserver='a:1'\n", &[]).unwrap_err()[0].contains("remove the section"));
    assert!(with("hypervisor = 'x'\n", &[]).unwrap_err()[0].contains("[[hypervisor]]"));
}

#[test]
fn a_cluster_is_exchanges_with_an_etcd_and_everything_wrong_with_it_is_said() {
    let settings =
        with("[cluster]\netcd = ['http://a:2379', 'https://b:2379/']\nlease_seconds = 5\nadvertise = 'a.test:5222'\n", &[]).unwrap();
    let cluster = settings.cluster.unwrap();
    assert_eq!((cluster.etcd.endpoints.len(), cluster.lease.0, settings.reign), (2, 5000, 1));
    assert_eq!((cluster.advertise.as_deref(), cluster.etcd.prefix.as_str()), (Some("a.test:5222"), "/archipel/vm.localhost/"));
    assert!(cluster.carry_over, "what is on the disk is brought along unless it is said otherwise");
    let never = with("[cluster]\netcd = ['http://a:2379']\ncarry_over = 'never'\n", &[]).unwrap();
    assert!(!never.cluster.unwrap().carry_over);
    let alone = with("", &[]).unwrap();
    assert_eq!((alone.cluster, alone.reign), (None, 0));
    assert_eq!(with("[cluster]\nreign = 4\n", &[]).unwrap().reign, 4, "back from a cluster to one exchange");
    let text = "[xmpp]\nlisten = '0.0.0.0:5222'\n[cluster]\netcd = ['a:2379']\nlease_seconds = 1\nreign = 0\npages = ['b']\nuser = 'x'\ncert_file = '/no/such'\n\
                carry_over = 'twice'\n";
    let found = with(text, &[]).unwrap_err().join("\n");
    for part in [
        "cluster.etcd: \"a:2379\" is not the address of a member",
        "cluster.lease_seconds: must be a whole number from 2",
        "cluster.reign: must be a whole number from 1",
        "cluster.pages: \"b\" is not an origin",
        "cluster.carry_over: \"twice\" is neither once",
        "cluster.user: user and password_file go together",
        "cluster.cert_file: /no/such is not a file",
        "cluster.key_file: cert_file and key_file go together",
        "cluster.advertise: is missing; xmpp.listen is 0.0.0.0:5222",
    ] {
        assert!(found.contains(part), "{part} is missing in\n{found}");
    }
    let found = with("roles = ['agent']\n[cluster]\netcd = ['http://a:2379']\n", &[]).unwrap_err().join("\n");
    assert!(found.contains("only an exchange uses etcd"), "{found}");
}

#[test]
fn what_is_measured_while_nobody_looks_is_said() {
    let settings = with("[usage]\nhistory = false\n", &[("ARCHIPEL__USAGE__METRICS", "true")]).unwrap();
    assert_eq!(settings.usage, Usage { history: false, metrics: true });
    let found = with("[usage]\nhistory = \"often\"\nhistoric = true\n", &[]).unwrap_err();
    assert!(found.iter().any(|f| f.contains("usage.history: must be true or false")), "{found:?}");
}

#[test]
fn how_many_machines_travel_at_once_is_for_each_direction() {
    let settings = with("[migration]\nat_once_out = 4\n", &[("ARCHIPEL__MIGRATION__AT_ONCE_IN", "1")]).unwrap();
    assert_eq!(settings.migration, Limits { out: 4, come: 1 });
    let found = with("[migration]\nat_once_out = 0\nat_once_in = 33\nat_once = 3\n", &[]).unwrap_err();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().any(|f| f.contains("migration.at_once_out: must be a whole number from 1 to 32")), "{found:?}");
}

#[test]
fn only_directories_that_are_written_out_are_shared() {
    let one = |list: &str| with(&format!("[[hypervisor]]\nname = 'a'\nuri = 'test:///default'\nshared_directories = {list}\n"), &[]);
    assert_eq!(
        one("['/srv/share', '/srv/more/']").unwrap().hypervisors[0].shared_directories,
        [Path::new("/srv/share"), Path::new("/srv/more")]
    );
    let mistakes = one("['/srv/share', '/', 'srv', '/srv/../etc']").unwrap_err();
    assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    assert!(mistakes[0].contains("hypervisor[1].shared_directories"), "{mistakes:?}");
}

#[test]
fn only_real_addresses_are_devices_that_machines_may_be_given() {
    let one = |list: &str| with(&format!("[[hypervisor]]\nname = 'a'\nuri = 'test:///default'\nhost_devices = {list}\n"), &[]);
    assert!(with("[[hypervisor]]\nname = 'a'\nuri = 'test:///default'\n", &[]).unwrap().hypervisors[0].host_devices.is_empty());
    assert_eq!(one("['0000:03:00.0', '046d:c52b']").unwrap().hypervisors[0].host_devices, ["0000:03:00.0", "046d:c52b"]);
    let mistakes = one("['0000:03:00.0', '/dev/sda', 'all']").unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with("a.toml: hypervisor[1].host_devices: \"/dev/sda\" is not the address"), "{mistakes:?}");
}
