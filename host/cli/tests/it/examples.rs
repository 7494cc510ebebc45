//! The examples' own tests, which run them in nodes of this build.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::app::exuvia;
use crate::templates::{change, made};
use crate::terminal::Terminal as Screen;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn examples() -> PathBuf {
    checkout().join("examples")
}

/// Tests a package of the examples' workspace, which needs the guests that `cargo xtask guests`
/// builds.
fn tested(package: &str) {
    tested_in(&examples(), package);
}

fn tested_in(workspace: &Path, package: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["test", "--package", package, "--target-dir"])
        .arg(workspace.join("target/tests"))
        .current_dir(workspace)
        .env("EXUVIA", env!("CARGO_BIN_EXE_exuvia"))
        // Those of the host's build are of other crates.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{}\n{}",
        text(&done.stdout),
        text(&done.stderr)
    );
}

/// What host calls return to a test, in a node and in memory; see `host/node/tests/it/sdk.rs` for
/// what they return to a guest.
#[test]
fn the_conformance_suite() {
    tested_in(&checkout().join("modules"), "exuvia-module-conformance");
}

#[test]
fn the_bank() {
    tested("exuvia-example-bank-protocol");
}

#[test]
fn the_cart() {
    tested("exuvia-example-cart-protocol");
}

#[test]
fn the_chat() {
    tested("exuvia-example-chat-protocol");
}

#[test]
fn the_gateway() {
    tested("exuvia-example-gateway-cart");
    tested("exuvia-example-gateway-prices");
}

#[test]
fn the_live_board() {
    tested("exuvia-example-live-protocol");
}

#[test]
fn the_meter() {
    tested("exuvia-example-meter");
}

#[test]
fn the_pipeline() {
    tested("exuvia-example-pipeline-protocol");
}

#[test]
fn the_line_protocol() {
    tested("exuvia-example-tcp-line");
}

/// The code of `tcp-line` in a folder of its own, where it is edited while clients are connected.
#[test]
fn a_calculator_is_edited_in_the_middle_of_a_line() {
    let around = tempfile::tempdir().unwrap();
    let folder = made(around.path(), "line", "rust");
    let example = examples().join("tcp-line");
    std::fs::copy(example.join("src/lib.rs"), folder.join("src/lib.rs")).unwrap();
    std::fs::copy(example.join("exuvia.toml"), folder.join("exuvia.toml")).unwrap();
    let manifest = |from: &str, to: &str| change(&folder.join("exuvia.toml"), from, to);
    manifest("127.0.0.1:7000", "127.0.0.1:0");
    manifest(
        "../target/wasm32-unknown-unknown/release/tcp_line.wasm",
        "target/wasm32-wasip1/debug/line.wasm",
    );
    manifest(
        "--release --target wasm32-unknown-unknown --package exuvia-example-tcp-line",
        "--target wasm32-wasip1",
    );
    let mut terminal = Screen::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("tcp://");
    let address = terminal.shows("\n").trim().to_owned();
    terminal.shows("started");
    let mut client = TcpStream::connect(&address).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    let mut answer = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line
    };
    assert!(answer().starts_with("numbers, and "));
    client.write_all(b"1 2").unwrap();
    client.write_all(b" +\n4 5").unwrap();
    assert_eq!(answer(), "3\n");
    // Of another client, who has a process of its own.
    let mut other = TcpStream::connect(&address).unwrap();
    other.write_all(b"9 max\n").unwrap();
    let mut lines = BufReader::new(other).lines().map(Result::unwrap);
    assert_eq!(
        lines.nth(1).unwrap(),
        "error: `max` is neither a number nor a word"
    );
    change(
        &folder.join("src/lib.rs"),
        "            \"drop\" =>",
        "            \"max\" => self.two(|one, two| Some(one.max(two)))?,\n            \"drop\" =>",
    );
    terminal.shows("upgrade-completed");
    client.write_all(b" max\nstack\n1 +").unwrap();
    assert_eq!(answer(), "5\n");
    assert_eq!(answer(), "3 5\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(), "6\n");
    assert_eq!(answer(), "", "the connection is closed");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

/// A terminal with `chat.sh` in it.
struct Terminal {
    child: Child,
    input: Option<ChildStdin>,
    shown: Receiver<String>,
}

impl Terminal {
    fn new(name: &str, socket: &Path) -> Terminal {
        let script = examples().join("chat/chat.sh");
        let mut child = Command::new(script)
            .args([name, "kitchen"])
            .env("EXUVIA", env!("CARGO_BIN_EXE_exuvia"))
            .env("EXUVIA_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            input,
            shown,
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn shows(&self, wanted: &str) {
        loop {
            let line = self.shown.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("`{wanted}` is not shown"));
            if line == wanted {
                return;
            }
        }
    }
}

#[test]
fn two_terminals_chat() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("node.sock");
    let mut node = Command::new(env!("CARGO_BIN_EXE_exuvia"))
        .args(["run", "--no-watch", "--no-store", "--socket"])
        .arg(&socket)
        .arg(examples().join("chat"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(node.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("started chat"), "{line}");
    // Nobody else reads it.
    std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
    // The macros of the SDK have the module say what it understands.
    let ask = |arguments: &[&str]| {
        let mut asked = Command::new(env!("CARGO_BIN_EXE_exuvia"));
        let answer = asked.args(arguments).arg("--socket").arg(&socket).output();
        String::from_utf8(answer.unwrap().stdout).unwrap()
    };
    let described = ask(&["describe", "door"]);
    for line in [
        "\n  enter(name: String) -> Result<String, String>\n      Lets a person in;",
        "\n  who() -> Vec<String>\n",
    ] {
        assert!(described.contains(line), "{line}: {described}");
    }
    assert_eq!(ask(&["call", "door", "who"]), "[]\n");
    let mut anna = Terminal::new("anna", &socket);
    anna.shows("[kitchen] anna: (joins)");
    let mut ben = Terminal::new("ben", &socket);
    anna.shows("[kitchen] ben: (joins)");
    anna.types("is there any \"soup\"? \\o/");
    ben.shows("[kitchen] anna: is there any \"soup\"? \\o/");
    ben.types("yes");
    anna.shows("[kitchen] ben: yes");
    // The end of the input is an end as well.
    drop(ben.input.take());
    anna.shows("[kitchen] ben: (leaves)");
    assert!(ben.child.wait().unwrap().success());
    anna.types("/quit");
    assert!(anna.child.wait().unwrap().success());
    let stopped = Command::new(env!("CARGO_BIN_EXE_exuvia"))
        .args(["stop", "--socket"])
        .arg(&socket)
        .status();
    assert!(stopped.unwrap().success());
    assert!(node.wait().unwrap().success());
}
