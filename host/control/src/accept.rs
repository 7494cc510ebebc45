//! Accepts connections on the control socket and turns them into requests. Limits the number of
//! connections and the time a client may stay silent, and drains open connections when the
//! server closes. A client that connects and sends nothing, or half a request, occupies one of
//! [`MAX_CONNECTIONS`] for a while and delays no other request.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::{Extension, Router};
use exuvia_api::{Problem, Role, code};
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access::Caller;
use crate::audit::Audit;
use crate::bodies::forget_request;
use crate::problem::Refusal;
use crate::server::closed;

/// Connections reserved for clients that neither wait for a reply nor follow events, so that a
/// client that stops or diagnoses the node can always connect.
const RESERVED: usize = 64;

/// The maximum number of open connections: the maximum number of requests and event streams,
/// plus the reserved connections.
pub const MAX_CONNECTIONS: usize =
    crate::routes::MAX_REQUESTS + crate::routes::MAX_STREAMS + RESERVED;

/// The limit including connections that only receive a `busy` error.
const MOST: usize = MAX_CONNECTIONS + 64;

/// Pause after a failed `accept`, which usually means that file descriptors have run out.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Pause before checking again whether the request of a disconnected client has been read.
const UNREAD: Duration = Duration::from_millis(20);

/// What the clients of a socket may do.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) role: Role,
    pub(crate) audit: Option<Audit>,
}

impl Door {
    fn caller(&self, stream: &UnixStream) -> Caller {
        let name = match stream.peer_cred() {
            Ok(peer) => format!("uid {}", peer.uid()),
            Err(_) => "unknown".to_owned(),
        };
        Caller {
            name: name.into(),
            role: self.role,
            scope: Arc::default(),
            audit: self.audit.clone(),
        }
    }
}

/// Serves connections until `closing` is set, and then waits for the open ones to end.
pub(crate) async fn connections(
    listener: UnixListener,
    door: Door,
    router: Router,
    head: Duration,
    closing: watch::Receiver<bool>,
) {
    let mut http = Builder::new();
    // A client may close its sending half after the request and still read the response.
    http.timer(TokioTimer::new())
        .header_read_timeout(head)
        .half_close(true);
    let full = full();
    let mut open = JoinSet::new();
    let until = closed(closing.clone());
    tokio::pin!(until);
    loop {
        let accepted = tokio::select! {
            // The order matters: a client that connected before the close is still served.
            biased;
            Some(_) = open.join_next() => continue,
            // Further connections wait in the listen backlog.
            accepted = listener.accept(), if open.len() < MOST => accepted,
            () = &mut until => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the control socket cannot accept a connection: {error}");
                // Without a pause this would spin until a file is closed.
                tokio::time::sleep(OUT_OF_FILES).await;
                continue;
            }
        };
        let router = match open.len() {
            0..MAX_CONNECTIONS => router.clone().layer(Extension(door.caller(&stream))),
            _ => full.clone(),
        };
        let service = TowerToHyperService::new(router);
        let gone = hung_up(&stream);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        open.spawn(serve_one(connection, gone, closed(closing.clone())));
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

type Http = Connection<TokioIo<UnixStream>, TowerToHyperService<Router>>;

async fn serve_one(
    connection: Http,
    gone: impl Future<Output = ()>,
    closed: impl Future<Output = ()>,
) {
    tokio::pin!(connection, gone);
    let ended = tokio::select! {
        // A request that has arrived is read before the close is noticed.
        biased;
        ended = connection.as_mut() => ended,
        () = gone.as_mut() => return,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection => ended,
                () = gone => return,
            }
        }
    };
    if let Err(error) = ended {
        // The client disconnected or sent an invalid request; hyper has sent the error if it
        // could.
        tracing::debug!("a connection to the control socket ended: {error}");
    }
}

/// Completes when the client has closed the connection entirely, not just its sending half. The
/// connection itself does not check for this while a response is being produced.
fn hung_up(stream: &UnixStream) -> impl Future<Output = ()> + use<> {
    // If no file descriptor is available, the next failing write reports the disconnect
    // instead.
    let watched = (stream.as_fd().try_clone_to_owned())
        .and_then(|it| UnixStream::from_std(it.into()))
        .ok();
    async move {
        let Some(watched) = watched else {
            return std::future::pending().await;
        };
        // A closed sending half stays readable forever. Writability, in contrast, is signaled
        // anew on each change, and a hang-up is such a change.
        while watched.writable().await.is_ok() {
            let mut asked = [PollFd::new(&watched, PollFlags::empty())];
            let at_once = Timespec::default();
            if poll(&mut asked, Some(&at_once)).is_ok()
                && asked[0].revents().contains(PollFlags::HUP)
            {
                // A request whose client does not wait for the response is still read to its
                // end.
                match ioctl_fionread(&watched) {
                    Ok(unread) if unread > 0 => tokio::time::sleep(UNREAD).await,
                    _ => return,
                }
                continue;
            }
            let seen = || Err::<(), _>(std::io::ErrorKind::WouldBlock.into());
            let _ = watched.try_io(Interest::WRITABLE, seen);
        }
        std::future::pending().await
    }
}

/// Returns a router that responds to every request with a `busy` error.
fn full() -> Router {
    Router::new().fallback(async |request: Request| {
        forget_request(request).await;
        let busy = Problem::new(
            code::BUSY,
            format!("{MAX_CONNECTIONS} connections are open, which is the limit"),
        )
        .help("try again when some of them have ended");
        Refusal::from(busy)
    })
}
