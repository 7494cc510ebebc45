//! Native processes: supervisors, the node's services, and clients of tests and benchmarks, whose
//! code is Rust code of the host. They have a pid, a mailbox and relations like any other process.

use exuvia_abi::{Pid, Reason};

use crate::ExitReason;
use crate::process::{Body, Process};
use crate::selector::Selector;
use crate::signal::Envelope;
use crate::system::System;

/// Maximum number of messages that a native process handles in one turn.
const TURN: usize = 64;

/// The code of a native process. It must not block its scheduler.
pub trait Native<G>: Send {
    /// Called at the beginning of each turn, when the signals that have arrived are sorted. Returns
    /// whether the messages that wait are to be handled in this turn; false leaves them in the
    /// mailbox.
    fn begin_turn(&mut self, context: &mut Context<'_, G>) -> bool {
        let _ = context;
        true
    }

    /// Returns what this process is, in a word or two, for those who look at the processes of a node.
    fn kind(&self) -> &'static str {
        "native"
    }

    /// Handles one message; the first is `INIT`.
    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope);

    /// Called at the end of a turn that leaves nothing to do. Returns whether the process will
    /// probably be idle for long: then memory that it does not need meanwhile is freed, which costs
    /// as much again when it gets the next message.
    fn rests(&mut self) -> bool {
        false
    }
}

/// What a native process can access while it handles a message.
#[derive(Debug)]
pub struct Context<'a, G> {
    /// The process's private half.
    pub process: &'a mut Process<G>,
    /// The state that all processes share.
    pub system: &'a System<G>,
    exit: Option<ExitReason>,
}

impl<G: 'static> Context<'_, G> {
    /// Terminates the process when the handler returns. The first reason wins.
    pub fn exit(&mut self, reason: ExitReason) {
        self.exit.get_or_insert(reason);
    }

    /// Returns the process's pid.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }
}

/// How a turn of a process ended.
#[derive(Debug)]
pub enum Turn {
    /// It has nothing to do.
    Rest,
    /// It has more to do.
    Again,
    /// It has terminated.
    Exit(ExitReason),
}

/// Runs one turn of a native process. At the end of the turn the messages that the process has
/// handled no longer count against its mailbox's limits.
pub fn turn<G: 'static>(process: &mut Process<G>, system: &System<G>) -> Turn {
    let end = slice(process, system);
    process.publish_stats(system);
    match end {
        Turn::Rest if process.has_pending_signals() => Turn::Again,
        Turn::Rest => {
            if let Body::Native(Some(code)) = &mut process.body
                && code.rests()
            {
                process.trim(system);
            }
            Turn::Rest
        }
        end => end,
    }
}

fn slice<G: 'static>(process: &mut Process<G>, system: &System<G>) -> Turn {
    if let Some(reason) = process.drain(system) {
        return Turn::Exit(reason);
    }
    match run(process, system, |code, context| code.begin_turn(context)) {
        Ok(true) => {}
        Ok(false) => return Turn::Rest,
        Err(reason) => return Turn::Exit(reason),
    }
    for _ in 0..TURN {
        let Some(message) = process.take(0) else {
            return Turn::Rest;
        };
        if let Err(reason) = run(process, system, |code, context| {
            code.handle(context, message)
        }) {
            return Turn::Exit(reason);
        }
        process.reductions += 1;
    }
    if process.position(&Selector::Any).is_some() {
        Turn::Again
    } else {
        Turn::Rest
    }
}

/// Runs a part of the code. Returns its result, or the reason if it ends the process.
fn run<G: 'static, T>(
    process: &mut Process<G>,
    system: &System<G>,
    part: impl FnOnce(&mut dyn Native<G>, &mut Context<'_, G>) -> T,
) -> Result<T, ExitReason> {
    let internal = || ExitReason::new(Reason::INTERNAL);
    let Body::Native(code) = &mut process.body else {
        return Err(internal());
    };
    let mut code = code.take().ok_or_else(internal)?;
    let mut context = Context {
        process,
        system,
        exit: None,
    };
    let result = part(&mut *code, &mut context);
    let exit = context.exit.take();
    process.body = Body::Native(Some(code));
    match exit {
        Some(reason) => Err(reason),
        None => Ok(result),
    }
}
