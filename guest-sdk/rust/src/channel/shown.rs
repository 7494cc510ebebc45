//! That a client is present in a topic: its session asks the keeper of the list, and asks the next one when that ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Json;
use super::presence::Track;
use crate::{Error, Layout, Pid, tag};

/// How long a session waits before it asks once more to be present, if nobody keeps the list.
const RETRY: Duration = Duration::from_millis(500);

/// That the client is present.
#[derive(Debug, Serialize, Deserialize, Layout)]
pub(super) struct Shown {
    keeper: String,
    key: String,
    meta: Json,
    /// The process with this name, and the monitor of it.
    process: Option<(Pid, u64)>,
    /// The timer after which the keeper is looked for again, or is told again what its full mailbox has not taken.
    timer: u64,
    /// Whether the keeper has not heard yet that the client joins: if it knows the session, it has not heard of a leave.
    anew: bool,
}

impl Shown {
    pub(super) fn new(keeper: String, key: String, meta: Json) -> Shown {
        Shown {
            keeper,
            key,
            meta,
            process: None,
            timer: 0,
            anew: true,
        }
    }

    pub(super) fn is_of_same(&self, other: &Shown) -> bool {
        self.keeper == other.keeper
    }

    pub(super) fn waits_for(&self, timer: u64) -> bool {
        self.timer == timer
    }

    /// Changes what others see.
    pub(super) fn change(&mut self, topic: &str, meta: Json) {
        self.meta = meta;
        self.track(topic);
    }

    /// The keeper has ended, if this is the monitor of it; returns whether it is.
    pub(super) fn is_down(&mut self, topic: &str, monitor: u64) -> bool {
        let is_its = self.process.is_some_and(|(_, its)| its == monitor);
        if is_its {
            self.process = None;
            self.set_timer(topic);
        }
        is_its
    }

    /// A timer has fired: one that was set before the client has left and joined again does not matter.
    pub(super) fn look_again(&mut self, topic: &str, timer: u64) {
        if self.timer == timer {
            self.timer = 0;
            match self.process {
                Some(_) => self.track(topic),
                None => self.begin(topic),
            }
        }
    }

    /// The client is present no more. Returns `false` if the mailbox of the keeper is full: it must be told again after the
    /// timer that is set.
    pub(super) fn end(&mut self, topic: &str) -> bool {
        let told = self.tell(topic, None);
        if told != Err(Error::MailboxFull) {
            // It has ended, if not for this session alone; then nobody is to be told.
            self.release();
            return true;
        }
        if let Some((_, monitor)) = &mut self.process {
            let _ = crate::demonitor(*monitor, true);
            *monitor = 0;
        }
        self.set_timer(topic);
        self.timer == 0
    }

    /// Asks the keeper to show the client, and is told when the keeper ends: if there is none, at once.
    pub(super) fn begin(&mut self, topic: &str) {
        match crate::monitor_name(&self.keeper) {
            Ok(process) => {
                self.process = Some(process);
                self.track(topic);
            }
            Err(error) => {
                crate::warn!("no monitor of {}: {error}", self.keeper);
                self.set_timer(topic);
            }
        }
    }

    fn track(&mut self, topic: &str) {
        let shown = Some((self.key.clone(), self.meta.clone()));
        match self.tell(topic, shown) {
            Ok(was_told) => self.anew &= !was_told,
            Err(error) => {
                crate::warn!("{} does not know of {topic}: {error}", self.keeper);
                // The monitor says if it has ended, and what is too large stays so.
                if error == Error::MailboxFull {
                    self.set_timer(topic);
                }
            }
        }
    }

    /// Tells the keeper, if there is one; returns whether there is.
    fn tell(&self, topic: &str, shown: Option<(String, Json)>) -> Result<bool, Error> {
        match self.process {
            Some((process, _)) if process != Pid::NONE => {
                let track = Track {
                    topic: topic.to_owned(),
                    shown,
                    anew: self.anew,
                };
                track.send(process).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn set_timer(&mut self, topic: &str) {
        if self.timer != 0 {
            let _ = crate::cancel_timer(self.timer);
            self.timer = 0;
        }
        match crate::me().send_bytes_after(tag::CHANNEL_RETRY, topic.as_bytes(), RETRY) {
            Ok(timer) => self.timer = timer,
            Err(error) => crate::error!("{} is not told again of {topic}: {error}", self.keeper),
        }
    }

    pub(super) fn release(&mut self) {
        if let Some((_, monitor)) = self.process.take() {
            let _ = crate::demonitor(monitor, true);
        }
        if self.timer != 0 {
            let _ = crate::cancel_timer(self.timer);
            self.timer = 0;
        }
    }
}
