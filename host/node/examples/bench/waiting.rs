//! The cost of waiting processes: for capacity at a receiver that lags far behind, and for a frame.
//! The figures should be the same with none waiting and with thousands.

use std::time::{Duration, Instant};

use exuvia_node::{Node, Pid};

use crate::driver::Collector;
use crate::figures::Sample;
use crate::setup::{config, deploy, fields, node, spawn, wait_until};
use crate::{Scale, guests, thousands};

/// The number of processes that wait.
const WAITING: u64 = 2_000;
/// The backlog of a receiver beyond which senders wait, and how many signals each sends at once.
const CROWD: u64 = 10_000;
const EACH: u64 = 20;
/// How long a node is measured.
const WHILE: Duration = Duration::from_millis(500);

/// Returns the nanoseconds that all threads of this process have run.
fn ran() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let ran = |text: String| text.split(' ').next()?.parse::<u64>().ok();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(ran)
        .sum()
}

/// Measures one scheduler: senders wait for capacity while two others exchange messages.
pub(crate) fn for_room(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for waiting in [0, WAITING] {
        let node = node(1);
        deploy(&node, "flood", &guests::backlog());
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
        let beside = format!("{} waiting for capacity, 1 scheduler", thousands(waiting));
        let before = ran();
        std::thread::sleep(WHILE);
        let share = ran().saturating_sub(before) as f64 / WHILE.as_nanos() as f64;
        samples.push((format!("at rest, {beside}, % of a core"), share * 100.0));
        samples.push((
            format!("ping-pong 16 B, {beside}, ns"),
            talk(&node, scale.of(500_000)),
        ));
        node.system()
            .apply(deaf.slot(), slot.state.transition_to_idle());
        node.halt();
    }
    samples
}

/// Measures one scheduler, with all frames in the middle of handlers: their progress while others
/// wait for a frame.
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
        // Each has detected by then that it has to wait.
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
