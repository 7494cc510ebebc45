//! Calls about process groups and publishing to them.

use exuvia_abi::{Code, Kind, Pid};

use super::names::valid_name;
use super::{CallResult, CallServices, Caller, Runner};
use crate::members::Members;
use crate::signal::Envelope;
use crate::system::System;
use crate::transaction;

/// Members that a publication reaches in one slice. Sending to them takes about as long as a slice
/// of other work.
const IN_ONE_SLICE: usize = 1_000;

/// Largest group for which a publication in a transaction is deferred. Publishing to a larger group
/// commits the transaction.
const DEFERRED: usize = 100;

/// A message that is published to a group, to some members in each turn.
#[derive(Debug)]
pub struct Publication {
    members: Members,
    envelope: Envelope,
    /// The next member.
    next: usize,
    /// The number of members that have accepted it.
    reached: u32,
}

/// How far a publication is.
#[derive(Debug)]
pub enum Published {
    /// So many members have accepted it. In a transaction: accept it by now; it is sent on commit.
    Reached(u32),
    /// To be continued in the next turn, by [`Caller::publish_on`].
    Unfinished(Box<Publication>),
}

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Adds a process to a group. Returns [`Code::NoProc`] if it has ended, [`Code::Limit`] if it
    /// is in too many groups, or [`Code::BadArgument`].
    pub fn group_join(&mut self, group: &[u8], pid: Pid) -> CallResult<()> {
        self.known(pid)?;
        let group = valid_name(group)?;
        if let Some(membership) = self.system.join_undoably(group, pid)? {
            let group = group.to_owned();
            self.on_rollback(move |_, system| system.groups.undo(&group, pid, membership));
        }
        Ok(())
    }

    /// Removes a process from a group. Returns [`Code::NoProc`] if it is no member.
    pub fn group_leave(&mut self, group: &[u8], pid: Pid) -> CallResult<()> {
        self.known(pid)?;
        let group = valid_name(group)?;
        let membership = self.system.groups.take(group, pid).ok_or(Code::NoProc)?;
        let group = group.to_owned();
        self.on_rollback(move |_, system| system.undo_leave(&group, pid, membership));
        Ok(())
    }

    /// Returns the members of a group.
    pub fn group_members(&mut self, group: &[u8]) -> CallResult<Members> {
        Ok(self.system.groups.members(valid_name(group)?))
    }

    /// Sends a message to all members of a group, as far as one slice goes.
    pub fn publish(&mut self, group: &[u8], tag: u32, payload: &[u8]) -> CallResult<Published> {
        let members = self.system.groups.members(valid_name(group)?);
        let payload = self.payload(payload)?;
        if self.process.traced {
            for member in members.iter() {
                self.trace(*member, Kind::Message, tag, 0, &payload);
            }
        }
        let mut publication = Box::new(Publication {
            members,
            envelope: Envelope::message(self.process.pid(), tag, payload),
            next: 0,
            reached: 0,
        });
        let sends = publication.members.len();
        if sends > DEFERRED {
            // Too many sends for the commit, which does all of them at once.
            self.commit();
        } else if self.is_deferred() {
            let accept = publication.accept(self.system);
            self.count_payload(publication.envelope.payload.len());
            transaction::defer_weighted(
                self.process,
                self.system,
                sends,
                move |process, system| {
                    publication.go_on(system, usize::MAX);
                    let lost = accept.saturating_sub(publication.reached);
                    if lost > 0 {
                        tracing::warn!(module = %process.module(), from = %process.pid(), "{lost} members did not get what was published in probation: their mailboxes have become full or they have exited");
                    }
                },
            );
            return Ok(Published::Reached(accept));
        }
        Ok(self.publish_on(publication))
    }

    /// Sends to the next members.
    pub fn publish_on(&mut self, mut publication: Box<Publication>) -> Published {
        let before = publication.next;
        publication.go_on(self.system, IN_ONE_SLICE);
        // As much as the individual sends would cost.
        let sent = publication.next - before;
        self.debt.owe(u32::try_from(sent).unwrap_or(u32::MAX));
        if publication.next < publication.members.len() {
            return Published::Unfinished(publication);
        }
        Published::Reached(publication.reached)
    }
}

impl Publication {
    /// Sends to at most `most` further members. Members that have exited or whose mailbox is full
    /// are not counted as reached.
    fn go_on<G: 'static>(&mut self, system: &System<G>, most: usize) {
        for member in self.members.from(self.next).take(most) {
            if system.send(*member, self.envelope.clone()).is_ok() {
                self.reached += 1;
            }
        }
        self.next = self.next.saturating_add(most).min(self.members.len());
    }

    /// Returns how many members would accept it now.
    fn accept<G: 'static>(&self, system: &System<G>) -> u32 {
        let members = self.members.iter();
        let accept = members.filter(|member| system.would_accept(**member, &self.envelope).is_ok());
        u32::try_from(accept.count()).unwrap_or(u32::MAX)
    }
}
