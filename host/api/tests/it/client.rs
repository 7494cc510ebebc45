//! The client against servers that respond wrongly: it fails with the cause, and never hangs.

use exuvia_api::{Client, ClientError, MessageRequest};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// A server that sends what it is given, whatever it is asked.
struct Server {
    client: Client,
    /// Returns the heads of all requests when the last response has been sent.
    served: JoinHandle<Vec<String>>,
    _folder: TempDir,
}

/// Serves a connection with each of the responses, and then nothing listens any more.
fn serve(responses: impl IntoIterator<Item = Vec<u8>>) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let responses: Vec<Vec<u8>> = responses.into_iter().collect();
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        for response in responses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.push(String::from_utf8(head).unwrap());
            stream.write_all(&response).await.unwrap();
            // Nothing is left unread, so the end of the connection is no reset.
            stream.shutdown().await.unwrap();
        }
        heads
    });
    Server {
        client: Client::new(&path).unwrap(),
        served,
        _folder: folder,
    }
}

fn response(status: &str, media: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// A response without a length: its end is that of the connection.
fn stream(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    format!("{head}{body}").into_bytes()
}

/// A stream that breaks off: it announces one more chunk than there is.
fn broken_stream(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked";
    format!("{head}\r\n\r\n{:x}\r\n{body}\r\nff\r\n", body.len()).into_bytes()
}

/// Asks for the releases, which are a small response.
async fn failure(response: Vec<u8>) -> ClientError {
    serve([response]).client.releases().await.unwrap_err()
}

#[tokio::test]
async fn a_response_that_does_not_fit_the_api_is_refused_with_the_reason() {
    let json = "application/json";
    for (body, why) in [
        ("", "EOF"),
        ("<html>", "expected value"),
        ("[]", "expected struct ReleaseList"),
        ("{}", "missing field `items`"),
        (r#"{"items":7}"#, "expected a sequence"),
        (r#"{"items":[{"release":-1}]}"#, "expected u64"),
        (r#"{"items":[]} and more"#, "trailing characters"),
    ] {
        let error = failure(response("200 OK", json, body)).await;
        assert_eq!(error.code(), "nonsense", "{body}: {error}");
        assert!(error.to_string().contains(why), "{body}: {error}");
        assert!(error.help().unwrap().contains("different versions"));
    }
}

#[tokio::test]
async fn fields_that_the_client_does_not_know_are_passed_on() {
    let body = r#"{"items":[],"later":[1]}"#;
    let server = serve([response("200 OK", "application/json", body)]);
    let releases = server.client.releases().await.unwrap();
    assert!(releases.value.items.is_empty());
    assert_eq!(releases.json["later"][0], 1);
    let heads = server.served.await.unwrap();
    assert!(heads[0].starts_with("GET /v1/releases HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_failure_that_is_no_problem_is_shown_in_part_and_without_control_characters() {
    let page = format!("<h1>\u{1b}[2JBad gateway</h1>{}", "x".repeat(10_000));
    let error = failure(response("502 Bad Gateway", "text/html", &page)).await;
    assert_eq!(error.code(), "nonsense", "{error}");
    let text = error.to_string();
    assert!(text.contains("Bad gateway") && text.len() < 300, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn a_problem_with_an_unknown_code_keeps_its_code_and_help() {
    let body = r#"{"type":"about:blank","title":"Odd","status":418,"detail":"it is a teapot",
        "code":"teapot","help":"use a kettle","more":1}"#;
    let error = failure(response("418 Teapot", "application/problem+json", body)).await;
    assert!(matches!(error, ClientError::Node(_)), "{error:?}");
    assert_eq!(error.code(), "teapot");
    assert_eq!(error.to_string(), "it is a teapot");
    assert_eq!(error.help(), Some("use a kettle"));
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_an_error() {
    for response in [
        &b""[..],
        b"HTTP/1.1 200",
        b"220 mail.example ready\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"items\":[]}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a number\r\n",
    ] {
        let error = failure(response.to_vec()).await;
        assert_eq!(error.code(), "broken", "{response:?}: {error}");
        assert!(!error.unreachable());
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_by_itself() {
    // It may have been carried out.
    let server = serve([Vec::new()]);
    let message = MessageRequest::default();
    let error = server.client.send("a", &message).await.unwrap_err();
    assert_eq!(error.code(), "broken", "{error}");
    assert_eq!(server.served.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_socket_without_a_node_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let old = folder.path().join("old.sock");
    drop(UnixListener::bind(&old).unwrap());
    for (path, why) in [
        (folder.path().join("nothing"), "no such socket"),
        (file, "not a socket"),
        (old, "its node has exited"),
    ] {
        let error = Client::new(&path).unwrap().info().await.unwrap_err();
        assert!(error.unreachable());
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = Client::new(folder.path().join("x".repeat(200))).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

const EVENT: &str = "id: 1-7\ndata: {\"at\":\"\",\"line\":\"one\",\"event\":{}}\n\n";

#[tokio::test]
async fn a_stream_ends_with_its_connection_or_with_an_event_that_is_none() {
    let server = serve([stream(EVENT), stream("data: nonsense\n\n")]);
    let mut events = server.client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().line, "one");
    assert!(events.next().await.unwrap().is_none());

    let mut events = server.client.events().await.unwrap();
    let error = events.next().await.unwrap_err();
    assert_eq!(error.code(), "nonsense", "{error}");
}

#[tokio::test]
async fn a_broken_stream_continues_after_its_last_event() {
    let server = serve([
        broken_stream(EVENT),
        stream(&EVENT.replace("one", "two").replace("1-7", "1-8")),
    ]);
    let mut events = server.client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().line, "one");
    assert_eq!(events.next().await.unwrap().unwrap().line, "two");
    assert!(events.next().await.unwrap().is_none());
    let heads = server.served.await.unwrap();
    assert!(!heads[0].contains("last-event-id"), "{heads:?}");
    assert!(heads[1].contains("last-event-id: 1-7\r\n"), "{heads:?}");
}

#[tokio::test]
async fn a_broken_stream_of_a_node_that_is_gone_is_an_error() {
    let server = serve([broken_stream(EVENT)]);
    let mut events = server.client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().line, "one");
    server.served.await.unwrap();
    let error = events.next().await.unwrap_err();
    assert_eq!(error.code(), "broken", "{error}");
}
