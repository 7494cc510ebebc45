//! What the host itself asks of a supervisor: its children, and to restart one. The questions are
//! in a queue of the node, since a message carries bytes only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_engine::Guest;
use exuvia_process::{Context, Envelope, Payload};
use exuvia_supervisor::{ChildKind, ChildState, Event, Restart, Strategy};
use parking_lot::Mutex;

use super::edit::Requested;
use super::{Supervision, SupervisorProcess};

/// The maximum number of questions in the queue of one supervisor: each has a request of the
/// control socket.
const MOST: usize = 1_024;

/// A question; the reply goes to a caller that may have timed out.
#[derive(Debug)]
pub(crate) enum Question {
    /// The children of the supervisor.
    Children {
        /// The maximum number of children to return.
        most: usize,
        reply: SyncSender<Seen>,
    },
    /// Stop a child and start it again.
    Restart {
        pid: Pid,
        reply: SyncSender<Restarted>,
    },
}

/// The new process, or why there is none.
pub(crate) type Restarted = Result<Pid, String>;

/// The children of a supervisor.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) strategy: &'static str,
    pub(crate) children: Vec<SeenChild>,
    pub(crate) more: usize,
}

#[derive(Debug)]
pub(crate) struct SeenChild {
    pub(crate) id: String,
    pub(crate) pid: Option<Pid>,
    pub(crate) state: &'static str,
    pub(crate) restart: &'static str,
    pub(crate) supervises: bool,
}

/// The questions by supervisor. Each running supervisor has a queue.
pub(super) type Questions = Mutex<HashMap<Pid, VecDeque<Question>>>;

/// A restart in progress: the next step when the child has stopped, or is up.
#[derive(Debug)]
pub(crate) enum Restarting {
    Stopping {
        id: Arc<str>,
        reply: SyncSender<Restarted>,
    },
    Starting {
        reply: SyncSender<Restarted>,
    },
}

impl Supervision {
    /// Asks a supervisor and waits for the reply; `None`: it is gone, takes too long, or has too
    /// many questions queued.
    pub(crate) fn ask<T>(
        &self,
        supervisor: Pid,
        question: impl FnOnce(SyncSender<T>) -> Question,
        patience: Duration,
    ) -> Option<T> {
        let (reply, replied) = sync_channel(1);
        {
            let mut questions = self.questions.lock();
            let waiting = questions.get_mut(&supervisor)?;
            if waiting.len() >= MOST {
                return None;
            }
            waiting.push_back(question(reply));
        }
        let wake = Envelope::message(Pid::NONE, 0, Payload::empty());
        self.core.system.send(supervisor, wake).ok()?;
        replied.recv_timeout(patience).ok()
    }
}

impl SupervisorProcess {
    /// Replies to the questions that the host has queued.
    pub(super) fn reply_to_host(&mut self, context: &mut Context<'_, Guest>) {
        loop {
            let Some(supervision) = self.supervision.upgrade() else {
                return;
            };
            let question =
                (supervision.questions.lock().get_mut(&self.me)).and_then(VecDeque::pop_front);
            drop(supervision);
            match question {
                None => return,
                Some(Question::Children { most, reply }) => {
                    let _ = reply.try_send(self.seen(most));
                }
                Some(Question::Restart { pid, reply }) => self.restart(context, pid, reply),
            }
        }
    }

    fn seen(&self, most: usize) -> Seen {
        let children: Vec<SeenChild> = (self.machine.which_children().take(most))
            .map(|child| SeenChild {
                id: child.spec.id.to_string(),
                pid: child.state.pid(),
                state: match child.state {
                    ChildState::Down => "down",
                    ChildState::Starting => "starting",
                    ChildState::Running(_) => "running",
                    ChildState::Stopping(_) => "stopping",
                    ChildState::Exited(_) => "exited",
                    ChildState::Restarting => "restarting",
                },
                restart: match child.spec.restart {
                    Restart::Permanent => "permanent",
                    Restart::Transient => "transient",
                    Restart::Temporary => "temporary",
                },
                supervises: child.spec.kind == ChildKind::Supervisor,
            })
            .collect();
        Seen {
            strategy: match self.machine.strategy() {
                Strategy::OneForOne => "one_for_one",
                Strategy::OneForAll => "one_for_all",
                Strategy::RestForOne => "rest_for_one",
            },
            more: self.machine.count_children().specs - children.len(),
            children,
        }
    }

    fn restart(
        &mut self,
        context: &mut Context<'_, Guest>,
        pid: Pid,
        reply: SyncSender<Restarted>,
    ) {
        let refused = |why: &str| drop(reply.try_send(Err(why.into())));
        let Some(child) = self.machine.child_with_pid(pid) else {
            return refused("it is no longer its child");
        };
        if child.spec.restart == Restart::Temporary {
            return refused("a temporary child is removed when it exits and cannot be restarted");
        }
        let id = child.spec.id.clone();
        let stopping = Restarting::Stopping {
            id: id.clone(),
            reply,
        };
        self.request(context, stopping, |request| Event::TerminateChild {
            request,
            id,
        });
    }

    fn request(
        &mut self,
        context: &mut Context<'_, Guest>,
        then: Restarting,
        event: impl FnOnce(u64) -> Event<Pid, super::Start, exuvia_process::ExitReason>,
    ) {
        self.next_request += 1;
        let request = self.next_request;
        self.requests.insert(request, Requested::Restart(then));
        self.feed(context, event(request));
    }

    /// Continues a restart after a step.
    pub(super) fn restart_on(
        &mut self,
        context: &mut Context<'_, Guest>,
        step: Restarting,
        result: Result<Option<Pid>, String>,
    ) {
        match (step, result) {
            (Restarting::Stopping { reply, .. } | Restarting::Starting { reply }, Err(why)) => {
                let _ = reply.try_send(Err(why));
            }
            (Restarting::Stopping { id, reply }, Ok(_)) => {
                let starting = Restarting::Starting { reply };
                self.request(context, starting, |request| Event::RestartChild {
                    request,
                    id,
                });
            }
            (Restarting::Starting { reply }, Ok(pid)) => {
                let up = pid.ok_or_else(|| "it was not needed".to_owned());
                let _ = reply.try_send(up);
            }
        }
    }
}
