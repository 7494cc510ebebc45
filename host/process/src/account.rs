//! Charges for messages that bypass mailbox limits: timers, and exit signals that a process sends
//! explicitly. No receiver asked for them and no mailbox refuses them, so they are charged to their
//! sender until they are received or dropped, and to the node for all senders together, since a
//! message in transit outlives its sender.
//!
//! The counters are relaxed atomics: they publish no other data.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    fn add(&self, bytes: u64, most: u32, most_bytes: u64) -> bool {
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = messages < most && held.saturating_add(bytes) <= most_bytes;
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

/// What all processes of a node are charged for.
#[derive(Debug)]
pub(crate) struct NodeAccount {
    used: Used,
    most: u32,
    most_bytes: u64,
}

impl NodeAccount {
    /// Returns the account of a node with a limit of so many processes.
    pub(crate) fn new(processes: usize) -> NodeAccount {
        let most = processes.saturating_mul(2).clamp(NODE_LEAST, NODE_MOST);
        NodeAccount {
            used: Used::default(),
            most: u32::try_from(most).unwrap_or(u32::MAX),
            most_bytes: (most * size_of::<Envelope>()) as u64
                + (processes as u64)
                    .saturating_mul(PAYLOADS_SHARE)
                    .clamp(NODE_LEAST_PAYLOADS, NODE_PAYLOADS),
        }
    }
}

/// What one process is charged for. It outlives the process while charges exist.
#[derive(Debug)]
pub(crate) struct Account {
    used: Used,
    node: Arc<NodeAccount>,
}

impl Account {
    pub(crate) fn new(node: Arc<NodeAccount>) -> Account {
        Account {
            used: Used::default(),
            node,
        }
    }

    /// Charges a message of so many bytes. `None`: it would exceed `most` messages or `most_bytes`
    /// of the process, or the node's limits.
    pub(crate) fn charge(
        self: &Arc<Account>,
        bytes: u64,
        most: u32,
        most_bytes: u64,
    ) -> Option<Charge> {
        if !self.used.add(bytes, most, most_bytes) {
            return None;
        }
        let node = &self.node;
        if !node.used.add(bytes, node.most, node.most_bytes) {
            self.used.take_back(bytes);
            return None;
        }
        Some(Charge {
            account: self.clone(),
            bytes,
        })
    }
}

/// What a process is charged for one message, or for a child's arguments. The charge ends when this
/// is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
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
        self.into_parts().0
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
        self.account.used.take_back(self.bytes);
        self.account.node.used.take_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(most: u32, most_bytes: u64) -> Arc<NodeAccount> {
        Arc::new(NodeAccount {
            used: Used::default(),
            most,
            most_bytes,
        })
    }

    #[test]
    fn the_node_total_includes_processes_that_have_ended() {
        let node = node(3, 100);
        let one = Arc::new(Account::new(node.clone()));
        let other = Arc::new(Account::new(node));
        let first = one.charge(10, 2, 50);
        let second = one.charge(10, 2, 50);
        assert!(first.is_some() && second.is_some());
        assert!(one.charge(1, 2, 50).is_none(), "its own bound");
        assert!(other.charge(81, 2, 90).is_none(), "the node's bytes");
        let third = other.charge(80, 2, 90);
        assert!(third.is_some());
        assert!(other.charge(0, 2, 90).is_none(), "the node's messages");
        drop(one);
        assert!(other.charge(0, 2, 90).is_none(), "it is under way still");
        drop(second);
        assert!(other.charge(0, 2, 90).is_some());
        // Refused charges are not counted.
        drop((first, third));
        let again: Vec<_> = (0..4).map(|_| other.charge(30, 9, 900)).collect();
        assert_eq!(again.iter().flatten().count(), 3);
    }
}
