//! The membership over documents in memory.

use super::*;
use archipel_contract::fake::{FakeClock, MemoryAccounts, MemoryDocuments};
use archipel_contract::port::AccountKind;
use rustls_pki_types::pem::PemObject;

struct Cell {
    clock: Arc<FakeClock>,
    accounts: Arc<MemoryAccounts>,
    documents: Arc<MemoryDocuments>,
    members: Arc<Membership>,
}

impl Cell {
    async fn new() -> Cell {
        let (clock, accounts, documents) =
            (Arc::<FakeClock>::default(), Arc::<MemoryAccounts>::default(), Arc::<MemoryDocuments>::default());
        let members = Membership::open("vm.test".parse().unwrap(), documents.clone(), accounts.clone(), clock.clone(), "192.0.2.1:5222")
            .await
            .unwrap();
        Cell { clock, accounts, documents, members }
    }

    async fn invited(&self, name: Option<&str>) -> Token {
        self.members.invite("admin@vm.test", name.map(|n| n.parse().unwrap()), Millis::seconds(1800)).await.unwrap().0
    }

    async fn join(&self, token: &Token, name: &str) -> Result<Grant, Fault> {
        let (_, key) = join::fresh_key().unwrap();
        self.members.redeem(&Request { token: token.secret(), name: name.parse().unwrap(), key }).await
    }

    async fn identify(&self, grant: &Grant) -> Result<HypervisorName, Fault> {
        self.members.identify(&CertificateDer::from_pem_slice(grant.certificate.as_bytes()).unwrap()).await
    }
}

#[track_caller]
fn refusal<T>(outcome: Result<T, Fault>, kind: FaultKind, words: &str) {
    let fault = outcome.err().expect("it is refused");
    assert!(fault.kind == kind && fault.to_string().contains(words), "{words:?} is not in {fault:?}");
}

#[tokio::test]
async fn a_token_lets_one_host_in_once() {
    let cell = Cell::new().await;
    let token = cell.invited(None).await;
    let grant = cell.join(&token, "beta").await.unwrap();
    assert_eq!(grant.cell.as_str(), "vm.test");
    assert_eq!(cell.identify(&grant).await.unwrap().as_str(), "beta");
    refusal(cell.join(&token, "gamma").await, FaultKind::Forbidden, "was used by beta");
    assert_eq!(cell.members.records().await.unwrap().len(), 1, "nothing is left of the one that was refused");
    // Nobody who reads the documents can join.
    let kept = cell.documents.documents("".into()).await.unwrap();
    assert!(kept.iter().all(|(key, d)| !key.contains(&token.secret()) && !String::from_utf8_lossy(&d.body).contains(&token.secret())));
}

#[tokio::test]
async fn of_two_hosts_with_one_token_one_wins() {
    let cell = Cell::new().await;
    for _ in 0..20 {
        let token = cell.invited(None).await;
        let (a, b) = tokio::join!(cell.join(&token, "beta"), cell.join(&token, "gamma"));
        assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1, "{a:?} {b:?}");
        let records = cell.members.records().await.unwrap();
        assert_eq!(records.len(), 1);
        cell.members.remove(&records[0].name, "again").await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_is_over_foreign_or_for_another_is_refused_with_its_reason() {
    let cell = Cell::new().await;
    let named = cell.invited(Some("beta")).await;
    refusal(cell.join(&named, "gamma").await, FaultKind::Forbidden, "is for beta and not for gamma");
    assert!(cell.join(&named, "beta").await.is_ok(), "a refusal does not use it up");
    let late = cell.invited(None).await;
    cell.clock.advance(Millis::seconds(1801));
    refusal(cell.join(&late, "gamma").await, FaultKind::Forbidden, "was good until");
    let foreign = Cell::new().await.invited(None).await;
    refusal(cell.join(&foreign, "gamma").await, FaultKind::Forbidden, "not known here");
    let request = Request { token: "rubbish".into(), name: "gamma".parse().unwrap(), key: String::new() };
    refusal(cell.members.redeem(&request).await, FaultKind::Forbidden, "not known here");
    // What is over is swept, after a while in which whoever tries it is still told why.
    cell.clock.advance(Millis(3 * DAY));
    cell.invited(None).await;
    assert_eq!(cell.documents.documents("invite/".into()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_is_taken_while_its_host_is_there_and_replaced_only_by_name() {
    let cell = Cell::new().await;
    let first = cell.join(&cell.invited(None).await, "beta").await.unwrap();
    let hello = crate::stanza::node::Hello {
        version: "0.1.0".into(),
        host: "beta".parse().unwrap(),
        incarnation: 7,
        entities: 0,
        instance: None,
        now: None,
    };
    cell.members.roll.meet(&hello, "0.1.0", cell.clock.now()).unwrap();
    let token = cell.invited(None).await;
    refusal(cell.join(&token, "beta").await, FaultKind::Conflict, "linked at this moment");
    refusal(cell.members.invite("a", Some(hello.host.clone()), Millis(1)).await, FaultKind::Conflict, "linked at this moment");
    cell.members.roll.part(&hello.host);
    refusal(cell.join(&token, "beta").await, FaultKind::Conflict, "cell invite --name beta");
    let second = cell.join(&cell.invited(Some("beta")).await, "beta").await.unwrap();
    assert_eq!(second.after, 7, "its events count as newer");
    assert!(cell.identify(&second).await.is_ok());
    refusal(cell.identify(&first).await, FaultKind::Forbidden, "another host joined in its place");
    // An account's name is nobody else's.
    cell.accounts.add(crate::accounts::account("hv.alpha", "secret", AccountKind::Node, 4096).unwrap()).await.unwrap();
    refusal(cell.join(&token, "alpha").await, FaultKind::Conflict, "logs in by password");
    refusal(cell.members.remove(&"alpha".parse().unwrap(), "x").await, FaultKind::WrongState, "account remove hv.alpha");
    assert!(cell.join(&token, "gamma").await.is_ok(), "none of this used the token up");
}

#[tokio::test]
async fn a_certificate_is_worth_nothing_once_taken_back_expired_or_foreign() {
    let cell = Cell::new().await;
    let grant = cell.join(&cell.invited(None).await, "beta").await.unwrap();
    let beta: HypervisorName = "beta".parse().unwrap();
    let elsewhere = Cell::new().await;
    let foreign = elsewhere.join(&elsewhere.invited(None).await, "beta").await.unwrap();
    refusal(cell.identify(&foreign).await, FaultKind::Forbidden, "not made by this cell's authority");
    cell.members.remove(&beta, "revoked by admin@vm.test").await.unwrap();
    refusal(cell.identify(&grant).await, FaultKind::Forbidden, "revoked by admin@vm.test");
    assert!(!cell.members.belongs(&beta).await.unwrap());
    refusal(cell.members.remove(&beta, "x").await, FaultKind::NotFound, "no host of the cell is called beta");
    let again = cell.join(&cell.invited(None).await, "beta").await.unwrap();
    assert!(cell.identify(&again).await.is_ok());
    cell.clock.advance(Millis(CERTIFICATE.0 + 2000));
    refusal(cell.identify(&again).await, FaultKind::Forbidden, "join again with a new token");
    // What has ended by itself is not remembered as taken back.
    cell.members.remove(&beta, "over").await.unwrap();
    assert_eq!(cell.documents.documents("revoked/".into()).await.unwrap(), []);
}

#[tokio::test]
async fn a_certificate_is_renewed_when_a_third_of_its_time_is_left_and_the_old_one_stays_good() {
    let cell = Cell::new().await;
    let beta: HypervisorName = "beta".parse().unwrap();
    let grant = cell.join(&cell.invited(None).await, "beta").await.unwrap();
    assert_eq!(cell.members.renew_after(&beta).await.unwrap(), Some(Millis(60 * DAY)));
    cell.clock.advance(Millis(61 * DAY));
    assert_eq!(cell.members.renew_after(&beta).await.unwrap(), Some(Millis(0)));
    let (_, key) = join::fresh_key().unwrap();
    let next = cell.members.renew(&beta, &key).await.unwrap();
    assert!(cell.identify(&next).await.is_ok() && cell.identify(&grant).await.is_ok());
    cell.clock.advance(Millis(60 * DAY));
    assert!(cell.identify(&next).await.is_ok());
    assert!(cell.identify(&grant).await.is_err());
    cell.members.remove(&beta, "left").await.unwrap();
    refusal(cell.members.renew(&beta, &key).await, FaultKind::Forbidden, "not a member");
}

#[tokio::test]
async fn exchanges_of_one_cell_share_the_authority_and_their_certificates_are_made_anew_in_time() {
    let cell = Cell::new().await;
    let other = Membership::open("vm.test".parse().unwrap(), cell.documents.clone(), cell.accounts.clone(), cell.clock.clone(), "b:1");
    let other = other.await.unwrap();
    assert_eq!(other.fingerprint(), cell.members.fingerprint());
    let key = KeyPair::generate().unwrap();
    let names = ["vm.test".to_owned()];
    let pem = other.for_exchange(&names, &key, None).unwrap().unwrap();
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(cell.members.for_exchange(&names, &key, Some(&leaf)).unwrap(), None, "it holds");
    assert!(cell.members.for_exchange(&["192.0.2.9".to_owned()], &key, Some(&leaf)).unwrap().is_some(), "another address");
    cell.clock.advance(Millis(336 * DAY));
    assert!(cell.members.for_exchange(&names, &key, Some(&leaf)).unwrap().is_some(), "less than a month is left");
}
