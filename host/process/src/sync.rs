//! The synchronisation primitives of the locking and lock-free protocols, so that the same code
//! runs under loom (`--cfg loom`) and in production.

#[cfg(loom)]
pub(crate) use self::model::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicU8, Ordering};

    /// Stores a value with Release ordering, whatever the value was.
    #[inline]
    pub(crate) fn replace(state: &AtomicU8, value: u8) {
        state.store(value, Ordering::Release);
    }
}

#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};

    /// Swaps instead of storing: loom lets an exchange read a value from before a racing store and
    /// yet be the later of the two, which the memory model forbids. No code relies on what a swap
    /// orders beyond a store (it continues a release sequence): a notifier's writes are seen
    /// through the mailbox's lock.
    pub(crate) fn replace(state: &AtomicU8, value: u8) {
        state.swap(value, Ordering::Release);
    }

    /// Loom's mutex with the signature of parking_lot's.
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
