;; The code between a component and the host: see the crate's documentation.
;;
;; Exports named `INTERFACE#FUNCTION` are what a component imports, lowered as the canonical ABI says: flat
;; parameters, and at most one flat result; otherwise the last parameter points to where the result goes. `run`,
;; `save`, `load` and `exuvia_schema` are the exports of the module. Imports from `component` are what the component
;; brings: its memory, the `realloc` that is current, its exports (lifted) and what is to be called after each.
;;
;; There is no memory of its own: what has to be in memory is in an area of 256 bytes, which is allocated once.
;;
;;   0  a header of 48 bytes          48  the pid of a parameter
;;  64  a pid, a reference or a       88  options of `spawn`
;;      number that a call writes    128  an exit reason or a line, up to 128 bytes
;;
;; A handle is a small number, and nothing is kept for it: stdin, stdout and stderr are 1, 1 and 2, a pollable is the
;; time at which it is ready.
(module
  ;; ---- what the component brings ----
  (import "component" "memory" (memory 0))
  (import "component" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "component" "schema" (func $schema (result i32)))
  (import "component" "schema#post" (func $schema_post (param i32)))
  (import "component" "init" (func $init (param i32 i32) (result i32)))
  (import "component" "init#post" (func $init_post (param i32)))
  (import "component" "handle-message"
    (func $handle_message (param i32 i64 i64 i64 i32 i32 i32 i32)))
  (import "component" "handle-message#post" (func $handle_message_post))
  (import "component" "handle-request"
    (func $handle_request (param i32 i64 i64 i64 i32 i32 i32 i32) (result i32)))
  (import "component" "handle-request#post" (func $handle_request_post (param i32)))
  (import "component" "save" (func $save (result i32)))
  (import "component" "save#post" (func $save_post (param i32)))
  (import "component" "load" (func $load (param i32 i32 i32) (result i32)))
  (import "component" "load#post" (func $load_post (param i32)))

  ;; ---- the host ----
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "request" (func $request (param i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "init_ack" (func $init_ack (param i32 i32 i32) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (import "exuvia" "exit_process" (func $exit_process (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "kill" (func $kill (param i32) (result i32)))
  (import "exuvia" "link" (func $link (param i32) (result i32)))
  (import "exuvia" "unlink" (func $unlink (param i32) (result i32)))
  (import "exuvia" "monitor" (func $monitor (param i32 i32) (result i32)))
  (import "exuvia" "demonitor" (func $demonitor (param i64 i32) (result i32)))
  (import "exuvia" "monitor_name" (func $monitor_name (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "trap_exit" (func $trap_exit (param i32) (result i32)))
  (import "exuvia" "register" (func $register (param i32 i32 i32) (result i32)))
  (import "exuvia" "unregister" (func $unregister (param i32 i32) (result i32)))
  (import "exuvia" "whereis" (func $whereis (param i32 i32 i32) (result i32)))
  (import "exuvia" "self" (func $self (param i32) (result i32)))
  (import "exuvia" "send_after" (func $send_after (param i32 i32 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "cancel_timer" (func $cancel_timer (param i64) (result i64)))
  (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
  (import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "exuvia" "random" (func $random (param i32 i32) (result i32)))
  (import "exuvia" "clock" (func $clock (param i32) (result i64)))
  (import "exuvia" "info" (func $info (param i32) (result i64)))
  (import "exuvia" "state_put" (func $state_put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $state_get (param i32 i32) (result i32)))
  (import "exuvia" "config" (func $config (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "group_join" (func $group_join (param i32 i32 i32) (result i32)))
  (import "exuvia" "group_leave" (func $group_leave (param i32 i32 i32) (result i32)))
  (import "exuvia" "group_members" (func $group_members (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "publish" (func $publish (param i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_new" (func $table_new (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_find" (func $table_find (param i32 i32 i32) (result i32)))
  (import "exuvia" "table_put" (func $table_put (param i64 i32 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_get" (func $table_get (param i64 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_next" (func $table_next (param i64 i32 i32 i32 i32) (result i32)))
  (import "exuvia" "table_delete" (func $table_delete (param i64 i32 i32) (result i32)))
  (import "exuvia" "table_add" (func $table_add (param i64 i32 i32 i64 i32) (result i32)))
  (import "exuvia" "table_end" (func $table_end (param i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; Which `realloc` is current: lists that a call returns are allocated by the caller's.
  (global $current (export "current") (mut i32) (i32.const 0))
  (global $area_at (mut i32) (i32.const 0))
  ;; The length of the longest payload that was allocated.
  (global $most (mut i32) (i32.const 0))
  (global $exuvia_abi (export "exuvia_abi") i32 (i32.const 1))

  (data $too_large "dropped a message: the process has no memory for it")
  (data $refused "the receiver has no memory for a request of this size")

  (func $alloc (param $size i32) (param $align i32) (result i32)
    (call $realloc (i32.const 0) (i32.const 0) (local.get $align) (local.get $size)))

  (func $area (result i32)
    (if (i32.eqz (global.get $area_at))
      (then (global.set $area_at (call $alloc (i32.const 256) (i32.const 8)))))
    (global.get $area_at))

  ;; Writes a pid into the area.
  (func $pid (param $node i64) (param $process i64) (result i32)
    (local $at i32)
    (local.set $at (i32.add (call $area) (i32.const 48)))
    (i64.store (local.get $at) (local.get $node))
    (i64.store offset=8 (local.get $at) (local.get $process))
    (local.get $at))

  ;; Where a call may write a pid or a number.
  (func $out (result i32)
    (i32.add (call $area) (i32.const 64)))

  ;; A code as the case of `error`.
  (func $error (param $code i32) (result i32)
    (i32.sub (i32.const -1) (local.get $code)))

  ;; Writes a `result<_, error>`.
  (func $answer (param $result i32) (param $code i32)
    (i32.store8 (local.get $result) (i32.lt_s (local.get $code) (i32.const 0)))
    (i32.store8 offset=1 (local.get $result) (call $error (local.get $code))))

  ;; Writes a `result<bool, error>`.
  (func $answer_bool (param $result i32) (param $code i32)
    (call $answer (local.get $result) (local.get $code))
    (if (i32.ge_s (local.get $code) (i32.const 0))
      (then (i32.store8 offset=1 (local.get $result) (local.get $code)))))

  ;; Writes a `result<u64, error>` of what the call wrote to $out.
  (func $answer_number (param $result i32) (param $code i32)
    (i32.store8 (local.get $result) (i32.lt_s (local.get $code) (i32.const 0)))
    (if (i32.lt_s (local.get $code) (i32.const 0))
      (then (i32.store8 offset=8 (local.get $result) (call $error (local.get $code))))
      (else (i64.store offset=8 (local.get $result) (i64.load (call $out))))))

  ;; Writes a `list<u8>`.
  (func $list (param $result i32) (param $data i32) (param $length i32)
    (i32.store (local.get $result) (local.get $data))
    (i32.store offset=4 (local.get $result) (local.get $length)))

  ;; Whether there may be no memory for a payload: the component ends where it cannot allocate, and nobody is to end it by
  ;; a message. Short ones are taken in any case, and what was allocated before is free again.
  (func $has_no_room (param $length i32) (result i32)
    (if (i32.or
          (i32.le_u (local.get $length) (i32.const 65536))
          (i32.le_u (local.get $length) (global.get $most)))
      (then (return (i32.const 0))))
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $length)) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
          (call $info (i32.const 7)))
      (then (return (i32.const 1))))
    (global.set $most (local.get $length))
    (i32.const 0))

  ;; ---- the exports of the module ----

  (func (export "exuvia_schema") (result i32)
    (local $schema i32)
    (global.set $current (i32.const 0))
    (local.set $schema (call $schema))
    (call $schema_post (local.get $schema))
    (local.get $schema))

  ;; The runtime that is started is the same for all: what a library asks for meanwhile does not count.
  (func (export "exuvia_shared_start"))

  ;; Runs a function of the component once, so that what it allocates for the first time is part of the base.
  (func (export "warm_up")
    (local $schema i32)
    (drop (call $area))
    (local.set $schema (call $schema))
    (call $schema_post (local.get $schema)))

  (func (export "run") (result i32)
    (local $header i32) (local $data i32) (local $length i32) (local $code i32)
    (local.set $header (call $area))
    (loop $next
      (global.set $current (i32.const 0))
      (local.set $data (i32.const 8))
      (i32.store (local.get $header) (i32.const 48))
      (local.set $code
        (call $receive (local.get $header) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0)))
      (local.set $length (i32.load offset=36 (local.get $header)))
      ;; TOO_BIG: any message that is not empty.
      (if (i32.eq (local.get $code) (i32.const -3))
        (then
          (if (call $has_no_room (local.get $length))
            (then
              (call $drop_message (local.get $header) (i32.const 0) (i64.const 0))
              ;; Of a reply, who waits for it is told that it was not taken.
              (br_if $next (i32.ne (i32.load offset=4 (local.get $header)) (i32.const 4)))
              (i32.store offset=32 (local.get $header) (i32.const -1))
              (local.set $length (i32.const 51))
              (local.set $data (call $copied (i32.add (local.get $header) (i32.const 128)) (local.get $length)))
              (br_if $next (call $handle (local.get $header) (local.get $data) (local.get $length)))
              (return (i32.const 2))))
          (local.set $data (call $alloc (local.get $length) (i32.const 1)))
          (i32.store (local.get $header) (i32.const 48))
          (local.set $code
            (call $receive (local.get $header) (local.get $data) (local.get $length) (i64.const 0) (i32.const 0) (i64.const 0)))))
      (if (local.get $code)
        (then (return (i32.const 0))))
      (br_if $next (call $handle (local.get $header) (local.get $data) (local.get $length))))
    (i32.const 2))

  ;; Takes a message of a mode and a key, for which there is no memory. Its header stays, and a request is refused.
  (func $drop_message (param $header i32) (param $mode i32) (param $key i64)
    (local $text i32)
    (local.set $text (i32.add (local.get $header) (i32.const 128)))
    (i32.store (local.get $header) (i32.const 48))
    (drop
      (call $receive (local.get $header) (i32.const 0) (i32.const 0) (i64.const 0) (i32.or (local.get $mode) (i32.const 512))
        (local.get $key)))
    (memory.init $too_large (local.get $text) (i32.const 0) (i32.const 51))
    (drop (call $log (i32.const 2) (local.get $text) (i32.const 51)))
    (if (i32.eq (i32.load offset=4 (local.get $header)) (i32.const 3))
      (then
        (memory.init $refused (local.get $text) (i32.const 0) (i32.const 53))
        (drop
          (call $reply (i32.add (local.get $header) (i32.const 8)) (i64.load offset=24 (local.get $header)) (i32.const -1)
            (local.get $text) (i32.const 53))))))

  ;; Handles the message whose header is given; returns 0 when the process is done.
  (func $handle (param $header i32) (param $data i32) (param $length i32) (result i32)
    (local $kind i32) (local $result i32) (local $node i64) (local $process i64) (local $reference i64) (local $tag i32)
    (local.set $kind (i32.load offset=4 (local.get $header)))
    (local.set $node (i64.load offset=8 (local.get $header)))
    (local.set $process (i64.load offset=16 (local.get $header)))
    (local.set $reference (i64.load offset=24 (local.get $header)))
    (local.set $tag (i32.load offset=32 (local.get $header)))
    (if (i32.eq (local.get $kind) (i32.const 1))
      (then
        (local.set $result (call $init (local.get $data) (local.get $length)))
        (if (i32.load8_u (local.get $result))
          (then
            (drop (call $init_ack (i32.const 256) (i32.load offset=4 (local.get $result)) (i32.load offset=8 (local.get $result))))
            (return (i32.const 0))))
        (call $init_post (local.get $result))
        (return (i32.const 1))))
    ;; A kind of a later version.
    (if (i32.gt_u (local.get $kind) (i32.const 8))
      (then (return (i32.const 1))))
    (if (i32.ne (local.get $kind) (i32.const 3))
      (then
        (call $handle_message
          (i32.sub (local.get $kind) (i32.const 2)) (local.get $node) (local.get $process) (local.get $reference)
          (local.get $tag) (i32.load offset=40 (local.get $header)) (local.get $data) (local.get $length))
        (call $handle_message_post)
        (return (i32.const 1))))
    (local.set $result
      (call $handle_request
        (i32.const 1) (local.get $node) (local.get $process) (local.get $reference)
        (local.get $tag) (i32.const 0) (local.get $data) (local.get $length)))
    ;; The area has been used by the calls of the handler.
    (if (i32.load8_u (local.get $result))
      (then
        (drop (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (i32.const -1)
          (i32.load offset=4 (local.get $result)) (i32.load offset=8 (local.get $result)))))
      (else
        (if (i32.load8_u offset=4 (local.get $result))
          (then
            (drop (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (i32.const 0)
              (i32.load offset=8 (local.get $result)) (i32.load offset=12 (local.get $result))))))))
    (call $handle_request_post (local.get $result))
    (i32.const 1))

  (func (export "save") (result i32)
    (local $result i32) (local $code i32)
    (global.set $current (i32.const 0))
    (local.set $result (call $save))
    (local.set $code (call $state_put (i32.load (local.get $result)) (i32.load offset=4 (local.get $result))))
    (call $save_post (local.get $result))
    (local.get $code))

  (func (export "load") (param $schema i32) (param $length i32) (result i32)
    (local $data i32) (local $result i32)
    (global.set $current (i32.const 0))
    (local.set $data (i32.const 8))
    (if (local.get $length)
      (then (local.set $data (call $alloc (local.get $length) (i32.const 1)))))
    (if (i32.ne (call $state_get (local.get $data) (local.get $length)) (local.get $length))
      (then (return (i32.const 1))))
    (local.set $result (call $load (local.get $schema) (local.get $data) (local.get $length)))
    (if (i32.load8_u (local.get $result))
      (then
        (drop (call $log (i32.const 1) (i32.load offset=4 (local.get $result)) (i32.load offset=8 (local.get $result))))
        (return (i32.const 1))))
    (call $load_post (local.get $result))
    (i32.const 0))

  ;; ---- exuvia:actor/host ----

  (func (export "exuvia:actor/host#self") (param $result i32)
    (drop (call $self (local.get $result))))

  (func (export "exuvia:actor/host#send")
    (param $node i64) (param $process i64) (param $tag i32) (param $data i32) (param $length i32) (param $result i32)
    (call $answer (local.get $result)
      (call $send (call $pid (local.get $node) (local.get $process)) (local.get $tag) (local.get $data) (local.get $length))))

  (func (export "exuvia:actor/host#request")
    (param $node i64) (param $process i64) (param $tag i32) (param $data i32) (param $length i32) (param $result i32)
    (call $answer_number (local.get $result)
      (call $request (call $pid (local.get $node) (local.get $process)) (local.get $tag) (local.get $data) (local.get $length)
        (call $out))))

  (func (export "exuvia:actor/host#call")
    (param $node i64) (param $process i64) (param $tag i32) (param $data i32) (param $length i32)
    (param $has_timeout i32) (param $timeout i32) (param $result i32)
    (local $header i32) (local $code i32) (local $reply i32) (local $bytes i32)
    (local.set $header (call $area))
    (i32.store (local.get $header) (i32.const 48))
    (local.set $code
      (call $call (call $pid (local.get $node) (local.get $process)) (local.get $tag) (local.get $data) (local.get $length)
        (local.get $header) (i32.const 0) (i32.const 0)
        (select (i64.extend_i32_u (local.get $timeout)) (i64.const -1) (local.get $has_timeout))))
    (local.set $reply (i32.const 8))
    (local.set $bytes (i32.load offset=36 (local.get $header)))
    ;; TOO_BIG: the reply is in the mailbox.
    (if (i32.and (i32.eq (local.get $code) (i32.const -3)) (call $has_no_room (local.get $bytes)))
      (then
        (call $drop_message (local.get $header) (i32.const 2) (i64.load offset=24 (local.get $header)))
        (local.set $code (i32.const -6))))
    (if (i32.eq (local.get $code) (i32.const -3))
      (then
        (local.set $reply (call $alloc (local.get $bytes) (i32.const 1)))
        (i32.store (local.get $header) (i32.const 48))
        (local.set $code
          (call $receive (local.get $header) (local.get $reply) (local.get $bytes) (i64.const 0) (i32.const 2)
            (i64.load offset=24 (local.get $header))))))
    (i32.store8 (local.get $result) (i32.const 1))
    (if (local.get $code)
      (then
        (i32.store8 offset=4 (local.get $result) (i32.const 0))
        (i32.store8 offset=8 (local.get $result) (call $error (local.get $code)))
        (return)))
    (if (i32.eq (i32.load offset=32 (local.get $header)) (i32.const -1))
      (then
        (i32.store8 offset=4 (local.get $result) (i32.const 1))
        (call $list (i32.add (local.get $result) (i32.const 8)) (local.get $reply) (local.get $bytes))
        (return)))
    (i32.store8 (local.get $result) (i32.const 0))
    (call $list (i32.add (local.get $result) (i32.const 4)) (local.get $reply) (local.get $bytes)))

  (func (export "exuvia:actor/host#receive")
    (param $select i32) (param $first i64) (param $second i64) (param $has_timeout i32) (param $timeout i32)
    (param $result i32)
    (local $header i32) (local $code i32) (local $data i32) (local $length i32) (local $message i32)
    (local.set $header (call $area))
    (local.set $data (i32.const 8))
    ;; The cases are in the order of the modes TAG, REFERENCE and SENDER; a sender is given by a pointer.
    (if (i32.eq (local.get $select) (i32.const 2))
      (then (local.set $first (i64.extend_i32_u (call $pid (local.get $first) (local.get $second))))))
    (loop $again
      (i32.store (local.get $header) (i32.const 48))
      (local.set $code
        (call $receive (local.get $header) (local.get $data) (local.get $length)
          (select (i64.extend_i32_u (local.get $timeout)) (i64.const -1) (local.get $has_timeout))
          (i32.add (local.get $select) (i32.const 1)) (local.get $first)))
      (if (i32.eq (local.get $code) (i32.const -3))
        (then
          (local.set $length (i32.load offset=36 (local.get $header)))
          (if (call $has_no_room (local.get $length))
            (then
              (call $drop_message (local.get $header) (i32.add (local.get $select) (i32.const 1)) (local.get $first))
              (i32.store8 (local.get $result) (i32.const 1))
              (i32.store8 offset=8 (local.get $result) (call $error (i32.const -6)))
              (return)))
          (local.set $data (call $alloc (local.get $length) (i32.const 1)))
          (br $again))))
    (i32.store8 (local.get $result) (local.get $code))
    (local.set $message (i32.add (local.get $result) (i32.const 8)))
    (if (local.get $code)
      (then
        (i32.store8 (local.get $result) (i32.const 1))
        (i32.store8 (local.get $message) (call $error (local.get $code)))
        (return)))
    (i32.store8 (local.get $message) (i32.sub (i32.load offset=4 (local.get $header)) (i32.const 2)))
    (memory.copy (i32.add (local.get $message) (i32.const 8)) (i32.add (local.get $header) (i32.const 8)) (i32.const 24))
    (i32.store offset=32 (local.get $message) (i32.load offset=32 (local.get $header)))
    (i32.store offset=36 (local.get $message) (i32.load offset=40 (local.get $header)))
    (call $list (i32.add (local.get $message) (i32.const 40)) (local.get $data) (i32.load offset=36 (local.get $header))))

  (func (export "exuvia:actor/host#reply")
    (param $node i64) (param $process i64) (param $reference i64) (param $tag i32) (param $data i32) (param $length i32)
    (param $result i32)
    (call $answer (local.get $result)
      (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (local.get $tag)
        (local.get $data) (local.get $length))))

  (func (export "exuvia:actor/host#refuse")
    (param $node i64) (param $process i64) (param $reference i64) (param $data i32) (param $length i32) (param $result i32)
    (call $answer (local.get $result)
      (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (i32.const -1)
        (local.get $data) (local.get $length))))

  ;; Writes a `result<tuple<pid, reference>, error>` of a pid at $out and the reference behind it.
  (func $answer_child (param $result i32) (param $code i32)
    (i32.store8 (local.get $result) (i32.lt_s (local.get $code) (i32.const 0)))
    (if (i32.lt_s (local.get $code) (i32.const 0))
      (then (i32.store8 offset=8 (local.get $result) (call $error (local.get $code))))
      (else (memory.copy (i32.add (local.get $result) (i32.const 8)) (call $out) (i32.const 24)))))

  (func (export "exuvia:actor/host#spawn")
    (param $module i32) (param $module_length i32) (param $data i32) (param $length i32) (param $flags i32)
    (param $result i32)
    (local $options i32)
    (local.set $options (i32.add (call $area) (i32.const 88)))
    (memory.fill (local.get $options) (i32.const 0) (i32.const 40))
    (i32.store (local.get $options) (i32.const 40))
    (i32.store offset=4 (local.get $options) (local.get $flags))
    (i64.store offset=16 (call $out) (i64.const 0))
    (call $answer_child (local.get $result)
      (call $spawn (local.get $module) (local.get $module_length) (local.get $data) (local.get $length)
        (local.get $options) (call $out) (i32.add (call $out) (i32.const 16)))))

  (func (export "exuvia:actor/host#exit") (param $code i32) (param $data i32) (param $length i32)
    (call $exit (local.get $code) (local.get $data) (local.get $length))
    (unreachable))

  (func (export "exuvia:actor/host#exit-process")
    (param $node i64) (param $process i64) (param $code i32) (param $data i32) (param $length i32) (param $result i32)
    (call $answer (local.get $result)
      (call $exit_process (call $pid (local.get $node) (local.get $process)) (local.get $code) (local.get $data) (local.get $length))))

  (func (export "exuvia:actor/host#kill") (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result) (call $kill (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#link") (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result) (call $link (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#unlink") (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result) (call $unlink (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#monitor") (param $node i64) (param $process i64) (param $result i32)
    (call $answer_number (local.get $result)
      (call $monitor (call $pid (local.get $node) (local.get $process)) (call $out))))

  (func (export "exuvia:actor/host#demonitor") (param $reference i64) (param $flush i32) (param $result i32)
    (call $answer (local.get $result) (call $demonitor (local.get $reference) (local.get $flush))))

  (func (export "exuvia:actor/host#monitor-name") (param $name i32) (param $length i32) (param $result i32)
    (call $answer_child (local.get $result)
      (call $monitor_name (local.get $name) (local.get $length) (call $out) (i32.add (call $out) (i32.const 16)))))

  (func (export "exuvia:actor/host#trap-exit") (param $on i32) (result i32)
    (call $trap_exit (local.get $on)))

  (func (export "exuvia:actor/host#register")
    (param $name i32) (param $length i32) (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result)
      (call $register (local.get $name) (local.get $length) (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#unregister") (param $name i32) (param $length i32) (param $result i32)
    (call $answer (local.get $result) (call $unregister (local.get $name) (local.get $length))))

  (func (export "exuvia:actor/host#whereis") (param $name i32) (param $length i32) (param $result i32)
    (i32.store8 (local.get $result)
      (i32.eqz (call $whereis (local.get $name) (local.get $length) (i32.add (local.get $result) (i32.const 8))))))

  (func (export "exuvia:actor/host#group-join")
    (param $name i32) (param $length i32) (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result)
      (call $group_join (local.get $name) (local.get $length) (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#group-leave")
    (param $name i32) (param $length i32) (param $node i64) (param $process i64) (param $result i32)
    (call $answer (local.get $result)
      (call $group_leave (local.get $name) (local.get $length) (call $pid (local.get $node) (local.get $process)))))

  (func (export "exuvia:actor/host#group-members") (param $name i32) (param $length i32) (param $result i32)
    (local $count i32) (local $fit i32) (local $pids i32)
    (local.set $pids (i32.const 8))
    (loop $again
      (local.set $count
        (call $group_members (local.get $name) (local.get $length) (local.get $pids) (local.get $fit)))
      (if (i32.gt_s (local.get $count) (local.get $fit))
        (then
          ;; More may join until it is asked again.
          (local.set $fit (i32.add (local.get $count) (i32.const 8)))
          (local.set $pids (call $alloc (i32.shl (local.get $fit) (i32.const 4)) (i32.const 8)))
          (br $again))))
    (call $list (local.get $result) (local.get $pids)
      (select (local.get $count) (i32.const 0) (i32.gt_s (local.get $count) (i32.const 0)))))

  (func (export "exuvia:actor/host#publish")
    (param $name i32) (param $name_length i32) (param $tag i32) (param $data i32) (param $length i32) (param $result i32)
    (local $code i32)
    (local.set $code
      (call $publish (local.get $name) (local.get $name_length) (local.get $tag) (local.get $data) (local.get $length)))
    (i32.store8 (local.get $result) (i32.lt_s (local.get $code) (i32.const 0)))
    (if (i32.lt_s (local.get $code) (i32.const 0))
      (then (i32.store8 offset=4 (local.get $result) (call $error (local.get $code))))
      (else (i32.store offset=4 (local.get $result) (local.get $code)))))

  (func (export "exuvia:actor/host#send-after")
    (param $node i64) (param $process i64) (param $tag i32) (param $data i32) (param $length i32) (param $delay i64)
    (param $result i32)
    (call $answer_number (local.get $result)
      (call $send_after (call $pid (local.get $node) (local.get $process)) (local.get $tag) (local.get $data)
        (local.get $length) (local.get $delay) (call $out))))

  (func (export "exuvia:actor/host#cancel-timer") (param $reference i64) (param $result i32)
    (local $left i64)
    (local.set $left (call $cancel_timer (local.get $reference)))
    (i32.store8 (local.get $result) (i64.ge_s (local.get $left) (i64.const 0)))
    (i64.store offset=8 (local.get $result) (local.get $left)))

  (func (export "exuvia:actor/host#log") (param $level i32) (param $text i32) (param $length i32)
    (drop (call $log (i32.add (local.get $level) (i32.const 1)) (local.get $text) (local.get $length))))

  (func (export "exuvia:actor/host#info") (param $what i32) (result i64)
    (call $info (local.get $what)))

  (func (export "exuvia:actor/host#config") (param $key i32) (param $length i32) (param $result i32)
    (local $bytes i32) (local $fit i32) (local $data i32)
    (local.set $data (i32.const 8))
    (loop $again
      (local.set $bytes (call $config (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
      (if (i32.gt_s (local.get $bytes) (local.get $fit))
        (then
          (local.set $fit (local.get $bytes))
          (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
          (br $again))))
    (i32.store8 (local.get $result) (i32.ge_s (local.get $bytes) (i32.const 0)))
    (call $list (i32.add (local.get $result) (i32.const 4)) (local.get $data) (local.get $bytes)))

  (func (export "exuvia:actor/host#table-new") (param $name i32) (param $length i32) (param $access i32) (param $result i32)
    (call $answer_number (local.get $result)
      (call $table_new (local.get $name) (local.get $length) (local.get $access) (call $out))))

  (func (export "exuvia:actor/host#table-find") (param $name i32) (param $length i32) (param $result i32)
    (i32.store8 (local.get $result)
      (i32.eqz (call $table_find (local.get $name) (local.get $length) (i32.add (local.get $result) (i32.const 8))))))

  (func (export "exuvia:actor/host#table-put")
    (param $table i64) (param $key i32) (param $key_length i32) (param $value i32) (param $length i32) (param $keep i32)
    (param $result i32)
    (call $answer_bool (local.get $result)
      (call $table_put (local.get $table) (local.get $key) (local.get $key_length) (local.get $value) (local.get $length)
        (local.get $keep))))

  (func (export "exuvia:actor/host#table-delete") (param $table i64) (param $key i32) (param $length i32) (param $result i32)
    (call $answer_bool (local.get $result) (call $table_delete (local.get $table) (local.get $key) (local.get $length))))

  (func (export "exuvia:actor/host#table-end") (param $table i64) (param $result i32)
    (call $answer (local.get $result) (call $table_end (local.get $table))))

  (func (export "exuvia:actor/host#table-add")
    (param $table i64) (param $key i32) (param $length i32) (param $amount i64) (param $result i32)
    (call $answer_number (local.get $result)
      (call $table_add (local.get $table) (local.get $key) (local.get $length) (local.get $amount) (call $out))))

  ;; Writes a `result<option<list<u8>>, error>` of bytes, or of a code.
  (func $answer_row (param $result i32) (param $data i32) (param $code i32)
    (i32.store8 (local.get $result) (i32.lt_s (local.get $code) (i32.const -1)))
    (if (i32.lt_s (local.get $code) (i32.const -1))
      (then (i32.store8 offset=4 (local.get $result) (call $error (local.get $code))))
      (else
        (i32.store8 offset=4 (local.get $result) (i32.ge_s (local.get $code) (i32.const 0)))
        (call $list (i32.add (local.get $result) (i32.const 8)) (local.get $data) (local.get $code)))))

  (func (export "exuvia:actor/host#table-get") (param $table i64) (param $key i32) (param $length i32) (param $result i32)
    (local $bytes i32) (local $fit i32) (local $data i32)
    (local.set $data (i32.const 8))
    (loop $again
      (local.set $bytes
        (call $table_get (local.get $table) (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
      (if (i32.gt_s (local.get $bytes) (local.get $fit))
        (then
          (local.set $fit (local.get $bytes))
          (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
          (br $again))))
    (call $answer_row (local.get $result) (local.get $data) (local.get $bytes)))

  (func (export "exuvia:actor/host#table-next") (param $table i64) (param $key i32) (param $length i32) (param $result i32)
    (local $bytes i32) (local $fit i32) (local $data i32)
    (local.set $data (i32.const 8))
    (loop $again
      (local.set $bytes
        (call $table_next (local.get $table) (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
      (if (i32.gt_s (local.get $bytes) (local.get $fit))
        (then
          (local.set $fit (local.get $bytes))
          (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
          (br $again))))
    (call $answer_row (local.get $result) (local.get $data) (local.get $bytes)))

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
  ;; A pollable is 1 for what is ready at once, and else the millisecond of the monotonic clock from which on it is
  ;; ready, modulo 2^30, times 2. So it is right for six days; a longer time is cut to that.

  (func $pollable (param $instant i64) (result i32)
    (i32.and
      (i32.shl
        (i32.wrap_i64
          (i64.div_u (i64.add (local.get $instant) (i64.const 999999)) (i64.const 1000000)))
        (i32.const 1))
      (i32.const 0x7ffffffe)))
  (func (export "wasi:clocks/monotonic-clock#subscribe-instant") (param $instant i64) (result i32)
    (local $now i64)
    (local.set $now (call $clock (i32.const 0)))
    (if (i64.le_u (local.get $instant) (local.get $now))
      (then (return (i32.const 1))))
    (call $subscribe (i64.sub (local.get $instant) (local.get $now))))
  (func $subscribe (export "wasi:clocks/monotonic-clock#subscribe-duration") (param $duration i64) (result i32)
    (local $pollable i32)
    (local.set $pollable
      (call $pollable
        (i64.add (call $clock (i32.const 0))
          (select (local.get $duration) (i64.const 518400000000000)
            (i64.lt_u (local.get $duration) (i64.const 518400000000000))))))
    ;; 0 is no handle.
    (select (local.get $pollable) (i32.const 2) (local.get $pollable)))

  ;; The milliseconds until a pollable is ready, at least 0.
  (func $left (param $pollable i32) (result i32)
    (local $left i32)
    (if (i32.and (local.get $pollable) (i32.const 1))
      (then (return (i32.const 0))))
    ;; The difference of two numbers of 31 bits, with its sign.
    (local.set $left
      (i32.shr_s
        (i32.shl
          (i32.sub (local.get $pollable) (call $pollable (call $clock (i32.const 0))))
          (i32.const 1))
        (i32.const 2)))
    (select (local.get $left) (i32.const 0) (i32.gt_s (local.get $left) (i32.const 0))))

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

  (func (export "wasi:io/poll#poll") (param $pollables i32) (param $count i32) (param $result i32)
    (local $ready i32) (local $found i32) (local $at i32) (local $left i32) (local $least i32)
    (local.set $ready (call $alloc (i32.shl (local.get $count) (i32.const 2)) (i32.const 4)))
    (loop $again
      (local.set $at (i32.const 0))
      (local.set $least (i32.const 0x7fffffff))
      (block $all
        (loop $next
          (br_if $all (i32.ge_u (local.get $at) (local.get $count)))
          (local.set $left
            (call $left (i32.load (i32.add (local.get $pollables) (i32.shl (local.get $at) (i32.const 2))))))
          (if (i32.eqz (local.get $left))
            (then
              (i32.store (i32.add (local.get $ready) (i32.shl (local.get $found) (i32.const 2))) (local.get $at))
              (local.set $found (i32.add (local.get $found) (i32.const 1)))))
          (local.set $least
            (select (local.get $left) (local.get $least) (i32.lt_u (local.get $left) (local.get $least))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (if (i32.eqz (local.get $found))
        (then
          (if (call $sleep (i64.extend_i32_u (local.get $least)))
            (then (unreachable)))
          (br $again))))
    (call $list (local.get $result) (local.get $ready) (local.get $found)))

  ;; A stream of output: 1 is stdout, 2 stderr. Each takes whatever is printed.
  (func $print (param $stream i32) (param $data i32) (param $length i32) (param $result i32)
    (local $part i32)
    (local.set $part (i32.add (call $area) (i32.const 64)))
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
  ;; The input is closed.
  (func $closed (param $stream i32) (param $length i64) (param $result i32)
    (i32.store8 (local.get $result) (i32.const 1))
    (i32.store8 offset=4 (local.get $result) (i32.const 1)))
  (func (export "wasi:io/streams#[method]input-stream.read") (param $stream i32) (param $length i64) (param $result i32)
    (call $closed (local.get $stream) (local.get $length) (local.get $result)))
  (func (export "wasi:io/streams#[method]input-stream.blocking-read") (param $stream i32) (param $length i64) (param $result i32)
    (call $closed (local.get $stream) (local.get $length) (local.get $result)))
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

  (func $copied (param $text i32) (param $length i32) (result i32)
    (local $copy i32)
    (if (i32.eqz (local.get $length))
      (then (return (i32.const 1))))
    (local.set $copy (call $alloc (local.get $length) (i32.const 1)))
    (memory.copy (local.get $copy) (local.get $text) (local.get $length))
    (local.get $copy))

  (func (export "wasi:cli/environment#get-arguments") (param $result i32)
    (local $count i32) (local $texts i32) (local $strings i32) (local $at i32) (local $text i32) (local $length i32)
    (drop (call $args_sizes_get (call $out) (i32.add (call $out) (i32.const 4))))
    (local.set $count (i32.load (call $out)))
    (local.set $texts
      (call $alloc
        (i32.add (i32.shl (local.get $count) (i32.const 2)) (i32.load offset=4 (call $out)))
        (i32.const 4)))
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
    (call $list (local.get $result) (local.get $strings) (local.get $count)))

  (func (export "wasi:cli/environment#get-environment") (param $result i32)
    (local $count i32) (local $texts i32) (local $pairs i32) (local $at i32) (local $text i32) (local $length i32)
    (local $pair i32)
    (drop (call $environ_sizes_get (call $out) (i32.add (call $out) (i32.const 4))))
    (local.set $count (i32.load (call $out)))
    (local.set $texts
      (call $alloc
        (i32.add (i32.shl (local.get $count) (i32.const 2)) (i32.load offset=4 (call $out)))
        (i32.const 4)))
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
    (call $list (local.get $result) (local.get $pairs) (local.get $count)))

  ;; ---- wasi:filesystem, wasi:sockets: there are no folders, and no sockets ----

  (func (export "wasi:filesystem/preopens#get-directories") (param $result i32)
    (call $list (local.get $result) (i32.const 8) (i32.const 0)))

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

  ;; ---- what no interface is for ----

  ;; Where the text goes that says which function is missing, and the end of the process with it.
  (func $missing (export "missing") (result i32)
    (i32.add (call $area) (i32.const 128)))
  (func (export "end") (param $length i32)
    (call $exit (i32.const 256) (call $missing) (local.get $length)))

  ;; The drop of a handle: nothing is kept for one.
  (func (export "drop") (param $handle i32))
)
