//! Messages to other processes, their starts and ends, names and groups.

#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each block is a host call: what is passed lives as long as the function, and its length is its own"
)]
#[rustpython_vm::pymodule(sub, name = "_exuvia")]
pub(super) mod native {
    use exuvia_abi::Code;
    use rustpython_vm::builtins::PyStrRef;
    use rustpython_vm::function::ArgBytesLike;
    use rustpython_vm::{PyObjectRef, VirtualMachine};

    use crate::host;
    use crate::module::{Pid, pid_of};

    // ---- messages ----

    #[pyfunction]
    fn send(to: Pid, tag: u32, data: ArgBytesLike) -> i32 {
        let to = pid_of(&to);
        data.with_ref(|data| unsafe {
            host::send(to.as_ptr(), tag, data.as_ptr(), data.len() as u32)
        })
    }
    #[pyfunction]
    fn request(to: Pid, tag: u32, data: ArgBytesLike) -> (i32, i64) {
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
        (code, reference)
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
    fn send_after(to: Pid, tag: u32, data: ArgBytesLike, delay: i64) -> (i32, i64) {
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
        (code, reference)
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
    ) -> (i32, Vec<u8>, i64) {
        const GRANTS: usize = 56;
        let (mut pid, mut reference) = ([0; 16], 0);
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
        (code, pid.to_vec(), reference)
    }
    #[pyfunction]
    fn supervisor_start(specification: ArgBytesLike) -> (i32, Vec<u8>) {
        let mut pid = [0; 16];
        let code = specification.with_ref(|data| unsafe {
            host::supervisor_start(data.as_ptr(), data.len() as u32, pid.as_mut_ptr())
        });
        (code, pid.to_vec())
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
    fn monitor(pid: Pid) -> (i32, i64) {
        let mut reference = 0;
        let code = unsafe { host::monitor(pid_of(&pid).as_ptr(), &mut reference) };
        (code, reference)
    }
    /// monitor_name(name): the code, the pid and the reference.
    #[pyfunction]
    fn monitor_name(name: PyStrRef) -> (i32, Vec<u8>, i64) {
        let (mut pid, mut reference) = ([0; 16], 0);
        let name = name.as_bytes();
        let code = unsafe {
            host::monitor_name(
                name.as_ptr(),
                name.len() as u32,
                pid.as_mut_ptr(),
                &mut reference,
            )
        };
        (code, pid.to_vec(), reference)
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
    fn own_pid() -> Vec<u8> {
        let mut pid = [0; 16];
        unsafe { host::own_pid(pid.as_mut_ptr()) };
        pid.to_vec()
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
    fn whereis(name: PyStrRef) -> (i32, Vec<u8>) {
        let mut pid = [0; 16];
        let code = unsafe {
            host::whereis(
                name.as_bytes().as_ptr(),
                name.as_bytes().len() as u32,
                pid.as_mut_ptr(),
            )
        };
        (code, pid.to_vec())
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
    fn group_members(group: PyStrRef, vm: &VirtualMachine) -> (i32, Vec<PyObjectRef>) {
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
            return (count, list);
        }
    }
}
