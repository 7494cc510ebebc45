//! Mixed load over the network while code is swapped and clients misbehave: nothing is lost, and nothing is left.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, DeployOptions};
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{Message, client};

use crate::endurance::long;
use crate::guests::{boot_options, eventually, module};
use crate::{http, sockets};

const PATIENCE: Duration = Duration::from_secs(30);

const LISTEN: &str = r#"
[[supervisor.children]]
id = "greeter"
name = "greeter"
module = "m"
[[supervisor.children]]
id = "room"
name = "room"
module = "echo"
[[listen]]
address = "127.0.0.1:0"
[[listen.routes]]
path = "/named"
name = "greeter"
[[listen.routes]]
path = "/each"
module = "m"
[[listen.routes]]
path = "/connection"
module = "m"
per = "connection"
[[listen.routes]]
path = "/cart/{id}"
module = "m"
per = "key"
key = "cart:{id}"
idle = "50ms"
[[listen.routes]]
path = "/room"
name = "room"
[[listen.routes]]
path = "/socket"
module = "echo"
[[listen]]
address = "127.0.0.1:0"
protocol = "tcp"
module = "plain"
"#;

/// What all clients know.
#[derive(Clone)]
struct World {
    http: SocketAddr,
    tcp: SocketAddr,
    ends: Arc<AtomicBool>,
    /// Answers that were right.
    right: Arc<AtomicU64>,
}

impl World {
    /// Runs a client again and again until the end.
    fn start(&self, mut step: impl FnMut(&World) + Send + 'static) -> JoinHandle<()> {
        let world = self.clone();
        std::thread::spawn(move || {
            while !world.ends.load(Ordering::Relaxed) {
                step(&world);
            }
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn socket(&self, path: &str) -> WebSocket<TcpStream> {
        client(format!("ws://{}{path}", self.http), self.connect())
            .unwrap()
            .0
    }

    fn is_right(&self) {
        self.right.fetch_add(1, Ordering::Relaxed);
    }
}

/// The number of the version behind an answer.
fn version(text: &str) -> u32 {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is no version"))
}

/// A client of HTTP: each response is 200, and no older than the one before.
fn requests(path: &'static str) -> impl FnMut(&World) + Send + 'static {
    let mut connection: Option<http::Client> = None;
    let (mut last, mut asked) = (0, 0);
    move |world| {
        let client = connection.get_or_insert_with(|| http::Client::new(world.http));
        let response = client.ask("GET", path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let now = version(&response.text()[..3]);
        assert!(now >= last, "{path}: {now} after {last}");
        last = now;
        world.is_right();
        asked += 1;
        if asked % 50 == 0 {
            connection = None;
        }
    }
}

/// A client of a WebSocket: all that it sends comes back, in order.
fn echoes(path: &'static str) -> impl FnMut(&World) + Send + 'static {
    let mut number = 0_u64;
    let mut connection = None;
    move |world| {
        let socket = connection.get_or_insert_with(|| world.socket(path));
        let sent: Vec<String> = (0..4).map(|n| format!("{}:", number + n)).collect();
        for text in &sent {
            socket.send(text.as_str().into()).unwrap();
        }
        for text in &sent {
            let answer = socket.read().unwrap().into_text().unwrap();
            let rest = answer.strip_prefix(text.as_str());
            version(rest.unwrap_or_else(|| panic!("{path}: {answer} for {text}")));
            world.is_right();
        }
        number += 4;
        if number.is_multiple_of(200) {
            socket.close(None).unwrap();
            while socket.read().is_ok() {}
            connection = None;
        }
    }
}

fn bytes() -> impl FnMut(&World) + Send + 'static {
    let mut sent = 0_u32;
    move |world| {
        let mut stream = TcpStream::connect(world.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // None of the guest's commands is among them.
        let bytes: Vec<u8> = (0..5_000).map(|n| b'a' + ((n + sent) % 23) as u8).collect();
        sent += 1;
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == bytes, "{} bytes", received.len());
        world.is_right();
    }
}

/// Clients that others must not notice.
fn faults() -> impl FnMut(&World) + Send + 'static {
    let mut turn = 0;
    move |world| {
        turn += 1;
        let mut stream = world.connect();
        let _ = match turn % 6 {
            0 => stream.write_all(b"GET /named HTTP/1.1\r\nhost"),
            1 => stream.write_all(b"\x16\x03\x01\x02\x00"),
            2 => stream
                .write_all(b"POST /named HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf"),
            3 => stream
                .write_all(b"GET /each HTTP/1.1\r\nhost: a\r\n\r\n")
                .and_then(|()| stream.shutdown(Shutdown::Both)),
            4 => {
                // It traps: its own request fails, and no other.
                let mut socket = world.socket("/socket");
                let _ = socket.send("!".into());
                loop {
                    match socket.read() {
                        Ok(Message::Close(_)) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
                Ok(())
            }
            _ => {
                let mut client = http::Client::new(world.http);
                let status = client.ask("DELETE", "/each").status;
                assert!(status == 500 || status == 200, "{status}");
                Ok(())
            }
        };
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_left() {
    // A minute or more, with more than a swap a second; or some seconds.
    let (swaps, answers) = if long() { (100, 5_000) } else { (6, 300) };
    let folder = tempfile::tempdir().unwrap();
    let mut text = "[app]\nname = \"soak\"\n".to_owned();
    for (name, guest) in [
        ("m", http::guest("000")),
        ("echo", sockets::echo("000")),
        ("plain", sockets::echo("")),
    ] {
        let wasm = wat::parse_str(guest).unwrap();
        std::fs::write(folder.path().join(name).with_extension("wasm"), wasm).unwrap();
        text += &format!("[modules.{name}]\npath = \"{name}.wasm\"\n");
    }
    std::fs::write(folder.path().join("exuvia.toml"), text + LISTEN).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let alive = || app.node().system().table.alive();
    let before = alive();
    let addresses = app.node().addresses();
    let world = World {
        http: addresses[0],
        tcp: addresses[1],
        ends: Arc::default(),
        right: Arc::default(),
    };
    let mut clients = vec![
        world.start(requests("/named")),
        world.start(requests("/each")),
        world.start(requests("/connection")),
        world.start(requests("/cart/1")),
        world.start(echoes("/room")),
        world.start(echoes("/socket")),
        world.start(bytes()),
        world.start(faults()),
    ];
    for number in 1..=swaps {
        // So many answers of each version, however slow the machine is.
        let wanted = world.right.load(Ordering::Relaxed) + answers;
        let has_failed = || clients.iter().any(JoinHandle::is_finished);
        eventually("answers", || {
            world.right.load(Ordering::Relaxed) >= wanted || has_failed()
        });
        let version = format!("{number:03}");
        let modules = vec![
            module("m", &http::guest(&version)),
            module("echo", &sockets::echo(&version)),
        ];
        app.node()
            .deploy(modules, DeployOptions::default())
            .unwrap();
    }
    world.ends.store(true, Ordering::Relaxed);
    for client in clients.drain(..) {
        client.join().unwrap();
    }
    assert!(world.right.load(Ordering::Relaxed) >= swaps * answers);
    eventually("nothing is left", || alive() == before);
    let report = app.stop(PATIENCE);
    assert!(report.orderly && report.left == 0, "{report:?}");
}
