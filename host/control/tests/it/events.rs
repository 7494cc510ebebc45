//! Event streams: what a client gets that connects again, or reads nothing for a while.

use std::path::Path;
use std::time::Duration;

use exuvia_api::Client;
use exuvia_control::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::fake::{Note, running, running_with};

fn note(text: &str) -> Note {
    let text = text.to_owned();
    Note { text }
}

/// Requests the events and reads until `wanted` has arrived.
async fn read_until(socket: &Path, headers: &str, wanted: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0, "`{wanted}` did not come: {text}");
        text += std::str::from_utf8(&bytes[..read]).unwrap();
    }
    text
}

/// Passes one connection on, until the server has sent `cut`; returns the request. What the
/// server sends with and after it is lost.
async fn pass_on(listener: &UnixListener, server: &Path, cut: Option<&str>) -> String {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = UnixStream::connect(server).await.unwrap();
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        request.push(char::from(byte[0]));
    }
    server.write_all(request.as_bytes()).await.unwrap();
    let mut sent = String::new();
    loop {
        let mut bytes = [0; 1024];
        let read = server.read(&mut bytes).await.unwrap();
        sent += std::str::from_utf8(&bytes[..read]).unwrap();
        if let Some(at) = cut.and_then(|cut| sent.find(cut)) {
            // Half of that event arrives.
            let passed = sent.len() - read;
            client.write_all(&bytes[..at - passed]).await.unwrap();
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
    let server = running.client.socket().to_path_buf();
    let proxy = tokio::spawn(async move {
        let first = pass_on(&listener, &server, Some("note: b")).await;
        let second = pass_on(&listener, &server, None).await;
        (first, second)
    });
    let client = Client::new(&path).unwrap();
    let mut events = client.events().await.unwrap();
    running.fake.events.send(note("a")).unwrap();
    let line =
        async |events: &mut exuvia_api::EventStream| events.next().await.unwrap().unwrap().line;
    assert_eq!(line(&mut events).await, "note: a");
    // The connection breaks in the middle of this one.
    running.fake.events.send(note("b")).unwrap();
    running.fake.events.send(note("c")).unwrap();
    assert_eq!(line(&mut events).await, "note: b");
    assert_eq!(line(&mut events).await, "note: c");
    running.server.close().await;
    assert_eq!(events.next().await.unwrap(), None);
    let (first, second) = proxy.await.unwrap();
    assert!(!first.contains("last-event-id"), "{first}");
    assert!(second.contains("last-event-id: "), "{second}");
}

#[tokio::test]
async fn a_stream_ends_with_an_error_when_its_node_is_gone() {
    let running = running();
    let path = running.folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = running.client.socket().to_path_buf();
    let proxy = tokio::spawn(async move {
        pass_on(&listener, &server, Some("note: a")).await;
        // Nothing listens any more.
    });
    let mut events = Client::new(&path).unwrap().events().await.unwrap();
    running.fake.events.send(note("a")).unwrap();
    proxy.await.unwrap();
    let error = events.next().await.unwrap_err();
    assert_eq!(error.code(), "broken", "{error}");
}

#[tokio::test]
async fn a_client_gets_what_has_happened_since_its_last_event() {
    let running = running();
    let socket = running.client.socket();
    let mut events = running.client.events().await.unwrap();
    for text in ["a", "b", "c"] {
        running.fake.events.send(note(text)).unwrap();
        events.next().await.unwrap();
    }
    // The ID of the first of them, from the stream of a client that begins after the third.
    let (_, seen) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            running.fake.events.send(note("d")).unwrap();
        },
        read_until(socket, "", "note: d"),
    );
    assert!(!seen.contains("note: c"), "{seen}");
    let id = seen.split("id: ").nth(1).unwrap().lines().next().unwrap();
    let log = id.strip_suffix("-4").unwrap();
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
    ] {
        let header = format!("last-event-id: {id}\r\n");
        let seen = read_until(running.client.socket(), &header, "\n\n").await;
        let seen = match seen.contains("lagged") {
            true => seen,
            // The interval of attempts may come alone.
            false => read_until(running.client.socket(), &header, "lagged").await,
        };
        assert!(seen.contains("\"missed\":null"), "{id}: {seen}");
        assert!(seen.contains("retry: 1000"), "{id}: {seen}");
    }
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_is_alive() {
    let running = running_with(Bounds {
        heartbeat: Duration::from_millis(1),
        ..Bounds::default()
    });
    let seen = read_until(running.client.socket(), "", "\n:\n\n").await;
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
}
