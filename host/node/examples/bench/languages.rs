//! The languages side by side, by the guests of the conformance suite: what a module weighs, how soon it is
//! loaded, what an idle process costs, and what a message takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Limits, ModuleBytes, Node, Pid, SpawnOptions};
use rmpv::Value;

use crate::Scale;
use crate::figures::Sample;
use crate::setup::{config, wait_until};

/// What a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the largest runtime needs.
pub(crate) const MEMORY: u64 = 128 << 20;
/// Processes whose images are measured.
const IDLE: usize = 100;
/// The large message after which a process should be small again, bytes.
const LARGE: usize = 1_000_000;

/// Returns the folders of the languages that are built: `cargo xtask languages` does that.
pub(crate) fn languages() -> Vec<(String, PathBuf)> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/languages");
    let entries = std::fs::read_dir(at).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter(|entry| entry.path().join("ping.wasm").is_file())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    all.sort();
    all
}

pub(crate) fn module(folder: &Path, file: &str) -> ModuleBytes {
    ModuleBytes {
        name: file.into(),
        bytes: std::fs::read(folder.join(format!("{file}.wasm"))).unwrap(),
        source: file.into(),
        noticed: None,
    }
}

/// A message of that name with parameters, as `guest-sdk/compilers.md` has it.
fn message(name: &str, parameters: &[(&str, Value)]) -> Vec<u8> {
    let value = match parameters {
        [] => Value::from(name),
        parameters => {
            let parameters = parameters.iter();
            let map = parameters.map(|(name, value)| (Value::from(*name), value.clone()));
            Value::Map(vec![(name.into(), Value::Map(map.collect()))])
        }
    };
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &value).unwrap();
    bytes
}

/// A node with a module of the folder, and the milliseconds that its load took.
fn node(folder: &Path, file: &str, cache: &Path) -> (Node, f64) {
    let mut config = config(1);
    config.cache = Some(cache.to_path_buf());
    config.limits = Limits {
        memory: MEMORY,
        ..Limits::default()
    };
    let node = Node::start(config).unwrap();
    let report = node
        .deploy(vec![module(folder, file)], DeployOptions::default())
        .unwrap();
    (node, report.stages.load)
}

fn start(node: &Node, file: &str) -> Pid {
    node.spawn(file, &[0xc0], &SpawnOptions::default()).unwrap()
}

fn ask(node: &Node, pid: Pid, message: Vec<u8>) -> Vec<u8> {
    node.call(pid, 0, message, PATIENCE).unwrap().payload
}

/// The mean bytes of the images of processes at rest.
fn image(node: &Node, pids: &[Pid]) -> f64 {
    let mut total = 0;
    for pid in pids {
        wait_until("it is at rest", || match node.capture(*pid) {
            Ok(snapshot) => {
                total += snapshot.guest.state.map_or(0, |state| state.len());
                true
            }
            Err(_) => false,
        });
    }
    total as f64 / pids.len() as f64
}

/// Measures every language that is built.
pub(crate) fn run(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (name, folder) in languages() {
        let cache = tempfile::tempdir().unwrap();
        let size = std::fs::metadata(folder.join("one.wasm")).unwrap().len();
        samples.push((format!("{name}: module, KiB"), size as f64 / 1024.0));
        let (first, cold) = node(&folder, "one", cache.path());
        first.halt();
        let (node, cached) = node(&folder, "one", cache.path());
        samples.push((format!("{name}: load, cold, ms"), cold));
        samples.push((format!("{name}: load, cached, ms"), cached));
        let idle: Vec<Pid> = (0..IDLE).map(|_| start(&node, "one")).collect();
        for pid in &idle {
            node.send(*pid, 0, message("Add", &[("by", 5.into())]))
                .unwrap();
            ask(&node, *pid, message("Get", &[]));
        }
        samples.push((
            format!("{name}: idle process after a message, B"),
            image(&node, &idle),
        ));
        let large = message("Length", &[("bytes", Value::Binary(vec![7; LARGE]))]);
        for pid in &idle[..10] {
            ask(&node, *pid, large.clone());
            ask(&node, *pid, message("Get", &[]));
        }
        let after = image(&node, &idle[..10]);
        samples.push((format!("{name}: idle process after 1 MB, B"), after));
        node.halt();
        let each = ping_pong(&folder, cache.path(), scale);
        samples.push((format!("{name}: ping-pong, ns/message"), each));
    }
    samples
}

/// Measures a message of two processes that play, with MessagePack by the language's SDK.
fn ping_pong(folder: &Path, cache: &Path, scale: Scale) -> f64 {
    let (node, _) = node(folder, "ping", cache);
    let (ping, pong) = (start(&node, "ping"), start(&node, "ping"));
    let handled = || {
        let reply = ask(&node, ping, message("Rounds", &[]));
        let rounds = rmpv::decode::read_value(&mut &reply[..]).unwrap();
        rounds.as_u64().unwrap()
    };
    let play = |rounds: u64| {
        let until = handled() + rounds;
        let to = Value::Binary(pong.to_bytes().to_vec());
        let began = Instant::now();
        node.send(
            ping,
            0,
            message("Start", &[("to", to), ("rounds", rounds.into())]),
        )
        .unwrap();
        wait_until("the game is over", || {
            // Each question is a message more for one of the two.
            std::thread::park_timeout(Duration::from_millis(2));
            handled() >= until
        });
        began.elapsed().as_nanos() as f64 / (rounds * 2) as f64
    };
    let rounds = scale.of(20_000);
    play(rounds / 10 + 1);
    let each = play(rounds);
    node.halt();
    each
}
