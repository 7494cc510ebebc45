//! `examples/pingpong-upgrade`, end to end: ten pings, ten pongs, and new code
//! for the ponger in the middle.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exuvia_dev::{WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{App, BootOptions, DeployOptions, ModuleBytes, Node, NodeConfig};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Pong {
    version: u32,
    number: u64,
    answered: u64,
}

fn guest(path: &str) -> (PathBuf, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/target")
        .join(path);
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{path:?}: {error}; run `cargo xtask guests`"));
    (path, bytes)
}

fn report(node: &Node) -> Vec<Pong> {
    let pinger = node.find("pinger").unwrap();
    let query = rmp_serde::to_vec_named("Report").unwrap();
    let reply = node
        .call(pinger, 0, query, Duration::from_secs(10))
        .unwrap();
    rmp_serde::from_slice(&reply.payload).unwrap()
}

fn until(node: &Node, condition: impl Fn(&[Pong]) -> bool) -> Vec<Pong> {
    let began = Instant::now();
    loop {
        let pongs = report(node);
        if condition(&pongs) {
            return pongs;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{pongs:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn ten_pings_ten_pongs_across_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let (_, first) = guest("versions/ponger-v1.wasm");
    let (_, second) = guest("versions/ponger-v2.wasm");
    let (pinger, _) = guest("wasm32-unknown-unknown/release/pinger.wasm");
    let ponger = folder.path().join("ponger.wasm");
    std::fs::write(&ponger, first).unwrap();
    let manifest = include_str!("../../../../examples/pingpong-upgrade/exuvia.toml")
        .replace(
            "../target/wasm32-unknown-unknown/release/ponger.wasm",
            "ponger.wasm",
        )
        .replace(
            "../target/wasm32-unknown-unknown/release/pinger.wasm",
            pinger.to_str().unwrap(),
        );
    let manifest = Manifest::parse(&manifest, "exuvia.toml", folder.path()).unwrap();
    let config = NodeConfig {
        cache: Some(folder.path().join("cache")),
        ..NodeConfig::of(&manifest)
    };
    // Version 2 is compiled beforehand, so that it comes in the middle on any machine.
    let other = Node::start(config.clone()).unwrap();
    let module = ModuleBytes {
        name: "ponger".into(),
        bytes: second.clone(),
        source: "ponger.wasm".into(),
        noticed: None,
    };
    other
        .deploy(vec![module], DeployOptions::default())
        .unwrap();
    other.halt();

    let options = BootOptions {
        config: Some(config),
        ..BootOptions::default()
    };
    let app = App::boot(manifest, options).unwrap();
    let _watcher = Watcher::watch(&app, &WatchLimits::default()).unwrap();
    until(app.node(), |pongs| pongs.len() >= 3);
    std::fs::write(&ponger, second).unwrap();
    let pongs = until(app.node(), |pongs| pongs.len() == 10);
    let numbers: Vec<u64> = pongs.iter().map(|pong| pong.number).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    // The same process all the time: it knows how many it has answered.
    let answered: Vec<u64> = pongs.iter().map(|pong| pong.answered).collect();
    assert_eq!(answered, (1..=10).collect::<Vec<_>>());
    let versions: Vec<u32> = pongs.iter().map(|pong| pong.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    assert_eq!((versions[0], versions[9]), (1, 2), "{versions:?}");
    assert!(app.stop(Duration::from_secs(10)).orderly);
}
