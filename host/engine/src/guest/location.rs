//! Where the state of a process is.

use std::num::NonZeroU32;

use exuvia_image::Image;

/// The number of a page-out. It is never 0, so that an optional stamp fits into four bytes of a
/// process's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) NonZeroU32);

/// Names the frame of a process. The process that has it in its location is the only one that may
/// take the frame out of the frame table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId {
    /// The number of the frame slot.
    pub(crate) slot: u32,
    /// Which binding of the slot to a process it is: the slot may be another process's by now. It
    /// wraps.
    pub(crate) binding: u32,
}

/// Where in `run` a process is whose guest does not run at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunPhase {
    /// `run` has returned REST, or was never entered.
    Rest,
    /// `run` has returned WAITING.
    Waiting,
    /// In the middle of `run`: the guest is suspended.
    Suspended,
}

/// Where a process's guest state is.
#[derive(Debug)]
pub(crate) enum Location {
    /// It has not started: its state is the base.
    NotStarted,
    /// Paged out; `stamp` says when, if the pager did it (see `frames::pool`).
    Image {
        image: Image,
        waiting: bool,
        stamp: Option<Stamp>,
    },
    /// In a frame, which the process keeps while it is busy. The frame table owns it.
    Frame {
        frame: FrameId,
        /// The size of its memory in Wasm pages.
        pages: u32,
        /// Whether the frame may serve another process.
        reusable: bool,
        phase: RunPhase,
    },
    /// In the frame that runs now.
    Running,
}

impl Location {
    /// Returns the location of a process at REST whose image was not taken by the pager.
    pub(crate) fn image_at_rest(image: Image) -> Location {
        Location::Image {
            image,
            waiting: false,
            stamp: None,
        }
    }
}
