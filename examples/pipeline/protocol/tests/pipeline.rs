//! The pipeline over real files: nothing is counted twice or left out, whoever crashes, and nobody is
//! given more than it asked for.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia::test::Node;
use exuvia::{Kind, Match, Pid, Wait};
use pipeline_protocol::{Progress, SinkClient, SourceClient};
use tempfile::TempDir;

/// The app's folder with texts of the test's own.
struct App {
    folder: TempDir,
    /// What the files hold.
    words: BTreeMap<String, u64>,
}

impl App {
    /// So many files of so many lines.
    fn new(files: u64, lines: u64) -> App {
        let folder = tempfile::tempdir().unwrap();
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let manifest =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../exuvia.toml"))
                .unwrap();
        let manifest = manifest.replace("../target", built.to_str().unwrap());
        // What is built already is not built again, in a folder without sources.
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

    /// Waits until all is counted, and compares the result.
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

/// Ends a process, and waits for that.
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
    // Files of some 200 KB, in pieces of 64.
    assert!(done.read >= 15, "{done:?}");
    // Four workers, and each has one piece at most.
    assert!(done.most_open <= 4, "{done:?}");
}

#[test]
fn no_files_are_no_words() {
    let app = App::new(0, 0);
    let _node = app.start();
    assert_eq!(app.is_right().read, 0);
}

/// Each part once, wherever it is just then.
#[test]
fn whoever_crashes_each_piece_counts_once() {
    let app = App::new(6, 3_000);
    let node = app.start();
    for who in ["sink", "worker-1", "source", "worker-2", "sink"] {
        // A worker is found by the pieces that it asks for; these have names.
        if exuvia::whereis(who).is_ok() {
            crash(who);
        }
        node.advance(Duration::from_millis(50));
    }
    app.is_right();
}

/// A worker traps on a piece: it is given to others until the supervisor has had enough, and
/// what the others have counted stays.
#[test]
fn what_was_written_down_is_there_after_the_end() {
    let app = App::new(3, 3_000);
    {
        let _node = app.start();
        app.is_right();
    }
    // Again from the start, with the journal of the run before and half a line behind it.
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
