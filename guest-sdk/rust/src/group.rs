//! Process groups.

use std::borrow::Cow;

use serde::Serialize;

use crate::codec::Scratch;
use crate::{Error, Pid, sys, tag};

/// Processes under one name, like Erlang's `pg`: a topic, a room, all workers of a kind. A
/// group exists while it has members; a process that terminates leaves it.
///
/// ```
/// use exuvia::Group;
/// let room = Group::new("room:kitchen");
/// room.join(exuvia::me()).unwrap();
/// assert_eq!(room.members().unwrap(), [exuvia::me()]);
/// room.publish(&"dinner is ready").unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a>(Cow<'a, str>);

impl<'a> Group<'a> {
    /// Returns the group with this name, of 1 to 255 bytes.
    ///
    /// ```
    /// let room = exuvia::Group::new(format!("room:{}", 7));
    /// # let _ = room;
    /// ```
    pub fn new(name: impl Into<Cow<'a, str>>) -> Group<'a> {
        Group(name.into())
    }

    /// Returns the name.
    ///
    /// ```
    /// assert_eq!(exuvia::Group::new("all").name(), "all");
    /// ```
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Adds a process to the group; does nothing if it is a member already.
    ///
    /// ```
    /// exuvia::Group::new("all").join(exuvia::me()).unwrap();
    /// ```
    pub fn join(&self, pid: Pid) -> Result<(), Error> {
        Error::check(sys::group_join(&self.0, pid))
    }

    /// Removes a process; [`Error::NoProc`] if it was not a member.
    ///
    /// ```
    /// assert!(exuvia::Group::new("nobody's").leave(exuvia::me()).is_err());
    /// ```
    pub fn leave(&self, pid: Pid) -> Result<(), Error> {
        Error::check(sys::group_leave(&self.0, pid))
    }

    /// Returns the members, in no particular order.
    ///
    /// ```
    /// assert!(exuvia::Group::new("nobody's").members().unwrap().is_empty());
    /// ```
    pub fn members(&self) -> Result<Vec<Pid>, Error> {
        let mut room = vec![[0; 16]; 16];
        loop {
            let answer = sys::group_members(&self.0, &mut room);
            Error::check(answer)?;
            let count = answer.unsigned_abs() as usize;
            let fits = count <= room.len();
            room.resize(count, [0; 16]);
            if fits {
                return Ok(room.into_iter().map(Pid::from_bytes).collect());
            }
        }
    }

    /// Returns the number of members.
    ///
    /// ```
    /// assert_eq!(exuvia::Group::new("nobody's").size(), Ok(0));
    /// ```
    pub fn size(&self) -> Result<usize, Error> {
        let count = sys::group_members(&self.0, &mut []);
        Error::check(count).map(|()| count.unsigned_abs() as usize)
    }

    /// Sends a message to all members, including this process if it is one. Returns the number
    /// of members that received it, without those whose mailbox is full. The host stores the
    /// payload once, however many members there are.
    ///
    /// ```
    /// # #[derive(serde::Serialize)] enum Said { Hello }
    /// exuvia::Group::new("room").publish(&Said::Hello).unwrap();
    /// ```
    pub fn publish<T: Serialize + ?Sized>(&self, message: &T) -> Result<usize, Error> {
        let mut scratch = Scratch::new();
        scratch.encode(message)?;
        self.publish_bytes(tag::TYPED, scratch.as_slice())
    }

    /// Like [`publish`](Group::publish), with bytes.
    ///
    /// ```
    /// exuvia::Group::new("room").publish_bytes(7, b"raw").unwrap();
    /// ```
    pub fn publish_bytes(&self, tag: u32, payload: &[u8]) -> Result<usize, Error> {
        let reached = sys::publish(&self.0, tag, payload);
        Error::check(reached).map(|()| reached.unsigned_abs() as usize)
    }
}
