//! Processes that block keep their frame, so they are limited; and what is
//! left is enough for everybody else.

use exuvia_abi::Code;

use crate::world::{Answer, Setup, World, answering};

/// Tag 0: the server's answer. 1: waits for a message with tag 77 for a
/// second, answers what `receive` did. 2: calls the process whose pid is the payload, for
/// ever, answers the first bytes of the reply or the code.
fn guest() -> String {
    answering(
        r#"(import "exuvia" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)))"#,
        r#"(if (i32.eqz (local.get $tag)) (then
             (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
             (return (i64.load (i32.const 8192)))))
           (i32.store (i32.const 5000) (i32.const 48))
           (if (result i64) (i32.eq (local.get $tag) (i32.const 1))
             (then (i64.extend_i32_s (call $receive (i32.const 5000) (i32.const 5100) (i32.const 64)
               (i64.const 1000) (i32.const 1) (i64.const 77))))
             (else
               (i64.store (i32.const 5100) (i64.extend_i32_s (call $call (i32.const 4224) (i32.const 0) (i32.const 0) (i32.const 0)
                 (i32.const 5000) (i32.const 5200) (i32.const 64) (i64.const -1))))
               (select (i64.load (i32.const 5200)) (i64.load (i32.const 5100)) (i64.eqz (i64.load (i32.const 5100))))))"#,
        "",
    )
}

const LIMIT: u64 = (Code::Limit as i64).cast_unsigned();
const TIMEOUT: u64 = (Code::Timeout as i64).cast_unsigned();

fn world() -> World {
    let world = World::new(Setup::default());
    world.deploy("m", &guest());
    world
}

#[test]
fn calls_beyond_the_limit_fail_and_the_others_continue() {
    let world = world();
    let server = world.spawn("m");
    assert_eq!(world.ask(server, 0, &[]).number(), 1);
    let waiting: Vec<_> = (0..50)
        .map(|_| world.request(world.spawn("m"), 1, &[]))
        .collect();
    assert!(world.settle(100_000));
    let answers: Vec<_> = waiting.iter().map(|r| world.answer(*r)).collect();
    let blocked = answers.iter().filter(|a| **a == Answer::Nothing).count();
    assert_eq!(world.executor.frames().blocked, blocked);
    assert!((4..8).contains(&blocked), "{blocked} of 8 frames block");
    for answer in answers.iter().filter(|a| **a != Answer::Nothing) {
        assert_eq!(answer.number(), LIMIT);
    }
    // The server was paged out meanwhile, and answers.
    for count in 2..5 {
        assert_eq!(world.ask(server, 0, &[]).number(), count);
    }
    // New ones are born and answer too.
    for _ in 0..20 {
        assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 1);
    }
    world.advance(1_000);
    assert!(world.settle(100_000));
    let timed_out = waiting
        .iter()
        .filter(|r| world.answer(**r).number() == TIMEOUT);
    assert_eq!(timed_out.count(), blocked);
    assert_eq!(world.executor.frames().blocked, 0);
}

#[test]
fn a_paged_out_server_replies_to_all_blocked_callers() {
    let world = world();
    let server = world.spawn("m");
    assert_eq!(world.ask(server, 0, &[]).number(), 1);
    // Enough others to page the server out.
    for _ in 0..20 {
        assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 1);
    }
    let callers: Vec<_> = (0..50)
        .map(|_| world.request(world.spawn("m"), 2, &server.to_bytes()))
        .collect();
    assert!(world.settle(100_000));
    let answers: Vec<_> = callers.iter().map(|r| world.answer(*r).number()).collect();
    let mut served: Vec<_> = answers.iter().filter(|a| **a != LIMIT).collect();
    served.sort_unstable();
    let expected: Vec<u64> = (2..2 + served.len() as u64).collect();
    assert!(served.iter().copied().eq(&expected), "{answers:?}");
    assert!(served.len() >= 4, "{answers:?}");
    assert_eq!(world.executor.frames().blocked, 0);
}

/// One after another, each caller may block again: no frame is leaked.
#[test]
fn a_permit_to_block_is_returned() {
    let world = world();
    for _ in 0..30 {
        let reference = world.request(world.spawn("m"), 1, &[]);
        assert!(world.settle(1000));
        assert_eq!(world.answer(reference), Answer::Nothing);
        world.advance(1_000);
        assert!(world.settle(1000));
        assert_eq!(world.answer(reference).number(), TIMEOUT);
    }
    assert_eq!(world.executor.frames().blocked, 0);
}
