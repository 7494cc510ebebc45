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

use super::SupervisorProcess;
use super::edit::Requested;
use crate::node::Node;

/// The maximum number of questions in the queue of one supervisor: each has a request of the
/// control socket.
const MOST: usize = 1_024;

/// A question; the reply goes to a caller that may have timed out.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The children of the supervisor.
    Children {
        /// The maximum number of children to return.
        most: usize,
        answer: SyncSender<Seen>,
    },
    /// Stop a child and start it again.
    Restart {
        pid: Pid,
        answer: SyncSender<Restarted>,
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
pub(crate) type Asks = Mutex<HashMap<Pid, VecDeque<Asked>>>;

/// A restart in progress: the next step when the child has stopped, or is up.
#[derive(Debug)]
pub(crate) enum Restarting {
    Stopping {
        id: Arc<str>,
        answer: SyncSender<Restarted>,
    },
    Starting {
        answer: SyncSender<Restarted>,
    },
}

/// Asks a supervisor and waits for the reply; `None`: it is gone, takes too long, or has too many
/// questions queued.
pub(crate) fn ask<T>(
    node: &Node,
    supervisor: Pid,
    question: impl FnOnce(SyncSender<T>) -> Asked,
    patience: Duration,
) -> Option<T> {
    let (answer, answered) = sync_channel(1);
    {
        let mut asks = node.0.asks.lock();
        let waiting = asks.get_mut(&supervisor)?;
        if waiting.len() >= MOST {
            return None;
        }
        waiting.push_back(question(answer));
    }
    let look = Envelope::message(Pid::NONE, 0, Payload::empty());
    node.0.system.send(supervisor, look).ok()?;
    answered.recv_timeout(patience).ok()
}

impl SupervisorProcess {
    /// Replies to the questions that the host has queued.
    pub(super) fn answer_host(&mut self, context: &mut Context<'_, Guest>) {
        loop {
            let Some(node) = self.node.upgrade() else {
                return;
            };
            let asked = (node.asks.lock().get_mut(&self.me)).and_then(VecDeque::pop_front);
            drop(node);
            match asked {
                None => return,
                Some(Asked::Children { most, answer }) => {
                    let _ = answer.try_send(self.seen(most));
                }
                Some(Asked::Restart { pid, answer }) => self.restart(context, pid, answer),
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
        answer: SyncSender<Restarted>,
    ) {
        let refused = |why: &str| drop(answer.try_send(Err(why.into())));
        let Some(child) = self.machine.child_with_pid(pid) else {
            return refused("it is no longer its child");
        };
        if child.spec.restart == Restart::Temporary {
            return refused("a temporary child is removed when it exits and cannot be restarted");
        }
        let id = child.spec.id.clone();
        let stopping = Restarting::Stopping {
            id: id.clone(),
            answer,
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
            (Restarting::Stopping { answer, .. } | Restarting::Starting { answer }, Err(why)) => {
                let _ = answer.try_send(Err(why));
            }
            (Restarting::Stopping { id, answer }, Ok(_)) => {
                let starting = Restarting::Starting { answer };
                self.request(context, starting, |request| Event::RestartChild {
                    request,
                    id,
                });
            }
            (Restarting::Starting { answer }, Ok(pid)) => {
                let up = pid.ok_or_else(|| "it was not needed".to_owned());
                let _ = answer.try_send(up);
            }
        }
    }
}
