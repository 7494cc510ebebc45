//! Probation: the first messages of a process after a crossing, each handled
//! as a transaction that old code takes over if new code fails.
//!
//! What a handler does to the system meanwhile is held back (`perform`), or
//! done and undone (`undoable`). A call that waits, or that cannot be taken
//! back, ends the transaction early (`close_transaction`).

use std::sync::atomic::Ordering;

use exuvia_code::{Path, Release, Tenancy, Verdict};
use exuvia_process::{Envelope, ExitReason, Turn};

use crate::artifact::Artifact;
use crate::crossing;
use crate::executor::Executor;
use crate::guest::{Guest, GuestOwn, GuestSystem, Residence};
use crate::image::Image;
use crate::turn::Entered;
use crate::upgrade::{Origin, upgrade_failed};
use crate::wasi::Wasi;

/// Probation after a crossing: what is needed to go back.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Messages that are still transactions.
    pub(crate) left: u32,
    /// The release that the crossing was for.
    pub(crate) release: u64,
    /// The version before.
    pub(crate) before: Tenancy<Artifact>,
    /// Where it goes back to if the next message fails.
    pub(crate) state: Option<State>,
    /// Set by a crossing that has made its memory anew: what it had of the system before,
    /// since the numbers of its files are in the old one's. It goes with [`State::Old`].
    pub(crate) files: Option<OldFiles>,
    pub(crate) transaction: Option<Transaction>,
}

/// What a process had of the system in a memory that may come back, if anything.
#[derive(Debug)]
pub(crate) struct OldFiles(pub(crate) Option<Box<Wasi>>);

impl OldFiles {
    /// The old memory is back: these are its files, and none that were opened since.
    pub(crate) fn come_back(self, guest: &mut Guest) {
        guest.take_wasi();
        if let Some(wasi) = self.0 {
            guest.put_wasi(wasi);
        }
    }
}

/// The state a process in probation goes back to.
#[derive(Debug)]
pub(crate) enum State {
    /// Of the old version, before the crossing: exact.
    Old(Image),
    /// Of the new version, before the message: crosses back.
    New(Image),
}

/// One message handled as a transaction.
#[derive(Default)]
pub(crate) struct Transaction {
    /// The message, once the guest has taken it.
    pub(crate) message: Option<Envelope>,
    /// Done when the handler has ended.
    pub(crate) held: Vec<Effect>,
    /// Bytes of the payloads that are held.
    pub(crate) bytes: u64,
    /// Links, and monitors with requests, that will be made then: they count
    /// against the process's limits already.
    pub(crate) links: usize,
    pub(crate) monitors: usize,
    /// Done if it traps, last first.
    pub(crate) undo: Vec<Deed>,
    /// Timers that the handler has set, and when they are due; `None`: those
    /// that it has taken back.
    pub(crate) timers: Vec<(u64, Option<u64>)>,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transaction({} held)", self.held.len())
    }
}

/// Calls that a transaction holds, and those that it can undo; one more ends
/// it. A handler that asks for as much is not one to take back.
const HELD: usize = 10_000;

/// Something done to the system on behalf of a process.
pub(crate) type Deed = Box<dyn FnOnce(&mut GuestOwn, &GuestSystem) + Send>;

/// An effect that is held back.
pub(crate) struct Effect {
    pub(crate) release: Deed,
    /// What dropping it takes, such as giving a reserved pid back.
    pub(crate) abandon: Option<Deed>,
}

impl Transaction {
    /// Lets everything that was held happen.
    pub(crate) fn release(self, own: &mut GuestOwn, system: &GuestSystem) {
        for effect in self.held {
            (effect.release)(own, system);
        }
    }

    /// Makes it as if the handler had never begun; the message goes back.
    pub(crate) fn abandon(self, own: &mut GuestOwn, system: &GuestSystem) {
        for effect in self.held {
            if let Some(abandon) = effect.abandon {
                abandon(own, system);
            }
        }
        for deed in self.undo.into_iter().rev() {
            deed(own, system);
        }
        if let Some(message) = self.message {
            own.put_back(message);
        }
    }
}

/// Does something for a guest: at once, or when its transaction is released.
pub(crate) fn perform(
    own: &mut GuestOwn,
    system: &GuestSystem,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    do_or_hold(own, system, deed, || None);
}

/// The same for what takes something back, such as a reserved pid, if the
/// transaction is abandoned.
pub(crate) fn perform_or(
    own: &mut GuestOwn,
    system: &GuestSystem,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
    abandon: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    do_or_hold(own, system, deed, || Some(Box::new(abandon)));
}

/// Nothing is allocated for what is done at once.
#[inline]
fn do_or_hold(
    own: &mut GuestOwn,
    system: &GuestSystem,
    deed: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
    abandon: impl FnOnce() -> Option<Deed>,
) {
    let Some((held, bytes)) = transaction(own).map(|t| (t.held.len(), t.bytes)) else {
        return deed(own, system);
    };
    if held >= HELD || bytes > own.limits().mailbox_bytes {
        close_transaction(own, system);
        return deed(own, system);
    }
    if let Some(transaction) = transaction(own) {
        transaction.held.push(Effect {
            release: Box::new(deed),
            abandon: abandon(),
        });
    }
}

/// To be called when something was done at once: it is undone if the
/// transaction fails.
pub(crate) fn undoable(
    own: &mut GuestOwn,
    system: &GuestSystem,
    undo: impl FnOnce(&mut GuestOwn, &GuestSystem) + Send + 'static,
) {
    match transaction(own) {
        Some(transaction) if transaction.undo.len() < HELD => {
            transaction.undo.push(Box::new(undo));
        }
        Some(_) => close_transaction(own, system),
        None => {}
    }
}

/// The open transaction, if the process is in one.
pub(crate) fn transaction(own: &mut GuestOwn) -> Option<&mut Transaction> {
    own.guest()?.trial.as_mut()?.transaction.as_mut()
}

/// Ends the transaction early: what was held happens.
pub(crate) fn close_transaction(own: &mut GuestOwn, system: &GuestSystem) {
    if let Some(transaction) = take_transaction(own) {
        transaction.release(own, system);
    }
}

/// Takes the open transaction, if the process is in one.
pub(crate) fn take_transaction(own: &mut GuestOwn) -> Option<Transaction> {
    own.guest()?.trial.as_mut()?.transaction.take()
}

impl Executor {
    pub(crate) fn take_back(&self, own: &mut GuestOwn) {
        if let Some(transaction) = take_transaction(own) {
            transaction.abandon(own, &self.0.system);
        }
    }

    /// A failure during a release's trial is the release's.
    pub(crate) fn blame(&self, own: &mut GuestOwn, reason: ExitReason) -> ExitReason {
        let Some(trial) = own.guest().and_then(|guest| guest.trial.as_ref()) else {
            return reason;
        };
        if reason.is_orderly() {
            return reason;
        }
        let release = trial.release;
        self.count_failure(release, &reason);
        reason.caused_by_release()
    }

    pub(crate) fn count_failure(&self, release: u64, reason: &ExitReason) {
        if let Verdict::WentBack(now) = self.0.code.failed(release) {
            self.0
                .observer
                .went_back(release, &now, &reason.to_string());
        }
    }

    /// The guest trapped: in a transaction the process goes back to old code
    /// and old code gets the message; else it ends.
    pub(crate) fn trapped(&self, own: &mut GuestOwn, reason: ExitReason) -> Entered {
        let shared = &self.0;
        let pid = own.pid();
        let grants = own.limits().grants.clone();
        let Some(guest) = own.guest() else {
            return Entered::Stop(Turn::Exit(reason));
        };
        guest.residence = Residence::Running;
        let in_transaction = guest
            .trial
            .as_ref()
            .is_some_and(|trial| trial.transaction.is_some());
        if !in_transaction {
            return Entered::Stop(Turn::Exit(self.blame(own, reason)));
        }
        let Some(mut trial) = guest.trial.take() else {
            return Entered::Stop(Turn::Exit(reason));
        };
        let failed = guest.tenancy.version().clone();
        let mut anew = false;
        let back = match trial.state.take() {
            Some(State::Old(image)) => Ok(image),
            Some(State::New(image)) => crossing::cross(
                shared,
                &failed,
                trial.before.version(),
                (&image, &grants),
                None,
            )
            .map_err(|error| error.to_string())
            .and_then(|crossed| {
                anew = crossed.path == Path::Migrated;
                crossed.state.into_image(shared)
            }),
            None => Err("its state before the message is not known".into()),
        };
        if let Some(transaction) = trial.transaction.take() {
            transaction.abandon(own, &shared.system);
        }
        match back {
            Ok(image) => {
                if let Some(guest) = own.guest() {
                    if anew {
                        guest.take_wasi();
                    } else if let Some(files) = trial.files.take() {
                        files.come_back(guest);
                    }
                    guest.residence = Residence::Image {
                        image,
                        waiting: false,
                        stamp: None,
                    };
                    guest.tenancy = Tenancy::new(trial.before.version().clone());
                    guest.release = trial.release;
                    guest.wait.take();
                }
                (shared.observer).returned(pid, &failed, trial.release, &reason);
                let release = shared.code.current();
                if release.id == trial.release {
                    release.progress.returned.fetch_add(1, Ordering::Relaxed);
                    if let Some(guest) = own.guest() {
                        guest.tenancy.stay(release.id);
                    }
                }
                self.count_failure(trial.release, &reason);
                Entered::GoOn
            }
            Err(why) => {
                self.count_failure(trial.release, &reason);
                let text = format!("new code failed ({reason}), and the way back is closed: {why}");
                let reason = upgrade_failed(&text).caused_by_release();
                Entered::Stop(Turn::Exit(reason))
            }
        }
    }

    /// Probation for a crossing, unless it is a way back itself. A frame that
    /// cannot be read as an image is no way back.
    pub(crate) fn trial(
        &self,
        release: &Release<Artifact>,
        before: Tenancy<Artifact>,
        origin: Origin,
    ) -> Option<Box<Trial>> {
        let state = match origin {
            Origin::Image(image) => Some(State::Old(image)),
            Origin::Frame(_) => None,
        };
        (self.0.probation > 0 && release.origin == release.id).then(|| {
            Box::new(Trial {
                left: self.0.probation,
                release: release.id,
                before,
                state,
                files: None,
                transaction: None,
            })
        })
    }
}
