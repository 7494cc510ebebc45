//! How an instance is brought to the base of its version, and the runs of guest code that belong to
//! no process: initialization, `save` and `load`.

use std::sync::Arc;

use exuvia_abi::exports;
use exuvia_image::Base;
use exuvia_instrument::{
    EXPORT_ENTER, EXPORT_HOST, EXPORT_MAIL, EXPORT_REDUCTIONS, EXPORT_START, SLICE, SLOT_WAIT,
    SLOT_WASI_BEGIN, SLOT_WASI_END, SLOT_YIELD,
};
use wasmtime::{Func, Global, Instance, Memory, Ref, Store, Table, TypedFunc, Val};

use crate::frames::capacity::is_out_of_resources;
use crate::frames::frame::{Failed, InitialState};
use crate::host_calls::{self, Pause};
use crate::instance::backtrace;
use crate::instance::store::{FrameData, Mode, Restricted};
use crate::module::info::Plan;
use crate::module::stack_policy::Stack;

/// What a frame is made from.
pub(crate) struct Setup {
    pub(crate) plan: Arc<Plan>,
    /// The base to start from; `None`: take one.
    pub(crate) base: Option<Arc<Base>>,
    /// Whether the base includes the effects of initialization.
    pub(crate) initialize: bool,
    pub(crate) memory_limit: u64,
}

/// Maximum reductions of each function of the initialization.
pub(crate) const INITIALIZATION_REDUCTIONS: u64 = 200_000_000;
/// Maximum reductions of `save` or `load`, or of a function that returns a constant.
pub(crate) const CROSSING_REDUCTIONS: u64 = 20_000_000;

/// Initialization in order: the exports, and how messages call them.
pub(crate) const INITIALIZATION: [(&str, &str); 3] = [
    (EXPORT_START, "the start function"),
    (exports::INITIALIZE, "`_initialize`"),
    (exports::WARM_UP, WARM_UP),
];
/// How messages call [`exports::WARM_UP`].
pub(crate) const WARM_UP: &str = "`warm_up`";

/// The handles of an instance.
pub(crate) struct Handles {
    pub(crate) memory: Memory,
    pub(crate) reductions: Global,
    /// Enters `run` with a whole slice and the number of known messages. Returns what `run`
    /// returned, and the rest of the last slice.
    pub(crate) enter: TypedFunc<i32, (i32, i32)>,
    /// `save` and `load`, if they are exported: looked up once, not at each upgrade.
    pub(crate) save: Option<TypedFunc<(), i32>>,
    pub(crate) load: Option<TypedFunc<(i32, i32), i32>>,
    pub(crate) globals: Vec<Global>,
    pub(crate) stack_pointer: Option<Global>,
    pub(crate) instance: Instance,
}

pub(crate) async fn set_up(
    store: &mut Store<FrameData>,
    setup: &Setup,
) -> Result<(Handles, Option<InitialState>), Failed> {
    let plan = &setup.plan;
    let failed = |stage| {
        move |error: wasmtime::Error| Failed {
            stage,
            reason: format!("{error:#}"),
            no_room: is_out_of_resources(&error),
        }
    };
    store.data_mut().limiter.bytes = setup.memory_limit;
    store.limiter(|data| &mut data.limiter);
    // This runs no guest code: the instrumentation has removed the start function.
    let instance = match plan.analysis.uses_wasi() {
        true => plan.pre.instantiate_async(&mut *store).await,
        false => plan.pre.instantiate(&mut *store),
    };
    let instance = instance.map_err(failed("instantiation"))?;
    let handles = handles(store, instance, plan).map_err(failed("instantiation"))?;
    if store.data().stack == Stack::Fiber {
        (take_stack(store).await).map_err(failed("instantiation"))?;
    }
    if let Some(base) = &setup.base {
        // Only what initialization did outside of memory and globals must be repeated, and in a
        // module that is not resident-only, only the start function can have done such a thing.
        // The rest is copied.
        let exports = if plan.analysis.resident_only.is_empty() {
            &INITIALIZATION[..1]
        } else {
            &INITIALIZATION[..]
        };
        if setup.initialize {
            initialize(store, &instance, plan, exports).await?;
        }
        to_base(store, &handles, base).map_err(failed("instantiation"))?;
        return Ok((handles, None));
    }
    let impure = initialize(store, &instance, plan, &INITIALIZATION).await?;
    if impure {
        // Initialization runs for each process, so the base is the state before it: that of an
        // untouched instance.
        let untouched = plan.pre.instantiate_async(&mut *store).await;
        let untouched = untouched.map_err(failed("instantiation"))?;
        let handles = self::handles(store, untouched, plan).map_err(failed("instantiation"))?;
        let taken = take_base(store, &handles, 0, true, plan).await?;
        return Ok((handles, Some(taken)));
    }
    let dead = handles
        .stack_pointer
        .and_then(|pointer| pointer.get(&mut *store).i32())
        .map_or(0, |top| top.cast_unsigned() as usize);
    let taken = take_base(store, &handles, dead, false, plan).await?;
    Ok((handles, Some(taken)))
}

/// Makes the store allocate the stack that it keeps for all calls. Otherwise the first process
/// would wait for it, and exit if the system had no memory for one.
pub(crate) async fn take_stack(store: &mut Store<FrameData>) -> wasmtime::Result<()> {
    let nothing = Func::wrap(&mut *store, || {});
    let nothing = nothing.typed::<(), ()>(&*store)?;
    nothing.call_async(store, ()).await
}

/// Brings a new instance to the base.
fn to_base(store: &mut Store<FrameData>, handles: &Handles, base: &Base) -> wasmtime::Result<()> {
    let has = handles.memory.size(&*store);
    let wants = u64::from(base.memory_pages);
    if wants > has {
        handles.memory.grow(&mut *store, wants - has)?;
    }
    base.map(handles.memory.data_mut(&mut *store))?;
    for (global, value) in handles.globals.iter().zip(&base.globals) {
        set_bits(global, store, *value);
    }
    Ok(())
}

async fn take_base(
    store: &mut Store<FrameData>,
    handles: &Handles,
    dead: usize,
    impure: bool,
    plan: &Plan,
) -> Result<InitialState, Failed> {
    let abi = constant(store, &handles.instance, exports::ABI, plan).await?;
    let schema = constant(store, &handles.instance, exports::SCHEMA, plan).await?;
    let globals = handles
        .globals
        .iter()
        .map(|global| to_bits(&global.get(&mut *store)))
        .collect();
    let pages = u32::try_from(handles.memory.size(&*store)).unwrap_or(u32::MAX);
    let mut written = Vec::new();
    let memory = handles.memory.data(&*store);
    plan.page_map.dirty(memory, &mut written);
    let base = Base::take(memory, 0..dead, globals, pages, written);
    Ok(InitialState {
        base,
        impure,
        abi,
        schema: schema.unwrap_or(0),
    })
}

/// Returns the value of an exported constant: an immutable global, or a function without parameters
/// for languages that cannot export such a global.
async fn constant(
    store: &mut Store<FrameData>,
    instance: &Instance,
    name: &'static str,
    plan: &Plan,
) -> Result<Option<i32>, Failed> {
    if let Some(global) = instance.get_global(&mut *store, name) {
        return Ok(global.get(&mut *store).i32());
    }
    let Some(function) = function::<(), i32>(store, instance, name) else {
        return Ok(None);
    };
    let (value, _) = restricted(
        store,
        name,
        CROSSING_REDUCTIONS,
        None,
        plan,
        async |store| call(&function, store, ()).await,
    )
    .await;
    value.map(Some).map_err(|reason| Failed {
        stage: name,
        reason,
        no_room: false,
    })
}

fn handles(
    store: &mut Store<FrameData>,
    instance: Instance,
    plan: &Plan,
) -> wasmtime::Result<Handles> {
    let missing = |name: &str| wasmtime::Error::msg(format!("the export `{name}` is missing"));
    let memory = instance
        .get_memory(&mut *store, exports::MEMORY)
        .ok_or_else(|| missing(exports::MEMORY))?;
    let reductions = instance
        .get_global(&mut *store, EXPORT_REDUCTIONS)
        .ok_or_else(|| missing(EXPORT_REDUCTIONS))?;
    let mail = instance
        .get_global(&mut *store, EXPORT_MAIL)
        .ok_or_else(|| missing(EXPORT_MAIL))?;
    let host = instance
        .get_table(&mut *store, EXPORT_HOST)
        .ok_or_else(|| missing(EXPORT_HOST))?;
    set_pauses(store, &host)?;
    let enter = instance.get_typed_func::<i32, (i32, i32)>(&mut *store, EXPORT_ENTER)?;
    let save = function(store, &instance, exports::SAVE);
    let load = function(store, &instance, exports::LOAD);
    let mut globals = Vec::new();
    for global in &plan.analysis.mutable_globals {
        let handle = instance
            .get_global(&mut *store, &global.export)
            .ok_or_else(|| missing(&global.export))?;
        globals.push(handle);
    }
    let stack_pointer = plan
        .analysis
        .stack_pointer
        .as_ref()
        .filter(|pointer| pointer.stack_first)
        .and_then(|pointer| instance.get_global(&mut *store, &pointer.export));
    store.data_mut().memory = Some(memory);
    store.data_mut().reductions = Some(reductions);
    store.data_mut().mail = Some(mail);
    Ok(Handles {
        memory,
        reductions,
        enter,
        save,
        load,
        globals,
        stack_pointer,
        instance,
    })
}

/// Sets the functions by which the guest is suspended on the kind of stack that it runs on.
fn set_pauses(store: &mut Store<FrameData>, host: &Table) -> wasmtime::Result<()> {
    for (slot, why) in [(SLOT_YIELD, Pause::Yield), (SLOT_WAIT, Pause::Wait)] {
        let pause = host_calls::pause_function(store, why);
        host.set(&mut *store, u64::from(slot), Ref::Func(Some(pause)))?;
    }
    if host.size(&*store) > u64::from(SLOT_WASI_END) {
        let (before, after) = host_calls::wasi::around(store);
        for (slot, function) in [(SLOT_WASI_BEGIN, before), (SLOT_WASI_END, after)] {
            host.set(&mut *store, u64::from(slot), Ref::Func(Some(function)))?;
        }
    }
    Ok(())
}

/// Moves a guest that has run on threads' stacks to fibers, permanently.
pub(crate) async fn use_fibers(
    store: &mut Store<FrameData>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let host = instance
        .get_table(&mut *store, EXPORT_HOST)
        .ok_or_else(|| wasmtime::Error::msg("its table of host functions is missing"))?;
    take_stack(store).await?;
    store.data_mut().stack = Stack::Fiber;
    set_pauses(store, &host)
}

/// Calls a function of the guest that is never suspended.
pub(crate) async fn call<P, R>(
    function: &TypedFunc<P, R>,
    store: &mut Store<FrameData>,
    parameters: P,
) -> wasmtime::Result<R>
where
    P: wasmtime::WasmParams + Sync,
    R: wasmtime::WasmResults + Sync,
{
    match store.data().stack {
        Stack::Thread => function.call(store, parameters),
        Stack::Fiber => function.call_async(store, parameters).await,
    }
}

/// Returns an exported function, if there is one. Asking for its type directly would create an
/// error, with a backtrace, for each missing export.
fn function<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
    store: &mut Store<FrameData>,
    instance: &Instance,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_func(&mut *store, name)?.typed(&*store).ok()
}

/// Runs start, `_initialize` and `warm_up`. Returns whether they asked for what differs between
/// processes.
pub(crate) async fn initialize(
    store: &mut Store<FrameData>,
    instance: &Instance,
    plan: &Plan,
    exports: &[(&'static str, &'static str)],
) -> Result<bool, Failed> {
    let mut impure = false;
    for &(export, stage) in exports {
        let Some(function) = function::<(), ()>(store, instance, export) else {
            continue;
        };
        if impure && export == exuvia_abi::exports::WARM_UP {
            continue;
        }
        let (result, restricted) = restricted(
            store,
            stage,
            INITIALIZATION_REDUCTIONS,
            None,
            plan,
            async |store| call(&function, store, ()).await,
        )
        .await;
        result.map_err(|reason| Failed {
            stage,
            reason,
            no_room: false,
        })?;
        impure |= restricted.impure;
    }
    Ok(impure)
}

/// Runs guest code with nearly all host calls refused and a limit on its reductions. It is never
/// suspended.
pub(crate) async fn restricted<T>(
    store: &mut Store<FrameData>,
    what: &'static str,
    reductions: u64,
    state: Option<Vec<u8>>,
    plan: &Plan,
    call: impl AsyncFnOnce(&mut Store<FrameData>) -> wasmtime::Result<T>,
) -> (Result<T, String>, Restricted) {
    let data = store.data_mut();
    data.last_error = None;
    let given = data.wasi.is_some();
    // Not the limit of the process before: what a run may do here must not depend on which
    // process the frame served last.
    data.limiter.bytes = plan.memory;
    let before = std::mem::replace(
        &mut data.mode,
        Mode::Restricted(Restricted {
            what,
            limit: reductions,
            reductions,
            state,
            impure: false,
        }),
    );
    if let Some(counter) = data.reductions {
        let _ = set_reductions(&counter, &mut *store, SLICE);
    }
    let result = call(store).await;
    let data = store.data_mut();
    if !given {
        data.wasi = None;
    }
    let restricted = match std::mem::replace(&mut data.mode, before) {
        Mode::Restricted(restricted) => restricted,
        Mode::Run => Restricted {
            what,
            limit: reductions,
            reductions: 0,
            state: None,
            impure: false,
        },
    };
    let result = result.map_err(|error| {
        let said = data.last_error.take();
        backtrace::text(&error, plan, said)
    });
    (result, restricted)
}

pub(crate) fn set_reductions(
    counter: &Global,
    store: impl wasmtime::AsContextMut,
    value: i32,
) -> wasmtime::Result<()> {
    counter.set(store, Val::I32(value))
}

pub(crate) fn to_bits(value: &Val) -> u128 {
    match value {
        Val::I32(v) => u128::from(v.cast_unsigned()),
        Val::I64(v) => u128::from(v.cast_unsigned()),
        Val::F32(v) => u128::from(*v),
        Val::F64(v) => u128::from(*v),
        Val::V128(v) => v.as_u128(),
        // Reference globals make a module resident-only, so their values are never stored.
        _ => 0,
    }
}

pub(crate) fn set_bits(global: &Global, store: &mut Store<FrameData>, bits: u128) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bits were widened from a value of this very type"
    )]
    let value = match global.ty(&*store).content() {
        wasmtime::ValType::I32 => Val::I32((bits as u32).cast_signed()),
        wasmtime::ValType::I64 => Val::I64((bits as u64).cast_signed()),
        wasmtime::ValType::F32 => Val::F32(bits as u32),
        wasmtime::ValType::F64 => Val::F64(bits as u64),
        wasmtime::ValType::V128 => Val::V128(bits.into()),
        _ => return,
    };
    let _ = global.set(store, value);
}
