//! The routes of processes: listings, and what is done with one of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use exuvia_api::{
    CallRequest, DEFAULT_LISTED, DEFAULT_TOP, KillQuery, MAX_CALL_TIMEOUT, MAX_LISTED,
    MAX_REASON_BYTES, MAX_REQUEST_BYTES, MAX_TOP, MessageRequest, Problem, ProcessesQuery, Reply,
    Role, TopQuery, TreeQuery, code, reason_too_large,
};

use super::{
    Answered, App, MAX_CALLS, Named, Params, bad_request, blocking, busy, from_json, json, limit,
};
use crate::access::{Caller, check_target};
use crate::audit::Entry;
use crate::bodies::Whole;
use crate::host::{Host, rendered};

pub(super) async fn list<H: Host>(
    State(shared): App<H>,
    Params(query): Params<ProcessesQuery>,
) -> Answered {
    let limit = limit(
        query.limit,
        DEFAULT_LISTED,
        MAX_LISTED,
        "processes in one listing",
    )?;
    let after = query.after.map(|after| after.parse::<u32>());
    let after = after.transpose().map_err(|_| {
        bad_request("`after` is not the `next` of a page".to_owned())
            .help("leave it out for the first page")
    })?;
    let page = blocking(&shared, move |host| {
        Ok(host.processes(query.module, after, limit))
    })
    .await?;
    Ok(json(page))
}

pub(super) async fn top<H: Host>(
    State(shared): App<H>,
    Params(query): Params<TopQuery>,
) -> Answered {
    let limit = limit(query.limit, DEFAULT_TOP, MAX_TOP, "processes in one sample")?;
    let top = blocking(&shared, move |host| Ok(host.top(query.sort, limit))).await?;
    Ok(json(top))
}

pub(super) async fn tree<H: Host>(
    State(shared): App<H>,
    Params(query): Params<TreeQuery>,
) -> Answered {
    let limit = limit(
        query.limit,
        DEFAULT_LISTED,
        MAX_LISTED,
        "processes in one tree",
    )?;
    let tree = blocking(&shared, move |host| Ok(host.tree(limit))).await?;
    Ok(json(tree))
}

pub(super) async fn inspect<H: Host>(State(shared): App<H>, Named(target): Named) -> Answered {
    let inspection = blocking(&shared, move |host| host.inspect(&target)).await?;
    Ok(json(inspection))
}

pub(super) async fn describe<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    Named(target): Named,
) -> Answered {
    check_target(&caller, &target)?;
    let description = blocking(&shared, move |host| host.describe(&target)).await?;
    Ok(json(description))
}

pub(super) async fn kill<H: Host>(
    State(shared): App<H>,
    Named(target): Named,
    Params(query): Params<KillQuery>,
) -> Answered {
    let reason = query.reason;
    if (reason.as_ref()).is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        return Err(reason_too_large().into());
    }
    let killed = blocking(&shared, move |host| host.kill(&target, reason.as_deref())).await?;
    Ok(json(killed))
}

pub(super) async fn suspend<H: Host>(State(shared): App<H>, Named(target): Named) -> Answered {
    let done = blocking(&shared, move |host| host.suspend(&target, true)).await?;
    Ok(json(done))
}

pub(super) async fn resume<H: Host>(State(shared): App<H>, Named(target): Named) -> Answered {
    let done = blocking(&shared, move |host| host.suspend(&target, false)).await?;
    Ok(json(done))
}

pub(super) async fn restart<H: Host>(State(shared): App<H>, Named(target): Named) -> Answered {
    let restarted = blocking(&shared, move |host| host.restart(&target)).await?;
    Ok(json(restarted))
}

pub(super) async fn send<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Named(target): Named,
    body: Whole<MAX_REQUEST_BYTES>,
) -> Answered {
    check_target(&caller, &target)?;
    let Whole { bytes, held } = body;
    let message: MessageRequest = from_json(&bytes)?;
    drop(bytes);
    let payload = message.payload.into_bytes()?;
    // What the receiver logs is for those that may read.
    let observe = message.observe && caller.role >= Role::Read;
    let sent = blocking(&shared, move |host| {
        let _held = held;
        check_native(&host, &caller, &target, &uri)?;
        host.send(&target, message.tag, payload, observe)
    })
    .await?;
    Ok((StatusCode::ACCEPTED, json(sent)).into_response())
}

pub(super) async fn call<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Named(target): Named,
    body: Whole<MAX_REQUEST_BYTES>,
) -> Answered {
    check_target(&caller, &target)?;
    let Whole { bytes, held } = body;
    let request: CallRequest = from_json(&bytes)?;
    drop(bytes);
    let payload = request.payload.into_bytes()?;
    let timeout = Duration::from_millis(request.timeout_ms);
    if timeout > MAX_CALL_TIMEOUT {
        let most = MAX_CALL_TIMEOUT.as_secs();
        let asked = request.timeout_ms;
        return Err(
            bad_request(format!("a call can wait at most {most} s, not {asked} ms")).into(),
        );
    }
    let permit = Arc::clone(&shared.calls).try_acquire_owned().map_err(|_| {
        busy(format!(
            "{MAX_CALLS} calls wait for their replies, which is the limit"
        ))
    })?;
    let (tag, payload) = blocking(&shared, move |host| {
        let _until_here = (held, permit);
        check_native(&host, &caller, &target, &uri)?;
        host.call(&target, request.tag, payload, timeout)
    })
    .await?;
    Ok(json(Reply {
        tag,
        bytes: payload.len() as u64,
        payload: rendered(tag, &payload),
    }))
}

/// Checks that a caller may ask a process of the host, if the target is one. That may change something, and so it is
/// noted before it is done.
fn check_native<H: Host>(
    host: &H,
    caller: &Caller,
    target: &str,
    uri: &Uri,
) -> Result<(), Problem> {
    if !host.is_native(target) {
        return Ok(());
    }
    if caller.role < Role::Operate {
        let what = format!("`{target}` is a process of the host, which needs the role `operate`");
        return Err(Problem::new(code::FORBIDDEN, what));
    }
    if let Some(audit) = &caller.audit {
        let entry = Entry::new(caller, &Method::POST, uri);
        audit.note(
            entry.ended(StatusCode::ACCEPTED.as_u16(), Duration::ZERO),
            false,
        );
    }
    Ok(())
}
