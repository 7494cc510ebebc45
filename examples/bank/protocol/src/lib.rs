//! The messages between the bank's processes, and the rows that they store. Money is in cents.

use std::collections::BTreeSet;

use exuvia::prelude::*;

/// The name of the table of [`Row`]s, keyed by the account's name.
pub const ACCOUNTS: &str = "accounts";
/// The name of the table of [`Transfer`]s, keyed by [`key`].
pub const TRANSFERS: &str = "transfers";

/// An account, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub balance: u64,
    /// The transfers that have been applied to it: each counts once, however often it is
    /// requested.
    pub applied: BTreeSet<u64>,
}

/// A transfer, as it is stored before each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub id: u64,
    pub from: String,
    pub to: String,
    pub amount: u64,
    pub step: Step,
}

/// The progress of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// No money has moved.
    Begun,
    /// The money has left the first account.
    Taken,
    /// It has arrived.
    Done,
    /// No money has moved, and none will.
    Refused(String),
}

impl Transfer {
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Done | Step::Refused(_))
    }
}

/// Encodes a number as a key that sorts like the number.
pub fn key(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

#[exuvia::protocol]
pub trait Account {
    fn balance(&self) -> u64;
    /// Deposits money; returns the balance.
    fn deposit(&mut self, amount: u64) -> u64;
    /// Withdraws money for a transfer, once; fails if the balance is too low.
    fn take(&mut self, transfer: u64, amount: u64) -> Result<(), String>;
    /// Deposits money for a transfer, once; returns the balance.
    fn give(&mut self, transfer: u64, amount: u64) -> u64;
}

#[exuvia::protocol]
pub trait Clerk {
    /// Starts a transfer; returns its number.
    fn begin(&mut self, from: String, to: String, amount: u64) -> Result<u64, String>;
    /// Returns a transfer as far as it has come.
    fn look(&self, id: u64) -> Option<Transfer>;
    /// Returns a transfer once it is over.
    fn wait(&mut self, id: u64, from: Caller<Transfer>);
}
