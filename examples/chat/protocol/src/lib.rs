//! What the processes of the chat say to each other.

use exuvia::prelude::*;

/// The tag of what is published in a room: no part of the protocols.
pub const SAID: u32 = 1;

/// Something that was said in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub room: String,
    pub from: String,
    pub text: String,
}

/// The group of a room.
pub fn room(name: &str) -> Group<'static> {
    Group::new(format!("room:{name}"))
}

/// The registered name of a user.
pub fn user(name: &str) -> String {
    format!("user:{name}")
}

#[exuvia::protocol]
pub trait Door {
    /// Lets somebody in; answers the registered name of that one's process.
    fn enter(&mut self, name: String) -> Result<String, String>;
    /// Who is here.
    fn who(&self) -> Vec<String>;
}

#[exuvia::protocol]
pub trait User {
    /// A line as it was typed: `/join ROOM`, `/leave`, `/quit`, or something to say.
    fn line(&mut self, text: String, cx: &mut Context);
    /// What this one has heard last, oldest first.
    fn heard(&self) -> Vec<Said>;
}
