//! A process's relations to others: links, monitors, pending requests, and the resources it is
//! charged for. Most idle processes have none.

use std::sync::Arc;

use exuvia_abi::Pid;

use crate::account::Account;
use crate::children::Children;
use crate::limits::Limits;
use crate::small::SmallMap;

#[derive(Debug, Default)]
pub(crate) struct Relations {
    pub(crate) links: SmallMap<Pid, Link>,
    /// The processes that this one monitors or awaits a reply from, by reference.
    pub(crate) monitors: SmallMap<u64, Monitor>,
    /// The processes that monitor this one or await its reply.
    pub(crate) watchers: SmallMap<(Pid, u64), ()>,
    /// Counters that other objects share; few processes have children or timers.
    pub(crate) counts: Option<Box<Counts>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The living children.
    pub(crate) children: Option<Arc<Children>>,
    /// See [`Process::limits_of_child`](crate::Process::limits_of_child).
    pub(crate) limits: Option<Arc<Limits>>,
    /// Timers and exit signals in transit.
    pub(crate) account: Option<Arc<Account>>,
}

/// What a process waits to hear of another one, under one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// Its end.
    Exit(Pid),
    /// Its reply to a request, or its end.
    Reply(Pid),
}

impl Monitor {
    /// Returns the other process.
    pub(crate) fn pid(self) -> Pid {
        match self {
            Monitor::Exit(pid) | Monitor::Reply(pid) => pid,
        }
    }
}

/// A link, as in the link protocol of Erlang/OTP (ERTS, "Link protocol").
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Active,
    /// Unlinked on this side. A `Link` that arrives before the acknowledgement was sent before the
    /// other side saw the unlink, and is void.
    Unlinking(u64),
}

impl Relations {
    /// Frees unused memory. Returns whether nothing is left.
    pub(crate) fn trim(&mut self) -> bool {
        self.links.trim();
        self.monitors.trim();
        self.watchers.trim();
        if self.counts.as_ref().is_some_and(|counts| counts.is_idle()) {
            self.counts = None;
        }
        self.is_empty() && self.counts.is_none()
    }

    /// Returns whether there is no relation to another process.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.len() + self.monitors.len() + self.watchers.len() == 0
    }
}

impl Counts {
    /// Returns whether no other object shares the counters: each child that lives, or that may
    /// still be started, holds `children`, and each charge holds `account`.
    fn is_idle(&self) -> bool {
        let unshared = |account: &Arc<Account>| Arc::strong_count(account) == 1;
        self.children.as_ref().is_none_or(Children::is_idle)
            && self.account.as_ref().is_none_or(unshared)
    }
}
