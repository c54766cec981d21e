//! Definitions that other tools brought or left behind.

use super::*;
use archipel_contract::{Facts, hypervisor::Stranger};

impl Lab {
    fn strangers(&self, at: &str) -> Vec<Stranger> {
        match self.entity(at, hv(at)).map(|e| e.facts.clone()) {
            Some(Facts::Hypervisor(facts)) => facts.strangers,
            _ => Vec::new(),
        }
    }

    /// A machine that is defined on one host and owned by another.
    async fn lent(&self, at: &str, owner: &str) -> DomainId {
        let id = self.fake(at).add_domain("web1", DomainState::Shutoff, true);
        self.authority.claim_unowned(vec![id], owner.parse().unwrap()).await.unwrap();
        id
    }

    /// Moved with other tools that leave the definition at the source.
    async fn moved_by_hand(&self, id: DomainId, from: &str, to: &str) {
        let landing = self.fake(to).host().migration.landing().await.unwrap();
        self.fake(from).host().migration.transfer(id, landing, Default::default()).await.unwrap();
        self.seen(to, id, "domain.migrated");
        self.at_rest(id, to).await;
    }
}

#[test]
fn a_machine_that_is_off_and_whose_owner_has_it_no_more_is_adopted() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("beta", "alpha").await;
        lab.begin_all().await;
        let adopted = lab.seen("beta", id, "domain.migrated");
        assert_eq!(adopted.cause, Cause::Libvirt);
        lab.at_rest(id, "beta").await;
        lab.until("it is no stranger any more", |l| l.strangers("beta").is_empty()).await;
        lab.ask("beta", id, "domain.start", json!({})).await.unwrap();
    });
}

#[test]
fn of_two_definitions_that_are_off_the_owner_keeps_its_own_and_a_person_removes_the_other() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("alpha", "alpha").await;
        lab.fake("beta").adopt(lab.fake("alpha").domain(id).unwrap());
        lab.begin_all().await;
        lab.until("beta tells of it", |l| l.strangers("beta").len() == 1).await;
        lab.until("its owner was asked", |l| l.fake("alpha").script.calls("migration.standing") > 0).await;
        lab.at_rest(id, "alpha").await;
        let missing = lab.refused("beta", hv("beta"), "hypervisor.remove-copy", json!({"machine": "web9"})).await;
        assert_eq!(missing.kind, FaultKind::NotFound);
        // Nothing is removed while it is not known that the owner has it.
        lab.board.silence(&"alpha".parse().unwrap(), true);
        let silent = lab.refused("beta", hv("beta"), "hypervisor.remove-copy", json!({"machine": "web1"})).await;
        assert_eq!(silent.kind, FaultKind::Unavailable, "{silent}");
        lab.board.silence(&"alpha".parse().unwrap(), false);
        // Somebody starts both.
        for at in ["alpha", "beta"] {
            lab.fake(at).enter(id, DomainState::Running, "booted");
        }
        lab.until("beta tells that it runs there", |l| l.strangers("beta").iter().any(|s| s.state == DomainState::Running)).await;
        let runs = lab.refused("beta", hv("beta"), "hypervisor.remove-copy", json!({"machine": id})).await;
        assert_eq!(runs.kind, FaultKind::WrongState, "{runs}");
    });
}

#[test]
fn what_a_move_with_other_tools_leaves_is_harmless_and_goes_when_a_person_says_so() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.fake("alpha").set_silently(id, |r| r.facts.autostart = true);
        lab.begin_all().await;
        lab.moved_by_hand(id, "alpha", "beta").await;
        let left = |l: &Lab| l.strangers("alpha").iter().any(|s| s.id == id && s.left);
        lab.until("alpha tells what is left", left).await;
        assert!(!lab.fake("alpha").domain(id).unwrap().facts.autostart, "it does not start with its host");
        // It is not taken back, whatever becomes of the agent and of the machine.
        lab.end("alpha").await;
        lab.begin_again("alpha").await;
        lab.until("alpha tells it again", left).await;
        lab.at_rest(id, "beta").await;
        lab.ask("alpha", hv("alpha"), "hypervisor.remove-copy", json!({"machine": "web1"})).await.unwrap();
        assert!(lab.fake("alpha").domain(id).is_none() && lab.strangers("alpha").is_empty());
        assert_eq!(lab.fake("beta").domain(id).unwrap().facts.state, DomainState::Running);
        lab.at_rest(id, "beta").await;
    });
}

#[test]
fn the_last_definition_of_a_machine_is_not_removed() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        lab.moved_by_hand(id, "alpha", "beta").await;
        lab.until("alpha tells what is left", |l| l.strangers("alpha").len() == 1).await;
        // Its owner lost it without a word.
        lab.fake("beta").remove_silently(id);
        let fault = lab.refused("alpha", hv("alpha"), "hypervisor.remove-copy", json!({"machine": "web1"})).await;
        assert!(fault.kind == FaultKind::Conflict && fault.message.contains("the only one"), "{fault}");
        assert!(lab.fake("alpha").domain(id).is_some());
    });
}

#[test]
fn a_copy_becomes_the_machine_when_its_owner_removes_its_own() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("alpha", "alpha").await;
        lab.fake("beta").adopt(lab.fake("alpha").domain(id).unwrap());
        lab.begin_all().await;
        lab.until("beta tells of it", |l| l.strangers("beta").len() == 1).await;
        lab.at_rest(id, "alpha").await;
        lab.ask("alpha", id, "domain.undefine", json!({})).await.unwrap();
        lab.seen("alpha", id, "domain.undefined");
        // What the exchange says to whoever has a copy.
        let cell = Caller { jid: "vm.localhost".into(), role: Role::Node, operation: OperationId::fresh() };
        lab.as_caller("beta", cell, hv("beta"), "hypervisor.look-again", json!({"domain": id})).await.unwrap();
        lab.until("beta shows it", |l| l.entity("beta", id).is_some()).await;
        lab.at_rest(id, "beta").await;
        lab.until("it is no stranger any more", |l| l.strangers("beta").is_empty()).await;
    });
}

#[test]
fn a_copy_with_old_memory_is_not_started_before_that_is_thrown_away() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("beta", "alpha").await;
        lab.fake("beta").keep_memory(id);
        lab.begin_all().await;
        lab.seen("beta", id, "domain.migrated");
        let refused = async |lab: &Lab| {
            let fault = lab.refused("beta", id, "domain.start", json!({})).await;
            assert!(fault.kind == FaultKind::WrongState && fault.message.contains("domain discard-saved"), "{fault}");
        };
        refused(lab).await;
        lab.end("beta").await;
        lab.begin_again("beta").await;
        lab.until("it is known again", |lab| lab.entity("beta", id).is_some()).await;
        refused(lab).await;
        assert_eq!(lab.fake("beta").script.calls("domain.start"), 0, "libvirt was not even asked");
        lab.ask("beta", id, "domain.discard-saved", json!({})).await.unwrap();
        lab.ask("beta", id, "domain.start", json!({})).await.unwrap();
        // What is saved here from now on is its own.
        lab.until("it runs", |lab| lab.entity("beta", id).is_some_and(|e| e.state() == "running")).await;
        let task = lab.started("beta", id, "domain.save", json!({})).await;
        assert_eq!(lab.ends("beta", task).await["progress_state"], "done");
        lab.until("it is off", |lab| lab.entity("beta", id).is_some_and(|e| e.state() == "shutoff")).await;
        lab.ask("beta", id, "domain.start", json!({})).await.unwrap();
    });
}

#[test]
fn old_memory_counts_no_more_when_it_is_gone_or_saved_anew() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("beta", "alpha").await;
        lab.fake("beta").keep_memory(id);
        lab.begin_all().await;
        lab.seen("beta", id, "domain.migrated");
        // Somebody goes on from it with other tools, and saves it so.
        lab.fake("beta").enter(id, DomainState::Running, "restored");
        lab.seen("beta", id, "domain.started");
        lab.fake("beta").host().snapshots.save(id, Arc::new(archipel_contract::work::Unfollowed)).await.unwrap();
        lab.seen("beta", id, "domain.stopped");
        let noted = async || lab.site("beta").local.documents("agent/beta/stale-memory/".into()).await.unwrap();
        let forgotten = async {
            while !noted().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, forgotten).await.expect("it is the machine's own now");
        lab.ask("beta", id, "domain.start", json!({})).await.unwrap();
    });
}

#[test]
fn a_copy_of_another_hosts_machine_does_not_start_when_its_host_boots() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.lent("alpha", "alpha").await;
        lab.fake("alpha").set_silently(id, |r| r.facts.autostart = true);
        lab.fake("beta").adopt(lab.fake("alpha").domain(id).unwrap());
        lab.begin_all().await;
        lab.until("it would not start at beta", |l| !l.fake("beta").domain(id).unwrap().facts.autostart).await;
        assert!(lab.fake("alpha").domain(id).unwrap().facts.autostart, "its owner starts it");
    });
}

#[test]
fn what_libvirt_makes_of_a_transfer_after_that_was_given_up_is_swept_when_its_guest_has_ended() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        for (n, restarted) in [(1, false), (2, true)] {
            let place = lab.place("alpha", id, n).await;
            let saga = place["saga"].clone();
            lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.reserve", place).await.unwrap();
            // A libvirtd that stood still takes the last step now, and its source has given the move up.
            let mut arrived = lab.fake("alpha").domain(id).unwrap();
            arrived.facts.state = DomainState::Paused;
            lab.fake("beta").adopt(arrived);
            lab.as_caller("beta", node("alpha"), hv("beta"), "hypervisor.unreserve", json!({"saga": saga})).await.unwrap();
            assert!(lab.fake("beta").domain(id).is_some(), "its emulator is there");
            if restarted {
                lab.end("beta").await;
                lab.begin_again("beta").await;
            }
            lab.until("beta tells of it", |l| l.strangers("beta").len() == 1).await;
            lab.fake("beta").enter(id, DomainState::Shutoff, "failed");
            lab.until("the definition is gone", |l| l.fake("beta").domain(id).is_none()).await;
            lab.until("it is told of no more", |l| l.strangers("beta").is_empty()).await;
            lab.at_rest(id, "alpha").await;
        }
    });
}
