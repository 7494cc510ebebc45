//! Limits: of memory, of messages and mailboxes, of children and processes.

use exuvia_node::abi::{Code, Kind, info, receive};
use exuvia_node::{CallFailed, DeployOptions, Limits, Node, SendFailed, SpawnOptions};

use crate::guests::{
    ask, counter, deploy, eventually, exit_of, imports, module, node, node_with, spawn,
};
use crate::puppet::{self, DATA, Options, Puppet};

const PAGE: u64 = 64 << 10;

fn with_limits(node: &Node, module: &str, limits: Limits) -> exuvia_node::Pid {
    let options = SpawnOptions {
        limits: Some(limits),
        ..SpawnOptions::default()
    };
    node.spawn(module, b"", &options).unwrap()
}

fn limited(limits: Limits) -> (Node, Puppet) {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let pid = with_limits(&node, "puppet", limits);
    let puppet = Puppet::of(&node, pid);
    (node, puppet)
}

#[test]
fn memory_grows_to_its_limit_and_no_further() {
    let (node, a) = limited(Limits {
        memory: 4 * PAGE,
        ..Limits::default()
    });
    let grow = |pages: i64| a.act("grow", &[pages], b"").result;
    assert_eq!(grow(4), -1);
    assert_eq!(grow(2), 1);
    assert_eq!(grow(1), 3);
    assert_eq!(grow(1), -1);
    assert_eq!(grow(0), 4);
    node.halt();
}

/// A guest that grows its memory for ever, and traps when it cannot.
fn glutton() -> String {
    let grow =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)";
    counter(grow, "(call $count)", "")
}

#[test]
fn a_process_that_fails_for_lack_of_memory_ends_with_that_reason() {
    let node = node();
    deploy(&node, "glutton", &glutton());
    let mut events = node.events();
    let pid = with_limits(
        &node,
        "glutton",
        Limits {
            memory: 8 * PAGE,
            ..Limits::default()
        },
    );
    let other = spawn(&node, "glutton", b"");
    node.send(pid, 0, Vec::new()).unwrap();
    let (reason, detail) = exit_of(&mut events, pid);
    assert!(reason.starts_with("memory limit"), "{reason}");
    assert!(detail.contains("\n    at "), "{detail}");
    assert_eq!(ask(&node, other), 0);
    node.halt();
}

#[test]
fn processes_that_take_all_memory_end_and_the_node_lives() {
    let node = node();
    deploy(&node, "glutton", &glutton());
    let other = spawn(&node, "glutton", b"");
    let limits = Limits {
        memory: 64 * PAGE,
        ..Limits::default()
    };
    let pids: Vec<_> = (0..50)
        .map(|_| with_limits(&node, "glutton", limits.clone()))
        .collect();
    for pid in &pids {
        node.send(*pid, 0, Vec::new()).unwrap();
    }
    for pid in &pids {
        eventually("it ends", || !node.system().is_alive(*pid));
    }
    assert_eq!(ask(&node, other), 0);
    // Frames that have served them serve others, at their own size.
    let small = with_limits(
        &node,
        "glutton",
        Limits {
            memory: 2 * PAGE,
            ..Limits::default()
        },
    );
    assert_eq!(ask(&node, small), 0);
    node.halt();
}

#[test]
fn deep_recursion_traps() {
    let (node, a) = limited(Limits::default());
    let mut events = node.events();
    a.tell("recurse", &[], b"");
    let (reason, detail) = exit_of(&mut events, a.pid);
    assert!(reason.starts_with("trap"), "{reason}");
    assert!(reason.contains("stack"), "{reason}");
    assert!(detail.contains("recurse"), "{detail}");
    let b = Puppet::new(&node);
    assert_eq!(b.act("version", &[], b"").result, 1);
    node.halt();
}

#[test]
fn the_size_of_a_message_is_limited() {
    let (node, a) = limited(Limits {
        message_bytes: 1_500,
        ..Limits::default()
    });
    let b = Puppet::new(&node);
    a.send(b.pid, 1, &[7; 1_500]).ok();
    a.send(b.pid, 1, &[7; 1_501]).is(Code::MessageTooLarge);
    a.request(b.pid, 1, &[7; 1_501]).is(Code::MessageTooLarge);
    a.call(b.pid, 1, &[7; 1_501], puppet::ROOM, 1)
        .is(Code::MessageTooLarge);
    a.send_after(b.pid, 1, &[7; 1_501], 0)
        .is(Code::MessageTooLarge);
    a.spawn("", &[7; 1_501], Options::default())
        .is(Code::MessageTooLarge);
    assert_eq!(b.next().is(Code::TooBig).length, 1_500);
    b.act("receive", &[puppet::HEADER, 8_192, 2_000, 0, 0, 0], b"")
        .ok();
    b.has_nothing();
    // What it is sent may be larger.
    b.send(a.pid, 1, &[7; 900]).ok();
    a.next().message(Kind::Message, &[7; 900]);
    node.halt();
}

#[test]
fn a_mailbox_is_full_by_messages() {
    let (node, a) = limited(Limits {
        mailbox_messages: 10,
        ..Limits::default()
    });
    let b = Puppet::new(&node);
    // It never takes these of itself.
    assert_eq!(a.act("version", &[], b"").result, 1);
    let accepted = (0..20u8)
        .take_while(|n| b.send(a.pid, 1, &[*n]).result == 0)
        .count();
    assert_eq!(accepted, 10);
    b.send(a.pid, 1, b"no").is(Code::MailboxFull);
    b.request(a.pid, 1, b"no").is(Code::MailboxFull);
    b.call(a.pid, 1, b"no", puppet::ROOM, 1_000)
        .is(Code::MailboxFull);
    assert!(matches!(node.send(a.pid, 1, Vec::new()), Err(SendFailed::Full(pid)) if pid == a.pid));
    // A timer's message is always accepted, and so is the end of another.
    b.send_after(a.pid, 1, b"tick", 0).ok();
    let (begun, order) = (Puppet::new(&node), [0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    drop(begun);
    // Commands are messages too, and the mailbox is full: a timer brings them, which is always
    // accepted.
    let all = |n: u8| {
        Puppet::command(
            "receive",
            &[puppet::HEADER, puppet::BUFFER, puppet::ROOM, 0, 0, 0],
            &[n],
        )
    };
    let command = all(0);
    let mut data = a.pid.to_bytes().to_vec();
    data.extend(&command);
    for _ in 0..2 {
        let length = i64::try_from(command.len()).unwrap();
        b.act(
            "send_after",
            &[
                DATA,
                puppet::CMD.into(),
                DATA + 16,
                length,
                0,
                puppet::REFERENCE,
            ],
            &data,
        )
        .ok();
    }
    eventually("there is room again", || {
        node.send(a.pid, 1, b"late".to_vec()).is_ok()
    });
    eventually("a command finds room", || {
        a.try_do("version", &[], b"").is_ok()
    });
    // Two were taken; a command takes one place for itself.
    for n in &order[2..] {
        a.next().message(Kind::Message, &[*n]);
    }
    // The timer is due at once, but another scheduler may have fired its timers before.
    let mut rest = [a.wait(), a.wait()].map(|got| got.ok().payload().to_vec());
    rest.sort();
    assert_eq!(rest, [b"late".to_vec(), b"tick".to_vec()]);
    a.has_nothing();
    node.halt();
}

#[test]
fn a_mailbox_is_full_by_bytes() {
    let (node, a) = limited(Limits {
        mailbox_bytes: 10_000,
        ..Limits::default()
    });
    let b = Puppet::new(&node);
    assert_eq!(a.act("version", &[], b"").result, 1);
    let accepted = (0..100u8)
        .take_while(|n| b.send(a.pid, 1, &[*n; 900]).result == 0)
        .count();
    assert!((5..=11).contains(&accepted), "{accepted}");
    b.send(a.pid, 1, &[9; 900]).is(Code::MailboxFull);
    // All that were accepted are there, in order.
    for n in 0..accepted {
        let n = u8::try_from(n).unwrap();
        a.next().message(Kind::Message, &[n; 900]);
    }
    a.has_nothing();
    b.send(a.pid, 1, &[9; 900]).ok();
    a.next().message(Kind::Message, &[9; 900]);
    node.halt();
}

#[test]
fn a_flood_loses_nothing_that_was_accepted() {
    let node = node();
    deploy(
        &node,
        "plain",
        &counter(
            "(call $set (i64.add (call $count) (i64.const 1)))",
            "(call $count)",
            "",
        ),
    );
    let pid = with_limits(
        &node,
        "plain",
        Limits {
            mailbox_messages: 50,
            ..Limits::default()
        },
    );
    let accepted: u64 = std::thread::scope(|scope| {
        let backlog = || {
            (0..20_000)
                .filter(|_| node.send(pid, 0, Vec::new()).is_ok())
                .count() as u64
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(backlog)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(accepted >= 50);
    let mut counted = 0;
    eventually("all are handled", || {
        counted = node
            .call(pid, 0, Vec::new(), std::time::Duration::from_secs(10))
            .map_or(counted, |reply| {
                u64::from_le_bytes(reply.payload.try_into().unwrap())
            });
        counted == accepted
    });
    node.halt();
}

/// A process that scans a long mailbox pays for it, once.
#[test]
fn a_selective_receive_is_charged_for_the_messages_that_it_scans() {
    let (node, a) = limited(Limits::default());
    let used = || {
        // Until its entry has ended, not all that it has used is counted.
        eventually("it is at rest", || a.state() == "resident");
        a.act("info", &[info::REDUCTIONS.into()], b"").result
    };
    let looking = |tag: u64| {
        let before = used();
        a.receive(0, receive::TAG, tag).is(Code::Empty);
        used() - before
    };
    let short = looking(7);
    for _ in 0..80_000 {
        node.send(a.pid, 1, Vec::new()).unwrap();
    }
    // They are taken over with this.
    a.receive(0, receive::TAG, 6).is(Code::Empty);
    let long = looking(7);
    assert!(long > short + 9_000, "{long} for 80,000, {short} for none");
    let again = looking(7);
    assert!(again < short + 100, "{again} for what was looked at");
    node.halt();
}

#[test]
fn the_number_of_live_children_is_limited() {
    let (node, a) = limited(Limits {
        children: 3,
        ..Limits::default()
    });
    let children: Vec<_> = (0..3)
        .map(|_| Puppet::of(&node, a.spawn("", b"", Options::default()).ok().pid))
        .collect();
    a.spawn("", b"", Options::default()).is(Code::Limit);
    children[1].kill();
    a.spawn("", b"", Options::default()).ok();
    a.spawn("", b"", Options::default()).is(Code::Limit);
    node.halt();
}

#[test]
fn a_childs_limits_are_never_above_its_parents() {
    let (node, a) = limited(Limits {
        memory: 4 * PAGE,
        mailbox_messages: 20,
        message_bytes: 2_000,
        children: 2,
        ..Limits::default()
    });
    let greedy = Options {
        memory: 1 << 30,
        mailbox_messages: 1_000_000,
        mailbox_bytes: 1 << 40,
        message_bytes: 1 << 20,
        children: 1_000,
        ..Options::default()
    };
    let child = Puppet::of(&node, a.spawn("", b"", greedy).ok().pid);
    assert_eq!(child.act("grow", &[4], b"").result, -1);
    assert_eq!(child.act("grow", &[3], b"").result, 1);
    child.send(a.pid, 1, &[1; 2_001]).is(Code::MessageTooLarge);
    let sent = (0..50)
        .filter(|_| node.send(child.pid, 1, Vec::new()).is_ok())
        .count();
    assert_eq!(sent, 20);
    // It asks for less, and its own children get no more than that.
    let modest = Options {
        memory: 2 * PAGE,
        message_bytes: 1_500,
        children: 1,
        ..Options::default()
    };
    let child = Puppet::of(&node, a.spawn("", b"", modest).ok().pid);
    let grandchild = Puppet::of(&node, child.spawn("", b"", greedy).ok().pid);
    child.spawn("", b"", greedy).is(Code::Limit);
    assert_eq!(grandchild.act("grow", &[1], b"").result, 1);
    assert_eq!(grandchild.act("grow", &[1], b"").result, -1);
    grandchild
        .send(a.pid, 1, &[1; 1_501])
        .is(Code::MessageTooLarge);
    node.halt();
}

/// The puppet, whose memory begins with so many pages.
fn with_pages(pages: u32) -> String {
    let text = puppet::text(1);
    let memory = "(memory (export \"memory\") 1)";
    assert!(text.contains(memory));
    text.replace(memory, &format!("(memory (export \"memory\") {pages})"))
}

#[test]
fn a_process_that_needs_more_memory_than_its_limit_is_not_spawned() {
    let (node, a) = limited(Limits {
        memory: 4 * PAGE,
        children: 1,
        ..Limits::default()
    });
    deploy(&node, "three", &with_pages(3));
    deploy(&node, "five", &with_pages(5));
    let alive = node.info().processes;
    // By a guest: what it asks for counts, or what it has itself.
    let pages = |pages: u64| Options {
        memory: pages * PAGE,
        ..Options::default()
    };
    a.spawn("three", b"", pages(2)).is(Code::Limit);
    a.spawn("five", b"", pages(0)).is(Code::Limit);
    a.spawn("five", b"", pages(5)).is(Code::Limit);
    // No refusal has taken the place of its only child.
    a.spawn("three", b"", pages(3)).ok();
    // From outside.
    let try_spawn = |memory| {
        let limits = Some(Limits {
            memory,
            ..Limits::default()
        });
        let options = SpawnOptions {
            limits,
            ..SpawnOptions::default()
        };
        node.spawn("three", b"", &options)
    };
    assert_eq!(
        try_spawn(3 * PAGE - 1).unwrap_err().to_string(),
        "a process of the module `three` starts with 196608 bytes of memory, but the limit \
         of this one is 196607; raise its `memory` limit, or build the module with a smaller initial memory"
    );
    try_spawn(3 * PAGE).unwrap();
    // A call from outside is made by a process too, which ends after the reply.
    eventually("only those that may be live", || {
        node.info().processes == alive + 2
    });
    node.halt();
}

/// Children that rest keep their arguments, which no mailbox counts.
#[test]
fn the_arguments_of_children_are_charged_to_their_parent() {
    let node = node_with(|config| config.limits.mailbox_bytes = 1 << 20);
    // Spawns children of its own kind with 60,000 bytes each until it cannot, and replies how
    // many they were. A child does not take its INIT, for which its buffer is too small.
    let parent = format!(
        r#"(module
  {imports}
  (memory (export "memory") 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (local $count i64)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const 0) (i32.const 0) (i64.const 0))
      (then (return (i32.const 0))))
    (if (i32.ne (i32.load (i32.const 68)) (i32.const 3)) (then (return (i32.const 0))))
    (block $done
      (loop $more
        (br_if $done (call $spawn (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 60000) (i32.const 0) (i32.const 200) (i32.const 0)))
        (local.set $count (i64.add (local.get $count) (i64.const 1)))
        (br $more)))
    (i64.store (i32.const 256) (local.get $count))
    (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 256) (i32.const 8)))
    (i32.const 0)))"#,
        imports = imports()
    );
    deploy(&node, "parent", &parent);
    let pid = spawn(&node, "parent", b"");
    assert_eq!(ask(&node, pid), (1 << 20) / 60_000);
    node.halt();
}

#[test]
fn a_fork_bomb_meets_the_limit_on_processes_and_the_node_lives() {
    let node = node_with(|config| {
        config.processes = 500;
        config.background_upgrade_after = std::time::Duration::from_millis(20);
    });
    deploy(&node, "puppet", &puppet::text(1));
    let a = Puppet::new(&node);
    // Each spawns two of its own kind, and dies when it cannot.
    let bomb = format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const 0) (i32.const 0) (i64.const 0))
      (then (return (i32.const 0))))
    (if (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 0))
      (then (return (i32.const 2))))
    (if (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 0))
      (then (return (i32.const 2))))
    (i32.const 0)))"#,
        imports = imports()
    );
    deploy(&node, "bomb", &bomb);
    let children: Vec<_> = (0..2).map(|_| Puppet::new(&node)).collect();
    spawn(&node, "bomb", b"");
    // A few places are kept from guests.
    let theirs = node.system().table.limit_of_guests();
    assert!((450..500).contains(&theirs));
    eventually("the table is full", || node.info().processes >= theirs - 1);
    assert!(node.info().processes <= theirs + 5);
    // A call of an operator is made by a process, for which a slot is kept.
    assert_eq!(children[1].act("grow", &[0], b"").result, 1);
    // Those that were there go on; sending needs no process.
    children[0].tell("send", &[DATA, 1, 0, 0], &a.pid.to_bytes());
    eventually("the message arrives", || {
        let all = node.processes(&exuvia_node::Filter::default());
        all.iter()
            .any(|process| process.pid == a.pid.to_string() && process.mailbox == 1)
    });
    // Killing them one by one makes room for others of them. New code ends it.
    let tame = bomb.replace("(call $spawn", "(call $never_spawn").replace(
        "(memory (export",
        "(func $never_spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const -6)) (memory (export",
    );
    let fresh = DeployOptions {
        fresh: true,
        ..DeployOptions::default()
    };
    node.deploy(vec![module("bomb", &tame)], fresh).unwrap();
    eventually("there is room", || node.info().processes < 10);
    a.next().message(Kind::Message, b"");
    node.halt();
}

#[test]
fn a_full_process_table_returns_limit_and_is_reported() {
    let node = node_with(|config| config.processes = 64);
    deploy(&node, "puppet", &puppet::text(1));
    let a = Puppet::new(&node);
    let (list, data) = Options::default().of("", b"");
    // A call from outside needs a slot too, and leaves it a moment after the reply.
    let spawn = || {
        let mut done = None;
        eventually("it is asked", || {
            done = match a.try_do("spawn", &list, &data) {
                Err(CallFailed::TableFull) => None,
                answer => Some(answer.unwrap()),
            };
            done.is_some()
        });
        done.unwrap()
    };
    let mut children = Vec::new();
    let refused = loop {
        let got = spawn();
        if got.result != 0 {
            break got;
        }
        children.push(Puppet::of(&node, got.pid));
    };
    refused.is(Code::Limit);
    // Some slots are kept from guests.
    assert!((50..60).contains(&children.len()), "{}", children.len());
    children[0].kill();
    // It ends a moment later, and the first to get its slot may be the call.
    eventually("there is room again", || spawn().result == 0);
    node.halt();
}
