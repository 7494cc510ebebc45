//! Process identifiers.

use core::fmt;

/// A process identifier: which node, and which process on it.
///
/// In guest memory it is 16 bytes, little-endian: `node`, then `local`. A
/// guest treats it as opaque. `local` is a slot of the node's process table in
/// the low half and the slot's generation in the high half, so that a pid is
/// never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pid {
    /// The node's number, drawn at its start; never 0.
    pub node: u64,
    /// Slot (low 32 bits) and generation (high 32 bits).
    pub local: u64,
}

impl Pid {
    /// Bytes of a pid in guest memory.
    pub const SIZE: usize = 16;
    /// No process: what a message carries as its sender that comes from
    /// outside the node, or from the host itself.
    pub const NONE: Pid = Pid { node: 0, local: 0 };

    /// A pid from its slot and generation.
    pub const fn new(node: u64, slot: u32, generation: u32) -> Pid {
        Pid {
            node,
            local: (generation as u64) << 32 | slot as u64,
        }
    }

    /// The slot in the process table.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub const fn slot(self) -> u32 {
        self.local as u32
    }

    /// How often the slot had been used before.
    pub const fn generation(self) -> u32 {
        (self.local >> 32) as u32
    }

    /// The pid as it stands in guest memory.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.node.to_le_bytes());
        bytes[8..].copy_from_slice(&self.local.to_le_bytes());
        bytes
    }

    /// Reads a pid as it stands in guest memory.
    pub fn from_bytes(bytes: [u8; 16]) -> Pid {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Pid {
            node: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            local: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }
}

/// Written as Erlang writes it, `<slot.generation>`; [`Pid::NONE`] in words.
impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its numbers are those of a node's first process as well.
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
    fn no_process_does_not_look_like_the_first_one() {
        let shown = |pid| std::format!("{pid}");
        assert_eq!(shown(Pid::new(5, 0, 0)), "<0.0>");
        assert_eq!(shown(Pid::NONE), "outside the node");
    }
}
