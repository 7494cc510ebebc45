//! The options of `spawn`.

use exuvia_node::abi;

use super::{DATA, PID, REFERENCE, length};

/// The options of `spawn`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) flags: u32,
    pub(crate) memory: u64,
    pub(crate) mailbox_bytes: u64,
    pub(crate) mailbox_messages: u32,
    pub(crate) message_bytes: u32,
    pub(crate) children: u32,
    pub(crate) timeout_ms: u32,
}

impl Options {
    pub(crate) fn flags(flags: u32) -> Options {
        Options {
            flags,
            ..Options::default()
        }
    }

    /// The arguments of `spawn`, and the command's data.
    pub(crate) fn of(self, module: &str, arguments: &[u8]) -> (Vec<i64>, Vec<u8>) {
        let mut data = abi::spawn::OPTIONS_SIZE.to_le_bytes().to_vec();
        data.extend(self.flags.to_le_bytes());
        data.extend(self.memory.to_le_bytes());
        data.extend(self.mailbox_bytes.to_le_bytes());
        data.extend(self.mailbox_messages.to_le_bytes());
        data.extend(self.message_bytes.to_le_bytes());
        data.extend(self.children.to_le_bytes());
        data.extend(self.timeout_ms.to_le_bytes());
        data.extend(module.as_bytes());
        data.extend(arguments);
        let module_length = length(module.as_bytes());
        let list = [
            DATA + 40,
            module_length,
            DATA + 40 + module_length,
            length(arguments),
            DATA,
            PID,
            REFERENCE,
        ];
        (list.to_vec(), data)
    }
}
