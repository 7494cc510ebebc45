//! Host calls: the functions that guests import. Each family has its own file; this one has what
//! they share.
//!
//! A call that must wait is an ordinary, inexpensive host function. It stores in `Guest::wait` what
//! it waits for and returns SUSPEND. The shim around it (see `instrument`) then calls `wait`, which
//! suspends the guest. When the guest is resumed, the shim repeats the call with the same
//! arguments, and the call finds the stored wait.

pub(crate) mod charge;
mod groups;
mod info;
mod memory;
mod messages;
mod names;
pub(crate) mod pause;
mod relations;
mod services;
mod spawn;
mod state;
mod tables;
mod timers;
pub(crate) mod view;

use exuvia_abi::{Code, HostCall, MODULE, OPTIONAL_MODULE};
use exuvia_process::call::{CallError, CallResult};
use wasmtime::{Caller, Linker};

use self::charge::charge_call;
pub(crate) use self::memory::bytes;
pub(crate) use self::pause::pause_function;
pub use self::services::{HostCaller, HostServices};
use crate::instance::store::{FrameData, ProcessEnds};

/// Links the functions of `exuvia_abi::with_host_calls` to their decoders: the function of that
/// name in the module of the family. A call that the table marks as restricted gets a
/// [`view::RestrictedView`]; all others are refused in restricted runs.
macro_rules! link {
    ($(
        $name:literal $family:ident::$function:ident($($param:ident: $type:ident),*) -> $result:tt,
        $probation:ident, [$($flag:ident)*], $docs:literal;
    )*) => {
        /// Defines every host call of `exuvia_abi::HOST_CALLS`.
        pub(crate) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
            $({
                const CALL: &HostCall = HostCall::named($name);
                linker.func_wrap(
                    MODULE,
                    $name,
                    |mut caller: Caller<'_, FrameData>, $($param: $type),*| -> wasmtime::Result<$result> {
                        let mut view = enter!([$($flag)*] caller, CALL);
                        let returned = $family::$function(&mut view, $($param),*);
                        finish(&mut caller, returned)
                    },
                )?;
                linker.alias(MODULE, $name, OPTIONAL_MODULE, $name)?;
            })*
            Ok(())
        }
    };
}

macro_rules! enter {
    ([restricted $($flag:ident)*] $caller:ident, $call:ident) => {
        view::enter_restricted(&mut $caller, $call)?
    };
    ([$($flag:ident)*] $caller:ident, $call:ident) => {
        view::enter(&mut $caller, $call)?
    };
}

exuvia_abi::with_host_calls!(link);

/// The Wasm result of a host call.
trait Returned {
    /// Returns a code as this type.
    fn of(code: Code) -> Self;
}

impl Returned for i32 {
    fn of(code: Code) -> i32 {
        code as i32
    }
}

impl Returned for i64 {
    fn of(code: Code) -> i64 {
        i64::from(code as i32)
    }
}

impl Returned for () {
    fn of(_: Code) {}
}

/// Charges for a call, and returns its result to the guest or ends the process.
#[inline]
fn finish<T: Returned>(
    caller: &mut Caller<'_, FrameData>,
    returned: CallResult<T>,
) -> wasmtime::Result<T> {
    let returned = match returned {
        Ok(value) => value,
        Err(CallError::Code(code)) => T::of(code),
        Err(CallError::Ends(ending)) => {
            caller.data_mut().exit = Some(ending);
            return Err(wasmtime::Error::new(ProcessEnds));
        }
    };
    charge_call(caller)?;
    Ok(returned)
}
