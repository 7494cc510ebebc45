//! `exuvia run --inherit-sockets`: the binary, started as systemd starts a service that has sockets.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::app::{Answer, App, Running, answer, exuvia};

const PATIENCE: Duration = Duration::from_secs(60);

/// A launcher as systemd is one: it gives a program descriptors from 3 on, and their names. A shell, since the process ID must
/// be known before the program runs. What is returned beside it is open in this process until the shell has it.
fn launched(app: &App, sockets: Vec<(&str, OwnedFd)>) -> (Command, Vec<OwnedFd>) {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let program = exuvia(app.folder());
    let mut shell = Command::new("bash");
    // Moves what it gets, from 10 on.
    let mut script = String::new();
    let mut kept = Vec::new();
    for (number, (_, socket)) in sockets.into_iter().enumerate() {
        let socket = fcntl_dupfd_cloexec(&socket, 10).unwrap();
        fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        let from = socket.as_raw_fd();
        script += &format!("exec {}<&{from} {from}<&-; ", number + 3);
        kept.push(socket);
    }
    script += "export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    shell
        .args(["-c", &script])
        .arg(program.get_program())
        .current_dir(app.folder())
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env("XDG_CACHE_HOME", app.folder().join("cache"))
        .env_remove("EXUVIA_SOCKET")
        .stdin(Stdio::null());
    (shell, kept)
}

/// An app that redirects, at these addresses.
fn app(listen: &[&str]) -> App {
    let app = App::new();
    let file = app.folder().join("exuvia.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for lines in listen {
        text +=
            &format!("[[listen]]\n{lines}\n[[listen.routes]]\npath = \"/\"\nredirect = \"/to\"\n");
    }
    std::fs::write(file, text).unwrap();
    app
}

fn start(app: &App, sockets: Vec<(&str, OwnedFd)>) -> Running {
    let (mut command, _kept) = launched(app, sockets);
    command.args(["run", ".", "--json", "--inherit-sockets"]);
    Running::of(&mut command)
}

fn refused(app: &App, sockets: Vec<(&str, OwnedFd)>) -> Answer {
    let (mut command, _kept) = launched(app, sockets);
    let answer = answer(command.args(["run", ".", "--inherit-sockets"]));
    assert_eq!(answer.code, Some(1), "{answer:?}");
    answer
}

fn tcp() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn response(mut stream: impl std::io::Read) -> String {
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn asked(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(REQUEST).unwrap();
    response(stream)
}

#[test]
fn a_node_takes_the_sockets_that_it_is_passed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let ((first, one), (second, two)) = (tcp(), tcp());
    let app = app(&[
        &format!("address = \"{one}\""),
        // Another address, but the same name.
        "address = \"127.0.0.1:1\"\nsocket = \"web\"",
        &format!("address = \"unix:{}\"", path.display()),
    ]);
    let sockets = |unix: &UnixListener| {
        vec![
            ("other", OwnedFd::from(first.try_clone().unwrap())),
            ("web", second.try_clone().unwrap().into()),
            ("local", unix.try_clone().unwrap().into()),
        ]
    };
    // Who connects before there is a node waits for it.
    let mut early = TcpStream::connect(two).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(REQUEST).unwrap();
    let mut node = start(&app, sockets(&unix));
    node.event("started");
    for text in [asked(one), asked(two), response(early), over(&path)] {
        assert!(text.starts_with("HTTP/1.1 307 "), "{text}");
    }
    node.signal("TERM");
    assert_eq!(node.end(), Some(0));
    // They stay, with the file, for the next one.
    let mut waiting = TcpStream::connect(one).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(REQUEST).unwrap();
    let mut node = start(&app, sockets(&unix));
    node.event("started");
    assert!(response(waiting).starts_with("HTTP/1.1 307 "));
    assert!(over(&path).starts_with("HTTP/1.1 307 "));
    node.signal("TERM");
    assert_eq!(node.end(), Some(0));
}

fn over(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(REQUEST).unwrap();
    response(stream)
}

/// A guest that answers datagrams with their bytes.
fn echo() -> Vec<u8> {
    let text = include_str!("../../../../guest-sdk/wat/echo.wat");
    // What is sent back goes to the socket, before the reply that acknowledges it.
    let only_messages = "(if (i32.eq (i32.load (i32.const 4)) (i32.const 2))";
    assert_eq!(text.matches(only_messages).count(), 1);
    let all = only_messages.replace("i32.eq", "i32.ge_u");
    wat::parse_str(text.replace(only_messages, &all)).unwrap()
}

#[test]
fn a_node_takes_a_socket_of_datagrams_with_what_waits_there() {
    let app = App::with(&echo(), "5s");
    let file = app.folder().join("exuvia.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text += "[[listen]]\naddress = \"127.0.0.1:1\"\nsocket = \"meter\"\nprotocol = \"udp\"\nname = \"counter-0\"\n";
    std::fs::write(file, text).unwrap();
    let passed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for text in ["before the first", "before the second"] {
        client.send_to(text.as_bytes(), address).unwrap();
        let mut node = start(&app, vec![("meter", passed.try_clone().unwrap().into())]);
        let listening = node.event("listening");
        let url = listening["event"]["url"].as_str().unwrap();
        assert_eq!(url, format!("udp://{address}"));
        node.event("started");
        let mut bytes = [0; 100];
        let (count, from) = client.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..count], from), (text.as_bytes(), address));
        node.signal("TERM");
        assert_eq!(node.end(), Some(0));
    }
    // It is not one of connections.
    let (tcp, _) = tcp();
    let wrong = refused(&app, vec![("meter", tcp.into())]);
    let why = "a socket of connections, not of datagrams";
    assert!(wrong.stderr.contains(why), "{wrong:?}");
}

#[test]
fn sockets_and_addresses_that_do_not_match_are_said() {
    let (listener, address) = tcp();
    let socket = || OwnedFd::from(listener.try_clone().unwrap());
    let none = app(&["address = \"127.0.0.1:0\""]);
    let left = refused(&none, vec![("web", socket())]);
    let text = format!("no `[[listen]]` takes what was passed to this program: {address} (`web`)");
    assert!(left.stderr.contains(&text), "{left:?}");
    assert!(left.stderr.contains("as `socket`"), "{left:?}");
    let no_listen = refused(&app(&[]), vec![("web", socket())]);
    assert!(no_listen.stderr.contains(&text), "{no_listen:?}");
    let nothing = refused(&none, vec![]);
    assert!(
        nothing.stderr.contains("no sockets were passed"),
        "{nothing:?}"
    );
    let client = TcpStream::connect(address).unwrap();
    let connected = refused(&none, vec![("web", client.into())]);
    assert!(
        connected.stderr.contains("does not listen"),
        "{connected:?}"
    );
    // An address without a socket is opened by the node, which says so.
    let more = app(&[
        &format!("address = \"{address}\""),
        "address = \"127.0.0.1:0\"",
    ]);
    let mut node = start(&more, vec![("web", socket())]);
    node.event("started");
    node.said("no socket for 127.0.0.1:0 was passed to this program");
    assert!(asked(address).starts_with("HTTP/1.1 307 "));
    node.signal("TERM");
    assert_eq!(node.end(), Some(0));
}

#[test]
fn an_environment_that_is_malformed_is_said() {
    let app = app(&["address = \"127.0.0.1:0\""]);
    let (listener, _) = tcp();
    let (mut command, _kept) = launched(&app, vec![("web", listener.into())]);
    command.env("LISTEN_FDS", "some");
    let answer = answer(command.args(["run", ".", "--inherit-sockets"]));
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let why = "`LISTEN_FDS` or `LISTEN_PID` is not a number";
    assert!(answer.stderr.contains(why), "{answer:?}");
    assert!(answer.stderr.contains("`ListenStream=`"), "{answer:?}");
}

#[test]
fn a_unix_socket_that_is_passed_has_no_tls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let unix = UnixListener::bind(path).unwrap();
    let app = app(&["address = \"127.0.0.1:0\"\nsocket = \"web\"\n\
        tls = { certificate = \"cert.pem\", key = \"key.pem\" }"]);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| std::fs::write(app.folder().join(name), text).unwrap();
    file("cert.pem", made.cert.pem());
    file("key.pem", made.signing_key.serialize_pem());
    let refused = refused(&app, vec![("web", unix.into())]);
    let why = "127.0.0.1:0 cannot be listened to: what was passed for it is a Unix socket, which has no TLS";
    assert!(refused.stderr.contains(why), "{refused:?}");
}
