//! Starts the children of a supervisor, and hears whether they are up and that they have exited.

use exuvia_abi::{Pid, Reason};
use exuvia_engine::Guest;
use exuvia_process::{Body, Context, Envelope, ExitReason, Payload, Requester, SpawnSpec};
use exuvia_supervisor::{ChildKey, ChildSpec, Event, ExitClass, Restart};

use super::{Start, SupervisorProcess, from_entry};
use crate::core::may_begin;
use crate::error::unusable;
use crate::event::Event as Happened;
use crate::logger::Report;

impl SupervisorProcess {
    /// Begins to start a child; it is up when it acknowledges. Returns the exit reason if it cannot
    /// be started.
    pub(super) fn start(
        &mut self,
        context: &mut Context<'_, Guest>,
        key: ChildKey,
        spec: &ChildSpec<Start>,
    ) -> Result<(), ExitReason> {
        let me = context.pid();
        let failed = |code: Reason, text: String| ExitReason::with(code.0, text.as_bytes());
        let supervision = (self.supervision.upgrade())
            .ok_or_else(|| failed(Reason::SHUTDOWN, "the node is stopping".into()))?;
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
                let body = supervision.core.executor.new_process(module);
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
                let native = from_entry(&supervision, entry, &self.limits, &self.managers)
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
        let (whose, place) = match self.child_limits {
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
        supervision.boot.begins(pid, &spec.id);
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

    pub(super) fn child_acknowledged(
        &mut self,
        context: &mut Context<'_, Guest>,
        message: &Envelope,
    ) {
        let Some((key, pid)) = self.starting.remove(&message.reference) else {
            return;
        };
        if let Some(supervision) = self.supervision.upgrade() {
            supervision.boot.ends(pid);
        }
        if message.tag == 0 {
            self.feed(context, Event::ChildStarted { key, pid });
            self.report_restart(pid);
        } else {
            let code = message.tag.cast_signed();
            let reason = ExitReason::with(code, message.payload.as_slice());
            self.start_failed(context, key, reason);
        }
    }

    fn report_restart(&mut self, pid: Pid) {
        let Some(child) = self.machine.child_with_pid(pid) else {
            return;
        };
        self.failed.take_if(|(failed, _)| *failed == child.spec.id);
        if self.ended.remove(&child.spec.id) {
            self.report(&child.spec, Report::Restarted, || Happened::Restarted {
                child: child.spec.id.to_string(),
                pid: pid.to_string(),
            });
        }
    }

    /// Reports an event of a child, at a bounded rate in case it is restarted again and again.
    fn report(&self, spec: &ChildSpec<Start>, what: Report, event: impl FnOnce() -> Happened) {
        let Some(supervision) = self.supervision.upgrade() else {
            return;
        };
        let module = match &spec.start {
            Start::Process { module, .. } => module.clone(),
            Start::Supervisor(_) => "supervisor".into(),
        };
        let core = &supervision.core;
        if core.events.heard() && core.logger.reports(&module, what, 0, core.now()) {
            core.events.send(event());
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

    pub(super) fn start_failed(
        &mut self,
        context: &mut Context<'_, Guest>,
        key: ChildKey,
        reason: ExitReason,
    ) {
        if self.machine.is_restarting()
            && let Some(child) = self.machine.child_with_key(key)
        {
            self.report(&child.spec, Report::NotStarted, || Happened::NotStarted {
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

    pub(super) fn child_exited(&mut self, context: &mut Context<'_, Guest>, message: &Envelope) {
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
}
