//! Machines that libvirt has here while another host owns them.

use super::*;
use archipel_contract::{Epoch, Facts, HypervisorName, MoveId, OwnershipStep, hypervisor::Stranger};

fn strangers(entity: &Entity) -> Vec<Stranger> {
    let Facts::Hypervisor(facts) = &entity.facts else { panic!("a hypervisor") };
    facts.strangers.clone()
}

fn beta() -> HypervisorName {
    "beta".parse().unwrap()
}

impl Lab {
    /// Waits until the hypervisor tells of this stranger in this state, or of none.
    fn stranger(&self, id: DomainId, state: Option<DomainState>) {
        let what = format!("{id} told of as {state:?}");
        self.recorder.wait(SOON, &what, |e| {
            let now = e.after.as_ref().filter(|_| e.entity == hv()).map(|e| strangers(e));
            now.is_some_and(|now| now.iter().find(|s| s.id == id).map(|s| s.state) == state)
        });
        // What is waited for next is told from here on.
        self.recorder.clear();
    }
}

#[test]
fn a_machine_of_another_owner_is_told_of_on_the_hypervisor() {
    story(async |lab| {
        let (off, ours) =
            (lab.fake.add_domain("left", DomainState::Shutoff, true), lab.fake.add_domain("web1", DomainState::Running, true));
        lab.authority.claim_unowned(vec![off], beta()).await.unwrap();
        lab.begin().await;
        lab.told(ours, "domain.added");
        lab.stranger(off, Some(DomainState::Shutoff));
        assert!(lab.entity(off).is_none(), "it has no address here");
        // Somebody starts it by hand, and stops it again.
        lab.fake.enter(off, DomainState::Running, "booted");
        lab.stranger(off, Some(DomainState::Running));
        lab.fake.enter(off, DomainState::Shutoff, "destroyed");
        lab.stranger(off, Some(DomainState::Shutoff));
        assert!(lab.entity(off).is_none());
        assert_eq!(strangers(&lab.entity(hv()).unwrap())[0].name.as_ref(), "left");
        lab.fake.remove_silently(off);
        lab.fake.report(off, DomainChange::Undefined);
        lab.stranger(off, None);
        assert_eq!(lab.authority.ownership(off).await.unwrap().unwrap().owner, beta(), "what is gone here is not gone there");
    });
}

#[test]
fn a_copy_that_appears_is_told_of_and_nothing_is_done_to_it() {
    story(async |lab| {
        lab.begin().await;
        let id = DomainId(uuid::Uuid::from_u128(77));
        lab.authority.claim_unowned(vec![id], beta()).await.unwrap();
        let mut record = lab.fake.domain(lab.fake.add_domain("model", DomainState::Running, true)).unwrap();
        record.id = id;
        record.name = "twin".into();
        lab.fake.adopt(record);
        lab.stranger(id, Some(DomainState::Running));
        assert_eq!(lab.fake.domain(id).unwrap().facts.state, DomainState::Running, "it runs on");
        assert_eq!(lab.authority.ownership(id).await.unwrap().unwrap().owner, beta());
    });
}

#[test]
fn what_is_claimed_is_no_stranger_any_more() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Paused, false);
        let saga = MoveId(uuid::Uuid::from_u128(1));
        lab.authority.claim_unowned(vec![id], beta()).await.unwrap();
        lab.begin().await;
        lab.stranger(id, Some(DomainState::Paused));
        let to = "alpha".parse().unwrap();
        lab.authority.step(id, Epoch(1), OwnershipStep::Depart { by: beta(), saga, to }).await.unwrap();
        // Either we are first, or the agent has noticed that it is expected here.
        let _ = lab.authority.step(id, Epoch(1), OwnershipStep::Claim { by: "alpha".parse().unwrap(), saga }).await;
        assert_eq!(lab.authority.ownership(id).await.unwrap().map(|o| (o.owner.to_string(), o.epoch)), Some(("alpha".into(), Epoch(2))));
        lab.fake.enter(id, DomainState::Running, "migrated");
        let shown = |e: &Event| e.entity == EntityId::Domain(id) && matches!(&*e.topic, "domain.added" | "domain.migrated");
        assert_eq!(lab.recorder.wait(SOON, "it is shown", shown).epoch, Epoch(2));
        lab.stranger(id, None);
    });
}

#[test]
fn what_was_handed_away_becomes_a_stranger_at_the_next_listing() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.told(id, "domain.added");
        let saga = MoveId(uuid::Uuid::from_u128(1));
        lab.authority.step(id, Epoch(1), OwnershipStep::Depart { by: "alpha".parse().unwrap(), saga, to: beta() }).await.unwrap();
        lab.authority.step(id, Epoch(1), OwnershipStep::Claim { by: beta(), saga }).await.unwrap();
        lab.fake.set_silently(id, |record| record.facts.state = DomainState::Shutoff);
        lab.fake.lose("a restart");
        lab.told(id, "domain.unknown");
        lab.fake.restore();
        lab.told(id, "domain.undefined");
        lab.stranger(id, Some(DomainState::Shutoff));
        assert_eq!(lab.authority.ownership(id).await.unwrap().unwrap().owner, beta());
    });
}

#[test]
fn what_the_cell_gave_away_unheard_is_found_when_everything_is_listed_again() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.told(id, "domain.added");
        let saga = MoveId(uuid::Uuid::from_u128(1));
        lab.authority.step(id, Epoch(1), OwnershipStep::Depart { by: "alpha".parse().unwrap(), saga, to: beta() }).await.unwrap();
        lab.authority.step(id, Epoch(1), OwnershipStep::Claim { by: beta(), saga }).await.unwrap();
        lab.agent().list_again();
        lab.told(id, "domain.undefined");
        lab.stranger(id, Some(DomainState::Running));
        assert!(lab.entity(id).is_none() && lab.fake.domain(id).is_some());
    });
}

#[test]
fn a_machine_nobody_knows_yet_hides_no_other_while_the_cell_is_away() {
    story(async |lab| {
        let known = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.authority.claim_unowned(vec![known], "alpha".parse().unwrap()).await.unwrap();
        let new = lab.fake.add_domain("web2", DomainState::Shutoff, true);
        lab.authority.go_away(true);
        lab.begin().await;
        lab.told(known, "domain.added");
        assert!(lab.entity(new).is_none() && lab.entity(known).is_some());
        assert!(!lab.agent().inventory().is_complete(), "nobody may call it gone");
        lab.authority.go_away(false);
        lab.told(new, "domain.added");
        assert_eq!(lab.authority.ownership(new).await.unwrap().unwrap().owner.as_str(), "alpha");
    });
}
