//! Connections of the client: names are resolved, and each address is checked before it is connected to.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_process::Grants;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::lookups::{Lookups, asker};
use crate::error::ClientError;
use crate::listener::keep_alive;
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
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The schemes of requests, with the ports that they stand for.
pub(super) const REQUESTS: &[(&str, Option<u16>)] = &[("http", Some(80)), ("https", Some(443))];
/// Those of sockets.
pub(super) const SOCKETS: &[(&str, Option<u16>)] = &[
    ("tcp", None),
    ("tls", None),
    ("ws", Some(80)),
    ("wss", Some(443)),
    ("udp", None),
];

/// Returns the host without brackets and the port of a URL with one of these schemes.
fn host_and_port(uri: &Uri, schemes: &[(&str, Option<u16>)]) -> Result<(String, u16), String> {
    let scheme = uri.scheme_str().unwrap_or_default();
    let known = schemes.iter().find(|(known, _)| *known == scheme);
    let Some((_, default)) = known else {
        let names: Vec<String> = (schemes.iter())
            .map(|(name, _)| format!("{name}://"))
            .collect();
        return Err(format!(
            "invalid: `{uri}` begins with none of {}",
            names.join(", ")
        ));
    };
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| format!("invalid: `{uri}` has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().or(*default);
    let port = port.ok_or_else(|| format!("invalid: `{uri}` has no port"))?;
    Ok((host.to_owned(), port))
}

/// Returns the host without brackets and the port of a URL with one of these schemes, if somebody with these grants may connect
/// there as far as its name says: each address that it leads to is checked before it is connected to.
pub(super) fn permitted(
    uri: &Uri,
    schemes: &[(&str, Option<u16>)],
    grants: &Grants,
) -> Result<(String, u16), String> {
    let (host, port) = host_and_port(uri, schemes)?;
    match grants.may_connect(&host, port) {
        true => Ok((host, port)),
        false => Err(format!(
            "denied: `{host}:{port}` is not granted: see `net.connect`"
        )),
    }
}

/// Makes connections for those who have these grants.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) grants: Arc<Grants>,
    pub(super) tls: TlsConnector,
    pub(super) lookups: Arc<Lookups>,
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
        // Before it is a future, which may end up in another task.
        let of = asker();
        Box::pin(async move { connector.connect(of, &uri).await.map(TokioIo::new) })
    }
}

impl Connector {
    /// Makes a connection for a process, with TLS if the scheme says so.
    pub(super) async fn connect(&self, of: Pid, uri: &Uri) -> Result<Stream, Refusal> {
        let connected = timeout(CONNECT, self.connect_to(of, uri)).await;
        connected.unwrap_or_else(|_| Err(Refusal::Connect("it took too long".into())))
    }

    async fn connect_to(&self, of: Pid, uri: &Uri) -> Result<Stream, Refusal> {
        let (host, port, found) = self.resolve(of, uri).await?;
        let mut last = Refusal::Resolve(format!("`{host}` has no address"));
        for address in found {
            if let Err(refused) = self.check(&host, address) {
                last = refused;
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
            keep_alive(&stream);
            if !matches!(uri.scheme_str(), Some("https" | "tls" | "wss")) {
                return Ok(Stream::Plain(stream));
            }
            let tls = |error: &dyn std::fmt::Display| {
                Refusal::Connect(format!("tls: {host}:{port}: {error}"))
            };
            let name = ServerName::try_from(host.clone()).map_err(|error| tls(&error))?;
            let stream = self.tls.connect(name, stream).await;
            let stream = stream.map_err(|error| tls(&error))?;
            return Ok(Stream::Tls(Box::new(stream.into())));
        }
        Err(last)
    }

    /// Makes a socket for datagrams to one address, which is returned as well.
    pub(super) async fn datagrams(
        &self,
        of: Pid,
        uri: &Uri,
    ) -> Result<(UdpSocket, SocketAddr), Refusal> {
        let (host, _, found) = self.resolve(of, uri).await?;
        let mut last = Refusal::Resolve(format!("`{host}` has no address"));
        for address in found {
            if let Err(refused) = self.check(&host, address) {
                last = refused;
                continue;
            }
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let connected = async {
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok::<_, io::Error>(socket)
            };
            match connected.await {
                Ok(socket) => return Ok((socket, address)),
                Err(error) => last = Refusal::Connect(format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    /// Checks an address that a granted name leads to.
    fn check(&self, host: &str, address: SocketAddr) -> Result<(), Refusal> {
        match self.grants.may_reach(address.ip(), address.port()) {
            true => Ok(()),
            false => Err(Refusal::Denied(format!(
                "`{host}` leads to {}, which is not public and not granted itself: see `net.connect`",
                address.ip()
            ))),
        }
    }

    /// Returns the host and the port of a URL, and the addresses that they lead to.
    async fn resolve(&self, of: Pid, uri: &Uri) -> Result<(String, u16, Vec<SocketAddr>), Refusal> {
        let all = [REQUESTS, SOCKETS].concat();
        let (host, port) = host_and_port(uri, &all).map_err(Refusal::Connect)?;
        let found = self.lookups.look_up(of, &host, port).await;
        let found = found.map_err(|error| Refusal::Resolve(format!("`{host}`: {error}")))?;
        Ok((host, port, found))
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

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;
    use tokio_rustls::TlsAcceptor;

    use super::super::lookups::{ASKER, LOOKUPS_EACH};
    use super::*;

    /// A server with a certificate for `localhost`, and a connector that trusts it.
    async fn server() -> (u16, Connector) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut bytes = [0; 5];
                    stream.read_exact(&mut bytes).await.unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
            }
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let grants = Grants {
            connect: ["localhost:*", "127.0.0.1:*", "[::1]:*"]
                .map(|to| to.parse().unwrap())
                .into(),
            ..Grants::default()
        };
        let connector = Connector {
            grants: Arc::new(grants),
            tls: TlsConnector::from(Arc::new(config)),
            lookups: Lookups::new(Handle::current()),
        };
        (port, connector)
    }

    #[test]
    fn a_url_has_a_host_and_a_port() {
        let parsed = |text: &str| host_and_port(&text.parse().unwrap(), REQUESTS);
        assert_eq!(parsed("http://a.com/x"), Ok(("a.com".into(), 80)));
        assert_eq!(parsed("https://a.com:8443"), Ok(("a.com".into(), 8443)));
        assert_eq!(parsed("https://[::1]/"), Ok(("::1".into(), 443)));
        assert!(parsed("ftp://a.com").unwrap_err().starts_with("invalid: "));
        assert!(parsed("/path").unwrap_err().starts_with("invalid: "));
    }

    #[tokio::test]
    async fn a_connection_is_encrypted_with_the_host_that_was_asked_for() {
        let (port, connector) = server().await;
        for scheme in ["tls", "wss", "https"] {
            let uri = format!("{scheme}://localhost:{port}/").parse().unwrap();
            let mut stream = connector.connect(Pid::NONE, &uri).await.unwrap();
            assert!(matches!(stream, Stream::Tls(_)), "{scheme}");
            assert_eq!(stream.peer().unwrap().port(), port);
            stream.write_all(b"hello").await.unwrap();
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"hello");
        }
        // The certificate is for another name.
        let uri = format!("tls://127.0.0.1:{port}").parse().unwrap();
        let refused = connector
            .connect(Pid::NONE, &uri)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with("connect: tls: 127.0.0.1:"), "{refused}");
    }

    #[tokio::test]
    async fn a_request_waits_for_the_lookups_of_its_own_process_only() {
        let (port, connector) = server().await;
        let (greedy, other) = (Pid::new(1, 1, 0), Pid::new(1, 2, 0));
        let mut held = Vec::new();
        for _ in 0..LOOKUPS_EACH {
            held.push(connector.lookups.place(greedy).await);
        }
        let uri: Uri = format!("https://localhost:{port}/").parse().unwrap();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let ask = |of| {
            let mut request = Request::new(Full::default());
            *request.uri_mut() = uri.clone();
            ASKER.scope(of, client.request(request))
        };
        let mut waits = std::pin::pin!(ask(greedy));
        let brief = Duration::from_millis(200);
        assert!(timeout(brief, &mut waits).await.is_err());
        // The server speaks no HTTP: what it says is the end of a request that has reached it.
        assert!(!ask(other).await.unwrap_err().is_connect());
        held.pop();
        assert!(!waits.await.unwrap_err().is_connect());
    }
}
