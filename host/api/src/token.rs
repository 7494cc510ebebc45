//! Tokens: what clients of the remote API show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::role::Role;

/// The most tokens that a node has.
pub const MAX_TOKENS: usize = 256;

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Who it is for, in the audit log and the log of releases.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Only processes with these names, where `*` at the end stands for any rest; none: all.
    #[serde(default)]
    pub names: Vec<String>,
    /// Only deployments of these modules; none: all.
    #[serde(default)]
    pub modules: Vec<String>,
    /// After how many seconds it expires; `null`: never.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its id, by which it is revoked.
    pub id: String,
    /// Who it is for.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The processes, by name; none: all.
    pub names: Vec<String>,
    /// The modules; none: all.
    pub modules: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it expires, likewise; `null`: never.
    pub expires_ms: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreated {
    /// The token. It is shown this once.
    pub token: String,
    /// What is known of it from now on.
    pub info: Token,
}

/// All tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// The tokens, oldest first.
    pub items: Vec<Token>,
}
