//! The routes of releases: deployments, rollbacks, and what there is to roll back to.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{DeployOptions, Problem, ReleaseList, Swap, code};

use super::{Answered, App, Named, Params, blocking, json};
use crate::host::Host;
use crate::upload::Modules;

pub(super) async fn list<H: Host>(State(shared): App<H>) -> Answered {
    let items = blocking(&shared, |host| Ok(host.releases())).await?;
    Ok(json(ReleaseList { items }))
}

pub(super) async fn release<H: Host>(State(shared): App<H>, Named(asked): Named) -> Answered {
    let releases = blocking(&shared, |host| Ok(host.releases())).await?;
    let found = releases.into_iter().find(|release| match asked.as_str() {
        "current" => release.current,
        number => number == release.release.to_string(),
    });
    match found {
        Some(release) => Ok(json(release)),
        None => Err(Problem::new(
            code::NO_RELEASE,
            format!("release {asked} is neither current nor can it be rolled back to"),
        )
        .help("`GET /v1/releases` lists those that are")
        .into()),
    }
}

pub(super) async fn deploy<H: Host>(
    State(shared): App<H>,
    Params(options): Params<DeployOptions>,
    Modules { modules, held }: Modules,
) -> Answered {
    let swap = blocking(&shared, move |host| {
        let _held = held;
        host.deploy(modules, options)
    })
    .await?;
    Ok(swapped(&swap))
}

pub(super) async fn rollback<H: Host>(State(shared): App<H>) -> Answered {
    let swap = blocking(&shared, |host| host.rollback()).await?;
    Ok(swapped(&swap))
}

/// A swap as a response: a new release was created, unless nothing had changed.
fn swapped(swap: &Swap) -> Response {
    let path = format!("/v1/releases/{}", swap.release);
    match swap.changed {
        true => (StatusCode::CREATED, [(header::LOCATION, path)], json(swap)).into_response(),
        false => json(swap),
    }
}
