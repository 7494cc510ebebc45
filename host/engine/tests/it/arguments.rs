//! Whatever a guest passes to a host call, the worst that comes of it is an
//! error code or the guest's own end.

use std::fmt::Write;
use std::sync::Arc;

use exuvia_abi::{Code, HOST_CALLS, Reason, WasmType};
use exuvia_process::{Limits, Pid};
use proptest::prelude::*;

use crate::world::{Answer, ENOUGH, Setup, World, answering, cases};

/// Bytes of the guest's memory, which never grows here.
const END: i32 = 2 << 16;
/// Pids of a living, a dead and an unknown process, and none.
const PIDS: i32 = 0x1000;
/// Structures that begin with their size: 48 (headers, options).
const SIZED: i32 = 0x1800;
/// Text.
const TEXT: i32 = 0x2000;
/// Where arguments lie, as eight i64.
const ARGUMENTS: i32 = 0x400;

/// A guest that makes the host call whose number is the tag, with the arguments in the
/// payload, and answers its result. Whatever the call writes into memory, the code after it needs none of it.
fn guest() -> String {
    let mut imports = String::new();
    let mut calls = String::new();
    for (number, call) in HOST_CALLS.iter().enumerate() {
        let ty = |ty: &WasmType| match ty {
            WasmType::I32 => "i32",
            WasmType::I64 => "i64",
        };
        let params: String = call.params.iter().map(|p| format!(" {}", ty(p))).collect();
        let result = call.result.as_ref();
        let signature = result.map_or(String::new(), |result| format!("(result {})", ty(result)));
        let _ = writeln!(
            imports,
            r#"(import "exuvia" "{0}" (func ${0} (param{params}) {signature}))"#,
            call.name
        );
        let arguments: String = call
            .params
            .iter()
            .enumerate()
            .map(|(at, ty)| {
                let load = match ty {
                    WasmType::I32 => "i32.load",
                    WasmType::I64 => "i64.load",
                };
                format!("({load} (i32.const {}))", ARGUMENTS + 8 * at as i32)
            })
            .collect();
        let made = format!("(call ${} {arguments})", call.name);
        let kept = match result {
            Some(WasmType::I32) => format!("(global.set $result (i64.extend_i32_s {made}))"),
            Some(WasmType::I64) => format!("(global.set $result {made})"),
            None => made,
        };
        let _ = writeln!(
            calls,
            "(if (i32.eq (local.get $tag) (i32.const {number})) (then {kept}))"
        );
    }
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 2 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (global $result (mut i64) (i64.const 0))
  (global $node (mut i64) (i64.const 0))
  (global $local (mut i64) (i64.const 0))
  (global $reference (mut i64) (i64.const 0))
  (func $make (param $tag i32) {calls})
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 120000) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (global.set $node (i64.load (i32.const 72)))
        (global.set $local (i64.load (i32.const 80)))
        (global.set $reference (i64.load (i32.const 88)))
        (memory.copy (i32.const {ARGUMENTS}) (i32.const 512) (i32.const 64))
        (memory.copy (i32.const {PIDS}) (i32.const 576) (i32.const 64))
        (i32.store (i32.const {SIZED}) (i32.const 48))
        (i32.store (i32.const {}) (i32.const 48))
        (i64.store (i32.const {TEXT}) (i64.const 0x6867666564636261))
        (call $make (i32.load (i32.const 96)))
        (i64.store (i32.const 72) (global.get $node))
        (i64.store (i32.const 80) (global.get $local))
        (i64.store (i32.const 128) (global.get $result))
        (drop (call $reply (i32.const 72) (global.get $reference) (i32.const 0) (i32.const 128) (i32.const 8)))))
      (br $next))
    unreachable))"#,
        END - 48
    )
}

/// Numbers at the edges of what a guest can say.
fn number() -> impl Strategy<Value = i64> {
    let near = prop::sample::select(vec![
        0i64,
        1,
        8,
        16,
        40,
        48,
        i64::from(PIDS),
        i64::from(PIDS) + 16,
        i64::from(PIDS) + 32,
        i64::from(PIDS) + 48,
        i64::from(SIZED),
        i64::from(TEXT),
        i64::from(END),
        i64::from(END) - 48,
        65_536,
        255,
        256,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
        i64::from(u32::MAX),
        i64::MAX,
        i64::MIN,
    ]);
    prop_oneof![
        6 => near.clone(),
        2 => (near, -9i64..9).prop_map(|(n, d)| n.wrapping_add(d)),
        1 => any::<i32>().prop_map(i64::from),
        1 => any::<i64>(),
        1 => 0..i64::from(END),
    ]
}

fn is_code(value: i64) -> bool {
    value >= 0 || (-14..=-1).contains(&value)
}

struct Bench {
    world: World,
    victim: Pid,
    other: Pid,
    dead: Pid,
}

impl Bench {
    fn new() -> Bench {
        let world = World::new(Setup {
            processes: 64,
            ..Setup::default()
        });
        world.deploy("any", &guest());
        world.deploy("other", &answering("", "(i64.const 42)", ""));
        let dead = world.spawn("other");
        world.kill(dead);
        assert!(world.settle(100));
        Bench {
            victim: victim(&world),
            other: world.spawn("other"),
            dead,
            world,
        }
    }

    /// One host call; answers its result if it came back.
    fn call(&mut self, call: usize, arguments: &[i64; 8]) -> Option<i64> {
        let world = &self.world;
        let mut payload: Vec<u8> = arguments.iter().flat_map(|a| a.to_le_bytes()).collect();
        let unknown = Pid::new(world.system.node(), 63, 9_999);
        for pid in [self.victim, self.dead, unknown, Pid::NONE] {
            payload.extend(pid.to_bytes());
        }
        let name = HOST_CALLS[call].name;
        let reference = world.request(self.victim, u32::try_from(call).unwrap(), &payload);
        assert!(world.settle(ENOUGH), "`{name}` keeps everybody busy");
        let mut answer = world.answer(reference);
        if answer == Answer::Nothing {
            // It waits: for a message, for time, or for ever.
            world.send(self.victim, 0, b"something");
            world.advance(u64::MAX / 1_000_000 / 4);
            assert!(world.settle(ENOUGH));
            answer = world.answer(reference);
        }
        let result = match answer {
            Answer::Reply(bytes) => Some(i64::from_le_bytes(bytes.try_into().unwrap())),
            Answer::Down(code, text) => {
                assert_ne!(code, Reason::INTERNAL.0, "{name}{arguments:?}: {text}");
                assert_ne!(code, Reason::TRAP.0, "{name}{arguments:?}: {text}");
                None
            }
            Answer::Nothing => None,
        };
        for (pid, reason) in world.seen.failures.lock().drain(..) {
            assert_ne!(reason.code(), Reason::INTERNAL.0, "{pid}: {reason:?}");
        }
        if result.is_none() {
            world.kill(self.victim);
            assert!(world.settle(ENOUGH));
            self.victim = victim(world);
        }
        assert_eq!(
            world.ask(self.other, 0, &[]).number(),
            42,
            "after {name}{arguments:?}"
        );
        world.seen.logs.lock().clear();
        world.forget_heard();
        result
    }
}

fn victim(world: &World) -> Pid {
    let limits = Limits {
        children: 3,
        mailbox_messages: 20,
        ..Limits::default()
    };
    world.spawn_with("any", &Arc::new(limits))
}

fn number_of(name: &str) -> usize {
    HOST_CALLS
        .iter()
        .position(|call| call.name == name)
        .unwrap()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_arguments_are_handled(
        calls in prop::collection::vec((0..HOST_CALLS.len(), prop::array::uniform8(number())), 1..60),
    ) {
        let mut bench = Bench::new();
        for (call, arguments) in calls {
            if let Some(result) = bench.call(call, &arguments) {
                prop_assert!(
                    is_code(result) && result != i64::from(exuvia_abi::SUSPEND),
                    "`{}` answered {}", HOST_CALLS[call].name, result
                );
            }
        }
    }
}

/// Each call with each kind of bad number at each place.
#[test]
fn every_parameter_of_every_call_accepts_every_edge_value() {
    let mut bench = Bench::new();
    let edges = [
        -1,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        i64::from(END),
        i64::MIN,
        i64::MAX,
    ];
    for (number, call) in HOST_CALLS.iter().enumerate() {
        for place in 0..call.params.len() {
            for edge in edges {
                for rest in [0, 16, i64::from(PIDS), i64::from(SIZED)] {
                    let mut arguments = [rest; 8];
                    arguments[place] = edge;
                    if let Some(result) = bench.call(number, &arguments) {
                        assert!(is_code(result), "`{}` answered {result}", call.name);
                    }
                }
            }
        }
    }
}

#[test]
fn lengths_that_reach_beyond_the_memory_are_bad_pointers() {
    let mut bench = Bench::new();
    let (pids, end) = (i64::from(PIDS), i64::from(END));
    let bad = Some(Code::BadPointer as i64);
    for (data, length) in [
        (end - 1, 2),
        (end, 1),
        (0, end + 1),
        (16, -1),
        (-1, 1),
        (-1, -1),
        (1, i64::from(i32::MIN)),
    ] {
        let send = [pids, 0, data, length, 0, 0, 0, 0];
        assert_eq!(bench.call(number_of("send"), &send), bad, "{data} {length}");
        let log = [3, data, length, 0, 0, 0, 0, 0];
        assert_eq!(bench.call(number_of("log"), &log), bad, "{data} {length}");
    }
    for to in [end - 15, end, -1, -16] {
        let send = [to, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bench.call(number_of("send"), &send), bad, "{to}");
    }
    assert_eq!(
        bench.call(number_of("send"), &[pids, 0, end - 1, 1, 0, 0, 0, 0]),
        Some(0)
    );
}

/// How long a buffer of a host call is.
enum Long {
    /// As the argument at this place says.
    Said(usize),
    /// Always so many bytes.
    Bytes(i64),
    /// As its own first word says.
    Sized,
}
use Long::{Bytes, Said, Sized};

/// Arguments of a call that make sense, and where its buffers are among them.
/// A call without buffers has none to check; those that are served in `save`
/// and `load` only are checked there (`crossing`).
fn buffers(call: &str) -> (Vec<i64>, Vec<(usize, Long)>) {
    let (pid, sized, text, out) = (
        i64::from(PIDS),
        i64::from(SIZED),
        i64::from(TEXT),
        i64::from(TEXT) + 0x1000,
    );
    match call {
        // By tag: for any message the host need not be asked (section 9).
        "receive" => (
            vec![sized, out, 16, 0, 1, 0],
            vec![(0, Sized), (1, Said(2))],
        ),
        "send" => (vec![pid, 0, text, 8], vec![(0, Bytes(16)), (2, Said(3))]),
        "request" => (
            vec![pid, 0, text, 8, out],
            vec![(0, Bytes(16)), (2, Said(3)), (4, Bytes(8))],
        ),
        "call" => (
            // Not to itself.
            vec![pid + 16, 0, text, 8, sized, out, 16, 0],
            vec![(0, Bytes(16)), (2, Said(3)), (4, Sized), (5, Said(6))],
        ),
        "reply" => (vec![pid, 1, 0, text, 8], vec![(0, Bytes(16)), (3, Said(4))]),
        "spawn" => (
            vec![text, 8, text, 8, sized, out, out],
            vec![(0, Said(1)), (2, Said(3)), (4, Sized), (5, Bytes(16))],
        ),
        "init_ack" => (vec![0, text, 8], vec![(1, Said(2))]),
        "exit_process" => (vec![pid, 300, text, 8], vec![(0, Bytes(16)), (2, Said(3))]),
        "kill" | "link" | "unlink" => (vec![pid], vec![(0, Bytes(16))]),
        "monitor" => (vec![pid, out], vec![(0, Bytes(16)), (1, Bytes(8))]),
        "register" => (vec![text, 8, pid], vec![(0, Said(1)), (2, Bytes(16))]),
        "unregister" => (vec![text, 8], vec![(0, Said(1))]),
        "whereis" => (vec![text, 8, out], vec![(0, Said(1)), (2, Bytes(16))]),
        "self" => (vec![out], vec![(0, Bytes(16))]),
        "send_after" => (
            vec![pid, 0, text, 8, 0, out],
            vec![(0, Bytes(16)), (2, Said(3)), (5, Bytes(8))],
        ),
        "log" => (vec![3, text, 8], vec![(1, Said(2))]),
        "random" | "discard" => (vec![out, 8], vec![(0, Said(1))]),
        "supervisor_start" => (vec![text, 8, out], vec![(0, Said(1)), (2, Bytes(16))]),
        "monitor_name" => (
            vec![text, 8, out, out],
            vec![(0, Said(1)), (2, Bytes(16)), (3, Bytes(8))],
        ),
        "config" => (vec![text, 8, out, 8], vec![(0, Said(1)), (2, Said(3))]),
        "group_join" | "group_leave" => (vec![text, 8, pid], vec![(0, Said(1)), (2, Bytes(16))]),
        "group_members" => (vec![text, 8, out, 2], vec![(0, Said(1)), (2, Bytes(32))]),
        "publish" => (vec![text, 8, 0, text, 8], vec![(0, Said(1)), (3, Said(4))]),
        "table_new" => (vec![text, 8, 0, out], vec![(0, Said(1)), (3, Bytes(8))]),
        "table_find" => (vec![text, 8, out], vec![(0, Said(1)), (2, Bytes(8))]),
        // There is no table 1: that comes after.
        "table_put" => (
            vec![1, text, 8, text, 8, 0],
            vec![(1, Said(2)), (3, Said(4))],
        ),
        "table_get" | "table_next" => (vec![1, text, 8, out, 8], vec![(1, Said(2)), (3, Said(4))]),
        "table_delete" => (vec![1, text, 8], vec![(1, Said(2))]),
        "table_add" => (vec![1, text, 8, 1, out], vec![(1, Said(2)), (4, Bytes(8))]),
        "table_heir" | "table_give" => (vec![1, pid], vec![(1, Bytes(16))]),
        "set_priority" | "table_info" | "table_end" => (Vec::new(), Vec::new()),
        // Its bad pointer is an end with the reason CONTRACT.
        "exit" => (vec![300, text, 8], Vec::new()),
        "demonitor" | "trap_exit" | "cancel_timer" | "sleep" | "clock" | "info" | "state_put"
        | "state_get" => (Vec::new(), Vec::new()),
        _ => panic!("`{call}` is new: say here where its buffers are"),
    }
}

#[test]
fn every_buffer_of_every_call_must_lie_in_the_memory() {
    let mut bench = Bench::new();
    let (end, least) = (i64::from(END), i64::from(i32::MIN));
    for (number, call) in HOST_CALLS.iter().enumerate() {
        let (valid, buffers) = buffers(call.name);
        for (at, long) in buffers {
            let bad: Vec<(i64, Option<(usize, i64)>)> = match long {
                Bytes(size) => [end - size + 1, end, -1, -size, least]
                    .map(|pointer| (pointer, None))
                    .into(),
                Sized => [end - 3, end, -1, -4, least]
                    .map(|pointer| (pointer, None))
                    .into(),
                Said(length) => [
                    (end - 1, 2),
                    (end, 1),
                    (-1, 1),
                    (-2, 2),
                    (least, 1),
                    (0, end + 1),
                    (16, -1),
                    (1, least),
                ]
                .into_iter()
                // So many random bytes are refused wherever they are to lie.
                .filter(|(_, bytes)| call.name != "random" || (0..1_000).contains(bytes))
                .map(|(pointer, bytes)| (pointer, Some((length, bytes))))
                .collect(),
            };
            for (pointer, length) in bad {
                let mut arguments = [0; 8];
                arguments[..valid.len()].copy_from_slice(&valid);
                arguments[at] = pointer;
                if let Some((place, bytes)) = length {
                    arguments[place] = bytes;
                }
                assert_eq!(
                    bench.call(number, &arguments),
                    Some(Code::BadPointer as i64),
                    "`{}` {arguments:?}",
                    call.name
                );
            }
        }
    }
}

/// ABI, section 1: a buffer of length 0 is never read or written, so its
/// pointer may be anything.
#[test]
fn an_empty_buffer_may_be_anywhere() {
    let mut bench = Bench::new();
    let pids = i64::from(PIDS);
    for pointer in [
        0,
        i64::from(END),
        i64::from(END) + 1,
        -1,
        i64::from(i32::MIN),
    ] {
        let send = [pids, 0, pointer, 0, 0, 0, 0, 0];
        assert_eq!(bench.call(number_of("send"), &send), Some(0), "{pointer}");
        let log = [3, pointer, 0, 0, 0, 0, 0, 0];
        assert_eq!(bench.call(number_of("log"), &log), Some(0), "{pointer}");
        let random = [pointer, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            bench.call(number_of("random"), &random),
            Some(0),
            "{pointer}"
        );
    }
}
