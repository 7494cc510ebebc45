//! Supervisors as processes: a native process around the state machine of `exuvia_supervisor`. It
//! turns messages into the machine's events and executes its actions: `supervision/children.rs` starts
//! children. Guests control it with
//! requests (`supervision/requests.rs`), the host with edits of its entry in the manifest
//! (`supervision/edit.rs`) and questions (`supervision/questions.rs`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};

use exuvia_abi::{Kind, Pid, Priority, Reason};
use exuvia_engine::Guest;
use exuvia_process::{Context, Due, Envelope, ExitReason, Limits, Native, Payload, Signal};
use exuvia_supervisor::{
    Action, ChildKey, ChildSpec, Event, RequestId, Shutdown, Supervisor, SupervisorSpec,
    TerminateReason, TimerToken,
};

use super::edit::{Editing, Requested};
use super::protocol::{SupervisorReply, WirePid, code_of, reply};
use super::{Managers, Start, Supervision};

pub(super) type Machine = Supervisor<Pid, Start, ExitReason>;

/// The process of a supervisor.
pub(super) struct SupervisorProcess {
    pub(super) supervision: Weak<Supervision>,
    pub(super) machine: Machine,
    pub(super) parent: Pid,
    /// Its own pid, from `INIT` on.
    pub(super) me: Pid,
    /// Starts in progress, by the reference with which the child acknowledges.
    pub(super) starting: HashMap<u64, (ChildKey, Pid)>,
    timers: HashMap<TimerToken, u64>,
    tokens: HashMap<u64, TimerToken>,
    /// What each request to the machine was for.
    pub(super) requests: HashMap<RequestId, Requested>,
    pub(super) next_request: RequestId,
    pub(super) editing: Editing,
    /// Events that the machine has not processed yet, and whether it is processing one.
    pending: VecDeque<Event<Pid, Start, ExitReason>>,
    feeding: bool,
    /// Children that have exited and may be restarted, by id.
    pub(super) ended: HashSet<Arc<str>>,
    /// The child whose start failed last, and the reason.
    pub(super) failed: Option<(Arc<str>, ExitReason)>,
    pub(super) limits: Arc<Limits>,
    /// The limits of children that are started on request; `None`: those of their module in the
    /// manifest.
    pub(super) child_limits: Option<Arc<Limits>>,
    /// The children that may ask it to start and stop children.
    pub(super) managers: Arc<Managers>,
}

pub(super) fn make(
    supervision: &Arc<Supervision>,
    spec: SupervisorSpec,
    children: Vec<ChildSpec<Start>>,
    limits: &Arc<Limits>,
    child_limits: Option<Arc<Limits>>,
    managers: Arc<Managers>,
) -> Result<Box<dyn Native<Guest>>, String> {
    let machine = Machine::new(spec, children).map_err(|error| error.to_string())?;
    Ok(Box::new(SupervisorProcess {
        supervision: Arc::downgrade(supervision),
        machine,
        parent: Pid::NONE,
        me: Pid::NONE,
        starting: HashMap::new(),
        timers: HashMap::new(),
        tokens: HashMap::new(),
        requests: HashMap::new(),
        next_request: 0,
        editing: Editing::default(),
        pending: VecDeque::new(),
        feeding: false,
        ended: HashSet::new(),
        failed: None,
        limits: limits.clone(),
        child_limits,
        managers,
    }))
}

// ---- the process -------------------------------------------------------------

impl Native<Guest> for SupervisorProcess {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                self.parent = message.sender;
                self.me = context.pid();
                if let Some(supervision) = self.supervision.upgrade() {
                    supervision.questions.lock().entry(self.me).or_default();
                }
                context.process.set_trap_exit(true);
                // Busy processes of high priority must not keep it from stopping them.
                context.system.set_priority(self.me, Priority::High);
                self.feed(context, Event::Start);
            }
            Kind::Reply => self.child_acknowledged(context, &message),
            Kind::Down => {
                if let Some((key, pid)) = self.starting.remove(&message.reference) {
                    if let Some(supervision) = self.supervision.upgrade() {
                        supervision.boot.ends(pid);
                    }
                    let reason = reason_of(&message);
                    self.start_failed(context, key, reason);
                }
            }
            Kind::Exit if message.sender == self.parent => self.feed(context, Event::Stop),
            // The sender is alive: it has sent an exit signal, which supervisors ignore.
            Kind::Exit if context.process.is_linked(message.sender) => {}
            Kind::Exit => {
                self.managers.remove(message.sender);
                self.child_exited(context, &message);
            }
            Kind::Timer => {
                if let Some(token) = self.tokens.remove(&message.reference) {
                    self.timers.remove(&token);
                    self.feed(context, Event::Timer { token });
                }
            }
            Kind::Request => self.handle_request(context, &message),
            // Messages from outside only wake it. Edits are processed below.
            Kind::Message => {}
            // It has no use for a table, and does not exit by itself.
            Kind::Table => {
                let _ = context.system.tables.end(self.me, message.reference);
            }
        }
        self.edit_on(context);
        self.reply_to_host(context);
    }
}

/// Edits that it has not processed are reported when their reports are dropped.
impl Drop for SupervisorProcess {
    fn drop(&mut self) {
        if let Some(supervision) = self.supervision.upgrade() {
            // Not under the lock: a report that is dropped calls code of the caller.
            let edits = supervision.edits.lock().remove(&self.me);
            drop(edits);
            supervision.questions.lock().remove(&self.me);
        }
    }
}

fn reason_of(message: &Envelope) -> ExitReason {
    ExitReason::with(message.reason, message.payload.as_slice())
}

impl SupervisorProcess {
    /// Passes an event to the machine, and executes the machine's actions. Events that occur
    /// meanwhile are queued: many starts may fail in a row, and recursion would overflow the stack.
    pub(super) fn feed(
        &mut self,
        context: &mut Context<'_, Guest>,
        event: Event<Pid, Start, ExitReason>,
    ) {
        self.pending.push_back(event);
        if std::mem::replace(&mut self.feeding, true) {
            return;
        }
        while let Some(event) = self.pending.pop_front() {
            let now_ms = context.system.clock.now() / 1_000_000;
            for action in self.machine.handle(now_ms, event) {
                self.act(context, action);
            }
        }
        self.feeding = false;
    }

    fn act(&mut self, context: &mut Context<'_, Guest>, action: Action<Pid, Start, ExitReason>) {
        let me = context.pid();
        let exit = |pid, code| {
            let exit = Signal::Exit {
                from: me,
                reason: ExitReason::new(code),
                linked: false,
            };
            let _ = context.system.signal(pid, exit);
        };
        match action {
            Action::StartChild { key, spec } => {
                if let Err(reason) = self.start(context, key, &spec) {
                    self.start_failed(context, key, reason);
                }
            }
            Action::CancelStart { key, shutdown } => {
                let pid = self
                    .starting
                    .values()
                    .find(|(starting, _)| *starting == key)
                    .map(|(_, pid)| *pid);
                match (pid, shutdown) {
                    (None, _) => {}
                    (Some(pid), Shutdown::BrutalKill) => {
                        let _ = context.system.signal(pid, Signal::Kill { from: me });
                    }
                    (Some(pid), _) => exit(pid, Reason::SHUTDOWN),
                }
            }
            Action::Exit { pid } => exit(pid, Reason::SHUTDOWN),
            Action::Kill { pid } => {
                let _ = context.system.signal(pid, Signal::Kill { from: me });
            }
            Action::SetTimer { token, after_ms } => {
                let delay = after_ms.saturating_mul(1_000_000);
                let reference = context
                    .system
                    .set_timer(me, delay, |reference| Due::Message {
                        to: me,
                        envelope: Envelope {
                            reference,
                            kind: Kind::Timer,
                            ..Envelope::message(me, 0, Payload::empty())
                        },
                        charge: None,
                    });
                self.timers.insert(token, reference);
                self.tokens.insert(reference, token);
            }
            Action::CancelTimer { token } => {
                if let Some(reference) = self.timers.remove(&token) {
                    self.tokens.remove(&reference);
                    context.system.timers.cancel(me, reference);
                }
            }
            Action::Ready => {
                context
                    .process
                    .acknowledge(context.system, 0, Payload::empty());
            }
            Action::Reply { request, result } => match self.requests.remove(&request) {
                Some(Requested::Asked(asker, reference)) => {
                    let answer = match result {
                        Ok(Some(pid)) => SupervisorReply::Started(WirePid(pid)),
                        Ok(None) => SupervisorReply::Done,
                        Err(error) => SupervisorReply::error(code_of(&error), error.to_string()),
                    };
                    reply(context, asker, reference, &answer);
                }
                Some(Requested::Restart(step)) => {
                    let result = result.map_err(|error| error.to_string());
                    self.restart_on(context, step, result);
                }
                Some(Requested::Edited(step)) => {
                    let result = result.map_err(|error| error.to_string());
                    self.edited(&step, result.map(drop));
                }
                None => {}
            },
            Action::Terminate { reason } => {
                let mut text = reason.to_string();
                if let TerminateReason::ReachedMaxRestartIntensity { child } = &reason
                    && let Some((_, why)) = self.failed.take_if(|(failed, _)| failed == child)
                {
                    text += &format!(", which could not be restarted: {why}");
                }
                context.exit(match reason {
                    TerminateReason::Shutdown => ExitReason::new(Reason::SHUTDOWN),
                    TerminateReason::ReachedMaxRestartIntensity { .. } => {
                        ExitReason::with(Reason::INTENSITY.0, text.as_bytes())
                    }
                    // Without its children it has not terminated normally, whatever the child's own
                    // reason is.
                    TerminateReason::StartFailed { ref reason, .. } => {
                        let code = match Reason(reason.code()) {
                            Reason::NORMAL => Reason::SHUTDOWN.0,
                            Reason(code) => code,
                        };
                        ExitReason::with(code, text.as_bytes())
                    }
                });
            }
        }
    }
}
