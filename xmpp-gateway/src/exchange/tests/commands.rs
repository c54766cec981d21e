//! Commands as forms and as chat, and what discovery says about them.

use super::{
    CELL, hypervisor, machine, next,
    world::{Client, World},
};
use crate::{
    ns,
    stanza::{
        adhoc::{Action, Command, NoteKind, Status},
        fault,
        form::{Field, FieldKind, Form, FormKind},
    },
};
use archipel_contract::{Facts, FaultKind, Millis, domain::DomainState, hypervisor::HypervisorFacts};
use minidom::Element;
use serde_json::json;

fn form_request(node: &str) -> Command {
    Command { node: node.into(), ..Command::default() }
}

fn submit(node: &str, session: &str, fields: &[(&str, &str)]) -> Command {
    let mut form = Form::new(FormKind::Submit, "x");
    form.fields.extend(fields.iter().map(|(var, value)| Field::new(var, FieldKind::TextSingle, *value)));
    Command { node: node.into(), session: Some(session.into()), form: Some(form.print()), ..Command::default() }
}

async fn run(client: &Client, to: &str, command: Command) -> Command {
    let answer = client.ask("set", Some(to), command.print()).await;
    assert_eq!(answer.attr("type"), Some("result"), "{}", String::from(&answer));
    Command::parse(answer.children().next().unwrap()).unwrap()
}

async fn refused(client: &Client, to: &str, command: Command) -> archipel_contract::Fault {
    fault::of_stanza(&client.ask("set", Some(to), command.print()).await)
}

async fn say(client: &Client, to: &str, text: &str) -> String {
    let body = text.replace('&', "&amp;").replace('<', "&lt;");
    client.write(&format!("<message type='chat' to='{to}' id='m1'><body>{body}</body></message>"));
    let answer = client.wait(|e| e.name() == "message").await;
    assert_eq!((answer.attr("type"), answer.attr("from")), (Some("chat"), Some(to)), "{}", String::from(&answer));
    answer.get_child("body", ns::CLIENT).unwrap().text()
}

// ------------------------------------------------------------ forms

#[tokio::test]
async fn a_form_client_starts_a_machine_without_ever_sending_an_action() {
    let world = World::new().await;
    let vm = next(&machine(1, "alpha"), DomainState::Shutoff);
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("gajim");
    let stage = run(&admin, &vm.jid(), form_request("domain.start")).await;
    assert_eq!(stage.status, Some(Status::Executing));
    assert_eq!(stage.actions.as_ref().unwrap().default, Some(Action::Complete));
    let form = stage.form.unwrap();
    assert!(form.children().any(|f| f.attr("var") == Some("paused") && f.attr("type") == Some("boolean")));
    let session = stage.session.unwrap();
    let to = vm.jid();
    let (last, ()) = tokio::join!(run(&admin, &to, submit("domain.start", &session, &[("paused", "1")])), async {
        let (iq, request) = agent.request().await;
        assert_eq!(request.arguments, json!({ "paused": true }));
        agent.reply(&iq, &json!({ "message": "web1 is starting" }));
    });
    assert_eq!(last.status, Some(Status::Completed));
    assert_eq!((last.notes[0].kind, &*last.notes[0].text), (NoteKind::Info, "web1 is starting"));
    // It ran once: the session is over.
    let again = refused(&admin, &vm.jid(), submit("domain.start", &session, &[])).await;
    assert_eq!(again.kind, FaultKind::InvalidRequest);
}

#[tokio::test]
async fn a_destructive_command_asks_first_and_takes_no_for_an_answer() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("gajim");
    let to = vm.jid();
    let stage = run(&admin, &to, form_request("domain.force-off")).await;
    assert_eq!(stage.status, Some(Status::Executing));
    let no = run(&admin, &to, submit("domain.force-off", stage.session.as_ref().unwrap(), &[("confirm", "0")])).await;
    assert_eq!((no.status, &*no.notes[0].text), (Some(Status::Completed), "nothing was done"));
    assert!(agent.received().is_empty());
    let stage = run(&admin, &to, form_request("domain.force-off")).await;
    // Without an answer it is asked again.
    let again = run(&admin, &to, submit("domain.force-off", stage.session.as_ref().unwrap(), &[])).await;
    assert_eq!((again.status, again.notes[0].kind), (Some(Status::Executing), NoteKind::Error));
    let (yes, ()) =
        tokio::join!(run(&admin, &to, submit("domain.force-off", again.session.as_ref().unwrap(), &[("confirm", "true")])), async {
            let (iq, _) = agent.request().await;
            agent.reply(&iq, &json!({ "message": "web1 is off" }));
        });
    assert_eq!(yes.notes[0].text, "web1 is off");
}

#[tokio::test]
async fn a_refused_state_is_explained_and_never_sent() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("gajim");
    let answer = run(&admin, &vm.jid(), form_request("domain.start")).await;
    assert_eq!(answer.status, Some(Status::Completed));
    assert_eq!((answer.notes[0].kind, &*answer.notes[0].text), (NoteKind::Error, "web1 is running already"));
    assert!(agent.received().is_empty());
}

#[tokio::test]
async fn wrong_fields_are_asked_for_again() {
    let world = World::new().await;
    world.host("alpha", vec![]).await;
    let admin = world.admin("gajim");
    let to = format!("hv.alpha@{CELL}");
    let stage = run(&admin, &to, form_request("domain.define")).await;
    let wrong = run(&admin, &to, submit("domain.define", stage.session.as_ref().unwrap(), &[("name", "web9"), ("vcpus", "0")])).await;
    assert_eq!(wrong.status, Some(Status::Executing));
    assert!(wrong.notes[0].text.contains("1 to 512"), "{:?}", wrong.notes);
    let mut cancel = submit("domain.define", wrong.session.as_ref().unwrap(), &[]);
    cancel.action = Some(Action::Cancel);
    assert_eq!(run(&admin, &to, cancel).await.status, Some(Status::Canceled));
}

#[tokio::test]
async fn a_session_belongs_to_who_began_it_and_grows_old() {
    let world = World::new().await;
    let vm = next(&machine(1, "alpha"), DomainState::Shutoff);
    world.host("alpha", vec![vm.clone()]).await;
    let (one, two) = (world.admin("one"), world.admin("two"));
    let stage = run(&one, &vm.jid(), form_request("domain.start")).await;
    let session = stage.session.unwrap();
    assert_eq!(refused(&two, &vm.jid(), submit("domain.start", &session, &[])).await.kind, FaultKind::InvalidRequest);
    world.clock.advance(Millis::seconds(15 * 60));
    let late = refused(&one, &vm.jid(), submit("domain.start", &session, &[])).await;
    assert!(late.message.contains("too long"), "{late}");
}

#[tokio::test]
async fn a_viewer_sees_and_may_not_touch() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let eve = world.viewer();
    for command in [form_request("domain.force-off"), Command::request("domain.force-off", json!({}), None)] {
        assert_eq!(refused(&eve, &vm.jid(), command).await.kind, FaultKind::Forbidden);
    }
    assert!(say(&eve, &vm.jid(), "force-off").await.contains("needs admin"));
    assert!(agent.received().is_empty());
    assert!(say(&eve, &vm.jid(), "status").await.contains("is running"));
}

#[tokio::test]
async fn lists_are_answered_by_the_cell_with_their_filters() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone(), next(&machine(2, "alpha"), DomainState::Shutoff)]).await;
    world.host("beta", vec![machine(3, "beta")]).await;
    let admin = world.admin("cli");
    for (arguments, expected) in [
        (json!({}), vec!["web1", "web2", "web3"]),
        (json!({ "host": "alpha" }), vec!["web1", "web2"]),
        (json!({ "state": "shutoff" }), vec!["web2"]),
        (json!({ "name": "web3" }), vec!["web3"]),
        (json!({ "name": vm.id.plain() }), vec!["web1"]),
        (json!({ "name": vm.jid() }), vec!["web1"]),
        (json!({ "name": "nobody" }), vec![]),
    ] {
        let answer = run(&admin, CELL, Command::request("domain.list", arguments.clone(), None)).await;
        let rows = answer.json.unwrap();
        let names: Vec<&str> = rows.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{arguments}");
    }
    let wrong = refused(&admin, CELL, Command::request("domain.list", json!({ "nmae": "x" }), None)).await;
    assert_eq!(wrong.kind, FaultKind::InvalidRequest);
    let wrong = refused(&admin, CELL, Command::request("domain.start", json!({}), None)).await;
    assert!(wrong.message.contains("not of a cell"), "{wrong}");
    // As a form: the note says it all, the table has the columns.
    let stage = run(&admin, CELL, form_request("domain.list")).await;
    let table = run(&admin, CELL, submit("domain.list", stage.session.as_ref().unwrap(), &[])).await;
    assert!(table.notes[0].text.contains("web2: shutoff, 2 vCPU, 4 GiB (on alpha)"), "{:?}", table.notes);
    assert_eq!(table.form.unwrap().children().filter(|c| c.name() == "item").count(), 3);
}

#[tokio::test]
async fn unknown_machines_and_commands_are_told_apart_from_nothing() {
    let world = World::new().await;
    let admin = world.admin("cli");
    let start = || Command::request("domain.start", json!({}), None);
    // Whoever is told that a machine is gone may define it anew, so it is told only when all hypervisors were listed.
    let early = refused(&admin, &machine(9, "alpha").jid(), start()).await;
    assert_eq!(early.kind, FaultKind::Unavailable, "{early}");
    let _alpha = world.host("alpha", vec![]).await;
    let gone = refused(&admin, &machine(9, "alpha").jid(), start()).await;
    assert_eq!(gone.kind, FaultKind::NotFound);
    let mut listing = hypervisor("beta");
    listing.facts = Facts::Hypervisor(HypervisorFacts::connecting("test:///default"));
    let beta = world.agent("beta");
    beta.join("beta", 1, vec![listing]).await;
    let early = refused(&admin, &machine(9, "alpha").jid(), start()).await;
    assert_eq!(early.kind, FaultKind::Unavailable, "{early}");
    let unknown = refused(&admin, CELL, form_request("domain.dance")).await;
    assert_eq!(unknown.kind, FaultKind::NotFound);
    let unknown = refused(&admin, CELL, Command::request("domain.dance", json!({}), None)).await;
    assert_eq!(unknown.kind, FaultKind::InvalidRequest);
}

// ------------------------------------------------------------ chat

#[tokio::test]
async fn a_machine_is_started_by_chat() {
    let world = World::new().await;
    let vm = next(&machine(1, "alpha"), DomainState::Shutoff);
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("phone");
    let to = vm.jid();
    let (said, ()) = tokio::join!(say(&admin, &to, "start paused=yes"), async {
        let (iq, request) = agent.request().await;
        assert_eq!((&*request.command, &request.arguments), ("domain.start", &json!({ "paused": true })));
        agent.reply(&iq, &json!({ "message": "web1 is starting" }));
    });
    assert_eq!(said, "web1 is starting");
    assert!(say(&admin, &to, "pause").await.contains("is off"));
    let help = say(&admin, &to, "dance <now> & then").await;
    assert!(help.contains("\"dance\" is not understood") && help.contains("force-off"), "{help}");
}

#[tokio::test]
async fn a_destructive_line_needs_its_code_in_time() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("phone");
    let to = vm.jid();
    let code_of = |text: &str| text.split("confirm ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let code = code_of(&say(&admin, &to, "force-off").await);
    world.clock.advance(Millis::seconds(61));
    assert!(say(&admin, &to, &format!("confirm {code}")).await.contains("nothing to confirm"));
    let code = code_of(&say(&admin, &to, "force-off").await);
    assert!(say(&admin, &to, "confirm AAAA1").await.contains("not the code"));
    assert!(agent.received().is_empty());
    let line = format!("confirm {}", code.to_lowercase());
    let (said, ()) = tokio::join!(say(&admin, &to, &line), async {
        let (iq, request) = agent.request().await;
        assert_eq!(request.command, "domain.force-off");
        agent.reply(&iq, &json!({ "message": "web1 is off" }));
    });
    assert_eq!(said, "web1 is off");
    world.clock.advance(Millis::seconds(1));
    assert!(say(&admin, &to, &line).await.contains("nothing to confirm"));
}

#[tokio::test]
async fn the_cell_and_a_hypervisor_talk_too() {
    let world = World::new().await;
    world.host("alpha", vec![machine(1, "alpha")]).await;
    let admin = world.admin("phone");
    assert!(say(&admin, CELL, "status").await.contains("domain: 1 running"));
    assert!(say(&admin, CELL, "list").await.contains("web1: running, 2 vCPU, 4 GiB (on alpha)"));
    assert!(say(&admin, CELL, "hosts").await.contains("alpha: connected"));
    assert!(say(&admin, &format!("hv.alpha@{CELL}"), "list").await.contains("web1"));
    world.clock.advance(Millis::seconds(1));
    assert!(say(&admin, CELL, "help").await.contains("hypervisors"));
}

#[tokio::test]
async fn a_receipt_is_sent_when_asked_for_and_typing_is_not_answered() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("phone");
    let to = vm.jid();
    admin.write(&format!("<message type='chat' to='{to}'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"));
    assert!(admin.received().is_empty());
    admin.write(&format!("<message type='chat' to='{to}' id='r7'><body>status</body><request xmlns='urn:xmpp:receipts'/></message>"));
    let receipt = admin.wait(|e| e.has_child("received", "urn:xmpp:receipts")).await;
    assert_eq!(receipt.get_child("received", "urn:xmpp:receipts").unwrap().attr("id"), Some("r7"));
    admin.wait(|e| e.has_child("body", ns::CLIENT)).await;
}

#[tokio::test]
async fn a_flood_is_told_once() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("phone");
    for _ in 0..10 {
        admin.write(&format!("<message type='chat' to='{}'><body>status</body></message>", vm.jid()));
    }
    let all = admin.received();
    let errors = all.iter().filter(|m| m.attr("type") == Some("error")).count();
    assert_eq!((all.len(), errors), (6, 1));
}

// ------------------------------------------------------------ discovery

fn vars(query: &Element) -> Vec<&str> {
    query.children().filter_map(|c| c.attr("var")).collect()
}

#[tokio::test]
async fn commands_are_found_as_clients_look_for_them() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let (admin, eve) = (world.admin("gajim"), world.viewer());
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    for to in [CELL.to_owned(), vm.jid(), format!("{}/alpha", vm.jid()), format!("hv.alpha@{CELL}")] {
        let answer = admin.ask_text("get", Some(&to), info).await;
        assert!(vars(answer.children().next().unwrap()).contains(&ns::COMMANDS), "{to}");
    }
    let list = "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>";
    let nodes = |answer: &Element| -> Vec<String> {
        let query = answer.children().next().unwrap();
        assert_eq!(query.attr("node"), Some(ns::COMMANDS), "the node is echoed");
        query.children().filter_map(|i| i.attr("node")).map(str::to_owned).collect()
    };
    let all = nodes(&admin.ask_text("get", Some(&vm.jid()), list).await);
    assert!(all.contains(&"domain.start".into()) && all.contains(&"domain.info".into()) && !all.contains(&"domain.list".into()), "{all:?}");
    let few = nodes(&eve.ask_text("get", Some(&vm.jid()), list).await);
    assert!(few.contains(&"domain.info".into()) && !few.contains(&"domain.start".into()), "{few:?}");
    assert!(nodes(&admin.ask_text("get", Some(CELL), list).await).contains(&"domain.list".into()));
    let one = "<query xmlns='http://jabber.org/protocol/disco#info' node='domain.start'/>";
    let answer = admin.ask_text("get", Some(&vm.jid()), one).await;
    assert_eq!(answer.children().next().unwrap().children().next().unwrap().attr("category"), Some("automation"));
}

#[tokio::test]
async fn the_tree_leads_from_the_cell_to_its_machines() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone(), super::network(2, "alpha"), super::pool(3, "alpha")]).await;
    let admin = world.admin("gajim");
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    let jids = |answer: Element| -> Vec<String> {
        answer.children().next().unwrap().children().filter_map(|i| i.attr("jid")).map(str::to_owned).collect()
    };
    let top = jids(admin.ask_text("get", Some(CELL), items).await);
    assert!(top.contains(&format!("hv.alpha@{CELL}")) && !top.contains(&vm.jid()), "{top:?}");
    let below = jids(admin.ask_text("get", Some(&format!("hv.alpha@{CELL}")), items).await);
    assert!(below.contains(&vm.jid()), "{below:?}");
    let facts = "<query xmlns='http://jabber.org/protocol/disco#info' node='urn:archipel:info:0'/>";
    let answer = admin.ask_text("get", Some(&vm.jid()), facts).await;
    let form = answer.children().next().unwrap().get_child("x", ns::DATA_FORMS).unwrap();
    assert!(form.children().any(|f| f.attr("var") == Some("vcpus")));
}

#[tokio::test]
async fn the_announced_capabilities_are_those_that_are_answered() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("gajim");
    admin.write(&format!("<presence to='{}'/>", vm.jid()));
    let presence = admin.wait(|e| e.name() == "presence").await;
    let caps = presence.get_child("c", "http://jabber.org/protocol/caps").unwrap();
    let node = format!("{}#{}", caps.attr("node").unwrap(), caps.attr("ver").unwrap());
    let ask = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
    let answer = admin.ask_text("get", Some(&format!("{}/alpha", vm.jid())), &ask).await;
    let query = answer.children().next().unwrap();
    // The hash made by hand from the answer, as a client does to verify it.
    let mut text = String::new();
    let mut identities: Vec<String> = query
        .children()
        .filter(|c| c.name() == "identity")
        .map(|i| format!("{}/{}//{}<", i.attr("category").unwrap(), i.attr("type").unwrap(), i.attr("name").unwrap_or_default()))
        .collect();
    identities.sort();
    text.extend(identities);
    let mut features = vars(query);
    features.sort_unstable();
    features.iter().for_each(|f| text.push_str(&format!("{f}<")));
    use base64::Engine;
    use sha1::Digest;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(text.as_bytes()));
    assert_eq!(caps.attr("ver"), Some(&*hash));
}

#[tokio::test]
async fn a_code_dies_with_the_session_that_was_asked() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let to = vm.jid();
    let before = world.admin("phone");
    let said = say(&before, &to, "force-off").await;
    let code = said.split("confirm ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    // As when the account loses its role: everything it has is closed, and it logs in again under the same address.
    before.close();
    let after = world.admin("phone");
    assert!(say(&after, &to, &format!("confirm {code}")).await.contains("nothing to confirm"));
    assert!(agent.received().is_empty());
}

#[tokio::test]
async fn a_page_of_items_that_cannot_be_found_again_is_not_the_first_one() {
    let world = World::new().await;
    world.host("alpha", vec![machine(1, "alpha"), machine(2, "alpha")]).await;
    let admin = world.admin("web");
    let page = |after: &str| {
        format!(
            "<query xmlns='http://jabber.org/protocol/disco#items'>\
             <set xmlns='http://jabber.org/protocol/rsm'><max>1</max><after>{after}</after></set></query>"
        )
    };
    let to = format!("hv.alpha@{CELL}");
    let first = machine(1, "alpha").id.to_string();
    let answer = admin.ask_text("get", Some(&to), &page(&first)).await;
    assert_eq!(answer.children().next().unwrap().children().next().unwrap().attr("name"), Some("web2"));
    let answer = admin.ask_text("get", Some(&to), &page("gone")).await;
    assert_eq!(answer.attr("type"), Some("error"), "{answer:?}");
}
