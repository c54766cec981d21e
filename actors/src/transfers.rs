//! The way from a ticket to the contents of a volume, in either direction.
//!
//! ```text
//!   token + secret --> ticket redeemed --> download: port, piece by piece --> HTTP
//!                           |         \--> upload: the pool's actor begins a task --> port <-- HTTP
//!                      one refusal                                    \--> its end answers the request
//! ```
//! It is asked from the HTTP server's thread. Between network and volume wait some pieces and no more: a slow volume makes the sender
//! wait, a slow client the reader.

pub use crate::tickets::Unopened;
use crate::{
    dispatch::Post,
    scope::{SHORT, within},
    storage_pool::PoolActor,
    tickets::{Admitted, Stay, Tickets},
};
use actix::Message;
use archipel_contract::{
    Fault, FaultKind, PoolId,
    ticket::{Opens, VolumePass, VolumeWay},
    volume::{Sink, Source, UploadSpec},
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait on either side of a volume's thread.
const QUEUE: usize = 4;

/// Which part of a volume is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// From this byte to that one, both included; without the second to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// Pieces in order; after a fault nothing comes.
pub type Pieces = mpsc::Receiver<Result<Vec<u8>, Fault>>;

/// The contents of a volume on their way out.
pub struct Outgoing {
    /// Its name.
    pub name: String,
    /// All its bytes.
    pub size: u64,
    /// The first that comes.
    pub from: u64,
    /// How many come.
    pub length: u64,
    /// They themselves.
    pub pieces: Pieces,
}

/// The contents of a volume on their way in.
pub struct Incoming {
    /// Where the first byte goes.
    pub from: u64,
    /// How many bytes the whole has, if that is known.
    pub size: Option<u64>,
    /// They themselves.
    pub pieces: Pieces,
}

/// Contents come: the pool's actor begins a task for them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Receive {
    /// The bare JID of who sends.
    pub person: Arc<str>,
    /// What shall become of it.
    pub spec: UploadSpec,
    /// They themselves.
    pub pieces: Pieces,
    /// Told how it ended.
    pub ended: oneshot::Sender<Result<String, Fault>>,
}

/// The contents of the volumes of one agent.
pub struct Transfers {
    tickets: Arc<Tickets>,
    posts: Vec<Post>,
}

struct Outlet(mpsc::Sender<Result<Vec<u8>, Fault>>);

impl Sink for Outlet {
    fn put(&mut self, bytes: Vec<u8>) -> bool {
        self.0.blocking_send(Ok(bytes)).is_ok()
    }
}

/// What a volume's thread takes pieces from.
pub(crate) struct Inlet(pub(crate) Pieces);

impl Source for Inlet {
    fn next(&mut self) -> Option<Result<Vec<u8>, Fault>> {
        self.0.blocking_recv()
    }
}

/// Hands pieces on until somebody stops it; whoever takes them then finds the end.
pub(crate) fn stoppable(mut from: Pieces, stopped: oneshot::Receiver<()>) -> Pieces {
    let (give, pieces) = mpsc::channel(QUEUE);
    let hand_on = async move {
        while let Some(piece) = from.recv().await {
            if give.send(piece).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = hand_on => {}
            // Whoever could stop it may have gone without doing so: then it ends with the pieces.
            Ok(()) = stopped => {}
        }
    });
    pieces
}

/// Hands pieces on until whoever has opened this is sent away; then a fault is the last that comes.
fn admitted(mut from: Pieces, mut stay: Stay) -> Pieces {
    let (give, pieces) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let (last, sent_away) = (give.clone(), stay.ended());
        let hand_on = async move {
            while let Some(piece) = from.recv().await {
                if give.send(piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = hand_on => {}
            // Whoever takes nothing finds the end instead.
            why = sent_away => drop(last.try_send(Err(Fault::new(FaultKind::Forbidden, why)))),
        }
        drop(stay);
    });
    pieces
}

impl Transfers {
    /// The volumes of an agent with these hypervisors.
    pub fn new(tickets: Arc<Tickets>, posts: Vec<Post>) -> Transfers {
        Transfers { tickets, posts }
    }

    fn admit(&self, token: &str, secret: &str, way: VolumeWay) -> Result<(Arc<str>, VolumePass, &Post, Stay), Unopened> {
        let (Admitted { person, opens: Opens::Volume(pass) }, stay) = self.tickets.enter(token, secret, "volume")? else {
            return Err(Unopened::Ticket);
        };
        if pass.way != way {
            return Err(Fault::invalid("this ticket is for the other direction; ask for one for this").into());
        }
        let home = self.home(pass.pool)?;
        Ok((person, pass, home, stay))
    }

    fn home(&self, pool: PoolId) -> Result<&Post, Fault> {
        let found = self.posts.iter().find(|p| p.board.get(&pool.into()).is_some());
        found.ok_or_else(|| Fault::not_found("the storage pool is gone; list them again"))
    }

    /// Begins to bring what the ticket is for, and uses it up.
    pub async fn download(self: Arc<Self>, token: String, secret: String, wanted: Wanted) -> Result<Outgoing, Unopened> {
        let (_, pass, home, stay) = self.admit(&token, &secret, VolumeWay::Download)?;
        let size = within(SHORT, home.host.volumes.length(pass.pool, pass.volume.clone())).await?.0;
        let (from, length) = range(wanted, size)?;
        let (give, pieces) = mpsc::channel(QUEUE);
        let (volumes, name) = (home.host.volumes.clone(), pass.volume.clone());
        tokio::spawn(async move {
            let outlet = Box::new(Outlet(give.clone()));
            if let Err(fault) = volumes.download(pass.pool, pass.volume, from, length, outlet).await {
                // Whoever fetches it may have gone already.
                let _ = give.send(Err(fault)).await;
            }
        });
        Ok(Outgoing { name, size, from, length, pieces: admitted(pieces, stay) })
    }

    /// Takes what the ticket is for, and uses it up. Answers when all of it is there.
    pub async fn upload(self: Arc<Self>, token: String, secret: String, incoming: Incoming) -> Result<String, Unopened> {
        let (person, pass, home, stay) = self.admit(&token, &secret, VolumeWay::Upload)?;
        let spec = UploadSpec { name: pass.volume, from: incoming.from, size: incoming.size };
        let away = || Fault::unavailable("the actor of the storage pool is being restarted; ask for another ticket in a moment");
        let actor = home.directory.find::<PoolActor>(&pass.pool.into()).ok_or_else(away)?;
        let (ended, outcome) = oneshot::channel();
        if actor.tell(Receive { person, spec, pieces: admitted(incoming.pieces, stay), ended }).is_err() {
            return Err(away().into());
        }
        match outcome.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Fault::unavailable("the daemon is stopping; go on with the upload when it is back").into()),
        }
    }
}

/// The first byte and how many.
fn range(wanted: Wanted, size: u64) -> Result<(u64, u64), Fault> {
    let outside = || Fault::invalid(format!("it has {size} bytes, and what is wanted lies behind them"));
    match wanted {
        Wanted::Whole => Ok((0, size)),
        Wanted::From(from, _) if from >= size => Err(outside()),
        Wanted::From(from, to) => {
            let end = to.map_or(size, |to| to.saturating_add(1).min(size));
            Ok((from, end.saturating_sub(from)))
        }
        Wanted::Last(count) => Ok((size.saturating_sub(count), count.min(size))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_more_than_there_is() {
        assert_eq!(range(Wanted::Whole, 10), Ok((0, 10)));
        assert_eq!(range(Wanted::From(3, None), 10), Ok((3, 7)));
        assert_eq!(range(Wanted::From(3, Some(4)), 10), Ok((3, 2)));
        assert_eq!(range(Wanted::From(3, Some(u64::MAX)), 10), Ok((3, 7)));
        assert_eq!(range(Wanted::Last(99), 10), Ok((0, 10)));
        assert!(range(Wanted::From(10, None), 10).is_err());
    }

    #[tokio::test]
    async fn what_is_stopped_ends_for_whoever_takes_it() {
        let (give, pieces) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let mut taken = stoppable(pieces, stopped);
        give.send(Ok(vec![1])).await.unwrap();
        assert_eq!(taken.recv().await, Some(Ok(vec![1])));
        stop.send(()).unwrap();
        assert_eq!(taken.recv().await, None);
    }

    #[tokio::test]
    async fn whoever_is_sent_away_takes_and_brings_nothing_any_more() {
        use archipel_contract::ticket::Proof;
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        use sha2::{Digest, Sha256};
        const SECRET: &str = "0123456789012345678901234567890123456789";
        let tickets = Arc::<Tickets>::default();
        let proof: Proof = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(SECRET)).parse().unwrap();
        let opens = Opens::Volume(VolumePass { pool: PoolId(uuid::Uuid::nil()), volume: "a".into(), way: VolumeWay::Download });
        let ticket = tickets.issue(&"alpha".parse().unwrap(), "ada@c/web", proof, opens, String::new()).unwrap();
        let (_, stay) = tickets.enter(ticket.token.as_str(), SECRET, "volume").unwrap();
        let (give, pieces) = mpsc::channel(1);
        let mut taken = admitted(pieces, stay);
        give.send(Ok(vec![1])).await.unwrap();
        assert_eq!(taken.recv().await, Some(Ok(vec![1])));
        assert_eq!(tickets.expel("ada@c"), 1);
        let last = taken.recv().await.unwrap().unwrap_err();
        assert!(last.kind == FaultKind::Forbidden && last.message.contains("account has changed"), "{last}");
        assert_eq!(taken.recv().await, None);
        assert!(give.send(Ok(vec![2])).await.is_err(), "what is brought is taken no more");
    }
}
