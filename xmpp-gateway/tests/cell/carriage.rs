//! Carriages between a real server and a real link: a second connection that becomes bytes.

use crate::world::{Agent, Cell, Running, Wire, accounts, link_with, until, within};
use archipel_contract::{BoxFuture, FaultKind, ticket::Proof};
use archipel_xmpp::exchange::carriages::{Carriage, Uncarried};
use archipel_xmpp::link::{Known, Porter};
use archipel_xmpp::server::Limits;
use archipel_xmpp::stream::wire::BoxedIo;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TOKEN: &str = "alpha~aaaaaaaaaaaaaaaaaaaaaa";

fn proof(letter: &str) -> Proof {
    letter.repeat(43).parse().unwrap()
}

/// Has one ticket, and says after whatever came how much that was.
#[derive(Default)]
struct Counting {
    over: Arc<AtomicUsize>,
}

impl Porter for Counting {
    fn knows(&self, folder: &str, token: &str, shown: &Proof) -> Option<Known> {
        let fits = (folder, token, shown) == ("volume", TOKEN, &proof("a"));
        fits.then(|| Known { person: "ada@vm.localhost".into(), what: "a volume".into() })
    }
    fn serve(&self, mut io: BoxedIo) -> BoxFuture<'static, ()> {
        let over = self.over.clone();
        Box::pin(async move {
            let (mut all, mut chunk) = (0, vec![0; 4096]);
            loop {
                match io.read(&mut chunk).await {
                    Ok(0) => break,
                    Ok(length) => all += length,
                    Err(_) => {
                        over.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            }
            let _ = io.write_all(format!("{all} bytes").as_bytes()).await;
            let _ = io.shutdown().await;
            over.fetch_add(1, Ordering::SeqCst);
        })
    }
}

struct Site {
    cell: Cell,
    wire: Arc<Wire>,
    over: Arc<AtomicUsize>,
    link: Running,
}

async fn site() -> Site {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    let porter = Counting::default();
    let over = porter.over.clone();
    let link = link_with(&Agent::new("alpha"), &wire, Some(Arc::new(porter)), |_| {});
    link.well().await;
    Site { cell, wire, over, link }
}

impl Site {
    async fn carry(&self, folder: &str, token: &str, proof: Proof) -> Result<Carriage, Uncarried> {
        within("a carriage", self.cell.exchange.carry(&"alpha".parse().unwrap(), folder, token.into(), proof)).await
    }
    async fn good(&self) -> Carriage {
        self.carry("volume", TOKEN, proof("a")).await.map_err(|why| format!("{why:?}")).unwrap()
    }
    async fn served(&self, count: usize) {
        until("it was served to its end", || self.over.load(Ordering::SeqCst) == count).await;
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_half_of_it_may_be_closed() {
    let site = site().await;
    let mut carriage = site.good().await;
    assert_eq!(site.wire.connections.load(Ordering::SeqCst), 2, "a connection of its own");
    let sent = vec![7; 300_000];
    within("sending", carriage.io.write_all(&sent)).await.unwrap();
    within("the end", carriage.io.shutdown()).await.unwrap();
    let mut said = String::new();
    within("an answer", carriage.io.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "300000 bytes");
    site.served(1).await;
    assert!(site.link.watcher.health().is_well(), "the link has not noticed");
}

#[tokio::test]
async fn without_a_ticket_nobody_connects() {
    let site = site().await;
    for (folder, token, proof) in [("volume", TOKEN, proof("b")), ("console", TOKEN, proof("a")), ("volume", "alpha~b", proof("a"))] {
        assert!(matches!(site.carry(folder, token, proof).await, Err(Uncarried::Ticket)));
    }
    assert_eq!(site.wire.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_cannot_connect_again_says_why() {
    let site = site().await;
    // What stands stays; nothing new comes through.
    site.wire.closed_to_new.store(true, Ordering::SeqCst);
    let Err(Uncarried::Fault(fault)) = site.carry("volume", TOKEN, proof("a")).await else { panic!("it was carried") };
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.to_string().contains("is not there at the moment"), "{fault}");
}

#[tokio::test]
async fn either_side_ends_the_other() {
    let site = site().await;
    drop(site.good().await);
    site.served(1).await;
    let mut carriage = site.good().await;
    carriage.io.write_all(b"half").await.unwrap();
    // The cable is pulled: both ends see it.
    site.wire.cut(None);
    let mut rest = Vec::new();
    // An end or an error, whichever the cut looks like.
    let _ = within("the end", carriage.io.read_to_end(&mut rest)).await;
    site.served(2).await;
}

#[tokio::test]
async fn a_server_that_stops_ends_carriages_with_a_reason() {
    let site = site().await;
    let carriage = site.good().await;
    site.cell.server.shutdown().await;
    assert!(within("the reason", carriage.ended).await.contains("is stopping"));
}
