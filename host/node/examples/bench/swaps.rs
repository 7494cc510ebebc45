//! Swaps: how soon all processes run new code, and how long one is paused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Node, Pid, SwapReport};

use crate::driver::{Expected, Round, ask_all, pester};
use crate::figures::Sample;
use crate::memory::Random;
use crate::setup::{config, deploy, module, node, spawn, spread, wait_until};
use crate::{Scale, guests};

/// The number of swaps whose pauses are measured.
const SWAPS: u64 = 100;
/// Outstanding requests to the busy process.
const BUSY: usize = 4;

/// The number of processes asked after the swap of a million.
const ASKED: u64 = 10_000;
/// Outstanding requests: all that are sent after the swap.
const WINDOW: usize = 10_000;

fn how(reused: bool) -> &'static str {
    if reused { "reused" } else { "migrated" }
}

/// Spawns `count` processes of version 1, and has each reply once.
fn asked_once(node: &Node, count: u64, reused: bool) -> Arc<[Pid]> {
    deploy(node, "counter", &guests::versioned(1, reused));
    let pids: Arc<[Pid]> = (0..count).map(|_| spawn(node, "counter")).collect();
    ask_all(node, round(&pids, 1));
    pids
}

/// Returns a round in which each process is asked once, and must reply from this version.
fn round(pids: &Arc<[Pid]>, version: u64) -> Round {
    Round {
        targets: pids.clone(),
        request: Vec::new(),
        window: WINDOW,
        expected: Expected::Same(version.to_le_bytes().to_vec()),
    }
}

/// Deploys version 2, and runs `at_the_commit` as soon as it is current: the deployment itself
/// takes a moment longer.
fn swap(node: &Node, reused: bool, at_the_commit: impl FnOnce()) -> SwapReport {
    let new = module("counter", &guests::versioned(2, reused));
    let before = node.info().release;
    std::thread::scope(|scope| {
        let deployer = scope.spawn(|| node.deploy(vec![new], DeployOptions::default()));
        wait_until("the commit", || node.info().release != before);
        at_the_commit();
        deployer.join().unwrap().unwrap()
    })
}

/// Measures 10,000 processes, each asked once right after the commit: until the last reply, all of
/// them from new code.
pub(crate) fn ten_thousand(scale: Scale, reused: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let count = scale.label(10_000);
    let how = how(reused);
    let node = node(0);
    let pids = asked_once(&node, scale.of(10_000), reused);
    let mut timed = |name: String, version| {
        let round = round(&pids, version);
        let began = Instant::now();
        ask_all(&node, round);
        samples.push((name, began.elapsed().as_secs_f64() * 1e3));
    };
    timed(format!("{count} asked once, no swap ({how}), ms"), 1);
    let report = swap(&node, reused, || {
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
        format!("upgrade of one process, {how}, p50, us"),
        report.pause_us[0],
    ));
    samples.push((
        format!("upgrade of one process, {how}, p99, us"),
        report.pause_us[1],
    ));
    node.halt();
    samples
}

/// Measures a million processes, nearly all paged out: how long the commit takes, how soon some of
/// them reply from new code, and when the background upgrade is complete.
pub(crate) fn million(scale: Scale, reused: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let how = how(reused);
    let count = scale.of(1_000_000);
    let label = scale.label(1_000_000);
    let asked = scale.label(ASKED);
    let node = node(0);
    let pids = asked_once(&node, count, reused);
    let mut random = Random::new();
    let chosen: Arc<[Pid]> = (0..scale.of(ASKED))
        .map(|_| pids[random.below(pids.len())])
        .collect();
    let mut committed = Instant::now();
    let report = swap(&node, reused, || {
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
    wait_until("the background upgrade to be complete", || {
        node.info().modules[0].processes as u64 == count
    });
    samples.push((
        format!("all {label} on new code in the background, {how}, s"),
        committed.elapsed().as_secs_f64(),
    ));
    ask_all(&node, round(&pids, 2));
    node.halt();
    samples
}

/// Measures one process that always has requests, over 100 swaps: the longest time between two
/// replies during each swap.
pub(crate) fn pause(scale: Scale, fresh: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let how = if fresh { "compiled now" } else { "ready code" };
    let mut config = config(0);
    config.background_upgrade_after = Duration::from_secs(3600);
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
        // The same time without a swap: the noise of this machine.
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
        &format!("its upgrade alone, {how}, {{q}}, us"),
        crossings,
    ));
    node.halt();
    samples
}
