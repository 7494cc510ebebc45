//! The OpenAPI document: it is the one in the manual, and whole.

use exuvia_api::openapi::document;
use serde_json::Value;

fn parsed() -> Value {
    serde_json::from_str(&document()).unwrap()
}

/// Calls `visit` with each reference in a value.
fn references<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str)) {
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                visit(to);
            }
            fields.values().for_each(|value| references(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, visit)),
        _ => {}
    }
}

#[test]
fn the_copy_in_the_manual_is_up_to_date() {
    let copy = include_str!("../../../../docs/openapi.json");
    assert!(
        copy == document(),
        "docs/openapi.json is stale: write it with `cargo run -p exuvia-cli -- api > docs/openapi.json`"
    );
}

#[test]
fn each_reference_leads_to_a_schema_and_each_schema_is_referred_to() {
    let document = parsed();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut unused: Vec<&str> = schemas.keys().map(String::as_str).collect();
    references(&document, &mut |to| {
        let name = to.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "there is no {name}");
        unused.retain(|known| *known != name);
    });
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn operations_are_described_and_have_ids_of_their_own() {
    let document = parsed();
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(!ids.contains(&id), "{id} is there twice");
            ids.push(id);
            assert!(operation["summary"].is_string(), "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default"), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{method} {path}");
            }
        }
    }
    assert!(ids.len() > 20);
}

#[test]
fn the_page_of_the_manual_names_each_path() {
    let page = include_str!("../../../../docs/api.md");
    for path in parsed()["paths"].as_object().unwrap().keys() {
        let last = path.rsplit('/').next().unwrap();
        let short = format!("`.../{last}`");
        assert!(
            page.contains(path.as_str()) || page.contains(&short),
            "docs/api.md lacks {path}"
        );
    }
}
