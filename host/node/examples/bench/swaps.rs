//! Swaps: how soon all processes are on new code, and how long one stands still.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Pid};

use crate::driver::{Round, ask_all, pester};
use crate::setup::{config, deploy, module, node, spawn, spread, wait_until};
use crate::{Sample, Scale, guests};

/// Swaps whose pauses are measured.
const SWAPS: u64 = 100;
/// Requests under way to the busy process.
const BUSY: usize = 4;

/// 10,000 processes, each asked once right after the commit: until the last
/// answer, all of them from new code.
pub(crate) fn ten_thousand(scale: Scale, carried: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let count = scale.label(10_000);
    let how = if carried { "carried" } else { "migrated" };
    let node = node(0);
    deploy(&node, "counter", &guests::versioned(1, carried));
    let pids: Vec<Pid> = (0..scale.of(10_000))
        .map(|_| spawn(&node, "counter"))
        .collect();
    let round = |version: u64| Round {
        targets: pids.clone(),
        request: Vec::new(),
        window: usize::MAX,
        expected: Some(version.to_le_bytes().to_vec()),
    };
    ask_all(&node, round(1));
    let began = Instant::now();
    ask_all(&node, round(1));
    samples.push((
        format!("{count} asked once, no swap ({how}), ms"),
        began.elapsed().as_secs_f64() * 1e3,
    ));
    let new = module("counter", &guests::versioned(2, carried));
    let before = node.info().release;
    let (sender, receiver) = channel();
    let deployer = node.clone();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(deployer.deploy(vec![new], DeployOptions::default()));
    });
    wait_until("the commit", || node.info().release != before);
    let round = round(2);
    let began = Instant::now();
    ask_all(&node, round);
    samples.push((
        format!("{count} on new code, {how}, ms"),
        began.elapsed().as_secs_f64() * 1e3,
    ));
    let report = receiver.recv().unwrap().unwrap();
    thread.join().unwrap();
    samples.push((
        format!("copies verified before it, {how}"),
        report.verified as f64,
    ));
    samples.push((
        format!("verification before it, {how}, ms"),
        report.stages.verify,
    ));
    samples.push((
        format!("crossing of one process, {how}, p50, us"),
        report.pause_us[0],
    ));
    samples.push((
        format!("crossing of one process, {how}, p99, us"),
        report.pause_us[1],
    ));
    node.halt();
    samples
}

/// One process that is asked all the time, over 100 swaps: the longest time
/// between two answers while each swap is under way.
pub(crate) fn pause(scale: Scale, fresh: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let how = if fresh { "compiled now" } else { "ready code" };
    let mut config = config(0);
    config.sweep_after = Duration::from_secs(3600);
    let node = exuvia_node::Node::start(config).unwrap();
    deploy(&node, "busy", &guests::versioned(1, false));
    deploy(&node, "busy", &guests::versioned(2, false));
    let pid = spawn(&node, "busy");
    let gap = pester(&node, pid, BUSY);
    let settle = || {
        // Far beyond probation.
        let from = gap.answers();
        wait_until("answers", || gap.answers() > from + 1_000);
    };
    settle();
    let (mut pauses, mut crossings, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
    for swap in 0..scale.of(SWAPS) {
        let version = if fresh { 3 + swap } else { 1 + swap % 2 };
        let new = module("busy", &guests::versioned(version as u32, false));
        gap.take();
        let began = Instant::now();
        let report = node.deploy(vec![new], DeployOptions::default()).unwrap();
        settle();
        let took = began.elapsed();
        pauses.push(gap.take());
        crossings.push(report.pause_us[2]);
        // As long a time without a swap: what this machine's noise is.
        wait_until("a while", || began.elapsed() > took * 2);
        quiet.push(gap.take());
    }
    gap.stop();
    samples.extend(spread(
        &format!("pause of a busy process, {how}, {{q}}, us"),
        pauses,
    ));
    samples.extend(spread(
        &format!("longest gap without a swap ({how}), {{q}}, us"),
        quiet,
    ));
    samples.extend(spread(
        &format!("its crossing alone, {how}, {{q}}, us"),
        crossings,
    ));
    node.halt();
    samples
}
