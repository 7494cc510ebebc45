//! The node's metrics and health over TCP, for Prometheus and for probes, which do not use unix
//! sockets. Nothing else is served there: a client that reaches the address can read them and do
//! nothing else. It is served before the node has started, so that a probe sees it start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use exuvia_api::{Problem, code};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::health::{self, Health, STARTING};
use crate::host::Host;
use crate::metrics;
use crate::problem::{Refusal, panicked};

/// The maximum number of connections. Scrapers are few.
pub const MAX_SCRAPERS: usize = 16;

/// How long a connection may be idle, and how long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// The maximum lifetime of a connection; a scraper then opens another.
const LIFE: Duration = Duration::from_secs(600);

/// A metrics server that runs until it is dropped.
#[derive(Debug)]
pub struct Scraped {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Scraped {
    /// Returns the address it listens on, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds the address without serving yet.
///
/// # Errors
///
/// If the operating system rejects the address.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `GET /metrics`, `/healthz` and `/readyz` on the listener. Must be called within a tokio runtime.
///
/// # Errors
///
/// If the operating system rejects the listener.
pub fn serve_metrics<H: Host>(
    health: Health<H>,
    listener: std::net::TcpListener,
) -> io::Result<Scraped> {
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(numbers::<H>))
        .route("/healthz", get(async || health::alive()))
        .route("/readyz", get(ready::<H>))
        .with_state(health);
    let task = tokio::spawn(async move {
        let mut http = Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let permits = Arc::new(Semaphore::new(MAX_SCRAPERS));
        // Further connections wait in the listen backlog.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                // File descriptors have run out: pause before the next attempt.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                let _permit = permit;
                // hyper reports invalid requests to the client; there is nothing else to do
                // here.
                let _ = tokio::time::timeout(LIFE, connection).await;
            });
        }
    });
    Ok(Scraped { address, task })
}

async fn ready<H: Host>(State(health): State<Health<H>>) -> Result<Response, Refusal> {
    blocking(move || health.check()).await?;
    Ok(health::ready())
}

async fn numbers<H: Host>(State(health): State<Health<H>>) -> Result<Response, Refusal> {
    let Some(host) = health.host().cloned() else {
        return Err(Problem::new(code::NOT_READY, STARTING).into());
    };
    let info = blocking(move || Ok(host.info())).await?;
    Ok(metrics::response(info)?)
}

/// Runs `work` on a thread that may block. The number of connections bounds how many there are.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| panicked(&error))?
}
