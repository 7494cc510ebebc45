//! Nodes, deployments and measurements that all benchmarks share.

use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Limits, ModuleBytes, Node, NodeConfig, Pid, SpawnOptions};

/// Starts a node with this many schedulers and no compile cache. Mailboxes are large: with a full
/// one the errors of its senders would be measured.
pub(crate) fn node(schedulers: usize) -> Node {
    Node::start(config(schedulers)).unwrap()
}

pub(crate) fn config(schedulers: usize) -> NodeConfig {
    NodeConfig {
        schedulers,
        cache: None,
        limits: Limits {
            mailbox_messages: 20_000_000,
            mailbox_bytes: 4 << 30,
            children: 20_000_000,
            ..Limits::default()
        },
        ..NodeConfig::default()
    }
}

pub(crate) fn module(name: &str, wat: &str) -> ModuleBytes {
    module_of(name, wat::parse_str(wat).unwrap())
}

pub(crate) fn module_of(name: &str, bytes: Vec<u8>) -> ModuleBytes {
    ModuleBytes {
        name: name.into(),
        bytes,
        source: name.into(),
        noticed: None,
    }
}

/// Reads a Rust guest from where `cargo xtask guests` puts it.
pub(crate) fn rust_guest(name: &str) -> Option<ModuleBytes> {
    guest_of("modules", name)
}

/// Reads a guest of another workspace.
pub(crate) fn guest_of(workspace: &str, name: &str) -> Option<ModuleBytes> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folder = format!("{root}/{workspace}/target/wasm32-unknown-unknown/release");
    let bytes = std::fs::read(format!("{folder}/{name}.wasm")).ok()?;
    Some(module_of(name, bytes))
}

pub(crate) fn deploy(node: &Node, name: &str, wat: &str) {
    node.deploy(vec![module(name, wat)], DeployOptions::default())
        .unwrap();
}

pub(crate) fn spawn(node: &Node, module: &str) -> Pid {
    node.spawn(module, b"", &SpawnOptions::default()).unwrap()
}

/// Returns the fields of a command to a guest, one after another.
pub(crate) fn fields(pids: &[Pid], numbers: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = pids.iter().flat_map(|pid| pid.to_bytes()).collect();
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

/// Waits until a condition holds; aborts the run if it never does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !holds() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_micros(50));
    }
}

/// Returns the resident memory of this process in bytes. A page that it maps several times counts once (Pss, and not
/// VmRSS): a base is mapped into each frame.
pub(crate) fn resident() -> u64 {
    field("/proc/self/smaps_rollup", "Pss:")
}

/// Returns the page tables of this process in bytes: not part of the resident memory, but memory that is used.
pub(crate) fn page_tables() -> u64 {
    field("/proc/self/status", "VmPTE:")
}

fn field(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
    kilobytes * 1024
}

/// Returns the least value that a share of the sorted values does not exceed.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.saturating_sub(1)]
}

/// Returns p50, p99 and the maximum, as samples of one figure. `{q}` in the name is replaced.
pub(crate) fn spread(name: &str, mut values: Vec<f64>) -> Vec<crate::figures::Sample> {
    values.sort_by(f64::total_cmp);
    [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]
        .iter()
        .map(|(label, share)| (name.replace("{q}", label), quantile(&values, *share)))
        .collect()
}

/// Converts little-endian words of 32 bits from nanoseconds to microseconds.
pub(crate) fn microseconds(bytes: &[u8]) -> Vec<f64> {
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|word| f64::from(u32::from_le_bytes(*word)) / 1e3)
        .collect()
}
