//! The messages between the shop's processes.

use exuvia::prelude::*;

/// A thing in a cart, and its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub thing: String,
    pub count: u32,
}

#[exuvia::protocol]
pub trait Shop {
    /// Returns the cart of a session; creates one if there is none.
    fn cart(&mut self, session: String) -> Result<Pid, String>;
    /// Returns the number of sessions.
    fn sessions(&self) -> usize;
}

#[exuvia::protocol]
pub trait Cart {
    fn add(&mut self, thing: String) -> Result<(), String>;
    fn remove(&mut self, thing: String);
    /// Returns the contents, ordered by name.
    fn items(&mut self) -> Vec<Item>;
}
