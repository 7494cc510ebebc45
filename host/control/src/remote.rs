//! The API over TCP, for other machines: only with TLS 1.3 and a token. Whoever connects without a good token gets a 401,
//! and holds one of a few connections for a short while, which are not those of others. A token that is revoked or expires
//! ends the connections that have shown it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use exuvia_api::{Fingerprint, Problem, code};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::access::Caller;
use crate::audit::{Audit, Entry};
use crate::error::ServeError;
use crate::problem::Refusal;
use crate::server::closed;
use crate::tokens::{self, Tokens};

/// The maximum number of connections whose client has shown a good token.
pub const MAX_REMOTE: usize = 128;
/// Of these, the maximum number of one token.
pub const MAX_REMOTE_PER_TOKEN: usize = 32;
/// The maximum number of connections whose client has not. If there are more, the oldest one is closed.
pub const MAX_STRANGERS: usize = 64;
/// Of these, the maximum number from one address. Further ones are closed at once.
pub const MAX_STRANGERS_PER_ADDRESS: usize = 16;
/// How long a client may take until it has shown a good token, handshake included.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How long a client may take to read something of what it is sent.
const UNREAD: Duration = Duration::from_secs(30);
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
        let tokens = door.tokens.clone();
        let router = router.layer(middleware::from_fn_with_state(door, authenticate));
        let mut http = Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(head.min(UNKNOWN));
        let guests = Guests::default();
        let mut open = JoinSet::new();
        let until = closed(closing.clone());
        tokio::pin!(until);
        loop {
            let accepted = tokio::select! {
                biased;
                Some(_) = open.join_next() => continue,
                accepted = listener.accept() => accepted,
                () = &mut until => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("the remote API cannot accept a connection: {error}");
                    tokio::time::sleep(OUT_OF_FILES).await;
                    continue;
                }
            };
            let Some(session) = guests.arrived(peer) else {
                continue;
            };
            let (acceptor, http) = (self.acceptor.clone(), http.clone());
            let router = router.clone().layer(Extension(Arc::clone(&session)));
            let (closed, tokens) = (closed(closing.clone()), tokens.clone());
            let guest = Arc::clone(&session);
            let task = open.spawn(async move {
                let serve = async {
                    let mut stream = TimeoutStream::new(stream);
                    stream.set_write_timeout(Some(UNREAD));
                    let Ok(stream) = acceptor.accept(Box::pin(stream)).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(router);
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
                };
                // A token that is revoked ends what is under way with it.
                tokio::select! {
                    () = serve => {}
                    () = guest.until_unwelcome(&tokens) => {}
                }
                guest.left();
            });
            session.runs(task);
        }
        drop(listener);
        while open.join_next().await.is_some() {}
        Ok(())
    }
}

/// The connections that are open.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    next: u64,
    /// Those that have shown no good token, oldest first.
    strangers: VecDeque<(u64, IpAddr, Option<AbortHandle>)>,
    /// How many have shown each token.
    members: HashMap<String, usize>,
}

/// A connection.
pub(crate) struct Session {
    guests: Guests,
    number: u64,
    peer: SocketAddr,
    /// The token that it has shown.
    token: OnceLock<String>,
    is_known: Notify,
}

impl Guests {
    /// Notes a new connection, unless its address has too many already.
    fn arrived(&self, peer: SocketAddr) -> Option<Arc<Session>> {
        let mut book = self.book();
        let of_address = book.strangers.iter().filter(|(_, ip, _)| *ip == peer.ip());
        if of_address.count() >= MAX_STRANGERS_PER_ADDRESS {
            return None;
        }
        if book.strangers.len() >= MAX_STRANGERS
            && let Some((_, _, Some(oldest))) = book.strangers.pop_front()
        {
            oldest.abort();
        }
        let number = book.next;
        book.next += 1;
        book.strangers.push_back((number, peer.ip(), None));
        Some(Arc::new(Session {
            guests: self.clone(),
            number,
            peer,
            token: OnceLock::new(),
            is_known: Notify::new(),
        }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Notes its task, which may be ended.
    fn runs(&self, task: AbortHandle) {
        let mut book = self.guests.book();
        let mut strangers = book.strangers.iter_mut();
        if let Some((_, _, place)) = strangers.find(|(number, _, _)| *number == self.number) {
            *place = Some(task);
        }
    }

    /// Notes that it has shown a good token.
    fn is_of(&self, id: &str) -> Result<(), Problem> {
        let mut book = self.guests.book();
        match self.token.get() {
            Some(known) if known == id => return Ok(()),
            Some(_) => {
                let why = "a connection is for one token";
                return Err(Problem::new(code::FORBIDDEN, why));
            }
            None => {}
        }
        let busy = |what: &str, most: usize| {
            let why = format!("{most} connections {what} are open, which is the limit");
            Err(Problem::new(code::BUSY, why).help("try again when some of them have ended"))
        };
        if book.members.values().sum::<usize>() >= MAX_REMOTE {
            return busy("from other machines", MAX_REMOTE);
        }
        let of_token = book.members.entry(id.to_owned()).or_default();
        if *of_token >= MAX_REMOTE_PER_TOKEN {
            return busy("of this token", MAX_REMOTE_PER_TOKEN);
        }
        *of_token += 1;
        book.strangers
            .retain(|(number, _, _)| *number != self.number);
        // Under the lock, and so once.
        let _ = self.token.set(id.to_owned());
        self.is_known.notify_one();
        Ok(())
    }

    /// Completes if no good token was shown in time, or when the one that was is good no longer.
    async fn until_unwelcome(&self, tokens: &Tokens) {
        if tokio::time::timeout(UNKNOWN, self.is_known.notified())
            .await
            .is_err()
        {
            return;
        }
        if let Some(token) = self.token.get() {
            tokens.ended(token).await;
        }
    }

    fn left(&self) {
        let mut book = self.guests.book();
        book.strangers
            .retain(|(number, _, _)| *number != self.number);
        if let Some(token) = self.token.get()
            && let Some(open) = book.members.get_mut(token)
        {
            *open -= 1;
            if *open == 0 {
                book.members.remove(token);
            }
        }
    }
}

/// What a remote request is checked with.
#[derive(Clone, Debug)]
pub(crate) struct RemoteDoor {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) audit: Audit,
}

/// Finds out who asks. Nothing of the body is read of somebody unknown.
async fn authenticate(
    State(door): State<RemoteDoor>,
    Extension(session): Extension<Arc<Session>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = request.headers_mut().remove(header::AUTHORIZATION);
    let token = token.as_ref().and_then(bearer);
    let problem = match token.map(|token| door.tokens.check(token)) {
        Some(Ok(shown)) => match session.is_of(&shown.id) {
            Ok(()) => {
                request.extensions_mut().insert(Caller {
                    name: shown.name.into(),
                    role: shown.role,
                    scope: Arc::new(shown.scope),
                    audit: Some(door.audit),
                });
                return next.run(request).await;
            }
            Err(problem) => problem,
        },
        Some(Err(why)) => unauthorized(why),
        None => unauthorized("there is no token"),
    };
    let who = format!("unknown at {}", session.peer.ip());
    (door.audit).note(Entry::unknown(who, request.method(), request.uri()), true);
    let mut response = Refusal::from(problem).into_response();
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    // What follows of the request is not read.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unauthorized(why: &str) -> Problem {
    Problem::new(code::UNAUTHORIZED, why).help(
        "`exuvia token new NAME --role ROLE` on the node's machine makes one, `exuvia login ADDR` takes it",
    )
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
/// names nobody and lasts. Key and certificate are one file, so that they belong together whatever happens.
fn made(socket: &Path) -> Result<Certificate, ServeError> {
    let path = crate::beside(socket, "remote.pem");
    let unusable = |why: String| ServeError::Certificate {
        path: path.clone(),
        why,
    };
    match tokens::read_own(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = rcgen::KeyPair::generate().map_err(|error| unusable(error.to_string()))?;
            let parameters = rcgen::CertificateParams::new(vec!["exuvia".to_owned()]);
            let signed = parameters.and_then(|parameters| parameters.self_signed(&key));
            let signed = signed.map_err(|error| unusable(error.to_string()))?;
            let text = key.serialize_pem() + &signed.pem();
            tokens::write(&path, text.as_bytes())
                .map_err(|error| ServeError::io("write", &path, error))?;
        }
        Err(error) => return Err(unusable(error.to_string())),
    }
    Ok(Certificate {
        chain: path.clone(),
        key: path,
    })
}
