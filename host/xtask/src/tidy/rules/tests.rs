//! Each rule passes for a good file and fails for a bad one, all in memory.

use super::*;

const ROOT: &str = "host/process/src/lib.rs";
const FILE: &str = "host/process/src/mailbox.rs";

fn messages(path: &str, text: &str) -> Vec<String> {
    check_file(path, text)
        .into_iter()
        .map(|finding| format!("{}: {}", finding.location, finding.message))
        .collect()
}

/// Asserts that exactly one rule is broken, at this location, with this text in its message.
fn fails(path: &str, text: &str, location: &str, part: &str) {
    let found = messages(path, text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{location}: ")), "{found:?}");
    assert!(found[0].contains(part), "{found:?}");
}

fn holds(path: &str, text: &str) {
    assert_eq!(messages(path, text), Vec::<String>::new());
}

/// Returns a Rust file with a header and the given line as its second.
fn rust(line: &str) -> String {
    format!("//! A file.\n{line}\n")
}

#[test]
fn a_good_file_breaks_no_rule() {
    holds(FILE, &rust("fn f() {}"));
    holds(ROOT, &rust("#![forbid(unsafe_code)]"));
    holds("README.md", "# Title\n");
}

#[test]
fn a_rust_file_opens_with_its_header() {
    fails(
        FILE,
        "fn f() {}\n",
        "host/process/src/mailbox.rs:1",
        "open the file with",
    );
    holds("build/generated.rs", "fn f() {}\n");
}

#[test]
fn a_long_file_needs_a_reason() {
    let long = rust(&"fn f() {}\n".repeat(MAX_LINES));
    fails(FILE, &long, FILE, "the limit is 1000");
    holds(FILE, &format!("{long}// tidy: size, one table\n"));
    fails(
        FILE,
        &format!("{long}// tidy: size,\n"),
        FILE,
        "the limit is 1000",
    );
    holds(FILE, &rust(&"fn f() {}\n".repeat(MAX_LINES - 2)));
}

#[test]
fn unsafe_code_is_allowed_in_few_files() {
    let text = rust("unsafe fn f() {}");
    fails(
        FILE,
        &text,
        "host/process/src/mailbox.rs:2",
        "`unsafe` is for",
    );
    fails(
        "guest-sdk/rust/src/lib.rs",
        &text,
        "guest-sdk/rust/src/lib.rs:2",
        "`unsafe` is for",
    );
    for file in ["host/engine/src/frames/frame.rs", "host/image/src/image.rs"] {
        fails(file, &text, &format!("{file}:2"), "`unsafe` is for");
    }
    holds("host/image/src/pagemap.rs", &text);
    holds("host/engine/src/module/compile_cache.rs", &text);
    holds("guest-sdk/rust/src/sys.rs", &text);
}

#[test]
fn a_word_about_unsafe_code_is_no_unsafe_code() {
    holds(
        FILE,
        &rust("// unsafe here\nconst A: &str = \"unsafe\"; // #[ignore]"),
    );
}

#[test]
fn a_crate_root_forbids_unsafe_code() {
    fails(ROOT, &rust("mod a;"), ROOT, "#![forbid(unsafe_code)]");
    fails(
        ROOT,
        &rust("// #![forbid(unsafe_code)]"),
        ROOT,
        "#![forbid(unsafe_code)]",
    );
    fails(
        "host/cli/src/main.rs",
        &rust("mod a;"),
        "host/cli/src/main.rs",
        "#![forbid(unsafe_code)]",
    );
}

#[test]
fn a_crate_with_unsafe_blocks_documents_them() {
    for path in ["host/engine/src/lib.rs", "host/image/src/lib.rs"] {
        fails(path, &rust("mod a;"), path, "undocumented_unsafe_blocks");
        holds(path, &rust("#![deny(clippy::undocumented_unsafe_blocks)]"));
    }
}

#[test]
fn unfinished_work_is_found() {
    for name in UNFINISHED {
        fails(
            FILE,
            &rust(&format!("fn f() {{ {name}!() }}")),
            "host/process/src/mailbox.rs:2",
            name,
        );
    }
    holds(FILE, &rust("fn todo() {}"));
}

#[test]
fn an_ignored_test_is_found() {
    fails(
        FILE,
        &rust("#[ignore]"),
        "host/process/src/mailbox.rs:2",
        "ignored test",
    );
    fails(
        FILE,
        &rust("#[ignore = \"slow\"]"),
        "host/process/src/mailbox.rs:2",
        "ignored test",
    );
}

#[test]
fn a_silenced_lint_needs_a_reason() {
    fails(
        FILE,
        &rust("#[allow(dead_code)]"),
        "host/process/src/mailbox.rs:2",
        "needs a reason",
    );
    fails(
        FILE,
        &rust("#![allow(\n    dead_code,\n)]"),
        "host/process/src/mailbox.rs:2",
        "needs a reason",
    );
    fails(
        FILE,
        &rust("#[expect(dead_code)]"),
        "host/process/src/mailbox.rs:2",
        "needs a reason",
    );
    holds(
        FILE,
        &rust("#[allow(dead_code, reason = \"used by loom only\")]"),
    );
    holds(
        FILE,
        &rust("#[allow(\n    dead_code,\n    reason = \"brackets [] in it\"\n)]"),
    );
}

#[test]
fn a_path_of_one_machine_is_found() {
    for folder in MACHINE_PATHS {
        let text = format!("see {folder}someone\n");
        fails("docs/a.md", &text, "docs/a.md:1", "path of one machine");
        fails(
            FILE,
            &rust(&format!("// {folder}a")),
            "host/process/src/mailbox.rs:2",
            "path of one machine",
        );
        holds("docs/a.md", &format!("see src{folder}steal.rs\n"));
    }
}

#[test]
fn whitespace_at_the_end_is_found() {
    fails("docs/a.md", "a \n", "docs/a.md:1", "whitespace");
    fails("docs/a.md", "a\nb\r\n", "docs/a.md:2", "whitespace");
}

#[test]
fn a_file_ends_with_a_newline() {
    fails("justfile", "a:", "justfile", "newline");
    holds("empty.txt", "");
}

#[test]
fn a_todo_needs_an_issue() {
    for word in LATER {
        fails(
            "docs/a.md",
            &format!("{word}: more\n"),
            "docs/a.md:1",
            "without an issue",
        );
        fails(
            "docs/a.md",
            &format!("{word}(#): more\n"),
            "docs/a.md:1",
            "without an issue",
        );
        fails(
            FILE,
            &rust(&format!("// {word}(me): more")),
            "host/process/src/mailbox.rs:2",
            "without an issue",
        );
        holds("docs/a.md", &format!("{word}(#12): more\n"));
        holds("docs/a.md", &format!("{word}S\n"));
    }
}

#[test]
fn third_party_and_generated_texts_are_not_checked() {
    holds("LICENSE-APACHE", "a \nb");
    for path in ["modules/Cargo.lock", "docs/openapi.json"] {
        holds(path, &"a\n".repeat(MAX_LINES + 1));
    }
}
