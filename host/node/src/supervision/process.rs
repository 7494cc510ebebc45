//! Supervisors as processes: a native process around the state machine of `exuvia_supervisor`. It
//! turns messages into the machine's events and executes its actions. Guests control it with
//! requests (`supervision/protocol.rs`), the host with edits of its entry in the manifest
//! (`supervision/edit.rs`) and questions (`supervision/asked.rs`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use exuvia_abi::{Code, Kind, Pid, Priority, Reason};
use exuvia_engine::Guest;
use exuvia_process::{
    Body, Context, Due, Envelope, ExitReason, Limits, Native, Payload, Requester, Signal, SpawnSpec,
};
use exuvia_supervisor::{
    Action, ChildKey, ChildSpec, Event, ExitClass, RequestId, Restart, Shutdown, Supervisor,
    SupervisorSpec, TerminateReason, TimerToken,
};

use crate::error::unusable;
use crate::event::Event as Happened;
use crate::grants::read;
use crate::logger::Report;
use crate::node::{Node, may_begin};

use super::edit::{Editing, Requested};
use super::protocol::{
    ChildAnswer, SupervisorCall, SupervisorReply, WirePid, child_spec, code_of, reply,
};
use super::{Managers, Start, from_entry, rights};

pub(super) type Machine = Supervisor<Pid, Start, ExitReason>;

/// The process of a supervisor.
pub(super) struct SupervisorProcess {
    pub(super) node: std::sync::Weak<crate::node::Inner>,
    pub(super) machine: Machine,
    pub(super) parent: Pid,
    /// Its own pid, from `INIT` on.
    pub(super) me: Pid,
    /// Starts in progress, by the reference with which the child acknowledges.
    starting: HashMap<u64, (ChildKey, Pid)>,
    timers: HashMap<TimerToken, u64>,
    tokens: HashMap<u64, TimerToken>,
    /// What each request to the machine was for.
    pub(super) requests: HashMap<RequestId, Requested>,
    pub(super) next_request: RequestId,
    pub(super) editing: Editing,
    /// Events that the machine has not processed yet, and whether it is processing one.
    happened: VecDeque<Event<Pid, Start, ExitReason>>,
    feeding: bool,
    /// Children that have exited and may be restarted, by id.
    ended: HashSet<Arc<str>>,
    /// The child whose start failed last, and the reason.
    failed: Option<(Arc<str>, ExitReason)>,
    limits: Arc<Limits>,
    /// The limits of children that are started on request; `None`: those of their module in the
    /// manifest.
    pub(super) childrens: Option<Arc<Limits>>,
    /// The children that may ask it to start and stop children.
    pub(super) managers: Arc<Managers>,
}

pub(super) fn make(
    node: &Node,
    spec: SupervisorSpec,
    children: Vec<ChildSpec<Start>>,
    limits: &Arc<Limits>,
    childrens: Option<Arc<Limits>>,
    managers: Arc<Managers>,
) -> Result<Box<dyn Native<Guest>>, String> {
    let machine = Machine::new(spec, children).map_err(|error| error.to_string())?;
    Ok(Box::new(SupervisorProcess {
        node: Arc::downgrade(&node.0),
        machine,
        parent: Pid::NONE,
        me: Pid::NONE,
        starting: HashMap::new(),
        timers: HashMap::new(),
        tokens: HashMap::new(),
        requests: HashMap::new(),
        next_request: 0,
        editing: Editing::default(),
        happened: VecDeque::new(),
        feeding: false,
        ended: HashSet::new(),
        failed: None,
        limits: limits.clone(),
        childrens,
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
                if let Some(node) = self.node.upgrade() {
                    node.asks.lock().entry(self.me).or_default();
                }
                context.process.set_trap_exit(true);
                // Busy processes of high priority must not keep it from stopping them.
                context.system.set_priority(self.me, Priority::High);
                self.feed(context, Event::Start);
            }
            Kind::Reply => self.child_answered(context, &message),
            Kind::Down => {
                if let Some((key, pid)) = self.starting.remove(&message.reference) {
                    if let Some(node) = self.node.upgrade() {
                        node.boot.ends(pid);
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
            Kind::Request => self.asked(context, &message),
            // Messages from outside only wake it. Edits are processed below.
            Kind::Message => {}
            // It has no use for a table, and does not exit by itself.
            Kind::Table => {
                let _ = context.system.tables.end(self.me, message.reference);
            }
        }
        self.edit_on(context);
        self.answer_host(context);
    }
}

/// Edits that it has not processed are reported when their reports are dropped.
impl Drop for SupervisorProcess {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            // Not under the lock: a report that is dropped calls code of the caller.
            let edits = node.edits.lock().remove(&self.me);
            drop(edits);
            node.asks.lock().remove(&self.me);
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
        self.happened.push_back(event);
        if std::mem::replace(&mut self.feeding, true) {
            return;
        }
        while let Some(event) = self.happened.pop_front() {
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

    /// Begins to start a child; it is up when it acknowledges. Returns the exit reason if it cannot
    /// be started.
    fn start(
        &mut self,
        context: &mut Context<'_, Guest>,
        key: ChildKey,
        spec: &ChildSpec<Start>,
    ) -> Result<(), ExitReason> {
        let me = context.pid();
        let failed = |code: Reason, text: String| ExitReason::with(code.0, text.as_bytes());
        let node = Node(
            self.node
                .upgrade()
                .ok_or_else(|| failed(Reason::SHUTDOWN, "the node is stopping".into()))?,
        );
        let mut managing = false;
        let mut place = None;
        let (body, limits, name, arguments) = match &spec.start {
            Start::Process {
                module,
                name,
                arguments,
                limits,
                manages,
                place: its,
            } => {
                managing = *manages;
                place = its.clone();
                let body = node.0.executor.new_process(module);
                let body = body.ok_or_else(|| {
                    failed(
                        Reason::NO_MODULE,
                        format!("the release has no module `{module}`"),
                    )
                })?;
                may_begin(&body, limits)
                    .map_err(|error| failed(Reason::MEMORY, error.to_string()))?;
                let arguments = arguments.charged(context.process, context.system);
                let arguments = arguments.ok_or_else(|| {
                    failed(
                        Reason::LIMIT,
                        "the arguments of its children are larger than the supervisor's mailbox may be, or the node's limit on arguments is reached".into(),
                    )
                })?;
                (body, limits.clone(), name.clone(), arguments)
            }
            Start::Supervisor(entry) => {
                let native = from_entry(&node, entry, &self.limits, &self.managers)
                    .map_err(|text| failed(Reason::CONTRACT, text))?;
                (
                    Body::Native(Some(native)),
                    self.limits.clone(),
                    None,
                    Payload::empty(),
                )
            }
        };
        // The children of a guest's supervisor count as the guest's.
        let (whose, place) = match self.childrens {
            Some(_) => {
                let whose = match self.ended.contains(&spec.id) {
                    true => Requester::Restart,
                    false => Requester::Guest,
                };
                (whose, Some(context.process.children()))
            }
            None => (Requester::Host, place),
        };
        let counted = place.map(|place| {
            place.admit(u32::MAX).ok_or_else(|| {
                failed(
                    Reason::LIMIT,
                    "the process that started this supervisor has as many descendants as its limit allows".into(),
                )
            })
        });
        let counted = counted.transpose()?;
        let pid = context.system.reserve_for(whose, &limits).map_err(|_| {
            failed(
                Reason::LIMIT,
                "the node has as many processes as its limit allows".into(),
            )
        })?;
        if let Some(name) = name
            && let Err(error) = context.system.register(&name, pid)
        {
            context.system.abandon(pid);
            let why = unusable(error);
            return Err(failed(Reason::CONTRACT, format!("the name `{name}` {why}")));
        }
        let reference = context.process.new_reference();
        context.process.add_child(pid, true, &[reference]);
        self.starting.insert(reference, (key, pid));
        node.0.boot.begins(pid, &spec.id);
        if managing {
            self.managers.add(pid);
        }
        context.system.start(
            pid,
            SpawnSpec {
                parent: me,
                link: true,
                starter: Some(reference),
                counted,
                ..SpawnSpec::new(body, limits, arguments)
            },
        );
        Ok(())
    }

    fn child_answered(&mut self, context: &mut Context<'_, Guest>, message: &Envelope) {
        let Some((key, pid)) = self.starting.remove(&message.reference) else {
            return;
        };
        if let Some(node) = self.node.upgrade() {
            node.boot.ends(pid);
        }
        if message.tag == 0 {
            self.feed(context, Event::ChildStarted { key, pid });
            self.tell_of_restart(pid);
        } else {
            let code = message.tag.cast_signed();
            let reason = ExitReason::with(code, message.payload.as_slice());
            self.start_failed(context, key, reason);
        }
    }

    fn tell_of_restart(&mut self, pid: Pid) {
        let Some(child) = self.machine.child_with_pid(pid) else {
            return;
        };
        self.failed.take_if(|(failed, _)| *failed == child.spec.id);
        if self.ended.remove(&child.spec.id) {
            self.tell(&child.spec, Report::Restarted, || Happened::Restarted {
                child: child.spec.id.to_string(),
                pid: pid.to_string(),
            });
        }
    }

    /// Reports an event of a child, at a bounded rate in case it is restarted again and again.
    fn tell(&self, spec: &ChildSpec<Start>, what: Report, event: impl FnOnce() -> Happened) {
        let Some(node) = self.node.upgrade() else {
            return;
        };
        let module = match &spec.start {
            Start::Process { module, .. } => module.clone(),
            Start::Supervisor(_) => "supervisor".into(),
        };
        let now = node.system.clock.now();
        if node.events.heard() && node.logger.reports(&module, what, 0, now) {
            node.events.send(event());
        }
    }

    /// Notes that a child has exited which may be restarted.
    fn note_end(&mut self, pid: Pid) {
        let Some(child) = self.machine.child_with_pid(pid) else {
            return;
        };
        if child.spec.restart != Restart::Temporary {
            self.ended.insert(child.spec.id.clone());
        }
        // Children that were deleted meanwhile are dropped here.
        if self.ended.len() > self.machine.count_children().specs {
            let machine = &self.machine;
            self.ended.retain(|id| machine.child(id).is_some());
        }
    }

    fn start_failed(
        &mut self,
        context: &mut Context<'_, Guest>,
        key: ChildKey,
        reason: ExitReason,
    ) {
        if self.machine.is_restarting()
            && let Some(child) = self.machine.child_with_key(key)
        {
            self.tell(&child.spec, Report::NotStarted, || Happened::NotStarted {
                child: child.spec.id.to_string(),
                reason: reason.to_string(),
            });
            self.failed = Some((child.spec.id.clone(), reason.clone()));
        }
        let event = Event::ChildStartFailed {
            key,
            caused_by_release: reason.is_caused_by_release(),
            reason,
        };
        self.feed(context, event);
    }

    fn child_exited(&mut self, context: &mut Context<'_, Guest>, message: &Envelope) {
        let pid = message.sender;
        // A child that was being started is reported by the DOWN of its acknowledgement.
        if self.machine.child_with_pid(pid).is_none() {
            return;
        }
        self.note_end(pid);
        let class = match Reason(message.reason) {
            Reason::NORMAL => ExitClass::Normal,
            Reason::SHUTDOWN | Reason::INTENSITY => ExitClass::Shutdown,
            _ => ExitClass::Abnormal,
        };
        let event = Event::ChildExited {
            pid,
            class,
            caused_by_release: message.tag == exuvia_process::CAUSED_BY_RELEASE,
        };
        self.feed(context, event);
    }

    fn asked(&mut self, context: &mut Context<'_, Guest>, message: &Envelope) {
        let (asker, reference) = (message.sender, message.reference);
        let ask: SupervisorCall = match read(message.payload.as_slice()) {
            Ok(ask) => ask,
            Err(error) => {
                let text = format!("a supervisor does not understand this request: {error}");
                return reply(
                    context,
                    asker,
                    reference,
                    &SupervisorReply::error(Code::BadArgument, text),
                );
            }
        };
        if ask.changes() && !self.may_be_asked_by(asker) {
            let answer = SupervisorReply::error(Code::Denied, rights::REFUSED);
            return reply(context, asker, reference, &answer);
        }
        self.next_request += 1;
        let request = self.next_request;
        let event = match ask {
            SupervisorCall::WhichChildren => {
                let answer = SupervisorReply::Children(
                    self.machine.which_children().map(ChildAnswer::of).collect(),
                );
                return reply(context, asker, reference, &answer);
            }
            SupervisorCall::CountChildren => {
                let count = self.machine.count_children();
                let answer = SupervisorReply::Count {
                    specs: count.specs,
                    active: count.active,
                    supervisors: count.supervisors,
                    workers: count.workers,
                };
                return reply(context, asker, reference, &answer);
            }
            SupervisorCall::StartChild(child) => {
                let Some(limits) = self.limits_of_child(&child.module) else {
                    let answer = SupervisorReply::error(Code::NoProc, "the node is stopping");
                    return reply(context, asker, reference, &answer);
                };
                match child_spec(child, &limits, self.childrens.is_none()) {
                    Ok(spec) => Event::StartChild { request, spec },
                    Err(why) => {
                        let answer = SupervisorReply::error(Code::BadArgument, why);
                        return reply(context, asker, reference, &answer);
                    }
                }
            }
            SupervisorCall::TerminateChild(id) => Event::TerminateChild {
                request,
                id: id.into(),
            },
            SupervisorCall::RestartChild(id) => Event::RestartChild {
                request,
                id: id.into(),
            },
            SupervisorCall::DeleteChild(id) => Event::DeleteChild {
                request,
                id: id.into(),
            },
        };
        self.requests
            .insert(request, Requested::Asked(asker, reference));
        self.feed(context, event);
    }

    /// Returns the limits of a child that is started on request. `None`: the node is stopping.
    fn limits_of_child(&self, module: &str) -> Option<Arc<Limits>> {
        match &self.childrens {
            Some(limits) => Some(limits.clone()),
            None => Some(Node(self.node.upgrade()?).limits_of(module)),
        }
    }
}
