//! The book's pages as a reader follows them: every command is run, in order, in one shell for each
//! page, and what it prints is compared with the page.
//!
//! - A block `console` has commands (`$ ...`), each with what it prints. `...` stands for anything: alone on a line, for
//!   any lines. Nothing below a command: it does not matter what it prints. It must succeed, unless
//!   what is expected begins with `error`.
//! - `exuvia dev` and `exuvia run` go to the background, as in a terminal of their own. `<!-- shown -->`
//!   before a block `text`: these lines come there next, with others between them.
//! - `<!-- file: PATH -->` before a block: it is written to that file.
//! - `<!-- run: COMMAND -->`: what a reader does with an editor.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A build of all dependencies is among the commands.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked what the other terminal shows.
const LOOK: Duration = Duration::from_millis(20);
/// Ends what a command has printed.
const MARK: &str = "@@exit ";

#[derive(Debug, PartialEq)]
enum Step {
    Run {
        command: String,
        expected: Vec<String>,
    },
    File {
        path: String,
        text: String,
    },
    Shown(Vec<String>),
}

/// What a page has its reader do.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    let mut note = None;
    while let Some(line) = lines.next() {
        let comment = line
            .strip_prefix("<!-- ")
            .and_then(|line| line.strip_suffix(" -->"));
        if let Some(comment) = comment {
            match comment.strip_prefix("run: ") {
                Some(command) => steps.push(Step::Run {
                    command: command.to_owned(),
                    expected: Vec::new(),
                }),
                None => note = Some(comment.to_owned()),
            }
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.trim().is_empty() {
                note = None;
            }
            continue;
        };
        let block: Vec<String> = lines
            .by_ref()
            .take_while(|line| *line != "```")
            .map(str::to_owned)
            .collect();
        match (language, note.take()) {
            (_, Some(note)) if note.starts_with("file: ") => steps.push(Step::File {
                path: note["file: ".len()..].to_owned(),
                text: block.join("\n") + "\n",
            }),
            ("text", Some(note)) if note == "shown" => steps.push(Step::Shown(block)),
            ("console", _) => {
                for line in block {
                    match (line.strip_prefix("$ "), steps.last_mut()) {
                        (Some(command), _) => steps.push(Step::Run {
                            command: command.to_owned(),
                            expected: Vec::new(),
                        }),
                        (None, Some(Step::Run { expected, .. })) => expected.push(line),
                        (None, _) => panic!("a console block begins with `{line}`"),
                    }
                }
            }
            _ => {}
        }
    }
    steps
}

/// Whether a line is as expected: `...` stands for anything.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Whether all lines are as expected.
fn all_fit(expected: &[String], lines: &[String]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, _) => lines.is_empty(),
        (Some((wanted, expected)), _) if wanted == "..." => {
            (0..=lines.len()).any(|skipped| all_fit(expected, &lines[skipped..]))
        }
        (Some((wanted, expected)), Some((line, lines))) => {
            fits(wanted, line) && all_fit(expected, lines)
        }
        (Some(_), None) => false,
    }
}

#[test]
fn wildcards_in_expected_output_match() {
    for (expected, line, fit) in [
        ("3", "3", true),
        ("3", "33", false),
        ("swap ... ms", "swap a 1 -> 2  4 ms", true),
        ("swap ... ms", "swap a 1 -> 2  4 s", false),
        ("a...b...c", "a1b2c", true),
        ("a...", "a", true),
        ("a...", "b", false),
    ] {
        assert_eq!(fits(expected, line), fit, "{expected} {line}");
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, printed, fit) in [
        ("a\n...\nc", "a\nb\nb\nc", true),
        ("a\n...\nc", "a\nc", true),
        ("...\nc", "a\nb", false),
        ("a", "a\nb", false),
    ] {
        assert_eq!(
            all_fit(&lines(expected), &lines(printed)),
            fit,
            "{expected}"
        );
    }
}

/// A reader's shell, and the app in the reader's other terminal.
struct Reader {
    page: &'static str,
    folder: tempfile::TempDir,
    shell: Child,
    input: ChildStdin,
    output: Receiver<String>,
    /// What the app in the background has printed, and how much of it was looked at.
    other: Option<(PathBuf, usize)>,
    /// Held as long as an app of that name is built where all are.
    alone: Option<fs::File>,
}

impl Reader {
    fn new(page: &'static str) -> Reader {
        let folder = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_exuvia"));
        let path = std::env::var("PATH").unwrap_or_default();
        let here = program.parent().unwrap().display();
        let mut shell = Command::new("bash")
            .current_dir(folder.path())
            .env("PATH", format!("{here}:{path}"))
            .env("EXUVIA", program)
            .env("NO_COLOR", "1")
            .env("CARGO_TERM_COLOR", "never")
            .env_remove("EXUVIA_SOCKET")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // So that all that it starts can be ended together.
            .process_group(0)
            .spawn()
            .unwrap();
        let input = shell.stdin.take().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Reader {
            page,
            folder,
            shell,
            input,
            output,
            other: None,
            alone: None,
        }
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Run { command, expected } => {
                let other = command.strip_prefix("exuvia ");
                if other.is_some_and(|rest| rest.starts_with("dev") || rest.starts_with("run")) {
                    let file = self.folder.path().join("other-terminal");
                    self.run(&format!("{command} > {} 2>&1 &", file.display()), &[]);
                    self.other = Some((file, 0));
                    return self.shown(&expected);
                }
                self.run(&command, &expected);
                if let Some(name) = command.strip_prefix("exuvia new ") {
                    self.share_target(name);
                }
            }
            Step::File { path, text } => {
                let text = text.replace('\'', "'\\''");
                self.run(&format!("mkdir -p \"$(dirname {path})\""), &[]);
                self.run(&format!("printf '%s' '{text}' > {path}"), &[]);
            }
            Step::Shown(lines) => self.shown(&lines),
        }
    }

    /// The apps of all pages build the same dependencies. Those of one name would take
    /// each other's modules, so their pages are read one after another.
    fn share_target(&mut self, name: &str) {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
        fs::create_dir_all(&target).unwrap();
        let alone = fs::File::create(target.join(format!("{name}.alone"))).unwrap();
        alone.lock().unwrap();
        self.alone = Some(alone);
        let link = self.folder.path().join(name).join("target");
        std::os::unix::fs::symlink(target, link).unwrap();
    }

    fn run(&mut self, command: &str, expected: &[String]) {
        writeln!(self.input, "{{ {command}\n}} 2>&1; echo \"{MARK}$?\"").unwrap();
        let mut lines = Vec::new();
        let code = loop {
            let line = self
                .output
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("{}: `{command}` does not end: {lines:#?}", self.page));
            // What a command prints need not end its last line.
            match line.split_once(MARK) {
                None => lines.push(line.trim_end().to_owned()),
                Some((last, code)) => {
                    if !last.is_empty() {
                        lines.push(last.to_owned());
                    }
                    break code.to_owned();
                }
            }
        };
        let fails = expected
            .first()
            .is_some_and(|line| line.starts_with("error"));
        let told = || format!("{}: `{command}` ended with {code}: {lines:#?}", self.page);
        assert_eq!(code != "0", fails, "{}", told());
        let fits = expected.is_empty() || fails || all_fit(expected, &lines);
        assert!(fits, "{} is not {expected:#?}", told());
    }

    /// Waits until the other terminal shows these lines.
    fn shown(&mut self, expected: &[String]) {
        let Some((file, seen)) = &mut self.other else {
            panic!("{}: nothing runs in the background", self.page);
        };
        let mut looks = PATIENCE.as_millis() / LOOK.as_millis();
        for wanted in expected.iter().filter(|line| *line != "...") {
            loop {
                let text = fs::read_to_string(&*file).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let found = lines[*seen..].iter().position(|line| fits(wanted, line));
                if let Some(at) = found {
                    *seen += at + 1;
                    break;
                }
                let page = self.page;
                assert!(looks > 0, "{page}: `{wanted}` is not shown: {lines:#?}");
                looks -= 1;
                std::thread::park_timeout(LOOK);
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let group = format!("-{}", self.shell.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.shell.wait();
    }
}

fn read(page: &'static str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(page);
    let steps = steps(&fs::read_to_string(file).unwrap());
    assert!(steps.len() > 2, "{page} has nothing to do");
    let mut reader = Reader::new(page);
    for step in steps {
        reader.follow(step);
    }
}

#[test]
fn the_first_app() {
    read("first-app.md");
}

#[test]
fn names_groups_tables_configuration() {
    read("sharing.md");
}

#[test]
fn the_command_line() {
    read("cli.md");
}

#[test]
fn files() {
    read("files.md");
}

#[test]
fn tests_of_guests() {
    read("testing.md");
}

#[test]
fn the_control_api() {
    read("api.md");
}

#[test]
fn operations() {
    read("operations.md");
}

/// Every page is in the table of contents, and every link within the book leads somewhere.
#[test]
fn the_table_of_contents_is_whole() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let contents = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let pages = fs::read_dir(&docs).unwrap();
    for page in pages.map(|page| page.unwrap().file_name().into_string().unwrap()) {
        if page.ends_with(".md") && page != "SUMMARY.md" {
            assert!(contents.contains(&format!("({page})")), "{page}");
            let text = fs::read_to_string(docs.join(&page)).unwrap();
            for link in text.split("](").skip(1) {
                let link = link.split(')').next().unwrap_or_default();
                let file = link.split('#').next().unwrap_or_default();
                if !file.is_empty() && !link.contains("://") {
                    assert!(docs.join(file).exists(), "{page}: {link}");
                }
            }
        }
    }
}
