//! Frames: where images run. A frame is one store, instance and fiber stack
//! of one version, used for one process after another.
//!
//! It is written as a coroutine that owns its store: a future that takes one
//! command at each poll (`baton`) and leaves one reply. So a suspended guest
//! is simply a future that is not finished; and killing it is dropping the
//! inner call, after which the store serves the next command. Nothing here
//! needs an executor: whoever runs the process polls.
//!
//! Between two processes the memory and the mutable globals are brought back
//! to the base. Whatever else could survive in an instance makes a module
//! resident-only, and then its frames are not reused.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use exuvia_abi::{Reason, exports};
use exuvia_process::ExitReason;
use wasmtime::{Global, Instance, Memory, Ref, Store, TypedFunc, Val};

use crate::artifact::{Artifact, Initialization, Plan};
use crate::baton::{self, Next};
use crate::data::{FrameData, Mode, Restricted};
use crate::executor::Shared;
use crate::guest::GuestOwn;
use crate::image::{After, Base, Image, Scratch};
use crate::instrument::{EXPORT_HOST, EXPORT_REDUCTIONS, EXPORT_START, SLOT_WAIT, SLOT_YIELD};
use crate::pagemap;
use crate::{backtrace, calls};

/// Reductions of one slice, as in Erlang.
pub const SLICE: i32 = 4_000;

/// What a frame is told to do. A frame that is suspended takes only `Resume`
/// and `Cancel`.
pub(crate) enum Command {
    /// Enter `run` with this process.
    Run(Box<GuestOwn>),
    /// Go on where the process was suspended.
    Resume(Box<GuestOwn>),
    /// Drop the suspended call.
    Cancel,
    /// Put this image into the frame, which stands at the base.
    Load(Image),
    /// Take the image, and keep it in the frame or bring the frame to the base.
    Save(After),
    /// Bring the frame to the base.
    Reset,
    /// Call `save`.
    CallSave,
    /// Call `load` with a state of this schema.
    CallLoad { schema: i32, state: Vec<u8> },
    /// Run the initialization of a process whose module has its own for each.
    Initialize,
}

/// What it answers.
pub(crate) enum Reply {
    /// The frame exists; the base, if it was asked to take one.
    Created(Result<Option<Taken>, Failed>),
    Ran(Box<GuestOwn>, Outcome),
    Done,
    /// It stands at the base; its memory has so many pages.
    Reset {
        pages: u32,
    },
    Image(Image),
    State(Result<Vec<u8>, String>),
    Loaded(Result<(), String>),
    Initialized(Result<(), String>),
}

/// What the first frame of a version finds out.
pub(crate) struct Taken {
    pub(crate) base: Base,
    pub(crate) impure: bool,
    pub(crate) abi: Option<i32>,
    pub(crate) schema: i32,
}

/// Which stage of the initialization failed, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) stage: &'static str,
    pub(crate) reason: String,
}

/// How an entry ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// `run` has returned.
    Returned {
        /// What it answered.
        result: i32,
        /// Messages that it took.
        taken: u32,
        /// Wasm pages that its memory has now.
        pages: u32,
    },
    /// The guest is suspended; `Guest::wait` says why.
    Suspended,
    /// A host call ended the process.
    Exited(ExitReason),
    /// The guest trapped.
    Trapped(ExitReason),
    /// The host panicked while serving it; the frame cannot be used again.
    Panicked(ExitReason),
}

/// A frame.
pub(crate) struct Frame {
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
    pages: u32,
    /// Whether it may serve another process.
    pub(crate) reusable: bool,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} pages)", self.pages)
    }
}

impl Frame {
    /// Makes a frame that stands at the base, for processes of `shared`.
    pub(crate) fn new(artifact: &Artifact, shared: &Arc<Shared>) -> Result<Frame, String> {
        let setup = Setup {
            plan: artifact.plan.clone(),
            base: Some(artifact.base.clone()),
            initialize: artifact.initialization == Initialization::Shared,
            memory_limit: u64::MAX,
        };
        let store = Store::new(artifact.plan.pre.module().engine(), {
            FrameData::new(Some(shared.clone()))
        });
        Frame::create(store, setup)
            .map(|(frame, _)| frame)
            .map_err(|failed| format!("{} failed: {}", failed.stage, failed.reason))
    }

    /// Makes the first frame of a version, which takes its base.
    pub(crate) fn first(plan: &Arc<Plan>, memory_limit: u64) -> Result<Taken, Failed> {
        let setup = Setup {
            plan: plan.clone(),
            base: None,
            initialize: true,
            memory_limit,
        };
        let store = Store::new(plan.pre.module().engine(), FrameData::new(None));
        let (_, taken) = Frame::create(store, setup)?;
        taken.ok_or(Failed {
            stage: "initialization",
            reason: "no base was taken".into(),
        })
    }

    fn create(store: Store<FrameData>, setup: Setup) -> Result<(Frame, Option<Taken>), Failed> {
        let pages = setup.base.as_ref().map_or(0, |base| base.memory_pages);
        let reusable = setup.plan.analysis.resident_only.is_empty();
        let mut frame = Frame {
            task: Box::pin(drive(store, setup)),
            pages,
            reusable,
        };
        match frame.poll() {
            Some(Reply::Created(Ok(taken))) => Ok((frame, taken)),
            Some(Reply::Created(Err(failed))) => Err(failed),
            _ => Err(Failed {
                stage: "instantiation",
                reason: "the frame did not answer".into(),
            }),
        }
    }

    fn poll(&mut self) -> Option<Reply> {
        let mut context = Context::from_waker(Waker::noop());
        let _ = self.task.as_mut().poll(&mut context);
        baton::take_reply()
    }

    fn tell(&mut self, command: Command) -> Option<Reply> {
        baton::put_command(command);
        self.poll()
    }

    /// Memory in Wasm pages of the image that is in the frame, as last seen.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Runs the process until it returns, is suspended, or ends. The process
    /// comes back in any case; `None` is a bug of the host that lost it.
    pub(crate) fn run(
        &mut self,
        own: Box<GuestOwn>,
        suspended: bool,
    ) -> Option<(Box<GuestOwn>, Outcome)> {
        let command = if suspended {
            Command::Resume(own)
        } else {
            Command::Run(own)
        };
        match self.tell(command)? {
            Reply::Ran(own, outcome) => {
                if let Outcome::Returned { pages, .. } = outcome {
                    self.pages = pages;
                }
                Some((own, outcome))
            }
            _ => None,
        }
    }

    pub(crate) fn cancel(&mut self) {
        let _ = self.tell(Command::Cancel);
    }

    pub(crate) fn load(&mut self, image: Image) {
        self.pages = image.memory_pages().max(self.pages);
        let _ = self.tell(Command::Load(image));
    }

    pub(crate) fn save(&mut self, after: After) -> Option<Image> {
        match self.tell(Command::Save(after))? {
            Reply::Image(image) => {
                self.pages = image.memory_pages();
                Some(image)
            }
            _ => None,
        }
    }

    pub(crate) fn reset(&mut self) {
        // Its memory may have grown: frames are pooled by what they have now.
        if let Some(Reply::Reset { pages }) = self.tell(Command::Reset) {
            self.pages = pages;
        }
    }

    pub(crate) fn call_save(&mut self) -> Result<Vec<u8>, String> {
        match self.tell(Command::CallSave) {
            Some(Reply::State(state)) => state,
            _ => Err("the frame did not answer".into()),
        }
    }

    pub(crate) fn call_load(&mut self, schema: i32, state: Vec<u8>) -> Result<(), String> {
        match self.tell(Command::CallLoad { schema, state }) {
            Some(Reply::Loaded(result)) => result,
            _ => Err("the frame did not answer".into()),
        }
    }

    pub(crate) fn initialize(&mut self) -> Result<(), String> {
        match self.tell(Command::Initialize) {
            Some(Reply::Initialized(result)) => result,
            _ => Err("the frame did not answer".into()),
        }
    }
}

struct Setup {
    plan: Arc<Plan>,
    /// The base to stand at; `None`: take one.
    base: Option<Arc<Base>>,
    /// Whether initialization is part of the base.
    initialize: bool,
    memory_limit: u64,
}

/// Reductions that initialization may use.
const INITIALIZATION_REDUCTIONS: u64 = 200_000_000;
/// Reductions that `save` or `load` may use.
pub(crate) const CROSSING_REDUCTIONS: u64 = 20_000_000;

/// Initialization in order: exports, and what they are called in messages.
const INITIALIZATION: [(&str, &str); 3] = [
    (EXPORT_START, "the start function"),
    (exports::INITIALIZE, "`_initialize`"),
    (exports::WARM_UP, "`warm_up`"),
];

/// The handles of an instance.
struct Handles {
    memory: Memory,
    reductions: Global,
    run: TypedFunc<(), i32>,
    globals: Vec<Global>,
    stack_pointer: Option<Global>,
    instance: Instance,
}

async fn drive(mut store: Store<FrameData>, setup: Setup) {
    let (handles, taken) = match set_up(&mut store, &setup).await {
        Ok(done) => done,
        Err(failed) => return baton::put_reply(Reply::Created(Err(failed))),
    };
    let base = match (&setup.base, taken) {
        (Some(base), _) => base.clone(),
        (None, taken) => return baton::put_reply(Reply::Created(Ok(taken))),
    };
    let mut body = FrameBody {
        handles,
        base,
        plan: setup.plan,
        scratch: Scratch::default(),
    };
    body.reset(&mut store);
    baton::put_reply(Reply::Created(Ok(None)));
    loop {
        let reply = match Next.await {
            Command::Run(own) => body.run(&mut store, own).await,
            // Nothing is suspended: such a command is a host's bug, answered in kind.
            Command::Resume(own) => {
                let reason = ExitReason::new(Reason::INTERNAL);
                Reply::Ran(own, Outcome::Panicked(reason))
            }
            Command::Cancel => Reply::Done,
            Command::Load(image) => body.load(&mut store, &image).await,
            Command::Save(after) => Reply::Image(body.save(&mut store, after)),
            Command::Reset => {
                body.reset(&mut store);
                Reply::Reset {
                    pages: body.pages(&store),
                }
            }
            Command::CallSave => Reply::State(body.call_save(&mut store).await),
            Command::CallLoad { schema, state } => {
                Reply::Loaded(body.call_load(&mut store, schema, state).await)
            }
            Command::Initialize => {
                let instance = &body.handles.instance;
                let result = initialize(&mut store, instance, &body.plan, &INITIALIZATION).await;
                Reply::Initialized(result.map(|_| ()).map_err(|failed| failed.reason))
            }
        };
        baton::put_reply(reply);
    }
}

struct FrameBody {
    handles: Handles,
    base: Arc<Base>,
    plan: Arc<Plan>,
    scratch: Scratch,
}

impl FrameBody {
    async fn run(&mut self, store: &mut Store<FrameData>, own: Box<GuestOwn>) -> Reply {
        let data = store.data_mut();
        data.limiter.bytes = own.limits().memory;
        data.limiter.denied = false;
        data.own = Some(own);
        data.mode = Mode::Run;
        data.exit = None;
        data.last_error = None;
        data.taken = 0;
        if set_reductions(&self.handles.reductions, &mut *store, SLICE).is_err() {
            return lost(store);
        }
        let called = {
            let mut call = pin!(self.handles.run.call_async(&mut *store, ()));
            let polled = std::future::poll_fn(|context| {
                match baton::take_command() {
                    Some(Command::Cancel) => return Poll::Ready(Called::Cancelled),
                    Some(other) => baton::put_command(other),
                    None => {}
                }
                match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(result)) => Poll::Ready(Called::Ended(result)),
                    Err(panic) => Poll::Ready(Called::Panicked(panic_text(&*panic))),
                }
            });
            polled.await
        };
        let left = self.handles.reductions.get(&mut *store).i32().unwrap_or(0);
        let data = store.data_mut();
        let Some(mut own) = data.own.take() else {
            // Cancelled: the process is with whoever cancelled it.
            return Reply::Done;
        };
        own.reductions += u64::try_from(SLICE - left).unwrap_or(0);
        let outcome = match called {
            Called::Ended(Ok(result)) => Outcome::Returned {
                result,
                taken: data.taken,
                pages: self.pages(store),
            },
            Called::Ended(Err(error)) => match data.exit.take() {
                Some(reason) => Outcome::Exited(reason),
                None => {
                    let denied = data.limiter.denied;
                    let said = data.last_error.take();
                    Outcome::Trapped(backtrace::reason(&error, &self.plan, said, denied))
                }
            },
            Called::Panicked(text) => {
                let text = format!("the host failed while serving the process: {text}");
                Outcome::Panicked(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
            }
            Called::Cancelled => Outcome::Suspended,
        };
        Reply::Ran(own, outcome)
    }

    fn pages(&self, store: &Store<FrameData>) -> u32 {
        u32::try_from(self.handles.memory.size(store)).unwrap_or(u32::MAX)
    }

    fn dead_stack(&self, store: &mut Store<FrameData>) -> std::ops::Range<usize> {
        let top = self
            .handles
            .stack_pointer
            .and_then(|pointer| pointer.get(&mut *store).i32());
        0..top.map_or(0, |top| top.cast_unsigned() as usize)
    }

    fn read_globals(&self, store: &mut Store<FrameData>) -> Vec<u128> {
        self.handles
            .globals
            .iter()
            .map(|global| to_bits(&global.get(&mut *store)))
            .collect()
    }

    fn save(&mut self, store: &mut Store<FrameData>, after: After) -> Image {
        let globals = self.read_globals(store);
        let dead = self.dead_stack(store);
        let memory = self.handles.memory.data_mut(&mut *store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        let image = Image::take(memory, &globals, &self.base, dead, after, &mut self.scratch);
        if after == After::Reset {
            self.reset_globals(store, &globals);
        }
        image
    }

    fn reset_globals(&self, store: &mut Store<FrameData>, now: &[u128]) {
        for ((global, value), base) in self.handles.globals.iter().zip(now).zip(&self.base.globals)
        {
            if value != base {
                set_bits(global, store, *base);
            }
        }
    }

    fn reset(&mut self, store: &mut Store<FrameData>) {
        let memory = self.handles.memory.data_mut(&mut *store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        self.base.restore(memory, &self.scratch.ranges);
        let globals = self.read_globals(store);
        self.reset_globals(store, &globals);
    }

    async fn load(&mut self, store: &mut Store<FrameData>, image: &Image) -> Reply {
        let has = self.handles.memory.size(&*store);
        let wants = u64::from(image.memory_pages());
        if wants > has {
            store.data_mut().limiter.bytes = u64::MAX;
            let grown = self
                .handles
                .memory
                .grow_async(&mut *store, wants - has)
                .await;
            if grown.is_err() {
                tracing::error!(wants, "a frame's memory could not be grown for an image");
                return Reply::Done;
            }
            pagemap::prepare(self.handles.memory.data(&*store));
        }
        let globals = image.apply(self.handles.memory.data_mut(&mut *store));
        for (index, value) in globals {
            if let Some(global) = self.handles.globals.get(index) {
                set_bits(global, store, value);
            }
        }
        Reply::Done
    }

    async fn call_save(&mut self, store: &mut Store<FrameData>) -> Result<Vec<u8>, String> {
        let save = self
            .handles
            .instance
            .get_typed_func::<(), i32>(&mut *store, exports::SAVE)
            .map_err(|_| "the old version exports no `save`".to_string())?;
        let (result, restricted) = restricted(
            store,
            "`save`",
            CROSSING_REDUCTIONS,
            None,
            &self.plan,
            async |store| save.call_async(store, ()).await,
        )
        .await;
        match result? {
            0 => restricted
                .state
                .ok_or_else(|| "`save` answered 0 without having called `state_put`".into()),
            code => Err(format!("`save` answered {code}")),
        }
    }

    async fn call_load(
        &mut self,
        store: &mut Store<FrameData>,
        schema: i32,
        state: Vec<u8>,
    ) -> Result<(), String> {
        let load = self
            .handles
            .instance
            .get_typed_func::<(i32, i32), i32>(&mut *store, exports::LOAD)
            .map_err(|_| "the new version exports no `load`".to_string())?;
        let length = i32::try_from(state.len()).map_err(|_| "the state is too large")?;
        let (result, _) = restricted(
            store,
            "`load`",
            CROSSING_REDUCTIONS,
            Some(state),
            &self.plan,
            async |store| load.call_async(store, (schema, length)).await,
        )
        .await;
        let said = store.data_mut().last_error.take();
        match (result?, said) {
            (0, _) => Ok(()),
            (code, None) => Err(format!("`load` answered {code}")),
            (_, Some(said)) => Err(format!("`load` refused it: {said}")),
        }
    }
}

enum Called {
    Ended(wasmtime::Result<i32>),
    Panicked(String),
    Cancelled,
}

fn lost(store: &mut Store<FrameData>) -> Reply {
    match store.data_mut().own.take() {
        Some(own) => Reply::Ran(own, Outcome::Panicked(ExitReason::new(Reason::INTERNAL))),
        None => Reply::Done,
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

async fn set_up(
    store: &mut Store<FrameData>,
    setup: &Setup,
) -> Result<(Handles, Option<Taken>), Failed> {
    let plan = &setup.plan;
    let failed = |stage| {
        move |error: wasmtime::Error| Failed {
            stage,
            reason: format!("{error:#}"),
        }
    };
    store.data_mut().limiter.bytes = setup.memory_limit;
    store.limiter(|data| &mut data.limiter);
    let instance = plan
        .pre
        .instantiate_async(&mut *store)
        .await
        .map_err(failed("instantiation"))?;
    let handles = handles(store, instance, plan).map_err(failed("instantiation"))?;
    pagemap::prepare(handles.memory.data(&*store));
    if let Some(base) = &setup.base {
        // Only what initialization did outside of memory and globals must be
        // done again, and only the start function can do that in a module
        // that is not resident-only. The rest is copied.
        let exports = if plan.analysis.resident_only.is_empty() {
            &INITIALIZATION[..1]
        } else {
            &INITIALIZATION[..]
        };
        if setup.initialize {
            initialize(store, &instance, plan, exports).await?;
        }
        to_base(store, &handles, base)
            .await
            .map_err(failed("instantiation"))?;
        return Ok((handles, None));
    }
    let impure = initialize(store, &instance, plan, &INITIALIZATION).await?;
    if impure {
        // Initialization belongs to each process, so the base is what there
        // was before it: that of an instance nobody has touched.
        let untouched = plan
            .pre
            .instantiate_async(&mut *store)
            .await
            .map_err(failed("instantiation"))?;
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

/// Brings a new instance to the base.
async fn to_base(
    store: &mut Store<FrameData>,
    handles: &Handles,
    base: &Base,
) -> wasmtime::Result<()> {
    let has = handles.memory.size(&*store);
    let wants = u64::from(base.memory_pages);
    if wants > has {
        handles.memory.grow_async(&mut *store, wants - has).await?;
        pagemap::prepare(handles.memory.data(&*store));
    }
    base.restore(handles.memory.data_mut(&mut *store), &base.written);
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
) -> Result<Taken, Failed> {
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
    Ok(Taken {
        base,
        impure,
        abi,
        schema: schema.unwrap_or(0),
    })
}

/// The value of an exported constant: an immutable global, or a function
/// without parameters for languages that cannot export such a global.
async fn constant(
    store: &mut Store<FrameData>,
    instance: &Instance,
    name: &'static str,
    plan: &Plan,
) -> Result<Option<i32>, Failed> {
    if let Some(global) = instance.get_global(&mut *store, name) {
        return Ok(global.get(&mut *store).i32());
    }
    let Ok(function) = instance.get_typed_func::<(), i32>(&mut *store, name) else {
        return Ok(None);
    };
    let (value, _) = restricted(
        store,
        name,
        CROSSING_REDUCTIONS,
        None,
        plan,
        async |store| function.call_async(store, ()).await,
    )
    .await;
    value.map(Some).map_err(|reason| Failed {
        stage: name,
        reason,
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
    let host = instance
        .get_table(&mut *store, EXPORT_HOST)
        .ok_or_else(|| missing(EXPORT_HOST))?;
    let yields = calls::yield_function(store);
    host.set(&mut *store, u64::from(SLOT_YIELD), Ref::Func(Some(yields)))?;
    let waits = calls::wait_function(store);
    host.set(&mut *store, u64::from(SLOT_WAIT), Ref::Func(Some(waits)))?;
    let run = instance.get_typed_func::<(), i32>(&mut *store, exports::RUN)?;
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
    Ok(Handles {
        memory,
        reductions,
        run,
        globals,
        stack_pointer,
        instance,
    })
}

/// Runs start, `_initialize` and `warm_up`; answers whether they asked for
/// what differs between processes.
async fn initialize(
    store: &mut Store<FrameData>,
    instance: &Instance,
    plan: &Plan,
    exports: &[(&'static str, &'static str)],
) -> Result<bool, Failed> {
    let mut impure = false;
    for &(export, stage) in exports {
        let Ok(function) = instance.get_typed_func::<(), ()>(&mut *store, export) else {
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
            async |store| function.call_async(store, ()).await,
        )
        .await;
        result.map_err(|reason| Failed { stage, reason })?;
        impure |= restricted.impure;
    }
    Ok(impure)
}

/// Runs guest code with nearly all host calls refused and a bound on its
/// reductions. It is never suspended.
async fn restricted<T>(
    store: &mut Store<FrameData>,
    what: &'static str,
    reductions: u64,
    state: Option<Vec<u8>>,
    plan: &Plan,
    call: impl AsyncFnOnce(&mut Store<FrameData>) -> wasmtime::Result<T>,
) -> (Result<T, String>, Restricted) {
    let data = store.data_mut();
    data.last_error = None;
    // Not what the process before had: what a run here may do must not depend
    // on who was in the frame.
    data.limiter.bytes = plan.memory;
    let before = std::mem::replace(
        &mut data.mode,
        Mode::Restricted(Restricted {
            what,
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
    let restricted = match std::mem::replace(&mut data.mode, before) {
        Mode::Restricted(restricted) => restricted,
        Mode::Run => Restricted {
            what,
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

fn to_bits(value: &Val) -> u128 {
    match value {
        Val::I32(v) => u128::from(v.cast_unsigned()),
        Val::I64(v) => u128::from(v.cast_unsigned()),
        Val::F32(v) => u128::from(*v),
        Val::F64(v) => u128::from(*v),
        Val::V128(v) => v.as_u128(),
        // Reference globals make a module resident-only: never stored.
        _ => 0,
    }
}

fn set_bits(global: &Global, store: &mut Store<FrameData>, bits: u128) {
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
