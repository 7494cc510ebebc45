//! Which app is meant, and what `new` and `build` make where.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::app::{Answer, App, COUNTER, answer, exuvia};
use crate::terminal::Terminal;

fn ask(folder: &Path, arguments: &[&str]) -> Answer {
    answer(exuvia(folder).args(arguments))
}

#[test]
fn commands_use_the_nearest_app_from_any_folder_in_it() {
    let app = App::new();
    let deep = app.folder().join("src/deep");
    fs::create_dir_all(&deep).unwrap();
    let checked = ask(&deep, &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("../../counter.wasm"), "{checked:?}");
    let mut terminal = Terminal::start(exuvia(&deep).arg("run"), 120, 40);
    terminal.shows("the module files\n");
    let deployed = ask(&deep, &["deploy"]);
    assert!(deployed.stdout.contains("nothing changed"), "{deployed:?}");
    assert_eq!(ask(&deep, &["stop"]).code, Some(0));
    assert_eq!(terminal.end().0, Some(0));
    // Outside of any it is said what is missing.
    let outside = tempfile::tempdir().unwrap();
    for command in ["run", "check", "deploy", "dev", "build"] {
        let answer = ask(outside.path(), &[command]);
        assert_eq!(answer.code, Some(1), "{command}: {answer:?}");
        assert!(
            answer.stderr.contains("a file `exuvia.toml`"),
            "{command}: {answer:?}"
        );
    }
}

#[test]
fn a_single_module_can_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("My counter.wat"), COUNTER).unwrap();
    let mut terminal = Terminal::start(
        exuvia(folder.path()).args(["run", "My counter.wat"]),
        120,
        40,
    );
    let shown = terminal.shows("the module files\n");
    assert!(
        shown.contains("my_counter: 1 process of 1 module"),
        "{shown}"
    );
    let asked = ask(folder.path(), &["send", "my_counter", "--call"]);
    assert_eq!(asked.stdout, "0000000000000000\n", "{asked:?}");
    assert_eq!(ask(folder.path(), &["stop"]).code, Some(0));
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn a_new_app_is_a_repository_unless_it_is_inside_of_one() {
    let around = tempfile::tempdir().unwrap();
    let new = |arguments: &[&str]| {
        let made = ask(
            around.path(),
            &[&["new", "--template", "wat"], arguments].concat(),
        );
        assert_eq!(made.code, Some(0), "{made:?}");
    };
    let is_repository = |name: &str| around.path().join(name).join(".git").exists();
    new(&["one"]);
    new(&["two", "--vcs", "none"]);
    new(&["one/three"]);
    assert!(is_repository("one") && !is_repository("two") && !is_repository("one/three"));
    // Beside a repository, as seen from inside of it.
    new(&["one/../four"]);
    assert!(is_repository("four"));
}

#[test]
fn a_new_app_in_a_cargo_workspace_has_its_own_workspace() {
    let around = tempfile::tempdir().unwrap();
    let workspace = around.path().join("Cargo.toml");
    let text = "[workspace]\nresolver = \"3\"\nmembers = [\"apps/*\"]\n";
    fs::write(&workspace, text).unwrap();
    let new =
        |name: &str, template: &str| ask(around.path(), &["new", name, "--template", template]);
    // What cargo says of it, and of the one around it.
    let reads = |folder: &str| {
        Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--offline",
            ])
            .current_dir(around.path().join(folder))
            .output()
            .unwrap()
    };
    for template in ["rust", "tree"] {
        let made = new(&format!("of-{template}"), template);
        assert_eq!(made.code, Some(0), "{made:?}");
        let read = reads(&format!("of-{template}"));
        assert!(read.status.success(), "{read:?}");
    }
    let refused = new("apps/one", "rust");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let fix = "exclude = [\"apps/one\"]";
    assert!(refused.stderr.contains(fix), "{refused:?}");
    fs::write(&workspace, text.to_owned() + fix).unwrap();
    assert_eq!(new("apps/one", "rust").code, Some(0));
    assert!(reads("apps/one").status.success());
    // A library is a member.
    let made = new("messages", "lib");
    assert!(
        made.stdout.contains("add \"messages\" to `members`"),
        "{made:?}"
    );
    assert_eq!(new("apps/messages", "lib").code, Some(0));
    assert!(reads("apps/messages").status.success());
}

#[test]
fn another_target_folder_of_cargo_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("hello.wat"), COUNTER).unwrap();
    let manifest = |profile: &str| {
        let copy = "cargo --version; to=${CARGO_TARGET_DIR:-target}/wasi/release; mkdir -p $to; cp hello.wat $to";
        let text = format!(
            "[app]\nname = \"hello\"\n[modules.hello]\npath = \"target/wasi/{profile}/hello.wat\"\nbuild = \"{copy}\"\n"
        );
        fs::write(at("exuvia.toml"), text).unwrap();
    };
    manifest("release");
    let build = |variable: &str| {
        answer(
            exuvia(folder.path())
                .env("CARGO_TARGET_DIR", variable)
                .arg("build"),
        )
    };
    let built = build("else/where");
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(
        built.stdout.contains("else/where/wasi/release/hello.wat"),
        "{built:?}"
    );
    assert!(!at("target").exists());
    let check = |variable: &str| {
        answer(
            exuvia(folder.path())
                .env("CARGO_TARGET_DIR", variable)
                .arg("check"),
        )
    };
    assert_eq!(check("else/where").code, Some(0));
    let missing = check("no/where");
    assert!(
        missing
            .stderr
            .contains("where cargo writes it because of CARGO_TARGET_DIR"),
        "{missing:?}"
    );
    // One that the command does not make: the help is not to build it again.
    manifest("debug");
    let not_made = build("else/where");
    assert_eq!(not_made.code, Some(1));
    assert!(
        not_made.stderr.contains("exists, for another target")
            && not_made.stderr.contains("release/hello.wat"),
        "{not_made:?}"
    );
}

#[test]
fn dev_builds_other_files_than_build() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("hello.wat"), COUNTER).unwrap();
    let text = "[app]\nname = \"hello\"\n\
        [modules.hello]\npath = \"release.wat\"\nbuild = \"cp hello.wat release.wat\"\nsources = [\"hello.wat\"]\n\
        [modules.hello.dev]\npath = \"dev.wat\"\nbuild = \"cp hello.wat dev.wat\"\n\
        [[supervisor.children]]\nid = \"counter\"\nmodule = \"hello\"\n";
    fs::write(at("exuvia.toml"), text).unwrap();
    let mut terminal = Terminal::start(exuvia(folder.path()).arg("dev"), 120, 40);
    terminal.shows("started");
    assert!(at("dev.wat").exists() && !at("release.wat").exists());
    let new = COUNTER.replace("at 16\")", "at 16, new\")");
    fs::write(at("hello.wat"), new).unwrap();
    terminal.shows("commit");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
    assert!(!at("release.wat").exists());
    assert_eq!(ask(folder.path(), &["build"]).code, Some(0));
    assert!(at("release.wat").exists());
    // What is wrong in the table is told.
    fs::write(
        at("exuvia.toml"),
        text.replace("[modules.hello.dev]\npath", "[modules.hello.dev]\npaht"),
    )
    .unwrap();
    let wrong = ask(folder.path(), &["build"]);
    assert!(wrong.stderr.contains("did you mean `path`?"), "{wrong:?}");
}
