//! The synchronisation primitives of the lock-free and locking protocols, so
//! that the same code runs under loom (`--cfg loom`) and in production.

#[cfg(loom)]
pub(crate) use self::model::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicU8, Ordering};

    /// A Release store, whatever the value was.
    #[inline]
    pub(crate) fn replace(state: &AtomicU8, value: u8) {
        state.store(value, Ordering::Release);
    }
}

#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};

    /// A swap: loom lets an exchange read a value from before a racing store
    /// and yet be the later of the two, which the memory model forbids. What a
    /// swap orders beyond a store (it goes on with a release sequence) nobody
    /// relies on: what a notifier did is seen through the mailbox's lock.
    pub(crate) fn replace(state: &AtomicU8, value: u8) {
        state.swap(value, Ordering::Release);
    }

    /// loom's mutex with parking_lot's signature.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .expect("no thread of a model panics with the lock")
        }
    }
}
