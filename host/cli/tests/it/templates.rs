//! What `exuvia new` makes can be built, loaded and tested as it is. All templates
//! share one target folder, since their dependencies are the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::app::{answer, exuvia};
use crate::terminal::Terminal;

const WASM: &str = "wasm32-wasip1";

/// Makes an app or a library of a template. Returns its folder.
pub(crate) fn made(around: &Path, name: &str, template: &str) -> PathBuf {
    let made = answer(exuvia(around).args(["new", name, "--template", template]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let folder = around.join(name);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(&target, folder.join("target")).unwrap();
    folder
}

/// Edits a file, in which there is what is to be replaced.
pub(crate) fn change(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn every_template_is_built_checked_and_tested() {
    let around = tempfile::tempdir().unwrap();
    for (template, modules, has_tests) in [
        ("rust", &["of_rust.wasm"][..], true),
        ("web", &["of_web.wasm"], true),
        ("tree", &["store.wasm", "worker.wasm"], false),
        ("lib", &[], false),
    ] {
        let name = format!("of-{template}");
        let folder = made(around.path(), &name, template);
        if !modules.is_empty() {
            let built = answer(exuvia(&folder).arg("build"));
            assert_eq!(built.code, Some(0), "{built:?}");
            assert!(!built.stderr.contains("warning"), "{}", built.stderr);
        }
        for module in modules {
            let file = format!("target/{WASM}/release/{module}");
            // So is what `dev` builds.
            builds(&folder, &["build", "--quiet", "--target", WASM]);
            let debug = format!("target/{WASM}/debug/{module}");
            assert_eq!(
                answer(exuvia(&folder).args(["check", &debug])).code,
                Some(0)
            );
            let checked = answer(exuvia(&folder).args(["check", &file, "--json"]));
            let checked: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
            assert_eq!(checked["module"]["save"], true, "{checked}");
            let saved = checked["module"]["contract"]["type"].as_str();
            assert!(saved.is_some_and(|it| it.starts_with('{')), "{checked}");
            // The stack is that of `.cargo/config.toml`.
            let memory = checked["module"]["memory_bytes"].as_u64().unwrap();
            assert!(memory < 600_000, "{checked}");
        }
        let task = if has_tests { "test" } else { "check" };
        builds(&folder, &[task, "--workspace", "--quiet"]);
    }
}

/// Runs cargo, which succeeds and has nothing to say against what it builds.
#[track_caller]
fn builds(folder: &Path, arguments: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(arguments).current_dir(folder).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {printed}");
    assert!(!printed.contains("warning"), "{arguments:?}: {printed}");
}

/// A process that uses what crates of the registry want of a system.
const CRATES: &str = r#"
    fn add(&mut self, by: u64) {
        let began = std::time::Instant::now();
        let id = uuid::Uuid::new_v4();
        let luck: u8 = rand::random_range(1..=6);
        let today = chrono::Utc::now().format("%Y");
        self.count += by;
        println!("{id} in {today}: {luck}, after {:?}", began.elapsed());
    }
"#;

#[test]
fn crates_that_ask_for_time_and_random_numbers_work() {
    let around = tempfile::tempdir().unwrap();
    let folder = made(around.path(), "crates", "rust");
    let change = |file: &str, from: &str, to: &str| change(&folder.join(file), from, to);
    let crates = "[dependencies]\nchrono = \"0.4\"\nrand = \"0.9\"\nuuid = { version = \"1\", features = [\"v4\"] }\n";
    change("Cargo.toml", "[dependencies]\n", crates);
    let before = "    fn add(&mut self, by: u64) {\n        self.count += by;\n        exuvia::info!(\"the count is {}\", self.count);\n    }\n";
    change("src/lib.rs", before, CRATES);
    // Their build may take longer than anything is waited for.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target", WASM])
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(status.success());
    let mut terminal = Terminal::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("started");
    let sent = answer(exuvia(&folder).args(["send", "counter", "{\"Add\": {\"by\": 3}}"]));
    assert_eq!(sent.code, Some(0), "{sent:?}");
    terminal.shows(", after ");
    let asked = answer(exuvia(&folder).args(["send", "counter", "\"Get\"", "--call"]));
    assert_eq!(asked.stdout, "3\n", "{asked:?}");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

/// Set to run all languages: one whose tools are missing is an error then.
pub(crate) const ALL: &str = "EXUVIA_TEST_LANGUAGES";

/// Whether a command is here and runs.
fn runs(command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

/// The tools of a language, as `exuvia doctor` looks for them.
pub(crate) fn has_tools(lang: &str) -> bool {
    let zig = || runs(&["zig", "version"]) || runs(&["python3", "-m", "ziglang", "version"]);
    match lang {
        "c" => zig() || runs(&["clang", "--version"]),
        "zig" => zig(),
        "go" => runs(&["go", "version"]),
        "rust" => true,
        "python" => runs(&["python3", "--version"]),
        _ => runs(&["node", "--version"]) && runs(&["npm", "--version"]),
    }
}

/// An app in a language is created, built, run, asked, edited while it runs, and goes on counting.
#[track_caller]
fn counts_in(lang: &str, source: &str, adds: [&str; 2]) {
    if !has_tools(lang) {
        assert!(std::env::var_os(ALL).is_none(), "no tools for {lang}");
        eprintln!("skipped: {lang} has no tools here: `exuvia doctor` says which");
        return;
    }
    let around = tempfile::tempdir().unwrap();
    let made = answer(exuvia(around.path()).args(["new", "app", "--lang", lang]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let folder = around.path().join("app");
    // What its README says first.
    if folder.join("package.json").is_file() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent"]).current_dir(&folder);
        let installed = npm.output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
    }
    let built = answer(exuvia(&folder).arg("build"));
    assert_eq!(built.code, Some(0), "{built:?}");
    let checked = answer(exuvia(&folder).args(["check", "."]));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("saved: {count"), "{checked:?}");
    // The stacks of Go lie on its heap, which nothing in a module says.
    let known = usize::from(lang == "go");
    assert_eq!(
        checked.stdout.matches("warning").count(),
        known,
        "{checked:?}"
    );
    let mut terminal = Terminal::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("started");
    let add = |by: u32| {
        let by = format!("by={by}");
        let added = answer(exuvia(&folder).args(["call", "counter", "add", &by]));
        assert_eq!(added.code, Some(0), "{added:?}");
        let asked = answer(exuvia(&folder).args(["call", "counter", "get"]));
        assert_eq!(asked.code, Some(0), "{asked:?}");
        asked.stdout.trim().parse::<u32>().unwrap()
    };
    assert_eq!(add(3), 3);
    change(&folder.join(source), adds[0], adds[1]);
    // A compiler may take a minute.
    let mut count = 3;
    let came = (0..5_000).any(|_| {
        let before = count;
        count = add(1);
        // The state is that of the old code.
        let more = count - before;
        assert!(more == 1 || more == 10, "{before} became {count}");
        more == 10
    });
    assert!(came, "the new code never came");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn an_app_in_c_is_edited_while_it_counts() {
    counts_in("c", "src/main.c", ["count += by", "count += 10 * by"]);
}

#[test]
fn an_app_in_zig_is_edited_while_it_counts() {
    counts_in(
        "zig",
        "src/main.zig",
        ["self.count += args.by", "self.count += 10 * args.by"],
    );
}

#[test]
fn an_app_in_assemblyscript_is_edited_while_it_counts() {
    counts_in(
        "assemblyscript",
        "assembly/main.ts",
        ["this.count += by", "this.count += 10 * by"],
    );
}

#[test]
fn an_app_in_javascript_is_edited_while_it_counts() {
    counts_in(
        "javascript",
        "src/main.ts",
        ["state.count += by", "state.count += 10 * by"],
    );
}

#[test]
fn an_app_in_go_is_edited_while_it_counts() {
    counts_in("go", "main.go", ["c.Count += m.By", "c.Count += 10 * m.By"]);
}

#[test]
fn an_app_in_python_is_edited_while_it_counts() {
    counts_in(
        "python",
        "src/main.py",
        ["self.count += by", "self.count += 10 * by"],
    );
}

#[test]
fn an_sdk_that_is_none_and_a_template_in_another_language_are_refused() {
    let around = tempfile::tempdir().unwrap();
    let new = |arguments: &[&str]| {
        let made = answer(exuvia(around.path()).args(["new", "app"]).args(arguments));
        assert_eq!(made.code, Some(2), "{made:?}");
        assert!(!around.path().join("app").exists());
        made.stderr
    };
    let said = new(&["--lang", "c", "--sdk", "/nowhere"]);
    for part in ["/nowhere is not an SDK", "guest-sdk/c"] {
        assert!(said.contains(part), "{said}");
    }
    let said = new(&["--lang", "zig", "--template", "web"]);
    assert!(said.contains("cannot be used with"), "{said}");
}
