//! Requests of guests to the outside: what they may reach, what they get, and what happens when there is nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_node::abi::Code;
use exuvia_node::process::{Destination, Grants};
use exuvia_node::{Limits, Node};
use rmpv::Value;

use crate::guests::{self, deploy, eventually};
use crate::puppet::{self, DATA, Puppet, ROOM};
use crate::wasi;

const REQUEST: u32 = 0xffff_ff10;
const RESPONSE: u32 = 0xffff_ff11;
const REFUSED: u32 = u32::MAX;

/// A server of HTTP/1.1 in some lines.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Requests that are not answered, those whose clients have gone since, and chunks of the endless response.
    silent: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    given_up: AtomicUsize,
    chunks: AtomicUsize,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let silent = Arc::new(Counts::default());
        let counts = silent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let stream = stream.unwrap();
                let counts = counts.clone();
                std::thread::spawn(move || while answer(&stream, &counts).is_some() {});
            }
        });
        Server {
            address,
            connections,
            silent,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Answers one request; `None` when the connection is to end.
fn answer(mut stream: &TcpStream, counts: &Counts) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?;
    let (status, headers, body) = match path {
        "/echo" => ("200 OK", String::new(), [head.as_bytes(), &body].concat()),
        "/headed" => {
            let header = format!("x-large: {}\r\n", "x".repeat(3_000));
            ("200 OK", header, b"body".to_vec())
        }
        "/large" => ("200 OK", String::new(), vec![b'x'; 3_000]),
        "/here" => ("302 Found", "location: there\r\n".into(), Vec::new()),
        "/there" => ("200 OK", String::new(), head.split('\r').next()?.into()),
        "/keep" => (
            "307 Temporary Redirect",
            "location: /echo\r\n".into(),
            Vec::new(),
        ),
        "/ever" => ("302 Found", "location: /ever\r\n".into(), Vec::new()),
        "/away" => (
            "302 Found",
            "location: http://169.254.169.254/secret\r\n".into(),
            Vec::new(),
        ),
        "/silent" => {
            // Until the client gives up.
            counts.asked.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0]);
            counts.given_up.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        "/parts" | "/half" | "/endless" => {
            let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
            stream.write_all(begin.as_bytes()).ok()?;
            let count = if path == "/endless" { 100_000 } else { 20 };
            for n in 0..count {
                let chunk = format!("320\r\n{}\r\n", letter(n).to_string().repeat(800));
                stream.write_all(chunk.as_bytes()).ok()?;
                if path == "/endless" {
                    counts.chunks.fetch_add(1, Ordering::Relaxed);
                }
            }
            if path == "/half" {
                return None;
            }
            return stream.write_all(b"0\r\nx-sum: 7\r\n\r\n").ok();
        }
        "/cut" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            return None;
        }
        _ => ("404 Not Found", String::new(), Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).ok()
}

/// What a part consists of.
fn letter(part: usize) -> char {
    char::from(b'a' + (part % 26) as u8)
}

/// Starts a node with a guest that may connect to these.
pub(crate) fn node(connect: &[&str]) -> (Node, Puppet) {
    let all = ["*:*", "0.0.0.0/0:*", "[::]/0:*"];
    let node = guests::node_with(|config| config.limits = granted(&all));
    deploy(&node, "puppet", &puppet::text(1));
    node.serve_outbound().unwrap();
    let puppet = guest(&node, connect);
    (node, puppet)
}

pub(crate) fn guest(node: &Node, connect: &[&str]) -> Puppet {
    let limits = Limits {
        message_bytes: 2_000,
        ..granted(connect)
    };
    wasi::puppet(node, limits)
}

pub(crate) fn granted(connect: &[&str]) -> Limits {
    let connect: Vec<Destination> = connect.iter().map(|to| to.parse().unwrap()).collect();
    Limits {
        grants: Arc::new(Grants {
            connect,
            ..Grants::default()
        }),
        ..Limits::default()
    }
}

/// Makes a request; returns the status and the text of the response, or why there is none.
fn fetch(guest: &Puppet, head: &[(&str, Value)], body: &[u8]) -> Result<(u16, String), String> {
    let head = head
        .iter()
        .map(|(key, value)| (Value::from(*key), value.clone()));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(head.collect())).unwrap();
    bytes.extend_from_slice(body);
    let client = guest.node.find("exuvia.http").unwrap();
    let done = guest.call(client, REQUEST, &bytes, ROOM, 20_000).ok();
    if done.tag == REFUSED {
        return Err(String::from_utf8(done.payload().to_vec()).unwrap());
    }
    assert_eq!(done.tag, RESPONSE, "{done:?}");
    let mut rest = done.payload();
    let head = rmpv::decode::read_value(&mut rest).unwrap();
    let status = head
        .as_map()
        .unwrap()
        .iter()
        .find(|(key, _)| key.as_str() == Some("status"));
    let status = status.unwrap().1.as_u64().unwrap();
    Ok((status as u16, String::from_utf8(rest.to_vec()).unwrap()))
}

pub(crate) fn get(guest: &Puppet, url: &str) -> Result<(u16, String), String> {
    fetch(guest, &[("url", url.into())], b"")
}

#[test]
fn a_guest_reaches_what_it_is_granted() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.0/8:*"]);
    let pair = |name: &str, value: &str| Value::Array(vec![name.into(), value.into()]);
    let headers = Value::Array(vec![pair("X-One", "yes"), pair("Host", "other.com")]);
    let head = [
        ("method", "POST".into()),
        ("url", server.url("/echo").into()),
        ("headers", headers),
    ];
    let (status, text) = fetch(&guest, &head, b"hello").unwrap();
    assert_eq!(status, 200);
    assert!(text.starts_with("POST /echo HTTP/1.1"), "{text}");
    assert!(text.to_lowercase().contains("x-one: yes"), "{text}");
    assert!(text.ends_with("hello"), "{text}");
    let host = format!("host: {}", server.address);
    assert!(
        text.to_lowercase().contains(&host),
        "it is not the guest's to say: {text}"
    );
    assert!(!text.contains("other.com"), "{text}");
    assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    for _ in 0..20 {
        assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    }
    // One may not be free yet when the next request comes, from another thread; of two, one is.
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections <= 3, "they are kept: {connections}");
    node.halt();
}

#[test]
fn what_is_not_granted_is_denied() {
    let server = Server::start();
    let port = server.address.port();
    let (node, nothing) = node(&[]);
    let denied = |guest: &Puppet, url: &str, why: &str| {
        let error = get(guest, url).unwrap_err();
        assert!(
            error.starts_with("denied: ") && error.contains(why),
            "{url}: {error}"
        );
    };
    denied(&nothing, &server.url("/echo"), "127.0.0.1");
    // Names are checked, and also where they lead to.
    let by_name = guest(&node, &["localhost:*", "*.example.com:443"]);
    denied(
        &by_name,
        &format!("http://localhost:{port}/echo"),
        "not public",
    );
    denied(&by_name, &server.url("/echo"), "127.0.0.1");
    denied(&by_name, "http://a.example.com/", "a.example.com:80");
    let both = guest(&node, &["localhost:*", "127.0.0.1:*", "[::1]:*"]);
    assert_eq!(
        get(&both, &format!("http://localhost:{port}/none")),
        Ok((404, String::new()))
    );
    // The connection that this one has is not that of the other.
    denied(
        &by_name,
        &format!("http://localhost:{port}/none"),
        "not public",
    );
    let other_port = guest(&node, &[&format!("127.0.0.1:{}", port ^ 1)]);
    denied(&other_port, &server.url("/echo"), "127.0.0.1");
    // Nor is one led there.
    let all_local = guest(&node, &["127.0.0.0/8:*"]);
    denied(&all_local, &server.url("/away"), "169.254.169.254");
    assert_eq!(
        server.connections.load(Ordering::Relaxed),
        2,
        "no more than were granted"
    );
    node.halt();
}

#[test]
fn redirections_are_followed_as_browsers_do() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let post = |path: &str| {
        [
            ("method", Value::from("POST")),
            ("url", server.url(path).into()),
        ]
    };
    assert_eq!(
        fetch(&guest, &post("/here"), b"x"),
        Ok((200, "GET /there HTTP/1.1".into()))
    );
    let (status, text) = fetch(&guest, &post("/keep"), b"body").unwrap();
    assert_eq!(status, 200);
    assert!(
        text.starts_with("POST /echo") && text.ends_with("body"),
        "{text}"
    );
    let none = [("url", server.url("/here").into()), ("redirects", 0.into())];
    assert_eq!(fetch(&guest, &none, b""), Ok((302, String::new())));
    let error = get(&guest, &server.url("/ever")).unwrap_err();
    assert_eq!(error, "redirected: too often");
    node.halt();
}

#[test]
fn what_goes_wrong_is_said() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*", "*.invalid:*"]);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (url, error) in [
        (
            server.url("/large"),
            "too large: the response has more than 2000 bytes",
        ),
        (server.url("/cut"), "reset: "),
        (format!("http://{closed}/"), "connect: "),
        (
            "http://nowhere.invalid/".into(),
            "resolve: `nowhere.invalid`",
        ),
        ("ftp://127.0.0.1/".into(), "invalid: "),
        ("not a url".into(), "invalid: "),
    ] {
        let found = get(&guest, &url).unwrap_err();
        assert!(found.starts_with(error), "{url}: {found}");
    }
    let silent = [
        ("url", server.url("/silent").into()),
        ("timeout_ms", 200.into()),
    ];
    let error = fetch(&guest, &silent, b"").unwrap_err();
    assert!(error.starts_with("timeout: "), "{error}");
    for (head, error) in [
        (
            &[("method", Value::from("GET"))][..],
            "invalid: missing field `url`",
        ),
        (
            &[("url", server.url("/").into()), ("method", "A B".into())],
            "invalid: `A B` is no method",
        ),
        (
            &[
                ("url", server.url("/").into()),
                ("method", "CONNECT".into()),
            ],
            "invalid: ",
        ),
    ] {
        let found = fetch(&guest, head, b"").unwrap_err();
        assert!(found.starts_with(error), "{found}");
    }
    // It goes on.
    assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

#[test]
fn a_guest_that_ends_leaves_the_client_in_order() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let ending = self::guest(&node, &["127.0.0.1:*"]);
    let client = node.find("exuvia.http").unwrap();
    let mut bytes = Vec::new();
    let head = vec![
        ("url".into(), server.url("/silent").into()),
        ("timeout_ms".into(), 600_000.into()),
    ];
    rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
    for _ in 0..50 {
        ending.request(client, REQUEST, &bytes).ok();
    }
    let is_50 = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 50;
    eventually("all are there", || is_50(&server.silent.asked));
    ending.kill();
    // Long before their timeout.
    eventually("they are given up", || is_50(&server.silent.given_up));
    assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

#[test]
fn the_client_is_the_hosts() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let client = node.find("exuvia.http").unwrap();
    // Nobody else takes its name.
    guest
        .name("register", b"exuvia.other", guest.pid)
        .is(Code::Denied);
    guest
        .act("unregister", &[DATA, 11], b"exuvia.http")
        .is(Code::Denied);
    assert_eq!(node.find("exuvia.http").unwrap(), client);
    // And if it is killed there is another one.
    guest.on("kill", client).ok();
    eventually("another one", || {
        node.find("exuvia.http").is_ok_and(|pid| pid != client)
    });
    assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

#[test]
fn what_is_under_way_ends_with_the_client() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let client = node.find("exuvia.http").unwrap();
    let before = node.system().table.alive();
    let mut bytes = Vec::new();
    let head = vec![
        ("url".into(), server.url("/silent").into()),
        ("timeout_ms".into(), 600_000.into()),
    ];
    rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
    for _ in 0..50 {
        guest.request(client, REQUEST, &bytes).ok();
    }
    // What is a process of its own goes on.
    let body = open(&guest, &server.url("/parts"), 10_000).sender;
    let is_50 = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 50;
    eventually("all are there", || is_50(&server.silent.asked));
    guest.on("kill", client).ok();
    for _ in 0..50 {
        let down = guest.wait().ok();
        let kind = exuvia_node::abi::Kind::Down as u32;
        assert_eq!((down.sender, down.kind), (client, kind), "{down:?}");
    }
    eventually("they are given up", || is_50(&server.silent.given_up));
    guest.send(body, CLOSED, b"").ok();
    eventually("as many as before", || {
        node.system().table.alive() == before
    });
    assert_eq!(get(&guest, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

#[test]
fn one_process_does_not_take_all_places() {
    let server = Server::start();
    let (node, greedy) = node(&["127.0.0.1:*"]);
    let other = self::guest(&node, &["127.0.0.1:*"]);
    let client = node.find("exuvia.http").unwrap();
    let mut bytes = Vec::new();
    let head = vec![("url".into(), server.url("/silent").into())];
    rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
    for _ in 0..1_000 {
        greedy.request(client, REQUEST, &bytes).ok();
    }
    let error = get(&greedy, &server.url("/none")).unwrap_err();
    assert!(error.starts_with("limit: "), "{error}");
    assert_eq!(get(&other, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

#[test]
fn responses_that_are_not_received_do_not_pile_up() {
    let server = Server::start();
    let (node, other) = node(&["127.0.0.1:*"]);
    let limits = Limits {
        message_bytes: 10_000,
        mailbox_bytes: 50_000,
        ..granted(&["127.0.0.1:*"])
    };
    let client = node.find("exuvia.http").unwrap();
    // Whole, and heads of those that are read in parts.
    for (path, stream, tag) in [("/large", false, RESPONSE), ("/headed", true, STREAM)] {
        let mut bytes = Vec::new();
        let head = vec![
            ("url".into(), server.url(path).into()),
            ("stream".into(), stream.into()),
            ("timeout_ms".into(), 600_000.into()),
        ];
        rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
        let lazy = wasi::puppet(&node, limits.clone());
        let references: Vec<u64> = (0..100)
            .map(|_| lazy.request(client, REQUEST, &bytes).ok().reference)
            .collect();
        // All have a reply, and the responses among them fit into its mailbox.
        let mut responses = 0;
        for reference in &references {
            let mode = exuvia_node::abi::receive::REFERENCE;
            let arguments = [puppet::HEADER, puppet::BUFFER, 0, 20_000, mode.into()];
            let mut arguments = arguments.to_vec();
            arguments.push(reference.cast_signed());
            // They are looked at only: there is no room for them.
            let looked = lazy.act("receive", &arguments, b"");
            match looked.tag {
                REFUSED => {}
                found if found == tag => responses += 1,
                other => panic!("{other}: {looked:?}"),
            }
        }
        assert!((1..=16).contains(&responses), "{path}: {responses}");
    }
    assert_eq!(get(&other, &server.url("/none")), Ok((404, String::new())));
    node.halt();
}

/// Asks for the head of a response; returns the reply.
fn open(guest: &Puppet, url: &str, timeout: u64) -> puppet::Done {
    let mut bytes = Vec::new();
    let head = vec![
        ("url".into(), url.into()),
        ("stream".into(), true.into()),
        ("timeout_ms".into(), timeout.into()),
    ];
    rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
    let client = guest.node.find("exuvia.http").unwrap();
    guest.call(client, REQUEST, &bytes, ROOM, 20_000).ok()
}

const STREAM: u32 = 0xffff_ff12;
const PART: u32 = 0xffff_ff16;
const END: u32 = 0xffff_ff17;
const CLOSED: u32 = 0xffff_ff18;
const READ: u32 = 0xffff_ff19;

#[test]
fn a_response_is_read_in_parts() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = node.system().table.alive();
    let opened = open(&guest, &server.url("/parts"), 10_000);
    assert_eq!(opened.tag, STREAM, "{opened:?}");
    let body = opened.sender;
    let all: String = (0..20).map(|n| letter(n).to_string().repeat(800)).collect();
    let mut read = Vec::new();
    while read.len() < all.len() {
        let part = guest.call(body, READ, b"", ROOM, 20_000).ok();
        assert_eq!(part.tag, PART, "{part:?}");
        read.extend_from_slice(part.payload());
    }
    assert_eq!(String::from_utf8(read).unwrap(), all);
    let end = guest.call(body, READ, b"", ROOM, 20_000).ok();
    assert_eq!(end.tag, END);
    assert_eq!(end.payload(), b"\x81\xa8trailers\x91\x92\xa5x-sum\xa17");
    eventually("nothing is left", || node.system().table.alive() == before);
    // Or it comes by itself.
    let body = open(&guest, &server.url("/half"), 10_000).sender;
    guest.send(body, READ, b"").ok();
    let mut read = 0;
    while read < all.len() {
        let part = guest.wait();
        assert_eq!((part.sender, part.tag), (body, PART), "{part:?}");
        read += part.payload().len();
        guest.reply(body, part.message, 0, b"").ok();
    }
    // And is never complete when it was cut off.
    let end = guest.wait();
    assert_eq!((end.sender, end.tag), (body, CLOSED), "{end:?}");
    eventually("nothing is left", || node.system().table.alive() == before);
    node.halt();
}

#[test]
fn a_server_waits_for_whoever_reads_its_response() {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    let before = node.system().table.alive();
    let body = open(&guest, &server.url("/endless"), 1_000).sender;
    let part = guest.call(body, READ, b"", ROOM, 20_000).ok();
    assert_eq!(part.tag, PART);
    // Nobody reads on, and it is given up: until then the server has sent what the system keeps for both.
    eventually("nothing is left", || node.system().table.alive() == before);
    let sent = server.silent.chunks.load(Ordering::Relaxed) * 800;
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    // The end of the process ends it as well.
    let body = open(&guest, &server.url("/endless"), 600_000).sender;
    assert!(node.system().is_alive(body));
    guest.kill();
    eventually("nothing is left", || {
        node.system().table.alive() == before - 1
    });
    node.halt();
}
