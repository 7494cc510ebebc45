//! Frames: where images run. A frame is one store and instance of one version,
//! used for one process after another.
//!
//! At rest a frame is plain data (`body`), and images are put in and taken out
//! by plain calls. A guest that runs on a thread's stack (see `stack`) is a
//! plain call too; if it waits, the body stays there (`aside`). While one runs
//! on a fiber, the frame is a future that owns the body: a suspended guest is a
//! future that is not finished, and killing it is dropping the call inside,
//! after which the body comes back. Nothing here needs an executor: whoever
//! runs the process polls.
//!
//! Between two processes the memory and the mutable globals are brought back
//! to the base. Whatever else could survive in an instance makes a module
//! resident-only, and then its frames are not reused.

use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use exuvia_abi::Reason;
use exuvia_process::{ExitReason, Grants};
use wasmtime::Store;
use wasmtime_wasi::runtime::with_ambient_tokio_runtime;

use crate::artifact::{Artifact, Initialization, Plan};
use crate::aside::{self, Aside, Held};
use crate::baton::{self, Ask};
use crate::body::{Body, Ended, Outcome};
use crate::data::FrameData;
use crate::executor::Shared;
use crate::guest::{GuestOwn, GuestSystem};
use crate::image::{After, Base, Image};
use crate::pagemap::Extent;
use crate::places::Seated;
use crate::room::is_no_room;
use crate::setup::{Setup, set_up};
use crate::stack::Stack;
use crate::wasi::Wake;

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
    /// The system has no room for it now.
    pub(crate) no_room: bool,
}

/// Room for the call that is under way, which has the frame's body until it
/// ends. It is kept from call to call: one is made for each message.
trait Call: Send {
    /// Begins a call. What was there before is dropped.
    fn begin(&mut self, body: Box<Body>, own: Box<GuestOwn>);
    /// Goes on with it. `None`: none is under way.
    fn poll(&mut self, waker: &Waker) -> Option<Poll<(Box<Body>, Ended)>>;
}

struct Room<M, F> {
    make: M,
    future: Pin<Box<Option<F>>>,
}

impl<M, F> Call for Room<M, F>
where
    M: Fn(Box<Body>, Box<GuestOwn>) -> F + Send,
    F: Future<Output = (Box<Body>, Ended)> + Send,
{
    fn begin(&mut self, body: Box<Body>, own: Box<GuestOwn>) {
        self.future.set(Some((self.make)(body, own)));
    }

    fn poll(&mut self, waker: &Waker) -> Option<Poll<(Box<Body>, Ended)>> {
        let future = self.future.as_mut().as_pin_mut()?;
        let polled = future.poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.future.set(None);
        }
        Some(polled)
    }
}

fn room<M, F>(make: M) -> Box<dyn Call>
where
    M: Fn(Box<Body>, Box<GuestOwn>) -> F + Send + 'static,
    F: Future<Output = (Box<Body>, Ended)> + Send + 'static,
{
    let future = Box::pin(None);
    Box::new(Room { make, future })
}

enum Stage {
    /// No guest code is under way.
    Rest(Box<Body>),
    /// A guest runs, or is suspended on its fiber.
    Called,
    /// A guest is suspended on the stack of a thread.
    Aside(Held),
    /// The host has failed in it, and how: nobody can use it any more.
    Broken(Cow<'static, str>),
}

/// A frame.
pub(crate) struct Frame {
    stage: Stage,
    call: Box<dyn Call>,
    pages: u32,
    /// Bytes of written pages as last seen.
    written: u64,
    /// Those of them that it had when it was new.
    first_written: u64,
    /// Where its memory is.
    pub(crate) extent: Arc<Extent>,
    /// Whether its module lets it serve another process.
    pub(crate) reusable: bool,
    /// On which stack its guest runs.
    stack: Stack,
    /// The system of its processes, if its module uses WASI.
    system: Option<Weak<GuestSystem>>,
    /// Wakes the process that is in it, if so.
    waker: Option<Waker>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} pages)", self.pages)
    }
}

impl Frame {
    /// Makes a frame that stands at the base, for processes of `shared`.
    pub(crate) fn new(artifact: &Artifact, shared: &Arc<Shared>) -> Result<Frame, Failed> {
        let plan = &artifact.plan;
        let setup = Setup {
            plan: plan.clone(),
            base: Some(artifact.base.clone()),
            initialize: artifact.initialization == Initialization::Shared,
            memory_limit: u64::MAX,
        };
        let stack = match shared.threads.get() {
            Some(_) => artifact.manner.stack(),
            None => Stack::Fiber,
        };
        let mut store = Store::new(
            plan.pre.module().engine(),
            FrameData::new(Some(shared.clone()), stack),
        );
        let failed = |reason| Failed {
            stage: "instantiation",
            reason,
            no_room: false,
        };
        let (handles, _) = at_once(set_up(&mut store, &setup)).map_err(failed)??;
        let address = handles.memory.data_ptr(&store);
        let extent = (plan.memories.extent(address))
            .ok_or_else(|| failed("its memory is not of this host".into()))?;
        let mut body = Box::new(Body::new(store, handles, artifact.base.clone(), setup.plan));
        body.reset();
        Ok(Frame {
            written: body.written(),
            first_written: body.written(),
            extent,
            stack,
            stage: Stage::Rest(body),
            call: room(Body::run),
            pages: artifact.base.memory_pages,
            reusable: plan.analysis.resident_only.is_empty(),
            system: (plan.analysis.uses_wasi()).then(|| Arc::downgrade(&shared.system)),
            waker: None,
        })
    }

    /// Makes the first frame of a version, which takes its base.
    pub(crate) fn first(plan: &Arc<Plan>, memory_limit: u64) -> Result<Taken, Failed> {
        let setup = Setup {
            plan: plan.clone(),
            base: None,
            initialize: true,
            memory_limit,
        };
        let mut store = Store::new(
            plan.pre.module().engine(),
            FrameData::new(None, Stack::Fiber),
        );
        let failed = |reason| Failed {
            stage: "initialization",
            reason,
            no_room: false,
        };
        let (_, taken) = at_once(set_up(&mut store, &setup)).map_err(failed)??;
        taken.ok_or_else(|| failed("no base was taken".into()))
    }

    /// On which stack its guest runs.
    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    /// Has its guest run on fibers from now on. `Ok(false)`: the system has no
    /// room for a stack.
    pub(crate) fn use_fibers(&mut self) -> Result<bool, String> {
        let done = self.serve(async |body| match body.use_fibers().await {
            Ok(()) => Ok(true),
            Err(error) if is_no_room(&error) => Ok(false),
            Err(error) => Err(format!("its guest could not be put on a fiber: {error}")),
        })?;
        if done {
            self.stack = Stack::Fiber;
        }
        Ok(done)
    }

    /// Whether it may serve another process.
    pub(crate) fn may_serve_another(&self) -> bool {
        self.reusable && matches!(self.stage, Stage::Rest(_))
    }

    /// Memory in Wasm pages of the image that is in the frame, as last seen.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes of written pages of its memory, as last seen: they stay when it
    /// is brought to the base.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Those of them that a new frame would not have.
    pub(crate) fn spare(&self) -> u64 {
        self.written.saturating_sub(self.first_written)
    }

    /// Gives the pages of a frame at the base back to the system.
    pub(crate) fn release(&mut self) {
        // One that is broken is dropped by whoever gives it back.
        drop(self.serve(async |body| {
            body.release();
            Ok(())
        }));
    }

    /// Runs the process until it returns, is suspended, or ends; one that was
    /// suspended in this frame goes on. The process comes back in any case;
    /// `None` is a bug of the host that lost it.
    pub(crate) fn run(&mut self, mut own: Box<GuestOwn>) -> Option<(Box<GuestOwn>, Outcome)> {
        if let Some(system) = &self.system {
            let pid = own.pid();
            let made = || Wake::new(system.clone(), pid);
            let wake = own.guest().map(|guest| guest.wake(made));
            // What is ready by now will be seen.
            wake.as_ref().inspect(|wake| wake.reset());
            self.waker = wake.map(Waker::from);
        }
        match std::mem::replace(&mut self.stage, LOST) {
            Stage::Rest(mut body) => {
                body.here();
                self.call.begin(body, own);
            }
            Stage::Called => baton::put_ask(Ask::Resume(own)),
            Stage::Broken(text) => {
                let outcome = panicked(&text);
                self.stage = Stage::Broken(text);
                return Some((own, outcome));
            }
            Stage::Aside(held) => {
                self.stage = Stage::Aside(held);
                return Some((own, panicked("it waits on a thread")));
            }
        }
        match self.poll() {
            // The latter if a function of WASI is still not done.
            Poll::Pending => baton::take_suspended()
                .or_else(baton::take_resumed)
                .map(|own| (own, Outcome::Suspended)),
            Poll::Ready(Some(ended)) => Some(ended),
            // It has failed before it took the process, or after it gave it away.
            Poll::Ready(None) => {
                let own = baton::take_resumed().or_else(baton::take_suspended)?;
                self.stage = LOST;
                Some((own, panicked("a call has ended without its process")))
            }
        }
    }

    /// A guest that runs on this thread's stack waits.
    pub(crate) fn step_aside(&mut self, aside: Arc<Aside>) {
        self.stage = Stage::Aside(Held::new(aside));
    }

    /// The right to a guest that waits on the stack of a thread, if one does. It
    /// is Called from now on.
    pub(crate) fn take_aside(&mut self) -> Option<Held> {
        if !matches!(self.stage, Stage::Aside(_)) {
            return None;
        }
        match std::mem::replace(&mut self.stage, LOST) {
            Stage::Aside(held) => Some(held),
            _ => None,
        }
    }

    /// The body, for an entry on this thread's stack; see [`run_here`].
    fn take_body(&mut self) -> Option<Box<Body>> {
        if !matches!((&self.stage, self.stack), (Stage::Rest(_), Stack::Thread)) {
            return None;
        }
        match std::mem::replace(&mut self.stage, LOST) {
            Stage::Rest(mut body) => {
                body.here();
                Some(body)
            }
            _ => None,
        }
    }

    /// Whether the process has answered WAITING when it was last entered.
    pub(crate) fn goes_on(&mut self, continues: bool) {
        if let Stage::Rest(body) = &mut self.stage {
            body.goes_on(continues);
        }
    }

    /// Ends the call that is suspended; its process is with the caller.
    pub(crate) fn cancel(&mut self) {
        match std::mem::replace(&mut self.stage, LOST) {
            Stage::Aside(mut held) => {
                if let Some(body) = held.end() {
                    self.rest(body);
                }
            }
            Stage::Called => {
                baton::put_cancel();
                let _ = self.poll();
            }
            stage => self.stage = stage,
        }
    }

    /// A copy of the state of the process that is suspended in it.
    pub(crate) fn copy(&mut self) -> Option<Image> {
        match std::mem::replace(&mut self.stage, LOST) {
            Stage::Called => {
                baton::put_ask(Ask::Copy);
                let _ = self.poll();
                // In a function of WASI nobody hears it.
                drop(baton::take_ask());
                if let Some(waker) = &self.waker {
                    // That function may have ended just now, and will not wake it.
                    waker.wake_by_ref();
                }
                baton::take_copy()
            }
            Stage::Aside(mut held) => {
                let image = held.copy();
                if image.is_some() {
                    self.stage = Stage::Aside(held);
                }
                image
            }
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    fn poll(&mut self) -> Poll<Ended> {
        let waker = self.waker.as_ref().unwrap_or(Waker::noop());
        let call = &mut self.call;
        let polled = match self.system {
            // What waits there asks for the runtime of the thread that polls it.
            Some(_) => with_ambient_tokio_runtime(|| call.poll(waker)),
            None => call.poll(waker),
        };
        let (body, ended) = match polled {
            Some(Poll::Ready(ended)) => ended,
            Some(Poll::Pending) => {
                self.stage = Stage::Called;
                return Poll::Pending;
            }
            None => return Poll::Ready(None),
        };
        self.end(body, &ended);
        Poll::Ready(ended)
    }

    /// A call has ended.
    fn end(&mut self, body: Box<Body>, ended: &Ended) {
        if matches!(ended, Some((_, Outcome::Panicked(_)))) {
            self.pages = body.pages();
        } else {
            self.rest(body);
        }
    }

    fn rest(&mut self, body: Box<Body>) {
        self.pages = body.pages();
        self.stage = Stage::Rest(body);
    }

    /// Brings its memory to the size of an image of so many pages, if the system
    /// has room. It stands at the base.
    pub(crate) fn resize(&mut self, pages: u32) -> Result<bool, String> {
        self.serve(async |body| body.resize(pages))
    }

    /// Puts an image into the frame, which stands at the base and has a memory
    /// of the image's size.
    pub(crate) fn load(&mut self, image: &Image) -> Result<(), String> {
        self.serve(async |body| body.load(image))
    }

    /// Takes the image, and keeps it in the frame or brings the frame to the base.
    pub(crate) fn save(&mut self, after: After) -> Result<Image, String> {
        self.serve(async |body| Ok(body.save(after)))
    }

    /// Brings the frame to the base.
    pub(crate) fn reset(&mut self) {
        // A frame that is broken is not given to anybody again.
        drop(self.serve(async |body| {
            body.reset();
            Ok(())
        }));
    }

    /// Calls `save`.
    pub(crate) fn call_save(&mut self) -> Result<Vec<u8>, String> {
        self.serve(Body::call_save)
    }

    /// Calls `load` with a state of this schema.
    pub(crate) fn call_load(&mut self, schema: i32, state: Vec<u8>) -> Result<(), String> {
        self.serve(async |body| body.call_load(schema, state).await)
    }

    /// Runs the initialization of a process if its module has one for each. The
    /// frame stands at the base.
    pub(crate) fn initialize(
        &mut self,
        artifact: &Artifact,
        module: &str,
        grants: &Grants,
    ) -> Result<(), String> {
        match artifact.initialization {
            Initialization::Shared => Ok(()),
            Initialization::PerProcess => {
                self.serve(async |body| body.initialize(module, grants).await)
            }
        }
    }

    /// Does something at rest. It may run guest code, which is never suspended
    /// there.
    fn serve<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Body) -> Result<T, String>,
    ) -> Result<T, String> {
        let body = match &mut self.stage {
            Stage::Rest(body) => body,
            Stage::Called | Stage::Aside(_) => {
                return Err("a process is suspended in the frame".into());
            }
            Stage::Broken(text) => return Err(text.to_string()),
        };
        body.here();
        match at_once(act(body)) {
            Ok(result) => {
                self.pages = body.pages();
                self.written = body.written();
                result
            }
            Err(text) => {
                tracing::error!("a frame is dropped: {text}");
                self.stage = Stage::Broken(text.clone().into());
                Err(text)
            }
        }
    }
}

/// How an entry on this thread's stack has ended.
pub(crate) enum OnThread {
    /// The process is back, in a seat that need not be the one it began in.
    Ended(Seated, Box<GuestOwn>, Outcome),
    /// It has waited, and was ended while it did; whoever did that has it.
    Elsewhere,
    /// A bug of the host has lost it.
    Lost,
}

/// Runs the process of a frame at rest on this thread's stack. `Err`: it cannot,
/// and nothing has happened.
pub(crate) fn run_here(
    mut seated: Seated,
    own: Box<GuestOwn>,
) -> Result<OnThread, (Seated, Box<GuestOwn>)> {
    let Some(mut body) = seated.frame.take_body() else {
        return Err((seated, own));
    };
    aside::put(aside::Here::Seated(seated));
    let ended = body.run_here(own);
    Ok(match aside::take() {
        Some(aside::Here::Seated(mut seated)) => {
            seated.frame.end(body, &ended);
            match ended {
                Some((own, outcome)) => OnThread::Ended(seated, own, outcome),
                None => OnThread::Lost,
            }
        }
        Some(aside::Here::Ending(ending)) => {
            ending.with(body);
            OnThread::Elsewhere
        }
        // It could not be copied while it waited: whoever has the seat has the process.
        None if ended.is_none() => OnThread::Elsewhere,
        None => OnThread::Lost,
    })
}

/// What a frame is while a guest runs in it, and stays if the host fails.
const LOST: Stage = Stage::Broken(Cow::Borrowed("the host failed while a process ran in it"));

/// The result of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
        Ok(Poll::Ready(result)) => Ok(result),
        Ok(Poll::Pending) => Err("it waited where nothing may wait".into()),
        Err(panic) => Err(format!("the host failed: {}", panic_text(&*panic))),
    }
}

pub(crate) fn panicked(text: &str) -> Outcome {
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
