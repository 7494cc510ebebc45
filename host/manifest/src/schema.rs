//! The JSON Schema of `exuvia.toml`, for editors: they complete keys, show what they mean, and mark
//! mistakes while one writes. It is made from the table of keys that the reader uses, so it cannot say
//! anything else. What depends on more than one key (names that are unique, modules that exist) only
//! the reader checks.

use serde_json::{Map, Value, json};

use crate::MAX_NAME_BYTES;
use crate::duration::UNITS;
use crate::keys::{CHILD, Kind, ROOT, Shape};
use crate::read::value::SIZE_UNITS;

/// The version of JSON Schema: the newest that the common editor extensions for TOML know.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Returns the schema as JSON.
pub fn schema() -> String {
    let mut shapes = Shapes::default();
    let mut root = shapes.object(&ROOT);
    root["$schema"] = DRAFT.into();
    root["title"] = "exuvia.toml".into();
    root["description"] = "The manifest of an Exuvia app.".into();
    root["definitions"] = Value::Object(shapes.done);
    format!("{root:#}\n")
}

/// The tables that have been described, by name.
#[derive(Debug, Default)]
struct Shapes {
    done: Map<String, Value>,
}

impl Shapes {
    /// Returns a reference to the description of a table.
    fn reference(&mut self, shape: &'static Shape) -> Value {
        if !self.done.contains_key(shape.name) {
            // A table may contain itself.
            self.done.insert(shape.name.to_owned(), Value::Null);
            let object = self.object(shape);
            self.done.insert(shape.name.to_owned(), object);
        }
        json!({ "$ref": format!("#/definitions/{}", shape.name) })
    }

    fn object(&mut self, shape: &'static Shape) -> Value {
        let mut properties = Map::new();
        for key in shape.keys {
            let mut value = self.value(&key.kind);
            // Beside a reference, draft 7 ignores everything.
            if value.get("$ref").is_some() {
                value = json!({ "allOf": [value] });
            }
            value["description"] = key.meaning.into();
            if let Some(default) = key.default {
                value["default"] = default.parse().unwrap_or_default();
            }
            properties.insert(key.name.to_owned(), value);
        }
        let required: Vec<&str> = (shape.keys.iter())
            .filter(|key| key.required)
            .map(|key| key.name)
            .collect();
        let mut object = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        });
        if !required.is_empty() {
            object["required"] = required.into();
        }
        if shape.name == CHILD.name {
            object["oneOf"] = json!([{ "required": ["module"] }, { "required": ["supervisor"] }]);
        }
        object
    }

    fn value(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Name => json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME_BYTES }),
            Kind::AppName => {
                json!({ "type": "string", "pattern": "^[a-z0-9_-]+$", "maxLength": MAX_NAME_BYTES })
            }
            Kind::Integer(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Kind::Size(least, most) => json!({
                "anyOf": [
                    { "type": "integer", "minimum": least, "maximum": most },
                    { "type": "string", "pattern": unit_pattern(SIZE_UNITS.map(|(unit, _)| unit)) },
                ]
            }),
            Kind::Duration(..) => duration(),
            Kind::DurationOr(.., words) => {
                json!({ "anyOf": [duration(), { "enum": words }] })
            }
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Choice(words) => json!({ "enum": words }),
            Kind::Texts => {
                json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
            }
            Kind::Table(shape) => self.reference(shape),
            Kind::Tables(shape) => json!({ "type": "array", "items": self.reference(shape) }),
            Kind::Named(shape) => {
                json!({ "type": "object", "additionalProperties": self.reference(shape) })
            }
            Kind::NamedTexts => {
                json!({ "type": "object", "additionalProperties": { "type": "string" } })
            }
            Kind::NamedPathsOr(shape) => json!({
                "type": "object",
                "additionalProperties": {
                    "anyOf": [{ "type": "string", "minLength": 1 }, self.reference(shape)],
                },
            }),
            Kind::AnyTable => json!({ "type": "object" }),
            Kind::Any => json!({}),
        }
    }
}

fn duration() -> Value {
    json!({
        "type": "string",
        "pattern": unit_pattern(UNITS.map(|(unit, _)| unit)),
        "examples": ["200ms", "5s", "1m"],
    })
}

/// Returns a regular expression for a whole number and one of the units.
fn unit_pattern(units: [&str; 4]) -> String {
    format!("^[0-9]+({})$", units.join("|"))
}
