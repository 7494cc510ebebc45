//! How late a tick of 1 ms is while one process causes a very large amount of work at once, which
//! therefore has to be split.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exuvia_node::abi::{Kind, Priority, Reason};
use exuvia_node::process::{Context, Envelope, ExitReason, Native, Payload, Signal};
use exuvia_node::{Guest, Limits, Node, NodeConfig, Pid, SpawnOptions};

use crate::driver::Collector;
use crate::figures::Sample;
use crate::setup::{config, deploy, fields, microseconds, spawn, spread, wait_until};
use crate::{Scale, guests};

/// Ticks before and during the work.
const TICKS: u64 = 1_000;

/// Measures a tick on a node with one scheduler, while `act` runs on this thread.
fn tick(node: &Node, what: &str, act: impl FnOnce()) -> Vec<Sample> {
    deploy(node, "timers", &guests::timers());
    let collector = Collector::start(node);
    let ticker = spawn(node, "timers");
    let command = fields(&[Pid::NONE, collector.pid], &[TICKS, 1, 1]);
    node.send(ticker, 2, command).unwrap();
    // The ticks have started by then.
    std::thread::park_timeout(Duration::from_millis(100));
    act();
    spread(
        &format!("1 ms tick while {what}, lateness {{q}}, us"),
        microseconds(&collector.next()),
    )
}

fn node() -> Node {
    Node::start(config(1)).unwrap()
}

pub(crate) fn alone(_: Scale) -> Vec<Sample> {
    let node = node();
    let samples = tick(&node, "nothing happens", || {});
    node.halt();
    samples
}

/// Ignores all messages.
struct Sink;

impl Native<Guest> for Sink {
    fn handle(&mut self, _: &mut Context<'_, Guest>, _: Envelope) {}
}

/// Measures a tick while a process drains 100,000 messages at once.
pub(crate) fn backlog(scale: Scale) -> Vec<Sample> {
    let node = node();
    deploy(&node, "sink", guests::RESTING);
    let sink = spawn(&node, "sink");
    let messages = scale.of(100_000);
    let what = format!("{} messages are drained", scale.label(100_000));
    let samples = tick(&node, &what, || {
        for _ in 0..5 {
            let slot = node.system().table.slot(sink.slot()).unwrap();
            // Put there without waking it, as if it could not run meanwhile.
            for _ in 0..messages {
                let message = Envelope::message(Pid::NONE, 1, Payload::new(&[7; 16]));
                slot.mailbox
                    .push(sink.generation(), Signal::Message(message).into(), 1)
                    .unwrap();
            }
            node.system().wake(sink);
            std::thread::park_timeout(Duration::from_millis(100));
        }
    });
    node.halt();
    samples
}

/// Links itself to all of them when it starts, and exits at the first message.
struct Hub(Arc<[Pid]>, Arc<AtomicBool>);

impl Native<Guest> for Hub {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        if message.kind == Kind::Init {
            for pid in self.0.iter() {
                context.process.link(context.system, *pid);
            }
            self.1.store(true, Ordering::Release);
        } else {
            context.exit(ExitReason::new(Reason::KILLED));
        }
    }
}

/// Traps exits, and so does not exit with the linked process.
struct Trapping;

impl Native<Guest> for Trapping {
    fn handle(&mut self, context: &mut Context<'_, Guest>, _: Envelope) {
        context.process.set_trap_exit(true);
    }
}

/// Measures a tick while a process exits that 100,000 are linked to; they are notified, and keep
/// running.
pub(crate) fn links(scale: Scale) -> Vec<Sample> {
    let node = node();
    let linked: Arc<[Pid]> = (0..scale.of(100_000))
        .map(|_| node.spawn_native(Box::new(Trapping)).unwrap())
        .collect();
    let ready = Arc::new(AtomicBool::new(false));
    let hub = Hub(linked.clone(), ready.clone());
    let hub = node.spawn_native(Box::new(hub)).unwrap();
    wait_until("all are linked", || ready.load(Ordering::Acquire));
    let last = linked[linked.len() - 1];
    let rests = || {
        node.system()
            .table
            .slot(last.slot())
            .unwrap()
            .mailbox
            .is_empty()
    };
    wait_until("all know of it", rests);
    let what = format!("{} links are told of an end", scale.label(100_000));
    let samples = tick(&node, &what, || {
        let message = Envelope::message(Pid::NONE, 1, Payload::empty());
        node.system().send(hub, message).unwrap();
    });
    node.halt();
    samples
}

/// Leaves the group and joins it again while it holds the list of members, as during a publish.
struct Joining;

impl Native<Guest> for Joining {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        let (system, pid) = (context.system, context.pid());
        let members = system.groups.members("all");
        if message.kind != Kind::Init {
            system.groups.leave("all", pid);
        }
        let _ = system.join("all", pid);
        drop(members);
    }
}

/// Measures a tick while a process joins a group of a million during a publish.
pub(crate) fn group(scale: Scale) -> Vec<Sample> {
    let node = node();
    for _ in 0..scale.of(1_000_000) {
        let pid = node.spawn_native(Box::new(Sink)).unwrap();
        node.system().join("all", pid).unwrap();
    }
    let joining = node.spawn_native(Box::new(Joining)).unwrap();
    let what = format!("a group of {} is joined", scale.label(1_000_000));
    let samples = tick(&node, &what, || {
        for _ in 0..100 {
            let message = Envelope::message(Pid::NONE, 1, Payload::empty());
            node.system().send(joining, message).unwrap();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    node.halt();
    samples
}

/// Measures a tick while a version with 10,000 frames is unloaded, and other processes are spawned
/// and grow.
pub(crate) fn unload(scale: Scale) -> Vec<Sample> {
    let count = scale.of(10_000);
    let node = Node::start(NodeConfig {
        background_upgrade_after: Duration::ZERO,
        ..config(1)
    });
    let node = node.unwrap();
    let version = |number: u32| guests::versioned(number, true);
    deploy(&node, "many", &version(0));
    let all: Vec<Pid> = (0..count).map(|_| spawn(&node, "many")).collect();
    for round in 0..3 {
        for pid in &all {
            node.send(*pid, 1, vec![round]).unwrap();
        }
        let last = all[all.len() - 1];
        let rests = || {
            node.system()
                .table
                .slot(last.slot())
                .unwrap()
                .mailbox
                .is_empty()
        };
        wait_until("all have been asked", rests);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    deploy(&node, "child", guests::GROWING_CHILD);
    deploy(&node, "spawner", &guests::spawner());
    let settled = node.system().table.alive();
    for pid in all {
        let _ = node.system().signal(pid, Signal::Kill { from: Pid::NONE });
    }
    wait_until("all have ended", || {
        node.system().table.alive() <= settled - count as usize
    });
    let frames = node.info().frames_free;
    let collector = Collector::start(&node);
    let spawner = spawn(&node, "spawner");
    let spawns = fields(&[Pid::NONE, collector.pid], &[50_000]);
    node.send(spawner, 1, spawns).unwrap();
    let mut samples = tick(
        &node,
        &format!("{} frames are dropped", scale.label(10_000)),
        || {
            for number in 1..5 {
                deploy(&node, "many", &version(number));
            }
        },
    );
    samples.push((
        format!("frames that there were to drop, of {}", scale.label(10_000)),
        frames as f64,
    ));
    collector.next();
    node.halt();
    samples
}

/// Measures a tick while two processes of high priority spin for 200 ms.
pub(crate) fn high(_: Scale) -> Vec<Sample> {
    let node = node();
    deploy(&node, "spin", &guests::spin());
    let limits = Limits {
        priority: Priority::High,
        ..Limits::default()
    };
    let options = SpawnOptions {
        limits: Some(limits),
        ..SpawnOptions::default()
    };
    let spinning: Vec<Pid> = (0..2)
        .map(|_| node.spawn("spin", b"", &options).unwrap())
        .collect();
    let samples = tick(&node, "2 of high priority spin", || {
        for pid in &spinning {
            node.system().set_priority(*pid, Priority::High);
            node.send(*pid, 1, Vec::new()).unwrap();
        }
        // If nothing is reserved for others, no other process runs meanwhile.
        std::thread::park_timeout(Duration::from_millis(200));
        for pid in spinning {
            let _ = node.system().signal(pid, Signal::Kill { from: Pid::NONE });
        }
    });
    node.halt();
    samples
}
