//! The cell's authority and documents, as agents on other machines ask them.

use super::{
    CELL,
    world::{Client, World},
};
use crate::stanza::{
    IqKind,
    authority::{self, Ask, Body, Browse, Claim, Document, Fetch, Forget, Look, Parked, Shelf, Step, Write},
    fault,
};
use archipel_contract::{
    DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, MoveId, Ownership, OwnershipStep,
    port::{Authority, Documents},
};
use serde::de::DeserializeOwned;

fn host(name: &str) -> HypervisorName {
    name.parse().unwrap()
}

fn domain(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn saga() -> MoveId {
    MoveId(uuid::Uuid::from_u128(7))
}

pub(super) async fn ask<T: DeserializeOwned>(client: &Client, ask: Ask) -> Result<T, Fault> {
    let answer = client.ask(ask.kind().name(), Some(CELL), ask.print()).await;
    match IqKind::of(&answer) {
        Some(IqKind::Result) => authority::answered(answer.children().next().unwrap()),
        _ => Err(fault::of_stanza(&answer)),
    }
}

fn claim(owner: &str, n: std::ops::Range<u128>) -> Ask {
    Ask::Claim(Claim { owner: host(owner), domains: n.map(domain).collect() })
}

pub(super) fn step(n: u128, expected: u64, step: OwnershipStep) -> Ask {
    Ask::Step(Step { domain: domain(n), expected: Epoch(expected), step })
}

async fn refused(client: &Client, what: Ask) -> FaultKind {
    ask::<serde_json::Value>(client, what.clone()).await.expect_err(&format!("{what:?}")).kind
}

#[tokio::test]
async fn a_machine_is_claimed_moved_and_forgotten_through_links() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    let mine: Vec<Ownership> = ask(&alpha, claim("alpha", 1..4)).await.unwrap();
    assert_eq!(mine.iter().map(|o| (o.domain, o.epoch, o.owner.as_str())).collect::<Vec<_>>()[2], (domain(3), Epoch(1), "alpha"));
    let depart = step(1, 1, OwnershipStep::Depart { by: host("alpha"), saga: saga(), to: host("beta") });
    let moving: Ownership = ask(&alpha, depart.clone()).await.unwrap();
    assert_eq!(moving.hold, Hold::Moving { saga: saga(), to: host("beta") });
    assert_eq!(ask::<Ownership>(&alpha, depart).await, Ok(moving), "asked again, it stands");
    let claimed: Ownership = ask(&beta, step(1, 1, OwnershipStep::Claim { by: host("beta"), saga: saga() })).await.unwrap();
    assert_eq!((claimed.owner, claimed.epoch), (host("beta"), Epoch(2)));
    let seen: Option<Ownership> = ask(&alpha, Ask::Ownership(Look { domain: domain(1) })).await.unwrap();
    assert_eq!(seen.map(|o| o.owner), Some(host("beta")));
    assert_eq!(ask::<Option<Ownership>>(&alpha, Ask::Ownership(Look { domain: domain(99) })).await, Ok(None));
    // The one before may not forget it any more.
    let forget = |n, expected| Ask::Forget(Forget { domain: domain(n), expected: Epoch(expected) });
    assert_eq!(refused(&alpha, forget(1, 1)).await, FaultKind::Conflict);
    assert_eq!(refused(&alpha, forget(1, 2)).await, FaultKind::Forbidden);
    assert_eq!(refused(&beta, forget(1, 1)).await, FaultKind::Conflict);
    ask::<()>(&beta, forget(1, 2)).await.unwrap();
    assert_eq!(world.authority.ownership(domain(1)).await.unwrap(), None);
}

#[tokio::test]
async fn nobody_acts_for_another_host() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    world.authority.claim_unowned(vec![domain(1)], host("beta")).await.unwrap();
    let depart = OwnershipStep::Depart { by: host("beta"), saga: saga(), to: host("alpha") };
    assert_eq!(refused(&alpha, step(1, 1, depart)).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, step(1, 1, OwnershipStep::Park { by: host("beta") })).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, claim("beta", 5..6)).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, Ask::Forget(Forget { domain: domain(1), expected: Epoch(1) })).await, FaultKind::Forbidden);
    // In its own name the rule of ownership refuses it, and nothing changed.
    assert_eq!(refused(&alpha, step(1, 1, OwnershipStep::Unpark { by: host("alpha") })).await, FaultKind::Conflict);
    let held = world.authority.ownership(domain(1)).await.unwrap();
    assert_eq!(held, Some(Ownership::owned(domain(1), Epoch(1), host("beta"))));
    assert_eq!(world.authority.ownership(domain(5)).await.unwrap(), None);
}

#[tokio::test]
async fn only_a_link_that_speaks_for_its_host_is_heard() {
    let world = World::new().await;
    let silent = world.agent("alpha");
    assert_eq!(refused(&silent, claim("alpha", 1..2)).await, FaultKind::Unavailable, "before hello");
    let first = world.host("alpha", vec![]).await;
    let second = world.host("alpha", vec![]).await;
    assert_eq!(refused(&first, claim("alpha", 1..2)).await, FaultKind::Unavailable, "another link took over");
    assert_eq!(world.authority.ownership(domain(1)).await.unwrap(), None);
    assert_eq!(ask::<Vec<Ownership>>(&second, claim("alpha", 1..2)).await.unwrap().len(), 1);
    let elsewhere = second.ask("set", Some("hv.alpha@vm.localhost"), claim("alpha", 2..3).print()).await;
    assert_eq!(fault::of_stanza(&elsewhere).kind, FaultKind::InvalidRequest);
    let person = world.admin("web").ask("set", Some(CELL), claim("alpha", 2..3).print()).await;
    assert_eq!(person.attr("type"), Some("error"));
    assert_eq!(world.authority.ownership(domain(2)).await.unwrap(), None);
}

#[tokio::test]
async fn an_agent_cannot_lead() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    for name in ["lead", "resign", "vacancy", "incarnation"] {
        let payload = format!(
            "<{name} xmlns='urn:archipel:authority:0'><json xmlns='urn:xmpp:json:0'>{{\"role\":\"exchange\",\"holder\":\"me\"}}</json></{name}>"
        );
        let answer = alpha.ask_text("set", Some(CELL), &payload).await;
        let fault = fault::of_stanza(&answer);
        assert!(fault.kind == FaultKind::InvalidRequest && fault.message.contains("nobody leads"), "{fault}");
    }
}

#[tokio::test]
async fn what_moves_or_is_parked_is_not_forgotten() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    ask::<Vec<Ownership>>(&alpha, claim("alpha", 1..3)).await.unwrap();
    ask::<Ownership>(&alpha, step(1, 1, OwnershipStep::Park { by: host("alpha") })).await.unwrap();
    ask::<Ownership>(&alpha, step(2, 1, OwnershipStep::Depart { by: host("alpha"), saga: saga(), to: host("beta") })).await.unwrap();
    for n in [1, 2] {
        assert_eq!(refused(&alpha, Ask::Forget(Forget { domain: domain(n), expected: Epoch(1) })).await, FaultKind::Conflict);
        assert!(world.authority.ownership(domain(n)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn the_shelf_comes_in_pages() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let all: Vec<DomainId> = (0..authority::PAGE as u128 + 1).map(domain).collect();
    world.authority.claim_unowned(all.clone(), host("alpha")).await.unwrap();
    for id in &all {
        world.authority.step(*id, Epoch(1), OwnershipStep::Park { by: host("alpha") }).await.unwrap();
    }
    let first: Parked = ask(&alpha, Ask::Parked(Shelf::default())).await.unwrap();
    assert_eq!((first.parked.len(), first.more), (authority::PAGE, true));
    let rest: Parked = ask(&alpha, Ask::Parked(Shelf { after: Some(first.parked[authority::PAGE - 1].domain) })).await.unwrap();
    assert_eq!((rest.parked.iter().map(|o| o.domain).collect::<Vec<_>>(), rest.more), (vec![all[authority::PAGE]], false));
}

#[tokio::test]
async fn an_agent_reaches_the_shelf_and_its_own_documents_alone() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    let write = |key: &str, expected, text: &str| Ask::Write(Write { key: key.into(), expected, body: Some(Body(text.into())) });
    world.documents.write_document("ca/key".into(), None, Some(b"secret".to_vec())).await.unwrap();
    assert_eq!(refused(&alpha, Ask::Document(Fetch { key: "ca/key".into() })).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, Ask::Documents(Browse { prefix: "c".into(), after: None })).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, write("ca/key", Some(1), "mine")).await, FaultKind::Forbidden);
    assert_eq!(refused(&alpha, write("agent/beta/saga", None, "mine")).await, FaultKind::Forbidden);
    let version: u64 = ask(&alpha, write("agent/alpha/saga", None, "<a/>")).await.unwrap();
    assert_eq!(refused(&alpha, write("agent/alpha/saga", None, "again")).await, FaultKind::Conflict);
    let kept: Option<Document> = ask(&alpha, Ask::Document(Fetch { key: "agent/alpha/saga".into() })).await.unwrap();
    assert_eq!(kept.map(|d| (d.version, d.body)), Some((version, Body(b"<a/>".to_vec()))));
    assert_eq!(refused(&beta, Ask::Document(Fetch { key: "agent/alpha/saga".into() })).await, FaultKind::Forbidden);
    // What another host has laid on the shelf may be read, and is changed by whoever has it.
    world.authority.claim_unowned(vec![domain(1)], host("alpha")).await.unwrap();
    let key = format!("parked/{}", domain(1));
    assert_eq!(refused(&beta, write(&key, None, "evil")).await, FaultKind::Forbidden);
    let parked: u64 = ask(&alpha, write(&key, None, "good")).await.unwrap();
    let listed: authority::Documents = ask(&beta, Ask::Documents(Browse { prefix: "parked/".into(), after: None })).await.unwrap();
    assert_eq!(listed.documents.iter().map(|d| (&d.key, d.version)).collect::<Vec<_>>(), [(&key, parked)]);
    assert_eq!(refused(&beta, write(&key, Some(parked), "evil")).await, FaultKind::Forbidden);
}

#[tokio::test]
async fn documents_come_in_pages_that_fit_a_stanza() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    for n in 0..5 {
        let body = vec![b'x'; authority::DOCUMENT_BYTES / 2 - 1];
        world.documents.write_document(format!("agent/alpha/{n}"), None, Some(body)).await.unwrap();
    }
    let (mut keys, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page: authority::Documents = ask(&alpha, Ask::Documents(Browse { prefix: "agent/alpha/".into(), after })).await.unwrap();
        keys.extend(page.documents.into_iter().map(|d| d.key));
        (after, pages) = (keys.last().cloned(), pages + 1);
        if !page.more {
            break;
        }
    }
    assert_eq!((keys.len(), pages), (5, 3), "{keys:?}");
    world.documents.write_document("agent/alpha/big".into(), None, Some(vec![0; authority::DOCUMENT_BYTES + 1])).await.unwrap();
    assert_eq!(refused(&alpha, Ask::Document(Fetch { key: "agent/alpha/big".into() })).await, FaultKind::InvalidRequest);
}
