//! Runs of guest code that belong to no process, with nearly all host calls refused and a limit on
//! their reductions: initialization, `save` and `load`, and functions that return a constant.

use exuvia_abi::exports;
use exuvia_instrument::{EXPORT_START, SLICE};
use exuvia_process::Grants;
use wasmtime::{Store, TypedFunc};

use super::Instance;
use crate::instance::backtrace;
use crate::instance::fixed::Fixed;
use crate::instance::setup::Failed;
use crate::instance::store::{FrameData, Mode, Restricted, forget_exception, set_reductions};
use crate::module::info::Plan;
use crate::module::stack_policy::Stack;

/// Maximum reductions of each function of the initialization.
pub(crate) const INITIALIZATION_REDUCTIONS: u64 = 200_000_000;
/// Maximum reductions of `save` or `load`, or of a function that returns a constant.
pub(crate) const UPGRADE_REDUCTIONS: u64 = 20_000_000;

/// Initialization in order: the exports, and how messages call them.
pub(crate) const INITIALIZATION: [(&str, &str); 3] = [
    (EXPORT_START, "the start function"),
    (exports::INITIALIZE, "`_initialize`"),
    (exports::WARM_UP, WARM_UP),
];
/// How messages call [`exports::WARM_UP`].
pub(crate) const WARM_UP: &str = "`warm_up`";

impl Instance {
    /// Calls `save` and returns the state.
    pub(crate) async fn call_save(&mut self) -> Result<Vec<u8>, String> {
        let save =
            (self.inside.handles.save.as_ref()).ok_or("the old version exports no `save`")?;
        let (result, restricted) = restricted(
            &mut self.store,
            "`save`",
            UPGRADE_REDUCTIONS,
            None,
            None,
            &self.inside.factory.plan,
            async |store| call(save, store, ()).await,
        )
        .await;
        match result? {
            0 => restricted
                .state
                .ok_or_else(|| "`save` returned 0 without calling `state_put`".into()),
            code => Err(format!("`save` returned {code}")),
        }
    }

    /// Calls `load` with a state of this schema.
    pub(crate) async fn call_load(&mut self, schema: i32, state: Vec<u8>) -> Result<(), String> {
        let load =
            (self.inside.handles.load.as_ref()).ok_or("the new version exports no `load`")?;
        let length = i32::try_from(state.len()).map_err(|_| "the state is too large")?;
        let (result, _) = restricted(
            &mut self.store,
            "`load`",
            UPGRADE_REDUCTIONS,
            Some(state),
            None,
            &self.inside.factory.plan,
            async |store| call(load, store, (schema, length)).await,
        )
        .await;
        let said = self.store.data_mut().last_error.take();
        match (result?, said) {
            (0, _) => Ok(()),
            (code, None) => Err(format!("`load` returned {code}")),
            (_, Some(said)) => Err(format!("`load` failed: {said}")),
        }
    }

    /// Runs the initialization of a process whose module runs it for each. It may ask for
    /// what the process is granted, but not open files.
    pub(crate) async fn initialize(&mut self, module: &str, grants: &Grants) -> Result<(), String> {
        let inside = &*self.inside;
        if inside.factory.plan.analysis.has_async_imports() {
            let open = inside.factory.imports.asynchronous.open;
            let data = self.store.data_mut();
            data.lent = match &data.host {
                Some(host) => Some(open(module, grants, host)?),
                None => None,
            };
        }
        let instance = &inside.handles.instance;
        let done = initialize(
            &mut self.store,
            instance,
            &inside.factory.plan,
            &INITIALIZATION,
        )
        .await;
        self.store.data_mut().lent = None;
        done.map(|_| ()).map_err(|failed| failed.reason)
    }
}

/// Returns the value of an exported constant: an immutable global, or a function without parameters
/// for languages that cannot export such a global. A runtime must have been initialized before it is
/// called.
pub(super) async fn constant(
    store: &mut Store<FrameData>,
    instance: &wasmtime::Instance,
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
        UPGRADE_REDUCTIONS,
        None,
        None,
        plan,
        async |store| call(&function, store, ()).await,
    )
    .await;
    value.map(Some).map_err(|reason| Failed {
        stage: name,
        reason,
        out_of_resources: false,
    })
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
pub(super) fn function<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
    store: &mut Store<FrameData>,
    instance: &wasmtime::Instance,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_func(&mut *store, name)?.typed(&*store).ok()
}

/// Runs start, `_initialize` and `warm_up`. Returns the first call by which they asked for what differs
/// between processes.
pub(crate) async fn initialize(
    store: &mut Store<FrameData>,
    instance: &wasmtime::Instance,
    plan: &Plan,
    exports: &[(&'static str, &'static str)],
) -> Result<Option<&'static str>, Failed> {
    let mut impure = None;
    for &(export, stage) in exports {
        let Some(function) = function::<(), ()>(store, instance, export) else {
            continue;
        };
        if impure.is_some() && export == exports::WARM_UP {
            continue;
        }
        let (result, restricted) = restricted(
            store,
            stage,
            INITIALIZATION_REDUCTIONS,
            None,
            plan.has_shared_start().then(|| Fixed::of(stage)),
            plan,
            async |store| call(&function, store, ()).await,
        )
        .await;
        result.map_err(|reason| Failed {
            stage,
            reason,
            out_of_resources: false,
        })?;
        impure = impure.or(restricted.impure);
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
    fixed: Option<Fixed>,
    plan: &Plan,
    call: impl AsyncFnOnce(&mut Store<FrameData>) -> wasmtime::Result<T>,
) -> (Result<T, String>, Restricted) {
    let data = store.data_mut();
    data.last_error = None;
    let given = data.lent.is_some();
    // Not the limit of the process before: what a run may do here must not depend on which
    // process the frame served last.
    data.limiter.bytes = plan.memory;
    let before = std::mem::replace(
        &mut data.mode,
        Mode::Restricted(Box::new(Restricted {
            what,
            limit: reductions,
            reductions,
            state,
            impure: None,
            fixed,
        })),
    );
    if let Some(counter) = data.reductions {
        let _ = set_reductions(&counter, &mut *store, SLICE);
    }
    let result = call(store).await;
    let data = store.data_mut();
    if !given {
        data.lent = None;
    }
    let restricted = match std::mem::replace(&mut data.mode, before) {
        Mode::Restricted(restricted) => *restricted,
        Mode::Run => Restricted {
            what,
            limit: reductions,
            reductions: 0,
            state: None,
            impure: None,
            fixed: None,
        },
    };
    if let Err(error) = &result {
        forget_exception(&mut *store, error);
    }
    let data = store.data_mut();
    let result = result.map_err(|error| {
        let said = data.last_error.take();
        backtrace::text(&error, plan, said)
    });
    (result, restricted)
}
