//! Releases outlast the node: with the real program, which is killed at any moment, and whose disk is full.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::app::{App, Running, counter, exuvia};

/// A version of the counter, as its replies tell it.
fn version(number: u32) -> Vec<u8> {
    counter(&format!("(i32.const {number})"))
}

/// A version with so many bytes that no process has.
fn large(number: u32, bytes: usize) -> Vec<u8> {
    let mut module = version(number);
    // A custom section `x`. Its length has 4 bytes.
    let length = bytes + 2;
    module.push(0);
    for shift in [0, 7, 14] {
        module.push((length >> shift & 0x7f) as u8 | 0x80);
    }
    module.push((length >> 21) as u8);
    module.extend([1, b'x']);
    // Nothing that a disk could leave out.
    module.extend((0..bytes).map(|at| (at % 251) as u8));
    module
}

/// The version that answers.
fn runs(app: &App) -> u64 {
    let reply = app.json(&["send", "counter-0", "--call"]);
    reply["tag"].as_u64().unwrap_or_else(|| panic!("{reply}"))
}

fn deploy(app: &App, number: u32) -> String {
    app.write("new.wasm", &version(number));
    let message = format!("version {number}");
    app.done(&[
        "deploy",
        "new.wasm",
        "--name",
        "counter",
        "--message",
        &message,
    ])
}

fn stop(app: &App, node: &mut Running) {
    app.done(&["stop"]);
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_deployment_outlasts_the_node() {
    let app = App::with(&version(1), "5s");
    let mut node = app.start(&[]);
    deploy(&app, 2);
    deploy(&app, 3);
    let text = app.done(&["releases"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("RELEASE"), "{text}");
    for (line, parts) in lines[1..].iter().zip([
        ["3  *", "deploy", "uid ", "version 3"],
        ["2", "deploy", "uid ", "version 2"],
        ["1", "files", "", "1 module"],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part}: {text}");
        }
    }
    stop(&app, &mut node);

    // The watcher leaves alone what the release has instead of the file.
    let mut node = app.start(&[]);
    assert_eq!(runs(&app), 3);
    let diff = app.done(&["diff", "1"]);
    assert!(
        diff.contains("good counter of release 1 -> counter of release 3"),
        "{diff}"
    );
    assert!(app.done(&["diff", "3"]).ends_with("1 module is the same\n"));
    assert_eq!(app.done(&["pin", "1"]), "pinned\n");
    assert_eq!(app.done(&["pin", "1"]), "it was pinned already\n");
    assert_eq!(app.done(&["unpin", "1"]), "unpinned\n");
    let line = app.done(&["rollback"]);
    assert!(line.starts_with("rollback counter"), "{line}");
    assert_eq!(runs(&app), 2);
    app.done(&["rollback", "1", "--message", "back to the roots"]);
    assert_eq!(runs(&app), 1);
    let list = app.json(&["releases"]);
    assert_eq!(list["items"][0]["logged"]["message"], "back to the roots");
    assert_eq!(list["items"][0]["logged"]["from"], "rollback");
    let missing = app.ask(&["rollback", "99"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("there is no release 99"),
        "{missing:?}"
    );
    // An edit of the file is deployed as ever, and is then what was last read.
    app.write("counter.wasm", &version(7));
    while runs(&app) != 7 {
        node.event("swap");
    }
    stop(&app, &mut node);

    // Edited while nothing runs: the file wins, and says so.
    app.write("counter.wasm", &version(8));
    let node = app.begin(&[]);
    let line = node.event("resumed")["line"].to_string();
    assert!(
        line.contains("counter is from its file, which was edited since"),
        "{line}"
    );
    node.event("started");
    assert_eq!(runs(&app), 8);
    drop(node);
    let node = app.start(&["--release=3"]);
    assert_eq!(runs(&app), 3);
    drop(node);
    // Without the store, nothing of all that.
    let _node = app.start(&["--no-store"]);
    assert_eq!(runs(&app), 8);
    let answer = app.ask(&["pin", "1"]);
    assert!(answer.stderr.contains("no release store"), "{answer:?}");
}

#[test]
fn a_plan_says_what_would_happen_and_changes_nothing() {
    let app = App::with(&version(1), "5s");
    let node = app.start(&["--no-watch"]);
    app.write("new.wasm", &version(2));
    let plan = ["deploy", "new.wasm", "--name", "counter", "--plan"];
    for _ in 0..2 {
        let planned = app.done(&plan);
        for part in [
            "plan counter 1 -> 2  3 processes (verified 3: 3 reused",
            "nothing has changed",
            "good counter of release 1 -> new.wasm",
            "state: reused",
        ] {
            assert!(planned.contains(part), "{part}: {planned}");
        }
    }
    let list = app.json(&["releases"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(runs(&app), 1);
    // What would be refused is, and says why; there is no event of it.
    app.done(&["send", "counter-0", "--hex", "0500000000000000"]);
    app.write("new.wasm", &crate::app::forgetful_counter());
    let refused = app.ask(&plan);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("the swap was refused: process"),
        "{refused:?}"
    );
    app.write("new.wasm", &version(1));
    assert!(app.done(&plan).starts_with("nothing changed"));
    app.write("new.wasm", &version(2));
    app.done(&["deploy", "new.wasm", "--name", "counter"]);
    assert_eq!(node.event("swap")["event"]["release"], 2);
    assert_eq!(runs(&app), 2);
}

/// Killed at any moment of a deployment, the node comes up on the release before it or on it, and on nothing else; what was
/// acknowledged is there.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the moments are spread over what it takes"
)]
fn a_node_that_is_killed_comes_up_on_its_last_release() {
    let app = App::with(&version(1), "5s");
    let mut last = 1;
    let mut node = app.start(&["--no-watch"]);
    // How long a deployment takes here.
    let began = Instant::now();
    deploy(&app, 2);
    last += 1;
    let takes = began.elapsed();
    let (mut before, mut after) = (0, 0);
    const ROUNDS: u32 = 12;
    for round in 0..=ROUNDS {
        let next = last + 1;
        app.write("new.wasm", &version(next));
        let mut deploying = exuvia(app.folder())
            .args(["deploy", "new.wasm", "--name", "counter"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // From at once to afterwards.
        let ended = match round {
            ROUNDS => Some(deploying.wait().unwrap()),
            _ => {
                std::thread::park_timeout(takes * round / (ROUNDS - 2));
                None
            }
        };
        node.signal("KILL");
        node.end();
        let ended = ended.unwrap_or_else(|| deploying.wait().unwrap());
        node = app.start(&["--no-watch"]);
        let now = u32::try_from(runs(&app)).unwrap();
        assert!(
            now == next || now == last && !ended.success(),
            "{last}: {now}"
        );
        let list = app.json(&["releases"]);
        assert_eq!(list["items"][0]["release"], now, "{list}");
        match now == next {
            true => after += 1,
            false => before += 1,
        }
        last = now;
    }
    assert!(
        before > 0 && after > 0,
        "killed before {before}, after {after}"
    );
    // A rollback that was acknowledged, too.
    app.done(&["deploy", "new.wasm", "--name", "counter"]);
    app.write("new.wasm", &version(last + 1));
    app.done(&["deploy", "new.wasm", "--name", "counter"]);
    app.done(&["rollback"]);
    node.signal("KILL");
    node.end();
    let _node = app.start(&["--no-watch"]);
    assert_eq!(runs(&app), u64::from(last));
}

/// The largest file that the node may write ends in the middle of a release.
#[test]
fn a_full_disk_refuses_the_deployment_and_nothing_else() {
    let app = App::with(&version(1), "5s");
    drop(app.start(&["--no-watch"]));
    let store = app.folder().join(".exuvia/releases.redb");
    let kib = std::fs::metadata(&store).unwrap().len() / 1024 + 2048;
    let mut node = limited(app.folder(), kib);
    node.event("started");
    assert_eq!(runs(&app), 1);
    app.write("new.wasm", &large(2, 6 << 20));
    let refused = app.ask(&["deploy", "new.wasm", "--name", "counter"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["releases.redb cannot be written: ", "make room on the disk"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    node.event("refused");
    assert_eq!(runs(&app), 1);
    // What there is room for is taken.
    deploy(&app, 3);
    assert_eq!(runs(&app), 3);
    // A rollback is always possible.
    app.done(&["rollback"]);
    assert_eq!(runs(&app), 1);
    stop(&app, &mut node);
    let _node = app.start(&["--no-watch"]);
    assert_eq!(runs(&app), 1);
    app.write("new.wasm", &large(2, 6 << 20));
    app.done(&["deploy", "new.wasm", "--name", "counter"]);
    assert_eq!(runs(&app), 2);
}

/// A node that cannot write files beyond a length.
fn limited(folder: &Path, kib: u64) -> Running {
    let program = exuvia(folder);
    // dash counts 512 bytes, bash 1024.
    let script = format!(
        "trap '' XFSZ; ulimit -S -f {}; exec \"$0\" run . --json --no-watch",
        kib * 2
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .arg(program.get_program())
        .current_dir(folder)
        .env_remove("EXUVIA_SOCKET")
        .env("XDG_CACHE_HOME", folder.join("cache"));
    Running::of(&mut command)
}

#[test]
fn a_store_that_cannot_be_used_is_said_before_anything_runs() {
    let app = App::with(&version(1), "5s");
    let store = app.folder().join("other.redb");
    std::fs::write(&store, "something else").unwrap();
    let answer = app.ask(&["run", ".", "--store", "other.redb"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("other.redb is not a release store"),
        "{answer:?}"
    );
    assert!(answer.stderr.contains("--store FILE"), "{answer:?}");
    assert_eq!(std::fs::read(&store).unwrap(), b"something else");
    let answer = app.ask(&["run", ".", "--release"]);
    assert!(answer.stderr.contains("has no release yet"), "{answer:?}");
    let answer = app.ask(&["run", ".", "--release=4"]);
    assert!(
        answer.stderr.contains("there is no release 4"),
        "{answer:?}"
    );
    // Two nodes on one store.
    let _node = app.start(&["--no-watch"]);
    let answer = app.ask(&["run", ".", "--socket", "second.sock"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("is in use by another node"),
        "{answer:?}"
    );
}

/// While nothing can be written, rollbacks are possible and deployments are not; afterwards the store has what runs.
#[test]
fn rollbacks_are_written_when_the_disk_takes_them_again() {
    let app = App::with(&version(1), "5s");
    let mut node = limited(app.folder(), 1 << 20);
    node.event("started");
    deploy(&app, 2);
    deploy(&app, 3);
    // A page of the file, and no more.
    node.limit_files(Some(4096));
    app.done(&["rollback"]);
    assert_eq!(runs(&app), 2);
    let line = node.event("release-unwritten")["line"].to_string();
    assert!(line.contains("releases.redb cannot be written"), "{line}");
    app.write("new.wasm", &version(4));
    let refused = app.ask(&["deploy", "new.wasm", "--name", "counter"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    app.done(&["rollback"]);
    assert_eq!(runs(&app), 1);
    let list = app.json(&["releases"]);
    assert_eq!(
        list["items"][0]["logged"],
        serde_json::Value::Null,
        "{list}"
    );
    node.limit_files(None);
    node.event("release-written");
    let list = app.json(&["releases"]);
    let origins: Vec<_> = (0..5)
        .map(|at| {
            list["items"][at]["logged"]["from"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        origins,
        ["rollback", "rollback", "deploy", "deploy", "files"]
    );
    node.signal("KILL");
    node.end();
    let mut node = limited(app.folder(), 1 << 20);
    node.event("started");
    assert_eq!(runs(&app), 1);

    // A stop tries once more.
    deploy(&app, 5);
    node.limit_files(Some(4096));
    app.done(&["rollback"]);
    node.event("release-unwritten");
    node.limit_files(None);
    stop(&app, &mut node);
    let mut node = limited(app.folder(), 1 << 20);
    node.event("started");
    assert_eq!(runs(&app), 1);
    stop(&app, &mut node);
    // And a start with nothing new writes nothing.
    let mut node = limited(app.folder(), 4);
    node.event("started");
    assert_eq!(runs(&app), 1);
    stop(&app, &mut node);
}
