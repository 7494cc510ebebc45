//! A reset that is taken back: the process has the state and the mailbox from before it. So it sees
//! the `INIT` of the reset only in the code that was reset for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_code::Version;
use exuvia_engine::{Artifact, Guest};
use exuvia_process::Pid;

use crate::world::{Answer, ENOUGH, Setup, World};

/// The tag at which a version that is asked to traps.
const TRAP: u32 = 9;

/// Adds the tags of requests to a sum, which `INIT` sets to 0, and counts its `INIT`s. It returns both.
/// `init` runs first on `INIT`, and `request` on a request. No two versions of it have an upgrade path.
fn summing(init: &str, request: &str) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 4096) "\30")
  (func $tag (result i32) (i32.load (i32.const 4128)))
  (func (export "run") (result i32)
    (loop $next
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 1)) (then
        {init}
        (i64.store (i32.const 8192) (i64.const 0))
        (i64.store (i32.const 8200) (i64.add (i64.load (i32.const 8200)) (i64.const 1)))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        {request}
        (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.extend_i32_u (call $tag))))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 8192) (i32.const 16)))))
      (br $next))
    unreachable))"#
    )
}

/// Traps when it starts.
fn traps_on_init() -> String {
    summing("unreachable", "")
}

/// Traps at a request with the tag [`TRAP`].
fn traps_on_request() -> String {
    let trap = format!("(if (i32.eq (call $tag) (i32.const {TRAP})) (then unreachable))");
    summing("", &trap)
}

/// Takes no message of its first entry.
const RESTS: &str = r#"(module
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32) (i32.const 0)))"#;

/// A process with a sum of 5, on a version that was deployed once.
struct Reset {
    world: World,
    pid: Pid,
    first: Arc<Version<Artifact>>,
}

impl Reset {
    fn new(first: &str) -> Reset {
        let world = World::new(Setup {
            probation: 3,
            ..Setup::default()
        });
        let first = world.deploy("m", first);
        let pid = world.spawn("m");
        let reset = Reset { world, pid, first };
        assert_eq!(reset.add(5), (5, 1));
        reset
    }

    /// Adds a number to the sum. Returns the sum, and how many `INIT`s belong to it.
    fn add(&self, number: u32) -> (u64, u64) {
        match self.world.ask(self.pid, number, &[]) {
            Answer::Reply(bytes) => {
                let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                (number(0), number(8))
            }
            other => panic!("no sum: {other:?}"),
        }
    }

    /// Has an operator suspend or resume it.
    fn suspend(&self, suspended: bool) {
        let examined = self.world.executor.examine(self.pid.slot(), |process| {
            process.suspended = suspended;
        });
        examined.expect("it is at rest");
        self.turns();
    }

    /// Gives it turns until it has nothing to do.
    fn turns(&self) {
        self.world.system.wake(self.pid);
        assert!(self.world.settle(ENOUGH));
    }

    /// Resets it for a version in which it does not run.
    fn reset_suspended(&self, version: &str) -> Arc<Version<Artifact>> {
        self.suspend(true);
        let version = self.world.deploy_fresh("m", version);
        self.turns();
        let not_started = self.examine(|guest| guest.is_not_started());
        assert!(not_started, "it is reset and has not run");
        version
    }

    fn examine<T>(&self, look: impl FnOnce(&mut Guest) -> T) -> T {
        let examined = self.world.executor.examine(self.pid.slot(), |process| {
            look(process.guest().expect("it is a guest"))
        });
        examined.expect("it is at rest")
    }

    /// How often it was reverted.
    fn reverted(&self) -> usize {
        self.world.seen.returned.lock().len()
    }
}

#[test]
fn a_reset_that_fails_leaves_state_and_mailbox_as_they_were() {
    let reset = Reset::new(&summing("", ""));
    reset.world.deploy_fresh("m", &traps_on_init());
    reset.turns();
    assert_eq!(reset.reverted(), 1);
    assert_eq!(reset.add(2), (7, 1), "old code has not started over");
    assert_eq!(reset.add(1), (8, 1));
}

#[test]
fn a_reset_that_fails_after_its_init_is_not_exact() {
    let reset = Reset::new(&summing("", ""));
    reset.world.deploy_fresh("m", &traps_on_request());
    assert_eq!(reset.add(2), (2, 1), "it has started over");
    // There is no path back for what it has done since.
    let Answer::Down(_, why) = reset.world.ask(reset.pid, TRAP, &[]) else {
        panic!("it has ended");
    };
    assert!(why.contains("cannot be rolled back"), "{why}");
}

#[test]
fn a_reset_is_undone_by_a_rollback_before_the_process_has_run() {
    let reset = Reset::new(&summing("", ""));
    reset.reset_suspended(&summing("", "nop"));
    reset.world.code.roll_back().unwrap();
    reset.turns();
    reset.suspend(false);
    let captured = reset.world.executor.capture(reset.pid);
    assert!(captured.is_ok(), "no probation is left: {captured:?}");
    assert_eq!(reset.add(2), (7, 1));
}

#[test]
fn a_reset_is_undone_by_a_deployment_before_the_process_has_run() {
    let reset = Reset::new(&summing("", ""));
    let new = reset.reset_suspended(&summing("", "nop"));
    for _ in 0..2 {
        reset.world.commit(&reset.first);
        reset.turns();
        assert!(!reset.examine(|guest| guest.is_not_started()));
        reset.world.commit(&new);
        reset.turns();
        assert!(reset.examine(|guest| guest.is_not_started()));
    }
    reset.suspend(false);
    assert_eq!(reset.add(2), (2, 1), "it has started over, once");
}

#[test]
fn a_process_can_be_reverted_to_a_version_in_which_it_has_not_run() {
    let reset = Reset::new(&traps_on_request());
    reset.reset_suspended(&summing("", ""));
    reset.world.commit(&reset.first);
    reset.suspend(false);
    // The old version is the new one now, and fails at this; the other one starts over.
    assert_eq!(reset.add(TRAP), (u64::from(TRAP), 1));
    assert_eq!(reset.reverted(), 1);
}

#[test]
fn a_reset_is_undone_if_the_process_has_run_without_a_message() {
    let reset = Reset::new(&summing("", ""));
    reset.world.deploy_fresh("m", RESTS);
    reset.turns();
    assert!(!reset.examine(|guest| guest.is_not_started()));
    reset.world.code.roll_back().unwrap();
    assert_eq!(reset.add(2), (7, 1));
}

#[test]
fn a_process_that_is_reset_twice_starts_once() {
    let reset = Reset::new(&summing("", ""));
    reset.world.deploy_fresh("m", RESTS);
    reset.turns();
    reset.world.deploy_fresh("m", &summing("", "nop"));
    assert_eq!(reset.add(2), (2, 1));
}

/// What has not run is not what a later release replaces: its failure leads back to the last state.
#[test]
fn a_reset_that_has_not_run_is_undone_if_the_next_release_fails() {
    let reset = Reset::new(&summing("", ""));
    reset.reset_suspended(&summing("", "nop"));
    reset.world.deploy("m", &traps_on_init());
    reset.turns();
    reset.suspend(false);
    assert_eq!(reset.reverted(), 1);
    assert_eq!(reset.add(2), (7, 1));
    let failures = &reset.world.code.current().progress.failures;
    assert_eq!(failures.load(Ordering::Relaxed), 1, "it is to blame");
    let stuck = reset.world.seen.stuck.lock();
    assert!(stuck.is_empty(), "{stuck:?}");
}
