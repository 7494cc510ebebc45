//! How a message that is handled on probation can end, where its handler stands
//! when it does, and whether it is the first since the upgrade: for each cell of the
//! product, what has become of the message, of all that the handler did, and of the
//! release.

use std::fmt;

use exuvia_abi::{Pid, Reason};
use exuvia_process::{Access, Kind, Limits};

use crate::world::{Answer, ENOUGH, KILL, PANIC, Setup, World};

/// How the handler ends. The numbers are the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Trap = 1,
    BadNumber,
    BadExit,
    Exit,
    ExitFailed,
    ProcExit,
    Kill,
    MemoryLimit,
    HostPanic,
}

/// Where it is then. The numbers are the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// A call that cannot be taken back has ended the transaction.
    Closed,
    /// It has waited in a call.
    Blocked,
    /// It has used up its slice, twice.
    Preempted,
    /// There is no frame for the way back.
    NoFrame,
}

const STAGES: [Stage; 5] = [
    Stage::Open,
    Stage::Closed,
    Stage::Blocked,
    Stage::Preempted,
    Stage::NoFrame,
];

/// What has become of it all.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// The answer to the request: old code's, or how the process has ended.
    answer: Answer,
    /// Messages of the handler that have arrived.
    sends: usize,
    /// Children that it has started, alive.
    children: usize,
    /// Timers that it has set, and that come due.
    timers: usize,
    /// Whether the name that it registered for another process stands.
    name: bool,
    /// Whether that other is in the group.
    group: bool,
    /// What is in the table: it adds 5 to 1, and removes and stores other rows.
    table: (i64, Option<u8>, Option<u8>),
    /// Failures that the release is blamed for.
    failures: u64,
}

/// Counts its requests and answers the count. New code does more: for a request with
/// a way (the payload's first byte) it does all that a handler can do to the
/// system, goes to a stage (the second byte), and ends that way.
fn guest(new: bool, wasi: bool) -> String {
    let exit = match wasi {
        true => r#"(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#,
        false => "(func $proc_exit (param i32))",
    };
    let (import, define) = match wasi {
        true => (exit, ""),
        false => ("", exit),
    };
    let new = i32::from(new);
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "send_after" (func $send_after (param i32 i32 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "register" (func $register (param i32 i32 i32) (result i32)))
  (import "exuvia" "group_join" (func $join (param i32 i32 i32) (result i32)))
  (import "exuvia" "table_find" (func $table (param i32 i32 i32) (result i32)))
  (import "exuvia" "table_add" (func $add (param i64 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "table_put" (func $put_row (param i64 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_delete" (func $delete (param i64 i32 i32) (result i32)))
  (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "exuvia" "info" (func $info (param i32) (result i64)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  {import}
  (memory (export "memory") 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  {define}
  (data (i32.const 4096) "\30")
  (data (i32.const 5000) "{PANIC}")
  (data (i32.const 5100) "{KILL}")
  (data (i32.const 5200) "childnamedgrouptablekabx")
  ;; What it does: the pid of the other is behind way and stage, at 4232.
  (func $act
    (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 100)))
    (drop (call $send (i32.const 4104) (i32.const 77) (i32.const 0) (i32.const 0)))
    (drop (call $spawn (i32.const 5200) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5300) (i32.const 0)))
    (drop (call $send_after (i32.const 4104) (i32.const 78) (i32.const 0) (i32.const 0) (i64.const 50) (i32.const 0)))
    (drop (call $register (i32.const 5205) (i32.const 5) (i32.const 4232)))
    (drop (call $join (i32.const 5210) (i32.const 5) (i32.const 4232)))
    (drop (call $table (i32.const 5215) (i32.const 5) (i32.const 5400)))
    (drop (call $add (i64.load (i32.const 5400)) (i32.const 5220) (i32.const 1) (i64.const 5) (i32.const 5408)))
    (drop (call $delete (i64.load (i32.const 5400)) (i32.const 5221) (i32.const 1)))
    (drop (call $put_row (i64.load (i32.const 5400)) (i32.const 5222) (i32.const 1) (i32.const 5223) (i32.const 1) (i32.const 0))))
  (func $go (param $stage i32) (local $n i32)
    (if (i32.eq (local.get $stage) (i32.const {closed})) (then (drop (call $sleep (i64.const 0)))))
    (if (i32.eq (local.get $stage) (i32.const {blocked})) (then (drop (call $sleep (i64.const 5)))))
    (if (i32.ge_u (local.get $stage) (i32.const {preempted})) (then
      (loop $l
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $n)
          (select (i32.const 90000) (i32.const 9000) (i32.eq (local.get $stage) (i32.const {no_frame})))))))))
  ;; Ends it, or answers what `run` is to answer.
  (func $end (param $way i32) (result i32)
    (if (i32.eq (local.get $way) (i32.const {trap})) (then unreachable))
    (if (i32.eq (local.get $way) (i32.const {bad_number})) (then (return (i32.const 7))))
    (if (i32.eq (local.get $way) (i32.const {bad_exit})) (then (call $exit (i32.const 4) (i32.const 0) (i32.const 0))))
    (if (i32.eq (local.get $way) (i32.const {exit})) (then (call $exit (i32.const 0) (i32.const 0) (i32.const 0))))
    (if (i32.eq (local.get $way) (i32.const {exit_failed})) (then (call $exit (i32.const 300) (i32.const 0) (i32.const 0))))
    (if (i32.eq (local.get $way) (i32.const {proc_exit})) (then (call $proc_exit (i32.const 0))))
    (if (i32.eq (local.get $way) (i32.const {kill})) (then
      (drop (call $log (i32.const 3) (i32.const 5100) (i32.const {kill_length})))
      (drop (call $info (i32.const 1)))))
    (if (i32.eq (local.get $way) (i32.const {memory})) (then
      (loop $l (br_if $l (i32.ne (memory.grow (i32.const 8)) (i32.const -1))))
      unreachable))
    (if (i32.eq (local.get $way) (i32.const {panic})) (then
      (drop (call $log (i32.const 3) (i32.const 5000) (i32.const {panic_length})))))
    unreachable)
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        (if (i32.and (i32.const {new}) (i32.ne (i32.load8_u (i32.const 4224)) (i32.const 0))) (then
          (call $act)
          (call $go (i32.load8_u (i32.const 4225)))
          (return (call $end (i32.load8_u (i32.const 4224))))))
        (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 8192) (i32.const 8)))))
      (br $next))
    unreachable)
  (func (export "save") (result i32) (call $put (i32.const 8192) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 8192) (i32.const 8))) (i32.const 0)))"#,
        closed = Stage::Closed as i32,
        blocked = Stage::Blocked as i32,
        preempted = Stage::Preempted as i32,
        no_frame = Stage::NoFrame as i32,
        trap = Way::Trap as i32,
        bad_number = Way::BadNumber as i32,
        bad_exit = Way::BadExit as i32,
        exit = Way::Exit as i32,
        exit_failed = Way::ExitFailed as i32,
        proc_exit = Way::ProcExit as i32,
        kill = Way::Kill as i32,
        kill_length = KILL.len(),
        memory = Way::MemoryLimit as i32,
        panic = Way::HostPanic as i32,
        panic_length = PANIC.len(),
    )
}

/// A process that does nothing.
const IDLE: &str = r#"(module
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32) (i32.const 0)))"#;

/// A process that writes half a megabyte and never ends its handler.
const HOG: &str = r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 16)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (memory.fill (i32.const 4096) (i32.const 7) (i32.const 0x80000))
    (loop $l (br $l))
    unreachable))"#;

/// Bytes that frames may hold: less than two of those.
const FRAME_MEMORY: u64 = 1 << 20;

struct Cell {
    way: Way,
    stage: Stage,
    later: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.later { "later" } else { "first" };
        write!(f, "{:?}, {:?}, {which} message", self.way, self.stage)
    }
}

fn count(number: u64) -> Answer {
    Answer::Reply(number.to_le_bytes().to_vec())
}

fn down(reason: i32) -> Answer {
    Answer::Down(reason, String::new())
}

impl Cell {
    /// What it is to be.
    fn expected(&self) -> Outcome {
        let closed = matches!(self.stage, Stage::Closed | Stage::Blocked);
        let fails = matches!(
            self.way,
            Way::Trap | Way::BadNumber | Way::BadExit | Way::MemoryLimit
        );
        let orderly = matches!(self.way, Way::Exit | Way::ExitFailed | Way::ProcExit);
        // Two requests before, or three, and this one.
        let handled = if self.later { 4 } else { 3 };
        let answer = match self.way {
            _ if fails && !closed => count(handled),
            Way::Trap => down(Reason::TRAP.0),
            Way::MemoryLimit => down(Reason::MEMORY.0),
            Way::BadNumber | Way::BadExit => down(Reason::CONTRACT.0),
            Way::Exit | Way::ProcExit => down(Reason::NORMAL.0),
            Way::ExitFailed => down(300),
            Way::Kill => down(Reason::KILLED.0),
            Way::HostPanic => down(Reason::INTERNAL.0),
        };
        let blamed = fails || self.way == Way::ExitFailed;
        // All of what it did has happened, or nothing.
        let stands = closed || orderly;
        Outcome {
            answer,
            sends: usize::from(stands),
            children: usize::from(stands),
            timers: usize::from(stands),
            name: stands,
            group: stands,
            table: match stands {
                true => (6, None, Some(b'x')),
                false => (1, Some(b'a'), None),
            },
            failures: u64::from(blamed),
        }
    }

    /// What it is.
    fn run(&self) -> Outcome {
        let Cell { way, stage, later } = *self;
        let world = World::new(Setup {
            probation: 3,
            frames: 4,
            frame_memory: match stage {
                Stage::NoFrame => FRAME_MEMORY,
                _ => u64::MAX,
            },
            ..Setup::default()
        });
        world.deploy("child", IDLE);
        world.deploy("hog", HOG);
        let wasi = way == Way::ProcExit;
        world.deploy("m", &guest(false, wasi));
        let limits = Limits {
            memory: 64 * 65536,
            ..Limits::default()
        };
        let pid = world.spawn_with("m", &limits.into());
        let other = world.spawn("child");
        let owner = world.client();
        let table = world
            .system
            .new_table(owner, &world.limits, Some("table"), Access::Public)
            .unwrap();
        let table = world.system.tables.get(table).unwrap();
        table.add(owner, b"k", 1).unwrap();
        let row = exuvia_process::Payload::new(b"a");
        table.put(owner, b"a", &row, true).unwrap();

        assert_eq!(world.ask(pid, 0, &[]), count(1));
        assert_eq!(world.ask(pid, 0, &[]), count(2));
        world.deploy("m", &guest(true, wasi));
        if later {
            assert_eq!(world.ask(pid, 0, &[]), count(3));
        }
        *world.seen.victim.lock() = Some((world.system.clone(), pid));
        let mut payload = vec![way as u8, stage as u8, 0, 0, 0, 0, 0, 0];
        payload.extend(other.to_bytes());
        let children = world.system.table.alive();
        let asked = world.request(pid, 0, &payload);
        match stage {
            Stage::Open | Stage::Closed => {}
            Stage::Blocked => {
                assert!(world.settle(100));
                assert_eq!(world.answer(asked), Answer::Nothing);
                if way == Way::Kill {
                    world.kill(pid);
                }
                world.advance(5);
            }
            Stage::Preempted => {
                assert!(world.turn() && world.has_work(), "it goes on");
                assert_eq!(world.answer(asked), Answer::Nothing);
                if way == Way::Kill {
                    world.kill(pid);
                }
            }
            Stage::NoFrame => {
                // It has a frame now. Others get the rest, and too much memory.
                assert!(world.turn() && world.has_work(), "it goes on");
                let hogs: Vec<Pid> = (0..7).map(|_| world.spawn("hog")).collect();
                for _ in 0..8 * 3 {
                    world.turn();
                }
                world.executor.trim_frames();
                assert_eq!(world.answer(asked), Answer::Nothing, "{self}");
                let waiting = world.executor.waiting_for_frames();
                for _ in 0..8 * 40 {
                    world.turn();
                }
                if matches!(self.expected().answer, Answer::Reply(_)) {
                    assert_eq!(world.executor.waiting_for_frames(), waiting + 1, "{self}");
                    assert_eq!(world.answer(asked), Answer::Nothing, "{self}");
                    assert!(world.system.is_alive(pid), "{self}: it waits");
                    assert_eq!(world.failures(), 1, "{self}: the release is blamed at once");
                }
                for hog in hogs {
                    world.kill(hog);
                }
                for _ in 0..100 {
                    world.turn();
                }
                world.executor.trim_frames();
            }
        }
        assert!(world.settle(ENOUGH), "{self}: it does not end");
        let answer = match world.answer(asked) {
            // What a reason says is tested elsewhere.
            Answer::Down(reason, _) => down(reason),
            answer => answer,
        };
        let tagged = |tag| {
            let heard = world.heard(|m| m.kind != Kind::Reply && m.tag == tag);
            usize::from(heard.is_some())
        };
        let before = tagged(78);
        assert_eq!(before, 0);
        world.advance(100);
        assert!(world.settle(ENOUGH));
        // It lives, or not, and so do the children.
        let gone = usize::from(!world.system.is_alive(pid));
        let children = world.system.table.alive() + gone - children;
        let byte = |key: &[u8]| {
            let value = table.get(owner, key).unwrap()?;
            value.as_slice().first().copied()
        };
        let sum = table.get(owner, b"k").unwrap().unwrap();
        let outcome = Outcome {
            answer,
            sends: tagged(77),
            children,
            timers: tagged(78),
            name: world.system.names.find("named") == Some(other),
            group: world
                .system
                .groups
                .members("group")
                .iter()
                .any(|pid| *pid == other),
            table: (
                i64::from_le_bytes(sum.as_slice().try_into().unwrap()),
                byte(b"a"),
                byte(b"b"),
            ),
            failures: world.failures(),
        };
        if let Answer::Reply(_) = outcome.answer {
            // It goes on in old code with the state that it had, and nothing is left
            // of the transaction.
            assert_eq!(world.seen.returned.lock().as_slice(), [pid], "{self}");
            let handled = if later { 5 } else { 4 };
            assert_eq!(world.ask(pid, 0, &[]), count(handled), "{self}");
        }
        assert_eq!(world.system.timers.len(), 0, "{self}: a timer is left");
        assert_eq!(world.executor.frames().blocked, 0, "{self}");
        assert_eq!(world.executor.waiting_for_frames(), 0, "{self}");
        outcome
    }
}

impl World {
    fn failures(&self) -> u64 {
        let release = self.code.current();
        let failures = &release.progress.failures;
        failures.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn check(ways: &[Way]) {
    let mut wrong = Vec::new();
    for way in ways {
        for stage in STAGES {
            for later in [false, true] {
                let cell = Cell {
                    way: *way,
                    stage,
                    later,
                };
                let (is, expected) = (cell.run(), cell.expected());
                if is != expected {
                    wrong.push(format!(
                        "{cell}:\n  is       {is:?}\n  expected {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_failure_aborts_the_transaction() {
    check(&[Way::Trap, Way::BadNumber, Way::BadExit, Way::MemoryLimit]);
}

#[test]
fn every_regular_exit_commits_the_transaction() {
    check(&[Way::Exit, Way::ExitFailed, Way::ProcExit]);
}

#[test]
fn an_exit_from_outside_during_a_transaction_leaves_no_effect() {
    check(&[Way::Kill, Way::HostPanic]);
}

/// Says which messages it takes. New code takes one of tag 2 first, and fails.
fn selective(new: bool) -> String {
    let first = match new {
        true => "(if (i32.eqz (call $take (i32.const 1) (i64.const 2))) (then unreachable))",
        false => "",
    };
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "save") (result i32) (call $put (i32.const 0) (i32.const 0)))
  (func (export "load") (param i32 i32) (result i32) (i32.const 0))
  (func $take (param $mode i32) (param $key i64) (result i32)
    (i32.store (i32.const 4096) (i32.const 48))
    (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (local.get $mode) (local.get $key)))
  ;; Says what it has taken to whom the payload names.
  (func $say (drop (call $send (i32.const 4224) (i32.load (i32.const 4128)) (i32.const 0) (i32.const 0))))
  (func (export "run") (result i32)
    {first}
    (loop $next
      (if (i32.eqz (call $take (i32.const 0) (i64.const 0))) (then (call $say) (br $next))))
    (i32.const 0)))"#
    )
}

/// A message that was taken selectively goes back to where it was, not before
/// what the same process sent earlier.
#[test]
fn a_message_is_put_back_to_its_position() {
    let world = World::new(Setup {
        probation: 3,
        ..Setup::default()
    });
    world.deploy("m", &selective(false));
    let pid = world.spawn("m");
    let client = world.client().to_bytes();
    world.send(pid, 9, &client);
    assert!(world.settle(100));
    world.forget_heard();
    world.deploy("m", &selective(true));
    for tag in [1, 2, 3] {
        world.send(pid, tag, &client);
    }
    // New code takes 2, and fails. Old code takes them as they come.
    assert!(world.settle(100));
    assert_eq!(world.seen.returned.lock().as_slice(), [pid]);
    assert_eq!(world.heard_tags(), [1, 2, 3]);
}

/// An entry that takes no message but sends is over when it is over: what comes
/// next is undone without it.
#[test]
fn an_entry_without_a_message_is_a_transaction_of_its_own() {
    let guest = |new: bool| {
        let (mode, first) = match new {
            // It finds no message with tag 5, notes that it has looked, and says so.
            true => (
                "(i32.const 1)",
                r#"(if (i32.eqz (i32.load (i32.const 8192))) (then
                     (i32.store (i32.const 8192) (i32.const 1))
                     (drop (call $send (i32.const 8200) (i32.const 77) (i32.const 0) (i32.const 0)))
                     (return (i32.const 0))))"#,
            ),
            false => ("(i32.const 0)", ""),
        };
        format!(
            r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $take (result i32)
    (i32.store (i32.const 4096) (i32.const 48))
    (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) {mode} (i64.const 5)))
  (func (export "run") (result i32)
    {first}
    (loop $next
      (if (i32.eqz (call $take)) (then
        ;; Who is told of what it knows: the state of the handler before.
        (if (i32.eq (i32.load (i32.const 4128)) (i32.const 1)) (then
          (memory.copy (i32.const 8200) (i32.const 4224) (i32.const 16))))
        (if (i32.eq (i32.load (i32.const 4128)) (i32.const 5)) (then
          {fail}
          (drop (call $send (i32.const 8200) (i32.add (i32.const 90) (i32.load (i32.const 8192))) (i32.const 0) (i32.const 0)))))
        (br $next))))
    (i32.const 0))
  (func (export "save") (result i32) (call $put (i32.const 8192) (i32.const 24)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 8192) (i32.const 24))) (i32.const 0)))"#,
            fail = if new { "unreachable" } else { "" },
        )
    };
    let world = World::new(Setup {
        probation: 3,
        ..Setup::default()
    });
    world.deploy("m", &guest(false));
    let pid = world.spawn("m");
    world.send(pid, 1, &world.client().to_bytes());
    assert!(world.settle(100));
    world.deploy("m", &guest(true));
    let told = |tag| world.heard(|m| m.tag == tag).is_some();
    // It is entered for a message that it does not want.
    world.send(pid, 4, &[]);
    assert!(world.settle(100));
    assert!(told(77));
    world.send(pid, 5, &[]);
    assert!(world.settle(100));
    assert_eq!(world.seen.returned.lock().as_slice(), [pid]);
    // What stands outside stands inside.
    assert!(told(91) && !told(90));
}

/// An undo takes back what the handler did, not what others have done since.
#[test]
fn an_abort_does_not_take_a_name_or_group_from_another_process() {
    let world = World::new(Setup {
        probation: 3,
        ..Setup::default()
    });
    world.deploy("child", IDLE);
    world.deploy("m", &guest(false, false));
    let (pid, other, third) = (world.spawn("m"), world.spawn("child"), world.spawn("child"));
    assert_eq!(world.ask(pid, 0, &[]), count(1));
    world.deploy("m", &guest(true, false));
    let mut payload = vec![Way::Trap as u8, Stage::Preempted as u8, 0, 0, 0, 0, 0, 0];
    payload.extend(other.to_bytes());
    let asked = world.request(pid, 0, &payload);
    assert!(world.turn());
    assert_eq!(world.system.names.find("named"), Some(other));
    // In the middle of the handler others change their minds.
    world.system.names.remove("named");
    world.system.register("named", third).unwrap();
    assert!(world.system.groups.leave("group", other));
    assert!(world.system.join("group", other).unwrap());
    assert!(world.settle(100));
    assert_eq!(world.answer(asked), count(2));
    assert_eq!(world.system.names.find("named"), Some(third));
    assert!(
        world
            .system
            .groups
            .members("group")
            .iter()
            .any(|pid| *pid == other)
    );
}
