//! Log lines of guests: which are reported, and how many.

use std::collections::BTreeMap;

use exuvia_node::{Event, Level, LogRules, NodeConfig};

use crate::guests::{ask, counter, deploy, event, node_with, spawn};

/// Logs `lines` lines of each of two levels at each message.
fn logs(lines: u32) -> String {
    let body = format!(
        "(i32.store (i32.const 40) (i32.const {lines}))
         (loop $more
           (drop (call $log (i32.const 4) (i32.const 512) (i32.load (i32.const 100))))
           (drop (call $log (i32.const 2) (i32.const 512) (i32.load (i32.const 100))))
           (i32.store (i32.const 40) (i32.sub (i32.load (i32.const 40)) (i32.const 1)))
           (br_if $more (i32.load (i32.const 40))))"
    );
    counter(&body, "(call $count)", "").replacen(
        "(module",
        "(module (import \"exuvia\" \"log\" (func $log (param i32 i32 i32) (result i32)))",
        1,
    )
}

#[test]
fn a_flood_is_cut_and_reported_and_hides_no_other_module() {
    let rules = LogRules {
        level: Some(Level::Warn),
        modules: BTreeMap::from([("chatty".into(), Some(Level::Debug))]),
        lines_per_s: 10,
    };
    let node = node_with(|config: &mut NodeConfig| config.log = rules);
    deploy(&node, "flood", &logs(1_000));
    deploy(&node, "chatty", &logs(1));
    let (backlog, chatty) = (spawn(&node, "flood", &[]), spawn(&node, "chatty", &[]));
    let mut events = node.events();
    node.send(backlog, 0, b"again".to_vec()).unwrap();
    node.send(chatty, 0, b"hello".to_vec()).unwrap();
    let mut told = 0;
    let mut both = 0;
    let cut = event(&mut events, "what was left out", |event| match event {
        Event::Log {
            module,
            level,
            text,
            ..
        } if module == "flood@1" => {
            // Below the level: not even counted.
            assert_eq!((*level, text.as_str()), (Level::Warn, "again"));
            told += 1;
            None
        }
        Event::Log { module, text, .. } => {
            assert_eq!((module.as_str(), text.as_str()), ("chatty@1", "hello"));
            both += 1;
            None
        }
        Event::LogCut { module, lines } => Some((module.clone(), *lines)),
        _ => None,
    });
    assert_eq!(both, 2);
    assert_eq!(cut.0, "flood");
    assert_eq!(told + cut.1, 1_000);
    // A second may have ended in the middle.
    assert!((10..=30).contains(&told), "{told}");
}

#[test]
fn what_was_left_out_is_reported_when_the_node_ends() {
    let rules = LogRules {
        lines_per_s: 1,
        ..LogRules::default()
    };
    let node = node_with(|config: &mut NodeConfig| {
        config.log = rules;
        // The second in which the lines are written does not end.
        config.clock = exuvia_node::process::Clock::manual;
    });
    deploy(&node, "flood", &logs(50));
    let flood = spawn(&node, "flood", &[]);
    let mut events = node.events();
    node.send(flood, 0, b"again".to_vec()).unwrap();
    // It has handled the message before when it replies.
    ask(&node, flood);
    node.halt();
    let cut = event(&mut events, "what was left out", |event| match event {
        Event::LogCut { module, lines } => Some((module.clone(), *lines)),
        _ => None,
    });
    assert_eq!(cut, ("flood".to_owned(), 99));
}
