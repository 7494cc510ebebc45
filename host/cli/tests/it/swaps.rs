//! `exuvia check OLD NEW`: what two files tell of a swap, with modules whose sections are written by
//! hand. Those of the languages are compared in the tests of the node.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::app::{Answer, answer, exuvia};

/// A module with this schema, and these sections and items.
fn module(schema: i32, more: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1)
            (global (export "exuvia_abi") i32 (i32.const 1))
            (global (export "exuvia_schema") i32 (i32.const {schema}))
            (func (export "run") (result i32) (i32.const 0)) {more})"#
    )
}

/// The functions without which no state is migrated.
const SAVE_AND_LOAD: &str = r#"(func (export "save") (result i32) (i32.const 0))
    (func (export "load") (param i32 i32) (result i32) (i32.const 0))"#;

fn section(name: &str, text: &str) -> String {
    format!("(@custom \"{name}\" \"{}\")", text.escape_default())
}

/// A module that migrates its state, which is of this type.
fn saving(schema: i32, ty: &str) -> String {
    stating(
        schema,
        &format!("{{\"schema\": {schema}, \"type\": \"{ty}\"}}"),
    )
}

fn stating(schema: i32, state: &str) -> String {
    let state = section("exuvia.state", state);
    module(schema, &format!("{SAVE_AND_LOAD} {state}"))
}

fn check(old: &str, new: &str, more: &[&str]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old.wat"), old).unwrap();
    fs::write(folder.path().join("new.wasm"), wat::parse_str(new).unwrap()).unwrap();
    let arguments = ["check", "old.wat", "new.wasm"];
    answer(exuvia(folder.path()).args(arguments).args(more))
}

#[track_caller]
fn says(old: &str, new: &str, code: i32, parts: &[&str]) {
    let answer = check(old, new, &[]);
    assert_eq!(answer.code, Some(code), "{answer:?}");
    for part in parts {
        assert!(answer.stdout.contains(part), "{part}: {answer:?}");
    }
}

#[test]
fn a_state_with_equal_fields_is_migrated() {
    let old = saving(1, "{count: int}");
    let new = saving(1, "{count: int, step?: int}");
    says(
        &old,
        &new,
        0,
        &[
            "good old.wat -> new.wasm",
            "state: migrated by `save` and `load`: schema 1 in both, and its fields fit",
            "not reused: one of the modules has no layout fingerprint",
            "field: `step` is new, and may be missing",
            "messages: not compared",
        ],
    );
}

#[test]
fn each_field_that_does_not_fit_is_a_line_of_its_own() {
    let old = saving(1, "{count: int, owner: text, gone: int}");
    let new = saving(1, "{count: text, owner: text, step: int}");
    says(
        &old,
        &new,
        1,
        &[
            "bad old.wat -> new.wasm",
            "  state: refused: `count` is text and was int: raise the schema and convert it in `load`\n",
            "  state: refused: `step` is new and has no default: give it one, or raise the schema",
            "  warning: `gone` is gone: what it holds is dropped",
            "  rollback: refused: the old code would not find or could not read `count`, `gone`; a process",
        ],
    );
    let answer = check(&old, &new, &[]);
    assert!(
        answer
            .stderr
            .contains("new.wasm cannot take the state of old.wat"),
        "{answer:?}"
    );
}

#[test]
fn a_schema_that_load_does_not_take_is_refused() {
    let old = saving(1, "{count: int}");
    says(
        &old,
        &saving(2, "{total: int}"),
        1,
        &["refused: `load` takes schema 2, and the state has schema 1: convert schema 1 in `load`"],
    );
    let converting = "{\"schema\": 2, \"loads\": [1], \"type\": \"{total: int}\"}";
    says(
        &old,
        &stating(2, converting),
        0,
        &[
            "migrated by `save` and `load`, which converts schema 1 to 2",
            "field: `total` is new: `load` makes it",
            "rollback: refused: the old code does not take schema 2",
        ],
    );
}

#[test]
fn what_the_files_do_not_tell_is_said_and_refuses_nothing() {
    let old = saving(1, "{count: int}");
    let silent = module(2, SAVE_AND_LOAD);
    let unknown = "which is not known: the new code does not describe its state";
    says(&old, &silent, 0, &["unknown old.wat -> new.wasm", unknown]);
    let broken = stating(1, "{\"schema\": 1, \"type\": \"{count: i64}\"}");
    says(
        &old,
        &broken,
        0,
        &[
            "warning: the section `exuvia.state` of the new code cannot be read: `type`: there is no type `i64`",
        ],
    );
    let other = stating(1, "{\"schema\": 2, \"type\": \"{}\"}");
    says(
        &old,
        &other,
        0,
        &["it says schema 2, and `exuvia_schema` is 1"],
    );
}

#[test]
fn a_memory_with_the_same_layout_is_reused_without_save_and_load() {
    let layout = section("exuvia.layout", "one");
    let old = module(1, &layout);
    let new = module(1, &format!("{layout} (func (nop))"));
    says(
        &old,
        &new,
        0,
        &["state: reused: the memory is taken over as it is"],
    );
    let other = module(1, &section("exuvia.layout", "two"));
    says(
        &old,
        &other,
        1,
        &[
            "not reused: the layout fingerprints differ",
            "refused: the old code exports no `save`",
            "refused: the new code exports no `load`",
        ],
    );
}

#[test]
fn messages_and_grants_are_compared_and_refuse_nothing() {
    let speaking = |protocol: &str, more: &str| {
        module(
            1,
            &format!(
                "{more} {SAVE_AND_LOAD} {}",
                section("exuvia.protocol", protocol)
            ),
        )
    };
    let old = speaking(
        "{\"name\": \"get\", \"reply\": \"i64\"}\n{\"name\": \"put\", \"parameters\": [{\"name\": \"it\", \"type\": \"Item\"}]}\n{\"name\": \"stop\"}\n",
        "",
    );
    let wasi = r#"(func (export "never") (drop (call $open (i32.const 0) (i32.const 0))))"#;
    let new = speaking(
        "{\"name\": \"get\", \"reply\": \"text\"}\n{\"name\": \"put\", \"parameters\": [{\"name\": \"it\", \"type\": \"Thing\"}]}\n{\"name\": \"add\"}\n",
        wasi,
    );
    let import = r#"(module (import "wasi_snapshot_preview1" "environ_get" (func $open (param i32 i32) (result i32)))"#;
    let new = new.replacen("(module", import, 1);
    says(
        &old,
        &new,
        0,
        &[
            "warning: `get`: the reply is text and was i64",
            "message: `put`: `it` is Thing and was Item: not compared, since the modules do not tell what these are",
            "warning: `stop` is gone",
            "message: `add` is new",
            "wasi: the new code can also use variables",
        ],
    );
    says(&old, &old, 0, &["messages: the same"]);
}

/// What the pages show is what is printed.
#[test]
fn the_pages_show_what_is_said() {
    let command = "$ exuvia check running.wasm counter.wasm\n";
    let code = |layout: &str, ty: &str, messages: &[&str]| {
        let lines: String = (messages.iter())
            .map(|name| format!("{{\"name\": \"{name}\"}}\n"))
            .collect();
        let more = [
            section("exuvia.layout", layout),
            section("exuvia.protocol", &lines),
        ];
        let state = saving(1, ty);
        let module = state.strip_suffix(')').unwrap();
        wat::parse_str(format!("{module} {})", more.concat())).unwrap()
    };
    for (page, old, new) in [
        (
            include_str!("../../../../docs/upgrade.md"),
            code("one", "{count: int}", &["add"]),
            code("two", "{count: int, step: int}", &["add"]),
        ),
        (
            include_str!("../../../../docs/cli.md"),
            code("one", "{count: int, owner: text}", &["add", "reset"]),
            code("two", "{count: text, step: int}", &["add"]),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("running.wasm"), old).unwrap();
        fs::write(folder.path().join("counter.wasm"), new).unwrap();
        let answer = answer(exuvia(folder.path()).args(command.split_whitespace().skip(2)));
        let (_, shown) = page.split_once(command).unwrap();
        let (shown, _) = shown.split_once("```").unwrap();
        assert_eq!(answer.stdout, shown);
        assert_eq!(answer.code, Some(1), "{answer:?}");
    }
}

#[test]
fn a_program_reads_the_same() {
    let old = saving(1, "{count: int, gone: int}");
    let new = saving(1, "{count: text}");
    let answer = check(&old, &new, &["--json"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let mut lines = answer.stdout.lines();
    let line: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(
        (&line["old"], &line["new"]),
        (&"old.wat".into(), &"new.wasm".into())
    );
    assert_eq!(line["accepted"], false);
    let swap = &line["swap"];
    assert_eq!(swap["state"]["way"], "refused");
    assert_eq!(
        swap["state"]["reasons"][0],
        "`count` is text and was int: raise the schema and convert it in `load`"
    );
    assert_eq!(swap["fields"][1]["field"], "gone");
    assert_eq!(swap["fields"][1]["loss"], "dropped");
    assert_eq!(swap["rollback"]["way"], "refused");
    assert!(swap["messages"].is_null() && swap["not_reused"].is_string());
    let same = check(&old, &old, &["--json"]);
    let line: Value = serde_json::from_str(&same.stdout).unwrap();
    assert_eq!(line["swap"]["state"]["way"], "migrated");
}

#[test]
fn a_file_that_cannot_be_loaded_is_named_with_its_faults() {
    let answer = check(&saving(1, "{}"), "(module)", &[]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stdout.starts_with("bad new.wasm\n"), "{answer:?}");
    assert!(
        answer.stdout.contains("`memory`: define one memory"),
        "{answer:?}"
    );
    assert!(
        answer.stderr.contains("1 file of 2 cannot be loaded"),
        "{answer:?}"
    );
}

#[test]
fn one_module_says_what_it_saves() {
    let folder = tempfile::tempdir().unwrap();
    let said = |wat: &str| {
        fs::write(folder.path().join("m.wat"), wat).unwrap();
        checked(folder.path())
    };
    let text = said(&saving(1, "{count: int}"));
    assert!(
        text.contains("saved: {count: int}; `load` takes schema 1\n"),
        "{text}"
    );
    let text = said(&stating(1, "nothing"));
    assert!(
        text.contains("warning: its section `exuvia.state` cannot be read"),
        "{text}"
    );
    assert!(!said(&module(1, "")).contains("saved: "));
}

fn checked(folder: &Path) -> String {
    let answer = answer(exuvia(folder).args(["check", "m.wat"]));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer.stdout
}
