//! The inner half of a mailbox: messages that were taken over and wait, in order, until their
//! process receives them. Only its runner touches it.
//!
//! Most processes that get a request find one message and receive it. So the first message is
//! stored inline, and a queue is allocated only for further ones.
//!
//! A search for one message among many remembers how far it got (OTP: receive markers): a [`Mark`]
//! records how many messages had arrived by then. Since all are appended and keep their order,
//! those that arrived later are the last ones, at most that many; so a mark stays valid whatever is
//! removed, and at worst refers to a position too far to the front. Inserting a message in front
//! breaks that order and clears all marks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use exuvia_abi::Kind;

use crate::account::MaybeCharged;
use crate::selector::Selector;
use crate::signal::Envelope;

/// Number of messages from which on searches are remembered.
const LONG: usize = 32;
/// Maximum number of marks; the least recently used one is dropped first.
const MARKS: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// If present, it comes before the others.
    first: Option<MaybeCharged<Envelope>>,
    rest: VecDeque<MaybeCharged<Envelope>>,
    /// The messages that count against the mailbox's limits, and their bytes.
    limited: u32,
    bytes: u64,
    /// Number of messages that have arrived so far.
    came: u64,
    /// Least recently used first. In a cell, since a search does not change the inbox.
    marks: RefCell<Vec<Mark>>,
    /// Number of messages examined in long searches that are not charged yet.
    scanned: Cell<u32>,
}

/// States that no message that arrived before it is selected.
#[derive(Debug)]
struct Mark {
    selector: Selector,
    /// Number of messages that had arrived.
    came: u64,
}

impl Inbox {
    #[inline]
    pub(crate) fn push_back(&mut self, envelope: impl Into<MaybeCharged<Envelope>>) {
        let envelope = envelope.into();
        self.count(&envelope);
        self.came += 1;
        if self.is_empty() {
            self.first = Some(envelope);
        } else {
            self.rest.push_back(envelope);
        }
    }

    /// Inserts a message before the one at `at`, or at the end.
    pub(crate) fn insert(&mut self, at: usize, envelope: Envelope) {
        if at >= self.len() {
            return self.push_back(envelope);
        }
        self.count(&envelope);
        self.came += 1;
        self.marks.get_mut().clear();
        let envelope = MaybeCharged::Free(envelope);
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

    /// Removes a message. Its charge, if it has one, ends.
    pub(crate) fn take(&mut self, at: usize) -> Option<Envelope> {
        let before = usize::from(self.first.is_some());
        let envelope = match at.checked_sub(before) {
            None => self.first.take()?,
            Some(0) => self.rest.pop_front()?,
            Some(at) => self.rest.remove(at)?,
        };
        let envelope = envelope.into_value();
        if envelope.is_limited() {
            self.limited -= 1;
            self.bytes -= envelope.cost();
        }
        Some(envelope)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Envelope> {
        match &self.first {
            Some(first) if at == 0 => Some(first),
            first => {
                let at = at - usize::from(first.is_some());
                self.rest.get(at).map(|envelope| &**envelope)
            }
        }
    }

    /// Returns the position of the first message, from `start` on, for which the predicate holds.
    fn find_from(&self, start: usize, mut holds: impl FnMut(&Envelope) -> bool) -> Option<usize> {
        let before = usize::from(self.first.is_some());
        if start == 0 && self.first.as_deref().is_some_and(&mut holds) {
            return Some(0);
        }
        let start = start.saturating_sub(before).min(self.rest.len());
        let mut rest = self.rest.range(start..);
        let at = rest.position(|envelope| holds(envelope))?;
        Some(before + start + at)
    }

    /// Returns the position of the first wanted message.
    #[inline]
    pub(crate) fn position(&self, wanted: &Selector) -> Option<usize> {
        match wanted {
            Selector::Any => (!self.is_empty()).then_some(0),
            _ => self.search(wanted),
        }
    }

    /// Returns the position of the reply to a request, or of the `DOWN` of a request or monitor.
    pub(crate) fn reply(&self, reference: u64) -> Option<usize> {
        let start = self.start(&Selector::Reference(reference));
        let is_answer =
            |m: &Envelope| m.reference == reference && matches!(m.kind, Kind::Down | Kind::Reply);
        let found = self.find_from(start, is_answer);
        if self.len() >= LONG {
            self.note_scanned(start, found);
        }
        found
    }

    /// Notes that a reference is new: no message that is here can have it.
    #[inline]
    pub(crate) fn mark_reference(&mut self, reference: u64) {
        if self.len() >= LONG {
            self.mark(&Selector::Reference(reference), self.came);
        }
    }

    /// Searches where no earlier search for the same has scanned, and remembers how far it got.
    fn search(&self, wanted: &Selector) -> Option<usize> {
        let selects = |message: &Envelope| wanted.selects(message);
        if self.len() < LONG {
            return self.find_from(0, selects);
        }
        let start = self.start(wanted);
        let found = self.find_from(start, selects);
        let end = found.unwrap_or(self.len());
        self.note_scanned(start, found);
        // None of the messages in front of the one found matches.
        self.mark(wanted, self.came - (self.len() - end) as u64);
        found
    }

    fn note_scanned(&self, start: usize, found: Option<usize>) {
        let end = found.map_or(self.len(), |at| at + 1);
        let scanned = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
        self.scanned.set(self.scanned.get().saturating_add(scanned));
    }

    /// Returns how many messages searches have examined since the last call. Searches of a short
    /// inbox do not count.
    #[inline]
    pub(crate) fn take_scanned(&self) -> u32 {
        self.scanned.take()
    }

    /// Returns a position before which no message is selected.
    fn start(&self, wanted: &Selector) -> usize {
        let marks = self.marks.borrow();
        // A search for several references has found none of them, each by itself.
        let none_of = |reference: u64| {
            let covers = |mark: &&Mark| match &mark.selector {
                Selector::Reference(one) => *one == reference,
                Selector::References(all) => all.contains(&reference),
                _ => false,
            };
            let came = marks.iter().filter(covers).map(|mark| mark.came);
            came.max().unwrap_or(0)
        };
        let came = match wanted {
            Selector::Reference(one) => none_of(*one),
            Selector::References(all) => all.iter().map(|one| none_of(*one)).min().unwrap_or(0),
            _ => {
                let mark = marks.iter().rfind(|mark| mark.selector == *wanted);
                mark.map_or(0, |mark| mark.came)
            }
        };
        let since = usize::try_from(self.came - came).unwrap_or(usize::MAX);
        self.len().saturating_sub(since)
    }

    fn mark(&self, selector: &Selector, came: u64) {
        let mut marks = self.marks.borrow_mut();
        let known = marks.iter().rposition(|mark| mark.selector == *selector);
        let mark = match known {
            Some(at) => Mark {
                came,
                ..marks.remove(at)
            },
            None => Mark {
                selector: selector.clone(),
                came,
            },
        };
        if marks.len() >= MARKS {
            marks.remove(0);
        }
        marks.push(mark);
    }

    /// Returns how many messages have arrived in this inbox.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// Returns how many messages count against the mailbox's limits, and their bytes.
    pub(crate) fn limited(&self) -> (u32, u64) {
        (self.limited, self.bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
