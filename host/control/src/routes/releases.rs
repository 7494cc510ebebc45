//! The routes of releases: deployments, rollbacks, and what there is to roll back to.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{
    DeployOptions, MAX_MESSAGE_BYTES, Pinned, Problem, Release, ReleaseList, RollbackOptions, Swap,
    code,
};

use super::{Answered, App, Named, NamedTwo, Params, Shared, blocking, json};
use crate::access::{Caller, check_module};
use crate::host::Host;
use crate::problem::Refusal;
use crate::upload::Modules;

pub(super) async fn list<H: Host>(State(shared): App<H>) -> Answered {
    let items = blocking(&shared, |host| host.releases()).await?;
    Ok(json(ReleaseList { items }))
}

pub(super) async fn release<H: Host>(State(shared): App<H>, Named(asked): Named) -> Answered {
    Ok(json(find(&shared, asked).await?))
}

/// Returns a release by its number, or the current one.
async fn find<H: Host>(shared: &Arc<Shared<H>>, asked: String) -> Result<Release, Refusal> {
    let releases = blocking(shared, |host| host.releases()).await?;
    let found = releases.into_iter().find(|release| match asked.as_str() {
        "current" => release.current,
        number => number == release.release.to_string(),
    });
    found.ok_or_else(|| {
        Problem::new(
            code::NO_RELEASE,
            format!("release {asked} is neither current nor can it be rolled back to"),
        )
        .help("`GET /v1/releases` lists those that are")
        .into()
    })
}

pub(super) async fn module<H: Host>(
    State(shared): App<H>,
    NamedTwo(asked, module): NamedTwo,
) -> Answered {
    let number = find(&shared, asked).await?.release;
    let bytes = blocking(&shared, move |host| host.module_of(number, &module)).await?;
    Ok(([(header::CONTENT_TYPE, "application/wasm")], bytes).into_response())
}

pub(super) async fn pin<H: Host>(State(shared): App<H>, Named(asked): Named) -> Answered {
    set_pin(shared, asked, true).await
}

pub(super) async fn unpin<H: Host>(State(shared): App<H>, Named(asked): Named) -> Answered {
    set_pin(shared, asked, false).await
}

async fn set_pin<H: Host>(shared: Arc<Shared<H>>, asked: String, pinned: bool) -> Answered {
    let release = find(&shared, asked).await?.release;
    let changed = blocking(&shared, move |host| host.pin(release, pinned)).await?;
    Ok(json(Pinned {
        release,
        pinned,
        changed,
    }))
}

pub(super) async fn deploy<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    Params(options): Params<DeployOptions>,
    Modules { modules, held }: Modules,
) -> Answered {
    for module in &modules {
        check_module(&caller, &module.name)?;
    }
    check_message(&options.message)?;
    let author = caller.name.to_string();
    let swap = blocking(&shared, move |host| {
        let _held = held;
        host.deploy(modules, options, author)
    })
    .await?;
    Ok(swapped(&swap))
}

pub(super) async fn rollback<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    Params(options): Params<RollbackOptions>,
) -> Answered {
    check_message(&options.message)?;
    let author = caller.name.to_string();
    let swap = blocking(&shared, move |host| host.rollback(options, author)).await?;
    Ok(swapped(&swap))
}

/// The message is in the log of releases for as long as its release.
fn check_message(message: &str) -> Result<(), Problem> {
    match message.len() {
        0..=MAX_MESSAGE_BYTES => Ok(()),
        more => Err(Problem::new(
            code::TOO_LARGE,
            format!("the message has {more} bytes, and the limit is {MAX_MESSAGE_BYTES}"),
        )),
    }
}

/// A swap as a response: a new release was created, unless nothing had changed.
fn swapped(swap: &Swap) -> Response {
    let path = format!("/v1/releases/{}", swap.release);
    match swap.changed {
        true => (StatusCode::CREATED, [(header::LOCATION, path)], json(swap)).into_response(),
        false => json(swap),
    }
}
