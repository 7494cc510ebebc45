//! Requests of guests to the outside: the process `exuvia.http`, which makes them for others.
//!
//! A guest sends it a request and gets the response as the reply. What a process may ask for are its grants: the name is
//! checked before it is resolved, and every address that it leads to before it is connected to. Connections are kept and
//! shared by processes with the same grants.

mod connector;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use exuvia_abi::{Kind, Pid, Reason};
use exuvia_process::{
    Body, Context, Destination, Envelope, ExitReason, Grants, Limits, Native, Payload, Process,
    Requester, Signal, SpawnSpec, System,
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::connector::{Connector, Refusal, host_and_port, tls};
use crate::error::ClientError;
use crate::head::{self, Outbound};
use crate::threads::Threads;
use exuvia_abi::io::{HTTP_CLIENT, HTTP_REQUEST, HTTP_RESPONSE, REFUSED};

/// After how long a process that could not be started is started again.
const AGAIN: Duration = Duration::from_millis(10);
/// Requests that may be under way.
const MOST: usize = 10_000;
/// How long a request may take in all, unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may say that it takes.
const MOST_TIME: Duration = Duration::from_secs(600);
/// How often a server of HTTP/2 is asked whether it is still there, and how long it may take for its answer.
const ALIVE: Duration = Duration::from_secs(10);
/// Names that are resolved at a time.
const LOOKUPS: usize = 64;
/// Requests of one process that may be under way.
const MOST_EACH: usize = 1_000;
/// Bytes of all requests and of all responses under way.
const MOST_BYTES: usize = 256 << 20;
/// How long a connection is kept that has no request under way.
const KEPT: Duration = Duration::from_secs(60);
/// Such connections for each host.
const KEPT_EACH: usize = 32;
/// Redirections that are followed.
const REDIRECTS: usize = 10;
/// Sets of grants whose connections are kept.
const SETS: usize = 64;

/// The process that makes requests for guests, and its threads. Dropped, it ends them.
pub struct HttpClient<G: 'static> {
    shared: Arc<Shared<G>>,
    _threads: Threads,
}

impl<G: 'static> std::fmt::Debug for HttpClient<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HttpClient")
            .field(&*self.shared.pid.lock())
            .finish()
    }
}

impl<G: Send + 'static> HttpClient<G> {
    /// Starts it under its name. `limits` are those of the process.
    ///
    /// # Errors
    ///
    /// If it has no threads, or no process, or another process has the name.
    pub fn start(system: Arc<System<G>>, limits: &Arc<Limits>) -> Result<Self, ClientError> {
        let threads = Threads::start(1, "exuvia-out").map_err(ClientError::Threads)?;
        let shared = Arc::new(Shared {
            system: system.clone(),
            runtime: threads.handle().clone(),
            tls: TlsConnector::from(Arc::new(tls()?)),
            clients: Mutex::default(),
            under_way: Mutex::default(),
            received: Arc::new(Semaphore::new(MOST_BYTES >> 10)),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            limits: limits.clone(),
            pid: Mutex::new(Pid::NONE),
            ends: AtomicBool::new(false),
        });
        let client = HttpClient {
            shared: shared.clone(),
            _threads: threads,
        };
        shared.start()?;
        Ok(client)
    }
}

impl<G: 'static> Drop for HttpClient<G> {
    fn drop(&mut self) {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        self.shared.ends.store(true, Ordering::Relaxed);
        let pid = *self.shared.pid.lock();
        let _ = self.shared.system.signal(pid, exit);
    }
}

type Pool = Client<Connector, Full<Bytes>>;

struct Shared<G: 'static> {
    system: Arc<System<G>>,
    runtime: Handle,
    tls: TlsConnector,
    /// Connections, by the grants of those who may use them.
    clients: Mutex<HashMap<Vec<String>, Pool, foldhash::fast::FixedState>>,
    under_way: Mutex<UnderWay>,
    /// For bytes of responses, in units of a KiB.
    received: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    limits: Arc<Limits>,
    /// The process; another one if it was killed.
    pid: Mutex<Pid>,
    ends: AtomicBool,
}

/// What is under way.
#[derive(Debug, Default)]
struct UnderWay {
    requests: usize,
    bytes: usize,
    by_process: HashMap<Pid, usize, foldhash::fast::FixedState>,
}

/// A request that is under way, as long as this exists.
struct Place<G: 'static> {
    shared: Arc<Shared<G>>,
    of: Pid,
    bytes: usize,
}

impl<G: 'static> Place<G> {
    /// Takes a place for a request of a process.
    fn take(shared: &Arc<Shared<G>>, of: Pid, bytes: usize) -> Result<Place<G>, String> {
        let mut under_way = shared.under_way.lock();
        if under_way.requests >= MOST {
            return Err(format!("limit: {MOST} requests are under way"));
        }
        if under_way.bytes + bytes > MOST_BYTES {
            return Err(format!(
                "limit: requests of {MOST_BYTES} bytes are under way"
            ));
        }
        let each = under_way.by_process.entry(of).or_default();
        if *each >= MOST_EACH {
            return Err(format!(
                "limit: {MOST_EACH} requests of the process are under way"
            ));
        }
        *each += 1;
        under_way.requests += 1;
        under_way.bytes += bytes;
        Ok(Place {
            shared: shared.clone(),
            of,
            bytes,
        })
    }
}

impl<G: 'static> Drop for Place<G> {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way.lock();
        under_way.requests -= 1;
        under_way.bytes -= self.bytes;
        if let Some(each) = under_way.by_process.get_mut(&self.of) {
            *each -= 1;
            if *each == 0 {
                under_way.by_process.remove(&self.of);
            }
        }
    }
}

struct ClientProcess<G: Send + 'static>(
    Arc<Shared<G>>,
    #[expect(dead_code, reason = "for its end")] Alive<G>,
);

/// Dropped with the process.
struct Alive<G: Send + 'static>(Arc<Shared<G>>);

impl<G: Send + 'static> Native<G> for ClientProcess<G> {
    fn kind(&self) -> &'static str {
        "http client"
    }

    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.process.set_trap_exit(true);
            }
            Kind::Exit if message.sender == Pid::NONE => {
                context.exit(ExitReason::new(Reason::SHUTDOWN));
            }
            Kind::Request => self.request(context, message),
            _ => {}
        }
    }
}

impl<G: Send + 'static> ClientProcess<G> {
    fn request(&self, context: &mut Context<'_, G>, message: Envelope) {
        let (to, reference) = (message.sender, message.reference);
        let refused = if message.tag == HTTP_REQUEST {
            let outbound = head::outbound(message.payload.as_slice());
            match outbound {
                Ok(outbound) => match Place::take(&self.0, to, message.payload.len()) {
                    Ok(place) => return self.perform(context, (to, reference), (outbound, place)),
                    Err(limit) => limit,
                },
                Err(error) => format!("invalid: {error}"),
            }
        } else {
            format!("invalid: {} is not the tag of a request", message.tag)
        };
        let why = Payload::new(refused.as_bytes());
        (context.process).reply(context.system, to, reference, REFUSED, why);
    }

    /// Has the request made with what its sender may do, which only the sender's own turn can tell.
    fn perform(
        &self,
        context: &Context<'_, G>,
        (to, reference): (Pid, u64),
        (outbound, place): (Outbound, Place<G>),
    ) {
        let (shared, me) = (self.0.clone(), context.pid());
        let with_its_limits = move |process: &mut Process<G>, _: &System<G>| {
            let (grants, most) = (
                process.limits().grants.clone(),
                process.limits().message_bytes,
            );
            let runtime = shared.runtime.clone();
            runtime.spawn(async move {
                let time = outbound.timeout.unwrap_or(TIMEOUT).min(MOST_TIME);
                let request = shared.fetch(outbound, &grants, most as usize);
                let (tag, bytes) = match timeout(time, request).await {
                    Ok(Ok(bytes)) => (HTTP_RESPONSE, bytes),
                    Ok(Err(why)) => (REFUSED, why.into_bytes()),
                    Err(_) => (REFUSED, b"timeout: no response in time".to_vec()),
                };
                drop(place);
                let payload = Payload::new(&bytes);
                let reply = move |process: &mut Process<G>, system: &System<G>| {
                    process.reply(system, to, reference, tag, payload);
                };
                let _ = shared.system.control(me, reply);
            });
        };
        let _ = context.system.control(to, with_its_limits);
    }
}

/// The process was killed: there is another one at once, as a supervisor would start it.
impl<G: Send + 'static> Drop for Alive<G> {
    fn drop(&mut self) {
        let shared = self.0.clone();
        if !shared.ends.load(Ordering::Relaxed) {
            let runtime = shared.runtime.clone();
            runtime.spawn(async move {
                while !shared.ends.load(Ordering::Relaxed) && shared.start().is_err() {
                    // Its name is free in a moment.
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }
}

impl<G: Send + 'static> Shared<G> {
    /// Starts the process under its name.
    fn start(self: &Arc<Self>) -> Result<(), ClientError> {
        let process = ClientProcess(self.clone(), Alive(self.clone()));
        let body = Body::Native(Some(Box::new(process)));
        let spec = SpawnSpec::new(body, self.limits.clone(), Payload::empty());
        let system = &self.system;
        let pid = system.reserve_for(Requester::Host, &self.limits);
        let pid = pid.map_err(|_| ClientError::TableFull)?;
        if system.register(HTTP_CLIENT, pid).is_err() {
            system.abandon(pid);
            return Err(ClientError::Name);
        }
        *self.pid.lock() = pid;
        system.start(pid, spec);
        Ok(())
    }
}

impl<G: 'static> Shared<G> {
    /// Returns the connections of those who have these grants.
    fn pool(&self, grants: &Grants) -> Pool {
        let key: Vec<String> = grants.connect.iter().map(Destination::to_string).collect();
        let mut clients = self.clients.lock();
        if let Some(pool) = clients.get(&key) {
            return pool.clone();
        }
        if clients.len() >= SETS {
            // Requests under way keep theirs.
            clients.clear();
        }
        let connector = Connector {
            grants: Arc::new(Grants {
                connect: grants.connect.clone(),
                ..Grants::default()
            }),
            tls: self.tls.clone(),
            lookups: self.lookups.clone(),
        };
        let pool = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            // A server that has vanished is noticed.
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(KEPT_EACH)
            .build(connector);
        clients.insert(key, pool.clone());
        pool
    }

    /// Makes a request and follows redirections. Returns the encoded response, or why there is none.
    async fn fetch(
        &self,
        outbound: Outbound,
        grants: &Grants,
        most: usize,
    ) -> Result<Vec<u8>, String> {
        let Outbound {
            mut method,
            mut uri,
            mut headers,
            mut body,
            redirects,
            ..
        } = outbound;
        let pool = self.pool(grants);
        for _ in 0..=redirects.map_or(REDIRECTS, |most| most.min(REDIRECTS)) {
            let (host, port) = host_and_port(&uri)?;
            if !grants.may_connect(&host, port) {
                return Err(format!(
                    "denied: `{host}:{port}` is not granted: see `net.connect`"
                ));
            }
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let response = pool
                .request(request)
                .await
                .map_err(|error| failed(&error))?;
            let (parts, received) = response.into_parts();
            let next = (redirects != Some(0))
                .then(|| redirection(parts.status, &parts.headers, &uri))
                .flatten();
            if let Some(next) = next {
                // As browsers do (RFC 9110, section 15.4).
                let is_kept = matches!(
                    parts.status,
                    StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
                );
                if !is_kept && method != Method::HEAD {
                    method = Method::GET;
                    body = Bytes::new();
                    headers.remove(CONTENT_TYPE);
                    headers.remove(CONTENT_LENGTH);
                }
                if next.authority() != uri.authority() || next.scheme() != uri.scheme() {
                    headers.remove(AUTHORIZATION);
                    headers.remove(COOKIE);
                }
                uri = next;
                continue;
            }
            // Room for the whole of it, before any of it is read.
            let size = received.size_hint().upper().unwrap_or(u64::MAX);
            let size = usize::try_from(size).unwrap_or(usize::MAX).min(most) >> 10;
            let units = u32::try_from(size + 1)
                .unwrap_or(u32::MAX)
                .min((MOST_BYTES >> 10) as u32);
            let _room = self.received.acquire_many(units).await;
            let body = match Limited::new(received, most).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(format!(
                        "too large: the response has more than {most} bytes"
                    ));
                }
                Err(error) => return Err(format!("reset: {error}")),
            };
            return Ok(head::inbound(parts.status, &parts.headers, &uri, &body));
        }
        Err("redirected: too often".into())
    }
}

/// Returns where a response leads to.
fn redirection(status: StatusCode, headers: &HeaderMap, from: &Uri) -> Option<Uri> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?.to_str().ok()?;
    // A fragment is for whoever shows the page.
    let location = location.split('#').next()?;
    let is_absolute = location.find("://").is_some_and(|at| {
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        location[..at].chars().all(is_scheme)
    });
    let to: Uri = match location {
        absolute if is_absolute => absolute.parse().ok()?,
        other_host if other_host.starts_with("//") => {
            format!("{}:{other_host}", from.scheme_str()?)
                .parse()
                .ok()?
        }
        path => {
            let (scheme, host) = (from.scheme_str()?, from.authority()?);
            let folder = from
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            let path = match path {
                "" => from.path().to_owned(),
                root if root.starts_with('/') => root.to_owned(),
                query if query.starts_with('?') => format!("{}{query}", from.path()),
                relative => format!("{folder}/{relative}"),
            };
            format!("{scheme}://{host}{path}").parse().ok()?
        }
    };
    Some(to)
}

/// Says why a request has failed: the cause, not that it has.
fn failed(error: &hyper_util::client::legacy::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    match source.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.to_string(),
        None if error.is_connect() => format!("connect: {source}"),
        None => format!("reset: {source}"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_url_has_a_host_and_a_port() {
        let parsed = |text: &str| host_and_port(&text.parse().unwrap());
        assert_eq!(parsed("http://a.com/x"), Ok(("a.com".into(), 80)));
        assert_eq!(parsed("https://a.com:8443"), Ok(("a.com".into(), 8443)));
        assert_eq!(parsed("https://[::1]/"), Ok(("::1".into(), 443)));
        assert!(parsed("ftp://a.com").unwrap_err().starts_with("invalid: "));
        assert!(parsed("/path").unwrap_err().starts_with("invalid: "));
    }

    #[test]
    fn a_redirection_is_relative_to_where_it_came_from() {
        let from: Uri = "https://a.com/x/y?q".parse().unwrap();
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            redirection(StatusCode::FOUND, &headers, &from).map(|uri| uri.to_string())
        };
        for (location, uri) in [
            ("http://b.com/z#top", "http://b.com/z"),
            ("//b.com/z", "https://b.com/z"),
            (
                "/login?next=http://b.com/",
                "https://a.com/login?next=http://b.com/",
            ),
            ("/z", "https://a.com/z"),
            ("z", "https://a.com/x/z"),
            ("?p", "https://a.com/x/y?p"),
        ] {
            assert_eq!(to(location).as_deref(), Some(uri), "{location}");
        }
        assert_eq!(redirection(StatusCode::OK, &HeaderMap::new(), &from), None);
    }
}
