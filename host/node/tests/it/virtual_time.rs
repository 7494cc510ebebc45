//! A node whose clock a test moves.

use std::time::Duration;

use exuvia_node::abi::{Code, Kind};
use exuvia_node::process::Clock;
use exuvia_node::process::Selector;
use exuvia_node::{Node, Probe};

use crate::guests::{deploy, node_with};
use crate::puppet::{self, Puppet};

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: i64 = 3_600_000;

fn still() -> Node {
    let node = node_with(|config| config.clock = Clock::manual);
    deploy(&node, "puppet", &puppet::text(1));
    node
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3_600)
}

#[test]
fn time_passes_only_on_request() {
    let node = still();
    let a = Puppet::new(&node);
    for (tag, delay) in [(3, 3 * HOUR), (1, HOUR), (2, 2 * HOUR)] {
        a.send_after(a.pid, tag, b"", delay).ok();
    }
    assert!(node.come_to_rest(PATIENCE));
    a.has_nothing();
    assert!(node.advance(hours(2), PATIENCE));
    for tag in [1, 2] {
        assert_eq!(a.next().message(Kind::Timer, b"").tag, tag);
    }
    a.has_nothing();
    assert_eq!(node.next_timer(), Some(3 * 3_600 * 1_000_000_000));
    // Not early, by a nanosecond.
    assert!(node.advance(hours(1) - Duration::from_nanos(1), PATIENCE));
    a.has_nothing();
    assert!(node.advance(Duration::from_nanos(1), PATIENCE));
    assert_eq!(a.next().message(Kind::Timer, b"").tag, 3);
    node.halt();
}

/// Each timer's consequences come before the next timer.
#[test]
fn messages_of_a_timer_are_handled_before_the_next_timer() {
    let node = still();
    let a = Puppet::new(&node);
    let waits = a.begin("sleep", &[5 * HOUR], b"");
    assert!(node.advance(hours(4), PATIENCE));
    assert_eq!(a.state(), "sleep");
    assert!(node.advance(hours(1), PATIENCE));
    waits.end().ok();
    let waits = a.begin(
        "receive",
        &[puppet::HEADER, puppet::BUFFER, 100, HOUR, 1, 9],
        b"",
    );
    assert!(node.advance(hours(1), PATIENCE));
    waits.end().is(Code::Timeout);
    node.halt();
}

#[test]
fn time_does_not_advance_while_a_process_spins() {
    let node = still();
    let a = Puppet::new(&node);
    a.tell("spin", &[], b"");
    assert!(!node.come_to_rest(Duration::from_millis(100)));
    assert!(!node.advance(hours(1), Duration::from_millis(100)));
    assert_eq!(node.system().clock.now(), 0);
    node.halt();
}

#[test]
fn a_probe_is_a_separate_process() {
    let node = still();
    let (a, probe) = (Puppet::new(&node), Probe::new(&node).unwrap());
    let me = probe.pid();
    a.send(me, 4, b"four").ok();
    a.send(me, 5, b"five").ok();
    assert!(node.come_to_rest(PATIENCE));
    assert_eq!(probe.waiting(), 2);
    let five = probe.take(Selector::Tag(5)).unwrap();
    assert_eq!(
        (five.sender, five.payload.as_slice()),
        (a.pid, &b"five"[..])
    );
    assert!(probe.take(Selector::Tag(5)).is_none());
    // Exits come as messages.
    let other = a.pid;
    probe
        .act(move |own, system| own.link(system, other))
        .unwrap();
    a.kill();
    assert!(node.come_to_rest(PATIENCE));
    assert_eq!(probe.take(Selector::Any).unwrap().tag, 4);
    assert_eq!(probe.take(Selector::Any).unwrap().kind, Kind::Exit);
    drop(probe);
    assert!(node.come_to_rest(PATIENCE));
    assert!(!node.system().is_alive(me));
    node.halt();
}
