//! Many clients, and clients that hang: the others are not affected.

use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_api::{CallRequest, Client, DeployOptions, Payload, StopReport, Upload, code};
use exuvia_control::{Bounds, MAX_CALLS, MAX_CONNECTIONS, MAX_STREAMS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixSocket, UnixStream};
use tokio::task::JoinSet;

use crate::fake::{running, running_with};
use crate::wait::until;

/// Connects and says something; nothing is read.
async fn says(client: &Client, words: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(client.socket().unwrap()).await.unwrap();
    stream.write_all(words).await.unwrap();
    stream
}

/// All that comes until the server hangs up.
async fn rest(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn incomplete_requests_delay_no_other_up_to_a_limit() {
    let running = running();
    let events = running.client.events().await.unwrap();
    let mut open = Vec::new();
    for _ in 2..MAX_CONNECTIONS {
        open.push(says(&running.client, b"GET /v1/node HTT").await);
        // One after another: as many as may be open are more than may wait.
        tokio::task::yield_now().await;
    }
    // The last connection is served, and then it is taken too. The server may see the end of the
    // served one after the next has come, which it then refuses.
    running.client.info().await.unwrap();
    let error = loop {
        open.push(says(&running.client, b"GET /v1/node HTT").await);
        if let Err(error) = running.client.info().await {
            break error;
        }
    };
    assert_eq!(error.code(), code::BUSY, "{error}");
    assert!(error.to_string().contains("connections"), "{error}");

    // Connections that end make way for others, as soon as the server has seen it.
    drop(open);
    drop(events);
    let served = async || running.client.info().await.is_ok();
    until("a connection is free again", served).await;
}

#[tokio::test]
async fn an_incomplete_request_is_disconnected_after_a_timeout() {
    let running = running_with(Bounds {
        head: Duration::from_millis(1),
        body: Duration::from_millis(1),
        ..Bounds::default()
    });
    for half in [&b""[..], b"GET", b"GET /v1/node HTTP/1.1\r\nhost: x\r\n"] {
        let answer = rest(says(&running.client, half).await).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_missing_body_is_an_error() {
    let running = running_with(Bounds {
        head: Duration::from_secs(60),
        body: Duration::from_millis(1),
        ..Bounds::default()
    });
    let half = b"POST /v1/releases HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\
                 content-type: multipart/form-data; boundary=x\r\n\
                 connection: close\r\n\r\n--x\r\n";
    let answer = rest(says(&running.client, half).await).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("did not arrive within"), "{answer}");
    assert!(running.fake.deployed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_bytes_of_all_uploads_are_bounded() {
    const KIB: usize = 1024;
    let running = running_with(Bounds {
        bodies: 1024 * KIB,
        ..Bounds::default()
    });
    // Four that send 512 KiB and stop in the middle. Two of them fit.
    let mut uploads = JoinSet::new();
    for _ in 0..4 {
        let mut stream = UnixStream::connect(running.client.socket().unwrap())
            .await
            .unwrap();
        uploads.spawn(async move {
            let head = format!(
                "POST /v1/releases HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\
                 content-type: multipart/form-data; boundary=x\r\n\r\n",
                600 * KIB
            );
            let half = [head.into_bytes(), vec![b'x'; 512 * KIB]].concat();
            // The server may have hung up in the middle of it.
            let _ = stream.write_all(&half).await;
            rest(stream).await
        });
    }
    for _ in 0..2 {
        let answer = uploads.join_next().await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        for part in ["busy", "exceed 1048576 bytes", "try again"] {
            assert!(answer.contains(part), "`{part}` is not in: {answer}");
        }
    }
    let module = |kib: usize| {
        vec![Upload {
            name: "a".to_owned(),
            source: "a.wasm".to_owned(),
            bytes: vec![b'x'; kib * KIB],
        }]
    };
    let client = &running.client;
    let deploy = async |kib| client.deploy(&module(kib), DeployOptions::default()).await;
    // The two that are left hold 448 KiB each in the end, 64 not counted. Until
    // then more fits, but never this one beside them.
    let error = deploy(900).await.unwrap_err();
    assert_eq!(error.code(), code::BUSY, "{error}");
    deploy(60).await.unwrap();

    // Uploads that end free their bytes, and so do those that were served.
    uploads.abort_all();
    while uploads.join_next().await.is_some() {}
    until("the bytes are free", async || deploy(1000).await.is_ok()).await;
    deploy(1000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_counts_until_its_request_has_been_served() {
    const KIB: usize = 1024;
    let running = running_with(Bounds {
        bodies: 1024 * KIB,
        ..Bounds::default()
    });
    let gate = running.fake.gate.clone();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _gate = gate.lock().unwrap();
        locked.send(()).unwrap();
        opened.recv().unwrap();
    });
    is_locked.await.unwrap();
    let client = running.client.clone();
    let slow = tokio::spawn(async move {
        let request = CallRequest {
            tag: 0,
            payload: Payload::Hex("00".repeat(200 * KIB)),
            timeout_ms: 5_000,
        };
        client.call("slow", &request).await
    });
    let called = async || running.fake.slow.load(Ordering::Relaxed) > 0;
    until("the call arrives", called).await;
    let module = [Upload {
        name: "a".to_owned(),
        source: "a.wasm".to_owned(),
        bytes: vec![b'x'; 900 * KIB],
    }];
    let deploy = async || {
        let options = DeployOptions::default();
        running.client.deploy(&module, options).await
    };
    // Each time it gets the reason, though it has not written all of its body then.
    for _ in 0..10 {
        let error = deploy().await.unwrap_err();
        assert_eq!(error.code(), code::BUSY, "{error}");
    }
    open.send(()).unwrap();
    holder.join().unwrap();
    slow.await.unwrap().unwrap();
    deploy().await.unwrap();
}

#[tokio::test]
async fn streams_and_waiting_calls_leave_connections_for_commands() {
    let mut running = running();
    let mut streams = Vec::new();
    while streams.len() < MAX_STREAMS {
        streams.push(running.client.events().await.unwrap());
    }
    let error = running.client.events().await.unwrap_err();
    assert_eq!(error.code(), code::BUSY, "{error}");
    let (gate, slow) = (running.fake.gate.clone(), running.fake.slow.clone());
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        let _gate = gate.lock().unwrap();
        locked.send(()).unwrap();
        opened.recv().unwrap();
    });
    is_locked.await.unwrap();
    let mut calls = JoinSet::new();
    let call = || CallRequest {
        tag: 0,
        payload: Payload::Empty,
        timeout_ms: 5_000,
    };
    for number in 1..=MAX_CALLS {
        let client = running.client.clone();
        calls.spawn(async move { client.call("slow", &call()).await });
        let called = async || slow.load(Ordering::Relaxed) >= number;
        until("the call arrives", called).await;
    }
    let error = running.client.call("slow", &call()).await.unwrap_err();
    assert_eq!(error.code(), code::BUSY, "{error}");
    // Both are as many as there may be. Everything else is served.
    running.client.info().await.unwrap();
    let client = running.client.clone();
    let stop = tokio::spawn(async move { client.stop(None).await });
    let request = running.server.stop_requested().await;
    request.answer(StopReport {
        orderly: true,
        left: 0,
    });
    stop.await.unwrap().unwrap();
    // Streams whose readers are gone make way for others.
    drop(streams);
    let followed = async || running.client.events().await.is_ok();
    until("a stream is free again", followed).await;
    open.send(()).unwrap();
    holder.join().unwrap();
    while let Some(reply) = calls.join_next().await {
        reply.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_can_half_close_after_its_request() {
    let running = running();
    let body = r#"{"payload":"empty"}"#;
    let call = format!(
        "POST /v1/processes/late/calls HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let info = "GET /v1/node HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    // Both halves of the race: the end may be seen before the request is, or after.
    for _ in 0..100 {
        for (request, status) in [(info, "HTTP/1.1 200"), (call.as_str(), "HTTP/1.1 504")] {
            let mut stream = says(&running.client, request.as_bytes()).await;
            stream.shutdown().await.unwrap();
            let answer = rest(stream).await;
            assert!(answer.starts_with(status), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_its_request_is_served() {
    let running = running();
    // Longer than what is read at a time.
    let text = "x".repeat(5 << 20);
    let body = format!(r#"{{"payload":{{"text":"{text}"}}}}"#);
    let request = format!(
        "POST /v1/processes/a/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    drop(says(&running.client, request.as_bytes()).await);
    let sent = async || !running.fake.sent.lock().unwrap().is_empty();
    until("it is served", sent).await;
    assert_eq!(running.fake.sent.lock().unwrap()[0].2.len(), text.len());
}

#[tokio::test]
async fn garbage_affects_only_its_own_connection() {
    let running = running();
    for garbage in [
        &[0; 1000][..],
        b"\xff\xfe\xfd\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/processes/a/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/processes/a/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/processes/a/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = rest(says(&running.client, garbage).await).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{garbage:?}: {answer}");
    }
    running.client.info().await.unwrap();
}

#[tokio::test]
async fn a_client_waits_while_the_queue_of_connections_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);

    let client = Client::new(&path).unwrap();
    let asked = tokio::spawn(async move { client.info().await });
    // It has tried, and was refused.
    tokio::task::yield_now().await;
    for _ in &waiting {
        listener.accept().await.unwrap();
    }
    let (mut mine, _) = listener.accept().await.unwrap();
    let mut request = [0; 12];
    mine.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"GET /v1/node");
    drop(mine);
    let error = asked.await.unwrap().unwrap_err();
    assert!(!error.unreachable(), "{error}");
}
