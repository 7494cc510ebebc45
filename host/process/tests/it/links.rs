//! Links, exit signals, trapping.

use exuvia_abi::limits;
use exuvia_process::{Kind, Pid, Reason, Signal};

use crate::world::{FAILED, World, facts};

#[test]
fn a_normal_exit_does_not_affect_linked_processes() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.run();
    world.exit(one, Reason::NORMAL);
    world.run();
    assert!(world.is_alive(other));
    assert_eq!(world.relations(other), (0, 0, 0));
}

#[test]
fn a_failure_goes_through_a_chain_of_links() {
    let mut world = World::new();
    let chain: [Pid; 5] = world.puppets();
    for pair in chain.windows(2) {
        world.link(pair[1], pair[0]);
    }
    let apart = world.puppet();
    world.run();
    world.exit(chain[2], FAILED);
    world.run();
    for pid in chain {
        assert_eq!(world.end_of(pid), Some(FAILED.0));
    }
    assert!(world.is_alive(apart));
    assert_eq!(world.system.table.alive(), 1);
}

#[test]
fn shutdown_is_not_a_normal_exit() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.run();
    world.exit(one, Reason::SHUTDOWN);
    world.run();
    assert_eq!(world.end_of(other), Some(Reason::SHUTDOWN.0));
}

#[test]
fn a_process_that_traps_exits_gets_a_message_for_any_reason() {
    let mut world = World::new();
    let survivor = world.puppet();
    world.trap(survivor);
    for reason in [Reason::NORMAL, FAILED, Reason::KILLED] {
        let linked = world.puppet();
        world.link(survivor, linked);
        world.run();
        world.exit(linked, reason);
        let exit = (Kind::Exit, linked, 0, reason.0);
        assert_eq!(facts(&world.inbox(survivor)), [exit]);
    }
    assert_eq!(world.relations(survivor), (0, 0, 0));
    // Trapping can be disabled again, and the previous value is returned.
    assert!(world.with(survivor, |process, _| process.set_trap_exit(false)));
    let linked = world.puppet();
    world.link(survivor, linked);
    world.run();
    world.exit(linked, FAILED);
    world.run();
    assert_eq!(world.end_of(survivor), Some(FAILED.0));
}

#[test]
fn a_kill_cannot_be_trapped_and_linked_processes_see_killed() {
    let mut world = World::new();
    let [victim, trapping, linked, killer] = world.puppets();
    world.trap(victim);
    world.trap(trapping);
    world.link(victim, trapping);
    world.link(victim, linked);
    let reference = world.monitor(killer, victim);
    world.run();
    world.kill(killer, victim);
    world.run();
    let killed = Reason::KILLED.0;
    assert_eq!(world.end_of(victim), Some(killed));
    assert_eq!(world.end_of(linked), Some(killed));
    assert_eq!(
        facts(&world.inbox(trapping)),
        [(Kind::Exit, victim, 0, killed)]
    );
    let down = (Kind::Down, victim, reference, killed);
    assert_eq!(facts(&world.inbox(killer)), [down]);
}

#[test]
fn exit_signals_behave_as_erlangs_exit_2() {
    let mut world = World::new();
    let [sender, plain, trapping] = world.puppets();
    world.trap(trapping);

    world.exit_signal(sender, plain, Reason::NORMAL);
    world.run();
    assert!(world.is_alive(plain), "normal from another is ignored");

    // The reason `killed` is not a kill: it can be trapped.
    for reason in [Reason::NORMAL, FAILED, Reason::KILLED] {
        world.exit_signal(sender, trapping, reason);
        let exit = (Kind::Exit, sender, 0, reason.0);
        assert_eq!(facts(&world.inbox(trapping)), [exit]);
    }

    world.exit_signal(sender, plain, FAILED);
    world.run();
    assert_eq!(world.end_of(plain), Some(FAILED.0));

    // A normal exit signal to itself terminates a process, unless trapped.
    world.exit_signal(trapping, trapping, Reason::NORMAL);
    assert_eq!(world.inbox(trapping).len(), 1);
    world.exit_signal(sender, sender, Reason::NORMAL);
    world.run();
    assert_eq!(world.end_of(sender), Some(Reason::NORMAL.0));
}

#[test]
fn a_link_to_an_ended_process_gives_noproc() {
    let mut world = World::new();
    let [dead, plain, trapping] = world.puppets();
    world.exit(dead, Reason::NORMAL);
    world.trap(trapping);
    world.link(plain, dead);
    world.link(trapping, dead);
    let noproc = Reason::NOPROC.0;
    assert_eq!(
        facts(&world.inbox(trapping)),
        [(Kind::Exit, dead, 0, noproc)]
    );
    assert_eq!(world.end_of(plain), Some(noproc));
    assert_eq!(world.relations(trapping), (0, 0, 0));
}

#[test]
fn a_link_that_arrives_behind_the_end_gives_noproc() {
    let mut world = World::new();
    let [ending, killed, trapping] = world.puppets();
    world.trap(trapping);
    world.link(trapping, ending);
    world.exit(ending, FAILED);
    world.kill(trapping, killed);
    world.link(trapping, killed);
    let noproc = Reason::NOPROC.0;
    assert_eq!(
        facts(&world.inbox(trapping)),
        [
            (Kind::Exit, ending, 0, noproc),
            (Kind::Exit, killed, 0, noproc)
        ]
    );
}

#[test]
fn two_simultaneous_links_make_one() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.link(other, one);
    world.link(one, other);
    assert_eq!(world.relations(one), (1, 0, 0));
    assert_eq!(world.relations(other), (1, 0, 0));
    world.unlink(one, other);
    assert_eq!(world.relations(one), (0, 0, 0));
    assert_eq!(world.relations(other), (0, 0, 0));
}

#[test]
fn a_second_link_in_transit_does_not_hide_a_normal_exit() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.link(other, one);
    // `one` exits by itself; the link of `other` waits in its queue.
    world.exit(one, Reason::NORMAL);
    world.run();
    assert!(world.is_alive(other));
    assert_eq!(world.relations(other), (0, 0, 0));
}

#[test]
fn a_second_link_behind_a_kill_does_not_hide_the_reason() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.trap(other);
    world.link(one, other);
    world.kill(Pid::NONE, one);
    world.link(other, one);
    let killed = (Kind::Exit, one, 0, Reason::KILLED.0);
    assert_eq!(facts(&world.inbox(other)), [killed]);
}

#[test]
fn no_exit_signal_comes_after_an_unlink() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.run();
    // The exit signal is in transit when the link is removed.
    let mut process = world.take_own(one);
    world.exit(other, FAILED);
    process.unlink(&world.system, other);
    assert!(process.links().is_empty());
    world.put_own(process);
    world.run();
    assert!(world.is_alive(one));
    assert_eq!(world.relations(one), (0, 0, 0));
}

#[test]
fn a_link_sent_before_the_unlink_was_seen_is_void() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.link(other, one);
    world.unlink(one, other);
    // `one` sees the other's link first, then the acknowledgement of its unlink.
    world.run();
    assert_eq!(world.relations(one), (0, 0, 0));
    assert_eq!(world.relations(other), (0, 0, 0));
    world.exit(other, FAILED);
    world.run();
    assert!(world.is_alive(one));
}

#[test]
fn a_link_in_transit_from_an_ended_process_is_void_after_an_unlink() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    // Both have linked, neither has seen the other's link.
    let mut process = world.take_own(one);
    world.link(other, one);
    world.exit(other, FAILED);
    process.unlink(&world.system, other);
    world.put_own(process);
    world.run();
    assert!(world.is_alive(one));
    assert_eq!(world.relations(one), (0, 0, 0));
}

#[test]
fn an_unlink_from_both_sides_and_an_exit_leave_nothing_behind() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.run();
    world.unlink(other, one);
    world.unlink(one, other);
    world.exit(other, FAILED);
    assert_eq!(world.relations(one), (0, 0, 0));
    assert!(world.is_alive(one));
}

#[test]
fn a_renewed_link_holds() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    world.link(one, other);
    world.run();
    world.unlink(one, other);
    world.link(one, other);
    assert_eq!(world.relations(one), (1, 0, 0));
    assert_eq!(world.relations(other), (1, 0, 0));
    world.exit(other, FAILED);
    world.run();
    assert_eq!(world.end_of(one), Some(FAILED.0));
}

#[test]
fn a_link_to_itself_does_nothing() {
    let mut world = World::new();
    let one = world.puppet();
    world.link(one, one);
    assert_eq!(world.relations(one), (0, 0, 0));
}

#[test]
fn many_links_are_notified() {
    let mut world = World::new();
    let linked: [Pid; 40] = world.puppets();
    let center = world.puppet();
    for pid in linked {
        world.link(center, pid);
    }
    assert_eq!(world.relations(center), (40, 0, 0));
    world.exit(center, FAILED);
    world.run();
    assert!(
        linked
            .iter()
            .all(|pid| world.end_of(*pid) == Some(FAILED.0))
    );
    assert_eq!(world.system.table.alive(), 0);
}

#[test]
fn the_links_of_a_process_are_limited() {
    let mut world = World::new();
    let [pid, peer, other] = world.puppets();
    world.trap(pid);
    let most = limits::LINKS as usize;
    // No processes exist for these: they stand for others that have linked themselves.
    for n in 1..limits::LINKS {
        let from = Pid::new(7, 1_000, n.into());
        assert!(world.system.signal(pid, Signal::Link { from }).is_ok());
    }
    assert_eq!(world.relations(pid), (most - 1, 0, 0));
    let may = |world: &mut World, to, promised| {
        world.with(pid, |process, _| process.may_link(to, promised))
    };
    assert!(may(&mut world, None, 0));
    assert!(!may(&mut world, None, 1), "the last place is promised");
    world.link(pid, peer);
    assert!(!may(&mut world, None, 0));
    assert!(!may(&mut world, Some(other), 0));
    // Links that already exist, and to itself, are allowed.
    assert!(may(&mut world, Some(peer), 0));
    assert!(may(&mut world, Some(pid), 0));
    // A link that another process creates is never refused.
    world.link(other, pid);
    assert_eq!(world.relations(pid), (most + 1, 0, 0));
    world.unlink(pid, peer);
    world.run();
    assert!(!may(&mut world, None, 0), "it still has the other's");
    world.exit(other, FAILED);
    world.run();
    assert_eq!(world.relations(pid), (most - 1, 0, 0));
    assert!(!may(&mut world, None, 0), "its end waits in the mailbox");
    assert_eq!(world.inbox(pid).len(), 1);
    assert!(may(&mut world, None, 0));
}

/// Until the other side has seen an unlink, it still counts as a link.
#[test]
fn a_link_that_is_being_removed_counts() {
    let mut world = World::new();
    let [pid, peer] = world.puppets();
    for n in 1..limits::LINKS {
        let from = Pid::new(7, 1_000, n.into());
        assert!(world.system.signal(pid, Signal::Link { from }).is_ok());
    }
    world.run();
    let (before, after) = world.with(pid, |process, system| {
        process.link(system, peer);
        process.unlink(system, peer);
        (process.may_link(None, 0), process.may_link(Some(peer), 0))
    });
    assert!(!before);
    assert!(after, "to the same one it can be taken up again");
    world.run();
    assert!(world.with(pid, |process, _| process.may_link(None, 0)));
}
