//! Connections of the client: names are resolved, and each address is checked before it is connected to.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use exuvia_process::Grants;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::error::ClientError;
use crate::tls::Stream;

/// How long a connection may take to be made, with TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address of a name may take: the next may be reachable.
const ADDRESS: Duration = Duration::from_secs(3);

/// Why there is no connection. The first word is for programs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The process may not connect there.
    #[error("denied: {0}")]
    Denied(String),
    /// The name has no address.
    #[error("resolve: {0}")]
    Resolve(String),
    /// No connection could be made.
    #[error("connect: {0}")]
    Connect(String),
}

/// Trusts whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), or else whom browsers trust.
pub(super) fn tls() -> Result<ClientConfig, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| ClientError::Tls(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the host without brackets and the port of a URL.
pub(super) fn host_and_port(uri: &Uri) -> Result<(String, u16), String> {
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => {
            return Err(format!(
                "invalid: `{uri}` begins with neither http:// nor https://"
            ));
        }
    };
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| format!("invalid: `{uri}` has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(default)))
}

/// Makes connections for those who have these grants.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) grants: Arc<Grants>,
    pub(super) tls: TlsConnector,
    pub(super) lookups: Arc<Semaphore>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connected = timeout(CONNECT, connector.connect(&uri)).await;
            let late = |_| Refusal::Connect("it took too long".into());
            connected.map_err(late)?.map(TokioIo::new)
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<Stream, Refusal> {
        let (host, port) = host_and_port(uri).map_err(Refusal::Connect)?;
        // A lookup cannot be given up: its place is taken until the system has answered.
        let place = self.lookups.clone().acquire_owned().await;
        let name = host.clone();
        let found = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            drop(place);
            found.map(Iterator::collect::<Vec<SocketAddr>>)
        });
        let not_found = |error: io::Error| Refusal::Resolve(format!("`{host}`: {error}"));
        let found = found.await.map_err(|error| not_found(error.into()))?;
        let found = found.map_err(not_found)?;
        let mut last = Refusal::Resolve(format!("`{host}` has no address"));
        for address in found {
            if !self.grants.may_reach(address.ip(), port) {
                last = Refusal::Denied(format!(
                    "`{host}` leads to {}, which is not public and not granted itself: see `net.connect`",
                    address.ip()
                ));
                continue;
            }
            let stream = match timeout(ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Err(_) => {
                    last = Refusal::Connect(format!("{address}: it took too long"));
                    continue;
                }
                Ok(Err(error)) => {
                    last = Refusal::Connect(format!("{address}: {error}"));
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            if uri.scheme_str() != Some("https") {
                return Ok(Stream::Plain(stream));
            }
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|error| Refusal::Connect(format!("tls: {host}: {error}")))?;
            let stream = self.tls.connect(name, stream).await;
            let stream =
                stream.map_err(|error| Refusal::Connect(format!("tls: {host}: {error}")))?;
            return Ok(Stream::Tls(Box::new(stream.into())));
        }
        Err(last)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self.is_http2() {
            true => Connected::new().negotiated_h2(),
            false => Connected::new(),
        }
    }
}
