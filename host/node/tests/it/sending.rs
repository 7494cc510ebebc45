//! Bodies of requests to the outside that are sent in parts: what the server gets, and what the process is told.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use exuvia_node::abi::{Code, Kind};
use exuvia_node::{Limits, Node, Pid};
use rmpv::Value;

use crate::connecting::{alive, pack, value};
use crate::guests::{self, eventually};
use crate::outbound::{granted, guest, node};
use crate::puppet::{self, Done, Puppet, ROOM};
use crate::uploads::{RELAY, boot_with};
use crate::wasi;

const REQUEST: u32 = 0xffff_ff10;
const STREAM: u32 = 0xffff_ff12;
const OPEN: u32 = 0xffff_ff14;
const BYTES: u32 = 0xffff_ff16;
const END: u32 = 0xffff_ff17;
const CLOSE: u32 = 0xffff_ff18;
const READ: u32 = 0xffff_ff19;
const REFUSED: u32 = u32::MAX;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server has got.
#[derive(Debug)]
struct Got {
    head: String,
    body: Vec<u8>,
    /// With the trailers. `None`: the body was cut off.
    end: Option<String>,
}

/// A server of HTTP/1.1 that says what it gets. The path says what it does: `/thanks` responds with a body, `/see` leads to
/// `/thanks` (303), `/again` to it with the body (307), `/early` responds with 413, reads nothing and closes the connection,
/// `/much` responds with 900 bytes, `/leave` reads one chunk, leads to `/silent` (303) and closes the connection, and `/silent` does not respond.
struct Server {
    address: SocketAddr,
    /// Told when a head has arrived.
    begins: Receiver<()>,
    got: Receiver<Got>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = channel();
        let (begun, begins) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                let begun = begun.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(got) = serve(&stream, &mut reader, &begun) {
                        if sender.send(got).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server {
            address,
            begins,
            got,
        }
    }

    fn url(&self, path: &str) -> Value {
        format!("http://{}{path}", self.address).into()
    }

    /// Waits until a request has begun.
    fn begins(&self) {
        self.begins.recv_timeout(PATIENCE).unwrap();
    }

    fn got(&self) -> Got {
        self.got.recv_timeout(PATIENCE).unwrap()
    }
}

fn line(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.ends_with("\r\n").then_some(line)
}

fn head(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let line = line(reader)?;
        head += &line.to_lowercase();
        if line == "\r\n" {
            return Some(head);
        }
    }
}

/// Reads a body; at its end its trailers.
fn body(head: &str, reader: &mut impl std::io::BufRead, to: &mut Vec<u8>) -> Option<String> {
    let length = |head: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok())
    };
    if !head.contains("transfer-encoding: chunked") {
        let length = length(head).unwrap_or(0);
        let read = reader.take(length).read_to_end(to).ok()?;
        return (read as u64 == length).then(String::new);
    }
    loop {
        let size = line(reader)?;
        let size = u64::from_str_radix(size.trim_end(), 16).unwrap();
        if size == 0 {
            return self::head(reader);
        }
        let read = reader.take(size).read_to_end(to).ok()?;
        if read as u64 != size || line(reader)? != "\r\n" {
            return None;
        }
    }
}

fn serve(
    mut stream: &TcpStream,
    reader: &mut BufReader<TcpStream>,
    begun: &Sender<()>,
) -> Option<Got> {
    let head = head(reader)?;
    begun.send(()).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let mut got = Got {
        head,
        body: Vec::new(),
        end: None,
    };
    if path == "/early" {
        let response = b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nmuch";
        stream.write_all(response).ok()?;
        // Otherwise the response could be lost with the connection.
        let _ = stream.read(&mut [0; 100]);
        return None;
    }
    if path == "/leave" {
        let (_, _) = (line(reader)?, line(reader)?);
        let response = b"HTTP/1.1 303 See Other\r\nlocation: /silent\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(response).ok()?;
        return None;
    }
    got.end = body(&got.head, reader, &mut got.body);
    if path == "/silent" {
        let _ = stream.read(&mut [0]);
    }
    let much = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{}",
        "x".repeat(900)
    );
    let response: &[u8] = match &*path {
        "/much" => much.as_bytes(),
        "/see" => b"HTTP/1.1 303 See Other\r\nlocation: /thanks\r\ncontent-length: 0\r\n\r\n",
        "/again" => {
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /thanks\r\ncontent-length: 0\r\n\r\n"
        }
        _ => b"HTTP/1.1 201 Created\r\nx-one: yes\r\ncontent-length: 6\r\n\r\nthanks",
    };
    if got.end.is_some() {
        stream.write_all(response).ok()?;
    }
    Some(got)
}

/// Begins a request; returns its socket, or why it was refused.
fn begin(guest: &Puppet, map: &[(&str, Value)], first: &[u8]) -> Result<Pid, String> {
    let client = guest.node.find("exuvia.http").unwrap();
    let mut all = vec![("upload", Value::from(true)), ("method", "PUT".into())];
    for (key, value) in map {
        all.retain(|(known, _)| known != key);
        all.push((key, value.clone()));
    }
    let bytes = [&pack(&all)[..], first].concat();
    let done = guest.call(client, REQUEST, &bytes, ROOM, 20_000).ok();
    if done.tag == REFUSED {
        return Err(text(&done));
    }
    assert_eq!(done.tag, OPEN, "{done:?}");
    let map = rmpv::decode::read_value(&mut done.payload()).unwrap();
    assert_eq!(value(&map, "kind").as_str(), Some("request"));
    Ok(done.sender)
}

fn text(done: &Done) -> String {
    String::from_utf8(done.payload().to_vec()).unwrap()
}

/// Sends something, and returns why it was not taken.
fn write(guest: &Puppet, socket: Pid, tag: u32, bytes: &[u8]) -> Result<(), String> {
    let done = guest.call(socket, tag, bytes, ROOM, 20_000).ok();
    if done.kind == Kind::Down as u32 {
        return Err("the socket has ended".to_owned());
    }
    match done.tag {
        REFUSED => Err(text(&done)),
        _ => Ok(()),
    }
}

/// Reads the head of the response, or why there is none.
fn status(guest: &Puppet, socket: Pid) -> Result<u64, String> {
    let done = guest.call(socket, READ, b"", ROOM, 20_000).ok();
    if done.tag == REFUSED {
        return Err(text(&done));
    }
    assert_eq!((done.sender, done.tag), (socket, STREAM), "{done:?}");
    let mut rest = done.payload();
    let head = rmpv::decode::read_value(&mut rest).unwrap();
    assert_eq!(rest, b"");
    Ok(value(&head, "status").as_u64().unwrap())
}

/// Reads a body to its end.
fn rest(guest: &Puppet, socket: Pid) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let done = guest.call(socket, READ, b"", ROOM, 20_000).ok();
        match done.tag {
            BYTES => all.extend_from_slice(done.payload()),
            tag => {
                assert_eq!(tag, END, "{done:?}");
                return all;
            }
        }
    }
}

fn started() -> (Server, Node, Puppet) {
    let server = Server::start();
    let (node, guest) = node(&["127.0.0.1:*"]);
    (server, node, guest)
}

#[test]
fn a_body_is_sent_in_parts_with_its_length_or_in_chunks() {
    let (server, node, guest) = started();
    let before = alive(&node);
    for length in [Some(15), None] {
        let mut map = vec![("url", server.url("/thanks"))];
        map.extend(length.map(|length| ("length", Value::from(length))));
        let socket = begin(&guest, &map, b"first").unwrap();
        for part in [&b"hello"[..], b"", b"again"] {
            write(&guest, socket, BYTES, part).unwrap();
        }
        let trailers = pack(&[(
            "trailers",
            Value::Array(vec![Value::Array(vec!["x-sum".into(), "7".into()])]),
        )]);
        let end = if length.is_none() { &trailers[..] } else { b"" };
        write(&guest, socket, END, end).unwrap();
        assert_eq!(status(&guest, socket), Ok(201));
        assert_eq!(rest(&guest, socket), b"thanks");
        let got = server.got();
        assert!(got.head.starts_with("put /thanks "), "{}", got.head);
        assert_eq!(got.body, b"firsthelloagain");
        let (has_length, is_chunked) = (
            got.head.contains("\r\ncontent-length: 15\r\n"),
            got.head.contains("chunked"),
        );
        assert_eq!(
            (has_length, is_chunked),
            (length.is_some(), length.is_none())
        );
        assert!(got.end.is_some(), "it is complete");
    }
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_body_without_bytes_is_not_complete_before_its_process_says_so() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let none = [("url", server.url("/thanks")), ("length", 0.into())];
    // Given up, it was no request.
    let socket = begin(&guest, &none, b"").unwrap();
    write(&guest, socket, BYTES, b"").unwrap();
    write(&guest, socket, CLOSE, b"").unwrap();
    eventually("nothing is left", || alive(&node) == before);
    let socket = begin(&guest, &none, b"").unwrap();
    let why = "invalid: the body has more bytes than the 0 that were stated";
    assert_eq!(write(&guest, socket, BYTES, b"x"), Err(why.into()));
    assert_eq!(status(&guest, socket), Err(why.into()));
    // One that is ended.
    let socket = begin(&guest, &none, b"").unwrap();
    write(&guest, socket, END, b"").unwrap();
    assert_eq!(status(&guest, socket), Ok(201));
    assert_eq!(rest(&guest, socket), b"thanks");
    let got = server.got();
    assert!(got.head.contains("\r\ncontent-length: 0\r\n"), "{got:?}");
    assert_eq!((got.body, got.end.is_some()), (Vec::new(), true));
    server.begins();
    assert!(server.begins.try_recv().is_err(), "there was one request");
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn an_upload_stays_when_the_client_is_killed() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let client = node.find("exuvia.http").unwrap();
    let socket = begin(&guest, &[("url", server.url("/thanks"))], b"one").unwrap();
    server.begins();
    guest.on("kill", client).ok();
    eventually("another one", || {
        node.find("exuvia.http").is_ok_and(|pid| pid != client)
    });
    write(&guest, socket, BYTES, b"two").unwrap();
    write(&guest, socket, END, b"").unwrap();
    assert_eq!(status(&guest, socket), Ok(201));
    assert_eq!(rest(&guest, socket), b"thanks");
    assert_eq!(server.got().body, b"onetwo");
    // And ends with its process, also while the server says nothing.
    let socket = begin(&guest, &[("url", server.url("/silent"))], b"one").unwrap();
    server.begins();
    guest.on("kill", node.find("exuvia.http").unwrap()).ok();
    write(&guest, socket, BYTES, b"two").unwrap();
    guest.kill();
    assert_eq!(server.got().end, None);
    eventually("nothing is left", || alive(&node) == before - 1);
    node.halt();
}

#[test]
fn what_a_server_leads_to_has_its_time_also_if_it_has_not_taken_the_body() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let map = [("url", server.url("/leave")), ("timeout_ms", 2_000.into())];
    let socket = begin(&guest, &map, b"body").unwrap();
    let why = "timeout: there was no response in time";
    assert_eq!(status(&guest, socket), Err(why.into()));
    // And is given up when its process wants nothing more.
    let map = [
        ("url", server.url("/leave")),
        ("timeout_ms", 600_000.into()),
    ];
    for _ in 0..2 {
        server.begins();
    }
    let socket = begin(&guest, &map, b"body").unwrap();
    for _ in 0..2 {
        server.begins();
    }
    write(&guest, socket, CLOSE, b"").unwrap();
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_body_that_is_not_what_was_stated_is_an_error_on_both_sides() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let map = [("url", server.url("/thanks")), ("length", 10.into())];
    // Too few bytes.
    let socket = begin(&guest, &map, b"hello").unwrap();
    server.begins();
    let why = "invalid: the body has 5 bytes, and 10 were stated";
    assert_eq!(write(&guest, socket, END, b""), Err(why.into()));
    assert_eq!(status(&guest, socket), Err(why.into()));
    assert_eq!(server.got().end, None);
    // Too many; before that, all of them did not look complete.
    let socket = begin(&guest, &map, b"hello").unwrap();
    server.begins();
    write(&guest, socket, BYTES, b"again").unwrap();
    let why = "invalid: the body has more bytes than the 10 that were stated";
    assert_eq!(write(&guest, socket, BYTES, b"!"), Err(why.into()));
    assert_eq!(status(&guest, socket), Err(why.into()));
    assert_eq!(server.got().end, None);
    // Trailers, which such a body cannot have.
    let socket = begin(&guest, &map, b"helloagain").unwrap();
    server.begins();
    let trailers = Value::Array(vec![Value::Array(vec!["x-sum".into(), "7".into()])]);
    let trailers = pack(&[("trailers", trailers)]);
    let why = "invalid: a body with `length` has no trailers";
    assert_eq!(write(&guest, socket, END, &trailers), Err(why.into()));
    assert_eq!(status(&guest, socket), Err(why.into()));
    assert_eq!(server.got().end, None);
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_body_whose_process_ends_or_gives_up_never_looks_complete() {
    let (server, node, one) = started();
    let two = guest(&node, &["127.0.0.1:*"]);
    let before = alive(&node);
    // All bytes of the stated length, or some of unknown length.
    for length in [Some(5), None] {
        let mut map = vec![("url", server.url("/thanks"))];
        map.extend(length.map(|length| ("length", Value::from(length))));
        let socket = begin(&one, &map, b"").unwrap();
        write(&one, socket, BYTES, b"hello").unwrap();
        server.begins();
        write(&one, socket, CLOSE, b"").unwrap();
        assert_eq!(server.got().end, None);
        eventually("nothing is left", || alive(&node) == before);
        let socket = begin(&one, &map, b"").unwrap();
        write(&one, socket, BYTES, b"hello").unwrap();
        server.begins();
        one.on("kill", socket).ok();
        assert_eq!(server.got().end, None);
    }
    let socket = begin(&two, &[("url", server.url("/thanks"))], b"").unwrap();
    write(&two, socket, BYTES, b"hello").unwrap();
    server.begins();
    two.kill();
    assert_eq!(server.got().end, None);
    eventually("nothing is left", || alive(&node) == before - 1);
    node.halt();
}

#[test]
fn a_redirection_cannot_have_the_body_again() {
    let (server, node, guest) = started();
    let socket = begin(&guest, &[("url", server.url("/again"))], b"body").unwrap();
    guest.send(socket, END, b"").ok();
    let error = status(&guest, socket).unwrap_err();
    assert!(error.starts_with("redirected: to `http://"), "{error}");
    assert!(error.contains("(307)"), "{error}");
    assert_eq!(server.got().body, b"body");
    // It may look at it itself.
    let map = [("url", server.url("/again")), ("redirects", 0.into())];
    let socket = begin(&guest, &map, b"body").unwrap();
    guest.send(socket, END, b"").ok();
    assert_eq!(status(&guest, socket), Ok(307));
    server.got();
    // And one that asks for no body is followed.
    let socket = begin(&guest, &[("url", server.url("/see"))], b"body").unwrap();
    guest.send(socket, END, b"").ok();
    assert_eq!(status(&guest, socket), Ok(201));
    assert_eq!(server.got().body, b"body");
    let next = server.got();
    assert!(next.head.starts_with("get /thanks "), "{}", next.head);
    node.halt();
}

#[test]
fn a_response_may_come_before_the_end_of_the_body() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let socket = begin(&guest, &[("url", server.url("/early"))], b"body").unwrap();
    assert_eq!(status(&guest, socket), Ok(413), "it has not ended");
    // What is still sent is refused in the end.
    eventually("it is refused", || {
        write(&guest, socket, BYTES, &[7; 1_000]).is_err()
    });
    guest.send(socket, CLOSE, b"").ok();
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_part_of_the_response_that_no_mailbox_takes_ends_it() {
    let (server, node, _) = started();
    let limits = Limits {
        mailbox_bytes: 800,
        ..granted(&["127.0.0.1:*"])
    };
    let small = wasi::puppet(&node, limits);
    let before = alive(&node);
    let socket = begin(&small, &[("url", server.url("/much"))], b"body").unwrap();
    write(&small, socket, END, b"").unwrap();
    assert_eq!(status(&small, socket), Ok(200));
    let closed = small.call(socket, READ, b"", ROOM, 20_000).ok();
    assert_eq!((closed.sender, closed.tag), (socket, CLOSE), "{closed:?}");
    let map = rmpv::decode::read_value(&mut closed.payload()).unwrap();
    assert_eq!(value(&map, "code").as_u64(), Some(1009));
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn what_is_wrong_is_said() {
    let (server, node, guest) = started();
    let before = alive(&node);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nowhere = format!("http://{}/", nowhere.unwrap());
    for (map, why) in [
        (vec![("url", "http://10.0.0.1/".into())], "denied: "),
        (vec![("url", "ftp://127.0.0.1/".into())], "invalid: "),
        (
            vec![("url", server.url("/")), ("method", "GET".into())],
            "invalid: a GET has no body",
        ),
        (
            vec![
                ("url", server.url("/")),
                ("length", 1.into()),
                ("upload", false.into()),
            ],
            "invalid: `length` is of a body",
        ),
    ] {
        let error = begin(&guest, &map, b"").unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
    // What turns out later is the reply to a write, and to who asks for the response.
    let socket = begin(&guest, &[("url", nowhere.into())], b"").unwrap();
    eventually("it is refused", || {
        write(&guest, socket, BYTES, b"x").is_err_and(|why| why.starts_with("connect: "))
    });
    let error = status(&guest, socket).unwrap_err();
    assert!(error.starts_with("connect: "), "{error}");
    // Nobody sends anything, or responds.
    let slow = |path: &str| [("url", server.url(path)), ("timeout_ms", 300.into())];
    let socket = begin(&guest, &slow("/thanks"), b"x").unwrap();
    let error = status(&guest, socket).unwrap_err();
    assert!(
        error.starts_with("timeout: the process has sent"),
        "{error}"
    );
    assert_eq!(server.got().end, None);
    let socket = begin(&guest, &slow("/silent"), b"x").unwrap();
    guest.send(socket, END, b"").ok();
    let error = status(&guest, socket).unwrap_err();
    assert!(
        error.starts_with("timeout: there was no response"),
        "{error}"
    );
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_server_that_takes_nothing_holds_up_its_process_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // What waits for a socket is bounded by the mailbox of its process.
    let limits = Limits {
        mailbox_bytes: 1 << 20,
        ..granted(&["127.0.0.1:*"])
    };
    let node = guests::node_with(|config| config.limits = limits);
    guests::deploy(&node, "puppet", &puppet::text(1));
    node.serve_outbound().unwrap();
    let guest = guest(&node, &["127.0.0.1:*"]);
    let map = [("url", url.into()), ("timeout_ms", 8_000.into())];
    let socket = begin(&guest, &map, b"").unwrap();
    let mut sent = 0;
    while guest.send(socket, BYTES, &[7; 1_900]).result == 0 {
        sent += 1_900;
        // What the system takes, the port, and the mailbox of its process.
        assert!(sent < 32 << 20, "{sent} bytes were taken");
    }
    guest.send(socket, BYTES, &[7; 1_900]).is(Code::MailboxFull);
    // It is given up in the end.
    let error = status(&guest, socket).unwrap_err();
    let why = "timeout: the server takes no more of the body";
    assert_eq!(error, why);
    node.halt();
}

/// The bytes of a body from here on. Their pattern has no length of a part in it.
fn pattern(at: u64, length: usize) -> Vec<u8> {
    (at..at + length as u64)
        .map(|at| (at % 65_521 % 251) as u8)
        .collect()
}

/// A guest written with the SDK passes a body on, which is far larger than its memory may be: every byte of it arrives, in order,
/// and no more of it is anywhere than the two systems and some parts have.
#[test]
fn a_large_body_goes_through_a_process_with_little_memory() {
    const LENGTH: u64 = 200 << 20;
    const PART: usize = 1 << 20;
    let limits =
        format!("[modules.store.limits]\nmemory = \"4MiB\"\nmailbox_bytes = \"1MiB\"\n{RELAY}");
    let (app, address) = boot_with(&crate::sdk::platform("relay"), &limits);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (goes_on, waits) = channel::<()>();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::with_capacity(64 << 10, stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        assert!(
            head.contains(&format!("\r\ncontent-length: {LENGTH}\r\n")),
            "{head}"
        );
        // Nothing is read for now.
        waits.recv().unwrap();
        let mut at = 0;
        let mut part = vec![0; PART];
        while at < LENGTH {
            reader.read_exact(&mut part).unwrap();
            assert!(part == pattern(at, PART), "the bytes from {at} on");
            at += PART as u64;
        }
        let thanks = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks";
        stream.write_all(thanks).unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "LINK /relay?url={url} HTTP/1.1\r\nhost: test\r\ncontent-length: {LENGTH}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    // As much as is taken while the server does not read: what systems and processes hold.
    client
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut at = 0_u64;
    while at < LENGTH {
        match client.write(&pattern(at, PART)) {
            Ok(count) => at += count as u64,
            Err(_) => break,
        }
    }
    assert!(at < 64 << 20, "{at} bytes are somewhere");
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    goes_on.send(()).unwrap();
    while at < LENGTH {
        let length = PART.min((LENGTH - at) as usize);
        client.write_all(&pattern(at, length)).unwrap();
        at += length as u64;
    }
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.ends_with("thanks"), "{response}");
    server.join().unwrap();
    app.stop(PATIENCE);
}
