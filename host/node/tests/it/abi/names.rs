//! Registered names.

use exuvia_node::Pid;
use exuvia_node::abi::Code;

use super::{two, with_puppets};
use crate::puppet::{DATA, PID, Puppet};

#[test]
fn names_are_unique_and_follow_their_process() {
    let (node, a, b) = two();
    a.name("register", b"it", a.pid).ok();
    a.name("register", b"it", a.pid).ok();
    a.name("register", b"also", a.pid).ok();
    b.name("register", b"it", b.pid).is(Code::NameTaken);
    assert_eq!(b.name("whereis", b"it", Pid::NONE).ok().pid, a.pid);
    // One process may name another, and take the name back.
    a.name("register", b"b", b.pid).ok();
    assert_eq!(node.find("b").unwrap(), b.pid);
    a.name("unregister", b"b", b.pid).ok();
    a.name("unregister", b"b", b.pid).is(Code::NoProc);
    a.name("whereis", b"b", Pid::NONE).is(Code::NoProc);
    a.kill();
    b.name("whereis", b"it", Pid::NONE).is(Code::NoProc);
    b.name("register", b"it", a.pid).is(Code::NoProc);
    b.name("register", b"it", b.pid).ok();
    node.halt();
}

#[test]
fn names_are_short_texts() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.name("register", &[b'x'; 255], a.pid).ok();
    for name in [&b""[..], &[b'x'; 256], b"\xff\xfe"] {
        for call in ["register", "unregister", "whereis"] {
            a.name(call, name, a.pid).is(Code::BadArgument);
        }
    }
    // The pointer for the result is checked first, whichever process has the name.
    a.act("whereis", &[DATA, 1, 65_530], b"?")
        .is(Code::BadPointer);
    a.act("whereis", &[65_530, 100, PID], b"")
        .is(Code::BadPointer);
    node.halt();
}
