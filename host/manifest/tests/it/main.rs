//! The manifest through its public face: the full form, the defaults, the error
//! for each mistake, and arbitrary input.

mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_abi::Priority;
use exuvia_manifest::{
    Child, Grants, Level, Limits, MAX_MANIFEST_BYTES, Manifest, ManifestError, NodeSettings,
    Restart, Shutdown, Strategy, SupervisorEntry, Work,
};
use proptest::prelude::*;

const FULL: &str = r#"
[app]
name = "counter"

[node]
schedulers = 2
frames = 1024
frame_memory = "512MiB"
normal_share = 25
processes = 20000
probation = 4
verify = "250ms"
release_threshold = 5

[modules.counter]
path = "target/counter.wasm"

[modules.small]
path = "small.wat"
[modules.small.limits]
memory = "1MiB"

[limits]
memory = "32MiB"
mailbox_messages = 1000
mailbox_bytes = 65536
message_bytes = "4KiB"
children = 5000
descendants = 9000
tables = "1MiB"
priority = "high"
files = 7

[supervisor]
strategy = "rest_for_one"
intensity = 7
period = "1m"

[[supervisor.children]]
id = "counter"
module = "counter"
count = 3
name = "counter-{n}"
args = { start = 0, big = 18446744073709551615, list = [1.5, true, "x"], day = 1979-05-27 }
restart = "transient"
shutdown = "100ms"

[[supervisor.children]]
id = "workers"
restart = "temporary"
[supervisor.children.supervisor]
strategy = "one_for_all"
[[supervisor.children.supervisor.children]]
id = "one"
module = "small"
name = "one"
shutdown = "brutal_kill"
limits = { children = 0 }

[[supervisor.children]]
id = "last"
module = "small"
shutdown = "infinity"
manages = true
"#;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, "exuvia.toml", "/app")
}

/// The full message for a manifest that must not be accepted.
fn refused(text: &str) -> String {
    match parse(text) {
        Ok(manifest) => panic!("accepted: {manifest:?}"),
        Err(error) => error.to_string(),
    }
}

/// Only the messages and places.
fn problems(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("a mistake");
    error
        .problems()
        .iter()
        .map(|problem| match &problem.place {
            Some(place) => format!("{}:{} {}", place.line, place.column, problem.message),
            None => problem.message.clone(),
        })
        .collect()
}

/// A manifest with one module `m` and these lines after it.
fn with_children(lines: &str) -> String {
    format!("[app]\nname = \"a\"\n[modules.m]\npath = \"m.wasm\"\n{lines}")
}

fn process(child: &Child) -> &exuvia_manifest::Process {
    match &child.work {
        Work::Process(process) => process,
        Work::Supervisor(_) => panic!("`{}` is a supervisor", child.id),
    }
}

#[test]
fn the_full_form() {
    let manifest = parse(FULL).expect("a good manifest");
    assert_eq!(manifest.name, "counter");
    assert_eq!(
        manifest.node,
        NodeSettings {
            schedulers: Some(2),
            frames: Some(1024),
            frame_memory: Some(512 << 20),
            normal_share: 25,
            processes: Some(20_000),
            probation: 4,
            verify: Duration::from_millis(250),
            release_threshold: 5,
        }
    );
    let limits = Limits {
        memory: 32 << 20,
        mailbox_messages: 1000,
        mailbox_bytes: 65536,
        message_bytes: 4096,
        children: 5000,
        descendants: Some(9000),
        tables: 1 << 20,
        priority: Priority::High,
        files: 7,
        grants: Grants::default(),
    };
    assert_eq!(manifest.limits, limits);
    let paths: Vec<_> = manifest
        .modules
        .values()
        .map(|module| &module.path)
        .collect();
    assert_eq!(
        paths,
        [
            Path::new("/app/target/counter.wasm"),
            Path::new("/app/small.wat")
        ]
    );
    let small = Limits {
        memory: 1 << 20,
        ..limits
    };
    assert_eq!(manifest.modules["small"].limits, small);
    assert_eq!(
        SupervisorEntry {
            children: Vec::new(),
            ..manifest.supervisor.clone()
        },
        SupervisorEntry {
            strategy: Strategy::RestForOne,
            intensity: 7,
            period: Duration::from_secs(60),
            max_children: 5000,
            children: Vec::new(),
        }
    );
    assert_eq!(manifest.process_count(), 5);

    let [counter, workers, last] = manifest.supervisor.children.as_slice() else {
        panic!("three children");
    };
    assert_eq!(counter.restart, Restart::Transient);
    assert_eq!(
        counter.shutdown,
        Shutdown::Timeout(Duration::from_millis(100))
    );
    let instances: Vec<_> = counter
        .instances()
        .map(|child| (child.id, child.name.unwrap_or_default()))
        .collect();
    let expected = ["counter-0", "counter-1", "counter-2"].map(|id| (id.into(), id.into()));
    assert_eq!(instances, expected);

    assert_eq!(workers.restart, Restart::Temporary);
    assert_eq!(workers.shutdown, Shutdown::Infinity);
    let Work::Supervisor(workers) = &workers.work else {
        panic!("a supervisor");
    };
    assert_eq!(workers.strategy, Strategy::OneForAll);
    let one = &workers.children[0];
    assert_eq!(one.shutdown, Shutdown::BrutalKill);
    assert_eq!(
        process(one).limits,
        Limits {
            children: 0,
            ..small
        }
    );
    assert_eq!(process(one).args, Vec::<u8>::new());

    assert_eq!(last.shutdown, Shutdown::Infinity);
    assert_eq!(last.instances().count(), 1);
    assert!(process(last).manages && !process(one).manages);
}

#[test]
fn the_documented_example_is_a_manifest() {
    let page = include_str!("../../../../docs/manifest.md");
    let example = page
        .split("```")
        .find_map(|part| part.strip_prefix("toml\n"))
        .expect("an example");
    let manifest = parse(example).expect("a good manifest");
    assert_eq!(manifest.process_count(), 1_001);
}

#[test]
fn arguments_are_messagepack() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Args {
        start: i64,
        big: u64,
        list: (f64, bool, String),
        day: String,
    }
    let manifest = parse(FULL).expect("a good manifest");
    let bytes = &process(&manifest.supervisor.children[0]).args;
    let args: Args = rmp_serde::from_slice(bytes).expect("MessagePack");
    assert_eq!(
        args,
        Args {
            start: 0,
            big: u64::MAX,
            list: (1.5, true, "x".into()),
            day: "1979-05-27".into(),
        }
    );

    for (text, expected) in [
        ("7", vec![7]),
        ("-1", vec![0xff]),
        ("0x1_0", vec![16]),
        ("\"hi\"", vec![0xa2, b'h', b'i']),
        ("true", vec![0xc3]),
        ("[]", vec![0x90]),
        ("{}", vec![0x80]),
        ("{ b = 1, a = 2 }", vec![0x82, 0xa1, b'a', 2, 0xa1, b'b', 1]),
    ] {
        let text = with_children(&format!(
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nargs = {text}\n"
        ));
        let manifest = parse(&text).expect("a good manifest");
        assert_eq!(process(&manifest.supervisor.children[0]).args, expected);
    }
}

#[test]
fn everything_but_the_name_has_a_default() {
    let manifest = parse("[app]\nname = \"a\"\n").expect("a good manifest");
    assert_eq!(manifest.node, NodeSettings::default());
    assert_eq!(manifest.limits, Limits::default());
    assert_eq!(manifest.modules, BTreeMap::new());
    assert_eq!(manifest.supervisor, SupervisorEntry::default());

    let text = with_children("[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n");
    let child = parse(&text).expect("a good manifest").supervisor.children[0].clone();
    assert_eq!(child.restart, Restart::Permanent);
    assert_eq!(
        child.shutdown,
        Shutdown::Timeout(Duration::from_millis(5_000))
    );
}

#[test]
fn zero_frames_means_automatic() {
    let manifest = parse("[app]\nname = \"a\"\n[node]\nframes = 0\n").expect("a good manifest");
    assert_eq!(manifest.node.frames, None);
}

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
  = help: known here: `build`, `dev`, `limits`, `log`, `path`, `sources`, `wasi`
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
fn too_many_children_are_rejected_before_they_are_allocated() {
    let child = |n: u32| {
        format!(
            "[[supervisor.children]]\nid = \"c{n}\"\n[supervisor.children.supervisor]\n\
             children = [{{ id = \"x\", module = \"m\", count = 1000000, name = \"x{n}-{{n}}\" }}]\n"
        )
    };
    let children: String = (0..100).map(child).collect();
    let found = problems(&with_children(&children));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("100000100 children"), "{found:#?}");
}

#[test]
fn the_nesting_of_supervisors_is_limited() {
    let nested = |depth: usize| {
        let open = "{ id = \"s\", supervisor = { children = [".repeat(depth);
        let close = "] } }".repeat(depth);
        format!("[app]\nname = \"a\"\n[supervisor]\nchildren = [{open}{close}]\n")
    };
    parse(&nested(15)).expect("16 levels with the root");
    let found = problems(&nested(16));
    assert!(found[0].contains("nested deeper than 16"), "{found:#?}");
    // Far deeper, where the TOML parser itself gives up.
    refused(&nested(10_000));
}

/// Texts whose trees are as deep as the parser allows, by each way to nest.
#[test]
fn deep_nesting_overflows_no_stack() {
    let dotted = vec!["a"; 78].join(".");
    let mut value = "1".to_owned();
    for _ in 0..78 {
        value = format!("{{ {dotted} = {value} }}");
    }
    for text in [
        format!("{dotted} = {value}"),
        format!("[{dotted}]\n{dotted} = {value}"),
        with_children(&format!(
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nargs = {value}\n"
        )),
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
    ] {
        refused(&text);
    }
}

#[test]
fn the_size_of_a_manifest_is_limited() {
    let text = format!("[app]\nname = \"a\"\n#{}", "x".repeat(MAX_MANIFEST_BYTES));
    assert_eq!(
        refused(&text),
        "error: the manifest is larger than 1MiB\n --> exuvia.toml\n"
    );
}

#[test]
fn a_byte_order_mark_and_crlf_lines_are_accepted() {
    let text = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    let manifest = parse(&text).expect("a good manifest");
    assert_eq!(manifest.process_count(), 5);
}

#[test]
fn files_are_loaded_and_checked_on_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Manifest::load(folder.path()).expect_err("no manifest yet");
    let shown = missing.to_string();
    assert!(
        shown.contains("could not read the manifest")
            && shown.contains(&format!(
                "looked for {}",
                folder.path().join("exuvia.toml").display()
            )),
        "{shown}"
    );

    std::fs::write(
        folder.path().join("exuvia.toml"),
        with_children("[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n"),
    )
    .expect("written");
    let manifest = Manifest::load(folder.path()).expect("the folder's manifest");
    assert_eq!(manifest.base_dir, folder.path());
    let wasm: PathBuf = folder.path().join("m.wasm");
    assert_eq!(manifest.modules["m"].path, wasm);

    let shown = manifest.check_files().expect_err("no file yet").to_string();
    for part in [
        "error: the file of module `m` does not exist",
        "exuvia.toml:4:8",
        "4 | path = \"m.wasm\"",
        &format!("looked for {}", wasm.display()),
        &format!(
            "relative to the manifest's folder, {}",
            folder.path().display()
        ),
    ] {
        assert!(shown.contains(part), "`{part}` in\n{shown}");
    }
    std::fs::write(&wasm, b"").expect("written");
    manifest.check_files().expect("the file is there");

    std::fs::write(folder.path().join("exuvia.toml"), b"[app]\n\xff").expect("written");
    let shown = Manifest::load(folder.path().join("exuvia.toml"))
        .expect_err("not UTF-8")
        .to_string();
    assert!(shown.contains("not UTF-8 (line 2)"), "{shown}");
}

/// One change to the text: bytes replaced by a piece of another place or by
/// something that matters to the format.
fn mutated(text: &str, changes: &[(usize, usize, usize)]) -> String {
    const PIECES: [&str; 24] = [
        "",
        "\"",
        "'",
        "\"\"\"",
        "=",
        "[",
        "]",
        "[[",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\t",
        "#",
        "-1",
        "1e999",
        "nan",
        "0x",
        "é",
        "{n}",
        "count = 7\n",
        "children",
        "99999999999999999999",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    for &(at, length, piece) in changes {
        let at = at % (chars.len() + 1);
        let end = (at + length % 12).min(chars.len());
        let piece: Vec<char> = match PIECES.get(piece % (PIECES.len() * 2)) {
            Some(piece) => piece.chars().collect(),
            None => {
                let from = piece % (chars.len() + 1);
                chars.iter().skip(from).take(20).copied().collect()
            }
        };
        chars.splice(at..end, piece);
    }
    chars.into_iter().collect()
}

/// Either outcome is good; what counts is that there is one, and that it can be
/// shown.
fn survives(text: &str) {
    match parse(text) {
        Ok(manifest) => {
            for child in &manifest.supervisor.children {
                assert!(child.instances().take(10).count() > 0);
            }
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(error.to_string().starts_with("error: "));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_manifests_cause_no_panic(
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        survives(&mutated(FULL, &changes));
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }
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
fn a_module_in_place_of_a_manifest_is_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wasm");
    std::fs::write(&path, b"\0asm\x01\0\0\0\xff").unwrap();
    let message = Manifest::load(&path).unwrap_err().to_string();
    assert!(message.contains("this is a Wasm module"), "{message}");
    assert!(message.contains("exuvia.toml"), "{message}");
}

#[test]
fn builds_are_parsed_and_each_command_runs_once() {
    let text = "[app]\nname = \"a\"\n\
        [modules.one]\npath = \"one.wasm\"\nbuild = \" make all \"\nsources = [\"one.c\", \"lib\"]\n\
        [modules.two]\npath = \"two.wasm\"\nbuild = \"make all\"\nsources = [\"two.c\", \"lib\"]\n\
        [modules.three]\npath = \"three.wasm\"\nbuild = \"make three\"\n\
        [modules.four]\npath = \"four.wasm\"\n";
    let manifest = Manifest::parse(text, "exuvia.toml", "/app").unwrap();
    let steps = manifest.builds();
    let seen: Vec<_> = steps
        .iter()
        .map(|step| {
            let sources: Vec<_> = step.sources.iter().map(|it| it.to_str().unwrap()).collect();
            (
                step.command.as_str(),
                step.modules.join(" "),
                sources.join(" "),
            )
        })
        .collect();
    let one = "/app/one.c /app/lib /app/two.c";
    assert_eq!(
        seen,
        [
            ("make all", "one two".to_owned(), one.to_owned()),
            ("make three", "three".to_owned(), "/app".to_owned()),
        ]
    );
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

#[test]
fn log_levels_are_parsed() {
    let text = "[app]\nname = \"a\"\n[log]\nlevel = \"warn\"\nlines_per_s = 5\n\
        [modules.m]\npath = \"m.wasm\"\nlog = \"off\"\n";
    let log = Manifest::parse(text, "exuvia.toml", "").unwrap().log;
    assert_eq!((log.level, log.lines_per_s), (Some(Level::Warn), 5));
    assert_eq!(log.modules.get("m"), Some(&None));
    let error = refused("[app]\nname = \"a\"\n[log]\nlevel = \"loud\"\nlines_per_s = 0\n");
    assert!(error.contains("`loud` is not a known `level`"), "{error}");
    assert!(
        error.contains("`lines_per_s` must be from 1 to 1000000"),
        "{error}"
    );
}

/// An app with one module and one child.
fn with_wasi(module: &str, child: &str) -> Result<Manifest, ManifestError> {
    parse(&format!(
        r#"
[app]
name = "a"
[modules.m]
path = "m.wasm"
{module}
[[supervisor.children]]
id = "c"
module = "m"
{child}
"#
    ))
}

#[test]
fn grants_are_those_of_the_module_or_of_the_child() {
    let module = r#"
[modules.m.wasi]
args = ["one", "two"]
env = { A = "b" }
inherit_env = ["PATH", "SURELY_NOT_THERE"]
stdio = "terminal"
[modules.m.wasi.dirs]
"/in" = "in"
"/out" = { path = "/srv/out", access = "write" }
"#;
    let manifest = with_wasi(module, "").expect("a good manifest");
    let grants = &manifest.modules["m"].limits.grants;
    assert_eq!(grants.args, ["one", "two"]);
    assert_eq!(grants.env["A"], "b");
    assert_eq!(grants.env["PATH"], std::env::var("PATH").expect("a path"));
    assert_eq!(grants.env.len(), 2);
    assert!(grants.terminal);
    let folders: Vec<_> = (grants.folders.iter())
        .map(|folder| (folder.guest.as_str(), folder.host.as_path(), folder.write))
        .collect();
    let expected = [
        ("/in", Path::new("/app/in"), false),
        ("/out", Path::new("/srv/out"), true),
    ];
    assert_eq!(folders, expected);
    assert_eq!(
        process(&manifest.supervisor.children[0]).limits.grants,
        *grants
    );
    let own = with_wasi(module, "[supervisor.children.wasi]\nargs = [\"x\"]");
    let own = own.expect("a good manifest");
    let grants = &process(&own.supervisor.children[0]).limits.grants;
    assert_eq!((grants.args.len(), grants.folders.len()), (1, 0));
    // Nothing, if nothing is said.
    let none = with_wasi("", "").expect("a good manifest");
    assert_eq!(none.modules["m"].limits.grants, Grants::default());
}

#[test]
fn invalid_grants_are_reported() {
    for (module, said) in [
        ("[modules.m.wasi]\ndir = {}", "did you mean `dirs`?"),
        ("[modules.m.wasi]\nstdio = \"logs\"", "did you mean `log`?"),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = 7 }",
            "must be a path or a table",
        ),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = \"\" }",
            "without a path",
        ),
        (
            "[modules.m.wasi]\ndirs = { \"\" = \"a\" }",
            "without a path",
        ),
        ("[modules.m.wasi]\ndirs = { \"/a\" = {} }", "has no `path`"),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = { path = \"x\", access = \"rw\" } }",
            "`rw` is not a known `access`",
        ),
        ("[modules.m.wasi]\nenv = { A = 1 }", "must be a string"),
        ("[modules.m.wasi]\nenv = { \"A=B\" = \"x\" }", "has a `=`"),
        ("[modules.m.wasi]\nargs = [\"a\\u0000\"]", "zero byte"),
        ("[modules.m.wasi]\nargs = 3", "`args` must be"),
        ("[modules.m.limits]\nfiles = -1", "`files` must be from"),
    ] {
        let error = with_wasi(module, "").expect_err(module).to_string();
        assert!(error.contains(said), "{module}\n{error}");
    }
}

#[test]
fn a_granted_folder_must_exist() {
    let manifest = with_wasi("[modules.m.wasi.dirs]\n\"/a\" = \"nowhere\"", "");
    let error = manifest.expect("a good manifest").check_files();
    let error = error.expect_err("it is not there").to_string();
    assert!(
        error.contains("granted as `/a`") && error.contains("mkdir -p /app/nowhere"),
        "{error}"
    );
}

/// Whoever writes to the outer folder could put a link in the inner one's place.
#[test]
fn a_folder_inside_a_writable_grant_is_rejected() {
    for (module, child, bad) in [
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"x/y\"",
            "",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"z/../x/./y\"",
            "",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }",
            "\"/b\" = \"x/y\"",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }",
            "\"/b\" = \"x\"",
            false,
        ),
        (
            "\"/a\" = { path = \"x/y\", access = \"write\" }\n\"/b\" = \"x\"",
            "",
            false,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"xy\"",
            "",
            false,
        ),
    ] {
        let child = match child {
            "" => String::new(),
            child => format!("[supervisor.children.wasi.dirs]\n{child}"),
        };
        let read = with_wasi(&format!("[modules.m.wasi.dirs]\n{module}"), &child);
        match read {
            Ok(_) => assert!(!bad, "{module}\n{child}"),
            Err(error) => {
                assert!(
                    bad && error.to_string().contains("lies in /app/x"),
                    "{error}"
                );
            }
        }
    }
}
