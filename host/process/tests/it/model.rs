//! Relations among a handful of processes, against rules that say what must be true when all
//! signals have been delivered. The order in which processes take their turns is as random as their
//! actions.
//!
//! The rules do not predict which processes terminate, since that depends on the order. They keep
//! *duties* (an exit that a linked process must not survive without a message) and *threats*
//! (reasons for which a process may terminate).

use std::collections::HashMap;

use exuvia_process::{Envelope, Kind, Pid, Process, Reason};
use proptest::prelude::*;

use crate::world::{FAILED, World};

const ACTORS: usize = 5;

type Actor = usize;

#[derive(Clone, Debug)]
enum Act {
    Link(Actor, Actor),
    Unlink(Actor, Actor),
    Monitor(Actor, Actor),
    Request(Actor, Actor),
    /// The actor gives up one of its monitors or requests.
    GiveUp(Actor, prop::sample::Index, bool),
    /// The second actor replies to the first request that the first actor has received.
    Answer(Actor, Actor),
    Trap(Actor, bool),
    Exit(Actor, Reason),
    ExitSignal(Actor, Actor, Reason),
    Kill(Actor, Actor),
    /// A dead actor is replaced; its slot is reused.
    Replace(Actor),
    /// One process in the run queue has its turn.
    Turn(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    let actor = || 0..ACTORS;
    let pair = || (actor(), actor());
    let reason = || prop::sample::select(vec![Reason::NORMAL, Reason::SHUTDOWN, FAILED]);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => pair().prop_map(|(from, to)| Act::Link(from, to)),
        3 => pair().prop_map(|(from, to)| Act::Unlink(from, to)),
        4 => pair().prop_map(|(from, to)| Act::Monitor(from, to)),
        4 => pair().prop_map(|(from, to)| Act::Request(from, to)),
        3 => (actor(), index(), any::<bool>()).prop_map(|(a, i, flush)| Act::GiveUp(a, i, flush)),
        3 => pair().prop_map(|(server, by)| Act::Answer(server, by)),
        2 => (actor(), any::<bool>()).prop_map(|(actor, on)| Act::Trap(actor, on)),
        1 => (actor(), reason()).prop_map(|(actor, reason)| Act::Exit(actor, reason)),
        1 => (pair(), reason()).prop_map(|((from, to), reason)| Act::ExitSignal(from, to, reason)),
        1 => pair().prop_map(|(from, to)| Act::Kill(from, to)),
        4 => actor().prop_map(Act::Replace),
        12 => index().prop_map(Act::Turn),
    ]
}

/// A monitor or a request.
struct Watch {
    watcher: Pid,
    target: Pid,
    reference: u64,
    request: bool,
    answered: bool,
    /// It was given up when this many messages about it had arrived, which stay.
    given_up: Option<usize>,
}

/// `who` may terminate with `code`; along a link from `by`, or by a signal if `None`.
struct Threat {
    who: Pid,
    by: Option<Pid>,
    code: i32,
}

/// `who` was linked to `to`, which terminated with `code`.
struct Duty {
    who: Pid,
    to: Pid,
    code: i32,
}

struct Model {
    world: World,
    actors: [Pid; ACTORS],
    watches: Vec<Watch>,
    threats: Vec<Threat>,
    duties: Vec<Duty>,
    /// The processes to which each living process was linked before this act.
    links: HashMap<Pid, Vec<Pid>>,
    /// Number of exits that were processed.
    seen: usize,
}

impl Model {
    fn new(mut world: World) -> Model {
        let actors = world.puppets();
        Model {
            world,
            actors,
            watches: Vec::new(),
            threats: Vec::new(),
            duties: Vec::new(),
            links: HashMap::new(),
            seen: 0,
        }
    }

    fn living(&self) -> Vec<Pid> {
        let alive = |pid: &Pid| self.world.is_alive(*pid);
        self.actors.iter().copied().filter(alive).collect()
    }

    fn act(&mut self, act: &Act) {
        let who = match act {
            Act::Link(who, _)
            | Act::Unlink(who, _)
            | Act::Monitor(who, _)
            | Act::Request(who, _)
            | Act::GiveUp(who, ..)
            | Act::Trap(who, _)
            | Act::Exit(who, _)
            | Act::ExitSignal(who, ..)
            | Act::Kill(who, _) => Some(self.actors[*who]),
            _ => None,
        };
        if who.is_some_and(|pid| !self.world.is_alive(pid)) {
            return;
        }
        let who = who.unwrap_or_default();
        self.links = (self.living().into_iter())
            .map(|pid| (pid, self.world.examine(pid, Process::links)))
            .collect();
        match act {
            Act::Link(_, to) => self.link(who, self.actors[*to]),
            Act::Unlink(_, to) => {
                let to = self.actors[*to];
                if self.links[&who].contains(&to) {
                    self.threats.retain(|t| t.who != who || t.by != Some(to));
                    self.duties.retain(|d| d.who != who || d.to != to);
                }
                self.world.unlink(who, to);
            }
            Act::Monitor(_, to) => self.watch(who, self.actors[*to], false),
            Act::Request(_, to) => self.watch(who, self.actors[*to], true),
            Act::GiveUp(_, index, flush) => self.give_up(who, index, *flush),
            Act::Answer(server, by) => self.answer(self.actors[*server], self.actors[*by]),
            Act::Trap(_, on) => {
                self.world
                    .with(who, |process, _| process.set_trap_exit(*on));
            }
            Act::Exit(_, reason) => self.world.exit(who, *reason),
            Act::ExitSignal(_, to, reason) => {
                let to = self.actors[*to];
                self.threaten(to, None, reason.0);
                self.world.exit_signal(who, to, *reason);
            }
            Act::Kill(_, to) => {
                let to = self.actors[*to];
                self.threaten(to, None, Reason::KILLED.0);
                self.world.kill(who, to);
            }
            Act::Replace(actor) => {
                if !self.world.is_alive(self.actors[*actor]) {
                    self.actors[*actor] = self.world.puppet();
                }
            }
            Act::Turn(index) => {
                let scheduled = self.world.scheduled();
                if scheduled > 0 {
                    self.turn(index.index(scheduled));
                }
            }
        }
        self.check_ends();
    }

    fn threaten(&mut self, who: Pid, by: Option<Pid>, code: i32) {
        self.threats.push(Threat { who, by, code });
    }

    fn link(&mut self, who: Pid, to: Pid) {
        if !self.world.is_alive(to) {
            // An exit signal of the dead process may be in transit and arrive first.
            self.threaten(who, Some(to), Reason::NOPROC.0);
            if let Some(code) = self.world.end_of(to) {
                self.threaten(who, Some(to), code);
            }
        }
        self.world.link(who, to);
    }

    fn watch(&mut self, watcher: Pid, target: Pid, request: bool) {
        let reference = if request {
            self.world.request(watcher, target, 0)
        } else {
            self.world.monitor(watcher, target)
        };
        self.watches.push(Watch {
            watcher,
            target,
            reference,
            request,
            answered: false,
            given_up: None,
        });
    }

    fn give_up(&mut self, who: Pid, index: &prop::sample::Index, flush: bool) {
        let mut process = (self.watches.iter_mut())
            .filter(|watch| watch.watcher == who)
            .collect::<Vec<_>>();
        if process.is_empty() {
            return;
        }
        let at = index.index(process.len());
        let watch = &mut process[at];
        let reference = watch.reference;
        let here = self
            .world
            .examine(who, |process| about(&inbox(process), reference).0);
        self.world.demonitor(who, reference, flush);
        if watch.given_up.is_none() || flush {
            watch.given_up = Some(if flush { 0 } else { here });
        }
    }

    fn answer(&mut self, server: Pid, by: Pid) {
        if !self.world.is_alive(server) || !self.world.is_alive(by) {
            return;
        }
        let request = self.world.with(server, |process, _| {
            let at = (0..process.inbox_len())
                .find(|at| process.peek(*at).is_some_and(|m| m.kind == Kind::Request))?;
            process.take(at)
        });
        let Some(request) = request else { return };
        self.world.reply(by, &request, 0);
        for watch in &mut self.watches {
            watch.answered |= watch.reference == request.reference;
        }
    }

    /// Runs one turn; a process that terminates in it must have had a reason to.
    fn turn(&mut self, at: usize) {
        let before = self.world.ended.len();
        self.world.step(at);
        for (who, reason) in &self.world.ended[before..] {
            let why = |threat: &Threat| threat.who == *who && threat.code == reason.code();
            assert!(
                self.threats.iter().any(why),
                "{who} died of {reason} for no reason"
            );
        }
    }

    fn check_ends(&mut self) {
        let ended = self.world.ended[self.seen..].to_vec();
        self.seen = self.world.ended.len();
        for (dead, reason) in ended {
            for who in self.living() {
                let links_here = self.world.examine(who, Process::links).contains(&dead);
                let linked_there = self.links.get(&dead).is_some_and(|l| l.contains(&who));
                if links_here || linked_there {
                    self.threaten(who, Some(dead), reason.code());
                    self.threaten(who, Some(dead), Reason::NOPROC.0);
                }
                // If one of them had unlinked on its side, the other need not be notified.
                if links_here && linked_there {
                    self.duties.push(Duty {
                        who,
                        to: dead,
                        code: reason.code(),
                    });
                }
            }
        }
    }

    fn settle(&mut self) {
        while self.world.scheduled() > 0 {
            self.links = (self.living().into_iter())
                .map(|pid| (pid, self.world.examine(pid, Process::links)))
                .collect();
            self.turn(0);
            self.check_ends();
        }
    }

    fn check(&self) {
        for pid in self.living() {
            self.check_links(pid);
            self.check_counts(pid);
        }
        for watch in &self.watches {
            if self.world.is_alive(watch.watcher) {
                self.check_watch(watch);
            }
        }
        for Duty { who, to, code } in &self.duties {
            if self.world.is_alive(*who) && *code != Reason::NORMAL.0 {
                let messages = self.world.examine(*who, inbox);
                let told = |m: &Envelope| m.kind == Kind::Exit && m.sender == *to;
                assert!(messages.iter().any(told), "{who} survived the end of {to}");
            }
        }
        assert_eq!(self.world.system.table.alive(), self.living().len());
    }

    fn check_links(&self, pid: Pid) {
        for peer in self.world.examine(pid, Process::links) {
            assert!(self.world.is_alive(peer), "{pid} is linked to dead {peer}");
            let back = self.world.examine(peer, Process::links);
            assert!(back.contains(&pid), "{pid} is linked to {peer}, not back");
        }
    }

    /// Checks that nothing is left of dead processes and of what is over.
    fn check_counts(&self, pid: Pid) {
        let links = self.world.examine(pid, Process::links).len();
        let under_way = |watch: &&Watch| {
            watch.given_up.is_none()
                && !watch.answered
                && self.world.is_alive(watch.watcher)
                && self.world.is_alive(watch.target)
        };
        let watches = || self.watches.iter().filter(under_way);
        let out = watches().filter(|watch| watch.watcher == pid).count();
        let back = watches().filter(|watch| watch.target == pid).count();
        let counts = self.world.examine(pid, Process::relation_counts);
        assert_eq!(counts, (links, out, back), "relations of {pid}");
    }

    fn check_watch(&self, watch: &Watch) {
        let messages = self.world.examine(watch.watcher, inbox);
        let (all, replies) = about(&messages, watch.reference);
        let over = watch.answered || !self.world.is_alive(watch.target);
        let expected = watch.given_up.unwrap_or(usize::from(over));
        assert!(
            all == expected && (watch.request || replies == 0),
            "{all} messages about {} of {}, where {expected} should be",
            watch.reference,
            watch.watcher,
        );
    }
}

fn inbox(process: &Process<()>) -> Vec<Envelope> {
    (0..process.inbox_len())
        .filter_map(|at| process.peek(at).cloned())
        .collect()
}

/// Returns the number of replies and DOWNs with a reference, and how many of them are replies.
fn about(messages: &[Envelope], reference: u64) -> (usize, usize) {
    let of = |kind: Kind| {
        let about = |m: &&Envelope| m.kind == kind && m.reference == reference;
        messages.iter().filter(about).count()
    };
    (of(Kind::Reply) + of(Kind::Down), of(Kind::Reply))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn relations_are_consistent_in_any_order(
        acts in prop::collection::vec(act(), 1..150),
        parts in 0..4usize,
    ) {
        // Also with work of more than a few signals split over several turns.
        let world = if parts == 0 { World::new() } else { World::in_parts_of(parts) };
        let mut model = Model::new(world);
        for act in &acts {
            model.act(act);
        }
        model.settle();
        model.check();
    }
}
