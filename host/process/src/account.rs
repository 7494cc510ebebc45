//! Charges for what no mailbox limit counts: timers, exit signals that a process sends explicitly, and
//! replies of the host that may be large, until they are received or dropped; and the arguments of children,
//! as long as these live. No mailbox refuses them, so they are charged to the process
//! that made them or asked for them, and to the node for all processes together, since a message in transit outlives
//! its sender.
//!
//! The counters are relaxed atomics: they publish no other data.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::Limits;
use crate::signal::Envelope;

/// Minimum of the node's limit on charged messages: enough for two processes to use their full
/// limits.
const NODE_LEAST: usize = 200_000;
/// Maximum of that limit, however many processes the node may have: some 5 GB, including the
/// timers' own records.
const NODE_MOST: usize = 20_000_000;
/// Limit on the bytes of their payloads.
const NODE_PAYLOADS: u64 = 1 << 30;
/// Bytes of such payloads for each process that a node may have: a quarter of the memory for
/// which the node allows one process by default.
const PAYLOADS_SHARE: u64 = 512;
/// The least that they may come to, bytes: what one process may have, by default.
const NODE_LEAST_PAYLOADS: u64 = 64 << 20;

/// Messages and bytes that count against a limit.
#[derive(Debug, Default)]
struct Used {
    messages: AtomicU32,
    bytes: AtomicU64,
}

impl Used {
    /// Counts one more message. Returns false, and counts nothing, if it exceeds a limit.
    fn add(&self, bytes: u64, most: Most) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = messages < most.count && held.saturating_add(bytes) <= most.bytes;
        if !fits {
            self.take_back(bytes);
        }
        fits
    }

    fn take_back(&self, bytes: u64) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a charge is for. Each has counters and limits of its own, so that long arguments leave the
/// number of timers as it is, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A timer, an exit signal or a reply of the host in transit.
    Signal,
    /// Arguments that a child keeps as long as it lives.
    Arguments,
}

/// The limits of one use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// How many.
    pub(crate) count: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Most {
    /// Returns what a process with these limits may have in timers, exit signals, and replies that it is charged for.
    pub(crate) fn of_signals(limits: &Limits) -> Most {
        Most {
            count: exuvia_abi::limits::TIMERS,
            bytes: limits.mailbox_bytes,
        }
    }
}

/// What is used of each.
#[derive(Debug, Default)]
struct UsedOfEach {
    signals: Used,
    arguments: Used,
}

impl UsedOfEach {
    fn of(&self, what: Use) -> &Used {
        match what {
            Use::Signal => &self.signals,
            Use::Arguments => &self.arguments,
        }
    }
}

/// What all processes of a node are charged for.
#[derive(Debug)]
pub(crate) struct NodeAccount {
    used: UsedOfEach,
    signals: Most,
    arguments: Most,
}

impl NodeAccount {
    /// Returns the account of a node with a limit of so many processes.
    pub(crate) fn new(processes: usize) -> NodeAccount {
        let most = processes.saturating_mul(2).clamp(NODE_LEAST, NODE_MOST);
        let payloads = (processes as u64)
            .saturating_mul(PAYLOADS_SHARE)
            .clamp(NODE_LEAST_PAYLOADS, NODE_PAYLOADS);
        NodeAccount {
            used: UsedOfEach::default(),
            signals: Most {
                count: u32::try_from(most).unwrap_or(u32::MAX),
                bytes: (most * size_of::<Envelope>()) as u64 + payloads,
            },
            // The number of processes limits how many.
            arguments: Most {
                count: u32::MAX,
                bytes: payloads,
            },
        }
    }

    fn most(&self, what: Use) -> Most {
        match what {
            Use::Signal => self.signals,
            Use::Arguments => self.arguments,
        }
    }
}

/// What one process is charged for. It outlives the process while charges exist.
#[derive(Debug)]
pub(crate) struct Account {
    used: UsedOfEach,
    node: Arc<NodeAccount>,
}

impl Account {
    pub(crate) fn new(node: Arc<NodeAccount>) -> Account {
        Account {
            used: UsedOfEach::default(),
            node,
        }
    }

    /// Charges so many bytes. `None`: it would exceed `most` of the process, or the node's limits.
    pub(crate) fn charge(self: &Arc<Account>, what: Use, bytes: u64, most: Most) -> Option<Charge> {
        let used = self.used.of(what);
        if !used.add(bytes, most) {
            return None;
        }
        if !self.node.used.of(what).add(bytes, self.node.most(what)) {
            used.take_back(bytes);
            return None;
        }
        Some(Charge {
            account: self.clone(),
            bytes,
            what,
        })
    }
}

/// The account of a process, for the host to charge it between its turns: [`System::charge`](crate::System::charge).
#[derive(Clone, Debug)]
pub struct AccountRef(pub(crate) Arc<Account>);

/// What a process is charged for one message, or for a child's arguments. The charge ends when this
/// is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
    what: Use,
}

/// Something that its creator may be charged for. The charge is beside it, not part of it: the value
/// is plain data, and the charge ends when the value is taken out or dropped. Nearly everything is
/// free of charge and takes no more space than the value.
#[derive(Debug)]
pub enum MaybeCharged<T> {
    /// Nothing is charged.
    Free(T),
    /// Charged as long as this exists.
    Charged(Box<(T, Charge)>),
}

impl<T> MaybeCharged<T> {
    /// Returns the value together with its charge, if there is one.
    #[inline]
    pub fn new(value: T, charge: Option<Charge>) -> MaybeCharged<T> {
        match charge {
            None => MaybeCharged::Free(value),
            Some(charge) => MaybeCharged::Charged(Box::new((value, charge))),
        }
    }

    /// Returns the value and its charge.
    #[inline]
    pub fn into_parts(self) -> (T, Option<Charge>) {
        match self {
            MaybeCharged::Free(value) => (value, None),
            MaybeCharged::Charged(charged) => {
                let (value, charge) = *charged;
                (value, Some(charge))
            }
        }
    }

    /// Returns the value. Its charge ends.
    #[inline]
    pub fn into_value(self) -> T {
        match self {
            MaybeCharged::Free(value) => value,
            MaybeCharged::Charged(charged) => charged.0,
        }
    }
}

impl<T> From<T> for MaybeCharged<T> {
    #[inline]
    fn from(value: T) -> MaybeCharged<T> {
        MaybeCharged::Free(value)
    }
}

impl<T> Deref for MaybeCharged<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            MaybeCharged::Free(value) => value,
            MaybeCharged::Charged(charged) => &charged.0,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Account { used, node } = &*self.account;
        used.of(self.what).take_back(self.bytes);
        node.used.of(self.what).take_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(count: u32, bytes: u64) -> Most {
        Most { count, bytes }
    }

    fn node(count: u32, bytes: u64) -> Arc<NodeAccount> {
        Arc::new(NodeAccount {
            used: UsedOfEach::default(),
            signals: most(count, bytes),
            arguments: most(count, bytes),
        })
    }

    #[test]
    fn the_node_has_limits_for_all_processes_including_those_that_have_ended() {
        let node = node(3, 100);
        let one = Arc::new(Account::new(node.clone()));
        let other = Arc::new(Account::new(node));
        let first = one.charge(Use::Signal, 10, most(2, 50));
        let second = one.charge(Use::Signal, 10, most(2, 50));
        assert!(first.is_some() && second.is_some());
        let refused = |account: &Arc<Account>, bytes, most| {
            account.charge(Use::Signal, bytes, most).is_none()
        };
        assert!(refused(&one, 1, most(2, 50)), "its own limit");
        assert!(refused(&other, 81, most(2, 90)), "the node's bytes");
        let third = other.charge(Use::Signal, 80, most(2, 90));
        assert!(third.is_some());
        assert!(refused(&other, 0, most(2, 90)), "the node's messages");
        drop(one);
        assert!(refused(&other, 0, most(2, 90)), "it is in transit still");
        drop(second);
        assert!(!refused(&other, 0, most(2, 90)));
        // Refused charges are not counted.
        drop((first, third));
        let again: Vec<_> = (0..4)
            .map(|_| other.charge(Use::Signal, 30, most(9, 900)))
            .collect();
        assert_eq!(again.iter().flatten().count(), 3);
    }

    #[test]
    fn arguments_and_signals_do_not_use_up_each_others_limits() {
        let account = Arc::new(Account::new(node(1, 100)));
        let signal = account.charge(Use::Signal, 100, most(1, 100));
        let arguments = account.charge(Use::Arguments, 100, most(1, 100));
        assert!(signal.is_some() && arguments.is_some());
        assert!(account.charge(Use::Signal, 1, most(9, 900)).is_none());
        assert!(account.charge(Use::Arguments, 1, most(9, 900)).is_none());
        drop(arguments);
        assert!(account.charge(Use::Signal, 1, most(9, 900)).is_none());
        assert!(account.charge(Use::Arguments, 1, most(9, 900)).is_some());
    }
}
