//! Where the state of a process is.

use std::num::NonZeroU32;

use exuvia_image::Image;

/// The number of a page-out. It is never 0, so that an optional stamp fits into four bytes of a
/// process's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) NonZeroU32);

/// The number of a frame's slot. The process that has it in its location is the only one that may
/// take the frame out of the frame table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId(pub(crate) u32);

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
        /// It is suspended in the middle of `run`.
        suspended: bool,
        /// `run` returned WAITING.
        waiting: bool,
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
