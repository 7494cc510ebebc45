//! The JSON Schema: it is the one that is checked in, it accepts what the reader accepts, and it
//! rejects what an editor should mark.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use exuvia_manifest::{Manifest, schema};
use serde_json::Value;

/// The folder of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Checks a value against a schema, as far as the schema of manifests goes; returns where it does not
/// fit.
fn misfits(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (rule, argument) in schema.as_object().expect("a schema is an object") {
        let below = |schema: &Value| misfits(root, schema, value, at);
        match rule.as_str() {
            "$ref" => {
                let pointer = argument.as_str().unwrap().trim_start_matches('#');
                found.extend(below(root.pointer(pointer).expect(pointer)));
            }
            "allOf" => found.extend(argument.as_array().unwrap().iter().flat_map(below)),
            "anyOf" | "oneOf" => {
                let fitting = argument.as_array().unwrap().iter();
                let fitting = fitting.filter(|schema| below(schema).is_empty()).count();
                if fitting == 0 || (rule == "oneOf" && fitting > 1) {
                    found.push(format!("{at}: {fitting} of {rule}"));
                }
            }
            "type" => {
                let is = match argument.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    other => panic!("{other}"),
                };
                if !is {
                    found.push(format!("{at}: not {argument}"));
                }
            }
            "enum" if !argument.as_array().unwrap().contains(value) => {
                found.push(format!("{at}: none of {argument}"));
            }
            "pattern" => {
                let text = value.as_str().unwrap_or_default();
                if !matches(argument.as_str().unwrap(), text) {
                    found.push(format!("{at}: not {argument}"));
                }
            }
            "minimum" | "maximum" => {
                let (number, bound) = (value.as_i64(), argument.as_i64());
                let fits = match rule == "minimum" {
                    true => number >= bound,
                    false => number <= bound,
                };
                if value.is_number() && !fits {
                    found.push(format!("{at}: {rule} {argument}"));
                }
            }
            "minLength" if value.as_str() == Some("") => {
                found.push(format!("{at}: empty"));
            }
            "required" => {
                for key in argument.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        found.push(format!("{at}: no {key}"));
                    }
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(misfits(root, argument, item, &format!("{at}[{n}]")));
                }
            }
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{key}");
                    match (argument.get(key), schema.get("additionalProperties")) {
                        (Some(schema), _) => found.extend(misfits(root, schema, value, &at)),
                        (None, Some(Value::Bool(false))) => found.push(format!("{at}: unknown")),
                        (None, _) => {}
                    }
                }
            }
            "additionalProperties" if argument.is_object() => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    found.extend(misfits(root, argument, value, &format!("{at}.{key}")));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether a text matches one of the patterns that the schema has.
fn matches(pattern: &str, text: &str) -> bool {
    let (class, units) = match pattern {
        "^[a-z0-9_-]+$" => {
            let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
            return !text.is_empty() && text.chars().all(allowed);
        }
        "^[0-9]+(h|m|s|ms)$" => ("0123456789", ["h", "m", "s", "ms"]),
        "^[0-9]+(GiB|MiB|KiB|B)$" => ("0123456789", ["GiB", "MiB", "KiB", "B"]),
        other => panic!("{other}"),
    };
    let unit = text.trim_start_matches(|c| class.contains(c));
    unit.len() < text.len() && units.contains(&unit)
}

fn check(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let value: Value = toml::from_str(text).expect("valid TOML");
    misfits(&schema, &schema, &value, "")
}

/// The manifests of the project: those of its folders, the templates, and the samples of its pages.
fn manifests() -> Vec<(String, String)> {
    fn find(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "target" {
                find(&path, found);
            } else if name == "exuvia.toml" || name == "exuvia.toml.in" {
                let text = std::fs::read_to_string(&path).expect("readable");
                let text = text.replace("{{name}}", "app").replace("{{crate}}", "app");
                found.push((path.display().to_string(), text));
            } else if name.ends_with(".md") {
                let text = std::fs::read_to_string(&path).expect("readable");
                let samples = text
                    .split("\n```")
                    .filter_map(|part| part.strip_prefix("toml\n"));
                let samples = samples.filter(|sample| !sample.contains("[package]"));
                found.extend(samples.map(|it| (path.display().to_string(), it.to_owned())));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["docs", "examples", "modules", "host/cli/templates"] {
        find(&root().join(folder), &mut found);
    }
    found
}

#[test]
fn the_schema_that_is_checked_in_is_that_of_the_code() {
    let file = root().join("docs/exuvia.schema.json");
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if std::env::var_os("EXUVIA_BLESS").is_some() {
        std::fs::write(&file, schema()).expect("written");
    } else {
        assert!(
            kept == schema(),
            "docs/exuvia.schema.json is not up to date: EXUVIA_BLESS=1 cargo test -p exuvia-manifest writes it"
        );
    }
}

#[test]
fn every_manifest_of_the_project_fits_the_schema() {
    let manifests = manifests();
    assert!(manifests.len() > 10, "{}", manifests.len());
    for (place, text) in manifests {
        let mut found = check(&text);
        // A sample of a page may be a part.
        if place.ends_with(".md") {
            found.retain(|what| !what.contains(": no "));
        }
        assert_eq!(found, Vec::<String>::new(), "{place}:\n{text}");
    }
    assert_eq!(check(super::FULL), Vec::<String>::new());
}

#[test]
fn what_the_reader_rejects_key_by_key_the_schema_rejects_too() {
    let child = "[modules.m]\npath = \"m\"\n[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n";
    for lines in [
        "colour = 1",
        "[node]\nschedulers = 0",
        "[node]\nverify = 100",
        "[node]\nverify = \"1m 30s\"",
        "[node]\nverify_ms = 100",
        "[log]\nlevel = \"loud\"",
        "[limits]\nmemory = \"16MB\"",
        "[supervisor]\nstrategy = \"one-for-one\"",
        "[modules.m]\nlog = \"warn\"",
        "[[supervisor.children]]\nid = \"c\"",
        "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nsupervisor = {}",
        &format!("{child}shutdown = \"never\""),
        &format!("{child}shutdown = 5000"),
        &format!("{child}manages = 1"),
        &format!("{child}wasi.dirs.\"/data\" = {{ path = \"data\", acces = \"write\" }}"),
    ] {
        let text = format!("{lines}\n[app]\nname = \"a\"\n");
        assert!(!check(&text).is_empty(), "{text}");
        assert!(Manifest::parse(&text, "exuvia.toml", "").is_err(), "{text}");
    }
    let good = format!("{child}shutdown = \"infinity\"\n[app]\nname = \"a\"\n");
    assert_eq!(check(&good), Vec::<String>::new());
}

/// What an editor shows as a default is what the reader takes if the key is missing.
#[test]
fn defaults_of_the_schema_are_those_of_the_reader() {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let lines = |shape: &str| {
        let keys = schema["definitions"][shape]["properties"]
            .as_object()
            .expect("keys");
        let defaults = keys
            .iter()
            .filter_map(|(key, value)| Some((key, value.get("default")?)));
        defaults.fold(String::new(), |text, (key, value)| {
            format!("{text}{key} = {value}\n")
        })
    };
    let child = |more: &str| {
        format!(
            "[modules.m]\npath = \"m\"\n[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n{more}"
        )
    };
    let read = |text: &str| {
        let manifest = Manifest::parse(text, "exuvia.toml", "").unwrap_or_else(|it| panic!("{it}"));
        (
            manifest.node,
            manifest.log,
            manifest.limits,
            manifest.supervisor,
        )
    };
    let plain = format!("[app]\nname = \"a\"\n{}", child(""));
    let explicit = format!(
        "[app]\nname = \"a\"\n[node]\n{}[log]\n{}[limits]\n{}[supervisor]\n{}{}",
        lines("node"),
        lines("log"),
        lines("limits"),
        lines("supervisor"),
        child(&lines("child"))
    );
    assert_eq!(read(&plain), read(&explicit));
    assert_eq!(lines("supervisor").lines().count(), 3);
    let listen = |listen: &str, cors: &str, route: &str| {
        let text = format!(
            "[app]\nname = \"a\"\n[modules.m]\npath = \"m\"\n\
             [[listen]]\naddress = \"unix:/a\"\n{listen}\
             [listen.cors]\norigins = [\"https://a.com\"]\n{cors}\
             [[listen.routes]]\npath = \"/{{id}}\"\nmodule = \"m\"\n{route}"
        );
        let manifest = Manifest::parse(&text, "exuvia.toml", "");
        manifest.unwrap_or_else(|it| panic!("{it}")).listen
    };
    // One of a process for each request, and one for each key.
    let keyed = |more: &str| format!("per = \"key\"\nkey = \"{{id}}\"\n{more}");
    let some = |shape: &str, is_one: &dyn Fn(&str) -> bool| -> String {
        let all = lines(shape);
        let all = all.lines().filter(|line| {
            let key = line.split(' ').next().unwrap_or_default();
            is_one(key)
        });
        all.map(|line| format!("{line}\n")).collect()
    };
    let of_route = |keys: &[&str]| some("route", &|key| keys.contains(&key));
    let is_of_udp = |key: &str| matches!(key, "datagram" | "queue");
    let of_streams = some("listen", &|key| !is_of_udp(key));
    for (plain, explicit) in [
        (String::new(), of_route(&["per", "stream"])),
        (keyed(""), keyed(&of_route(&["idle", "stream"]))),
    ] {
        assert_ne!(plain, explicit);
        assert_eq!(
            listen("", "", &plain),
            listen(&of_streams, &lines("cors"), &explicit)
        );
    }
    let udp = |more: &str| {
        let text = format!(
            "[app]\nname = \"a\"\n[modules.m]\npath = \"m\"\n\
             [[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\nname = \"n\"\n{more}"
        );
        let manifest = Manifest::parse(&text, "exuvia.toml", "");
        manifest.unwrap_or_else(|it| panic!("{it}")).listen
    };
    assert_eq!(udp(""), udp(&some("listen", &is_of_udp)));
    let counts = ["listen", "cors", "route"].map(|shape| lines(shape).lines().count());
    assert_eq!(counts, [11, 4, 3], "a new one is to be compared too");
}
