//! A process that exits while it is restored.

use super::hook::{WhenScheduled, put_idle, spec, take_scheduled};
use super::*;

#[test]
fn a_process_is_not_restored_before_all_are_notified_of_its_exit() {
    let (system, hook) = WhenScheduled::new();
    let parent = system.spawn(spec()).unwrap();
    let child = SpawnSpec {
        parent,
        link: true,
        ..spec()
    };
    let child = system.spawn(child).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let mut child = take_scheduled(&system, child);
    let snapshot = child.capture(&system, guest).expect("it is at rest");
    // The parent is scheduled by the first notification.
    let again = snapshot.clone();
    let result = hook.act(move |system| system.restore(&again, ()));
    let _ = system.terminate(child, &ExitReason::new(FAILED));
    let ending = Some(Err(RestoreError::Ending));
    assert_eq!(*result.lock().unwrap(), ending);
    assert_eq!(system.restore(&snapshot, ()), Ok(snapshot.pid));

    // The same holds for a reserved pid that is given up.
    let pid = system.reserve(&Limits::default().into()).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let monitor = Signal::Monitor {
        from: parent,
        reference: 5,
    };
    system.signal(pid, monitor).unwrap();
    let reserved = ProcessSnapshot { pid, ..snapshot };
    let again = reserved.clone();
    let result = hook.act(move |system| system.restore(&again, ()));
    system.abandon(pid);
    assert_eq!(*result.lock().unwrap(), ending);
    assert_eq!(system.restore(&reserved, ()), Ok(pid));
}

#[test]
fn a_panic_while_others_are_notified_of_an_exit_prevents_no_restore() {
    let (system, hook) = WhenScheduled::new();
    let parent = system.spawn(spec()).unwrap();
    let child = SpawnSpec {
        parent,
        link: true,
        ..spec()
    };
    let child = system.spawn(child).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let mut child = take_scheduled(&system, child);
    let snapshot = child.capture(&system, guest).expect("it is at rest");
    hook.act::<()>(|_| panic!("as a fault of the host would"));
    let terminated = catch_unwind(AssertUnwindSafe(|| {
        let _ = system.terminate(child, &ExitReason::new(FAILED));
    }));
    assert!(terminated.is_err());
    assert_eq!(system.restore(&snapshot, ()), Ok(snapshot.pid));

    // The same holds for a reserved pid that is given up.
    let pid = system.reserve(&Limits::default().into()).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let monitor = Signal::Monitor {
        from: parent,
        reference: 5,
    };
    system.signal(pid, monitor).unwrap();
    hook.act::<()>(|_| panic!("as a fault of the host would"));
    let abandoned = catch_unwind(AssertUnwindSafe(|| system.abandon(pid)));
    assert!(abandoned.is_err());
    let reserved = ProcessSnapshot { pid, ..snapshot };
    assert_eq!(system.restore(&reserved, ()), Ok(pid));
}

#[test]
fn a_process_is_not_restored_while_it_notifies_many_in_parts() {
    let mut world = World::in_parts_of(2);
    let pid = world.puppet();
    for peer in world.puppets::<5>() {
        world.link(peer, pid);
        world.trap(peer);
    }
    world.run();
    let snapshot = capture(&mut world, pid);
    world.exit(pid, FAILED);
    assert!(!world.is_alive(pid));
    let ending = Err(RestoreError::Ending);
    assert_eq!(world.system.restore(&snapshot, ()), ending);
    world.run();
    restore(&world, &snapshot);
    assert_eq!(world.relations(pid), (5, 0, 0));
}
