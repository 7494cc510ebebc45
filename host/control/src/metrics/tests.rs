//! The metrics as a scraper reads them.

use std::collections::HashMap;

use exuvia_api::Info;
use serde_json::json;

use super::text;

fn info() -> Info {
    serde_json::from_value(json!({
        "app": "a", "node": "1", "release": 3, "processes": 9, "processes_limit": 100,
        "schedulers": 2, "threads_blocked": 0, "frames": 7, "frames_blocked": 2, "frames_free": 1,
        "frame_bytes": 4096, "frame_bytes_limit": 8192, "frames_made": 7, "frame_failures": 0,
        "frames_released": 0, "uptime_ms": 1500, "page_ins": 10, "page_outs": 4,
        "page_in_ns": 2000, "page_out_ns": 1000, "frame_hits": 10, "hit_rate": 0.5,
        "page_map": "scan", "timers": 1,
        "modules": [{
            "name": "a\"b\\c\nd", "version": 1, "digest": "d", "processes": 5, "schema": 1,
            "bytes": 1, "resident_only": [], "loaded": [],
        }],
    }))
    .unwrap()
}

/// A sample: its name, its label and its value.
type Sample = (String, Option<(String, String)>, f64);

/// Reads a text as a scraper would: types by metric, and the samples. Panics at anything that
/// the format does not allow.
fn parse(text: &str) -> (HashMap<String, String>, Vec<Sample>) {
    let mut types = HashMap::new();
    let mut samples = Vec::new();
    let mut described = String::new();
    let (text, end) = text.split_at(text.find("# EOF").unwrap());
    assert_eq!(end, "# EOF\n");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            described = name.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, described);
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, label) = match name.split_once('{') {
            None => (name, None),
            Some((name, label)) => {
                let (label, of) = label
                    .strip_suffix("\"}")
                    .unwrap()
                    .split_once("=\"")
                    .unwrap();
                let of = of
                    .replace("\\n", "\n")
                    .replace("\\\"", "\"")
                    .replace("\\\\", "\\");
                (name, Some((label.to_owned(), of)))
            }
        };
        // A counter's sample has the suffix, and no other has.
        let metric = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(metric, described, "{line}");
        let is_counter = types[metric] == "counter";
        assert_eq!(is_counter, name.ends_with("_total"), "{line}");
        samples.push((name.to_owned(), label, value));
    }
    (types, samples)
}

#[test]
fn a_scraper_reads_the_numbers() {
    let (types, samples) = parse(&text(info()).unwrap());
    let value = |name: &str, of: Option<&str>| {
        let mut found = samples.iter().filter(|(known, label, _)| {
            known == name && label.as_ref().map(|(_, of)| of.as_str()) == of
        });
        let sample = found.next().unwrap_or_else(|| panic!("no {name} {of:?}"));
        assert!(found.next().is_none(), "{name} {of:?} is there twice");
        sample.2
    };
    for (name, of, expected) in [
        ("exuvia_frames", Some("resident"), 4.0),
        ("exuvia_frames", Some("blocked"), 2.0),
        ("exuvia_frames", Some("free"), 1.0),
        ("exuvia_uptime_seconds", None, 1.5),
        ("exuvia_module_processes", Some("a\"b\\c\nd"), 5.0),
        ("exuvia_page_ins_total", None, 10.0),
        ("exuvia_page_in_seconds_total", None, 0.00002),
        ("exuvia_frame_hit_ratio", None, 0.5),
        ("exuvia_frame_bytes", None, 4096.0),
        ("exuvia_processes_limit", None, 100.0),
    ] {
        assert!((value(name, of) - expected).abs() < 1e-9, "{name}");
    }
    assert_eq!(types["exuvia_page_ins"], "counter");
    assert_eq!(types["exuvia_processes"], "gauge");
}

#[test]
fn each_metric_is_in_the_manual() {
    let page = include_str!("../../../../docs/api.md");
    let (_, samples) = parse(&text(info()).unwrap());
    for (name, ..) in samples {
        assert!(
            page.contains(&format!("`{name}")),
            "docs/api.md lacks {name}"
        );
    }
}
