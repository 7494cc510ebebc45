//! Swaps: how soon all processes are on new code, and how long one stands still.

use std::sync::Arc;
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Node, Pid, SwapReport};

use crate::driver::{Expected, Round, ask_all, pester};
use crate::figures::Sample;
use crate::memory::Random;
use crate::setup::{config, deploy, module, node, spawn, spread, wait_until};
use crate::{Scale, guests};

/// Swaps whose pauses are measured.
const SWAPS: u64 = 100;
/// Requests under way to the busy process.
const BUSY: usize = 4;

/// Processes asked after the swap of a million.
const ASKED: u64 = 10_000;
/// Requests under way at one time: all that are sent after the swap.
const WINDOW: usize = 10_000;

fn how(carried: bool) -> &'static str {
    if carried { "carried" } else { "migrated" }
}

/// So many processes of version 1 that have answered once.
fn asked_once(node: &Node, count: u64, carried: bool) -> Arc<[Pid]> {
    deploy(node, "counter", &guests::versioned(1, carried));
    let pids: Arc<[Pid]> = (0..count).map(|_| spawn(node, "counter")).collect();
    ask_all(node, round(&pids, 1));
    pids
}

/// Each is asked, and must answer from this version.
fn round(pids: &Arc<[Pid]>, version: u64) -> Round {
    Round {
        targets: pids.clone(),
        request: Vec::new(),
        window: WINDOW,
        expected: Expected::Same(version.to_le_bytes().to_vec()),
    }
}

/// Deploys version 2, and does something as soon as it is current: the
/// deployer itself goes on for a moment.
fn swap(node: &Node, carried: bool, at_the_commit: impl FnOnce()) -> SwapReport {
    let new = module("counter", &guests::versioned(2, carried));
    let before = node.info().release;
    std::thread::scope(|scope| {
        let deployer = scope.spawn(|| node.deploy(vec![new], DeployOptions::default()));
        wait_until("the commit", || node.info().release != before);
        at_the_commit();
        deployer.join().unwrap().unwrap()
    })
}

/// 10,000 processes, each asked once right after the commit: until the last
/// answer, all of them from new code.
pub(crate) fn ten_thousand(scale: Scale, carried: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let count = scale.label(10_000);
    let how = how(carried);
    let node = node(0);
    let pids = asked_once(&node, scale.of(10_000), carried);
    let mut timed = |name: String, version| {
        let round = round(&pids, version);
        let began = Instant::now();
        ask_all(&node, round);
        samples.push((name, began.elapsed().as_secs_f64() * 1e3));
    };
    timed(format!("{count} asked once, no swap ({how}), ms"), 1);
    let report = swap(&node, carried, || {
        timed(format!("{count} on new code, {how}, ms"), 2);
    });
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

/// A million processes, nearly all paged out: what the commit takes, how soon
/// some of them answer from new code, and when the sweeper is through.
pub(crate) fn million(scale: Scale, carried: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let how = how(carried);
    let count = scale.of(1_000_000);
    let label = scale.label(1_000_000);
    let asked = scale.label(ASKED);
    let node = node(0);
    let pids = asked_once(&node, count, carried);
    let mut random = Random::new();
    let chosen: Arc<[Pid]> = (0..scale.of(ASKED))
        .map(|_| pids[random.below(pids.len())])
        .collect();
    let mut committed = Instant::now();
    let report = swap(&node, carried, || {
        committed = Instant::now();
        ask_all(&node, round(&chosen, 2));
        samples.push((
            format!("{asked} of {label} on new code, {how}, ms"),
            committed.elapsed().as_secs_f64() * 1e3,
        ));
    });
    samples.push((
        format!("commit beside {label} idle, {how}, ms"),
        report.stages.commit,
    ));
    samples.push((
        format!("verification beside {label} idle, {how}, ms"),
        report.stages.verify,
    ));
    samples.push((
        format!("copies verified of {label}, {how}"),
        report.verified as f64,
    ));
    wait_until("the sweeper to be through", || {
        node.info().modules[0].processes as u64 == count
    });
    samples.push((
        format!("all {label} on new code by the sweeper, {how}, s"),
        committed.elapsed().as_secs_f64(),
    ));
    ask_all(&node, round(&pids, 2));
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
