//! Computing and loading: what metering costs, how long a module takes to load.

use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Node};

use crate::setup::{config, deploy, module, node, rust_guest, spawn};
use crate::{Sample, Scale, guests};

const FIB_32: u32 = 2_178_309;
/// Times that each side computes it in a run.
const TURNS: usize = 15;

/// fib(32) on a node, metered and preempted, and in plain wasmtime.
pub(crate) fn fib(_: Scale) -> Vec<Sample> {
    let node = node(1);
    deploy(&node, "fib", &guests::fib());
    let pid = spawn(&node, "fib");
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, wat::parse_str(guests::plain_fib()).unwrap());
    let mut store = wasmtime::Store::new(&engine, ());
    let instance = wasmtime::Instance::new(&mut store, &module.unwrap(), &[]).unwrap();
    let fib = instance
        .get_typed_func::<i32, u32>(&mut store, "fib")
        .unwrap();
    let (mut metered, mut plain) = (f64::MAX, f64::MAX);
    // In turn, and the best of each: a machine's speed changes with the second.
    for _ in 0..TURNS {
        let reply = node
            .call(pid, 0, Vec::new(), Duration::from_secs(60))
            .unwrap()
            .payload;
        assert_eq!(reply[8..12], FIB_32.to_le_bytes());
        let nanoseconds = u64::from_le_bytes(reply[..8].try_into().unwrap());
        metered = metered.min(nanoseconds as f64 / 1e6);
        let began = Instant::now();
        assert_eq!(fib.call(&mut store, 32).unwrap(), FIB_32);
        plain = plain.min(began.elapsed().as_secs_f64() * 1e3);
    }
    node.halt();
    vec![
        ("fib(32) on a node, ms".into(), metered),
        ("fib(32) in plain wasmtime, ms".into(), plain),
        (
            "fib(32), node / plain wasmtime, ratio".into(),
            metered / plain,
        ),
    ]
}

/// Loading a module without and with the compile cache.
pub(crate) fn load(_: Scale) -> Vec<Sample> {
    let mut modules = vec![("WAT counter", module("counter", guests::COUNTER))];
    for (label, name) in [("Rust counter", "counter"), ("Rust kv", "kv")] {
        if let Some(module) = rust_guest(name) {
            modules.push((label, module));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut samples = Vec::new();
    for (label, module) in modules {
        let size = module.bytes.len() as f64 / 1024.0;
        for how in ["cold", "cached"] {
            let mut config = config(1);
            config.cache = Some(folder.path().to_path_buf());
            let node = Node::start(config).unwrap();
            let report = node
                .deploy(vec![module.clone()], DeployOptions::default())
                .unwrap();
            samples.push((
                format!("load, {label} ({size:.0} KiB), {how}, ms"),
                report.stages.load,
            ));
            node.halt();
        }
    }
    samples
}
