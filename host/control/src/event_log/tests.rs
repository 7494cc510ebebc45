//! Which events are kept, for how long, and what a reader is told of the others.

use exuvia_api::EventLine;
use serde_json::json;

use super::{EventLog, MAX_KEPT_EVENT_BYTES, MAX_KEPT_EVENTS, Next};

fn line(text: &str) -> EventLine {
    EventLine::now(text, json!({ "event": "test" }))
}

#[test]
fn a_reader_that_falls_behind_is_told_what_it_missed() {
    let log = EventLog::new();
    let over = 3;
    for number in 1..=MAX_KEPT_EVENTS + over {
        log.push(&line(&number.to_string()));
    }
    let Next::Lost(missed, last) = log.after(0) else {
        panic!("the first events are kept");
    };
    assert_eq!((missed, last), (over as u64, over as u64));
    // The next one is there, and so on until the last.
    let mut after = last;
    while let Next::Event(number, _) = log.after(after) {
        assert_eq!(number, after + 1);
        after = number;
    }
    assert_eq!(after, (MAX_KEPT_EVENTS + over) as u64);
    assert!(matches!(log.after(after), Next::Nothing));
}

#[test]
fn the_bytes_of_kept_events_are_bounded() {
    let log = EventLog::new();
    let long = "x".repeat(MAX_KEPT_EVENT_BYTES / 4);
    for _ in 0..10 {
        log.push(&line(&long));
    }
    let kept = log.kept();
    assert!(kept.bytes <= MAX_KEPT_EVENT_BYTES);
    assert_eq!(kept.events.len(), 3);
    let total: usize = kept.events.iter().map(|it| it.len()).sum();
    assert_eq!(kept.bytes, total);
    assert_eq!(kept.first, 8);
}

#[test]
fn only_ids_of_this_log_are_known() {
    let log = EventLog::new();
    log.push(&line("a"));
    let id = |number: u64| format!("{}-{number}", log.id);
    assert_eq!(log.number(&id(0)), Some(0));
    assert_eq!(log.number(&id(1)), Some(1));
    // It has not happened yet.
    assert_eq!(log.number(&id(2)), None);
    for other in ["", "-", "1", "x-1", &EventLog::new().id] {
        assert_eq!(log.number(other), None, "{other}");
    }
}
