//! The native module `_exuvia`: the message in hand, MessagePack, and the host calls.
//!
//! A call returns what the host returns: an error is a negative number, and the SDK raises it. What returns more is a
//! pair of the code and the rest.

use std::cell::UnsafeCell;

use crate::host::Header;

pub(crate) use native::module_def;

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
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is a host call: what is passed lives as long as the function, and its length is its own"
)]
#[rustpython_vm::pymodule(name = "_exuvia")]
mod native {
    use exuvia_abi::{Code, Kind, io, receive as modes};
    use rustpython_vm::builtins::{PyBytesRef, PyDict, PyListRef, PyStr, PyStrRef};
    use rustpython_vm::function::{ArgBytesLike, OptionalArg};
    use rustpython_vm::{PyObjectRef, PyResult, VirtualMachine};

    use super::{SHORT, hand};
    use crate::host::{self, Header};
    use crate::{codec, heap};

    type Pid = PyBytesRef;

    fn none() -> [u8; 16] {
        [0; 16]
    }

    /// The address of a pid, or of none if it is none: the host refuses what it never issued.
    fn pid_of(pid: &Pid) -> [u8; 16] {
        pid.as_bytes().try_into().unwrap_or_else(|_| [0xff; 16])
    }

    fn pair(code: i32, value: impl Into<PyObjectRef>, vm: &VirtualMachine) -> PyObjectRef {
        vm.ctx
            .new_tuple(vec![vm.ctx.new_int(code).into(), value.into()])
            .into()
    }

    // ---- the message in hand ----

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

    impl super::Message {
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
    fn head(vm: &VirtualMachine) -> PyObjectRef {
        let Header {
            sender,
            tag,
            reference,
            ..
        } = hand().header;
        let ctx = &vm.ctx;
        ctx.new_tuple(vec![
            ctx.new_bytes(sender.to_vec()).into(),
            ctx.new_int(tag).into(),
            ctx.new_int(reference).into(),
        ])
        .into()
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
    fn sender(vm: &VirtualMachine) -> PyObjectRef {
        vm.ctx.new_bytes(hand().header.sender.to_vec()).into()
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
        whole(hand().payload(), vm)
    }
    /// called(): the payload as a value, taken apart: a text is a name without content, a map with one text as its key a
    /// name and its content. Everything else is None and the value. The payload is forgotten.
    #[pyfunction]
    fn called(vm: &VirtualMachine) -> PyResult {
        let value = whole(hand().payload(), vm);
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

    // ---- MessagePack ----

    fn whole(bytes: &[u8], vm: &VirtualMachine) -> PyResult {
        let (value, used) = codec::decode(bytes, vm)?;
        if used < bytes.len() {
            let more = bytes.len() - used;
            return Err(
                vm.new_value_error(format!("no MessagePack: {more} bytes follow the value"))
            );
        }
        Ok(value)
    }
    #[pyfunction]
    fn pack(value: PyObjectRef, vm: &VirtualMachine) -> PyResult {
        let mut out = Vec::new();
        codec::encode(&value, &mut out, vm)?;
        out.shrink_to_fit();
        Ok(vm.ctx.new_bytes(out).into())
    }
    #[pyfunction]
    fn unpack(data: ArgBytesLike, vm: &VirtualMachine) -> PyResult {
        data.with_ref(|bytes| whole(bytes, vm))
    }
    /// unpack_front(data): the value in front, and how many bytes it took.
    #[pyfunction]
    fn unpack_front(data: ArgBytesLike, vm: &VirtualMachine) -> PyResult {
        let (value, used) = data.with_ref(|bytes| codec::decode(bytes, vm))?;
        Ok(vm
            .ctx
            .new_tuple(vec![value, vm.ctx.new_int(used).into()])
            .into())
    }

    /// nests_deeper(text, limit): whether a text in JSON has brackets in brackets beyond a limit.
    #[pyfunction]
    fn nests_deeper(text: PyStrRef, limit: usize) -> bool {
        let (mut depth, mut is_text, mut is_escaped) = (0usize, false, false);
        text.as_bytes().iter().any(|byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                b'[' | b'{' if !is_text => depth += 1,
                b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth > limit
        })
    }

    // ---- messages ----

    #[pyfunction]
    fn send(to: Pid, tag: u32, data: ArgBytesLike) -> i32 {
        let to = pid_of(&to);
        data.with_ref(|data| unsafe {
            host::send(to.as_ptr(), tag, data.as_ptr(), data.len() as u32)
        })
    }
    #[pyfunction]
    fn request(to: Pid, tag: u32, data: ArgBytesLike, vm: &VirtualMachine) -> PyObjectRef {
        let (to, mut reference) = (pid_of(&to), 0);
        let code = data.with_ref(|data| unsafe {
            host::request(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                &mut reference,
            )
        });
        pair(code, vm.ctx.new_int(reference), vm)
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
    #[pyfunction]
    fn reply(to: Pid, reference: i64, tag: u32, data: ArgBytesLike) -> i32 {
        let to = pid_of(&to);
        data.with_ref(|data| unsafe {
            host::reply(
                to.as_ptr(),
                reference,
                tag,
                data.as_ptr(),
                data.len() as u32,
            )
        })
    }
    #[pyfunction]
    fn send_after(
        to: Pid,
        tag: u32,
        data: ArgBytesLike,
        delay: i64,
        vm: &VirtualMachine,
    ) -> PyObjectRef {
        let (to, mut reference) = (pid_of(&to), 0);
        let code = data.with_ref(|data| unsafe {
            host::send_after(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                delay,
                &mut reference,
            )
        });
        pair(code, vm.ctx.new_int(reference), vm)
    }
    #[pyfunction]
    fn cancel_timer(reference: i64) -> i64 {
        unsafe { host::cancel_timer(reference) }
    }
    #[pyfunction]
    fn sleep(time: i64) -> i32 {
        unsafe { host::sleep(time) }
    }
    #[pyfunction]
    fn publish(group: PyStrRef, tag: u32, data: ArgBytesLike) -> i32 {
        let group = group.as_bytes();
        data.with_ref(|data| unsafe {
            host::publish(
                group.as_ptr(),
                group.len() as u32,
                tag,
                data.as_ptr(),
                data.len() as u32,
            )
        })
    }

    // ---- processes ----

    /// spawn(module, arguments, options, grants): the code, the pid and the monitor's reference. `options` are the
    /// bytes of the structure, in which the place of the grants is written here.
    #[pyfunction]
    fn spawn(
        module: PyStrRef,
        arguments: ArgBytesLike,
        options: ArgBytesLike,
        grants: ArgBytesLike,
        vm: &VirtualMachine,
    ) -> PyObjectRef {
        const GRANTS: usize = 56;
        let (mut pid, mut reference) = (none(), 0);
        let mut options = options.with_ref(<[u8]>::to_vec);
        let module = module.as_bytes();
        let code = if options.len() == exuvia_abi::spawn::OPTIONS_KNOWN as usize {
            arguments.with_ref(|arguments| {
                grants.with_ref(|grants| {
                    if !grants.is_empty() {
                        options[GRANTS..GRANTS + 4]
                            .copy_from_slice(&(grants.as_ptr() as u32).to_le_bytes());
                        options[GRANTS + 4..GRANTS + 8]
                            .copy_from_slice(&(grants.len() as u32).to_le_bytes());
                    }
                    unsafe {
                        host::spawn(
                            module.as_ptr(),
                            module.len() as u32,
                            arguments.as_ptr(),
                            arguments.len() as u32,
                            options.as_ptr(),
                            pid.as_mut_ptr(),
                            &mut reference,
                        )
                    }
                })
            })
        } else {
            Code::BadArgument as i32
        };
        let values = vec![
            vm.ctx.new_int(code).into(),
            vm.ctx.new_bytes(pid.to_vec()).into(),
            vm.ctx.new_int(reference).into(),
        ];
        vm.ctx.new_tuple(values).into()
    }
    #[pyfunction]
    fn supervisor_start(specification: ArgBytesLike, vm: &VirtualMachine) -> PyObjectRef {
        let mut pid = none();
        let code = specification.with_ref(|data| unsafe {
            host::supervisor_start(data.as_ptr(), data.len() as u32, pid.as_mut_ptr())
        });
        pair(code, vm.ctx.new_bytes(pid.to_vec()), vm)
    }
    #[pyfunction]
    fn init_ack(status: i32, why: PyStrRef) -> i32 {
        unsafe { host::init_ack(status, why.as_bytes().as_ptr(), why.as_bytes().len() as u32) }
    }
    #[pyfunction]
    fn exit(code: i32, why: PyStrRef) {
        unsafe { host::exit(code, why.as_bytes().as_ptr(), why.as_bytes().len() as u32) };
        core::arch::wasm32::unreachable()
    }
    #[pyfunction]
    fn exit_process(pid: Pid, code: i32, why: PyStrRef) -> i32 {
        unsafe {
            host::exit_process(
                pid_of(&pid).as_ptr(),
                code,
                why.as_bytes().as_ptr(),
                why.as_bytes().len() as u32,
            )
        }
    }
    #[pyfunction]
    fn kill(pid: Pid) -> i32 {
        unsafe { host::kill(pid_of(&pid).as_ptr()) }
    }
    #[pyfunction]
    fn link(pid: Pid) -> i32 {
        unsafe { host::link(pid_of(&pid).as_ptr()) }
    }
    #[pyfunction]
    fn unlink(pid: Pid) -> i32 {
        unsafe { host::unlink(pid_of(&pid).as_ptr()) }
    }
    #[pyfunction]
    fn monitor(pid: Pid, vm: &VirtualMachine) -> PyObjectRef {
        let mut reference = 0;
        let code = unsafe { host::monitor(pid_of(&pid).as_ptr(), &mut reference) };
        pair(code, vm.ctx.new_int(reference), vm)
    }
    /// monitor_name(name): the code, the pid and the reference.
    #[pyfunction]
    fn monitor_name(name: PyStrRef, vm: &VirtualMachine) -> PyObjectRef {
        let (mut pid, mut reference) = (none(), 0);
        let name = name.as_bytes();
        let code = unsafe {
            host::monitor_name(
                name.as_ptr(),
                name.len() as u32,
                pid.as_mut_ptr(),
                &mut reference,
            )
        };
        let values = vec![
            vm.ctx.new_int(code).into(),
            vm.ctx.new_bytes(pid.to_vec()).into(),
            vm.ctx.new_int(reference).into(),
        ];
        vm.ctx.new_tuple(values).into()
    }
    #[pyfunction]
    fn demonitor(reference: i64) -> i32 {
        unsafe { host::demonitor(reference, exuvia_abi::demonitor::FLUSH) }
    }
    #[pyfunction]
    fn trap_exit(on: bool) -> i32 {
        unsafe { host::trap_exit(on.into()) }
    }
    #[pyfunction]
    fn set_priority(priority: i32) -> i32 {
        unsafe { host::set_priority(priority) }
    }
    #[pyfunction]
    fn own_pid(vm: &VirtualMachine) -> PyObjectRef {
        let mut pid = none();
        unsafe { host::own_pid(pid.as_mut_ptr()) };
        vm.ctx.new_bytes(pid.to_vec()).into()
    }

    // ---- names and groups ----

    #[pyfunction]
    fn register(name: PyStrRef, pid: Pid) -> i32 {
        unsafe {
            host::register(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                pid_of(&pid).as_ptr(),
            )
        }
    }
    #[pyfunction]
    fn unregister(name: PyStrRef) -> i32 {
        unsafe { host::unregister(name.as_bytes().as_ptr(), name.as_bytes().len() as u32) }
    }
    #[pyfunction]
    fn whereis(name: PyStrRef, vm: &VirtualMachine) -> PyObjectRef {
        let mut pid = none();
        let code = unsafe {
            host::whereis(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                pid.as_mut_ptr(),
            )
        };
        pair(code, vm.ctx.new_bytes(pid.to_vec()), vm)
    }
    #[pyfunction]
    fn group_join(group: PyStrRef, pid: Pid) -> i32 {
        unsafe {
            host::group_join(
                group.as_bytes().as_ptr(),
                group.as_bytes().len() as u32,
                pid_of(&pid).as_ptr(),
            )
        }
    }
    #[pyfunction]
    fn group_leave(group: PyStrRef, pid: Pid) -> i32 {
        unsafe {
            host::group_leave(
                group.as_bytes().as_ptr(),
                group.as_bytes().len() as u32,
                pid_of(&pid).as_ptr(),
            )
        }
    }
    /// group_members(group): the number and a list of pids.
    #[pyfunction]
    fn group_members(group: PyStrRef, vm: &VirtualMachine) -> PyObjectRef {
        let group = group.as_bytes();
        let mut pids: Vec<u8> = Vec::new();
        loop {
            let fit = pids.len() / 16;
            let count = unsafe {
                host::group_members(
                    group.as_ptr(),
                    group.len() as u32,
                    pids.as_mut_ptr(),
                    fit as u32,
                )
            };
            let known = usize::try_from(count).unwrap_or(0);
            // Again if there are more than fit: it may have grown since.
            if known > fit {
                pids = vec![0; known * 16];
                continue;
            }
            let list = pids[..known * 16]
                .chunks(16)
                .map(|pid| vm.ctx.new_bytes(pid.to_vec()).into())
                .collect();
            return pair(count, vm.ctx.new_list(list), vm);
        }
    }

    // ---- log, numbers, configuration ----

    #[pyfunction]
    fn log(level: i32, text: PyStrRef) -> i32 {
        let text = text.to_string_lossy();
        unsafe { host::log(level, text.as_ptr(), text.len() as u32) }
    }
    /// write(fd, text): prints. What the host does not take is lost, as there is nobody to tell.
    #[pyfunction]
    fn write(fd: u32, text: PyStrRef) {
        let text = text.to_string_lossy();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let part = host::Part {
                data: rest.as_ptr(),
                length: rest.len() as u32,
            };
            let mut written = 0;
            if unsafe { host::fd_write(fd, &part, 1, &mut written) } != 0 || written == 0 {
                return;
            }
            rest = &rest[(written as usize).min(rest.len())..];
        }
    }
    /// random(count): bytes for keys.
    #[pyfunction]
    fn random(count: usize, vm: &VirtualMachine) -> PyObjectRef {
        const AT_ONCE: usize = 65_536;
        let mut bytes = vec![0; count];
        for part in bytes.chunks_mut(AT_ONCE) {
            unsafe { host::random(part.as_mut_ptr(), part.len() as u32) };
        }
        vm.ctx.new_bytes(bytes).into()
    }
    #[pyfunction]
    fn info(what: i32) -> i64 {
        unsafe { host::info(what) }
    }

    /// What a call fetches whose result is a length, and that writes if it fits: the code and the bytes.
    fn fetched(vm: &VirtualMachine, fetch: impl Fn(*mut u8, u32) -> i32) -> PyObjectRef {
        let mut bytes = vec![0; 256];
        loop {
            let length = fetch(bytes.as_mut_ptr(), bytes.len() as u32);
            let known = usize::try_from(length).unwrap_or(0);
            if known > bytes.len() {
                bytes = vec![0; known];
                continue;
            }
            bytes.truncate(known);
            return pair(length, vm.ctx.new_bytes(bytes), vm);
        }
    }
    #[pyfunction]
    fn config(key: PyStrRef, vm: &VirtualMachine) -> PyObjectRef {
        let key = key.as_bytes();
        fetched(vm, |buffer, capacity| unsafe {
            host::config(key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }

    // ---- state ----

    #[pyfunction]
    fn state_put(data: ArgBytesLike) -> i32 {
        data.with_ref(|data| unsafe { host::state_put(data.as_ptr(), data.len() as u32) })
    }

    // ---- tables ----

    #[pyfunction]
    fn table_new(name: PyStrRef, access: i32, vm: &VirtualMachine) -> PyObjectRef {
        let mut table = 0;
        let code = unsafe {
            host::table_new(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                access,
                &mut table,
            )
        };
        pair(code, vm.ctx.new_int(table), vm)
    }
    #[pyfunction]
    fn table_find(name: PyStrRef, vm: &VirtualMachine) -> PyObjectRef {
        let mut table = 0;
        let code = unsafe {
            host::table_find(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                &mut table,
            )
        };
        pair(code, vm.ctx.new_int(table), vm)
    }
    #[pyfunction]
    fn table_put(table: i64, key: PyBytesRef, value: PyBytesRef, flags: i32) -> i32 {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        unsafe {
            host::table_put(
                table,
                key.as_ptr(),
                key.len() as u32,
                value.as_ptr(),
                value.len() as u32,
                flags,
            )
        }
    }
    #[pyfunction]
    fn table_get(table: i64, key: PyBytesRef, vm: &VirtualMachine) -> PyObjectRef {
        let key = key.as_bytes();
        fetched(vm, |buffer, capacity| unsafe {
            host::table_get(table, key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }
    #[pyfunction]
    fn table_next(table: i64, key: PyBytesRef, vm: &VirtualMachine) -> PyObjectRef {
        let key = key.as_bytes();
        fetched(vm, |buffer, capacity| unsafe {
            host::table_next(table, key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }
    #[pyfunction]
    fn table_delete(table: i64, key: PyBytesRef) -> i32 {
        unsafe { host::table_delete(table, key.as_bytes().as_ptr(), key.as_bytes().len() as u32) }
    }
    #[pyfunction]
    fn table_add(table: i64, key: PyBytesRef, amount: i64, vm: &VirtualMachine) -> PyObjectRef {
        let mut sum = 0;
        let code = unsafe {
            host::table_add(
                table,
                key.as_bytes().as_ptr(),
                key.as_bytes().len() as u32,
                amount,
                &mut sum,
            )
        };
        pair(code, vm.ctx.new_int(sum), vm)
    }
    #[pyfunction]
    fn table_info(table: i64, what: i32) -> i64 {
        unsafe { host::table_info(table, what) }
    }
    /// table_heir(table, pid, tag): without a pid there is no heir.
    #[pyfunction]
    fn table_heir(table: i64, pid: OptionalArg<Option<Pid>>, tag: u32) -> i32 {
        let pid = pid.flatten().map(|pid| pid_of(&pid));
        unsafe {
            host::table_heir(
                table,
                pid.as_ref().map_or(std::ptr::null(), |pid| pid.as_ptr()),
                tag,
            )
        }
    }
    #[pyfunction]
    fn table_give(table: i64, pid: Pid, tag: u32) -> i32 {
        unsafe { host::table_give(table, pid_of(&pid).as_ptr(), tag) }
    }
    #[pyfunction]
    fn table_end(table: i64) -> i32 {
        unsafe { host::table_end(table) }
    }

    // ---- the interpreter ----

    /// born(): what the C library has kept of the start is forgotten, in which there are no folders and no environment.
    /// Returns the environment and the arguments that the process was granted.
    #[pyfunction]
    fn born(vm: &VirtualMachine) -> PyObjectRef {
        unsafe extern "C" {
            fn __wasilibc_reset_preopens();
            fn __wasilibc_initialize_environ();
        }
        // SAFETY: nothing of the C library is in use.
        unsafe {
            __wasilibc_reset_preopens();
            __wasilibc_initialize_environ();
        }
        let ctx = &vm.ctx;
        let text = |text: std::ffi::OsString| -> PyObjectRef {
            ctx.new_str(text.to_string_lossy().into_owned()).into()
        };
        let environment = std::env::vars_os()
            .map(|(name, value)| ctx.new_tuple(vec![text(name), text(value)]).into())
            .collect();
        let arguments = std::env::args_os().map(text).collect();
        ctx.new_tuple(vec![
            ctx.new_list(environment).into(),
            ctx.new_list(arguments).into(),
        ])
        .into()
    }
    /// How many bytes of the heap are in use.
    #[pyfunction]
    fn allocated() -> usize {
        heap::HEAP.allocated()
    }
    /// The modules that the build tool has put behind the engine: a list of name, whether it is a package, file and text.
    #[pyfunction]
    fn scripts(vm: &VirtualMachine) -> PyObjectRef {
        let one = |(name, is_package, file, text): (&str, bool, &str, &str)| {
            let ctx = &vm.ctx;
            ctx.new_tuple(vec![
                ctx.new_str(name).into(),
                ctx.new_bool(is_package).into(),
                ctx.new_str(file).into(),
                ctx.new_str(text).into(),
            ])
            .into()
        };
        vm.ctx
            .new_list(crate::payload::scripts().map(one).collect())
            .into()
    }
}
