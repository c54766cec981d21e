//! Requests that are refused, and that nothing happens then.

use super::*;

#[test]
fn a_viewer_is_refused_and_nothing_happens() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let viewer = Caller { role: Role::Viewer, ..admin() };
        let fault = lab.as_caller(viewer.clone(), id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden);
        assert!(lab.journal.is_empty());
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
        assert!(lab.as_caller(viewer, id, "domain.info", json!({})).await.is_ok());
    });
}

#[test]
fn a_wrong_request_gets_its_fault() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let kind = async |target: EntityId, command: &str, arguments: Value| lab.ask(target, command, arguments).await.unwrap_err().kind;
        use FaultKind::*;
        assert_eq!(kind(id.into(), "domain.fly", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!({"paused": "maybe"})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!({"now": true})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!([])).await, InvalidRequest);
        assert_eq!(kind(hv(), "domain.start", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.list", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.shutdown", json!({"timeout": 0})).await, InvalidRequest);
        assert_eq!(kind(DomainId(uuid::Uuid::nil()).into(), "domain.start", json!({})).await, NotFound);
        assert!(lab.journal.is_empty(), "nothing of this was accepted");
        assert_eq!(kind(id.into(), "domain.pause", json!({})).await, WrongState);
        assert_eq!(kind(hv(), "domain.define", json!({"name": "web1"})).await, Conflict);
        assert_eq!(kind(hv(), "domain.define", json!({"name": "../x"})).await, InvalidRequest);
    });
}

#[test]
fn only_the_owner_may_start_a_machine() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.authority.transfer(id, archipel_contract::Epoch(1), "beta".parse().unwrap()).await.unwrap();
        let fault = lab.ask(id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
    });
}
