//! The parts of an OpenAPI document that this one has (<https://spec.openapis.org/oas/v3.1.0>).
//! Fields are in the order in which a reader wants them.

use std::collections::BTreeMap;

use schemars::Schema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::role::Role;

#[derive(Serialize)]
pub(super) struct Document {
    pub(super) openapi: &'static str,
    pub(super) info: Info,
    /// By path, then by method.
    pub(super) paths: BTreeMap<&'static str, BTreeMap<&'static str, Operation>>,
    pub(super) components: BTreeMap<&'static str, Map<String, Value>>,
}

#[derive(Serialize)]
pub(super) struct Info {
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) license: License,
    pub(super) version: &'static str,
}

#[derive(Serialize)]
pub(super) struct License {
    pub(super) name: &'static str,
    /// As SPDX writes it.
    pub(super) identifier: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) operation_id: &'static str,
    pub(super) summary: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'static str>,
    /// The least role that it needs.
    #[serde(rename = "x-role")]
    pub(super) role: Role,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parameters: Vec<Parameter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_body: Option<Body>,
    /// By status.
    pub(super) responses: BTreeMap<String, Response>,
}

impl Operation {
    pub(super) fn new(
        operation_id: &'static str,
        summary: &'static str,
        role: Role,
        parameters: Vec<Parameter>,
    ) -> Self {
        Self {
            operation_id,
            summary,
            description: None,
            role,
            parameters,
            request_body: None,
            responses: BTreeMap::new(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Parameter {
    pub(super) name: String,
    #[serde(rename = "in")]
    pub(super) place: In,
    pub(super) required: bool,
    pub(super) description: String,
    pub(super) schema: Schema,
}

/// Where a parameter is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum In {
    Path,
    Query,
}

/// The body of a request.
#[derive(Serialize)]
pub(super) struct Body {
    required: bool,
    content: BTreeMap<&'static str, Content>,
}

impl Body {
    pub(super) fn new(media: &'static str, schema: Schema, required: bool) -> Self {
        let content = BTreeMap::from([(media, Content { schema })]);
        Self { required, content }
    }
}

#[derive(Serialize)]
pub(super) struct Response {
    description: String,
    /// By media type.
    content: BTreeMap<&'static str, Content>,
}

impl Response {
    pub(super) fn new(description: String, media: &'static str, schema: Schema) -> Self {
        let content = BTreeMap::from([(media, Content { schema })]);
        Self {
            description,
            content,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Content {
    schema: Schema,
}
