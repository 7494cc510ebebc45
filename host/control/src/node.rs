//! Implements [`Host`] for the node: resolves names to pids, and maps the node's errors to
//! failures with a code.

use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use exuvia_api::{DeployOptions, Failure, Loops, Sort, Upload, code};
use exuvia_node::{
    Branch, CallFailed, DeployOptions as NodeOptions, Description, Filter, Inspection,
    Loops as NodeLoops, ModuleBytes, Node, NodeInfo, Pid, ProcessInfo, Rendered, RestartFailed,
    SendFailed, Sort as NodeSort, Suspended, SwapError, SwapReport, TYPED_TAG, TargetError,
    TimedEvent, Top, Traced,
};
use tokio::sync::broadcast;

use crate::host::Host;

impl Host for Node {
    type Info = NodeInfo;
    type Process = ProcessInfo;
    type Swap = SwapReport;
    type Inspection = Inspection;
    type Top = Top;
    type Description = Description;
    type Branch = Branch;
    type Event = TimedEvent;

    fn info(&self) -> NodeInfo {
        Node::info(self)
    }

    fn processes(&self, module: Option<String>, limit: usize) -> Vec<ProcessInfo> {
        Node::processes(self, &Filter { module, limit })
    }

    fn inspect(&self, target: &str) -> Result<(Inspection, Option<Vec<u8>>), Failure> {
        let pid = find(self, target)?;
        Node::inspect(self, pid).map_err(|error| no_process(&error))
    }

    fn top(&self, sort: Sort, limit: usize) -> Top {
        let sort = match sort {
            Sort::Reductions => NodeSort::Reductions,
            Sort::Mailbox => NodeSort::Mailbox,
            Sort::Memory => NodeSort::Memory,
        };
        Node::top(self, sort, limit)
    }

    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Failure> {
        let pid = find(self, target)?;
        Node::trace(self, pid, limit).map_err(|error| no_process(&error))
    }

    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Failure> {
        let pid = find(self, target)?;
        let changed = match on {
            true => Node::suspend(self, pid),
            false => Node::resume(self, pid),
        };
        changed.map_err(|error| no_process(&error))
    }

    fn kill(&self, target: &str, reason: Option<&str>) -> Result<(String, bool), Failure> {
        let pid = find(self, target)?;
        let ended = Node::end(self, pid, reason).map_err(|error| no_process(&error))?;
        Ok((pid.to_string(), ended))
    }

    fn restart(&self, target: &str) -> Result<(String, String), Failure> {
        let pid = find(self, target)?;
        match Node::restart(self, pid) {
            Ok(new) => Ok((pid.to_string(), new.to_string())),
            Err(RestartFailed::Target(error)) => Err(no_process(&error)),
            Err(error) => Err(Failure::new(code::NOT_RESTARTED, error.to_string())),
        }
    }

    fn describe(&self, target: &str) -> Result<Description, Failure> {
        let pid = find(self, target)?;
        Node::description(self, pid).map_err(|error| no_process(&error))
    }

    fn tree(&self, limit: usize) -> Vec<Branch> {
        Node::tree(self, limit)
    }

    fn send(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        hear: bool,
    ) -> Result<Vec<String>, Failure> {
        let pid = find(self, to)?;
        match hear {
            true => Node::send_and_observe(self, pid, tag, payload),
            false => Node::send(self, pid, tag, payload).map(|()| Vec::new()),
        }
        .map_err(|error| not_sent(&error))
    }

    fn call(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Failure> {
        let pid = find(self, to)?;
        match Node::call(self, pid, tag, payload, timeout) {
            Ok(reply) => match refused_by_supervisor(self, pid, &reply.payload) {
                Some(why) => Err(Failure::new(code::REFUSED, why)),
                None => Ok((reply.tag, reply.payload)),
            },
            Err(CallFailed::Send(error)) => Err(not_sent(&error)),
            Err(error) => {
                let code = match error {
                    CallFailed::Timeout { .. } | CallFailed::Suspended { .. } => code::TIMEOUT,
                    CallFailed::TableFull => code::BUSY,
                    _ => code::NO_REPLY,
                };
                Err(Failure::new(code, error.to_string()))
            }
        }
    }

    fn deploy(&self, modules: Vec<Upload>, options: DeployOptions) -> Result<SwapReport, Failure> {
        let modules = modules
            .into_iter()
            .map(|module| ModuleBytes {
                name: module.name,
                bytes: module.bytes,
                source: module.source,
                noticed: None,
            })
            .collect();
        let options = NodeOptions {
            fresh: options.fresh,
            loops: match options.loops {
                Loops::Refuse => NodeLoops::Refuse,
                Loops::Leave => NodeLoops::Leave,
                Loops::Kill => NodeLoops::Kill,
            },
            made: None,
        };
        Node::deploy(self, modules, options).map_err(|error| refused(&error))
    }

    fn rollback(&self) -> Result<SwapReport, Failure> {
        Node::rollback(self).map_err(|error| refused(&error))
    }

    fn events(&self) -> broadcast::Receiver<TimedEvent> {
        Node::events_timed(self)
    }

    fn event_time(event: &TimedEvent) -> SystemTime {
        event.at
    }
}

fn find(node: &Node, target: &str) -> Result<Pid, Failure> {
    node.find(target).map_err(|error| no_process(&error))
}

fn no_process(error: &TargetError) -> Failure {
    let code = match error {
        TargetError::Busy(_) => code::BUSY,
        TargetError::Native(_) => code::BAD_REQUEST,
        TargetError::Root(_) => code::REFUSED,
        _ => code::NO_PROCESS,
    };
    Failure::new(code, error.to_string())
}

/// Returns why a supervisor rejected a request. Its reply is an ordinary one, since guests call
/// supervisors as well.
fn refused_by_supervisor(node: &Node, pid: Pid, answer: &[u8]) -> Option<String> {
    if !node.is_supervisor(pid) {
        return None;
    }
    match Rendered::new(TYPED_TAG, answer) {
        Rendered::Msgpack(value) => Some(value.as_object()?.get("error")?.as_str()?.to_owned()),
        _ => None,
    }
}

fn not_sent(error: &SendFailed) -> Failure {
    let code = match error {
        SendFailed::Dead(_) | SendFailed::Unknown(_) => code::NO_PROCESS,
        SendFailed::TooLarge { .. } => code::TOO_LARGE,
        _ => code::NOT_SENT,
    };
    Failure::new(code, error.to_string())
}

/// Maps the error of a swap to a failure. The code is the node's name for the stage that
/// refused, written with underscores as all codes are.
fn refused(error: &SwapError) -> Failure {
    let nothing = "nothing has changed: the old code keeps running";
    let message = match error {
        // These errors are about processes; the others are about a file or the node.
        SwapError::Verify(verify) => {
            let (process, cause) = (verify.process(), verify.error.cause());
            format!("the swap was refused: process {process}: {cause}")
        }
        SwapError::Loops { .. } => format!("the swap was refused: {error}"),
        _ => error.to_string(),
    };
    let mut failure = Failure::new(&error.code().replace('-', "_"), message);
    if let SwapError::Verify(verify) = error {
        failure.not_reused = verify.error.not_reused().map(str::to_owned);
    }
    failure.help(match error.help() {
        Some(help) => format!("{help}; {nothing}"),
        None => nothing.to_owned(),
    })
}
