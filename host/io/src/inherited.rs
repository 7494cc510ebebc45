//! Sockets that another program has opened for this one, as systemd does: they are there before the node, and stay while it
//! is started again, so that no client is refused.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Socket, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

use crate::error::{InheritError, ListenError};
use crate::listener::{Endpoint, ListenAddress, Listener};

/// The sockets that were passed to this program and no address has taken yet.
#[derive(Clone, Debug, Default)]
pub struct InheritedSockets {
    sockets: Arc<Mutex<Vec<Inherited>>>,
    /// Whether all addresses are to be among them.
    pub(crate) is_expected: bool,
}

#[derive(Debug)]
struct Inherited {
    /// What it was passed as.
    name: Option<String>,
    address: ListenAddress,
    socket: Socket,
}

impl InheritedSockets {
    /// Takes the sockets that `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` of the environment name, as
    /// `sd_listen_fds(3)` says. To be called once.
    ///
    /// # Errors
    ///
    /// If there are none, or one of them gets neither connections nor datagrams.
    pub fn from_environment() -> Result<InheritedSockets, InheritError> {
        let passed = sd_listen_fds::get().map_err(|_| InheritError::Malformed)?;
        let passed = passed.into_iter();
        InheritedSockets::new(passed.map(|(name, socket)| (name, socket.into_std())))
    }

    fn new(
        passed: impl Iterator<Item = (Option<String>, OwnedFd)>,
    ) -> Result<InheritedSockets, InheritError> {
        let mut sockets = Vec::new();
        for (number, (name, socket)) in passed.enumerate() {
            let inherited = inherited(name.clone(), socket);
            sockets.push(inherited.map_err(|reason| InheritError::Unusable {
                number,
                name: name.unwrap_or_default(),
                reason,
            })?);
        }
        match sockets.is_empty() {
            true => Err(InheritError::None),
            false => Ok(InheritedSockets {
                sockets: Arc::new(Mutex::new(sockets)),
                is_expected: true,
            }),
        }
    }

    /// Takes the socket with a name, or else with an address. Called within a runtime.
    pub(crate) fn take(
        &self,
        name: Option<&str>,
        address: &ListenAddress,
    ) -> io::Result<Option<(Endpoint, ListenAddress)>> {
        let mut sockets = self.sockets.lock();
        let wanted = |one: &Inherited| match name {
            Some(_) => one.name.as_deref() == name,
            None => one.address == *address,
        };
        let Some(at) = sockets.iter().position(wanted) else {
            return Ok(None);
        };
        let Inherited {
            address, socket, ..
        } = sockets.remove(at);
        let streams = Endpoint::Streams;
        let endpoint = match &address {
            ListenAddress::Tcp(_) => streams(Listener::Tcp(TcpListener::from_std(socket.into())?)),
            ListenAddress::Unix(_) => {
                streams(Listener::Unix(UnixListener::from_std(socket.into())?))
            }
            ListenAddress::Udp(_) => Endpoint::Datagrams(UdpSocket::from_std(socket.into())?),
        };
        Ok(Some((endpoint, address)))
    }

    /// Checks that none is left.
    ///
    /// # Errors
    ///
    /// Those that are left: connections there would wait for ever.
    pub fn all_taken(&self) -> Result<(), ListenError> {
        let left = self.left();
        match left.is_empty() {
            true => Ok(()),
            false => Err(ListenError::Left(left)),
        }
    }

    /// Returns what has not been taken: the address, and the name if there is one.
    fn left(&self) -> Vec<String> {
        let sockets = self.sockets.lock();
        let left = sockets.iter().map(|one| match &one.name {
            Some(name) => format!("{} (`{name}`)", one.address),
            None => one.address.to_string(),
        });
        left.collect()
    }
}

/// Looks what was passed. The error is the end of a sentence.
fn inherited(name: Option<String>, socket: OwnedFd) -> Result<Inherited, String> {
    let failed = |error: io::Error| format!("cannot be used: {error}");
    // What this program starts does not get it.
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let socket = Socket::from(socket);
    let address = socket.local_addr().map_err(failed)?;
    let kind = socket.r#type().map_err(failed)?;
    let is_datagram = kind == Type::DGRAM;
    if kind != Type::STREAM && !is_datagram {
        return Err("is one of neither streams nor datagrams".to_owned());
    }
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) if is_datagram => ListenAddress::Udp(address),
        (Some(address), _) => ListenAddress::Tcp(address),
        (_, Some(path)) if !is_datagram => ListenAddress::Unix(path.to_owned()),
        (_, Some(_)) => return Err("is one of datagrams at a path: only UDP has them".to_owned()),
        _ => return Err("is neither of TCP or UDP nor of a path".to_owned()),
    };
    if is_datagram {
        if socket.peer_addr().is_ok() {
            return Err("is connected: it gets the datagrams of one address only".to_owned());
        }
    } else if !socket.is_listener().map_err(failed)? {
        return Err("does not listen: it must be passed by a unit with `Accept=no`".to_owned());
    }
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(Inherited {
        name,
        address,
        socket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(sockets: Vec<(Option<&str>, OwnedFd)>) -> Result<InheritedSockets, InheritError> {
        let sockets = sockets.into_iter();
        InheritedSockets::new(sockets.map(|(name, socket)| (name.map(str::to_owned), socket)))
    }

    fn tcp() -> (ListenAddress, OwnedFd) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        (address, listener.into())
    }

    #[tokio::test]
    async fn a_socket_is_found_by_its_name_or_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagrams = ListenAddress::Udp(udp.local_addr().unwrap());
        let ((web, one), (other, two)) = (tcp(), tcp());
        let sockets = vec![
            (Some("web"), one),
            (None, two),
            (None, udp.into()),
            (Some("local"), unix.into()),
        ];
        let sockets = passed(sockets).unwrap();
        let anywhere = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let take = |name: Option<&str>, address: &ListenAddress| {
            let taken = sockets.take(name, address).unwrap();
            taken.map(|(_, address)| address)
        };
        assert_eq!(take(Some("none"), &web), None);
        assert_eq!(take(None, &anywhere), None);
        assert_eq!(take(Some("web"), &anywhere), Some(web.clone()));
        assert_eq!(take(None, &web), None, "it is taken");
        assert_eq!(take(None, &other), Some(other));
        assert_eq!(
            sockets.left(),
            [
                datagrams.to_string(),
                format!("unix:{} (`local`)", path.display())
            ]
        );
        // The same address of another kind is another one.
        let as_tcp = match &datagrams {
            ListenAddress::Udp(address) => ListenAddress::Tcp(*address),
            other => panic!("{other}"),
        };
        assert_eq!(take(None, &as_tcp), None);
        assert_eq!(take(None, &datagrams), Some(datagrams.clone()));
        let unix = ListenAddress::Unix(path);
        assert_eq!(take(None, &unix), Some(unix.clone()));
        assert_eq!(sockets.left(), [""; 0]);
    }

    #[test]
    fn what_accepts_no_connections_is_refused() {
        assert!(matches!(passed(Vec::new()), Err(InheritError::None)));
        let file = tempfile::tempfile().unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:1").unwrap();
        let path = tempfile::tempdir().unwrap();
        let local = std::os::unix::net::UnixDatagram::bind(path.path().join("a")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for (socket, reason) in [
            (file.into(), "cannot be used: "),
            (udp.into(), "is connected: "),
            (local.into(), "is one of datagrams at a path"),
            (client.into(), "does not listen"),
        ] {
            let (_, good) = tcp();
            let error = passed(vec![(None, good), (Some("web"), socket)]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("number 1 (`web`)"), "{text}");
            assert!(text.contains(reason), "{text}");
        }
    }
}
