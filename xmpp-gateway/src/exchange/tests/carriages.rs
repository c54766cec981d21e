//! Carriages as the exchange sees them: who may make one, once and in time, how many there may be, and how they end.

use super::world::{Client, World};
use crate::exchange::carriages::{Carriage, OPEN, OPEN_OF_ONE, Uncarried};
use crate::server::{StreamCondition, handler::SessionHandler};
use crate::stanza::{carriage::Carry, carriage::CarryAnswer, node};
use archipel_contract::{FaultKind, ticket::Proof};
use minidom::Element;
use tokio::io::DuplexStream;

fn proof() -> Proof {
    "a".repeat(43).parse().unwrap()
}

async fn carry(world: &World, host: &str) -> Result<Carriage, Uncarried> {
    world.exchange.carry(&host.parse().unwrap(), "console", format!("{host}~token"), proof()).await
}

async fn asked(agent: &Client) -> (Element, Carry) {
    let iq = agent.wait(|e| e.name() == "iq" && e.attr("type") == Some("set")).await;
    match node::Ask::parse(iq.children().next().unwrap()) {
        Ok(node::Ask::Carry(carry)) => (iq, carry),
        other => panic!("not asked to carry: {other:?}"),
    }
}

fn answer(agent: &Client, iq: &Element, answer: &CarryAnswer) {
    agent.reply(iq, &serde_json::to_value(answer).unwrap());
}

fn good() -> CarryAnswer {
    CarryAnswer::Carried { person: "ada@vm.localhost".into(), what: "the vnc console".into() }
}

/// What an agent does with a good ticket. The other end of the carriage.
async fn come(world: &World, agent: &Client, host: &str) -> DuplexStream {
    let (iq, carry) = asked(agent).await;
    let berth = world.exchange.berth(&format!("hv.{host}"), &carry.carriage).unwrap();
    let (near, far) = tokio::io::duplex(64);
    assert!(berth.send(Box::new(near)).is_ok());
    answer(agent, &iq, &good());
    far
}

async fn open(world: &World, agent: &Client, host: &str) -> (Carriage, DuplexStream) {
    let (carriage, far) = tokio::join!(carry(world, host), come(world, agent, host));
    (carriage.map_err(|why| format!("{why:?}")).unwrap(), far)
}

fn fault(outcome: Result<Carriage, Uncarried>) -> archipel_contract::Fault {
    match outcome {
        Err(Uncarried::Fault(fault)) => fault,
        Err(Uncarried::Ticket) => panic!("there is no such ticket"),
        Ok(_) => panic!("it was carried"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_carriage_is_taken_once_and_only_from_whoever_was_asked() {
    let world = World::new().await;
    let (alpha, _beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    let (outcome, carriage) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, carry) = asked(&alpha).await;
        assert_eq!((&*carry.token, &*carry.folder, &carry.proof), ("alpha~token", "console", &proof()));
        for stranger in ["hv.beta", "hv.", "alpha", "admin"] {
            assert!(world.exchange.berth(stranger, &carry.carriage).is_none(), "{stranger}");
        }
        assert!(world.exchange.berth("hv.alpha", "made-up").is_none());
        let berth = world.exchange.berth("hv.alpha", &carry.carriage).unwrap();
        assert!(world.exchange.berth("hv.alpha", &carry.carriage).is_none(), "a second time");
        let (near, _far) = tokio::io::duplex(64);
        assert!(berth.send(Box::new(near)).is_ok());
        answer(&alpha, &iq, &good());
        carry.carriage
    });
    assert!(outcome.is_ok());
    assert!(world.exchange.berth("hv.alpha", &carriage).is_none(), "it is over");
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_taken() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let (outcome, carriage) = tokio::join!(carry(&world, "alpha"), async { asked(&alpha).await.1.carriage });
    assert!(matches!(outcome, Err(Uncarried::Ticket)), "nobody has said that there is such a ticket");
    assert!(world.exchange.berth("hv.alpha", &carriage).is_none());
    // The agent says that it comes, and does not.
    let (outcome, ()) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, _) = asked(&alpha).await;
        answer(&alpha, &iq, &good());
    });
    assert_eq!(fault(outcome).kind, FaultKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_apart_before_a_ticket_was_good() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    assert!(matches!(carry(&world, "nowhere").await, Err(Uncarried::Ticket)), "no such host");
    let (outcome, ()) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, _) = asked(&alpha).await;
        answer(&alpha, &iq, &CarryAnswer::Refused);
    });
    assert!(matches!(outcome, Err(Uncarried::Ticket)), "no such ticket");
    let (outcome, ()) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, _) = asked(&alpha).await;
        alpha.reply(&iq, &serde_json::json!({ "message": "what?" }));
    });
    assert!(matches!(outcome, Err(Uncarried::Ticket)), "an agent of another version");
    let (outcome, ()) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, _) = asked(&alpha).await;
        answer(&alpha, &iq, &CarryAnswer::Failed { why: "it rains".into() });
    });
    let told = fault(outcome);
    assert_eq!((told.kind, told.cause.as_deref()), (FaultKind::Unavailable, Some("it rains")));
    alpha.close();
    assert!(matches!(carry(&world, "alpha").await, Err(Uncarried::Ticket)), "the host is away");
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_up_tickets_cannot_make_us_ask_without_end() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let mut asking: Vec<_> = (0..100).map(|_| Box::pin(carry(&world, "alpha"))).collect();
    let mut refused = 0;
    for one in &mut asking {
        if let std::task::Poll::Ready(outcome) = futures::poll!(one) {
            assert!(matches!(outcome, Err(Uncarried::Ticket)));
            refused += 1;
        }
    }
    assert_eq!((alpha.received().len(), refused), (32, 68));
    drop(asking);
    let (outcome, ()) = tokio::join!(carry(&world, "alpha"), async {
        let (iq, _) = asked(&alpha).await;
        answer(&alpha, &iq, &CarryAnswer::Refused);
    });
    assert!(matches!(outcome, Err(Uncarried::Ticket)), "whoever has given up does not count");
}

#[tokio::test(start_paused = true)]
async fn no_host_and_nobody_has_more_than_their_share() {
    let world = World::new().await;
    let mut all = Vec::new();
    for name in ["alpha", "beta", "gamma", "delta"] {
        let agent = world.host(name, vec![]).await;
        for _ in 0..OPEN_OF_ONE {
            all.push(open(&world, &agent, name).await);
        }
        let (outcome, _far) = tokio::join!(carry(&world, name), come(&world, &agent, name));
        assert_eq!(fault(outcome).kind, FaultKind::Busy);
    }
    assert_eq!(all.len(), OPEN);
    let last = world.host("omega", vec![]).await;
    let (outcome, _far) = tokio::join!(carry(&world, "omega"), come(&world, &last, "omega"));
    assert_eq!(fault(outcome).kind, FaultKind::Busy);
    all.pop();
    open(&world, &last, "omega").await;
}

#[tokio::test(start_paused = true)]
async fn carriages_end_with_the_link_over_which_they_were_asked_for() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    let (of_alpha, _far) = open(&world, &alpha, "alpha").await;
    let (mut of_beta, _far) = open(&world, &beta, "beta").await;
    alpha.close();
    assert_eq!(of_alpha.ended.await, "the agent on alpha is gone; try again when it is back");
    assert!(futures::poll!(&mut of_beta.ended).is_pending());
}

#[tokio::test(start_paused = true)]
async fn carriages_end_when_the_exchange_does_and_say_why() {
    for (why, said) in [(StreamCondition::Reset, "another exchange takes over"), (StreamCondition::SystemShutdown, "is stopping")] {
        let world = World::new().await;
        let alpha = world.host("alpha", vec![]).await;
        let (carriage, _far) = open(&world, &alpha, "alpha").await;
        world.exchange.dismissed(why);
        let told = carriage.ended.await;
        assert!(told.contains(said), "{told}");
        let (outcome, _far) = tokio::join!(carry(&world, "alpha"), come(&world, &alpha, "alpha"));
        assert!(fault(outcome).message.contains(said), "what is under way ends, too");
    }
}
