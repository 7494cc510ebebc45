//! Handles the requests of guests to a supervisor.

use std::sync::Arc;

use exuvia_abi::Code;
use exuvia_engine::Guest;
use exuvia_process::{Context, Envelope, Limits};
use exuvia_supervisor::Event;

use super::edit::Requested;
use super::protocol::{ChildAnswer, SupervisorCall, SupervisorReply, child_spec, reply};
use super::{SupervisorProcess, rights};
use crate::grants::read;

impl SupervisorProcess {
    pub(super) fn handle_request(&mut self, context: &mut Context<'_, Guest>, message: &Envelope) {
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
                match child_spec(*child, &limits, self.child_limits.is_none()) {
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
        match &self.child_limits {
            Some(limits) => Some(limits.clone()),
            None => Some(self.supervision.upgrade()?.core.limits.of(module)),
        }
    }
}
