//! Addresses of UDP: who gets a datagram, who may be answered, and what is lost when a process is slow.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exuvia_manifest::{Listen, Manifest};
use exuvia_node::abi::{Code, Kind};
use exuvia_node::{App, DeployOptions, Event, Node, Pid};

use crate::connecting::{alive, pack, value};
use crate::guests::{self, boot_options, deploy, event, eventually, module, spawn};
use crate::puppet::{self, Done, Puppet, ROOM};
use crate::sockets::echo;

const OPEN: u32 = 0xffff_ff14;
const BYTES: u32 = 0xffff_ff16;
const CLOSE: u32 = 0xffff_ff18;
const READ: u32 = 0xffff_ff19;
const DATAGRAM: u32 = 0xffff_ff1a;
const REFUSED: u32 = u32::MAX;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a manifest with these lines listens to.
fn listen(lines: &str) -> Vec<Listen> {
    let text = format!("[app]\nname = \"test\"\n[modules.m]\npath = \"m.wasm\"\n{lines}");
    let manifest = Manifest::parse(&text, "exuvia.toml", Path::new("/app"));
    manifest.unwrap_or_else(|error| panic!("{error}")).listen
}

fn udp(address: &str, lines: &str) -> String {
    format!("[[listen]]\naddress = \"{address}\"\nprotocol = \"udp\"\n{lines}\n")
}

/// Listens at any port. Returns the address.
fn open(node: &Node, lines: &str) -> SocketAddr {
    let mut events = node.events();
    node.listen(&listen(&udp("127.0.0.1:0", lines))).unwrap();
    listening(&mut events)
}

fn listening(events: &mut tokio::sync::broadcast::Receiver<Event>) -> SocketAddr {
    event(events, "it listens", |event| match event {
        Event::Listening { url } => Some(url.strip_prefix("udp://")?.parse().unwrap()),
        _ => None,
    })
}

/// A process of a module with a name.
fn named(node: &Node, module: &str, name: &str) -> Pid {
    let pid = spawn(node, module, b"");
    node.system().register(name, pid).unwrap();
    pid
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn received(client: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let count = client.recv(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn ask(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    client.send_to(bytes, to).unwrap();
    received(client)
}

/// Waits until all datagrams have been read that a client has sent to a port, but for the last one.
fn are_read(client: &UdpSocket, port: u16) {
    // A busy system brings them later, in order: this one comes behind them.
    assert_eq!(ask(client, client.local_addr().unwrap(), b"self"), b"self");
    let local = format!("0100007F:{port:04X}");
    eventually("they are read", || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let line = table.lines().find(|line| line.contains(&local));
        line.is_some_and(|line| line.contains(":00000000 00:"))
    });
}

/// A puppet with a name, which takes what arrives when it is told to.
fn puppet(node: &Node, name: &str) -> Puppet {
    deploy(node, "puppet", &puppet::text(1));
    let puppet = Puppet::new(node);
    node.system().register(name, puppet.pid).unwrap();
    puppet
}

/// Takes the message that a socket is open. Returns the socket.
fn opened(puppet: &Puppet) -> Pid {
    let message = puppet.wait();
    assert_eq!(
        (message.kind, message.tag),
        (Kind::Message as u32, OPEN),
        "{message:?}"
    );
    let map = rmpv::decode::read_value(&mut message.payload()).unwrap();
    assert_eq!(value(&map, "kind").as_str(), Some("udp"));
    assert_eq!(value(&map, "peer").as_str(), Some(""));
    message.sender
}

/// Takes a datagram: who has sent it, and its bytes.
fn datagram(puppet: &Puppet, socket: Pid) -> (String, Vec<u8>, Done) {
    let message = puppet.wait();
    assert_eq!(
        (message.sender, message.kind, message.tag),
        (socket, Kind::Request as u32, DATAGRAM),
        "{message:?}"
    );
    let mut bytes = message.payload();
    let map = rmpv::decode::read_value(&mut bytes).unwrap();
    let peer = value(&map, "peer").as_str().unwrap().to_owned();
    (peer, bytes.to_vec(), message.clone())
}

fn to(peer: &str, bytes: &[u8]) -> Vec<u8> {
    [&pack(&[("peer", peer.into())])[..], bytes].concat()
}

#[test]
fn a_process_gets_datagrams_and_answers_them() {
    let node = guests::node();
    deploy(&node, "echo", &echo(""));
    let first = named(&node, "echo", "room");
    let before = alive(&node);
    let address = open(&node, "name = \"room\"\ndatagram = \"2000B\"");
    let (one, two) = (client(), client());
    assert_eq!(ask(&one, address, b"hello"), b"hello");
    assert_eq!(ask(&two, address, b""), b"", "an empty one");
    assert_eq!(ask(&one, address, &[7; 2_000]), [7; 2_000]);
    // What is too large is not answered, and what comes then is.
    one.send_to(&[7; 2_001], address).unwrap();
    assert_eq!(ask(&one, address, b"again"), b"again");
    let all = alive(&node);
    assert!(all > before, "the socket is a process");

    // Another process has the name, and a socket of its own.
    node.kill(first);
    eventually("it has ended", || !node.system().is_alive(first));
    client().send_to(b"lost", address).unwrap();
    named(&node, "echo", "room");
    assert_eq!(ask(&two, address, b"you"), b"you");
    eventually("one socket", || alive(&node) == all);

    // An edit: who gets them, and then nobody does.
    let edited = udp("127.0.0.1:0", "name = \"nobody\"");
    node.listen(&listen(&edited)).unwrap();
    let second = udp("127.0.0.1:0", "name = \"other\"");
    deploy(&node, "other", &echo(" of the other"));
    named(&node, "other", "other");
    node.listen(&listen(&second)).unwrap();
    assert_eq!(ask(&one, address, b"hi"), b"hi of the other");
    node.listen(&[]).unwrap();
    eventually("the address is free", || UdpSocket::bind(address).is_ok());
    // The gateway has a process, and so has the other module.
    eventually("nothing is left", || alive(&node) == before + 2);
    node.halt();
}

#[test]
fn a_slow_process_loses_datagrams_and_nothing_else() {
    let node = guests::node();
    let puppet = puppet(&node, "slow");
    let before = alive(&node);
    let address = open(&node, "name = \"slow\"\nqueue = 8\ndatagram = \"100B\"");
    let client = client();
    for n in 0..50_u8 {
        client.send_to(&[n], address).unwrap();
    }
    // The last one: those before have been looked at when it is in hand.
    client.send_to(&[0; 101], address).unwrap();
    are_read(&client, address.port());
    let socket = opened(&puppet);
    let peer = client.local_addr().unwrap().to_string();
    let acknowledged = |expected: u8| {
        let (from, bytes, message) = datagram(&puppet, socket);
        assert_eq!((from, bytes), (peer.clone(), vec![expected]));
        puppet.reply(socket, message.message, 0, b"").ok();
    };
    // What comes before the socket has taken an acknowledgement finds no room: it answers this behind all of them.
    let has_taken_them = || {
        let done = puppet.call(socket, READ, b"", ROOM, 20_000).ok();
        assert_eq!((done.sender, done.tag), (socket, REFUSED), "{done:?}");
    };
    for n in 0..8 {
        acknowledged(n);
    }
    puppet.has_nothing();
    has_taken_them();
    // There is room again; for three, after an edit.
    client.send_to(&[99], address).unwrap();
    acknowledged(99);
    has_taken_them();
    let edited = udp(
        "127.0.0.1:0",
        "name = \"slow\"\nqueue = 3\ndatagram = \"100B\"",
    );
    node.listen(&listen(&edited)).unwrap();
    for n in 0..8_u8 {
        client.send_to(&[n], address).unwrap();
    }
    client.send_to(&[0; 101], address).unwrap();
    are_read(&client, address.port());
    for n in 0..3 {
        acknowledged(n);
    }
    node.listen(&[]).unwrap();
    let closed = puppet.wait();
    assert_eq!(closed.tag, CLOSE, "{closed:?}");
    let map = rmpv::decode::read_value(&mut closed.payload()).unwrap();
    assert_eq!(value(&map, "code").as_u64(), Some(1000));
    assert_eq!(value(&map, "lost").as_u64(), Some(47));
    puppet.reply(socket, closed.message, 0, b"").ok();
    // The gateway has a process.
    eventually("nothing is left", || alive(&node) == before + 1);
    node.halt();
}

#[test]
fn a_slow_member_of_a_group_takes_nothing_from_the_others() {
    let node = guests::node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "echo", &echo(""));
    let (slow, quick) = (Puppet::new(&node), spawn(&node, "echo", b""));
    for pid in [slow.pid, quick] {
        node.system().join("pool", pid).unwrap();
    }
    let address = open(&node, "group = \"pool\"\nqueue = 32");
    // Clients until each member has one: whose it is says who gets its first datagram.
    let (mut of_slow, mut of_quick) = (None, None);
    while of_slow.is_none() || of_quick.is_none() {
        let client = client();
        client.send_to(&[0], address).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut opens = None;
        eventually("a member has it", || {
            let next = slow.next();
            opens = (next.result >= 0).then_some(next);
            opens.is_some() || client.recv(&mut [0; 9]).is_ok()
        });
        client.set_nonblocking(false).unwrap();
        match opens {
            None => of_quick = Some(client),
            Some(opens) if of_slow.is_none() => {
                assert_eq!(opens.tag, OPEN, "{opens:?}");
                datagram(&slow, opens.sender);
                of_slow = Some((client, opens.sender));
            }
            // One more in the window.
            Some(_) => {}
        }
    }
    let ((of_slow, socket), of_quick) = (of_slow.unwrap(), of_quick.unwrap());
    // Its window is full after 32 at most, and what is lost then is no flood.
    for n in 0..90_u8 {
        of_slow.send_to(&[n], address).unwrap();
    }
    assert_eq!(ask(&of_quick, address, b"hello"), b"hello");
    let mut got = 0;
    while slow.next().result >= 0 {
        got += 1;
    }
    assert!(got < 32, "{got}: it was not slow");
    assert!(node.system().is_alive(socket));
    node.halt();
}

#[test]
fn only_who_has_sent_something_is_answered() {
    let node = guests::node();
    let puppet = puppet(&node, "p");
    let address = open(&node, "name = \"p\"");
    let (known, stranger) = (client(), client());
    known.send_to(b"hello", address).unwrap();
    let socket = opened(&puppet);
    let (peer, _, message) = datagram(&puppet, socket);
    let call = |tag: u32, payload: &[u8]| {
        let done = puppet.call(socket, tag, payload, ROOM, 20_000).ok();
        let text = String::from_utf8(done.payload().to_vec()).unwrap();
        (done.tag, text)
    };
    assert_eq!(call(DATAGRAM, &to(&peer, b"one")), (0, String::new()));
    assert_eq!(received(&known), b"one");
    // As often as it wants, and also when it has acknowledged.
    puppet.reply(socket, message.message, 0, b"").ok();
    puppet.send(socket, DATAGRAM, &to(&peer, b"two")).ok();
    assert_eq!(received(&known), b"two");
    let other = stranger.local_addr().unwrap().to_string();
    for (tag, payload, why) in [
        (DATAGRAM, to(&other, b"x"), "denied: no datagram from 127."),
        (DATAGRAM, to("10.0.0.1:53", b"x"), "denied: "),
        (DATAGRAM, to("localhost:1", b"x"), "invalid: `localhost:1`"),
        (DATAGRAM, b"x".to_vec(), "invalid: "),
        (DATAGRAM, to(&peer, &[0; 3_000]), ""),
        (BYTES, b"x".to_vec(), "this connection takes no such"),
        (READ, Vec::new(), "what arrives is sent without"),
    ] {
        let (replied, text) = call(tag, &payload);
        let expected = if why.is_empty() { 0 } else { REFUSED };
        assert_eq!(replied, expected, "{text}");
        assert!(text.starts_with(why), "{text}");
    }
    assert_eq!(received(&known).len(), 3_000);
    stranger.set_nonblocking(true).unwrap();
    let nothing = stranger.recv(&mut [0; 9]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    // The process closes its socket; the next datagram opens another.
    call(CLOSE, b"");
    eventually("it is closed", || !node.system().is_alive(socket));
    known.send_to(b"hello", address).unwrap();
    assert_ne!(opened(&puppet), socket);
    node.halt();
}

#[test]
fn each_sender_has_one_member_of_a_group() {
    let node = guests::node();
    for (name, version) in [("one", "1"), ("two", "2")] {
        deploy(&node, name, &echo(version));
        let pid = spawn(&node, name, b"");
        node.system().join("pool", pid).unwrap();
    }
    let address = open(&node, "group = \"pool\"");
    let mut seen = [0; 2];
    for _ in 0..40 {
        let client = client();
        let first = ask(&client, address, b"");
        for _ in 0..3 {
            assert_eq!(ask(&client, address, b""), first);
        }
        seen[usize::from(first == b"2")] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    node.halt();
}

#[test]
fn a_socket_of_datagrams_outlives_a_swap() {
    let node = guests::node();
    deploy(&node, "echo", &echo("1"));
    named(&node, "echo", "room");
    let address = open(&node, "name = \"room\"");
    let client = client();
    assert_eq!(ask(&client, address, b"v"), b"v1");
    let all = alive(&node);
    node.deploy(vec![module("echo", &echo("2"))], DeployOptions::default())
        .unwrap();
    assert_eq!(ask(&client, address, b"v"), b"v2");
    assert_eq!(alive(&node), all, "the same socket");
    node.halt();
}

#[test]
fn a_flood_does_not_stop_the_node() {
    let node = guests::node();
    let slow = puppet(&node, "slow");
    deploy(&node, "echo", &echo(""));
    named(&node, "echo", "room");
    let before = alive(&node);
    let lines = [
        udp("127.0.0.1:0", "name = \"slow\""),
        "[[listen]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nname = \"room\"\n".to_owned(),
    ];
    let mut events = node.events();
    node.listen(&listen(&lines.concat())).unwrap();
    let (flooded, tcp) = (listening(&mut events), node.addresses()[0]);
    let stops = Arc::new(AtomicBool::new(false));
    let ends = stops.clone();
    let flood = std::thread::spawn(move || {
        let socket = client();
        let mut sent = 0_u64;
        while !ends.load(Ordering::Relaxed) {
            // The system may have no room.
            sent += u64::from(socket.send_to(&[7; 64], flooded).is_ok());
        }
        sent
    });
    let socket = opened(&slow);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
    stops.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    assert!(sent > 1_000, "{sent} is no flood");
    // It has as many as its window, and no more wait anywhere.
    for _ in 0..64 {
        datagram(&slow, socket);
    }
    slow.next().is(Code::Empty);
    node.listen(&[]).unwrap();
    slow.kill();
    // The gateway has a process.
    eventually("nothing is left", || alive(&node) == before);
    node.halt();
}

#[test]
fn a_node_that_stops_answers_what_it_has_got() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = wat::parse_str(puppet::text(1)).unwrap();
    std::fs::write(folder.path().join("m.wasm"), wasm).unwrap();
    let text = "[app]\nname = \"test\"\n[modules.m]\npath = \"m.wasm\"\n\
                [[supervisor.children]]\nid = \"p\"\nname = \"p\"\nmodule = \"m\"\n";
    std::fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap();
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let node = app.node().clone();
    let mut events = node.events();
    let lines = [
        udp("127.0.0.1:0", "name = \"p\""),
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen.routes]]\npath = \"/\"\nredirect = \"/a\"\n".to_owned(),
    ];
    node.listen(&listen(&lines.concat())).unwrap();
    let (address, tcp) = (listening(&mut events), node.addresses()[0]);
    let puppet = Puppet::of(&node, node.find("p").unwrap());
    let client = client();
    client.send_to(b"question", address).unwrap();
    let socket = opened(&puppet);
    let (peer, _, message) = datagram(&puppet, socket);
    let stopping = std::thread::spawn(move || app.stop(PATIENCE));
    eventually("it stops", || TcpStream::connect(tcp).is_err());
    // Nothing more is taken, and what was taken is answered.
    client.send_to(b"late", address).unwrap();
    puppet.send(socket, DATAGRAM, &to(&peer, b"answer")).ok();
    puppet.reply(socket, message.message, 0, b"").ok();
    assert_eq!(received(&client), b"answer");
    let closed = puppet.wait();
    assert_eq!((closed.sender, closed.tag), (socket, CLOSE), "{closed:?}");
    puppet.reply(socket, closed.message, 0, b"").ok();
    stopping.join().unwrap();
}

#[test]
fn an_address_in_use_changes_nothing() {
    let node = guests::node();
    deploy(&node, "echo", &echo(""));
    named(&node, "echo", "room");
    let address = open(&node, "name = \"room\"");
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let both = [
        udp(&other.local_addr().unwrap().to_string(), "name = \"room\""),
        udp("127.0.0.1:0", "name = \"nobody\""),
    ];
    let error = node.listen(&listen(&both.concat())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("udp:127.0.0.1:"), "{text}");
    assert!(error.help().unwrap().contains("another program"));
    assert_eq!(ask(&client(), address, b"hello"), b"hello");
    // The same of TCP is another address.
    let tcp = "[[listen]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nname = \"room\"\n";
    let both = tcp.to_owned() + &udp("127.0.0.1:0", "name = \"room\"");
    node.listen(&listen(&both)).unwrap();
    assert_eq!(ask(&client(), address, b"hello"), b"hello");
    assert_eq!(node.addresses().len(), 1);
    node.halt();
}

/// A guest written with the SDK.
#[test]
fn a_handler_of_the_sdk_answers_datagrams() {
    let node = guests::node();
    crate::sdk::deploy(&node, "relay", crate::sdk::platform("relay")).unwrap();
    named(&node, "relay", "relay");
    let address = open(&node, "name = \"relay\"");
    let answer = ask(&client(), address, b"ab");
    // 97 * 31 + 98
    assert_eq!(String::from_utf8_lossy(&answer), "2 3105");
    node.halt();
}

#[test]
fn a_datagram_that_no_mailbox_takes_is_lost_alone() {
    let node = guests::node();
    deploy(&node, "echo", &echo(""));
    let options = exuvia_node::SpawnOptions {
        limits: Some(exuvia_node::Limits {
            mailbox_bytes: 4 << 10,
            ..exuvia_node::Limits::default()
        }),
        ..exuvia_node::SpawnOptions::default()
    };
    let pid = node.spawn("echo", b"", &options).unwrap();
    node.system().register("tiny", pid).unwrap();
    let address = open(&node, "name = \"tiny\"");
    let client = client();
    assert_eq!(ask(&client, address, b"one"), b"one");
    let all = alive(&node);
    client.send_to(&[7; 20_000], address).unwrap();
    assert_eq!(ask(&client, address, b"two"), b"two");
    assert_eq!(alive(&node), all);
    node.halt();
}
