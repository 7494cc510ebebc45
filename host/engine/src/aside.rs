//! Guests that wait on the stack of a thread.
//!
//! A guest that runs on a scheduler's own stack (see `stack`) and must wait
//! cannot be put away. Its thread steps aside with it: another goes on as the
//! scheduler, and this one blocks in the host call until the guest is asked for
//! something. To resume it, a scheduler hands itself over to that thread and
//! ends; the guest goes on as if its call had only taken long.
//!
//! [`Aside`] is where the two sides meet. The frame's body, with the store, is on
//! the thread's stack meanwhile; everything else (the process, its seat) is where
//! it would be if the guest were on a fiber.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::body::Body;
use crate::guest::GuestOwn;
use crate::image::Image;
use crate::places::Seated;
use crate::turn::Ran;

/// Has other threads go on as schedulers.
pub trait Threads: Send + Sync + std::fmt::Debug {
    /// Whether there is a stand-in for the scheduler of each thread. Who has asked
    /// before it enters a guest gets one if the guest waits.
    fn may_step_aside(&self) -> bool;

    /// A thread that could go on as this one's scheduler. `None`: this is no
    /// scheduler's, or too many are aside.
    fn stand_in(&self) -> Option<Box<dyn StandIn>>;

    /// The turn on this thread takes longer than others.
    fn turn_gets_long(&self);
}

/// A thread that is ready to go on as a scheduler.
pub trait StandIn {
    /// How the thread that steps aside becomes a scheduler again.
    fn way_back(&self) -> Arc<dyn WayBack>;

    /// It goes on as this thread's scheduler. First it does `then`, which says
    /// what becomes of the process in slot `index`, whose turn this is.
    fn take_over(self: Box<Self>, index: u32, then: Box<dyn FnOnce() -> Ran + Send>);
}

/// How a thread that has stepped aside becomes a scheduler again:
/// [`Ran::Elsewhere`] brings it to whoever made it.
pub trait WayBack: Any + Send + Sync + std::fmt::Debug {
    /// Waits, on the thread that has stepped aside, until it is one.
    fn wait(&self);
}

/// A guest that waits on the stack of a thread, seen from both sides.
#[derive(Debug)]
pub(crate) struct Aside {
    way_back: Arc<dyn WayBack>,
    stage: Mutex<Stage>,
    changed: Condvar,
}

enum Stage {
    /// It waits.
    Waits,
    /// It is asked for something.
    Asked(Ask),
    /// What it was asked for.
    Copied(Image),
    /// Its call has ended; the body, unless the host has failed.
    Ended(Option<Box<Body>>),
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Waits => "Waits",
            Stage::Asked(_) => "Asked",
            Stage::Copied(_) => "Copied",
            Stage::Ended(_) => "Ended",
        })
    }
}

/// What a guest that waits aside is asked for.
pub(crate) enum Ask {
    /// To go on, as this process in this seat, when the thread is a scheduler's.
    Resume(Box<GuestOwn>, Seated),
    /// For a copy of its state.
    Copy,
    /// To end its call.
    End,
}

impl Aside {
    pub(crate) fn new(way_back: Arc<dyn WayBack>) -> Arc<Aside> {
        Arc::new(Aside {
            way_back,
            stage: Mutex::new(Stage::Waits),
            changed: Condvar::new(),
        })
    }

    /// Waits, on the guest's thread, until it is asked for something.
    pub(crate) fn asked(&self) -> Ask {
        let mut stage = self.stage.lock();
        loop {
            match std::mem::replace(&mut *stage, Stage::Waits) {
                Stage::Asked(ask) => return ask,
                other => *stage = other,
            }
            self.changed.wait(&mut stage);
        }
    }

    /// Waits, on the guest's thread, until that is a scheduler's.
    pub(crate) fn come_back(&self) {
        self.way_back.wait();
    }

    /// Answers [`Ask::Copy`].
    pub(crate) fn copied(&self, image: Image) {
        self.set(Stage::Copied(image));
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock() = stage;
        self.changed.notify_all();
    }

    /// What the guest answers to `ask`.
    fn answer(&self, ask: Ask) -> Stage {
        self.set(Stage::Asked(ask));
        let mut stage = self.stage.lock();
        loop {
            match std::mem::replace(&mut *stage, Stage::Waits) {
                answer @ (Stage::Copied(_) | Stage::Ended(_)) => return answer,
                other => *stage = other,
            }
            self.changed.wait(&mut stage);
        }
    }
}

/// The right to a guest that waits aside: that of the frame it is in. Dropped,
/// it ends the guest's call.
#[derive(Debug)]
pub(crate) struct Held {
    aside: Arc<Aside>,
    /// Its call goes on, or has ended.
    over: bool,
}

impl Held {
    pub(crate) fn new(aside: Arc<Aside>) -> Held {
        Held { aside, over: false }
    }

    /// The guest goes on as this process in this seat, once somebody has
    /// followed the way back.
    pub(crate) fn resume(mut self, own: Box<GuestOwn>, seated: Seated) -> Arc<dyn WayBack> {
        self.over = true;
        self.aside.set(Stage::Asked(Ask::Resume(own, seated)));
        self.aside.way_back.clone()
    }

    /// A copy of its state.
    pub(crate) fn copy(&mut self) -> Option<Image> {
        match self.aside.answer(Ask::Copy) {
            Stage::Copied(image) => Some(image),
            // The host has failed in it.
            _ => {
                self.over = true;
                None
            }
        }
    }

    /// Ends its call. The frame's body comes back, unless the host has failed.
    pub(crate) fn end(&mut self) -> Option<Box<Body>> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        match self.aside.answer(Ask::End) {
            Stage::Ended(body) => body,
            _ => None,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// Who runs on this thread's stack.
pub(crate) enum Here {
    /// The guest that sits there.
    Seated(Seated),
    /// One that was asked to end its call.
    Ending(Ending),
}

/// Tells that the call of a guest which waits aside has ended, whatever ends it.
pub(crate) struct Ending(Option<Arc<Aside>>);

impl Ending {
    pub(crate) fn new(aside: Arc<Aside>) -> Ending {
        Ending(Some(aside))
    }

    /// Gives the body back.
    pub(crate) fn with(mut self, body: Box<Body>) {
        if let Some(aside) = self.0.take() {
            aside.set(Stage::Ended(Some(body)));
        }
    }

    /// It goes on.
    pub(crate) fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(aside) = self.0.take() {
            aside.set(Stage::Ended(None));
        }
    }
}

/// To be called once on each thread that will call
/// [`Executor::run`](crate::Executor::run), when there is room for what the thread
/// needs: a stack for signals, which wasmtime else makes at the first entry, and
/// fails if it cannot.
pub fn prepare_thread() {
    wasmtime::Engine::tls_eager_initialize();
}

thread_local! {
    static HERE: Cell<Option<Here>> = const { Cell::new(None) };
}

/// The guest that is about to run on this thread's stack.
#[inline]
pub(crate) fn put(here: Here) {
    HERE.set(Some(here));
}

#[inline]
pub(crate) fn take() -> Option<Here> {
    HERE.take()
}
