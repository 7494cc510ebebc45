//! Retired words: names of items and files use the terms of `host/GLOSSARY.md`.
//!
//! Only names are checked, part by part (`take_seat` and `SeatMap` both have the part `seat`). Text is for
//! reviews: most of these words have a meaning in plain English.

use super::Finding;

/// A retired word, and what a name says instead: a term of the glossary, or a name that is made of
/// such terms. The message shows it, and refers to the glossary, which lists the retired words.
const RETIRED: &[(&str, &str)] = &[
    ("baton", "suspended"),
    ("birth", "spawn"),
    ("born", "new, not started"),
    ("bury", "terminate"),
    ("crowded", "congested"),
    ("deed", "effect"),
    ("desk", "active state"),
    ("disinherit", "release_names"),
    ("duty", "handoff"),
    ("furnish", "base"),
    ("herald", "event_observer"),
    ("lineage", "spawn_info"),
    ("manner", "stack_policy"),
    ("mend", "fix"),
    ("mended", "fixed, recovered"),
    ("newborn", "new process, not started"),
    ("obituaries", "exit_notifications"),
    ("obituary", "exit_notification"),
    ("relay", "handoff"),
    ("seat", "frame slot, acquire_frame"),
    ("seated", "frame_lease"),
    ("somebody", "the process, the thread"),
    ("swept", "in_background"),
    ("sweeper", "background_upgrader"),
    ("tenancy", "version_ref"),
    ("ticket", "reservation"),
    ("toll", "reduction_debt"),
    ("unborn", "not_started"),
    ("whoever", "the process"),
    ("workshop", "build_watcher"),
];

/// Checks the names of a file of the host; `view` is its code without comments and literals.
pub(super) fn check(path: &str, view: &str, findings: &mut Vec<Finding>) {
    if !path.starts_with("host/") || !path.contains("/src/") {
        return;
    }
    let file = path.rsplit('/').next().unwrap_or(path);
    for (word, term) in retired_in(file.trim_end_matches(".rs")) {
        findings.push(Finding::file(path, message(word, term)));
    }
    for (index, line) in view.lines().enumerate() {
        let names = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        for (word, term) in names.flat_map(retired_in) {
            findings.push(Finding::line(path, index, message(word, term)));
        }
    }
}

fn message(word: &str, term: &str) -> String {
    format!("`{word}` is a retired word: see host/GLOSSARY.md, which has `{term}`")
}

/// Returns the retired words among the parts of a name.
fn retired_in(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && before.is_lowercase()) {
            parts.push(std::mem::take(&mut part));
        }
        part.extend(c.to_lowercase().filter(|c| *c != '_'));
        before = c;
    }
    parts.push(part);
    let retired = |part: &String| RETIRED.iter().find(|(word, _)| word == part).copied();
    parts.iter().filter_map(retired).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, view: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(path, view, &mut findings);
        findings
    }

    #[test]
    fn a_retired_word_is_found_in_each_kind_of_name() {
        for view in [
            "fn take_seat()",
            "struct SeatMap;",
            "const SEAT_COUNT: u32",
            "seat.x",
        ] {
            assert_eq!(findings("host/engine/src/a.rs", view).len(), 1, "{view}");
        }
        assert_eq!(findings("host/node/src/sweeper.rs", "").len(), 1);
    }

    #[test]
    fn the_glossary_lists_the_same_words() {
        let page = include_str!("../../../GLOSSARY.md");
        let (_, section) = page.split_once("## Retired words").unwrap();
        let mut listed: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
        listed.sort_unstable();
        let mut words: Vec<&str> = RETIRED.iter().map(|(word, _)| *word).collect();
        words.sort_unstable();
        assert_eq!(listed, words);
    }

    #[test]
    fn other_words_and_other_folders_are_not_checked() {
        let fine = "fn seating(seats: Vec<u8>) -> Bench";
        assert!(findings("host/engine/src/a.rs", fine).is_empty());
        assert!(findings("host/engine/tests/it/a.rs", "seat").is_empty());
        assert!(findings("examples/bank/src/lib.rs", "desk").is_empty());
    }
}
