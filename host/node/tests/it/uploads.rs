//! Bodies of requests that arrive in parts: as they are asked for, and never complete when they are not.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, DeployOptions};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::guests::{boot_options, eventually, imports, module};

/// How long a test waits for bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that counts the bytes of a body, at 16, and adds them up in order, at 24. It keeps who is to be responded to at 32
/// and 48, and at 56 how many bodies were not complete. The method says what it does:
///
/// - `PUT` has the body come by itself, `POST` asks for each part, `DELETE` has it come and acknowledges nothing;
/// - `LINK` responds at once and has it come by itself; `PATCH` responds with 413 and reads nothing, `OPTIONS` does nothing;
/// - `MOVE` asks for one part, and is responded to when that is there;
/// - `GET` is responded to at once.
///
/// The response is both numbers, as little-endian bytes, the digit of bodies that were not complete, `version`, and the
/// payload of the body's end.
fn guest(version: char, on_data: &str, after_request: &str) -> String {
    let mut heads = String::new();
    for (at, head) in [
        (200, b"\x81\xa6status\xcd\x00\xc8"),
        (220, b"\x81\xa6status\xcd\x01\x9d"),
    ] {
        write!(heads, "(data (i32.const {at}) \"").unwrap();
        for byte in head {
            write!(heads, "\\{byte:02x}").unwrap();
        }
        heads += "\")\n  ";
    }
    format!(
        r#"(module {imports}
  (memory (export "memory") 4)
  (global (export "exuvia_abi") i32 (i32.const 1))
  {heads}
  (func $respond (param $more i32)
    (memory.copy (i32.const 211) (i32.const 16) (i32.const 16))
    (i32.store8 (i32.const 227) (i32.add (i32.const 48) (i32.load (i32.const 56))))
    (i32.store8 (i32.const 228) (i32.const {version}))
    (memory.copy (i32.const 229) (i32.const 1024) (local.get $more))
    (drop (call $reply (i32.const 32) (i64.load (i32.const 48)) (i32.const 0xffffff11)
      (i32.const 200) (i32.add (i32.const 29) (local.get $more)))))
  (func $data (local $at i32) (local $sum i64)
    (local.set $sum (i64.load (i32.const 24)))
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $at) (i32.load (i32.const 100))))
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
        (i64.load8_u (i32.add (i32.const 1024) (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (i64.store (i32.const 24) (local.get $sum))
    (i64.store (i32.const 16) (i64.add (i64.load (i32.const 16)) (i64.extend_i32_u (local.get $at)))))
  (func $part (local $tag i32)
    (local.set $tag (i32.load (i32.const 96)))
    (if (i32.eq (local.get $tag) (i32.const 0xffffff16)) (then {on_data} (call $data)))
    (if (i32.eq (local.get $tag) (i32.const 0xffffff17)) (then (call $respond (i32.load (i32.const 100)))))
    (if (i32.eq (local.get $tag) (i32.const 0xffffff18)) (then
      (i32.store (i32.const 56) (i32.add (i32.load (i32.const 56)) (i32.const 1))))))
  (func (export "run") (result i32) (local $method i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 1024) (i32.const 131072) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.and (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (i32.eq (i32.load (i32.const 96)) (i32.const 0xffffff10))) (then
        (memory.copy (i32.const 32) (i32.const 72) (i32.const 24))
        (i64.store (i32.const 48) (i64.load (i32.const 88)))
        (local.set $method (i32.load16_u (i32.const 1033)))
        (i32.store (i32.const 60) (local.get $method))
        (if (i32.eq (local.get $method) (i32.const 0x4547)) (then
          (call $respond (i32.const 0))
          (br $next)))
        (i64.store (i32.const 16) (i64.const 0))
        (i64.store (i32.const 24) (i64.const 0))
        (if (i32.or (i32.eq (local.get $method) (i32.const 0x5550)) (i32.eq (local.get $method) (i32.const 0x4544))) (then
          (drop (call $send (i32.const 72) (i32.const 0xffffff19) (i32.const 0) (i32.const 0)))))
        (if (i32.eq (local.get $method) (i32.const 0x494c)) (then
          (call $respond (i32.const 0))
          (drop (call $send (i32.const 72) (i32.const 0xffffff19) (i32.const 0) (i32.const 0)))))
        (if (i32.or (i32.eq (local.get $method) (i32.const 0x4f50)) (i32.eq (local.get $method) (i32.const 0x4f4d))) (then
          (drop (call $request (i32.const 72) (i32.const 0xffffff19) (i32.const 0) (i32.const 0) (i32.const 120)))))
        (if (i32.eq (local.get $method) (i32.const 0x4150)) (then
          (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0xffffff11) (i32.const 220) (i32.const 11)))))
        {after_request}
        (br $next)))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (call $part)
        (if (i32.ne (i32.load (i32.const 60)) (i32.const 0x4544)) (then
          (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 4)) (then
        (call $part)
        (if (i32.eq (i32.load (i32.const 60)) (i32.const 0x4f4d)) (then
          (call $respond (i32.const 0))
          (br $next)))
        (if (i32.eq (i32.load (i32.const 96)) (i32.const 0xffffff16)) (then
          (drop (call $request (i32.const 72) (i32.const 0xffffff19) (i32.const 0) (i32.const 0) (i32.const 120)))))))
      (br $next))
    unreachable)
  (func (export "save") (result i32) (call $state_put (i32.const 16) (i32.const 48)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 16) (i32.const 48))) (i32.const 0)))"#,
        imports = imports(),
        version = version as u32,
    )
}

const LISTEN: &str = r#"
[[supervisor.children]]
id = "store"
name = "store"
module = "store"
[[listen]]
address = "127.0.0.1:0"
timeout = "2s"
reading = "5s"
body = "1KiB"
[[listen.routes]]
path = "/store"
name = "store"
stream = true
[[listen.routes]]
path = "/each"
module = "store"
stream = true
[[listen.routes]]
path = "/connection"
module = "store"
per = "connection"
stream = true
[[listen.routes]]
path = "/key/{id}"
module = "store"
per = "key"
key = "key:{id}"
idle = "50ms"
stream = true
[[listen.routes]]
path = "/small"
name = "store"
stream = true
body = "100KiB"
"#;

fn boot() -> (App, SocketAddr) {
    let wasm = wat::parse_str(guest('1', "", "")).unwrap_or_else(|error| panic!("{error}"));
    boot_with(&wasm, LISTEN)
}

/// Boots an app with a module `store`.
pub(crate) fn boot_with(wasm: &[u8], listen: &str) -> (App, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.wasm"), wasm).unwrap();
    let text = format!("[app]\nname = \"test\"\n[modules.store]\npath = \"store.wasm\"\n{listen}");
    std::fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let address = app.node().addresses()[0];
    (app, address)
}

pub(crate) fn alive(app: &App) -> usize {
    app.node().system().table.alive()
}

/// What a guest says of a body.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    sum: u64,
    incomplete: char,
    version: char,
    end: Vec<u8>,
}

/// What a guest is to say of these bodies one after another.
fn sum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (u64, u64) {
    let mut found = (0, 0_u64);
    for byte in parts.into_iter().flatten() {
        found.0 += 1;
        found.1 = found.1.wrapping_mul(31).wrapping_add((*byte).into());
    }
    found
}

fn seen(body: &[u8]) -> Seen {
    let number = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap());
    Seen {
        bytes: number(0),
        sum: number(8),
        incomplete: body[16].into(),
        version: body[17].into(),
        end: body[18..].to_vec(),
    }
}

struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn begin(&mut self, method: &str, path: &str, headers: &str) {
        self.send(
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n\r\n").as_bytes(),
        );
    }

    /// Reads a response: its status and its body.
    fn response(&mut self) -> (u16, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    fn seen(&mut self) -> Seen {
        let (status, body) = self.response();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        seen(&body)
    }

    /// What the guest says of the last body.
    fn last(address: SocketAddr) -> Seen {
        let mut client = Client::new(address);
        client.begin("GET", "/store", "");
        client.seen()
    }
}

/// Parts of a body that differ.
fn parts(count: usize) -> Vec<Vec<u8>> {
    let bytes = |n: usize| (0..1 << 20).map(move |at: usize| (at.wrapping_mul(n + 7) >> 3) as u8);
    (0..count).map(|n| bytes(n % 8).collect()).collect()
}

fn upload(address: SocketAddr, (method, path): (&str, &str), megabytes: usize) {
    let some = parts(8);
    let all = || (0..megabytes).map(|n| some[n % 8].as_slice());
    let mut client = Client::new(address);
    client.begin(
        method,
        path,
        &format!("content-length: {}", megabytes << 20),
    );
    for part in all() {
        client.send(part);
    }
    let seen = client.seen();
    assert_eq!((seen.bytes, seen.sum), sum(all()), "{method} {path}");
    // The connection goes on.
    client.begin("GET", path, "");
    client.seen();
}

#[test]
fn an_upload_is_read_in_parts_and_in_order() {
    let (app, address) = boot();
    let before = alive(&app);
    for path in ["/store", "/each", "/connection", "/key/7"] {
        for method in ["PUT", "POST"] {
            upload(address, (method, path), 2);
        }
    }
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn an_upload_may_have_any_size_and_is_never_held_as_a_whole() {
    let (app, address) = boot();
    let store = app.node().find("store").unwrap().to_string();
    let uploading = std::thread::spawn(move || upload(address, ("PUT", "/store"), 200));
    let mut most = 0;
    while !uploading.is_finished() {
        let all = app.node().processes(&exuvia_node::Filter::default());
        let process = all.iter().find(|process| process.pid == store).unwrap();
        most = most.max(process.mailbox);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    uploading.join().unwrap();
    // Those that are unanswered at a time: 256 KiB at most.
    assert!(most <= 9, "{most} messages waited in the mailbox");
    app.stop(PATIENCE);
}

/// Sends until the other side takes nothing for a while; returns how much it took.
fn send_all_that_fits(client: &mut Client) -> usize {
    let piece = vec![7; 64 << 10];
    let patience = Some(Duration::from_millis(500));
    client.0.set_write_timeout(patience).unwrap();
    let mut sent = 0;
    while sent < 100 << 20 {
        match client.0.write(&piece) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn a_slow_process_slows_its_client_and_nobody_else() {
    let (app, address) = boot();
    let before = alive(&app);
    // One does not acknowledge what it gets, and one asks for nothing.
    for (method, most) in [("DELETE", 8), ("OPTIONS", 0)] {
        let mut client = Client::new(address);
        client.begin(method, "/connection", "content-length: 1000000000");
        let sent = send_all_that_fits(&mut client);
        // What the system keeps for both sides, and a little.
        assert!(sent < 32 << 20, "{method}: {sent} bytes were taken");
        let all = app.node().processes(&exuvia_node::Filter::default());
        let mailboxes: u64 = all.iter().map(|process| process.mailbox).sum();
        assert!(mailboxes <= most, "{method}: {mailboxes}");
        upload(address, ("PUT", "/each"), 1);
        // It has `timeout` for each part, and then the client is told.
        assert_eq!(client.response().0, 504, "{method}");
        drop(client);
        eventually("nothing is left", || alive(&app) == before);
    }
    app.stop(PATIENCE);
}

#[test]
fn a_body_that_is_cut_off_is_never_complete() {
    let (app, address) = boot();
    let before = alive(&app);
    for (n, (method, begin, bytes)) in [
        ("PUT", "content-length: 1000\r\n\r\nhello", 5),
        ("POST", "content-length: 1000\r\n\r\nhello", 5),
        ("PUT", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", 5),
        (
            "POST",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            5,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::new(address);
        client.send(format!("{method} /store HTTP/1.1\r\nhost: test\r\n{begin}").as_bytes());
        eventually("it has the part", || Client::last(address).bytes == bytes);
        client.0.shutdown(Shutdown::Both).unwrap();
        let incomplete = char::from(b'1' + n as u8);
        eventually("it is told", || {
            Client::last(address).incomplete == incomplete
        });
        eventually("nothing is left", || alive(&app) == before);
    }
    // A process that was started for it ends with it.
    for path in ["/each", "/key/1"] {
        let mut client = Client::new(address);
        client.begin("PUT", path, "content-length: 1000");
        eventually("it runs", || alive(&app) > before + 1);
        client.0.shutdown(Shutdown::Both).unwrap();
        eventually("nothing is left", || alive(&app) == before);
    }
    app.stop(PATIENCE);
}

#[test]
fn what_is_no_body_is_the_clients_error() {
    let (app, address) = boot();
    let before = alive(&app);
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n";
    for path in ["/store", "/each"] {
        for method in ["PUT", "POST"] {
            let mut client = Client::new(address);
            client.send(format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{chunked}").as_bytes());
            assert_eq!(client.response().0, 400, "{method} {path}");
        }
    }
    assert_eq!(Client::last(address).incomplete, '2');
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_limit_holds_where_it_is_set() {
    let (app, address) = boot();
    let before = alive(&app);
    let mut client = Client::new(address);
    client.begin("PUT", "/small", "content-length: 200000");
    assert_eq!(client.response().0, 413, "before any of it");
    // Chunks of 60,000 bytes: the second is too much.
    let chunk = [&b"ea60\r\n"[..], &[b'x'; 60_000], b"\r\n"].concat();
    for method in ["PUT", "POST", "OPTIONS"] {
        let mut client = Client::new(address);
        client.begin(method, "/small", "transfer-encoding: chunked");
        client.send(&chunk);
        client.send(&chunk);
        let status = client.response().0;
        assert_eq!(
            status,
            if method == "OPTIONS" { 504 } else { 413 },
            "{method}"
        );
    }
    assert_eq!(Client::last(address).incomplete, '2');
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn trailers_come_with_the_end() {
    let (app, address) = boot();
    for method in ["PUT", "POST"] {
        let mut client = Client::new(address);
        client.begin(
            method,
            "/each",
            "transfer-encoding: chunked\r\ntrailer: x-sum",
        );
        client.send(b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
        let seen = client.seen();
        assert_eq!(seen.bytes, 5);
        assert_eq!(seen.end, b"\x81\xa8trailers\x91\x92\xa5x-sum\xa17");
    }
    app.stop(PATIENCE);
}

#[test]
fn a_response_may_come_before_the_body() {
    let (app, address) = boot();
    let before = alive(&app);
    // The client is still sending: it gets the response nevertheless.
    let mut client = Client::new(address);
    client.begin("PATCH", "/store", "content-length: 500000");
    client.send(&[7; 500_000]);
    assert_eq!(client.response().0, 413);
    // What it has sent is read and dropped, so that the connection goes on.
    client.begin("GET", "/store", "");
    assert_eq!(client.seen().bytes, 0);
    let mut long = Client::new(address);
    long.begin("PATCH", "/store", "content-length: 1000000000");
    let ended = (0..1_000).any(|_| long.0.write_all(&[7; 1 << 20]).is_err());
    assert!(ended, "it may send a gigabyte that nobody wants");
    drop((client, long));
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_process_may_read_on_after_its_response() {
    let (app, address) = boot();
    let before = alive(&app);
    let mut client = Client::new(address);
    client.begin("LINK", "/key/9", "content-length: 10");
    assert_eq!(client.seen().bytes, 0, "the response comes first");
    client.send(b"hello");
    // Much longer than a process with a key is idle: as long as it reads, it is not.
    std::thread::park_timeout(Duration::from_millis(1_500));
    client.send(b"again");
    let mut other = Client::new(address);
    eventually("it has all", || {
        other.begin("GET", "/key/9", "");
        other.seen().bytes == 10
    });
    // The connection goes on.
    client.begin("GET", "/store", "");
    client.seen();
    drop((client, other));
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

/// Who knows the length need not ask for the end: the body's process does not stay until it could have been asked for.
#[test]
fn a_body_that_is_read_to_its_last_byte_keeps_nothing() {
    let wasm = wat::parse_str(guest('1', "", "")).unwrap();
    let (app, address) = boot_with(
        &wasm,
        &LISTEN.replace("timeout = \"2s\"", "timeout = \"10m\""),
    );
    let mut client = Client::new(address);
    client.begin("GET", "/store", "");
    client.seen();
    let before = alive(&app);
    client.begin("MOVE", "/store", "content-length: 5");
    client.send(b"hello");
    assert_eq!(client.seen().bytes, 5);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_asks_is_told_to_continue_only_if_its_body_is_read() {
    let (app, address) = boot();
    let before = alive(&app);
    let expects = "content-length: 5\r\nexpect: 100-continue";
    for (method, status) in [
        ("PUT", 100),
        ("POST", 100),
        ("PATCH", 413),
        ("OPTIONS", 504),
    ] {
        let mut client = Client::new(address);
        client.begin(method, "/each", expects);
        assert_eq!(client.response().0, status, "{method}");
        if status == 100 {
            client.send(b"hello");
            assert_eq!(client.seen().bytes, 5, "{method}");
        }
    }
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_swap_in_the_middle_of_a_body_loses_nothing() {
    let (app, address) = boot();
    let some = parts(3);
    for (n, method) in ["PUT", "POST"].into_iter().enumerate() {
        let mut client = Client::new(address);
        client.begin(method, "/store", &format!("content-length: {}", 3 << 20));
        client.send(&some[0]);
        let runs = || {
            let store = app.node().find("store").unwrap().to_string();
            let all = app.node().processes(&exuvia_node::Filter::default());
            let process = all.into_iter().find(|process| process.pid == store);
            process.unwrap().module
        };
        let (version, before) = (char::from(b'2' + n as u8), runs());
        let code = vec![module("store", &guest(version, "", ""))];
        app.node().deploy(code, DeployOptions::default()).unwrap();
        client.send(&some[1]);
        eventually("it runs new code", || runs() != before);
        // New code that traps for each part: old code gets it again.
        let traps = vec![module("store", &guest('!', "unreachable", ""))];
        app.node().deploy(traps, DeployOptions::default()).unwrap();
        client.send(&some[2]);
        let seen = client.seen();
        assert_eq!((seen.bytes, seen.sum), sum(some.iter().map(Vec::as_slice)));
        assert_eq!((seen.incomplete, seen.version), ('0', version), "{method}");
    }
    app.stop(PATIENCE);
}

#[test]
fn a_trap_in_probation_asks_for_no_part() {
    let (app, address) = boot();
    for method in ["PUT", "POST"] {
        // It asks, and then it traps: old code gets the request, and asks for the first part.
        let traps = vec![module("store", &guest('!', "", "unreachable"))];
        app.node().deploy(traps, DeployOptions::default()).unwrap();
        upload(address, (method, "/store"), 1);
        assert_eq!(Client::last(address).version, '1', "{method}");
    }
    app.stop(PATIENCE);
}

#[test]
fn bodies_of_http2_do_not_hold_each_other_up() {
    let (app, address) = boot();
    let before = alive(&app);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (client, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let body: Vec<u8> = parts(3).concat();
        let ask = |method: &str, path: &str| {
            let request = hyper::Request::builder()
                .method(method)
                .uri(format!("http://test{path}"))
                .body(Full::new(Bytes::from(body.clone())))
                .unwrap();
            tokio::spawn(client.clone().send_request(request))
        };
        // Nobody reads these.
        let unread: Vec<_> = (0..8).map(|_| ask("OPTIONS", "/each")).collect();
        for (method, path) in [("PUT", "/each"), ("POST", "/each"), ("PUT", "/connection")] {
            let response = ask(method, path).await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            let seen = seen(&response.into_body().collect().await.unwrap().to_bytes());
            assert_eq!((seen.bytes, seen.sum), sum([&body[..]]), "{method} {path}");
        }
        assert_eq!(ask("PATCH", "/each").await.unwrap().unwrap().status(), 413);
        for unread in unread {
            assert_eq!(unread.await.unwrap().unwrap().status(), 504);
        }
    });
    drop(runtime);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

pub(crate) const RELAY: &str = r#"
[modules.store.net]
connect = ["127.0.0.1:*"]
[[supervisor.children]]
id = "relay"
name = "relay"
module = "store"
[[listen]]
address = "127.0.0.1:0"
[[listen.routes]]
path = "/relay"
name = "relay"
stream = true
[[listen.routes]]
path = "/each"
module = "store"
stream = true
"#;

/// A guest written with the SDK: its handlers await each part.
#[test]
fn a_handler_awaits_the_parts_of_bodies_and_what_arrives_at_sockets() {
    let (app, address) = boot_with(&crate::sdk::platform("relay"), RELAY);
    let before = alive(&app);
    let some = parts(8);
    let body = some.concat();
    let (bytes, expected) = sum([&body[..]]);
    let expected = format!("{bytes} {expected}");
    for path in ["/relay", "/each"] {
        for method in ["PUT", "POST"] {
            let mut client = Client::new(address);
            client.begin(method, path, &format!("content-length: {}", body.len()));
            client.send(&body);
            let (status, text) = client.response();
            assert_eq!(
                (status, String::from_utf8_lossy(&text)),
                (200, (&*expected).into())
            );
        }
    }
    // A response from outside, and then a socket that returns what it gets.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/large", server.local_addr().unwrap());
    let sent = body.clone();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut head = [0; 1];
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut head).unwrap();
            seen.push(head[0]);
        }
        let length = sent.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&sent).unwrap();
    });
    let mut client = Client::new(address);
    client.begin("GET", &format!("/each?url={url}"), "");
    let (status, text) = client.response();
    assert_eq!(
        (status, String::from_utf8_lossy(&text)),
        (200, (&*expected).into())
    );
    serving.join().unwrap();
    let echo = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", echo.local_addr().unwrap());
    let echoing = std::thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut writer).unwrap();
    });
    client = Client::new(address);
    let path = format!("/each?url={url}");
    client.begin(
        "PATCH",
        &path,
        &format!("content-length: {}", some[0].len()),
    );
    client.send(&some[0]);
    let (status, back) = client.response();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&back));
    assert!(back == some[0], "{} bytes came back", back.len());
    echoing.join().unwrap();
    drop(client);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}
