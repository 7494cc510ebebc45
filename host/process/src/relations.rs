//! A process's relations to others: links, monitors, requests under way, and
//! what it is charged for. Most processes that rest have none.

use std::sync::Arc;

use exuvia_abi::Pid;

use crate::account::Account;
use crate::children::Children;
use crate::small::SmallMap;

#[derive(Debug, Default)]
pub(crate) struct Relations {
    pub(crate) links: SmallMap<Pid, Link>,
    /// Whom the process monitors or awaits a reply from, by reference.
    pub(crate) monitors: SmallMap<u64, Pid>,
    /// Who monitors the process or awaits its reply.
    pub(crate) watchers: SmallMap<(Pid, u64), ()>,
    /// What is counted elsewhere; few processes have children or timers.
    pub(crate) counts: Option<Box<Counts>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Those that live.
    pub(crate) children: Option<Arc<Children>>,
    /// Timers and exit signals under way.
    pub(crate) account: Option<Arc<Account>>,
}

/// A link as OTP's link protocol has it (ERTS, "Link protocol").
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Active,
    /// Unlinked here; a `Link` that arrives before the answer was sent before
    /// the other side saw the unlink, and is void.
    Unlinking(u64),
}

impl Relations {
    /// Gives back what is not used. Answers whether nothing is left.
    pub(crate) fn trim(&mut self) -> bool {
        self.links.trim();
        self.monitors.trim();
        self.watchers.trim();
        if self.counts.as_ref().is_some_and(|counts| counts.is_idle()) {
            self.counts = None;
        }
        self.is_empty() && self.counts.is_none()
    }

    /// Whether it has none to any other process.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.len() + self.monitors.len() + self.watchers.len() == 0
    }
}

impl Counts {
    /// Whether nobody else counts here: each child that lives or may yet be
    /// born holds the one, each charge the other.
    fn is_idle(&self) -> bool {
        let unshared = |account: &Arc<Account>| Arc::strong_count(account) == 1;
        self.children.as_ref().is_none_or(Children::is_idle)
            && self.account.as_ref().is_none_or(unshared)
    }
}
