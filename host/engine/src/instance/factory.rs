//! What the instances of a version are made with. It belongs to the version's frame pool, not to its
//! [`Plan`]: so what is known of a module does not know what a store holds.

use std::collections::HashMap;
use std::sync::Arc;

use exuvia_abi::{Code, HostCall, OPTIONAL_MODULE};
use exuvia_process::Grants;
use exuvia_process::resource::Resource;
use wasmtime::{Func, FuncType, InstancePre, Linker, Store, Val, ValType};

use super::store::FrameData;
use crate::host::Host;
use crate::module::info::Plan;

/// Why the guest calls to be suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The instrumented code ran out of reductions.
    Yield,
    /// A call returned SUSPEND.
    Wait,
}

/// The host functions that are linked into each instance. `resources` has them all, which is above
/// this layer.
#[derive(Clone, Copy)]
pub(crate) struct Imports {
    /// Defines every host call.
    pub(crate) define: fn(&mut Linker<FrameData>) -> wasmtime::Result<()>,
    /// Returns the function that suspends the guest on the kind of stack that the store is for.
    pub(crate) pause: fn(&mut Store<FrameData>, Pause) -> Func,
    /// What a module needs beside these if it imports functions that may wait for the system.
    pub(crate) asynchronous: AsyncImports,
}

/// What a module needs whose [`has_async_imports`](exuvia_instrument::Instrumented::has_async_imports) is true.
#[derive(Clone, Copy)]
pub(crate) struct AsyncImports {
    /// Returns the functions that are called before and after each of those functions.
    pub(crate) around: fn(&mut Store<FrameData>) -> (Func, Func),
    /// Calls a function, which polls a guest, in the runtime that they need while they wait.
    pub(crate) in_runtime: fn(&mut dyn FnMut()),
    /// Opens what a process of a module has for them, given its grants.
    pub(crate) open: fn(&str, &Grants, &Host) -> Opened,
}

/// The resource that was opened for a process, or why it could not be.
pub(crate) type Opened = Result<Box<dyn Resource>, String>;

impl Imports {
    /// Returns a linker that has every host call.
    pub(crate) fn linker(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Linker<FrameData>> {
        let mut linker = Linker::new(engine);
        (self.define)(&mut linker)?;
        Ok(linker)
    }
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Imports")
    }
}

/// Makes the instances of a version.
pub(crate) struct Factory {
    pub(crate) pre: InstancePre<FrameData>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) imports: Imports,
}

/// Returns the optional imports of a module that this host does not have.
fn lacking(plan: &Plan) -> HashMap<String, FuncType> {
    let optional = (plan.code.imports()).filter(|import| import.module() == OPTIONAL_MODULE);
    let lacking = optional.filter(|import| HostCall::find(import.name()).is_none());
    lacking
        .filter_map(|import| Some((import.name().to_owned(), import.ty().func()?.clone())))
        .collect()
}

/// Returns [`Code::NotSupported`] as a result of the function; it has one at most.
fn not_supported(ty: &FuncType) -> Option<Val> {
    let code = Code::NotSupported as i32;
    ty.results().next().map(|result| match result {
        ValType::I64 => Val::I64(code.into()),
        _ => Val::I32(code),
    })
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factory")
    }
}

impl Factory {
    /// Links a version's code to the host functions of a linker.
    pub(crate) fn new(
        linker: &Linker<FrameData>,
        plan: Arc<Plan>,
        imports: Imports,
    ) -> wasmtime::Result<Factory> {
        let lacking = lacking(&plan);
        let pre = if lacking.is_empty() {
            linker.instantiate_pre(&plan.code)?
        } else {
            let mut linker = linker.clone();
            for (name, ty) in lacking {
                let result = not_supported(&ty);
                linker.func_new(OPTIONAL_MODULE, &name, ty, move |_, _, results| {
                    results
                        .iter_mut()
                        .zip(result)
                        .for_each(|(to, code)| *to = code);
                    Ok(())
                })?;
            }
            linker.instantiate_pre(&plan.code)?
        };
        Ok(Factory { pre, plan, imports })
    }

    /// Returns the engine that has compiled the code.
    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.plan.code.engine()
    }
}
