//! Processes whose code is the host's own: supervisors, the node's services,
//! and clients of tests and benchmarks. They have a pid, a mailbox and
//! relations like any other.

use exuvia_abi::{Pid, Reason, receive};

use crate::ExitReason;
use crate::own::{Body, Own};
use crate::signal::Envelope;
use crate::system::System;

/// Messages that a native process handles in one turn.
const TURN: usize = 64;

/// The code of a native process. It must not block its scheduler.
pub trait Native<G>: Send {
    /// Handles one message; the first is `INIT`.
    fn handle(&mut self, context: &mut Context<'_, G>, message: Envelope);
}

/// What a native process can reach while it handles a message.
#[derive(Debug)]
pub struct Context<'a, G> {
    /// Its own half.
    pub own: &'a mut Own<G>,
    /// Everything else.
    pub system: &'a System<G>,
    exit: Option<ExitReason>,
}

impl<G: 'static> Context<'_, G> {
    /// Ends the process when the handler returns.
    pub fn exit(&mut self, reason: ExitReason) {
        self.exit.get_or_insert(reason);
    }

    /// The process's pid.
    pub fn pid(&self) -> Pid {
        self.own.pid()
    }
}

/// How a turn of a process ended.
#[derive(Debug)]
pub enum Turn {
    /// It has nothing to do.
    Rest,
    /// It has more to do.
    Again,
    /// It has ended.
    Exit(ExitReason),
}

/// One turn of a native process. At its end what the process has handled no
/// longer counts against its mailbox's limits.
pub fn turn<G: 'static>(own: &mut Own<G>, system: &System<G>) -> Turn {
    let end = slice(own, system);
    own.publish_stats(system);
    match end {
        Turn::Rest if own.has_more() => Turn::Again,
        end => end,
    }
}

fn slice<G: 'static>(own: &mut Own<G>, system: &System<G>) -> Turn {
    if let Some(reason) = own.drain(system) {
        return Turn::Exit(reason);
    }
    for _ in 0..TURN {
        let Some(message) = own.take(0) else {
            return Turn::Rest;
        };
        let Body::Native(code) = &mut own.body else {
            return Turn::Exit(ExitReason::new(Reason::INTERNAL));
        };
        let Some(mut code) = code.take() else {
            return Turn::Exit(ExitReason::new(Reason::INTERNAL));
        };
        let mut context = Context {
            own,
            system,
            exit: None,
        };
        code.handle(&mut context, message);
        let exit = context.exit.take();
        own.body = Body::Native(Some(code));
        own.reductions += 1;
        if let Some(reason) = exit {
            return Turn::Exit(reason);
        }
    }
    if own.position(receive::ANY, 0).is_some() {
        Turn::Again
    } else {
        Turn::Rest
    }
}
