//! Failures of requests, as RFC 9457 (problem details) describes them.
//!
//! The code is what programs rely on; messages may change. Each code has one status, one title
//! and one section in `docs/api.md`, to which the problem's `type` refers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_REASON_BYTES;

/// The media type of a failure.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What the `type` of a problem begins with; its code follows.
const TYPE: &str = "https://github.com/exuvia/exuvia/blob/main/docs/api.md#";

/// The codes of a [`Problem`]. They are stable, so scripts may rely on them.
pub mod code {
    macro_rules! codes {
        ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = $code;)*

            /// All codes, each with its status and its title.
            pub const ALL: &[(&str, u16, &str)] = &[$(($code, $status, $title)),*];
        };
    }

    codes! {
        /// The request is invalid.
        BAD_REQUEST = "bad_request", 400, "The request is invalid";
        /// There is no such route.
        NO_ROUTE = "no_route", 404, "There is no such route";
        /// The route has no such method.
        METHOD_NOT_ALLOWED = "method_not_allowed", 405, "The route has no such method";
        /// The body is of another type than the route takes.
        UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 415, "The body is of a type that the route does not take";
        /// A limit on sizes is exceeded.
        TOO_LARGE = "too_large", 413, "A limit is exceeded";
        /// The server has reached a limit on concurrent requests.
        BUSY = "busy", 503, "More is under way than is served at a time";
        /// No process has this pid or name.
        NO_PROCESS = "no_process", 404, "There is no such process";
        /// The request has no token that is good.
        UNAUTHORIZED = "unauthorized", 401, "There is no good token";
        /// The caller's role does not suffice.
        FORBIDDEN = "forbidden", 403, "The role does not allow that";
        /// The current release has no such module.
        NO_MODULE = "no_module", 404, "There is no such module";
        /// The release is neither current nor in the release store.
        NO_RELEASE = "no_release", 404, "There is no such release";
        /// The process did not accept the message.
        NOT_SENT = "not_sent", 409, "The process did not accept the message";
        /// No reply arrived in time.
        TIMEOUT = "timeout", 504, "No reply arrived in time";
        /// The process terminated before it replied.
        NO_REPLY = "no_reply", 502, "The process terminated before it replied";
        /// The process or its supervisor rejected the request.
        REFUSED = "refused", 409, "The request was refused";
        /// The process was not restarted.
        NOT_RESTARTED = "not_restarted", 409, "The process was not restarted";
        /// A swap was refused because a module cannot be loaded.
        LOAD = "load", 422, "A module cannot be loaded";
        /// A swap was refused because a process's state cannot be taken over by the new code.
        VERIFY = "verify", 409, "The new code cannot take over the state";
        /// A swap was refused because of processes that would never be upgraded.
        LOOPS = "loops", 409, "Processes would never be upgraded";
        /// A rollback took place while the swap was being prepared.
        ROLLED_BACK = "rolled_back", 409, "The node was rolled back meanwhile";
        /// Another swap was committed first.
        CONFLICT = "conflict", 409, "Another swap was committed first";
        /// There is no release to roll back to.
        NO_EARLIER_RELEASE = "no_earlier_release", 409, "There is no earlier release";
        /// There is no such token.
        NO_TOKEN = "no_token", 404, "There is no such token";
        /// The node keeps no releases.
        NO_STORE = "no_store", 409, "The node has no release store";
        /// As many releases are pinned as may be.
        TOO_MANY_PINS = "too_many_pins", 409, "Too many releases are pinned";
        /// The release store cannot be read or written.
        STORE = "store", 500, "The release store cannot be used";
        /// The app is not up.
        NOT_READY = "not_ready", 503, "The app is not up";
        /// The node is stopping.
        STOPPING = "stopping", 503, "The node is stopping";
        /// An internal error of the host.
        INTERNAL = "internal", 500, "An internal error of the host";
    }
}

/// A failed request: the body of a response whose status is not a success. Boxed, because it is in
/// the results of all requests and hardly ever there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problem(Box<Details>);

/// What is known of a failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Details {
    /// A reference to the description of this kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words, which do not depend on the request.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong with this request, the cause first.
    pub detail: String,
    /// The kind of problem, for programs.
    pub code: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// For a refused swap: why state could not be reused as it is, which in most cases is
    /// intended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_reused: Option<String>,
}

impl Problem {
    /// Creates a problem without help. A code that is not in [`code::ALL`] is a conflict: the
    /// node works, and has refused the request.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        let known = code::ALL.iter().find(|(known, ..)| *known == code);
        let &(_, status, title) = known.unwrap_or(&("", 409, "The request was refused"));
        Self(Box::new(Details {
            kind: format!("{TYPE}{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            help: None,
            not_reused: None,
        }))
    }

    /// Adds help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl std::ops::Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl std::ops::DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

/// Returns the failure of a kill whose reason is longer than [`MAX_REASON_BYTES`].
pub fn reason_too_large() -> Problem {
    Problem::new(
        code::TOO_LARGE,
        format!("the reason has more than {MAX_REASON_BYTES} bytes, which is the limit"),
    )
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::{Problem, code};

    #[test]
    fn each_code_has_one_status_and_a_section_in_the_manual() {
        let page = include_str!("../../../docs/api.md");
        for (code, status, title) in code::ALL {
            let problem = Problem::new(code, "why");
            assert_eq!((problem.status, problem.title.as_str()), (*status, *title));
            let same = code::ALL.iter().filter(|(other, ..)| other == code);
            assert_eq!(same.count(), 1, "{code}");
            let heading = format!("\n#### `{code}`\n");
            assert!(
                page.contains(&heading),
                "docs/api.md has no section `{code}`"
            );
        }
    }

    #[test]
    fn an_unknown_code_is_a_conflict() {
        assert_eq!(Problem::new("odd", "why").status, 409);
    }
}
