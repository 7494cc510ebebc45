//! A failure as a response.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use exuvia_api::{Failure, code};
use serde_json::json;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal(Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.code.as_str() {
            code::BAD_REQUEST => StatusCode::BAD_REQUEST,
            code::NO_ROUTE | code::NO_PROCESS => StatusCode::NOT_FOUND,
            code::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            code::BUSY | code::STOPPING => StatusCode::SERVICE_UNAVAILABLE,
            code::TIMEOUT => StatusCode::GATEWAY_TIMEOUT,
            code::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
            // The node works and refused the request.
            _ => StatusCode::CONFLICT,
        };
        (status, Json(json!({ "error": self.0 }))).into_response()
    }
}
