//! WebSockets, streamed responses and TCP: what a process and a client send each other, and how each of them ends.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, DeployOptions};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Message, client};

use crate::guests::{STATE, boot_options, eventually, imports, module};

/// How long a test waits for bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest that accepts WebSockets and returns what it gets, with `version` behind it. It counts what it gets, at 16,
/// and how often a socket was closed, at 20. These first bytes are commands:
///
/// - `!` traps, `.` closes with 3001 and "enough", `#` returns both counts as digits, `-` is not answered;
/// - `~` sends messages of 1,000 bytes until its peer's mailbox is full, then returns their number as four digits.
pub(crate) fn echo(version: &str) -> String {
    let close = b"\x82\xa4code\xcd\x0b\xb9\xa6reason\xa6enough";
    guest(
        &[(256, close.to_vec()), (300, version.as_bytes().to_vec())],
        "0xffffff13",
        "",
        &format!(
            r#"
        (if (i32.eq (local.get $tag) (i32.const 0xffffff18)) (then
          (i32.store (i32.const 20) (i32.add (i32.load (i32.const 20)) (i32.const 1)))
          (br $answered)))
        (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
        (local.set $first (i32.load8_u (i32.const 1024)))
        (if (i32.eq (local.get $first) (i32.const 33)) (then unreachable))
        (br_if $next (i32.eq (local.get $first) (i32.const 45)))
        (if (i32.eq (local.get $first) (i32.const 46)) (then
          (drop (call $send (i32.const 72) (i32.const 0xffffff18) (i32.const 256) (i32.const {close})))
          (br $answered)))
        (if (i32.eq (local.get $first) (i32.const 35)) (then
          (i32.store8 (i32.const 1024) (i32.add (i32.load (i32.const 16)) (i32.const 48)))
          (i32.store8 (i32.const 1025) (i32.add (i32.load (i32.const 20)) (i32.const 48)))
          (i32.store (i32.const 100) (i32.const 2))))
        (if (i32.eq (local.get $first) (i32.const 126)) (then
          (local.set $first (i32.const 0))
          (block $full (loop $more
            (br_if $full (call $send (i32.const 72) (i32.const 0xffffff16) (i32.const 100000) (i32.const 1000)))
            (local.set $first (i32.add (local.get $first) (i32.const 1)))
            (br $more)))
          (i32.store (i32.const 24) (local.get $first))
          (br $answered)))
        (memory.copy (i32.add (i32.const 1024) (i32.load (i32.const 100))) (i32.const 300) (i32.const {version}))
        (drop (call $send (i32.const 72) (local.get $tag) (i32.const 1024)
          (i32.add (i32.load (i32.const 100)) (i32.const {version}))))"#,
            close = close.len(),
            version = version.len(),
        ),
    )
}

/// A guest that responds in parts.
fn parts() -> String {
    let end = b"\x81\xa8trailers\x91\x92\xa5x-end\xa3yes";
    let head = b"\x82\xa6status\xcc\xc8\xa7headers\x91\x92\xa7trailer\xa5x-endfirst,";
    guest(
        &[
            (200, head.to_vec()),
            (256, end.to_vec()),
            (300, b"one,two,".to_vec()),
        ],
        "0xffffff12",
        &format!(
            r#"
        (drop (call $send (i32.const 72) (i32.const 0xffffff16) (i32.const 300) (i32.const 4)))
        (drop (call $send (i32.const 72) (i32.const 0xffffff16) (i32.const 304) (i32.const 4)))
        (drop (call $send (i32.const 72) (i32.const 0xffffff17) (i32.const 256) (i32.const {})))"#,
            end.len()
        ),
        "",
    )
}

/// A guest that begins a response in parts, and then does this.
fn begins(then: &str) -> String {
    let head = b"\x81\xa6status\xcc\xc8first,";
    guest(&[(200, head.to_vec())], "0xffffff12", then, "")
}

/// A guest that begins server-sent events.
fn events() -> String {
    let head =
        b"\x82\xa6status\xcc\xc8\xa7headers\x91\x92\xaccontent-type\xb1text/event-streamfirst,";
    guest(&[(200, head.to_vec())], "0xffffff12", "", "")
}

/// A guest that replies to requests of HTTP with a tag and what lies at 200, runs `on_open` for each socket that is
/// open, and `on_request` for what arrives there, which it then acknowledges.
pub(crate) fn guest(data: &[(u32, Vec<u8>)], tag: &str, on_open: &str, on_request: &str) -> String {
    let mut segments = String::new();
    let mut head = 0;
    for (at, bytes) in data {
        write!(segments, "(data (i32.const {at}) \"").unwrap();
        for byte in bytes {
            write!(segments, "\\{byte:02x}").unwrap();
        }
        segments += "\")\n  ";
        if *at == 200 {
            head = bytes.len();
        }
    }
    format!(
        r#"(module {imports}
  (memory (export "memory") 4)
  (global (export "exuvia_abi") i32 (i32.const 1))
  {segments}
  (func (export "run") (result i32) (local $tag i32) (local $first i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 1024) (i32.const 131072) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (local.set $tag (i32.load (i32.const 96)))
      (if (i32.and (i32.eq (i32.load (i32.const 68)) (i32.const 2)) (i32.eq (local.get $tag) (i32.const 0xffffff14)))
        (then {on_open}))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (if (i32.eq (local.get $tag) (i32.const 0xffffff10)) (then
          (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const {tag}) (i32.const 200) (i32.const {head})))
          (br $next)))
        (block $answered {on_request})
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 0) (i32.const 0)))))
      (br $next))
    unreachable)
  {state})"#,
        imports = imports(),
        state = STATE
            .replace("$put", "$state_put")
            .replace("$get", "$state_get"),
    )
}

const LISTEN: &str = r#"
[[supervisor.children]]
id = "room"
name = "room"
module = "echo"
[[listen]]
address = "127.0.0.1:0"
timeout = "2s"
idle = "10s"
body = "64KiB"
[[listen.routes]]
path = "/room"
name = "room"
[[listen.routes]]
path = "/each"
module = "echo"
[[listen.routes]]
path = "/key/{id}"
module = "echo"
per = "key"
key = "key:{id}"
idle = "1ms"
[[listen.routes]]
path = "/parts"
module = "parts"
[[listen.routes]]
path = "/cut"
module = "cut"
[[listen.routes]]
path = "/events"
module = "events"
[[listen.routes]]
path = "/endless"
module = "endless"
[[listen]]
address = "127.0.0.1:0"
protocol = "tcp"
module = "echo"
timeout = "2s"
"#;

/// Boots an app. Returns the addresses of HTTP and of TCP.
fn boot() -> (App, SocketAddr, SocketAddr) {
    boot_with(LISTEN)
}

fn boot_with(listen: &str) -> (App, SocketAddr, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "[app]\nname = \"test\"\n".to_owned();
    for (name, guest) in [
        ("echo", echo("")),
        ("parts", parts()),
        ("cut", begins("unreachable")),
        ("events", events()),
        ("endless", begins("")),
    ] {
        let wasm = wat::parse_str(guest).unwrap_or_else(|error| panic!("{error}"));
        std::fs::write(folder.path().join(name).with_extension("wasm"), wasm).unwrap();
        writeln!(text, "[modules.{name}]\npath = \"{name}.wasm\"").unwrap();
    }
    text += listen;
    std::fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let addresses = app.node().addresses();
    (app, addresses[0], addresses[1])
}

fn alive(app: &App) -> usize {
    app.node().system().table.alive()
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn socket(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://{address}{path}");
    let (socket, response) = client(url, connected(address)).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

fn ask(socket: &mut WebSocket<TcpStream>, text: &str) -> String {
    socket.send(text.into()).unwrap();
    match socket.read().unwrap() {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Reads until the other side closes; returns its code and its reason.
fn closed(socket: &mut WebSocket<TcpStream>) -> (u16, String) {
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => {
                return (frame.code.into(), frame.reason.to_string());
            }
            Ok(Message::Close(None)) => return (1005, String::new()),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_socket_belongs_to_a_process() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let mut first = socket(http, "/room");
    let mut second = socket(http, "/room");
    assert_eq!(ask(&mut first, "hello"), "hello");
    assert_eq!(ask(&mut second, "you"), "you");
    assert_eq!(ask(&mut first, "#"), "30", "one process has both");
    assert_eq!(alive(&app), before + 2, "and each socket is a process");
    first.send(Message::Binary(vec![0xff; 3].into())).unwrap();
    assert_eq!(first.read().unwrap(), Message::Binary(vec![0xff; 3].into()));
    first.send(Message::Ping(vec![7].into())).unwrap();
    assert_eq!(first.read().unwrap(), Message::Pong(vec![7].into()));
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "done".into(),
    };
    first.close(Some(frame)).unwrap();
    assert_eq!(closed(&mut first), (1000, "done".into()));
    eventually("the process knows it", || {
        ask(&mut second, "#").ends_with('1')
    });
    drop(second);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_process_that_was_started_for_a_socket_ends_with_it() {
    let (app, http, _) = boot();
    let before = alive(&app);
    for path in ["/each", "/key/7"] {
        let mut socket = socket(http, path);
        assert_eq!(ask(&mut socket, "#"), "10", "{path}");
        assert_eq!(alive(&app), before + 2);
        // A key is not idle as long as it has a socket.
        std::thread::park_timeout(Duration::from_millis(1200));
        assert_eq!(ask(&mut socket, "#"), "20", "{path}");
        socket.close(None).unwrap();
        closed(&mut socket);
        eventually(path, || alive(&app) == before);
    }
    app.stop(PATIENCE);
}

#[test]
fn a_socket_outlives_a_swap() {
    let (app, http, _) = boot();
    let mut sockets: Vec<_> = ["/room", "/each", "/key/1"]
        .map(|path| socket(http, path))
        .into();
    for version in ["", "two", "three"] {
        if !version.is_empty() {
            app.node()
                .deploy(
                    vec![module("echo", &echo(version))],
                    DeployOptions::default(),
                )
                .unwrap();
        }
        for socket in &mut sockets {
            assert_eq!(ask(socket, "hello"), format!("hello{version}"));
        }
    }
    for socket in &mut sockets {
        assert_eq!(ask(socket, "#"), "40three", "the count was kept");
    }
    app.stop(PATIENCE);
}

#[test]
fn a_trap_in_probation_is_not_seen_by_the_client() {
    let (app, http, _) = boot();
    let mut socket = socket(http, "/room");
    assert_eq!(ask(&mut socket, "hello"), "hello");
    // New code traps for each message; old code gets it again.
    let traps = echo("new").replace(
        "(local.set $first (i32.load8_u (i32.const 1024)))",
        "unreachable",
    );
    app.node()
        .deploy(vec![module("echo", &traps)], DeployOptions::default())
        .unwrap();
    for n in 0..5 {
        let text = format!("message {n}");
        assert_eq!(ask(&mut socket, &text), text);
    }
    app.stop(PATIENCE);
}

#[test]
fn the_end_of_a_process_closes_its_sockets() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let mut socket_of_room = socket(http, "/room");
    socket_of_room.send("!".into()).unwrap();
    assert_eq!(
        closed(&mut socket_of_room),
        (1011, "the process has failed".into())
    );
    let mut own = socket(http, "/each");
    own.send(".".into()).unwrap();
    assert_eq!(closed(&mut own), (3001, "enough".into()));
    drop((socket_of_room, own));
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn killing_the_process_of_a_socket_cuts_it() {
    let (app, http, _) = boot();
    let node = app.node();
    let mut socket = socket(http, "/room");
    assert_eq!(ask(&mut socket, "#"), "10");
    let processes = node.processes(&exuvia_node::Filter::default());
    let port = processes
        .iter()
        .rfind(|info| info.module.is_none())
        .unwrap();
    node.kill(node.find(&port.pid).unwrap());
    assert!(matches!(
        socket.read(),
        Err(Error::Io(_) | Error::Protocol(_) | Error::ConnectionClosed)
    ));
    app.stop(PATIENCE);
}

/// A frame as a client sends it: masked with zeroes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn broken_frames_close_a_socket_with_the_code_that_says_why() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let unmasked = vec![0x81, 2, b'h', b'i'];
    let large_in_parts: Vec<u8> = (0..3)
        .flat_map(|n| frame(if n == 0 { 0x02 } else { 0 }, &[b'x'; 40_000]))
        .collect();
    for (what, bytes, code) in [
        ("not masked", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"hi"), 1002),
        ("a reserved opcode", frame(0x83, b"hi"), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        ("a ping in parts", frame(0x09, b""), 1002),
        ("a continuation of nothing", frame(0x80, b"hi"), 1002),
        ("no UTF-8", frame(0x81, b"\xff"), 1007),
        ("too large", frame(0x82, &[b'x'; 65_535][..]), 0),
        ("too large in parts", large_in_parts, 1009),
    ] {
        let mut socket = socket(http, "/room");
        socket.get_mut().write_all(&bytes).unwrap();
        if code == 0 {
            // Just not.
            assert!(socket.read().unwrap().is_binary(), "{what}");
            continue;
        }
        assert_eq!(closed(&mut socket).0, code, "{what}");
    }
    let mut in_parts = socket(http, "/room");
    let bytes = [frame(0x01, b"he"), frame(0x89, b"?"), frame(0x80, b"llo")].concat();
    in_parts.get_mut().write_all(&bytes).unwrap();
    assert_eq!(in_parts.read().unwrap(), Message::Pong("?".into()));
    assert_eq!(in_parts.read().unwrap(), Message::Text("hello".into()));
    drop(in_parts);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let (app, http, tcp) = boot();
    let before = alive(&app);
    for path in ["/room", "/each", "/key/2"] {
        let mut socket = socket(http, path);
        assert_eq!(ask(&mut socket, "hello"), "hello");
        socket.get_mut().shutdown(Shutdown::Both).unwrap();
        eventually(path, || alive(&app) == before);
        // Before the handshake is complete.
        let mut stream = connected(http);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        drop(stream);
        eventually(path, || alive(&app) == before);
    }
    let mut stream = connected(tcp);
    stream.write_all(b"hello").unwrap();
    drop(stream);
    eventually("tcp", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_slow_client_slows_only_its_own_process() {
    let (app, http, _) = boot();
    let mut slow = socket(http, "/each");
    // It sends until the mailbox of the connection is full, and the client reads nothing.
    slow.send("~".into()).unwrap();
    let mut other = socket(http, "/each");
    for _ in 0..100 {
        assert_eq!(ask(&mut other, "hello"), "hello");
    }
    // Now it reads: all that was accepted is there.
    slow.send("end".into()).unwrap();
    let mut messages = 0;
    loop {
        match slow.read().unwrap() {
            Message::Binary(bytes) => {
                assert_eq!(bytes.len(), 1000);
                messages += 1;
            }
            Message::Text(text) => {
                assert_eq!(text.as_str(), "end");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(messages > 100, "{messages}");
    app.stop(PATIENCE);
}

#[test]
fn a_process_that_does_not_acknowledge_gets_no_more() {
    let (app, http, _) = boot();
    let mut socket = socket(http, "/room");
    for _ in 0..8 {
        socket.send("-".into()).unwrap();
    }
    socket.send("#".into()).unwrap();
    socket
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let nothing = socket.read().unwrap_err();
    assert!(
        matches!(&nothing, Error::Io(error) if error.kind() == ErrorKind::WouldBlock),
        "{nothing}"
    );
    // Another one of the same process has its own credit, and sees that eight have arrived.
    let mut other = self::socket(http, "/room");
    assert_eq!(ask(&mut other, "#"), "90");
    app.stop(PATIENCE);
}

#[test]
fn what_is_larger_than_the_mailbox_of_its_owner_closes_a_socket() {
    let tiny = r#"
[modules.tiny]
path = "echo.wasm"
[modules.tiny.limits]
mailbox_bytes = "4KiB"
[[listen]]
address = "127.0.0.1:0"
[[listen.routes]]
path = "/tiny"
module = "tiny"
[[listen]]
address = "127.0.0.1:0"
protocol = "tcp"
module = "tiny"
"#;
    let (app, ..) = boot_with(&format!("{LISTEN}{tiny}"));
    let before = alive(&app);
    let (http, tcp) = (app.node().addresses()[2], app.node().addresses()[3]);
    let mut socket = socket(http, "/tiny");
    assert_eq!(ask(&mut socket, "hello"), "hello");
    socket
        .send(Message::Binary(vec![7; 20_000].into()))
        .unwrap();
    let why = "the message is larger than the mailbox of the process";
    assert_eq!(closed(&mut socket), (1009, why.into()));
    // All at once: as much is read.
    let mut stream = connected(tcp);
    stream.write_all(&[7; 16_000]).unwrap();
    let mut echoed = Vec::new();
    // It is cut off, or closed; not left open until the time to read is over.
    let ended = stream
        .read_to_end(&mut echoed)
        .map_err(|error| error.kind());
    assert!(
        !matches!(ended, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "{ended:?}"
    );
    assert!(echoed.len() < 16_000, "{}", echoed.len());
    drop((socket, stream));
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_node_that_stops_says_goodbye() {
    let (app, http, _) = boot();
    let mut socket = socket(http, "/room");
    assert_eq!(ask(&mut socket, "hello"), "hello");
    let stopping = std::thread::spawn(move || app.stop(PATIENCE));
    assert_eq!(closed(&mut socket), (1001, "the node stops".into()));
    drop(socket);
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
}

/// A node whose sockets are closed at this rate, and clients with sockets.
fn crowd(count: usize, drain_per_s: u32) -> (App, Vec<WebSocket<TcpStream>>) {
    let (app, http, _) = boot_with(&format!("[node]\ndrain_per_s = {drain_per_s}\n{LISTEN}"));
    let sockets = (0..count).map(|_| socket(http, "/room"));
    let sockets = sockets.collect();
    (app, sockets)
}

#[test]
fn a_node_that_stops_closes_its_sockets_in_batches() {
    // They take six seconds.
    let (app, mut sockets) = crowd(120, 20);
    let alive = app.node().clone();
    let stopping = std::thread::spawn(move || app.stop(PATIENCE * 3));
    let goodbye = (1001, "the node stops".to_owned());
    assert_eq!(closed(&mut sockets[0]), goodbye);
    // The last one still has its process, and all that it had before.
    let last = sockets.last_mut().unwrap();
    assert_eq!(ask(last, "hello"), "hello");
    assert!(alive.system().table.alive() > 60, "most are still open");
    for socket in &mut sockets[1..] {
        assert_eq!(closed(socket), goodbye);
    }
    drop(sockets);
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn all_sockets_are_closed_in_time_however_many_there_are() {
    // One in a second: more than there is time for.
    let (app, mut sockets) = crowd(200, 1);
    let stopping = std::thread::spawn(move || app.stop(Duration::from_secs(8)));
    for socket in &mut sockets {
        assert_eq!(closed(socket), (1001, "the node stops".into()));
    }
    drop(sockets);
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
}

/// Makes a request and reads the response to its end.
fn response(address: SocketAddr, request: &str) -> String {
    let mut stream = connected(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn a_handshake_is_checked_before_a_process_is_asked() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let ask = |headers: &str| {
        response(
            http,
            &format!(
                "GET /each HTTP/1.1\r\nhost: a.com\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n{headers}\r\n\r\n"
            ),
        )
    };
    let key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    assert!(ask("sec-websocket-version: 8").starts_with("HTTP/1.1 426 "));
    assert!(ask("sec-websocket-version: 13").starts_with("HTTP/1.1 400 "));
    assert!(ask(&format!("{key}\r\norigin: https://evil.com")).starts_with("HTTP/1.1 403 "));
    // Who asks for no WebSocket gets none.
    let plain = response(
        http,
        "GET /room HTTP/1.1\r\nhost: a.com\r\nconnection: close\r\n\r\n",
    );
    assert!(plain.starts_with("HTTP/1.1 500 "), "{plain}");
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_response_comes_in_parts() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let request = "GET /parts HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n";
    let response = response(http, request);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let text: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert!(text.starts_with("first,one,two,"), "{body}");
    assert!(body.ends_with("0\r\nx-end: yes\r\n\r\n"), "{body:?}");
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_response_whose_process_fails_is_cut_off() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let response = response(
        http,
        "GET /cut HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    // What was not sent yet may be lost with it.
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(
        !response.ends_with("0\r\n\r\n"),
        "it looks complete: {response:?}"
    );
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_response_that_never_ends_does_not_hold_up_the_node() {
    let (app, http, _) = boot();
    let mut stream = begun(http, "/events");
    let stopping = std::thread::spawn(move || app.stop(PATIENCE));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0\r\n\r\n", "it ends in order");
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn a_response_that_a_stop_cuts_off_does_not_look_complete() {
    let (app, http, _) = boot();
    let mut stream = begun(http, "/endless");
    let stopping = std::thread::spawn(move || app.stop(Duration::from_secs(2)));
    let mut rest = Vec::new();
    // It may be reset.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"", "no end");
    let report = stopping.join().unwrap();
    assert!(report.orderly, "{report:?}");
}

/// Makes a request and reads the beginning of the response.
fn begun(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connected(address);
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first,\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream
}

#[test]
fn a_response_may_take_longer_than_any_time_of_a_connection() {
    let short = LISTEN.replace(
        "timeout = \"2s\"\nidle = \"10s\"",
        "timeout = \"100ms\"\nreading = \"100ms\"\nidle = \"100ms\"",
    );
    let (app, http, _) = boot_with(&short);
    let mut stream = connected(http);
    // A byte of the next request lies there all the time.
    stream
        .write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\nG")
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(1_500)))
        .unwrap();
    let mut seen = Vec::new();
    let error = stream.read_to_end(&mut seen).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is still open");
    assert!(
        seen.ends_with(b"first,\r\n"),
        "{}",
        String::from_utf8_lossy(&seen)
    );
    drop(stream);
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_goes_while_much_waits_for_it_leaves_nothing() {
    let (app, http, tcp) = boot();
    let before = alive(&app);
    let mut slow = socket(http, "/each");
    slow.send("~".into()).unwrap();
    let mut other = socket(http, "/each");
    assert_eq!(ask(&mut other, "hello"), "hello");
    slow.get_mut().shutdown(Shutdown::Both).unwrap();
    drop((slow, other));
    let mut stream = connected(tcp);
    stream.write_all(b"~").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(stream);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let (app, http, tcp) = boot();
    let before = alive(&app);
    let mut slow = socket(http, "/each");
    slow.send("~".into()).unwrap();
    let mut stream = connected(tcp);
    stream.write_all(b"~").unwrap();
    // Both are there, and read nothing.
    eventually("nothing is left", || alive(&app) == before);
    drop((slow, stream));
    app.stop(PATIENCE);
}

#[test]
fn a_flood_of_pings_is_read_no_faster_than_it_is_answered() {
    let (app, http, _) = boot();
    let before = alive(&app);
    let mut flood = socket(http, "/room");
    let stream = flood.get_mut();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let pings = frame(0x89, &[b'x'; 125]).repeat(1_000);
    let blocked = (0..1_000).find_map(|_| stream.write_all(&pings).err());
    assert!(
        blocked.is_some(),
        "131 MB of pings were read, and no answer was"
    );
    eventually("it is cut off", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn tcp_is_bytes_in_order_and_each_side_ends_for_itself() {
    let (app, _, tcp) = boot();
    let before = alive(&app);
    let mut stream = connected(tcp);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    // The guest returns the end as well.
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(
        received == sent,
        "{} bytes of {}",
        received.len(),
        sent.len()
    );
    drop(stream);
    eventually("nothing is left", || alive(&app) == before);

    let mut failing = connected(tcp);
    failing.write_all(b"!").unwrap();
    assert_eq!(failing.read(&mut [0]).unwrap(), 0, "closed");
    let mut closing = connected(tcp);
    closing.write_all(b".").unwrap();
    assert_eq!(closing.read(&mut [0]).unwrap(), 0, "closed");
    drop((failing, closing));
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}
