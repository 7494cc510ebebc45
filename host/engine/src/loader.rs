//! Makes an artifact of a module's bytes: instrument, check against the ABI, compile (or take the
//! compiled code from the cache), initialize, take the base.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use exuvia_abi::{ABI_VERSION, HostCall, MODULE, OPTIONAL_MODULE, WasmType, exports};
use exuvia_image::{GUARD, MOST_PACKED, Memories, Method, PageMap, RESERVED, Stacks};
use exuvia_instrument::{
    ExternKind, ExternType, FunctionType, ImportInfo, Instrumented, ValueType, instrument,
};
use wasmtime::{Collector, Config, InstanceAllocationStrategy, Linker, Module};

use crate::error::LoadError;
use crate::frames::capacity::advice;
use crate::instance::factory::Factory;
use crate::instance::fiber_stack;
use crate::instance::linear_memory::{Creator, EXCEPTIONS};
use crate::instance::setup::{first_instance, repeats};
use crate::instance::store::FrameData;
use crate::module::compile::Compilers;
use crate::module::compile_cache::Cache;
use crate::module::function_cache::Functions;
use crate::module::info::{Artifact, Initialization, Plan};
use crate::module::lines::Lines;
use crate::module::missing;
use crate::module::stack_policy::StackPolicy;
use crate::module::text::assembled;
use crate::resources;

/// Configuration of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Folder for compiled modules; `None`: modules are compiled each time.
    pub cache: Option<PathBuf>,
    /// The page-map method, forced for tests; `None`: the best one that this machine has.
    pub page_map: Option<Method>,
    /// The maximum memory of any process, in bytes.
    pub memory: u64,
    /// How the memories of modules lie for which it is not said.
    pub layout: MemoryLayout,
    /// Size of a guest's own call stack, in bytes.
    pub stack: usize,
    /// Bytes of compiled functions that are cached, so that a version which shares most of them is
    /// loaded faster; 0: none.
    pub functions: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            cache: None,
            page_map: None,
            memory: 1 << 32,
            layout: MemoryLayout::Packed,
            stack: 256 << 10,
            functions: 0,
        }
    }
}

/// How the memories of a module's processes lie in the addresses of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryLayout {
    /// Side by side, as long as they are small (see `exuvia_image`): messages between many processes
    /// are fast, because few lines of page tables are touched. The guest's code checks its bounds.
    Packed,
    /// Each with 4 GiB of addresses of its own: the guest's code needs no bounds checks, which makes
    /// code that computes in memory up to a third faster.
    Wide,
}

/// Stack that host calls need in addition to the guest's own, in bytes.
const HOST_STACK: usize = 128 << 10;

/// Loads modules.
pub struct Engine {
    packed: Target,
    wide: Target,
    layout: MemoryLayout,
    compilers: Compilers,
    cache: Option<Cache>,
    page_map: Arc<PageMap>,
    memories: Arc<Memories>,
    memory: u64,
    next_id: AtomicU64,
}

/// What code is compiled and linked for one layout with.
struct Target {
    engine: wasmtime::Engine,
    linker: Linker<FrameData>,
}

impl Target {
    fn new(settings: &Config) -> wasmtime::Result<Target> {
        let engine = wasmtime::Engine::new(settings)?;
        let linker = resources::IMPORTS.linker(&engine)?;
        Ok(Target { engine, linker })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("page_map", &self.page_map.method())
            .finish_non_exhaustive()
    }
}

/// Stack size in bytes of a thread that calls [`crate::Executor::run`] and lends guests its stack:
/// the guest's own stack, and what the host needs above and below it.
pub const THREAD_STACK: usize = 2 << 20;

impl Engine {
    /// Creates an engine.
    ///
    /// # Errors
    ///
    /// Returns an error if this machine cannot run compiled Wasm.
    ///
    /// # Panics
    ///
    /// Panics if the configured guest stack does not fit into [`THREAD_STACK`].
    pub fn new(config: &EngineConfig) -> Result<Engine, LoadError> {
        assert!(
            config.stack + 2 * HOST_STACK <= THREAD_STACK,
            "a guest's stack of {} bytes does not fit the stack of a thread",
            config.stack
        );
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let memories = Memories::new();
        let stacks = Stacks::new(config.stack + HOST_STACK);
        let mut settings = Config::new();
        settings
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .max_wasm_stack(config.stack)
            .async_stack_size(config.stack + HOST_STACK)
            // Frames share their base (see `image`), and nothing else.
            .memory_init_cow(false)
            .with_host_memory(Arc::new(Creator(memories.clone())))
            .with_host_stack(Arc::new(fiber_stack::Creator(stacks)))
            // Exceptions live on the stack only, so what the heap holds may be forgotten with the stack.
            .collector(Collector::Copying)
            .gc_heap_initial_size(EXCEPTIONS as u64)
            .gc_heap_reservation(EXCEPTIONS as u64)
            .gc_heap_reservation_for_growth(0)
            .gc_heap_guard_size(0)
            .gc_heap_may_move(false)
            // The instrumentation marks its yields as unlikely.
            .wasm_branch_hinting(true);
        if config.functions > 0 {
            let functions = Arc::new(Functions::new(config.functions));
            settings
                .enable_incremental_compilation(functions)
                .map_err(compile)?;
        }
        settings
            .memory_may_move(false)
            .memory_reservation(RESERVED as u64)
            .memory_guard_size(GUARD as u64);
        let wide = Target::new(&settings).map_err(compile)?;
        // Without a reservation, the code checks all addresses; a memory moves when it leaves the
        // arena.
        settings
            .memory_may_move(true)
            .memory_reservation(0)
            .memory_guard_size(0)
            .guard_before_linear_memory(false);
        let packed = Target::new(&settings).map_err(compile)?;
        Ok(Engine {
            cache: config.cache.as_deref().and_then(Cache::open),
            compilers: Compilers::new(),
            page_map: Arc::new(PageMap::new(config.page_map)),
            memories,
            memory: config.memory,
            packed,
            wide,
            layout: config.layout,
            next_id: AtomicU64::new(1),
        })
    }

    /// Returns the method by which written pages are found on this machine.
    pub fn page_map(&self) -> Method {
        self.page_map.method()
    }

    /// Returns whether the kernel is asked for the written pages only after a page fault.
    pub fn counts_faults(&self) -> bool {
        self.page_map.faults().is_some()
    }

    /// Loads a module from its bytes, in the binary (`.wasm`) or the text format (`.wat`), with the
    /// configured layout. Slow: milliseconds to seconds, and longer if other threads compile too.
    ///
    /// # Errors
    ///
    /// Returns the first fault of the module, and what to do about it.
    pub fn load(&self, module: &[u8]) -> Result<Artifact, LoadError> {
        self.load_as(module, self.layout)
    }

    /// Does the same with this layout.
    ///
    /// # Errors
    ///
    /// Returns the first fault of the module, and what to do about it.
    pub fn load_as(&self, module: &[u8], layout: MemoryLayout) -> Result<Artifact, LoadError> {
        let wasm = assembled(module)?;
        let analysis = instrument(&wasm)?;
        let fault = self.faults(&analysis).next();
        match fault {
            Some(fault) => Err(fault),
            None => self.make(&wasm, analysis, layout),
        }
    }

    /// Does the same, but if the module cannot be loaded, returns all faults that can be found
    /// without running it.
    ///
    /// # Errors
    ///
    /// Returns at least one error.
    pub fn check(&self, module: &[u8]) -> Result<Artifact, Vec<LoadError>> {
        let wasm = assembled(module).map_err(|error| vec![error])?;
        let analysis = instrument(&wasm).map_err(|error| vec![error.into()])?;
        let faults: Vec<_> = self.faults(&analysis).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        (self.make(&wasm, analysis, self.layout)).map_err(|error| vec![error])
    }

    /// Returns the faults that keep a module from being loaded.
    fn faults(&self, analysis: &Instrumented) -> impl Iterator<Item = LoadError> {
        let imports = analysis.imports.iter();
        let wanted = initial_memory(analysis);
        let allowed = self.memory;
        let memory = (wanted > allowed).then_some(LoadError::Memory { wanted, allowed });
        let tables = analysis.tables.iter().map(|table| table.minimum);
        let wanted = tables.fold(0u64, u64::saturating_add);
        let allowed = u64::from(exuvia_abi::limits::TABLE_ENTRIES);
        let tables = (wanted > allowed).then_some(LoadError::Tables { wanted, allowed });
        export_faults(analysis)
            .into_iter()
            .chain(imports.filter_map(|import| check_import(import).err()))
            .chain(memory)
            .chain(tables)
    }

    /// Makes the artifact of a module in which no fault was found.
    fn make(
        &self,
        wasm: &[u8],
        mut analysis: Instrumented,
        layout: MemoryLayout,
    ) -> Result<Artifact, LoadError> {
        let layout = match initial_memory(&analysis) > MOST_PACKED as u64 {
            // No process of it would lie in the arena.
            true => MemoryLayout::Wide,
            false => layout,
        };
        let target = self.target(layout);
        let module = self.compile(target, &analysis.wasm, analysis.code_bytes)?;
        // The rewritten bytes are not needed any more.
        analysis.wasm = Vec::new();
        let lines = analysis.debug.take().map(Lines::new);
        let has = |name: &str| analysis.export(name).is_some();
        let (has_save, has_load) = (has(exports::SAVE), has(exports::LOAD));
        let mut plan = Arc::new(Plan {
            code: module,
            analysis,
            lines,
            page_map: self.page_map.clone(),
            memories: self.memories.clone(),
            memory: self.memory,
        });
        let factory = Factory::new(&target.linker, plan.clone(), resources::IMPORTS)
            .map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let taken =
            first_instance(Arc::new(factory), self.memory).map_err(|failed| {
                match failed.out_of_resources {
                    true => LoadError::OutOfMemory {
                        reason: failed.reason,
                        fix: advice(),
                    },
                    false => LoadError::Initialization {
                        stage: failed.stage,
                        reason: failed.reason,
                    },
                }
            })?;
        match taken.abi {
            Some(ABI_VERSION) => {}
            Some(found) => {
                return Err(LoadError::Abi {
                    found,
                    served: ABI_VERSION,
                });
            }
            None => {
                return Err(LoadError::Export {
                    name: exports::ABI,
                    fix: "export an immutable i32 global, or a function () -> i32, with the ABI's version; an SDK does it for you",
                });
            }
        }
        if let Some(plan) = Arc::get_mut(&mut plan) {
            if !repeats(plan) {
                // It is in the base.
                plan.analysis.contents = Vec::new();
            }
            if taken.impure.is_some() {
                // Start runs for each process. If it does something that is possible only once in
                // an instance, a frame cannot serve two processes.
                let once = std::mem::take(&mut plan.analysis.only_in_start);
                plan.analysis.resident_only.extend(once);
            }
        }
        let policy = StackPolicy::default();
        if plan.analysis.has_async_imports() {
            // Its host functions are asynchronous.
            policy.waited();
        }
        Ok(Artifact {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            plan,
            base: Arc::new(taken.base),
            initialization: (taken.impure)
                .map_or(Initialization::Shared, Initialization::PerProcess),
            schema: taken.schema,
            has_save,
            has_load,
            file_bytes: wasm.len(),
            reused_from: parking_lot::Mutex::default(),
            stack_policy: policy,
            module_frames: OnceLock::new(),
        })
    }

    fn target(&self, layout: MemoryLayout) -> &Target {
        match layout {
            MemoryLayout::Packed => &self.packed,
            MemoryLayout::Wide => &self.wide,
        }
    }

    fn compile(&self, target: &Target, wasm: &[u8], bytes: u64) -> Result<Module, LoadError> {
        if let Some(cache) = &self.cache
            && let Some(module) = cache.find(&target.engine, wasm)
        {
            return Ok(module);
        }
        let compiled = (self.compilers).run(bytes, || Module::from_binary(&target.engine, wasm));
        let module = compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        if let Some(cache) = &self.cache {
            cache.keep(&target.engine, wasm, &module);
        }
        Ok(module)
    }
}

/// Returns the bytes of memory that the module declares.
fn initial_memory(analysis: &Instrumented) -> u64 {
    (analysis.memory.as_ref()).map_or(0, |memory| memory.minimum.saturating_mul(crate::WASM_PAGE))
}

fn export_faults(analysis: &Instrumented) -> Vec<LoadError> {
    let mut faults = Vec::new();
    let mut fault = |name, fix| faults.push(LoadError::Export { name, fix });
    let find = |name: &str| analysis.export(name).map(|export| &export.ty);
    let imported = analysis
        .memory
        .as_ref()
        .is_some_and(|memory| memory.imported);
    if imported || !matches!(find(exports::MEMORY), Some(ExternType::Memory { .. })) {
        fault(
            exports::MEMORY,
            "define one memory and export it under that name",
        );
    }
    let function = |params: &[ValueType], results: &[ValueType]| {
        ExternType::Function(FunctionType {
            params: params.to_vec(),
            results: results.to_vec(),
        })
    };
    let int = ValueType::I32;
    if find(exports::RUN) != Some(&function(&[], &[int])) {
        fault(
            exports::RUN,
            "export a function `run: () -> i32`, the entry of a process (is this an SDK's module at all?)",
        );
    }
    for (name, ty, fix) in [
        (
            exports::SAVE,
            function(&[], &[int]),
            "`save` must be a function () -> i32",
        ),
        (
            exports::LOAD,
            function(&[int, int], &[int]),
            "`load` must be a function (i32, i32) -> i32",
        ),
        (
            exports::INITIALIZE,
            function(&[], &[]),
            "`_initialize` must be a function () -> ()",
        ),
        (
            exports::WARM_UP,
            function(&[], &[]),
            "`warm_up` must be a function () -> ()",
        ),
    ] {
        if find(name).is_some_and(|found| *found != ty) {
            fault(name, fix);
        }
    }
    for name in [exports::ABI, exports::SCHEMA] {
        // It is read once, so it must not change later.
        if let Some(ExternType::Global { mutable: true, .. }) = find(name) {
            faults.push(LoadError::MutableExport { name });
        }
    }
    faults
}

/// Returns whether a call of this type can return [`exuvia_abi::Code::NotSupported`].
fn can_be_missing(ty: &ExternType) -> bool {
    let ExternType::Function(ty) = ty else {
        return false;
    };
    matches!(ty.results[..], [] | [ValueType::I32 | ValueType::I64])
}

fn check_import(import: &ImportInfo) -> Result<(), LoadError> {
    let refuse = |fix: String| {
        Err(LoadError::Import {
            module: import.module.clone(),
            name: import.name.clone(),
            fix,
        })
    };
    if import.module == OPTIONAL_MODULE && HostCall::find(&import.name).is_none() {
        return match can_be_missing(&import.ty) {
            true => Ok(()),
            false => refuse("with a type that cannot say so: an optional import is a function that returns nothing, an i32 or an i64".into()),
        };
    }
    if import.module != MODULE && import.module != OPTIONAL_MODULE {
        let is_function = import.ty.kind() == ExternKind::Function;
        return match resources::check_import(&import.module, &import.name, is_function) {
            Some(Ok(())) => Ok(()),
            Some(Err(fix)) => refuse(fix.into()),
            None => refuse(missing::why(&import.module, &import.name)),
        };
    }
    let Some(call) = HostCall::find(&import.name) else {
        return refuse("there is no such host call; guest-sdk/abi.md lists them".into());
    };
    let value = |ty: &WasmType| match ty {
        WasmType::I32 => ValueType::I32,
        WasmType::I64 => ValueType::I64,
    };
    let wanted = FunctionType {
        params: call.params.iter().map(value).collect(),
        results: call.result.iter().map(value).collect(),
    };
    match &import.ty {
        ExternType::Function(found) if *found == wanted => Ok(()),
        ExternType::Function(found) => refuse(format!(
            "with the type {found}: it is {wanted}; build with an SDK of this host's version"
        )),
        _ => refuse("as that kind of thing: it is a function".into()),
    }
}
