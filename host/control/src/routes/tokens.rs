//! The routes of tokens.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use exuvia_api::{MAX_REQUEST_BYTES, NewToken, Problem, TokenList, code};

use super::{Answered, App, Named, from_json, json};
use crate::access::Caller;
use crate::bodies::Whole;
use crate::host::Host;

pub(super) async fn list<H: Host>(State(shared): App<H>) -> Answered {
    let items = shared.tokens.list();
    Ok(json(TokenList { items }))
}

pub(super) async fn create<H: Host>(
    State(shared): App<H>,
    Extension(caller): Extension<Caller>,
    body: Whole<MAX_REQUEST_BYTES>,
) -> Answered {
    let asked: NewToken = from_json(&body.bytes)?;
    if asked.role > caller.role {
        let why = format!(
            "a token of the role `{}` cannot be made by `{}`",
            asked.role, caller.role
        );
        return Err(Problem::new(code::FORBIDDEN, why).into());
    }
    let tokens = Arc::clone(&shared.tokens);
    let made = tokio::task::spawn_blocking(move || tokens.create(asked)).await;
    let made = made.map_err(|error| crate::problem::panicked(&error))??;
    Ok((StatusCode::CREATED, json(made)).into_response())
}

pub(super) async fn revoke<H: Host>(State(shared): App<H>, Named(id): Named) -> Answered {
    let tokens = Arc::clone(&shared.tokens);
    let gone = tokio::task::spawn_blocking(move || tokens.revoke(&id)).await;
    Ok(json(
        gone.map_err(|error| crate::problem::panicked(&error))??,
    ))
}
