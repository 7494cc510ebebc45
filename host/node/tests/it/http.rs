//! HTTP: from a socket to a process and back, and what happens when one of them fails.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, BootError, BootOptions, DeployOptions, NodeConfig};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::guests::{STATE, boot_options, eventually, imports, module};

/// How long a test waits for bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest that answers requests. `D...` (DELETE) traps, `OPTIONS` is not answered, `PATCH` is answered with something
/// that is no response, and all else with the number of requests so far, `version`, and then the request as it came.
pub(crate) fn guest(version: &str) -> String {
    let head = b"\x82\xa6status\xcd\x00\xc8\xa7headers\x91\x92\xa6x-test\xa3yes";
    let mut text = String::new();
    for byte in head.iter().chain(version.as_bytes()) {
        write!(text, "\\{byte:02x}").unwrap();
    }
    let length = head.len() + version.len();
    format!(
        r#"(module {imports}
  (memory (export "memory") 4)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 256) "{text}")
  (func (export "run") (result i32) (local $method i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 1024) (i32.const 131072) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (local.set $method (i32.load8_u (i32.const 1033)))
        (if (i32.eq (local.get $method) (i32.const 68)) (then unreachable))
        (br_if $next (i32.eq (local.get $method) (i32.const 79)))
        (if (i32.eq (i32.load (i32.const 1034)) (i32.const 0x48435441)) (then
          (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0xffffff11)
            (i32.const 1024) (i32.const 0)))
          (br $next)))
        (i64.store (i32.const 16) (i64.add (i64.load (i32.const 16)) (i64.const 1)))
        (memory.copy (i32.const 140000) (i32.const 256) (i32.const {length}))
        (i32.store8 (i32.const {number}) (i32.add (i32.const 48) (i32.load (i32.const 16))))
        (memory.copy (i32.const {rest}) (i32.const 1024) (i32.load (i32.const 100)))
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0xffffff11)
          (i32.const 140000) (i32.add (i32.const {more}) (i32.load (i32.const 100)))))))
      (br $next))
    unreachable)
  {state})"#,
        state = STATE
            .replace("$put", "$state_put")
            .replace("$get", "$state_get"),
        imports = imports(),
        number = 140_000 + length,
        rest = 140_000 + length + 1,
        more = length + 1,
    )
}

const ROUTES: &str = r#"
[[listen]]
address = "127.0.0.1:0"
timeout = "300ms"
body = "64KiB"
[[listen.routes]]
path = "/named"
name = "greeter"
[[listen.routes]]
path = "/old/{id}"
redirect = "/cart/{id}?from=old"
[[listen.routes]]
path = "/nobody"
name = "nobody"
[[listen.routes]]
path = "/pool"
group = "nobody"
[[listen.routes]]
path = "/each"
module = "m"
[[listen.routes]]
path = "/connection"
methods = ["GET", "DELETE"]
module = "m"
per = "connection"
[[listen.routes]]
path = "/cart/{id}"
module = "m"
per = "key"
key = "cart:{id}"
idle = "200ms"
"#;

fn manifest(folder: &Path, routes: &str) -> Manifest {
    let wasm = wat::parse_str(guest("one")).unwrap();
    std::fs::write(folder.join("m.wasm"), wasm).unwrap();
    let text = format!(
        "[app]\nname = \"test\"\n[modules.m]\npath = \"m.wasm\"\n\
         [[supervisor.children]]\nid = \"greeter\"\nname = \"greeter\"\nmodule = \"m\"\n{routes}"
    );
    std::fs::write(folder.join("exuvia.toml"), text).unwrap();
    Manifest::load(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn boot(routes: &str) -> (App, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest(folder.path(), routes);
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let address = app.node().addresses()[0];
    (app, address)
}

/// A connection of a client.
pub(crate) struct Client(TcpStream);

/// A response: its status, its head, and its body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    body: Vec<u8>,
}

impl Response {
    /// The requests that the process has had, and its version.
    fn count(&self) -> (String, u8) {
        let text = String::from_utf8_lossy(&self.body);
        let at = text.find(|c: char| c.is_ascii_digit());
        let at = at.unwrap_or_else(|| panic!("{self:?}"));
        (text[..at].to_owned(), self.body[at] - b'0')
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Response {
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        self.response(method == "HEAD")
    }

    pub(crate) fn ask_with(&mut self, method: &str, path: &str, body: &str) -> Response {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
        self.send((head + body).as_bytes());
        self.response(false)
    }

    pub(crate) fn ask_with_json(&mut self, method: &str, path: &str, json: &str) -> Response {
        let length = json.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send((head + json).as_bytes());
        self.response(false)
    }

    /// The same with headers, each with its end of line.
    pub(crate) fn ask_saying(&mut self, method: &str, path: &str, headers: &str) -> Response {
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n").as_bytes());
        self.response(method == "HEAD")
    }

    pub(crate) fn response(&mut self, without_body: bool) -> Response {
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
        let length = length.map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; if without_body { 0 } else { length }];
        self.0.read_exact(&mut body).unwrap();
        Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body,
        }
    }

    /// Returns whether the other side has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("{error}"),
        }
    }
}

fn alive(app: &App) -> usize {
    app.node().system().table.alive()
}

#[test]
fn requests_go_where_their_routes_say() {
    let (app, address) = boot(ROUTES);
    let mut client = Client::new(address);
    let first = client.ask("GET", "/named?a=b");
    assert_eq!((first.status, first.count()), (200, ("one".into(), 1)));
    assert!(first.head.contains("x-test: yes"), "{}", first.head);
    for part in ["method", "GET", "/named", "a=b", "test", "HTTP/1.1"] {
        assert!(first.text().contains(part), "{part}: {}", first.text());
    }
    assert_eq!(client.ask("GET", "/named").count().1, 2, "the same process");
    assert_eq!(client.ask("GET", "/each").count().1, 1);
    assert_eq!(client.ask("GET", "/each").count().1, 1, "another one");
    let mut other = Client::new(address);
    for count in 1..4 {
        assert_eq!(client.ask("GET", "/connection").count().1, count);
    }
    assert_eq!(other.ask("GET", "/connection").count().1, 1, "of its own");
    assert_eq!(client.ask("GET", "/cart/7").count().1, 1);
    assert_eq!(other.ask("GET", "/cart/7").count().1, 2, "the same cart");
    assert_eq!(other.ask("GET", "/cart/8").count().1, 1, "another cart");
    let cart = app.node().find("cart:7").unwrap();
    assert!(app.node().system().is_alive(cart));
    let old = client.ask("GET", "/old/7%20a");
    assert_eq!(old.status, 307);
    assert!(
        old.head.contains("location: /cart/7%20a?from=old"),
        "{}",
        old.head
    );
    assert_eq!(client.ask("GET", "/old/%0d%0aset-cookie:x").status, 307);
    let head = client.ask("HEAD", "/each");
    assert_eq!((head.status, head.body.len()), (200, 0));
    client.send(b"POST /named HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    assert!(client.response(false).text().ends_with("hello"));
    app.stop(PATIENCE);
}

#[test]
fn what_cannot_be_served_has_a_status_that_says_so() {
    let (app, address) = boot(ROUTES);
    let before = alive(&app);
    let mut client = Client::new(address);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("POST", "/connection", 405),
        ("GET", "/nobody", 503),
        ("GET", "/pool", 503),
        ("DELETE", "/each", 500),
        ("DELETE", "/connection", 500),
        ("OPTIONS", "/each", 504),
        ("PATCH", "/each", 500),
        ("GET", "/cart/%ff", 400),
        ("GET", "/each", 200),
    ] {
        let response = client.ask(method, path);
        assert_eq!(
            response.status,
            status,
            "{method} {path}: {}",
            response.text()
        );
    }
    let allowed = client.ask("POST", "/connection");
    assert!(
        allowed.head.contains("allow: delete, get, head"),
        "{}",
        allowed.head
    );
    assert!(client.ask("GET", "/nobody").head.contains("retry-after: 1"));
    // The reason of a failure is for developers, and for the log.
    assert_eq!(
        client.ask("DELETE", "/each").text(),
        "500 Internal Server Error\n"
    );
    // After its process has trapped, the connection has another one.
    assert_eq!(client.ask("GET", "/connection").count().1, 1);
    let too_large = "POST /named HTTP/1.1\r\nhost: test\r\ncontent-length: 70000\r\n\r\n";
    client.send(too_large.as_bytes());
    assert_eq!(client.response(false).status, 413);
    drop(client);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn nothing_is_left_of_a_client_that_goes() {
    let (app, address) = boot(ROUTES);
    Client::new(address).ask("GET", "/named");
    eventually("the connection has ended", || alive(&app) <= 4);
    let before = alive(&app);
    // In the middle of a head, of a body, and while a process is working for it.
    for bytes in [
        "GET /each HTTP/1.1\r\nhost",
        "POST /each HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhel",
        "OPTIONS /each HTTP/1.1\r\nhost: test\r\n\r\n",
        "OPTIONS /connection HTTP/1.1\r\nhost: test\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        let mut client = Client::new(address);
        client.send(bytes.as_bytes());
        if bytes.starts_with("OPTIONS /each") {
            eventually("it works", || alive(&app) > before + 1);
        }
        client.0.shutdown(Shutdown::Both).unwrap();
        drop(client);
        eventually(bytes, || alive(&app) == before);
    }
    app.stop(PATIENCE);
}

#[test]
fn a_process_with_a_key_ends_when_it_is_idle() {
    let (app, address) = boot(ROUTES);
    let mut client = Client::new(address);
    assert_eq!(client.ask("GET", "/cart/1").count().1, 1);
    let first = app.node().find("cart:1").unwrap();
    assert_eq!(client.ask("GET", "/cart/1").count().1, 2);
    eventually("it has ended", || !app.node().system().is_alive(first));
    assert_eq!(client.ask("GET", "/cart/1").count().1, 1, "a new one");
    assert_eq!(client.ask("DELETE", "/cart/1").status, 500);
    assert_eq!(client.ask("GET", "/cart/1").count().1, 1, "a new one");
    app.stop(PATIENCE);
}

#[test]
fn a_connection_is_a_process() {
    let (app, address) = boot(ROUTES);
    let node = app.node();
    let before = alive(&app);
    let mut client = Client::new(address);
    client.ask("GET", "/named");
    assert_eq!(alive(&app), before + 1);
    let pids = node.processes(&exuvia_node::Filter::default());
    let connection = pids.iter().rfind(|info| info.state == "connection");
    let pid = node.find(&connection.unwrap().pid).unwrap();
    node.kill(pid);
    assert!(client.is_closed());
    eventually("it has ended", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn no_request_fails_while_code_is_swapped() {
    let (app, address) = boot(ROUTES);
    let ends = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = ["/named", "/each", "/connection", "/cart/1"]
        .into_iter()
        .map(|path| {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let (ends, versions) = (ends.clone(), seen.clone());
            let client = std::thread::spawn(move || {
                let mut client = Client::new(address);
                while !ends.load(Ordering::Relaxed) {
                    let response = client.ask("GET", path);
                    assert_eq!(response.status, 200, "{path}: {}", response.text());
                    let version = response.text()[..3].to_owned();
                    let mut seen = versions.lock().unwrap();
                    if seen.last() != Some(&version) {
                        seen.push(version);
                    }
                }
            });
            (client, seen)
        })
        .collect();
    let all_have = |version: &str| {
        let last = |seen: &Mutex<Vec<String>>| seen.lock().unwrap().last().cloned();
        clients
            .iter()
            .all(|(_, seen)| last(seen).as_deref() == Some(version))
    };
    let versions = ["one", "two", "six", "ten"];
    eventually("one", || all_have("one"));
    for version in &versions[1..] {
        let modules = vec![module("m", &guest(version))];
        app.node()
            .deploy(modules, DeployOptions::default())
            .unwrap();
        eventually(version, || all_have(version));
    }
    ends.store(true, Ordering::Relaxed);
    for (client, seen) in clients {
        client.join().unwrap();
        assert_eq!(*seen.lock().unwrap(), versions, "no old code after new");
    }
    app.stop(PATIENCE);
}

#[test]
fn a_stop_lets_requests_under_way_end() {
    let (app, address) = boot(&ROUTES.replace("300ms", "10s"));
    let mut idle = Client::new(address);
    idle.ask("GET", "/named");
    let mut busy = Client::new(address);
    // The head has been read when the server asks for the body.
    busy.send(
        b"POST /named HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    );
    assert_eq!(busy.response(true).status, 100);
    busy.send(b"he");
    let stopping = std::thread::spawn(move || app.stop(PATIENCE));
    assert!(idle.is_closed());
    busy.send(b"llo");
    let response = busy.response(false);
    assert_eq!(response.status, 200);
    assert!(response.text().ends_with("hello"));
    assert!(busy.is_closed());
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_client_with_half_a_head_does_not_hold_up_a_stop() {
    let routes = ROUTES.replace(
        "timeout = \"300ms\"",
        "timeout = \"60s\"\nreading = \"60s\"",
    );
    let (app, address) = boot(&routes);
    let mut client = Client::new(address);
    client.send(b"GET /named HT");
    // The node has read it when another client, that came later, is served.
    assert_eq!(Client::new(address).ask("GET", "/named").status, 200);
    // Half of its time is for the listeners: PATIENCE would pass before that.
    let stopping = std::thread::spawn(move || app.stop(4 * PATIENCE));
    assert_eq!(client.response(false).status, 408);
    assert!(client.is_closed());
    let report = stopping.join().unwrap();
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn routes_change_while_a_connection_stays() {
    let (app, address) = boot(ROUTES);
    let mut client = Client::new(address);
    assert_eq!(client.ask("GET", "/new").status, 404);
    let folder = tempfile::tempdir().unwrap();
    let port = format!("127.0.0.1:{}", address.port());
    let more = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen.routes]]\npath = \"/new\"\nname = \"greeter\"\n";
    let after = manifest(folder.path(), more);
    app.node().listen(&after.listen).unwrap();
    assert_eq!(
        client.ask("GET", "/new").status,
        200,
        "on the same connection"
    );
    // An address in use: nothing changes.
    let both = format!("{more}[[listen]]\naddress = \"{port}\"\n");
    let error = app
        .node()
        .listen(&manifest(folder.path(), &both).listen)
        .unwrap_err();
    assert!(error.to_string().contains(&port), "{error}");
    assert_eq!(client.ask("GET", "/new").status, 200);
    app.node().listen(&[]).unwrap();
    eventually("it is closed", || TcpStream::connect(address).is_err());
    app.stop(PATIENCE);
}

#[test]
fn an_address_in_use_fails_the_boot() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let routes = ROUTES.replace("127.0.0.1:0", &address.to_string());
    let manifest = manifest(folder.path(), &routes);
    let config = NodeConfig::of(&manifest);
    let options = BootOptions {
        config: Some(config),
        ..BootOptions::default()
    };
    let error = App::boot(manifest, options).map(drop).unwrap_err();
    assert!(matches!(error, BootError::Listen(_)), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.help().unwrap().contains("another port"));
}

#[test]
fn heads_that_are_too_large_and_forms_of_smuggling_are_refused() {
    let (app, address) = boot(ROUTES);
    let long = "x".repeat(40 << 10);
    for (request, status) in [
        (
            format!("GET /named HTTP/1.1\r\nhost: test\r\nx: {long}\r\n\r\n"),
            431,
        ),
        (
            "GET /named HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nhello"
                .into(),
            400,
        ),
        (
            "GET /named HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n".into(),
            400,
        ),
        ("GET /named HTTP/1.1\r\nhost : a\r\n\r\n".into(), 400),
        ("GET /na med HTTP/1.1\r\n\r\n".into(), 400),
    ] {
        let mut client = Client::new(address);
        client.send(request.as_bytes());
        assert_eq!(
            client.response(false).status,
            status,
            "{}",
            &request[..60.min(request.len())]
        );
        assert!(client.is_closed());
    }
    assert_eq!(Client::new(address).ask("GET", "/named").status, 200);
    app.stop(PATIENCE);
}

#[test]
fn a_client_may_be_idle_for_longer_than_a_head_may_take() {
    let routes = ROUTES.replace("timeout = \"300ms\"", "reading = \"300ms\"\nidle = \"10s\"");
    let (app, address) = boot(&routes);
    let mut client = Client::new(address);
    for _ in 0..2 {
        assert_eq!(client.ask("GET", "/named").status, 200);
        std::thread::park_timeout(Duration::from_millis(700));
    }
    assert_eq!(client.ask("GET", "/named").status, 200);
    // A beginning of HTTP/2 that has no end; for HTTP/1.1 there is a status.
    let mut slow = Client::new(address);
    slow.send(b"PRI * HTTP/2.0\r\n");
    assert!(slow.is_closed());
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_takes_no_response_is_cut_off() {
    let routes = ROUTES.replace("body = \"64KiB\"", "body = \"64MiB\"");
    let (app, address) = boot(&routes);
    let before = alive(&app);
    let mut client = Client::new(address);
    // The response has the request in it, and the guest's memory has room for it.
    let request = format!(
        "POST /each HTTP/1.1\r\nhost: test\r\ncontent-length: 60000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    // As many as the system takes: then the server waits for the client.
    client
        .0
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while client.0.write_all(request.as_bytes()).is_ok() {}
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

/// Makes requests over one connection of HTTP/2.
async fn over_http2(address: SocketAddr, requests: &[(&str, &str)]) -> Vec<(u16, Vec<u8>, String)> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut responses = Vec::new();
    for (method, path) in requests {
        let request = hyper::Request::builder()
            .method(*method)
            .uri(format!("http://test{path}"))
            .body(Full::new(Bytes::new()))
            .unwrap();
        responses.push(tokio::spawn(client.clone().send_request(request)));
    }
    let mut all = Vec::new();
    for response in responses {
        let response = response.await.unwrap().unwrap();
        let length = response.headers().get("content-length").cloned();
        let length = length.map_or_else(String::new, |length| length.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        all.push((status, body.to_vec(), length));
    }
    all
}

#[test]
fn http2_has_many_requests_on_one_connection() {
    let (app, address) = boot(ROUTES);
    let before = alive(&app);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut requests = vec![("GET", "/each"); 100];
    requests.extend([("HEAD", "/each"), ("GET", "/none"), ("DELETE", "/each")]);
    let all = runtime.block_on(over_http2(address, &requests));
    for (status, body, _) in &all[..100] {
        assert_eq!(*status, 200);
        let text = String::from_utf8_lossy(body);
        assert!(
            text.starts_with("one1") && text.contains("HTTP/2"),
            "{text}"
        );
        assert!(text.contains("test"), "the authority: {text}");
    }
    let (status, body, length) = &all[100];
    assert_eq!(
        (*status, body.len()),
        (200, 0),
        "a response to HEAD has no body"
    );
    assert!(!length.is_empty(), "and says how long it would be");
    assert_eq!((all[101].0, all[102].0), (404, 500));
    drop(runtime);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn files_are_served_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("public");
    std::fs::create_dir_all(public.join("deep")).unwrap();
    std::fs::write(public.join("deep/a b.txt"), "0123456789").unwrap();
    std::fs::write(public.join("index.html"), "<h1>home</h1>").unwrap();
    std::fs::write(public.join("app.js"), "long").unwrap();
    std::fs::write(public.join("app.js.gz"), "gz").unwrap();
    std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    for (to, link) in [
        ("app.js", "public/linked.js"),
        ("../secret.txt", "public/outside.txt"),
        ("..", "public/up"),
        ("../secret.txt", "public/deep/x.js.gz"),
    ] {
        std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
    }
    std::fs::write(public.join("deep/x.js"), "plain").unwrap();
    let routes = "[[listen]]\naddress = \"127.0.0.1:0\"\n\
        [[listen.routes]]\npath = \"/\"\nfiles = \"public/index.html\"\n\
        [[listen.routes]]\npath = \"/static/{*path}\"\nfiles = \"public\"\n\
        response_headers = { cache-control = \"max-age=60\", content-type = \"x\" }\n\
        [[listen.routes]]\npath = \"/exuvia.js\"\nbuiltin = \"exuvia.js\"\n";
    let manifest = manifest(folder.path(), routes);
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let address = app.node().addresses()[0];
    let mut client = Client::new(address);
    let home = client.ask("GET", "/");
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>"));
    assert!(
        home.head.contains("content-type: text/html"),
        "{}",
        home.head
    );
    let file = client.ask("GET", "/static/deep/a%20b.txt");
    assert_eq!((file.status, file.text().as_str()), (200, "0123456789"));
    let changed = file
        .head
        .lines()
        .find(|line| line.starts_with("last-modified: "));
    let changed = changed
        .unwrap()
        .strip_prefix("last-modified: ")
        .unwrap()
        .to_owned();
    let with = |path: &str, header: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{header}\r\n\r\n");
        let mut client = Client::new(address);
        client.send(request.as_bytes());
        client.response(false)
    };
    // A route's own headers, but not in place of those of the file.
    assert!(file.head.contains("cache-control: max-age=60\r\n"));
    assert!(
        file.head.contains("content-type: text/plain\r\n"),
        "{}",
        file.head
    );
    assert!(!home.head.contains("cache-control"), "{}", home.head);
    let none = client.ask("GET", "/static/none");
    assert!(!none.head.contains("cache-control"), "{}", none.head);
    let part = with("/static/deep/a%20b.txt", "range: bytes=2-4");
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    let builtin = client.ask("GET", "/exuvia.js");
    let source = include_str!("../../../../guest-sdk/js/exuvia.js");
    assert_eq!((builtin.status, builtin.text().as_str()), (200, source));
    assert!(
        builtin.head.contains("content-type: text/javascript"),
        "{}",
        builtin.head
    );
    let tag = builtin.head.lines().find(|line| line.starts_with("etag: "));
    let tag = tag.unwrap().strip_prefix("etag: ").unwrap();
    let known = with("/exuvia.js", &format!("if-none-match: {tag}"));
    assert_eq!((known.status, known.text().as_str()), (304, ""));
    assert_eq!(client.ask("POST", "/exuvia.js").status, 405);
    // The date is in small letters here.
    let date = changed.split(' ').map(|word| {
        let (first, rest) = word.split_at(1);
        match word {
            "gmt" => "GMT".to_owned(),
            _ => first.to_uppercase() + rest,
        }
    });
    let date: Vec<String> = date.collect();
    let same = with(
        "/static/deep/a%20b.txt",
        &format!("if-modified-since: {}", date.join(" ")),
    );
    assert_eq!(same.status, 304);
    // An ETag is opaque, so its case is kept: it has hexadecimal digits in small letters.
    let tag = file
        .head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "));
    let tag = tag.expect("an ETag").trim().to_owned();
    for tags in [tag.clone(), format!("\"other\", W/{tag}")] {
        let same = with("/static/deep/a%20b.txt", &format!("if-none-match: {tags}"));
        assert_eq!((same.status, same.text().as_str()), (304, ""), "{tags}");
        assert!(same.head.contains(&tag), "{}", same.head);
    }
    let other = with("/static/deep/a%20b.txt", "if-none-match: \"other\"");
    assert_eq!(other.status, 200);
    // Another content has another one, also if it has the same length.
    std::fs::write(public.join("deep/a b.txt"), "9876543210").unwrap();
    let changed = with("/static/deep/a%20b.txt", &format!("if-none-match: {tag}"));
    assert_eq!(
        (changed.status, changed.text().as_str()),
        (200, "9876543210")
    );
    let small = with("/static/app.js", "accept-encoding: gzip");
    assert_eq!(small.text(), "gz");
    assert_eq!(client.ask("GET", "/static/linked.js").text(), "long");
    // A compressed file that leads out of the folder is none.
    let plain = with("/static/deep/x.js", "accept-encoding: gzip");
    assert_eq!((plain.status, plain.text().as_str()), (200, "plain"));
    for path in [
        "/static/none",
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static/deep/..%2f..%2fsecret.txt",
        "/static/%2fetc/passwd",
        "/static/deep",
        "/static//deep",
        "/static/app.js/more",
        "/static/x%00y",
        "/static/outside.txt",
        "/static/up/secret.txt",
        "/static/up/public/index.html",
    ] {
        let response = client.ask("GET", path);
        assert_eq!(response.status, 404, "{path}: {}", response.text());
        assert!(!response.text().contains("secret"), "{path}");
    }
    for home in ["/static/", "/static//"] {
        assert_eq!(client.ask("GET", home).text(), "<h1>home</h1>", "{home}");
    }
    let whole = with("/static/app.js", "range: bytes=1-2\r\nif-range: \"old\"");
    assert_eq!((whole.status, whole.text().as_str()), (200, "long"));
    assert_eq!(client.ask("POST", "/static/app.js").status, 405);
    let head = client.ask("HEAD", "/static/deep/a%20b.txt");
    assert_eq!(head.status, 200);
    assert!(head.head.contains("content-length: 10"), "{}", head.head);
    app.stop(PATIENCE);
}
