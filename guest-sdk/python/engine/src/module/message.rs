//! The message in hand: what was received last, until it is forgotten.

use std::cell::UnsafeCell;

use exuvia_abi::{Code, Kind, io, receive as modes};

use crate::host::{self, Header};

/// Messages up to this size are received into static memory, which is cleared after each.
const SHORT: usize = 1024;

struct Message {
    header: Header,
    short: [u8; SHORT],
    /// A payload that is longer.
    long: Option<Vec<u8>>,
    /// There was no memory for its payload.
    dropped: bool,
}

struct Hand(UnsafeCell<Message>);

// SAFETY: the module has one thread.
unsafe impl Sync for Hand {}

static HAND: Hand = Hand(UnsafeCell::new(Message {
    header: Header::new(),
    short: [0; SHORT],
    long: None,
    dropped: false,
}));

/// The message in hand. Each function of the module uses it for itself, and calls no other with it.
#[allow(
    clippy::mut_from_ref,
    reason = "one thread, and no reference outlives a function"
)]
fn hand() -> &'static mut Message {
    // SAFETY: as above.
    unsafe { &mut *HAND.0.get() }
}

impl Message {
    fn payload(&self) -> &[u8] {
        match &self.long {
            Some(long) => long,
            None => &self.short[..(self.header.length as usize).min(SHORT)],
        }
    }

    /// Forgets the payload. What is dead becomes zero.
    fn forget(&mut self) {
        let used = (self.header.length as usize).min(SHORT);
        self.short[..used].fill(0);
        self.long = None;
        self.header = Header::new();
        self.dropped = false;
    }
    /// Says that the message was dropped. Returns whether nothing waits for it.
    fn refuse_for_size(&mut self) -> bool {
        let text = format!(
            "dropped a message of {} bytes: the process has no memory for it",
            self.header.length
        );
        // SAFETY: the text has this length.
        unsafe { host::log(exuvia_abi::log::ERROR, text.as_ptr(), text.len() as u32) };
        let Header {
            kind,
            sender,
            reference,
            ..
        } = self.header;
        self.header.length = 0;
        self.dropped = true;
        if kind == Kind::Request as u32 {
            let why = "the receiver has no memory for a request of this size";
            // SAFETY: the text has this length.
            unsafe {
                host::reply(
                    sender.as_ptr(),
                    reference,
                    io::REFUSED,
                    why.as_ptr(),
                    why.len() as u32,
                )
            };
        }
        [Kind::Request, Kind::Message, Kind::Timer]
            .iter()
            .any(|of| *of as u32 == kind)
    }
}

/// Receives; a message for which there is no memory is dropped, or comes without its payload if it may be what
/// something waits for.
fn take(timeout: i64, mode: i32, key: i64) -> i32 {
    let message = hand();
    message.forget();
    loop {
        message.header = Header::new();
        // SAFETY: the buffers have these sizes.
        let code = unsafe {
            host::receive(
                &mut message.header,
                message.short.as_mut_ptr(),
                SHORT as u32,
                timeout,
                mode,
                key,
            )
        };
        if code == 0 {
            return message.header.kind as i32;
        }
        if code != Code::TooBig as i32 {
            return code;
        }
        let length = message.header.length as usize;
        let mut long = Vec::new();
        if long.try_reserve_exact(length).is_ok() {
            message.header = Header::new();
            // SAFETY: so many bytes are reserved, and the host has written them if it returns 0.
            let code = unsafe {
                let code = host::receive(
                    &mut message.header,
                    long.as_mut_ptr(),
                    length as u32,
                    0,
                    mode,
                    key,
                );
                long.set_len(if code == 0 {
                    message.header.length as usize
                } else {
                    0
                });
                code
            };
            message.long = Some(long);
            return if code == 0 {
                message.header.kind as i32
            } else {
                code
            };
        }
        message.header = Header::new();
        // SAFETY: nothing of the payload is written.
        let code = unsafe {
            host::receive(
                &mut message.header,
                message.short.as_mut_ptr(),
                0,
                0,
                mode | modes::TRUNCATE,
                key,
            )
        };
        if code != 0 {
            return code;
        }
        if message.refuse_for_size() {
            continue;
        }
        return message.header.kind as i32;
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is a host call: what is passed lives as long as the function, and its length is its own"
)]
#[rustpython_vm::pymodule(sub, name = "_exuvia")]
pub(super) mod native {
    use exuvia_abi::{Code, receive as modes};
    use rustpython_vm::builtins::{PyDict, PyListRef, PyStr};
    use rustpython_vm::function::ArgBytesLike;
    use rustpython_vm::{PyObjectRef, PyResult, VirtualMachine};

    use super::{SHORT, hand, take};
    use crate::module::{Pid, pid_of};
    use crate::{codec, host};

    /// receive(timeout, mode, key): the kind of the message, which is in hand then, or a negative code.
    #[pyfunction]
    fn receive(timeout: i64, mode: i32, key: PyObjectRef, vm: &VirtualMachine) -> PyResult<i32> {
        Ok(match mode & modes::MODE {
            modes::SENDER => {
                let pid = pid_of(&key.try_into_value::<Pid>(vm)?);
                take(timeout, mode, pid.as_ptr() as usize as i64)
            }
            modes::REFERENCES => {
                let list = key.try_into_value::<PyListRef>(vm)?;
                let references = list.borrow_vec().to_vec();
                let references = references
                    .into_iter()
                    .map(|one| one.try_into_value::<i64>(vm))
                    .collect::<PyResult<Vec<_>>>()?;
                take(
                    timeout,
                    mode,
                    (references.len() as i64) << 32 | references.as_ptr() as usize as i64,
                )
            }
            _ => take(timeout, mode, key.try_into_value::<i64>(vm)?),
        })
    }

    /// head(): the sender, the tag and the reference.
    #[pyfunction]
    fn head() -> (Vec<u8>, u32, i64) {
        let header = &hand().header;
        (header.sender.to_vec(), header.tag, header.reference)
    }
    #[pyfunction]
    fn kind() -> u32 {
        hand().header.kind
    }
    #[pyfunction]
    fn length() -> u32 {
        hand().header.length
    }
    #[pyfunction]
    fn sender() -> Vec<u8> {
        hand().header.sender.to_vec()
    }
    #[pyfunction]
    fn reference() -> i64 {
        hand().header.reference
    }
    #[pyfunction]
    fn tag() -> u32 {
        hand().header.tag
    }
    #[pyfunction]
    fn reason() -> i32 {
        hand().header.reason
    }
    /// Whether the payload is missing since there was no memory for it.
    #[pyfunction]
    fn dropped() -> bool {
        hand().dropped
    }
    #[pyfunction]
    fn payload(vm: &VirtualMachine) -> PyResult {
        codec::need(hand().payload().len(), vm)?;
        Ok(vm.ctx.new_bytes(hand().payload().to_vec()).into())
    }
    /// The payload as text; bytes that are no UTF-8 are replaced.
    #[pyfunction]
    fn text() -> String {
        String::from_utf8_lossy(hand().payload()).into_owned()
    }
    /// The payload as a value; raises ValueError if it is not MessagePack.
    #[pyfunction]
    fn value(vm: &VirtualMachine) -> PyResult {
        codec::decode_whole(hand().payload(), vm)
    }
    /// called(): the payload as a value, taken apart: a text is a name without content, a map with one text as its key a
    /// name and its content. Everything else is None and the value. The payload is forgotten.
    #[pyfunction]
    fn called(vm: &VirtualMachine) -> PyResult {
        let value = codec::decode_whole(hand().payload(), vm);
        hand().forget();
        let value = value?;
        let none = || vm.ctx.none();
        let parts = if value.downcast_ref::<PyStr>().is_some() {
            vec![value, none()]
        } else {
            let entry = value
                .downcast_ref::<PyDict>()
                .filter(|dict| dict.__len__() == 1)
                .and_then(|dict| dict.items_vec().pop())
                .filter(|(name, _)| name.downcast_ref::<PyStr>().is_some());
            match entry {
                Some((name, content)) => vec![name, content],
                None => vec![none(), value],
            }
        };
        Ok(vm.ctx.new_tuple(parts).into())
    }
    #[pyfunction]
    fn forget() {
        hand().forget();
    }
    /// pretend(kind, payload): a message in hand that nobody has sent, for the warm-up.
    #[pyfunction]
    fn pretend(kind: u32, payload: ArgBytesLike) {
        let message = hand();
        message.forget();
        message.header.kind = kind;
        payload.with_ref(|bytes| {
            let length = bytes.len().min(SHORT);
            message.header.length = length as u32;
            message.short[..length].copy_from_slice(&bytes[..length]);
        });
    }
    /// call(to, tag, data, timeout): the kind of what is in hand then, or a negative code.
    #[pyfunction]
    fn call(to: Pid, tag: u32, data: ArgBytesLike, timeout: i64) -> i32 {
        let (to, message) = (pid_of(&to), hand());
        message.forget();
        let code = data.with_ref(|data| unsafe {
            let short = message.short.as_mut_ptr();
            host::call(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                &mut message.header,
                short,
                SHORT as u32,
                timeout,
            )
        });
        match code {
            0 => message.header.kind as i32,
            // The reply is in the mailbox.
            code if code == Code::TooBig as i32 => {
                take(0, modes::REFERENCE, message.header.reference)
            }
            code => code,
        }
    }
}
