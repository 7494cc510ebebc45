//! Where a node listens: an address of TCP or UDP, or the file of a Unix socket. Its listener, and who connects there.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixSocket, UnixStream};

use crate::tls::Stream;

/// Connections to a Unix socket that wait in the system's queue, as many as Rust's standard library has for TCP.
const BACKLOG: u32 = 128;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address of TCP; port 0 is any free one.
    Tcp(SocketAddr),
    /// An address of UDP; port 0 is any free one.
    Udp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Udp(address) => write!(f, "udp:{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// From this address.
    Tcp(SocketAddr),
    /// A program of the user with this number.
    Unix(u32),
}

impl Peer {
    /// Returns what stays the same from one connection to the next.
    pub(crate) fn host(self) -> String {
        match self {
            Peer::Tcp(address) => address.ip().to_string(),
            Peer::Unix(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix(user) => write!(f, "unix:{user}"),
        }
    }
}

/// Accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What is open at an address.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// It accepts connections.
    Streams(Listener),
    /// It gets datagrams.
    Datagrams(UdpSocket),
}

impl Endpoint {
    /// Listens at an address. Returns the address, which has a port then, and the file of a Unix socket. Called within a
    /// runtime.
    pub(crate) fn bind(
        address: &ListenAddress,
        mode: u32,
    ) -> io::Result<(Endpoint, ListenAddress, Option<SocketFile>)> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = ListenAddress::Tcp(listener.local_addr()?);
                let listener = Listener::Tcp(TcpListener::from_std(listener)?);
                Ok((Endpoint::Streams(listener), address, None))
            }
            ListenAddress::Udp(address) => {
                let socket = std::net::UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                let address = ListenAddress::Udp(socket.local_addr()?);
                let socket = UdpSocket::from_std(socket)?;
                Ok((Endpoint::Datagrams(socket), address, None))
            }
            ListenAddress::Unix(path) => {
                let lock = lock(path)?;
                remove_left_over(path)?;
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                let file = SocketFile::new(path, lock)?;
                // Before it listens, nobody can connect.
                file.set_mode(mode)?;
                let listener = Listener::Unix(socket.listen(BACKLOG)?);
                Ok((Endpoint::Streams(listener), address.clone(), Some(file)))
            }
        }
    }
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                keep_alive(&stream);
                Ok((Accepted::Tcp(stream.into_std()?), Peer::Tcp(peer)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::Unix(stream.peer_cred()?.uid());
                Ok((Accepted::Unix(stream.into_std()?), peer))
            }
        }
    }
}

/// A connection that no runtime has: the one where it is served is another one than where it was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Gives the connection to the runtime that this is called in.
    pub(crate) fn registered(self) -> io::Result<Stream> {
        match self {
            Accepted::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Plain),
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// The file of a Unix socket, which is removed when this is dropped, unless there is another one in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file. The number is not given to another one as long as the listener is open.
    identity: (u64, u64),
    /// Locked for as long as it is open: no other node takes the path meanwhile.
    _lock: File,
}

impl SocketFile {
    fn new(path: &Path, lock: File) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
            _lock: lock,
        })
    }

    /// Sets who may connect: those who may write to the file.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !identity(&self.path).is_ok_and(|found| found == self.identity) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Locks the file beside the socket, as for the control socket. Of two nodes that start at the same moment, each could take the
/// socket of the other, at which nobody listens yet, for one that is left over. The file stays when the lock ends: otherwise two
/// could lock two files of the same name.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let failed = |error: io::Error| {
        let why = format!("{} cannot be locked: {error}", Path::new(&name).display());
        io::Error::new(error.kind(), why)
    };
    let file = options.open(&name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Removes the socket of a program that is gone. A file that is no socket stays, and so does one at which a program listens.
fn remove_left_over(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => {
            let why = "a file that is not a socket has this name";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It would wait for a program that accepts nothing.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(in_use()),
    }
}

/// Has the system look whether a client is still there that says nothing, and write without waiting for more.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    // It is a service to clients that vanish: without it they are noticed later.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
    // Otherwise a response waits for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    /// Listens at a path, with this mode.
    fn bind(path: &Path, mode: u32) -> io::Result<(Listener, SocketFile)> {
        match Endpoint::bind(&ListenAddress::Unix(path.to_owned()), mode)? {
            (Endpoint::Streams(listener), _, Some(file)) => Ok((listener, file)),
            other => panic!("{other:?}"),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_file_of_a_socket_has_a_mode_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (listener, file) = bind(&path, 0o640).unwrap();
        assert_eq!(mode(&path), 0o640);
        file.set_mode(0o666).unwrap();
        assert_eq!(mode(&path), 0o666);
        let connecting = tokio::net::UnixStream::connect(&path);
        let (connected, accepted) = tokio::join!(connecting, listener.accept());
        connected.unwrap();
        let me = fs::metadata(folder.path()).unwrap().uid();
        assert_eq!(accepted.unwrap().1, Peer::Unix(me));
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_what_is_left_of_a_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let kind = |found: io::Result<(Listener, SocketFile)>| found.unwrap_err().kind();
        // Nobody listens any more.
        drop(StdListener::bind(&path).unwrap());
        let (listener, file) = bind(&path, 0o600).unwrap();
        assert_eq!(kind(bind(&path, 0o600)), io::ErrorKind::AddrInUse);
        // Another program has replaced it meanwhile: its file stays.
        fs::remove_file(&path).unwrap();
        let other = StdListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop((listener, other));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a text").unwrap();
        assert_eq!(kind(bind(&path, 0o600)), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a text");
        let nowhere = folder.path().join("none/a.sock");
        assert_eq!(kind(bind(&nowhere, 0o600)), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn of_nodes_that_start_at_once_one_has_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let runtime = tokio::runtime::Handle::current();
        for round in 0..500 {
            // Half of the time there is something left over.
            if round % 2 == 0 {
                drop(StdListener::bind(&path).unwrap());
            }
            let begin = std::sync::Barrier::new(3);
            let start = || {
                let _runtime = runtime.enter();
                begin.wait();
                bind(&path, 0o600)
            };
            let all: Vec<_> = std::thread::scope(|threads| {
                let starting: Vec<_> = (0..3).map(|_| threads.spawn(start)).collect();
                starting
                    .into_iter()
                    .map(|one| one.join().unwrap())
                    .collect()
            });
            let (have, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
            assert_eq!(have.len(), 1, "{refused:?}");
            for one in refused {
                assert_eq!(one.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            }
            // And it is this one that clients find.
            std::os::unix::net::UnixStream::connect(&path).unwrap();
            drop(have);
            assert!(!path.exists());
        }
    }
}
