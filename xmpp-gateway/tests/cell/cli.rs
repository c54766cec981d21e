//! The command line as people run it: a process, over TCP.

use crate::world::*;
use archipel_contract::{EntityId, domain::DomainState};
use archipel_xmpp::server::Limits;
use archipel_xmpp::tls::Tls;
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

struct Scene {
    cell: Cell,
    agent: Arc<Agent>,
    web1: EntityId,
    address: String,
    home: tempfile::TempDir,
    link: Running,
}

async fn scene() -> Scene {
    scene_with(None).await
}

async fn scene_with(tls: Option<Arc<Tls>>) -> Scene {
    let cell = Cell::start(accounts().await, Limits::default(), tls).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(cell.server.clone().serve_tcp(listener));
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    agent.machine(2, "twin", DomainState::Shutoff);
    agent.machine(3, "twin", DomainState::Shutoff);
    agent.machine(4, "stubborn", DomainState::Running);
    let link = link(&agent, &Wire::to(&cell.server), |_| {});
    link.well().await;
    Scene { cell, agent, web1, address, home: tempfile::tempdir().unwrap(), link }
}

impl Scene {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_archipel"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .env("ARCHIPEL_JID", "admin@vm.localhost")
            .env("ARCHIPEL_PASSWORD", PASSWORD)
            .env("ARCHIPEL_SERVER", &self.address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str) -> Output {
        within(line, self.command(line).output()).await.unwrap()
    }

    async fn json(&self, line: &str) -> Value {
        let output = self.run(line).await;
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {output:?}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_are_listed_and_started_by_name() {
    let scene = scene().await;
    let list = scene.json("--json domain list").await;
    let mut names: Vec<&str> = list.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["stubborn", "twin", "twin", "web1"]);
    for key in ["id", "jid", "name", "state", "host", "epoch", "seq"] {
        assert!(list[0].get(key).is_some(), "{key}");
    }
    let output = scene.run("domain start web1").await;
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("web1 is starting\n", Some(0)));
    until("the cell knows", || scene.cell.exchange.look_up(&scene.web1).is_some_and(|e| e.state() == "running")).await;
    let output = scene.run("vm info web1").await;
    assert!(text(&output.stdout).starts_with("name:"), "{output:?}");
    assert!(text(&output.stdout).contains("memory:          256 MiB\n"), "{output:?}");
    let output = scene.run("vm list --state running").await;
    let out = text(&output.stdout);
    assert!(out.starts_with("NAME      STATE    HOST"), "{out}");
    assert_eq!(out.lines().count(), 3);
    assert_eq!(scene.json("vm define db1 --memory 256MiB --json").await["message"], "defined");
    let define = scene.agent.requests.lock().last().unwrap().clone();
    assert_eq!(define.arguments, json!({ "name": "db1", "memory": 256 << 20 }));
    assert_eq!(scene.agent.requests.lock().iter().filter(|r| r.command == "domain.define").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_has_its_exit_code_and_a_sentence() {
    let scene = scene().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (line, change, code, word) in [
        ("domain start nothing", None, 66, "no virtual machine is called nothing"),
        ("domain start twin", None, 73, "00000000-0000-0000-0000-000000000002 on alpha"),
        ("domain start 00000000-0000-0000-0000-000000000009", None, 66, ""),
        ("domain start stubborn", None, 65, "stubborn is running already"),
        ("domain force-off web1", None, 64, "--yes"),
        ("domain dance web1", None, 64, "dance"),
        ("task show 7", None, 64, "archipel task list"),
        ("domain list", Some(("ARCHIPEL_SERVER", elsewhere.as_str())), 69, "archipeld run"),
        ("domain list", Some(("ARCHIPEL_PASSWORD", "wrong")), 77, "wrong password for admin@vm.localhost"),
        ("domain start web1", Some(("ARCHIPEL_JID", "guest@vm.localhost")), 77, "viewer"),
        ("domain list", Some(("ARCHIPEL_JID", "")), 64, "ARCHIPEL_JID"),
    ] {
        let mut command = scene.command(line);
        if let Some((name, value)) = change {
            command.env(name, value);
        }
        let output = within(line, command.output()).await.unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line} with {change:?}: {said}");
        assert!(said.contains(word), "{line} with {change:?}: {said}");
        assert!(output.stdout.is_empty(), "{line}: {output:?}");
    }
    assert_eq!(scene.run("--help").await.status.code(), Some(0));
    assert_eq!(scene.run("domain force-off web1 --yes").await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_followed_to_its_end() {
    let scene = scene().await;
    let output = scene.run("domain shutdown web1 --wait --json").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let task: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&task["kind"], &task["state"]), (&json!("task"), &json!("done")));
    let output = scene.run("domain shutdown stubborn --wait").await;
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(text(&output.stderr).contains("the guest did not listen"), "{output:?}");
    let list = scene.json("task list --state failed --json").await;
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(scene.json(&format!("task show {id} --json")).await["state"], "failed");
    assert_eq!(scene.run(&format!("task wait {id}")).await.status.code(), Some(75));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_one_object_a_line() {
    let scene = scene().await;
    let mut child = scene.command("events --json").spawn().unwrap();
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let note = within("the beginning", notes.next_line()).await.unwrap().unwrap();
    assert!(note.contains("following vm.localhost, 5 entities"), "{note}");
    for (number, state) in [DomainState::Running, DomainState::Paused].into_iter().enumerate() {
        scene.agent.enter(&scene.web1, state);
        let line = within("a line", lines.next_line()).await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        for key in ["entity", "topic", "epoch", "seq", "at", "cause"] {
            assert!(event.get(key).is_some(), "{key}: {line}");
        }
        assert_eq!((&event["seq"], &event["after"]["state"]), (&json!(2 + number), &json!(state.name())));
    }
    assert!(scene.link.watcher.health().is_well());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_from_a_pipe_gets_an_answer_for_each_line() {
    let scene = scene().await;
    let mut command = scene.command("chat web1");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"help\nstart\n").await.unwrap();
    drop(stdin);
    let output = within("the chat", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("start"), "{said}");
    assert!(said.trim_end().ends_with("web1 is starting"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_certificate_makes_tls_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Arc::new(Tls::load_or_create(folder.path(), CELL).unwrap());
    let right = tls.fingerprint().to_owned();
    let scene = scene_with(Some(tls)).await;
    let config = scene.home.path().join(".config/archipel");
    std::fs::create_dir_all(&config).unwrap();
    let wrong = "00".repeat(32);
    for (fingerprint, code) in [(right.as_str(), 0), (wrong.as_str(), 77)] {
        std::fs::write(config.join("cli.toml"), format!("fingerprint = '{fingerprint}'\n")).unwrap();
        let output = scene.run("domain list").await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completion_needs_no_login() {
    let scene = scene().await;
    let output = within("completion", scene.command("completion bash").env_remove("ARCHIPEL_JID").output()).await.unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("force-off"), "{output:?}");
}
