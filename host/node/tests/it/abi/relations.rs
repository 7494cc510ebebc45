//! Links, monitors, exit signals, and the ends of processes.

use exuvia_node::abi::{Code, Kind, Reason, info};
use exuvia_node::{CallFailed, Pid};

use super::{two, with_puppets};
use crate::guests::{deploy, eventually, exit_of};
use crate::puppet::{self, DATA, Puppet, ROOM};

#[test]
fn a_link_works_both_ways_and_normal_exits_do_not_spread() {
    let (node, a, b) = two();
    let (c, d) = (Puppet::new(&node), Puppet::new(&node));
    let watch = Puppet::new(&node);
    watch.on("monitor", b.pid).ok();
    a.on("link", b.pid).ok();
    a.on("link", a.pid).ok();
    node.kill(a.pid);
    watch
        .wait()
        .notifications(Kind::Down, b.pid, Reason::KILLED.0);
    c.on("link", d.pid).ok();
    d.tell("leave", &[2], b"");
    d.wait_for_end();
    assert_eq!(c.act("version", &[], b"").result, 1);
    c.has_nothing();
    node.halt();
}

#[test]
fn a_process_that_traps_exits_gets_a_message_and_lives() {
    let (node, a, b) = two();
    assert_eq!(a.trap_exit(true), 0);
    assert_eq!(a.trap_exit(true), 1);
    a.on("link", b.pid).ok();
    a.on("link", b.pid).ok();
    b.tell("exit", &[300, DATA, 3], b"why");
    let got = a.wait().notifications(Kind::Exit, b.pid, 300);
    assert_eq!(got.payload(), b"why");
    // A link to the dead: the same, with NOPROC.
    a.on("link", b.pid).ok();
    a.wait().notifications(Kind::Exit, b.pid, Reason::NOPROC.0);
    a.has_nothing();
    assert_eq!(a.trap_exit(false), 1);
    let linked = a.try_do("link", &[DATA], &b.pid.to_bytes());
    if linked.is_ok() {
        a.wait_for_end();
    }
    node.halt();
}

#[test]
fn after_an_unlink_no_exit_comes() {
    let (node, a, b) = two();
    a.on("link", b.pid).ok();
    a.on("unlink", b.pid).ok();
    b.kill();
    assert_eq!(a.act("version", &[], b"").result, 1);
    let c = Puppet::new(&node);
    a.trap_exit(true);
    a.on("link", c.pid).ok();
    a.on("unlink", c.pid).ok();
    a.on("link", c.pid).ok();
    c.kill();
    a.wait().notifications(Kind::Exit, c.pid, Reason::KILLED.0);
    a.has_nothing();
    node.halt();
}

#[test]
fn any_process_can_send_an_exit_signal() {
    let (node, a, b) = two();
    for code in [2, 10, 255, -1] {
        a.exit_process(b.pid, code, b"").is(Code::BadArgument);
    }
    a.exit_process(b.pid, 0, b"").ok();
    assert_eq!(b.act("version", &[], b"").result, 1);
    b.trap_exit(true);
    a.exit_process(b.pid, 0, b"").ok();
    a.exit_process(b.pid, 301, b"please").ok();
    b.wait().notifications(Kind::Exit, a.pid, 0);
    assert_eq!(
        b.wait().notifications(Kind::Exit, a.pid, 301).payload(),
        b"please"
    );
    // A kill cannot be trapped, and others see KILLED.
    a.on("monitor", b.pid).ok();
    a.on("kill", b.pid).ok();
    a.wait().notifications(Kind::Down, b.pid, Reason::KILLED.0);
    a.exit_process(b.pid, 301, b"").ok();
    a.on("kill", b.pid).ok();
    // NORMAL ends no process but the caller itself.
    let ended = a.try_do("exit_process", &[DATA, 0, 0, 0], &a.pid.to_bytes());
    assert!(ended.is_ok() || matches!(ended, Err(CallFailed::Down { .. })));
    a.wait_for_end();
    node.halt();
}

#[test]
fn each_monitor_fires_once() {
    let (node, a, b) = two();
    let first = a.on("monitor", b.pid).ok().reference;
    let second = a.on("monitor", b.pid).ok().reference;
    b.kill();
    let mut references =
        [a.wait(), a.wait()].map(|got| got.notifications(Kind::Down, b.pid, 2).message);
    references.sort_unstable_by_key(|reference| *reference != first);
    assert_eq!(references, [first, second]);
    a.has_nothing();
    let third = a.on("monitor", b.pid).ok().reference;
    let got = a.next().notifications(Kind::Down, b.pid, Reason::NOPROC.0);
    assert_eq!(got.message, third);
    node.halt();
}

#[test]
fn an_exit_in_the_middle_of_a_handler_has_its_reason() {
    let (node, a, b) = two();
    let mut events = node.events();
    a.on("monitor", b.pid).ok();
    b.tell("exit", &[4_000, DATA, 6], b"enough");
    assert_eq!(
        a.wait().notifications(Kind::Down, b.pid, 4_000).payload(),
        b"enough"
    );
    assert_eq!(exit_of(&mut events, b.pid).0, "exit 4000: enough");
    for (code, pointer) in [(7, DATA), (-1, DATA), (300, 65_535)] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("exit", &[code, pointer, 6], b"enough");
        a.wait()
            .notifications(Kind::Down, c.pid, Reason::CONTRACT.0);
    }
    for code in [0, 1] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("exit", &[code, DATA, 0], b"");
        a.wait()
            .notifications(Kind::Down, c.pid, i32::try_from(code).unwrap());
    }
    node.halt();
}

#[test]
fn done_is_a_normal_exit_and_other_results_break_the_contract() {
    let (node, a, b) = two();
    a.on("monitor", b.pid).ok();
    b.tell("leave", &[2], b"");
    a.wait().notifications(Kind::Down, b.pid, Reason::NORMAL.0);
    for answer in [3, -7] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("leave", &[answer], b"");
        let got = a
            .wait()
            .notifications(Kind::Down, c.pid, Reason::CONTRACT.0);
        let text = String::from_utf8_lossy(got.payload()).into_owned();
        assert!(text.contains(&format!("`run` returned {answer}")), "{text}");
    }
    node.halt();
}

#[test]
fn a_waiting_process_is_not_upgraded_before_it_is_at_rest() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.tell("leave", &[1], b"");
    eventually("it waits", || a.state() == "waiting");
    deploy(&node, "puppet", &puppet::text(2));
    a.tell("leave", &[1], b"");
    eventually("it waits again", || a.state().starts_with("waiting"));
    let all = node.processes(&exuvia_node::Filter::default());
    assert_eq!(all[0].module.as_deref(), Some("puppet@1"));
    assert_eq!(all[0].upgrades, 0);
    assert_eq!(a.act("version", &[], b"").result, 1);
    // That one ended in REST.
    assert_eq!(a.act("version", &[], b"").result, 2);
    assert_eq!(a.act("info", &[info::UPGRADES.into()], b"").result, 1);
    node.halt();
}

#[test]
fn every_call_rejects_pids_that_never_existed() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let here = a.pid;
    let strangers = [
        Pid::NONE,
        Pid {
            node: here.node ^ 1,
            ..here
        },
        Pid::new(here.node, Pid::SLOTS - 1, 0),
    ];
    for pid in strangers {
        a.send(pid, 1, b"").is(Code::BadArgument);
        a.request(pid, 1, b"").is(Code::BadArgument);
        a.call(pid, 1, b"", ROOM, 1).is(Code::BadArgument);
        a.reply(pid, 1, 1, b"").is(Code::BadArgument);
        for call in ["link", "unlink", "monitor", "kill"] {
            a.on(call, pid).is(Code::BadArgument);
        }
        a.exit_process(pid, 300, b"").is(Code::BadArgument);
        a.name("register", b"name", pid).is(Code::BadArgument);
        a.send_after(pid, 1, b"", 0).is(Code::BadArgument);
    }
    a.has_nothing();
    node.halt();
}
