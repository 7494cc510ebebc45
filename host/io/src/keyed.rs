//! Processes by key: found by their name, or started under it, and ended when no request has come for a while.
//!
//! One process of the host starts all of them and is linked to them, so that they end with the gateway. How many
//! requests each has under way is counted here: only a process without any is ended. Processes that somebody else
//! has given such a name get the requests too, but are not ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use exuvia_abi::{Kind, Pid, Reason};
use exuvia_process::{
    Body, Context, Envelope, ExitReason, Limits, NameError, Native, Payload, Process, Signal,
    SpawnError, SpawnSpec, System,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::connection::start_linked;
use crate::gateway::{Guests, NewProcess, NoProcess};

/// How often is looked for processes that have had no request for too long.
pub(crate) const LOOK: Duration = Duration::from_millis(500);
/// How long such a process may take to end before it is killed.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The processes that were started for keys.
pub(crate) struct Keyed<G: 'static> {
    system: Arc<System<G>>,
    guests: Arc<dyn Guests<G>>,
    /// The process that starts them.
    owner: Pid,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Arc<str>, Entry, foldhash::fast::FixedState>,
    names: HashMap<Pid, Arc<str>, foldhash::fast::FixedState>,
    /// Processes that were told to end, and since when: nanoseconds of the node's clock.
    ending: Vec<(Pid, u64)>,
}

#[derive(Debug)]
struct Entry {
    pid: Pid,
    requests: usize,
    /// Since when it is known to have none: nanoseconds of the node's clock.
    idle_since: Option<u64>,
    idle: Duration,
}

impl State {
    fn forget(&mut self, pid: Pid) {
        let name = self.names.remove(&pid);
        if let Some(name) = name
            && self
                .entries
                .get(&name)
                .is_some_and(|entry| entry.pid == pid)
        {
            self.entries.remove(&name);
        }
        self.ending.retain(|(ending, _)| *ending != pid);
    }
}

/// The process that starts them.
struct Owner(Arc<Mutex<State>>);

impl<G: 'static> Native<G> for Owner {
    fn kind(&self) -> &'static str {
        "keys"
    }

    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.process.set_trap_exit(true);
            }
            Kind::Exit if message.sender == Pid::NONE => {
                context.exit(ExitReason::new(Reason::SHUTDOWN));
            }
            Kind::Exit => self.0.lock().forget(message.sender),
            _ => {}
        }
    }
}

/// A request to a process with a key, which is not ended as long as this exists.
pub(crate) struct Use {
    pub(crate) pid: Pid,
    counted: Option<(Arc<Mutex<State>>, Arc<str>)>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let Some((state, name)) = &self.counted else {
            return;
        };
        if let Some(entry) = state.lock().entries.get_mut(name)
            && entry.pid == self.pid
        {
            entry.requests -= 1;
            entry.idle_since = None;
        }
    }
}

impl<G: 'static> Keyed<G> {
    pub(crate) fn start(
        system: &Arc<System<G>>,
        guests: &Arc<dyn Guests<G>>,
        limits: &Arc<Limits>,
    ) -> Result<Keyed<G>, SpawnError> {
        let state = Arc::new(Mutex::new(State::default()));
        let body = Body::Native(Some(Box::new(Owner(state.clone()))));
        let spec = SpawnSpec::new(body, limits.clone(), Payload::empty());
        Ok(Keyed {
            owner: system.spawn(spec)?,
            system: system.clone(),
            guests: guests.clone(),
            state,
        })
    }

    /// Returns the process with a name. If there is none, it is started: its argument is the name, in
    /// MessagePack.
    pub(crate) async fn find(
        &self,
        name: &str,
        module: &str,
        idle: Duration,
    ) -> Result<Use, NoProcess> {
        if let Some(used) = self.running(name) {
            return Ok(used);
        }
        let (done, started) = oneshot::channel();
        let (state, guests) = (self.state.clone(), self.guests.clone());
        let (name, module): (Arc<str>, String) = (name.into(), module.to_owned());
        let start = move |process: &mut Process<G>, system: &System<G>| {
            let started = start(process, system, (&state, &*guests), (&name, &module), idle);
            // Who waits for it may have gone: then it is ended when it has been idle.
            let _ = done.send(started);
        };
        if self.system.control(self.owner, start).is_err() {
            return Err(NoProcess::Stopping);
        }
        started.await.unwrap_or(Err(NoProcess::Stopping))
    }

    /// Returns the process that has the name.
    fn running(&self, name: &str) -> Option<Use> {
        used(&self.system, &self.state, name)
    }

    /// Ends processes that have had no request for too long.
    pub(crate) fn end_idle(&self) {
        let now = self.system.clock.now();
        let is_over = |since: u64, time: Duration| u128::from(now - since) >= time.as_nanos();
        let mut state = self.state.lock();
        let over = |entry: &mut Entry| {
            entry.requests == 0 && is_over(*entry.idle_since.get_or_insert(now), entry.idle)
        };
        let idle: Vec<(Arc<str>, Entry)> =
            (state.entries).extract_if(|_, entry| over(entry)).collect();
        for (name, entry) in idle {
            // The next request starts another one, while this one ends.
            if self.system.names.find(&name) == Some(entry.pid) {
                self.system.names.remove(&name);
            }
            let exit = Signal::Exit {
                from: self.owner,
                reason: ExitReason::with(Reason::SHUTDOWN.0, b"idle"),
                linked: false,
            };
            let _ = self.system.signal(entry.pid, exit);
            state.ending.push((entry.pid, now));
        }
        state.ending.retain(|(pid, since)| {
            let late = is_over(*since, SHUTDOWN);
            if late {
                let _ = self.system.signal(*pid, Signal::Kill { from: self.owner });
            }
            !late
        });
    }

    /// Ends the process that has started them, and all of them with it.
    pub(crate) fn stop(&self) {
        let exit = Signal::Exit {
            from: Pid::NONE,
            reason: ExitReason::new(Reason::SHUTDOWN),
            linked: false,
        };
        let _ = self.system.signal(self.owner, exit);
    }
}

/// Returns the process that has the name, counted if it was started here.
fn used<G: 'static>(system: &System<G>, state: &Arc<Mutex<State>>, name: &str) -> Option<Use> {
    let mut locked = state.lock();
    if let Some((name, _)) = locked.entries.get_key_value(name) {
        let name = name.clone();
        let entry = locked.entries.get_mut(&name)?;
        if system.is_alive(entry.pid) {
            entry.requests += 1;
            return Some(Use {
                pid: entry.pid,
                counted: Some((state.clone(), name)),
            });
        }
        let pid = entry.pid;
        locked.forget(pid);
    }
    drop(locked);
    let pid = system.names.find(name)?;
    Some(Use { pid, counted: None })
}

/// Starts the process with a name, on the owner, unless there is one by now.
fn start<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    (state, guests): (&Arc<Mutex<State>>, &dyn Guests<G>),
    (name, module): (&Arc<str>, &str),
    idle: Duration,
) -> Result<Use, NoProcess> {
    if let Some(used) = used(system, state, name) {
        return Ok(used);
    }
    let NewProcess { body, limits } = guests.new_process(module)?;
    let arguments = rmp_serde::to_vec(&**name).map(|bytes| Payload::new(&bytes));
    let arguments = arguments.unwrap_or_else(|_| Payload::empty());
    let started = start_linked(process, system, (body, limits), arguments, |pid| {
        let registered = system.register(name, pid);
        registered.map_err(NoProcess::Name)
    });
    // Somebody else may have taken the name since.
    let pid = match started {
        Err(NoProcess::Name(NameError::Taken)) => {
            let taken = used(system, state, name);
            return taken.ok_or(NoProcess::Name(NameError::Taken));
        }
        started => started?,
    };
    let mut locked = state.lock();
    locked.names.insert(pid, name.clone());
    locked.entries.insert(
        name.clone(),
        Entry {
            pid,
            requests: 1,
            idle_since: None,
            idle,
        },
    );
    Ok(Use {
        pid,
        counted: Some((state.clone(), name.clone())),
    })
}
