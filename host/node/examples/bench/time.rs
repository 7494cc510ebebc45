//! Time: how late timers are, alone and next to processes that never become idle.

use exuvia_node::Pid;

use crate::driver::Collector;
use crate::figures::Sample;
use crate::messages::plural;
use crate::setup::{deploy, fields, microseconds, node, spawn, spread};
use crate::{Scale, guests};

/// Measures many timers of one process, spread over a second.
pub(crate) fn timers(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for count in [10_000, 100_000] {
        let node = node(0);
        deploy(&node, "timers", &guests::timers());
        let collector = Collector::start(&node);
        let pid = spawn(&node, "timers");
        let command = fields(
            &[Pid::NONE, collector.pid],
            &[scale.of(count), 500, scale.of(1_000)],
        );
        node.send(pid, 1, command).unwrap();
        let late = microseconds(&collector.next());
        samples.extend(spread(
            &format!("{} timers, lateness {{q}}, us", scale.label(count)),
            late,
        ));
        node.halt();
    }
    samples
}

/// Measures a tick of 10 ms and a ping-pong, each next to 8 processes that spin.
pub(crate) fn fairness(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(schedulers);
    deploy(&node, "timers", &guests::timers());
    deploy(&node, "spin", &guests::spin());
    deploy(&node, "stopwatch", &guests::stopwatch());
    deploy(&node, "ping", &guests::ping_pong());
    for _ in 0..8 {
        let pid = spawn(&node, "spin");
        node.send(pid, 1, Vec::new()).unwrap();
    }
    let beside = format!(
        "beside 8 spinning, {schedulers} scheduler{}",
        plural(schedulers)
    );
    let collector = Collector::start(&node);
    let ticker = spawn(&node, "timers");
    let command = fields(&[Pid::NONE, collector.pid], &[scale.of(200), 10, 1]);
    node.send(ticker, 2, command).unwrap();
    samples.extend(spread(
        &format!("10 ms tick {beside}, lateness {{q}}, us"),
        microseconds(&collector.next()),
    ));
    let (ping, pong) = (spawn(&node, "stopwatch"), spawn(&node, "ping"));
    let rounds = scale.of(10_000);
    node.send(ping, 1, fields(&[pong, collector.pid], &[rounds]))
        .unwrap();
    samples.extend(spread(
        &format!("ping-pong {beside}, round trip {{q}}, us"),
        microseconds(&collector.next()),
    ));
    node.halt();
    samples
}
