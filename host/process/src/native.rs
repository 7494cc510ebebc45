//! Native processes: supervisors, the node's services, and clients of tests and benchmarks, whose
//! code is Rust code of the host. They have a pid, a mailbox and relations like any other process.

use exuvia_abi::{Pid, Reason, receive};

use crate::ExitReason;
use crate::process::{Body, Process};
use crate::signal::Envelope;
use crate::system::System;

/// Maximum number of messages that a native process handles in one turn.
const TURN: usize = 64;

/// The code of a native process. It must not block its scheduler.
pub trait Native<G>: Send {
    /// Handles one message; the first is `INIT`.
    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope);
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
        end => end,
    }
}

fn slice<G: 'static>(process: &mut Process<G>, system: &System<G>) -> Turn {
    if let Some(reason) = process.drain(system) {
        return Turn::Exit(reason);
    }
    for _ in 0..TURN {
        let Some(message) = process.take(0) else {
            return Turn::Rest;
        };
        let Body::Native(code) = &mut process.body else {
            return Turn::Exit(ExitReason::new(Reason::INTERNAL));
        };
        let Some(mut code) = code.take() else {
            return Turn::Exit(ExitReason::new(Reason::INTERNAL));
        };
        let mut context = Context {
            process,
            system,
            exit: None,
        };
        code.handle(&mut context, message);
        let exit = context.exit.take();
        process.body = Body::Native(Some(code));
        process.reductions += 1;
        if let Some(reason) = exit {
            return Turn::Exit(reason);
        }
    }
    if process.position(receive::ANY, 0).is_some() {
        Turn::Again
    } else {
        Turn::Rest
    }
}
