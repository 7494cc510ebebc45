//! What guests send past the limits of a mailbox, and what large copies cost:
//! neither the host's memory nor the others' time is theirs to fill.

use exuvia_abi::Code;
use exuvia_process::Pid;

use crate::world::{Answer, ENOUGH, Setup, World, answering};

const CALLS: &str = r#"
  (import "exuvia" "link" (func $link (param i32) (result i32)))
  (import "exuvia" "unlink" (func $unlink (param i32) (result i32)))
  (import "exuvia" "monitor" (func $monitor (param i32 i32) (result i32)))
  (import "exuvia" "demonitor" (func $demonitor (param i64 i32) (result i32)))
  (import "exuvia" "exit_process" (func $exit_process (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "trap_exit" (func $trap_exit (param i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "send_after" (func $send_after (param i32 i32 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "exuvia" "random" (func $random (param i32 i32) (result i32)))"#;

const LINKS: &str = "(i32.or (call $link (i32.const 4224)) (call $unlink (i32.const 4224)))";

/// Does `what` to the process whose pid is the payload, as often as the tag
/// says, until it answers something else than 0. Answers how often it did.
fn attacker(what: &str) -> String {
    let body = format!(
        "(local $n i32)
         (loop $again
           (if (i32.lt_u (local.get $n) (local.get $tag)) (then
             (if (i32.eqz {what}) (then
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br $again))))))
         (i64.extend_i32_u (local.get $n))"
    );
    answering(CALLS, &body, "")
}

/// Takes nothing but requests of tag 5, before which it traps exits, and
/// answers 7.
fn deaf() -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  {CALLS}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 1) (i64.const 5))
      (then (return (i32.const 0))))
    (drop (call $trap_exit (i32.const 1)))
    (i64.store (i32.const 16) (i64.const 7))
    (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 16) (i32.const 8)))
    (i32.const 0)))"#
    )
}

/// A world with an attacker and a process that takes no messages.
fn world(what: &str) -> (World, Pid, Pid) {
    let world = World::new(Setup::default());
    world.deploy("attacker", &attacker(what));
    world.deploy("deaf", &deaf());
    let (attacker, deaf) = (world.spawn("attacker"), world.spawn("deaf"));
    assert_eq!(world.ask(deaf, 5, &[]).number(), 7);
    assert_eq!(world.ask(attacker, 0, &deaf.to_bytes()).number(), 0);
    assert!(world.settle(ENOUGH));
    (world, attacker, deaf)
}

/// Signals that no limit counts and that are gone when their receiver has seen
/// them: while it does not run they must not pile up, and their sender waits.
#[test]
fn signals_to_a_process_that_does_not_run_do_not_pile_up() {
    let large = "(call $reply (i32.const 4224) (i64.const 77) (i32.const 0) (i32.const 0) (i32.const 131072))";
    for (name, what, most) in [
        ("links", LINKS, 10_002),
        (
            "monitors",
            "(i32.or (call $monitor (i32.const 4224) (i32.const 5000)) (call $demonitor (i64.load (i32.const 5000)) (i32.const 0)))",
            10_002,
        ),
        (
            "unrequested replies",
            "(call $reply (i32.const 4224) (i64.const 77) (i32.const 0) (i32.const 0) (i32.const 8))",
            10_002,
        ),
        ("large replies", large, 100),
        (
            "exit signals",
            "(call $exit_process (i32.const 4224) (i32.const 0) (i32.const 0) (i32.const 8))",
            10_002,
        ),
    ] {
        let (world, attacker, deaf) = world(what);
        let slot = world.system.table.slot(deaf.slot()).unwrap();
        assert!(slot.state.claim(), "it rests");
        let times = 2 * u32::try_from(most).unwrap();
        let asked = world.request(attacker, times, &deaf.to_bytes());
        // It waits, and is in no queue meanwhile.
        assert!(world.settle(500), "{name}: the attacker goes on trying");
        assert_eq!(world.answer(asked), Answer::Nothing, "{name}");
        let waiting = slot.mailbox.len();
        assert!((most / 2..=most).contains(&waiting), "{name}: {waiting}");
        // Others have their turns meanwhile.
        let other = world.spawn("attacker");
        assert_eq!(world.ask(other, 3, &other.to_bytes()).number(), 3, "{name}");
        world
            .system
            .apply(deaf.slot(), slot.state.transition_to_idle());
        assert!(world.settle(ENOUGH), "{name}");
        assert_eq!(world.answer(asked).number(), u64::from(times), "{name}");
        assert_eq!(world.ask(deaf, 5, &[]).number(), 7, "{name}");
    }
}

/// One that comes to no check of its slice, since it returns at once, waits too.
#[test]
fn a_sender_that_returns_after_each_signal_waits_as_well() {
    let (world, _, deaf) = world(LINKS);
    let once = attacker(LINKS).replace("(br $next)", "(return (i32.const 0))");
    world.deploy("once", &once);
    let once = world.spawn("once");
    let slot = world.system.table.slot(deaf.slot()).unwrap();
    assert!(slot.state.claim(), "it rests");
    let asked: Vec<_> = (0..8_000)
        .map(|_| world.request(once, 1, &deaf.to_bytes()))
        .collect();
    assert!(world.settle(20_000), "it goes on trying");
    assert!(
        asked
            .iter()
            .any(|asked| world.answer(*asked) == Answer::Nothing)
    );
    assert!(slot.mailbox.len() <= 10_002, "{}", slot.mailbox.len());
    world
        .system
        .apply(deaf.slot(), slot.state.transition_to_idle());
    assert!(world.settle(ENOUGH));
    assert!(asked.iter().all(|asked| world.answer(*asked).number() == 1));
}

#[test]
fn a_sender_in_backpressure_can_be_killed() {
    let (world, linker, deaf) = world(LINKS);
    let slot = world.system.table.slot(deaf.slot()).unwrap();
    assert!(slot.state.claim(), "it rests");
    world.request(linker, u32::MAX, &deaf.to_bytes());
    assert!(world.settle(500), "it goes on trying");
    assert!(world.system.is_alive(linker));
    world.kill(linker);
    assert!(world.settle(ENOUGH));
    assert!(!world.system.is_alive(linker));
    world
        .system
        .apply(deaf.slot(), slot.state.transition_to_idle());
    assert!(world.settle(ENOUGH));
    assert!(world.system.is_alive(deaf));
}

/// What stays in a mailbox counts for its sender until it is taken.
#[test]
fn signals_that_are_never_taken_are_rejected_eventually() {
    for (name, what) in [
        (
            "timers",
            "(call $send_after (i32.const 4224) (i32.const 1) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 0))",
        ),
        (
            "exit signals",
            "(call $exit_process (i32.const 4224) (i32.const 256) (i32.const 0) (i32.const 8))",
        ),
    ] {
        let (world, attacker, deaf) = world(what);
        let asked = world.request(attacker, 150_000, &deaf.to_bytes());
        while world.turn() {
            world.advance(0);
        }
        assert_eq!(world.answer(asked).number(), 100_000, "{name}");
        // Its own, and only its own, are refused from now on.
        assert_eq!(
            world.ask(attacker, 1, &deaf.to_bytes()).number(),
            0,
            "{name}"
        );
        let other = world.spawn("attacker");
        assert_eq!(world.ask(other, 5, &deaf.to_bytes()).number(), 5, "{name}");
        // When they are gone it may again.
        world.kill(deaf);
        world.advance(0);
        assert!(world.settle(ENOUGH));
        assert_eq!(
            world.ask(attacker, 3, &deaf.to_bytes()).number(),
            3,
            "{name}"
        );
    }
}

/// Else processes that link themselves to another, and end, fill its mailbox.
#[test]
fn a_process_that_takes_no_exit_messages_loses_its_links() {
    let exits = "(call $exit_process (i32.const 4224) (i32.const 256) (i32.const 0) (i32.const 8))";
    let (world, attacker, deaf) = world(exits);
    assert_eq!(
        world.ask(attacker, 99_998, &deaf.to_bytes()).number(),
        99_998
    );
    world.deploy(
        "linker",
        &answering(
            CALLS,
            "(i64.extend_i32_s (call $link (i32.const 4224)))",
            "",
        ),
    );
    let linker = world.spawn("linker");
    assert!(world.settle(ENOUGH));
    assert_eq!(world.ask(linker, 0, &deaf.to_bytes()).number(), 0);
    assert_eq!(world.ask(attacker, 1, &deaf.to_bytes()).number(), 1);
    assert!(world.settle(ENOUGH));
    let late = world.spawn("linker");
    let limit = i64::from(Code::Limit as i32).cast_unsigned();
    assert_eq!(world.ask(late, 0, &deaf.to_bytes()).number(), limit);
    // A link to itself is none.
    assert_eq!(world.ask(late, 0, &late.to_bytes()).number(), 0);
}

/// What it costs to do something once; of the sender and of the receiver.
fn cost(what: &str) -> (u64, u64) {
    let world = World::new(Setup::default());
    world.deploy("attacker", &attacker(what));
    let taker = answering("", "(i64.const 1)", "").replace(
        "(i32.const 4224) (i32.const 256)",
        "(i32.const 4224) (i32.const 120000)",
    );
    world.deploy("taker", &taker);
    let (from, to) = (world.spawn("attacker"), world.spawn("taker"));
    assert_eq!(world.ask(from, 0, &to.to_bytes()).number(), 0);
    assert!(world.settle(ENOUGH));
    let before = (world.reductions(from), world.reductions(to));
    assert_eq!(world.ask(from, 1, &to.to_bytes()).number(), 1, "{what}");
    assert!(world.settle(ENOUGH));
    (
        world.reductions(from) - before.0,
        world.reductions(to) - before.1,
    )
}

#[test]
fn large_copies_are_charged_by_their_size() {
    let send = |size| {
        format!("(call $send (i32.const 4224) (i32.const 0) (i32.const 0) (i32.const {size}))")
    };
    let small = cost(&send(16));
    assert!(small.0 < 20 && small.1 < 20, "{small:?}");
    // Small messages cost what they did, to the last reduction.
    assert_eq!(cost(&send(4_095)), small);
    let large = cost(&send(102_400));
    assert_eq!((large.0 - small.0, large.1 - small.1), (100, 100));
    let random = |size| format!("(call $random (i32.const 65536) (i32.const {size}))");
    assert_eq!(cost(&random(65_536)).0 - cost(&random(16)).0, 64);
    let log = |size| format!("(call $log (i32.const 3) (i32.const 65536) (i32.const {size}))");
    assert_eq!(cost(&log(8_192)).0 - cost(&log(16)).0, 8);
    // What is cut off is not copied.
    assert_eq!(cost(&log(60_000)).0, cost(&log(8_192)).0);
}

/// A guest that copies all the time leaves the others their turns.
#[test]
fn one_large_copy_ends_the_slice() {
    let send = "(call $random (i32.const 65536) (i32.const 65536))";
    let world = World::new(Setup::default());
    world.deploy("attacker", &attacker(send));
    let pid = world.spawn("attacker");
    assert_eq!(world.ask(pid, 0, &[]).number(), 0);
    assert!(world.settle(ENOUGH));
    let asked = world.request(pid, 1_000, &[]);
    let turns = (0..).take_while(|_| world.turn()).count();
    assert_eq!(world.answer(asked).number(), 1_000);
    // 64 reductions each, of 4,000 in a turn.
    assert!((16..20).contains(&turns), "{turns}");
}

/// Nor does it help to return after each message: all entries of a turn have
/// one slice.
#[test]
fn returning_after_each_message_gives_no_longer_turn() {
    let world = World::new(Setup::default());
    let copy = "(drop (call $random (i32.const 65536) (i32.const 65536)))".repeat(40);
    let once = answering(CALLS, &format!("{copy} (i64.const 1)"), "")
        .replace("(br $next)", "(return (i32.const 0))");
    world.deploy("once", &once);
    let pid = world.spawn("once");
    assert_eq!(world.ask(pid, 0, &[]).number(), 1);
    assert!(world.settle(ENOUGH));
    let asked: Vec<_> = (0..32).map(|_| world.request(pid, 0, &[])).collect();
    let turns = (0..).take_while(|_| world.turn()).count();
    assert!(asked.iter().all(|asked| world.answer(*asked).number() == 1));
    // 2,560 reductions each, of 4,000 in a turn, and turns of the client.
    assert!((16..50).contains(&turns), "{turns}");
}

/// Tags 1 to 3 receive what has tag 77, or 78 which nothing has: 1 without waiting,
/// 2 and 3 for 10 ms; 4 waits for ever. The answer is what `receive` answered.
fn selective() -> String {
    answering(
        "",
        r#"(i32.store (i32.const 6000) (i32.const 48))
           (if (i32.eqz (local.get $tag)) (then (return (i64.const 0))))
           (i64.extend_i32_s (call $receive (i32.const 6000) (i32.const 6100) (i32.const 64)
             (select (i64.const 0) (select (i64.const -1) (i64.const 10) (i32.eq (local.get $tag) (i32.const 4)))
               (i32.eq (local.get $tag) (i32.const 1)))
             (i32.const 1)
             (select (i64.const 77) (i64.const 78) (i32.lt_u (local.get $tag) (i32.const 3)))))"#,
        "",
    )
}

/// More than is sorted in one turn.
const FLOOD: u32 = 3_000;

/// Asks, and then sends a flood with what is asked for behind it.
fn asked_in_a_flood(world: &World, tag: u32) -> (Pid, u64) {
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 0);
    let reference = world.request(pid, tag, &[]);
    for _ in 0..FLOOD {
        world.send(pid, 5, &[]);
    }
    world.send(pid, 77, &[]);
    (pid, reference)
}

#[test]
fn a_receive_without_waiting_finds_a_message_behind_a_flood() {
    let world = World::new(Setup::default());
    world.deploy("m", &selective());
    let (pid, reference) = asked_in_a_flood(&world, 1);
    // Not in one turn.
    assert!(world.turn());
    assert_eq!(world.answer(reference), Answer::Nothing);
    assert!(world.settle(1_000));
    assert_eq!(world.answer(reference).number(), 0);
    // What is not there is not waited for.
    let empty = i64::from(Code::Empty as i32).cast_unsigned();
    assert_eq!(world.ask(pid, 1, &[]).number(), empty);
}

#[test]
fn a_receive_past_its_timeout_finds_a_message_behind_a_flood() {
    let world = World::new(Setup::default());
    world.deploy("m", &selective());
    let (_, found) = asked_in_a_flood(&world, 2);
    let (_, missed) = asked_in_a_flood(&world, 3);
    assert!(world.turn() && world.turn());
    world.advance(20);
    assert!(world.settle(1_000));
    assert_eq!(world.answer(found).number(), 0);
    let timeout = i64::from(Code::Timeout as i32).cast_unsigned();
    assert_eq!(world.answer(missed).number(), timeout);
}

/// Whoever sends all the time does not keep a wait from its end.
#[test]
fn a_wait_ends_in_a_flood_that_never_does() {
    let world = World::new(Setup::default());
    world.deploy("m", &selective());
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 0);
    let asked = [(1, Code::Empty), (3, Code::Timeout)];
    for (tag, code) in asked {
        let other = world.spawn("m");
        assert_eq!(world.ask(other, 0, &[]).number(), 0);
        // What has tag 77 is not among it.
        let reference = world.request(other, tag, &[]);
        for _ in 0..50 {
            for _ in 0..700 {
                world.send(other, 5, &[]);
            }
            world.advance(1);
            assert!(world.turn());
        }
        assert!(world.settle(10_000));
        let code = i64::from(code as i32).cast_unsigned();
        assert_eq!(world.answer(reference).number(), code);
    }
}

/// An end that many wait for takes several turns, and everybody hears of it once.
#[test]
fn an_exit_is_notified_to_very_many_monitors() {
    const MANY: usize = 1_800;
    let world = World::new(Setup::default());
    world.deploy("m", &selective());
    let pid = world.spawn("m");
    let waiting: Vec<u64> = (0..MANY).map(|_| world.request(pid, 4, &[])).collect();
    assert!(world.settle(1_000));
    world.kill(pid);
    let mut turns = 0;
    while world.turn() {
        turns += 1;
        assert!(turns == 0 || !world.system.is_alive(pid));
    }
    // Those of the dead alone, beside those of who is told.
    assert!(turns > MANY / 500, "{turns} turns");
    for reference in waiting {
        assert!(matches!(world.answer(reference), Answer::Down(..)));
    }
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 0);
}
