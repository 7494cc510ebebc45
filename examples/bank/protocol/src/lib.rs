//! What the bank's processes say to each other, and what they write down. Money is in
//! cents.

use std::collections::BTreeSet;

use exuvia::prelude::*;

/// The name of the table of [`Row`]s, by the account's name.
pub const ACCOUNTS: &str = "accounts";
/// The name of the table of [`Transfer`]s, by [`key`].
pub const TRANSFERS: &str = "transfers";

/// An account, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub balance: u64,
    /// Transfers that it has had its part in: each counts once, however often
    /// it is asked for.
    pub applied: BTreeSet<u64>,
}

/// A transfer, as it is written down before each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub id: u64,
    pub from: String,
    pub to: String,
    pub amount: u64,
    pub step: Step,
}

/// How far a transfer has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Nothing has moved.
    Begun,
    /// The money has left the first account.
    Taken,
    /// It has arrived.
    Done,
    /// Nothing has moved, and nothing will.
    Refused(String),
}

impl Transfer {
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Done | Step::Refused(_))
    }
}

/// A number as a key: in the order of numbers.
pub fn key(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

#[exuvia::protocol]
pub trait Account {
    fn balance(&self) -> u64;
    /// Puts money in; answers the balance.
    fn deposit(&mut self, amount: u64) -> u64;
    /// Takes money out for a transfer, once; refuses what is not there.
    fn take(&mut self, transfer: u64, amount: u64) -> Result<(), String>;
    /// Puts money in for a transfer, once; answers the balance.
    fn give(&mut self, transfer: u64, amount: u64) -> u64;
}

#[exuvia::protocol]
pub trait Clerk {
    /// Begins a transfer; answers its number.
    fn begin(&mut self, from: String, to: String, amount: u64) -> Result<u64, String>;
    /// A transfer, as far as it has come.
    fn look(&self, id: u64) -> Option<Transfer>;
    /// The same, when it is over.
    fn wait(&mut self, id: u64, from: Caller<Transfer>);
}
