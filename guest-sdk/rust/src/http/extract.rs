//! What handlers take from requests, and what they return.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BodyError, BodyStream, Request, Response};

/// What an argument of a handler is made of: see [`#[exuvia::http]`](macro@crate::http). Implement it for what several handlers
/// need.
///
/// ```
/// use exuvia::http::{FromRequest, Request, Response};
///
/// /// Who asks, as a proxy in front of the node says it.
/// struct User(String);
///
/// impl FromRequest for User {
///     fn from_request(request: &Request) -> Result<User, Response> {
///         match request.header("x-user") {
///             Some(name) => Ok(User(name.to_owned())),
///             None => Err(Response::error(401, "who are you?")),
///         }
///     }
/// }
///
/// # use exuvia::prelude::*;
/// # #[derive(Serialize, Deserialize)]
/// # struct Page;
/// #[exuvia::http]
/// impl Page {
///     #[get("/hello")]
///     fn hello(&self, user: User) -> String {
///         format!("Hello, {}", user.0)
///     }
/// }
/// # #[exuvia::actor(schema = 1, http)]
/// # impl Actor for Page {
/// #     fn init(_: (), _: &mut Context) -> Result<Self, String> { Ok(Page) }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a request",
    note = "an argument that has the name of a parameter in the handler's path is that parameter; with `#[header(\"name\")]` it is a header",
    note = "others are `Json`, `Form`, `Query`, `BodyStream`, `&Request`, `Responder`, `&mut Context`, and what implements `FromRequest`"
)]
pub trait FromRequest: Sized {
    /// Takes it. The error is what the client gets in place of the handler's response.
    fn from_request(request: &Request) -> Result<Self, Response>;
}

/// What a handler may return.
///
/// | type | response |
/// | --- | --- |
/// | `()` | 204, without a body |
/// | `String`, `&'static str` | text |
/// | [`Json<T>`] | the value as JSON |
/// | `(u16, R)` | `R` with this status |
/// | `Option<R>` | 404 for `None` |
/// | `Result<R, E>` | either, each as its type says |
/// | [`Response`] | all others |
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no response",
    note = "return a `Response`, `()`, text, `Json`, `(u16, R)`, an `Option` or a `Result` of these"
)]
pub trait IntoResponse {
    /// Makes the response.
    fn into_response(self) -> Response;
}

/// A body of JSON: of a request, as [`Request::json`] reads it, or of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A form that a browser has sent, as [`Request::form`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form<T>(pub T);

/// What follows the `?`, as [`Request::query`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &Request) -> Result<Json<T>, Response> {
        request.json().map(Json)
    }
}

impl<T: DeserializeOwned> FromRequest for Form<T> {
    fn from_request(request: &Request) -> Result<Form<T>, Response> {
        request.form().map(Form)
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    fn from_request(request: &Request) -> Result<Query<T>, Response> {
        request.query().map(Query)
    }
}

impl FromRequest for BodyStream {
    fn from_request(request: &Request) -> Result<BodyStream, Response> {
        Ok(request.body_stream())
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(204)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0)
    }
}

impl<R: IntoResponse> IntoResponse for (u16, R) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<R: IntoResponse> IntoResponse for Option<R> {
    fn into_response(self) -> Response {
        match self {
            Some(response) => response.into_response(),
            None => Response::error(404, "there is no such thing"),
        }
    }
}

impl<R: IntoResponse, E: IntoResponse> IntoResponse for Result<R, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(response) => response.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        self.into()
    }
}
