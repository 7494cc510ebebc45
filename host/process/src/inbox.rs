//! The inner half of a mailbox: messages that were taken over and wait for
//! their process to receive them, in order. Only its runner touches it.
//!
//! Most processes that are asked find one message and take it. So the first has
//! a place of its own, and a queue is allocated for those behind it only.

use std::collections::VecDeque;

use exuvia_abi::{Kind, receive};

use crate::signal::Envelope;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// If there is one here, it comes before the others.
    first: Option<Envelope>,
    rest: VecDeque<Envelope>,
    /// Those that count against the mailbox's limits, and their bytes.
    limited: u32,
    bytes: u64,
}

impl Inbox {
    pub(crate) fn push_back(&mut self, envelope: Envelope) {
        self.count(&envelope);
        if self.is_empty() {
            self.first = Some(envelope);
        } else {
            self.rest.push_back(envelope);
        }
    }

    pub(crate) fn push_front(&mut self, envelope: Envelope) {
        self.count(&envelope);
        if let Some(second) = self.first.replace(envelope) {
            self.rest.push_front(second);
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

    fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.first.iter().chain(&self.rest)
    }

    /// Where the first is for which something holds.
    pub(crate) fn find(&self, holds: impl FnMut(&Envelope) -> bool) -> Option<usize> {
        self.iter().position(holds)
    }

    /// Where the first wanted message is (modes of [`receive`]).
    #[inline]
    pub(crate) fn position(&self, mode: i32, key: u64) -> Option<usize> {
        match mode {
            // What an obituary has for a tag is no sender's choice.
            receive::TAG => {
                self.find(|m| u64::from(m.tag) == key && !matches!(m.kind, Kind::Exit | Kind::Down))
            }
            // References are unique for the process that made them, so those
            // of other processes' requests must not match.
            receive::REFERENCE => self.find(|m| {
                m.reference == key && matches!(m.kind, Kind::Reply | Kind::Down | Kind::Timer)
            }),
            _ => (!self.is_empty()).then_some(0),
        }
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
mod tests {
    use std::collections::VecDeque;

    use exuvia_abi::Pid;
    use proptest::prelude::*;

    use super::Inbox;
    use crate::{Envelope, Kind, Payload};

    #[derive(Clone, Debug)]
    enum Act {
        Back(Kind),
        Front(Kind),
        Take(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let kind = || prop_oneof![Just(Kind::Message), Just(Kind::Reply)];
        prop_oneof![
            2 => kind().prop_map(Act::Back),
            1 => kind().prop_map(Act::Front),
            2 => (0..4usize).prop_map(Act::Take),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_queue(acts in proptest::collection::vec(act(), 0..80)) {
            let mut inbox = Inbox::default();
            let mut model: VecDeque<Envelope> = VecDeque::new();
            for (tag, act) in (0..).zip(acts) {
                let envelope = |kind| Envelope {
                    kind,
                    ..Envelope::message(Pid::NONE, tag, Payload::new(&[0; 9][..tag as usize % 9]))
                };
                match act {
                    Act::Back(kind) => {
                        inbox.push_back(envelope(kind));
                        model.push_back(envelope(kind));
                    }
                    Act::Front(kind) => {
                        inbox.push_front(envelope(kind));
                        model.push_front(envelope(kind));
                    }
                    Act::Take(at) => prop_assert_eq!(inbox.take(at), model.remove(at)),
                }
                prop_assert_eq!(inbox.len(), model.len());
                prop_assert_eq!(inbox.is_empty(), model.is_empty());
                for at in 0..=model.len() {
                    prop_assert_eq!(inbox.get(at), model.get(at));
                }
                let limited = model.iter().filter(|m| m.is_limited());
                let bytes = limited.clone().map(Envelope::cost).sum();
                let count = u32::try_from(limited.count()).unwrap();
                prop_assert_eq!(inbox.limited(), (count, bytes));
            }
        }
    }
}
