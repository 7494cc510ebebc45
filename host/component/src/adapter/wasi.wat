;; ---- wasi:clocks, wasi:random ----

(func (export "wasi:clocks/monotonic-clock#now") (result i64)
  (call $clock (i32.const 0)))
(func (export "wasi:clocks/monotonic-clock#resolution") (result i64)
  (i64.const 1))

(func $write_datetime (param $result i32) (param $time i64)
  (i64.store (local.get $result) (i64.div_u (local.get $time) (i64.const 1000000000)))
  (i32.store offset=8 (local.get $result)
    (i32.wrap_i64 (i64.rem_u (local.get $time) (i64.const 1000000000)))))
(func (export "wasi:clocks/wall-clock#now") (param $result i32)
  (call $write_datetime (local.get $result) (call $clock (i32.const 1))))
(func (export "wasi:clocks/wall-clock#resolution") (param $result i32)
  (call $write_datetime (local.get $result) (i64.const 1)))

(func $write_random (param $at i32) (param $length i32)
  (local $part i32)
  (loop $next
    (local.set $part
      (select (local.get $length) (i32.const 65536) (i32.lt_u (local.get $length) (i32.const 65536))))
    (drop (call $random (local.get $at) (local.get $part)))
    (local.set $at (i32.add (local.get $at) (local.get $part)))
    (local.set $length (i32.sub (local.get $length) (local.get $part)))
    (br_if $next (local.get $length))))
(func $random_list (param $count i64) (param $result i32)
  (local $data i32)
  ;; More than a memory holds.
  (if (i64.gt_u (local.get $count) (i64.const 0xffffffff))
    (then (unreachable)))
  (local.set $data (call $alloc (i32.wrap_i64 (local.get $count)) (i32.const 1)))
  (call $write_random (local.get $data) (i32.wrap_i64 (local.get $count)))
  (call $list (local.get $result) (local.get $data) (i32.wrap_i64 (local.get $count))))
(func $random_number (result i64)
  (call $write_random (call $out) (i32.const 8))
  (i64.load (call $out)))
(func (export "wasi:random/random#get-random-bytes") (param $count i64) (param $result i32)
  (call $random_list (local.get $count) (local.get $result)))
(func (export "wasi:random/random#get-random-u64") (result i64)
  (call $random_number))
(func (export "wasi:random/insecure#get-insecure-random-bytes") (param $count i64) (param $result i32)
  (call $random_list (local.get $count) (local.get $result)))
(func (export "wasi:random/insecure#get-insecure-random-u64") (result i64)
  (call $random_number))
(func (export "wasi:random/insecure-seed#insecure-seed") (param $result i32)
  (call $write_random (local.get $result) (i32.const 16)))

;; ---- wasi:io ----
;; A pollable is 1 for what is ready at once, and else a block with the time at which it is ready, in nanoseconds of the
;; monotonic clock, at 8.

(func $subscribe (export "wasi:clocks/monotonic-clock#subscribe-instant") (param $instant i64) (result i32)
  (local $pollable i32)
  (if (i64.le_u (local.get $instant) (call $clock (i32.const 0)))
    (then (return (i32.const 1))))
  (local.set $pollable (call $take_block))
  (i64.store offset=8 (local.get $pollable) (local.get $instant))
  (local.get $pollable))
(func (export "wasi:clocks/monotonic-clock#subscribe-duration") (param $duration i64) (result i32)
  (local $instant i64)
  ;; No wait at all: a sleep would end a transaction.
  (if (i64.eqz (local.get $duration))
    (then (return (i32.const 1))))
  (local.set $instant (i64.add (call $clock (i32.const 0)) (local.get $duration)))
  (call $subscribe
    (select (local.get $instant) (i64.const -1) (i64.ge_u (local.get $instant) (local.get $duration)))))
(func (export "wasi:io/poll#[resource-drop]pollable") (param $pollable i32)
  (if (i32.ne (local.get $pollable) (i32.const 1))
    (then (call $give_block (local.get $pollable)))))

;; The milliseconds until a pollable is ready, rounded up: nothing is ready early. At most a day, as waits are repeated.
(func $left (param $pollable i32) (result i32)
  (local $left i64)
  (if (i32.eq (local.get $pollable) (i32.const 1))
    (then (return (i32.const 0))))
  (local.set $left (call $clock (i32.const 0)))
  (if (i64.ge_u (local.get $left) (i64.load offset=8 (local.get $pollable)))
    (then (return (i32.const 0))))
  (local.set $left (i64.sub (i64.load offset=8 (local.get $pollable)) (local.get $left)))
  (if (i64.gt_u (local.get $left) (i64.const 86400000000000))
    (then (return (i32.const 86400000))))
  (local.set $left (i64.div_u (i64.add (local.get $left) (i64.const 999999)) (i64.const 1000000)))
  (i32.wrap_i64 (local.get $left)))

(func (export "wasi:io/poll#[method]pollable.ready") (param $pollable i32) (result i32)
  (i32.eqz (call $left (local.get $pollable))))
(func $block (export "wasi:io/poll#[method]pollable.block") (param $pollable i32)
  (local $left i32)
  (loop $again
    (local.set $left (call $left (local.get $pollable)))
    (if (local.get $left)
      (then
        ;; A refusal (LIMIT) may be over a little later, but is not to be asked for without end.
        (if (call $sleep (i64.extend_i32_u (local.get $left)))
          (then (unreachable)))
        (br $again)))))

(func $pollable_at (param $pollables i32) (param $at i32) (result i32)
  (i32.load (i32.add (local.get $pollables) (i32.shl (local.get $at) (i32.const 2)))))
(func (export "wasi:io/poll#poll") (param $pollables i32) (param $count i32) (param $result i32)
  (local $ready i32) (local $found i32) (local $at i32) (local $left i32) (local $least i32)
  ;; The interface says that this is an error of the caller's.
  (if (i32.eqz (local.get $count))
    (then (unreachable)))
  (loop $again
    (local.set $at (i32.const 0))
    (local.set $found (i32.const 0))
    (local.set $least (i32.const 86400000))
    (loop $next
      (local.set $left (call $left (call $pollable_at (local.get $pollables) (local.get $at))))
      (if (i32.eqz (local.get $left))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (local.set $least
        (select (local.get $left) (local.get $least) (i32.lt_u (local.get $left) (local.get $least))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $count))))
    (if (i32.eqz (local.get $found))
      (then
        (if (call $sleep (i64.extend_i32_u (local.get $least)))
          (then (unreachable)))
        (br $again))))
  ;; As many as were found have room; another may have become ready since.
  (local.set $ready (call $alloc (i32.shl (local.get $found) (i32.const 2)) (i32.const 4)))
  (call $list (local.get $result) (local.get $ready) (local.get $found))
  (local.set $at (i32.const 0))
  (loop $next
    (if (i32.eqz (call $left (call $pollable_at (local.get $pollables) (local.get $at))))
      (then
        (i32.store (local.get $ready) (local.get $at))
        (local.set $ready (i32.add (local.get $ready) (i32.const 4)))
        (local.set $found (i32.sub (local.get $found) (i32.const 1)))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $next (i32.and (i32.lt_u (local.get $at) (local.get $count)) (i32.ne (local.get $found) (i32.const 0))))))

;; A stream of output: 1 is stdout, 2 stderr, each of which takes whatever is printed, and others are of files.
(func $print (param $stream i32) (param $data i32) (param $length i32) (param $result i32)
  (local $part i32)
  (if (i32.gt_u (local.get $stream) (i32.const 2))
    (then
      (call $write_stream (local.get $stream) (local.get $data) (local.get $length) (local.get $result))
      (return)))
  (local.set $part (call $out))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $length)))
      (i32.store (local.get $part) (local.get $data))
      (i32.store offset=4 (local.get $part) (local.get $length))
      ;; What the host does not take is lost: there is nobody to tell.
      (br_if $done (call $fd_write (local.get $stream) (local.get $part) (i32.const 1) (i32.add (local.get $part) (i32.const 8))))
      (br_if $done (i32.eqz (i32.load offset=8 (local.get $part))))
      (local.set $data (i32.add (local.get $data) (i32.load offset=8 (local.get $part))))
      (local.set $length (i32.sub (local.get $length) (i32.load offset=8 (local.get $part))))
      (br $next)))
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:io/streams#[method]output-stream.check-write") (param $stream i32) (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0))
  (i64.store offset=8 (local.get $result) (i64.const 65536)))
(func (export "wasi:io/streams#[method]output-stream.write")
  (param $stream i32) (param $data i32) (param $length i32) (param $result i32)
  (call $print (local.get $stream) (local.get $data) (local.get $length) (local.get $result)))
(func (export "wasi:io/streams#[method]output-stream.blocking-write-and-flush")
  (param $stream i32) (param $data i32) (param $length i32) (param $result i32)
  (call $print (local.get $stream) (local.get $data) (local.get $length) (local.get $result)))
(func (export "wasi:io/streams#[method]output-stream.flush") (param $stream i32) (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:io/streams#[method]output-stream.blocking-flush") (param $stream i32) (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:io/streams#[method]output-stream.subscribe") (param $stream i32) (result i32)
  (i32.const 1))
(func (export "wasi:io/streams#[method]input-stream.read") (param $stream i32) (param $length i64) (param $result i32)
  (call $read_stream (local.get $stream) (local.get $length) (local.get $result)))
(func (export "wasi:io/streams#[method]input-stream.blocking-read") (param $stream i32) (param $length i64) (param $result i32)
  (call $read_stream (local.get $stream) (local.get $length) (local.get $result)))
(func (export "wasi:io/streams#[method]input-stream.subscribe") (param $stream i32) (result i32)
  (i32.const 1))

;; ---- wasi:cli ----

(func (export "wasi:cli/stdin#get-stdin") (result i32)
  (i32.const 1))
(func (export "wasi:cli/stdout#get-stdout") (result i32)
  (i32.const 1))
(func (export "wasi:cli/stderr#get-stderr") (result i32)
  (i32.const 2))
;; No stream is a terminal.
(func (export "wasi:cli/terminal-stdin#get-terminal-stdin") (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:cli/terminal-stdout#get-terminal-stdout") (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:cli/terminal-stderr#get-terminal-stderr") (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))
(func (export "wasi:cli/exit#exit") (param $failed i32)
  (call $proc_exit (local.get $failed))
  (unreachable))
(func (export "wasi:cli/exit#exit-with-code") (param $status i32)
  ;; More than the status of preview 1 may be.
  (if (i32.ge_u (local.get $status) (i32.const 126))
    (then (call $exit (i32.add (i32.const 256) (i32.and (local.get $status) (i32.const 255))) (i32.const 0) (i32.const 0))))
  (call $proc_exit (local.get $status))
  (unreachable))
(func (export "wasi:cli/environment#initial-cwd") (param $result i32)
  (i32.store8 (local.get $result) (i32.const 0)))

;; The length of a text that ends with a zero, or at a byte.
(func $length_until (param $text i32) (param $end i32) (result i32)
  (local $at i32)
  (local.set $at (local.get $text))
  (loop $next
    (if (i32.and
          (i32.ne (i32.load8_u (local.get $at)) (i32.const 0))
          (i32.ne (i32.load8_u (local.get $at)) (local.get $end)))
      (then
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))
  (i32.sub (local.get $at) (local.get $text)))

(func (export "wasi:cli/environment#get-arguments") (param $result i32)
  (local $count i32) (local $texts i32) (local $strings i32) (local $at i32) (local $text i32) (local $length i32)
  (local $bytes i32)
  (drop (call $args_sizes_get (call $out) (i32.add (call $out) (i32.const 4))))
  (local.set $count (i32.load (call $out)))
  (local.set $bytes (i32.add (i32.shl (local.get $count) (i32.const 2)) (i32.load offset=4 (call $out))))
  (local.set $texts (call $scratch_for (local.get $bytes)))
  (drop (call $args_get (local.get $texts) (i32.add (local.get $texts) (i32.shl (local.get $count) (i32.const 2)))))
  ;; Each string has an allocation of its own, as the caller frees it; so has the list.
  (local.set $strings (call $alloc (i32.shl (local.get $count) (i32.const 3)) (i32.const 4)))
  (block $all
    (loop $next
      (br_if $all (i32.ge_u (local.get $at) (local.get $count)))
      (local.set $text (i32.load (i32.add (local.get $texts) (i32.shl (local.get $at) (i32.const 2)))))
      (local.set $length (call $length_until (local.get $text) (i32.const 0)))
      (call $list (i32.add (local.get $strings) (i32.shl (local.get $at) (i32.const 3)))
        (call $copied (local.get $text) (local.get $length)) (local.get $length))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
  (memory.fill (local.get $texts) (i32.const 0) (local.get $bytes))
  (call $list (local.get $result) (local.get $strings) (local.get $count)))

(func (export "wasi:cli/environment#get-environment") (param $result i32)
  (local $count i32) (local $texts i32) (local $pairs i32) (local $at i32) (local $text i32) (local $length i32)
  (local $pair i32) (local $bytes i32)
  (drop (call $environ_sizes_get (call $out) (i32.add (call $out) (i32.const 4))))
  (local.set $count (i32.load (call $out)))
  (local.set $bytes (i32.add (i32.shl (local.get $count) (i32.const 2)) (i32.load offset=4 (call $out))))
  (local.set $texts (call $scratch_for (local.get $bytes)))
  (drop (call $environ_get (local.get $texts) (i32.add (local.get $texts) (i32.shl (local.get $count) (i32.const 2)))))
  (local.set $pairs (call $alloc (i32.shl (local.get $count) (i32.const 4)) (i32.const 4)))
  (block $all
    (loop $next
      (br_if $all (i32.ge_u (local.get $at) (local.get $count)))
      (local.set $text (i32.load (i32.add (local.get $texts) (i32.shl (local.get $at) (i32.const 2)))))
      (local.set $length (call $length_until (local.get $text) (i32.const 61)))
      (local.set $pair (i32.add (local.get $pairs) (i32.shl (local.get $at) (i32.const 4))))
      (call $list (local.get $pair) (call $copied (local.get $text) (local.get $length)) (local.get $length))
      ;; Behind the sign.
      (local.set $text (i32.add (local.get $text) (i32.add (local.get $length) (i32.const 1))))
      (local.set $length (call $length_until (local.get $text) (i32.const 0)))
      (call $list (i32.add (local.get $pair) (i32.const 8))
        (call $copied (local.get $text) (local.get $length)) (local.get $length))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
  (memory.fill (local.get $texts) (i32.const 0) (local.get $bytes))
  (call $list (local.get $result) (local.get $pairs) (local.get $count)))

;; ---- wasi:sockets: there are none ----

;; Writes a `result` whose error is not-supported.
(func $no_sockets (param $result i32)
  (i32.store8 (local.get $result) (i32.const 1))
  (i32.store8 offset=4 (local.get $result) (i32.const 2)))
(func (export "wasi:sockets/instance-network#instance-network") (result i32)
  (i32.const 1))
(func (export "wasi:sockets/tcp-create-socket#create-tcp-socket") (param $family i32) (param $result i32)
  (call $no_sockets (local.get $result)))
(func (export "wasi:sockets/udp-create-socket#create-udp-socket") (param $family i32) (param $result i32)
  (call $no_sockets (local.get $result)))
(func (export "wasi:sockets/ip-name-lookup#resolve-addresses")
  (param $network i32) (param $name i32) (param $length i32) (param $result i32)
  (call $no_sockets (local.get $result)))
