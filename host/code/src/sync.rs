//! The synchronisation primitives of versions and releases, so that the same
//! code runs under loom (`--cfg loom`) and in production.

#[cfg(loom)]
pub(crate) use self::model::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(not(loom))]
mod real {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

    /// A pointer that is read often and changed rarely.
    #[derive(Debug)]
    pub(crate) struct Pointer<T>(ArcSwap<T>);

    impl<T> Pointer<T> {
        pub(crate) fn new(value: Arc<T>) -> Pointer<T> {
            Pointer(ArcSwap::new(value))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.0.load_full()
        }

        /// Passes the value to `act` without counting a reference: all threads would write to that count.
        pub(crate) fn with<R>(&self, act: impl FnOnce(&Arc<T>) -> R) -> R {
            act(&self.0.load())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            self.0.store(value);
        }
    }
}

#[cfg(loom)]
mod model {
    use std::sync::Arc;

    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

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

    /// The pointer behind a lock, which orders all that loads and stores of the real
    /// pointer order.
    #[derive(Debug)]
    pub(crate) struct Pointer<T>(Mutex<Arc<T>>);

    impl<T> Pointer<T> {
        pub(crate) fn new(value: Arc<T>) -> Pointer<T> {
            Pointer(Mutex::new(value))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.0.lock().clone()
        }

        pub(crate) fn with<R>(&self, act: impl FnOnce(&Arc<T>) -> R) -> R {
            act(&self.load())
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }
}
