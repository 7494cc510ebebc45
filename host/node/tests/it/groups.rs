//! Process groups: their members, and what is published to them.

use exuvia_node::abi::{Code, Kind, limits};
use exuvia_node::{Limits, Node, Pid, SpawnOptions};

use crate::actors::{ADD, X, cast, counts, handles, post};
use crate::guests::{ask, counter, deploy, eventually, node, spawn};
use crate::puppet::{self, Puppet};

fn three() -> (Node, [Puppet; 3]) {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let puppets = [(); 3].map(|()| Puppet::new(&node));
    (node, puppets)
}

fn sorted(mut pids: Vec<exuvia_node::Pid>) -> Vec<exuvia_node::Pid> {
    pids.sort_unstable();
    pids
}

#[test]
fn a_process_is_a_member_once_until_it_leaves_or_ends() {
    let (node, [a, b, c]) = three();
    assert_eq!(a.members("room"), (0, vec![]));
    for puppet in [&a, &b, &c, &b] {
        a.group("group_join", "room", puppet.pid).ok();
    }
    a.group("group_join", "hall", b.pid).ok();
    let (count, pids) = b.members("room");
    assert_eq!((count, sorted(pids)), (3, vec![a.pid, b.pid, c.pid]));
    c.group("group_leave", "room", a.pid).ok();
    c.group("group_leave", "room", a.pid).is(Code::NoProc);
    b.kill();
    assert_eq!(a.members("room"), (1, vec![c.pid]));
    assert_eq!(a.members("hall"), (0, vec![]));
    a.group("group_join", "room", b.pid).is(Code::NoProc);
    a.group("group_join", "", a.pid).is(Code::BadArgument);
    a.group("group_join", &"x".repeat(256), a.pid)
        .is(Code::BadArgument);
    let inspected = node.inspect(c.pid).unwrap().0;
    assert_eq!(inspected.groups, ["room"]);
    node.halt();
}

#[test]
fn a_publication_reaches_all_members_and_no_other_process() {
    let (node, [a, b, c]) = three();
    a.group("group_join", "room", a.pid).ok();
    a.group("group_join", "room", b.pid).ok();
    assert_eq!(a.publish("room", 7, b"hello").result, 2);
    for puppet in [&a, &b] {
        let got = puppet.wait().message(Kind::Message, b"hello");
        assert_eq!((got.sender, got.tag), (a.pid, 7));
        puppet.has_nothing();
    }
    c.has_nothing();
    assert_eq!(c.publish("nobody's", 7, b"hello").result, 0);
    node.halt();
}

#[test]
fn a_member_whose_mailbox_is_full_is_not_counted() {
    let (node, [a, b, _]) = three();
    let options = SpawnOptions {
        limits: Some(Limits {
            mailbox_messages: 2,
            ..Limits::default()
        }),
        ..SpawnOptions::default()
    };
    let small = node.spawn("puppet", b"", &options).unwrap();
    for pid in [b.pid, small] {
        a.group("group_join", "room", pid).ok();
    }
    let reached: Vec<i64> = (0..4).map(|_| a.publish("room", 7, b"x").result).collect();
    assert_eq!(reached, [2, 2, 1, 1]);
    node.halt();
}

#[test]
fn the_groups_of_a_process_are_limited() {
    let (node, [a, b, _]) = three();
    let system = node.system();
    for number in 0..limits::GROUPS {
        system.join(&format!("group-{number}"), a.pid).unwrap();
    }
    a.group("group_join", "one more", a.pid).is(Code::Limit);
    a.group("group_join", "group-7", a.pid).ok();
    a.group("group_join", "one more", b.pid).ok();
    a.kill();
    assert_eq!(system.groups.all(), [("one more".into(), 1)]);
    node.halt();
}

/// Far more members than one turn sends to: all get it, in order, and the others
/// have their turns meanwhile.
#[test]
fn a_large_group_is_published_to_in_several_turns() {
    const MEMBERS: u64 = 5_500;
    let (node, [a, b, _]) = three();
    deploy(
        &node,
        "count",
        &counter(
            "(call $set (i64.add (call $count) (i64.load (i32.const 512))))",
            "(call $count)",
            "",
        ),
    );
    let system = node.system();
    let members: Vec<_> = (0..MEMBERS)
        .map(|_| {
            let pid = spawn(&node, "count", b"");
            system.join("all", pid).unwrap();
            pid
        })
        .collect();
    let reductions = || node.inspect(a.pid).unwrap().0.process.reductions;
    let before = reductions();
    assert_eq!(a.publish("all", 0, &3u64.to_le_bytes()).result, 5_500);
    assert!(reductions() - before >= MEMBERS);
    // What it sends afterwards does not overtake.
    for member in [members[0], members[5_499]] {
        a.send(member, 0, &4u64.to_le_bytes()).ok();
    }
    assert_eq!(ask(&node, members[0]), 7);
    assert_eq!(ask(&node, members[5_499]), 7);
    eventually("all have it", || ask(&node, members[3_000]) == 3);
    b.has_nothing();
    node.halt();
}

#[test]
fn groups_in_probation() {
    let (node, friend, actor) = cast(counts());
    friend.group("group_join", "old-name", friend.pid).ok();
    let message = [
        ADD,
        "(drop (call $group_join (i32.const 1040) (i32.const 8) (i32.const 24)))",
        "(drop (call $group_leave (i32.const 1056) (i32.const 8) (i32.const 24)))",
        "(drop (call $publish (i32.const 1040) (i32.const 8) (i32.const 9) (i32.const 16) (i32.const 8)))",
        X,
    ]
    .concat();
    deploy(&node, "actor", &handles(&message).text());
    // It traps: as if it had never been.
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    assert_eq!(friend.members("new-name"), (0, vec![]));
    assert_eq!(friend.members("old-name"), (1, vec![friend.pid]));
    friend.has_nothing();
    // It ends well.
    let second = spawn(&node, "actor", &friend.pid.to_bytes());
    post(&node, second, b"fine");
    assert_eq!(ask(&node, second), 1);
    assert_eq!(friend.members("new-name"), (1, vec![friend.pid]));
    assert_eq!(friend.members("old-name"), (0, vec![]));
    friend.wait().message(Kind::Message, &1u64.to_le_bytes());
    node.halt();
}

/// To a large group the transaction ends: what is held for it would be sent in one
/// go, by one scheduler.
#[test]
fn a_large_group_ends_the_transaction() {
    let (node, friend, actor) = cast(counts());
    let members: Vec<Pid> = (0..100).map(|_| spawn(&node, "puppet", b"")).collect();
    for member in members.iter().chain([&friend.pid]) {
        assert_eq!(node.system().join("new-name", *member), Ok(true));
    }
    let message = "(drop (call $publish (i32.const 1040) (i32.const 8) (i32.const 9) (i32.const 16) (i32.const 8))) (unreachable)";
    deploy(&node, "actor", &handles(message).text());
    post(&node, actor, b"x");
    friend.wait().message(Kind::Message, &0u64.to_le_bytes());
    eventually("it has ended", || !node.system().is_alive(actor));
    node.halt();
}
