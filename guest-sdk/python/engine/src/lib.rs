//! The engine: RustPython, the scripts of one actor, and the ABI between them.
//!
//! The build tool puts the scripts into the module's memory. `warm_up` starts the interpreter and runs them, so every
//! process begins from a heap in which that has been done; the export `exuvia_shared_start` makes it possible although an
//! interpreter asks for time and random bytes. What an actor is and how messages are taken is in the SDK (`../exuvia`), in
//! Python: here are the exports, MessagePack and the host calls.

mod codec;
mod heap;
mod host;
mod module;
mod payload;

use std::cell::UnsafeCell;

use exuvia_abi::ABI_VERSION;
use rustpython_vm::builtins::{PyBaseExceptionRef, PyStr};
use rustpython_vm::compiler::Mode;
use rustpython_vm::frozen::FrozenLib;
use rustpython_vm::function::IntoFuncArgs;
use rustpython_vm::{Interpreter, PyObjectRef, Settings, VirtualMachine};

const FROZEN: &FrozenLib = include!(concat!(env!("OUT_DIR"), "/frozen.rs"));
/// The script of the SDK that starts all others.
const BOOT: &str = "exuvia.boot";
/// Deeper recursion is a RecursionError: what the host's stack of a process has room for.
const RECURSION: usize = 400;

struct Python {
    interpreter: Interpreter,
    /// The namespace of `exuvia/boot.py`.
    boot: Option<PyObjectRef>,
    /// The SDK's module that takes messages.
    running: Option<PyObjectRef>,
}

struct Cell(UnsafeCell<Option<Python>>);

// SAFETY: the module has one thread.
unsafe impl Sync for Cell {}

static PYTHON: Cell = Cell(UnsafeCell::new(None));

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.hash_seed = Some(payload::hash_seed());
    settings.install_signal_handlers = false;
    settings.import_site = false;
    settings.write_bytecode = false;
    settings.isolated = true;
    settings.ignore_environment = true;
    // There are no files that could be imported.
    settings.allow_external_library = false;
    settings
}

fn python() -> &'static mut Python {
    // SAFETY: one thread; the exports are not called while one of them runs.
    let python = unsafe { &mut *PYTHON.0.get() };
    python.get_or_insert_with(|| {
        let builder = Interpreter::builder(settings());
        let library = rustpython_stdlib::stdlib_module_defs(&builder.ctx);
        let own = module::module_def(&builder.ctx);
        let interpreter = builder
            .add_native_modules(&library)
            .add_native_module(own)
            .add_frozen_modules(FROZEN)
            .build();
        Python {
            interpreter,
            boot: None,
            running: None,
        }
    })
}

/// The text of an exception, with its traceback.
fn describe(error: &PyBaseExceptionRef, vm: &VirtualMachine, boot: &Option<PyObjectRef>) -> String {
    let text = boot.as_ref().and_then(|boot| {
        let text = boot
            .get_item("describe", vm)
            .ok()?
            .call((error.clone(),), vm)
            .ok()?;
        Some(text.downcast_ref::<PyStr>()?.to_string_lossy().into_owned())
    });
    text.unwrap_or_else(|| {
        let mut text = String::new();
        let _ = vm.write_exception(&mut text, error);
        text
    })
}

/// Ends the process: what is printed is part of its reason. New code in probation is reverted.
fn die(text: &str) -> ! {
    eprintln!("{}", text.trim_end());
    core::arch::wasm32::unreachable()
}

/// The same where nobody sees what is printed: at the start of a module, and in `load`.
fn log_and_die(text: &str) -> ! {
    log_error(text);
    die(text)
}

fn log_error(text: &str) {
    // SAFETY: the text has this length.
    unsafe { host::log(exuvia_abi::log::ERROR, text.as_ptr(), text.len() as u32) };
}

/// The ABI's version.
#[unsafe(no_mangle)]
pub extern "C" fn exuvia_abi() -> i32 {
    ABI_VERSION
}

/// The start is the same for all processes.
#[unsafe(no_mangle)]
pub extern "C" fn exuvia_shared_start() {}

/// Calls a function of the SDK, which returns a number; `end` gets the text of an exception.
fn call(name: &str, arguments: impl IntoFuncArgs, end: fn(&str) -> !) -> i32 {
    let Python {
        interpreter,
        boot,
        running,
    } = python();
    interpreter.enter(|vm| {
        let result = match running {
            Some(running) => vm.call_method(running, name, arguments),
            None => {
                Err(vm.new_runtime_error("the interpreter was not started: warm_up was not called"))
            }
        };
        result
            .and_then(|result| result.try_into_value(vm))
            .unwrap_or_else(|error| end(&describe(&error, vm, boot)))
    })
}

/// The schema number of the actor's state.
#[unsafe(no_mangle)]
pub extern "C" fn exuvia_schema() -> i32 {
    call("schema", (), log_and_die)
}

/// Starts the interpreter, the SDK and the script.
#[unsafe(no_mangle)]
pub extern "C" fn warm_up() {
    let Python {
        interpreter,
        boot,
        running,
    } = python();
    interpreter.enter(|vm| {
        vm.recursion_limit.set(RECURSION);
        let found = payload::scripts().find(|(name, ..)| *name == BOOT);
        let Some((_, _, file, text)) = found else {
            log_and_die("the engine has no script: exuvia-py build puts it in");
        };
        let started = vm.compile(text, Mode::Exec, file.to_owned());
        let started = started
            .map_err(|error| vm.new_runtime_error(error.to_string()))
            .and_then(|code| {
                let scope = vm.new_scope_with_builtins();
                *boot = Some(scope.globals.clone().into());
                vm.run_code_obj(code, scope.clone())?;
                scope.globals.get_item("start", vm)?.call((), vm)
            });
        match started {
            Ok(module) => *running = Some(module),
            Err(error) => log_and_die(&describe(&error, vm, boot)),
        }
    });
}

/// Handles what is in the mailbox.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> i32 {
    call("run", (), die)
}

/// Saves the state.
#[unsafe(no_mangle)]
pub extern "C" fn save() -> i32 {
    call("save", (), log_and_die)
}

/// Loads a saved state.
#[unsafe(no_mangle)]
pub extern "C" fn load(from_schema: i32, length: i32) -> i32 {
    let mut bytes = vec![0u8; length as usize];
    // SAFETY: the buffer has this length.
    if unsafe { host::state_get(bytes.as_mut_ptr(), length as u32) } != length {
        log_error("the state has another length than was said");
        return 1;
    }
    call("load", (from_schema, bytes), log_and_die)
}
