//! From the listening socket to requests: takes connections, bounds their
//! number and how long a client may be silent, and lets them end when the server
//! closes. A client that connects and says nothing, or half a request, costs one
//! of [`MAX_CONNECTIONS`] for a while and nobody else's request.

use std::os::fd::AsFd as _;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bodies::forget_request;
use crate::error::{Failure, code};
use crate::server::closed;

/// Connections for those who neither wait for a reply nor follow events: whoever
/// stops the node, or looks what is wrong with it, finds room.
const RESERVED: usize = 64;

/// How many connections there may be at a time: as many as there may be requests and
/// event streams, and those that are kept for others.
pub const MAX_CONNECTIONS: usize =
    crate::routes::MAX_REQUESTS + crate::events::MAX_STREAMS + RESERVED;

/// With those that are only told that there is no room.
const MOST: usize = MAX_CONNECTIONS + 64;

/// How long to wait when the system has no file descriptor left.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// How long to wait for a request to be read whose client is gone.
const UNREAD: Duration = Duration::from_millis(20);

/// Serves connections until `closing`, and then until they have ended.
pub(crate) async fn connections(
    listener: UnixListener,
    router: Router,
    head: Duration,
    closing: watch::Receiver<bool>,
) {
    let mut http = Builder::new();
    // Whoever has said all may close its half, and still wants the answer.
    http.timer(TokioTimer::new())
        .header_read_timeout(head)
        .half_close(true);
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
        // A request that has arrived is read before the end is heard of.
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
        // A client that went or made no sense; hyper has told it what it can.
        tracing::debug!("a connection to the control socket ended: {error}");
    }
}

/// Comes back when the client is gone altogether, not if it has closed its sending half
/// only. The connection itself does not look while an answer is under way.
fn hung_up(stream: &UnixStream) -> impl Future<Output = ()> + use<> {
    // Without a file to spare it is noticed when the next write fails.
    let watched = (stream.as_fd().try_clone_to_owned())
        .and_then(|it| UnixStream::from_std(it.into()))
        .ok();
    async move {
        let Some(watched) = watched else {
            return std::future::pending().await;
        };
        // A half that was closed stays readable for ever; that there is room to write
        // is news each time, and so is the end.
        while watched.writable().await.is_ok() {
            let mut asked = [PollFd::new(&watched, PollFlags::empty())];
            let at_once = Timespec::default();
            if poll(&mut asked, Some(&at_once)).is_ok()
                && asked[0].revents().contains(PollFlags::HUP)
            {
                // Who has said all and waits for no answer is heard to the end.
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

/// Answers everything with: there is no room.
fn full() -> Router {
    Router::new().fallback(async |request: Request| {
        forget_request(request).await;
        Failure::new(
            code::BUSY,
            format!("{MAX_CONNECTIONS} connections are open, which is the limit"),
        )
        .help("try again when some of them have ended")
    })
}
