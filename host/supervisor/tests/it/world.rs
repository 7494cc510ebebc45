//! A simulated environment for a supervisor: it carries out the actions, checks the
//! invariants after each one, and writes a log.
//!
//! By default each action is reported at once. With `hold_starts` and `hold_stops`
//! the test makes the reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exuvia_supervisor::{
    Action, ChildKey, ChildSpec, ChildState, Event, ExitClass, RequestError, Restart, Shutdown,
    Strategy, Supervisor, SupervisorSpec, TerminateReason, TimerToken,
};

pub(crate) type Pid = u32;
pub(crate) type Spec = ChildSpec<()>;
pub(crate) type Answer = Result<Option<Pid>, RequestError<Pid, String>>;
type Machine = Supervisor<Pid, (), String>;

/// The outcome of the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Up,
    Ignored,
    Failed,
    FailedByRelease,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) key: ChildKey,
    /// Whether it has been asked to stop.
    asked: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now_ms: u64,
    pub(crate) live: BTreeMap<Pid, Process>,
    pub(crate) starting: Option<(ChildKey, String)>,
    /// Entries: `+a` started, `~a` ignored, `!a` failed, `-a` asked to stop, `xa`
    /// killed, `?a` start cancelled.
    pub(crate) log: Vec<String>,
    pub(crate) timers: Vec<(TimerToken, u64)>,
    pub(crate) outcomes: VecDeque<Outcome>,
    pub(crate) hold_starts: bool,
    pub(crate) hold_stops: bool,
    /// Children that do not exit when they are asked to.
    pub(crate) stubborn: BTreeSet<String>,
    pub(crate) replies: Vec<(u64, Answer)>,
    pub(crate) ready: bool,
    pub(crate) terminated: Option<TerminateReason<String>>,
    inbox: VecDeque<Event<Pid, (), String>>,
    next_pid: Pid,
    next_request: u64,
}

impl World {
    pub(crate) fn new(spec: SupervisorSpec, children: Vec<Spec>) -> Self {
        Self {
            machine: Supervisor::new(spec, children).expect("a good spec"),
            now_ms: 0,
            live: BTreeMap::new(),
            starting: None,
            log: Vec::new(),
            timers: Vec::new(),
            outcomes: VecDeque::new(),
            hold_starts: false,
            hold_stops: false,
            stubborn: BTreeSet::new(),
            replies: Vec::new(),
            ready: false,
            terminated: None,
            inbox: VecDeque::new(),
            next_pid: 1,
            next_request: 0,
        }
    }

    /// Returns a world whose supervisor has started all its children, with an empty log.
    pub(crate) fn started(spec: SupervisorSpec, children: Vec<Spec>) -> Self {
        let mut world = Self::new(spec, children);
        world.send(Event::Start);
        assert!(world.ready);
        world.log.clear();
        world
    }

    pub(crate) fn send(&mut self, event: Event<Pid, (), String>) {
        self.inbox.push_back(event);
        while let Some(event) = self.inbox.pop_front() {
            for action in self.machine.handle(self.now_ms, event) {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action<Pid, (), String>) {
        match action {
            Action::StartChild { key, spec } => {
                assert_eq!(self.starting, None, "two starts at a time");
                assert_eq!(self.pid(&spec.id), None, "`{}` runs twice", spec.id);
                self.starting = Some((key, spec.id.to_string()));
                if !self.hold_starts {
                    let outcome = self.outcomes.pop_front().unwrap_or(Outcome::Up);
                    let event = self.finish_start(outcome);
                    self.inbox.push_back(event);
                }
            }
            Action::CancelStart { key, .. } => {
                let (awaited, id) = self.starting.as_ref().expect("a start to cancel");
                assert_eq!(*awaited, key);
                self.log.push(format!("?{id}"));
            }
            Action::Exit { pid } => self.ask(pid, false),
            Action::Kill { pid } => self.ask(pid, true),
            Action::SetTimer { token, after_ms } => {
                assert!(self.timers.iter().all(|(known, _)| *known != token));
                self.timers.push((token, self.now_ms + after_ms));
            }
            Action::CancelTimer { token } => self.timers.retain(|(known, _)| *known != token),
            Action::Ready => {
                assert!(!self.ready, "ready twice");
                self.ready = true;
            }
            Action::Reply { request, result } => {
                assert!(self.replies.iter().all(|(known, _)| *known != request));
                self.replies.push((request, result));
            }
            Action::Terminate { reason } => {
                assert_eq!(self.terminated, None, "terminated twice");
                assert!(self.live.is_empty(), "left behind: {:?}", self.live);
                assert_eq!(self.starting, None, "a start is left behind");
                assert!(self.timers.is_empty(), "a timer is left behind");
                self.terminated = Some(reason);
            }
        }
    }

    fn ask(&mut self, pid: Pid, kill: bool) {
        let Some(process) = self.live.get_mut(&pid) else {
            return; // The report of its exit is pending.
        };
        process.asked = true;
        let id = process.id.clone();
        self.log
            .push(format!("{}{id}", if kill { "x" } else { "-" }));
        let others = self.live.values().filter(|process| process.asked).count();
        assert_eq!(others, 1, "two children are being stopped");
        if !self.hold_stops && (kill || !self.stubborn.contains(&id)) {
            self.live.remove(&pid);
            self.inbox.push_back(exited(pid, ExitClass::Shutdown));
        }
    }

    /// Ends the start in progress and returns the report.
    pub(crate) fn finish_start(&mut self, outcome: Outcome) -> Event<Pid, (), String> {
        let (key, id) = self.starting.take().expect("a start under way");
        match outcome {
            Outcome::Up => {
                let pid = self.next_pid;
                self.next_pid += 1;
                self.log.push(format!("+{id}"));
                let asked = false;
                self.live.insert(pid, Process { id, key, asked });
                Event::ChildStarted { key, pid }
            }
            Outcome::Ignored => {
                self.log.push(format!("~{id}"));
                Event::ChildIgnored { key }
            }
            Outcome::Failed | Outcome::FailedByRelease => {
                self.log.push(format!("!{id}"));
                Event::ChildStartFailed {
                    key,
                    reason: format!("{id} is broken"),
                    caused_by_release: outcome == Outcome::FailedByRelease,
                }
            }
        }
    }

    pub(crate) fn finish(&mut self, outcome: Outcome) {
        let event = self.finish_start(outcome);
        self.send(event);
    }

    pub(crate) fn pid(&self, id: &str) -> Option<Pid> {
        self.live
            .iter()
            .find(|(_, process)| process.id == id)
            .map(|(pid, _)| *pid)
    }

    /// Returns the process that is being stopped.
    pub(crate) fn asked(&self) -> Option<Pid> {
        self.live
            .iter()
            .find(|(_, process)| process.asked)
            .map(|(pid, _)| *pid)
    }

    /// Ends the child's process and reports its exit.
    pub(crate) fn exit(&mut self, id: &str, class: ExitClass) {
        let pid = self.pid(id).expect("a running child");
        self.exit_pid(pid, class, false);
    }

    pub(crate) fn exit_pid(&mut self, pid: Pid, class: ExitClass, caused_by_release: bool) {
        self.live.remove(&pid).expect("a living process");
        self.send(Event::ChildExited {
            pid,
            class,
            caused_by_release,
        });
    }

    pub(crate) fn crash(&mut self, id: &str) {
        self.exit(id, ExitClass::Abnormal);
    }

    /// Advances the clock and fires the timers that are due.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        while let Some(at) = self.timers.iter().position(|(_, due)| *due <= self.now_ms) {
            let (token, _) = self.timers.remove(at);
            self.send(Event::Timer { token });
        }
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// Requests the start of a child, and returns the number of the request. The reply
    /// may come later.
    pub(crate) fn ask_start(&mut self, spec: Spec) -> u64 {
        let request = self.request();
        self.send(Event::StartChild { request, spec });
        request
    }

    pub(crate) fn ask_terminate(&mut self, id: &str) -> u64 {
        let request = self.request();
        let id = id.into();
        self.send(Event::TerminateChild { request, id });
        request
    }

    pub(crate) fn ask_restart(&mut self, id: &str) -> u64 {
        let request = self.request();
        let id = id.into();
        self.send(Event::RestartChild { request, id });
        request
    }

    pub(crate) fn ask_delete(&mut self, id: &str) -> u64 {
        let request = self.request();
        let id = id.into();
        self.send(Event::DeleteChild { request, id });
        request
    }

    pub(crate) fn requests(&self) -> u64 {
        self.next_request
    }

    pub(crate) fn answer(&self, request: u64) -> Option<Answer> {
        self.replies
            .iter()
            .find(|(known, _)| *known == request)
            .map(|(_, answer)| answer.clone())
    }

    /// Returns ids and states, first child first.
    pub(crate) fn states(&self) -> Vec<(String, ChildState<Pid>)> {
        self.machine
            .which_children()
            .map(|child| (child.spec.id.to_string(), child.state))
            .collect()
    }

    pub(crate) fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }
}

pub(crate) fn exited(pid: Pid, class: ExitClass) -> Event<Pid, (), String> {
    Event::ChildExited {
        pid,
        class,
        caused_by_release: false,
    }
}

pub(crate) fn spec(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec {
        strategy,
        ..SupervisorSpec::default()
    }
}

pub(crate) fn one_for_one() -> SupervisorSpec {
    spec(Strategy::OneForOne)
}

pub(crate) fn intensity(strategy: Strategy, intensity: u32, period_ms: u64) -> SupervisorSpec {
    SupervisorSpec {
        intensity,
        period_ms,
        ..spec(strategy)
    }
}

pub(crate) fn worker(id: &str) -> Spec {
    ChildSpec::worker(id, ())
}

pub(crate) fn workers(ids: &[&str]) -> Vec<Spec> {
    ids.iter().map(|id| worker(id)).collect()
}

pub(crate) fn temporary(id: &str) -> Spec {
    worker(id).restart(Restart::Temporary)
}

pub(crate) fn transient(id: &str) -> Spec {
    worker(id).restart(Restart::Transient)
}

pub(crate) fn brutal(id: &str) -> Spec {
    worker(id).shutdown(Shutdown::BrutalKill)
}
