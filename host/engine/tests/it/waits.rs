//! Waits without turns: a process in backpressure, or one that waits for a frame, is in no run
//! queue and is woken. What a WAITING process waits for reaches it while an upgrade is pending.

use exuvia_process::{Kind, Pid};

use crate::world::{Answer, ENOUGH, Setup, World, answering};

/// Loops for ever from tag 1 on; sleeps at tag 2.
fn looping() -> String {
    answering(
        r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#,
        r#"(if (i32.eq (local.get $tag) (i32.const 1)) (then (loop $l (br $l))))
           (if (i32.eq (local.get $tag) (i32.const 2)) (then (drop (call $sleep (i64.const 1000)))))
           (i64.const 5)"#,
        "",
    )
}

/// A world in which all frames are in the middle of handlers, and whose.
fn busy_world() -> (World, Vec<Pid>) {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    world.deploy("m", &looping());
    // As many as one version gets of the 8 slots.
    let busy: Vec<_> = (0..7).map(|_| world.spawn("m")).collect();
    for pid in &busy {
        world.request(*pid, 1, &[]);
    }
    for _ in 0..40 {
        assert!(world.turn());
    }
    (world, busy)
}

/// All frames are in the middle of handlers. Those who want one wait in no queue, use
/// nothing, and get one after the other when a frame is free.
#[test]
fn a_process_that_waits_for_a_frame_is_in_no_run_queue() {
    let (world, busy) = busy_world();
    assert_eq!(world.executor.frames().live, 7);
    let late: Vec<_> = (0..50).map(|_| world.spawn("m")).collect();
    let asked: Vec<_> = late.iter().map(|pid| world.request(*pid, 0, &[])).collect();
    for _ in 0..200 {
        assert!(world.turn());
    }
    assert_eq!(world.executor.waiting_for_frames(), late.len());
    assert_eq!(world.queued(), busy.len(), "only those who run are queued");
    // Messages do not get it a frame sooner, and cost no look for one.
    let made = world
        .executor
        .metrics()
        .page_outs
        .load(std::sync::atomic::Ordering::Relaxed);
    world.send(late[3], 0, &[]);
    for _ in 0..20 {
        world.turn();
    }
    assert_eq!(world.queued(), busy.len());
    let now = world
        .executor
        .metrics()
        .page_outs
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(made, now);
    // One that is killed while it waits is gone, and the others are not forgotten.
    world.kill(late[0]);
    for _ in 0..20 {
        world.turn();
    }
    assert!(!world.system.is_alive(late[0]));
    assert_eq!(world.executor.waiting_for_frames(), late.len() - 1);
    world.kill(busy[0]);
    for _ in 0..2_000 {
        world.turn();
    }
    assert_eq!(world.executor.waiting_for_frames(), 0);
    assert!(
        asked[1..]
            .iter()
            .all(|asked| world.answer(*asked).number() == 5)
    );
    for pid in &busy[1..] {
        world.kill(*pid);
    }
    assert!(world.settle(ENOUGH));
}

/// Who was called and is killed before its turn leaves the frame to the next.
#[test]
fn a_frame_passes_to_the_next_waiter_if_the_first_is_killed() {
    let (world, busy) = busy_world();
    let late: Vec<_> = (0..3).map(|_| world.spawn("m")).collect();
    let asked: Vec<_> = late.iter().map(|pid| world.request(*pid, 0, &[])).collect();
    for _ in 0..100 {
        world.turn();
    }
    assert_eq!(world.executor.waiting_for_frames(), 3);
    for pid in &busy {
        world.kill(*pid);
    }
    // Those who gave theirs back have called all three, who have not had their turns.
    while world.system.is_alive(busy[6]) {
        world.turn();
    }
    world.kill(late[0]);
    world.kill(late[1]);
    assert!(world.settle(ENOUGH));
    assert_eq!(world.answer(asked[2]).number(), 5);
    assert_eq!(world.executor.waiting_for_frames(), 0);
}

/// Sets a timer, answers WAITING until it has come, then answers who had asked.
fn waiting(new: bool) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "send_after" (func $after (param i32 i32 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "self" (func $self (param i32) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  ;; At 8192 whether it waits, at 8200 and 8216 for whom.
  (data (i32.const 9000) "{version}\00\00\00\00\00\00\00")
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (i32.eqz (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))) (then
        (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
          (if (i32.eqz (i32.load (i32.const 4128)))
            (then (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 9000) (i32.const 8))))
            (else
              (memory.copy (i32.const 8200) (i32.const 4104) (i32.const 24))
              (i32.store (i32.const 8192) (i32.const 1))
              (drop (call $self (i32.const 8300)))
              (drop (call $after (i32.const 8300) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 50) (i32.const 0)))))))
        (if (i32.eq (i32.load (i32.const 4100)) (i32.const {timer})) (then
          (i32.store (i32.const 8192) (i32.const 0))
          (drop (call $reply (i32.const 8200) (i64.load (i32.const 8216)) (i32.const 0) (i32.const 9000) (i32.const 8)))))
        (br $next))))
    (i32.load (i32.const 8192)))
  (func (export "save") (result i32) (call $put (i32.const 8192) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 8192) (i32.const 8))) (i32.const 0)))"#,
        version = if new { "\\02" } else { "\\01" },
        timer = Kind::Timer as i32,
    )
}

/// What a continuation waits for comes by `receive` for any message, and a process
/// that waits uses nothing, though new code is due.
#[test]
fn a_continuation_gets_its_message_while_an_upgrade_is_pending() {
    let world = World::new(Setup::default());
    world.deploy("m", &waiting(false));
    let pid = world.spawn("m");
    let asked = world.request(pid, 1, &[]);
    assert!(world.settle(100));
    world.deploy("m", &waiting(true));
    // A message while it waits: it takes it, since it may be what it waits for.
    let between = world.request(pid, 0, &[]);
    assert!(world.settle(100), "it spins");
    assert_eq!(world.answer(between).number(), 1);
    let used = world.reductions(pid);
    assert!(world.settle(100));
    assert_eq!(world.reductions(pid), used);
    assert_eq!(world.answer(asked), Answer::Nothing);
    world.advance(50);
    assert!(world.settle(100));
    // Old code has ended what it had begun, and then it crosses.
    assert_eq!(world.answer(asked).number(), 1);
    assert_eq!(world.ask(pid, 0, &[]).number(), 2);
}

/// After the one message that its continuation may wait for, a process that is done
/// takes no further one: they are for new code.
#[test]
fn a_process_that_is_done_takes_no_further_message() {
    let world = World::new(Setup::default());
    world.deploy("m", &waiting(false));
    let pid = world.spawn("m");
    let asked = world.request(pid, 1, &[]);
    assert!(world.settle(100));
    world.deploy("m", &waiting(true));
    world.advance(50);
    let behind = world.request(pid, 0, &[]);
    assert!(world.settle(100));
    assert_eq!(world.answer(asked).number(), 1);
    assert_eq!(world.answer(behind).number(), 2, "old code took it");
}

/// A fault of the host while it looks at a process ends that process for everybody.
#[test]
fn a_panic_during_an_inspection_ends_the_process() {
    let world = World::new(Setup::default());
    world.deploy("m", &looping());
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 5);
    world.link(pid);
    assert!(world.settle(100));
    let seen: Option<()> = world
        .executor
        .examine(pid.slot(), |_| panic!("an inspection fails"));
    assert_eq!(seen, None);
    assert!(world.settle(100));
    assert!(!world.system.is_alive(pid));
    let told = world
        .heard(|m| m.kind == Kind::Exit && m.sender == pid)
        .unwrap();
    assert_eq!(told.reason, exuvia_abi::Reason::INTERNAL.0);
    let text = String::from_utf8_lossy(told.payload.as_slice()).into_owned();
    assert!(text.contains("an inspection fails"), "{text}");
    assert_eq!(
        world.executor.frames().live - world.executor.frames().free,
        0
    );
}

/// Takes nothing but requests of tag 5, to which it replies 7. If there is none, it computes for some
/// slices before it returns.
fn selective() -> &'static str {
    r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $compute (local $n i32)
    (local.set $n (i32.const 50000))
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n))))
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 1) (i64.const 5))
      (then (call $compute) (return (i32.const 0))))
    (i64.store (i32.const 16) (i64.const 7))
    (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 16) (i32.const 8)))
    (i32.const 0)))"#
}

/// A process has looked for a message in vain, and is preempted before it returns. What its next turn
/// takes over at its beginning notifies it no more, and it has not seen it when it returns.
#[test]
fn a_message_that_arrives_while_a_process_is_preempted_is_not_missed() {
    let world = World::new(Setup::default());
    world.deploy("m", selective());
    let pid = world.spawn("m");
    // It does not want its INIT.
    while world.reductions(pid) == 0 {
        assert!(world.turn());
    }
    assert!(world.has_work(), "it is preempted");
    let asked = world.request(pid, 5, &[]);
    assert!(world.settle(ENOUGH));
    assert_eq!(world.answer(asked).number(), 7);
    // Nor does it run on and on for what it has seen.
    world.send(pid, 1, &[]);
    assert!(world.settle(ENOUGH));
}

/// Computes for some slices before and after it asks for a message, and ends when it gets one.
fn slow() -> &'static str {
    r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $compute (local $n i32)
    (local.set $n (i32.const 50000))
    (loop $again
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n))))
  (func (export "run") (result i32)
    (local $got i32)
    (call $compute)
    (i32.store (i32.const 64) (i32.const 48))
    (local.set $got
      (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0)))
    (call $compute)
    (if (result i32) (local.get $got) (then (i32.const 0)) (else (i32.const 2))))
  %more)"#
}

/// It got no message because new code was to handle it, and then that code is not the current one any
/// more.
#[test]
fn a_message_that_was_withheld_for_an_upgrade_is_not_missed_when_the_upgrade_is_taken_back() {
    let world = World::new(Setup::default());
    let before = world.deploy("m", &slow().replace("%more", ""));
    let pid = world.spawn("m");
    let runs_until = |reductions| {
        while world.reductions(pid) < reductions {
            assert!(world.turn());
        }
    };
    runs_until(1);
    world.deploy("m", &slow().replace("%more", "(func)"));
    runs_until(60_000);
    world.commit(&before);
    assert!(world.settle(ENOUGH));
    assert!(!world.system.is_alive(pid), "it has got its INIT");
}
