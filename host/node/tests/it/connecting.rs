//! Sockets of guests to the outside: TCP, WebSockets and datagrams, with the rights of requests.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use exuvia_node::abi::{Code, Kind, receive};
use exuvia_node::{DeployOptions, Limits, Node, Pid};
use rmpv::Value;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, accept, accept_hdr};

use crate::guests::{self, STATE, eventually, imports, module};
use crate::outbound::{Server, granted, guest, node};
use crate::puppet::{self, Done, Puppet, ROOM};
use crate::wasi;

const OPEN: u32 = 0xffff_ff14;
const TEXT: u32 = 0xffff_ff15;
const BYTES: u32 = 0xffff_ff16;
const END: u32 = 0xffff_ff17;
const CLOSE: u32 = 0xffff_ff18;
const READ: u32 = 0xffff_ff19;
const REFUSED: u32 = u32::MAX;

pub(crate) fn pack(map: &[(&str, Value)]) -> Vec<u8> {
    let map = map
        .iter()
        .map(|(key, value)| (Value::from(*key), value.clone()));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(map.collect())).unwrap();
    bytes
}

/// Connects a guest; returns the reply, or why it was refused.
fn try_open(guest: &Puppet, map: &[(&str, Value)]) -> Result<Done, String> {
    let client = guest.node.find("exuvia.http").unwrap();
    let done = guest.call(client, OPEN, &pack(map), ROOM, 20_000).ok();
    match done.tag {
        REFUSED => Err(String::from_utf8(done.payload().to_vec()).unwrap()),
        tag => {
            assert_eq!(tag, OPEN, "{done:?}");
            Ok(done)
        }
    }
}

fn open(guest: &Puppet, url: &str) -> Pid {
    try_open(guest, &[("url", url.into())]).unwrap().sender
}

/// Takes what has arrived at a socket, and acknowledges it.
#[track_caller]
fn next(guest: &Puppet, socket: Pid) -> Done {
    let message = guest.wait();
    assert_eq!(
        (message.sender, message.kind),
        (socket, Kind::Request as u32),
        "{message:?}"
    );
    guest.reply(socket, message.message, 0, b"").ok();
    message
}

pub(crate) fn value<'a>(map: &'a Value, key: &str) -> &'a Value {
    let map = map.as_map().unwrap().iter();
    let found = map
        .into_iter()
        .find(|(known, _)| known.as_str() == Some(key));
    &found.unwrap_or_else(|| panic!("no {key}")).1
}

fn code(closed: &Done) -> u64 {
    assert_eq!(closed.tag, CLOSE, "{closed:?}");
    let map = rmpv::decode::read_value(&mut closed.payload()).unwrap();
    value(&map, "code").as_u64().unwrap()
}

pub(crate) fn alive(node: &Node) -> usize {
    node.system().table.alive()
}

/// A server that hands its connections to `serve`.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 500];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_for_itself() {
    let port = server(echo);
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = alive(&node);
    let opened = try_open(&guest, &[("url", format!("tcp://127.0.0.1:{port}").into())]).unwrap();
    let map = rmpv::decode::read_value(&mut opened.payload()).unwrap();
    assert_eq!(value(&map, "kind").as_str(), Some("tcp"));
    assert_eq!(
        value(&map, "peer").as_str(),
        Some(&*format!("127.0.0.1:{port}"))
    );
    let socket = opened.sender;
    for text in ["hello", "you"] {
        guest.send(socket, BYTES, text.as_bytes()).ok();
        let arrived = next(&guest, socket);
        assert_eq!((arrived.tag, arrived.payload()), (BYTES, text.as_bytes()));
    }
    // A write is acknowledged.
    guest.call(socket, BYTES, b"!", ROOM, 20_000).ok();
    assert_eq!(next(&guest, socket).payload(), b"!");
    guest.send(socket, END, b"").ok();
    assert_eq!(next(&guest, socket).tag, END);
    assert_eq!(code(&next(&guest, socket)), 1000);
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn what_arrives_may_be_read_on_request() {
    let port = server(echo);
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = alive(&node);
    let passive = [
        ("url", format!("tcp://127.0.0.1:{port}").into()),
        ("passive", true.into()),
    ];
    let socket = try_open(&guest, &passive).unwrap().sender;
    guest.send(socket, BYTES, b"hello").ok();
    let read = || guest.call(socket, READ, b"", ROOM, 20_000).ok();
    let part = read();
    assert_eq!((part.tag, part.payload()), (BYTES, &b"hello"[..]));
    // As many may wait as may be under way.
    let waiting: Vec<u64> = (0..8)
        .map(|_| guest.request(socket, READ, b"").ok().reference)
        .collect();
    let refused = read();
    assert_eq!(refused.tag, REFUSED, "{refused:?}");
    guest.send(socket, END, b"").ok();
    // The first has the end of one direction, the second that of the socket, and the others nothing.
    let replies: Vec<u32> = waiting.iter().map(|_| guest.wait().ok().tag).collect();
    assert_eq!(replies, [&[END, CLOSE][..], &[REFUSED; 6]].concat());
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn parts_that_are_read_wait_until_their_reader_has_room() {
    const PARTS: u8 = 20;
    let port = server(|stream| {
        let mut socket = accept(stream).unwrap();
        for n in 0..PARTS {
            socket.send(Message::Binary(vec![n; 900].into())).unwrap();
        }
        // Until the other side closes it.
        while socket.read().is_ok() {}
    });
    let (node, other) = node(&["127.0.0.1:*"]);
    let passive = [
        ("url", format!("ws://127.0.0.1:{port}").into()),
        ("passive", true.into()),
    ];
    let limits = Limits {
        mailbox_bytes: 3_500,
        ..granted(&["127.0.0.1:*"])
    };
    let slow = wasi::puppet(&node, limits);
    let mailbox = || {
        let pid = slow.pid.to_string();
        let all = node.processes(&exuvia_node::Filter::default());
        let found = all.into_iter().find(|process| process.pid == pid);
        found.unwrap().mailbox
    };
    let socket = try_open(&slow, &passive).unwrap().sender;
    let waiting: Vec<u64> = (0..8)
        .map(|_| slow.request(socket, READ, b"").ok().reference)
        .collect();
    eventually("three fit", || mailbox() == 3);
    // Another one is not held up, and reads more meanwhile.
    let socket_of_other = try_open(&other, &passive).unwrap().sender;
    for n in 0..PARTS {
        let part = other.call(socket_of_other, READ, b"", ROOM, 20_000).ok();
        assert_eq!(part.payload(), [n; 900]);
    }
    assert_eq!(mailbox(), 3, "no more than fit");
    // Nothing is lost, and the order stays.
    for (n, reference) in waiting.into_iter().enumerate() {
        let part = slow.receive(20_000, receive::REFERENCE, reference).ok();
        assert_eq!((part.tag, part.payload()), (BYTES, &[n as u8; 900][..]));
    }
    for n in 8..PARTS {
        let part = slow.call(socket, READ, b"", ROOM, 20_000).ok();
        assert_eq!((part.tag, part.payload()), (BYTES, &[n; 900][..]));
    }
    // One that has ended before it was known how to charge it, or before it had room, holds up no other.
    let socket = try_open(&other, &passive).unwrap().sender;
    let ending = guest(&node, &[]);
    ending.request(socket, READ, b"").ok();
    ending.kill();
    let part = other.call(socket, READ, b"", ROOM, 20_000).ok();
    assert!(matches!(part.payload(), [0 | 1, ..]), "{part:?}");
    // What never fits ends the socket, as one that is larger than a mailbox always does.
    let small = wasi::puppet(
        &node,
        Limits {
            mailbox_bytes: 800,
            ..granted(&["127.0.0.1:*"])
        },
    );
    let socket = try_open(&small, &passive).unwrap().sender;
    let closed = small.call(socket, READ, b"", ROOM, 20_000).ok();
    assert_eq!(code(&closed), 1009);
    node.halt();
}

#[test]
fn each_write_that_is_asked_about_has_one_answer_when_the_socket_is_lost() {
    let begin = Arc::new(Barrier::new(2));
    let ends = begin.clone();
    let port = server(move |stream| {
        ends.wait();
        // With what it has not read: the connection is reset.
        drop(stream);
    });
    let limits = Limits {
        mailbox_bytes: 1 << 20,
        ..granted(&["127.0.0.1:*"])
    };
    let node = guests::node_with(|config| config.limits = limits);
    guests::deploy(&node, "puppet", &puppet::text(1));
    node.serve_outbound().unwrap();
    let guest = guest(&node, &["127.0.0.1:*"]);
    let socket = open(&guest, &format!("tcp://127.0.0.1:{port}"));
    let mut unanswered = HashSet::new();
    loop {
        let asked = guest.request(socket, BYTES, &[7; 1_000]);
        if asked.result != 0 {
            asked.is(Code::MailboxFull);
            break;
        }
        assert!(unanswered.insert(asked.reference));
        assert!(unanswered.len() < 32_000, "all are taken");
    }
    begin.wait();
    let (mut written, mut refused) = (0, 0);
    let mut is_told = false;
    while !unanswered.is_empty() {
        let message = guest.wait().ok();
        if message.kind == Kind::Request as u32 {
            assert_eq!(code(&message), 1006);
            is_told = true;
            continue;
        }
        assert_eq!(message.kind, Kind::Reply as u32, "{message:?}");
        assert!(unanswered.remove(&message.message), "{message:?}");
        match message.tag {
            0 => written += 1,
            REFUSED => refused += 1,
            other => panic!("{other}: {message:?}"),
        }
    }
    // Before the process of the socket has ended: it waits for the answer to its end.
    assert!(is_told || node.system().is_alive(socket));
    assert!(written > 64 && refused > 64, "{written} and {refused}");
    node.halt();
}

#[test]
fn a_websocket_is_opened_and_closed_by_either_side() {
    #[expect(clippy::result_large_err, reason = "the crate's")]
    fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        assert_eq!(request.headers()["x-one"], "yes");
        assert_eq!(request.headers()["sec-websocket-protocol"], "xml, json");
        assert_eq!(request.uri().path(), "/feed");
        let headers = response.headers_mut();
        headers.insert("sec-websocket-protocol", "json".parse().unwrap());
        Ok(response)
    }
    let (ended, ends) = mpsc::channel();
    let port = server(move |stream| {
        let mut socket = accept_hdr(stream, choose).unwrap();
        loop {
            match socket.read() {
                Ok(Message::Text(text)) if text == "close" => {
                    let frame = CloseFrame {
                        code: 3001.into(),
                        reason: "enough".into(),
                    };
                    socket.close(Some(frame)).unwrap();
                }
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).unwrap();
                }
                Ok(Message::Close(frame)) => ended.send(frame).unwrap(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = alive(&node);
    let pair = |name: &str, value: &str| Value::Array(vec![name.into(), value.into()]);
    let map = [
        ("url", Value::from(format!("ws://127.0.0.1:{port}/feed"))),
        ("protocols", Value::Array(vec!["xml".into(), "json".into()])),
        (
            "headers",
            Value::Array(vec![
                pair("x-one", "yes"),
                pair("sec-websocket-key", "mine"),
            ]),
        ),
        ("message_bytes", 500.into()),
    ];
    let opened = try_open(&guest, &map).unwrap();
    let head = rmpv::decode::read_value(&mut opened.payload()).unwrap();
    assert_eq!(value(&head, "kind").as_str(), Some("websocket"));
    assert_eq!(value(&head, "protocol").as_str(), Some("json"));
    let socket = opened.sender;
    for (tag, payload) in [(TEXT, "hello"), (BYTES, "bytes")] {
        guest.send(socket, tag, payload.as_bytes()).ok();
        let arrived = next(&guest, socket);
        assert_eq!((arrived.tag, arrived.payload()), (tag, payload.as_bytes()));
    }
    guest.send(socket, TEXT, b"close").ok();
    assert_eq!(code(&next(&guest, socket)), 3001);
    eventually("nothing is left", || alive(&node) == before);
    // A message that is too large, and an end that the guest wants.
    let socket = try_open(&guest, &map).unwrap().sender;
    guest.send(socket, BYTES, &[7; 501]).ok();
    assert_eq!(code(&next(&guest, socket)), 1009);
    let socket = try_open(&guest, &map).unwrap().sender;
    guest
        .send(
            socket,
            CLOSE,
            &pack(&[("code", 3002.into()), ("reason", "done".into())]),
        )
        .ok();
    assert_eq!(code(&next(&guest, socket)), 3002);
    eventually("nothing is left", || alive(&node) == before);
    let codes: Vec<u16> = ends
        .try_iter()
        .flatten()
        .map(|frame| frame.code.into())
        .collect();
    assert_eq!(codes, [3001, 1009, 3002], "what the server was told");
    node.halt();
}

#[test]
fn what_is_not_granted_is_not_connected_to() {
    let (connected, connections) = mpsc::channel();
    let port = server(move |_| connected.send(()).unwrap());
    let (node, nothing) = node(&[]);
    let denied = |guest: &Puppet, url: &str, why: &str| {
        let error = try_open(guest, &[("url", url.into())]).unwrap_err();
        assert!(
            error.starts_with("denied: ") && error.contains(why),
            "{url}: {error}"
        );
    };
    let by_name = guest(&node, &["localhost:*", "*.example.com:443"]);
    let other_port = guest(&node, &[&format!("127.0.0.1:{}", port ^ 1)]);
    for scheme in ["tcp", "tls", "ws", "wss", "udp"] {
        let (address, name) = (
            format!("{scheme}://127.0.0.1:{port}"),
            format!("{scheme}://localhost:{port}"),
        );
        denied(&nothing, &address, "127.0.0.1");
        denied(&by_name, &address, "127.0.0.1");
        // A name is checked, and also where it leads to.
        denied(&by_name, &name, "not public");
        denied(&other_port, &address, "127.0.0.1");
    }
    assert!(connections.try_recv().is_err(), "nothing was connected to");
    node.halt();
}

#[test]
fn what_goes_wrong_is_said() {
    let http = Server::start();
    let silent = server(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let plain = server(|mut stream| {
        let _ = stream.write_all(b"hello, who are you?\r\n\r\n");
    });
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (node, guest) = node(&["127.0.0.1:*", "*.invalid:*"]);
    let before = alive(&node);
    for (url, error) in [
        (
            "tcp://127.0.0.1".to_owned(),
            "invalid: `tcp://127.0.0.1/` has no port",
        ),
        ("http://127.0.0.1/".to_owned(), "invalid: "),
        ("not a url".to_owned(), "invalid: "),
        (
            "tcp://nowhere.invalid:80".to_owned(),
            "resolve: `nowhere.invalid`",
        ),
        (format!("tcp://{closed}"), "connect: "),
        (
            format!("tls://127.0.0.1:{plain}"),
            "connect: tls: 127.0.0.1:",
        ),
        (
            format!("ws://127.0.0.1:{plain}"),
            "connect: the server opens no WebSocket",
        ),
        (
            format!("ws://{}/none", http.address),
            "connect: the server opens no WebSocket: it has responded with 404",
        ),
        (format!("ws://127.0.0.1:{silent}"), "timeout: "),
        (format!("tls://127.0.0.1:{silent}"), "timeout: "),
    ] {
        let map = [
            ("url", Value::from(url.as_str())),
            ("timeout_ms", 1_000.into()),
        ];
        let found = try_open(&guest, &map).unwrap_err();
        assert!(found.starts_with(error), "{url}: {found}");
    }
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_server_that_never_reads_slows_only_who_writes_to_it() {
    let lazy = server(|stream| {
        std::thread::park_timeout(Duration::from_secs(60));
        drop(stream);
    });
    let port = server(echo);
    // What waits for a socket is bounded by the mailbox of its process.
    let limits = Limits {
        mailbox_bytes: 1 << 20,
        ..granted(&["127.0.0.1:*"])
    };
    let node = guests::node_with(|config| config.limits = limits);
    guests::deploy(&node, "puppet", &puppet::text(1));
    node.serve_outbound().unwrap();
    let guest = guest(&node, &["127.0.0.1:*"]);
    let before = alive(&node);
    let map = [
        ("url", Value::from(format!("tcp://127.0.0.1:{lazy}"))),
        ("timeout_ms", 3_000.into()),
    ];
    let stuck = try_open(&guest, &map).unwrap().sender;
    let other = open(&guest, &format!("tcp://127.0.0.1:{port}"));
    let piece = [7; 1_000];
    let mut sent = 0_usize;
    while guest.send(stuck, BYTES, &piece).result == 0 {
        sent += piece.len();
        assert!(sent < 32 << 20, "{sent} bytes were taken");
    }
    guest.send(stuck, BYTES, &piece).is(Code::MailboxFull);
    guest.send(other, BYTES, b"hello").ok();
    assert_eq!(next(&guest, other).payload(), b"hello");
    // It is cut off in the end.
    assert_eq!(code(&next(&guest, stuck)), 1006);
    guest.send(other, CLOSE, b"").ok();
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_server_that_vanishes_and_an_owner_that_ends_leave_nothing() {
    let port = server(|mut stream| {
        let _ = stream.read(&mut [0; 5]);
        let _ = stream.shutdown(Shutdown::Both);
    });
    let (gone, goes) = mpsc::channel();
    let waiting = server(move |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        gone.send(()).unwrap();
    });
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = alive(&node);
    let socket = open(&guest, &format!("tcp://127.0.0.1:{port}"));
    guest.send(socket, BYTES, b"hello").ok();
    assert_eq!(next(&guest, socket).tag, END);
    guest.send(socket, CLOSE, b"").ok();
    eventually("nothing is left", || alive(&node) == before);
    let socket = open(&guest, &format!("tcp://127.0.0.1:{waiting}"));
    // A monitor of it says how it has ended.
    guest.on("monitor", socket).ok();
    guest.on("kill", socket).ok();
    let down = guest.wait();
    assert_eq!((down.sender, down.kind), (socket, Kind::Down as u32));
    goes.recv_timeout(Duration::from_secs(20)).unwrap();
    open(&guest, &format!("tcp://127.0.0.1:{waiting}"));
    guest.kill();
    goes.recv_timeout(Duration::from_secs(20)).unwrap();
    eventually("nothing is left", || alive(&node) == before - 1);
    node.halt();
}

#[test]
fn sockets_count_as_requests_do() {
    let http = Server::start();
    let port = server(echo);
    let (node, greedy) = node(&["127.0.0.1:*"]);
    let other = guest(&node, &["127.0.0.1:*"]);
    let client = node.find("exuvia.http").unwrap();
    let socket = open(&greedy, &format!("tcp://127.0.0.1:{port}"));
    let bytes = pack(&[("url", http.url("/silent").into())]);
    for _ in 0..999 {
        greedy.request(client, 0xffff_ff10, &bytes).ok();
    }
    let url = format!("tcp://127.0.0.1:{port}");
    let error = try_open(&greedy, &[("url", url.as_str().into())]).unwrap_err();
    assert!(error.starts_with("limit: 1000 "), "{error}");
    open(&other, &url);
    greedy.send(socket, CLOSE, b"").ok();
    eventually("there is room for one", || {
        try_open(&greedy, &[("url", url.as_str().into())]).is_ok()
    });
    node.halt();
}

#[test]
fn datagrams_are_dropped_and_counted_when_nobody_acknowledges_them() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = alive(&node);
    let map = [
        (
            "url",
            Value::from(format!("udp://{}", server.local_addr().unwrap())),
        ),
        ("idle_ms", 1_500.into()),
    ];
    let opened = try_open(&guest, &map).unwrap();
    let socket = opened.sender;
    guest.send(socket, BYTES, b"hello").ok();
    guest.send(socket, BYTES, b"").ok();
    let mut bytes = [0; 100];
    let (count, peer) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"hello");
    assert_eq!(
        server.recv_from(&mut bytes).unwrap(),
        (0, peer),
        "an empty one"
    );
    server.send_to(b"you", peer).unwrap();
    let arrived = next(&guest, socket);
    assert_eq!((arrived.tag, arrived.payload()), (BYTES, &b"you"[..]));
    let large = guest.call(socket, BYTES, &[7; 1_900], ROOM, 20_000).ok();
    assert_eq!(large.tag, 0, "it is sent");
    // From another address nothing arrives.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"evil", peer).unwrap();
    for n in 0..50_u8 {
        server.send_to(&[n], peer).unwrap();
    }
    // Eight are unanswered at a time; the others are lost.
    let first: Vec<Done> = (0..8).map(|_| guest.wait()).collect();
    let closed = guest.wait();
    for (n, message) in first.iter().enumerate() {
        assert_eq!(
            (message.sender, message.payload()),
            (socket, &[n as u8][..])
        );
        guest.reply(socket, message.message, 0, b"").ok();
    }
    assert_eq!(code(&closed), 1006, "it was idle");
    let map = rmpv::decode::read_value(&mut closed.payload()).unwrap();
    assert_eq!(value(&map, "lost").as_u64(), Some(42));
    guest.reply(socket, closed.message, 0, b"").ok();
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

/// A guest that counts messages at 16, and has the process whose pid is at 24 connect it to the URL of the message. `then`
/// happens afterwards.
fn connects(then: &str) -> String {
    format!(
        r#"(module {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 1024) (i32.const 4096) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (if (i32.eq (i32.load (i32.const 96)) (i32.const 7)) (then
          (drop (call $request (i32.const 1024) (i32.const 0xffffff14) (i32.const 1040)
            (i32.sub (i32.load (i32.const 100)) (i32.const 16)) (i32.const 200)))
          {then}))
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 16) (i32.const 8)))))
      (br $next))
    unreachable)
  {state})"#,
        imports = imports(),
        state = STATE
            .replace("$put", "$state_put")
            .replace("$get", "$state_get"),
    )
}

#[test]
fn a_trap_in_probation_undoes_what_was_to_be_connected() {
    let (connected, connections) = mpsc::channel();
    let port = server(move |mut stream| {
        connected.send(()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (node, _) = node(&[]);
    let code = |then: &str| vec![module("one", &connects(then))];
    node.deploy(code(""), DeployOptions::default()).unwrap();
    let options = exuvia_node::SpawnOptions {
        limits: Some(granted(&["127.0.0.1:*"])),
        ..exuvia_node::SpawnOptions::default()
    };
    let pid = node.spawn("one", b"", &options).unwrap();
    let client = node.find("exuvia.http").unwrap();
    let url = pack(&[("url", format!("tcp://127.0.0.1:{port}").into())]);
    let ask = |tag: u32| {
        let payload = [&client.to_bytes()[..], &url].concat();
        node.call(pid, tag, payload, Duration::from_secs(20))
            .unwrap();
    };
    ask(0);
    // New code connects and traps. Old code, which gets the message again, connects: once.
    node.deploy(code("unreachable"), DeployOptions::default())
        .unwrap();
    ask(7);
    connections.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(
        connections
            .recv_timeout(Duration::from_millis(300))
            .is_err()
    );
    // New code that does not trap connects when its handler has returned.
    node.deploy(code("(drop (i32.const 1))"), DeployOptions::default())
        .unwrap();
    ask(7);
    connections.recv_timeout(Duration::from_secs(20)).unwrap();
    node.halt();
}
