//! The requests of guests to a supervisor and its replies, in MessagePack with field names:
//! `guest-sdk/abi.md`, section 11.

use std::sync::Arc;

use exuvia_abi::{Code, Pid};
use exuvia_engine::Guest;
use exuvia_process::{Context, ExitReason, Limits, Native, Payload};
use exuvia_supervisor::{
    ChildInfo, ChildSpec, ChildState, RequestError, Restart, Shutdown, Strategy, SupervisorSpec,
};
use serde::{Deserialize, Serialize, Serializer};

use super::{Start, Supervision, lasting_place, make};
use crate::grants::{GuestGrants, granted, read};

/// A supervisor as a guest specifies it, with the keys of the manifest.
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

/// A child as a guest specifies it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestChild {
    id: String,
    pub(super) module: String,
    name: Option<String>,
    /// Any value; the child gets it in MessagePack.
    args: Option<rmpv::Value>,
    #[serde(default)]
    restart: GuestRestart,
    shutdown_ms: Option<u64>,
    /// The part of its parent's WASI grants that it gets; `None`: all of them.
    wasi: Option<GuestGrants>,
    /// Whether it may ask the supervisor to start and stop children.
    #[serde(default)]
    manages: bool,
}

/// A request to a supervisor.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SupervisorCall {
    StartChild(Box<GuestChild>),
    TerminateChild(String),
    RestartChild(String),
    DeleteChild(String),
    WhichChildren,
    CountChildren,
}

impl SupervisorCall {
    /// Returns whether the request changes anything.
    pub(super) fn changes(&self) -> bool {
        !matches!(
            self,
            SupervisorCall::WhichChildren | SupervisorCall::CountChildren
        )
    }
}

/// The reply to a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SupervisorReply {
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

impl SupervisorReply {
    pub(super) fn error(code: Code, text: impl Into<String>) -> SupervisorReply {
        let text = text.into();
        SupervisorReply::Error(Failure { code, text })
    }
}

/// Why a request failed: a code, which is the tag of the reply, and a text.
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

/// Returns the code with which an error of the machine is reported to a guest.
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

/// Makes a supervisor from a guest's specification.
pub(super) fn from_guest(
    supervision: &Arc<Supervision>,
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
    // No child of a guest's supervisor may have more than the guest.
    let managers = Arc::default();
    make(
        supervision,
        spec,
        children,
        limits,
        Some(limits.clone()),
        managers,
    )
}

/// Returns the specification of a requested child; `of_node` says that no guest has started the
/// supervisor.
pub(super) fn child_spec(
    child: GuestChild,
    limits: &Arc<Limits>,
    of_node: bool,
) -> Result<ChildSpec<Start>, String> {
    let id = child.id;
    let limits = granted(limits, child.wasi).map_err(|why| format!("the child `{id}`: {why}"))?;
    // A value that was decoded can be encoded.
    let arguments: Payload = child
        .args
        .and_then(|args| rmp_serde::to_vec(&args).ok())
        .unwrap_or_default()
        .into();
    let start = Start::Process {
        module: child.module.into(),
        name: child.name.map(Into::into),
        arguments: Arc::new(arguments.into()),
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

pub(super) fn reply(
    context: &mut Context<'_, Guest>,
    to: Pid,
    reference: u64,
    answer: &SupervisorReply,
) {
    let bytes = rmp_serde::to_vec_named(answer).unwrap_or_default();
    let tag = match answer {
        SupervisorReply::Error(failure) => (failure.code as i32).cast_unsigned(),
        _ => 0,
    };
    context
        .process
        .reply(context.system, to, reference, tag, bytes.into());
}
