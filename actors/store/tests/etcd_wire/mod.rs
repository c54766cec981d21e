//! A TCP wire in front of an etcd member that can lose answers: the request arrives and is carried out, and nothing comes back. It can
//! also keep requests, and deliver them late.
//!
//! An answer is what comes back in one piece after a pause of the requests; that is enough for one call at a time.
#![allow(dead_code)] // Each test crate uses its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// No answer is lost.
const ALL: i64 = i64::MAX;

/// What a client of HTTP/2 says first; frames follow.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct State {
    /// How many more answers pass.
    pass: AtomicI64,
    lost: AtomicUsize,
    /// How many more requests pass before they are kept.
    take: AtomicI64,
    kept: AtomicUsize,
    free: watch::Sender<bool>,
}

/// The wire.
pub(crate) struct Wire {
    endpoint: String,
    state: Arc<State>,
}

/// How many frames with data a piece of an HTTP/2 stream holds: those are counted as answers, and as requests.
fn answers(piece: &[u8]) -> i64 {
    let (mut at, mut count) = (if piece.starts_with(PREFACE) { PREFACE.len() } else { 0 }, 0);
    while at + 9 <= piece.len() {
        let size = usize::from(piece[at]) << 16 | usize::from(piece[at + 1]) << 8 | usize::from(piece[at + 2]);
        count += i64::from(piece[at + 3] == 0);
        at += 9 + size;
    }
    count
}

impl Wire {
    /// A wire to that member. Everything passes.
    pub(crate) async fn to(endpoint: &str) -> Wire {
        let target = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            pass: AtomicI64::new(ALL),
            lost: AtomicUsize::new(0),
            take: AtomicI64::new(ALL),
            kept: AtomicUsize::new(0),
            free: watch::Sender::new(true),
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target.clone(), shared.clone()));
            }
        });
        Wire { endpoint, state }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on everything passes.
    pub(crate) fn pass(&self) {
        self.state.pass.store(ALL, Ordering::SeqCst);
    }

    /// After `count` more answers one is lost, and with it everything that comes after it.
    pub(crate) fn lose_after(&self, count: i64) {
        self.state.pass.store(count, Ordering::SeqCst);
    }

    /// After `count` more requests they are kept until [`Wire::deliver`].
    pub(crate) fn keep_after(&self, count: i64) {
        self.state.free.send_replace(false);
        self.state.take.store(count, Ordering::SeqCst);
    }

    /// How many connections keep a request.
    pub(crate) fn kept(&self) -> usize {
        self.state.kept.load(Ordering::SeqCst)
    }

    /// What was kept arrives now.
    pub(crate) fn deliver(&self) {
        self.state.take.store(ALL, Ordering::SeqCst);
        self.state.free.send_replace(true);
    }

    /// How many connections lost an answer.
    pub(crate) fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }
}

async fn carry(near: TcpStream, target: String, state: Arc<State>) {
    let far = TcpStream::connect(target).await.unwrap();
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let requests = state.clone();
    let back = tokio::spawn(async move {
        let mut piece = vec![0; 64 << 10];
        loop {
            let size = match from_far.read(&mut piece).await {
                Ok(size) if size > 0 => size,
                _ => return,
            };
            let count = answers(&piece[..size]);
            if count > 0 && state.pass.load(Ordering::SeqCst) != ALL && state.pass.fetch_sub(count, Ordering::SeqCst) <= 0 {
                state.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_near.write_all(&piece[..size]).await.is_err() {
                return;
            }
        }
    });
    let mut piece = vec![0; 64 << 10];
    while let Ok(size) = from_near.read(&mut piece).await
        && size > 0
    {
        let count = answers(&piece[..size]);
        if count > 0 && requests.take.load(Ordering::SeqCst) != ALL && requests.take.fetch_sub(count, Ordering::SeqCst) <= 0 {
            requests.kept.fetch_add(1, Ordering::SeqCst);
            let _ = requests.free.subscribe().wait_for(|free| *free).await;
        }
        if to_far.write_all(&piece[..size]).await.is_err() {
            break;
        }
    }
    back.abort();
}
