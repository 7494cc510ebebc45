//! Messages: ping-pong, ring, all to all, fan-in, call and reply, long mailboxes.

use std::time::Instant;

use exuvia_node::{Node, Pid, SpawnOptions};

use crate::driver::Collector;
use crate::figures::Sample;
use crate::memory::Random;
use crate::setup::{deploy, fields, node, spawn};
use crate::{Scale, guests, thousands};

/// Measures two processes that send one message back and forth: on one scheduler, on either of two,
/// or each on its own.
pub(crate) fn ping_pong(scale: Scale, schedulers: usize, apart: bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(schedulers);
    deploy(&node, "ping", &guests::ping_pong());
    let collector = Collector::start(&node);
    let player = |scheduler: usize| {
        let options = SpawnOptions {
            scheduler: apart.then_some(scheduler),
            ..SpawnOptions::default()
        };
        node.spawn("ping", b"", &options).unwrap()
    };
    let (ping, pong) = (player(0), player(1));
    let place = match (schedulers, apart) {
        (_, true) => "pinned apart".to_owned(),
        (many, false) => format!("{many} scheduler{}", plural(many)),
    };
    for (label, bytes, rounds) in [
        ("16 B", 16, 500_000),
        ("1 KiB", 1 << 10, 300_000),
        ("64 KiB", 64 << 10, 30_000),
    ] {
        let rounds = scale.of(rounds);
        let play = |rounds| {
            let command = fields(&[pong, collector.pid], &[rounds, bytes]);
            let began = Instant::now();
            node.send(ping, 1, command).unwrap();
            collector.next();
            began.elapsed().as_nanos() as f64
        };
        play(rounds / 10 + 1);
        let steals = || node.scheduler().metrics().total().steals;
        let before = steals();
        let each = play(rounds) / (rounds * 2) as f64;
        if schedulers > 1 && !apart {
            // The scheduler decides, so this shows how often they ran on different ones.
            samples.push((
                format!("ping-pong {label}, {place}, stolen, per 1,000 messages"),
                (steals() - before) as f64 * 1e3 / (rounds * 2) as f64,
            ));
        }
        samples.push((format!("ping-pong {label}, {place}, ns/message"), each));
    }
    node.halt();
    samples
}

pub(crate) fn plural(number: usize) -> &'static str {
    if number == 1 { "" } else { "s" }
}

/// Measures one message in a ring of processes, which fit into the frames, or do not.
pub(crate) fn ring(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    let kinds = [
        (503, 1_000_000, ""),
        (10_000, 200_000, ""),
        (10_000, 200_000, " shuffled"),
    ];
    for (processes, hops, order) in kinds {
        let node = node(schedulers);
        deploy(&node, "relay", &guests::relay());
        let collector = Collector::start(&node);
        let mut ring: Vec<Pid> = (0..processes).map(|_| spawn(&node, "relay")).collect();
        if !order.is_empty() {
            // In the order of spawning, the processor loads the next process ahead of its turn.
            let mut random = Random::new();
            for last in (1..ring.len()).rev() {
                ring.swap(last, random.below(last + 1));
            }
        }
        for (index, pid) in ring.iter().enumerate() {
            let next = ring[(index + 1) % ring.len()];
            node.send(*pid, 1, fields(&[next, collector.pid], &[]))
                .unwrap();
        }
        let run = |hops: u64| {
            let began = Instant::now();
            node.send(ring[0], 2, fields(&[], &[hops])).unwrap();
            collector.next();
            began.elapsed().as_nanos() as f64 / hops as f64
        };
        let hops = scale.of(hops);
        run(hops / 10);
        samples.push((
            format!(
                "ring of {}{order}, {schedulers} scheduler{}, ns/hop",
                thousands(processes),
                plural(schedulers)
            ),
            run(hops),
        ));
        node.halt();
    }
    samples
}

/// Measures many processes, each of which pings all others and answers their pings.
pub(crate) fn all_to_all(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (processes, rounds) in [(100, 100), (1_000, 1)] {
        let node = node(schedulers);
        deploy(&node, "peer", &guests::all_to_all());
        let collector = Collector::start(&node);
        let peers: Vec<Pid> = (0..processes).map(|_| spawn(&node, "peer")).collect();
        for (index, pid) in peers.iter().enumerate() {
            let others = [&peers[..index], &peers[index + 1..]].concat();
            node.send(*pid, 1, fields(&others, &[])).unwrap();
        }
        let run = |rounds: u64| {
            let began = Instant::now();
            for _ in 0..rounds {
                for pid in &peers {
                    node.send(*pid, 5, fields(&[collector.pid], &[])).unwrap();
                }
                collector.wait_for(peers.len());
            }
            let messages = rounds * 2 * processes * (processes - 1);
            messages as f64 / began.elapsed().as_secs_f64() / 1e6
        };
        run(1);
        samples.push((
            format!(
                "{} all to all, {schedulers} scheduler{}, M messages/s",
                thousands(processes),
                plural(schedulers)
            ),
            run(scale.of(rounds)),
        ));
        node.halt();
    }
    samples
}

/// Measures a thousand processes that each send a thousand messages to one.
pub(crate) fn fan_in(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(schedulers);
    deploy(&node, "source", &guests::source());
    deploy(&node, "sink", &guests::sink());
    let collector = Collector::start(&node);
    let sink = spawn(&node, "sink");
    let sources: Vec<Pid> = (0..1_000).map(|_| spawn(&node, "source")).collect();
    let run = |each: u64| {
        let total = each * sources.len() as u64;
        node.send(sink, 1, fields(&[Pid::NONE, collector.pid], &[total]))
            .unwrap();
        let began = Instant::now();
        for source in &sources {
            node.send(*source, 1, fields(&[sink, Pid::NONE], &[each]))
                .unwrap();
        }
        collector.next();
        total as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    run(1);
    samples.push((
        format!(
            "fan-in from 1,000, {schedulers} scheduler{}, M messages/s",
            plural(schedulers)
        ),
        run(scale.of(1_000)),
    ));
    node.halt();
    samples
}

/// Measures calls and replies of 16 bytes, to one server.
pub(crate) fn call(scale: Scale, schedulers: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(schedulers);
    deploy(&node, "server", &guests::server());
    deploy(&node, "call", &guests::caller());
    deploy(&node, "request", &guests::requester());
    let server = spawn(&node, "server");
    for kind in ["call", "request"] {
        for (clients, total) in [(1, 300_000), (1_000, 500_000)] {
            let rate = calls(&node, server, kind, clients, scale.of(total));
            samples.push((
                format!(
                    "{kind} and reply, {} client{}, {schedulers} scheduler{}, thousand/s",
                    thousands(clients as u64),
                    plural(clients),
                    plural(schedulers)
                ),
                rate,
            ));
        }
    }
    node.halt();
    samples
}

fn calls(node: &Node, server: Pid, kind: &str, clients: usize, total: u64) -> f64 {
    let collector = Collector::start(node);
    let clients: Vec<Pid> = (0..clients).map(|_| spawn(node, kind)).collect();
    let run = |each: u64| {
        let began = Instant::now();
        for client in &clients {
            node.send(*client, 1, fields(&[server, collector.pid], &[each]))
                .unwrap();
        }
        collector.wait_for(clients.len());
        (each * clients.len() as u64) as f64 / began.elapsed().as_secs_f64() / 1e3
    };
    let each = (total / clients.len() as u64).max(1);
    run((each / 10).max(1));
    let rate = run(each);
    for client in clients {
        node.kill(client);
    }
    rate
}

/// Messages that have not been taken yet, in a long mailbox.
const WAITING: u32 = 99_000;

/// Measures operations that wait for one message while many others are in the mailbox.
pub(crate) fn long_mailbox(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    let node = node(1);
    deploy(&node, "server", &guests::server());
    deploy(&node, "behind", &guests::outdated());
    let server = spawn(&node, "server");
    let collector = Collector::start(&node);
    let deeds = ["call", "request and receive by reference", "receive by tag"];
    for (which, effect) in (0..).zip(deeds) {
        for waiting in [0, WAITING] {
            let client = spawn(&node, "behind");
            let count = scale.of(20_000);
            let command = fields(&[server, collector.pid], &[count, which]);
            node.send(client, 1, command).unwrap();
            // It waits for tag 77 after it has taken its command.
            for _ in 0..waiting {
                node.send(client, 0, vec![0; 16]).unwrap();
            }
            let began = Instant::now();
            node.send(client, 77, Vec::new()).unwrap();
            collector.next();
            let each = began.elapsed().as_nanos() as f64 / 1e3 / count as f64;
            let waiting = thousands(waiting.into());
            samples.push((format!("{effect}, {waiting} messages waiting, us"), each));
            node.kill(client);
        }
    }
    node.halt();
    samples
}
