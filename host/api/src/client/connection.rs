//! Connections of the client: one for each request, so the client holds nothing while idle and
//! needs no pool.

use std::error::Error;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::error::ClientError;

/// How long to retry while the node's listen backlog is full.
const CONNECTING: Duration = Duration::from_secs(5);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// Sends a request over a new connection, and returns the response.
pub(super) async fn request(
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ClientError> {
    let stream = connect(socket).await.map_err(|error| {
        let (why, help) = why(&error, socket);
        ClientError::NoNode {
            socket: socket.to_path_buf(),
            why,
            help,
        }
    })?;
    let broken = |error: hyper::Error| ClientError::Broken(with_causes(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The task ends when `sender` and the response's body have been dropped. Errors of the
    // connection are reported through those two.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// Connects to the socket. A unix socket refuses at once while its backlog is full; the node
/// accepts soon, so this retries for [`CONNECTING`].
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut left = CONNECTING;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !left.is_zero() => {
                tokio::time::sleep(RETRY).await;
                left = left.saturating_sub(RETRY);
            }
            connected => return connected,
        }
    }
}

/// Describes the common connection errors in plain words, with a hint for each.
fn why(error: &io::Error, socket: &Path) -> (String, &'static str) {
    const START: &str = "start one with `exuvia dev` or `exuvia run APP`";
    let no_socket = || {
        let kind = std::fs::metadata(socket).map(|metadata| metadata.file_type());
        kind.is_ok_and(|kind| !kind.is_socket())
    };
    let (why, help) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such socket", START),
        io::ErrorKind::ConnectionRefused if no_socket() => (
            "this is not a socket",
            "name the node's socket with `--socket PATH` or EXUVIA_SOCKET",
        ),
        io::ErrorKind::ConnectionRefused => {
            ("nothing listens on the socket: its node has exited", START)
        }
        io::ErrorKind::PermissionDenied => (
            "it belongs to another user",
            "only the user that runs a node can connect to it: run this as that user",
        ),
        io::ErrorKind::WouldBlock => (
            "the node accepts no connections: too many are waiting",
            "try again; if that does not help, see the node's output",
        ),
        _ => return (error.to_string(), START),
    };
    (why.to_owned(), help)
}

/// Appends the sources to the text of an error: hyper's own text is short, and the cause is in
/// its sources.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
