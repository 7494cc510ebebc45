//! What a manifest says: the full form, the defaults, and the values of each key.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use exuvia_abi::Priority;
use exuvia_manifest::{
    Grants, Level, Limits, Manifest, NodeSettings, Restart, Shutdown, Strategy, SupervisorEntry,
    Work,
};

use crate::{FULL, parse, process, refused, with_children};

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
            drain_per_s: 200,
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
fn a_byte_order_mark_and_crlf_lines_are_accepted() {
    let text = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    let manifest = parse(&text).expect("a good manifest");
    assert_eq!(manifest.process_count(), 5);
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
