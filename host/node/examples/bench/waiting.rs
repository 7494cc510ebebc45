//! What those cost who wait: for room at a receiver that is far behind, and for a
//! frame. With none waiting and with thousands the figures should be the same.

use std::time::{Duration, Instant};

use exuvia_node::{Node, Pid};

use crate::driver::Collector;
use crate::figures::Sample;
use crate::setup::{config, deploy, fields, node, spawn, wait_until};
use crate::{Scale, guests, thousands};

/// Processes that wait.
const WAITING: u64 = 2_000;
/// Signals in transit from which on senders wait, and how many each sends at once.
const CROWD: u64 = 10_000;
const EACH: u64 = 20;
/// How long a node is watched.
const WHILE: Duration = Duration::from_millis(500);

/// Nanoseconds that all threads of this process have run.
fn ran() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let ran = |text: String| text.split(' ').next()?.parse::<u64>().ok();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(ran)
        .sum()
}

/// One scheduler: senders wait for room while two others talk.
pub(crate) fn for_room(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for waiting in [0, WAITING] {
        let node = node(1);
        deploy(&node, "flood", &guests::flood());
        deploy(&node, "ping", &guests::ping_pong());
        let deaf = spawn(&node, "flood");
        let slot = node.system().table.slot(deaf.slot()).unwrap();
        // It gets no turn from now on.
        wait_until("it rests", || slot.state.claim());
        let senders = match waiting {
            0 => 0,
            waiting => CROWD / EACH + 1 + waiting,
        };
        for _ in 0..senders {
            let sender = spawn(&node, "flood");
            node.send(sender, 1, fields(&[deaf], &[EACH])).unwrap();
        }
        wait_until("they wait", || {
            waiting == 0 || slot.mailbox.len() as u64 > CROWD + waiting
        });
        let beside = format!("{} waiting for room, 1 scheduler", thousands(waiting));
        let before = ran();
        std::thread::sleep(WHILE);
        let share = ran().saturating_sub(before) as f64 / WHILE.as_nanos() as f64;
        samples.push((format!("at rest, {beside}, % of a core"), share * 100.0));
        samples.push((
            format!("ping-pong 16 B, {beside}, ns"),
            talk(&node, scale.of(500_000)),
        ));
        node.system().then(deaf.slot(), slot.state.end());
        node.halt();
    }
    samples
}

/// One scheduler, all frames in the middle of handlers: what these get done while
/// others wait for a frame.
pub(crate) fn for_a_frame(_: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for waiting in [0, WAITING] {
        let mut config = config(1);
        config.frames = 16;
        let node = Node::start(config).unwrap();
        deploy(&node, "spin", &guests::spin());
        deploy(&node, "ping", &guests::ping_pong());
        let busy: Vec<Pid> = (0..32).map(|_| spawn(&node, "spin")).collect();
        for pid in &busy {
            node.send(*pid, 1, Vec::new()).unwrap();
        }
        wait_until("all frames are in use", || node.info().frames >= 32);
        for _ in 0..waiting {
            spawn(&node, "ping");
        }
        let used = || {
            let all = node.processes(&exuvia_node::Filter::default());
            all.iter().map(|process| process.reductions).sum::<u64>()
        };
        // Each has found out that it has to wait.
        std::thread::sleep(WHILE);
        let (before, began) = (used(), Instant::now());
        std::thread::sleep(WHILE);
        let rate = (used() - before) as f64 / began.elapsed().as_micros() as f64;
        let name = format!(
            "32 spinning, {} waiting for a frame, 1 scheduler, M reductions/s",
            thousands(waiting)
        );
        samples.push((name, rate));
        for pid in busy {
            node.kill(pid);
        }
        node.halt();
    }
    samples
}

fn talk(node: &Node, rounds: u64) -> f64 {
    let collector = Collector::start(node);
    let (ping, pong) = (spawn(node, "ping"), spawn(node, "ping"));
    let began = Instant::now();
    let command = fields(&[pong, collector.pid], &[rounds, 16]);
    node.send(ping, 1, command).unwrap();
    collector.next();
    began.elapsed().as_nanos() as f64 / (2 * rounds) as f64
}
