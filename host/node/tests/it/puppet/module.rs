//! The text of the guest, which has a command for each host call.

use std::fmt::Write as _;

use exuvia_node::abi::{HOST_CALLS, WasmType};

use super::{CMD, HEADER};
use crate::guests::imports;

/// Commands that are no host calls, and what they do.
pub(super) const EXTRA: [(&str, &str); 6] = [
    ("trap", "(call $trap_here) (return (i64.const 0))"),
    (
        "leave",
        "(i32.store (i32.const 20) (i32.add (i32.wrap_i64 (i64.load (i32.const 4104))) (i32.const 1))) (return (i64.const 0))",
    ),
    (
        "grow",
        "(return (i64.extend_i32_s (memory.grow (i32.wrap_i64 (i64.load (i32.const 4104))))))",
    ),
    ("recurse", "(return (call $recurse (i64.const 1)))"),
    ("spin", "(loop $for_ever (br $for_ever))"),
    ("version", "(return (call $version))"),
];

/// Functions of WASI as commands: of `path_open` the second argument, flags for the
/// path, is left out.
pub(super) const WASI: [(&str, &[&str]); 17] = [
    (
        "path_open",
        &["32", "=1", "32", "32", "32", "64", "64", "32", "32"],
    ),
    ("path_create_directory", &["32", "32", "32"]),
    ("path_symlink", &["32", "32", "32", "32", "32"]),
    ("fd_read", &["32", "32", "32", "32"]),
    ("fd_write", &["32", "32", "32", "32"]),
    ("fd_seek", &["32", "64", "32", "32"]),
    ("fd_close", &["32"]),
    ("fd_renumber", &["32", "32"]),
    ("random_get", &["32", "32"]),
    ("fd_prestat_get", &["32", "32"]),
    ("fd_prestat_dir_name", &["32", "32", "32"]),
    ("environ_sizes_get", &["32", "32"]),
    ("environ_get", &["32", "32"]),
    ("args_sizes_get", &["32", "32"]),
    ("args_get", &["32", "32"]),
    ("clock_time_get", &["32", "64", "32"]),
    ("poll_oneoff", &["32", "32", "32", "32"]),
];

/// The same guest with functions of WASI.
pub(crate) fn with_wasi(version: u32) -> String {
    let mut declared = String::new();
    let mut commands = String::new();
    let first = HOST_CALLS.len() + EXTRA.len();
    for (at, (name, params)) in WASI.iter().enumerate() {
        let types: Vec<&str> = params
            .iter()
            .map(|ty| if *ty == "64" { "i64" } else { "i32" })
            .collect();
        writeln!(
            declared,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {}) (result i32)))"#,
            types.join(" ")
        )
        .unwrap();
        let mut arguments = String::new();
        let mut given = 0;
        for ty in *params {
            let value = format!("(i64.load (i32.const {}))", 4104 + 8 * given);
            match *ty {
                "32" => write!(arguments, " (i32.wrap_i64 {value})").unwrap(),
                "64" => write!(arguments, " {value}").unwrap(),
                constant => write!(arguments, " (i32.const {})", &constant[1..]).unwrap(),
            }
            given += usize::from(!ty.starts_with('='));
        }
        let number = first + at;
        write!(
            commands,
            "(if (i32.eq (i32.load (i32.const 4096)) (i32.const {number})) (then (return (i64.extend_i32_u (call ${name}{arguments})))))\n    "
        )
        .unwrap();
    }
    let (head, rest) = text(version)
        .split_once("(memory (export")
        .map(|(head, rest)| (head.to_owned(), rest.to_owned()))
        .expect("it has a memory");
    let rest = rest.replace(
        "(func $do (result i64)",
        &format!("(func $do (result i64)\n    {commands}"),
    );
    format!("{head}{declared}(memory (export{rest}")
}

/// The text of the guest. `version` is what the command of that name answers;
/// processes are carried from one version to another.
pub(crate) fn text(version: u32) -> String {
    let mut commands = String::new();
    let mut add = |number: usize, what: &str| {
        write!(
            commands,
            "(if (i32.eq (i32.load (i32.const 4096)) (i32.const {number})) (then {what}))\n    "
        )
        .unwrap();
    };
    for (number, call) in HOST_CALLS.iter().enumerate() {
        let mut made = format!("(call ${}", call.name);
        for (at, ty) in call.params.iter().enumerate() {
            let value = format!("(i64.load (i32.const {}))", 4104 + 8 * at);
            match ty {
                WasmType::I32 => write!(made, " (i32.wrap_i64 {value})").unwrap(),
                WasmType::I64 => write!(made, " {value}").unwrap(),
            }
        }
        made.push(')');
        let made = match call.result {
            Some(WasmType::I32) => format!("(return (i64.extend_i32_s {made}))"),
            Some(WasmType::I64) => format!("(return {made})"),
            None => format!("{made} unreachable"),
        };
        add(number, &made);
    }
    for (at, (_, what)) in EXTRA.iter().enumerate() {
        add(HOST_CALLS.len() + at, what);
    }
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (@custom "exuvia.layout" "puppet")
  (func $trap_here (unreachable))
  (func $version (result i64) (i64.const {version}))
  (func $recurse (param i64) (result i64)
    (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "run") (result i32)
    (local $answer i32)
    (if (i32.eqz (i32.load (i32.const 16))) (then
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 4096) (i32.const 60000) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (i32.store (i32.const 16) (i32.const 1))))
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 4096) (i32.const 61440) (i64.const 0) (i32.const 1) (i64.const {CMD}))
        (then (return (i32.const 0))))
      (memory.fill (i32.const {HEADER}) (i32.const 0) (i32.const 1096))
      (i32.store (i32.const {HEADER}) (i32.const 48))
      (i64.store (i32.const 2048) (call $do))
      (if (i32.load (i32.const 20)) (then
        (local.set $answer (i32.sub (i32.load (i32.const 20)) (i32.const 1)))
        (i32.store (i32.const 20) (i32.const 0))
        (return (local.get $answer))))
      (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 2048) (i32.const 1104)))
      (br $next))
    unreachable)
  (func $do (result i64)
    {commands}
    (unreachable)))"#,
        imports = imports()
    )
}
