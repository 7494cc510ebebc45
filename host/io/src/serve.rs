//! One connection: HTTP/1.1 or HTTP/2, a request at a time or several, each to a process and back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exuvia_abi::Reason;
use exuvia_process::{NameError, Payload, SpawnError};
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::activity::{Activity, Tracked};
use crate::answer::{Answer, Failure, busy, plain, redirect};
use crate::body::Reader;
use crate::browser;
use crate::connection::{Connection, Kept, Outcome, Receiver};
use crate::files;
use crate::gateway::{Address, Held, NoProcess, Shared, stops};
use crate::head::{self, RequestHead};
use crate::keyed::Use;
use crate::listener::Peer;
use crate::patience::{Patient, STOPPING};
use crate::pollers;
use crate::router::{Found, Router};
use crate::settings::{ConnectionLimits, Listen, Protocol, Recipient, Route, Target, url_path};
use crate::socket::{self, Socket};
use crate::stream::{self, Sending};
use crate::tls::Stream;
use exuvia_abi::io::{HTTP_RESPONSE, HTTP_STREAM, SOCKET_ACCEPT};

/// Requests of an HTTP/2 connection that may be under way.
const STREAMS: u32 = 128;
/// How long is long for a connection.
const LONG: Duration = Duration::from_secs(3600);
/// Bytes of a head that hyper needs room for at least.
const LEAST_HEAD: usize = 8 << 10;
/// Bytes of a body that a client of HTTP/2 may send before they are read, and those of all bodies of its connection: so many
/// bodies may wait for their processes without holding up the others.
const WINDOW: u32 = 256 << 10;
const WINDOW_OF_ALL: u32 = 16 * WINDOW;

/// Serves a connection until it ends.
pub(crate) async fn connection<G: Send + 'static>(
    shared: &Arc<Shared<G>>,
    address: &Arc<Address>,
    (stream, peer): (Stream, Peer),
    held: &Arc<Held>,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = address.settings.load().0.limits.clone();
    let Ok(process) = Connection::start(&shared.system, &shared.guests, &shared.limits) else {
        tracing::warn!(%peer, "a connection is refused: the node has as many processes as it may have");
        return;
    };
    let process = Arc::new(process);
    let activity = Activity::new();
    let is_encrypted = matches!(stream, Stream::Tls(_));
    let is_http2 = stream.is_http2();
    let noted = (activity.receiving.clone(), activity.taking.clone());
    let stream = Patient::noting(stream, limits.timeout, noted);
    let serving = Arc::new(Serving {
        shared: shared.clone(),
        address: address.clone(),
        process: process.clone(),
        peer,
        is_encrypted,
        held: held.clone(),
        activity: activity.clone(),
    });
    let service = {
        let serving = serving.clone();
        service_fn(move |request| {
            let serving = serving.clone();
            async move {
                let under_way = (serving.activity).begin(request.version() == Version::HTTP_2);
                let answer = serving.handle(request).await;
                Ok::<_, Infallible>(answer.map(|body| Tracked::new(body, under_way)))
            }
        })
    };
    let mut builder = builder(&limits);
    if is_http2 {
        // Else it would be told by its first bytes, and what agreed on HTTP/2 could be answered in HTTP/1.1.
        builder = builder.http2_only();
    }
    let shortest = (limits.idle.unwrap_or(LONG))
        .min(limits.reading)
        .min(limits.timeout);
    let looks = shortest / 4 + Duration::from_millis(1);
    // When the client was told that the connection ends.
    let mut told: Option<Instant> = None;
    // Since when the node stops.
    let mut stopped: Option<Instant> = None;
    let mut http =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // When the client was told that it is too slow.
    let mut refused: Option<Instant> = None;
    let reason = loop {
        let look = match stopped {
            Some(_) => looks.min(STOPPING / 4),
            None => looks,
        };
        tokio::select! {
            // What has arrived is served, also if the node stops now.
            biased;
            ended = http.as_mut() => break match ended {
                _ if refused.is_some() => "timeout",
                Ok(()) => "closed",
                Err(_) => "reset",
            },
            // It was killed: no response, as if the machine had lost its power.
            () = process.ended() => return,
            () = stops(&mut stopping), if stopped.is_none() => {
                stopped = Some(Instant::now());
                if told.is_none() {
                    told = Some(Instant::now());
                    http.as_mut().graceful_shutdown();
                }
            }
            () = tokio::time::sleep(look) => {
                if activity.is_stalled(limits.timeout) {
                    break "timeout";
                }
                // Between requests the connection would have ended: the client has sent a part of a head.
                let is_held_up = stopped.is_some_and(|since| since.elapsed() >= STOPPING)
                    && activity.is_quiet(STOPPING);
                if is_held_up || activity.is_slow(limits.reading) {
                    // It is told, and has a moment to take it.
                    match refused {
                        Some(since) if since.elapsed() >= STOPPING => break "timeout",
                        Some(_) => {}
                        None => {
                            refused = Some(Instant::now());
                            activity.receiving.refuse();
                        }
                    }
                }
                if limits.idle.is_some_and(|idle| activity.is_idle(idle)) {
                    // A client of HTTP/2 may not take what is left of its responses.
                    match told {
                        Some(told) if told.elapsed() >= limits.timeout => break "timeout",
                        Some(_) => {}
                        None => {
                            told = Some(Instant::now());
                            http.as_mut().graceful_shutdown();
                        }
                    }
                }
            }
        }
    };
    process.set_reason(reason);
}

fn builder(limits: &ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It would run between requests too: `is_slow` looks instead.
        .header_read_timeout(None)
        .max_buf_size(limits.headers.max(LEAST_HEAD));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW_OF_ALL)
        .max_header_list_size(u32::try_from(limits.headers).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle);
    builder
}

/// What the requests of a connection share.
struct Serving<G: 'static> {
    shared: Arc<Shared<G>>,
    address: Arc<Address>,
    process: Arc<Connection<G>>,
    peer: Peer,
    is_encrypted: bool,
    held: Arc<Held>,
    activity: Arc<Activity>,
}

impl<G: Send + 'static> Serving<G> {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let settings = self.address.settings.load_full();
        if !settings.0.access_log {
            return self.finished(&settings, request).await;
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = self.finished(&settings, request).await;
        tracing::info!(
            target: "exuvia::access",
            "{} {method} {} {} {} B {:.1} ms",
            self.peer.host(),
            uri.path(),
            response.status().as_u16(),
            response.body().size_hint().exact().unwrap_or(0),
            began.elapsed().as_secs_f64() * 1e3,
        );
        response
    }

    /// Answers, with the headers that all responses have.
    async fn finished(&self, settings: &(Listen, Router), request: Request<Incoming>) -> Answer {
        let listen = &settings.0;
        if let Some(answer) = browser::preflight(listen, &request) {
            return answer;
        }
        let asks = listen.cors.as_ref().map(|_| request.headers());
        let origin = asks.and_then(|headers| headers.get(ORIGIN)).cloned();
        let mut answer = self.answer(settings, request).await;
        browser::finish(listen, origin.as_ref(), answer.headers_mut());
        answer
    }

    async fn answer(&self, settings: &(Listen, Router), mut request: Request<Incoming>) -> Answer {
        let (listen, router) = settings;
        let upgrade = socket::is_asked_for(&request).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = parts
            .uri
            .authority()
            .map(hyper::http::uri::Authority::as_str);
        let host = authority.or(named).unwrap_or_default();
        let found = router.find(
            Some(without_port(host)),
            parts.uri.path(),
            parts.method.as_str(),
        );
        let (index, parameters) = match found {
            Found::Route(index, parameters) => (index, parameters),
            Found::OtherMethods(allowed) => {
                let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
                if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
                    answer.headers_mut().insert(ALLOW, allowed);
                }
                return answer;
            }
            Found::BadPath => return plain(StatusCode::BAD_REQUEST, "the path is not UTF-8"),
            Found::Nothing => return plain(StatusCode::NOT_FOUND, ""),
        };
        let Protocol::Http(routes) = &listen.protocol else {
            // It was HTTP when the client connected.
            return busy("the address has changed");
        };
        let route = &routes[index];
        let recipient = match &route.target {
            Target::Process(recipient) => recipient,
            Target::Redirect(to) => return redirect(&to.fill_url(&parameters)),
            Target::Builtin(file) => return files::builtin(file, &parts),
            Target::File(path) => {
                let file = files::serve(path, None, &parts).await;
                return browser::of_file(&routes[index].response_headers, file);
            }
            Target::Folder(path) => {
                // What the pattern's `{*name}` has matched.
                let below = parameters.last().map_or("", |(_, value)| value);
                let file = files::serve(path, Some(&url_path(below)), &parts).await;
                return browser::of_file(&routes[index].response_headers, file);
            }
        };
        if upgrade.is_some()
            && let Some(answer) = socket::refused(&parts.headers, &listen.origins)
        {
            return answer;
        }
        let limits = &listen.limits;
        let mut head = RequestHead {
            method: &parts.method,
            version: parts.version,
            scheme: if self.is_encrypted { "https" } else { "http" },
            host,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            parameters: &parameters,
            headers: &parts.headers,
            peer: self.peer,
            stream: false,
        };
        let replied = if route.streams && !body.is_end_stream() {
            head.stream = true;
            let payload = Payload::from(head.encode(b""));
            let asked = (recipient, &parameters[..], payload);
            // Not part of the task of other requests.
            Box::pin(self.ask_in_parts((route, limits), &parts, asked, body)).await
        } else {
            let most = route.body.unwrap_or(limits.body as u64);
            let body = match read(body, most, limits.reading).await {
                Ok(body) => body,
                Err(answer) => return answer,
            };
            let payload = Payload::new(&head.encode(&body));
            drop(body);
            let asked = self.ask(recipient, &parameters, &parts.headers, payload);
            match tokio::time::timeout(limits.timeout, asked).await {
                Ok(replied) => replied,
                Err(_) => Err(late()),
            }
        };
        match replied {
            Ok(replied) => self.respond(replied, limits, &parts, upgrade),
            Err(answer) => answer,
        }
    }

    /// Asks the process of a route, which gets the body in parts. It has a process of its own, from which the request is, so
    /// that several of a connection do not wait for each other.
    async fn ask_in_parts(
        &self,
        (route, limits): (&Route, &ConnectionLimits),
        asked: &Parts,
        (recipient, parameters, payload): (&Recipient, &[(String, String)], Payload),
        body: Incoming,
    ) -> Result<Replied<G>, Answer> {
        let most = route.body.unwrap_or(u64::MAX);
        // A client that says how much it will send is told before it does.
        if body.size_hint().lower() > most {
            return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
        }
        let shared = &self.shared;
        let port = Connection::start(&shared.system, &shared.guests, &shared.limits);
        let Ok(port) = port else {
            return Err(busy("the node has as many processes as it may have"));
        };
        let port = Arc::new(port);
        port.open_body();
        let receiver = self.receiver(recipient, parameters, &asked.headers);
        let (receiver, used) = match receiver.await? {
            // It is the connection's, and stays when the body has ended.
            (Receiver::OfConnection(module), used) => {
                let own = self.process.own(module).await;
                let own = own.map_err(|error| self.not_started(&error, &asked.headers))?;
                (Receiver::Process(own), used)
            }
            found => found,
        };
        let reader = Reader {
            too_large: None,
            port: port.clone(),
            body,
            most,
            reading: limits.reading,
            timeout: limits.timeout,
        };
        let lingers = !asked.headers.contains_key(EXPECT);
        let (failed, mut failure) = oneshot::channel();
        let under_way = self.activity.begin(asked.version == Version::HTTP_2);
        // A process with a key is not idle as long as it reads.
        let held = (self.held.clone(), used.clone());
        pollers::spawn(async move {
            reader.receive(failed, lingers).await;
            drop((under_way, held));
        });
        let mut requested = std::pin::pin!(port.request(receiver, payload));
        let (outcome, kept) = tokio::select! {
            biased;
            requested = &mut requested => requested,
            failure = &mut failure => match failure {
                Ok(failure) => return Err(failure.answer()),
                // Nothing more comes of it: the process has all, or wants no more.
                Err(_) => {
                    let in_time = tokio::time::timeout(limits.timeout, requested).await;
                    in_time.map_err(|_| late())?
                }
            },
        };
        Ok(Replied {
            outcome,
            kept,
            used,
        })
    }

    /// Asks the process of a route.
    async fn ask(
        &self,
        recipient: &Recipient,
        parameters: &[(String, String)],
        headers: &HeaderMap,
        payload: Payload,
    ) -> Result<Replied<G>, Answer> {
        let (receiver, used) = self.receiver(recipient, parameters, headers).await?;
        let (outcome, kept) = self.process.request(receiver, payload).await;
        Ok(Replied {
            outcome,
            kept,
            used,
        })
    }

    /// Returns the process of a route.
    async fn receiver(
        &self,
        recipient: &Recipient,
        parameters: &[(String, String)],
        headers: &HeaderMap,
    ) -> Result<(Receiver, Option<Arc<Use>>), Answer> {
        let receiver = match recipient {
            Recipient::Existing(existing) => {
                let found = self.shared.existing(existing, &self.address);
                Receiver::Process(found.map_err(|why| busy(&why))?)
            }
            Recipient::Request(module) => Receiver::New(module.clone()),
            Recipient::Connection(module) => Receiver::OfConnection(module.clone()),
            Recipient::Key { module, key, idle } => {
                let name = key.fill(parameters);
                let found = self.shared.keyed.find(&name, module, *idle).await;
                let found = found.map_err(|error| self.not_started(&error, headers))?;
                return Ok((Receiver::Process(found.pid), Some(Arc::new(found))));
            }
        };
        Ok((receiver, None))
    }

    fn not_started(&self, error: &NoProcess, headers: &HeaderMap) -> Answer {
        match error {
            NoProcess::TableFull | NoProcess::Stopping => busy(&error.to_string()),
            NoProcess::Name(NameError::Invalid) => plain(
                StatusCode::BAD_REQUEST,
                "the path makes a key that is empty or too long",
            ),
            NoProcess::NoModule(_) | NoProcess::Limit(_) | NoProcess::Name(_) => {
                tracing::warn!("no process was started for a request: {error}");
                self.failed(&Failure::new(error.to_string()), headers)
            }
        }
    }

    /// Makes the response of what a request has led to.
    fn respond(
        &self,
        replied: Replied<G>,
        limits: &ConnectionLimits,
        asked: &Parts,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        let headers = &asked.headers;
        match replied.outcome {
            Outcome::Reply {
                tag: tag @ (HTTP_RESPONSE | HTTP_STREAM),
                from,
                reference,
                payload,
            } => {
                let (mut head, begins) = match head::response(payload.as_slice()) {
                    Ok(response) => response,
                    Err(error) => {
                        return self.no_response(&format!("it is malformed: {error}"), headers);
                    }
                };
                let mut body = Bytes::copy_from_slice(&payload.as_slice()[begins..]);
                // Nothing follows these (RFC 9110, section 6.4.1).
                let has_body = asked.method != Method::HEAD
                    && !matches!(
                        head.status,
                        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
                    );
                if !has_body {
                    if asked.method == Method::HEAD && tag == HTTP_RESPONSE {
                        head.headers.insert(CONTENT_LENGTH, body.len().into());
                    }
                    body = Bytes::new();
                }
                let body = match tag {
                    HTTP_STREAM if has_body => {
                        let sending = Sending {
                            owner: from,
                            reference,
                            peer: self.peer,
                            first: body,
                            is_events: is_events(&head.headers),
                            limits: limits.clone(),
                            drained: self.shared.drain.enter(),
                            kept: replied.kept,
                            used: replied.used,
                        };
                        match stream::begin(&self.shared, sending) {
                            Ok(streamed) => Either::Right(Either::Left(streamed)),
                            Err(SpawnError::TableFull) => {
                                return busy("the node has as many processes as it may have");
                            }
                        }
                    }
                    _ => Either::Left(Full::new(body)),
                };
                let mut answer = Response::new(body);
                *answer.status_mut() = head.status;
                *answer.headers_mut() = head.headers;
                answer
            }
            Outcome::Reply {
                tag: SOCKET_ACCEPT,
                from,
                reference,
                payload,
            } => {
                let Some(upgrade) = upgrade else {
                    let why = "it accepts a WebSocket, and the client has not asked for one";
                    return self.no_response(why, headers);
                };
                let accepted = head::accept(payload.as_slice())
                    .and_then(|accept| socket::accepted(accept, headers));
                let answer = match accepted {
                    Ok(answer) => answer,
                    Err(error) => return self.no_response(&error, headers),
                };
                let opened = head::opened("websocket", Some(reference), self.peer);
                self.process.open(from, opened);
                let socket = Socket {
                    connection: self.process.clone(),
                    limits: limits.clone(),
                    drained: self.shared.drain.enter(),
                    kept: Some(replied.kept),
                    used: replied.used,
                };
                let held = self.held.clone();
                pollers::spawn(async move {
                    // The client may have gone before.
                    match upgrade.await {
                        Ok(upgraded) => socket::serve(socket, upgraded).await,
                        Err(_) => socket.lost().await,
                    }
                    drop(held);
                });
                answer
            }
            Outcome::Reply { tag, payload, .. } => {
                let text = String::from_utf8_lossy(payload.as_slice()).into_owned();
                let why = format!("it has the tag {tag}, not that of a response: {text}");
                self.no_response(&why, headers)
            }
            Outcome::Down(reason) if reason.code() == Reason::NOPROC.0 => {
                busy("the process has ended")
            }
            Outcome::Down(reason) => self.failed(&Failure::ended(&reason), headers),
            Outcome::Full => busy("the mailbox of the process is full"),
            Outcome::NoProcess(error) => self.not_started(&error, headers),
            Outcome::Closed => busy("the connection ends"),
        }
    }

    /// A reply that is no response.
    fn no_response(&self, why: &str, headers: &HeaderMap) -> Answer {
        tracing::warn!(
            "a process has replied to a request of HTTP with something that is no response: {why}"
        );
        let failure = Failure::new(format!("the reply is no response: {why}"));
        self.failed(&failure, headers)
    }

    /// A failure of the app. Only developers are told what it was; the log has it in any case.
    fn failed(&self, failure: &Failure, headers: &HeaderMap) -> Answer {
        failure.answer(self.shared.sources.as_deref(), headers)
    }
}

/// What a request has led to, and what stays for it.
struct Replied<G: 'static> {
    outcome: Outcome,
    kept: Kept<G>,
    used: Option<Arc<Use>>,
}

/// The response to a request whose process is late.
fn late() -> Answer {
    plain(
        StatusCode::GATEWAY_TIMEOUT,
        "the process has not replied in time",
    )
}

/// Reads the body of a request.
async fn read(body: Incoming, most: u64, reading: Duration) -> Result<Bytes, Answer> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_large = || plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    // A client that says how much it will send is told before it does.
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let collected = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX)).collect();
    match tokio::time::timeout(reading, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(plain(StatusCode::BAD_REQUEST, "the body is incomplete")),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "")),
    }
}

/// Returns whether these are the headers of server-sent events.
fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let name = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn a_host_has_no_port() {
        for (host, name) in [
            ("example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
