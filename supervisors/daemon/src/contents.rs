//! The contents of volumes, as the HTTP server sees them.

use crate::agent::Grown;
use archipel_contract::{BoxFuture, Fault};
use archipel_supervisors::transfers::{self, Incoming, Outgoing, Wanted};
use archipel_ui::{Download, Part, Unopened, Upload, VolumeAcceptor};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The volumes of this process's agent.
pub(crate) struct Contents(pub(crate) Grown);

impl Contents {
    fn transfers(&self) -> Result<Arc<transfers::Transfers>, Unopened> {
        let stopping = || Unopened::Fault(Fault::unavailable("the daemon is stopping; ask again when it is back"));
        self.0.get().map(|tree| tree.transfers().clone()).ok_or_else(stopping)
    }
}

fn unopened(why: transfers::Unopened) -> Unopened {
    match why {
        transfers::Unopened::Ticket => Unopened::Ticket,
        transfers::Unopened::Fault(fault) => Unopened::Fault(fault),
    }
}

/// Hands pieces on in another dress; one waits on the way.
fn dressed<A: Send + 'static, B: Send + 'static>(
    mut from: mpsc::Receiver<Result<A, Fault>>,
    dress: fn(A) -> B,
) -> mpsc::Receiver<Result<B, Fault>> {
    let (give, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = from.recv() => piece,
                // Whoever takes them has gone, and whoever gives them shall know at once.
                () = give.closed() => return,
            };
            let Some(piece) = piece.map(|piece| piece.map(dress)) else { return };
            if give.send(piece).await.is_err() {
                return;
            }
        }
    });
    pieces
}

impl VolumeAcceptor for Contents {
    fn download(&self, token: String, secret: String, part: Part) -> BoxFuture<'static, Result<Download, Unopened>> {
        let transfers = self.transfers();
        Box::pin(async move {
            let wanted = match part {
                Part::Whole => Wanted::Whole,
                Part::From(from, to) => Wanted::From(from, to),
                Part::Last(count) => Wanted::Last(count),
            };
            let Outgoing { name, size, from, length, pieces } = transfers?.download(token, secret, wanted).await.map_err(unopened)?;
            Ok(Download { name, size, from, length, pieces: dressed(pieces, bytes::Bytes::from) })
        })
    }

    fn upload(&self, token: String, secret: String, upload: Upload) -> BoxFuture<'static, Result<String, Unopened>> {
        let transfers = self.transfers();
        Box::pin(async move {
            // Without a range, what comes is the whole.
            let size = upload.size.or(upload.length.filter(|_| upload.from == 0));
            let pieces = dressed(upload.pieces, |piece: bytes::Bytes| piece.to_vec());
            transfers?.upload(token, secret, Incoming { from: upload.from, size, pieces }).await.map_err(unopened)
        })
    }
}
