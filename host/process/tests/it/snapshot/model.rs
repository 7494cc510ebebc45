//! Random lives of a few processes, captured and restored.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Send(usize, usize, u32),
    Link(usize, usize),
    Unlink(usize, usize),
    Monitor(usize, usize),
    Demonitor(usize, usize),
    Request(usize, usize),
    Receive(usize),
    Reply(usize),
    Timer(usize, usize, u64),
    Advance(u64),
    Name(usize, u8),
    Join(usize, u8),
    Trap(usize),
    Exit(usize),
    /// The processes take their turns.
    Run,
}

const MANY: usize = 5;

fn act() -> impl Strategy<Value = Act> {
    let (a, b) = (0..MANY, 0..MANY);
    let two = (a.clone(), b);
    prop_oneof![
        4 => (two.clone(), any::<u32>()).prop_map(|((a, b), tag)| Act::Send(a, b, tag)),
        3 => two.clone().prop_map(|(a, b)| Act::Link(a, b)),
        1 => two.clone().prop_map(|(a, b)| Act::Unlink(a, b)),
        2 => two.clone().prop_map(|(a, b)| Act::Monitor(a, b)),
        1 => (a.clone(), any::<usize>()).prop_map(|(a, at)| Act::Demonitor(a, at)),
        3 => two.clone().prop_map(|(a, b)| Act::Request(a, b)),
        2 => a.clone().prop_map(Act::Receive),
        2 => a.clone().prop_map(Act::Reply),
        2 => (two, 1..9u64).prop_map(|((a, b), delay)| Act::Timer(a, b, delay)),
        1 => (1..4u64).prop_map(Act::Advance),
        1 => (a.clone(), 0..4u8).prop_map(|(a, name)| Act::Name(a, name)),
        1 => (a.clone(), 0..3u8).prop_map(|(a, name)| Act::Join(a, name)),
        1 => a.clone().prop_map(Act::Trap),
        1 => a.prop_map(Act::Exit),
        2 => Just(Act::Run),
    ]
}

/// The node and its processes; those that have ended do nothing.
struct Story {
    world: World,
    pids: [Pid; MANY],
    /// The references that each process has monitors under.
    monitors: Vec<(usize, u64)>,
}

impl Story {
    fn pid(&self, at: usize) -> Option<Pid> {
        Some(self.pids[at]).filter(|pid| self.world.is_alive(*pid))
    }

    fn act(&mut self, act: &Act) -> Option<()> {
        match *act {
            Act::Send(from, to, tag) => {
                let (from, to) = (self.pid(from)?, self.pid(to)?);
                self.world.send(from, to, tag).expect("accepted");
            }
            Act::Link(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.link(a, b);
            }
            Act::Unlink(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.unlink(a, b);
            }
            Act::Monitor(a, b) => {
                let (from, to) = (self.pid(a)?, self.pid(b)?);
                let reference = self.world.monitor(from, to);
                self.monitors.push((a, reference));
            }
            Act::Demonitor(a, at) => {
                let pid = self.pid(a)?;
                let mine: Vec<_> = self.monitors.iter().filter(|(by, _)| *by == a).collect();
                let (_, reference) = **mine.get(at % mine.len().max(1))?;
                self.world.demonitor(pid, reference, true);
            }
            Act::Request(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.request(a, b, 50);
            }
            Act::Receive(a) => {
                let pid = self.pid(a)?;
                self.world.with(pid, |process, _| process.take(0));
            }
            Act::Reply(a) => {
                let pid = self.pid(a)?;
                let taken = self.world.with(pid, |process, _| {
                    let at = (0..process.inbox_len())
                        .find(|at| process.peek(*at).is_some_and(|m| m.kind == Kind::Request))?;
                    process.take(at)
                });
                self.world.reply(pid, &taken?, 51);
            }
            Act::Timer(a, b, delay) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                set_timer(&mut self.world, a, b, delay * MS, 60);
            }
            Act::Advance(time) => {
                self.world.system.clock.advance(time * MS);
                self.world.system.fire_timers(0);
            }
            Act::Name(a, name) => {
                let pid = self.pid(a)?;
                let _ = self.world.system.register(&format!("name {name}"), pid);
            }
            Act::Join(a, name) => {
                let pid = self.pid(a)?;
                let _ = self.world.system.join(&format!("group {name}"), pid);
            }
            Act::Trap(a) => {
                let pid = self.pid(a)?;
                self.world.trap(pid);
            }
            Act::Exit(a) => {
                let pid = self.pid(a)?;
                self.world.exit(pid, FAILED);
            }
            Act::Run => self.world.run(),
        }
        Some(())
    }

    /// Captures all processes when nothing is in transit any more.
    fn capture(&mut self) -> Vec<ProcessSnapshot> {
        self.world.run();
        let living: Vec<Pid> = (0..MANY).filter_map(|at| self.pid(at)).collect();
        living
            .into_iter()
            .map(|pid| capture(&mut self.world, pid))
            .collect()
    }

    /// Captures all processes on their way to rest: what the capture of one sends to another that
    /// was captured before is lost.
    fn capture_in_transit(&mut self) -> Vec<ProcessSnapshot> {
        let mut found = Vec::new();
        for at in 0..MANY {
            if let Some(pid) = self.pid(at) {
                found.extend(try_capture(&mut self.world, pid).ok());
            }
        }
        found
    }
}

fn story(acts: &[Act]) -> Story {
    let mut world = World::new();
    let pids = world.puppets();
    let mut story = Story {
        world,
        pids,
        monitors: Vec::new(),
    };
    for act in acts {
        story.act(act);
    }
    story
}

/// Restores all on a new node, and runs it until nothing is in transit.
fn restored(snapshots: &[ProcessSnapshot]) -> Story {
    let mut world = World::new();
    let all = snapshots.iter().map(|snapshot| (snapshot.clone(), ()));
    for (result, snapshot) in world.system.restore_all(all).iter().zip(snapshots) {
        assert_eq!(*result, Ok(snapshot.pid));
    }
    world.run();
    let mut pids = [Pid::NONE; MANY];
    for (at, snapshot) in snapshots.iter().enumerate() {
        pids[at] = snapshot.pid;
    }
    Story {
        world,
        pids,
        monitors: Vec::new(),
    }
}

/// Relations that only one side holds, once nothing is in transit.
fn one_sided(snapshots: &[ProcessSnapshot]) -> Vec<String> {
    let find = |pid: Pid| snapshots.iter().find(|snapshot| snapshot.pid == pid);
    let mut found = Vec::new();
    for it in snapshots {
        for link in &it.links {
            let other = find(link.to).is_some_and(|o| o.links.iter().any(|l| l.to == it.pid));
            if !other || link.unlinking.is_some() {
                found.push(format!("{} is linked to {}", it.pid, link.to));
            }
        }
        for monitor in &it.monitors {
            let half = (it.pid, monitor.reference);
            if !find(monitor.of).is_some_and(|other| other.watchers.contains(&half)) {
                found.push(format!("{} monitors {}", it.pid, monitor.of));
            }
        }
        for (watcher, reference) in &it.watchers {
            let is = |other: &ProcessSnapshot| {
                let mut monitors = other.monitors.iter();
                monitors.any(|m| m.reference == *reference && m.of == it.pid)
            };
            if !find(*watcher).is_some_and(is) {
                found.push(format!("{} is watched by {watcher}", it.pid));
            }
        }
    }
    found
}

proptest! {
    /// Nothing is lost or added: the restored processes are what the captured ones were.
    #[test]
    fn restored_processes_equal_the_captured_ones(acts in prop::collection::vec(act(), 0..60)) {
        let mut old = story(&acts);
        let before = old.capture();
        prop_assert_eq!(one_sided(&before), Vec::<String>::new());
        let mut new = restored(&before);
        let after = new.capture();
        prop_assert_eq!(&after, &before);
        // And they go on as the others do.
        for _ in 0..3 {
            old.act(&Act::Advance(3));
            new.act(&Act::Advance(3));
        }
        let captured = |pid: Pid| before.iter().any(|snapshot| snapshot.pid == pid);
        let rest = |story: &mut Story, pid: Pid| match story.world.is_alive(pid) {
            true => {
                let mut messages = story.world.inbox(pid);
                // A timer of a process that has ended is in no snapshot.
                messages.retain(|m| m.kind != Kind::Timer || captured(m.sender));
                facts(&messages)
            }
            false => Vec::new(),
        };
        old.world.run();
        new.world.run();
        for snapshot in &before {
            prop_assert_eq!(rest(&mut new, snapshot.pid), rest(&mut old, snapshot.pid));
        }
    }

    /// Whatever was in transit when they were captured, one after another: after the restore both
    /// sides of each relation agree, and each request has got its reply or a `DOWN`.
    #[test]
    fn relations_agree_after_any_restore(
        acts in prop::collection::vec(act(), 0..60),
        lost in any::<[bool; MANY]>(),
    ) {
        let mut snapshots = story(&acts).capture_in_transit();
        let mut lost = lost.into_iter();
        snapshots.retain(|_| lost.next() != Some(true));
        let mut new = restored(&snapshots);
        let after = new.capture();
        prop_assert_eq!(one_sided(&after), Vec::<String>::new());
    }
}
