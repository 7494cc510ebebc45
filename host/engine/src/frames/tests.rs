//! Frame slots when the host fails in the middle, and the limit on mappings.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use exuvia_abi::Pid;
use exuvia_code::{CodeServer, Digest, Version};
use exuvia_image::Image;
use exuvia_process::{
    Clock, Envelope, Grants, Limits, Payload, Schedule, Signal, SpawnSpec, System,
};

mod waiting;

use super::*;
use crate::executor::Executor;
use crate::guest::{FrameId, GuestProcess, Location};
use crate::host::BlockQuota;
use crate::instance::{Instance, InstanceHandles};
use crate::loader::{Engine, EngineConfig, MemoryLayout};
use crate::module::stack_policy::Stack;
use crate::observer::Observer;
use crate::suspend::thread::{ResumeHandle, SpareThread, Threads, TurnResult};
use crate::upgrade::migrate;

/// Takes all messages; waits for another one in the middle if a message has the tag 7.
const GUEST: &str = r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 3)
  ;; In the middle, as a Rust guest has it above its stack.
  (data (i32.const 65536) "x")
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (local $timeout i64)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (i32.eqz (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256)
          (local.get $timeout) (i32.const 0) (i64.const 0)))
        (then
          (local.set $timeout (select (i64.const -1) (i64.const 0)
            (i32.eq (i32.load (i32.const 4128)) (i32.const 7))))
          (br $next))))
    (i32.const 0))
  (func (export "save") (result i32) (i32.const 0))
  (func (export "load") (param i32 i32) (result i32) (i32.const 0)))"#;

/// Observes and schedules nothing: a test makes each turn itself.
#[derive(Debug)]
struct Nobody;
impl Observer for Nobody {}
impl Schedule for Nobody {
    fn schedule(&self, _: u32) {}
}

/// A scheduler's thread on which no guest has to block in place.
#[derive(Debug)]
struct Alone;
impl Threads for Alone {
    fn may_block_in_place(&self) -> bool {
        true
    }
    fn spare_thread(&self) -> Option<Box<dyn SpareThread>> {
        None
    }
    fn turn_gets_long(&self) {}
}

/// A scheduler's thread whose spare threads fail to take over.
#[derive(Debug)]
struct Failing;
impl Threads for Failing {
    fn may_block_in_place(&self) -> bool {
        true
    }
    fn spare_thread(&self) -> Option<Box<dyn SpareThread>> {
        Some(Box::new(Failing))
    }
    fn turn_gets_long(&self) {}
}
impl SpareThread for Failing {
    fn resume_handle(&self) -> Arc<dyn ResumeHandle> {
        Arc::new(Failing)
    }
    fn take_over(self: Box<Self>, _: u32, _: Box<dyn FnOnce() -> TurnResult + Send>) {
        panic!("a thread fails to take over")
    }
}
impl ResumeHandle for Failing {
    fn wait(&self) {}
}

struct Node {
    executor: Executor,
    old: Arc<Version<Artifact>>,
    new: Arc<Version<Artifact>>,
}

fn node() -> Node {
    node_with(4)
}

fn node_with(frames: usize) -> Node {
    let limits = FrameLimits::new(frames, u64::MAX);
    node_within(limits, MemoryLayout::Packed)
}

fn node_within(limits: FrameLimits, layout: MemoryLayout) -> Node {
    node_of(GUEST, limits, layout)
}

/// The guest with three pages in its base, more than are copied.
fn with_larger_base() -> String {
    let more = ["(data (i32.const 65536) \"x\")"; 3].join(" ");
    let more = more
        .replacen("65536", "73728", 1)
        .replacen("65536", "81920", 1);
    GUEST.replace("(data (i32.const 65536) \"x\")", &more)
}

fn node_of(guest: &str, limits: FrameLimits, layout: MemoryLayout) -> Node {
    let system = Arc::new(System::new(7, 100, 1, Clock::manual()));
    system.connect(Arc::new(Nobody));
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let wasm = wat::parse_str(guest).unwrap();
    let code = Arc::new(CodeServer::new(10));
    let [old, new] = [1, 2].map(|number| {
        let artifact = engine.load_as(&wasm, layout).unwrap();
        let held = code.load("m", Digest([number; 32]), artifact);
        held.version().clone()
    });
    code.commit(&code.current(), std::slice::from_ref(&old), false)
        .unwrap();
    Node {
        executor: Executor::with_limits(system, code, Arc::new(Nobody), limits, 0),
        old,
        new,
    }
}

impl Node {
    fn spawn(&self) -> Pid {
        let body = self.executor.new_process("m");
        let limits = Arc::new(Limits::default());
        let spec = SpawnSpec::new(body.unwrap(), limits, Payload::empty());
        self.executor.0.host.system.spawn(spec).unwrap()
    }

    /// Sends the process a message, and runs it until it is at rest.
    fn ask(&self, pid: Pid) {
        self.send(pid, 0);
        assert!(self.lives(pid));
    }

    /// Sends the process a message with a tag.
    fn post(&self, pid: Pid, tag: u32) {
        let message = Envelope::message(Pid::NONE, tag, Payload::empty());
        self.executor.0.host.system.send(pid, message).unwrap();
    }

    /// Does the same, and runs the process until it is at rest or has ended.
    fn send(&self, pid: Pid, tag: u32) {
        self.post(pid, tag);
        while matches!(self.executor.run(pid.slot()), TurnResult::Ready) {}
    }

    /// The same for many processes, in so many rounds.
    fn ask_all(&self, pids: &[Pid], rounds: usize) {
        (0..rounds).for_each(|_| pids.iter().for_each(|pid| self.ask(*pid)));
    }

    fn lives(&self, pid: Pid) -> bool {
        self.executor.0.host.system.is_alive(pid)
    }

    fn none_is_lost(&self, live: usize) {
        let counts = self.executor.frames();
        assert_eq!(
            (counts.live, counts.vacant, counts.blocked),
            (live, counts.slots - live, 0)
        );
    }
}

/// Otherwise the slots would be used up after the first few.
#[test]
fn an_upgrade_in_which_the_host_panics_leaks_no_frame_slot() {
    let node = node();
    for _ in 0..20 {
        let image = Image::broken(3);
        let upgraded = migrate::upgrade_image(
            &node.executor.0.frames,
            &node.old,
            &node.new,
            (&image, &Grants::default()),
            None,
        );
        let error = upgraded.unwrap_err().to_string();
        assert!(error.contains("the host failed"), "{error}");
        node.none_is_lost(0);
    }
}

/// In a new frame, and in one that has served another process.
#[test]
fn a_process_that_cannot_be_restored_ends_and_its_frame_is_dropped() {
    let node = node();
    for used in [false, true].repeat(10) {
        if used {
            let pid = node.spawn();
            assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
            let kill = Signal::Kill { from: Pid::NONE };
            let _ = node.executor.0.host.system.signal(pid, kill);
            assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
            node.none_is_lost(1);
        }
        let pid = node.spawn();
        let slot = node.executor.0.host.system.table.slot(pid.slot()).unwrap();
        let mut process = slot.take_process().unwrap();
        process.guest().unwrap().location = Location::Image {
            image: Image::broken(3),
            waiting: false,
            stamp: None,
        };
        slot.put_process(process);
        assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
        assert!(!node.lives(pid));
        node.none_is_lost(0);
    }
}

/// A panic anywhere unwinds over the frame of the process, and its slot is freed.
#[test]
fn a_dropped_frame_frees_its_slot() {
    let node = node();
    let shared = &node.executor.0;
    for _ in 0..20 {
        let lease = shared
            .frames
            .acquire(&node.old.artifact, 3, Purpose::Process(None));
        let lease = lease.unwrap();
        let slot = lease.slot_number();
        shared.frames.pin(FrameId { slot, binding: 0 });
        let counts = node.executor.frames();
        assert_eq!((counts.live, counts.blocked), (1, 1));
        drop(lease);
        node.none_is_lost(0);
    }
}

/// A process whose frame was given to another one, which is a bug of the host, does not get it.
#[test]
fn a_frame_is_leased_only_to_the_process_that_it_is_bound_to() {
    let node = node();
    let frames = &node.executor.0.frames;
    let frame_of = |pid: Pid| {
        let frame = node.executor.examine(pid.slot(), |process| {
            match process.guest().unwrap().location {
                Location::Frame { frame, .. } => frame,
                ref other => panic!("in no frame: {other:?}"),
            }
        });
        frame.unwrap()
    };
    let first = node.spawn();
    node.ask(first);
    let stale = frame_of(first);
    let kill = Signal::Kill { from: Pid::NONE };
    let _ = node.executor.0.host.system.signal(first, kill);
    assert!(matches!(node.executor.run(first.slot()), TurnResult::Idle));
    assert!(frames.lease(stale).is_none(), "it is a free frame");
    let second = node.spawn();
    node.ask(second);
    let frame = frame_of(second);
    assert_eq!((frame.slot, node.executor.frames().live), (stale.slot, 1));
    assert!(frames.lease(stale).is_none(), "it is another process's");
    let lease = frames.lease(frame).unwrap();
    assert!(frames.lease(frame).is_none(), "it is leased");
    frames.put_back(lease);
    node.ask(second);
}

/// The process ends as after any failure of the host, and the thread is still a scheduler's.
#[test]
fn a_thread_that_fails_to_take_over_leaks_no_frame() {
    let node = node();
    node.executor.set_threads(Arc::new(Failing));
    for _ in 0..10 {
        let pid = node.spawn();
        // They have returned often enough.
        (0..64).for_each(|_| node.old.artifact.stack_policy.returned());
        node.ask(pid);
        assert_eq!(node.old.artifact.stack_policy.stack(), Stack::Thread);
        node.send(pid, 7);
        assert!(!node.lives(pid));
        node.none_is_lost(0);
        node.executor.forget(&node.old.artifact);
    }
}

/// A process of the version has waited for a frame meanwhile.
#[test]
fn unloading_a_version_frees_its_code() {
    let node = node();
    let frames = &node.executor.0.frames;
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let artifact = engine.load(&wat::parse_str(GUEST).unwrap()).unwrap();
    let code = Arc::downgrade(&artifact.plan);
    let lease = frames
        .acquire(&artifact, 3, Purpose::Process(None))
        .unwrap();
    frames.waiters.join(1, artifact.id);
    frames.waiters.leave(1);
    frames.retire(lease);
    node.none_is_lost(1);
    node.executor.forget(&artifact);
    node.none_is_lost(0);
    drop(artifact);
    assert!(code.upgrade().is_none());
}

/// Linking takes long, and the first process of a version must not wait for it on a scheduler.
#[test]
fn preparing_a_version_links_its_code() {
    let node = node();
    let pool = node.executor.0.frames.pool(&node.new.artifact);
    assert!(!pool.is_linked());
    node.executor.prepare(&node.new.artifact, 0);
    assert!(pool.is_linked());
    node.none_is_lost(0);
}

/// The module gets no second share of the last frames, but frames of its new version for those of
/// its old one, and one for `save`.
#[test]
fn two_versions_of_a_module_have_one_share_of_the_last_frames() {
    let node = node();
    node.new.artifact.follows(&node.old.artifact);
    let frames = &node.executor.0.frames;
    let process = Purpose::Process(None);
    let get = |version: &Version<Artifact>, purpose| frames.acquire(&version.artifact, 3, purpose);
    let mut held: Vec<_> = std::iter::from_fn(|| get(&node.old, process).ok()).collect();
    let counts = node.executor.frames();
    assert!(counts.live == held.len() && counts.live < counts.slots);
    assert!(get(&node.new, process).is_err());
    let save = get(&node.old, Purpose::Save).unwrap();
    drop(save);
    frames.retire(held.pop().unwrap());
    held.push(get(&node.new, process).unwrap());
    assert_eq!(node.executor.frames().live, counts.live);
    assert!(get(&node.new, process).is_err());
}

#[test]
fn a_frame_slot_fills_one_cache_line() {
    assert_eq!(size_of::<super::slots::FrameSlot>(), 64);
}

/// What each frame takes beside its memory and its stack. A store has more of wasmtime's own around its
/// data.
#[test]
fn the_records_of_a_frame_are_small() {
    let frame = size_of::<super::slots::LeasedFrame>();
    let instance = size_of::<Instance>() + size_of::<InstanceHandles>();
    let data = size_of::<FrameData>();
    // `cargo nextest run --no-capture` shows them.
    eprintln!("frame {frame}, instance {instance}, data of its store {data}");
    assert!(frame <= 136 && instance <= 440 && data <= 320);
}

/// The mappings of this operating system process, which runs only this test.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps");
    maps.unwrap().lines().count()
}

/// The limit on mappings relies on it.
#[test]
fn a_frame_takes_no_more_mappings_than_are_reserved_for_it() {
    let larger = with_larger_base();
    frames_take_the_mappings_that_are_counted(GUEST, MemoryLayout::Wide, 4);
    frames_take_the_mappings_that_are_counted(GUEST, MemoryLayout::Packed, 0);
    frames_take_the_mappings_that_are_counted(&larger, MemoryLayout::Packed, 2);
}

/// `each`: of a frame without a fiber.
fn frames_take_the_mappings_that_are_counted(guest: &str, layout: MemoryLayout, each: usize) {
    const FRAMES: usize = 64;
    // For the allocator, and where the kernel did not place a mapping beside another.
    const SLACK: usize = 24;
    let node = node_of(guest, FrameLimits::new(FRAMES, u64::MAX), layout);
    node.executor.set_threads(Arc::new(Alone));
    let shared = &node.executor.0;
    let artifact = &node.old.artifact;
    let of = |stack: Stack| {
        assert_eq!(artifact.stack_policy.stack(), stack);
        // The first frame maps everything that is shared.
        let make = || shared.frames.make(artifact, &shared.frames.pool(artifact));
        let first = make().unwrap();
        let before = (mappings(), node.executor.frames().mappings);
        let mut frames: Vec<_> = (0..FRAMES).map(|_| make().unwrap()).collect();
        // Also when a process has grown in them and the next is small again.
        for lease in &mut frames {
            for pages in [5, 3, 4, 3] {
                assert_eq!(lease.frame.resize(pages), Ok(true));
            }
        }
        let after = (mappings(), node.executor.frames().mappings);
        drop((first, frames));
        assert_eq!(node.executor.frames().mappings, 0);
        (after.0.saturating_sub(before.0), after.1 - before.1)
    };
    let (taken, counted) = of(Stack::Fiber);
    eprintln!("{layout:?}, on fibers {taken}, counted {counted}");
    assert!(taken <= counted + SLACK && counted <= taken + taken / 4);
    (0..64).for_each(|_| artifact.stack_policy.returned());
    let (taken, counted) = of(Stack::Thread);
    eprintln!("{layout:?}, on a thread's stack {taken}, counted {counted}");
    assert!(taken <= counted + SLACK && counted <= taken + taken / 4);
    assert_eq!(counted, FRAMES * each);
}

#[test]
fn frames_copy_their_base_when_mappings_are_short() {
    const FRAMES: usize = 64;
    let larger = with_larger_base();
    let mut limits = FrameLimits::new(FRAMES, u64::MAX);
    (limits.mappings, limits.most_mappings) = (40, 50);
    let node = node_of(&larger, limits, MemoryLayout::Packed);
    node.executor.set_threads(Arc::new(Alone));
    let pids: Vec<_> = (0..FRAMES).map(|_| node.spawn()).collect();
    node.ask_all(&pids, 2);
    let counts = node.executor.frames();
    let half = 20 + mappings::most();
    assert_eq!(counts.live, FRAMES, "{counts:?}");
    assert!((20..=half).contains(&counts.mappings), "{counts:?}");
    // Wide memories take some in any case.
    let node = node_of(&larger, limits, MemoryLayout::Wide);
    let pids: Vec<_> = (0..FRAMES).map(|_| node.spawn()).collect();
    node.ask_all(&pids, 2);
    let counts = node.executor.frames();
    assert!(counts.live <= 40 / 4 && counts.mappings <= 40, "{counts:?}");
}

/// It has grown before it waits.
#[test]
fn a_frame_that_is_held_counts_with_what_its_memory_takes_outside_of_the_arena() {
    let grows = "(local $timeout i64) (drop (memory.grow (i32.const 70)))";
    let guest = GUEST.replace("(local $timeout i64)", grows);
    let limits = FrameLimits::new(8, u64::MAX);
    let node = node_of(&guest, limits, MemoryLayout::Packed);
    let pid = node.spawn();
    node.send(pid, 7);
    let blocking = &node.executor.0.host.blocking;
    assert_eq!(blocking.pinned(), 1);
    assert_eq!(blocking.mappings(), mappings::most());
}

#[test]
fn as_many_processes_may_block_as_their_frames_have_mappings_for() {
    let quota = BlockQuota::new(4, 10, u64::MAX);
    for _ in 0..2 {
        assert!(quota.may_block());
        quota.pin(4);
    }
    assert!(quota.may_block());
    quota.pin(2);
    assert!(!quota.may_block(), "they have 10 mappings");
    quota.unpin(4);
    quota.pin(0);
    assert!(quota.may_block());
    quota.pin(0);
    assert!(!quota.may_block(), "there are 4");
}

/// The limit allows six frames without fibers, or four with if a stack takes mappings.
#[test]
fn the_bound_on_mappings_holds_when_guests_start_to_need_fibers() {
    let mut limits = FrameLimits::new(100, u64::MAX);
    (limits.mappings, limits.most_mappings) = (24, 36);
    let node = node_within(limits, MemoryLayout::Wide);
    node.executor.set_threads(Arc::new(Alone));
    let pids: Vec<_> = (0..20).map(|_| node.spawn()).collect();
    let live = || node.executor.frames().live;
    node.ask_all(&pids, 1);
    let with_fibers = 24 / mappings::most();
    let counted = with_fibers * mappings::most();
    assert_eq!(
        (live(), node.executor.frames().mappings),
        (with_fibers, counted)
    );
    // They have returned often enough.
    node.ask_all(&pids, 20);
    assert_eq!(node.old.artifact.stack_policy.stack(), Stack::Thread);
    let counts = node.executor.frames();
    assert!(
        (5..=6).contains(&counts.live) && counts.mappings <= 24,
        "{counts:?}"
    );
    node.old.artifact.stack_policy.waited();
    for pid in &pids {
        node.ask(*pid);
        let counts = node.executor.frames();
        assert!(counts.mappings <= 24 + 2, "{counts:?}");
    }
    node.ask_all(&pids, 2);
    let counts = node.executor.frames();
    assert!(
        counts.live <= with_fibers && counts.mappings <= 24,
        "{counts:?}"
    );
}

/// Processes rest and exit, and their frames are dropped, repeatedly, while none is paged
/// out.
#[test]
fn entries_of_dropped_frames_are_removed_from_the_queues() {
    let node = node();
    let shared = &node.executor.0;
    let pool = shared.frames.pool(&node.old.artifact);
    for _ in 0..1_000 {
        let pid = node.spawn();
        node.ask(pid);
        let kill = Signal::Kill { from: Pid::NONE };
        let _ = shared.host.system.signal(pid, kill);
        assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
        drop(shared.frames.pop_any(&pool));
        node.none_is_lost(0);
    }
    assert!(pool.listed() < 100, "{} entries", pool.listed());
    // Processes that are listed now are still found.
    let pids: Vec<_> = (0..20).map(|_| node.spawn()).collect();
    node.ask_all(&pids, 3);
    assert!(node.executor.metrics().page_outs.load(Ordering::Relaxed) > 20);
}

/// Returns the slot of the frame that a new process has used, which is free again.
fn used(node: &Node) -> u32 {
    let shared = &node.executor.0;
    let pid = node.spawn();
    node.ask(pid);
    let bound = (0..).zip(shared.frames.slots.all());
    let number = bound
        .filter(|(_, slot)| slot.occupant() == Some(pid.slot()))
        .map(|(number, _)| number)
        .next();
    let kill = Signal::Kill { from: Pid::NONE };
    let _ = shared.host.system.signal(pid, kill);
    assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
    number.unwrap()
}

#[test]
fn a_thread_takes_the_frame_that_it_has_given_back() {
    let node = node_with(64);
    let first = used(&node);
    let second = thread::scope(|scope| {
        let other = scope.spawn(|| {
            // Another thread's frame is better than a new one.
            assert_eq!(used(&node), first);
            let more: Vec<Pid> = (0..3).map(|_| node.spawn()).collect();
            node.ask_all(&more, 1);
            node.none_is_lost(3);
            used(&node)
        });
        other.join().unwrap()
    });
    assert_ne!(second, first);
    let pid = node.spawn();
    node.ask(pid);
    node.none_is_lost(4);
    assert_eq!(
        node.executor.metrics().frames_made.load(Ordering::Relaxed),
        4
    );
}

/// More than one thread keeps to itself: the rest is in the pool, and all of them count as free.
#[test]
fn free_frames_are_dropped_wherever_they_lie() {
    let node = node_with(256);
    let shared = &node.executor.0;
    let end_all = || {
        let pids: Vec<Pid> = (0..20).map(|_| node.spawn()).collect();
        node.ask_all(&pids, 1);
        for pid in pids {
            let kill = Signal::Kill { from: Pid::NONE };
            let _ = shared.host.system.signal(pid, kill);
            assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
        }
    };
    end_all();
    let counts = node.executor.frames();
    assert_eq!((counts.live, counts.free), (20, 20));
    // Those that were not needed for a while are dropped, also from the shelf.
    for _ in 0..200 {
        shared.frames.trim();
    }
    node.none_is_lost(0);
    end_all();
    let held = node.spawn();
    node.ask(held);
    shared.frames.forget(node.old.artifact.id);
    // What its last process gives back is not kept.
    node.none_is_lost(1);
    let kill = Signal::Kill { from: Pid::NONE };
    let _ = shared.host.system.signal(held, kill);
    assert!(matches!(node.executor.run(held.slot()), TurnResult::Idle));
    node.none_is_lost(0);
}
