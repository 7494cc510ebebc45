//! Each route, by the client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use exuvia_api::{
    CallRequest, Client, ClientError, DeployOptions, Loops, MAX_LISTED, MAX_REASON_BYTES, MAX_TOP,
    MAX_TRACED, MessageRequest, Payload, Rendered, RollbackOptions, Sort, StopReport, Upload, code,
};
use exuvia_control::{MAX_TRACES, listen, serve_metrics};
use serde_json::json;

use crate::fake::{Note, running};
use crate::wait::until;

fn call(payload: Payload) -> CallRequest {
    CallRequest {
        tag: 0,
        payload,
        timeout_ms: 1_000,
    }
}

fn code_of(error: &ClientError) -> &str {
    error.code()
}

/// A request as any tool could write it.
fn raw(client: &Client, request: &str) -> String {
    let mut stream = UnixStream::connect(client.socket().unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn info_and_processes() {
    let running = running();
    let info = running.client.info().await.unwrap();
    assert_eq!(info.value.app, "fake");
    assert_eq!(info.json["schedulers"], 2);

    let metrics = running.client.metrics().await.unwrap();
    assert!(metrics.contains("\nexuvia_processes 3\n"), "{metrics}");

    let list = running.client.processes(None, 2, None).await.unwrap();
    assert_eq!(list.value.items.len(), 2);
    let next = list.value.next.unwrap();
    let rest = running
        .client
        .processes(None, 2, Some(&next))
        .await
        .unwrap();
    assert_eq!(rest.value.items[0].pid, "<2.0>");
    assert_eq!((rest.value.items.len(), rest.value.next), (1, None));
    let error = running.client.processes(None, 2, Some("x")).await;
    assert_eq!(code_of(&error.unwrap_err()), code::BAD_REQUEST);
    // The name arrives as it was given, whatever a query makes of it.
    let odd = "a&b=c d/ä%";
    let list = running.client.processes(Some(odd), 1, None).await.unwrap();
    assert_eq!(list.value.items[0].module.as_deref(), Some(odd));

    let error = running
        .client
        .processes(None, MAX_LISTED + 1, None)
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), code::TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_metrics_are_served_over_tcp() {
    let running = running();
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let scraped = serve_metrics(running.health.clone(), listener).unwrap();
    let address = scraped.address();
    let ask = move |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (metrics, other) = tokio::task::spawn_blocking(move || (ask("/metrics"), ask("/v1/node")))
        .await
        .unwrap();
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("\nexuvia_processes 3\n"), "{metrics}");
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
}

#[tokio::test]
async fn one_process_and_the_busiest_ones_are_shown() {
    let running = running();
    let it = running.client.inspect("a/b c").await.unwrap();
    assert_eq!(it.value.process.pid, "<0.0>");
    // The name arrives as it was given, whatever a path makes of it.
    assert_eq!(it.value.links, ["a/b c"]);
    assert_eq!(it.json["data"]["payload"], json!({"a": 1}));
    let error = running.client.inspect("nobody").await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_PROCESS);

    let top = running.client.top(Sort::Mailbox, 2).await.unwrap().value;
    assert_eq!((top.processes, top.top.len()), (3, 2));
    assert_eq!(top.top[0].process.module.as_deref(), Some("Mailbox"));
    let error = running.client.top(Sort::Memory, MAX_TOP + 1).await;
    assert_eq!(code_of(&error.unwrap_err()), code::TOO_LARGE);
    let client = running.client.clone();
    let request = "GET /v1/top?sort=age HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let bad = tokio::task::spawn_blocking(move || raw(&client, request))
        .await
        .unwrap();
    assert!(bad.contains("bad_request"), "{bad}");
}

#[tokio::test]
async fn a_trace_ends_at_its_limit_or_with_its_reader() {
    let running = running();
    let mut trace = running.client.trace("counter", 2).await.unwrap();
    let first = trace.next().await.unwrap().unwrap();
    assert_eq!(first.line, "sent message to <7.0>  tag 0  1 B  0");
    assert_eq!(first.event["direction"], "sent");
    assert_eq!(first.event["payload"], 0);
    assert!(trace.next().await.unwrap().is_some());
    assert!(trace.next().await.unwrap().is_none());
    let error = running.client.trace("counter", MAX_TRACED + 1).await;
    assert_eq!(code_of(&error.unwrap_err()), code::TOO_LARGE);

    // As many as there may be, and then others when their readers are gone.
    let mut many = Vec::new();
    for _ in 0..MAX_TRACES {
        many.push(running.client.trace("endless", 1).await.unwrap());
    }
    let error = running.client.trace("endless", 1).await.unwrap_err();
    assert_eq!(code_of(&error), code::BUSY);
    drop(many);
    let traced = async || running.client.trace("endless", 1).await.is_ok();
    until("a trace is free again", traced).await;
}

#[tokio::test]
async fn a_message_arrives_as_messagepack() {
    let running = running();
    let mut request = MessageRequest {
        tag: 7,
        payload: Payload::Msgpack(json!({"Add": 5})),
        observe: false,
    };
    let sent = running.client.send("counter-0", &request).await.unwrap();
    assert!(sent.value.warnings.is_empty());
    assert_eq!(
        *running.fake.sent.lock().unwrap(),
        [("counter-0".to_owned(), 7, b"\x81\xa3Add\x05".to_vec())]
    );
    request.observe = true;
    let sent = running.client.send("counter-0", &request).await.unwrap();
    assert_eq!(sent.value.warnings, ["heard"]);
    let error = running.client.send("nobody", &request).await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_PROCESS);
    assert_eq!(error.help(), Some("see `exuvia ps`"));
}

#[tokio::test]
async fn an_operator_controls_processes() {
    let running = running();
    let client = &running.client;
    let killed = client.kill("a", Some("too old")).await.unwrap();
    assert_eq!(killed.value.pid, "a for too old");
    let error = client.kill("nobody", None).await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_PROCESS);
    let long = "x".repeat(MAX_REASON_BYTES + 1);
    let error = client.kill("a", Some(&long)).await.unwrap_err();
    assert_eq!(code_of(&error), code::TOO_LARGE);
    let restarted = client.restart("a").await.unwrap().value;
    assert_eq!(
        (restarted.previous.as_str(), restarted.pid.as_str()),
        ("a", "<9.1>")
    );
    let error = client.restart("nobody").await.unwrap_err();
    assert_eq!(code_of(&error), code::NOT_RESTARTED);
    let described = client.describe("a b").await.unwrap().value;
    assert_eq!(described.pid, "a b");
    assert_eq!(client.tree(1).await.unwrap().value.roots.len(), 1);
    let error = client.tree(MAX_LISTED + 1).await.unwrap_err();
    assert_eq!(code_of(&error), code::TOO_LARGE);
    let suspended = client.suspend("a", true).await.unwrap().value;
    assert!(suspended.changed && suspended.at_rest);
}

#[tokio::test]
async fn a_call_shows_its_reply() {
    let running = running();
    let reply = running
        .client
        .call("echo", &call(Payload::Msgpack(json!({"a": [1, null]}))))
        .await
        .unwrap();
    assert_eq!(
        reply.value.payload,
        Rendered::Msgpack(json!({"a": [1, null]}))
    );
    assert_eq!(reply.json["payload"], json!({"a": [1, null]}));

    let reply = running
        .client
        .call("echo", &call(Payload::Hex("ff 00".to_owned())))
        .await
        .unwrap();
    assert_eq!(reply.value.payload, Rendered::Hex("ff00".to_owned()));
    assert_eq!(reply.value.bytes, 2);

    let error = running
        .client
        .call("late", &call(Payload::Empty))
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), code::TIMEOUT);

    let mut forever = call(Payload::Empty);
    forever.timeout_ms = u64::MAX;
    let error = running.client.call("echo", &forever).await.unwrap_err();
    assert_eq!(code_of(&error), code::BAD_REQUEST);
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let running = running();
    let error = running
        .client
        .call("panic", &call(Payload::Empty))
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), code::INTERNAL);
    running.client.info().await.unwrap();
}

#[tokio::test]
async fn several_modules_are_one_swap() {
    let running = running();
    let upload = |name: &str, bytes: &[u8]| Upload {
        name: name.to_owned(),
        source: format!("{name}.wasm"),
        bytes: bytes.to_vec(),
    };
    let modules = [upload("a", b"\0asm\n"), upload("b", &[7; 3_000_000])];
    let options = DeployOptions {
        fresh: true,
        loops: Loops::Leave,
        plan: true,
        message: "a & b".to_owned(),
    };
    let swap = running.client.deploy(&modules, options.clone());
    let swap = swap.await.unwrap();
    assert_eq!(swap.value.line, "note: swapped 2");
    assert_eq!(swap.value.report, json!({"text": "swapped 2"}));
    assert_eq!(
        *running.fake.deployed.lock().unwrap(),
        [(modules.to_vec(), options)]
    );

    let error = running
        .client
        .deploy(&[upload("a", b"broken")], DeployOptions::default())
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), code::LOAD);
    let error = running.client.rollback(RollbackOptions::default()).await;
    assert_eq!(code_of(&error.unwrap_err()), code::NO_EARLIER_RELEASE);
    let options = RollbackOptions {
        to: Some(7),
        message: "was bad & late".to_owned(),
        ..RollbackOptions::default()
    };
    let swap = running.client.rollback(options).await.unwrap();
    assert_eq!(swap.value.line, "note: 7 was bad & late");
}

#[tokio::test]
async fn releases_are_pinned_and_their_modules_read() {
    let running = running();
    for (release, on, changed) in [(1, true, true), (2, true, false), (1, false, false)] {
        let pinned = running.client.pin(release, on).await.unwrap().value;
        assert_eq!(
            (pinned.release, pinned.pinned, pinned.changed),
            (release, on, changed)
        );
    }
    let error = running.client.pin(9, true).await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_RELEASE);
    let bytes = running.client.module_of(2, "counter").await.unwrap();
    assert_eq!(bytes, [2, 0, 127]);
    let error = running.client.module_of(2, "other").await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_MODULE);
    let error = running.client.module_of(9, "counter").await.unwrap_err();
    assert_eq!(code_of(&error), code::NO_RELEASE);
}

#[tokio::test]
async fn events_stream_until_the_server_closes() {
    let running = running();
    let mut events = running.client.events().await.unwrap();
    for n in 0..3 {
        let text = n.to_string();
        assert_eq!(running.fake.events.send(Note { text }).unwrap(), 1);
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.line, format!("note: {n}"));
        assert_eq!(event.event, json!({"event": "note", "text": n.to_string()}));
        assert_eq!(event.at, "1970-01-01T00:00:00.000Z");
    }
    running.server.close().await;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_stop_request_reaches_the_owner() {
    let mut running = running();
    let client = running.client.clone();
    let asked = tokio::spawn(async move { client.stop(Some(Duration::from_millis(1_500))).await });
    let request = running.server.stop_requested().await;
    assert_eq!(request.timeout, Some(Duration::from_millis(1_500)));
    request.answer(StopReport {
        orderly: true,
        left: 0,
    });
    let report = asked.await.unwrap().unwrap();
    assert_eq!(report.json, json!({"orderly": true, "left": 0}));
    running.server.close().await;
}

#[tokio::test]
async fn a_second_stop_request_is_rejected() {
    let mut running = running();
    let first = running.client.clone();
    let first = tokio::spawn(async move { first.stop(None).await });
    let request = running.server.stop_requested().await;
    assert_eq!(request.timeout, None);
    let second = running.client.clone();
    let second = tokio::spawn(async move { second.stop(None).await });
    // The owner takes no second request: it is dropped when the server closes.
    request.answer(StopReport {
        orderly: true,
        left: 0,
    });
    first.await.unwrap().unwrap();
    running.server.close().await;
    // Whether it was read before the end, had connected at least, or came too
    // late: it has an answer, and that is not a report.
    let error = second.await.unwrap().unwrap_err();
    assert!(
        [code::STOPPING, "broken", "no_node"].contains(&code_of(&error)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_progress_finish_before_the_server_ends() {
    let running = running();
    let client = running.client.clone();
    let gate = running.fake.gate.clone();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _gate = gate.lock().unwrap();
        locked.send(()).unwrap();
        opened.recv().unwrap();
    });
    is_locked.await.unwrap();
    let asked = tokio::spawn(async move { client.call("slow", &call(Payload::Empty)).await });
    // A later request has been answered, so the connection of the first is open
    // at least; whether it is served yet makes no difference to the outcome.
    running.client.info().await.unwrap();
    let closing = tokio::spawn(running.server.close());
    open.send(()).unwrap();
    closing.await.unwrap();
    holder.join().unwrap();
    match asked.await.unwrap() {
        Ok(reply) => assert_eq!(reply.value.payload, Rendered::Empty),
        // It had not said what it wants when the server closed.
        Err(error) => assert!(["broken", "no_node"].contains(&code_of(&error)), "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_written_requests_are_handled() {
    let running = running();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let far_too_long = |path: &str, content_type: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n\r\n",
            1_u64 << 40
        )
    };
    let messages = "/v1/processes/a/messages";
    for (request, status, part) in [
        (
            post(messages, "{\"payload\":{\"text\":\"hi\"}}"),
            "202",
            "{\"warnings\":[]}",
        ),
        (post(messages, "{\"tag\":\"x\"}"), "400", "bad_request"),
        (post(messages, "{\"tagg\":1}"), "400", "unknown field"),
        (post("/v1/nothing", ""), "404", "no_route"),
        (post("/v1/processes//messages", "{}"), "400", "bad_request"),
        (post("/v1/node", ""), "405", "method_not_allowed"),
        (post("/v1/node", ""), "405", "allow: GET,HEAD"),
        (get("/v1/modules/counter"), "200", "\"version\":2"),
        (get("/v1/modules/nothing"), "404", "no_module"),
        (get("/v1/releases/current"), "200", "\"release\":2"),
        (get("/v1/releases/1"), "200", "\"current\":false"),
        (get("/v1/releases/9"), "404", "no_release"),
        (get("/v1/processes?limit=x"), "400", "bad_request"),
        (get("/v1/processes/%FF"), "400", "bad_request"),
        (get("/v1/processes?limits=1"), "400", "unknown field"),
        (
            far_too_long(messages, "application/json"),
            "413",
            "too_large",
        ),
        (
            far_too_long("/v1/releases", "multipart/form-data; boundary=x"),
            "413",
            "too_large",
        ),
    ] {
        let client = running.client.clone();
        let asked = request.clone();
        let answer = tokio::task::spawn_blocking(move || raw(&client, &asked))
            .await
            .unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part),
            "{request}\n{answer}"
        );
        let is_problem = answer.contains("content-type: application/problem+json\r\n");
        assert_eq!(is_problem, status.starts_with(['4', '5']), "{answer}");
    }
    assert!(running.folder.path().exists());
}
