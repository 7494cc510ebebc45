//! HTTP and WebSockets: requests of many connections, each beside what the same library does without processes. The server
//! has one core, and the load the other.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use exuvia_manifest::Manifest;
use exuvia_node::process::Grants;
use exuvia_node::{Node, NodeConfig, SpawnOptions};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::driver::{Expected, Round, ask_all};
use crate::figures::Sample;
use crate::setup::{config, deploy, quantile, resident, spawn, wait_until};
use crate::{Scale, thousands};

/// Connections of the load.
const CONNECTIONS: usize = 64;
/// Connections of the load for latencies.
const MANY: usize = 1_000;
/// WebSockets that are echoed at a time.
const SOCKETS: usize = 256;
/// Processes in the pool, and keys.
const PROCESSES: usize = 64;
/// Frames where processes are to be at rest.
const FRAMES: usize = 512;
/// Descriptors that are kept for other things.
const OTHERS: usize = 300;

const REQUEST: &str =
    "GET PATH HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: load\r\naccept: */*\r\n\r\n";
const HELLO: &[u8] = b"Hello, world!";

/// Has the threads that this one starts from now on run on one core.
fn on_core(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // With a single core there is nothing to choose.
    let _ = sched_setaffinity(None, &set);
}

/// Version `version` of a guest that responds with "Hello, world!", accepts WebSockets at `/socket`, and echoes what it gets there. It joins the
/// group `pool`.
fn guest(version: u64) -> String {
    let response =
        b"\x82\xa6status\xcc\xc8\xa7headers\x91\x92\xaccontent-type\xaatext/plainHello, world!";
    let mut text = String::new();
    for byte in response {
        text += &format!("\\{byte:02x}");
    }
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "self" (func $self (param i32) (result i32)))
  (import "exuvia" "group_join" (func $join (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 256) "{text}")
  (data (i32.const 400) "pool")
  ;; Its state is reused by new code: only the code differs.
  (func (export "version") (result i32) (i32.const {version}))
  (@custom "exuvia.layout" "unused i64 at 16")
  (func (export "run") (result i32) (local $tag i32) (local $kind i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 65024) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (local.set $kind (i32.load (i32.const 68)))
      (local.set $tag (i32.load (i32.const 96)))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then
        (drop (call $self (i32.const 160)))
        (drop (call $join (i32.const 400) (i32.const 4) (i32.const 160)))))
      (if (i32.eq (local.get $kind) (i32.const 3)) (then
        (if (i32.eq (local.get $tag) (i32.const 0xffffff10))
          (then
            ;; The query of a WebSocket's URL is not empty: in the head, the byte behind "query" is not 0xa0.
            (if (call $has_query)
              (then (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0xffffff13) (i32.const 0) (i32.const 0))))
              (else (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0xffffff11) (i32.const 256) (i32.const {length}))))))
          (else
            (if (i32.ne (local.get $tag) (i32.const 0xffffff18)) (then
              (drop (call $send (i32.const 72) (local.get $tag) (i32.const 512) (i32.load (i32.const 100))))))
            (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (br $next))
    unreachable)
  (func $has_query (result i32) (local $at i32)
    (local.set $at (i32.const 512))
    (block $no (loop $more
      (br_if $no (i32.gt_u (local.get $at) (i32.const 700)))
      (if (i32.eq (i32.load (local.get $at)) (i32.const 0x72657571)) (then
        (return (i32.ne (i32.load8_u (i32.add (local.get $at) (i32.const 5))) (i32.const 0xa0)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $more)))
    (i32.const 0)))"#,
        length = response.len(),
    )
}

const MANIFEST: &str = r#"
[app]
name = "bench"
[modules.hello]
path = "hello.wasm"
[[listen]]
address = "127.0.0.1:0"
connections = 1000000
idle = "1h"
[[listen.routes]]
path = "/connection"
module = "hello"
per = "connection"
[[listen.routes]]
path = "/key/{id}"
module = "hello"
per = "key"
key = "key:{id}"
idle = "1h"
[[listen.routes]]
path = "/pool"
group = "pool"
[[listen.routes]]
path = "/request"
module = "hello"
"#;

/// Starts a node with one scheduler that listens. `frames`: so many processes are resident at a time; 0: as a node has.
fn node(frames: usize) -> (Node, SocketAddr) {
    on_core(0);
    let config = NodeConfig {
        frames,
        ..config(1)
    };
    let node = Node::start(config).unwrap();
    deploy(&node, "hello", &guest(1));
    for _ in 0..PROCESSES {
        node.spawn("hello", b"", &SpawnOptions::default()).unwrap();
    }
    let manifest = Manifest::parse(MANIFEST, "exuvia.toml", "/").unwrap();
    node.listen(&manifest.listen).unwrap();
    let address = node.addresses()[0];
    (node, address)
}

/// A server without processes, on a thread of its own.
struct Bare {
    address: SocketAddr,
    ends: Arc<tokio::sync::Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    /// `sockets`: it accepts WebSockets and echoes them.
    fn start(sockets: bool, core: usize) -> Bare {
        on_core(core);
        let (sender, address) = mpsc::channel();
        let ends = Arc::new(tokio::sync::Notify::new());
        let end = ends.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        match sockets {
                            true => drop(tokio::spawn(echo(stream))),
                            false => drop(tokio::spawn(hello(stream))),
                        }
                    }
                };
                tokio::select! {
                    () = accept => {}
                    () = end.notified() => {}
                }
            });
        });
        Bare {
            address: address.recv().unwrap(),
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.ends.notify_one();
        let _ = self.thread.take().unwrap().join();
    }
}

async fn hello(stream: tokio::net::TcpStream) {
    let service = service_fn(async |_: Request<hyper::body::Incoming>| {
        let response = Response::builder().header("content-type", "text/plain");
        Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(HELLO))).unwrap())
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn echo(stream: tokio::net::TcpStream) {
    use futures_util::{SinkExt as _, StreamExt as _};
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// What a load has measured.
struct Load {
    per_second: f64,
    /// Microseconds of each request, sorted.
    latencies: Vec<f64>,
    /// The same, with the time at which each was over.
    all: Vec<(Instant, f64)>,
}

/// Has connections ask again and again for some time, from the other core. `paths`: of each connection. With `sockets` they
/// are WebSockets, which send a short text.
fn load(address: SocketAddr, paths: &[String], sockets: bool, time: Duration) -> Load {
    on_core(1);
    let (sender, receiver) = mpsc::channel();
    let paths = paths.to_vec();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let counts = Arc::new(AtomicBool::new(false));
            let ends = Arc::new(AtomicBool::new(false));
            let mut clients = Vec::new();
            for path in paths {
                let (counts, ends) = (counts.clone(), ends.clone());
                let client = client(address, path, sockets, counts, ends);
                clients.push(tokio::spawn(client));
            }
            tokio::time::sleep(time / 4).await;
            counts.store(true, Ordering::Relaxed);
            let began = Instant::now();
            tokio::time::sleep(time).await;
            ends.store(true, Ordering::Relaxed);
            let took = began.elapsed();
            let mut all = Vec::new();
            for client in clients {
                all.extend(client.await.unwrap());
            }
            sender.send((took, all)).unwrap();
        });
    });
    let (took, all): (Duration, Vec<(Instant, f64)>) = receiver.recv().unwrap();
    thread.join().unwrap();
    let mut latencies: Vec<f64> = all.iter().map(|(_, latency)| *latency).collect();
    latencies.sort_by(f64::total_cmp);
    Load {
        per_second: latencies.len() as f64 / took.as_secs_f64(),
        latencies,
        all,
    }
}

/// One connection of a load. Returns the microseconds of each request.
async fn client(
    address: SocketAddr,
    path: String,
    sockets: bool,
    counts: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
) -> Vec<(Instant, f64)> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 4096];
    let request = match sockets {
        false => REQUEST.replace("PATH", &path).into_bytes(),
        true => {
            let handshake = format!(
                "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream.write_all(handshake.as_bytes()).await.unwrap();
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..count].starts_with(b"HTTP/1.1 101 "), "{path}");
            // Masked with zeroes.
            [&[0x81, 0x80 | HELLO.len() as u8, 0, 0, 0, 0], HELLO].concat()
        }
    };
    let mut latencies = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let began = Instant::now();
        stream.write_all(&request).await.unwrap();
        let mut filled = 0;
        while !buffer[..filled].ends_with(HELLO) {
            let count = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(
                count > 0,
                "{path}: {}",
                String::from_utf8_lossy(&buffer[..filled])
            );
            filled += count;
        }
        assert!(sockets || buffer.starts_with(b"HTTP/1.1 200 "));
        if counts.load(Ordering::Relaxed) {
            let over = Instant::now();
            latencies.push((over, (over - began).as_nanos() as f64 / 1e3));
        }
    }
    latencies
}

/// Who gets the requests, and the path of a connection.
const WAYS: [(&str, &str); 4] = [
    ("a process per connection", "/connection"),
    ("a process per key", "/key/{n}"),
    ("a pool", "/pool"),
    ("a process per request", "/request"),
];

fn paths(pattern: &str, connections: usize) -> Vec<String> {
    let number = |n: usize| (n % PROCESSES).to_string();
    (0..connections)
        .map(|n| pattern.replace("{n}", &number(n)))
        .collect()
}

/// Measures requests a second, and latencies of many connections.
pub(crate) fn requests(scale: Scale) -> Vec<Sample> {
    let time = Duration::from_millis(scale.of(4_000));
    let mut samples = Vec::new();
    let mut add = |what: &str, address: SocketAddr, pattern: &str| {
        let some = load(address, &paths(pattern, CONNECTIONS), false, time);
        samples.push((
            format!("HTTP, {CONNECTIONS} connections, {what}, requests/s"),
            some.per_second,
        ));
        let many = load(address, &paths(pattern, MANY), false, time);
        samples.push((
            format!(
                "HTTP, {} connections, {what}, p99, us",
                thousands(MANY as u64)
            ),
            quantile(&many.latencies, 0.99),
        ));
    };
    let bare = Bare::start(false, 0);
    add("hyper alone", bare.address, "/");
    drop(bare);
    let (node, address) = node(0);
    for (what, pattern) in WAYS {
        add(what, address, pattern);
    }
    node.halt();
    samples
}

/// Measures the requests that a server of Erlang responds to. `server` is the command that starts it; the first line of its
/// output is the port.
pub(crate) fn requests_of_beam(
    mut server: Command,
    way: &str,
    scale: Scale,
) -> Result<Vec<Sample>, String> {
    on_core(0);
    let server = server.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut server = Killed(server.map_err(|error| format!("{way} cannot be started: {error}"))?);
    let mut line = String::new();
    let output = server.0.stdout.take().expect("it is piped");
    let read = BufReader::new(output).read_line(&mut line);
    let port: u16 = (read.ok())
        .and_then(|_| line.trim().parse().ok())
        .ok_or_else(|| format!("{way} says no port, but `{}`", line.trim()))?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let time = Duration::from_millis(scale.of(4_000));
    let what = WAYS[0].0;
    let some = load(address, &paths("/", CONNECTIONS), false, time);
    let many = load(address, &paths("/", MANY), false, time);
    Ok(vec![
        (
            format!("HTTP, {CONNECTIONS} connections, {what}, requests/s [{way}]"),
            some.per_second,
        ),
        (
            format!(
                "HTTP, {} connections, {what}, p99, us [{way}]",
                thousands(MANY as u64)
            ),
            quantile(&many.latencies, 0.99),
        ),
    ])
}

/// A program that ends with this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds between two swaps under load.
const SWAP_EVERY: u64 = 3;

/// Measures latencies while the module behind all connections is replaced, ten times: in the second around a swap, and in the
/// rest. No request may fail.
pub(crate) fn swaps(scale: Scale) -> Vec<Sample> {
    let swaps = scale.of(10);
    let (node, address) = node(0);
    let time = Duration::from_secs(SWAP_EVERY * swaps);
    let loaded =
        std::thread::spawn(move || load(address, &paths("/connection", CONNECTIONS), false, time));
    // The load has its first quarter for itself.
    std::thread::sleep(time / 4);
    let mut at = Vec::new();
    for version in 0..swaps {
        let half = Duration::from_millis(SWAP_EVERY * 500);
        std::thread::sleep(half);
        at.push(Instant::now());
        deploy(&node, "hello", &guest(2 + version));
        std::thread::sleep(half.saturating_sub(at[at.len() - 1].elapsed()));
    }
    let load = loaded.join().unwrap();
    let half = Duration::from_millis(500);
    let is_near =
        |over: Instant| (at.iter()).any(|swap| over + half >= *swap && over <= *swap + half);
    let p99 = |near: bool| {
        let mut some: Vec<f64> = (load.all.iter())
            .filter(|(over, _)| is_near(*over) == near)
            .map(|(_, latency)| *latency)
            .collect();
        some.sort_by(f64::total_cmp);
        quantile(&some, 0.99)
    };
    let samples = vec![
        (
            format!("HTTP, {CONNECTIONS} connections, p99 in the second around a swap, us"),
            p99(true),
        ),
        (
            format!("HTTP, {CONNECTIONS} connections, p99 in the seconds without one, us"),
            p99(false),
        ),
    ];
    node.halt();
    samples
}

/// Requests to the outside that are under way at a time.
const OUTSIDE: usize = 64;

/// A guest that makes requests to the outside when it is asked: the payload is the pid of the client, their number, and a
/// request. It replies when all have been answered.
fn fetcher() -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "request" (func $request (param i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (global $left (mut i32) (i32.const 0))
  (global $unanswered (mut i32) (i32.const 0))
  (global $length (mut i32) (i32.const 0))
  (func $more
    (if (global.get $left) (then
      (global.set $left (i32.sub (global.get $left) (i32.const 1)))
      (if (call $request (i32.const 66000) (i32.const 0xffffff10) (i32.const 66020) (global.get $length) (i32.const 240))
        (then unreachable)))))
  (func (export "run") (result i32) (local $n i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 65024) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (memory.copy (i32.const 200) (i32.const 72) (i32.const 16))
        (i64.store (i32.const 216) (i64.load (i32.const 88)))
        (memory.copy (i32.const 66000) (i32.const 512) (i32.load (i32.const 100)))
        (global.set $length (i32.sub (i32.load (i32.const 100)) (i32.const 20)))
        (global.set $left (i32.load (i32.const 528)))
        (global.set $unanswered (global.get $left))
        (local.set $n (i32.const {OUTSIDE}))
        (loop $begin
          (call $more)
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br_if $begin (local.get $n)))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 4)) (then
        (if (i32.ne (i32.load (i32.const 96)) (i32.const 0xffffff11)) (then unreachable))
        (global.set $unanswered (i32.sub (global.get $unanswered) (i32.const 1)))
        (call $more)
        (if (i32.eqz (global.get $unanswered)) (then
          (drop (call $reply (i32.const 200) (i64.load (i32.const 216)) (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (br $next))
    unreachable))"#
    )
}

/// Measures requests that a process makes to a server on the other core, beside the library alone.
pub(crate) fn outside(scale: Scale) -> Vec<Sample> {
    let count = scale.of(100_000);
    let server = Bare::start(false, 1);
    let url = format!("http://{}/", server.address);
    let name = |what: &str| format!("HTTP to the outside, {OUTSIDE} under way, {what}, requests/s");
    on_core(0);
    let alone = alone(&url, count);

    let connect = vec!["127.0.0.1:*".parse().unwrap()];
    let mut config = config(1);
    config.limits.grants = Arc::new(Grants {
        connect,
        ..Grants::default()
    });
    let node = Node::start(config).unwrap();
    node.serve_outbound().unwrap();
    deploy(&node, "fetcher", &fetcher());
    let pid = spawn(&node, "fetcher");
    let client = node.find("exuvia.http").unwrap();
    let mut request = client.to_bytes().to_vec();
    request.extend(u32::try_from(count).unwrap().to_le_bytes());
    let head = vec![("url".into(), url.into())];
    rmpv::encode::write_value(&mut request, &rmpv::Value::Map(head)).unwrap();
    let round = Round {
        targets: [pid].into(),
        request,
        window: 1,
        expected: Expected::Any,
    };
    let began = Instant::now();
    ask_all(&node, round);
    let took = began.elapsed();
    node.halt();
    vec![
        (name("the library alone"), alone),
        (name("a process"), count as f64 / took.as_secs_f64()),
    ]
}

/// Returns the requests a second of the library alone.
fn alone(url: &str, count: u64) -> f64 {
    let url: hyper::Uri = url.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http::<Full<Bytes>>();
        let began = Instant::now();
        let each = count / OUTSIDE as u64;
        let tasks: Vec<_> = (0..OUTSIDE)
            .map(|_| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        let response = client.get(url.clone()).await.unwrap();
                        let body = response.into_body().collect().await.unwrap();
                        assert_eq!(body.to_bytes(), HELLO);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        (each * OUTSIDE as u64) as f64 / began.elapsed().as_secs_f64()
    })
}

/// Measures messages that WebSockets return.
pub(crate) fn sockets(scale: Scale) -> Vec<Sample> {
    let time = Duration::from_millis(scale.of(4_000));
    let mut samples = Vec::new();
    let mut add = |what: &str, address: SocketAddr, pattern: &str| {
        let all = load(address, &paths(pattern, SOCKETS), true, time);
        samples.push((
            format!("WebSocket, {SOCKETS} sockets, {what}, echoes/s"),
            all.per_second,
        ));
    };
    let bare = Bare::start(true, 0);
    add("the crate alone", bare.address, "/");
    drop(bare);
    let (node, address) = node(0);
    for (what, pattern) in WAYS {
        add(what, address, &format!("{pattern}?socket"));
    }
    node.halt();
    samples
}

/// Measures the memory of WebSockets at rest, each with a process of its own, after a message. With fewer descriptors than
/// they need there are fewer of them.
pub(crate) fn idle(scale: Scale) -> Vec<Sample> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = limit.current.unwrap_or(u64::MAX);
    let most = (limit.saturating_sub(OTHERS as u64) / 2).min(100_000);
    let wanted = scale.of(100_000).min(most / 1_000 * 1_000).max(1_000);
    // All but some are images, as with more sessions than a node has frames.
    let (node, address) = node(FRAMES);
    let open = |n: usize| {
        // Each source has some ten thousand ports.
        let stream = TcpStream::connect(address).unwrap();
        let url = format!("ws://{address}/connection?{n}");
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        socket.send(Message::text("hello")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("hello"));
        // Only the descriptor is kept.
        socket.get_ref().try_clone().unwrap()
    };
    let mut streams: Vec<TcpStream> = (0..500).map(open).collect();
    let settle = || {
        std::thread::sleep(Duration::from_millis(1_500));
        resident()
    };
    let before = settle();
    streams.extend((500..wanted as usize).map(open));
    let after = settle();
    let each = (after.saturating_sub(before)) as f64 / (wanted - 500) as f64;
    let mut samples = vec![(
        format!(
            "WebSocket at rest, {} of them, with its process, bytes",
            thousands(wanted)
        ),
        each,
    )];
    // It answers as before.
    let mut request = TcpStream::connect(address).unwrap();
    let mut last = f64::MAX;
    for _ in 0..100 {
        let began = Instant::now();
        request
            .write_all(REQUEST.replace("PATH", "/pool").as_bytes())
            .unwrap();
        let mut buffer = [0; 4096];
        let count = request.read(&mut buffer).unwrap();
        assert!(buffer[..count].ends_with(HELLO));
        last = last.min(began.elapsed().as_nanos() as f64 / 1e3);
    }
    samples.push((
        format!("HTTP beside {} WebSockets at rest, us", thousands(wanted)),
        last,
    ));
    drop((streams, request));
    wait_until("the sockets have ended", || {
        node.system().table.alive() < PROCESSES + 10
    });
    node.halt();
    samples
}
