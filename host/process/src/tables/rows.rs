//! The rows of one table: their size accounting, and how a change to one is undone.
//!
//! Each change has a number. A row records the change that stored it and the last change to it, so
//! that an undo can tell whether its change is still the last one: comparing bytes is not enough,
//! since another process may have stored the same bytes. If a row was removed and the removal may
//! still be undone, the change number is kept until that is decided.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;

use super::TableError;
use crate::Payload;

/// Bytes that a row counts in addition to its key and value: about what the tree and the allocator
/// use for it.
const ROW: u64 = 96;

fn cost(key: &[u8], value: &Payload) -> u64 {
    (key.len() + value.len()) as u64 + ROW
}

/// Bytes that all tables of a process use, and the limit on them.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: AtomicU64,
    most: AtomicU64,
}

impl Budget {
    pub(super) fn set_most(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(super) fn is_unused(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    fn take(&self, bytes: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |has| {
                has.checked_add(bytes).filter(|sum| *sum <= most)
            });
        taken.is_ok()
    }

    fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A value, and the changes that produced it.
#[derive(Clone, Debug)]
struct Row {
    value: Payload,
    /// The change that stored it. An addition does not change this.
    stored: u64,
    /// The last change.
    changed: u64,
}

/// The state of a row before a change to it.
#[derive(Debug)]
pub struct Before {
    /// The change's number.
    change: u64,
    row: Option<Row>,
    /// The change that had removed it, if that removal may still be undone.
    removed: Option<u64>,
}

impl Before {
    /// Returns whether there was a row.
    pub fn was_there(&self) -> bool {
        self.row.is_some()
    }

    /// Returns the value that was there.
    pub fn into_value(self) -> Option<Payload> {
        self.row.map(|row| row.value)
    }
}

/// The outcome of storing a row.
#[derive(Debug)]
pub enum Put {
    /// The row is stored; this was there before.
    Stored(Before),
    /// A row exists and was kept; this is its value.
    There(Payload),
}

#[derive(Debug)]
pub(super) struct Rows {
    map: BTreeMap<Box<[u8]>, Row>,
    /// Rows whose removal may still be undone, and the change that removed each. Storing such a row
    /// again deletes its entry.
    removed: HashMap<Box<[u8]>, u64, FixedState>,
    bytes: u64,
    budget: Arc<Budget>,
    /// Number of changes so far.
    changes: u64,
}

impl Rows {
    pub(super) fn new(budget: Arc<Budget>) -> Rows {
        Rows {
            map: BTreeMap::new(),
            removed: HashMap::default(),
            bytes: 0,
            budget,
            changes: 0,
        }
    }

    /// Returns the number of rows and the bytes that they count.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.map.len(), self.bytes)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Payload> {
        self.map.get(key).map(|row| &row.value)
    }

    /// Returns the first key after this one.
    pub(super) fn behind(&self, key: &[u8]) -> Option<Box<[u8]>> {
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        // No key is empty, so all keys come after the empty one.
        let mut keys = self.map.range::<[u8], _>(behind);
        keys.next().map(|(key, _)| key.clone())
    }

    pub(super) fn store(&mut self, key: &[u8], value: Payload) -> Result<Before, TableError> {
        self.set(key, |change| {
            Some(Row {
                value,
                stored: change,
                changed: change,
            })
        })
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<Before, TableError> {
        self.set(key, |_| None)
    }

    /// Removes a row whose removal may be undone until [`Rows::removed_for_good`] is called.
    pub(super) fn remove_for_now(&mut self, key: &[u8]) -> Result<Before, TableError> {
        let before = self.remove(key)?;
        self.removed.insert(key.into(), before.change);
        Ok(before)
    }

    /// Notes that the removal cannot be undone any more.
    pub(super) fn removed_for_good(&mut self, key: &[u8], before: &Before) {
        if self.removed.get(key) == Some(&before.change) {
            self.removed.remove(key);
        }
    }

    pub(super) fn add(&mut self, key: &[u8], amount: i64) -> Result<(Before, i64), TableError> {
        let (number, stored) = match self.map.get(key) {
            None => (0, None),
            Some(row) => (number(&row.value)?, Some(row.stored)),
        };
        let sum = number.wrapping_add(amount);
        let before = self.set(key, |change| {
            Some(Row {
                value: Payload::new(&sum.to_le_bytes()),
                stored: stored.unwrap_or(change),
                changed: change,
            })
        })?;
        Ok((before, sum))
    }

    pub(super) fn undo(&mut self, key: &[u8], before: Before) {
        let stands = match self.map.get(key) {
            Some(row) => row.changed == before.change,
            None => self.removed.get(key) == Some(&before.change),
        };
        if stands {
            self.restore(key, before);
        }
    }

    pub(super) fn undo_add(&mut self, key: &[u8], amount: i64, before: Before) {
        let Some(row) = self.map.get(key) else {
            return;
        };
        if row.changed == before.change {
            return self.restore(key, before);
        }
        let stored = before.row.map_or(before.change, |row| row.stored);
        if row.stored == stored
            && let Ok(number) = number(&row.value)
        {
            let value = Payload::new(&number.wrapping_sub(amount).to_le_bytes());
            // No larger than before, so it is not refused.
            let _ = self.set(key, |changed| {
                Some(Row {
                    value,
                    stored,
                    changed,
                })
            });
        }
    }

    /// Charges another owner's budget from now on. Returns [`TableError::Full`] if it does not fit.
    pub(super) fn moves_to(&mut self, budget: &Arc<Budget>) -> Result<(), TableError> {
        if !budget.take(self.bytes) {
            return Err(TableError::Full);
        }
        let before = std::mem::replace(&mut self.budget, budget.clone());
        before.release(self.bytes);
        Ok(())
    }

    /// Restores the previous state. If the budget is exhausted meanwhile, the previous row is lost,
    /// as if storing it had been refused.
    fn restore(&mut self, key: &[u8], before: Before) {
        let Before { row, removed, .. } = before;
        if self.set(key, |_| row).is_ok()
            && let Some(change) = removed
        {
            self.removed.insert(key.into(), change);
        }
    }

    /// Stores or removes a row and returns the previous state. `row` creates the new row from this
    /// change's number. Returns [`TableError::Full`] if it does not fit into the budget.
    fn set(
        &mut self,
        key: &[u8],
        row: impl FnOnce(u64) -> Option<Row>,
    ) -> Result<Before, TableError> {
        let change = self.changes + 1;
        let row = row(change);
        let had = self.map.get(key).map_or(0, |old| cost(key, &old.value));
        let wants = row.as_ref().map_or(0, |row| cost(key, &row.value));
        if wants > had && !self.budget.take(wants - had) {
            return Err(TableError::Full);
        }
        if had > wants {
            self.budget.release(had - wants);
        }
        self.bytes = self.bytes - had + wants;
        self.changes = change;
        let removed = match self.removed.is_empty() {
            true => None,
            false => self.removed.remove(key),
        };
        let row = match row {
            None => self.map.remove(key),
            Some(row) => match self.map.get_mut(key) {
                Some(place) => Some(std::mem::replace(place, row)),
                None => self.map.insert(key.into(), row),
            },
        };
        Ok(Before {
            change,
            row,
            removed,
        })
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// Returns the number that a row holds, or [`TableError::Invalid`] if it is not 8 bytes.
fn number(value: &Payload) -> Result<i64, TableError> {
    let bytes = value.as_slice().try_into();
    Ok(i64::from_le_bytes(bytes.map_err(|_| TableError::Invalid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let budget = Arc::new(Budget::default());
        budget.set_most(1 << 20);
        Rows::new(budget)
    }

    fn value(byte: u8) -> Payload {
        Payload::new(&[byte])
    }

    fn sum(rows: &Rows) -> Option<i64> {
        rows.get(b"k").map(|value| number(value).unwrap())
    }

    #[test]
    fn undoing_an_increment_keeps_later_increments_of_others() {
        let mut rows = rows();
        // The addition created the row.
        let (before, _) = rows.add(b"k", 3).unwrap();
        rows.add(b"k", 4).unwrap();
        rows.undo_add(b"k", 3, before);
        assert_eq!(sum(&rows), Some(4));
        // The row existed.
        let (before, _) = rows.add(b"k", 5).unwrap();
        rows.add(b"k", 1).unwrap();
        rows.undo_add(b"k", 5, before);
        assert_eq!(sum(&rows), Some(5));
        // No other change since.
        let (before, _) = rows.add(b"k", 5).unwrap();
        rows.undo_add(b"k", 5, before);
        assert_eq!(sum(&rows), Some(5));
        rows.remove(b"k").unwrap();
        let (before, _) = rows.add(b"k", 5).unwrap();
        rows.undo_add(b"k", 5, before);
        assert_eq!((sum(&rows), rows.size()), (None, (0, 0)));
    }

    #[test]
    fn undoing_an_increment_keeps_a_replaced_row() {
        let mut rows = rows();
        let (before, _) = rows.add(b"k", 3).unwrap();
        rows.store(b"k", Payload::new(&3i64.to_le_bytes())).unwrap();
        rows.undo_add(b"k", 3, before);
        assert_eq!(sum(&rows), Some(3));
        let (before, _) = rows.add(b"k", 3).unwrap();
        rows.remove(b"k").unwrap();
        rows.add(b"k", 9).unwrap();
        rows.undo_add(b"k", 3, before);
        assert_eq!(sum(&rows), Some(9));
    }

    #[test]
    fn undoing_a_store_keeps_equal_bytes_of_another_process() {
        let mut rows = rows();
        let before = rows.store(b"k", value(1)).unwrap();
        rows.store(b"k", value(1)).unwrap();
        rows.undo(b"k", before);
        assert_eq!(rows.get(b"k"), Some(&value(1)));
    }

    #[test]
    fn undoing_a_removal_keeps_a_later_removal() {
        let mut rows = rows();
        rows.store(b"k", value(1)).unwrap();
        let before = rows.remove_for_now(b"k").unwrap();
        rows.store(b"k", value(2)).unwrap();
        rows.remove(b"k").unwrap();
        rows.undo(b"k", before);
        assert_eq!(rows.get(b"k"), None);
        // Without the later changes it is restored.
        rows.store(b"k", value(1)).unwrap();
        let before = rows.remove_for_now(b"k").unwrap();
        rows.undo(b"k", before);
        assert_eq!(rows.get(b"k"), Some(&value(1)));
        assert!(rows.removed.is_empty());
    }

    #[test]
    fn changes_are_undone_in_reverse_order() {
        let mut rows = rows();
        rows.store(b"k", value(1)).unwrap();
        let removed = rows.remove_for_now(b"k").unwrap();
        let stored = rows.store(b"k", Payload::new(&[0; 8])).unwrap();
        let (added, _) = rows.add(b"k", 2).unwrap();
        let again = rows.remove_for_now(b"k").unwrap();
        rows.undo(b"k", again);
        rows.undo_add(b"k", 2, added);
        rows.undo(b"k", stored);
        assert_eq!(rows.get(b"k"), None);
        rows.undo(b"k", removed);
        assert_eq!(rows.get(b"k"), Some(&value(1)));
        let (count, bytes) = rows.size();
        assert_eq!((count, bytes), (1, 1 + 1 + ROW));
    }
}
