//! Event streams: what a client gets that connects again, or reads nothing for a while.

use std::path::Path;
use std::time::Duration;

use exuvia_api::{Client, EventStream};
use exuvia_control::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::fake::{Note, running, running_with};

/// How long a test waits for what must happen: it fails then, and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("what the test waits for happens")
}

fn note(text: &str) -> Note {
    let text = text.to_owned();
    Note { text }
}

/// Returns the line of the next event.
async fn line(events: &mut EventStream) -> String {
    bounded(events.next()).await.unwrap().unwrap().line
}

/// A stream as it is sent.
struct Raw {
    stream: UnixStream,
    seen: String,
}

impl Raw {
    /// Requests the events.
    async fn open(socket: &Path, headers: &str) -> Self {
        let mut stream = bounded(UnixStream::connect(socket)).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        bounded(stream.write_all(request.as_bytes())).await.unwrap();
        let seen = String::new();
        Self { stream, seen }
    }

    /// Reads until `wanted` has arrived; returns all that has arrived.
    async fn until(&mut self, wanted: &str) -> &str {
        while !self.seen.contains(wanted) {
            let mut bytes = [0; 1024];
            let read = bounded(self.stream.read(&mut bytes)).await.unwrap();
            assert!(read > 0, "`{wanted}` did not come: {}", self.seen);
            self.seen += std::str::from_utf8(&bytes[..read]).unwrap();
        }
        &self.seen
    }
}

/// Requests the events and reads until `wanted` has arrived.
async fn read_until(socket: &Path, headers: &str, wanted: &str) -> String {
    let mut raw = Raw::open(socket, headers).await;
    raw.until(wanted).await.to_owned()
}

/// Reads a request without a body.
async fn request(client: &mut UnixStream) -> String {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        request.push(char::from(byte[0]));
    }
    request
}

/// Passes one connection on, until the server has sent `cut`; returns the request. What the
/// server sends with and after it is lost.
async fn pass_on(listener: &UnixListener, server: &Path, cut: Option<&str>) -> String {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = UnixStream::connect(server).await.unwrap();
    let request = request(&mut client).await;
    server.write_all(request.as_bytes()).await.unwrap();
    let mut sent = String::new();
    loop {
        let mut bytes = [0; 1024];
        let read = server.read(&mut bytes).await.unwrap();
        sent += std::str::from_utf8(&bytes[..read]).unwrap();
        if let Some(at) = cut.and_then(|cut| sent.find(cut)) {
            // Half of that event arrives.
            let passed = sent.len() - read;
            client
                .write_all(&bytes[..at.saturating_sub(passed)])
                .await
                .unwrap();
            return request;
        }
        if read == 0 || client.write_all(&bytes[..read]).await.is_err() {
            return request;
        }
    }
}

#[tokio::test]
async fn a_stream_continues_after_its_connection_broke() {
    let running = running();
    let path = running.folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = running.client.socket().unwrap().to_path_buf();
    let proxy = tokio::spawn(async move {
        let first = pass_on(&listener, &server, Some("note: b")).await;
        let second = pass_on(&listener, &server, None).await;
        (first, second)
    });
    let client = Client::new(&path).unwrap();
    let mut events = bounded(client.events()).await.unwrap();
    running.fake.events.send(note("a")).unwrap();
    assert_eq!(line(&mut events).await, "note: a");
    // The connection breaks in the middle of this one.
    running.fake.events.send(note("b")).unwrap();
    running.fake.events.send(note("c")).unwrap();
    assert_eq!(line(&mut events).await, "note: b");
    assert_eq!(line(&mut events).await, "note: c");
    bounded(running.server.close()).await;
    assert_eq!(bounded(events.next()).await.unwrap(), None);
    let (first, second) = bounded(proxy).await.unwrap();
    assert!(!first.contains("last-event-id"), "{first}");
    assert!(second.contains("last-event-id: "), "{second}");
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_event_misses_none() {
    let running = running();
    let path = running.folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = running.client.socket().unwrap().to_path_buf();
    let proxy = tokio::spawn(async move {
        pass_on(&listener, &server, Some("note: a")).await;
        pass_on(&listener, &server, None).await;
    });
    let mut events = bounded(Client::new(&path).unwrap().events()).await.unwrap();
    running.fake.events.send(note("a")).unwrap();
    running.fake.events.send(note("b")).unwrap();
    assert_eq!(line(&mut events).await, "note: a");
    assert_eq!(line(&mut events).await, "note: b");
    bounded(running.server.close()).await;
    bounded(proxy).await.unwrap();
}

#[tokio::test]
async fn a_client_that_stops_waiting_while_it_connects_again_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // Accepts a connection, sends one event over it, and breaks it.
    let serve = async |text: &str| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = request(&mut stream).await;
        let event =
            format!("id: x-{text}\ndata: {{\"at\":\"\",\"line\":\"{text}\",\"event\":null}}\n\n");
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let sent = format!("{head}{:x}\r\n{event}\r\n", event.len());
        stream.write_all(sent.as_bytes()).await.unwrap();
        asked
    };
    let client = Client::new(&path).unwrap();
    let (events, _) = bounded(async { tokio::join!(client.events(), serve("a")) }).await;
    let mut events = events.unwrap();
    assert_eq!(line(&mut events).await, "a");
    let second = bounded(async {
        tokio::select! {
            biased;
            event = events.next() => panic!("{event:?}"),
            accepted = listener.accept() => accepted.unwrap(),
        }
    })
    .await;
    // `next` was dropped while it waited for the response.
    drop(second);
    let (next, asked) = bounded(async { tokio::join!(line(&mut events), serve("b")) }).await;
    assert_eq!(next, "b");
    assert!(asked.contains("last-event-id: x-a\r\n"), "{asked}");
}

#[tokio::test]
async fn what_has_happened_before_the_server_closes_is_still_sent() {
    let running = running();
    let mut events = bounded(running.client.events()).await.unwrap();
    for text in ["a", "b", "c"] {
        running.fake.events.send(note(text)).unwrap();
    }
    let read = async {
        for text in ["a", "b", "c"] {
            assert_eq!(line(&mut events).await, format!("note: {text}"));
        }
        assert_eq!(events.next().await.unwrap(), None);
    };
    bounded(async { tokio::join!(running.server.close(), read) }).await;
}

#[tokio::test]
async fn streams_end_when_an_event_cannot_be_rendered() {
    let running = running();
    let mut events = bounded(running.client.events()).await.unwrap();
    running.fake.events.send(note("panic")).unwrap();
    assert_eq!(bounded(events.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_its_node_is_gone() {
    let running = running();
    let path = running.folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = running.client.socket().unwrap().to_path_buf();
    let proxy = tokio::spawn(async move {
        pass_on(&listener, &server, Some("note: a")).await;
        // Nothing listens any more.
    });
    let mut events = bounded(Client::new(&path).unwrap().events()).await.unwrap();
    running.fake.events.send(note("a")).unwrap();
    bounded(proxy).await.unwrap();
    // Again: the stream does not seem to have ended in order.
    for _ in 0..2 {
        let error = bounded(events.next()).await.unwrap_err();
        assert_eq!(error.code(), "broken", "{error}");
    }
}

#[tokio::test]
async fn a_client_gets_what_has_happened_since_its_last_event() {
    let running = running();
    let socket = running.client.socket().unwrap();
    let mut events = bounded(running.client.events()).await.unwrap();
    for text in ["a", "b", "c"] {
        running.fake.events.send(note(text)).unwrap();
        line(&mut events).await;
    }
    // A stream begins with the ID of the event before it. From then on it gets every event.
    let mut raw = Raw::open(socket, "").await;
    let seen = raw.until("\n\n").await;
    let id = seen.split("id: ").nth(1).unwrap().lines().next().unwrap();
    let log = id.strip_suffix("-3").unwrap().to_owned();
    running.fake.events.send(note("d")).unwrap();
    let seen = raw.until("note: d").await;
    assert!(!seen.contains("note: c"), "{seen}");
    assert!(seen.contains(&format!("id: {log}-4\n")), "{seen}");
    let header = format!("last-event-id: {log}-1\r\n");
    let seen = read_until(socket, &header, "note: d").await;
    assert!(!seen.contains("note: a"), "{seen}");
    assert!(
        seen.contains("note: b") && seen.contains("note: c"),
        "{seen}"
    );
    assert!(!seen.contains("lagged"), "{seen}");
}

#[tokio::test]
async fn events_of_another_node_are_said_to_be_lost() {
    let running = running();
    for id in [
        "0123456789abcdef-7",
        "7",
        "-",
        "x-y",
        "0123456789abcdef-99999999999999999999",
        "\u{e9}-1",
    ] {
        let header = format!("last-event-id: {id}\r\n");
        let seen = read_until(running.client.socket().unwrap(), &header, "\"missed\":null").await;
        assert!(seen.contains("lagged"), "{id}: {seen}");
        assert!(seen.contains("retry: 1000"), "{id}: {seen}");
    }
}

#[tokio::test]
async fn an_empty_id_is_none() {
    let running = running();
    let mut raw = Raw::open(running.client.socket().unwrap(), "last-event-id: \r\n").await;
    raw.until("\n\n").await;
    running.fake.events.send(note("a")).unwrap();
    let seen = raw.until("note: a").await;
    assert!(!seen.contains("lagged"), "{seen}");
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_is_alive() {
    let running = running_with(Bounds {
        heartbeat: Duration::from_millis(1),
        ..Bounds::default()
    });
    let seen = read_until(running.client.socket().unwrap(), "", "\n:\n\n").await;
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
}
