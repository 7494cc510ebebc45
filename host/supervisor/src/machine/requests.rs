//! Requests for changes to the children, and the reply to each one in each state.
//!
//! A request waits for its turn in the machine's queue and gets one reply, at once
//! or when its step has ended.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use super::{MAX_WAITING_REQUESTS, Phase, Plan, Supervisor, Waiting, reply};
use crate::children::ChildState;
use crate::event::{Action, RequestError, RequestId};
use crate::spec::{ChildKey, ChildSpec};

#[derive(Debug)]
pub(super) enum Request<S> {
    Start(ChildSpec<S>),
    Terminate(Arc<str>),
    Restart(Arc<str>),
    Delete(Arc<str>),
}

impl<P, S, R> Supervisor<P, S, R>
where
    P: Copy + Eq + Hash + Debug,
{
    /// Queues a request, or refuses it at once.
    pub(super) fn on_request(
        &mut self,
        id: RequestId,
        request: Request<S>,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        let stopping = matches!(self.plan, Some(Plan::Shutdown { .. }));
        if self.phase != Phase::Running || stopping {
            reply(id, Err(RequestError::NotRunning), out);
        } else if self.waiting_requests >= MAX_WAITING_REQUESTS {
            let limit = MAX_WAITING_REQUESTS;
            reply(id, Err(RequestError::TooManyRequests { limit }), out);
        } else {
            self.waiting_requests += 1;
            self.waiting.push_back(Waiting::Request(id, request));
        }
    }

    /// Serves a request. There is neither a step nor a plan.
    pub(super) fn serve(
        &mut self,
        id: RequestId,
        request: Request<S>,
        out: &mut Vec<Action<P, S, R>>,
    ) {
        match request {
            Request::Start(spec) => self.serve_start(id, spec, out),
            Request::Terminate(child) => match self.children.with_id(&child) {
                Some(key) => {
                    self.plan = Some(Plan::StopFor { request: id });
                    self.stop(key, out);
                }
                None => reply(id, Err(RequestError::NotFound), out),
            },
            Request::Restart(child) => match self.find_down(&child) {
                Ok(key) => {
                    self.plan = Some(Plan::StartFor {
                        request: id,
                        new: false,
                    });
                    self.start(key, out);
                }
                Err(error) => reply(id, Err(error), out),
            },
            Request::Delete(child) => match self.find_down(&child) {
                Ok(key) => {
                    self.children.remove(key);
                    reply(id, Ok(None), out);
                }
                Err(error) => reply(id, Err(error), out),
            },
        }
    }

    fn serve_start(&mut self, id: RequestId, spec: ChildSpec<S>, out: &mut Vec<Action<P, S, R>>) {
        let known = self
            .children
            .with_id(&spec.id)
            .and_then(|key| self.children.state(key));
        match known {
            Some(
                ChildState::Running(pid) | ChildState::Stopping(pid) | ChildState::Exited(pid),
            ) => reply(id, Err(RequestError::AlreadyStarted(pid)), out),
            Some(ChildState::Down | ChildState::Starting | ChildState::Restarting) => {
                reply(id, Err(RequestError::AlreadyPresent), out);
            }
            None if self.children.len() >= self.spec.max_children => {
                let limit = self.spec.max_children;
                reply(id, Err(RequestError::TooManyChildren { limit }), out);
            }
            None => {
                let key = self.children.add(spec);
                self.plan = Some(Plan::StartFor {
                    request: id,
                    new: true,
                });
                self.start(key, out);
            }
        }
    }

    fn find_down(&self, id: &str) -> Result<ChildKey, RequestError<P, R>> {
        let key = self.children.with_id(id).ok_or(RequestError::NotFound)?;
        match self.children.state(key) {
            Some(ChildState::Down) => Ok(key),
            Some(ChildState::Restarting) => Err(RequestError::Restarting),
            Some(_) => Err(RequestError::Running),
            None => Err(RequestError::NotFound),
        }
    }
}
