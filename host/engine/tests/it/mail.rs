//! Messages that come into a mailbox while its process runs.

use crate::world::{Answer, Setup, World, answering};

const IMPORTS: &str = r#"
  (import "exuvia" "self" (func $self (param i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "monitor" (func $monitor (param i32 i32) (result i32)))
  (import "exuvia" "info" (func $info (param i32) (result i64)))"#;

/// Answers what `receive` without a wait does after `first`: a code, or a
/// thousand and the kind of the message.
fn then_receives(first: &str) -> String {
    let handle = format!(
        r#"(local $code i32)
    {first}
    (i32.store (i32.const 4400) (i32.const 48))
    (local.set $code (call $receive (i32.const 4400) (i32.const 4500) (i32.const 64) (i64.const 0) (i32.const 0) (i64.const 0)))
    (if (result i64) (local.get $code)
      (then (i64.extend_i32_s (local.get $code)))
      (else (i64.add (i64.const 1000) (i64.load32_u (i32.const 4404)))))"#
    );
    answering(IMPORTS, &handle, "")
}

fn outcome(first: &str) -> i64 {
    let world = World::new(Setup::default());
    world.deploy("it", &then_receives(first));
    let pid = world.spawn("it");
    assert!(world.settle(100));
    match world.ask(pid, 0, &[]) {
        Answer::Reply(bytes) => i64::from_le_bytes(bytes[..8].try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

const EMPTY: i64 = exuvia_abi::Code::Empty as i64;

#[test]
fn an_unchanged_mailbox_is_empty() {
    assert_eq!(outcome(""), EMPTY);
}

#[test]
fn a_message_to_itself_is_found_at_once() {
    let first = "(drop (call $self (i32.const 4300)))
      (drop (call $send (i32.const 4300) (i32.const 5) (i32.const 4300) (i32.const 8)))";
    assert_eq!(outcome(first), 1_000 + exuvia_abi::Kind::Message as i64);
}

#[test]
fn the_down_of_a_late_monitor_is_found_at_once() {
    // The sender of the request is alive; a pid of its slot's next process is not.
    let first = "(i64.store (i32.const 4300) (i64.load (i32.const 4104)))
      (i64.store (i32.const 4308) (i64.load (i32.const 4112)))
      (i32.store (i32.const 4312) (i32.add (i32.const 1) (i32.load (i32.const 4312))))
      (drop (call $monitor (i32.const 4300) (i32.const 4340)))";
    assert_eq!(outcome(first), 1_000 + exuvia_abi::Kind::Down as i64);
}

#[test]
fn messages_that_info_counts_can_be_received() {
    let first = "(drop (call $self (i32.const 4300)))
      (drop (call $send (i32.const 4300) (i32.const 5) (i32.const 4300) (i32.const 8)))
      (if (i64.ne (call $info (i32.const 1)) (i64.const 1)) (then (unreachable)))";
    assert_eq!(outcome(first), 1_000 + exuvia_abi::Kind::Message as i64);
}

/// A process that was told EMPTY is entered again for what came meanwhile.
#[test]
fn messages_after_the_last_check_are_found_at_the_next_entry() {
    let world = World::new(Setup::default());
    world.deploy(
        "it",
        &answering("", "(i64.extend_i32_u (local.get $tag))", ""),
    );
    let pid = world.spawn("it");
    assert!(world.settle(100));
    let references: Vec<u64> = (0..50).map(|tag| world.request(pid, tag, &[])).collect();
    assert!(world.settle(1_000));
    for (tag, reference) in references.into_iter().enumerate() {
        assert_eq!(world.answer(reference).number(), tag as u64);
    }
}
