//! The OpenAPI document (3.1). It is made of the types of this crate and of one table of routes
//! (`routes`), so that a type and its description cannot differ. Tests of `control` compare the
//! table with the routes of the server, and its responses with the document.
//!
//! - `model`: the parts of a document, as OpenAPI names them.
//! - `routes`: the table.
//!
//! The schemas of requests describe what the server reads, those of responses what it writes.

mod model;
mod routes;

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use self::model::{Body, Document, In, Info, License, Operation, Parameter, Response};
use crate::problem::code::FORBIDDEN;
use crate::problem::{Details, PROBLEM_JSON, code};
use crate::role::Role;

/// The path at which a node serves the document.
pub const PATH: &str = "/v1/openapi.json";

/// The version of OpenAPI. Its schemas are JSON Schema, draft 2020-12.
const OPENAPI: &str = "3.1.0";

/// Where the schemas of types are in the document.
const SCHEMAS: &str = "/components/schemas";

/// Returns the document as JSON, indented, with a newline at the end.
pub fn document() -> String {
    let mut table = Table::new();
    routes::describe(&mut table);
    // The document consists of texts, lists and maps with texts as keys: it can always be written.
    let mut text = serde_json::to_string_pretty(&table.into_document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The routes described so far, and the types that they use.
struct Table {
    paths: BTreeMap<&'static str, BTreeMap<&'static str, Operation>>,
    /// Makes the schemas of what the server reads.
    read: SchemaGenerator,
    /// Makes the schemas of what the server writes.
    written: SchemaGenerator,
}

/// A route that is being described.
struct Route<'a> {
    table: &'a mut Table,
    method: &'static str,
    path: &'static str,
    operation: Operation,
}

impl Table {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        Self {
            paths: BTreeMap::new(),
            read: settings.clone().for_deserialize().into_generator(),
            written: settings.for_serialize().into_generator(),
        }
    }

    fn into_document(mut self) -> Document {
        let mut schemas = self.read.take_definitions(true);
        for (name, schema) in self.written.take_definitions(true) {
            let clash = schemas.insert(name.clone(), schema);
            // Types of both directions would need two names.
            debug_assert!(clash.is_none(), "`{name}` is both read and written");
        }
        Document {
            openapi: OPENAPI,
            info: Info {
                title: "Exuvia control API",
                description: "The API of a running node: its processes, modules, releases and \
                              events. A node serves it over HTTP/1.1 on its unix socket, \
                              `.exuvia/node.sock` beside `exuvia.toml`.",
                license: License {
                    name: "Apache-2.0 OR MIT",
                    identifier: "Apache-2.0 OR MIT",
                },
                version: env!("CARGO_PKG_VERSION"),
            },
            paths: self.paths,
            components: BTreeMap::from([("schemas", schemas)]),
        }
    }

    fn route(
        &mut self,
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Route<'_> {
        let names = path.split('{').skip(1);
        let names = names.filter_map(|rest| rest.split('}').next());
        Route {
            table: self,
            method,
            path,
            operation: Operation::new(
                id,
                summary,
                Role::needed(&method.to_uppercase(), path),
                names.map(path_parameter).collect(),
            ),
        }
    }

    fn get(&mut self, path: &'static str, id: &'static str, summary: &'static str) -> Route<'_> {
        self.route("get", path, id, summary)
    }

    fn post(&mut self, path: &'static str, id: &'static str, summary: &'static str) -> Route<'_> {
        self.route("post", path, id, summary)
    }

    fn put(&mut self, path: &'static str, id: &'static str, summary: &'static str) -> Route<'_> {
        self.route("put", path, id, summary)
    }

    fn delete(&mut self, path: &'static str, id: &'static str, summary: &'static str) -> Route<'_> {
        self.route("delete", path, id, summary)
    }
}

impl Route<'_> {
    /// Says more than the summary.
    fn about(mut self, description: &'static str) -> Self {
        self.operation.description = Some(description);
        self
    }

    /// Adds the parameters of the query: a field of `Q` each.
    fn query<Q: JsonSchema>(mut self) -> Self {
        let schema = Q::json_schema(&mut self.table.read);
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            self.operation.parameters.push(query_parameter(name, field));
        }
        self
    }

    /// The body of the request is JSON.
    fn body<T: JsonSchema>(mut self, required: bool) -> Self {
        let schema = self.table.read.subschema_for::<T>();
        self.operation.request_body = Some(Body::new("application/json", schema, required));
        self
    }

    /// The body of the request is a form with a part for each module.
    fn modules(mut self) -> Self {
        let form = json_schema!({
            "type": "object",
            "additionalProperties": {
                "type": "string",
                "format": "binary",
                "description": "The bytes of the module that has the name of the part",
            },
        });
        self.operation.request_body = Some(Body::new("multipart/form-data", form, true));
        self
    }

    /// Adds a response in JSON.
    fn json<T: JsonSchema>(self, status: u16, description: &str) -> Self {
        let schema = self.table.written.subschema_for::<T>();
        self.response(status, description, "application/json", schema)
    }

    /// Adds a response that is a stream of events; the schema is that of an event's `data`.
    fn stream<T: JsonSchema>(self, description: &str) -> Self {
        let schema = self.table.written.subschema_for::<T>();
        self.response(200, description, "text/event-stream", schema)
    }

    /// Adds a response that is text.
    fn text(self, media: &'static str, description: &str) -> Self {
        self.response(200, description, media, json_schema!({ "type": "string" }))
    }

    fn response(
        mut self,
        status: u16,
        description: &str,
        media: &'static str,
        schema: Schema,
    ) -> Self {
        let response = Response::new(description.to_owned(), media, schema);
        let responses = &mut self.operation.responses;
        responses.insert(status.to_string(), response);
        self
    }

    /// Adds the route to the table, with the failures that its clients should expect. It may
    /// fail in other ways too, as when a limit on what is under way is reached.
    fn fails_with(mut self, codes: &[&str]) {
        let mut reasons: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for &(code, status, title) in code::ALL {
            // Every route that somebody may not use, or whose processes have pids.
            let is_guarded = code == FORBIDDEN && self.path != PATH && self.path != "/healthz";
            if codes.contains(&code) || is_guarded && self.path != "/readyz" {
                let reasons = reasons.entry(status).or_default();
                reasons.push(format!("`{code}`: {title}"));
            }
        }
        for (status, reasons) in reasons {
            let problem = self.problem(reasons.join("; "));
            self.operation.responses.insert(status.to_string(), problem);
        }
        let other = self.problem("Any other failure".to_owned());
        let responses = &mut self.operation.responses;
        responses.insert("default".to_owned(), other);
        let methods = self.table.paths.entry(self.path).or_default();
        methods.insert(self.method, self.operation);
    }

    fn problem(&mut self, description: String) -> Response {
        let schema = self.table.written.subschema_for::<Details>();
        Response::new(description, PROBLEM_JSON, schema)
    }
}

fn path_parameter(name: &str) -> Parameter {
    let description = match name {
        "process" => "A pid, as `<3.1>`, or a registered name",
        "module" => "The name of a module",
        "token" => "The id of a token",
        _ => "The number of a release, or `current`",
    };
    Parameter {
        name: name.to_owned(),
        place: In::Path,
        required: true,
        description: description.to_owned(),
        schema: json_schema!({ "type": "string" }),
    }
}

/// Returns the parameter for a field of a query. Each can be left out.
fn query_parameter(name: &str, field: &Value) -> Parameter {
    let mut schema: Map<String, Value> = field.as_object().cloned().unwrap_or_default();
    let description = match schema.remove("description") {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    // What is left out is no value: a query has no null.
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    Parameter {
        name: name.to_owned(),
        place: In::Query,
        required: false,
        description,
        schema: schema.into(),
    }
}
