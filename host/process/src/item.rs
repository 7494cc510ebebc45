//! What lies in a mailbox: signals, perhaps with a charge on their sender, and functions of the host.
//! This is the only place where anything but plain data is queued for a process.
//!
//! # When a control runs
//!
//! A [`Control`] runs at the beginning of a turn, when the process takes over what has arrived
//! ([`Process::drain`]), in order with the signals: those that were queued before it have been
//! applied, those behind it have not. It never runs while code of the process is running: if the
//! process takes over signals in the middle of a handler ([`Process::drain_new_signals`]), the
//! control waits for the next turn, and the signals behind it are applied. So an observer never
//! hides a message from a process that asks for it. A control finds the process at rest, waiting or
//! suspended, and all controls of a process run in order. If the process terminates first, the
//! control is dropped.

use std::fmt;

use crate::account::{Charge, MaybeCharged};
use crate::process::Process;
use crate::signal::Signal;
use crate::system::System;

/// One item of a mailbox.
pub enum Item<G> {
    /// A signal. Whoever sent it may be charged for it until it is applied.
    Signal(MaybeCharged<Signal>),
    /// The host inspects or changes the process at the beginning of a turn.
    Control(Control<G>),
}

/// A function that the host runs on a process at the beginning of one of its turns.
pub type Control<G> = Box<dyn FnOnce(&mut Process<G>, &System<G>) + Send>;

impl<G> Item<G> {
    /// Returns a signal for which its sender is charged.
    pub fn charged(signal: Signal, charge: Option<Charge>) -> Item<G> {
        Item::Signal(MaybeCharged::new(signal, charge))
    }

    /// Returns the weight of the item in transit, which counts against the backpressure limit.
    #[inline]
    pub(crate) fn weight(&self) -> u32 {
        match self {
            Item::Signal(signal) => signal.weight(),
            Item::Control(_) => 1,
        }
    }

    pub(crate) fn is_control(&self) -> bool {
        matches!(self, Item::Control(_))
    }
}

impl<G> From<Signal> for Item<G> {
    #[inline]
    fn from(signal: Signal) -> Item<G> {
        Item::Signal(MaybeCharged::Free(signal))
    }
}

impl<G> fmt::Debug for Item<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Signal(signal) => (**signal).fmt(f),
            Item::Control(_) => f.write_str("Control"),
        }
    }
}
