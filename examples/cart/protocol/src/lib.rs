//! What the processes of the shop say to each other.

use exuvia::prelude::*;

/// Something in a cart, and how many of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub thing: String,
    pub count: u32,
}

#[exuvia::protocol]
pub trait Shop {
    /// The cart of a session; a new one if there is none.
    fn cart(&mut self, session: String) -> Result<Pid, String>;
    /// How many sessions there are.
    fn sessions(&self) -> usize;
}

#[exuvia::protocol]
pub trait Cart {
    fn add(&mut self, thing: String) -> Result<(), String>;
    fn remove(&mut self, thing: String);
    /// What is in it, by name.
    fn items(&mut self) -> Vec<Item>;
}
