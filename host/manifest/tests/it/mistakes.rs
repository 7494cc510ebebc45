//! The error for each mistake: where it is, and what to write.

use crate::{parse, problems, refused, with_children};

#[test]
fn an_unknown_key_is_reported_with_a_suggestion() {
    assert_eq!(
        refused("[app]\nname = \"a\"\n[modules.m]\npth = \"m.wasm\"\npath = \"m.wasm\"\n"),
        "\
error: unknown key `pth` in `[modules.m]`
 --> exuvia.toml:4:1
  |
4 | pth = \"m.wasm\"
  | ^^^ did you mean `path`?
  |
  = help: known here: `build`, `dev`, `limits`, `log`, `memory_layout`, `net`, `path`, `sources`, `wasi`
"
    );
}

#[test]
fn a_wrong_type_is_reported_with_the_expected_one() {
    assert_eq!(
        refused("[app]\nname = \"a\"\n[node]\nschedulers = \"two\"\n"),
        "\
error: `schedulers` must be a whole number
 --> exuvia.toml:4:14
  |
4 | schedulers = \"two\"
  |              ^^^^^ this is a string
"
    );
}

#[test]
fn invalid_toml_is_reported_with_the_parsers_message() {
    let shown = refused("[app]\nname = \"a\n");
    assert!(
        shown.starts_with("error: not valid TOML: ") && shown.contains("exuvia.toml:2:"),
        "{shown}"
    );
}

#[test]
fn an_unknown_module_is_reported_with_a_suggestion() {
    let text = with_children("[[supervisor.children]]\nid = \"c\"\nmodule = \"n\"\n");
    assert_eq!(
        refused(&text),
        "\
error: there is no module `n`
 --> exuvia.toml:7:10
  |
7 | module = \"n\"
  |          ^^^ did you mean `m`?
  |
  = help: known here: `m`
"
    );
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = "\
[app]
name = \"Not Good\"
colour = 1
[node]
probation = -1
verify = \"0s\"
[limits]
memory = \"16MB\"
message_bytes = 0
[modules.\"a b\"]
[supervisor]
strategy = \"one-for-one\"
period = \"0s\"
";
    assert_eq!(
        problems(text),
        [
            "2:8 invalid characters in the app's name",
            "3:1 unknown key `colour` in `[app]`",
            "5:13 `probation` must be from 0 to 1000000",
            "6:10 `verify` must be from \"1ms\" to \"10m\"",
            "8:10 `16MB` is not a size",
            "9:17 `message_bytes` must be from 1B to 1GiB",
            "10:1 module `a b` has no `path`",
            "10:10 not a name for a module",
            "12:12 `one-for-one` is not a known `strategy`",
            "13:10 `period` must be from \"1ms\" to \"8784h\"",
        ]
    );
    let shown = refused(text);
    assert!(shown.contains("write \"16MiB\""), "{shown}");
    assert!(shown.contains("did you mean `one_for_one`?"), "{shown}");
}

#[test]
fn mistakes_in_children() {
    for (lines, expected) in [
        (
            "[[supervisor.children]]\nmodule = \"m\"\n",
            "5:1 a child has no `id`",
        ),
        (
            "[[supervisor.children]]\nid = \"\"\nmodule = \"m\"\n",
            "6:6 `id` is empty",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\n",
            "5:1 a child needs a `module` or a `supervisor`",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nsupervisor = {}\n",
            "8:1 a child has either `module` or `supervisor`, not both",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nsupervisor = {}\ncount = 2\n",
            "8:1 `count` is for children with a `module`, not for supervisors",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodul = \"m\"\n",
            "5:1 a child needs a `module` or a `supervisor`",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\ncount = 0\n",
            "8:9 `count` must be from 1 to 1000000",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nrestart = \"always\"\n",
            "8:11 `always` is not a known `restart`",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nshutdown = \"never\"\n",
            "8:12 `never` is not a known `shutdown`",
        ),
        (
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nargs = [1, 99999999999999999999]\n",
            "8:12 the number does not fit 64 bits",
        ),
        (
            "[supervisor]\nchildren = 3\n",
            "6:12 `children` must be an array of tables",
        ),
        (
            "[supervisor]\nchildren = [3]\n",
            "6:13 `children` must be a table",
        ),
        (
            "[limits]\nmessage_bytes = 2\n[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nargs = \"abc\"\n",
            "10:8 `args` has 4 bytes, but the limit of a message is 2",
        ),
        (
            "[limits]\nchildren = 2\n[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\ncount = 3\n",
            "7:14 3 children, but the limit of a supervisor is 2",
        ),
    ] {
        let found = problems(&with_children(lines));
        assert!(
            found.iter().any(|found| found == expected),
            "{lines}\n{found:#?}"
        );
    }
}

#[test]
fn durations_without_a_unit_are_rejected_with_the_form_to_write() {
    let child = "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n";
    for (lines, expected) in [
        ("shutdown = 5000", "add a unit: \"5000ms\" or \"5000s\""),
        ("shutdown = \"5\"", "add a unit: \"5ms\" or \"5s\""),
        ("shutdown = \"1.5s\"", "write \"1500ms\""),
        ("shutdown = \"25h\"", "from \"0s\" to \"24h\""),
        ("shutdown = \"never\"", "or a duration such as \"5s\""),
        ("shutdown = true", "`shutdown` must be a duration"),
    ] {
        let shown = refused(&with_children(&format!("{child}{lines}\n")));
        assert!(shown.contains(expected), "{lines}: {shown}");
    }
}

#[test]
fn keys_of_former_versions_are_rejected_with_the_line_to_write() {
    let child = "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n";
    for (text, new) in [
        (
            format!("{child}shutdown_ms = 1500\n"),
            "write:  shutdown = \"1500ms\"",
        ),
        (
            format!("{child}shutdown_ms = \"infinity\"\n"),
            "write:  shutdown = \"infinity\"",
        ),
        (
            "[supervisor]\nperiod_s = 60\n".into(),
            "write:  period = \"1m\"",
        ),
        (
            "[node]\nverify_ms = 250\n".into(),
            "write:  verify = \"250ms\"",
        ),
    ] {
        let text = with_children(&text);
        let shown = refused(&text);
        assert!(shown.contains(new), "{shown}");
        assert_eq!(problems(&text).len(), 1, "{shown}");
    }
}

#[test]
fn ids_are_unique_within_a_supervisor() {
    let child = |id: &str, more: &str| {
        format!("[[supervisor.children]]\nid = \"{id}\"\nmodule = \"m\"\n{more}\n")
    };
    let count = |n| format!("count = {n}");
    for (children, refused) in [
        ([child("a", ""), child("b", "")], false),
        ([child("a", ""), child("a", "")], true),
        ([child("a", &count(3)), child("a", &count(2))], true),
        ([child("a", ""), child("a", &count(3))], false),
        ([child("a", &count(3)), child("a-2", "")], true),
        ([child("a-2", ""), child("a", &count(3))], true),
        ([child("a", &count(3)), child("a-3", "")], false),
        ([child("a", &count(3)), child("a-02", "")], false),
    ] {
        let text = with_children(&children.concat());
        assert_eq!(parse(&text).is_err(), refused, "{text}");
    }
    let inner = "[supervisor.children.supervisor]\nchildren = [{ id = \"a\", module = \"m\" }]\n";
    let text = with_children(&format!("[[supervisor.children]]\nid = \"a\"\n{inner}"));
    parse(&text).expect("another supervisor has its own ids");
}

#[test]
fn names_are_unique_in_the_manifest() {
    let child = |id: &str, more: &str| {
        format!("[[supervisor.children]]\nid = \"{id}\"\nmodule = \"m\"\n{more}\n")
    };
    let ask = |children: &[String]| parse(&with_children(&children.concat()));
    let twice = ask(&[child("a", "name = \"x\""), child("b", "name = \"x\"")])
        .expect_err("a name twice")
        .to_string();
    assert!(
        twice.contains("the name `x` is already used") && twice.contains("first used on line 8"),
        "{twice}"
    );
    ask(&[
        child("a", "name = \"x-{n}\"\ncount = 3"),
        child("b", "name = \"x-2\""),
    ])
    .expect_err("a pattern makes the name");
    ask(&[
        child("a", "name = \"x{n}\"\ncount = 12"),
        child("b", "name = \"x{n}1\"\ncount = 2"),
    ])
    .expect_err("two patterns make one name");
    ask(&[
        child("a", "name = \"x-{n}\"\ncount = 3"),
        child("b", "name = \"x-3\""),
    ])
    .expect("three names end before x-3");
    ask(&[child("a", "name = \"x\"\ncount = 3")]).expect_err("a count needs a pattern");
    ask(&[child("a", "name = \"x-{n}\"")]).expect_err("a pattern needs a count");
}

#[test]
fn a_name_that_looks_like_a_pid_is_rejected() {
    let child = |line: &str| {
        format!(
            "[app]\nname = \"a\"\n[modules.m]\npath = \"m.wasm\"\n\
             [[supervisor.children]]\nid = \"x\"\nmodule = \"m\"\n{line}\n"
        )
    };
    for line in [
        "name = \"<3.1>\"",
        "name = \"3.1\"",
        "count = 2\nname = \"{n}.0\"",
    ] {
        let message = refused(&child(line));
        assert!(message.contains("looks like a pid"), "{line}: {message}");
    }
    for line in ["name = \"v3.1\"", "name = \"3\"", "name = \"3.1.4\""] {
        assert!(parse(&child(line)).is_ok(), "{line}");
    }
}

#[test]
fn invalid_builds_are_rejected() {
    let module = "[app]\nname = \"a\"\n[modules.m]\npath = \"m.wasm\"\n";
    for (lines, part) in [
        ("build = \"  \"", "`build` is empty"),
        ("build = 1", "`build` must be a string"),
        (
            "sources = [\"a\"]",
            "module `m` has `sources` but no `build`",
        ),
        (
            "build = \"x\"\nsources = \"a\"",
            "`sources` must be an array of strings",
        ),
        (
            "build = \"x\"\nsources = [1]",
            "`sources` must be an array of strings",
        ),
        (
            "build = \"x\"\nsources = [\"\"]",
            "a string in `sources` is empty",
        ),
    ] {
        let error = refused(&format!("{module}{lines}\n"));
        assert!(error.contains(part), "{lines}: {error}");
    }
}
