//! A problem as a response (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use exuvia_api::{PROBLEM_JSON, Problem, code};
use tokio::task::JoinError;

/// How many seconds a client should wait before it tries again, if trying again can help.
const RETRY_AFTER: &str = "1";

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// Returns the failure of a request whose work on a thread that may block has panicked.
pub(crate) fn panicked(error: &JoinError) -> Problem {
    Problem::new(code::INTERNAL, format!("the request failed: {error}"))
        .help("this is a bug in Exuvia: please report it")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A few texts and a number: they can always be written.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from_static(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}
