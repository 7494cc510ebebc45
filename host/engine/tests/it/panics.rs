//! A fault of the host while it serves a process ends that process and
//! nothing else.

use exuvia_abi::Reason;
use exuvia_process::Kind;

use crate::world::{Answer, PANIC, PANIC_AT_THE_END, Setup, World, answering};

fn guest() -> String {
    answering(
        r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
           (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#,
        &format!(
            r#"(if (i32.eq (local.get $tag) (i32.const 2)) (then (drop (call $sleep (i64.const 5)))))
               (if (local.get $tag) (then
                 (drop (call $log (i32.const 3) (i32.const 5000) (i32.const {})))))
               (i64.const 11)"#,
            PANIC.len()
        ),
        &format!(r#"(data (i32.const 5000) "{PANIC}")"#),
    )
}

#[test]
fn a_panic_in_a_host_call_ends_one_process() {
    let world = World::new(Setup::default());
    world.deploy("m", &guest());
    let (victim, other) = (world.spawn("m"), world.spawn("m"));
    assert_eq!(world.ask(victim, 0, &[]).number(), 11);
    world.link(victim);
    let Answer::Down(code, text) = world.ask(victim, 1, &[]) else {
        panic!("it went on");
    };
    assert_eq!(code, Reason::INTERNAL.0);
    assert!(text.contains("the observer panics"), "{text}");
    assert!(world.settle(100));
    let told = world.heard(|m| m.kind == Kind::Exit && m.sender == victim);
    assert_eq!(told.unwrap().reason, Reason::INTERNAL.0);
    assert!(!world.system.is_alive(victim));
    assert_eq!(world.ask(other, 0, &[]).number(), 11);
    let counts = world.executor.frames();
    assert!(counts.live <= 2 && counts.blocked == 0);
}

/// The same on a fiber that was suspended before, and more often than there
/// are frames: none is lost.
#[test]
fn panics_after_a_wait_lose_no_frames() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    world.deploy("m", &guest());
    for _ in 0..30 {
        let victim = world.spawn("m");
        let reference = world.request(victim, 2, &[]);
        assert!(world.settle(1000));
        world.advance(10);
        assert!(world.settle(1000));
        let Answer::Down(code, _) = world.answer(reference) else {
            panic!("it went on");
        };
        assert_eq!(code, Reason::INTERNAL.0);
        let counts = world.executor.frames();
        assert_eq!((counts.live, counts.blocked), (0, 0));
    }
    let other = world.spawn("m");
    assert_eq!(world.ask(other, 0, &[]).number(), 11);
}

/// The process has ended for everybody when it ends, whatever whoever is told
/// of it does.
#[test]
fn a_panic_during_termination_leaves_nothing_behind() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    let wat = answering(
        r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))"#,
        &format!(
            r#"(if (local.get $tag) (then
                 (drop (call $log (i32.const 1) (i32.const 5000) (i32.const {})))
                 unreachable))
               (i64.const 11)"#,
            PANIC_AT_THE_END.len()
        ),
        &format!(r#"(data (i32.const 5000) "{PANIC_AT_THE_END}")"#),
    );
    world.deploy("m", &wat);
    for _ in 0..20 {
        let victim = world.spawn("m");
        world.link(victim);
        let Answer::Down(code, text) = world.ask(victim, 1, &[]) else {
            panic!("it went on");
        };
        assert_eq!(code, Reason::TRAP.0);
        assert!(text.contains(PANIC_AT_THE_END), "{text}");
        assert!(world.settle(100));
        let told = world.heard(|m| m.kind == Kind::Exit && m.sender == victim);
        assert_eq!(told.unwrap().reason, Reason::TRAP.0);
        assert!(!world.system.is_alive(victim));
        assert_eq!(world.executor.frames().blocked, 0);
    }
    // The client is the other process that is left.
    assert_eq!(world.system.table.alive(), 1);
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 11);
}
