//! How many frames there may be, and how many bytes and kernel mappings they may have.

use crate::frames::capacity::{address_space, most_mappings};
use crate::frames::mappings;
use crate::host::BlockQuota;
use exuvia_image::{GUARD, RESERVED};

/// The default number of frames if nothing else limits it: with Linux's default limit on
/// mappings, so many frames with wide memories fit into the part of the mappings that frames
/// may keep.
const FRAMES: usize = 10_240;
/// The most frames of a node, as in the manifest. Each takes 128 bytes in the table of frames before it exists.
pub const MOST_FRAMES: usize = 1_000_000;
/// One in so many frames is reserved for processes that do not block.
const RESERVE_SHARE: usize = 8;

/// The number of frames that a version gets as soon as it needs them, if that is not more
/// than one in [`RESERVE_SHARE`] of all.
const FEW: usize = 64;

/// When the limit on bytes is exceeded, frames are shrunk to one eighth below it, so that
/// it is not reached again at once.
pub(super) const RECLAIM_SHARE: u64 = 8;

/// The limits on the frames of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Frames that are kept.
    pub(super) frames: usize,
    /// Frame slots. Processes that are preempted in the middle of a handler keep their frame and
    /// cannot be asked to give it up: so there are twice as many slots as frames that are kept.
    pub(super) slots: usize,
    /// Mappings that frames may keep, and those that they may have temporarily.
    pub(super) mappings: usize,
    pub(super) most_mappings: usize,
    /// The number of frames that blocked processes may hold.
    may_block: usize,
    /// The number of frames that a version gets as soon as it needs them.
    pub(super) few: usize,
    /// The maximum bytes of written pages of all frames.
    pub(super) memory: u64,
    /// Each frame's share of these bytes.
    pub(super) share: u64,
}

impl FrameLimits {
    /// Returns the limits for so many frames with so many bytes of memory.
    pub(crate) fn new(frames: usize, memory: u64) -> FrameLimits {
        let frames = frames.max(4);
        let reserve = (frames / RESERVE_SHARE).max(2);
        let mappings = mappings_kept();
        FrameLimits {
            frames,
            slots: frames * 2,
            mappings,
            most_mappings: mappings + mappings / 5 * 2,
            may_block: frames - reserve,
            few: reserve.min(FEW),
            memory,
            share: memory / frames as u64,
        }
    }

    /// Returns how many processes may block within these limits.
    pub(crate) fn block_quota(&self) -> BlockQuota {
        let reserve = (self.mappings / RESERVE_SHARE).max(2 * mappings::most());
        BlockQuota::new(
            self.may_block,
            self.mappings.saturating_sub(reserve),
            self.memory - self.memory / RECLAIM_SHARE,
        )
    }
}

/// Returns the default number of frames, which `vm.max_map_count` limits.
pub fn default_frames() -> usize {
    let frames = FRAMES.min(mappings_kept() / mappings::most()).max(16);
    // Frames take at most half of the addresses, if those are limited.
    let each = (RESERVED + 2 * GUARD) as u64;
    address_space().map_or(frames, |limit| {
        frames.min(usize::try_from(limit / 2 / each).unwrap_or(frames))
    })
}

/// Returns the number of mappings that frames may keep.
fn mappings_kept() -> usize {
    // With Linux's default, slightly more than 10,240 frames with wide memories take.
    most_mappings() / 8 * 5 + 64
}
