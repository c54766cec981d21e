//! Requests that are refused, and that nothing happens then.

use super::*;
use archipel_contract::OwnershipStep;

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
        let saga = archipel_contract::MoveId::fresh();
        let (here, beta): (archipel_contract::HypervisorName, archipel_contract::HypervisorName) =
            (lab.fake.host().name, "beta".parse().unwrap());
        let depart = OwnershipStep::Depart { by: here, saga, to: beta.clone() };
        lab.authority.step(id, archipel_contract::Epoch(1), depart).await.unwrap();
        lab.authority.step(id, archipel_contract::Epoch(1), OwnershipStep::Claim { by: beta, saga }).await.unwrap();
        let fault = lab.ask(id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
    });
}

/// Whoever is told that a machine is gone may define it anew.
#[test]
fn nothing_is_called_gone_before_everything_was_listed() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.fake.script.hold("domain.list", "");
        lab.start(Vec::new()).await;
        for command in ["domain.info", "domain.force-off"] {
            let fault = lab.ask(id, command, json!({})).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        }
        lab.fake.script.release();
        lab.seen("hypervisor.connected");
        assert!(lab.ask(id, "domain.info", json!({})).await.is_ok());
        let nobody = DomainId(uuid::Uuid::from_u128(1));
        assert_eq!(lab.ask(nobody, "domain.info", json!({})).await.unwrap_err().kind, FaultKind::NotFound);
    });
}
