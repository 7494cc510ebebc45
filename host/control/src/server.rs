//! Lifecycle of the server: start, requests to stop the node, close.
//!
//! The server does not own the node. `POST /v1/node/stop` becomes a [`StopRequest`] for the owner of
//! both, which stops the node, answers the request and then closes the server, so that the
//! response is still sent.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use exuvia_api::{Fingerprint, Role, StopReport};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::accept::{self, Door};
use crate::audit::Audit;
use crate::beside;
use crate::bodies::{Bodies, MAX_BODIES_BYTES};
use crate::error::ServeError;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::host::Host;
use crate::remote::RemoteDoor;
use crate::routes::{self, MAX_REQUESTS, Shared};
use crate::socket::Claim;
use crate::tokens::Tokens;

/// The mode of the node's own socket, whose clients may do everything.
const OWN_MODE: u32 = 0o600;
/// The mode of a socket for another role: its folder says who reaches it.
const SHARED_MODE: u32 = 0o666;

/// How long requests in progress may take once the server closes. Those that wait for the
/// node's processes have failed by then.
const CLOSING: Duration = Duration::from_secs(2);

/// A running server. Dropping it aborts it at once.
#[derive(Debug)]
pub struct Server {
    claim: Claim,
    /// The sockets for other roles.
    others: Vec<Claim>,
    remote: Option<(SocketAddr, Fingerprint)>,
    closing: watch::Sender<bool>,
    stops: mpsc::Receiver<StopRequest>,
    task: JoinHandle<()>,
    serving: Vec<JoinHandle<()>>,
    /// Keeps the event log.
    collecting: JoinHandle<()>,
}

/// A client's request to stop the node.
#[derive(Debug)]
pub struct StopRequest {
    /// How long the processes may take to stop, if the client named a limit.
    pub timeout: Option<Duration>,
    pub(crate) answer: oneshot::Sender<StopReport>,
}

impl StopRequest {
    /// Sends the report to the client. A client whose request is dropped without an answer is
    /// told that the node is already stopping.
    pub fn answer(self, report: StopReport) {
        // The client may have disconnected; the node stops all the same.
        let _ = self.answer.send(report);
    }
}

/// Limits on the time a client may take for a request, and on the bytes of all requests, and the
/// interval of comments in streams. A
/// client that hangs must not keep its connection forever.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the head of a request; also how long an idle connection is kept.
    pub head: Duration,
    /// For the body of a request: a deployment of the largest size takes a second.
    pub body: Duration,
    /// The maximum number of bytes in the bodies of all requests in progress.
    pub bodies: usize,
    /// How often a stream without events sends a comment, so that both sides notice a connection
    /// that has ended.
    pub heartbeat: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            bodies: MAX_BODIES_BYTES,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// Serves a node at the claimed path, which has started herewith. Must be called within a tokio
/// runtime.
pub fn serve<H: Host>(host: H, claim: Claim, health: &Health<H>) -> Result<Server, ServeError> {
    serve_with(host, claim, health, Bounds::default())
}

/// Like [`serve`] with other limits, for tests.
pub fn serve_with<H: Host>(
    host: H,
    mut claim: Claim,
    health: &Health<H>,
    bounds: Bounds,
) -> Result<Server, ServeError> {
    let listener = claim.listen(OWN_MODE)?;
    let mut listeners = Vec::new();
    for (role, mut claim) in claim.take_others() {
        listeners.push((claim.listen(SHARED_MODE)?, role, claim));
    }
    let path = beside(claim.path(), "tokens.json");
    let tokens = Arc::new(Tokens::load(&path)?);
    let remote = claim.take_remote();
    let address = remote.as_ref().map(|it| (it.address(), it.fingerprint()));
    let audit = Audit::start(claim.path());
    let audit = audit.map_err(|(path, error)| ServeError::io("write", &path, error))?;
    let (closing, until) = watch::channel(false);
    // Capacity 1 suffices: a second request to stop is rejected.
    let (stop, stops) = mpsc::channel(1);
    let events = EventLog::new();
    let collect = Arc::clone(&events).collect(host.clone(), host.events(), closed(until.clone()));
    let collecting = tokio::spawn(collect);
    health.started(host.clone());
    // Others have limits of their own: whoever uses them up does not hold up the node's operator.
    let router = |bodies: usize| {
        routes::router(Arc::new(Shared {
            host: host.clone(),
            health: health.clone(),
            stop: stop.clone(),
            closing: until.clone(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            calls: Arc::new(Semaphore::new(routes::MAX_CALLS)),
            streams: Arc::new(Semaphore::new(routes::MAX_STREAMS)),
            traces: Arc::new(Semaphore::new(routes::MAX_TRACES)),
            events: Arc::clone(&events),
            bounds,
            bodies: Bodies::new(bodies),
            tokens: Arc::clone(&tokens),
        }))
    };
    let (own, for_others) = (router(bounds.bodies), router(bounds.bodies / 2));
    let door = |role| Door {
        role,
        audit: Some(audit.clone()),
    };
    let serve = |listener, role, router: &Router| {
        let connections = accept::connections(
            listener,
            door(role),
            router.clone(),
            bounds.head,
            until.clone(),
        );
        tokio::spawn(connections)
    };
    let task = serve(listener, Role::Admin, &own);
    let (mut serving, others): (Vec<_>, Vec<_>) = listeners
        .into_iter()
        .map(|(listener, role, claim)| (serve(listener, role, &for_others), claim))
        .unzip();
    if let Some(remote) = remote {
        let door = RemoteDoor {
            tokens: Arc::clone(&tokens),
            audit: audit.clone(),
        };
        let connections = remote.serve(for_others.clone(), door, bounds.head, until.clone());
        serving.push(tokio::spawn(async move {
            if let Err(error) = connections.await {
                tracing::error!("the remote API is not served: {error}");
            }
        }));
    }
    Ok(Server {
        claim,
        others,
        remote: address,
        closing,
        stops,
        task,
        serving,
        collecting,
    })
}

/// Completes when the server closes.
pub(crate) async fn closed(mut until: watch::Receiver<bool>) {
    // An error means that the server has been dropped, which is equivalent.
    let _ = until.wait_for(|closing| *closing).await;
}

impl Server {
    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }

    /// Returns where other machines are served, and by which certificate, if they are.
    pub fn remote(&self) -> Option<(SocketAddr, Fingerprint)> {
        self.remote
    }

    /// Returns the paths of the sockets for other roles.
    pub fn others(&self) -> impl Iterator<Item = &Path> {
        self.others.iter().map(Claim::path)
    }

    /// Waits until a client asks to stop the node.
    pub async fn stop_requested(&mut self) -> StopRequest {
        match self.stops.recv().await {
            Some(request) => request,
            // The server failed and reported it; no further request can arrive.
            None => std::future::pending().await,
        }
    }

    /// Stops accepting connections, waits for open requests, and removes the socket.
    pub async fn close(mut self) {
        self.closing.send_replace(true);
        self.stops.close();
        // Dropping a pending request tells its client that the node is already stopping.
        while self.stops.try_recv().is_ok() {}
        let all = async {
            let _ = (&mut self.task).await;
            for serving in &mut self.serving {
                let _ = serving.await;
            }
        };
        if tokio::time::timeout(CLOSING, all).await.is_err() {
            tracing::warn!("the control socket was closed before all requests had finished");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        self.serving.iter().for_each(JoinHandle::abort);
        self.collecting.abort();
    }
}
