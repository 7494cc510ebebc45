//! Host calls about processes: starting and ending them, links and monitors, names.

use std::sync::Arc;

use exuvia_abi::{Code, Kind, Pid, Priority, Reason, demonitor, limits, receive, spawn};
use exuvia_process::{
    Body, Envelope, ExitReason, Grants, Limits, NameError, Payload, Requester, Signal, SpawnError,
    SpawnSpec,
};
use wasmtime::{Caller, Linker};

use super::message::{drain, registered, text};
use super::{Answer, served};
use crate::guest::{GuestProcess, GuestSystem, WaitReason, module_of};
use crate::instance::store::{Exit, FrameData, ProcessEnds, View, view};
use crate::transaction::{defer, defer_or, on_rollback};

const MODULE: &str = exuvia_abi::MODULE;

/// Time limit of a synchronous start if the spawner gives none, in milliseconds.
const START_TIMEOUT_MS: u32 = 5_000;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    define_births(linker)?;
    define_ends(linker)?;
    define_relations(linker)?;
    define_names(linker)
}

fn define_births(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "spawn",
        |mut caller: Caller<'_, FrameData>,
         module: i32,
         module_length: i32,
         arguments: i32,
         arguments_length: i32,
         options: i32,
         pid_out: i32,
         reference_out: i32| {
            let wanted = RequestedLimits {
                module: (module, module_length),
                arguments: (arguments, arguments_length),
                options,
                pid_out,
                reference_out,
            };
            served(&mut caller, "spawn", |view| match view.waiting() {
                Some(_) => go_on_starting(view, pid_out),
                None => Ok(begin_spawn(view, &wanted)),
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "supervisor_start",
        |mut caller: Caller<'_, FrameData>, specification: i32, length: i32, pid_out: i32| {
            served(&mut caller, "supervisor_start", |view| {
                match view.waiting() {
                    Some(_) => go_on_starting(view, pid_out),
                    None => Ok(start_supervisor(view, specification, length, pid_out)),
                }
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "init_ack",
        |mut caller: Caller<'_, FrameData>, status: i32, data: i32, length: i32| {
            served(&mut caller, "init_ack", |view| {
                Ok(init_ack(view, status, data, length))
            })
        },
    )?;
    Ok(())
}

fn define_ends(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "exit",
        |mut caller: Caller<'_, FrameData>,
         code: i32,
         data: i32,
         length: i32|
         -> wasmtime::Result<()> {
            let view = view(&mut caller, "exit")?;
            *view.exit = Some(match (view.read(data, length), is_guests(code)) {
                (Ok(bytes), true) => Exit::Itself(ExitReason::with(code, bytes)),
                _ => Exit::Fault(ExitReason::with(
                    Reason::CONTRACT.0,
                    b"`exit` was called with a code that belongs to the host, or a bad pointer",
                )),
            });
            Err(wasmtime::Error::new(ProcessEnds))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "exit_process",
        |mut caller: Caller<'_, FrameData>, pid: i32, code: i32, data: i32, length: i32| {
            served(&mut caller, "exit_process", |view| {
                Ok(exit_process(view, pid, code, data, length))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "kill",
        |mut caller: Caller<'_, FrameData>, pid: i32| {
            served(&mut caller, "kill", |view| {
                Ok(on_pid(view, pid, |process, system, to| {
                    let kill = Signal::Kill {
                        from: process.pid(),
                    };
                    let _ = process.send_signal(system, to, kill);
                }))
            })
        },
    )?;
    Ok(())
}

fn define_relations(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "link",
        |mut caller: Caller<'_, FrameData>, pid: i32| {
            served(&mut caller, "link", |view| Ok(link(view, pid)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "unlink",
        |mut caller: Caller<'_, FrameData>, pid: i32| {
            served(&mut caller, "unlink", |view| {
                Ok(on_pid(view, pid, |process, system, to| {
                    process.unlink(system, to);
                }))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "monitor",
        |mut caller: Caller<'_, FrameData>, pid: i32, out: i32| {
            served(&mut caller, "monitor", |view| Ok(monitor(view, pid, out)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "monitor_name",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32, pid_out: i32, out: i32| {
            served(&mut caller, "monitor_name", |view| {
                Ok(monitor_name(view, name, length, pid_out, out))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "demonitor",
        |mut caller: Caller<'_, FrameData>, reference: i64, flags: i32| {
            served(&mut caller, "demonitor", |view| {
                Ok(demonitor(view, reference.cast_unsigned(), flags))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "trap_exit",
        |mut caller: Caller<'_, FrameData>, on: i32| {
            let view = view(&mut caller, "trap_exit")?;
            let before = view.process.set_trap_exit(on != 0);
            on_rollback(view.process, &view.host.system, move |process, _| {
                process.set_trap_exit(before);
            });
            Ok(i32::from(before))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "set_priority",
        |mut caller: Caller<'_, FrameData>, priority: i32| {
            served(&mut caller, "set_priority", |view| {
                Ok(set_priority(view, priority))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "self",
        |mut caller: Caller<'_, FrameData>, out: i32| {
            served(&mut caller, "self", |view| {
                let pid = view.process.pid();
                Ok(view.write(out, &pid.to_bytes()).map(|()| 0))
            })
        },
    )?;
    Ok(())
}

fn define_names(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "register",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32, pid: i32| {
            served(&mut caller, "register", |view| {
                Ok(register(view, name, length, pid))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "unregister",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32| {
            served(&mut caller, "unregister", |view| {
                Ok(unregister(view, name, length))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "whereis",
        |mut caller: Caller<'_, FrameData>, name: i32, length: i32, out: i32| {
            served(&mut caller, "whereis", |view| {
                Ok(whereis(view, name, length, out))
            })
        },
    )?;
    Ok(())
}

/// The arguments of `spawn`, as pointers.
struct RequestedLimits {
    module: (i32, i32),
    arguments: (i32, i32),
    options: i32,
    pid_out: i32,
    reference_out: i32,
}

/// The options of `spawn`, read from guest memory.
struct Options {
    flags: u32,
    limits: Arc<Limits>,
    timeout_ms: u32,
}

fn options(view: &View<'_>, pointer: i32) -> Result<Options, Code> {
    let parent = view.process.limits();
    if pointer == 0 {
        return Ok(Options {
            flags: 0,
            limits: parent.clone(),
            timeout_ms: START_TIMEOUT_MS,
        });
    }
    let size = view.read(pointer, 4)?;
    let size = u32::from_le_bytes(size.try_into().map_err(|_| Code::BadPointer)?);
    if !(spawn::OPTIONS_SIZE..=spawn::OPTIONS_MOST).contains(&size) {
        return Err(Code::BadArgument);
    }
    let bytes = view.read(pointer, size.cast_signed())?;
    let (bytes, later) = bytes.split_at(bytes.len().min(spawn::OPTIONS_KNOWN as usize));
    // Fields of a later version: their effect is not known here.
    if later.iter().any(|byte| *byte != 0) {
        return Err(Code::BadArgument);
    }
    // A field that the guest leaves out (0) has its parent's value.
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map_or(0, u32::from_le_bytes)
    };
    // Likewise the reserved field.
    if word(68) != 0 {
        return Err(Code::BadArgument);
    }
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let flags = word(4);
    if flags & !(spawn::LINK | spawn::MONITOR | spawn::SYNC) != 0 {
        return Err(Code::BadArgument);
    }
    let or_parents = |wanted: u64, parents: u64| if wanted == 0 { parents } else { wanted };
    let or_parents_32 = |wanted: u32, parents: u32| if wanted == 0 { parents } else { wanted };
    let wanted = Limits {
        memory: or_parents(long(8), parent.memory),
        mailbox_bytes: or_parents(long(16), parent.mailbox_bytes),
        mailbox_messages: or_parents_32(word(24), parent.mailbox_messages),
        message_bytes: or_parents_32(word(28), parent.message_bytes),
        children: or_parents_32(word(32), parent.children),
        descendants: or_parents_32(word(64), parent.descendants),
        tables: or_parents(long(40), parent.tables),
        priority: match word(48) {
            0 => parent.priority,
            priority => Priority::new(priority).ok_or(Code::BadArgument)?,
        },
        files: or_parents_32(word(52), parent.files),
        grants: match word(60) {
            0 => parent.grants.clone(),
            length => Arc::new(grants(view, word(56), length)?),
        },
    }
    .at_most(parent);
    Ok(Options {
        flags,
        limits: if wanted == **parent {
            parent.clone()
        } else {
            Arc::new(wanted)
        },
        timeout_ms: match word(36) {
            0 => START_TIMEOUT_MS,
            timeout => timeout,
        },
    })
}

/// Reads the grants of a child from MessagePack at `pointer`. Returns [`Code::Limit`] if the parent
/// does not have them itself.
fn grants(view: &View<'_>, pointer: u32, length: u32) -> Result<Grants, Code> {
    if length > limits::GRANTS {
        return Err(Code::Limit);
    }
    let text = view.read(pointer.cast_signed(), length.cast_signed())?;
    let process = &*view.process;
    let refused = |why: String, code| {
        let (module, pid) = (module_of(process), process.pid());
        tracing::error!(module = %module, %pid, "`spawn` was refused: {why}");
        code
    };
    let services = view.host.services.get().ok_or(Code::BadArgument)?;
    let wanted = (services.grants(text))
        .map_err(|why| refused(format!("grants of its child: {why}"), Code::BadArgument))?;
    (view.process.limits().grants.granting(&wanted))
        .map_err(|why| refused(why.to_string(), Code::Limit))
}

fn begin_spawn(view: &mut View<'_>, wanted: &RequestedLimits) -> Answer {
    let options = options(view, wanted.options)?;
    let arguments = view.payload(wanted.arguments.0, wanted.arguments.1)?;
    let mut charge = None;
    if arguments.len() > limits::ARGUMENTS_FREE as usize {
        let bytes = arguments.len() as u64;
        let system = &view.host.system;
        let charged = view.process.charge_arguments(system, bytes);
        charge = Some(charged.ok_or(Code::Limit)?);
    }
    view.check(wanted.pid_out, Pid::SIZE as u32)?;
    let monitors = options.flags & spawn::MONITOR != 0;
    if monitors {
        view.check(wanted.reference_out, 8)?;
    }
    let guest = if wanted.module.1 == 0 {
        let process = view.process.guest().ok_or(Code::NoModule)?;
        let name = process.version.module.clone();
        view.host.new_process(&name)
    } else {
        let name = text(view, wanted.module.0, wanted.module.1)?;
        view.host.new_process(name)
    };
    let guest = guest.ok_or(Code::NoModule)?;
    let begins_with = guest.version.version().artifact.memory_bytes();
    if begins_with > options.limits.memory {
        // The limiter would notice only when it grows. LIMIT alone would not say why.
        tracing::error!(
            module = %module_of(view.process),
            pid = %view.process.pid(),
            "`spawn` was refused: the limit of its child is {} bytes of memory, but a process of the module `{}` starts with {begins_with}",
            options.limits.memory,
            guest.version.module,
        );
        return Err(Code::Limit);
    }
    let sync = options.flags & spawn::SYNC != 0;
    let linked = options.flags & spawn::LINK != 0;
    if linked {
        view.may_link(None)?;
    }
    if monitors || sync {
        view.may_monitor(usize::from(monitors) + usize::from(sync))?;
    }
    if sync {
        view.may_wait()?;
        view.close();
    }
    let monitor = monitors.then(|| view.process.new_reference());
    let starter = sync.then(|| view.process.new_reference());
    let child = start_child(
        view,
        SpawnSpec {
            body: Body::Guest(guest),
            limits: options.limits,
            arguments,
            charge,
            parent: view.process.pid(),
            link: linked,
            monitor,
            starter,
            counted: None,
            pinned_to: None,
        },
    )?;
    view.write(wanted.pid_out, &child.to_bytes())?;
    if let Some(reference) = monitor {
        view.write(wanted.reference_out, &reference.to_le_bytes())?;
    }
    match starter {
        None => Ok(Code::Ok as i32),
        Some(reference) => {
            let timeout = i64::from(options.timeout_ms);
            Ok(view.wait(WaitReason::Reply { reference }, timeout, false))
        }
    }
}

/// Reserves a pid and starts the child, at once or when the open transaction commits.
fn start_child(view: &mut View<'_>, mut spec: SpawnSpec<crate::Guest>) -> Result<Pid, Code> {
    let most = view.process.limits().children;
    let counted = view.process.children().admit(most).ok_or(Code::Limit)?;
    spec.counted = Some(counted);
    let system = &view.host.system;
    let reserved = system.reserve_for(Requester::Guest, &spec.limits);
    let reserved = reserved.map_err(|SpawnError::TableFull| Code::Limit)?;
    let references: Vec<u64> = spec.monitor.into_iter().chain(spec.starter).collect();
    let linked = spec.link;
    view.promise(usize::from(linked), references.len());
    let system = &view.host.system;
    defer_or(
        view.process,
        system,
        move |process, system| {
            process.add_child(reserved, linked, &references);
            system.start(reserved, spec);
        },
        move |_, system| system.abandon(reserved),
    );
    Ok(reserved)
}

/// Continues a synchronous start: checks whether the child has acknowledged it.
fn go_on_starting(view: &mut View<'_>, pid_out: i32) -> wasmtime::Result<Answer> {
    let timed_out = view.timed_out();
    drain(view)?;
    let Some(WaitReason::Reply { reference }) = view.waiting().map(|wait| wait.reason) else {
        return Ok(Err(Code::BadArgument));
    };
    if let Some(position) = view.process.position(receive::REFERENCE, reference) {
        view.end_wait();
        let started = view
            .process
            .take(position)
            .is_some_and(|message| message.kind == Kind::Reply && message.tag == 0);
        return Ok(if started {
            Ok(Code::Ok as i32)
        } else {
            Err(Code::StartFailed)
        });
    }
    if timed_out {
        view.end_wait();
        view.give_up(reference);
        // A late start counts as failed: the child must not live on unnoticed.
        if let Ok(child) = view.pid(pid_out) {
            let from = view.process.pid();
            let _ = view.host.system.signal(child, Signal::Kill { from });
        }
        return Ok(Err(Code::StartFailed));
    }
    Ok(view.suspend(WaitReason::Reply { reference }, -1, false))
}

fn start_supervisor(view: &mut View<'_>, specification: i32, length: i32, pid_out: i32) -> Answer {
    let bytes = view.read(specification, length)?;
    view.check(pid_out, Pid::SIZE as u32)?;
    let services = view.host.services.get().ok_or(Code::Denied)?;
    let native = services.supervisor(bytes, view.process.limits()).map_err(|why| {
        tracing::error!(module = %module_of(view.process), pid = %view.process.pid(), "a supervisor's specification was refused: {why}");
        Code::BadArgument
    })?;
    view.may_link(None)?;
    view.may_monitor(1)?;
    view.may_wait()?;
    view.close();
    let reference = view.process.new_reference();
    let pid = start_child(
        view,
        SpawnSpec {
            body: Body::Native(Some(native)),
            limits: view.process.limits().clone(),
            arguments: Payload::empty(),
            charge: None,
            parent: view.process.pid(),
            link: true,
            monitor: None,
            starter: Some(reference),
            counted: None,
            pinned_to: None,
        },
    )?;
    view.write(pid_out, &pid.to_bytes())?;
    Ok(view.wait(WaitReason::Reply { reference }, -1, false))
}

fn init_ack(view: &mut View<'_>, status: i32, data: i32, length: i32) -> Answer {
    if status != 0 && status < Reason::GUEST {
        return Err(Code::BadArgument);
    }
    let detail = view.payload(data, length)?;
    defer(view.process, &view.host.system, move |process, system| {
        if process.acknowledge(system, status.cast_unsigned(), detail.clone()) && status != 0 {
            // A failed start ends the process, whatever it does next.
            let exit = Signal::Exit {
                from: process.pid(),
                reason: ExitReason::with(status, detail.as_slice()),
                linked: false,
            };
            process.set_trap_exit(false);
            let _ = system.signal(process.pid(), exit);
        }
    });
    Ok(Code::Ok as i32)
}

/// Returns whether a guest may end a process with this code.
fn is_guests(code: i32) -> bool {
    code == Reason::NORMAL.0 || code == Reason::SHUTDOWN.0 || code >= Reason::GUEST
}

fn exit_process(view: &mut View<'_>, pid: i32, code: i32, data: i32, length: i32) -> Answer {
    if !is_guests(code) {
        return Err(Code::BadArgument);
    }
    let reason = ExitReason::with(code, view.read(data, length)?);
    view.pid(pid)?;
    let bytes = reason.bytes().len();
    let charge = view.charge((bytes + size_of::<Envelope>()) as u64)?;
    view.debt.copied(bytes);
    on_pid(view, pid, move |process, system, to| {
        let exit = Signal::Exit {
            from: process.pid(),
            reason,
            linked: false,
        };
        let _ = process.send_charged(system, to, exit, charge);
    })
}

/// Defers an effect on the process that a pointer names.
fn on_pid(
    view: &mut View<'_>,
    pid: i32,
    effect: impl FnOnce(&mut GuestProcess, &GuestSystem, Pid) + Send + 'static,
) -> Answer {
    let to = view.pid(pid)?;
    defer(view.process, &view.host.system, move |process, system| {
        effect(process, system, to)
    });
    view.told(to);
    Ok(Code::Ok as i32)
}

fn link(view: &mut View<'_>, pid: i32) -> Answer {
    let to = view.pid(pid)?;
    view.may_link(Some(to))?;
    if to != view.process.pid() && !view.host.system.may_be_linked(to) {
        return Err(Code::Limit);
    }
    view.promise(1, 0);
    on_pid(view, pid, |process, system, to| process.link(system, to))
}

fn monitor(view: &mut View<'_>, pid: i32, out: i32) -> Answer {
    let to = view.pid(pid)?;
    view.check(out, 8)?;
    monitor_it(view, to, out)
}

fn monitor_name(view: &mut View<'_>, name: i32, length: i32, pid_out: i32, out: i32) -> Answer {
    view.check(pid_out, Pid::SIZE as u32)?;
    view.check(out, 8)?;
    let name = registered(view, name, length)?;
    // If no process has the name, the DOWN arrives at once.
    let to = view.host.system.names.find(name).unwrap_or(Pid::NONE);
    let answer = monitor_it(view, to, out)?;
    view.write(pid_out, &to.to_bytes())?;
    Ok(answer)
}

fn monitor_it(view: &mut View<'_>, to: Pid, out: i32) -> Answer {
    view.may_monitor(1)?;
    view.promise(0, 1);
    let reference = view.process.new_reference();
    defer(view.process, &view.host.system, move |process, system| {
        process.monitor(system, to, reference)
    });
    view.told(to);
    view.write(out, &reference.to_le_bytes())?;
    Ok(Code::Ok as i32)
}

fn set_priority(view: &mut View<'_>, priority: i32) -> Answer {
    let wanted = Priority::new(priority.cast_unsigned()).ok_or(Code::BadArgument)?;
    if wanted > view.process.limits().priority {
        return Err(Code::Denied);
    }
    let system = &view.host.system;
    let before = system.set_priority(view.process.pid(), wanted);
    on_rollback(view.process, system, move |process, system| {
        // Its limit may be lower by then.
        system.set_priority(process.pid(), before.min(process.limits().priority));
    });
    Ok(before as i32)
}

fn demonitor(view: &mut View<'_>, reference: u64, flags: i32) -> Answer {
    if flags & !demonitor::FLUSH != 0 {
        return Err(Code::BadArgument);
    }
    let flush = flags & demonitor::FLUSH != 0;
    let to = view.process.monitored(reference);
    defer(view.process, &view.host.system, move |process, system| {
        process.demonitor(system, reference, flush)
    });
    view.told(to.unwrap_or(Pid::NONE));
    Ok(Code::Ok as i32)
}

fn whereis(view: &mut View<'_>, name: i32, length: i32, out: i32) -> Answer {
    view.check(out, Pid::SIZE as u32)?;
    let name = registered(view, name, length)?;
    let found = view.host.system.names.find(name).ok_or(Code::NoProc)?;
    view.write(out, &found.to_bytes())?;
    Ok(Code::Ok as i32)
}

fn register(view: &mut View<'_>, name: i32, length: i32, pid: i32) -> Answer {
    let pid = view.pid(pid)?;
    let name = registered(view, name, length)?.to_owned();
    let system = &view.host.system;
    let registration = match system.register_undoably(&name, pid) {
        Ok(registration) => registration,
        Err(NameError::Taken) => return Err(Code::NameTaken),
        Err(NameError::Invalid) => return Err(Code::BadArgument),
        Err(NameError::Dead) => return Err(Code::NoProc),
        Err(NameError::TooMany) => return Err(Code::Limit),
    };
    if let Some(registration) = registration {
        on_rollback(view.process, system, move |_, system| {
            system.names.undo(&name, registration);
        });
    }
    Ok(Code::Ok as i32)
}

fn unregister(view: &mut View<'_>, name: i32, length: i32) -> Answer {
    let name = registered(view, name, length)?.to_owned();
    let system = &view.host.system;
    let registration = system.names.take(&name).ok_or(Code::NoProc)?;
    on_rollback(view.process, system, move |_, system| {
        system.undo_unregister(&name, registration);
    });
    Ok(Code::Ok as i32)
}
