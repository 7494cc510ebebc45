//! From the listening socket to requests: takes connections, bounds their
//! number and how long a client may be silent, and lets them end when the server
//! closes. A client that connects and says nothing, or half a request, costs one
//! of [`MAX_CONNECTIONS`] for a while and nobody else's request.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bodies::forget_request;
use crate::error::{Failure, code};
use crate::server::closed;

/// How many connections there may be at a time: twice the requests that are
/// served, so that as many event streams fit beside them.
pub const MAX_CONNECTIONS: usize = 2 * crate::routes::MAX_REQUESTS;

/// With those that are only told that there is no room.
const MOST: usize = MAX_CONNECTIONS + 64;

/// How long to wait when the system has no file descriptor left.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Serves connections until `closing`, and then until they have ended.
pub(crate) async fn connections(
    listener: UnixListener,
    router: Router,
    head: Duration,
    closing: watch::Receiver<bool>,
) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let full = full();
    let mut open = JoinSet::new();
    let until = closed(closing.clone());
    tokio::pin!(until);
    loop {
        let accepted = tokio::select! {
            // In this order: who has connected before the end is still served.
            biased;
            Some(_) = open.join_next() => continue,
            // Beyond that they wait, as in any queue.
            accepted = listener.accept(), if open.len() < MOST => accepted,
            () = &mut until => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket cannot take a connection: {error}");
                // Without a pause this would spin until a file is closed.
                tokio::time::sleep(OUT_OF_FILES).await;
                continue;
            }
        };
        let router = match open.len() {
            0..MAX_CONNECTIONS => router.clone(),
            _ => full.clone(),
        };
        let service = TowerToHyperService::new(router);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        open.spawn(serve_one(connection, closed(closing.clone())));
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

type Http = Connection<TokioIo<UnixStream>, TowerToHyperService<Router>>;

async fn serve_one(connection: Http, closed: impl Future<Output = ()>) {
    tokio::pin!(connection);
    let ended = tokio::select! {
        // A request that has arrived is read before the end is heard of.
        biased;
        ended = connection.as_mut() => ended,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that went or made no sense; hyper has told it what it can.
        tracing::debug!("a connection to the control socket ended: {error}");
    }
}

/// Answers everything with: there is no room.
fn full() -> Router {
    Router::new().fallback(async |request: Request| {
        forget_request(request).await;
        Failure::new(
            code::BUSY,
            format!("{MAX_CONNECTIONS} connections are open, which is the limit"),
        )
        .help("try again when some of them have ended; each `exuvia events` has one")
    })
}
