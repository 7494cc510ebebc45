//! The synchronisation primitives of the parking protocol: real ones, or loom's.
//!
//! Only `idle` and `parker` import from here. Everything else in the crate uses the real types directly,
//! because crossbeam-deque cannot run under loom.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};

    pub(crate) use crossbeam_utils::sync::{Parker as Bed, Unparker as Bell};
    pub(crate) use parking_lot::Mutex;
}

#[cfg(loom)]
mod model {
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
    use loom::sync::{Arc, MutexGuard, Notify};

    /// Loom's mutex with the interface of parking_lot's.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no model panics while it holds this")
        }
    }

    /// A token and a place to wait for it, as in crossbeam-utils. Loom sometimes lets it return
    /// without a token, which stands for deadlines.
    #[derive(Debug)]
    pub(crate) struct Bed(Bell);

    #[derive(Clone, Debug)]
    pub(crate) struct Bell(Arc<Notify>);

    impl Bed {
        pub(crate) fn new() -> Self {
            Bed(Bell(Arc::new(Notify::new())))
        }

        pub(crate) fn unparker(&self) -> &Bell {
            &self.0
        }

        pub(crate) fn park(&self) {
            self.0.0.wait();
        }

        /// Never times out: the model must find a lost wake that only a timeout would recover.
        pub(crate) fn park_timeout(&self, _: Duration) {
            self.park();
        }
    }

    impl Bell {
        pub(crate) fn unpark(&self) {
            self.0.notify();
        }
    }
}

#[cfg(loom)]
pub(crate) use model::{AtomicU32, Bed, Bell, Mutex, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use real::*;
