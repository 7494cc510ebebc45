//! What a process has under way past the limits of mailboxes: timers, and exit
//! signals that it sends of its own will. Nobody has asked for them and no
//! mailbox refuses them, so their sender answers for them, until they are
//! taken or vanish; and the node for all senders together, since what is under
//! way outlives its sender.
//!
//! Counted by relaxed atomics: nothing but the numbers is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::signal::Envelope;

/// Fewest messages that all processes of a node may have under way together:
/// two processes can use up what each may have.
const NODE_LEAST: usize = 200_000;
/// Most of them, however many processes the node may have: with the timers'
/// own records some 5 GB.
const NODE_MOST: usize = 20_000_000;
/// What their payloads may come to, bytes.
const NODE_PAYLOADS: u64 = 1 << 30;

/// Messages and bytes that count against a bound.
#[derive(Debug, Default)]
struct Used {
    messages: AtomicU32,
    bytes: AtomicU64,
}

impl Used {
    /// Counts one more message, unless that is past a bound.
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

/// What all processes of a node have under way.
#[derive(Debug)]
pub(crate) struct NodeAccount {
    used: Used,
    most: u32,
    most_bytes: u64,
}

impl NodeAccount {
    /// The account of a node for so many processes.
    pub(crate) fn new(processes: usize) -> NodeAccount {
        let most = processes.saturating_mul(2).clamp(NODE_LEAST, NODE_MOST);
        NodeAccount {
            used: Used::default(),
            most: u32::try_from(most).unwrap_or(u32::MAX),
            most_bytes: (most * size_of::<Envelope>()) as u64 + NODE_PAYLOADS,
        }
    }
}

/// What one process has under way. It outlives the process, with that.
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

    /// Charges a message of so many bytes. `None`: the process would have more
    /// than `most` of them under way, or `most_bytes`, or the node than it may.
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

/// One message that is charged to its sender, until this is dropped: with the
/// message, wherever that ends (see [`Payload::charged`](crate::Payload::charged)).
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
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
    fn the_node_answers_for_all_together_and_for_those_that_are_gone() {
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
        // What was refused has left nothing behind.
        drop((first, third));
        let again: Vec<_> = (0..4).map(|_| other.charge(30, 9, 900)).collect();
        assert_eq!(again.iter().flatten().count(), 3);
    }
}
