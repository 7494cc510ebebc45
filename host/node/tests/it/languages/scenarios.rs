//! What every language does. Each scenario has a node of its own.

use exuvia_node::abi::Reason;
use exuvia_node::process::Limits;
use exuvia_node::{CallFailed, Event, Pid};
use rmpv::Value;

use super::guest::{Guest, REFUSED, decoded, encoded, err, message, ok, pid_value};
use crate::guests::{deploy, event, eventually};
use crate::puppet::{self, Puppet};

/// A scenario: what it shows, and how.
pub(super) type Scenario = (&'static str, fn(&Guest));

pub(super) const SCENARIOS: &[Scenario] = &[
    ("every value comes back as it was sent", echo),
    ("messages change the state, requests read it", count),
    (
        "a start with wrong arguments fails, and says why",
        wrong_start,
    ),
    (
        "what is unknown or garbage is refused and harms nothing",
        garbage,
    ),
    (
        "a call waits on the stack: reply, refusal, end, timeout",
        call,
    ),
    ("a selective receive leaves the others in order", select),
    ("timers fire in the order in which they are due", timers),
    ("a monitor reports the end", monitor),
    ("a link reports the end to who traps exits", link),
    ("names are found, and taken once", names),
    ("a child is started with arguments, and linked", child),
    ("it exits with a reason of its own", stop),
    ("a trap names the functions that led to it", trap),
    ("the backtrace has source lines", lines),
    ("a message of 1 MB arrives whole", large),
    (
        "a message for which there is no memory is dropped, not fatal",
        too_large,
    ),
    ("memory that was freed is not in the image", freed),
    ("random numbers differ between processes", random),
    ("lines are logged", log),
    ("files are read where granted, and stay open", files),
    ("state goes to other code by `save` and `load`", migrated),
    ("state is kept if only code has changed", kept),
    ("state stays where it is if only code has changed", same),
    (
        "a handler that waits without a stack finishes on its code",
        awaited,
    ),
    (
        "an abort in `load`, and a refusal, refuse the swap",
        bad_load,
    ),
    ("ten thousand processes, each with its own state", many),
];

fn echo(guest: &Guest) {
    let pid = guest.start();
    let map = Value::Map(vec![
        ("b".into(), 1.into()),
        ("a".into(), Value::Array(vec![Value::Nil, true.into()])),
    ]);
    let long = "ß".repeat(3_000);
    for value in [
        Value::Nil,
        false.into(),
        0.into(),
        127.into(),
        (-1).into(),
        (-33).into(),
        300.into(),
        70_000.into(),
        i64::MAX.into(),
        i64::MIN.into(),
        u64::MAX.into(),
        1.5.into(),
        (-0.25).into(),
        "".into(),
        "grüße 👋".into(),
        long.as_str().into(),
        Value::Binary(vec![0, 255, 7]),
        Value::Binary(vec![3; 70_000]),
        Value::Array((0..20).map(Value::from).collect()),
        map,
    ] {
        let reply = guest.ask(pid, "Echo", &[("value", value.clone())]);
        assert!(is_same(&reply, &value), "{value} came back as {reply}");
    }
}

/// Numbers are equal in whatever width and kind they are encoded, as are maps in whatever order.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.iter().any(|(k, v)| is_same(key, k) && is_same(value, v)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (a, b) if a.is_number() && b.is_number() => {
            match (a.as_u64(), b.as_u64(), a.as_i64(), b.as_i64()) {
                (Some(a), Some(b), ..) => a == b,
                (_, _, Some(a), Some(b)) => a == b,
                _ => a.as_f64() == b.as_f64(),
            }
        }
        (a, b) => a == b,
    }
}

fn count(guest: &Guest) {
    let pid = guest.start();
    assert_eq!(guest.count(pid), 0);
    for by in [5, -7, 1 << 40] {
        guest.add(pid, by);
    }
    assert_eq!(guest.count(pid), (1 << 40) - 2);
    let arguments = encoded(&Value::Map(vec![("start".into(), (-9).into())]));
    let pid = guest.start_with(&arguments, guest.limits());
    assert_eq!(guest.count(pid), -9);
}

fn wrong_start(guest: &Guest) {
    for arguments in [encoded(&"nonsense".into()), vec![0xc1, 0xff]] {
        let mut events = guest.node.events();
        let pid = guest.start_with(&arguments, guest.limits());
        let said = event(&mut events, "it says why", |event| match event {
            Event::Exit {
                pid: of, reason, ..
            } if *of == pid.to_string() => Some(reason.clone()),
            _ => None,
        });
        assert!(said.contains("256"), "{said}");
    }
}

fn garbage(guest: &Guest) {
    let pid = guest.start();
    guest.add(pid, 3);
    guest.refused(pid, message("Nonsense", &[]));
    guest.refused(pid, message("Nonsense", &[("a", 1.into())]));
    guest.refused(pid, message("Length", &[("bytes", 7.into())]));
    guest.refused(pid, message("Length", &[]));
    guest.refused(
        pid,
        message("Watch", &[("pid", Value::Binary(vec![1, 2, 3]))]),
    );
    // Lengths that promise more than there is, and depth without an end.
    for claims in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0x7f, 0xff, 0xff, 0xff],
        &[0xc1],
        &[],
    ] {
        guest.refused(pid, claims.to_vec());
    }
    guest.refused(pid, vec![0x91; 100_000]);
    let whole = message(
        "Echo",
        &[(
            "value",
            Value::Array(vec!["text".into(), 70_000.into(), 1.5.into()]),
        )],
    );
    for length in 0..whole.len() {
        guest.refused(pid, whole[..length].to_vec());
    }
    // A generator that always draws the same.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..length % 60 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.push(state.to_be_bytes()[0]);
        }
        // Some libraries take a number for a message, by its position.
        if let Some(first) = bytes.first_mut()
            && matches!(*first, 0..0x80 | 0xcc..0xd4 | 0xe0..)
        {
            *first = 0x81;
        }
        guest.node.send(pid, 0, bytes.clone()).unwrap();
        guest.node.send(pid, 5, bytes.clone()).unwrap();
        guest.refused(pid, bytes);
    }
    assert_eq!(guest.count(pid), 3);
}

fn to(pid: Pid) -> (&'static str, Value) {
    ("to", pid_value(pid))
}

fn within(milliseconds: i64) -> (&'static str, Value) {
    ("timeout_ms", milliseconds.into())
}

fn call(guest: &Guest) {
    let (a, b) = (guest.start(), guest.start());
    let value = ("value", Value::from("hello"));
    let replied = guest.ask(a, "Call", &[to(b), value.clone(), within(10_000)]);
    assert_eq!(replied, ok("hello"));
    let late = guest.ask(a, "CallKeep", &[to(b), within(10)]);
    assert_eq!(late, err("timeout"));
    // The reply that comes too late is dropped.
    guest.ask(b, "Release", &[("value", 1.into())]);
    assert_eq!(
        guest.ask(a, "Call", &[to(b), value.clone(), within(10_000)]),
        ok("hello")
    );
    let gone = guest.start();
    let node = &guest.node;
    guest.end(gone, || node.kill(gone));
    let none = guest.ask(a, "Call", &[to(gone), value.clone(), within(10_000)]);
    assert_eq!(none, err("noproc"));
    // One that ends while it is waited for.
    let ending = guest.start();
    guest.add(ending, 1);
    let asked = message("CallKeep", &[to(ending), within(20_000)]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.try_ask(a, asked).unwrap());
        eventually("it waits", || guest.info(a).state == "call");
        eventually("the request is kept", || guest.info(ending).mailbox == 0);
        node.kill(ending);
        assert_eq!(decoded(&waits.join().unwrap().payload), err("noproc"));
    });
    // A refusal, from a process that the test moves.
    deploy(node, "puppet", &puppet::text(1));
    let other = Puppet::new(node);
    let asked = message("Call", &[to(other.pid), value, within(20_000)]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.try_ask(a, asked).unwrap());
        let request = other.wait().ok();
        other
            .reply(request.sender, request.message, REFUSED, b"never")
            .ok();
        assert_eq!(
            decoded(&waits.join().unwrap().payload),
            err("refused: never")
        );
    });
}

fn select(guest: &Guest) {
    let pid = guest.start();
    let asked = message("Select", &[("tag", 77.into()), within(20_000)]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.try_ask(pid, asked).unwrap());
        eventually("it waits", || guest.info(pid).state == "receive");
        for text in ["one", "two"] {
            guest.tell(pid, "Note", &[("text", text.into())]);
        }
        guest.node.send(pid, 77, encoded(&"picked".into())).unwrap();
        let reply = waits.join().unwrap();
        assert_eq!(decoded(&reply.payload), Value::from("picked"));
    });
    assert_eq!(guest.notes(pid), ["one", "two"]);
    let none = guest.ask(pid, "Select", &[("tag", 77.into()), within(5)]);
    assert_eq!(none, Value::Nil);
}

fn timers(guest: &Guest) {
    let pid = guest.start();
    let delays = Value::Array([60, 20, 40, 0].map(Value::from).to_vec());
    guest.ask(pid, "Timers", &[("delays_ms", delays)]);
    let notes = guest.notes_when(pid, 4);
    assert_eq!(notes, ["timer 0", "timer 20", "timer 40", "timer 60"]);
}

fn monitor(guest: &Guest) {
    let (a, b, c) = (guest.start(), guest.start(), guest.start());
    for pid in [b, c] {
        guest.ask(a, "Watch", &[("pid", pid_value(pid))]);
    }
    guest.node.kill(b);
    assert_eq!(
        guest.notes_when(a, 1),
        [format!("down {}", Reason::KILLED.0)]
    );
    guest.tell(
        c,
        "Stop",
        &[("code", 300.into()), ("text", "enough".into())],
    );
    assert_eq!(guest.notes_when(a, 1), ["down 300"]);
    // One that has ended already.
    guest.ask(a, "Watch", &[("pid", pid_value(c))]);
    assert_eq!(
        guest.notes_when(a, 1),
        [format!("down {}", Reason::NOPROC.0)]
    );
}

fn link(guest: &Guest) {
    let (a, b, c) = (guest.start(), guest.start(), guest.start());
    guest.ask(a, "Join", &[("pid", pid_value(b))]);
    guest.tell(b, "Stop", &[("code", 301.into()), ("text", "b".into())]);
    assert_eq!(guest.notes_when(a, 1), ["exit 301"]);
    // A link goes both ways: who does not trap exits ends with the other.
    guest.ask(a, "Join", &[("pid", pid_value(c))]);
    let (code, _) = guest.end(c, || {
        guest.tell(a, "Stop", &[("code", 302.into()), ("text", "a".into())])
    });
    assert_eq!(code, 302);
}

fn names(guest: &Guest) {
    let (a, b) = (guest.start(), guest.start());
    guest.ask(a, "Register", &[("name", "the one".into())]);
    assert_eq!(guest.node.find("the one").unwrap(), a);
    assert_eq!(
        guest.ask(b, "Whereis", &[("name", "the one".into())]),
        pid_value(a)
    );
    assert_eq!(
        guest.ask(b, "Whereis", &[("name", "nobody".into())]),
        Value::Nil
    );
    guest.refused(b, message("Register", &[("name", "the one".into())]));
}

fn child(guest: &Guest) {
    let parent = guest.start();
    let pid = guest.ask(parent, "Child", &[("start", 41.into())]);
    let bytes: [u8; 16] = pid.as_slice().expect("a pid").try_into().expect("16 bytes");
    let pid = Pid::from_bytes(bytes);
    guest.add(pid, 1);
    assert_eq!(guest.count(pid), 42);
    guest.ask(
        parent,
        "Send",
        &[("to", pid_value(pid)), ("text", "to the child".into())],
    );
    assert_eq!(guest.notes_when(pid, 1), ["to the child"]);
    let (code, _) = guest.end(pid, || {
        guest.tell(
            parent,
            "Stop",
            &[("code", 303.into()), ("text", "parent".into())],
        )
    });
    assert_eq!(code, 303);
}

fn stop(guest: &Guest) {
    let pid = guest.start();
    let end = guest.end(pid, || {
        guest.tell(
            pid,
            "Stop",
            &[("code", 400.into()), ("text", "that's it".into())],
        )
    });
    assert_eq!(end, (400, "that's it".into()));
    let pid = guest.start();
    let (code, _) = guest.end(pid, || {
        guest.tell(pid, "Stop", &[("code", 0.into()), ("text", "".into())])
    });
    assert_eq!(code, Reason::NORMAL.0);
}

/// How the process ends that was told to trap.
fn trapped(guest: &Guest) -> String {
    let pid = guest.start();
    guest.add(pid, 1);
    let (code, text) = guest.end(pid, || guest.tell(pid, "Trap", &[]));
    assert!(
        code == Reason::TRAP.0 || code >= Reason::GUEST,
        "{code}: {text}"
    );
    text
}

fn trap(guest: &Guest) {
    let text = trapped(guest);
    let (inner, outer) = (text.find("inner"), text.find("outer"));
    // CPython writes the one that failed last.
    let is_in_order = if text.contains("most recent call last") {
        outer < inner
    } else {
        inner < outer
    };
    assert!(inner.is_some() && outer.is_some() && is_in_order, "{text}");
}

fn lines(guest: &Guest) {
    let text = trapped(guest);
    // `file.ext:12`, on the line of the function or, as some languages write it, on the next one.
    let is_place = |word: &str| {
        word.split_once('.').is_some_and(|(_, rest)| {
            rest.split_once(':').is_some_and(|(extension, number)| {
                let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
                extension.rsplit('.').next().is_some_and(is_word)
                    && number.starts_with(|c: char| c.is_ascii_digit())
            })
        })
    };
    let lines: Vec<&str> = text.lines().collect();
    let has_place = |name: &str| {
        let at = lines.iter().position(|line| line.contains(name));
        at.is_some_and(|at| {
            // CPython: `File "guest.py", line 12, in inner`.
            if lines[at].contains("\", line ") {
                return true;
            }
            let near = lines[at..].iter().take(2);
            let mut words = near.flat_map(|line| line.split([' ', '(', ')', '\t']));
            words.any(is_place)
        })
    };
    assert!(has_place("inner") && has_place("outer"), "{text}");
}

fn large(guest: &Guest) {
    let pid = guest.start();
    let bytes = Value::Binary((0..1_000_000u32).map(|at| at.to_le_bytes()[1]).collect());
    assert_eq!(
        guest.ask(pid, "Length", &[("bytes", bytes.clone())]),
        Value::from(1_000_000)
    );
    assert_eq!(guest.ask(pid, "Echo", &[("value", bytes.clone())]), bytes);
}

fn too_large(guest: &Guest) {
    let used = guest.info(guest.start()).memory;
    let limits = Limits {
        memory: used + (4 << 20),
        ..guest.limits()
    };
    let pid = guest.start_with(&encoded(&Value::Nil), limits);
    guest.add(pid, 4);
    let bytes = Value::Binary(vec![1; 12 << 20]);
    guest.tell(pid, "Length", &[("bytes", bytes.clone())]);
    guest.refused(pid, message("Length", &[("bytes", bytes.clone())]));
    assert_eq!(guest.count(pid), 4);
    // Nor is a reply.
    let server = guest.start();
    for name in ["CallKeep", "Await"] {
        let asked = message(name, &[to(server), within(20_000)]);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| guest.try_ask(pid, asked).unwrap());
            // The request may still be on its way to the one that keeps it.
            eventually("it is answered", || {
                guest.ask(server, "Release", &[("value", bytes.clone())]);
                waits.is_finished()
            });
            let outcome = decoded(&waits.join().unwrap().payload);
            assert!(outcome["Err"].is_str(), "{name}: {outcome}");
        });
        assert_eq!(guest.count(pid), 4);
    }
}

fn freed(guest: &Guest) {
    let pid = guest.start();
    guest.add(pid, 1);
    assert_eq!(guest.count(pid), 1);
    let before = guest.image(pid);
    assert_eq!(
        guest.ask(pid, "Fill", &[("bytes", 4_000_000.into())]),
        Value::from(4_000_000)
    );
    let bytes = Value::Binary(vec![1; 1_000_000]);
    guest.ask(pid, "Length", &[("bytes", bytes)]);
    assert_eq!(guest.count(pid), 1);
    let after = guest.image(pid);
    eprintln!("image {before} B, after 4 MB and a message of 1 MB {after} B");
    assert!(
        after < before + 40_000,
        "{before} B before, {after} B after"
    );
}

fn random(guest: &Guest) {
    let (a, b) = (guest.start(), guest.start());
    let draw = |pid| {
        let bytes = guest.ask(pid, "Random", &[]);
        bytes.as_slice().expect("a binary").to_vec()
    };
    let drawn = [draw(a), draw(a), draw(b), draw(b)];
    for (at, one) in drawn.iter().enumerate() {
        assert_eq!(one.len(), 16);
        assert!(drawn[..at].iter().all(|other| other != one), "{drawn:?}");
    }
}

fn log(guest: &Guest) {
    let pid = guest.start();
    let mut events = guest.node.events();
    guest.ask(pid, "Log", &[("text", "hello from a guest".into())]);
    event(&mut events, "the line", |event| match event {
        Event::Log { text, .. } if text.contains("hello from a guest") => Some(()),
        _ => None,
    });
}

fn files(guest: &Guest) {
    guest.write("granted.txt", "abc");
    let limits = Limits {
        grants: guest.granted(),
        ..guest.limits()
    };
    let pid = guest.start_with(&encoded(&Value::Nil), limits);
    let path = |at: &str| [("path", Value::from(at))];
    assert_eq!(
        guest.ask(pid, "ReadFile", &path("/granted.txt")),
        Value::from("abc")
    );
    guest.refused(pid, message("ReadFile", &path("/absent.txt")));
    guest.ask(pid, "OpenFile", &path("/granted.txt"));
    assert_eq!(guest.ask(pid, "ReadOn", &[]), Value::from("b"));
    // Other processes take its frame in between.
    for _ in 0..40 {
        guest.add(guest.start(), 1);
    }
    assert_eq!(guest.ask(pid, "ReadOn", &[]), Value::from("c"));
    guest.refused(pid, message("ReadOn", &[]));
    // One that is granted nothing.
    guest.refused(guest.start(), message("ReadFile", &path("/granted.txt")));
}

fn migrated(guest: &Guest) {
    let pids: Vec<Pid> = (0..50).map(|_| guest.start()).collect();
    for (at, pid) in pids.iter().zip(1..).map(|(pid, at)| (at, *pid)) {
        guest.add(pid, at);
        guest.tell(pid, "Note", &[("text", format!("note {at}").into())]);
    }
    let first = pids[0];
    let delays = Value::Array(vec![30.into()]);
    guest.ask(first, "Timers", &[("delays_ms", delays)]);
    assert_eq!(guest.ask(first, "Version", &[]), Value::from(1));
    guest.deploy("two").unwrap();
    for (at, pid) in pids.iter().zip(1..).map(|(pid, at)| (at, *pid)) {
        assert_eq!(guest.ask(pid, "Version", &[]), Value::from(2));
        assert_eq!(guest.count(pid), at);
        guest.add(pid, 1);
        assert_eq!(guest.count(pid), at + 1);
    }
    assert_eq!(guest.notes_when(first, 2), ["note 1", "timer 30"]);
    assert_eq!(guest.notes(pids[1]), ["note 2"]);
}

fn kept(guest: &Guest) {
    let pid = guest.start();
    guest.add(pid, 12);
    guest.tell(pid, "Note", &[("text", "kept".into())]);
    assert_eq!(guest.count(pid), 12);
    guest.deploy("same").unwrap();
    assert_eq!(guest.ask(pid, "Version", &[]), Value::from(101));
    assert_eq!(guest.count(pid), 12);
    assert_eq!(guest.notes(pid), ["kept"]);
}

fn same(guest: &Guest) {
    let pid = guest.start();
    guest.add(pid, 12);
    let report = guest.deploy("same").unwrap();
    assert_eq!(report.not_reused, None);
    assert_eq!(guest.ask(pid, "Version", &[]), Value::from(101));
    assert_eq!(guest.count(pid), 12);
}

fn awaited(guest: &Guest) {
    let (a, b) = (guest.start(), guest.start());
    guest.add(a, 6);
    assert_eq!(guest.count(b), 0);
    let frames = guest.node.info().frames_blocked;
    let asked = message("Await", &[to(b), within(60_000)]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.try_ask(a, asked).unwrap());
        eventually("it waits without a stack", || {
            guest.info(a).state == "waiting"
        });
        assert_eq!(guest.node.info().frames_blocked, frames);
        guest.deploy("same").unwrap();
        // The other one is not waiting and has the new code.
        assert_eq!(guest.ask(b, "Version", &[]), Value::from(101));
        let waiting = guest.info(a);
        assert!(waiting.state.starts_with("waiting"), "{}", waiting.state);
        assert_eq!(waiting.upgrades, 0);
        guest.ask(b, "Release", &[("value", "released".into())]);
        let reply = waits.join().unwrap();
        assert_eq!(decoded(&reply.payload), ok("released"));
    });
    assert_eq!(guest.count(a), 6);
    eventually("it has the new code", || {
        guest.ask(a, "Version", &[]) == Value::from(101)
    });
    // Who is waited for ends, or does not answer.
    let late = guest.ask(a, "Await", &[to(b), within(10)]);
    assert_eq!(late, err("timeout"));
    let gone = guest.start();
    guest.end(gone, || guest.node.kill(gone));
    assert_eq!(
        guest.ask(a, "Await", &[to(gone), within(60_000)]),
        err("noproc")
    );
    assert_eq!(guest.count(a), 6);
}

fn bad_load(guest: &Guest) {
    let pid = guest.start();
    guest.add(pid, 13);
    assert_eq!(guest.count(pid), 13);
    // In the middle of a turn it could not be verified.
    guest.image(pid);
    guest.deploy("bad").unwrap_err();
    guest.add(pid, 2);
    assert_eq!(guest.count(pid), 15);
    guest.image(pid);
    let refused = guest.deploy("bad").unwrap_err().to_string();
    assert!(refused.contains("odd"), "{refused}");
    assert_eq!(guest.ask(pid, "Version", &[]), Value::from(1));
    guest.add(pid, 1);
    assert_eq!(guest.count(pid), 16);
    guest.image(pid);
    guest.deploy("bad").unwrap();
    assert_eq!(guest.ask(pid, "Version", &[]), Value::from(3));
    assert_eq!(guest.count(pid), 16);
}

fn many(guest: &Guest) {
    let pids: Vec<Pid> = (0..10_000).map(|_| guest.start()).collect();
    for (at, pid) in pids.iter().enumerate() {
        guest.add(*pid, i64::try_from(at).unwrap());
    }
    for (at, pid) in pids.iter().enumerate().step_by(97) {
        assert_eq!(guest.count(*pid), i64::try_from(at).unwrap());
    }
    assert!(pids.iter().all(|pid| guest.is_alive(*pid)));
    let images: usize = pids[..100].iter().map(|pid| guest.image(*pid)).sum();
    eprintln!("image of an idle process: {} B", images / 100);
    let last = guest.try_ask(pids[9_999], message("Get", &[]));
    assert!(!matches!(last, Err(CallFailed::Down { .. })));
}
