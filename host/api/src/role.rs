//! Roles: what a client may do. Each includes those before it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client may do with a node.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Role {
    /// Send to processes that have a name, and call them: for a program beside the app.
    Call,
    /// See everything, but for messages that are traced and the code.
    Read,
    /// Kill, restart, suspend and trace processes, and stop the node.
    Operate,
    /// Replace the code, and read it.
    Deploy,
    /// Everything.
    Admin,
}

/// All roles, the one that may least first.
const ALL: [(Role, &str); 5] = [
    (Role::Call, "call"),
    (Role::Read, "read"),
    (Role::Operate, "operate"),
    (Role::Deploy, "deploy"),
    (Role::Admin, "admin"),
];

impl Role {
    /// Returns its name, as in a request.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// Returns the least role that a route needs; `path` is that of the OpenAPI document. A route that is not listed
    /// needs all that there is.
    pub fn needed(method: &str, path: &str) -> Role {
        match (method, path) {
            ("GET", "/healthz" | "/readyz" | "/v1/openapi.json")
            | ("GET", "/v1/processes/{process}/functions")
            | ("POST", "/v1/processes/{process}/messages" | "/v1/processes/{process}/calls") => {
                Role::Call
            }
            (
                "GET",
                "/metrics"
                | "/v1/node"
                | "/v1/modules"
                | "/v1/modules/{module}"
                | "/v1/events"
                | "/v1/top"
                | "/v1/supervision-tree"
                | "/v1/processes"
                | "/v1/processes/{process}"
                | "/v1/releases"
                | "/v1/releases/{release}",
            ) => Role::Read,
            ("GET", "/v1/processes/{process}/trace")
            | ("DELETE", "/v1/processes/{process}")
            | (
                "POST",
                "/v1/processes/{process}/suspend"
                | "/v1/processes/{process}/resume"
                | "/v1/processes/{process}/restart"
                | "/v1/node/stop",
            ) => Role::Operate,
            ("POST", "/v1/releases" | "/v1/releases/rollback")
            | ("PUT" | "DELETE", "/v1/releases/{release}/pin")
            | ("GET", "/v1/releases/{release}/modules/{module}") => Role::Deploy,
            _ => Role::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let mut all = ALL.iter();
        let found = all.find(|(_, name)| *name == text);
        found.map(|(role, _)| *role).ok_or_else(|| {
            let names = ALL.map(|(_, name)| name).join(", ");
            format!("there is no role `{text}`: they are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Role};

    #[test]
    fn names_are_in_the_order_of_what_they_may() {
        for (position, (role, name)) in ALL.iter().enumerate() {
            assert_eq!((*role as usize, role.name()), (position, *name));
            assert_eq!(name.parse(), Ok(*role));
        }
        assert!(Role::Call < Role::Read && Role::Deploy < Role::Admin);
        let why = "root".parse::<Role>().unwrap_err();
        assert!(why.contains("call, read, operate, deploy, admin"), "{why}");
    }

    #[test]
    fn what_is_not_listed_needs_everything() {
        for (method, path) in [
            ("POST", "/v1/node"),
            ("PATCH", "/healthz"),
            ("GET", "/v1/processes/counter"),
            ("GET", "/v2/new"),
        ] {
            assert_eq!(Role::needed(method, path), Role::Admin, "{method} {path}");
        }
    }
}
