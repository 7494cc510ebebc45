//! Supervisors that guests start.

use exuvia_node::abi::{Code, Kind, Reason};

use super::*;
use crate::guests::{deploy, eventually, node};
use crate::puppet::{self, Puppet};

#[test]
fn a_guest_starts_a_supervisor() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    a.trap_exit(true);
    let supervisor = start(&a, &spec("one_for_one", &["kid", "other"])).ok().pid;
    let kid = node.find("kid").unwrap();
    assert_eq!(node.call(kid, 0, Vec::new(), STOP).unwrap().payload, b"k");
    node.kill(kid);
    eventually("it is started again", || {
        node.find("kid").is_ok_and(|pid| pid != kid)
    });
    // Too often, and the supervisor ends: its parent is linked to it.
    for _ in 0..2 {
        let kid = node.find("kid").unwrap();
        node.kill(kid);
        eventually("it is started again, or not", || {
            node.find("kid").ok() != Some(kid)
        });
        eventually("the supervisor has seen it", || {
            node.find("kid").is_ok() || !node.system().is_alive(supervisor)
        });
    }
    a.wait()
        .notifications(Kind::Exit, supervisor, Reason::INTENSITY.0);
    eventually("no process is left", || node.find("other").is_err());
    node.halt();
}

/// As in OTP, a supervisor restarts its children until its own parent stops it.
#[test]
fn a_guests_supervisor_restarts_its_children_while_the_node_stops() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    start(&a, &spec("one_for_one", &["kid"])).ok();
    // What `App::stop` does first.
    node.system().table.close_to_guests();
    let kid = node.find("kid").unwrap();
    node.kill(kid);
    eventually("it is started again", || {
        node.find("kid").is_ok_and(|pid| pid != kid)
    });
    node.halt();
}

#[test]
fn a_supervisor_ends_with_the_guest_that_started_it() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    start(&a, &spec("one_for_all", &["kid"])).ok();
    a.kill();
    eventually("the tree ends", || {
        node.find("kid").is_err() && node.info().processes == 0
    });
    node.halt();
}

#[test]
fn an_invalid_specification_starts_nothing() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    a.trap_exit(true);
    start(&a, b"\xc1").is(Code::BadArgument);
    start(&a, &spec("all_for_one", &["kid"])).is(Code::BadArgument);
    start(&a, &spec("one_for_one", &["kid", "kid"])).is(Code::BadArgument);
    let unknown = rmp_serde::to_vec_named(
        &[("intensitivity", 3)]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap();
    start(&a, &unknown).is(Code::BadArgument);
    a.has_nothing();
    let got = start(&a, &spec("one_for_one", &["kid", "fails"])).is(Code::StartFailed);
    let exit = a.wait().notifications(Kind::Exit, got.pid, 300);
    assert!(String::from_utf8_lossy(exit.payload()).contains("no licence"));
    assert!(node.find("kid").is_err());
    node.halt();
}

#[test]
fn a_guests_supervisor_starts_no_child_with_too_little_memory() {
    let a = four_pages();
    let large = member("unreachable").replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 5)",
    );
    deploy(&a.node, "member", &large);
    a.trap_exit(true);
    let got = start(&a, &spec("one_for_one", &["kid"])).is(Code::StartFailed);
    let exit = a
        .wait()
        .notifications(Kind::Exit, got.pid, Reason::MEMORY.0);
    let text = String::from_utf8_lossy(exit.payload());
    for part in ["`kid`", "`member` starts with 327680", "is 262144"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    a.node.halt();
}
