//! `new`, `build` and `dev` as a user meets them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::{Answer, answer, exuvia};
use crate::terminal::Terminal;

/// An app that `exuvia new` has made.
struct Made {
    around: tempfile::TempDir,
    folder: PathBuf,
}

fn made(template: &str) -> Made {
    let around = tempfile::tempdir().unwrap();
    let new = answer(exuvia(around.path()).args(["new", "hello", "--template", template]));
    assert_eq!(new.code, Some(0), "{new:?}");
    let folder = around.path().join("hello");
    Made { around, folder }
}

impl Made {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// Saves as an editor does that writes beside and renames.
    fn save(&self, name: &str, text: &str) {
        let beside = self.file(&format!(".{name}.swp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.file(name)).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no `{from}`");
        self.save(name, &text.replacen(from, to, 1));
    }

    fn ask(&self, arguments: &[&str]) -> Answer {
        answer(exuvia(&self.folder).args(arguments))
    }

    /// The count that the counter answers.
    #[track_caller]
    fn count(&self, expected: &str) {
        let answer = self.ask(&["send", "counter", "--call"]);
        assert_eq!(answer.stdout.trim_end(), expected, "{answer:?}");
    }

    #[track_caller]
    fn add_one(&self) {
        let answer = self.ask(&["send", "counter", "--hex", "0100000000000000"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
}

#[test]
fn a_session_with_good_and_bad_edits() {
    let app = made("wat");
    let mut terminal = Terminal::start(exuvia(&app.folder).arg("dev"), 120, 40);
    let shown = terminal.shows("watching sources, modules and the manifest\n");
    assert!(
        shown.contains("\x1b[32mstarted\x1b[0m hello: 1 process of 1 module"),
        "{shown}"
    );
    app.add_one();
    app.count("0100000000000000");

    // 1: other code, which adds ten times as much; the count is kept.
    let good = app.read("hello.wat");
    let add = "(i64.add (i64.load (i32.const 16)) (i64.load (i32.const 512)))";
    let more =
        "(i64.add (i64.load (i32.const 16)) (i64.mul (i64.const 10) (i64.load (i32.const 512))))";
    app.replace("hello.wat", add, more);
    let shown = terminal.shows(" ms, commit ");
    assert!(
        shown.contains(
            "swap\x1b[0m hello 1 -> 2  1 process (verified 1: 1 reused, the layout is the same)"
        ),
        "{shown}"
    );
    app.add_one();
    app.count("0b00000000000000");

    // 2: a word that is none. The assembler says where.
    let better = app.read("hello.wat");
    app.replace("hello.wat", "i64.mul", "i64.mull");
    let shown = terminal.shows("unknown operator");
    assert!(
        shown.contains("refused, the old code keeps running")
            && shown.contains("line 76, column 51"),
        "{shown}"
    );
    app.add_one();

    // 3: mended.
    app.save("hello.wat", &better);
    terminal.shows("recovered\x1b[0m hello: it is the running code\n");
    app.count("1500000000000000");

    // 4: no entry.
    app.replace("hello.wat", "(export \"run\")", "(export \"ran\")");
    terminal.shows("the module has no export `run`");

    // 5: it takes no state of another layout, since `load` wants schema 2.
    app.save(
        "hello.wat",
        &better.replace("at 16\")", "at 16, new\")").replace(
            "(local.get $from_schema) (i32.const 1)",
            "(local.get $from_schema) (i32.const 2)",
        ),
    );
    let shown = terminal.shows("fix `save` or `load`");
    // The cause comes first; why memory was not carried is for who asks with `-v`.
    assert!(
        shown.contains("`load` failed") && !shown.contains("layout fingerprints"),
        "{shown}"
    );
    app.count("1500000000000000");

    // 6: another layout, and a `load` that takes it.
    app.save("hello.wat", &better.replace("at 16\")", "at 16, new\")"));
    let shown = terminal.shows(" ms, commit ");
    assert!(
        shown.contains("1 migrated, because the layout fingerprints differ"),
        "{shown}"
    );
    app.count("1500000000000000");

    // 7: limits, and more children.
    let manifest = app.read("exuvia.toml");
    app.save(
        "exuvia.toml",
        &format!("{manifest}\n[limits]\nmemory = \"4MiB\"\n"),
    );
    terminal.shows("manifest\x1b[0m limits of hello apply for 1 live process and new ones\n");
    let more = "[[supervisor.children]]\nid = \"more\"\nmodule = \"hello\"\ncount = 2\nname = \"more-{n}\"\n";
    app.save("exuvia.toml", &format!("{manifest}\n{more}"));
    terminal.shows("children started: more-0, more-1\n");
    assert_eq!(app.ask(&["send", "more-1", "--call"]).code, Some(0));

    // 8: a manifest with an error, and without it.
    app.save(
        "exuvia.toml",
        &format!("{manifest}\n{more}restrat = \"never\"\n"),
    );
    let shown = terminal.shows("did you mean `restart`?");
    assert!(
        shown.contains("manifest-refused") && shown.contains("exuvia.toml:"),
        "{shown}"
    );
    app.save("exuvia.toml", &manifest);
    terminal.shows("children stopped: more-0, more-1\n");

    // 9: a build that fails, in its own words and colours.
    let path = "path = \"hello.wat\"";
    let build = "path = \"out.wat\"\nbuild = \"sh ./make.sh\"";
    app.save(
        "make.sh",
        "printf '\\033[1;31mno\\033[0m \\033[2Jway\\n'; exit 1",
    );
    app.replace("exuvia.toml", path, build);
    let shown = terminal.shows("way\n");
    assert!(
        shown.contains("build-failed\x1b[0m hello, the old code keeps running: `sh ./make.sh` failed with exit code 1\n\x1b[1;31mno\x1b[0m \\u{1b}[2J"),
        "{shown}"
    );
    app.save("make.sh", "cp hello.wat out.wat");
    terminal.shows("recovered");
    app.replace("hello.wat", "at 16, new", "at 16, newer");
    let shown = terminal.shows(" ms, commit ");
    assert!(
        shown.contains("hello.wat  1 process") && shown.contains("  build "),
        "{shown}"
    );
    app.count("1500000000000000");

    // 10: what editors leave about, a file that goes, and comes again.
    fs::write(app.file("4913"), "").unwrap();
    fs::write(app.file("hello.wat~"), "").unwrap();
    fs::remove_file(app.file("hello.wat")).unwrap();
    terminal.shows("build-failed");
    app.save("hello.wat", &good);
    let shown = terminal.shows(" ms, commit ");
    assert!(!shown.contains("4913"), "{shown}");
    app.add_one();
    app.count("1600000000000000");

    // Ctrl-C.
    terminal.types("\x03");
    let (code, rest) = terminal.end();
    assert_eq!(code, Some(0), "{rest}");
    assert!(
        rest.contains("stopping") && rest.contains("stopped"),
        "{rest}"
    );
    assert!(app.around.path().exists());
}

#[test]
fn dev_waits_for_a_fix_when_an_app_cannot_start() {
    let app = made("wat");
    let good = app.read("hello.wat");
    app.replace(
        "exuvia.toml",
        "path = \"hello.wat\"",
        "path = \"out.wat\"\nbuild = \"cp hello.wat out.wat\"",
    );
    fs::remove_file(app.file("hello.wat")).unwrap();
    let mut terminal = Terminal::start(exuvia(&app.folder).arg("dev"), 120, 40);
    let shown = terminal.shows("waiting");
    assert!(
        shown.contains("cp: ") && shown.contains("failed with exit code 1"),
        "{shown}"
    );
    // It can be built, and not loaded.
    app.save("hello.wat", &good.replace("\"run\"", "\"ran\""));
    let shown = terminal.shows("waiting");
    assert!(shown.contains("has no export `run`"), "{shown}");
    // A broken manifest is one more reason.
    app.replace("exuvia.toml", "[app]", "[apps]");
    terminal.shows("unknown key `apps`");
    app.replace("exuvia.toml", "[apps]", "[app]");
    terminal.shows("waiting");
    app.save("hello.wat", &good);
    terminal.shows("started");
    app.add_one();
    app.count("0100000000000000");
    assert_eq!(app.ask(&["stop"]).code, Some(0));
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn dev_waits_for_unbuilt_modules_and_restarts_a_tree_that_gave_up() {
    let app = made("wat");
    let good = app.read("hello.wat");
    app.save("hello.wat", &good.replace("i64.add", "i64.dda"));
    let mut terminal = Terminal::start(exuvia(&app.folder).arg("dev"), 120, 40);
    terminal.shows("waiting");
    // It traps at each message.
    let begins = "        ;; MESSAGE:";
    app.save(
        "hello.wat",
        &good.replace(begins, &format!("(unreachable)\n{begins}")),
    );
    terminal.shows("started");
    for _ in 0..200 {
        let text = app.ask(&["send", "counter", "--hex", "0100000000000000"]);
        if text.code == Some(3) || terminal.has("waiting") {
            break;
        }
    }
    let shown = terminal.shows("waiting");
    assert!(
        shown.contains("the supervision tree of the app ended"),
        "{shown}"
    );
    app.save("hello.wat", &good);
    terminal.shows("started");
    app.add_one();
    app.count("0100000000000000");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn an_interrupt_ends_a_build_that_hangs() {
    let app = made("wat");
    app.replace(
        "exuvia.toml",
        "path = \"hello.wat\"",
        "path = \"out.wat\"\nbuild = \"echo begun; sleep 600\"",
    );
    for command in ["dev", "build"] {
        let mut terminal = Terminal::start(exuvia(&app.folder).arg(command), 80, 24);
        terminal.shows("begun\n");
        terminal.types("\x03");
        assert_eq!(terminal.end().0, Some(130), "{command}");
    }
    // The socket's claim is free again.
    app.save(
        "exuvia.toml",
        &app.read("exuvia.toml")
            .replace("sleep 600", "cp hello.wat out.wat"),
    );
    let mut terminal = Terminal::start(exuvia(&app.folder).arg("dev"), 80, 24);
    terminal.shows("started");
    // A second one is refused, whichever command it is.
    for command in [&["dev"][..], &["run", "."]] {
        let second = app.ask(command);
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(second.stderr.contains("already"), "{second:?}");
    }
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn build_runs_each_command_once_and_lists_the_outputs() {
    let app = made("wat");
    let build = "build = \"echo once >> log; cp hello.wat a.wat; cp hello.wat b.wat\"";
    app.save(
        "exuvia.toml",
        &format!("[app]\nname = \"x\"\n[modules.a]\npath = \"a.wat\"\n{build}\n[modules.b]\npath = \"b.wat\"\n{build}\n"),
    );
    let built = app.ask(&["build"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    assert_eq!(app.read("log"), "once\n");
    let lines: Vec<&str> = built.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{built:?}");
    assert!(
        lines[0].starts_with("building a, b: echo once"),
        "{built:?}"
    );
    assert!(lines[1].starts_with("built a  ./a.wat  "), "{built:?}");
    let built = app.ask(&["build", "--module", "b", "--json"]);
    assert_eq!(built.stdout.lines().count(), 2, "{built:?}");
    assert!(built.stdout.contains("\"module\":\"b\""), "{built:?}");

    let wrong = app.ask(&["build", "--module", "c"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("no module `c`; it has `a`, `b`"),
        "{wrong:?}"
    );
    app.save(
        "exuvia.toml",
        "[app]\nname = \"x\"\n[modules.a]\npath = \"no.wat\"\nbuild = \"true\"\n",
    );
    let nothing = app.ask(&["build"]);
    assert_eq!(nothing.code, Some(1));
    assert!(
        nothing.stderr.contains("did not create ./no.wat"),
        "{nothing:?}"
    );
    fs::create_dir(app.file("no.wat")).unwrap();
    let folder = app.ask(&["build"]);
    assert!(folder.stderr.contains("not a regular file"), "{folder:?}");
    app.save(
        "exuvia.toml",
        "[app]\nname = \"x\"\n[modules.a]\npath = \"no.wat\"\nbuild = \"no-such-tool\"\n",
    );
    let missing = app.ask(&["build"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("not installed"), "{missing:?}");
    app.save("exuvia.toml", "[app]\nname = \"x\"\n");
    let none = app.ask(&["build"]);
    assert!(
        none.stderr
            .contains("no module of the app `x` has a `build`"),
        "{none:?}"
    );
}

#[test]
fn new_creates_what_it_lists_and_overwrites_nothing() {
    let around = tempfile::tempdir().unwrap();
    let new = |arguments: &[&str]| answer(exuvia(around.path()).arg("new").args(arguments));
    let made = new(&["a/b/hello"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(
        made.stdout.contains("next: cd a/b/hello && exuvia dev"),
        "{made:?}"
    );
    let cargo = fs::read_to_string(around.path().join("a/b/hello/Cargo.toml")).unwrap();
    // The SDK of the checkout that this test is in.
    assert!(
        cargo.contains("exuvia = { path = \"/") && cargo.contains("guest-sdk/rust"),
        "{cargo}"
    );
    for template in ["rust", "wat", "tree", "lib"] {
        let name = format!("of-{template}");
        let made = new(&[&name, "--template", template, "--json"]);
        let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
        for file in made["files"].as_array().unwrap() {
            let file = around.path().join(&name).join(file.as_str().unwrap());
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains("{{"), "{}: {text}", file.display());
        }
    }
    for (arguments, part) in [
        (&["of-wat"][..], "is not empty"),
        (&["Hello"], "invalid app name"),
        (&["core"], "is reserved"),
        (
            &["x", "--template", "java"],
            "possible values: rust, web, wat, tree, lib",
        ),
        (&["x", "--sdk", "/nowhere"], "is not the Rust SDK"),
    ] {
        let answer = new(arguments);
        assert_ne!(answer.code, Some(0), "{arguments:?}");
        assert!(answer.stderr.contains(part), "{arguments:?}: {answer:?}");
    }
    fs::write(around.path().join("file"), "").unwrap();
    assert!(new(&["file"]).stderr.contains("is a file"));
    assert!(new(&["file/x"]).stderr.contains("could not create"));
    let left: Vec<_> = fs::read_dir(around.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, [""; 0], "nothing is left of what failed");
    let empty = Path::new("empty");
    fs::create_dir(around.path().join(empty)).unwrap();
    assert_eq!(new(&["empty", "-t", "wat"]).code, Some(0));
}
