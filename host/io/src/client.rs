//! Requests and connections of guests to the outside: the process `exuvia.http`, which makes them for others.
//!
//! A guest sends it a request and gets the response as the reply, or the head of it, from a socket that has the body; or it
//! gets a socket (`connect`). What is under way for a process ends with it. What a process may ask for are its grants: the name is
//! checked before it is resolved, and every address that it leads to before it is connected to. Connections are kept and
//! shared by processes with the same grants.

mod connect;
mod connector;
mod lookups;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use exuvia_abi::{Kind, Pid, Reason};
use exuvia_process::{
    Body, Charge, Context, Destination, Envelope, ExitReason, Grants, Limits, Native, Payload,
    Process, Requester, Signal, SpawnSpec, System,
};
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION};
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_rustls::TlsConnector;

pub(crate) use self::connect::Wanted;
use self::connect::within;
use self::connector::{Connector, REQUESTS, Refusal, permitted, tls};
use self::lookups::{ASKER, Lookups};
use crate::body::Reader;
use crate::error::ClientError;
use crate::head::{self, Outbound};
use crate::pollers::Pollers;
use crate::port::Port;
use crate::stream::Streamed;
use crate::thread::Thread;
use exuvia_abi::io::{HTTP_CLIENT, HTTP_REQUEST, HTTP_RESPONSE, HTTP_STREAM, REFUSED, SOCKET_OPEN};

/// After how long a process that could not be started is started again.
const AGAIN: Duration = Duration::from_millis(10);
/// Requests that may be under way, and sockets that may be open.
const MOST: usize = 10_000;
/// Those of one process.
const MOST_EACH: usize = 1_000;
/// How long a request may take in all, unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may say that it takes.
const MOST_TIME: Duration = Duration::from_secs(600);
/// How often a server of HTTP/2 is asked whether it is still there, and how long it may take for its answer.
const ALIVE: Duration = Duration::from_secs(10);
/// Bytes of all requests and of all responses under way.
const MOST_BYTES: usize = 256 << 20;
/// How long a connection is kept that has no request under way.
const KEPT: Duration = Duration::from_secs(60);
/// Such connections for each host.
const KEPT_EACH: usize = 32;
/// Redirections that are followed.
const REDIRECTS: usize = 10;
/// Bytes of a response of HTTP/2 that may be unread, and of all on a connection.
const WINDOW: u32 = 1 << 20;
const WINDOW_OF_ALL: u32 = 64 * WINDOW;
/// Sets of grants whose connections are kept.
const SETS: usize = 64;
/// What is offered to servers of HTTP.
const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The process that makes requests for guests. Dropped, it ends.
pub struct HttpClient<G: 'static> {
    shared: Arc<Shared<G>>,
    _thread: Thread,
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
    pub fn start(
        system: Arc<System<G>>,
        pollers: Arc<Pollers>,
        limits: &Arc<Limits>,
    ) -> Result<Self, ClientError> {
        let of_sockets = tls()?;
        let mut of_http = of_sockets.clone();
        of_http.alpn_protocols = HTTP.iter().map(|name| name.to_vec()).collect();
        let thread = Thread::start("exuvia-out").map_err(ClientError::Thread)?;
        let shared = Arc::new(Shared {
            system: system.clone(),
            runtime: thread.handle().clone(),
            pollers,
            tls: TlsConnector::from(Arc::new(of_http)),
            tls_of_sockets: TlsConnector::from(Arc::new(of_sockets)),
            clients: Mutex::default(),
            under_way: Mutex::default(),
            received: Arc::new(Semaphore::new(MOST_BYTES >> 10)),
            lookups: Lookups::new(thread.handle().clone()),
            limits: limits.clone(),
            pid: Mutex::new(Pid::NONE),
            ends: AtomicBool::new(false),
        });
        let client = HttpClient {
            shared: shared.clone(),
            _thread: thread,
        };
        shared.start()?;
        Ok(client)
    }
}

impl<G: 'static> Drop for HttpClient<G> {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.shared.end();
    }
}

type Pool = Client<Connector, Either<Full<Bytes>, Streamed>>;

struct Shared<G: 'static> {
    system: Arc<System<G>>,
    /// For the start of another process.
    runtime: Handle,
    /// Where requests are made.
    pollers: Arc<Pollers>,
    tls: TlsConnector,
    tls_of_sockets: TlsConnector,
    /// Connections, by the grants of those who may use them.
    clients: Mutex<HashMap<Vec<String>, Pool, foldhash::fast::FixedState>>,
    under_way: Mutex<UnderWay>,
    /// For bytes of responses, in units of a KiB.
    received: Arc<Semaphore>,
    lookups: Arc<Lookups>,
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
    by_process: HashMap<Pid, Asker, foldhash::fast::FixedState>,
}

/// A process with something under way.
#[derive(Debug)]
struct Asker {
    count: usize,
    /// The process that monitors it, and the reference of that.
    monitor: (Pid, u64),
    /// Set when it has ended.
    has_ended: watch::Sender<bool>,
}

/// A request that is under way, or a socket, as long as this exists.
struct Place<G: 'static> {
    shared: Arc<Shared<G>>,
    of: Pid,
    bytes: usize,
    has_ended: watch::Receiver<bool>,
    /// Closed when the process `exuvia.http` has ended that was asked.
    client: watch::Receiver<()>,
}

/// Says that responses have too many bytes.
fn no_room() -> String {
    format!("limit: responses of {MOST_BYTES} bytes are under way")
}

impl<G: 'static> Place<G> {
    /// Takes a place for a request of a process, which is monitored from its first one on.
    fn take(
        ClientProcess { shared, alive }: &ClientProcess<G>,
        context: &mut Context<'_, G>,
        of: Pid,
        bytes: usize,
    ) -> Result<Place<G>, String>
    where
        G: Send,
    {
        let me = context.pid();
        let mut under_way = shared.under_way.lock();
        if under_way.requests >= MOST {
            return Err(format!(
                "limit: {MOST} requests and sockets of the node are under way"
            ));
        }
        if under_way.bytes + bytes > MOST_BYTES {
            return Err(format!(
                "limit: requests of {MOST_BYTES} bytes are under way"
            ));
        }
        let requester = (under_way.by_process.entry(of)).or_insert_with(|| Asker {
            count: 0,
            monitor: (Pid::NONE, 0),
            has_ended: watch::Sender::new(false),
        });
        if requester.count >= MOST_EACH {
            return Err(format!(
                "limit: {MOST_EACH} requests and sockets of the process are under way"
            ));
        }
        // Not yet, or by a process that was killed.
        if requester.monitor.0 != me {
            let reference = context.process.new_reference();
            requester.monitor = (me, reference);
            context.process.monitor(context.system, of, reference);
        }
        requester.count += 1;
        let has_ended = requester.has_ended.subscribe();
        under_way.requests += 1;
        under_way.bytes += bytes;
        Ok(Place {
            shared: shared.clone(),
            of,
            bytes,
            has_ended,
            client: alive.has_ended.subscribe(),
        })
    }

    /// Waits for something that is of no use when the process has ended, or that which it has asked: `None`. The latter's end has
    /// told it already.
    async fn unless_ended<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let (mut has_ended, mut client) = (self.has_ended.clone(), self.client.clone());
        tokio::select! {
            biased;
            _ = has_ended.wait_for(|ended| *ended) => None,
            _ = client.changed() => None,
            done = what => Some(done),
        }
    }
}

impl<G: 'static> Drop for Place<G> {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way.lock();
        under_way.requests -= 1;
        under_way.bytes -= self.bytes;
        let requester = under_way.by_process.get_mut(&self.of);
        let Some(requester) = requester else { return };
        requester.count -= 1;
        if requester.count > 0 {
            return;
        }
        let (monitors, reference) = requester.monitor;
        under_way.by_process.remove(&self.of);
        drop(under_way);
        let demonitor = move |process: &mut Process<G>, system: &System<G>| {
            process.demonitor(system, reference, true);
        };
        let _ = self.shared.system.control(monitors, demonitor);
    }
}

struct ClientProcess<G: Send + 'static> {
    shared: Arc<Shared<G>>,
    alive: Alive<G>,
}

/// Dropped with the process.
struct Alive<G: Send + 'static> {
    shared: Arc<Shared<G>>,
    /// Nothing is sent: those who wait notice that it is dropped.
    has_ended: watch::Sender<()>,
}

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
            // What is under way for it ends.
            Kind::Down => {
                let under_way = self.shared.under_way.lock();
                if let Some(requester) = under_way.by_process.get(&message.sender)
                    && requester.monitor == (context.pid(), message.reference)
                {
                    requester.has_ended.send_replace(true);
                }
            }
            _ => {}
        }
    }
}

impl<G: Send + 'static> ClientProcess<G> {
    fn request(&self, context: &mut Context<'_, G>, message: Envelope) {
        let (to, reference) = (message.sender, message.reference);
        let work = match message.tag {
            HTTP_REQUEST => head::outbound(message.payload.as_slice()).map(Work::Request),
            SOCKET_OPEN => head::connect(message.payload.as_slice()).map(Work::Socket),
            tag => Err(format!("{tag} is not the tag of a request")),
        };
        let work = work.map_err(|error| format!("invalid: {error}"));
        let bytes = message.payload.len();
        let placed = work.and_then(|work| Ok((work, Place::take(self, context, to, bytes)?)));
        match placed {
            Ok(placed) => self.perform(context, (to, reference), placed),
            Err(refused) => {
                let why = Payload::new(refused.as_bytes());
                (context.process).reply(context.system, to, reference, REFUSED, why);
            }
        }
    }

    /// Has it done with what its sender may do, which only the sender's own turn can tell.
    fn perform(&self, context: &Context<'_, G>, to: (Pid, u64), (work, place): (Work, Place<G>)) {
        let (shared, me) = (self.shared.clone(), context.pid());
        let with_its_limits = move |process: &mut Process<G>, _: &System<G>| {
            let limits = process.limits();
            let (grants, most) = (limits.grants.clone(), limits.message_bytes as usize);
            let client = shared.clone();
            let work = async move {
                let done = match work {
                    Work::Request(outbound) if outbound.upload => {
                        shared.upload(outbound, &grants, to, place).await
                    }
                    Work::Request(outbound) if outbound.stream => {
                        shared.stream(outbound, &grants, to, place).await
                    }
                    Work::Request(outbound) => {
                        let response = shared.response(outbound, (&grants, most), to.0);
                        let response = place.unless_ended(response).await;
                        // It may make the next one when it has this.
                        drop(place);
                        response
                            .unwrap_or(Ok(None))
                            .map(|response| shared.reply(me, to, response))
                    }
                    Work::Socket(wanted) => shared.socket(wanted, (&grants, most), to, place).await,
                };
                if let Err(why) = done {
                    shared.refuse(me, to, &why);
                }
            };
            let begun = client.pollers.spawn(ASKER.scope(to.0, work));
            if let Err(error) = begun {
                client.refuse(me, to, &format!("limit: {error}"));
            }
        };
        let _ = context.system.control(to.0, with_its_limits);
    }
}

/// What a process has asked for.
enum Work {
    Request(Outbound),
    Socket(Wanted),
}

/// How long a request may take.
fn time(outbound: &Outbound) -> Duration {
    outbound.timeout.unwrap_or(TIMEOUT).min(MOST_TIME)
}

/// The process was killed: there is another one at once, as a supervisor would start it. Not with a limit on how often: whoever
/// kills it would end it for all.
impl<G: Send + 'static> Drop for Alive<G> {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        if !shared.ends.load(Ordering::SeqCst) {
            let runtime = shared.runtime.clone();
            runtime.spawn(async move {
                while !shared.ends.load(Ordering::SeqCst) && shared.start().is_err() {
                    // Its name is free in a moment.
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }
}

impl<G: 'static> Shared<G> {
    /// Tells the process to end.
    fn end(&self) {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        let pid = *self.pid.lock();
        let _ = self.system.signal(pid, exit);
    }
}

impl<G: Send + 'static> Shared<G> {
    /// Starts the process under its name.
    fn start(self: &Arc<Self>) -> Result<(), ClientError> {
        let system = &self.system;
        let pid = system.reserve_for(Requester::Host, &self.limits);
        let pid = pid.map_err(|_| ClientError::TableFull)?;
        if system.register(HTTP_CLIENT, pid).is_err() {
            system.abandon(pid);
            return Err(ClientError::Name);
        }
        // Not before: dropped, it starts another one.
        let process = ClientProcess {
            shared: self.clone(),
            alive: Alive {
                shared: self.clone(),
                has_ended: watch::Sender::new(()),
            },
        };
        let body = Body::Native(Some(Box::new(process)));
        let spec = SpawnSpec::new(body, self.limits.clone(), Payload::empty());
        *self.pid.lock() = pid;
        system.start(pid, spec);
        // Whoever ended the client meanwhile may have told the process before.
        if self.ends.load(Ordering::SeqCst) {
            self.end();
        }
        Ok(())
    }
}

impl<G: Send + 'static> Shared<G> {
    /// Makes a request. Returns the encoded response, for which its process is charged, or why there is none.
    async fn response(
        &self,
        outbound: Outbound,
        (grants, most): (&Grants, usize),
        of: Pid,
    ) -> Result<Option<(Payload, Charge)>, String> {
        let time = time(&outbound);
        let response = within(time, self.fetch(outbound, grants, most)).await?;
        let response = Payload::from(response);
        let charge = self.charge(of, response.len()).await?;
        Ok(Some((response, charge)))
    }

    fn reply(&self, me: Pid, to: (Pid, u64), response: Option<(Payload, Charge)>) {
        let Some((payload, charge)) = response else {
            return;
        };
        let reply = move |process: &mut Process<G>, system: &System<G>| {
            process.reply_charged(system, to, HTTP_RESPONSE, payload, charge);
        };
        let _ = self.system.control(me, reply);
    }

    /// Charges a process for a reply until it has received it, so that no replies pile up. Returns why that is not possible.
    async fn charge(&self, of: Pid, bytes: usize) -> Result<Charge, String> {
        let (done, charged) = oneshot::channel();
        let charge = move |process: &mut Process<G>, system: &System<G>| {
            let _ = done.send(process.charge(system, bytes as u64));
        };
        let _ = self.system.control(of, charge);
        let charged = charged.await.map_err(|_| "limit: the process has ended")?;
        let why = "limit: responses that the process has not received, its timers and this response have more bytes than its mailbox may have (`mailbox_bytes`)";
        Ok(charged.ok_or(why)?)
    }

    fn refuse(&self, me: Pid, (to, reference): (Pid, u64), why: &str) {
        let why = Payload::new(why.as_bytes());
        let reply = move |process: &mut Process<G>, system: &System<G>| {
            process.reply(system, to, reference, REFUSED, why);
        };
        let _ = self.system.control(me, reply);
    }

    /// Makes a request whose response is read in parts, and serves it until it has been. Returns why there is none.
    async fn stream(
        &self,
        outbound: Outbound,
        grants: &Grants,
        to: (Pid, u64),
        place: Place<G>,
    ) -> Result<(), String> {
        let time = time(&outbound);
        let response = async {
            let (parts, body, uri) = within(time, self.head(outbound, None, grants)).await?;
            let head = Payload::from(head::inbound(parts.status, &parts.headers, &uri, b""));
            let charge = self.charge(to.0, head.len()).await?;
            Ok::<_, String>((head, charge, body))
        };
        let Some(response) = place.unless_ended(response).await else {
            return Ok(());
        };
        let (head, charge, body) = response?;
        let connection = self.connection()?;
        let told = (HTTP_STREAM, head, charge);
        connection.open_as_reply(Port::body(to.0), to, told);
        let reader = Reader {
            port: Arc::new(connection),
            body,
            most: u64::MAX,
            reading: time,
            timeout: time,
            too_large: None,
        };
        reader.fetch().await;
        drop(place);
        Ok(())
    }

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
            // A response that its process does not read holds up no other.
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW_OF_ALL)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(KEPT_EACH)
            .build(connector);
        clients.insert(key, pool.clone());
        pool
    }

    /// Makes a request. Returns the encoded response, or why there is none.
    async fn fetch(
        &self,
        outbound: Outbound,
        grants: &Grants,
        most: usize,
    ) -> Result<Vec<u8>, String> {
        let (parts, received, uri) = self.head(outbound, None, grants).await?;
        let mut received = Limited::new(received, most);
        // Room for what has come: a slow response keeps none from others.
        let mut room = self.received.try_acquire_many(1).map_err(|_| no_room())?;
        let mut body = Vec::new();
        while let Some(frame) = received.frame().await {
            match frame {
                Ok(frame) => {
                    let Some(data) = frame.data_ref() else {
                        continue;
                    };
                    body.extend_from_slice(data);
                    let units = (body.len() >> 10) + 1 - room.num_permits();
                    let more = self
                        .received
                        .try_acquire_many(u32::try_from(units).unwrap_or(u32::MAX));
                    room.merge(more.map_err(|_| no_room())?);
                }
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(format!(
                        "too large: the response has more than {most} bytes"
                    ));
                }
                Err(error) => return Err(format!("reset: {error}")),
            }
        }
        Ok(head::inbound(parts.status, &parts.headers, &uri, &body))
    }

    /// Makes a request and follows redirections. Returns the response, and where it is from, or why there is none. `streamed`:
    /// its body, if that is sent in parts.
    async fn head(
        &self,
        outbound: Outbound,
        mut streamed: Option<Streamed>,
        grants: &Grants,
    ) -> Result<(Parts, Incoming, Uri), String> {
        let Outbound {
            mut method,
            mut uri,
            mut headers,
            mut body,
            redirects,
            ..
        } = outbound;
        let pool = self.pool(grants);
        let is_streamed = streamed.is_some();
        for _ in 0..=redirects.map_or(REDIRECTS, |most| most.min(REDIRECTS)) {
            permitted(&uri, REQUESTS, grants)?;
            let mut request = Request::new(match streamed.take() {
                Some(streamed) => Either::Right(streamed),
                None => Either::Left(Full::new(body.clone())),
            });
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
                if is_kept && is_streamed {
                    return Err(format!(
                        "redirected: to `{next}` with its body ({}), which was sent in parts and cannot be sent again",
                        parts.status.as_u16()
                    ));
                }
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
            return Ok((parts, received, uri));
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
