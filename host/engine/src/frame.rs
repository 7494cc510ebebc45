//! Frames: where images run. A frame is one store, instance and fiber stack
//! of one version, used for one process after another.
//!
//! It is written as a coroutine that owns its store: a future that takes one
//! command at each poll (`baton`) and leaves one reply. So a suspended guest
//! is simply a future that is not finished; and killing it is dropping the
//! inner call, after which the store serves the next command. Nothing here
//! needs an executor: whoever runs the process polls.
//!
//! The call into the guest is not left between two processes either: the code
//! that `instrument` adds calls `run`, and then the host's `next`, which waits
//! for the next command inside. So an entry is a resumed fiber, not a new one.
//! What `next` cannot serve ends that call, and the loop outside serves it.
//!
//! Between two processes the memory and the mutable globals are brought back
//! to the base. Whatever else could survive in an instance makes a module
//! resident-only, and then its frames are not reused.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use exuvia_abi::Reason;
use exuvia_process::ExitReason;
use wasmtime::{AsContextMut, Caller, Store};

use crate::artifact::{Artifact, Initialization, Plan};
use crate::backtrace;
use crate::baton::{self, Next};
use crate::body::Body;
use crate::data::FrameData;
use crate::executor::Shared;
use crate::guest::GuestOwn;
use crate::image::{After, Base, Image};
pub use crate::instrument::SLICE;
use crate::setup::{INITIALIZATION, Setup, initialize, set_up};

/// What a frame is told to do. A frame that is suspended takes only `Resume`
/// and `Cancel`.
#[derive(Debug)]
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
    /// In a box, so that the frequent replies stay small.
    Created(Box<Result<Option<Taken>, Failed>>),
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
    /// The host failed in the middle of a command: the frame is of no use.
    Broken(String),
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
    /// Whether its module lets it serve another process.
    pub(crate) reusable: bool,
    /// Why nobody can use it any more.
    broken: Option<String>,
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
            broken: None,
        };
        // A new frame waits for its first command here, and must not find one
        // that was meant for another.
        baton::clear();
        match frame.poll() {
            Some(Reply::Created(created)) => created.map(|taken| (frame, taken)),
            _ => Err(Failed {
                stage: "instantiation",
                reason: "the frame did not answer".into(),
            }),
        }
    }

    fn poll(&mut self) -> Option<Reply> {
        let mut context = Context::from_waker(Waker::noop());
        let task = self.task.as_mut();
        match catch_unwind(AssertUnwindSafe(|| task.poll(&mut context))) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => self.broken = Some("the frame has ended".into()),
            Err(panic) => {
                baton::clear();
                self.broken = Some(panic_text(&*panic));
            }
        }
        match baton::take_reply() {
            Some(Reply::Broken(text)) => {
                self.broken = Some(text);
                None
            }
            reply => reply,
        }
    }

    fn tell(&mut self, command: Command) -> Option<Reply> {
        if self.broken.is_some() {
            return None;
        }
        baton::put_command(command);
        let reply = self.poll();
        if let Some(text) = &self.broken {
            tracing::error!("the host failed in a frame, which is dropped: {text}");
        }
        reply
    }

    /// Whether it may serve another process.
    pub(crate) fn may_serve_another(&self) -> bool {
        self.reusable && self.broken.is_none()
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
        if let Some(text) = &self.broken {
            return Some((own, panicked(text)));
        }
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

async fn drive(mut store: Store<FrameData>, setup: Setup) {
    let (handles, taken) = match set_up(&mut store, &setup).await {
        Ok(done) => done,
        Err(failed) => return baton::put_reply(Reply::Created(Box::new(Err(failed)))),
    };
    let base = match (&setup.base, taken) {
        (Some(base), _) => base.clone(),
        (None, taken) => return baton::put_reply(Reply::Created(Box::new(Ok(taken)))),
    };
    let mut body = Box::new(Body::new(handles, base, setup.plan));
    body.reset(&mut store);
    store.data_mut().body = Some(body);
    baton::put_reply(Reply::Created(Box::new(Ok(None))));
    let mut left_over = None;
    loop {
        let command = match left_over.take() {
            Some(command) => command,
            None => Next.await,
        };
        let reply = match command {
            Command::Run(own) => match run(&mut store, own).await {
                Ok(reply) => reply,
                Err(command) => {
                    left_over = Some(command);
                    continue;
                }
            },
            command => {
                // Nobody else takes it out but who puts it back at once.
                let Some(mut body) = store.data_mut().body.take() else {
                    return;
                };
                let reply = serve(&mut body, &mut store, command).await;
                store.data_mut().body = Some(body);
                reply
            }
        };
        baton::put_reply(reply);
    }
}

/// Serves a command outside of guest code.
async fn serve(body: &mut Body, store: &mut Store<FrameData>, command: Command) -> Reply {
    match command {
        // Nothing is suspended, and who runs is served elsewhere: such a
        // command is a host's bug, answered in kind.
        Command::Run(own) | Command::Resume(own) => {
            let reason = ExitReason::new(Reason::INTERNAL);
            Reply::Ran(own, Outcome::Panicked(reason))
        }
        Command::Cancel => Reply::Done,
        Command::Load(image) => {
            if !body.fits(store, &image) {
                body.grow(store, &image).await;
            }
            body.load(store, &image);
            Reply::Done
        }
        Command::Save(after) => Reply::Image(body.save(store, after)),
        Command::Reset => reset(body, store),
        Command::CallSave => Reply::State(body.call_save(store).await),
        Command::CallLoad { schema, state } => {
            Reply::Loaded(body.call_load(store, schema, state).await)
        }
        Command::Initialize => {
            let instance = &body.handles.instance;
            let result = initialize(store, instance, &body.plan, &INITIALIZATION).await;
            Reply::Initialized(result.map(|_| ()).map_err(|failed| failed.reason))
        }
    }
}

fn reset(body: &mut Body, store: &mut impl AsContextMut<Data = FrameData>) -> Reply {
    body.reset(store);
    Reply::Reset {
        pages: body.pages(store),
    }
}

/// What the guest's loop asks for after each return of `run`, with its answer
/// and the reductions that are left: whether to enter `run` again. Meanwhile
/// other processes may have come and gone.
pub(crate) async fn next(
    mut caller: Caller<'_, FrameData>,
    result: i32,
    left: i32,
) -> wasmtime::Result<i32> {
    let data = caller.data_mut();
    let taken = data.taken;
    let gone = || wasmtime::Error::msg("no process is in the frame");
    let mut own = data.own.take().ok_or_else(gone)?;
    let mut body = data.body.take().ok_or_else(gone)?;
    own.reductions += u64::try_from(SLICE - left).unwrap_or(0);
    let pages = body.pages(&mut caller);
    let mut reply = Reply::Ran(
        own,
        Outcome::Returned {
            result,
            taken,
            pages,
        },
    );
    loop {
        baton::put_reply(reply);
        reply = match Next.await {
            Command::Run(own) => {
                body.enter(&mut caller, own);
                caller.data_mut().body = Some(body);
                return Ok(1);
            }
            Command::Load(image) if body.fits(&mut caller, &image) => {
                body.load(&mut caller, &image);
                Reply::Done
            }
            Command::Save(after) => Reply::Image(body.save(&mut caller, after)),
            Command::Reset => reset(&mut body, &mut caller),
            other => {
                let data = caller.data_mut();
                data.body = Some(body);
                data.left_over = Some(other);
                return Ok(0);
            }
        };
    }
}

/// Runs a process, and those after it, until the guest is left: the reply to
/// that, or a command that was not served inside.
async fn run(store: &mut Store<FrameData>, own: Box<GuestOwn>) -> Result<Reply, Command> {
    let Some(body) = store.data_mut().body.take() else {
        return Ok(Reply::Ran(own, panicked("the frame is empty")));
    };
    body.enter(store, own);
    let (turns, counter) = (body.handles.turns.clone(), body.handles.reductions);
    let plan = body.plan.clone();
    store.data_mut().body = Some(body);
    let called = {
        let mut call = pin!(turns.call_async(&mut *store, ()));
        let polled = std::future::poll_fn(|context| {
            if baton::take_cancel() {
                return Poll::Ready(Called::Cancelled);
            }
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(Called::Ended(result)),
                Err(panic) => Poll::Ready(Called::Panicked(panic_text(&*panic))),
            }
        });
        polled.await
    };
    let left = counter.get(&mut *store).i32().unwrap_or(0);
    let data = store.data_mut();
    if let Called::Ended(Ok(())) = called
        && let Some(command) = data.left_over.take()
    {
        return Err(command);
    }
    let Some(mut own) = data.own.take() else {
        // Cancelled: the process is with whoever cancelled it. Else it failed
        // between two processes, and where that left the memory nobody knows.
        return Ok(match called {
            Called::Cancelled => Reply::Done,
            Called::Panicked(text) => Reply::Broken(text),
            Called::Ended(_) => Reply::Broken("the guest's loop has ended by itself".into()),
        });
    };
    own.reductions += u64::try_from(SLICE - left).unwrap_or(0);
    let outcome = match called {
        Called::Ended(Ok(())) => panicked("the guest's loop has ended by itself"),
        Called::Ended(Err(error)) => match data.exit.take() {
            Some(reason) => Outcome::Exited(reason),
            None => {
                let denied = data.limiter.denied;
                let said = data.last_error.take();
                Outcome::Trapped(backtrace::reason(&error, &plan, said, denied))
            }
        },
        Called::Panicked(text) => panicked(&text),
        Called::Cancelled => Outcome::Suspended,
    };
    Ok(Reply::Ran(own, outcome))
}

enum Called {
    Ended(wasmtime::Result<()>),
    Panicked(String),
    Cancelled,
}

fn panicked(text: &str) -> Outcome {
    let text = format!("the host failed while serving the process: {text}");
    Outcome::Panicked(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
