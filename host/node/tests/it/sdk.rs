//! Guests written in Rust with the SDK: the modules of the platform, and the
//! versions of the counter example.

use std::path::Path;
use std::time::Duration;

use exuvia_node::{
    DeployOptions, Event, Filter, ModuleBytes, Node, Pid, ProcessInfo, SwapError, SwapReport,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::guests::{event, eventually, node, node_with, spawn};

/// A guest's file below the checkout.
#[track_caller]
fn file(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guests`", path.display()))
}

#[track_caller]
pub(crate) fn platform(name: &str) -> Vec<u8> {
    file(&format!(
        "modules/target/wasm32-unknown-unknown/release/{name}.wasm"
    ))
}

#[track_caller]
fn version(version: &str) -> Vec<u8> {
    file(&format!("examples/target/versions/counter-{version}.wasm"))
}

pub(crate) fn deploy(node: &Node, name: &str, bytes: Vec<u8>) -> Result<SwapReport, SwapError> {
    let module = ModuleBytes {
        name: name.into(),
        bytes,
        source: format!("{name}.wasm"),
        noticed: None,
    };
    node.deploy(vec![module], DeployOptions::default())
}

pub(crate) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

#[track_caller]
pub(crate) fn call<T: DeserializeOwned>(node: &Node, pid: Pid, request: &impl Serialize) -> T {
    let reply = node
        .call(pid, 0, pack(request), Duration::from_secs(20))
        .unwrap();
    rmp_serde::from_slice(&reply.payload).unwrap()
}

fn of(node: &Node, pid: Pid) -> ProcessInfo {
    let all = node.processes(&Filter::default());
    all.into_iter()
        .find(|process| process.pid == pid.to_string())
        .unwrap()
}

#[derive(Serialize)]
pub(crate) struct Args {
    pub(crate) start: u64,
}

#[derive(Serialize)]
pub(crate) enum Change {
    Add(u64),
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Count {
    version: u32,
    pub(crate) count: u64,
}

#[test]
fn the_counter_example_counts() {
    let node = node();
    deploy(&node, "counter", platform("counter")).unwrap();
    let from = spawn(&node, "counter", &pack(&Args { start: 40 }));
    let plain = spawn(&node, "counter", b"");
    for _ in 0..1_000 {
        node.send(from, 0, pack(&Change::Add(2))).unwrap();
    }
    let count: Count = call(&node, from, &"Get");
    assert_eq!(
        count,
        Count {
            version: 1,
            count: 2_040
        }
    );
    let count: Count = call(&node, plain, &"Get");
    assert_eq!(count.count, 0);
    // A message that it does not understand does not end it. It logs the sender.
    let mut events = node.events();
    node.send(plain, 0, b"\xc1\xc1".to_vec()).unwrap();
    let text = event(&mut events, "the line of it", |event| match event {
        Event::Log { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert!(
        text.starts_with("dropped a message from outside the node: "),
        "{text}"
    );
    node.send(plain, 0, pack(&Change::Add(1))).unwrap();
    let count: Count = call(&node, plain, &"Get");
    assert_eq!(count.count, 1);
    node.halt();
}

#[test]
fn echo_replies_with_the_same_bytes() {
    let node = node();
    deploy(&node, "echo", platform("echo")).unwrap();
    let pid = spawn(&node, "echo", b"");
    for length in [0, 1, 1_000, 70_000, 1_000_000] {
        let payload = vec![7; length];
        let reply = node
            .call(pid, 5, payload.clone(), Duration::from_secs(20))
            .unwrap();
        assert!(reply.payload == payload, "{length} bytes");
    }
    node.halt();
}

#[derive(Serialize)]
enum Query<'a> {
    Get { key: &'a str },
    Put { key: &'a str, value: Blob<'a> },
    Delete { key: &'a str },
    List { prefix: &'a str },
}

/// MessagePack's own kind for bytes.
struct Blob<'a>(&'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Owned(Vec<u8>);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Owned, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Owned;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Owned, E> {
                Ok(Owned(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[derive(Deserialize)]
enum Answer {
    Value(Option<Owned>),
    Keys(Vec<String>),
}

fn value(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Value(value) => value.map(|owned| owned.0),
        Answer::Keys(keys) => panic!("{keys:?}"),
    }
}

#[test]
fn kv_keeps_values_through_paging() {
    let node = node_with(|config| config.frames = 4);
    deploy(&node, "kv", platform("kv")).unwrap();
    let stores: Vec<_> = (0..40).map(|_| spawn(&node, "kv", b"")).collect();
    for (n, store) in stores.iter().enumerate() {
        for key in 0..20 {
            let (key, bytes) = (
                format!("k{key:02}"),
                vec![u8::try_from(n).unwrap(); 10 * key],
            );
            let put = Query::Put {
                key: &key,
                value: Blob(&bytes),
            };
            assert_eq!(value(call(&node, *store, &put)), None);
        }
    }
    for (n, store) in stores.iter().enumerate() {
        let n = u8::try_from(n).unwrap();
        assert_eq!(
            value(call(&node, *store, &Query::Get { key: "k07" })),
            Some(vec![n; 70])
        );
        assert_eq!(
            value(call(&node, *store, &Query::Delete { key: "k07" })),
            Some(vec![n; 70])
        );
        assert_eq!(value(call(&node, *store, &Query::Get { key: "k07" })), None);
        let Answer::Keys(keys) = call(&node, *store, &Query::List { prefix: "k1" }) else {
            panic!("no keys");
        };
        assert_eq!(keys.len(), 10);
    }
    assert!(node.info().page_ins >= 40, "{:?}", node.info());
    node.halt();
}

#[test]
fn the_image_of_an_idle_counter_is_small() {
    let node = node_with(|config| config.frames = 4);
    deploy(&node, "counter", platform("counter")).unwrap();
    let pids: Vec<_> = (0..100)
        .map(|n| spawn(&node, "counter", &pack(&Args { start: n })))
        .collect();
    for pid in &pids {
        node.send(*pid, 0, pack(&Change::Add(1))).unwrap();
        let _: Count = call(&node, *pid, &"Get");
    }
    let images: Vec<_> = node
        .processes(&Filter::default())
        .into_iter()
        .filter(|process| process.state == "paged out")
        .map(|process| process.image)
        .collect();
    assert!(images.len() >= 90, "{}", images.len());
    let (least, most) = (images.iter().min().unwrap(), images.iter().max().unwrap());
    assert!(*least > 8 && *most <= 32, "{least} to {most}");
    // And it is all of them.
    for (n, pid) in (0..).zip(&pids) {
        let count: Count = call(&node, *pid, &"Get");
        assert_eq!(count.count, n + 1);
    }
    node.halt();
}

/// Bytes of a process's image, once others of its module have taken its frame.
#[track_caller]
fn image<Q: Serialize>(node: &Node, module: &str, pid: Pid, query: &Q) -> u64 {
    let mut bytes = 0;
    eventually("it is paged out", || {
        // Only a process that is asked again and again gets the frame of one that was.
        let other = spawn(node, module, b"");
        for _ in 0..3 {
            let asked = node.call(other, 0, pack(query), Duration::from_secs(20));
            asked.unwrap();
        }
        let it = of(node, pid);
        bytes = it.image;
        it.state == "paged out"
    });
    bytes
}

#[test]
fn memory_that_a_process_freed_is_not_in_its_image() {
    let node = node_with(|config| config.frames = 4);
    deploy(&node, "counter", platform("counter")).unwrap();
    let counter = spawn(&node, "counter", b"");
    node.send(counter, 0, pack(&Change::Add(1))).unwrap();
    let small = image(&node, "counter", counter, &"Get");
    // Its one number, and where it lies.
    assert!(small <= 32, "{small}");
    // Too large for the buffer on the stack: it goes to the heap.
    let large = (Change::Add(1), "x".repeat(3_000));
    node.send(counter, 0, pack(&large)).unwrap();
    node.send(counter, 0, pack(&Change::Add(1))).unwrap();
    let count: Count = call(&node, counter, &"Get");
    assert_eq!(count.count, 2);
    assert_eq!(image(&node, "counter", counter, &"Get"), small);

    deploy(&node, "kv", platform("kv")).unwrap();
    let store = spawn(&node, "kv", b"");
    let put = |key: &str, bytes: usize| {
        let value = Blob(&[7; 100_000][..bytes]);
        let _: Answer = call(&node, store, &Query::Put { key, value });
    };
    let delete = |key: &str| {
        let _: Answer = call(&node, store, &Query::Delete { key });
    };
    let list = Query::List { prefix: "" };
    put("only", 3_000);
    assert!(image(&node, "kv", store, &list) > 3_000);
    delete("only");
    let empty = image(&node, "kv", store, &list);
    assert!(empty <= 32, "{empty}");
    let keys: Vec<_> = (0..100).map(|n| format!("key {n}")).collect();
    for key in &keys {
        put(key, 100);
    }
    for key in &keys {
        delete(key);
    }
    assert_eq!(image(&node, "kv", store, &list), empty);
    // Larger than any block of the arena: the words of the other allocator stay.
    put("only", 100_000);
    delete("only");
    let after = image(&node, "kv", store, &list);
    assert!(after < empty + 300, "{after}");
    node.halt();
}

#[derive(Serialize)]
struct Seq {
    seq: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Step {
    version: u32,
    count: u64,
    seq: u64,
    previous: u64,
    since: Option<u64>,
}

/// A counter of the example, and what its answers must be.
struct Counted {
    node: Node,
    pid: Pid,
    seq: u64,
    since: Option<u64>,
}

impl Counted {
    fn step(&mut self, version: u32) {
        self.seq += 1;
        let seq = self.seq;
        if let Some(since) = &mut self.since {
            *since += 1;
        }
        let step: Step = call(&self.node, self.pid, &Seq { seq });
        let expected = Step {
            version,
            count: 1_000 + seq,
            seq,
            previous: seq - 1,
            since: self.since,
        };
        assert_eq!(step, expected);
    }

    fn deploy(&self, name: &str) -> Result<SwapReport, SwapError> {
        deploy(&self.node, "counter", version(name))
    }

    /// Deploys a version, makes some steps, and says how the process crossed.
    fn swap(&mut self, name: &str, number: u32) -> Vec<(&'static str, u64)> {
        let report = self.deploy(name).unwrap();
        assert_eq!((report.processes, report.verified), (1, 1));
        for _ in 0..5 {
            self.step(number);
        }
        assert_eq!(self.node.info().release, report.release);
        let (paths, stuck) = self.node.progress();
        assert_eq!(stuck, 0);
        paths
    }
}

fn example() -> Counted {
    let node = node();
    deploy(&node, "counter", version("v1")).unwrap();
    let pid = spawn(&node, "counter", &pack(&Args { start: 1_000 }));
    let mut counted = Counted {
        node,
        pid,
        seq: 0,
        since: None,
    };
    for _ in 0..5 {
        counted.step(1);
    }
    counted
}

#[test]
fn the_versions_of_the_example_upgrade_in_sequence() {
    let mut it = example();
    assert_eq!(it.swap("v2", 2), [("reused", 1)]);
    it.since = Some(0);
    assert_eq!(it.swap("v3", 3), [("migrated", 1)]);
    // Two fields of one type have changed places: nothing is mixed up.
    assert_eq!(it.swap("v3b", 31), [("migrated", 1)]);
    assert_eq!(of(&it.node, it.pid).upgrades, 3);
    // Refused before anything has changed.
    let before = it.node.info();
    let error = it.deploy("v4").unwrap_err();
    assert!(matches!(error, SwapError::Verify(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("last_seq") || text.contains("Position"),
        "{text}"
    );
    assert_eq!(it.node.info().release, before.release);
    it.step(31);
    // The third message traps: its state and the message go back.
    let mut events = it.node.events();
    it.deploy("v5").unwrap();
    it.step(5);
    it.step(5);
    it.step(31);
    let reason = event(&mut events, "it returns", |event| match event {
        Event::Reverted { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(
        reason.contains("version 5 cannot count to three"),
        "{reason}"
    );
    it.step(31);
    it.node.halt();
}

#[test]
fn a_version_that_fails_on_many_is_rolled_back_for_all() {
    let mut it = example();
    it.since = Some(0);
    it.swap("v3", 3);
    let others: Vec<_> = (0..10)
        .map(|_| spawn(&it.node, "counter", &pack(&Args { start: 0 })))
        .collect();
    let mut events = it.node.events();
    for pid in &others {
        let _: Step = call(&it.node, *pid, &Seq { seq: 1 });
    }
    it.deploy("v5").unwrap();
    for seq in 2..8 {
        for pid in &others {
            let step: Step = call(&it.node, *pid, &Seq { seq });
            assert_eq!((step.count, step.previous), (seq, seq - 1));
        }
    }
    event(&mut events, "the release goes back", |event| {
        matches!(event, Event::RolledBack { .. }).then_some(())
    });
    it.step(3);
    eventually("all are back", || {
        let all = it.node.processes(&Filter::default());
        all.iter()
            .all(|process| process.module.as_deref() != Some("counter@3"))
    });
    it.node.halt();
}

#[test]
fn an_idle_process_is_upgraded_from_the_first_to_the_last_version() {
    let mut it = example();
    it.deploy("v2").unwrap();
    it.deploy("v3").unwrap();
    it.deploy("v3b").unwrap();
    it.since = Some(0);
    for _ in 0..5 {
        it.step(31);
    }
    assert!(of(&it.node, it.pid).upgrades <= 3);
    it.node.halt();
}

#[test]
fn a_rollback_keeps_the_count() {
    let mut it = example();
    it.since = Some(0);
    it.swap("v3", 3);
    it.node.rollback().unwrap();
    it.since = None;
    for _ in 0..5 {
        it.step(1);
    }
    // Once more: the same files are the same versions.
    it.since = Some(0);
    it.swap("v3", 3);
    let loaded = &it.node.info().modules[0].loaded;
    assert_eq!(loaded.len(), 2, "{loaded:?}");
    it.node.halt();
}

/// What host calls return to a guest; `modules/conformance` runs the same cases in a test's node
/// and in memory.
#[test]
fn host_calls_return_to_a_guest_what_the_conformance_suite_says() {
    let node = node();
    deploy(&node, "conformance", platform("conformance")).unwrap();
    let mut cases = 0;
    loop {
        // Each case has a process of its own.
        let pid = spawn(&node, "conformance", b"");
        let timeout = Duration::from_secs(20);
        let reply = node.call(pid, cases, Vec::new(), timeout).unwrap();
        if reply.payload.is_empty() {
            break;
        }
        let text = String::from_utf8(reply.payload).unwrap();
        let [case, expected, noted] = text.split("\n\n").collect::<Vec<_>>()[..] else {
            panic!("{text}");
        };
        assert_eq!(noted, expected, "{case}");
        cases += 1;
    }
    assert!(cases > 0);
    node.halt();
}
