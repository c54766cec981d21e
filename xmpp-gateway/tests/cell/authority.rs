//! The cell's authority and documents over real links: what agents on other machines have.

use crate::world::*;
use archipel_contract::{
    BoxFuture, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, MoveId, Ownership, OwnershipStep, Timestamp, conformance,
    domain::DomainState,
    fake::MemoryAuthority,
    port::{AccountKind, Accounts, Authority, DOCUMENT_BYTES, Documents, Leadership, Versioned},
};
use archipel_xmpp::link::{LinkAuthorities, LinkAuthority};
use archipel_xmpp::server::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

fn domain(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn name(s: &str) -> HypervisorName {
    s.parse().unwrap()
}

/// Hosts with a link each.
struct Together {
    links: Vec<(HypervisorName, Running)>,
    /// All of them, as one agent has them.
    all: LinkAuthorities,
    /// What is behind them.
    cell: Arc<MemoryAuthority>,
}

impl Together {
    async fn new(cell: &Cell, authority: Arc<MemoryAuthority>, hosts: &[&str]) -> Together {
        let wire = Wire::to(&cell.server);
        let mut links = Vec::new();
        for host in hosts {
            let link = link(&Agent::new(host), &wire, |_| {});
            link.well().await;
            links.push((name(host), link));
        }
        let all = LinkAuthorities::new(links.iter().map(|(name, link)| (name.clone(), link.authority.clone())));
        Together { links, all, cell: authority }
    }

    fn of(&self, host: &HypervisorName) -> &LinkAuthority {
        &self.links.iter().find(|(name, _)| name == host).unwrap_or_else(|| panic!("no link of {host}")).1.authority
    }
}

/// Documents in the folder of one agent, as if they were all there are.
struct Folder<'a>(&'a LinkAuthority);

impl Documents for Folder<'_> {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        self.0.document(format!("agent/a/{key}"))
    }
    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        self.0.documents(format!("agent/a/{prefix}"))
    }
    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        self.0.write_document(format!("agent/a/{key}"), expected, body)
    }
}

async fn three() -> (Cell, Together) {
    let accounts = accounts().await;
    for host in ["a", "b", "c"] {
        let account = archipel_xmpp::accounts::account(&format!("hv.{host}"), PASSWORD, AccountKind::Node, 4096).unwrap();
        accounts.add(account).await.unwrap();
    }
    let authority = Arc::<MemoryAuthority>::default();
    let cell = Cell::deciding(accounts, Limits::default(), None, authority.clone());
    let together = Together::new(&cell, authority, &["a", "b", "c"]).await;
    (cell, together)
}

#[tokio::test]
async fn links_together_are_an_authority_as_good_as_the_one_behind_them() {
    let (_cell, together) = three().await;
    let together = &together.all;
    conformance::authority::first_claim_wins(together).await;
    conformance::authority::the_shelf(together).await;
    // The rest of the suite wants a claim that is repeated refused. A link must not: the first answer may have been lost.
    let (id, saga) = (domain(10), MoveId(uuid::Uuid::from_u128(7)));
    together.claim_unowned(vec![id], name("a")).await.unwrap();
    let depart = OwnershipStep::Depart { by: name("a"), saga, to: name("b") };
    let claim = |by: &str| OwnershipStep::Claim { by: name(by), saga };
    assert_eq!(together.step(id, Epoch(1), claim("b")).await.unwrap_err().kind, FaultKind::Conflict, "not yet");
    together.step(id, Epoch(1), depart).await.unwrap();
    assert_eq!(together.step(id, Epoch(1), claim("c")).await.unwrap_err().kind, FaultKind::Conflict, "not to that one");
    let claimed = together.step(id, Epoch(1), claim("b")).await.unwrap();
    assert_eq!(claimed, Ownership::owned(id, Epoch(2), name("b")));
    assert_eq!(together.step(id, Epoch(1), claim("b")).await, Ok(claimed));
    assert_eq!(together.step(id, Epoch(1), OwnershipStep::Park { by: name("b") }).await.unwrap_err().kind, FaultKind::Conflict);
    assert_eq!(together.forget(id, Epoch(1)).await.unwrap_err().kind, FaultKind::Conflict);
    together.forget(id, Epoch(2)).await.unwrap();
    assert!(together.claim_unowned(vec![id], name("a")).await.unwrap()[0].epoch > Epoch(2), "epochs only grow");
}

#[tokio::test]
async fn documents_over_a_link_are_documents() {
    let (cell, together) = three().await;
    let a = together.of(&name("a"));
    conformance::documents::a_document_is_changed_from_what_was_read(&Folder(a)).await;
    // More than fits one page of the list, and each byte there is.
    let body: Vec<u8> = (0..=255u8).cycle().take(300 * 1024).collect();
    for n in 0..4 {
        a.write_document(format!("agent/a/many/{n}"), None, Some(body.clone())).await.unwrap();
    }
    let all = within("the list", a.documents("agent/a/many/".into())).await.unwrap();
    assert_eq!(all.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [0, 1, 2, 3].map(|n| format!("agent/a/many/{n}")));
    assert!(all.iter().all(|(_, document)| document.body == body));
    // What is too large to travel is refused before it breaks the stream, in both directions.
    let refused = a.write_document("agent/a/big".into(), None, Some(vec![0; DOCUMENT_BYTES])).await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::InvalidRequest);
    cell.documents.write_document("agent/a/big".into(), None, Some(vec![0; DOCUMENT_BYTES])).await.unwrap();
    assert_eq!(a.document("agent/a/big".into()).await.unwrap_err().kind, FaultKind::InvalidRequest);
    assert_eq!(together.of(&name("b")).document("agent/a/many/1".into()).await.unwrap_err().kind, FaultKind::Forbidden);
}

#[tokio::test]
async fn an_agent_with_several_hypervisors_acts_for_each_through_its_own_link() {
    let (_cell, together) = three().await;
    let agent = LinkAuthorities::new(together.links[..2].iter().map(|(name, link)| (name.clone(), link.authority.clone())));
    agent.claim_unowned(vec![domain(1)], name("b")).await.unwrap();
    assert_eq!(agent.claim_unowned(vec![domain(2)], name("c")).await.unwrap_err().kind, FaultKind::Forbidden, "not this agent's");
    // Written by the link of b, which alone may, though the one of a is asked first.
    let key = format!("parked/{}", domain(1));
    let version = agent.write_document(key.clone(), None, Some(b"<domain/>".to_vec())).await.unwrap();
    assert_eq!(agent.document(key).await.unwrap(), Some(Versioned { version, body: b"<domain/>".to_vec() }));
    agent.write_document("agent/b/x".into(), None, Some(Vec::new())).await.unwrap();
    assert_eq!(agent.write_document("agent/c/x".into(), None, Some(Vec::new())).await.unwrap_err().kind, FaultKind::Forbidden);
    agent.forget(domain(1), Epoch(1)).await.unwrap();
    // One link that is away does not keep the others from asking.
    let off = link(&Agent::new("alpha"), &Arc::default(), |_| {});
    let agent = LinkAuthorities::new([(name("alpha"), off.authority.clone()), (name("b"), together.links[1].1.authority.clone())]);
    assert_eq!(agent.ownership(domain(1)).await, Ok(None));
    assert_eq!(agent.claim_unowned(vec![domain(3)], name("alpha")).await.unwrap_err().kind, FaultKind::Unavailable);
}

#[tokio::test]
async fn a_new_session_is_told_and_a_resumed_one_is_none() {
    let limits = Limits { resume_window: Duration::from_millis(1), ..Limits::default() };
    for (limits, resumes) in [(Limits::default(), true), (limits, false)] {
        let cell = Cell::start(accounts().await, limits, None).await;
        let wire = Wire::to(&cell.server);
        let alpha = link(&Agent::new("alpha"), &wire, |_| {});
        let first = within("the first session", alpha.authority.next_session(None)).await;
        wire.cut(None);
        until("the session is cut, or over", || {
            alpha.watcher.health().connected_since.is_none() && (resumes || cell.exchange.health().hosts_linked == 0)
        })
        .await;
        let next = tokio::spawn({
            let link = alpha.authority.clone();
            async move { link.next_session(Some(first)).await }
        });
        wire.cut(Some(&cell.server));
        alpha.well().await;
        if resumes {
            assert_eq!(alpha.watcher.health().resumptions, 1);
            assert!(!next.is_finished());
            next.abort();
        } else {
            assert!(within("the next session", next).await.unwrap() > first);
        }
    }
}

#[tokio::test]
async fn ten_thousand_machines_are_claimed_in_pages() {
    let (_cell, together) = three().await;
    let a = together.of(&name("a"));
    together.cell.claim_unowned(vec![domain(7), domain(9_999)], name("b")).await.unwrap();
    let all: Vec<DomainId> = (0..10_000).rev().map(domain).collect();
    let held = within("the claim", a.claim_unowned(all.clone(), name("a"))).await.unwrap();
    assert_eq!(held.iter().map(|o| o.domain).collect::<Vec<_>>(), all, "in the order of the question");
    assert_eq!(held.iter().filter(|o| o.owner == name("a")).count(), 9_998);
    assert_eq!(together.cell.ownership(domain(0)).await.unwrap().map(|o| o.owner), Some(name("a")));
    assert_eq!(a.claim_unowned(Vec::new(), name("a")).await, Ok(Vec::new()));
}

#[tokio::test]
async fn nobody_leads_through_a_link() {
    let (_cell, together) = three().await;
    let a = together.of(&name("a"));
    let answers = [
        a.lead("exchange".into(), "a".into(), Millis(1), Timestamp(0)).await.map(|_| ()).unwrap_err(),
        a.resign("exchange".into(), "a".into()).await.unwrap_err(),
        a.vacancy("exchange".into(), Timestamp(0)).await.unwrap_err(),
        a.incarnation().await.map(|_| ()).unwrap_err(),
    ];
    assert!(answers.iter().all(|f| f.kind == FaultKind::Unsupported), "{answers:?}");
}

/// An authority that does what it is asked and then keeps the answer until it is let go.
#[derive(Default)]
struct Held {
    inner: MemoryAuthority,
    holding: AtomicBool,
    done: AtomicUsize,
    gate: Option<Semaphore>,
}

impl Held {
    fn new() -> Arc<Held> {
        Arc::new(Held { gate: Some(Semaphore::new(0)), ..Held::default() })
    }

    async fn keep(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
        if self.holding.load(Ordering::SeqCst)
            && let Some(gate) = &self.gate
        {
            gate.acquire().await.unwrap().forget();
        }
    }
}

impl Authority for Held {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.inner.claim_unowned(domains, owner)
    }
    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        self.inner.ownership(domain)
    }
    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(async move {
            let answer = self.inner.step(domain, expected, step).await;
            self.keep().await;
            answer
        })
    }
    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.inner.parked()
    }
    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.forget(domain, expected)
    }
    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        self.inner.lead(role, holder, lease, now)
    }
    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.resign(role, holder)
    }
    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.vacancy(role, now)
    }
    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        self.inner.incarnation()
    }
}

async fn asked(authority: &Arc<LinkAuthority>, n: u128, epoch: u64, step: OwnershipStep) -> Result<Ownership, Fault> {
    within("an answer", authority.step(domain(n), Epoch(epoch), step)).await
}

/// Each step is done, its answer lost with the session, and asked again over the next one.
#[tokio::test]
async fn a_step_whose_answer_was_lost_is_asked_again_and_stands() {
    let authority = Held::new();
    let limits = Limits { resume_window: Duration::from_millis(1), ..Limits::default() };
    let cell = Cell::deciding(accounts().await, limits, None, authority.clone());
    let wire = Wire::to(&cell.server);
    let alpha = link(&Agent::new("alpha"), &wire, |_| {});
    alpha.well().await;
    let (me, saga) = (name("alpha"), MoveId(uuid::Uuid::from_u128(7)));
    let ids = vec![domain(1), domain(2)];
    authority.claim_unowned(ids, me.clone()).await.unwrap();
    authority.claim_unowned(vec![domain(3)], name("beta")).await.unwrap();
    authority.inner.step(domain(3), Epoch(1), OwnershipStep::Depart { by: name("beta"), saga, to: me.clone() }).await.unwrap();
    let moving = Hold::Moving { saga, to: name("beta") };
    for (n, step, epoch, hold) in [
        (1, OwnershipStep::Depart { by: me.clone(), saga, to: name("beta") }, 1, moving),
        (1, OwnershipStep::Stay { by: me.clone(), saga }, 1, Hold::Owned),
        (2, OwnershipStep::Park { by: me.clone() }, 1, Hold::Parked),
        (2, OwnershipStep::Unpark { by: me.clone() }, 2, Hold::Owned),
        (3, OwnershipStep::Claim { by: me.clone(), saga }, 2, Hold::Owned),
    ] {
        let before = authority.done.load(Ordering::SeqCst);
        authority.holding.store(true, Ordering::SeqCst);
        let lost = tokio::spawn({
            let (link, step) = (alpha.authority.clone(), step.clone());
            async move { asked(&link, n, 1, step).await }
        });
        until("it is done", || authority.done.load(Ordering::SeqCst) > before).await;
        wire.cut(None);
        until("the session is over", || cell.exchange.health().hosts_linked == 0).await;
        authority.holding.store(false, Ordering::SeqCst);
        authority.gate.as_ref().unwrap().add_permits(1);
        let offline = asked(&alpha.authority, n, 1, step.clone()).await.unwrap_err();
        assert_eq!(offline.kind, FaultKind::Unavailable, "{offline}");
        wire.cut(Some(&cell.server));
        let fault = lost.await.unwrap().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Timeout, "nobody knows whether it was done: {fault}");
        alpha.well().await;
        let again = asked(&alpha.authority, n, 1, step.clone()).await.unwrap_or_else(|fault| panic!("{step:?}: {fault}"));
        assert_eq!((again.epoch, &again.owner, &again.hold), (Epoch(epoch), &me, &hold), "{step:?}");
        assert_eq!(authority.ownership(domain(n)).await.unwrap(), Some(again));
    }
}

#[tokio::test]
async fn a_lost_race_for_the_shelf_is_a_conflict_and_no_lost_answer() {
    let (_cell, together) = three().await;
    let (a, b) = (&together.links[0].1.authority, &together.links[1].1.authority);
    a.claim_unowned(vec![domain(1)], name("a")).await.unwrap();
    a.step(domain(1), Epoch(1), OwnershipStep::Park { by: name("a") }).await.unwrap();
    let unpark = |by: &str| OwnershipStep::Unpark { by: name(by) };
    let (first, second) = tokio::join!(asked(b, 1, 1, unpark("b")), asked(a, 1, 1, unpark("a")));
    let refused = [&first, &second].into_iter().filter_map(|r| r.as_ref().err()).map(|f| f.kind).collect::<Vec<_>>();
    assert_eq!(refused, [FaultKind::Conflict], "{first:?} {second:?}");
}

#[tokio::test]
async fn an_answer_that_waits_for_a_resumed_stream_is_not_lost() {
    let authority = Held::new();
    let cell = Cell::deciding(accounts().await, Limits::default(), None, authority.clone());
    let wire = Wire::to(&cell.server);
    let alpha = link(&Agent::new("alpha"), &wire, |_| {});
    alpha.well().await;
    authority.claim_unowned(vec![domain(1)], name("alpha")).await.unwrap();
    authority.holding.store(true, Ordering::SeqCst);
    let park = tokio::spawn({
        let link = alpha.authority.clone();
        async move { asked(&link, 1, 1, OwnershipStep::Park { by: name("alpha") }).await }
    });
    until("it is done", || authority.done.load(Ordering::SeqCst) == 1).await;
    wire.cut(None);
    until("the link notices", || alpha.watcher.health().connected_since.is_none()).await;
    authority.gate.as_ref().unwrap().add_permits(1);
    wire.cut(Some(&cell.server));
    assert_eq!(park.await.unwrap().map(|o| o.hold), Ok(Hold::Parked));
}

#[tokio::test]
async fn from_the_first_moment_an_agent_is_told_nothing_worse_than_that_there_is_no_link() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    let agent = Agent::new("alpha");
    agent.machine(1, "web1", DomainState::Shutoff);
    for round in 0..20 {
        let alpha = link(&agent, &wire, |_| {});
        let mut asked = 0;
        let held = loop {
            match within("an answer", alpha.authority.claim_unowned(vec![domain(1)], name("alpha"))).await {
                Ok(held) => break held,
                // Not that it must say hello first: the link sees to that by itself.
                Err(fault) => {
                    assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("there is no link"), "round {round}: {fault}")
                }
            }
            asked += 1;
            assert!(asked < 100_000, "round {round}: never linked");
            tokio::task::yield_now().await;
        };
        assert_eq!(held, [Ownership::owned(domain(1), Epoch(1), name("alpha"))]);
    }
}
