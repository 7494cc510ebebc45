//! Pids are never reused, not even when a slot's generations are used up. These are unit tests
//! because skipping half a million million generations needs private access.

use std::sync::Arc;

use exuvia_abi::Pid;

use crate::{
    Body, Clock, Envelope, ExitReason, GenerationsUsedUp, Limits, Payload, Reason, SendError,
    SpawnSpec, System,
};

fn spawn(system: &System<()>) -> Pid {
    let limits: Arc<Limits> = Limits::default().into();
    let spec = SpawnSpec::new(Body::Guest(()), limits, Payload::empty());
    system.spawn(spec).expect("the table has a free slot")
}

fn end(system: &System<()>, pid: Pid) {
    let slot = system.table.slot(pid.slot()).expect("it lives");
    assert!(slot.state.transition_to_running());
    let process = slot.take_process().expect("its own half is there");
    let _ = system.terminate(process, &ExitReason::new(Reason::NORMAL));
}

#[test]
fn a_slot_with_no_generation_left_is_not_reused() {
    // One process at a time: all have the same slot while that is usable.
    let system: System<()> = System::new(7, 1, 1, Clock::manual());
    let first = spawn(&system);
    assert_eq!((first.slot(), first.generation()), (0, 0));
    end(&system, first);
    let slot = system.table.slot(0).expect("it was used");
    slot.mailbox.skip_to(Pid::LAST_GENERATION - 1);
    let mut seen = vec![first];
    for (slot, generation) in [
        (0, Pid::LAST_GENERATION - 1),
        (0, Pid::LAST_GENERATION),
        (1, 0),
        (1, 1),
    ] {
        let pid = spawn(&system);
        assert_eq!((pid.slot(), pid.generation()), (slot, generation));
        assert_eq!(system.pid(slot), Some(pid));
        assert_eq!(system.table.alive(), 1);
        // None of the earlier pids refers to a living process.
        for old in &seen {
            assert_ne!(*old, pid);
            assert!(!system.is_alive(*old));
            let message = Envelope::message(Pid::NONE, 0, Payload::empty());
            assert_eq!(system.send(*old, message), Err(SendError::Dead));
        }
        seen.push(pid);
        end(&system, pid);
    }
    assert_eq!(system.table.alive(), 0);
}

#[test]
fn a_new_node_refuses_to_begin_beyond_the_last_generation() {
    let old: System<()> = System::new(7, 1, 1, Clock::manual());
    end(&old, spawn(&old));
    let slot = old.table.slot(0).expect("it was used");
    slot.mailbox.skip_to(Pid::LAST_GENERATION);
    let usable = old.table.next_generation();
    let last = spawn(&old);
    assert_eq!(last.generation(), Pid::LAST_GENERATION);
    // While the last process of the slot lives, and after it.
    let mut used_up = vec![old.table.next_generation()];
    end(&old, last);
    used_up.push(old.table.next_generation());
    let new: System<()> = System::new(7, 1, 1, Clock::manual());
    for least in used_up {
        assert_eq!(new.table.raise_generations(least), Err(GenerationsUsedUp));
    }
    assert_eq!(new.table.next_generation(), 0, "nothing has changed");
    assert_eq!(new.table.raise_generations(usable), Ok(()));
    assert_eq!(spawn(&new).generation(), Pid::LAST_GENERATION);
}

#[test]
fn a_reserved_pid_uses_its_generation_up_as_well() {
    let system: System<()> = System::new(7, 1, 1, Clock::manual());
    let first = spawn(&system);
    end(&system, first);
    let slot = system.table.slot(0).expect("it was used");
    slot.mailbox.skip_to(Pid::LAST_GENERATION);
    let limits: Arc<Limits> = Limits::default().into();
    let reserved = system.reserve(&limits).expect("the table has a free slot");
    assert_eq!(reserved.generation(), Pid::LAST_GENERATION);
    system.abandon(reserved);
    assert_eq!(spawn(&system).slot(), 1);
}
