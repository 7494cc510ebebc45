//! The node's numbers over TCP, for Prometheus, which scrapes no unix sockets. Nothing
//! else is served there: whoever can reach the address sees numbers, and does nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::{Failure, code};
use crate::host::Host;
use crate::metrics;
use crate::wire::Info;

/// Connections at a time. Those who scrape are few.
pub const MAX_SCRAPERS: usize = 16;

/// How long a connection may say nothing, and how long it may take over a request.
const HEAD: Duration = Duration::from_secs(10);
/// How long one may last at all: whoever scrapes opens another.
const LIFE: Duration = Duration::from_secs(600);

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Scraped {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Scraped {
    /// Where it listens: with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Claims the address, and serves nothing yet.
///
/// # Errors
///
/// If the system refuses it.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `GET /metrics` there. Called within a tokio runtime.
///
/// # Errors
///
/// If the system refuses the listener.
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
        // Beyond that they wait, as in any queue.
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                // Without files to spare: not at once again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                let _place = place;
                // Who goes, or makes no sense, is told what hyper can tell.
                let _ = tokio::time::timeout(LIFE, connection).await;
            });
        }
    });
    Ok(Scraped { address, task })
}

async fn numbers<H: Host>(State(host): State<H>) -> Result<Response, Failure> {
    let looked = spawn_blocking(move || info(&host)).await;
    let info = looked.map_err(|error| Failure::new(code::INTERNAL, error.to_string()))??;
    let text = metrics::text(&info);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// The node's numbers, as a client would see them.
pub(crate) fn info<H: Host>(host: &H) -> Result<Info, Failure> {
    let unreadable = |error: serde_json::Error| {
        Failure::new(
            code::INTERNAL,
            format!("the node's numbers cannot be read: {error}"),
        )
    };
    let value = serde_json::to_value(host.info()).map_err(unreadable)?;
    serde_json::from_value(value).map_err(unreadable)
}
