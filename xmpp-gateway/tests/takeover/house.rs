//! Exchanges that stand by for each other, in one process: each has a runtime and a thread of its own, so that it can be killed (its
//! runtime is dropped, the kernel closes its sockets), stopped (its thread stands still, the kernel goes on taking connections) and cut
//! off (nothing passes to it or from it, its etcd included).

use crate::world::{CELL, within};
use archipel_contract::fake::{MemoryAccounts, MemoryAuthority, MemoryDocuments};
use archipel_contract::port::{Authority, Clock, Leadership};
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp};
use archipel_xmpp::client::{Connector, Tcp};
use archipel_xmpp::exchange::proof::Proof;
use archipel_xmpp::exchange::settling::Settling;
use archipel_xmpp::exchange::term::{Input, Output, Rules, Term, in_reign};
use archipel_xmpp::exchange::{Exchange, ExchangeConfig};
use archipel_xmpp::server::{Limits, Server, ServerConfig, StreamCondition};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

pub(crate) const LEASE: Millis = Millis(3000);

/// Runs as fast as the machine's.
pub(crate) struct Running(pub(crate) Instant);

impl Clock for Running {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000 + self.monotonic().0)
    }
    fn monotonic(&self) -> Millis {
        Millis(u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

/// What etcd knows: one lease on one role, and its data.
pub(crate) struct Shared {
    clock: Arc<Running>,
    data: Arc<MemoryAuthority>,
    pub(crate) documents: Arc<MemoryDocuments>,
    pub(crate) accounts: Arc<MemoryAccounts>,
    lease: watch::Sender<(Option<String>, u64, Millis)>,
    /// Without its majority it answers nobody.
    pub(crate) lost: AtomicBool,
}

impl Shared {
    pub(crate) fn new(accounts: Arc<MemoryAccounts>) -> Arc<Shared> {
        Arc::new(Shared {
            clock: Arc::new(Running(Instant::now())),
            data: Arc::default(),
            documents: Arc::default(),
            accounts,
            lease: watch::Sender::new((None, 0, Millis(0))),
            lost: AtomicBool::new(false),
        })
    }
}

/// One exchange's way to it.
struct Port {
    shared: Arc<Shared>,
    cut: watch::Receiver<bool>,
}

impl Port {
    async fn reach(&self) -> Result<(), Fault> {
        if *self.cut.borrow() || self.shared.lost.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Err(Fault::unavailable("etcd does not answer"));
        }
        Ok(())
    }
}

impl Authority for Port {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.shared.data.claim_unowned(domains, owner)
    }
    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        self.shared.data.ownership(domain)
    }
    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        self.shared.data.step(domain, expected, step)
    }
    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.shared.data.parked()
    }
    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        self.shared.data.forget(domain, expected)
    }
    fn lead(&self, _role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        Box::pin(async move {
            self.reach().await?;
            let time = self.shared.clock.monotonic();
            let mut answer = Err(Fault::new(FaultKind::Conflict, "another leads"));
            self.shared.lease.send_modify(|(who, epoch, until)| {
                if who.as_ref() != Some(&holder) || *until <= time {
                    if *until > time {
                        return;
                    }
                    *epoch += 1;
                }
                (*who, *until) = (Some(holder), Millis(time.0 + lease.0));
                answer = Ok(Leadership { epoch: Epoch(*epoch), until: Timestamp(now.0 + lease.0) });
            });
            answer
        })
    }
    fn resign(&self, _role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.shared.lease.send_modify(|(who, _, until)| {
            if who.as_ref() == Some(&holder) {
                *until = Millis(0);
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }
    fn vacancy(&self, _role: String, _now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let mut lease = self.shared.lease.subscribe();
            loop {
                self.reach().await?;
                let left = lease.borrow_and_update().2.0.saturating_sub(self.shared.clock.monotonic().0);
                if left == 0 {
                    return Ok(());
                }
                let _ = tokio::time::timeout(Duration::from_millis(left), lease.changed()).await;
            }
        })
    }
    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        self.shared.data.incarnation()
    }
}

/// What a test may see of an exchange from outside.
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) exchange: Mutex<Option<Arc<Exchange>>>,
    pub(crate) served: AtomicBool,
}

/// Said when it stands still, and for how long.
type Freeze = (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);

/// One exchange among several.
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) window: Arc<Window>,
    end: Option<oneshot::Sender<()>>,
    freeze: tokio::sync::mpsc::UnboundedSender<Freeze>,
    pub(crate) cut: watch::Sender<bool>,
}

impl Node {
    /// Starts it; it serves when it leads.
    pub(crate) async fn start(name: &str, shared: &Arc<Shared>) -> Node {
        let window = Arc::new(Window::default());
        let (cut, is_cut) = watch::channel(false);
        // The port of the exchange itself, free until it serves; in front of it the wire that can be cut.
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap().to_string();
        tokio::spawn(wire(front, inner.clone(), is_cut.clone()));
        let (end, ended) = oneshot::channel();
        let (freeze, mut freezing) = tokio::sync::mpsc::unbounded_channel::<Freeze>();
        let port = Arc::new(Port { shared: shared.clone(), cut: is_cut });
        let (name, seen) = (name.to_owned(), window.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::spawn(async move {
                    while let Some((frozen, thaw)) = freezing.recv().await {
                        let _ = frozen.send(());
                        // On purpose: the whole thread stands still, as a stopped process does.
                        let _ = thaw.recv();
                    }
                });
                tokio::select! {
                    () = serve(name, port, inner, seen) => {}
                    _ = ended => {}
                }
            });
            // All that it had is dropped here, and the kernel closes its sockets.
            drop(runtime);
        });
        Node { address, window, end: Some(end), freeze, cut }
    }

    /// Like kill -9.
    pub(crate) fn kill(&mut self) {
        self.end.take();
        *self.window.exchange.lock() = None;
    }

    /// Like SIGSTOP, until the answer is dropped. It stands still when this returns.
    pub(crate) fn stop(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, thawed) = std::sync::mpsc::channel();
        let (frozen, stands) = std::sync::mpsc::channel();
        self.freeze.send((frozen, thawed)).unwrap();
        stands.recv().unwrap();
        thaw
    }

    pub(crate) fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(Tcp::new(self.address.clone(), None).one_of_several())
    }

    pub(crate) fn serves(&self) -> bool {
        self.window.exchange.lock().is_some()
    }
}

/// Passes on what comes, or nothing at all while it is cut; nobody is told.
async fn wire(front: TcpListener, to: String, mut cut: watch::Receiver<bool>) {
    let mut silent = Vec::new();
    while let Ok((mut near, _)) = front.accept().await {
        if *cut.borrow_and_update() {
            silent.push(near);
            continue;
        }
        let (to, mut cut) = (to.clone(), cut.clone());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(&to).await else { return };
            let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
            let is_cut = async {
                let _ = cut.wait_for(|cut| *cut).await;
            };
            let whole = tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => true,
                () = is_cut => false,
            };
            if !whole {
                std::future::pending::<()>().await;
            }
        });
    }
}

/// The hands of the daemon, without files and TLS.
async fn serve(holder: String, port: Arc<Port>, address: String, window: Arc<Window>) {
    let clock = port.shared.clock.clone();
    let (mut term, mut todo) = Term::begin(Rules::of(LEASE), clock.monotonic());
    let mut current: Option<(Arc<Server>, Arc<Proof>, tokio::task::JoinHandle<()>)> = None;
    let (mut asking, mut waiting) = (false, false);
    loop {
        for output in todo.drain(..) {
            match output {
                Output::Ask => (asking, waiting) = (true, false),
                Output::AwaitVacancy => waiting = true,
                Output::Serve(epoch, until) => {
                    let listener = TcpListener::bind(&address).await.unwrap();
                    let shared = &port.shared;
                    let proof = Proof::until(clock.clone(), until);
                    let mut config = ExchangeConfig::new(
                        CELL.parse().unwrap(),
                        shared.accounts.clone(),
                        port.clone(),
                        shared.documents.clone(),
                        clock.clone(),
                        in_reign(1, epoch),
                    );
                    config.proof = proof.clone();
                    config.settling = Settling::begin(shared.documents.clone());
                    let exchange = Exchange::new(config);
                    let config = ServerConfig {
                        cell: CELL.into(),
                        accounts: shared.accounts.clone(),
                        tls: None,
                        limits: Limits::default(),
                        features: Vec::new(),
                    };
                    let server = Server::new(config, exchange.clone()).unwrap();
                    let serving = tokio::spawn(server.clone().serve_tcp(listener));
                    *window.exchange.lock() = Some(exchange);
                    window.served.store(true, Ordering::SeqCst);
                    current = Some((server, proof, serving));
                }
                Output::Prove(until) => {
                    if let Some((_, proof, _)) = &current {
                        proof.prolong(until);
                    }
                }
                Output::StepDown(_) => {
                    *window.exchange.lock() = None;
                    if let Some((server, _, serving)) = current.take() {
                        serving.abort();
                        let _ = serving.await;
                        tokio::spawn(async move { server.dismiss(StreamCondition::Reset).await });
                    }
                }
                Output::Freeze | Output::Thaw => {}
            }
        }
        let wake = term.wake().map(|w| Duration::from_millis(w.0.saturating_sub(clock.monotonic().0)));
        let input = tokio::select! {
            answer = port.lead("exchange".into(), holder.clone(), LEASE, clock.now()), if asking => {
                asking = false;
                match answer {
                    Ok(leadership) => Input::Granted(leadership.epoch),
                    Err(fault) if fault.kind == FaultKind::Conflict => Input::Refused,
                    Err(_) => Input::Unreachable,
                }
            }
            answer = port.vacancy("exchange".into(), clock.now()), if waiting => {
                waiting = false;
                if answer.is_ok() { Input::Vacant } else { Input::Unreachable }
            }
            () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => Input::Awake,
        };
        todo = term.on(input, clock.monotonic());
    }
}

/// Two exchanges, of which the first serves.
pub(crate) async fn pair(shared: &Arc<Shared>) -> (Node, Node) {
    let first = Node::start("first", shared).await;
    within("the first serves", async {
        while !first.serves() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (first, Node::start("second", shared).await)
}
