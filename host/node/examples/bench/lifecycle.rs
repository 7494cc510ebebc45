//! Spawning and exiting.

use std::time::Instant;

use exuvia_node::Pid;

use crate::driver::Collector;
use crate::figures::Sample;
use crate::messages::plural;
use crate::setup::{deploy, fields, node, spawn as start, wait_until};
use crate::{Scale, guests};

/// Measures children that exit as soon as they run, and others that grow their memory first.
pub(crate) fn spawn(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = spawns(scale, schedulers, ("spawn+run+exit", guests::CHILD));
    let growing = ("spawn+grow+exit", guests::GROWING_CHILD);
    samples.extend(spawns(scale, schedulers, growing));
    samples
}

fn spawns(scale: Scale, schedulers: usize, (what, child): (&str, &str)) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(schedulers);
    deploy(&node, "child", child);
    deploy(&node, "spawner", &guests::spawner());
    let collector = Collector::start(&node);
    let spawners: Vec<Pid> = (0..schedulers).map(|_| start(&node, "spawner")).collect();
    let table = &node.system().table;
    let settled = table.alive();
    let run_all = |spawners: &[Pid], tag: u32, count: u64| {
        let command = fields(&[Pid::NONE, collector.pid], &[count]);
        let began = Instant::now();
        for spawner in spawners {
            node.send(*spawner, tag, command.clone()).unwrap();
        }
        collector.wait_for(spawners.len());
        wait_until("all children have ended", || table.alive() <= settled);
        (count * spawners.len() as u64) as f64 / began.elapsed().as_secs_f64() / 1e3
    };
    let run = |tag: u32, count: u64| run_all(&spawners[..1], tag, count);
    let label = |how: &str| {
        format!(
            "{what}, {how}, {schedulers} scheduler{}, thousand/s",
            plural(schedulers)
        )
    };
    let one_by_one = scale.of(200_000);
    run(1, one_by_one / 10);
    samples.push((label("one after another"), run(1, one_by_one)));
    if schedulers > 1 {
        let how = format!("one after another, {schedulers} spawners");
        samples.push((label(&how), run_all(&spawners, 1, one_by_one)));
    }
    let batch = scale.of(100_000);
    run(2, batch);
    samples.push((
        label(&format!("batch of {}", scale.label(100_000))),
        run(2, batch),
    ));
    node.halt();
    samples
}
