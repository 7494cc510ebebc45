//! The API over TCP, for other machines: only with TLS 1.3 and a token. Whoever connects without a good token gets a 401,
//! and holds no more than one of a few connections for a short while.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{Fingerprint, Problem, code};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::Caller;
use crate::audit::{Audit, Entry};
use crate::error::ServeError;
use crate::problem::Refusal;
use crate::server::closed;
use crate::tokens::{self, SharedTokens};

/// The maximum number of connections. Further ones wait in the listen backlog.
pub const MAX_REMOTE: usize = 128;
/// How long the handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, which usually means that file descriptors have run out.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// The files of a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those that it was signed with.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// An address at which the API is served to other machines.
pub struct Remote {
    listener: std::net::TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("address", &self.address)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Binds the address. Without a certificate of one's own, one is made that stays: in a file beside the socket.
    ///
    /// # Errors
    ///
    /// If the address or the certificate cannot be used, or none can be made.
    pub fn bind(
        address: SocketAddr,
        certificate: Option<Certificate>,
        socket: &Path,
    ) -> Result<Remote, ServeError> {
        let certificate = match certificate {
            Some(own) => own,
            None => made(socket)?,
        };
        let (config, fingerprint) = config(&certificate)?;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| ServeError::Address { address, error })?;
        let address = listener
            .local_addr()
            .map_err(|error| ServeError::Address { address, error })?;
        Ok(Remote {
            listener,
            address,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            fingerprint,
        })
    }

    /// Returns the address, with its actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the fingerprint of the certificate, by which clients know the node.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Serves connections until `closing` is set, and then waits for the open ones to end.
    pub(crate) async fn serve(
        self,
        router: Router,
        door: RemoteDoor,
        head: Duration,
        closing: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let router = router.layer(middleware::from_fn_with_state(door, authenticate));
        let mut http = Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(head);
        let permits = Arc::new(Semaphore::new(MAX_REMOTE));
        let mut open = JoinSet::new();
        let until = closed(closing.clone());
        tokio::pin!(until);
        loop {
            let permit = tokio::select! {
                biased;
                Some(_) = open.join_next() => continue,
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = &mut until => break,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut until => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the remote API cannot accept a connection: {error}");
                    tokio::time::sleep(OUT_OF_FILES).await;
                    continue;
                }
            };
            let (acceptor, http) = (self.acceptor.clone(), http.clone());
            let service = TowerToHyperService::new(router.clone());
            let closed = closed(closing.clone());
            open.spawn(async move {
                let _permit = permit;
                let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                let Ok(Ok(stream)) = handshake else { return };
                let connection = http.serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => {}
                    () = closed => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            });
        }
        drop(listener);
        while open.join_next().await.is_some() {}
        Ok(())
    }
}

/// What a remote request is checked with.
#[derive(Clone, Debug)]
pub(crate) struct RemoteDoor {
    pub(crate) tokens: SharedTokens,
    pub(crate) audit: Audit,
}

/// Finds out who asks. Nothing of the body is read of somebody unknown.
async fn authenticate(
    State(door): State<RemoteDoor>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = request.headers_mut().remove(header::AUTHORIZATION);
    let token = token.as_ref().and_then(bearer);
    let why = match token.map(|token| door.tokens.check(token)) {
        Some(Ok((name, role, scope))) => {
            request.extensions_mut().insert(Caller {
                name: name.into(),
                role,
                scope: Arc::new(scope),
                audit: Some(door.audit),
            });
            return next.run(request).await;
        }
        Some(Err(why)) => why,
        None => "there is no token",
    };
    door.audit
        .note(Entry::unknown(request.method(), request.uri()));
    let problem = Problem::new(code::UNAUTHORIZED, why)
        .help("`exuvia token new NAME --role ROLE` on the node's machine makes one, `exuvia login ADDR` takes it");
    let mut response = Refusal::from(problem).into_response();
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    // What follows of the request is not read.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn config(certificate: &Certificate) -> Result<(ServerConfig, Fingerprint), ServeError> {
    let Certificate { chain, key } = certificate;
    let unusable = |path: &Path, why: String| ServeError::Certificate {
        path: path.to_owned(),
        why,
    };
    let all = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(chain, error.to_string()))?;
    let Some(first) = all.first() else {
        return Err(unusable(chain, "it has no certificate".to_owned()));
    };
    let fingerprint = Fingerprint::of(first);
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|error| unusable(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|config| config.with_no_client_auth().with_single_cert(all, private))
        .map_err(|error| unusable(chain, error.to_string()))?;
    Ok((config, fingerprint))
}

/// Returns the certificate beside a socket, which is made if it is missing. Clients know it by its fingerprint, and so it
/// names nobody and lasts.
fn made(socket: &Path) -> Result<Certificate, ServeError> {
    let certificate = Certificate {
        chain: socket.with_extension("cert.pem"),
        key: socket.with_extension("key.pem"),
    };
    if certificate.chain.exists() && certificate.key.exists() {
        return Ok(certificate);
    }
    let why = |error: rcgen::Error| ServeError::Certificate {
        path: certificate.chain.clone(),
        why: error.to_string(),
    };
    let key = rcgen::KeyPair::generate().map_err(why)?;
    let parameters = rcgen::CertificateParams::new(vec!["exuvia".to_owned()]).map_err(why)?;
    let signed = parameters.self_signed(&key).map_err(why)?;
    for (path, text) in [
        (&certificate.key, key.serialize_pem()),
        (&certificate.chain, signed.pem()),
    ] {
        tokens::write(path, text.as_bytes())
            .map_err(|error| ServeError::io("write", path, error))?;
    }
    Ok(certificate)
}
