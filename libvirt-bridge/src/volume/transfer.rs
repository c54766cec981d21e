//! Contents of volumes that come and go, each on a thread of its own.
//!
//! ```text
//!   source --pieces--> NAME.archipel-part --all of it--> NAME
//!                          |  cut off: stays, and is gone on with where it ends
//!                          +- stopped: deleted
//! ```
//! Whoever gives and takes may be slow: a piece waits for the next one, and nothing is kept beside that piece.

use super::{
    change::{directory, free, look_again, rename_file},
    copy::{Claim, PIECE, clear, length, remove, send, stopped, vessel},
    raw,
};
use crate::{connection::Trouble, count::ask, fault};
use archipel_contract::{
    Bytes, Fault, FaultKind, PoolId,
    volume::{Sink, Source, UNFINISHED, UploadSpec},
    work::{Follower, percent},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use virt::{connect::Connect, storage_pool::StoragePool, storage_vol::StorageVol, stream::Stream, sys};

/// How often whoever follows is told how far it is.
const OFTEN: Duration = Duration::from_millis(250);
/// What is nothing but zeros is left as a hole from this length on.
const HOLE: usize = 4096;

/// How many bytes are there of an upload that was cut off.
pub(super) fn begun(pool: &StoragePool, name: &str) -> Result<Option<Bytes>, Trouble> {
    free(pool, name)?;
    match ask(|| pool.lookup_storage_vol_by_name(&format!("{name}{UNFINISHED}"))) {
        Ok(part) => Ok(Some(length(&part)?)),
        Err(error) if fault::is_gone(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Brings a part of a volume.
pub(super) fn download(
    connect: &Connect,
    pool: PoolId,
    name: &str,
    from: u64,
    length: u64,
    mut sink: Box<dyn Sink>,
) -> Result<(), Trouble> {
    let pool = ask(|| connect.lookup_storage_pool_by_uuid(pool.0))?;
    let volume = ask(|| pool.lookup_storage_vol_by_name(name))?;
    if length == 0 {
        return Ok(());
    }
    let stream = Stream::new(connect, 0)?;
    ask(|| volume.download(&stream, from, length, 0))?;
    let mut left = length;
    while left > 0 {
        let mut piece = vec![0; PIECE];
        let count = usize::try_from(stream.recv(&mut piece)?).unwrap_or(0);
        if count == 0 {
            return Err(Fault::internal(format!("{name} ended before its end; refresh its pool and look at it")).into());
        }
        piece.truncate(count);
        left = left.saturating_sub(count as u64);
        if !sink.put(piece) {
            // Whoever wanted it has gone.
            let _ = ask(|| stream.abort());
            return Ok(());
        }
    }
    Ok(ask(|| stream.finish())?)
}

/// Takes the contents of a new volume.
pub(super) fn upload(
    connect: &Connect,
    uri: &str,
    pool: PoolId,
    spec: &UploadSpec,
    source: Box<dyn Source>,
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let pool = ask(|| connect.lookup_storage_pool_by_uuid(pool.0))?;
    free(&pool, &spec.name)?;
    let Some(dir) = directory(&pool, uri)? else {
        let text =
            "contents can be sent only to pools whose volumes are files of this host; send it to one of those and clone it from there";
        return Err(Fault::new(FaultKind::Unsupported, text).into());
    };
    let part = format!("{}{UNFINISHED}", spec.name);
    let _claim = Claim::take(uri, &pool, &part)?;
    let volume = if spec.from == 0 {
        clear(&pool, &part)?;
        vessel(&pool, &part, Bytes(0))?
    } else {
        let there = ask(|| pool.lookup_storage_vol_by_name(&part))?;
        let stands = length(&there)?;
        if stands.0 != spec.from {
            return Err(Fault::wrong_state(format!("{} bytes of it are there; go on from there", stands.0)).into());
        }
        there
    };
    let sent = pump(connect, &volume, spec, source, follower);
    // Between the last byte and the name somebody may have thought better of it.
    let whole = sent.and_then(|()| if follower.is_cancelled() { Err(stopped()) } else { Ok(()) });
    let named = whole.and_then(|()| Ok(rename_file(&dir, &part, &spec.name, false)?));
    if named.is_err() && follower.is_cancelled() {
        remove(&pool, &part, Some(&dir));
    }
    named?;
    Ok(look_again(&pool)?)
}

fn pump(
    connect: &Connect,
    volume: &StorageVol,
    spec: &UploadSpec,
    mut source: Box<dyn Source>,
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let stream = Stream::new(connect, 0)?;
    ask(|| volume.upload(&stream, spec.from, 0, sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM))?;
    let mut done = spec.from;
    let mut told: Option<Instant> = None;
    // Pieces are small and come by thousands: it is told some times a second.
    let mut tell = |done: u64| {
        if told.is_some_and(|at| at.elapsed() < OFTEN) {
            return;
        }
        told = Some(Instant::now());
        let words = match spec.size {
            Some(size) => format!("{} of {} are there", Bytes(done), Bytes(size)),
            None => format!("{} are there", Bytes(done)),
        };
        follower.advance(percent(done, spec.size.unwrap_or(0)).map(|p| p.min(99)), &words);
    };
    tell(done);
    let outcome = loop {
        if follower.is_cancelled() {
            break Err(stopped());
        }
        let piece = match source.next() {
            Some(Ok(piece)) => piece,
            Some(Err(fault)) => break Err(fault.into()),
            None if follower.is_cancelled() => break Err(stopped()),
            None => break Ok(()),
        };
        if spec.size.is_some_and(|size| done.saturating_add(piece.len() as u64) > size) {
            break Err(Fault::invalid("more came than the size that was said; begin anew with the right one").into());
        }
        let put = if piece.len() >= HOLE && piece.iter().all(|b| *b == 0) {
            raw::send_hole(&stream, piece.len() as u64).map_err(Trouble::from)
        } else {
            send(&stream, &piece)
        };
        if let Err(trouble) = put {
            break Err(trouble);
        }
        done += piece.len() as u64;
        tell(done);
    };
    if follower.is_cancelled() {
        let _ = ask(|| stream.abort());
        return outcome;
    }
    if outcome.is_ok() {
        follower.advance(Some(99), "all of it is there, and is being put in its place");
    }
    // What has come is written down whatever happened, so that it can be gone on with.
    ask(|| stream.finish())?;
    outcome?;
    match spec.size {
        Some(size) if size != done => {
            Err(Fault::unavailable(format!("the upload ended after {done} of {size} bytes; ask again with --resume and go on there"))
                .into())
        }
        _ => Ok(()),
    }
}
