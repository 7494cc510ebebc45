//! A node as a [`Host`]: resolves names to pids, and maps the node's errors to
//! problems with a code.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use exuvia_api::{
    self as api, DeployOptions, Description, EventLine, Info, Inspection, Killed, Loops, Problem,
    ProcessPage, Release, Restarted, RollbackOptions, Sent, Sort, SupervisionTree, Suspended, Swap,
    Top, Upload, code,
};
use exuvia_node::{
    CallFailed, DeployOptions as NodeOptions, Filter, Loops as NodeLoops, ModuleBytes, Node, Pid,
    Rendered, RestartFailed, SendFailed, Sort as NodeSort, SwapError, SwapReport, TYPED_TAG,
    TargetError, TimedEvent, Traced,
};
use serde_json::Value;
use tokio::sync::broadcast;

use super::{Host, Sentences, convert, rendered};

/// A node, and the words in which it is shown.
#[derive(Clone, Debug)]
pub struct NodeHost {
    node: Node,
    sentences: Sentences,
}

impl NodeHost {
    /// Returns the host of a node.
    pub fn new(node: Node, sentences: Sentences) -> Self {
        Self { node, sentences }
    }

    fn swapped(&self, report: &SwapReport) -> Swap {
        Swap {
            release: report.release,
            changed: !report.modules.is_empty() && !report.planned,
            line: (self.sentences.swap)(report),
            report: serde_json::to_value(report).unwrap_or(Value::Null),
        }
    }
}

impl Host for NodeHost {
    type Event = TimedEvent;

    fn info(&self) -> Info {
        convert::info(self.node.info())
    }

    fn not_ready(&self) -> Option<String> {
        self.node.not_ready()
    }

    fn processes(&self, module: Option<String>, after: Option<u32>, limit: usize) -> ProcessPage {
        let (found, next) = self.node.processes_after(&Filter { module, limit }, after);
        ProcessPage {
            items: found.into_iter().map(convert::process).collect(),
            next: next.map(|slot| slot.to_string()),
        }
    }

    fn inspect(&self, target: &str) -> Result<Inspection, Problem> {
        let pid = find(&self.node, target)?;
        let (inspection, state) = self.node.inspect(pid).map_err(|error| no_process(&error))?;
        let state = state.map(|state| rendered(TYPED_TAG, &state));
        Ok(convert::inspection(inspection, state))
    }

    fn top(&self, sort: Sort, limit: usize) -> Top {
        let sort = match sort {
            Sort::Reductions => NodeSort::Reductions,
            Sort::Mailbox => NodeSort::Mailbox,
            Sort::Memory => NodeSort::Memory,
        };
        convert::top(self.node.top(sort, limit))
    }

    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Problem> {
        let pid = find(&self.node, target)?;
        self.node
            .trace(pid, limit)
            .map_err(|error| no_process(&error))
    }

    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Problem> {
        let pid = find(&self.node, target)?;
        let done = match on {
            true => self.node.suspend(pid),
            false => self.node.resume(pid),
        };
        let done = done.map_err(|error| no_process(&error))?;
        Ok(Suspended {
            changed: done.changed,
            at_rest: done.still,
        })
    }

    fn kill(&self, target: &str, reason: Option<&str>) -> Result<Killed, Problem> {
        let pid = find(&self.node, target)?;
        let exited = self
            .node
            .end(pid, reason)
            .map_err(|error| no_process(&error))?;
        Ok(Killed {
            pid: pid.to_string(),
            exited,
        })
    }

    fn restart(&self, target: &str) -> Result<Restarted, Problem> {
        let pid = find(&self.node, target)?;
        match self.node.restart(pid) {
            Ok(new) => Ok(Restarted {
                previous: pid.to_string(),
                pid: new.to_string(),
            }),
            Err(RestartFailed::Target(error)) => Err(no_process(&error)),
            Err(error) => Err(Problem::new(code::NOT_RESTARTED, error.to_string())),
        }
    }

    fn describe(&self, target: &str) -> Result<Description, Problem> {
        let pid = find(&self.node, target)?;
        let description = self.node.description(pid);
        let description = description.map_err(|error| no_process(&error))?;
        Ok(convert::description(description))
    }

    fn tree(&self, limit: usize) -> SupervisionTree {
        let roots = self.node.tree(limit);
        SupervisionTree {
            roots: roots.into_iter().map(convert::branch).collect(),
        }
    }

    fn is_native(&self, target: &str) -> bool {
        self.node
            .find(target)
            .is_ok_and(|pid| self.node.is_native(pid))
    }

    fn send(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        observe: bool,
    ) -> Result<Sent, Problem> {
        let pid = find(&self.node, target)?;
        let warnings = match observe {
            true => self.node.send_and_observe(pid, tag, payload),
            false => self.node.send(pid, tag, payload).map(|()| Vec::new()),
        };
        let warnings = warnings.map_err(|error| not_sent(&error))?;
        Ok(Sent { warnings })
    }

    fn call(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Problem> {
        let pid = find(&self.node, target)?;
        match self.node.call(pid, tag, payload, timeout) {
            Ok(reply) => match refused_by_supervisor(&self.node, pid, &reply.payload) {
                Some(why) => Err(Problem::new(code::REFUSED, why)),
                None => Ok((reply.tag, reply.payload)),
            },
            Err(CallFailed::Send(error)) => Err(not_sent(&error)),
            Err(error) => {
                let code = match error {
                    CallFailed::Timeout { .. } | CallFailed::Suspended { .. } => code::TIMEOUT,
                    CallFailed::TableFull => code::BUSY,
                    _ => code::NO_REPLY,
                };
                Err(Problem::new(code, error.to_string()))
            }
        }
    }

    fn releases(&self) -> Result<Vec<Release>, Problem> {
        let releases = self.node.releases();
        Ok(releases.into_iter().map(convert::release).collect())
    }

    fn module_of(&self, release: u64, module: &str) -> Result<Vec<u8>, Problem> {
        let found = self.node.module_of(release, module);
        let found = found.map_err(|error| of_store(&error))?;
        found.ok_or_else(|| {
            let what = format!("release {release} has no module `{module}`");
            Problem::new(code::NO_MODULE, what)
        })
    }

    fn pin(&self, release: u64, on: bool) -> Result<bool, Problem> {
        let done = self.node.pin_release(release, on);
        done.map_err(|error| of_store(&error))
    }

    fn deploy(
        &self,
        modules: Vec<Upload>,
        options: DeployOptions,
        author: String,
    ) -> Result<Swap, Problem> {
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
            loops: loops(options.loops),
            plan: options.plan,
            author,
            message: options.message,
            ..NodeOptions::default()
        };
        let report = self.node.deploy(modules, options);
        report
            .map(|report| self.swapped(&report))
            .map_err(|error| refused(&error))
    }

    fn rollback(&self, options: RollbackOptions, author: String) -> Result<Swap, Problem> {
        let node = NodeOptions {
            fresh: options.fresh,
            loops: loops(options.loops),
            author,
            message: options.message,
            ..NodeOptions::default()
        };
        let report = match options.to {
            Some(release) => self.node.rollback_to(release, &node),
            None => self.node.rollback_with(&node),
        };
        report
            .map(|report| self.swapped(&report))
            .map_err(|error| refused(&error))
    }

    fn events(&self) -> broadcast::Receiver<TimedEvent> {
        self.node.events_timed()
    }

    fn event_line(&self, event: &TimedEvent) -> EventLine {
        (self.sentences.event)(event)
    }

    fn message_line(&self, traced: &Traced, payload: Option<&api::Rendered>) -> String {
        (self.sentences.message)(traced, payload)
    }
}

fn loops(loops: Loops) -> NodeLoops {
    match loops {
        Loops::Refuse => NodeLoops::Refuse,
        Loops::Leave => NodeLoops::Leave,
        Loops::Kill => NodeLoops::Kill,
    }
}

/// Maps an error of the release store where no code would have been swapped.
fn of_store(error: &SwapError) -> Problem {
    let problem = Problem::new(&error.code().replace('-', "_"), error.to_string());
    match error.help() {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn find(node: &Node, target: &str) -> Result<Pid, Problem> {
    node.find(target).map_err(|error| no_process(&error))
}

fn no_process(error: &TargetError) -> Problem {
    let code = match error {
        TargetError::Busy(_) => code::BUSY,
        TargetError::Native(_) => code::BAD_REQUEST,
        TargetError::Root(_) => code::REFUSED,
        _ => code::NO_PROCESS,
    };
    Problem::new(code, error.to_string())
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

fn not_sent(error: &SendFailed) -> Problem {
    let code = match error {
        SendFailed::Dead(_) | SendFailed::Unknown(_) => code::NO_PROCESS,
        SendFailed::TooLarge { .. } => code::TOO_LARGE,
        _ => code::NOT_SENT,
    };
    Problem::new(code, error.to_string())
}

/// Maps the error of a swap to a problem. Its code is the node's name for the stage that
/// refused, written with underscores as all codes are.
fn refused(error: &SwapError) -> Problem {
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
    let mut problem = Problem::new(&error.code().replace('-', "_"), message);
    if let SwapError::Verify(verify) = error {
        problem.not_reused = verify.error.not_reused().map(str::to_owned);
    }
    problem.help(match error.help() {
        Some(help) => format!("{help}; {nothing}"),
        None => nothing.to_owned(),
    })
}
