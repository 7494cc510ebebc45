//! The routes of the node as a whole: health, metrics, the document, its state and its modules,
//! and the request to stop it.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{MAX_REQUEST_BYTES, ModuleList, Problem, StopOptions, code, openapi};
use tokio::sync::oneshot;

use super::{Answered, App, Named, blocking, from_json, json};
use crate::bodies::Whole;
use crate::health;
use crate::host::Host;
use crate::metrics;
use crate::server::StopRequest;

pub(super) async fn alive() -> Response {
    health::alive()
}

pub(super) async fn ready<H: Host>(State(shared): App<H>) -> Answered {
    let health = shared.health.clone();
    let ready = blocking(&shared, move |_| health.check()).await;
    ready?;
    Ok(health::ready())
}

pub(super) async fn metrics<H: Host>(State(shared): App<H>) -> Answered {
    let info = blocking(&shared, |host| Ok(host.info())).await?;
    Ok(metrics::response(info)?)
}

pub(super) async fn document() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, openapi::document()).into_response()
}

pub(super) async fn info<H: Host>(State(shared): App<H>) -> Answered {
    let info = blocking(&shared, |host| Ok(host.info())).await?;
    Ok(json(info))
}

pub(super) async fn modules<H: Host>(State(shared): App<H>) -> Answered {
    let info = blocking(&shared, |host| Ok(host.info())).await?;
    Ok(json(ModuleList {
        items: info.modules,
    }))
}

pub(super) async fn module<H: Host>(State(shared): App<H>, Named(name): Named) -> Answered {
    let info = blocking(&shared, |host| Ok(host.info())).await?;
    let mut modules = info.modules.into_iter();
    match modules.find(|module| module.name == name) {
        Some(module) => Ok(json(module)),
        None => Err(Problem::new(
            code::NO_MODULE,
            format!("the current release has no module `{name}`"),
        )
        .help("`GET /v1/modules` lists them")
        .into()),
    }
}

pub(super) async fn stop<H: Host>(
    State(shared): App<H>,
    body: Whole<MAX_REQUEST_BYTES>,
) -> Answered {
    let stopping = || Problem::new(code::STOPPING, "the node is already stopping");
    let options = match body.bytes.as_slice() {
        [] => StopOptions::default(),
        bytes => from_json(bytes)?,
    };
    let (answer, answered) = oneshot::channel();
    let request = StopRequest {
        timeout: options.timeout_ms.map(Duration::from_millis),
        answer,
    };
    shared.stop.try_send(request).map_err(|_| stopping())?;
    let report = answered.await.map_err(|_| stopping())?;
    Ok(json(report))
}
