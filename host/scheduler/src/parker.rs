//! Where a worker sleeps: a token, and two ways to wait for it, asleep or at a poller.
//!
//! The token is what makes unparking safe: given before the worker waits, it makes that wait return at once. The state says
//! how the worker waits, so whoever gives the token rings where it is heard. A ring that comes late, after a wait has ended by
//! itself, makes one later wait return at once, which is harmless: the worker looks for work again.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    poller::Interrupt,
    sync::{AtomicU32, Bed, Bell, Ordering},
};

/// The worker is awake.
const AWAKE: u32 = 0;
/// The worker has a token.
const TOKEN: u32 = 1;
/// The worker sleeps, or is about to.
const SLEEPS: u32 = 2;
/// The worker waits at its poller, or is about to.
const POLLS: u32 = 3;

/// The worker's side.
#[derive(Debug)]
pub struct Parker {
    bed: Bed,
    unparker: Unparker,
}

/// The side of those who wake it.
#[derive(Clone)]
pub struct Unparker {
    bell: Bell,
    shared: Arc<Shared>,
}

struct Shared {
    state: AtomicU32,
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparker").finish_non_exhaustive()
    }
}

impl Parker {
    /// Creates the parker of a worker; `interrupt` is that of its poller.
    pub fn new(interrupt: Option<Arc<dyn Interrupt>>) -> Self {
        let bed = Bed::new();
        let bell = bed.unparker().clone();
        let shared = Arc::new(Shared {
            state: AtomicU32::new(AWAKE),
            interrupt,
        });
        Parker {
            bed,
            unparker: Unparker { bell, shared },
        }
    }

    /// Returns how this is unparked.
    pub fn unparker(&self) -> &Unparker {
        &self.unparker
    }

    /// Sleeps until there is a token, or so long, and takes the token.
    pub fn park(&self, time: Option<Duration>) {
        self.unparker.shared.wait_as(SLEEPS, || match time {
            Some(time) => self.bed.park_timeout(time),
            None => self.bed.park(),
        });
    }
}

impl Shared {
    /// Returns whether it has waited.
    fn wait_as(&self, how: u32, wait: impl FnOnce()) -> bool {
        let waits = self
            .state
            .compare_exchange(AWAKE, how, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if waits {
            wait();
        }
        // What the giver of the token did before is seen by the checks that follow every wait.
        self.state.swap(AWAKE, Ordering::SeqCst);
        waits
    }
}

impl Unparker {
    /// Gives the token.
    pub fn unpark(&self) {
        match self.shared.state.swap(TOKEN, Ordering::SeqCst) {
            SLEEPS => self.bell.unpark(),
            POLLS => {
                if let Some(interrupt) = &self.shared.interrupt {
                    interrupt.interrupt();
                }
            }
            _ => {}
        }
    }

    /// Called by the worker: has `wait` wait at the poller, unless there is a token already, and
    /// takes the token. Returns whether it has waited.
    pub fn park_at_poller(&self, wait: impl FnOnce()) -> bool {
        self.shared.wait_as(POLLS, wait)
    }
}
