//! Files: the cost of a WASI function, and whether processes that read delay others.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use exuvia_node::process::{Folder, Grants};
use exuvia_node::{Limits, Node, Pid};

use crate::driver::Collector;
use crate::figures::Sample;
use crate::setup::{config, deploy, fields, microseconds, spawn, spread};
use crate::{Scale, guests};

/// Starts a node whose processes may read a folder.
fn node(schedulers: usize, folder: &Path) -> Node {
    let mut config = config(schedulers);
    let folder = Folder {
        guest: "/".into(),
        host: folder.into(),
        below: Vec::new(),
        write: false,
    };
    config.limits = Limits {
        grants: Arc::new(Grants {
            folders: vec![folder],
            ..Grants::default()
        }),
        ..config.limits
    };
    Node::start(config).unwrap()
}

/// Measures reads of one cached file; for comparison the same reads by a thread, and a function
/// that touches no file.
pub(crate) fn reads(scale: Scale) -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    std::fs::write(&path, vec![7; 64 << 10]).unwrap();
    let node = node(1, folder.path());
    deploy(&node, "reader", &guests::reader());
    let collector = Collector::start(&node);
    let reader = spawn(&node, "reader");
    let rounds = scale.of(20_000);
    let run = |tag: u32, bytes: u64| {
        let command = fields(&[collector.pid], &[rounds, bytes]);
        node.send(reader, tag, command).unwrap();
        let answer = collector.next();
        u64::from_le_bytes(answer[..8].try_into().unwrap()) as f64 / rounds as f64 / 1e3
    };
    let mut samples = vec![("WASI clock, us/call".to_owned(), run(2, 0))];
    for bytes in [4 << 10, 64 << 10] {
        run(1, bytes);
        let label = format!("{} KiB", bytes >> 10);
        samples.push((format!("read of {label}, us"), run(1, bytes)));
        let file = std::fs::File::open(&path).unwrap();
        let mut buffer = vec![0; bytes as usize];
        let began = Instant::now();
        for _ in 0..rounds {
            file.read_exact_at(&mut buffer, 0).unwrap();
        }
        let each = began.elapsed().as_secs_f64() * 1e6 / rounds as f64;
        samples.push((format!("read of {label} by a thread of the host, us"), each));
    }
    node.halt();
    samples
}

/// Measures a tick of 10 ms on one scheduler, next to 8 processes that only read.
pub(crate) fn fairness(scale: Scale) -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), vec![7; 64 << 10]).unwrap();
    let node = node(1, folder.path());
    deploy(&node, "timers", &guests::timers());
    deploy(&node, "reader", &guests::reader());
    let (collector, readers) = (Collector::start(&node), Collector::start(&node));
    for _ in 0..8 {
        let command = fields(&[readers.pid], &[u64::MAX, 64 << 10]);
        node.send(spawn(&node, "reader"), 1, command).unwrap();
    }
    let ticker = spawn(&node, "timers");
    let command = fields(&[Pid::NONE, collector.pid], &[scale.of(200), 10, 1]);
    node.send(ticker, 2, command).unwrap();
    let late = microseconds(&collector.next());
    node.halt();
    spread(
        "10 ms tick beside 8 that read files, 1 scheduler, lateness {q}, us",
        late,
    )
}
