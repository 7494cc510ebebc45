//! What one process may hold: links, monitors with open requests, names and
//! timers. Beyond a limit the call returns LIMIT and has no effect.

use exuvia_abi::{Code, HOST_CALLS, Reason, WasmType, limits, spawn};
use exuvia_process::{Kind, Limits, Pid};

use crate::world::{Answer, Setup, World};

/// Makes calls as often as it is told. The payload of a request is a number
/// (at 4224) and a pid (at 4232); its tag is the command. Exits are trapped.
/// What is made last is known at 5100; the reason of the last DOWN is at 6000.
fn guest() -> String {
    let mut imports = String::new();
    for call in HOST_CALLS {
        let ty = |ty: &WasmType| match ty {
            WasmType::I32 => " i32",
            WasmType::I64 => " i64",
        };
        let params: String = call.params.iter().map(ty).collect();
        let result = call
            .result
            .as_ref()
            .map_or(String::new(), |it| format!("(result{})", ty(it)));
        imports += &format!(
            "(import \"exuvia\" \"{0}\" (func ${0} (param{params}) {result}))\n",
            call.name
        );
    }
    // Again and again until it does not answer 0: how often, and the answer.
    let again = |before: &str, call: &str| {
        format!(
            r#"(block $full (loop $l
                 (br_if $full (i64.ge_u (local.get $made) (i64.load (i32.const 4224))))
                 {before}
                 (local.set $answer {call})
                 (br_if $full (local.get $answer))
                 (local.set $made (i64.add (local.get $made) (i64.const 1)))
                 (br $l)))
               (return (i64.or (i64.shl (local.get $made) (i64.const 8))
                 (i64.extend_i32_u (i32.sub (i32.const 0) (local.get $answer)))))"#
        )
    };
    let digit = |at: u32, over: u32| {
        format!(
            "(i32.store8 (i32.const {}) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (i32.wrap_i64 (local.get $made)) (i32.const {over})) (i32.const 10))))",
            5000 + at
        )
    };
    let digits: String = [(0, 1), (1, 10), (2, 100), (3, 1_000)]
        .map(|(at, over)| digit(at, over))
        .concat();
    let also = |call: &str| {
        format!(
            "(local.set $all (i64.or (i64.shl (local.get $all) (i64.const 8)) (i64.extend_i32_u (i32.sub (i32.const 0) {call}))))"
        )
    };
    let commands: String = [
        (MONITORS, again("", "(call $monitor (i32.const 4232) (i32.const 5100))")),
        // Pids of this slot that nobody has: the generation goes up.
        (
            LINKS,
            again(
                "(i64.store (i32.const 4240) (i64.add (i64.load (i32.const 4240)) (i64.const 0x100000000)))",
                "(call $link (i32.const 4232))",
            ),
        ),
        (
            TIMERS,
            again(
                "",
                "(call $send_after (i32.const 4232) (i32.const 0) (i32.const 4224) (i32.const 8) (i64.const 1000) (i32.const 5100))",
            ),
        ),
        (
            NAMES,
            again(&digits, "(call $register (i32.const 5000) (i32.const 4) (i32.const 4232))"),
        ),
        (
            ASK,
            [
                also("(call $request (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5200))"),
                also("(call $call (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 6100) (i32.const 0) (i32.const 0) (i64.const 1000))"),
                also("(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 6200) (i32.const 5300) (i32.const 5200))"),
                "(return (local.get $all))".into(),
            ]
            .concat(),
        ),
        (
            TIE,
            [
                also("(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 6200) (i32.const 5300) (i32.const 5200))"),
                also("(call $link (i32.const 4232))"),
                "(return (local.get $all))".into(),
            ]
            .concat(),
        ),
        (
            DEMONITOR,
            "(return (i64.extend_i32_s (call $demonitor (i64.load (i32.const 5100)) (i32.const 0))))".into(),
        ),
        (
            CANCEL,
            "(return (call $cancel_timer (i64.load (i32.const 5100))))".into(),
        ),
        (
            UNREGISTER,
            "(return (i64.extend_i32_s (call $unregister (i32.const 5000) (i32.const 4))))".into(),
        ),
        (
            SEND_TWICE,
            [
                also("(call $send (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0))"),
                also("(call $send (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0))"),
                "(return (local.get $all))".into(),
            ]
            .concat(),
        ),
        (
            REQUEST_TWICE,
            [
                also("(call $request (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5200))"),
                also("(call $request (i32.const 4232) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5200))"),
                "(return (local.get $all))".into(),
            ]
            .concat(),
        ),
        (
            REASON,
            "(return (i64.load32_u (i32.const 6000)))".into(),
        ),
        (
            WRITE,
            "(drop (call $self (i32.const 5300)))
             (drop (call $send (i32.const 5300) (i32.const 0) (i32.const 0) (i32.const 0)))
             (drop (call $send (i32.const 5300) (i32.const 0) (i32.const 0) (i32.const 0)))
             (return (call $info (i32.const 1)))".into(),
        ),
    ]
    .into_iter()
    .map(|(tag, what)| {
        format!("(if (i32.eq (local.get $tag) (i32.const {tag})) (then {what}))\n")
    })
    .collect();
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $do (param $tag i32) (result i64)
    (local $made i64) (local $all i64) (local $answer i32)
    (i32.store (i32.const 6100) (i32.const 48))
    (i32.store (i32.const 6200) (i32.const 40))
    (i32.store (i32.const 6204) (i32.wrap_i64 (i64.load (i32.const 4224))))
    {commands}
    unreachable)
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 1))
        (then (drop (call $trap_exit (i32.const 1)))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 6))
        (then (i32.store (i32.const 6000) (i32.load (i32.const 4136)))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        (i64.store (i32.const 4160) (call $do (i32.load (i32.const 4128))))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 4160) (i32.const 8)))))
      (br $next))
    unreachable)
  (func (export "save") (result i32) (call $state_put (i32.const 5100) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 5100) (i32.const 8))) (i32.const 0)))"#
    )
}

/// More than any limit, and few enough that a test without one ends.
const TOO_MANY: u64 = 300_000;

const MONITORS: u32 = 1;
const LINKS: u32 = 2;
const TIMERS: u32 = 3;
const NAMES: u32 = 4;
const ASK: u32 = 5;
const TIE: u32 = 6;
const DEMONITOR: u32 = 7;
const CANCEL: u32 = 8;
const UNREGISTER: u32 = 9;
const REQUEST_TWICE: u32 = 10;
const REASON: u32 = 11;
const WRITE: u32 = 12;
const SEND_TWICE: u32 = 13;

fn world(probation: u32) -> World {
    let world = World::new(Setup {
        probation,
        ..Setup::default()
    });
    world.deploy("holder", &guest());
    world
}

fn tell(world: &World, pid: Pid, tag: u32, number: u64, to: Pid) -> u64 {
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend(to.to_bytes());
    world.ask(pid, tag, &payload).number()
}

/// How often a call answered 0, and what it answered then.
fn made(answer: u64) -> (u64, u64) {
    (answer >> 8, answer & 0xff)
}

fn limit() -> u64 {
    u64::from((Code::Limit as i32).unsigned_abs())
}

#[test]
fn monitors_and_open_requests_of_a_process_are_limited() {
    let world = world(0);
    let (holder, to) = (world.spawn("holder"), world.spawn("holder"));
    let most = u64::from(limits::MONITORS);
    let fill = |count| made(tell(&world, holder, MONITORS, count, to));
    assert_eq!(fill(TOO_MANY), (most, limit()));
    // Whatever needs one answers LIMIT, and has done nothing.
    let alive = world.system.table.alive();
    let all = limit() << 16 | limit() << 8 | limit();
    let monitor = u64::from(spawn::MONITOR);
    assert_eq!(tell(&world, holder, ASK, monitor, world.client()), all);
    assert_eq!(world.system.table.alive(), alive);
    assert!(world.heard(|heard| heard.kind == Kind::Request).is_none());
    // Freed, by the process and by the other's end.
    assert_eq!(tell(&world, holder, DEMONITOR, 0, to), 0);
    assert_eq!(fill(2), (1, limit()));
    world.kill(to);
    let to = world.spawn("holder");
    let fill = |count| made(tell(&world, holder, MONITORS, count, to));
    assert!(world.settle(100_000));
    assert_eq!(fill(most), (most, 0));
    assert_eq!(fill(1), (0, limit()));
}

/// The answers of the dead come at once. They count until they are taken, or
/// a process could fill its own mailbox past all limits.
#[test]
fn unread_replies_count() {
    let world = world(0);
    let (holder, dead) = (world.spawn("holder"), world.spawn("holder"));
    world.kill(dead);
    assert!(world.settle(100));
    let most = u64::from(limits::MONITORS);
    for _ in 0..2 {
        let got = made(tell(&world, holder, MONITORS, TOO_MANY, dead));
        assert_eq!(got, (most, limit()));
    }
}

#[test]
fn links_of_a_process_are_limited() {
    let world = world(0);
    let (holder, other) = (world.spawn("holder"), world.spawn("holder"));
    let most = u64::from(limits::LINKS);
    let slot = Pid::new(world.system.node(), world.client().slot(), 0);
    assert_eq!(
        made(tell(&world, holder, LINKS, TOO_MANY, slot)),
        (most, limit())
    );
    // The dead have answered, and it has taken their answers since.
    let linked = u64::from(spawn::LINK);
    assert_eq!(made(tell(&world, holder, TIE, linked, other)), (0, 0));
    // Two stand.
    let got = made(tell(&world, holder, LINKS, TOO_MANY, slot));
    assert_eq!(got, (most - 2, limit()));
}

/// At the limit neither a child nor a link comes to be. Links that others make
/// are not refused.
#[test]
fn beyond_the_limit_on_links_nothing_is_linked() {
    let world = world(0);
    let (holder, other) = (world.spawn("holder"), world.spawn("holder"));
    for n in 0..limits::LINKS {
        let link = exuvia_process::Signal::Link {
            from: Pid::new(7, 9_000, n.into()),
        };
        assert!(world.system.signal(holder, link).is_ok());
    }
    let alive = world.system.table.alive();
    let linked = u64::from(spawn::LINK);
    let both = limit() << 8 | limit();
    assert_eq!(tell(&world, holder, TIE, linked, other), both);
    assert_eq!(world.system.table.alive(), alive);
    // Without the link the child is born.
    let none = limit();
    assert_eq!(tell(&world, holder, TIE, 0, other), none);
    assert_eq!(world.system.table.alive(), alive + 1);
    // A link to oneself takes no place, and another's is not refused.
    assert_eq!(tell(&world, holder, TIE, 0, holder), 0);
    assert_eq!(tell(&world, other, TIE, 0, holder), 0);
    world.kill(other);
    assert!(world.settle(1_000));
    assert!(world.system.is_alive(holder), "it traps exits");
}

#[test]
fn timers_of_a_process_are_limited() {
    let world = world(0);
    let (holder, to) = (world.spawn("holder"), world.spawn("holder"));
    let most = u64::from(limits::TIMERS);
    let fill = |count| made(tell(&world, holder, TIMERS, count, to));
    assert_eq!(fill(TOO_MANY), (most, limit()));
    assert_eq!(world.system.timers.len() as u64, most);
    assert!(tell(&world, holder, CANCEL, 0, to) <= 1_000);
    assert_eq!(fill(2), (1, limit()));
    world.advance(1_000);
    assert!(world.settle(100_000));
    assert_eq!(fill(most), (most, 0));
}

#[test]
fn messages_of_timers_count_with_their_bytes() {
    let world = world(0);
    let to = world.spawn("holder");
    let small = Limits {
        mailbox_bytes: 1_000,
        ..Limits::default()
    };
    let holder = world.spawn_with("holder", &small.into());
    let (count, code) = made(tell(&world, holder, TIMERS, TOO_MANY, to));
    assert_eq!(code, limit());
    assert!((8..=16).contains(&count), "{count}");
}

#[test]
fn names_of_a_process_are_limited() {
    let world = world(0);
    let (holder, other) = (world.spawn("holder"), world.spawn("holder"));
    let most = u64::from(limits::NAMES);
    let fill = |to| made(tell(&world, holder, NAMES, TOO_MANY, to));
    assert_eq!(fill(holder), (most, limit()));
    assert_eq!(world.system.names.of(holder).len() as u64, most);
    // The one it was refused does not exist.
    let noproc = i64::from(Code::NoProc as i32).cast_unsigned();
    assert_eq!(tell(&world, holder, UNREGISTER, 0, holder), noproc);
    world.system.names.remove("0000");
    assert_eq!(made(tell(&world, holder, NAMES, 1, holder)), (1, 0));
    // The limit is of the process that is named, not of the one that names.
    world.system.names.remove("0000");
    assert_eq!(made(tell(&world, holder, NAMES, 1, other)), (1, 0));
}

/// In probation calls are held, and count all the same.
#[test]
fn deferred_effects_count() {
    let world = world(3);
    let (holder, to) = (world.spawn("holder"), world.spawn("holder"));
    let most = u64::from(limits::MONITORS);
    let fill = |count| made(tell(&world, holder, MONITORS, count, to));
    assert_eq!(fill(most - 3), (most - 3, 0));
    world.deploy("holder", &format!("{}(; next ;)", guest()));
    assert_eq!(fill(9), (3, limit()));
    assert_eq!(fill(1), (0, limit()));
}

/// Deploys a module whose processes never take a message.
fn deploy_idle(world: &World) {
    let idle = r#"(module (memory (export "memory") 1) (global (export "exuvia_abi") i32 (i32.const 1))
      (func (export "run") (result i32) (i32.const 0)))"#;
    world.deploy("idle", idle);
}

/// The guest of another version, in whose probation the process is then.
fn next() -> String {
    guest().replace("(i32.const 6000)", "(i32.const 6008)")
}

#[test]
fn a_full_mailbox_is_reported_in_probation_as_at_any_time() {
    let world = world(3);
    let full = Limits {
        mailbox_messages: 0,
        ..Limits::default()
    };
    let holder = world.spawn("holder");
    let to = world.spawn_with("holder", &full.into());
    let code = u64::from((Code::MailboxFull as i32).unsigned_abs());
    let both = code << 8 | code;
    assert_eq!(tell(&world, holder, SEND_TWICE, 0, to), both);
    assert_eq!(tell(&world, holder, REQUEST_TWICE, 0, to), both);
    world.deploy("holder", &next());
    assert_eq!(tell(&world, holder, SEND_TWICE, 0, to), both);
    assert_eq!(tell(&world, holder, REQUEST_TWICE, 0, to), both);
}

/// It is too late for a code, but every request gets a reply or a DOWN.
#[test]
fn a_deferred_request_whose_mailbox_becomes_full_gets_a_down() {
    let world = world(3);
    let holder = world.spawn("holder");
    deploy_idle(&world);
    let one = Limits {
        mailbox_messages: 1,
        ..Limits::default()
    };
    let idle = world.spawn_with("idle", &one.into());
    // A process that has not run is not upgraded.
    assert_eq!(tell(&world, holder, WRITE, 0, holder), 2);
    world.deploy("holder", &next());
    // The mailbox has capacity for each of them when it is called, but not for both.
    assert_eq!(tell(&world, holder, REQUEST_TWICE, 0, idle), 0);
    let reason = u64::from(Reason::LIMIT.0.unsigned_abs());
    assert_eq!(tell(&world, holder, REASON, 0, idle), reason);
}

#[test]
fn the_mailbox_is_counted_with_what_has_just_arrived() {
    let world = world(0);
    let holder = world.spawn("holder");
    assert_eq!(tell(&world, holder, WRITE, 0, holder), 2);
}

/// A start that nobody waits for can fail, and says why.
#[test]
fn a_failed_start_ends_the_waiting_process() {
    let world = World::new(Setup::default());
    let refuses = r#"(module
      (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
      (import "exuvia" "init_ack" (func $init_ack (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (global (export "exuvia_abi") i32 (i32.const 1))
      (data (i32.const 8) "no licence")
      (func (export "run") (result i32)
        (i32.store (i32.const 64) (i32.const 48))
        (drop (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const 0) (i32.const 0) (i64.const 0)))
        (drop (call $init_ack (i32.const 300) (i32.const 8) (i32.const 10)))
        (i32.const 2)))"#;
    world.deploy("refuses", refuses);
    let pid = world.spawn("refuses");
    let reference = world.request(pid, 0, &[]);
    assert!(world.settle(100));
    let down = Answer::Down(300, "no licence".into());
    assert_eq!(world.answer(reference), down);
}
