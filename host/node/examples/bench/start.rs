//! Starting: a node up to its first reply, and loading modules.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, ModuleBytes, Node};

use crate::figures::Sample;
use crate::setup::{config, module, rust_guest, spawn};
use crate::{Scale, guests};

const PATIENCE: Duration = Duration::from_secs(60);
/// The request to each module of [`modules`].
const GET: &[u8] = b"\xa3Get";

/// Returns the modules that are loaded: a label and the guest.
fn modules() -> Vec<(&'static str, ModuleBytes)> {
    let mut modules = vec![("WAT counter", module("counter", guests::COUNTER))];
    for (label, name) in [("Rust counter", "counter"), ("Rust kv", "kv")] {
        if let Some(module) = rust_guest(name) {
            modules.push((label, module));
        }
    }
    modules
}

/// Measures the time from the start of an operating system process, with a whole node, to the first
/// reply of a process on it.
pub(crate) fn cold(_: Scale) -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = Vec::new();
    for (label, _) in modules().iter().take(2) {
        for (how, cache) in [("no cache", None), ("cached", Some(folder.path()))] {
            if cache.is_some() {
                time_to_answer(label, cache);
            }
            let took = time_to_answer(label, cache);
            let name = format!("cold start to the first answer, {label}, {how}, ms");
            samples.push((name, took.as_secs_f64() * 1e3));
        }
    }
    samples
}

fn time_to_answer(label: &str, cache: Option<&Path>) -> Duration {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--first-answer", label]);
    if let Some(cache) = cache {
        command.arg("--cache").arg(cache);
    }
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let took = began.elapsed();
    assert_eq!(line, "answered\n");
    assert!(child.wait().unwrap().success());
    took
}

/// Runs in the process that [`cold`] starts.
pub(crate) fn first_answer(label: &str, cache: Option<PathBuf>) {
    let (_, module) = (modules().into_iter())
        .find(|(found, _)| *found == label)
        .unwrap();
    let mut config = config(0);
    config.cache = cache;
    let node = Node::start(config).unwrap();
    let name = module.name.clone();
    node.deploy(vec![module], DeployOptions::default()).unwrap();
    let pid = spawn(&node, &name);
    node.call(pid, 0, GET.to_vec(), PATIENCE).unwrap();
    println!("answered");
    std::io::stdout().flush().unwrap();
    node.halt();
}

/// Measures loading a module without and with the compile cache.
pub(crate) fn load(_: Scale) -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = Vec::new();
    for (label, module) in modules() {
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
