//! A disk in memory that fails when it is told to, and whose power may be cut: then what was written since the last
//! sync is there in part.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::{Database, StorageBackend};

use crate::file::Open;

/// How the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no space for what is written.
    Full,
    /// Nothing can be done with it any more.
    Gone,
}

/// What is left of a write that was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stays {
    No,
    Half,
    Yes,
}

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// What was written since the last sync, in order; without bytes: the new length.
    unsynced: Vec<(u64, Option<Vec<u8>>)>,
    changes: usize,
    fails: Option<(usize, Fault)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(super) fn open(&self) -> Open {
        let disk = self.clone();
        Box::new(move || Database::builder().create_with_backend(disk.clone()))
    }

    /// The number of changes so far: writes, new lengths and syncs.
    pub(super) fn changes(&self) -> usize {
        self.0.lock().changes
    }

    /// Every change from this one on fails.
    pub(super) fn fail(&self, from: usize, fault: Fault) {
        self.0.lock().fails = Some((from, fault));
    }

    pub(super) fn recover(&self) {
        self.0.lock().fails = None;
    }

    /// Cuts the power: what was not synced stays as `stays` says of its position; of a write that is cut in two, the
    /// first half.
    pub(super) fn cut(&self, mut stays: impl FnMut(usize) -> Stays) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.now = state.synced.clone();
        for (position, (at, bytes)) in std::mem::take(&mut state.unsynced).into_iter().enumerate() {
            let bytes = match (stays(position), bytes) {
                (Stays::No, _) => continue,
                (Stays::Half, Some(bytes)) => Some(bytes[..bytes.len() / 2].to_vec()),
                (_, bytes) => bytes,
            };
            apply(&mut state.now, at, bytes.as_deref());
        }
        state.synced = state.now.clone();
        state.fails = None;
    }

    fn change(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.0.lock();
        let number = state.changes;
        state.changes += 1;
        match state.fails {
            Some((from, fault)) if number >= from => Err(Error::from(match fault {
                Fault::Full => ErrorKind::StorageFull,
                Fault::Gone => ErrorKind::NotConnected,
            })),
            _ => Ok(state),
        }
    }
}

fn apply(to: &mut Vec<u8>, at: u64, bytes: Option<&[u8]>) {
    let at = at as usize;
    let Some(bytes) = bytes else {
        return to.resize(at, 0);
    };
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.0.lock();
        let at = offset as usize;
        let found = state.now.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut state = self.change()?;
        apply(&mut state.now, len, None);
        state.unsynced.push((len, None));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut state = self.change()?;
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut state = self.change()?;
        apply(&mut state.now, offset, Some(data));
        state.unsynced.push((offset, Some(data.to_vec())));
        Ok(())
    }
}
