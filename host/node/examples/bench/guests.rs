//! The guests, in WAT. All are callback processes: they take messages until there are none left,
//! and return. The header is at 64 (kind 68, sender 72, reference 88, tag 96, length 100), the
//! payload at 512.

/// Returns a guest with `pages` pages of memory whose `$handle` is `body`. Commands arrive as
/// messages with tag 1; `$send` and the other imports are those of the ABI.
fn guest(pages: u32, body: &str, rest: &str) -> String {
    let capacity = pages * 65_536 - 512;
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "request" (func $request (param i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "send_after" (func $send_after (param i32 i32 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "clock" (func $clock (param i32) (result i64)))
  (import "exuvia" "self" (func $self (param i32) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const {capacity}) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (call $handle (i32.load (i32.const 68)) (i32.load (i32.const 96)))
      (br $next))
    unreachable)
  (func $check (param i32) (if (local.get 0) (then (unreachable))))
  ;; Counts the number at 160 down; answers whether it has come to 0.
  (func $last (result i32)
    (i64.store (i32.const 160) (i64.sub (i64.load (i32.const 160)) (i64.const 1)))
    (i64.eqz (i64.load (i32.const 160))))
  (func $handle (param $kind i32) (param $tag i32)
    (local $i i32) (local $now i64)
    {body})
  {rest})"#
    )
}

/// Ping and pong. Command: peer, collector, rounds, bytes.
pub(crate) fn ping_pong() -> String {
    guest(
        2,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (if (i32.eq (local.get $tag) (i32.const 2)) (then
      (call $check (call $send (i32.const 72) (i32.const 3) (i32.const 512) (i32.load (i32.const 100))))
      (return)))
    (if (i32.eq (local.get $tag) (i32.const 3)) (then
      (if (call $last)
        (then (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8))))
        (else (call $check (call $send (i32.const 72) (i32.const 2) (i32.const 512) (i32.load (i32.const 100))))))
      (return)))
    (memory.copy (i32.const 128) (i32.const 512) (i32.const 48))
    (call $check (call $send (i32.const 128) (i32.const 2) (i32.const 512) (i32.load (i32.const 168))))"#,
        "",
    )
}

/// A ping that records the time of each round (from 65,536 on, u32 nanoseconds) and sends all of
/// them. Command: peer, collector, rounds.
pub(crate) fn stopwatch() -> String {
    guest(
        8,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (local.set $now (call $clock (i32.const 0)))
    (if (i32.eq (local.get $tag) (i32.const 1))
      (then
        (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
        (i32.store (i32.const 184) (i32.const 65536)))
      (else
        (i32.store (i32.load (i32.const 184)) (i32.wrap_i64 (i64.sub (local.get $now) (i64.load (i32.const 176)))))
        (i32.store (i32.const 184) (i32.add (i32.load (i32.const 184)) (i32.const 4)))
        (if (call $last) (then
          (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 65536)
            (i32.sub (i32.load (i32.const 184)) (i32.const 65536))))
          (return)))))
    (i64.store (i32.const 176) (call $clock (i32.const 0)))
    (call $check (call $send (i32.const 128) (i32.const 2) (i32.const 512) (i32.const 16)))"#,
        "",
    )
}

/// Sends replies that were not requested. Command: receiver, and count.
pub(crate) fn backlog() -> String {
    guest(
        1,
        r#"(if (i32.ne (local.get $tag) (i32.const 1)) (then (return)))
    (loop $l
      (call $check (call $reply (i32.const 512) (i64.const 77) (i32.const 0) (i32.const 0) (i32.const 8)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.load (i32.const 528)))))"#,
        "",
    )
}

/// A member of a ring. Command: next, collector. Tag 2: the remaining hops.
pub(crate) fn relay() -> String {
    guest(
        1,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (if (i32.eq (local.get $tag) (i32.const 1)) (then
      (memory.copy (i32.const 128) (i32.const 512) (i32.const 32))
      (return)))
    (i64.store (i32.const 512) (i64.sub (i64.load (i32.const 512)) (i64.const 1)))
    (if (i64.eqz (i64.load (i32.const 512)))
      (then (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 512) (i32.const 8))))
      (else (call $check (call $send (i32.const 128) (i32.const 2) (i32.const 512) (i32.const 8)))))"#,
        "",
    )
}

/// A member of a group that ping each other and answer pings. Message with tag 1: the pids of the
/// others; tag 5: the collector, and start a round.
pub(crate) fn all_to_all() -> String {
    guest(
        2,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (if (i32.eq (local.get $tag) (i32.const 2)) (then
      (call $check (call $send (i32.const 72) (i32.const 3) (i32.const 0) (i32.const 0)))
      (return)))
    (if (i32.eq (local.get $tag) (i32.const 3)) (then
      (if (call $last) (then
        (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 0) (i32.const 0)))))
      (return)))
    (if (i32.eq (local.get $tag) (i32.const 1)) (then
      (i32.store (i32.const 128) (i32.load (i32.const 100)))
      (memory.copy (i32.const 65536) (i32.const 512) (i32.load (i32.const 100)))
      (return)))
    (memory.copy (i32.const 144) (i32.const 512) (i32.const 16))
    (local.set $i (i32.load (i32.const 128)))
    (i64.store (i32.const 160) (i64.extend_i32_u (i32.shr_u (local.get $i) (i32.const 4))))
    (loop $more
      (local.set $i (i32.sub (local.get $i) (i32.const 16)))
      (call $check (call $send (i32.add (i32.const 65536) (local.get $i)) (i32.const 2) (i32.const 0) (i32.const 0)))
      (br_if $more (local.get $i)))"#,
        "",
    )
}

/// Sends many messages of 16 bytes. Command: sink, unused pid, count.
pub(crate) fn source() -> String {
    guest(
        1,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
    (loop $more
      (call $check (call $send (i32.const 128) (i32.const 2) (i32.const 512) (i32.const 16)))
      (br_if $more (i32.eqz (call $last))))"#,
        "",
    )
}

/// Takes messages with tag 2 and reports when the last has arrived. Command: unused pid, collector,
/// count.
pub(crate) fn sink() -> String {
    guest(
        1,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (if (i32.eq (local.get $tag) (i32.const 1)) (then
      (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
      (return)))
    (if (call $last) (then
      (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8)))))"#,
        "",
    )
}

/// Replies to each request with its own payload.
pub(crate) fn server() -> String {
    guest(
        1,
        r#"(if (i32.eq (local.get $kind) (i32.const 3)) (then
      (call $check (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 512) (i32.load (i32.const 100))))))"#,
        "",
    )
}

/// Calls and waits for the reply in the call. Command: server, collector, count.
pub(crate) fn caller() -> String {
    guest(
        1,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
    (loop $more
      (i32.store (i32.const 256) (i32.const 48))
      (call $check (call $call (i32.const 128) (i32.const 7) (i32.const 512) (i32.const 16)
        (i32.const 256) (i32.const 1024) (i32.const 4096) (i64.const -1)))
      (br_if $more (i32.eqz (call $last))))
    (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8)))"#,
        "",
    )
}

/// Sends a request, and the next one when the reply arrives. Command: as for calls.
pub(crate) fn requester() -> String {
    guest(
        1,
        r#"(if (i32.eq (local.get $kind) (i32.const 2)) (then
      (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
      (call $check (call $request (i32.const 128) (i32.const 7) (i32.const 512) (i32.const 16) (i32.const 192)))))
    (if (i32.eq (local.get $kind) (i32.const 4)) (then
      (if (call $last)
        (then (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8))))
        (else (call $check (call $request (i32.const 128) (i32.const 7) (i32.const 512) (i32.const 16) (i32.const 192)))))))"#,
        "",
    )
}

/// Waits for a message with tag 77 and then makes `count` calls (0), requests whose replies it
/// receives by their references (1), or messages to itself which it receives by their tag (2).
/// Command: server, collector, count, which.
pub(crate) fn outdated() -> String {
    let receive = |timeout: i32, mode: i32, key: &str| {
        format!(
            r#"(i32.store (i32.const 256) (i32.const 48))
      (call $check (call $receive (i32.const 256) (i32.const 1024) (i32.const 4096) (i64.const {timeout}) (i32.const {mode}) {key}))"#
        )
    };
    guest(
        1,
        &format!(
            r#"(if (i32.ne (local.get $tag) (i32.const 1)) (then (return)))
    (memory.copy (i32.const 128) (i32.const 512) (i32.const 48))
    (call $check (call $self (i32.const 208)))
    {go}
    (loop $more
      (if (i64.eqz (i64.load (i32.const 168))) (then
        (i32.store (i32.const 256) (i32.const 48))
        (call $check (call $call (i32.const 128) (i32.const 7) (i32.const 512) (i32.const 16)
          (i32.const 256) (i32.const 1024) (i32.const 4096) (i64.const -1)))))
      (if (i64.eq (i64.load (i32.const 168)) (i64.const 1)) (then
        (call $check (call $request (i32.const 128) (i32.const 7) (i32.const 512) (i32.const 16) (i32.const 192)))
        {by_reference}))
      (if (i64.eq (i64.load (i32.const 168)) (i64.const 2)) (then
        (call $check (call $send (i32.const 208) (i32.const 5) (i32.const 512) (i32.const 16)))
        {by_tag}))
      (br_if $more (i32.eqz (call $last))))
    (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8)))"#,
            go = receive(-1, 1, "(i64.const 77)"),
            by_reference = receive(-1, 2, "(i64.load (i32.const 192))"),
            by_tag = receive(-1, 1, "(i64.const 5)"),
        ),
        "",
    )
}

/// Exits as soon as it runs.
pub(crate) const CHILD: &str = r#"(module
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32) (i32.const 2)))"#;

/// Exits as soon as it has grown its memory, as processes that allocate do.
pub(crate) const GROWING_CHILD: &str = r#"(module
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (drop (memory.grow (i32.const 1)))
    (i32.store (i32.const 65536) (i32.const 1))
    (i32.const 2)))"#;

/// Takes all messages and does nothing with them.
pub(crate) const RESTING: &str = r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (br_if $next (i32.eqz (call $receive (i32.const 64) (i32.const 512) (i32.const 4096) (i64.const 0) (i32.const 0) (i64.const 0)))))
    (i32.const 0)))"#;

/// Spawns children. Command: unused pid, collector, count. Tag 1: one after another, each awaited
/// with a monitor; tag 2: all at once, without waiting.
pub(crate) fn spawner() -> String {
    guest(
        1,
        r#"(if (i32.eq (local.get $kind) (i32.const 2)) (then
      (memory.copy (i32.const 128) (i32.const 512) (i32.const 40))
      (if (i32.eq (local.get $tag) (i32.const 2))
        (then
          (loop $more
            (call $check (call $spawn (i32.const 240) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 192) (i32.const 0)))
            (br_if $more (i32.eqz (call $last))))
          (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8))))
        (else (call $one)))))
    (if (i32.eq (local.get $kind) (i32.const 6)) (then
      (if (call $last)
        (then (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 160) (i32.const 8))))
        (else (call $one)))))"#,
        r#"(data (i32.const 240) "child")
  (data (i32.const 256) "\28\00\00\00\02")
  (func $one
    (call $check (call $spawn (i32.const 240) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 192) (i32.const 208))))"#,
    )
}

/// Computes: the tag of a request selects what, the reply is 8 bytes. `plain` runs the same module
/// without a node.
pub(crate) fn compute() -> String {
    guest(
        1,
        r#"(if (i32.eq (local.get $kind) (i32.const 3)) (then
      (if (i32.eq (local.get $tag) (i32.const 1)) (then
        (i64.store (i32.const 32) (i64.extend_i32_u (call $fib (i32.const 32))))))
      (if (i32.eq (local.get $tag) (i32.const 2)) (then
        (i64.store (i32.const 32) (call $lcg (i32.const 10000000)))))
      (if (i32.eq (local.get $tag) (i32.const 3)) (then
        (i64.store (i32.const 32) (call $mandelbrot (i32.const 400) (i32.const 100)))))
      (call $check (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 32) (i32.const 8)))))"#,
        COMPUTE,
    )
}

const COMPUTE: &str = include_str!("compute.wat");

/// `save` and `load` of the count at 16.
const SAVE_AND_LOAD: &str = r#"(func (export "save") (result i32) (call $put (i32.const 16) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 16) (i32.const 8))) (i32.const 0))"#;

/// Counts requests (at 16), and replies to each with its version number. The state is migrated with
/// `save` and `load`, or reused by its layout.
pub(crate) fn versioned(version: u32, reused: bool) -> String {
    let crossing = if reused {
        r#"(@custom "exuvia.layout" "count i64 at 16")"#
    } else {
        SAVE_AND_LOAD
    };
    guest(
        1,
        &format!(
            r#"(if (i32.eq (local.get $kind) (i32.const 3)) (then
      (i64.store (i32.const 16) (i64.add (i64.load (i32.const 16)) (i64.const 1)))
      (i64.store (i32.const 32) (i64.const {version}))
      (call $check (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 32) (i32.const 8)))))"#
        ),
        crossing,
    )
}

/// Counts requests (at 16); replies with its version number and the count, which is migrated with
/// `save` and `load`.
pub(crate) fn counted(version: u64) -> String {
    guest(
        1,
        &format!(
            r#"(if (i32.eq (local.get $kind) (i32.const 3)) (then
      (i64.store (i32.const 16) (i64.add (i64.load (i32.const 16)) (i64.const 1)))
      (i64.store (i32.const 32) (i64.const {version}))
      (i64.store (i32.const 40) (i64.load (i32.const 16)))
      (call $check (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 32) (i32.const 16)))))"#
        ),
        SAVE_AND_LOAD,
    )
}

/// Sets timers for itself, records their lateness (u32 nanoseconds) from 131,072 on, and sends it
/// at the end. Command: unused pid, collector, count, delay, and the milliseconds over which the
/// timers are spread. Tag 1: all at once; tag 2: each when the previous one has fired.
pub(crate) fn timers() -> String {
    guest(
        12,
        r#"(if (i32.eq (local.get $kind) (i32.const 2)) (then
      (memory.copy (i32.const 128) (i32.const 512) (i32.const 56))
      (call $check (call $self (i32.const 224)))
      (i32.store (i32.const 200) (local.get $tag))
      (i32.store (i32.const 204) (i32.const 131072))
      (local.set $i (i32.wrap_i64 (i64.load (i32.const 160))))
      (if (i32.eq (local.get $tag) (i32.const 2)) (then (local.set $i (i32.const 1))))
      (loop $more
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (call $set (i64.add (i64.load (i32.const 168))
          (i64.rem_u (i64.extend_i32_u (local.get $i)) (i64.load (i32.const 176)))))
        (br_if $more (local.get $i)))))
    (if (i32.eq (local.get $kind) (i32.const 7)) (then
      (i32.store (i32.load (i32.const 204))
        (i32.wrap_i64 (i64.sub (call $clock (i32.const 0)) (i64.load (i32.const 512)))))
      (i32.store (i32.const 204) (i32.add (i32.load (i32.const 204)) (i32.const 4)))
      (if (call $last)
        (then
          (call $check (call $send (i32.const 144) (i32.const 4) (i32.const 131072)
            (i32.sub (i32.load (i32.const 204)) (i32.const 131072)))))
        (else
          (if (i32.eq (i32.load (i32.const 200)) (i32.const 2)) (then
            (call $set (i64.load (i32.const 168)))))))))"#,
        r#"(func $set (param $delay i64)
    (i64.store (i32.const 216)
      (i64.add (call $clock (i32.const 0)) (i64.mul (local.get $delay) (i64.const 1000000))))
    (call $check (call $send_after (i32.const 224) (i32.const 9) (i32.const 216) (i32.const 8)
      (local.get $delay) (i32.const 240))))"#,
    )
}

/// Loops for ever when it gets a message.
pub(crate) fn spin() -> String {
    guest(
        1,
        "(if (i32.eq (local.get $kind) (i32.const 2)) (then (loop $on (br $on))))",
        "",
    )
}

/// The idle process: it counts requests, and replies with the count.
pub(crate) const COUNTER: &str = include_str!("../../../../guest-sdk/wat/counter.wat");

/// Reads a file through WASI, or asks for the time (tag 2). Command: collector, rounds, bytes.
/// Opens the file `a` of its first folder once.
pub(crate) fn reader() -> String {
    let text = guest(
        4,
        r#"(if (i32.ne (local.get $kind) (i32.const 2)) (then (return)))
    (if (i32.eqz (i32.load (i32.const 200))) (then
      (i32.store8 (i32.const 208) (i32.const 97))
      (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 208) (i32.const 1) (i32.const 0) (i64.const 6) (i64.const 6) (i32.const 0) (i32.const 200)))))
    (memory.copy (i32.const 128) (i32.const 512) (i32.const 16))
    (i64.store (i32.const 160) (i64.load (i32.const 528)))
    (i32.store (i32.const 216) (i32.const 1024))
    (i32.store (i32.const 220) (i32.load (i32.const 536)))
    (local.set $now (call $clock (i32.const 0)))
    (loop $again
      (if (i32.eq (local.get $tag) (i32.const 1))
        (then (call $check (call $pread (i32.load (i32.const 200)) (i32.const 216) (i32.const 1) (i64.const 0) (i32.const 224))))
        (else (call $check (call $time (i32.const 1) (i64.const 1) (i32.const 224)))))
      (br_if $again (i32.eqz (call $last))))
    (i64.store (i32.const 160) (i64.sub (call $clock (i32.const 0)) (local.get $now)))
    (call $check (call $send (i32.const 128) (i32.const 4) (i32.const 160) (i32.const 8)))"#,
        "",
    );
    text.replace(
        "(memory (export",
        r#"(import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export"#,
    )
}
