//! Who may do what: each connection has a caller with a role, and each route needs one. A request for which no caller is
//! known is refused.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use exuvia_api::openapi::PATH;
use exuvia_api::{Problem, Role, code, is_pid};
use percent_encoding::percent_decode_str;

use crate::audit::{Audit, Entry};
use crate::bodies::forget_request;
use crate::problem::Refusal;
use crate::tokens::Scope;

/// The program at the other end of a connection, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who it is: `uid` and the number of the system's user.
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) scope: Arc<Scope>,
    pub(crate) audit: Option<Audit>,
}

/// Lets a request through if its caller has the role that the route needs. What changes something is noted, and what is
/// refused.
pub(crate) async fn guard(
    needed: Role,
    path: &'static str,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let Some(caller) = caller else {
        return refuse(request, "nobody knows who asks".to_owned()).await;
    };
    let refused = refusal(&caller, needed, path, request.uri());
    let mut noted = Noted {
        entry: Some(Entry::new(&caller, request.method(), request.uri())),
        began: now(),
        changes: needed >= Role::Operate,
        audit: caller.audit.clone(),
    };
    let response = match refused {
        None => next.run(request).await,
        Some(why) => refuse(request, why).await,
    };
    noted.ended(response.status().as_u16());
    response
}

/// A request that is noted when it ends, also if its client is gone before.
struct Noted {
    entry: Option<Entry>,
    began: Instant,
    /// Whether it may change something.
    changes: bool,
    audit: Option<Audit>,
}

impl Noted {
    fn ended(&mut self, status: u16) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        let is_refused = matches!(status, 401 | 403);
        if let Some(audit) = &self.audit
            && (self.changes || is_refused)
        {
            audit.note(entry.ended(status, self.began.elapsed()), is_refused);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.ended(GONE);
    }
}

/// The status of a request whose client did not wait for its end; what it asked for may have been done.
const GONE: u16 = 499;

/// Returns why a caller may not do something, if it may not.
fn refusal(caller: &Caller, needed: Role, path: &str, uri: &Uri) -> Option<String> {
    let (role, scope) = (caller.role, &caller.scope);
    if role < needed {
        return Some(format!(
            "this needs the role `{needed}`, and this connection has `{role}`"
        ));
    }
    // Everybody may know whether it is there.
    if matches!(path, "/healthz" | "/readyz" | PATH) {
        return None;
    }
    if !scope.names.is_empty() {
        let target = path.starts_with("/v1/processes/{process}").then(|| {
            let target = uri.path().split('/').nth(3).unwrap_or_default();
            percent_decode_str(target).decode_utf8_lossy().into_owned()
        });
        return match target {
            Some(target) if scope.has_name(&target) => None,
            Some(target) => Some(format!("this token is not for `{target}`")),
            None => Some("this token is for some processes only".to_owned()),
        };
    }
    // What a deployment has is known when it is read.
    if !scope.modules.is_empty() && needed > Role::Read && path != "/v1/releases" {
        return Some("this token is for deployments of some modules only".to_owned());
    }
    None
}

/// Checks that a caller may deploy a module.
pub(crate) fn check_module(caller: &Caller, module: &str) -> Result<(), Problem> {
    match caller.scope.has_module(module) {
        true => Ok(()),
        false => Err(Problem::new(
            code::FORBIDDEN,
            format!("this token is not for module `{module}`"),
        )),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request took is for people"
)]
fn now() -> Instant {
    Instant::now()
}

async fn refuse(request: Request, why: String) -> Response {
    forget_request(request).await;
    let problem = Problem::new(code::FORBIDDEN, why)
        .help("use the node's own socket, or a token or a socket that may do more");
    Refusal::from(problem).into_response()
}

/// Checks that a caller may address a process like this: who may only call knows names, not pids.
pub(crate) fn check_target(caller: &Caller, target: &str) -> Result<(), Problem> {
    if caller.role > Role::Call || !is_pid(target) {
        return Ok(());
    }
    Err(Problem::new(
        code::FORBIDDEN,
        "with the role `call`, only processes with a name can be reached",
    )
    .help("name the process instead of its pid"))
}
