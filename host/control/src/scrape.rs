//! The node's metrics over TCP, for Prometheus, which does not scrape unix sockets. Nothing
//! else is served there: a client that reaches the address can read the metrics and do nothing
//! else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use exuvia_api::{Failure, Info, code};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::host::Host;
use crate::metrics;
use crate::refusal::Refusal;

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

/// Serves `GET /metrics` on the listener. Must be called within a tokio runtime.
///
/// # Errors
///
/// If the operating system rejects the listener.
pub fn serve_metrics<H: Host>(host: H, listener: std::net::TcpListener) -> io::Result<Scraped> {
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(numbers::<H>))
        .with_state(host);
    let task = tokio::spawn(async move {
        let mut http = Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let room = Arc::new(Semaphore::new(MAX_SCRAPERS));
        // Further connections wait in the listen backlog.
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                // File descriptors have run out: pause before the next attempt.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                let _place = place;
                // hyper reports invalid requests to the client; there is nothing else to do
                // here.
                let _ = tokio::time::timeout(LIFE, connection).await;
            });
        }
    });
    Ok(Scraped { address, task })
}

async fn numbers<H: Host>(State(host): State<H>) -> Result<Response, Refusal> {
    let looked = spawn_blocking(move || info(&host)).await;
    let info = looked.map_err(|error| Failure::new(code::INTERNAL, error.to_string()))??;
    let text = metrics::text(&info);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Returns the node's information as a client would see it.
pub(crate) fn info<H: Host>(host: &H) -> Result<Info, Failure> {
    let unreadable = |error: serde_json::Error| {
        Failure::new(
            code::INTERNAL,
            format!("the node's metrics cannot be read: {error}"),
        )
    };
    let value = serde_json::to_value(host.info()).map_err(unreadable)?;
    serde_json::from_value(value).map_err(unreadable)
}
