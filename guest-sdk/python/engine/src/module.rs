//! The native module `_exuvia`: the message in hand, MessagePack, and the host calls.
//!
//! A call returns what the host returns: an error is a negative number, and the SDK raises it. What returns more is a
//! tuple of the code and the rest.

mod message;
mod process;
mod table;

use rustpython_vm::builtins::PyBytesRef;

pub(crate) use native::module_def;

type Pid = PyBytesRef;

/// The address of a pid, or of none if it is none: the host refuses what it never issued.
fn pid_of(pid: &Pid) -> [u8; 16] {
    pid.as_bytes().try_into().unwrap_or([0xff; 16])
}

/// What a call fetches whose result is a length, and that writes if it fits: the code and the bytes.
fn fetched(fetch: impl Fn(*mut u8, u32) -> i32) -> (i32, Vec<u8>) {
    let mut bytes = vec![0; 256];
    loop {
        let length = fetch(bytes.as_mut_ptr(), bytes.len() as u32);
        let known = usize::try_from(length).unwrap_or(0);
        if known > bytes.len() {
            bytes = vec![0; known];
            continue;
        }
        bytes.truncate(known);
        return (length, bytes);
    }
}

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is a host call: what is passed lives as long as the function, and its length is its own"
)]
#[rustpython_vm::pymodule(
    name = "_exuvia",
    with(message::native, process::native, table::native)
)]
mod native {
    use rustpython_vm::builtins::PyStrRef;
    use rustpython_vm::convert::ToPyObject;
    use rustpython_vm::function::ArgBytesLike;
    use rustpython_vm::{PyObjectRef, PyResult, VirtualMachine};

    use super::fetched;
    use crate::{codec, heap, host, payload};

    // ---- MessagePack ----

    #[pyfunction]
    fn pack(value: PyObjectRef, vm: &VirtualMachine) -> PyResult<Vec<u8>> {
        let mut out = Vec::new();
        codec::encode(&value, &mut out, vm)?;
        out.shrink_to_fit();
        Ok(out)
    }
    #[pyfunction]
    fn unpack(data: ArgBytesLike, vm: &VirtualMachine) -> PyResult {
        data.with_ref(|bytes| codec::decode_whole(bytes, vm))
    }
    /// unpack_front(data): the value in front, and how many bytes it took.
    #[pyfunction]
    fn unpack_front(data: ArgBytesLike, vm: &VirtualMachine) -> PyResult<(PyObjectRef, usize)> {
        data.with_ref(|bytes| codec::decode(bytes, vm))
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
    fn random(count: usize) -> Vec<u8> {
        const AT_ONCE: usize = 65_536;
        let mut bytes = vec![0; count];
        for part in bytes.chunks_mut(AT_ONCE) {
            unsafe { host::random(part.as_mut_ptr(), part.len() as u32) };
        }
        bytes
    }
    #[pyfunction]
    fn info(what: i32) -> i64 {
        unsafe { host::info(what) }
    }

    #[pyfunction]
    fn config(key: PyStrRef) -> (i32, Vec<u8>) {
        let key = key.as_bytes();
        fetched(|buffer, capacity| unsafe {
            host::config(key.as_ptr(), key.len() as u32, buffer, capacity)
        })
    }

    // ---- state ----

    #[pyfunction]
    fn state_put(data: ArgBytesLike) -> i32 {
        data.with_ref(|data| unsafe { host::state_put(data.as_ptr(), data.len() as u32) })
    }

    // ---- the interpreter ----

    /// born(): what the C library has kept of the start is forgotten, in which there are no folders and no environment.
    /// Returns the environment and the arguments that the process was granted.
    #[pyfunction]
    fn born(vm: &VirtualMachine) -> (Vec<PyObjectRef>, Vec<PyObjectRef>) {
        unsafe extern "C" {
            fn __wasilibc_reset_preopens();
            fn __wasilibc_initialize_environ();
        }
        // SAFETY: nothing of the C library is in use.
        unsafe {
            __wasilibc_reset_preopens();
            __wasilibc_initialize_environ();
        }
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)).to_pyobject(vm))
            .collect();
        let arguments = std::env::args_os()
            .map(|one| text(one).to_pyobject(vm))
            .collect();
        (environment, arguments)
    }
    /// How many bytes of the heap are in use.
    #[pyfunction]
    fn allocated() -> usize {
        heap::HEAP.allocated()
    }
    /// The modules that the build tool has put behind the engine: a list of name, whether it is a package, file and text.
    #[pyfunction]
    fn scripts(vm: &VirtualMachine) -> Vec<PyObjectRef> {
        payload::scripts().map(|one| one.to_pyobject(vm)).collect()
    }
}
