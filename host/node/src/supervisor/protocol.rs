//! What guests say to a supervisor, and hear from it, in MessagePack with field names:
//! `guest-sdk/abi.md`, section 11.

use std::sync::Arc;

use exuvia_abi::{Code, Pid};
use exuvia_engine::Guest;
use exuvia_process::{Context, ExitReason, Limits, Native};
use exuvia_supervisor::{
    ChildInfo, ChildSpec, ChildState, RequestError, Restart, Shutdown, Strategy, SupervisorSpec,
};
use serde::{Deserialize, Serialize, Serializer};

use super::{Start, lasting_place, make};
use crate::grants::{GuestGrants, granted, read};
use crate::node::Node;

/// A supervisor as a guest asks for it: the keys of the manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestSpec {
    #[serde(default)]
    strategy: GuestStrategy,
    intensity: Option<u32>,
    period_s: Option<f64>,
    #[serde(default)]
    children: Vec<GuestChild>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GuestStrategy {
    #[default]
    OneForOne,
    OneForAll,
    RestForOne,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GuestRestart {
    #[default]
    Permanent,
    Transient,
    Temporary,
}

/// A child as a guest asks for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestChild {
    id: String,
    pub(super) module: String,
    name: Option<String>,
    /// Any value; reaches the child in MessagePack.
    args: Option<rmpv::Value>,
    #[serde(default)]
    restart: GuestRestart,
    shutdown_ms: Option<u64>,
    /// What of its parent's part of the system it gets; all, if it is not said.
    wasi: Option<GuestGrants>,
    /// It may ask the supervisor as well.
    #[serde(default)]
    manages: bool,
}

/// A request to a supervisor.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    StartChild(GuestChild),
    TerminateChild(String),
    RestartChild(String),
    DeleteChild(String),
    WhichChildren,
    CountChildren,
}

impl Ask {
    /// Whether it is more than a question.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Ask::WhichChildren | Ask::CountChildren)
    }
}

/// The answer to one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The pid of a child that was started.
    Started(WirePid),
    Done,
    Children(Vec<ChildAnswer>),
    Count {
        specs: usize,
        active: usize,
        supervisors: usize,
        workers: usize,
    },
    Error(Failure),
}

impl Answer {
    pub(super) fn error(code: Code, text: impl Into<String>) -> Answer {
        let text = text.into();
        Answer::Error(Failure { code, text })
    }
}

/// Why something cannot be done: in a code, which is the reply's tag, and in words.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    text: String,
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// What an error of the machine is to a guest.
pub(super) fn code_of(error: &RequestError<Pid, ExitReason>) -> Code {
    match error {
        RequestError::StartFailed(_) => Code::StartFailed,
        RequestError::TooManyChildren { .. } | RequestError::TooManyRequests { .. } => Code::Limit,
        RequestError::NotFound | RequestError::NotRunning => Code::NoProc,
        RequestError::AlreadyStarted(_)
        | RequestError::AlreadyPresent
        | RequestError::Running
        | RequestError::Restarting => Code::BadArgument,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ChildAnswer {
    id: String,
    pid: Option<WirePid>,
    state: String,
}

/// A supervisor from a guest's specification.
pub(crate) fn from_guest(
    node: &Node,
    specification: &[u8],
    limits: &Arc<Limits>,
) -> Result<Box<dyn Native<Guest>>, String> {
    let spec: GuestSpec = read(specification)?;
    let defaults = SupervisorSpec::default();
    let period_ms = match spec.period_s {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 && seconds < 1e9 => {
            (seconds * 1000.0) as u64
        }
        Some(_) => return Err("`period_s` must be a positive number of seconds".into()),
        None => defaults.period_ms,
    };
    let children = spec
        .children
        .into_iter()
        .map(|child| child_spec(child, limits, false))
        .collect::<Result<_, _>>()?;
    let spec = SupervisorSpec {
        strategy: match spec.strategy {
            GuestStrategy::OneForOne => Strategy::OneForOne,
            GuestStrategy::OneForAll => Strategy::OneForAll,
            GuestStrategy::RestForOne => Strategy::RestForOne,
        },
        intensity: spec.intensity.unwrap_or(defaults.intensity),
        period_ms,
        max_children: limits.children as usize,
    };
    // No child of a guest's may have more than the guest.
    let managers = Arc::default();
    make(node, spec, children, limits, Some(limits.clone()), managers)
}

/// The specification of a child that was asked for; `of_node`: of a supervisor that no
/// guest has started.
pub(super) fn child_spec(
    child: GuestChild,
    limits: &Arc<Limits>,
    of_node: bool,
) -> Result<ChildSpec<Start>, String> {
    let id = child.id;
    let limits = granted(limits, child.wasi).map_err(|why| format!("the child `{id}`: {why}"))?;
    // A value that was decoded can be encoded.
    let arguments = child
        .args
        .and_then(|args| rmp_serde::to_vec(&args).ok())
        .unwrap_or_default();
    let start = Start::Process {
        module: child.module.into(),
        name: child.name.map(Into::into),
        arguments: arguments.into(),
        manages: child.manages,
        place: of_node.then(|| lasting_place(&limits)).flatten(),
        limits,
    };
    let mut spec = ChildSpec::worker(id, start).restart(match child.restart {
        GuestRestart::Permanent => Restart::Permanent,
        GuestRestart::Transient => Restart::Transient,
        GuestRestart::Temporary => Restart::Temporary,
    });
    if let Some(milliseconds) = child.shutdown_ms {
        spec.shutdown = Shutdown::TimeoutMs(milliseconds);
    }
    Ok(spec)
}

/// A pid as SDKs read it: 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WirePid(pub(super) Pid);

impl Serialize for WirePid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl ChildAnswer {
    pub(super) fn of(child: ChildInfo<Pid, Start>) -> ChildAnswer {
        let (state, pid) = match child.state {
            ChildState::Down => ("down", None),
            ChildState::Starting => ("starting", None),
            ChildState::Running(pid) => ("running", Some(pid)),
            ChildState::Stopping(pid) => ("stopping", Some(pid)),
            ChildState::Exited(pid) => ("exited", Some(pid)),
            ChildState::Restarting => ("restarting", None),
        };
        ChildAnswer {
            id: child.spec.id.to_string(),
            pid: pid.map(WirePid),
            state: state.into(),
        }
    }
}

pub(super) fn reply(context: &mut Context<'_, Guest>, to: Pid, reference: u64, answer: &Answer) {
    let bytes = rmp_serde::to_vec_named(answer).unwrap_or_default();
    let tag = match answer {
        Answer::Error(failure) => (failure.code as i32).cast_unsigned(),
        _ => 0,
    };
    context
        .own
        .reply(context.system, to, reference, tag, bytes.into());
}
