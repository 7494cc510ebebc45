//! Processes that wait for a frame: which one is called, and when.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Threads of which a test decides whether a guest may block on them. `ended`: how a turn has ended
/// on the thread that took over.
struct Scripted<F> {
    may_block: F,
    ended: Sender<TurnResult>,
}
impl<F> std::fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}
impl<F: Fn() -> bool + Send + Sync> Threads for Scripted<F> {
    fn may_block_in_place(&self) -> bool {
        (self.may_block)()
    }
    fn spare_thread(&self) -> Option<Box<dyn SpareThread>> {
        Some(Box::new(Spare(self.ended.clone())))
    }
    fn turn_gets_long(&self) {}
}

/// A spare thread. The guest's thread is a scheduler's again at once.
#[derive(Debug)]
struct Spare(Sender<TurnResult>);
impl SpareThread for Spare {
    fn resume_handle(&self) -> Arc<dyn ResumeHandle> {
        Arc::new(Spare(self.0.clone()))
    }
    fn take_over(self: Box<Self>, _: u32, then: Box<dyn FnOnce() -> TurnResult + Send>) {
        std::thread::spawn(move || self.0.send(then()));
    }
}
impl ResumeHandle for Spare {
    fn wait(&self) {}
}

/// How often a test's threads still refuse that a guest blocks on them.
type Refusals = Arc<AtomicUsize>;

impl Node {
    /// Gives the node threads that refuse as often as the returned counter says. `last` is called at
    /// the last refusal.
    fn refusing(
        &self,
        last: impl Fn() + Send + Sync + 'static,
    ) -> (Refusals, Receiver<TurnResult>) {
        let refusals = Refusals::default();
        let left = refusals.clone();
        let may_block = move || {
            let before = left.load(Ordering::SeqCst);
            left.store(before.saturating_sub(1), Ordering::SeqCst);
            if before == 1 {
                last();
            }
            before == 0
        };
        let (ended, receiver) = channel();
        (self.executor).set_threads(Arc::new(Scripted { may_block, ended }));
        (refusals, receiver)
    }

    /// Makes a process that rests in a frame on a thread's stack.
    fn on_a_thread(&self) -> Pid {
        (0..64).for_each(|_| self.old.artifact.stack_policy.returned());
        let pid = self.spawn();
        self.ask(pid);
        pid
    }

    /// Lets the system be out of memory for a while.
    fn run_short(&self) {
        let clock = &self.executor.0.host.system.clock;
        self.executor
            .0
            .frames
            .capacity
            .failed(clock, "no memory".into());
    }

    /// Runs the processes that are scheduled until none is. Returns the number of their turns.
    fn run_scheduled(&self, pids: &[Pid]) -> usize {
        let mut turns = 0;
        while let Some(pid) = pids.iter().find(|pid| self.is_scheduled(**pid)) {
            turns += 1;
            assert!(turns <= 10, "they call each other without end");
            let _ = self.executor.run(pid.slot());
        }
        turns
    }

    /// Lets time pass, and fires the timers that are due by then.
    fn pass(&self, nanoseconds: u64) {
        let system = &self.executor.0.host.system;
        system.clock.advance(nanoseconds);
        while system.fire_timers(0) == Some(0) {}
    }

    fn timers(&self) -> usize {
        self.executor.0.host.system.timers.len()
    }

    fn messages_of(&self, pid: Pid) -> Option<usize> {
        let count = |process: &mut GuestProcess| process.inbox_len();
        self.executor.examine(pid.slot(), count)
    }

    fn waiters(&self) -> &Waiters {
        &self.executor.0.frames.waiters
    }

    /// Processes that have nothing to do until they are called.
    fn idle(&self, count: usize) -> Vec<u32> {
        let pids: Vec<Pid> = (0..count).map(|_| self.spawn()).collect();
        pids.iter().for_each(|pid| self.ask(*pid));
        pids.iter().map(|pid| pid.slot()).collect()
    }

    fn is_called(&self, slot: u32) -> bool {
        matches!(self.waiters().may_try(slot), Turnstile::Called { .. })
    }

    fn is_scheduled(&self, pid: Pid) -> bool {
        let slot = self.executor.0.host.system.table.slot(pid.slot()).unwrap();
        !slot.state.claim() || {
            let _ = slot.state.transition_to_idle();
            false
        }
    }
}

const A: u64 = 1_000;
const B: u64 = 2_000;

#[test]
fn a_call_in_vain_is_passed_on_to_each_other_version_once() {
    let node = node();
    let [a, a2, b] = node.idle(3)[..] else {
        panic!("three processes")
    };
    let waiters = node.waiters();
    for (slot, artifact) in [(a, A), (a2, A), (b, B)] {
        waiters.join(slot, artifact);
    }
    waiters.call();
    assert_eq!(waiters.may_try(a), Turnstile::Called { others: 1 });
    assert_eq!(waiters.may_try(b), Turnstile::Waits);
    // It tries in vain, and waits again.
    waiters.join(a, A);
    waiters.pass_on(1);
    assert_eq!(waiters.may_try(b), Turnstile::Called { others: 0 });
    waiters.join(b, B);
    waiters.pass_on(0);
    for slot in [a, a2, b] {
        assert_eq!(waiters.may_try(slot), Turnstile::Waits);
    }
    // The versions take turns, and a process that has tried waits behind the others of its own.
    for slot in [a2, b, a] {
        waiters.call();
        assert!(node.is_called(slot), "{slot}");
    }
    assert_eq!(waiters.len(), 0);
    waiters.call();
}

/// Its entry is still in the queue. The process that gets the slot has not waited for so long.
#[test]
fn the_next_process_of_a_slot_does_not_take_the_place_of_one_that_has_left() {
    let node = node();
    let [first, second] = node.idle(2)[..] else {
        panic!("two processes")
    };
    let waiters = node.waiters();
    waiters.join(first, A);
    waiters.join(second, A);
    waiters.leave(first);
    waiters.join(first, A);
    waiters.call();
    assert!(node.is_called(second) && !node.is_called(first));
    waiters.call();
    assert!(node.is_called(first));
    assert_eq!(waiters.len(), 0);
}

/// Nothing else wakes it when the system may have memory again.
#[test]
fn a_process_tries_again_when_the_shortage_has_lasted_longer_than_at_first() {
    let node = node();
    let (frames, system) = (&node.executor.0.frames, &node.executor.0.host.system);
    let pid = node.spawn();
    let half = capacity::PAUSE / 2;
    frames.capacity.failed(&system.clock, "no memory".into());
    assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
    assert_eq!(node.executor.waiting_for_frames(), 1);
    system.clock.advance(half);
    frames.capacity.failed(&system.clock, "no memory".into());
    let mut turns = 0;
    for _ in 0..4 {
        system.clock.advance(half);
        while system.fire_timers(0) == Some(0) {}
        if node.is_scheduled(pid) {
            turns += 1;
            assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
        }
    }
    // In vain when its first timer was over, and then once more.
    assert_eq!((turns, node.executor.waiting_for_frames()), (2, 0));
    assert_eq!(node.executor.frames().live, 1);
}

/// It rests in a frame that is of no use to it, which calls others but not itself.
#[test]
fn a_process_that_needs_a_fiber_when_there_is_none_waits_until_one_can_be_had() {
    let mut limits = FrameLimits::new(100, u64::MAX);
    // Two frames without fibers, or one of each kind.
    (limits.mappings, limits.most_mappings) = (10, 10);
    let node = node_within(limits, MemoryLayout::Wide);
    node.executor.set_threads(Arc::new(Alone));
    let artifact = &node.old.artifact;
    (0..64).for_each(|_| artifact.stack_policy.returned());
    let pid = node.spawn();
    node.ask(pid);
    let frames = &node.executor.0.frames;
    let other = frames.acquire(artifact, 3, Purpose::Process(None)).unwrap();
    assert_eq!(node.executor.frames().mappings, 8);
    artifact.stack_policy.waited();
    node.send(pid, 0);
    for _ in 0..3 {
        assert_eq!(node.executor.waiting_for_frames(), 1);
        assert!(!node.is_scheduled(pid), "nothing has changed");
        // New messages change nothing either.
        node.send(pid, 0);
    }
    drop(other);
    assert!(node.is_scheduled(pid));
    assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
    assert_eq!(node.executor.waiting_for_frames(), 0);
    assert_eq!(node.executor.frames().mappings, mappings::most());
    let waiting = |process: &mut GuestProcess| process.inbox_len();
    assert_eq!(node.executor.examine(pid.slot(), waiting), Some(0));
}

/// The thread on which its guest blocks may be blocked for hours, and the process may end meanwhile:
/// its slot is another process's then.
#[test]
fn a_process_that_blocks_in_place_has_left_the_queue() {
    let node = node();
    let (refusals, ended) = node.refusing(|| {});
    let (pid, other) = (node.on_a_thread(), node.on_a_thread());
    node.run_short();
    // It wants a fiber first, and there is none. Then it may block.
    refusals.store(1, Ordering::SeqCst);
    node.post(pid, 7);
    let executor = node.executor.clone();
    let blocked = std::thread::spawn(move || executor.run(pid.slot()));
    assert!(matches!(ended.recv().unwrap(), TurnResult::Idle));
    assert_eq!(node.executor.waiting_for_frames(), 0);
    node.waiters().join(other.slot(), A);
    node.waiters().call();
    assert!(node.is_called(other.slot()));
    let kill = Signal::Kill { from: Pid::NONE };
    let _ = node.executor.0.host.system.signal(pid, kill);
    assert!(matches!(node.executor.run(pid.slot()), TurnResult::Idle));
    assert!(matches!(blocked.join().unwrap(), TurnResult::Ended));
    assert!(!node.lives(pid));
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (0, 0));
    node.none_is_lost(node.executor.frames().live);
}

/// The frame of each is available when it comes to rest, but no process that waits can use it.
#[test]
fn processes_in_useless_frames_do_not_call_each_other_while_the_system_is_short() {
    let node = node();
    node.executor.set_threads(Arc::new(Alone));
    let pids = [node.on_a_thread(), node.on_a_thread()];
    node.old.artifact.stack_policy.waited();
    node.run_short();
    pids.iter().for_each(|pid| node.post(*pid, 0));
    node.run_scheduled(&pids);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (2, 2));
    // Nor does a message, or a frame that is available, let them try.
    pids.iter().for_each(|pid| node.post(*pid, 0));
    node.waiters().call();
    node.run_scheduled(&pids);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (2, 2));
    node.pass(capacity::PAUSE);
    assert_eq!(node.run_scheduled(&pids), 2);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (0, 0));
    assert_eq!(pids.map(|pid| node.messages_of(pid)), [Some(0); 2]);
}

/// One that was called in vain has set a timer before.
#[test]
fn a_process_that_waits_has_one_timer() {
    let node = node();
    let pid = node.spawn();
    node.run_short();
    for _ in 0..5 {
        assert_eq!(node.run_scheduled(&[pid]), 1);
        assert_eq!((node.executor.waiting_for_frames(), node.timers()), (1, 1));
        node.waiters().call();
    }
    node.pass(capacity::PAUSE);
    assert_eq!(node.run_scheduled(&[pid]), 1);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (0, 0));
}

/// A free frame is of use to it then, as to any other.
#[test]
fn a_process_that_was_paged_out_of_a_useless_frame_is_called() {
    let node = node();
    node.executor.set_threads(Arc::new(Alone));
    let pid = node.on_a_thread();
    node.old.artifact.stack_policy.waited();
    node.run_short();
    node.send(pid, 0);
    node.waiters().call();
    assert!(!node.is_scheduled(pid), "it rests in a frame");
    let frames = &node.executor.0.frames;
    let pool = frames.pool(&node.old.artifact);
    // It has a second chance.
    let lease = (0..2).find_map(|_| frames.evict_any(&pool)).unwrap();
    assert!(!node.is_scheduled(pid), "its frame is in use");
    drop(lease);
    assert!(node.is_scheduled(pid));
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (1, 1));
}

/// It may need no fiber any more: whether it does depends on the threads too.
#[test]
fn a_process_in_a_useless_frame_tries_again_although_the_shortage_lasts() {
    let node = node();
    let (refusals, _) = node.refusing(|| {});
    let pid = node.on_a_thread();
    node.run_short();
    refusals.store(2, Ordering::SeqCst);
    node.send(pid, 0);
    let half = capacity::PAUSE / 2;
    node.pass(half);
    assert_eq!(node.executor.waiting_for_frames(), 1);
    node.run_short();
    node.pass(half);
    assert_eq!(node.run_scheduled(&[pid]), 1);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (0, 0));
    assert_eq!(node.messages_of(pid), Some(0));
}

/// Until then it waits for others to give a frame back, and they may not.
#[test]
fn a_process_that_finds_a_shortage_in_its_last_try_sets_a_timer() {
    let mut limits = FrameLimits::new(100, u64::MAX);
    // Two frames without fibers.
    (limits.mappings, limits.most_mappings) = (10, 10);
    let node = node_within(limits, MemoryLayout::Wide);
    let (frames, system) = (&node.executor.0.frames, &node.executor.0.host.system);
    let (refusals, _) = {
        let (capacity, system) = (frames.capacity.clone(), system.clone());
        node.refusing(move || capacity.failed(&system.clock, "no memory".into()))
    };
    let pid = node.on_a_thread();
    let other = frames.acquire(&node.old.artifact, 3, Purpose::Process(None));
    assert_eq!(node.executor.frames().mappings, 8);
    // Both tries want a fiber; the second one finds the shortage.
    refusals.store(2, Ordering::SeqCst);
    node.send(pid, 0);
    assert!(frames.is_short());
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (1, 1));
    node.pass(capacity::PAUSE);
    assert_eq!(node.run_scheduled(&[pid]), 1);
    assert_eq!((node.executor.waiting_for_frames(), node.timers()), (0, 0));
    assert_eq!(node.messages_of(pid), Some(0));
    drop(other);
}
