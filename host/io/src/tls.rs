//! TLS: connections that may be encrypted, and the certificates of listeners, which are read again when their files change.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// How often the files of a certificate are looked at, when connections come.
const LOOK: Duration = Duration::from_secs(2);

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those that it was signed with, in PEM.
    pub chain: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Accepts connections with a certificate.
pub(crate) struct Tls {
    certificate: Certificate,
    protocols: &'static [&'static [u8]],
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    /// When the files were changed that it was made of.
    changed: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Tls {
    /// Reads the files. `protocols`: what the clients may choose (ALPN).
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(crate) fn new(
        certificate: Certificate,
        protocols: &'static [&'static [u8]],
    ) -> Result<Tls, String> {
        let changed = changed(&certificate);
        let acceptor = acceptor(&certificate, protocols)?;
        Ok(Tls {
            certificate,
            protocols,
            state: Mutex::new(State {
                acceptor,
                changed,
                looked: Instant::now(),
            }),
        })
    }

    /// Returns what accepts a connection. If the files have changed, their new content is used; if that is wrong, it is
    /// reported, and the old goes on.
    pub(crate) async fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        if self.is_due() {
            let tls = self.clone();
            // A scheduler must not wait for files.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
        self.state.lock().acceptor.clone()
    }

    /// Returns whether it is to be looked whether the files have changed, and is then not for a while.
    fn is_due(&self) -> bool {
        let mut state = self.state.lock();
        let is_due = state.looked.elapsed() >= LOOK;
        if is_due {
            state.looked = Instant::now();
        }
        is_due
    }

    /// Reads the files, if they have changed.
    fn reload(&self) {
        let changed = changed(&self.certificate);
        if changed == self.state.lock().changed {
            return;
        }
        let made = acceptor(&self.certificate, self.protocols);
        let mut state = self.state.lock();
        state.changed = changed;
        match made {
            Ok(acceptor) => state.acceptor = acceptor,
            Err(error) => tracing::warn!("the certificate that is in use stays: {error}"),
        }
    }
}

fn changed(certificate: &Certificate) -> [Option<SystemTime>; 2] {
    [&certificate.chain, &certificate.key].map(|file| {
        let metadata = std::fs::metadata(file);
        metadata.and_then(|metadata| metadata.modified()).ok()
    })
}

fn acceptor(certificate: &Certificate, protocols: &[&[u8]]) -> Result<TlsAcceptor, String> {
    let (chain, key) = (&certificate.chain, &certificate.key);
    let all = CertificateDer::pem_file_iter(chain)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|error| format!("{}: {error}", chain.display()))?;
    if all.is_empty() {
        return Err(format!("{} has no certificate", chain.display()));
    }
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|error| format!("{}: {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = config.with_no_client_auth().with_single_cert(all, private);
    let mut config =
        config.map_err(|error| format!("{} with {}: {error}", chain.display(), key.display()))?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Returns whether both sides have agreed on HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Stream::Plain(_) | Stream::Unix(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Waits until there is something to read. Returns at once if the connection is encrypted.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
            Stream::Tls(_) => Ok(()),
        }
    }

    /// Reads what is there. The bytes of an encrypted connection are only known when they have been decrypted.
    pub(crate) fn try_read(&self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.try_read(to),
            Stream::Unix(stream) => stream.try_read(to),
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Stream {
    /// Returns the address of the other side.
    pub(crate) fn peer(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Plain(stream) => stream.peer_addr(),
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, to),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, to),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
