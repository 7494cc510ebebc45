//! Guests for the tests of swaps: an actor whose handlers a test writes, and a
//! loop that never returns.

use exuvia_node::{Filter, Node, Pid, ProcessInfo};

use crate::guests::{ask, deploy, imports, node, spawn};
use crate::puppet::{self, Puppet};

/// An actor whose handlers a test writes. At 16 lies the count, at 24 a
/// friend's pid (its arguments), at 40 a number that is never saved, at 64 the
/// header, at 512 the payload.
#[derive(Clone, Copy, Default)]
pub(crate) struct Actor<'a> {
    pub(crate) message: &'a str,
    /// Leaves the i64 that is answered; the count, if there is nothing.
    pub(crate) request: &'a str,
    /// After any message.
    pub(crate) after: &'a str,
    /// Beside `save` and `load`.
    pub(crate) rest: &'a str,
    /// In place of `save` and `load` of 24 bytes.
    pub(crate) state: Option<&'a str>,
}

pub(crate) const STATE: &str = r#"
  (func (export "save") (result i32) (call $state_put (i32.const 16) (i32.const 24)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 16) (i32.const 24))) (i32.const 0))"#;

/// Adds one to the count.
pub(crate) const ADD: &str = "(call $set (i64.add (call $count) (i64.const 1)))";
/// Appends the payload's first digit to the count.
pub(crate) const DIGIT: &str = "(call $set (i64.add (i64.mul (call $count) (i64.const 10))
  (i64.sub (i64.load8_u (i32.const 512)) (i64.const 48))))";
/// Traps if the payload begins with an x.
pub(crate) const X: &str =
    "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 120)) (then (unreachable)))";
/// Sends the count to the friend.
pub(crate) const TELL: &str =
    "(drop (call $send (i32.const 24) (i32.const 5) (i32.const 16) (i32.const 8)))";

impl Actor<'_> {
    pub(crate) fn text(self) -> String {
        let Actor {
            message,
            request,
            after,
            rest,
            state,
        } = self;
        let request = if request.is_empty() {
            "(call $count)"
        } else {
            request
        };
        format!(
            r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 1024) "puppet")
  (data (i32.const 1040) "new-name")
  (data (i32.const 1056) "old-name")
  (data (i32.const 1072) "too many to count")
  (func $count (result i64) (i64.load (i32.const 16)))
  (func $set (param i64) (i64.store (i32.const 16) (local.get 0)))
  (func $spin (param i32)
    (loop $l (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if $l (local.get 0))))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 1))
        (then (memory.copy (i32.const 24) (i32.const 512) (i32.load (i32.const 100)))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 2)) (then {message}))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (i64.store (i32.const 56) {request})
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 56) (i32.const 8)))))
      {after}
      (br $next))
    unreachable)
  {state}
  {rest})"#,
            imports = imports(),
            state = state.unwrap_or(STATE),
        )
    }
}

/// An actor that does this with each message.
pub(crate) fn handles(message: &str) -> Actor<'_> {
    Actor {
        message,
        ..Actor::default()
    }
}

pub(crate) fn counts() -> Actor<'static> {
    handles(ADD)
}

/// A node with an actor on its first version, and the friend that it knows.
pub(crate) fn cast(first: Actor<'_>) -> (Node, Puppet, Pid) {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "actor", &first.text());
    let friend = Puppet::new(&node);
    let actor = spawn(&node, "actor", &friend.pid.to_bytes());
    assert_eq!(ask(&node, actor), 0);
    (node, friend, actor)
}

pub(crate) fn of(node: &Node, pid: Pid) -> ProcessInfo {
    let all = node.processes(&Filter::default());
    all.into_iter()
        .find(|process| process.pid == pid.to_string())
        .unwrap()
}

pub(crate) fn post(node: &Node, pid: Pid, payload: &[u8]) {
    node.send(pid, 0, payload.to_vec()).unwrap();
}

/// A guest that never returns of itself. It answers requests with `answer`,
/// and a message ends it.
pub(crate) fn loops(upgrade: bool, answer: &str) -> String {
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $count (result i64) (i64.load (i32.const 16)))
  (func (export "run") (result i32)
    (local $got i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (local.set $got (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const {mode}) (i64.const 0)))
      (if (i32.eq (local.get $got) (i32.const -4)) (then (return (i32.const 0))))
      (if (local.get $got) (then (unreachable)))
      (i64.store (i32.const 16) (i64.add (call $count) (i64.const 1)))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 2)) (then (return (i32.const 2))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (i64.store (i32.const 56) {answer})
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 56) (i32.const 8)))))
      (br $next))
    unreachable)
  {STATE})"#,
        imports = imports(),
        mode = if upgrade { 256 } else { 0 },
    )
}
