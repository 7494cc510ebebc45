//! The server's life: it begins, hands over requests to stop, and ends.
//!
//! It does not own the node. `POST /v1/stop` becomes a [`StopRequest`] for
//! whoever owns both: that one stops the node, answers, and then closes the
//! server, so that the answer still goes out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::accept;
use crate::bodies::{Bodies, MAX_BODIES_BYTES};
use crate::error::ServeError;
use crate::host::Host;
use crate::routes::{self, MAX_REQUESTS, Shared};
use crate::socket::Claim;

/// How long requests that are under way may take once the server closes. Those
/// that wait for the node's processes have failed by then.
const CLOSING: Duration = Duration::from_secs(2);

/// A server that runs. Dropped, it ends at once.
#[derive(Debug)]
pub struct Server {
    claim: Claim,
    closing: watch::Sender<bool>,
    stops: mpsc::Receiver<StopRequest>,
    task: JoinHandle<()>,
}

/// A client asks to stop the node.
#[derive(Debug)]
pub struct StopRequest {
    /// How long the processes get, if the client said so.
    pub timeout: Option<Duration>,
    pub(crate) answer: oneshot::Sender<Value>,
}

impl StopRequest {
    /// Tells the client what came of it. Without an answer it is told that the
    /// node was already stopping.
    pub fn answer(self, report: Value) {
        // The client may have gone; the node stops all the same.
        let _ = self.answer.send(report);
    }
}

/// How long a client may take over a request, and how much room all of them have.
/// One that hangs must not keep its connection for ever.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the head of a request; also how long an idle connection is kept.
    pub head: Duration,
    /// For its body: a deployment of the largest size takes a second.
    pub body: Duration,
    /// Bytes that the bodies of all requests under way may have.
    pub bodies: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            bodies: MAX_BODIES_BYTES,
        }
    }
}

/// Serves a node at the path that was claimed. Called within a tokio runtime.
pub fn serve<H: Host>(host: H, claim: Claim) -> Result<Server, ServeError> {
    serve_with(host, claim, Bounds::default())
}

/// The same with other bounds, for tests.
pub fn serve_with<H: Host>(
    host: H,
    mut claim: Claim,
    bounds: Bounds,
) -> Result<Server, ServeError> {
    let listener = claim.listen()?;
    let (closing, until) = watch::channel(false);
    // One is enough: a second request to stop is one too many.
    let (stop, stops) = mpsc::channel(1);
    let router = routes::router(Arc::new(Shared {
        host,
        stop,
        closing: until.clone(),
        room: Arc::new(Semaphore::new(MAX_REQUESTS)),
        calls: Arc::new(Semaphore::new(routes::MAX_CALLS)),
        streams: Arc::new(Semaphore::new(crate::events::MAX_STREAMS)),
        traces: Arc::new(Semaphore::new(crate::look::MAX_TRACES)),
        bounds,
        bodies: Bodies::new(bounds.bodies),
    }));
    let task = tokio::spawn(accept::connections(listener, router, bounds.head, until));
    Ok(Server {
        claim,
        closing,
        stops,
        task,
    })
}

/// Comes back when the server closes.
pub(crate) async fn closed(mut until: watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = until.wait_for(|closing| *closing).await;
}

impl Server {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }

    /// Waits until a client asks to stop the node.
    pub async fn stop_requested(&mut self) -> StopRequest {
        match self.stops.recv().await {
            Some(request) => request,
            // The server failed and said so; nobody will ask any more.
            None => std::future::pending().await,
        }
    }

    /// Takes no more connections, lets requests end, and removes the socket.
    pub async fn close(mut self) {
        self.closing.send_replace(true);
        self.stops.close();
        // Requests to stop that nobody took are told so by being dropped.
        while self.stops.try_recv().is_ok() {}
        if tokio::time::timeout(CLOSING, &mut self.task).await.is_err() {
            tracing::warn!("the control socket was closed on requests that did not end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
