//! The agent's end of a carriage: whatever comes over it is served by the same handlers as what comes to the port, and nothing but what
//! tickets open is there.

use crate::carriage::Pipe;
use crate::{ConsoleAcceptor, Health, Hooks, HttpConfig, Shared, VolumeAcceptor, console, ticket, volume};
use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use archipel_contract::{BoxFuture, Fault};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// Carriages that wait to be taken by the thread.
const QUEUE: usize = 16;
/// How long the rest of a request is read after its answer, and how much of it: who closes what the peer still writes to takes from it
/// what was answered.
const LINGER: Duration = Duration::from_secs(5);

struct Job {
    io: Box<dyn Pipe>,
    /// Told, by being dropped, when it is over.
    _over: oneshot::Sender<()>,
}

/// Serves carriages, on a thread of its own as the port is. Dropped, it ends all of them.
pub struct Carriages {
    jobs: mpsc::Sender<Job>,
}

impl Carriages {
    /// For what these open.
    pub fn begin(consoles: Arc<dyn ConsoleAcceptor>, volumes: Arc<dyn VolumeAcceptor>) -> Result<Carriages, Fault> {
        let hooks = Hooks {
            websocket: None,
            consoles: Some(consoles),
            volumes: Some(volumes),
            carrier: None,
            // Nobody can ask for these over a carriage.
            metrics: Arc::new(|| Box::pin(async { String::new() })),
            health: Arc::new(|| Box::pin(async { Health { healthy: true, details: serde_json::Value::Null } })),
        };
        let (jobs, mut taken) = mpsc::channel::<Job>(QUEUE);
        let failed = |e: std::io::Error| Fault::internal("the thread for carriages cannot be started").because(e);
        let runtime = actix_rt::Runtime::new;
        let serving = move || match runtime() {
            Ok(runtime) => runtime.block_on(async move {
                while let Some(job) = taken.recv().await {
                    actix_rt::spawn(serve(job, hooks.clone()));
                }
            }),
            Err(error) => tracing::error!(%error, "no carriage can be served"),
        };
        std::thread::Builder::new().name("carriages".to_owned()).spawn(serving).map_err(failed)?;
        Ok(Carriages { jobs })
    }

    /// Serves the one request that comes over it. Ends with it.
    pub fn serve(&self, io: Box<dyn Pipe>) -> BoxFuture<'static, ()> {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let (over, ended) = oneshot::channel();
            if jobs.send(Job { io, _over: over }).await.is_ok() {
                // Answered by being dropped.
                let _ = ended.await;
            }
        })
    }
}

async fn serve(job: Job, hooks: Hooks) {
    let Job { io, _over } = job;
    let shared = web::Data::new(Shared { config: HttpConfig::default(), hooks });
    let app = App::new()
        .app_data(shared)
        .route("/console/{token}", web::get().to(console::upgrade))
        .route("/volume/{token}", web::get().to(volume::download))
        .route("/volume/{token}", web::put().to(volume::upload))
        .default_service(web::to(async || ticket::refused()));
    let service = HttpService::build()
        .keep_alive(KeepAlive::Disabled)
        .client_request_timeout(Duration::from_secs(10))
        .finish(map_config(app, |_| AppConfig::default()));
    let Ok(handler) = service.new_service(()).await else { return };
    if let Err(error) = handler.call((Lingering(Some(io)), Protocol::Http1, None)).await {
        tracing::debug!(%error, "a carriage broke");
    }
}

/// A connection that is read to its end, for a while, by whoever closes it.
struct Lingering(Option<Box<dyn Pipe>>);

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut io) = self.0.take() else { return };
        actix_rt::spawn(async move {
            let rest = async {
                // What is left of it interests nobody.
                let _ = io.shutdown().await;
                let mut chunk = vec![0; 16 * 1024];
                while let Ok(1..) = io.read(&mut chunk).await {}
            };
            let _ = tokio::time::timeout(LINGER, rest).await;
        });
    }
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Lingering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().map_or(Poll::Ready(Err(gone())), |io| Pin::new(io).poll_read(cx, into))
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().map_or(Poll::Ready(Err(gone())), |io| Pin::new(io).poll_write(cx, bytes))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().map_or(Poll::Ready(Err(gone())), |io| Pin::new(io).poll_flush(cx))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().map_or(Poll::Ready(Err(gone())), |io| Pin::new(io).poll_shutdown(cx))
    }
}
