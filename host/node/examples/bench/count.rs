//! Work of a given amount, for counting what one operation costs: `cargo xtask bench instructions`
//! runs each under callgrind with two amounts, and the difference is that of the operations alone.

use exuvia_node::{Node, NodeConfig, Pid};

use crate::driver::Collector;
use crate::guests;
use crate::setup::{config, deploy, fields, spawn, wait_until};

/// Does some work on one scheduler: so many operations, after as many as warm it up.
type Work = fn(&Node, u64);

/// The names of the work, as in the table of instructions, and the number of frames of the node; 0: automatic. A
/// hop is one message.
pub(crate) const WORK: &[(&str, usize, Work)] = &[
    ("ping-pong", 0, |node, hops| ping_pong(node, hops)),
    ("ring-503", 0, |node, hops| ring(node, 503, hops)),
    // Each hop wakes a paged-out process and pages out another.
    ("waking", 256, |node, hops| ring(node, 1_024, hops)),
    ("call", 0, |node, calls| {
        ask(node, "call", &guests::caller(), calls)
    }),
    ("request", 0, |node, requests| {
        ask(node, "request", &guests::requester(), requests);
    }),
    ("spawn", 0, |node, children| {
        children_one_by_one(node, children)
    }),
];

/// Hops, calls or children before those that are counted: frames are made, and a version has shown
/// that it can run without fibers.
const WARM_UP: u64 = 3_000;

/// Does the work of this name. Returns an error if there is none.
pub(crate) fn run(name: &str, operations: u64) -> Result<(), String> {
    let work = WORK.iter().find(|(known, ..)| *known == name);
    let (_, frames, work) = work.ok_or_else(|| {
        let names: Vec<&str> = WORK.iter().map(|(name, ..)| *name).collect();
        format!(
            "no work has the name `{name}`: there are {}",
            names.join(", ")
        )
    })?;
    let config = NodeConfig {
        frames: *frames,
        ..config(1)
    };
    let node = Node::start(config).unwrap();
    work(&node, operations + WARM_UP);
    node.halt();
    Ok(())
}

fn ping_pong(node: &Node, hops: u64) {
    deploy(node, "ping", &guests::ping_pong());
    let collector = Collector::start(node);
    let (ping, pong) = (spawn(node, "ping"), spawn(node, "ping"));
    let command = fields(&[pong, collector.pid], &[hops / 2, 16]);
    node.send(ping, 1, command).unwrap();
    collector.next();
}

fn ring(node: &Node, processes: usize, hops: u64) {
    deploy(node, "relay", &guests::relay());
    let collector = Collector::start(node);
    let ring: Vec<Pid> = (0..processes).map(|_| spawn(node, "relay")).collect();
    for (index, pid) in ring.iter().enumerate() {
        let next = ring[(index + 1) % ring.len()];
        let command = fields(&[next, collector.pid], &[]);
        node.send(*pid, 1, command).unwrap();
    }
    node.send(ring[0], 2, fields(&[], &[hops])).unwrap();
    collector.next();
}

fn ask(node: &Node, kind: &str, client: &str, count: u64) {
    deploy(node, "server", &guests::server());
    deploy(node, kind, client);
    let collector = Collector::start(node);
    let server = spawn(node, "server");
    let client = spawn(node, kind);
    let command = fields(&[server, collector.pid], &[count]);
    node.send(client, 1, command).unwrap();
    collector.next();
}

fn children_one_by_one(node: &Node, count: u64) {
    deploy(node, "child", guests::CHILD);
    deploy(node, "spawner", &guests::spawner());
    let collector = Collector::start(node);
    let spawner = spawn(node, "spawner");
    let table = &node.system().table;
    let at_rest = table.alive();
    let command = fields(&[Pid::NONE, collector.pid], &[count]);
    node.send(spawner, 1, command).unwrap();
    collector.next();
    wait_until("all children have ended", || table.alive() <= at_rest);
}
