//! Machines on the cell's shelf.

use super::*;

async fn shelved(lab: &Lab) -> usize {
    lab.shelf.documents("parked/".to_owned()).await.unwrap().len()
}

#[test]
fn a_parked_machine_is_on_no_host_and_comes_down_where_it_is_wanted() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Running, true);
        lab.begin_all().await;
        let fault = lab.refused("alpha", id, "domain.park", json!({})).await;
        assert!(fault.kind == FaultKind::WrongState && fault.message.contains("shut it down first"), "{fault}");
        lab.ask("alpha", id, "domain.force-off", json!({})).await.unwrap();
        lab.ask("alpha", id, "domain.autostart", json!({"enabled": true})).await.unwrap();
        lab.ask("alpha", id, "domain.park", json!({})).await.unwrap();
        assert!(lab.seen("alpha", id, "domain.parked").removes());
        assert_eq!((lab.ownership(id).await.hold, shelved(lab).await), (Hold::Parked, 1));
        assert_eq!(lab.fake("alpha").really(id), Standing::Absent);
        let answer = lab.ask("beta", hv("beta"), "domain.unpark", json!({"machine": "web1"})).await.unwrap();
        assert_eq!(answer["id"], id.to_string());
        lab.at_rest(id, "beta").await;
        assert_eq!((shelved(lab).await, lab.ownership(id).await.epoch), (0, Epoch(2)));
        assert!(lab.fake("beta").domain(id).unwrap().facts.autostart);
        let gone = lab.refused("beta", hv("beta"), "domain.unpark", json!({"machine": "web1"})).await;
        assert_eq!(gone.kind, FaultKind::NotFound);
    });
}

#[test]
fn of_two_hosts_that_unpark_at_once_one_wins() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        lab.ask("alpha", id, "domain.park", json!({})).await.unwrap();
        let arguments = json!({"machine": id});
        let (a, b) = futures::join!(
            lab.ask("alpha", hv("alpha"), "domain.unpark", arguments.clone()),
            lab.ask("beta", hv("beta"), "domain.unpark", arguments.clone())
        );
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let winner = if a.is_ok() { "alpha" } else { "beta" };
        lab.at_rest(id, winner).await;
        let defined = ["alpha", "beta"].iter().filter(|h| lab.fake(h).domain(id).is_some()).count();
        assert_eq!((defined, shelved(lab).await), (1, 0));
    });
}

#[test]
fn a_name_that_is_taken_leaves_the_machine_on_the_shelf() {
    story(&["alpha", "beta"], async |lab| {
        let id = lab.fake("alpha").add_domain("web1", DomainState::Shutoff, true);
        lab.fake("beta").add_domain("web1", DomainState::Shutoff, true);
        lab.begin_all().await;
        lab.ask("alpha", id, "domain.park", json!({})).await.unwrap();
        let fault = lab.refused("beta", hv("beta"), "domain.unpark", json!({"machine": id})).await;
        assert_eq!(fault.kind, FaultKind::Conflict, "{fault}");
        assert_eq!((lab.ownership(id).await.hold, shelved(lab).await), (Hold::Parked, 1));
        lab.ask("alpha", hv("alpha"), "domain.unpark", json!({"machine": id})).await.unwrap();
        lab.at_rest(id, "alpha").await;
    });
}

#[test]
fn a_parking_that_was_interrupted_is_finished_or_undone_at_the_next_start() {
    story(&["alpha", "beta"], async |lab| {
        let finished = lab.fake("alpha").add_domain("finished", DomainState::Shutoff, true);
        let taken = lab.fake("alpha").add_domain("taken", DomainState::Shutoff, true);
        lab.begin_all().await;
        for id in [finished, taken] {
            // It is parked, and its definition could not be discarded.
            lab.fake("alpha").script.fail("migration.discard", 1, Fault::unavailable("libvirt went away"));
            lab.refused("alpha", id, "domain.park", json!({})).await;
            assert_eq!(lab.ownership(id).await.hold, Hold::Parked);
            assert!(lab.fake("alpha").domain(id).is_some());
        }
        lab.end("alpha").await;
        lab.fake("alpha").enter(taken, DomainState::Running, "booted");
        lab.begin_again("alpha").await;
        lab.until("it is put away", |l| l.fake("alpha").domain(finished).is_none()).await;
        lab.until("it is not shown", |l| l.entity("alpha", finished).is_none()).await;
        // Somebody started the other one with other tools: it is not parked any more.
        lab.until("it is off the shelf", |l| l.entity("alpha", taken).is_some()).await;
        let unparked = async {
            while lab.ownership(taken).await.hold != Hold::Owned || shelved(lab).await != 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, unparked).await.expect("it is owned again");
        assert_eq!(lab.ownership(finished).await.hold, Hold::Parked);
    });
}
