//! `save` and `load` that misbehave: verification rejects them with the process
//! and the cause, and nothing has changed.

use std::time::Duration;

use crate::world::{Answer, COMMIT, Setup, World, answering};

const IMPORTS: &str = r#"
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))"#;

/// Answers the number at 8192; tag 1 adds 1 to it first.
fn version(save: &str, load: &str) -> String {
    answering(
        IMPORTS,
        r#"(if (local.get $tag) (then
             (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))))
           (i64.load (i32.const 8192))"#,
        &format!(
            r#"(func (export "save") (result i32) {save})
               (func (export "load") (param $schema i32) (param $length i32) (result i32) {load})
               (data (i32.const 5000) "no field count")"#
        ),
    )
}

const SAVE: &str = "(call $put (i32.const 8192) (i32.const 8))";
const LOAD: &str = "(drop (call $get (i32.const 8192) (i32.const 8))) (i32.const 0)";
const SEND: &str = "(call $send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";

/// Verifies and, if that works, commits. Answers what refused it.
fn deploy(world: &World, wat: &str) -> Result<(), String> {
    let version = world.load("m", &wat::parse_str(wat).unwrap()).unwrap();
    let verified = world.executor.verify(
        std::slice::from_ref(&version),
        Duration::from_secs(5),
        false,
    );
    match verified {
        Ok(verified) => {
            assert_eq!((verified.processes, verified.checked), (1, 1));
            world.commit(&version);
            Ok(())
        }
        Err(error) => {
            let held = world.code.find("m", version.digest).unwrap();
            assert!(world.code.discard(held));
            Err(error.to_string())
        }
    }
}

/// It will have to leave its frame, and that would be in its pause.
#[test]
fn verification_pages_out_processes_that_will_be_upgraded() {
    let world = World::new(Setup::default());
    world.deploy("m", &version(SAVE, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    let resident = || world.executor.frames().live - world.executor.frames().free;
    assert_eq!(resident(), 1);
    // Also if nothing comes of it, it has lost nothing but its frame.
    let refuses = version(SAVE, "(i32.const 3)");
    deploy(&world, &refuses).unwrap_err();
    assert_eq!(resident(), 0);
    assert_eq!(world.ask(pid, 1, &[]).number(), 2);
    deploy(&world, &version(SAVE, &format!("(nop) {LOAD}"))).unwrap();
    assert_eq!(resident(), 0);
    assert_eq!(world.ask(pid, 1, &[]).number(), 3);
}

/// An actor that adds `step` for each request, and has another version committed by a request with
/// tag 7.
fn commits(step: i32) -> String {
    let log = COMMIT.len();
    answering(
        IMPORTS,
        &format!(
            r#"(if (i32.eq (local.get $tag) (i32.const 7)) (then
                 (drop (call $log (i32.const 2) (i32.const 5000) (i32.const {log})))))
               (i64.store (i32.const 8192)
                 (i64.add (i64.load (i32.const 8192)) (i64.const {step})))
               (i64.load (i32.const 8192))"#
        ),
        &format!(
            r#"(data (i32.const 5000) "{COMMIT}")
               (func (export "save") (result i32) {SAVE})
               (func (export "load") (param i32 i32) (result i32) {LOAD})"#
        ),
    )
}

/// The turn has the lease of the frame from which the upgrade takes the state.
#[test]
fn a_process_is_upgraded_in_the_middle_of_a_turn_and_handles_the_rest_with_new_code() {
    let world = World::new(Setup::default());
    world.deploy("m", &commits(1));
    let new = world
        .load("m", &wat::parse_str(commits(10)).unwrap())
        .unwrap();
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    *world.seen.next.lock() = Some((world.code.clone(), new));
    let asked = [7, 1, 1].map(|tag| world.request(pid, tag, &[]));
    assert_eq!(world.queued(), 1);
    assert!(world.turn());
    let upgrades = world.executor.examine(pid.slot(), |process| {
        process.guest().map(|guest| guest.upgrades())
    });
    assert_eq!(upgrades, Some(Some(1)), "in this one turn");
    assert!(world.settle(100));
    let answers = asked.map(|reference| world.answer(reference).number());
    assert_eq!(answers, [2, 12, 22]);
}

/// Otherwise an operator's `--leave` or `suspend` would come too late by one upgrade.
#[test]
fn a_control_that_arrives_in_the_middle_of_a_turn_runs_before_an_upgrade() {
    let world = World::new(Setup::default());
    world.deploy("m", &commits(1));
    let new = wat::parse_str(commits(10)).unwrap();
    let new = world.load("m", &new).unwrap();
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    *world.seen.next.lock() = Some((world.code.clone(), new));
    *world.seen.pinned.lock() = Some((world.system.clone(), pid));
    let asked = [7, 1, 1].map(|tag| world.request(pid, tag, &[]));
    assert!(world.settle(100));
    let answers = asked.map(|reference| world.answer(reference).number());
    assert_eq!(answers, [2, 3, 4]);
}

/// What refuses the crossing of one process from one version to the other.
fn refusal(old: &str, new: &str) -> String {
    let world = World::new(Setup::default());
    world.deploy("m", old);
    let pid = world.spawn("m");
    world.system.register("it", pid).unwrap();
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    let error = deploy(&world, new).unwrap_err();
    assert!(
        error.contains(&pid.to_string()) && error.contains("(it)"),
        "{error}"
    );
    assert!(error.contains("m@1") && error.contains("m@2"), "{error}");
    // Nothing has changed, however often it is tried.
    assert_eq!(world.ask(pid, 1, &[]).number(), 2);
    assert_eq!(deploy(&world, new).unwrap_err(), error);
    assert_eq!(world.ask(pid, 1, &[]).number(), 3);
    assert_eq!(world.executor.frames().blocked, 0);
    error
}

#[test]
fn a_correct_pair_of_versions_upgrades() {
    let world = World::new(Setup::default());
    world.deploy("m", &version(SAVE, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    for round in 2..6 {
        deploy(&world, &version(SAVE, LOAD)).unwrap();
        assert_eq!(world.ask(pid, 1, &[]).number(), round);
    }
}

#[test]
fn a_misbehaving_save_is_rejected() {
    for (save, wanted) in [
        ("(loop $l (br $l)) unreachable", "reductions"),
        ("unreachable", "unreachable"),
        (SEND, "`send` is not available while `save` runs"),
        (
            "(drop (call $put (i32.const 0) (i32.const 8))) (i32.const 5)",
            "`save` returned 5",
        ),
        ("(i32.const 0)", "`state_put`"),
        // Told of the mistake, it answers what it was told.
        (
            "(drop (call $put (i32.const 8192) (i32.const 8))) (call $put (i32.const 0) (i32.const 8))",
            "`save` returned -8",
        ),
        (
            "(call $put (i32.const 8192) (i32.const -1))",
            "`save` returned -7",
        ),
        (
            "(call $put (i32.const -1) (i32.const 8))",
            "`save` returned -7",
        ),
        (
            "(call $get (i32.const 8192) (i32.const 8))",
            "`save` returned -8",
        ),
    ] {
        let error = refusal(&version(save, LOAD), &version(SAVE, LOAD));
        assert!(error.contains(wanted), "{save}: {error}");
    }
}

#[test]
fn a_misbehaving_load_is_rejected() {
    for (load, wanted) in [
        ("(loop $l (br $l)) unreachable", "reductions"),
        ("unreachable", "unreachable"),
        (SEND, "`send` is not available while `load` runs"),
        ("(i32.const 3)", "`load` returned 3"),
        (
            "(drop (call $log (i32.const 1) (i32.const 5000) (i32.const 14))) (i32.const 3)",
            "no field count",
        ),
        // Too small a buffer: nothing is written, and it passes the answer on.
        (
            "(call $get (i32.const 8192) (i32.const 7))",
            "`load` returned -3",
        ),
        (
            "(call $get (i32.const 131070) (i32.const 8))",
            "`load` returned -7",
        ),
        (
            "(call $get (i32.const -1) (i32.const 2147483647))",
            "`load` returned -7",
        ),
        // Lengths are unsigned.
        (
            "(call $get (i32.const 8192) (i32.const -1))",
            "`load` returned -7",
        ),
        (
            "(call $put (i32.const 8192) (i32.const 8))",
            "`load` returned -8",
        ),
    ] {
        let error = refusal(&version(SAVE, LOAD), &version(SAVE, load));
        assert!(error.contains(wanted), "{load}: {error}");
    }
}

#[test]
fn missing_exports_are_named() {
    let without = answering(
        IMPORTS,
        "(if (local.get $tag) (then (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1))))) (i64.load (i32.const 8192))",
        "",
    );
    let error = refusal(&without, &version(SAVE, LOAD));
    assert!(error.contains("m@1 exports no `save`"), "{error}");
    assert!(error.contains("layout fingerprint"), "{error}");
    let error = refusal(&version(SAVE, LOAD), &without);
    assert!(error.contains("m@2 exports no `load`"), "{error}");
}

/// A second `state_put` is refused, and the first one counts.
#[test]
fn only_the_first_saved_state_counts() {
    let world = World::new(Setup::default());
    let twice = "(drop (call $put (i32.const 8192) (i32.const 8))) (drop (call $put (i32.const 0) (i32.const 4))) (i32.const 0)";
    world.deploy("m", &version(twice, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    deploy(&world, &version(SAVE, LOAD)).unwrap();
    assert_eq!(world.ask(pid, 1, &[]).number(), 2);
}

#[test]
fn a_megabyte_of_state_is_migrated() {
    let world = World::new(Setup::default());
    let grow = "(drop (memory.grow (i32.const 18)))";
    let roomy = |wat: String| {
        wat.replace(
            r#"(memory (export "memory") 2 8)"#,
            r#"(memory (export "memory") 2 40)"#,
        )
    };
    let save = format!(
        "{grow} (memory.fill (i32.const 70000) (i32.const 7) (i32.const 1000000)) (i64.store (i32.const 70000) (i64.load (i32.const 8192))) (call $put (i32.const 70000) (i32.const 1000000))"
    );
    let load = format!(
        "{grow} (if (i32.ne (call $get (i32.const 70000) (i32.const 1000000)) (i32.const 1000000)) (then (return (i32.const 1))))
         (if (i64.ne (i64.load (i32.const 1069992)) (i64.const 0x0707070707070707)) (then (return (i32.const 2))))
         (i64.store (i32.const 8192) (i64.load (i32.const 70000))) (i32.const 0)"
    );
    world.deploy("m", &roomy(version(&save, &load)));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    for round in 2..5 {
        deploy(&world, &roomy(version(&save, &load))).unwrap();
        assert_eq!(world.ask(pid, 1, &[]).number(), round);
    }
}

/// Without verification: the process stays on its version, and the state and
/// the message with it.
#[test]
fn after_a_commit_a_process_that_cannot_be_upgraded_is_marked_failed_and_works() {
    let world = World::new(Setup::default());
    world.deploy("m", &version(SAVE, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1, &[]).number(), 1);
    world.deploy("m", &version(SAVE, "(i32.const 3)"));
    assert_eq!(world.ask(pid, 1, &[]).number(), 2);
    let stuck = world.seen.stuck.lock().clone();
    assert_eq!(stuck.len(), 1, "{stuck:?}");
    assert!(stuck[0].contains("`load` returned 3"), "{stuck:?}");
    // The next release lets it out.
    world.deploy("m", &version(SAVE, LOAD));
    assert_eq!(world.ask(pid, 1, &[]).number(), 3);
    assert_eq!(world.seen.stuck.lock().len(), 1);
}

/// The loop style: counts requests, and answers them from inside `run`.
fn looping(mode: i32, save: &str, load: &str) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  {IMPORTS}
  (memory (export "memory") 2 8)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32) (local $got i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (local.set $got (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const -1) (i32.const {mode}) (i64.const 0)))
      (if (i32.eq (local.get $got) (i32.const -4)) (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 8192) (i32.const 8)))))
      (br $next))
    unreachable)
  (func (export "save") (result i32) {save})
  (func (export "load") (param $schema i32) (param $length i32) (result i32) {load})
  (data (i32.const 5000) "no field count"))"#
    )
}

/// All its state is in memory: so it is verified, by its state of now, though
/// it is in the middle of `run`.
#[test]
fn a_loop_that_waits_with_the_flag_is_verified_while_it_waits() {
    let world = World::new(Setup::default());
    world.deploy("m", &looping(256, SAVE, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 1);
    assert!(world.settle(100));
    assert_eq!(world.executor.frames().blocked, 1);
    // Refused by what the state is: at first it is 1, later it is not.
    let picky = "(drop (call $get (i32.const 8192) (i32.const 8))) (i32.eq (i32.load (i32.const 8192)) (i32.const 1))";
    for _ in 0..2 {
        let error = deploy(&world, &looping(256, SAVE, picky)).unwrap_err();
        assert!(error.contains("`load` returned 1"), "{error}");
    }
    assert_eq!(world.ask(pid, 0, &[]).number(), 2);
    deploy(&world, &looping(256, SAVE, picky)).unwrap();
    // It was not disturbed, and crosses when it is woken.
    world.system.wake(pid);
    assert!(world.settle(100));
    assert_eq!(world.code.versions("m")[0].process_count(), 0);
    assert_eq!(world.ask(pid, 0, &[]).number(), 3);
    assert_eq!(world.seen.stuck.lock().len(), 0);
}

#[test]
fn a_loop_without_the_flag_counts_as_not_verified() {
    let world = World::new(Setup::default());
    world.deploy("m", &looping(0, SAVE, LOAD));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 1);
    assert!(world.settle(100));
    let next = looping(0, SAVE, "(i32.const 3)");
    let version = world.load("m", &wat::parse_str(next).unwrap()).unwrap();
    let verified = world
        .executor
        .verify(&[version], Duration::from_secs(5), false)
        .unwrap();
    assert_eq!((verified.processes, verified.checked), (1, 0));
    assert_eq!(verified.loops, [pid]);
    assert_eq!(world.ask(pid, 0, &[]).number(), 2);
}

/// Host calls that belong to crossings answer outside of them.
#[test]
fn state_calls_outside_an_upgrade_are_bad_arguments() {
    let world = World::new(Setup::default());
    let handle = r#"(i64.extend_i32_s (i32.add
        (call $put (i32.const 0) (i32.const 8)) (call $get (i32.const 0) (i32.const 8))))"#;
    world.deploy("m", &answering(IMPORTS, handle, ""));
    let pid = world.spawn("m");
    let Answer::Reply(bytes) = world.ask(pid, 0, &[]) else {
        panic!("it ended");
    };
    assert_eq!(bytes, (-16i64).to_le_bytes());
}
