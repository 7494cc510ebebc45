//! How an instance is made and brought to the base of its version.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use exuvia_abi::exports;
use exuvia_image::Base;
use exuvia_instrument::{
    EXPORT_ENTER, EXPORT_HOST, EXPORT_MAIL, EXPORT_REDUCTIONS, SLOT_WAIT, SLOT_WASI_BEGIN,
    SLOT_WASI_END, SLOT_YIELD,
};
use wasmtime::{Func, Global, Instance, Memory, Ref, Store, Table, TypedFunc, Val};

use super::factory::{Factory, Imports, Pause};
use crate::error::panic_text;
use crate::instance::linear_memory::is_out_of_resources;
use crate::instance::restricted::{INITIALIZATION, constant, function, initialize};
use crate::instance::store::FrameData;
use crate::module::info::Plan;
use crate::module::stack_policy::Stack;

/// What the first frame of a version finds out.
pub(crate) struct InitialState {
    pub(crate) base: Base,
    /// The first call by which initialization asked for what differs between processes.
    pub(crate) impure: Option<&'static str>,
    pub(crate) abi: Option<i32>,
    pub(crate) schema: i32,
}

/// Which stage of the initialization failed, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) stage: &'static str,
    pub(crate) reason: String,
    /// The system is out of memory, mappings or addresses for it now.
    pub(crate) out_of_resources: bool,
}

/// What a frame is made from.
pub(crate) struct Setup {
    pub(crate) factory: Arc<Factory>,
    /// The base to start from; `None`: take one.
    pub(crate) base: Option<Arc<Base>>,
    /// Whether the base includes the effects of initialization.
    pub(crate) initialize: bool,
    pub(crate) memory_limit: u64,
    /// The most pages of the base that a packed memory copies instead of sharing them.
    pub(crate) copied_pages: usize,
}

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
    let factory = &setup.factory;
    let plan = &factory.plan;
    let failed = |stage| {
        move |error: wasmtime::Error| Failed {
            stage,
            reason: format!("{error:#}"),
            out_of_resources: is_out_of_resources(&error),
        }
    };
    store.data_mut().limiter.bytes = setup.memory_limit;
    store.limiter(|data| &mut data.limiter);
    // This runs no guest code: the instrumentation has removed the start function.
    let instance = match plan.analysis.has_async_imports() {
        true => factory.pre.instantiate_async(&mut *store).await,
        false => factory.pre.instantiate(&mut *store),
    };
    let instance = instance.map_err(failed("instantiation"))?;
    let handles = handles(store, instance, factory).map_err(failed("instantiation"))?;
    if store.data().stack == Stack::Fiber {
        (take_stack(store).await).map_err(failed("instantiation"))?;
    }
    // A base has it already; only code that runs again may look at it.
    if setup.base.is_none() || setup.initialize && repeats(plan) {
        fill(store, &handles.memory, plan).map_err(failed("instantiation"))?;
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
        to_base(store, &handles, base, setup).map_err(failed("instantiation"))?;
        return Ok((handles, None));
    }
    let impure = initialize(store, &instance, plan, &INITIALIZATION).await?;
    let (handles, base, (abi, schema)) = if impure.is_some() {
        let constants = constants(store, &instance, plan).await?;
        // Initialization runs for each process, so the base is the state before it: that of an
        // untouched instance.
        let untouched = factory.pre.instantiate_async(&mut *store).await;
        let untouched = untouched.map_err(failed("instantiation"))?;
        let handles = self::handles(store, untouched, factory).map_err(failed("instantiation"))?;
        fill(store, &handles.memory, plan).map_err(failed("instantiation"))?;
        let base = take_base(store, &handles, 0, plan);
        (handles, base, constants)
    } else {
        let dead = handles
            .stack_pointer
            .and_then(|pointer| pointer.get(&mut *store).i32())
            .map_or(0, |top| top.cast_unsigned() as usize);
        let base = take_base(store, &handles, dead, plan);
        // Only now: a function may change its memory.
        (handles, base, constants(store, &instance, plan).await?)
    };
    let taken = InitialState {
        base,
        impure,
        abi,
        schema: schema.unwrap_or(0),
    };
    Ok((handles, Some(taken)))
}

/// Returns whether something of the initialization is done again in each frame.
pub(crate) fn repeats(plan: &Plan) -> bool {
    plan.analysis.start.is_some() || !plan.analysis.resident_only.is_empty()
}

/// Copies what the memory of a new instance contains.
fn fill(store: &mut Store<FrameData>, memory: &Memory, plan: &Plan) -> wasmtime::Result<()> {
    for (at, bytes) in &plan.analysis.contents {
        memory.write(&mut *store, *at as usize, bytes)?;
    }
    Ok(())
}

/// Returns the version of the ABI and the schema number that an initialized module states.
async fn constants(
    store: &mut Store<FrameData>,
    instance: &Instance,
    plan: &Plan,
) -> Result<(Option<i32>, Option<i32>), Failed> {
    let abi = constant(store, instance, exports::ABI, plan).await?;
    let schema = constant(store, instance, exports::SCHEMA, plan).await?;
    Ok((abi, schema))
}

/// Makes the first instance of a version and takes the version's base from it.
pub(crate) fn first_instance(
    factory: Arc<Factory>,
    memory_limit: u64,
) -> Result<InitialState, Failed> {
    let setup = Setup {
        factory,
        base: None,
        initialize: true,
        memory_limit,
        copied_pages: 0,
    };
    let mut store = Store::new(setup.factory.engine(), FrameData::new(None, Stack::Fiber));
    let failed = |reason| Failed {
        stage: "initialization",
        reason,
        out_of_resources: false,
    };
    let (_, taken) = at_once(set_up(&mut store, &setup)).map_err(failed)??;
    taken.ok_or_else(|| failed("no base was taken".into()))
}

/// The most steps in which wasmtime collects a heap of [`EXCEPTIONS`](super::linear_memory::EXCEPTIONS) bytes on a fiber. Between
/// two of them the future is pending, so that an executor could do something else.
pub(crate) const COLLECTION_STEPS: usize = 10_000;

/// Returns the result of a future that never has to wait.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..COLLECTION_STEPS {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(result)) => return Ok(result),
            Ok(Poll::Pending) => {}
            Err(panic) => return Err(format!("the host failed: {}", panic_text(&*panic))),
        }
    }
    Err("it waited where waiting is not allowed".into())
}

/// Makes the store allocate the stack that it keeps for all calls. Otherwise the first process
/// would wait for it, and exit if the system had no memory for one.
pub(crate) async fn take_stack(store: &mut Store<FrameData>) -> wasmtime::Result<()> {
    let nothing = Func::wrap(&mut *store, || {});
    let nothing = nothing.typed::<(), ()>(&*store)?;
    nothing.call_async(store, ()).await
}

/// Brings a new instance to the base.
fn to_base(
    store: &mut Store<FrameData>,
    handles: &Handles,
    base: &Base,
    setup: &Setup,
) -> wasmtime::Result<()> {
    let plan = &setup.factory.plan;
    let has = handles.memory.size(&*store);
    let wants = u64::from(base.memory_pages);
    if wants > has {
        handles.memory.grow(&mut *store, wants - has)?;
    }
    let extent = (plan.memories.extent(handles.memory.data_ptr(&*store)))
        .ok_or_else(|| wasmtime::Error::msg("its memory is not one of this host"))?;
    let memory = handles.memory.data_mut(&mut *store);
    base.map(memory, &extent, setup.copied_pages)?;
    for (global, value) in handles.globals.iter().zip(&base.globals) {
        set_bits(global, store, *value);
    }
    Ok(())
}

fn take_base(store: &mut Store<FrameData>, handles: &Handles, dead: usize, plan: &Plan) -> Base {
    let globals = handles
        .globals
        .iter()
        .map(|global| to_bits(&global.get(&mut *store)))
        .collect();
    let pages = u32::try_from(handles.memory.size(&*store)).unwrap_or(u32::MAX);
    let mut written = Vec::new();
    let memory = handles.memory.data(&*store);
    plan.page_map.dirty(memory, &mut written);
    Base::take(memory, 0..dead, globals, pages, written)
}

fn handles(
    store: &mut Store<FrameData>,
    instance: Instance,
    factory: &Factory,
) -> wasmtime::Result<Handles> {
    let plan = &factory.plan;
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
    set_pauses(store, &host, &factory.imports)?;
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
fn set_pauses(
    store: &mut Store<FrameData>,
    host: &Table,
    imports: &Imports,
) -> wasmtime::Result<()> {
    for (slot, why) in [(SLOT_YIELD, Pause::Yield), (SLOT_WAIT, Pause::Wait)] {
        let pause = (imports.pause)(store, why);
        host.set(&mut *store, u64::from(slot), Ref::Func(Some(pause)))?;
    }
    if host.size(&*store) > u64::from(SLOT_WASI_END) {
        let (before, after) = (imports.asynchronous.around)(store);
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
    imports: &Imports,
) -> wasmtime::Result<()> {
    let host = instance
        .get_table(&mut *store, EXPORT_HOST)
        .ok_or_else(|| wasmtime::Error::msg("its table of host functions is missing"))?;
    take_stack(store).await?;
    store.data_mut().stack = Stack::Fiber;
    set_pauses(store, &host, imports)
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
