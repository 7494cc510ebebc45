//! The inner half of a mailbox: messages that were taken over and wait for
//! their process to receive them, in order. Only its runner touches it.
//!
//! Most processes that are asked find one message and take it. So the first has
//! a place of its own, and a queue is allocated for those behind it only.
//!
//! Who looks for one message among many remembers how far it has looked (OTP:
//! receive markers): a [`Mark`] says how many messages had come by then. As all
//! come to the back and keep their order, those that came since are the last
//! ones, at most as many; so a mark stays good whatever is taken, and says a place
//! that is too far in front at worst. What is put back to the front breaks that
//! order, and takes all marks away.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use exuvia_abi::{Kind, receive};

use crate::signal::Envelope;

/// Messages from which on it is worth it to remember how far somebody has looked.
const LONG: usize = 32;
/// Marks that are kept, at most; the one that was made or used longest ago goes first.
const MARKS: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// If there is one here, it comes before the others.
    first: Option<Envelope>,
    rest: VecDeque<Envelope>,
    /// Those that count against the mailbox's limits, and their bytes.
    limited: u32,
    bytes: u64,
    /// Messages that have come so far.
    came: u64,
    /// The last used is the last. Behind a cell, as it changes nothing to look.
    marks: RefCell<Vec<Mark>>,
    /// Messages that were looked at in long searches, and that nobody has paid for.
    looked: Cell<u32>,
}

/// No message that had come before it is one of this mode and key.
#[derive(Clone, Copy, Debug)]
struct Mark {
    mode: i32,
    key: u64,
    /// Messages that had come.
    came: u64,
}

impl Inbox {
    pub(crate) fn push_back(&mut self, envelope: Envelope) {
        self.count(&envelope);
        self.came += 1;
        if self.is_empty() {
            self.first = Some(envelope);
        } else {
            self.rest.push_back(envelope);
        }
    }

    /// Puts a message before the one that is at `at`, or behind all.
    pub(crate) fn insert(&mut self, at: usize, envelope: Envelope) {
        if at >= self.len() {
            return self.push_back(envelope);
        }
        self.count(&envelope);
        self.came += 1;
        self.marks.get_mut().clear();
        let before = usize::from(self.first.is_some());
        match at.checked_sub(before) {
            Some(at) => self.rest.insert(at, envelope),
            None => {
                if let Some(second) = self.first.replace(envelope) {
                    self.rest.push_front(second);
                }
            }
        }
    }

    fn count(&mut self, envelope: &Envelope) {
        if envelope.is_limited() {
            self.limited += 1;
            self.bytes += envelope.cost();
        }
    }

    pub(crate) fn take(&mut self, at: usize) -> Option<Envelope> {
        let before = usize::from(self.first.is_some());
        let envelope = match at.checked_sub(before) {
            None => self.first.take()?,
            Some(0) => self.rest.pop_front()?,
            Some(at) => self.rest.remove(at)?,
        };
        if envelope.is_limited() {
            self.limited -= 1;
            self.bytes -= envelope.cost();
        }
        Some(envelope)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Envelope> {
        match &self.first {
            Some(first) if at == 0 => Some(first),
            first => self.rest.get(at - usize::from(first.is_some())),
        }
    }

    /// Where the first is for which something holds, from a place on.
    fn find_from(&self, start: usize, mut holds: impl FnMut(&Envelope) -> bool) -> Option<usize> {
        let before = usize::from(self.first.is_some());
        if start == 0 && self.first.as_ref().is_some_and(&mut holds) {
            return Some(0);
        }
        let start = start.saturating_sub(before).min(self.rest.len());
        let at = self.rest.range(start..).position(holds)?;
        Some(before + start + at)
    }

    /// Where the first wanted message is (modes of [`receive`]).
    #[inline]
    pub(crate) fn position(&self, mode: i32, key: u64) -> Option<usize> {
        match mode {
            // What an obituary has for a tag is no sender's choice.
            receive::TAG => self.search(mode, key, |m| {
                u64::from(m.tag) == key && !matches!(m.kind, Kind::Exit | Kind::Down)
            }),
            // References are unique for the process that made them, so those
            // of other processes' requests must not match.
            receive::REFERENCE => self.search(mode, key, |m| {
                m.reference == key && matches!(m.kind, Kind::Reply | Kind::Down | Kind::Timer)
            }),
            _ => (!self.is_empty()).then_some(0),
        }
    }

    /// Where the answer to a request or the obituary of a monitor is.
    pub(crate) fn answer(&self, reference: u64) -> Option<usize> {
        let start = self.start(receive::REFERENCE, reference);
        let is_answer =
            |m: &Envelope| m.reference == reference && matches!(m.kind, Kind::Down | Kind::Reply);
        let found = self.find_from(start, is_answer);
        if self.len() >= LONG {
            self.has_looked(start, found);
        }
        found
    }

    /// Notes that a reference is new: what is here cannot carry it.
    #[inline]
    pub(crate) fn mark_reference(&mut self, reference: u64) {
        if self.len() >= LONG {
            self.mark(receive::REFERENCE, reference, self.came);
        }
    }

    /// Looks where nobody has looked for the same, and remembers how far.
    fn search(&self, mode: i32, key: u64, holds: impl FnMut(&Envelope) -> bool) -> Option<usize> {
        if self.len() < LONG {
            return self.find_from(0, holds);
        }
        let start = self.start(mode, key);
        let found = self.find_from(start, holds);
        let end = found.unwrap_or(self.len());
        self.has_looked(start, found);
        // In front of what was found there is none.
        self.mark(mode, key, self.came - (self.len() - end) as u64);
        found
    }

    fn has_looked(&self, start: usize, found: Option<usize>) {
        let end = found.map_or(self.len(), |at| at + 1);
        let looked = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
        self.looked.set(self.looked.get().saturating_add(looked));
    }

    /// How many messages searches have looked at since somebody asked; those of a
    /// short inbox do not count.
    #[inline]
    pub(crate) fn take_looked(&self) -> u32 {
        self.looked.take()
    }

    /// In front of which place there is no message of this mode and key.
    fn start(&self, mode: i32, key: u64) -> usize {
        let marks = self.marks.borrow();
        let mark = marks.iter().rfind(|m| (m.mode, m.key) == (mode, key));
        mark.map_or(0, |mark| {
            let since = usize::try_from(self.came - mark.came).unwrap_or(usize::MAX);
            self.len().saturating_sub(since)
        })
    }

    fn mark(&self, mode: i32, key: u64, came: u64) {
        let mut marks = self.marks.borrow_mut();
        if let Some(at) = marks.iter().rposition(|m| (m.mode, m.key) == (mode, key)) {
            marks.remove(at);
        } else if marks.len() >= MARKS {
            marks.remove(0);
        }
        marks.push(Mark { mode, key, came });
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// How many count against the mailbox's limits, and their bytes.
    pub(crate) fn limited(&self) -> (u32, u64) {
        (self.limited, self.bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
