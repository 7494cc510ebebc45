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
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let stream = stream.unwrap();
                std::thread::spawn(move || while answer(&stream).is_some() {});
            }
        });
        Server {
            address,
            connections,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Answers one request; `None` when the connection is to end.
fn answer(mut stream: &TcpStream) -> Option<()> {
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
            let _ = stream.read(&mut [0]);
            return None;
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

/// Starts a node with a guest that may connect to these.
fn node(connect: &[&str]) -> (Node, Puppet) {
    let all = ["*:*", "0.0.0.0/0:*", "[::]/0:*"];
    let node = guests::node_with(|config| config.limits = granted(&all));
    deploy(&node, "puppet", &puppet::text(1));
    node.serve_outbound().unwrap();
    let puppet = guest(&node, connect);
    (node, puppet)
}

fn guest(node: &Node, connect: &[&str]) -> Puppet {
    let limits = Limits {
        message_bytes: 2_000,
        ..granted(connect)
    };
    wasi::puppet(node, limits)
}

fn granted(connect: &[&str]) -> Limits {
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

fn get(guest: &Puppet, url: &str) -> Result<(u16, String), String> {
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
    assert_eq!(server.connections.load(Ordering::Relaxed), 1, "it is kept");
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
    let head = vec![("url".into(), server.url("/silent").into())];
    rmpv::encode::write_value(&mut bytes, &Value::Map(head)).unwrap();
    for _ in 0..50 {
        ending.request(client, REQUEST, &bytes).ok();
    }
    ending.kill();
    ending.wait_for_end();
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
