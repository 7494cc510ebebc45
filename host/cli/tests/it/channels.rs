//! Channels at their boundary: frames over a WebSocket to sessions of the example `live`, whose guests `cargo xtask guests`
//! builds.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{Error, Message, client};

use crate::app::{Running, answer, exuvia};

const LOBBY: &str = "room:lobby";
/// As the SDK has them.
const MAX_UNSEEN: usize = 512;
const BURST: usize = 200;

/// A node that runs the example.
struct Live {
    /// Before the folder, so that it ends first.
    _node: Running,
    folder: TempDir,
    address: String,
}

impl Live {
    /// Sessions are kept for so long after their connections.
    fn start(window: &str) -> Live {
        let folder = tempfile::tempdir().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let examples = examples.canonicalize().unwrap();
        let text = fs::read_to_string(examples.join("live/exuvia.toml")).unwrap();
        let changed = text
            .replace("\"../target", &format!("\"{}/target", examples.display()))
            .replace("\"public", &format!("\"{}/live/public", examples.display()))
            .replace("127.0.0.1:8080", "127.0.0.1:0")
            .replace("idle = \"1m\"", &format!("idle = \"{window}\""));
        assert_eq!(changed.matches(&format!("idle = \"{window}\"")).count(), 1);
        fs::write(folder.path().join("exuvia.toml"), changed).unwrap();
        let mut command = exuvia(folder.path());
        let node = Running::of(command.args(["run", "--json", "--no-watch"]));
        let listening = node.event("listening");
        let url = listening["event"]["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().to_owned();
        Live {
            _node: node,
            folder,
            address,
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = answer(exuvia(self.folder.path()).args(arguments));
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stdout
    }

    /// The names of the sessions.
    fn sessions(&self) -> Vec<String> {
        let text = self.run(&["ps", "--module", "session", "--json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let names = list.as_array().unwrap().iter();
        names
            .map(|process| process["names"][0].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A client, as another program than `exuvia.js` would be one.
struct Peer {
    socket: WebSocket<TcpStream>,
    id: String,
    token: Value,
    seen: u64,
    last: u64,
}

impl Peer {
    fn open(live: &Live, id: &str) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(&live.address).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        let url = format!("ws://{}/session/{id}", live.address);
        client(url, stream).unwrap().0
    }

    fn new(live: &Live, id: &str) -> Peer {
        let mut peer = Peer {
            socket: Peer::open(live, id),
            id: id.to_owned(),
            token: Value::Null,
            seen: 0,
            last: 0,
        };
        let welcome = peer.hello();
        assert_eq!(welcome["resumed"], false, "{welcome}");
        assert!(welcome.get("reason").is_none(), "{welcome}");
        peer
    }

    /// The same, and joins as a user.
    fn joined(live: &Live, id: &str, user: &str) -> Peer {
        let mut peer = Peer::new(live, id);
        let reply = peer.asks(
            "join",
            json!({ "payload": { "user": user, "name": user, "hue": 1 } }),
        );
        assert_eq!(reply["ok"], Value::Null, "{reply}");
        peer.hears("presence_state");
        peer.hears("history");
        peer
    }

    /// Connects once more. Returns the welcome.
    fn again(&mut self, live: &Live) -> Value {
        self.socket = Peer::open(live, &self.id);
        self.hello()
    }

    fn hello(&mut self) -> Value {
        let (token, seen) = (self.token.clone(), self.seen);
        self.sends(&json!({ "type": "hello", "version": 1, "token": token, "seen": seen }));
        let welcome = self.next();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        self.token = welcome["token"].clone();
        welcome
    }

    fn sends(&mut self, frame: &Value) {
        self.socket.send(frame.to_string().into()).unwrap();
    }

    /// Sends a request without waiting for its reply. Returns its number.
    fn requests(&mut self, kind: &str, mut request: Value) -> u64 {
        self.last += 1;
        request["type"] = kind.into();
        request["ref"] = self.last.into();
        if request.get("topic").is_none() {
            request["topic"] = LOBBY.into();
        }
        self.sends(&request);
        self.last
    }

    #[track_caller]
    fn asks(&mut self, kind: &str, request: Value) -> Value {
        let number = self.requests(kind, request);
        loop {
            let frame = self.next();
            if frame["type"] == "reply" && frame["ref"] == number {
                return frame;
            }
        }
    }

    fn says(&mut self, text: &str) {
        let reply = self.asks("push", json!({ "event": "say", "payload": text }));
        assert_eq!(reply["ok"], Value::Null, "{reply}");
    }

    /// The next frame: those with a number come in order and once.
    #[track_caller]
    fn next(&mut self) -> Value {
        let text = self.socket.read().unwrap().into_text().unwrap();
        let frame: Value = serde_json::from_str(&text).unwrap();
        if let Some(number) = frame["seq"].as_u64() {
            assert_eq!(number, self.seen + 1, "{frame}");
            self.seen = number;
        }
        frame
    }

    /// The payload of the next event of this name.
    #[track_caller]
    fn hears(&mut self, event: &str) -> Value {
        loop {
            let mut frame = self.next();
            if frame["event"] == event {
                return frame["payload"].take();
            }
        }
    }

    /// The connection is lost, without a word.
    fn cut(&self) {
        self.socket
            .get_ref()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
    }

    /// How the node closes the WebSocket.
    fn closed(&mut self) -> u16 {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.unwrap().code.into(),
                Ok(_) => {}
                Err(Error::ConnectionClosed) => panic!("closed without a code"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn who_is_present_is_right_however_a_session_ends() {
    let live = Live::start("1m");
    let mut anna = Peer::joined(&live, "a", "anna");
    let mut ben = Peer::joined(&live, "b", "ben");
    let joins = anna.hears("presence_diff");
    let shown = json!({ "name": "ben", "hue": 1 });
    assert_eq!(joins["joins"]["ben"][0]["meta"], shown);
    // A second window of the same person, which is killed.
    let _second = Peer::joined(&live, "b2", "ben");
    let id = anna.hears("presence_diff")["joins"]["ben"][0]["id"].clone();
    live.run(&["kill", "session:b2"]);
    let diff = anna.hears("presence_diff");
    assert_eq!(diff["leaves"]["ben"][0]["id"], id);
    assert_eq!(diff["leaves"]["ben"].as_array().unwrap().len(), 1);
    // One that leaves the topic.
    ben.asks("leave", json!({}));
    assert!(anna.hears("presence_diff")["leaves"]["ben"].is_array());
    // One whose page is closed: at once, and not after the window.
    let mut carla = Peer::joined(&live, "c", "carla");
    anna.hears("presence_diff");
    carla.socket.close(None).unwrap();
    assert!(anna.hears("presence_diff")["leaves"]["carla"].is_array());
    // The room is killed: the next one gets all who are there, and they its list.
    let _dora = Peer::joined(&live, "d", "dora");
    anna.hears("presence_diff");
    live.run(&["kill", LOBBY]);
    let mut users = anna.hears("presence_state");
    assert!(users["anna"].is_array());
    // Who comes after Anna is in what follows.
    if users["dora"].is_null() {
        users = anna.hears("presence_diff")["joins"].take();
    }
    assert!(users["dora"].is_array());
}

#[test]
fn a_client_that_was_cut_off_gets_what_it_has_missed_once_and_in_order() {
    let live = Live::start("1m");
    let mut anna = Peer::joined(&live, "a", "anna");
    let mut ben = Peer::joined(&live, "b", "ben");
    anna.says("before");
    assert_eq!(ben.hears("said")["text"], "before");
    // Its request is handled, but the reply does not reach it.
    let number = ben.requests("push", json!({ "event": "say", "payload": "of ben" }));
    assert_eq!(anna.hears("said")["text"], "before");
    assert_eq!(anna.hears("said")["text"], "of ben");
    ben.cut();
    for n in 0..100 {
        anna.says(&n.to_string());
    }
    let welcome = ben.again(&live);
    assert_eq!(
        (&welcome["resumed"], &welcome["received"]),
        (&json!(true), &json!(number))
    );
    // Repeated by a client that does not look at `received`: it is not done again.
    let say = json!({ "type": "push", "ref": number, "topic": LOBBY, "event": "say", "payload": "of ben" });
    ben.sends(&say);
    let heard: Vec<Value> = (0..101).map(|_| ben.hears("said")["text"].take()).collect();
    let wanted = (0..100).map(|n| json!(n.to_string()));
    let wanted: Vec<Value> = [json!("of ben")].into_iter().chain(wanted).collect();
    assert_eq!(heard, wanted);
    anna.says("after");
    assert_eq!(ben.hears("said")["text"], "after");

    // It comes back before the node knows that the connection is lost: the former one is closed.
    let mut former = ben;
    let mut ben = Peer {
        socket: Peer::open(&live, "b"),
        id: "b".to_owned(),
        token: former.token.clone(),
        seen: former.seen,
        last: former.last,
    };
    assert_eq!(ben.hello()["resumed"], true);
    assert_eq!(former.closed(), 4000);
    anna.says("to the new one");
    assert_eq!(ben.hears("said")["text"], "to the new one");
    // A token that is guessed gets nothing of what was missed.
    ben.cut();
    anna.says("secret");
    let mut guest = Peer {
        socket: Peer::open(&live, "b"),
        id: "b".to_owned(),
        token: json!("0123"),
        seen: 0,
        last: 0,
    };
    let welcome = guest.hello();
    assert_eq!(
        (&welcome["resumed"], &welcome["reason"]),
        (&json!(false), &json!("unknown"))
    );
    let reply = guest.asks("push", json!({ "event": "say", "payload": "hello" }));
    assert_eq!(reply["error"], "join the topic first");
    assert_eq!(guest.seen, 1, "the reply is all that it got");
}

#[test]
fn a_client_that_has_missed_too_much_is_told_so() {
    let live = Live::start("1m");
    let mut ben = Peer::joined(&live, "b", "ben");
    ben.cut();
    let mut sent = 0;
    let mut speakers = 0;
    while sent <= MAX_UNSEEN {
        speakers += 1;
        let mut speaker = Peer::joined(&live, &format!("s{speakers}"), "speaker");
        for n in 0..BURST - 1 {
            speaker.says(&n.to_string());
            sent += 1;
        }
    }
    let welcome = ben.again(&live);
    assert_eq!(
        (&welcome["resumed"], &welcome["reason"]),
        (&json!(false), &json!("missed"))
    );
    // It is a new session, which has joined nothing.
    ben.seen = 0;
    let reply = ben.asks("push", json!({ "event": "say", "payload": "hello" }));
    assert_eq!(reply["error"], "join the topic first");
}

#[test]
fn a_client_that_comes_too_late_is_told_so() {
    let live = Live::start("1s");
    let mut anna = Peer::joined(&live, "a", "anna");
    let mut ben = Peer::joined(&live, "b", "ben");
    anna.hears("presence_diff");
    ben.cut();
    // The session has ended.
    assert!(anna.hears("presence_diff")["leaves"]["ben"].is_array());
    assert_eq!(live.sessions(), ["session:a"]);
    let welcome = ben.again(&live);
    assert_eq!(
        (&welcome["resumed"], &welcome["reason"]),
        (&json!(false), &json!("unknown"))
    );
}

#[test]
fn what_is_refused_or_no_frame_has_a_defined_answer_and_the_session_goes_on() {
    let live = Live::start("1m");
    let mut anna = Peer::new(&live, "a");
    for (topic, params, reason) in [
        ("room:attic", json!({}), "there is no such room"),
        (LOBBY, json!({}), "the payload: missing field `user`"),
        (
            LOBBY,
            json!({ "user": "a", "name": " ", "hue": 1 }),
            "a name has 1 to 24 characters",
        ),
        (LOBBY, Value::Null, "the payload: invalid type: null"),
    ] {
        let reply = anna.asks("join", json!({ "topic": topic, "payload": params }));
        let error = reply["error"].as_str().unwrap();
        assert!(error.starts_with(reason), "{error}");
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let deep = format!(
        "{{\"type\":\"push\",\"ref\":9,\"topic\":\"{LOBBY}\",\"event\":\"e\",\"payload\":{deep}}}"
    );
    let cut = &deep[..deep.len() / 2];
    for text in [
        "",
        "{}",
        "[1]",
        "null",
        "\u{0}",
        "{\"type\":\"join\"}",
        "{\"type\":\"hello\",\"version\":99}",
        cut,
    ] {
        anna.socket.send(text.into()).unwrap();
        assert_eq!(anna.next()["type"], "error", "{text:.40}");
    }
    anna.socket.send(Message::binary(vec![0, 1, 2])).unwrap();
    assert_eq!(anna.next()["reason"], "a frame is text");
    // One that has a number is told so, and the client knows which promise it is about.
    anna.sends(&json!({ "type": "join", "ref": 1_000_000, "topic": "x".repeat(201) }));
    assert_eq!(anna.next()["ref"], 1_000_000);
    // The session is still the same one.
    let person = json!({ "user": "anna", "name": "anna", "hue": 1 });
    assert_eq!(
        anna.asks("join", json!({ "payload": person }))["ok"],
        Value::Null
    );
    let twice = anna.asks("join", json!({ "payload": person }));
    assert_eq!(twice["error"], "it has been joined already");
    for (event, payload, reason) in [
        ("shout", json!("x"), "there is no event `shout`"),
        ("say", json!(7), "the payload: invalid type"),
        ("say", json!(" "), "say 1 to 500 characters"),
        (
            "draw",
            json!({ "hue": 1, "width": 1, "points": [] }),
            "the stroke is not on the board",
        ),
    ] {
        let reply = anna.asks("push", json!({ "event": event, "payload": payload }));
        let error = reply["error"].as_str().unwrap();
        assert!(error.starts_with(reason), "{error}");
    }
    anna.sends(&json!({ "type": "ping", "seen": 1_000_000 }));
    while anna.next()["type"] != "pong" {}
    anna.says("fine");

    // Nothing but a hello comes first.
    let mut rude = Peer::open(&live, "rude");
    rude.send("{\"type\":\"ping\"}".into()).unwrap();
    let closed = rude.read().unwrap();
    assert!(matches!(closed, Message::Close(Some(frame)) if u16::from(frame.code) == 4001));
}

#[test]
fn a_client_that_floods_is_refused_and_others_miss_nothing() {
    const MANY: usize = 2_000;
    let live = Live::start("1m");
    let mut ben = Peer::joined(&live, "b", "ben");
    let mut flood = Peer::joined(&live, "f", "flood");
    // Another thread reads the replies meanwhile: a client that does not read is not read from either.
    let reading = flood.socket.get_ref().try_clone().unwrap();
    let counted = std::thread::spawn(move || {
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let mut socket = WebSocket::from_raw_socket(reading, role, None);
        let (mut done, mut refused) = (0, 0);
        while done + refused < MANY {
            let text = socket.read().unwrap().into_text().unwrap();
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == "reply" {
                match frame["error"].as_str() {
                    None => done += 1,
                    Some(reason) => {
                        assert_eq!(reason, "more than 100 requests in a second");
                        refused += 1;
                    }
                }
            }
        }
        done
    });
    for n in 0..MANY {
        flood.requests("push", json!({ "event": "say", "payload": n.to_string() }));
    }
    let done = counted.join().unwrap();
    assert!((BURST - 1..MANY).contains(&done), "{done}");
    // All that was accepted arrives, in order.
    let mut last = None;
    for _ in 0..done {
        let text = ben.hears("said")["text"].take();
        let number: usize = text.as_str().unwrap().parse().unwrap();
        assert!(last < Some(number), "{last:?}, {number}");
        last = Some(number);
    }
    assert_eq!(live.sessions().len(), 2);
    ben.says("at last");
    assert_eq!(ben.hears("said")["text"], "at last");
}

/// The tests of `exuvia.js`, which Node's own test runner runs: against a WebSocket that the tests are themselves, and against
/// a node.
#[test]
fn the_client_in_javascript() {
    const TEST: &str = "channels::the_client_in_javascript";
    let version = Command::new("node").arg("--version").output();
    let version = version.map(|output| String::from_utf8(output.stdout).unwrap());
    // v20.20.2
    let major = version
        .as_ref()
        .ok()
        .and_then(|version| version[1..].split('.').next()?.parse::<u32>().ok());
    // Earlier ones have no WebSocket.
    if major.is_none_or(|major| major < 20) {
        let wanted = std::env::var_os("EXUVIA_TEST_BROWSER").is_some();
        assert!(!wanted, "Node.js 20 or newer is missing: {version:?}");
        eprintln!("SKIPPED {TEST}: it needs Node.js 20 or newer, and there is {version:?}");
        return;
    }
    let live = Live::start("1m");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/js");
    let mut node = Command::new("node")
        .args(["--experimental-websocket", "--test", "--test-reporter=spec"])
        .arg("exuvia.test.js")
        .current_dir(folder)
        .env("EXUVIA_URL", format!("http://{}/session", live.address))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    node.stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert!(node.wait().unwrap().success(), "{printed}");
}
