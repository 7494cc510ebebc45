//! A cell that hands a box from one thread to another. What is in it, and which thread may take it, is
//! decided elsewhere: by the run state of a process. So the cell is used by one thread at a time, and
//! only passes the box on.
//!
//! Taking it is one atomic exchange. Putting it back is a plain store: an exchange would also return
//! what was there before, which is nothing, and costs as much as ten instructions.

use std::fmt;
use std::mem::ManuallyDrop;

use crossbeam_utils::atomic::AtomicCell;

/// A cell for a box.
pub struct BoxCell<T>(AtomicCell<Option<ManuallyDrop<Box<T>>>>);

impl<T> BoxCell<T> {
    /// Makes an empty cell.
    pub const fn new() -> BoxCell<T> {
        BoxCell(AtomicCell::new(None))
    }

    /// Takes the box out of the cell, if one is there.
    #[inline]
    pub fn take(&self) -> Option<Box<T>> {
        self.0.swap(None).map(ManuallyDrop::into_inner)
    }

    /// Puts a box into the cell, which must be empty: a box that is in it would never be dropped.
    #[inline]
    pub fn put(&self, value: Box<T>) {
        let value = Some(ManuallyDrop::new(value));
        if cfg!(debug_assertions) {
            assert!(self.0.swap(value).is_none(), "the cell is empty");
        } else {
            // Release; pairs with the exchange in `take`.
            self.0.store(value);
        }
    }
}

impl<T> Default for BoxCell<T> {
    fn default() -> BoxCell<T> {
        BoxCell::new()
    }
}

impl<T> Drop for BoxCell<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> fmt::Debug for BoxCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxCell")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_box_is_handed_over_once_and_dropped_with_the_cell() {
        assert_eq!(size_of::<BoxCell<u64>>(), 8);
        let value = Arc::new(());
        let cell = BoxCell::new();
        cell.put(Box::new(value.clone()));
        assert!(cell.take().is_some());
        assert!(cell.take().is_none());
        assert_eq!(Arc::strong_count(&value), 1);
        cell.put(Box::new(value.clone()));
        drop(cell);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    #[should_panic(expected = "the cell is empty")]
    #[cfg(debug_assertions)]
    fn a_second_box_is_a_bug() {
        let cell = BoxCell::new();
        cell.put(Box::new(1));
        cell.put(Box::new(2));
    }
}
