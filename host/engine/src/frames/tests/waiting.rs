//! Processes that wait for a frame: which one is called, and when.

use super::*;

impl Node {
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
    assert_eq!(node.executor.frames().mappings, 6);
    let waiting = |process: &mut GuestProcess| process.inbox_len();
    assert_eq!(node.executor.examine(pid.slot(), waiting), Some(0));
}
