;; The code between a component and the host: see the crate's documentation.
;;
;; Exports named `INTERFACE#FUNCTION` are what a component imports, lowered as the canonical ABI says: flat
;; parameters, and at most one flat result; otherwise the last parameter points to where the result goes. `run`,
;; `save`, `load` and `exuvia_schema` are the exports of the module. Imports from `component` are what the component
;; brings: its memory, the `realloc` that is current, its exports (lifted) and what is to be called after each.
;;
;; There is no memory of its own: what has to be in memory is in an area, a page by which the memory grows once.
;;
;;   0  a header of 48 bytes          48  the pid of a parameter
;;  64  a pid, a reference or a       88  options of `spawn`
;;      number that a call writes    128  an exit reason or a line, up to 128 bytes
;;
;; Handles: stdin, stdout and stderr are 1, 1 and 2, a pollable that is ready is 1, a descriptor is the number of its file.
;; Others are the addresses of blocks of 24 bytes.
;; This file has the imports, and what all others use.

;; ---- what the component brings ----
(import "component" "memory" (memory 0))
;; The most bytes that its memory may have by its own type.
(import "component" "maximum" (func $maximum (result i64)))
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
;; For files.
(import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_set_times" (func $fd_filestat_set_times (param i32 i64 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $fd_fdstat_set_flags (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_sync" (func $fd_sync (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_datasync" (func $fd_datasync (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_filestat_set_times" (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_remove_directory" (func $path_remove_directory (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_readlink" (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))

;; Which `realloc` is current: lists that a call returns are allocated by the caller's.
(global $current (export "current") (mut i32) (i32.const 0))
(global $area_at (mut i32) (i32.const 0))
;; The length of the longest payload that was allocated, and whether such payloads are seen to be freed.
(global $most (mut i32) (i32.const 0))
(global $is_freed (mut i32) (i32.const 1))
(global $exuvia_abi (export "exuvia_abi") i32 (i32.const 1))

(data $too_large "dropped a message: the process has no memory for it")
(data $refused "the receiver has no memory for a request of this size")
(data $long_reply "the reply is larger than the process may send")
(data $failed "an operation on a file failed")

(func $alloc (param $size i32) (param $align i32) (result i32)
  (call $realloc (i32.const 0) (i32.const 0) (local.get $align) (local.get $size)))

;; Allocates what stays the adapter's own. A caller's `realloc` may be one that hands out a place for the result alone.
(func $keep (param $size i32) (param $align i32) (result i32)
  (local $caller i32) (local $kept i32)
  (local.set $caller (global.get $current))
  (global.set $current (i32.const 0))
  (local.set $kept (call $alloc (local.get $size) (local.get $align)))
  (global.set $current (local.get $caller))
  (local.get $kept))

;; A page of its own, so that no allocator is asked, which may be what starts right now.
(func $area (result i32)
  (local $page i32)
  (if (i32.eqz (global.get $area_at))
    (then
      (local.set $page (memory.grow (i32.const 1)))
      (global.set $area_at
        (if (result i32) (i32.eq (local.get $page) (i32.const -1))
          (then (call $keep (i32.const 65536) (i32.const 8)))
          (else (i32.shl (local.get $page) (i32.const 16)))))))
  (global.get $area_at))

;; The rest of the page, for what has no length before it is read. It is made zero after use.
(func $scratch (result i32)
  (i32.add (call $area) (i32.const 4096)))
;; Moves what is there to memory of just that length, which a caller may free.
(func $from_scratch (param $bytes i32) (param $align i32) (result i32)
  (local $copy i32)
  (local.set $copy (call $alloc (local.get $bytes) (local.get $align)))
  (memory.copy (local.get $copy) (call $scratch) (local.get $bytes))
  (memory.fill (call $scratch) (i32.const 0) (local.get $bytes))
  (local.get $copy))
(func $scratch_for (param $bytes i32) (result i32)
  ;; More than that is allocated, and stays.
  (if (i32.gt_u (local.get $bytes) (i32.const 61440))
    (then (return (call $keep (local.get $bytes) (i32.const 8)))))
  (call $scratch))

;; A small block of the adapter's own: one that was given back, or a new one. The second word is the next free one.
(global $free_blocks (mut i32) (i32.const 0))
(func $take_block (result i32)
  (local $block i32)
  (local.set $block (global.get $free_blocks))
  (if (i32.eqz (local.get $block))
    (then (return (call $keep (i32.const 24) (i32.const 8)))))
  (global.set $free_blocks (i32.load offset=4 (local.get $block)))
  (local.get $block))
(func $give_block (param $block i32)
  (i32.store offset=4 (local.get $block) (global.get $free_blocks))
  (global.set $free_blocks (local.get $block)))

(func $copied (param $text i32) (param $length i32) (result i32)
  (local $copy i32)
  (local.set $copy (call $alloc (local.get $length) (i32.const 1)))
  (memory.copy (local.get $copy) (local.get $text) (local.get $length))
  (local.get $copy))

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

;; A code as the case of `error`; one of a later host as the last of them.
(func $error (param $code i32) (result i32)
  (if (i32.lt_s (local.get $code) (i32.const -15))
    (then (return (i32.const 14))))
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
;; a message. Short ones are taken in any case; so is what was allocated before, as long as that is seen to be freed. What
;; an allocator needs beside the payload is an eighth and two pages.
(func $has_no_room (param $length i32) (result i32)
  (local $limit i64)
  (if (i32.or
        (i32.le_u (local.get $length) (i32.const 65536))
        (i32.and (i32.le_u (local.get $length) (global.get $most)) (global.get $is_freed)))
    (then (return (i32.const 0))))
  (local.set $limit (call $info (i32.const 7)))
  (if (i64.gt_u (local.get $limit) (call $maximum))
    (then (local.set $limit (call $maximum))))
  (i64.gt_u
    (i64.add
      (i64.add
        (i64.extend_i32_u (local.get $length))
        (i64.shr_u (i64.extend_i32_u (local.get $length)) (i64.const 3)))
      (i64.add (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)) (i64.const 131072)))
    (local.get $limit)))

;; Memory for a payload for which there is room.
(func $payload (param $length i32) (result i32)
  (local $pages i32) (local $data i32)
  (local.set $pages (memory.size))
  (local.set $data (call $alloc (local.get $length) (i32.const 1)))
  (if (i32.gt_u (local.get $length) (i32.const 65536))
    (then
      (if (i32.le_u (local.get $length) (global.get $most))
        ;; It would have been where the one before was, had that been freed.
        (then (if (i32.ne (memory.size) (local.get $pages)) (then (global.set $is_freed (i32.const 0)))))
        (else (global.set $most (local.get $length))))))
  (local.get $data))
