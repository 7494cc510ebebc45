//! The messages between the chat's processes.

use exuvia::prelude::*;

/// The tag of messages published in a room, which are not part of the protocols.
pub const SAID: u32 = 1;

/// A message in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub room: String,
    pub from: String,
    pub text: String,
}

/// Returns the group of a room.
pub fn room(name: &str) -> Group<'static> {
    Group::new(format!("room:{name}"))
}

/// Returns the registered name of a user.
pub fn user(name: &str) -> String {
    format!("user:{name}")
}

#[exuvia::protocol]
pub trait Door {
    /// Lets a person in; returns the registered name of the person's process.
    fn enter(&mut self, name: String) -> Result<String, String>;
    /// Returns the names of those present.
    fn who(&self) -> Vec<String>;
}

#[exuvia::protocol]
pub trait User {
    /// Handles a line as typed: `/join ROOM`, `/leave`, `/quit`, or something to say.
    fn line(&mut self, text: String, cx: &mut Context);
    /// Returns what this user has heard last, oldest first.
    fn heard(&self) -> Vec<Said>;
}
