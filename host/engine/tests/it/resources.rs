//! What a process holds of the system is told what happens to the process, in order: upgrades, with which memory
//! it has then, rollbacks, and the end. The resources here are of the test: one stays with its process, one belongs
//! to the memory.

use std::sync::Arc;
use std::time::Duration;

use exuvia_abi::log;
use exuvia_process::resource::{Decision, Holding, Memory, Resource};
use exuvia_process::{ExitReason, Pid, WhyNot};
use parking_lot::Mutex;

use crate::world::{ENOUGH, Setup, World, answering};

/// What a resource was told. Each has one, since that which stays and that which leaves are told alike.
type Record = Arc<Mutex<Vec<String>>>;

#[derive(Debug)]
struct Socket(Record);

#[derive(Debug)]
struct File(Record);

impl Resource for Socket {
    fn holding(&self) -> Holding {
        Holding {
            kind: "sockets",
            count: 1,
        }
    }

    fn on_upgrade(&mut self, memory: Memory) -> Decision {
        self.0.lock().push(format!("upgrade {memory:?}"));
        Decision::Keep
    }

    fn on_rollback(&mut self, memory: Memory) -> Decision {
        self.0.lock().push(format!("rollback {memory:?}"));
        Decision::Keep
    }

    fn on_exit(&mut self, reason: &ExitReason, log: &mut dyn FnMut(i32, &str)) {
        self.0.lock().push(format!("exit {reason}"));
        log(log::INFO, "the socket is closed");
    }
}

impl Resource for File {
    fn holding(&self) -> Holding {
        Holding {
            kind: "open files",
            count: 1,
        }
    }

    fn on_upgrade(&mut self, memory: Memory) -> Decision {
        match memory {
            Memory::Same => Decision::Keep,
            Memory::New | Memory::Restored => Decision::Detach,
        }
    }

    fn on_exit(&mut self, reason: &ExitReason, _: &mut dyn FnMut(i32, &str)) {
        self.0.lock().push(format!("exit {reason}"));
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.0.lock().push("closed".into());
    }
}

/// A process that holds both.
struct Holder {
    world: World,
    pid: Pid,
    socket: Record,
    file: Record,
}

impl Holder {
    /// Of a version, with a probation of this many messages. It has handled one request.
    fn new(version: &str, probation: u32) -> Holder {
        let world = World::new(Setup {
            probation,
            ..Setup::default()
        });
        world.deploy("m", version);
        let pid = world.spawn("m");
        assert_eq!(world.ask(pid, 1, &[]).number(), 1);
        let (socket, file) = (Record::default(), Record::default());
        let holder = Holder {
            world,
            pid,
            socket,
            file,
        };
        holder.put(Box::new(Socket(holder.socket.clone())));
        holder.put(Box::new(File(holder.file.clone())));
        holder
    }

    fn put(&self, resource: Box<dyn Resource>) {
        let put = self.world.executor.examine(self.pid.slot(), |process| {
            process.guest().unwrap().resources().put(resource);
        });
        put.expect("it is at rest");
    }

    /// Asks it to add the tag to its sum.
    fn add(&self, tag: u32) -> u64 {
        self.world.ask(self.pid, tag, &[]).number()
    }

    fn kinds(&self) -> Vec<&'static str> {
        let kinds = self.world.executor.examine(self.pid.slot(), |process| {
            let holdings = process.guest().unwrap().holdings();
            holdings.map(|holding| holding.kind).collect()
        });
        kinds.expect("it is at rest")
    }

    fn end(&self) {
        self.world.kill(self.pid);
        assert!(self.world.settle(ENOUGH));
    }

    /// Returns what the socket and the file were told since the last call.
    fn told(&self) -> [Vec<String>; 2] {
        [&self.socket, &self.file].map(|record| std::mem::take(&mut *record.lock()))
    }
}

/// Asserts what both were told.
macro_rules! assert_told {
    ($holder:expr, [$($socket:literal),*], [$($file:literal),*]) => {
        let socket: &[&str] = &[$($socket),*];
        let file: &[&str] = &[$($file),*];
        assert_eq!($holder.told(), [socket, file]);
    };
}

/// The tag that new code traps at.
const TRAP: u32 = 9;

/// Adds tags. `number` makes a version differ from others; `more` stands beside the code.
fn adding(number: u32, traps: bool, imports: &str, more: &str) -> String {
    let handle = format!(
        r#"(drop (i32.const {number}))
           (if (i32.and (i32.const {traps}) (i32.eq (local.get $tag) (i32.const {TRAP}))) (then unreachable))
           (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.extend_i32_u (local.get $tag))))
           (i64.load (i32.const 8192))"#,
        traps = u8::from(traps),
    );
    answering(imports, &handle, more)
}

/// A version whose state others of them reuse.
fn reused(number: u32, traps: bool) -> String {
    adding(number, traps, "", r#"(@custom "exuvia.layout" "sum")"#)
}

/// A version whose state is migrated.
fn migrated(number: u32, traps: bool) -> String {
    adding(
        number,
        traps,
        r#"(import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
           (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))"#,
        r#"(func (export "save") (result i32) (call $put (i32.const 8192) (i32.const 8)))
           (func (export "load") (param i32 i32) (result i32)
             (drop (call $get (i32.const 8192) (i32.const 8))) (i32.const 0))"#,
    )
}

#[test]
fn all_stays_in_a_memory_that_is_reused() {
    let holder = Holder::new(&reused(1, false), 3);
    holder.world.deploy("m", &reused(2, true));
    assert_eq!(holder.add(2), 3);
    assert_told!(holder, ["upgrade Same"], []);
    // Old code handles what new code traps at, in the memory that it left.
    assert_eq!(holder.add(TRAP), 12);
    assert_told!(holder, ["rollback Same"], []);
    assert_eq!(holder.kinds(), ["sockets", "open files"]);
    holder.end();
    assert_told!(holder, ["exit killed"], ["exit killed", "closed"]);
    let logs = holder.world.seen.logs.lock();
    assert_eq!(*logs, ["the socket is closed"]);
}

#[test]
fn what_a_new_memory_does_not_know_comes_back_with_the_old_one() {
    let holder = Holder::new(&migrated(1, false), 3);
    holder.world.deploy("m", &migrated(2, true));
    assert_eq!(holder.add(TRAP), 10, "old code has handled it");
    assert_told!(holder, ["upgrade New", "rollback Restored"], []);
    assert_eq!(holder.kinds(), ["sockets", "open files"]);
    holder.end();
    assert_told!(holder, ["exit killed"], ["exit killed", "closed"]);
}

#[test]
fn what_a_new_memory_does_not_know_is_dropped_when_the_old_one_cannot_come_back() {
    let holder = Holder::new(&migrated(1, false), 3);
    holder.world.deploy("m", &migrated(2, true));
    assert_eq!(holder.add(2), 3);
    assert_told!(holder, ["upgrade New"], ["closed"]);
    // New code opens another one. Its state is migrated back, which makes a third memory.
    holder.put(Box::new(File(holder.file.clone())));
    assert_eq!(holder.add(TRAP), 12);
    assert_told!(holder, ["rollback New"], ["closed"]);
    assert_eq!(holder.kinds(), ["sockets"]);
}

#[test]
fn without_probation_what_a_new_memory_does_not_know_is_dropped_at_once() {
    let holder = Holder::new(&migrated(1, false), 0);
    holder.world.deploy("m", &migrated(2, false));
    assert_eq!(holder.add(2), 3);
    assert_told!(holder, ["upgrade New"], ["closed"]);
}

/// An upgrade that is taken back before the process has handled anything leaves all as it was, each time.
#[test]
fn an_upgrade_back_before_the_first_message_is_as_none() {
    let holder = Holder::new(&migrated(1, false), 3);
    let old = holder.world.code.current();
    let old = old.version("m").unwrap();
    let new = holder.world.deploy("m", &migrated(2, false));
    let turns = || {
        holder.world.system.wake(holder.pid);
        assert!(holder.world.settle(ENOUGH));
    };
    turns();
    assert_told!(holder, ["upgrade New"], []);
    assert_eq!(holder.kinds(), ["sockets"]);
    holder.world.commit(old);
    turns();
    assert_told!(holder, ["rollback Restored"], []);
    assert_eq!(holder.kinds(), ["sockets", "open files"]);
    holder.world.commit(&new);
    turns();
    assert_told!(holder, ["rollback Restored"], []);
    assert_eq!(holder.kinds(), ["sockets"]);
    holder.world.commit(old);
    turns();
    assert_told!(holder, ["rollback Restored"], []);
    assert_eq!(holder.kinds(), ["sockets", "open files"]);
    assert_eq!(holder.add(2), 3);
}

/// A reset gives up the memory with consent.
#[test]
fn a_reset_is_a_new_memory() {
    let holder = Holder::new(&adding(1, false, "", ""), 0);
    (holder.world).deploy_fresh("m", &adding(2, false, "", ""));
    assert_eq!(holder.add(2), 2, "the sum is gone");
    assert_told!(holder, ["upgrade New"], ["closed"]);
}

/// `save` and `load` of a verification run on copies, which hold nothing.
#[test]
fn verification_touches_no_resource() {
    let holder = Holder::new(&migrated(1, false), 3);
    let new = wat::parse_str(migrated(2, false)).unwrap();
    let new = holder.world.load("m", &new).unwrap();
    let verified =
        (holder.world.executor).verify(std::slice::from_ref(&new), Duration::from_secs(5), false);
    assert_eq!(verified.unwrap().migrated, 1);
    assert_told!(holder, [], []);
    assert_eq!(holder.kinds(), ["sockets", "open files"]);
}

#[test]
fn a_process_is_paged_out_with_what_it_holds_but_not_captured() {
    let holder = Holder::new(&reused(1, false), 0);
    // As many others as there are frames take turns.
    for _ in 0..20 {
        let other = holder.world.spawn("m");
        assert_eq!(holder.world.ask(other, 1, &[]).number(), 1);
    }
    let state = holder.world.executor.examine(holder.pid.slot(), |process| {
        process.guest().unwrap().describe()
    });
    assert_eq!(state, Some("paged out"));
    let why = holder.world.executor.capture(holder.pid).unwrap_err();
    assert_eq!(why.to_string(), "the process has sockets (1)");
    assert!(matches!(why, WhyNot::Holds(_)));
    assert_eq!(holder.add(2), 3);
    assert_told!(holder, [], []);
}
