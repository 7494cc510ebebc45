//! The pipeline over real files: nothing is counted twice or omitted, whichever process
//! crashes, and no process gets more than it has requested.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia::test::Node;
use exuvia::{Kind, Match, Pid, Wait};
use pipeline_protocol::{Progress, SinkClient, SourceClient};
use tempfile::TempDir;

/// The app's folder with the test's own texts.
struct App {
    folder: TempDir,
    /// The words in the files.
    words: BTreeMap<String, u64>,
}

impl App {
    /// Creates an app with this many files of this many lines.
    fn new(files: u64, lines: u64) -> App {
        let folder = tempfile::tempdir().unwrap();
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let manifest =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../exuvia.toml"))
                .unwrap();
        let manifest = manifest.replace("../target", built.to_str().unwrap());
        // The modules are built already, and this folder has no sources.
        let kept = |line: &&str| !line.starts_with("build") && !line.starts_with("sources");
        let manifest: Vec<&str> = manifest.lines().filter(kept).collect();
        std::fs::write(folder.path().join("exuvia.toml"), manifest.join("\n")).unwrap();
        for name in ["texts", "out"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut app = App {
            folder,
            words: BTreeMap::new(),
        };
        for file in 0..files {
            let mut text = String::new();
            for line in 0..lines {
                let words = ["river", "Hill", "HAY"].iter().cycle();
                for (word, at) in words.zip(0..(line * 7 + file) % 12) {
                    write!(text, "{word}-w{} ", (line + at) % 50).unwrap();
                    *app.words.entry(word.to_lowercase()).or_default() += 1;
                    *app.words
                        .entry(format!("w{}", (line + at) % 50))
                        .or_default() += 1;
                }
                text.push('\n');
            }
            std::fs::write(app.path(&format!("texts/{file}.txt")), text).unwrap();
        }
        app
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Node {
        Node::start(self.folder.path())
    }

    /// Waits until everything is counted, and compares the result.
    fn is_right(&self) -> Progress {
        let done = SourceClient::whereis("source").unwrap().wait().unwrap();
        let words = SinkClient::whereis("sink").unwrap().finish().unwrap();
        let text = std::fs::read_to_string(self.path("out/counts.txt")).unwrap();
        let found: BTreeMap<String, u64> = text
            .lines()
            .map(|line| {
                let (count, word) = line.split_once(' ').unwrap();
                (word.to_owned(), count.parse().unwrap())
            })
            .collect();
        assert_eq!(found, self.words);
        assert_eq!(words, self.words.len() as u64);
        done
    }
}

/// Kills a process, and waits until it has terminated.
fn crash(name: &str) -> Pid {
    let pid = exuvia::whereis(name).unwrap();
    let monitor = pid.monitor().unwrap();
    pid.kill().unwrap();
    let down = exuvia::receive(Match::Reference(monitor), Wait::Forever).unwrap();
    assert_eq!(down.kind, Kind::Down);
    pid
}

#[test]
fn the_words_of_all_files_are_counted() {
    let app = App::new(5, 4_000);
    let _node = app.start();
    let done = app.is_right();
    // Files of some 200 KB, in pieces of 64 KiB.
    assert!(done.read >= 15, "{done:?}");
    // Four workers, each with at most one piece.
    assert!(done.most_open <= 4, "{done:?}");
}

#[test]
fn no_files_have_no_words() {
    let app = App::new(0, 0);
    let _node = app.start();
    assert_eq!(app.is_right().read, 0);
}

/// Kills the parts in turn, wherever each is at that moment; each piece still counts once.
#[test]
fn each_piece_counts_once_despite_crashes() {
    let app = App::new(6, 3_000);
    let node = app.start();
    for who in ["sink", "worker-1", "source", "worker-2", "sink"] {
        // Skips a process that is not registered at the moment.
        if exuvia::whereis(who).is_ok() {
            crash(who);
        }
        node.advance(Duration::from_millis(50));
    }
    app.is_right();
}

/// What was stored remains after the node has stopped: a second run continues from the journal
/// of the first, and drops an incomplete line at its end.
#[test]
fn the_written_result_survives_the_node() {
    let app = App::new(3, 3_000);
    {
        let _node = app.start();
        app.is_right();
    }
    // Start again, with the journal of the previous run and half a line at its end.
    let journal = app.path("out/journal");
    let mut text = std::fs::read_to_string(&journal).unwrap();
    let lines = text.lines().count();
    text.push_str("7 river=1 hi");
    std::fs::write(&journal, text).unwrap();
    let _node = app.start();
    app.is_right();
    let after = std::fs::read_to_string(&journal).unwrap();
    assert_eq!(after.lines().count(), lines);
}
