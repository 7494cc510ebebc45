//! A message that is handled on probation, as a transaction: what its handler does
//! to the system is deferred (`perform`), or done and undone (`undoable`).
//!
//! A transaction ends in one of two ways, and somebody has to say which: released,
//! all that was deferred happens; abandoned, it is as if the handler had never begun,
//! and the message is where it was. One that is only dropped would lose the
//! message, and keep pids, timers and charges: that is a bug of the host, and fails
//! every test that sees it.
//!
//! Below the host calls, which fill it; `probation` decides how it ends.

use exuvia_process::Envelope;

use crate::guest::{GuestOwn, GuestSystem};

/// What a transaction defers at most, and can undo at most; one more ends it. A
/// handler that asks for as much is not one to take back. Whoever ends it does all
/// of it in one go: about as long as a slice.
const MOST: usize = 1_000;

/// Something done to the system on behalf of a process.
type Deed = Box<dyn FnOnce(&mut GuestOwn, &GuestSystem) + Send>;

/// An effect that is deferred.
struct Effect {
    release: Deed,
    /// What dropping it takes, such as giving a reserved pid back.
    abandon: Option<Deed>,
}

/// One message handled as a transaction.
#[must_use = "a transaction is released or abandoned"]
#[derive(Default)]
pub(crate) struct Transaction {
    /// The message, once the guest has taken it, and where in the mailbox it was.
    message: Option<(usize, Envelope)>,
    /// Done when the handler has ended.
    deferred: Vec<Effect>,
    /// What they weigh, in sends.
    weight: usize,
    /// Bytes of the payloads that are deferred.
    pub(crate) bytes: u64,
    /// Links, and monitors with requests, that will be made then: they count
    /// against the process's limits already.
    pub(crate) links: usize,
    pub(crate) monitors: usize,
    /// Done if it is abandoned, last first.
    undo: Vec<Deed>,
    /// Timers that the handler has set, and when they are due; `None`: those
    /// that it has taken back.
    pub(crate) timers: Vec<(u64, Option<u64>)>,
    has_ended: bool,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} deferred)", self.deferred.len())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.has_ended {
            tracing::error!(
                "a transaction was neither released nor abandoned, so its message and what it had reserved are lost; this is a bug of the host"
            );
            debug_assert!(std::thread::panicking(), "a transaction was dropped");
        }
    }
}

impl Transaction {
    /// Whether the handler has taken a message.
    pub(crate) fn has_message(&self) -> bool {
        self.message.is_some()
    }

    /// Notes the first message that the handler takes, and where it was.
    pub(crate) fn took(&mut self, at: usize, message: Envelope) {
        debug_assert!(self.message.is_none(), "an entry takes one message");
        self.message.get_or_insert((at, message));
    }

    /// Whether nobody but the process itself could tell that it ever began.
    pub(crate) fn is_unseen(&self) -> bool {
        self.message.is_none() && self.deferred.is_empty() && self.undo.is_empty()
    }

    /// Lets everything that was deferred happen; answers what the process has to
    /// pay for it, reductions: one for each send, as if it had sent now.
    pub(crate) fn release(mut self, own: &mut GuestOwn, system: &GuestSystem) -> u32 {
        self.has_ended = true;
        for effect in std::mem::take(&mut self.deferred) {
            (effect.release)(own, system);
        }
        u32::try_from(self.weight).unwrap_or(u32::MAX)
    }

    /// Makes it as if the handler had never begun; the message goes back to where
    /// it was.
    pub(crate) fn abandon(mut self, own: &mut GuestOwn, system: &GuestSystem) {
        self.has_ended = true;
        for effect in std::mem::take(&mut self.deferred) {
            if let Some(abandon) = effect.abandon {
                abandon(own, system);
            }
        }
        for deed in std::mem::take(&mut self.undo).into_iter().rev() {
            deed(own, system);
        }
        // One entry takes one message, and others come behind: before it stands
        // what stood there.
        if let Some((at, message)) = self.message.take() {
            own.put_back(at, message);
        }
    }
}

/// Does something for a guest: at once, or when its transaction is released.
pub(crate) fn perform(
    own: &mut GuestOwn,
    system: &GuestSystem,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    do_or_defer(own, system, 1, deed, || None);
}

/// The same for what is as much as several sends.
pub(crate) fn perform_all(
    own: &mut GuestOwn,
    system: &GuestSystem,
    sends: usize,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    do_or_defer(own, system, sends, deed, || None);
}

/// The same for what takes something back, such as a reserved pid, if the
/// transaction is abandoned.
pub(crate) fn perform_or(
    own: &mut GuestOwn,
    system: &GuestSystem,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
    abandon: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    do_or_defer(own, system, 1, deed, || Some(Box::new(abandon)));
}

/// Nothing is allocated for what is done at once.
#[inline]
fn do_or_defer(
    own: &mut GuestOwn,
    system: &GuestSystem,
    weight: usize,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
    abandon: impl FnOnce() -> Option<Deed>,
) {
    let most_bytes = own.limits().mailbox_bytes;
    let Some(open) = transaction(own) else {
        return deed(own, system);
    };
    if open.weight + weight > MOST || open.bytes > most_bytes {
        own.reductions += u64::from(close_transaction(own, system));
        return deed(own, system);
    }
    open.weight += weight;
    open.deferred.push(Effect {
        release: Box::new(deed),
        abandon: abandon(),
    });
}

/// To be called when something was done at once: it is undone if the
/// transaction is abandoned.
pub(crate) fn undoable(
    own: &mut GuestOwn,
    system: &GuestSystem,
    undo: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    match transaction(own) {
        Some(transaction) if transaction.undo.len() < MOST => {
            transaction.undo.push(Box::new(undo));
        }
        Some(_) => own.reductions += u64::from(close_transaction(own, system)),
        None => {}
    }
}

/// The open transaction, if the process is in one.
pub(crate) fn transaction(own: &mut GuestOwn) -> Option<&mut Transaction> {
    own.guest()?.trial.as_mut()?.transaction.as_mut()
}

/// Ends the transaction early: what was deferred happens. Answers what the process
/// has to pay for it, reductions.
#[must_use]
pub(crate) fn close_transaction(own: &mut GuestOwn, system: &GuestSystem) -> u32 {
    match take_transaction(own) {
        Some(transaction) => transaction.release(own, system),
        None => 0,
    }
}

/// Takes the open transaction, if the process is in one.
pub(crate) fn take_transaction(own: &mut GuestOwn) -> Option<Transaction> {
    own.guest()?.trial.as_mut()?.transaction.take()
}
