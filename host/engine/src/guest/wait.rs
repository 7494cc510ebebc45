//! What a suspended process waits for, and when the wait is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_process::call::groups::Publication;
use exuvia_process::{Body, Pid, Selector};

use super::GuestProcess;

/// The allocation for a wait. It is kept from one wait to the next, so that a process that
/// blocks repeatedly does not allocate, and freed when the process is paged out.
#[derive(Debug, Default)]
pub(crate) struct WaitCell(Option<Box<Option<Wait>>>);

impl WaitCell {
    pub(crate) fn get(&self) -> Option<&Wait> {
        self.0.as_deref()?.as_ref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut Wait> {
        self.0.as_deref_mut()?.as_mut()
    }

    pub(crate) fn set(&mut self, wait: Wait) {
        **self.0.get_or_insert_default() = Some(wait);
    }

    pub(crate) fn take(&mut self) -> Option<Wait> {
        self.0.as_deref_mut()?.take()
    }

    pub(crate) fn trim(&mut self) {
        if self.get().is_none() {
            self.0 = None;
        }
    }
}

/// What a suspended process waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) reason: WaitReason,
    /// The time by the node's clock, in nanoseconds; `None`: no limit.
    pub(crate) deadline: Option<u64>,
    /// The timer that wakes it at the deadline.
    pub(crate) timer: Option<u64>,
    /// Whether an upgrade may end the wait.
    pub(crate) upgrade: bool,
    /// A publication that it makes in several turns.
    pub(crate) publication: Option<Box<Publication>>,
    /// Counts it among the processes that wait for the system.
    #[expect(dead_code, reason = "its drop counts")]
    pub(crate) in_host: Option<InHost>,
}

/// A process in a function of the host that may wait for the system, counted from the call to its end.
#[derive(Debug)]
pub(crate) struct InHost(Arc<AtomicUsize>);

impl InHost {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> InHost {
        count.fetch_add(1, Ordering::AcqRel);
        InHost(count.clone())
    }
}

impl Drop for InHost {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// Its next turn: its slice was used up.
    Preempted,
    /// That a congested process to which it has sent has caught up.
    Capacity { to: Pid },
    /// A message that `receive` selects.
    Message(Selector),
    /// The reply to a call, or a child's acknowledgement.
    Reply { reference: u64 },
    /// Only its deadline.
    Nothing,
    /// The system, in a function of the host. `state` is what `ps` shows.
    Host { state: &'static str },
}

impl Wait {
    /// Returns the wait of a process that was preempted, or that waits for the process
    /// `congested`.
    pub(crate) fn turn(congested: Option<Pid>) -> Wait {
        Wait {
            reason: congested.map_or(WaitReason::Preempted, |to| WaitReason::Capacity { to }),
            deadline: None,
            timer: None,
            upgrade: false,
            publication: None,
            in_host: None,
        }
    }

    /// Returns the wait for the system, in a function of the host.
    pub(crate) fn host(state: &'static str, in_host: InHost) -> Wait {
        Wait {
            reason: WaitReason::Host { state },
            in_host: Some(in_host),
            ..Wait::turn(None)
        }
    }

    /// Returns whether the process should be resumed.
    pub(crate) fn is_over(&self, process: &GuestProcess, now: u64, upgrade_due: bool) -> bool {
        let arrived = match &self.reason {
            WaitReason::Preempted => true,
            WaitReason::Capacity { .. } => process.has_capacity(),
            WaitReason::Message(wanted) => process.position(wanted).is_some(),
            WaitReason::Reply { reference } => {
                (process.position(&Selector::Reference(*reference))).is_some()
            }
            WaitReason::Nothing => false,
            WaitReason::Host { .. } => match &process.body {
                Body::Guest(guest) => guest.may_be_awake(),
                Body::Native(_) => true,
            },
        };
        // The message may be among those that have arrived and are not sorted yet.
        let timed_out = !process.has_backlog() && self.deadline.is_some_and(|at| at <= now);
        arrived || timed_out || (self.upgrade && upgrade_due)
    }

    pub(super) fn describe(&self) -> &'static str {
        match self.reason {
            WaitReason::Preempted => "preempted",
            WaitReason::Capacity { .. } => "send",
            WaitReason::Message(_) => "receive",
            WaitReason::Reply { .. } => "call",
            WaitReason::Nothing => "sleep",
            WaitReason::Host { state } => state,
        }
    }
}
