//! The cases, and what each must note.

use std::fmt::Debug;
use std::time::Duration;

use exuvia::{Access, Group, Match, Pid, Priority, Reason, Table, Wait};

/// How a case does what differs between the places where it runs.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Puts a message into the mailbox of the process.
    pub post: fn(u32, &[u8]),
}

/// Calls, and what they must return.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is tried.
    pub name: &'static str,
    /// What the case must note.
    pub expected: &'static [&'static str],
    calls: fn(&Here, &mut Notes),
}

impl Case {
    /// Makes the calls and returns what was noted.
    pub fn run(&self, here: &Here) -> Vec<String> {
        let mut notes = Notes(Vec::new());
        (self.calls)(here, &mut notes);
        notes.0
    }
}

struct Notes(Vec<String>);

impl Notes {
    fn note(&mut self, result: impl Debug) {
        self.0.push(format!("{result:?}"));
    }
}

/// A pid of this node whose process has ended, or that no process has had yet.
fn other() -> Pid {
    let mut bytes = exuvia::me().to_bytes();
    // A high bit of the generation.
    bytes[13] ^= 0x40;
    Pid::from_bytes(bytes)
}

/// All cases. A guest runs one by its number.
pub const CASES: &[Case] = &[
    Case {
        name: "names",
        expected: &[
            "Ok(())",
            "Ok(())",
            "Err(NameTaken)",
            "true",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Err(Denied)",
            "Err(Denied)",
            "Ok(())",
            "Err(NoProc(Reason(3)))",
            "Err(NoProc(Reason(3)))",
            "Err(BadArgument)",
        ],
        calls: |_, notes| {
            let me = exuvia::me();
            notes.note(exuvia::register("conformance", me));
            notes.note(exuvia::register("conformance", me));
            notes.note(exuvia::register("conformance", other()));
            notes.note(exuvia::whereis("conformance") == Ok(me));
            notes.note(exuvia::register("", me));
            notes.note(exuvia::register(&"x".repeat(256), me));
            notes.note(exuvia::register("exuvia.http", me));
            notes.note(exuvia::unregister("exuvia.http"));
            notes.note(exuvia::unregister("conformance"));
            notes.note(exuvia::unregister("conformance"));
            notes.note(exuvia::whereis("conformance"));
            notes.note(exuvia::whereis(""));
        },
    },
    Case {
        name: "groups",
        expected: &[
            "Ok(0)",
            "Ok(())",
            "Ok(())",
            "true",
            "Ok(())",
            "Err(NoProc(Reason(3)))",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Ok(0)",
        ],
        calls: |_, notes| {
            let (me, group) = (exuvia::me(), Group::new("conformance"));
            notes.note(group.size());
            notes.note(group.join(me));
            notes.note(group.join(me));
            notes.note(group.members() == Ok(vec![me]));
            notes.note(group.leave(me));
            notes.note(group.leave(me));
            notes.note(Group::new("").join(me));
            notes.note(Group::new("").publish_bytes(0, b""));
            notes.note(group.publish_bytes(0, b""));
        },
    },
    Case {
        name: "tables and their names",
        expected: &[
            "Err(NameTaken)",
            "true",
            "Err(NoProc(Reason(3)))",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Ok(())",
            "Err(BadArgument)",
            "Ok(())",
            "Err(NoProc(Reason(3)))",
            "Err(NoProc(Reason(3)))",
            "true",
        ],
        calls: |_, notes| {
            let Ok(table) = Table::<u32>::named("conformance", Access::Public) else {
                return notes.note("no table");
            };
            notes.note(Table::<u32>::named("conformance", Access::Public).map(|_| ()));
            notes.note(Table::<u32>::find("conformance") == Ok(table));
            notes.note(Table::<u32>::find("nothing").map(|_| ()));
            notes.note(Table::<u32>::find("").map(|_| ()));
            notes.note(Table::<u32>::named(&"x".repeat(256), Access::Private).map(|_| ()));
            notes.note(table.set_heir(None, 0));
            notes.note(table.give(exuvia::me(), 0));
            notes.note(table.end());
            notes.note(table.end());
            notes.note(table.put("a", &1));
            // The name is free again.
            let again = Table::<u32>::named("conformance", Access::Private);
            notes.note(again.and_then(Table::end).is_ok());
        },
    },
    Case {
        name: "rows",
        expected: &[
            "Ok(false)",
            "Ok(true)",
            "Ok(false)",
            "Ok(Some(2))",
            "Ok(None)",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Ok(5)",
            "Ok(3)",
            "Err(BadArgument)",
            "Err(BadArgument)",
            "Ok(2)",
            "Ok(203)",
            "Ok(true)",
            "Ok(false)",
        ],
        calls: |_, notes| {
            let Ok(table) = Table::<u32>::new(Access::Private) else {
                return notes.note("no table");
            };
            notes.note(table.put("a", &1));
            notes.note(table.put("a", &2));
            // It stores nothing: there is such a row.
            notes.note(table.insert("a", &3));
            notes.note(table.get("a"));
            notes.note(table.get("b"));
            notes.note(table.put("", &1));
            notes.note(table.put([7; 1025], &1));
            notes.note(table.add("n", 5));
            notes.note(table.add("n", -2));
            notes.note(table.add("a", 1));
            notes.note(table.add("", 1));
            notes.note(table.rows());
            // The keys, a number of one byte and one of eight, and 96 for each row.
            notes.note(table.bytes());
            notes.note(table.delete("a"));
            notes.note(table.delete("a"));
            let _ = table.end();
        },
    },
    Case {
        name: "timers",
        expected: &["true", "None", "None", "Ok(())"],
        calls: |_, notes| {
            let hour = Duration::from_secs(3_600);
            let timer = exuvia::me().send_bytes_after(1, b"", hour);
            let left = timer.clone().map(exuvia::cancel_timer);
            notes.note(left.is_ok_and(|left| left.is_some_and(|left| left <= hour)));
            notes.note(timer.map_or(None, exuvia::cancel_timer));
            notes.note(exuvia::cancel_timer(12_345));
            notes.note(exuvia::sleep(Duration::ZERO));
        },
    },
    Case {
        name: "selective receive",
        expected: &[
            "3",
            "Err(Empty)",
            "Err(Empty)",
            "Err(Timeout)",
            "Ok(2)",
            "2",
            "Ok(1)",
            "Ok(3)",
            "Err(Empty)",
        ],
        calls: |here, notes| {
            for tag in [1, 2, 3] {
                (here.post)(tag, b"payload");
            }
            let receive =
                |wanted, wait: Wait| exuvia::receive(wanted, wait).map(|message| message.tag);
            notes.note(exuvia::mailbox_length());
            notes.note(receive(Match::Tag(9), Wait::No));
            // A message has no reference.
            notes.note(receive(Match::Reference(0), Wait::No));
            notes.note(receive(Match::Tag(9), Duration::from_millis(1).into()));
            notes.note(receive(Match::Tag(2), Wait::No));
            notes.note(exuvia::mailbox_length());
            notes.note(receive(Match::Any, Wait::No));
            notes.note(receive(Match::Any, Wait::No));
            notes.note(receive(Match::Any, Wait::No));
        },
    },
    Case {
        name: "receiving by sender and by several references",
        expected: &[
            "Err(Empty)",
            "Err(Empty)",
            "Ok(2)",
            "Ok(1)",
            "Err(Empty)",
            "Err(Empty)",
        ],
        calls: |here, notes| {
            let me = exuvia::me();
            let receive = |wanted| exuvia::receive(wanted, Wait::No).map(|message| message.tag);
            // From itself.
            (here.post)(1, b"payload");
            notes.note(receive(Match::Sender(other())));
            notes.note(receive(Match::References(&[1, 2])));
            let late = me.send_bytes_after(3, b"", Duration::from_secs(60));
            let soon = me.send_bytes_after(2, b"", Duration::ZERO);
            let both = [late.unwrap_or(0), soon.unwrap_or(0)];
            // In a unit test time stands still.
            let fired = exuvia::receive(Match::References(&both), Duration::from_secs(1));
            notes.note(match fired {
                Ok(message) => Ok(message.tag),
                Err(exuvia::Nothing::Timeout) => Ok(2),
                Err(error) => Err(error),
            });
            notes.note(receive(Match::Sender(me)));
            notes.note(receive(Match::Sender(me)));
            notes.note(receive(Match::Any));
        },
    },
    Case {
        name: "memory is discarded",
        expected: &["[0, 0, 0]", "true", "true"],
        calls: |_, notes| {
            let mut bytes = [1, 2, 3];
            exuvia::discard(&mut bytes);
            notes.note(bytes);
            let mut many = vec![7; 300_000];
            exuvia::discard(&mut many[1..299_999]);
            notes.note(many[0] == 7 && many[299_999] == 7);
            notes.note(many[1..299_999].iter().all(|byte| *byte == 0));
        },
    },
    Case {
        name: "sending and calling",
        expected: &["Ok(())", "Ok(())", "Err(BadArgument)"],
        calls: |_, notes| {
            // As in Erlang, what is sent to a process that has ended is discarded.
            notes.note(other().send_bytes(1, b"payload"));
            notes.note(other().reply_bytes(7, 0, b""));
            let me = exuvia::me();
            let called = me.call_bytes(0, b"", Duration::from_secs(1));
            notes.note(called.map(|_| ()));
        },
    },
    Case {
        name: "links and monitors of the process itself",
        expected: &["Ok(())", "Ok(())", "true", "Ok(())", "Ok(())"],
        calls: |_, notes| {
            let me = exuvia::me();
            notes.note(me.link());
            notes.note(me.unlink());
            let monitor = me.monitor();
            notes.note(monitor.is_ok());
            notes.note(exuvia::demonitor(monitor.unwrap_or(1), true));
            notes.note(exuvia::demonitor(12_345, false));
        },
    },
    Case {
        name: "exits",
        expected: &["false", "true", "Err(BadArgument)", "Ok(())", "Ok(())"],
        calls: |_, notes| {
            exuvia::trap_exit(false);
            notes.note(exuvia::trap_exit(true));
            notes.note(exuvia::trap_exit(false));
            // A code that belongs to the host.
            notes.note(other().exit(Reason::TRAP, ""));
            notes.note(other().exit(Reason::SHUTDOWN, ""));
            notes.note(other().kill());
        },
    },
    Case {
        name: "priority",
        expected: &["Err(Denied)", "Ok(Normal)", "Ok(Low)"],
        calls: |_, notes| {
            notes.note(exuvia::set_priority(Priority::High));
            notes.note(exuvia::set_priority(Priority::Low));
            notes.note(exuvia::set_priority(Priority::Normal));
        },
    },
    Case {
        name: "numbers about the process",
        expected: &["0", "Ok(None)", "true"],
        calls: |_, notes| {
            notes.note(exuvia::upgrades());
            notes.note(exuvia::config::<u32>("conformance.nothing"));
            let before = exuvia::monotonic();
            notes.note(exuvia::monotonic() >= before);
        },
    },
];
