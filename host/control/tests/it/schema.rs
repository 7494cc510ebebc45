//! Compares values with schemas of the OpenAPI document. Stricter than JSON Schema, which allows
//! any further field: here a field must be described, unless a schema says that any may follow.

use std::collections::BTreeSet;

use exuvia_api::openapi;
use serde_json::{Value, json};

/// A parsed document.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    pub(crate) fn new() -> Self {
        Self(serde_json::from_str(&openapi::document()).unwrap())
    }

    /// Returns how a value differs from a schema; `place` is the value's path.
    pub(crate) fn differences(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut found = self.mismatches(schema, value, place);
        let mut names = BTreeSet::new();
        if let Value::Object(fields) = value
            && !self.is_open(schema, &mut names)
        {
            let unknown = fields.keys().filter(|name| !names.contains(*name));
            found.extend(unknown.map(|name| format!("{place}.{name} is not described")));
        }
        found
    }

    fn target<'a>(&'a self, reference: &str) -> &'a Value {
        let pointer = reference.strip_prefix('#').unwrap();
        let target = self.0.pointer(pointer);
        target.unwrap_or_else(|| panic!("there is no {reference}"))
    }

    /// Returns how a value breaks a schema, without regard to fields that it does not describe.
    fn mismatches(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(reference) = schema["$ref"].as_str() {
            found.extend(self.mismatches(self.target(reference), value, place));
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(parts) = schema[key].as_array() {
                let each = parts.iter().map(|part| self.mismatches(part, value, place));
                let mut each: Vec<_> = each.collect();
                let fit = each.iter().filter(|found| found.is_empty()).count();
                if key == "oneOf" && fit > 1 {
                    found.push(format!("{place} is of {fit} kinds"));
                }
                // The part that fits best says what is wrong.
                each.sort_by_key(Vec::len);
                found.extend(each.swap_remove(0));
            }
        }
        if let Some(allowed) = schema.get("const")
            && allowed != value
        {
            found.push(format!("{place} is {value}, not {allowed}"));
        }
        let types = match &schema["type"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        if !types.is_empty() && !types.iter().any(|expected| is_a(value, expected)) {
            found.push(format!("{place} is {value}, not {}", types.join(" or ")));
        }
        if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
            let each = items.iter().enumerate();
            let each =
                each.map(|(at, item)| self.differences(schema, item, &format!("{place}[{at}]")));
            found.extend(each.flatten());
        }
        let Value::Object(fields) = value else {
            return found;
        };
        let required = schema["required"].as_array().into_iter().flatten();
        let missing = required.filter_map(Value::as_str);
        let missing = missing.filter(|name| !fields.contains_key(*name));
        found.extend(missing.map(|name| format!("{place} lacks {name}")));
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = fields.get(name) {
                found.extend(self.differences(schema, value, &format!("{place}.{name}")));
            }
        }
        found
    }

    /// Adds the names of all fields that a schema describes. Returns whether it describes none,
    /// or allows others.
    fn is_open(&self, schema: &Value, names: &mut BTreeSet<String>) -> bool {
        if let Some(properties) = schema["properties"].as_object() {
            names.extend(properties.keys().cloned());
        }
        if let Some(reference) = schema["$ref"].as_str() {
            self.is_open(self.target(reference), names);
        }
        for key in ["oneOf", "anyOf"] {
            for part in schema[key].as_array().into_iter().flatten() {
                self.is_open(part, names);
            }
        }
        names.is_empty() || schema["additionalProperties"] == true
    }
}

fn is_a(value: &Value, expected: &str) -> bool {
    match expected {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("unknown type {expected}"),
    }
}

#[test]
fn differences_are_found() {
    let document = Document::new();
    let differences = |schema: &str, value: &Value| {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        document.differences(&schema, value, "it")
    };
    for (schema, value) in [
        ("Killed", json!({"pid": "<1.0>", "exited": true})),
        ("Reply", json!({"tag": 0, "bytes": 0, "encoding": "empty"})),
        (
            "EventLine",
            json!({"at": "", "line": "", "event": {"any": 1}}),
        ),
    ] {
        assert_eq!(differences(schema, &value), Vec::<String>::new(), "{value}");
    }
    for (schema, value, why) in [
        ("Killed", json!({"pid": "<1.0>"}), "it lacks exited"),
        (
            "Killed",
            json!({"pid": 1, "exited": true}),
            "it.pid is 1, not string",
        ),
        (
            "Killed",
            json!({"pid": "", "exited": true, "more": 1}),
            "it.more is not described",
        ),
        (
            "Sent",
            json!({"warnings": [1]}),
            "it.warnings[0] is 1, not string",
        ),
        (
            "Rendered",
            json!({"encoding": "text", "payload": 1}),
            "it.encoding is \"text\", not \"empty\"",
        ),
        (
            "Reply",
            json!({"tag": 0, "bytes": 0, "encoding": "odd"}),
            "it.encoding is \"odd\", not \"empty\"",
        ),
        ("TopProcess", json!({"rate": 1.0}), "it lacks pid"),
    ] {
        let found = differences(schema, &value);
        assert!(found.iter().any(|it| it == why), "{why}: {found:?}");
    }
}
