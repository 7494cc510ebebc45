//! The supervisor itself.
//!
//! At any time at most one *step* is in progress: one child is being started, or
//! one is being stopped. A *plan* says what follows the step (the rest of a
//! group, a reply). An event that arrives meanwhile and needs a plan of its own
//! waits in one queue, in order of arrival, as it would in the mailbox of a busy
//! Erlang supervisor. Two kinds of events do not wait: the exit of a child is
//! recorded at once, so that no plan tries to stop it, and a stop replaces the
//! current plan.
//!
//! [`Supervisor::drive`] is a loop, not a recursion, so the stack does not depend
//! on the number of children.
//!
//! A plan may hold a key as its position in the list. That is sound because only
//! the current plan removes children, and it advances past a child before it
//! removes the child.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crate::children::{ChildState, Children};
use crate::event::{
    Action, Event, ExitClass, RequestError, RequestId, TerminateReason, TimerToken,
};
use crate::intensity::Intensity;
use crate::spec::{ChildKey, ChildSpec, Restart, Shutdown, SpecError, Strategy, SupervisorSpec};

mod inspect;
mod requests;

pub use inspect::{ChildCount, ChildInfo};
use requests::Request;

/// The most requests that may wait for a busy supervisor. Each one is a small
/// allocation; a caller that reaches this limit is far ahead of the children.
pub const MAX_WAITING_REQUESTS: usize = 65_536;

/// A supervisor. The guarantees that its caller must give are in the documentation of
/// the crate.
#[derive(Debug)]
pub struct Supervisor<P, S, R> {
    spec: SupervisorSpec,
    children: Children<P, S>,
    restarts: Intensity,
    phase: Phase,
    step: Option<Step<P>>,
    plan: Option<Plan<R>>,
    waiting: VecDeque<Waiting<P, S>>,
    waiting_requests: usize,
    next_token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    Terminated,
}

/// An action that the caller still has to report on.
#[derive(Clone, Copy, Debug)]
enum Step<P> {
    /// A child is being started. The timer is set only while the start is being cancelled.
    Start {
        key: ChildKey,
        timer: Option<TimerToken>,
    },
    /// A child is being stopped.
    Stop {
        key: ChildKey,
        pid: P,
        timer: Option<TimerToken>,
    },
}

/// The work that follows the step.
#[derive(Debug)]
enum Plan<R> {
    /// The first start of all children.
    Boot { next: Option<ChildKey> },
    /// One child is restarted alone.
    RestartOne,
    /// A group is stopped, from `at` backwards to `first` (or the head), and
    /// then started.
    GroupStop {
        at: Option<ChildKey>,
        first: Option<ChildKey>,
    },
    /// A group is started, from `next` to the tail.
    GroupStart { next: Option<ChildKey> },
    /// One child is started for a request. A `new` child that fails is removed.
    StartFor { request: RequestId, new: bool },
    /// One child is stopped for a request.
    StopFor { request: RequestId },
    /// All children are stopped from the tail and removed. The plan keeps no position
    /// in the list, since it can begin in the middle of any other plan.
    Shutdown { reason: TerminateReason<R> },
}

/// An event that waits until there is no plan.
#[derive(Debug)]
enum Waiting<P, S> {
    Exit {
        key: ChildKey,
        pid: P,
        class: ExitClass,
        caused_by_release: bool,
    },
    /// A restart failed. It is tried again after the events that already wait, so that
    /// a child that never starts does not block the supervisor.
    TryAgain {
        key: ChildKey,
        caused_by_release: bool,
    },
    Request(RequestId, Request<S>),
}

impl<P, S, R> Supervisor<P, S, R>
where
    P: Copy + Eq + Hash + Debug,
{
    /// Creates a supervisor that has not started. It does nothing before
    /// [`Event::Start`].
    ///
    /// # Errors
    ///
    /// Returns an error if the period is 0, two children have the same id, or there are
    /// more children than allowed.
    pub fn new(
        spec: SupervisorSpec,
        children: impl IntoIterator<Item = ChildSpec<S>>,
    ) -> Result<Self, SpecError> {
        if spec.period_ms == 0 {
            return Err(SpecError::EmptyPeriod);
        }
        let mut known = Children::new();
        for child in children {
            if known.with_id(&child.id).is_some() {
                return Err(SpecError::DuplicateId(child.id));
            }
            if known.len() >= spec.max_children {
                return Err(SpecError::TooManyChildren {
                    limit: spec.max_children,
                });
            }
            known.add(child);
        }
        Ok(Self {
            restarts: Intensity::new(spec.intensity, spec.period_ms),
            spec,
            children: known,
            phase: Phase::New,
            step: None,
            plan: None,
            waiting: VecDeque::new(),
            waiting_requests: 0,
            next_token: 0,
        })
    }

    /// Returns whether nothing is in progress and nothing waits. The next two functions
    /// may be called only then, since a plan relies on the specs with which it began.
    pub fn is_idle(&self) -> bool {
        self.step.is_none() && self.plan.is_none() && self.waiting.is_empty()
    }

    /// Replaces the settings. Past restarts no longer count; children beyond a lower
    /// limit are kept.
    ///
    /// # Errors
    ///
    /// Returns an error if the period is 0. Nothing has changed then.
    pub fn reconfigure(&mut self, spec: SupervisorSpec) -> Result<(), SpecError> {
        debug_assert!(self.is_idle());
        if spec.period_ms == 0 {
            return Err(SpecError::EmptyPeriod);
        }
        self.restarts = Intensity::new(spec.intensity, spec.period_ms);
        self.spec = spec;
        Ok(())
    }

    /// Replaces the spec of the child with the same id. Returns `false` if there is none.
    /// A running child continues, and is started from the new spec the next time, as
    /// after OTP's `supervisor:code_change/3`.
    pub fn respecify(&mut self, spec: ChildSpec<S>) -> bool {
        debug_assert!(self.is_idle());
        self.children.respecify(spec)
    }

    /// Handles one event and returns the actions to carry out. `now_ms` must come from
    /// a clock that does not go back.
    #[must_use]
    pub fn handle(&mut self, now_ms: u64, event: Event<P, S, R>) -> Vec<Action<P, S, R>> {
        let mut actions = Vec::new();
        self.handle_into(now_ms, event, &mut actions);
        actions
    }

    /// Does the same as [`Supervisor::handle`], but appends the actions to `out`.
    pub fn handle_into(
        &mut self,
        now_ms: u64,
        event: Event<P, S, R>,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        match event {
            Event::Start => {
                if self.phase == Phase::New {
                    self.phase = Phase::Running;
                    self.plan = Some(Plan::Boot {
                        next: self.children.head(),
                    });
                }
            }
            Event::ChildStarted { key, pid } => self.on_started(key, pid, out),
            Event::ChildIgnored { key } => self.on_ignored(key, out),
            Event::ChildStartFailed {
                key,
                reason,
                caused_by_release,
            } => self.on_start_failed(key, reason, caused_by_release, out),
            Event::ChildExited {
                pid,
                class,
                caused_by_release,
            } => self.on_exited(pid, class, caused_by_release, out),
            Event::Timer { token } => self.on_timer(token, out),
            Event::StartChild { request, spec } => {
                self.on_request(request, Request::Start(spec), out);
            }
            Event::TerminateChild { request, id } => {
                self.on_request(request, Request::Terminate(id), out);
            }
            Event::RestartChild { request, id } => {
                self.on_request(request, Request::Restart(id), out);
            }
            Event::DeleteChild { request, id } => {
                self.on_request(request, Request::Delete(id), out);
            }
            Event::Stop => {
                if self.phase != Phase::Terminated {
                    self.begin_shutdown(TerminateReason::Shutdown, out);
                }
            }
        }
        self.drive(now_ms, out);
    }

    /// Returns whether [`Action::Terminate`] has been sent.
    pub fn is_terminated(&self) -> bool {
        self.phase == Phase::Terminated
    }

    /// Continues until a report is due from the caller or nothing is left to do.
    fn drive(&mut self, now_ms: u64, out: &mut Vec<Action<P, S, R>>) {
        while self.step.is_none() && self.phase == Phase::Running {
            match self.plan.take() {
                Some(plan) => self.advance(plan, out),
                None => match self.waiting.pop_front() {
                    Some(waiting) => self.begin(now_ms, waiting, out),
                    None => return,
                },
            }
        }
    }

    /// Takes the next step of a plan, or ends the plan.
    fn advance(&mut self, plan: Plan<R>, out: &mut Vec<Action<P, S, R>>) {
        match plan {
            Plan::Boot { next: None } => out.push(Action::Ready),
            Plan::Boot { next: Some(key) } => {
                let next = self.children.next(key);
                self.plan = Some(Plan::Boot { next });
                self.start(key, out);
            }
            Plan::GroupStop { at: None, first } => {
                let next = first.or_else(|| self.children.head());
                self.plan = Some(Plan::GroupStart { next });
            }
            Plan::GroupStop {
                at: Some(key),
                first,
            } => {
                let at = if first == Some(key) {
                    None
                } else {
                    self.children.prev(key)
                };
                self.plan = Some(Plan::GroupStop { at, first });
                self.stop(key, out);
            }
            Plan::GroupStart { next: None } => {}
            Plan::GroupStart { next: Some(key) } => {
                let next = self.children.next(key);
                self.plan = Some(Plan::GroupStart { next });
                self.start(key, out);
            }
            // Their only step is complete.
            Plan::RestartOne | Plan::StartFor { .. } => {}
            Plan::StopFor { request } => reply(request, Ok(None), out),
            Plan::Shutdown { reason } => match self.children.tail() {
                Some(key) => {
                    self.plan = Some(Plan::Shutdown { reason });
                    self.stop(key, out);
                }
                None => {
                    self.phase = Phase::Terminated;
                    out.push(Action::Terminate { reason });
                }
            },
        }
    }

    /// Handles the next waiting event. There is neither a step nor a plan.
    fn begin(&mut self, now_ms: u64, waiting: Waiting<P, S>, out: &mut Vec<Action<P, S, R>>) {
        match waiting {
            Waiting::Exit {
                key,
                pid,
                class,
                caused_by_release,
            } => {
                // A plan since then may have stopped or restarted the child.
                if self.children.state(key) != Some(ChildState::Exited(pid)) {
                    return;
                }
                let restarts = match self.children.spec(key).map(|spec| spec.restart) {
                    Some(Restart::Permanent) => true,
                    Some(Restart::Transient) => class == ExitClass::Abnormal,
                    Some(Restart::Temporary) | None => false,
                };
                if restarts {
                    self.restart(now_ms, key, caused_by_release, out);
                } else {
                    self.put_down(key);
                }
            }
            Waiting::TryAgain {
                key,
                caused_by_release,
            } => {
                if self.children.state(key) == Some(ChildState::Restarting) {
                    self.restart(now_ms, key, caused_by_release, out);
                }
            }
            Waiting::Request(id, request) => {
                self.waiting_requests -= 1;
                self.serve(id, request, out);
            }
        }
    }

    /// Restarts a child that has ended, according to the strategy. If that exceeds the
    /// intensity, begins the shutdown instead.
    fn restart(
        &mut self,
        now_ms: u64,
        key: ChildKey,
        caused_by_release: bool,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        self.children.set(key, ChildState::Down);
        if !caused_by_release && !self.restarts.admit(now_ms) {
            if let Some(spec) = self.children.spec(key) {
                let child = Arc::clone(&spec.id);
                self.begin_shutdown(TerminateReason::ReachedMaxRestartIntensity { child }, out);
            }
            return;
        }
        match self.spec.strategy {
            Strategy::OneForOne => {
                self.plan = Some(Plan::RestartOne);
                self.start(key, out);
            }
            Strategy::OneForAll => {
                self.plan = Some(Plan::GroupStop {
                    at: self.children.tail(),
                    first: None,
                });
            }
            Strategy::RestForOne => {
                self.plan = Some(Plan::GroupStop {
                    at: self.children.tail(),
                    first: Some(key),
                });
            }
        }
    }

    /// Begins the start of a child that is down.
    fn start(&mut self, key: ChildKey, out: &mut Vec<Action<P, S, R>>) {
        let Some(spec) = self.children.spec(key).map(Arc::clone) else {
            return;
        };
        self.children.set(key, ChildState::Starting);
        self.step = Some(Step::Start { key, timer: None });
        out.push(Action::StartChild { key, spec });
    }

    /// Begins to stop a child. A child that does not run is put down at once.
    fn stop(&mut self, key: ChildKey, out: &mut Vec<Action<P, S, R>>) {
        let Some(ChildState::Running(pid)) = self.children.state(key) else {
            self.put_down(key);
            return;
        };
        let shutdown = self.shutdown_of(key);
        self.children.set(key, ChildState::Stopping(pid));
        out.push(match shutdown {
            Shutdown::BrutalKill => Action::Kill { pid },
            Shutdown::TimeoutMs(_) | Shutdown::Infinity => Action::Exit { pid },
        });
        let timer = self.set_timer(shutdown, out);
        self.step = Some(Step::Stop { key, pid, timer });
    }

    /// Marks a child that has ended and will not be restarted as down. Removes it if it
    /// is temporary or the supervisor shuts down.
    fn put_down(&mut self, key: ChildKey) {
        let temporary = self
            .children
            .spec(key)
            .is_some_and(|spec| spec.restart == Restart::Temporary);
        if temporary || matches!(self.plan, Some(Plan::Shutdown { .. })) {
            self.children.remove(key);
        } else {
            self.children.set(key, ChildState::Down);
        }
    }

    /// Replaces the plan with a shutdown, unless it is one already, and refuses every
    /// open request. A step in progress is not abandoned; a start is cancelled.
    fn begin_shutdown(&mut self, reason: TerminateReason<R>, out: &mut Vec<Action<P, S, R>>) {
        if let Some(Plan::Shutdown { .. }) = self.plan {
            return;
        }
        self.phase = Phase::Running;
        let replaced = self.plan.replace(Plan::Shutdown { reason });
        if let Some(Plan::StartFor { request, .. } | Plan::StopFor { request }) = replaced {
            reply(request, Err(RequestError::NotRunning), out);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if let Waiting::Request(request, _) = waiting {
                reply(request, Err(RequestError::NotRunning), out);
            }
        }
        self.waiting_requests = 0;
        if let Some(Step::Start { key, .. }) = self.step {
            let shutdown = self.shutdown_of(key);
            out.push(Action::CancelStart { key, shutdown });
            let timer = self.set_timer(shutdown, out);
            self.step = Some(Step::Start { key, timer });
        }
    }

    fn on_started(&mut self, key: ChildKey, pid: P, out: &mut Vec<Action<P, S, R>>) {
        if !self.end_start(key, out) {
            // No plan waits for this process, so it would never be stopped. A
            // duplicate report names the process of a known child, and is ignored.
            if self.children.with_pid(pid).is_none() {
                out.push(Action::Kill { pid });
            }
            return;
        }
        self.children.set(key, ChildState::Running(pid));
        if let Some(Plan::StartFor { request, .. }) = self.plan {
            reply(request, Ok(Some(pid)), out);
        }
    }

    fn on_ignored(&mut self, key: ChildKey, out: &mut Vec<Action<P, S, R>>) {
        if self.end_start(key, out) {
            self.put_down(key);
            if let Some(Plan::StartFor { request, .. }) = self.plan {
                reply(request, Ok(None), out);
            }
        }
    }

    fn on_start_failed(
        &mut self,
        key: ChildKey,
        reason: R,
        caused_by_release: bool,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        if !self.end_start(key, out) {
            return;
        }
        self.children.set(key, ChildState::Down);
        match self.plan.take() {
            Some(Plan::Boot { .. }) => {
                if let Some(spec) = self.children.spec(key) {
                    let child = Arc::clone(&spec.id);
                    self.begin_shutdown(TerminateReason::StartFailed { child, reason }, out);
                }
            }
            Some(Plan::RestartOne | Plan::GroupStart { .. }) => {
                self.children.set(key, ChildState::Restarting);
                self.waiting.push_back(Waiting::TryAgain {
                    key,
                    caused_by_release,
                });
            }
            Some(Plan::StartFor { request, new }) => {
                if new {
                    self.children.remove(key);
                }
                reply(request, Err(RequestError::StartFailed(reason)), out);
            }
            other => self.plan = other,
        }
    }

    /// Ends the step if it is the start of this child. Returns whether it is.
    fn end_start(&mut self, key: ChildKey, out: &mut Vec<Action<P, S, R>>) -> bool {
        match self.step {
            Some(Step::Start {
                key: awaited,
                timer,
            }) if awaited == key => {
                self.step = None;
                cancel(timer, out);
                true
            }
            _ => false,
        }
    }

    fn on_exited(
        &mut self,
        pid: P,
        class: ExitClass,
        caused_by_release: bool,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        match self.step {
            Some(Step::Stop {
                key,
                pid: awaited,
                timer,
            }) if awaited == pid => {
                self.step = None;
                cancel(timer, out);
                self.put_down(key);
            }
            _ => {
                let Some(key) = self.children.with_pid(pid) else {
                    return;
                };
                self.children.set(key, ChildState::Exited(pid));
                // A shutdown removes every child anyway.
                if !matches!(self.plan, Some(Plan::Shutdown { .. })) {
                    self.waiting.push_back(Waiting::Exit {
                        key,
                        pid,
                        class,
                        caused_by_release,
                    });
                }
            }
        }
    }

    fn on_timer(&mut self, token: TimerToken, out: &mut Vec<Action<P, S, R>>) {
        match &mut self.step {
            Some(Step::Stop { pid, timer, .. }) if *timer == Some(token) => {
                *timer = None;
                out.push(Action::Kill { pid: *pid });
            }
            Some(Step::Start { key, timer }) if *timer == Some(token) => {
                *timer = None;
                out.push(Action::CancelStart {
                    key: *key,
                    shutdown: Shutdown::BrutalKill,
                });
            }
            _ => {}
        }
    }

    fn shutdown_of(&self, key: ChildKey) -> Shutdown {
        self.children
            .spec(key)
            .map_or(Shutdown::BrutalKill, |spec| spec.shutdown)
    }

    fn set_timer(
        &mut self,
        shutdown: Shutdown,
        out: &mut Vec<Action<P, S, R>>,
    ) -> Option<TimerToken> {
        let Shutdown::TimeoutMs(after_ms) = shutdown else {
            return None;
        };
        let token = TimerToken(self.next_token);
        self.next_token += 1;
        out.push(Action::SetTimer { token, after_ms });
        Some(token)
    }
}

fn cancel<P, S, R>(timer: Option<TimerToken>, out: &mut Vec<Action<P, S, R>>) {
    if let Some(token) = timer {
        out.push(Action::CancelTimer { token });
    }
}

fn reply<P, S, R>(
    request: RequestId,
    result: Result<Option<P>, RequestError<P, R>>,
    out: &mut Vec<Action<P, S, R>>,
) {
    out.push(Action::Reply { request, result });
}
