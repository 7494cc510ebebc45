//! Process identifiers.

use core::fmt;

/// A process identifier: a node, and a process on that node.
///
/// In guest memory it is 16 bytes, little-endian: `node`, then `local`. A
/// guest treats it as opaque. `local` is a slot of the node's process table in
/// the low [`Pid::SLOT_BITS`] bits and the slot's generation above, so that no pid
/// is used twice: a slot whose generations are used up is not used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pid {
    /// The node's number, drawn when the node starts; 0 only in [`Pid::NONE`].
    pub node: u64,
    /// Slot (low 25 bits) and generation (high 39 bits).
    pub local: u64,
}

impl Pid {
    /// Size of a pid in guest memory, bytes.
    pub const SIZE: usize = 16;
    /// No process: the sender of a message that comes from outside the node, or from
    /// the host itself.
    pub const NONE: Pid = Pid { node: 0, local: 0 };

    /// Bits of `local` that hold the slot: 33 million processes at a time.
    pub const SLOT_BITS: u32 = 25;
    /// The number of slots.
    pub const SLOTS: u32 = 1 << Pid::SLOT_BITS;
    /// The last generation of a slot. At a million spawns a second one slot alone would
    /// last for six days, and all slots for half a million years.
    pub const LAST_GENERATION: u64 = u64::MAX >> Pid::SLOT_BITS;

    /// Creates a pid from its slot, below [`Pid::SLOTS`], and its generation, up to
    /// [`Pid::LAST_GENERATION`].
    pub const fn new(node: u64, slot: u32, generation: u64) -> Pid {
        debug_assert!(slot < Pid::SLOTS && generation <= Pid::LAST_GENERATION);
        Pid {
            node,
            local: generation << Pid::SLOT_BITS | slot as u64,
        }
    }

    /// Returns the slot in the process table.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
    pub const fn slot(self) -> u32 {
        self.local as u32 & (Pid::SLOTS - 1)
    }

    /// Returns the generation: how often the slot had been used before.
    pub const fn generation(self) -> u64 {
        self.local >> Pid::SLOT_BITS
    }

    /// Returns the pid as it is stored in guest memory.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.node.to_le_bytes());
        bytes[8..].copy_from_slice(&self.local.to_le_bytes());
        bytes
    }

    /// Reads a pid as it is stored in guest memory.
    pub fn from_bytes(bytes: [u8; 16]) -> Pid {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Pid {
            node: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            local: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }
}

/// Formats a pid as `<slot.generation>`, similar to Erlang, and [`Pid::NONE`] in words.
impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its slot and generation are also those of a node's first process.
        if *self == Pid::NONE {
            return f.write_str("outside the node");
        }
        write!(f, "<{}.{}>", self.slot(), self.generation())
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::Pid;

    #[test]
    fn a_pid_survives_guest_memory() {
        let pid = Pid::new(0x0123_4567_89ab_cdef, 7, 3);
        assert_eq!(Pid::from_bytes(pid.to_bytes()), pid);
        assert_eq!((pid.slot(), pid.generation()), (7, 3));
        assert_eq!(format_args!("{pid}").as_str(), None);
    }

    #[test]
    fn slot_and_generation_have_all_bits_between_them() {
        let last = Pid::new(1, Pid::SLOTS - 1, Pid::LAST_GENERATION);
        assert_eq!(last.local, u64::MAX);
        let both = (last.slot(), last.generation());
        assert_eq!(both, (Pid::SLOTS - 1, Pid::LAST_GENERATION));
        let odd = Pid::new(1, 5, Pid::LAST_GENERATION - 1);
        let both = (odd.slot(), odd.generation());
        assert_eq!(both, (5, Pid::LAST_GENERATION - 1));
    }

    #[test]
    fn no_process_does_not_look_like_the_first_one() {
        let shown = |pid| std::format!("{pid}");
        assert_eq!(shown(Pid::new(5, 0, 0)), "<0.0>");
        assert_eq!(shown(Pid::NONE), "outside the node");
    }
}
