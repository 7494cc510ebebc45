//! What a process does to others: links, monitors, requests and replies. The other half of each
//! protocol, what their signals do to it, is in `signals`.

use exuvia_abi::{Kind, Pid, Reason, limits};

use super::Process;
use crate::account::Charge;
use crate::item::Item;
use crate::mailbox::Refused;
use crate::relations::{Link, Monitor};
use crate::signal::{Envelope, Signal};
use crate::small::SmallMap;
use crate::system::System;
use crate::{ExitReason, Payload};

impl<G: 'static> Process<G> {
    /// Sets whether the process traps exits. Returns the previous value.
    pub fn set_trap_exit(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.trap_exit, on)
    }

    /// Returns whether the process may create a link with `to` (`None`: with a child that is not
    /// spawned yet) while it has reserved `promised` further links. Links that other processes
    /// create are never refused, but count.
    pub fn may_link(&self, to: Option<Pid>, promised: usize) -> bool {
        let links = self.relations.as_ref().map(|r| &r.links);
        let known =
            to.is_some_and(|to| to == self.pid || links.is_some_and(|l| l.get(to).is_some()));
        let has = links.map_or(0, SmallMap::len) + self.unlimited();
        known || has + promised < limits::LINKS as usize
    }

    /// Returns whether the process may have `more` further monitors and pending requests.
    pub fn may_monitor(&self, more: usize) -> bool {
        let has = self.relations.as_ref().map_or(0, |r| r.monitors.len());
        has + self.unlimited() + more <= limits::MONITORS as usize
    }

    /// Sends a signal from this process. Fails with [`Refused::Dead`] only.
    pub fn send_signal(
        &mut self,
        system: &System<G>,
        to: Pid,
        signal: Signal,
    ) -> Result<(), Refused> {
        self.congested |= system.put(to, signal.into())?;
        Ok(())
    }

    /// Does the same with a signal that the process is charged for until it is received or dropped.
    pub fn send_charged(
        &mut self,
        system: &System<G>,
        to: Pid,
        signal: Signal,
        charge: Charge,
    ) -> Result<(), Refused> {
        self.congested |= system.put(to, Item::charged(signal, Some(charge)))?;
        Ok(())
    }

    /// Returns whether the process has sent to a congested mailbox since the last call. If so, its
    /// runner has it wait ([`Process::wait_for_capacity`]), so that signals that no limit counts do
    /// not accumulate.
    pub fn take_backpressure(&mut self) -> bool {
        std::mem::take(&mut self.congested)
    }

    /// Starts to wait until a process is no longer congested: a signal arrives then, and
    /// [`Process::has_capacity`] returns true. Returns false if there is nothing to wait for.
    pub fn wait_for_capacity(&mut self, system: &System<G>, to: Pid) -> bool {
        self.has_capacity = !system.wait_for_capacity(to, self.pid);
        !self.has_capacity
    }

    /// Returns whether that wait is over.
    pub fn has_capacity(&self) -> bool {
        self.has_capacity
    }

    /// Returns the process that this one monitors, or awaits a reply from, under a reference.
    pub fn monitored(&self, reference: u64) -> Option<Pid> {
        let monitor = self.relations.as_ref()?.monitors.get(reference)?;
        Some(monitor.pid())
    }

    /// Links this process to another. If that one is dead, the exit signal `noproc` arrives, as in
    /// Erlang.
    pub fn link(&mut self, system: &System<G>, to: Pid) {
        if to == self.pid {
            return;
        }
        // A link that is created again before the unlink was acknowledged is active here at once;
        // the acknowledgement, when it arrives, finds no unlink with its number.
        let before = self.relations().links.insert(to, Link::Active);
        if before == Some(Link::Active) {
            return;
        }
        let link = Signal::Link { from: self.pid };
        if self.send_signal(system, to, link).is_err() {
            let gone = Signal::Exit {
                from: to,
                reason: ExitReason::new(Reason::NOPROC),
                linked: true,
            };
            let _ = system.signal(self.pid, gone);
        }
    }

    /// Removes a link: no exit signal arrives along it any more.
    pub fn unlink(&mut self, system: &System<G>, to: Pid) {
        if self.relations().links.get(to) != Some(&Link::Active) {
            return;
        }
        let id = self.new_reference();
        self.relations().links.insert(to, Link::Unlinking(id));
        let unlink = Signal::Unlink { from: self.pid, id };
        if self.send_signal(system, to, unlink).is_err() {
            // Acknowledged here, but after the signals that the dead process had sent: these may
            // include a `Link` of its own, which must find the link removed.
            let _ = system.signal(self.pid, Signal::UnlinkAck { from: to, id });
        }
    }

    /// Monitors a process under a reference from [`Process::new_reference`]. If it is dead, a
    /// `DOWN` with `noproc` arrives with the next [`Process::drain`], after everything that the
    /// dead process had sent.
    pub fn monitor(&mut self, system: &System<G>, to: Pid, reference: u64) {
        (self.relations().monitors).insert(reference, Monitor::Exit(to));
        let monitor = Signal::Monitor {
            from: self.pid,
            reference,
        };
        if self.send_signal(system, to, monitor).is_err() {
            system.down(self.pid, to, reference, &ExitReason::new(Reason::NOPROC));
        }
    }

    pub(super) fn remove_watcher(&mut self, system: &System<G>, to: Pid, reference: u64) {
        let demonitor = Signal::Demonitor {
            from: self.pid,
            reference,
        };
        // A dead process has no record of it.
        let _ = self.send_signal(system, to, demonitor);
    }

    /// Removes a monitor or gives up a request. With `flush`, a `DOWN` or `REPLY` for it that has
    /// already arrived is dropped.
    pub fn demonitor(&mut self, system: &System<G>, reference: u64, flush: bool) {
        let known = self
            .relations
            .as_mut()
            .and_then(|r| r.monitors.remove(reference));
        if let Some(monitor) = known {
            self.remove_watcher(system, monitor.pid(), reference);
        } else if flush && let Some(at) = self.inbox().and_then(|inbox| inbox.reply(reference)) {
            self.take(at);
        }
    }

    /// Sends a request under a reference from [`Process::new_reference`]. Either a reply or a
    /// `DOWN` with that reference arrives later, never both. Returns an error if the receiver's
    /// mailbox is full, or if no process ever had this pid.
    pub fn request(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        tag: u32,
        payload: Payload,
    ) -> Result<(), crate::SendError> {
        let envelope = Envelope {
            reference,
            kind: Kind::Request,
            ..Envelope::message(self.pid, tag, payload)
        };
        match system.send(to, envelope) {
            Ok(()) => {
                (self.relations().monitors).insert(reference, Monitor::Reply(to));
                Ok(())
            }
            Err(crate::SendError::Dead) => {
                self.fail_request(system, to, reference, &ExitReason::new(Reason::NOPROC));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Completes a request that was not sent with a `DOWN` with this reason, which arrives with the
    /// next [`Process::drain`].
    pub fn fail_request(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        reason: &ExitReason,
    ) {
        (self.relations().monitors).insert(reference, Monitor::Reply(to));
        system.down(self.pid, to, reference, reason);
    }

    /// Replies to a request. If the requester has given up waiting, it does not notice the reply. A
    /// reply is always accepted, since its receiver asked for it. A process can also reply to a
    /// request that was sent to another process, if it was told the request's sender and reference.
    pub fn reply(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        tag: u32,
        payload: Payload,
    ) {
        let reply = self.begin_reply(to, reference, tag, payload);
        let _ = self.send_signal(system, to, reply);
    }

    /// Does the same with a reply that a process is charged for until it is received or dropped.
    pub fn reply_charged(
        &mut self,
        system: &System<G>,
        (to, reference): (Pid, u64),
        tag: u32,
        payload: Payload,
        charge: Charge,
    ) {
        let reply = self.begin_reply(to, reference, tag, payload);
        let _ = self.send_charged(system, to, reply, charge);
    }

    fn begin_reply(&mut self, to: Pid, reference: u64, tag: u32, payload: Payload) -> Signal {
        if let Some(relations) = &mut self.relations {
            relations.watchers.remove((to, reference));
        }
        Signal::Message(Envelope {
            reference,
            kind: Kind::Reply,
            ..Envelope::message(self.pid, tag, payload)
        })
    }
}
