//! What people may write, and what becomes of it.

use super::*;
use serde_json::json;

fn read(line: &str) -> Result<Args, clap::Error> {
    parse(Catalog::shipped(), line.split_whitespace().map(Into::into))
}

fn call(line: &str) -> Call {
    match read(line).unwrap_or_else(|e| panic!("{line}: {e}")).invocation {
        Invocation::Call(call) => *call,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn lines_mean_what_they_say() {
    for (line, name, target, host, arguments) in [
        ("archipel domain list", "domain.list", None, None, json!({})),
        ("archipel vm list --host alpha --state running", "domain.list", None, None, json!({"host": "alpha", "state": "running"})),
        ("archipel domain start web1", "domain.start", Some("web1"), None, json!({})),
        ("archipel domain start --paused web1", "domain.start", Some("web1"), None, json!({"paused": true})),
        ("archipel domain start web1 --paused=false", "domain.start", Some("web1"), None, json!({"paused": false})),
        (
            "archipel vm autostart web1 --enabled false --host beta",
            "domain.autostart",
            Some("web1"),
            Some("beta"),
            json!({"enabled": false}),
        ),
        ("archipel vm shutdown web1 --timeout 5 --wait", "domain.shutdown", Some("web1"), None, json!({"timeout": 5})),
        (
            "archipel domain define web1 --memory 256MiB --vcpus 2 --host alpha",
            "domain.define",
            None,
            Some("alpha"),
            json!({"name": "web1", "memory": 268_435_456_u64, "vcpus": 2}),
        ),
        ("archipel domain define --name web1", "domain.define", None, None, json!({"name": "web1"})),
        ("archipel domain create web1 --image a.qcow2", "domain.create", None, None, json!({"name": "web1", "image": "a.qcow2"})),
        ("archipel domain create --name web1 --linked", "domain.create", None, None, json!({"name": "web1", "linked": true})),
        ("archipel domain create --iso a.iso --host alpha", "domain.create", None, Some("alpha"), json!({"iso": "a.iso"})),
        ("archipel vm rename web1 web2", "domain.rename", Some("web1"), None, json!({"to": "web2"})),
        ("archipel vm rename web1 --to web2", "domain.rename", Some("web1"), None, json!({"to": "web2"})),
        ("archipel hv info alpha", "hypervisor.info", Some("alpha"), None, json!({})),
        ("archipel pool refresh default", "storage-pool.refresh", Some("default"), None, json!({})),
        ("archipel volume list default", "volume.list", Some("default"), None, json!({})),
        ("archipel volume info default a.qcow2 --host beta", "volume.info", Some("default"), Some("beta"), json!({"volume": "a.qcow2"})),
        ("archipel volume upload default a.img --file a.img", "volume.upload", Some("default"), None, json!({"volume": "a.img"})),
        (
            "archipel volume upload default a.img --file a.img --resume",
            "volume.upload",
            Some("default"),
            None,
            json!({"volume": "a.img", "resume": true}),
        ),
        ("archipel volume download default a.img --file - --resume", "volume.download", Some("default"), None, json!({"volume": "a.img"})),
        ("archipel task wait 1 --timeout 3", "task.wait", Some("1"), None, json!({"timeout": 3})),
    ] {
        let call = call(line);
        assert_eq!(call.entry.name, name, "{line}");
        assert_eq!(call.target.as_deref(), target, "{line}");
        assert_eq!(call.host.as_deref(), host, "{line}");
        assert_eq!(Value::Object(call.arguments), arguments, "{line}");
    }
}

#[test]
fn flags_are_found_wherever_they_stand() {
    for line in ["archipel --json domain list", "archipel domain --json list", "archipel domain list --json", "archipel events --json"] {
        assert!(read(line).unwrap_or_else(|e| panic!("{line}: {e}")).json, "{line}");
    }
    assert!(!read("archipel domain list").expect("it parses").json);
    assert!(call("archipel vm force-off web1 --yes").yes);
    assert!(call("archipel vm force-off web1 -y").yes);
    assert!(call("archipel vm shutdown web1 --wait").wait);
}

#[test]
fn mistakes_are_usage_errors() {
    for line in [
        "archipel",
        "archipel domain",
        "archipel domain dance web1",
        "archipel domain start",
        "archipel domain start web1 web2",
        "archipel domain start web1 --yes",
        "archipel domain start web1 --wait",
        "archipel domain start web1 --file a",
        "archipel volume upload default a.img",
        "archipel volume download default a.img --resume",
        "archipel domain define",
        "archipel domain define web1 --memory much",
        "archipel domain define web1 --vcpus 0",
        "archipel domain define web1 --graphics crt",
        "archipel vm autostart web1 --enabled perhaps",
        "archipel completion csh",
        "archipel chat",
    ] {
        assert!(read(line).is_err(), "{line} was accepted");
    }
}

#[test]
fn every_command_of_the_catalog_has_its_verb_and_help() {
    let mut grammar = grammar(Catalog::shipped());
    grammar.build();
    for entry in Catalog::shipped().commands.iter().filter(|c| is_for_people(c)) {
        let noun = grammar.find_subcommand_mut(&entry.noun).unwrap_or_else(|| panic!("{} has no noun", entry.name));
        assert!(!noun.get_about().map(ToString::to_string).unwrap_or_default().is_empty(), "{} has no text", entry.noun);
        let verb = noun.find_subcommand_mut(&entry.verb).unwrap_or_else(|| panic!("{} has no verb", entry.name));
        let help = verb.render_long_help().to_string();
        assert!(help.contains(&entry.title), "{help}");
        for argument in &entry.arguments {
            let (name, flag) = (&argument.name, argument.name.replace('_', "-"));
            assert!(help.contains(&flag) || help.contains(&name.to_uppercase()), "{name}: {help}");
        }
    }
    let hidden = Catalog::shipped().find("hypervisor.reserve").unwrap();
    assert!(!is_for_people(hidden));
    assert!(grammar.find_subcommand(&hidden.noun).unwrap().find_subcommand(&hidden.verb).is_none(), "agents say that to each other");
    grammar.debug_assert();
}

#[test]
fn completion_knows_nouns_verbs_and_options() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut grammar(Catalog::shipped()), "archipel", &mut script);
        let script = String::from_utf8(script).expect("it is text");
        for word in ["storage-pool", "force-off", "memory", "events"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
