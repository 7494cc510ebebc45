;; ---- wasi:filesystem, over the functions of preview 1 ----
;; A descriptor is the number of the open file. A stream of a file or a folder has a block:
;;
;;      of a file                                 of a folder
;;   0  descriptor                                its entries, all of them
;;   4  the next stream that is open              (the next free block)
;;   8  offset                                    the next entry         12  the end of the entries
;;  16  1: it appends; 2: the descriptor is       the bytes that there is memory for
;;      closed with the stream
;;
;; The handle of an error is its number in `error-code` and 1.

;; The case of `error-code` for each error of preview 1, and that of `descriptor-type` for each of its file types.
(data $errors "\0d\0d\00\0d\0d\0d\01\02\03\0d\04\0d\0d\0d\0d\0d\05\0d\0d\06\07\0d\08\0d\0d\09\0a\0b\0c\0d\0d\0e\0f\0d\10\11\0d\12\0d\0d\0d\0d\0d\13\14\0d\15\0d\16\0d\0d\17\1b\0d\18\19\1a\0d\1b\1c\1d\1e\0d\1f\20\0d\0d\0d\0d\21\22\0d\0d\0d\23\24\1f")
(data $types "\00\01\02\03\06\07\07\05")

(global $streams (mut i32) (i32.const 0))
;; Free blocks of folders, with their memory.
(global $free_folders (mut i32) (i32.const 0))

(func $error_code (param $errno i32) (result i32)
  (memory.init $errors (i32.add (call $area) (i32.const 128))
    (select (local.get $errno) (i32.const 29) (i32.lt_u (local.get $errno) (i32.const 77))) (i32.const 1))
  (i32.load8_u offset=128 (call $area)))

(func $descriptor_type (param $type i32) (result i32)
  (memory.init $types (i32.add (call $area) (i32.const 128)) (i32.and (local.get $type) (i32.const 7)) (i32.const 1))
  (i32.load8_u offset=128 (call $area)))

;; Writes a `result` of which the error is so far behind its start; returns whether it is one.
(func $failed (param $result i32) (param $errno i32) (param $offset i32) (result i32)
  (i32.store8 (local.get $result) (i32.ne (local.get $errno) (i32.const 0)))
  (if (local.get $errno)
    (then (i32.store8 (i32.add (local.get $result) (local.get $offset)) (call $error_code (local.get $errno)))))
  (local.get $errno))

;; Writes a `result<_, error-code>`.
(func $done (param $result i32) (param $errno i32)
  (drop (call $failed (local.get $result) (local.get $errno) (i32.const 1))))

;; Writes a `result<own<stream>, error-code>` of a stream that begins at an offset.
(func $open_stream (param $descriptor i32) (param $appends i32) (param $offset i64) (param $result i32)
  (local $stream i32)
  (local.set $stream (call $take_block))
  (i32.store (local.get $stream) (local.get $descriptor))
  (i32.store offset=4 (local.get $stream) (global.get $streams))
  (i64.store offset=8 (local.get $stream) (local.get $offset))
  (i32.store offset=16 (local.get $stream) (local.get $appends))
  (global.set $streams (local.get $stream))
  (i32.store8 (local.get $result) (i32.const 0))
  (i32.store offset=4 (local.get $result) (local.get $stream)))

;; Closes a file, or leaves that to a stream of it that is open: its number is not to become another file's.
(func $close (param $descriptor i32)
  (local $stream i32)
  (local.set $stream (global.get $streams))
  (loop $next
    (if (local.get $stream)
      (then
        (if (i32.eq (i32.load (local.get $stream)) (local.get $descriptor))
          (then
            (i32.store offset=16 (local.get $stream) (i32.or (i32.load offset=16 (local.get $stream)) (i32.const 2)))
            (return)))
        (local.set $stream (i32.load offset=4 (local.get $stream)))
        (br $next))))
  (drop (call $fd_close (local.get $descriptor))))

(func $drop_stream (param $stream i32)
  (local $before i32)
  ;; One of the standard streams.
  (if (i32.le_u (local.get $stream) (i32.const 2))
    (then (return)))
  (if (i32.eq (global.get $streams) (local.get $stream))
    (then (global.set $streams (i32.load offset=4 (local.get $stream))))
    (else
      (local.set $before (global.get $streams))
      (loop $next
        (if (i32.ne (i32.load offset=4 (local.get $before)) (local.get $stream))
          (then
            (local.set $before (i32.load offset=4 (local.get $before)))
            (br $next))))
      (i32.store offset=4 (local.get $before) (i32.load offset=4 (local.get $stream)))))
  (if (i32.and (i32.load offset=16 (local.get $stream)) (i32.const 2))
    (then (call $close (i32.load (local.get $stream)))))
  (call $give_block (local.get $stream)))
(func (export "wasi:io/streams#[resource-drop]input-stream") (param $stream i32)
  (call $drop_stream (local.get $stream)))
(func (export "wasi:io/streams#[resource-drop]output-stream") (param $stream i32)
  (call $drop_stream (local.get $stream)))
(func (export "wasi:filesystem/types#[resource-drop]descriptor") (param $descriptor i32)
  ;; A folder that was granted is handed out each time that it is asked for, and stays.
  (if (call $fd_prestat_get (local.get $descriptor) (call $out))
    (then (call $close (local.get $descriptor)))))
(func (export "wasi:filesystem/types#[resource-drop]directory-entry-stream") (param $stream i32)
  (memory.fill (i32.load (local.get $stream)) (i32.const 0)
    (i32.sub (i32.load offset=12 (local.get $stream)) (i32.load (local.get $stream))))
  (i32.store offset=4 (local.get $stream) (global.get $free_folders))
  (global.set $free_folders (local.get $stream)))

;; Writes a stream's error: an operation failed.
(func $stream_failed (param $result i32) (param $errno i32)
  (i32.store8 (local.get $result) (i32.const 1))
  (i32.store8 offset=4 (local.get $result) (i32.const 0))
  (i32.store offset=8 (local.get $result) (i32.add (call $error_code (local.get $errno)) (i32.const 1))))

(func (export "wasi:io/error#[method]error.to-debug-string") (param $error i32) (param $result i32)
  (memory.init $failed (call $scratch) (i32.const 0) (i32.const 29))
  (call $list (local.get $result) (call $from_scratch (i32.const 29) (i32.const 1)) (i32.const 29)))
(func (export "wasi:filesystem/types#filesystem-error-code") (param $error i32) (param $result i32)
  (i32.store8 (local.get $result) (i32.const 1))
  (i32.store8 offset=1 (local.get $result) (i32.sub (local.get $error) (i32.const 1))))

;; Reads from a file into new memory, which is at the area's 64, and its length at 72. It has just the length of what was
;; read, so that is read into the scratch first; the caller asks again for more.
(func $read_file (param $descriptor i32) (param $length i64) (param $offset i64) (result i32)
  (local $part i32) (local $errno i32)
  (local.set $part (call $out))
  (call $list (local.get $part) (call $scratch)
    (select (i32.wrap_i64 (local.get $length)) (i32.const 61440) (i64.lt_u (local.get $length) (i64.const 61440))))
  (local.set $errno
    (call $fd_pread (local.get $descriptor) (local.get $part) (i32.const 1) (local.get $offset)
      (i32.add (local.get $part) (i32.const 8))))
  (if (i32.eqz (local.get $errno))
    (then
      (i32.store (local.get $part) (call $from_scratch (i32.load offset=8 (local.get $part)) (i32.const 1)))))
  (local.get $errno))

(func $read_stream (param $stream i32) (param $length i64) (param $result i32)
  (local $errno i32) (local $read i32)
  (if (i32.le_u (local.get $stream) (i32.const 2))
    (then
      ;; The input of the process is closed.
      (i32.store8 (local.get $result) (i32.const 1))
      (i32.store8 offset=4 (local.get $result) (i32.const 1))
      (return)))
  (local.set $errno
    (call $read_file (i32.load (local.get $stream)) (local.get $length) (i64.load offset=8 (local.get $stream))))
  (if (local.get $errno)
    (then
      (call $stream_failed (local.get $result) (local.get $errno))
      (return)))
  (local.set $read (i32.load offset=8 (call $out)))
  (if (i32.and (i32.eqz (local.get $read)) (i64.ne (local.get $length) (i64.const 0)))
    (then
      (i32.store8 (local.get $result) (i32.const 1))
      (i32.store8 offset=4 (local.get $result) (i32.const 1))
      (return)))
  (i64.store offset=8 (local.get $stream)
    (i64.add (i64.load offset=8 (local.get $stream)) (i64.extend_i32_u (local.get $read))))
  (i32.store8 (local.get $result) (i32.const 0))
  (call $list (i32.add (local.get $result) (i32.const 4)) (i32.load (call $out)) (local.get $read)))

;; Writes a part at the end of a file. The descriptor appends for that moment only.
(func $append (param $descriptor i32) (param $part i32) (result i32)
  (local $flags i32) (local $errno i32)
  (local.set $errno (call $fd_fdstat_get (local.get $descriptor) (call $fdstat)))
  (if (local.get $errno)
    (then (return (local.get $errno))))
  (local.set $flags (i32.load16_u offset=2 (call $fdstat)))
  (local.set $errno (call $fd_fdstat_set_flags (local.get $descriptor) (i32.or (local.get $flags) (i32.const 1))))
  (if (local.get $errno)
    (then (return (local.get $errno))))
  (local.set $errno
    (call $fd_write (local.get $descriptor) (local.get $part) (i32.const 1) (i32.add (local.get $part) (i32.const 8))))
  (drop (call $fd_fdstat_set_flags (local.get $descriptor) (local.get $flags)))
  (local.get $errno))

;; Writes all to a file.
(func $write_stream (param $stream i32) (param $data i32) (param $length i32) (param $result i32)
  (local $errno i32) (local $part i32) (local $written i32)
  (local.set $part (call $out))
  (i32.store8 (local.get $result) (i32.const 0))
  (block $end
    (loop $next
      (br_if $end (i32.eqz (local.get $length)))
      (i32.store (local.get $part) (local.get $data))
      (i32.store offset=4 (local.get $part) (local.get $length))
      (local.set $errno
        (if (result i32) (i32.and (i32.load offset=16 (local.get $stream)) (i32.const 1))
          (then (call $append (i32.load (local.get $stream)) (local.get $part)))
          (else
            (call $fd_pwrite (i32.load (local.get $stream)) (local.get $part) (i32.const 1)
              (i64.load offset=8 (local.get $stream)) (i32.add (local.get $part) (i32.const 8))))))
      (if (local.get $errno)
        (then
          (call $stream_failed (local.get $result) (local.get $errno))
          (return)))
      (local.set $written (i32.load offset=8 (local.get $part)))
      (i64.store offset=8 (local.get $stream)
        (i64.add (i64.load offset=8 (local.get $stream)) (i64.extend_i32_u (local.get $written))))
      (local.set $data (i32.add (local.get $data) (local.get $written)))
      (local.set $length (i32.sub (local.get $length) (local.get $written)))
      (br $next))))

(func (export "wasi:filesystem/preopens#get-directories") (param $result i32)
  (local $descriptor i32) (local $count i32) (local $folders i32) (local $at i32) (local $length i32) (local $name i32)
  ;; The folders are the first open files.
  (local.set $descriptor (i32.const 3))
  (block $all
    (loop $next
      (br_if $all (call $fd_prestat_get (i32.add (local.get $descriptor) (local.get $count)) (call $out)))
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br $next)))
  (local.set $folders (call $alloc (i32.mul (local.get $count) (i32.const 12)) (i32.const 4)))
  (local.set $at (local.get $folders))
  (call $list (local.get $result) (local.get $folders) (local.get $count))
  (block $all
    (loop $next
      (br_if $all (i32.eqz (local.get $count)))
      (drop (call $fd_prestat_get (local.get $descriptor) (call $out)))
      (local.set $length (i32.load offset=4 (call $out)))
      (local.set $name (call $alloc (local.get $length) (i32.const 1)))
      (drop (call $fd_prestat_dir_name (local.get $descriptor) (local.get $name) (local.get $length)))
      (i32.store (local.get $at) (local.get $descriptor))
      (call $list (i32.add (local.get $at) (i32.const 4)) (local.get $name) (local.get $length))
      (local.set $at (i32.add (local.get $at) (i32.const 12)))
      (local.set $descriptor (i32.add (local.get $descriptor) (i32.const 1)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))))

(func (export "wasi:filesystem/types#[method]descriptor.read-via-stream")
  (param $descriptor i32) (param $offset i64) (param $result i32)
  (call $open_stream (local.get $descriptor) (i32.const 0) (local.get $offset) (local.get $result)))
(func (export "wasi:filesystem/types#[method]descriptor.write-via-stream")
  (param $descriptor i32) (param $offset i64) (param $result i32)
  (call $open_stream (local.get $descriptor) (i32.const 0) (local.get $offset) (local.get $result)))
(func (export "wasi:filesystem/types#[method]descriptor.append-via-stream") (param $descriptor i32) (param $result i32)
  (call $open_stream (local.get $descriptor) (i32.const 1) (i64.const 0) (local.get $result)))

(func (export "wasi:filesystem/types#[method]descriptor.read")
  (param $descriptor i32) (param $length i64) (param $offset i64) (param $result i32)
  (local $read i32)
  (if (call $failed (local.get $result)
        (call $read_file (local.get $descriptor) (local.get $length) (local.get $offset)) (i32.const 4))
    (then (return)))
  (local.set $read (i32.load offset=8 (call $out)))
  (call $list (i32.add (local.get $result) (i32.const 4)) (i32.load (call $out)) (local.get $read))
  (i32.store8 offset=12 (local.get $result)
    (i32.and (i32.eqz (local.get $read)) (i64.ne (local.get $length) (i64.const 0)))))
(func (export "wasi:filesystem/types#[method]descriptor.write")
  (param $descriptor i32) (param $data i32) (param $length i32) (param $offset i64) (param $result i32)
  (local $part i32)
  (local.set $part (call $out))
  (call $list (local.get $part) (local.get $data) (local.get $length))
  (if (call $failed (local.get $result)
        (call $fd_pwrite (local.get $descriptor) (local.get $part) (i32.const 1) (local.get $offset)
          (i32.add (local.get $part) (i32.const 8)))
        (i32.const 8))
    (then (return)))
  (i64.store offset=8 (local.get $result) (i64.load32_u offset=8 (call $out))))

(func (export "wasi:filesystem/types#[method]descriptor.advise")
  (param $descriptor i32) (param $offset i64) (param $length i64) (param $advice i32) (param $result i32)
  (call $done (local.get $result) (i32.const 0)))
(func (export "wasi:filesystem/types#[method]descriptor.sync") (param $descriptor i32) (param $result i32)
  (call $done (local.get $result) (call $fd_sync (local.get $descriptor))))
(func (export "wasi:filesystem/types#[method]descriptor.sync-data") (param $descriptor i32) (param $result i32)
  (call $done (local.get $result) (call $fd_datasync (local.get $descriptor))))
(func (export "wasi:filesystem/types#[method]descriptor.set-size") (param $descriptor i32) (param $size i64) (param $result i32)
  (call $done (local.get $result) (call $fd_filestat_set_size (local.get $descriptor) (local.get $size))))

;; An `fdstat` of preview 1 has 24 bytes.
(func $fdstat (result i32)
  (i32.add (call $area) (i32.const 128)))
(func (export "wasi:filesystem/types#[method]descriptor.get-flags") (param $descriptor i32) (param $result i32)
  (local $rights i32)
  (if (call $failed (local.get $result) (call $fd_fdstat_get (local.get $descriptor) (call $fdstat)) (i32.const 1))
    (then (return)))
  (local.set $rights (i32.load offset=8 (call $fdstat)))
  ;; read, write and mutate-directory of the rights to read (2) and to write (64).
  (i32.store8 offset=1 (local.get $result)
    (i32.or
      (i32.and (i32.shr_u (local.get $rights) (i32.const 1)) (i32.const 1))
      (i32.mul (i32.and (i32.shr_u (local.get $rights) (i32.const 6)) (i32.const 1)) (i32.const 34)))))
(func (export "wasi:filesystem/types#[method]descriptor.get-type") (param $descriptor i32) (param $result i32)
  (if (call $failed (local.get $result) (call $fd_fdstat_get (local.get $descriptor) (call $fdstat)) (i32.const 1))
    (then (return)))
  (i32.store8 offset=1 (local.get $result) (call $descriptor_type (i32.load8_u (call $fdstat)))))

;; A `filestat` of preview 1 has 64 bytes.
(func $filestat (result i32)
  (i32.add (call $area) (i32.const 160)))
(func $write_time (param $result i32) (param $time i64)
  (i32.store8 (local.get $result) (i32.const 1))
  (call $write_datetime (i32.add (local.get $result) (i32.const 8)) (local.get $time)))
(func $write_stat (param $result i32) (param $errno i32)
  (local $stat i32)
  (if (call $failed (local.get $result) (local.get $errno) (i32.const 8))
    (then (return)))
  (local.set $stat (call $filestat))
  (i32.store8 offset=8 (local.get $result) (call $descriptor_type (i32.load8_u offset=16 (local.get $stat))))
  (i64.store offset=16 (local.get $result) (i64.load offset=24 (local.get $stat)))
  (i64.store offset=24 (local.get $result) (i64.load offset=32 (local.get $stat)))
  (call $write_time (i32.add (local.get $result) (i32.const 32)) (i64.load offset=40 (local.get $stat)))
  (call $write_time (i32.add (local.get $result) (i32.const 56)) (i64.load offset=48 (local.get $stat)))
  (call $write_time (i32.add (local.get $result) (i32.const 80)) (i64.load offset=56 (local.get $stat))))
(func (export "wasi:filesystem/types#[method]descriptor.stat") (param $descriptor i32) (param $result i32)
  (call $write_stat (local.get $result) (call $fd_filestat_get (local.get $descriptor) (call $filestat))))
(func (export "wasi:filesystem/types#[method]descriptor.stat-at")
  (param $descriptor i32) (param $flags i32) (param $path i32) (param $length i32) (param $result i32)
  (call $write_stat (local.get $result)
    (call $path_filestat_get (local.get $descriptor) (i32.and (local.get $flags) (i32.const 1)) (local.get $path) (local.get $length)
      (call $filestat))))
;; Which file it is: libraries take the lower half for the number of the file, so that comes first, and the device second.
(func $write_hash (param $result i32) (param $errno i32)
  (if (call $failed (local.get $result) (local.get $errno) (i32.const 8))
    (then (return)))
  (i64.store offset=8 (local.get $result) (i64.load offset=8 (call $filestat)))
  (i64.store offset=16 (local.get $result) (i64.load (call $filestat))))
(func (export "wasi:filesystem/types#[method]descriptor.is-same-object") (param $one i32) (param $other i32) (result i32)
  (local $device i64) (local $number i64)
  (if (call $fd_filestat_get (local.get $one) (call $filestat))
    (then (return (i32.const 0))))
  (local.set $device (i64.load (call $filestat)))
  (local.set $number (i64.load offset=8 (call $filestat)))
  (if (call $fd_filestat_get (local.get $other) (call $filestat))
    (then (return (i32.const 0))))
  (i32.and
    (i64.eq (local.get $device) (i64.load (call $filestat)))
    (i64.eq (local.get $number) (i64.load offset=8 (call $filestat)))))
(func (export "wasi:filesystem/types#[method]descriptor.metadata-hash") (param $descriptor i32) (param $result i32)
  (call $write_hash (local.get $result) (call $fd_filestat_get (local.get $descriptor) (call $filestat))))
(func (export "wasi:filesystem/types#[method]descriptor.metadata-hash-at")
  (param $descriptor i32) (param $flags i32) (param $path i32) (param $length i32) (param $result i32)
  (call $write_hash (local.get $result)
    (call $path_filestat_get (local.get $descriptor) (i32.and (local.get $flags) (i32.const 1)) (local.get $path) (local.get $length)
      (call $filestat))))

(func $nanoseconds (param $seconds i64) (param $nanoseconds i32) (result i64)
  (i64.add (i64.mul (local.get $seconds) (i64.const 1000000000)) (i64.extend_i32_u (local.get $nanoseconds))))
;; The flags for two cases of `new-timestamp` (no-change, now, timestamp): 1 and 4 for a time, 2 and 8 for now.
(func $time_flags (param $access i32) (param $change i32) (result i32)
  (i32.or
    (i32.and (i32.shr_u (i32.const 0x120) (i32.shl (local.get $access) (i32.const 2))) (i32.const 3))
    (i32.shl
      (i32.and (i32.shr_u (i32.const 0x120) (i32.shl (local.get $change) (i32.const 2))) (i32.const 3))
      (i32.const 2))))
(func (export "wasi:filesystem/types#[method]descriptor.set-times")
  (param $descriptor i32)
  (param $access i32) (param $access_s i64) (param $access_ns i32)
  (param $change i32) (param $change_s i64) (param $change_ns i32)
  (param $result i32)
  (call $done (local.get $result)
    (call $fd_filestat_set_times (local.get $descriptor)
      (call $nanoseconds (local.get $access_s) (local.get $access_ns))
      (call $nanoseconds (local.get $change_s) (local.get $change_ns))
      (call $time_flags (local.get $access) (local.get $change)))))
(func (export "wasi:filesystem/types#[method]descriptor.set-times-at")
  (param $descriptor i32) (param $flags i32) (param $path i32) (param $length i32)
  (param $access i32) (param $access_s i64) (param $access_ns i32)
  (param $change i32) (param $change_s i64) (param $change_ns i32)
  (param $result i32)
  (call $done (local.get $result)
    (call $path_filestat_set_times (local.get $descriptor) (i32.and (local.get $flags) (i32.const 1)) (local.get $path) (local.get $length)
      (call $nanoseconds (local.get $access_s) (local.get $access_ns))
      (call $nanoseconds (local.get $change_s) (local.get $change_ns))
      (call $time_flags (local.get $access) (local.get $change)))))

;; The flags of preview 1 for those of a descriptor: file-integrity-sync (4) is SYNC (16), data-integrity-sync (8) DSYNC
;; (2), and requested-write-sync (16) RSYNC (8).
(func $fd_flags (param $flags i32) (result i32)
  (i32.or
    (i32.shl (i32.and (local.get $flags) (i32.const 4)) (i32.const 2))
    (i32.or
      (i32.shr_u (i32.and (local.get $flags) (i32.const 8)) (i32.const 2))
      (i32.shr_u (i32.and (local.get $flags) (i32.const 16)) (i32.const 1)))))
(func (export "wasi:filesystem/types#[method]descriptor.open-at")
  (param $descriptor i32) (param $path_flags i32) (param $path i32) (param $length i32) (param $open_flags i32)
  (param $flags i32) (param $result i32)
  (local $rights i64)
  ;; All rights but to read (2) and to write (64), and these as the flags say.
  (local.set $rights
    (i64.or
      (i64.const 0x1fffffbd)
      (i64.or
        (i64.shl (i64.extend_i32_u (i32.and (local.get $flags) (i32.const 1))) (i64.const 1))
        (i64.shl (i64.extend_i32_u (i32.and (local.get $flags) (i32.const 2))) (i64.const 5)))))
  (if (call $failed (local.get $result)
        (call $path_open (local.get $descriptor) (i32.and (local.get $path_flags) (i32.const 1)) (local.get $path) (local.get $length)
          (i32.and (local.get $open_flags) (i32.const 15)) (local.get $rights) (i64.const 0x1fffffff)
          (call $fd_flags (local.get $flags)) (call $out))
        (i32.const 4))
    (then (return)))
  (i32.store offset=4 (local.get $result) (i32.load (call $out))))

(func (export "wasi:filesystem/types#[method]descriptor.create-directory-at")
  (param $descriptor i32) (param $path i32) (param $length i32) (param $result i32)
  (call $done (local.get $result)
    (call $path_create_directory (local.get $descriptor) (local.get $path) (local.get $length))))
(func (export "wasi:filesystem/types#[method]descriptor.remove-directory-at")
  (param $descriptor i32) (param $path i32) (param $length i32) (param $result i32)
  (call $done (local.get $result)
    (call $path_remove_directory (local.get $descriptor) (local.get $path) (local.get $length))))
(func (export "wasi:filesystem/types#[method]descriptor.unlink-file-at")
  (param $descriptor i32) (param $path i32) (param $length i32) (param $result i32)
  (call $done (local.get $result)
    (call $path_unlink_file (local.get $descriptor) (local.get $path) (local.get $length))))
(func (export "wasi:filesystem/types#[method]descriptor.rename-at")
  (param $descriptor i32) (param $path i32) (param $length i32) (param $new i32) (param $new_path i32)
  (param $new_length i32) (param $result i32)
  (call $done (local.get $result)
    (call $path_rename (local.get $descriptor) (local.get $path) (local.get $length) (local.get $new)
      (local.get $new_path) (local.get $new_length))))
(func (export "wasi:filesystem/types#[method]descriptor.link-at")
  (param $descriptor i32) (param $flags i32) (param $path i32) (param $length i32) (param $new i32) (param $new_path i32)
  (param $new_length i32) (param $result i32)
  (call $done (local.get $result)
    (call $path_link (local.get $descriptor) (i32.and (local.get $flags) (i32.const 1)) (local.get $path) (local.get $length) (local.get $new)
      (local.get $new_path) (local.get $new_length))))
(func (export "wasi:filesystem/types#[method]descriptor.symlink-at")
  (param $descriptor i32) (param $target i32) (param $target_length i32) (param $path i32) (param $length i32)
  (param $result i32)
  (call $done (local.get $result)
    (call $path_symlink (local.get $target) (local.get $target_length) (local.get $descriptor) (local.get $path)
      (local.get $length))))
(func (export "wasi:filesystem/types#[method]descriptor.readlink-at")
  (param $descriptor i32) (param $path i32) (param $length i32) (param $result i32)
  (if (call $failed (local.get $result)
        (call $path_readlink (local.get $descriptor) (local.get $path) (local.get $length) (call $scratch)
          (i32.const 4096) (call $out))
        (i32.const 4))
    (then (return)))
  (call $list (i32.add (local.get $result) (i32.const 4))
    (call $from_scratch (i32.load (call $out)) (i32.const 1)) (i32.load (call $out))))

;; Reads all entries at once: a folder that changes while they are taken loses none of them.
(func (export "wasi:filesystem/types#[method]descriptor.read-directory") (param $descriptor i32) (param $result i32)
  (local $stream i32) (local $entries i32) (local $capacity i32)
  (local.set $stream (global.get $free_folders))
  (if (local.get $stream)
    (then (global.set $free_folders (i32.load offset=4 (local.get $stream))))
    (else
      (local.set $stream (call $take_block))
      (i32.store (local.get $stream) (call $keep (i32.const 4096) (i32.const 8)))
      (i32.store offset=16 (local.get $stream) (i32.const 4096))))
  (loop $again
    (local.set $entries (i32.load (local.get $stream)))
    (local.set $capacity (i32.load offset=16 (local.get $stream)))
    (i32.store offset=8 (local.get $stream) (local.get $entries))
    (i32.store offset=12 (local.get $stream) (local.get $entries))
    (if (call $failed (local.get $result)
          (call $fd_readdir (local.get $descriptor) (local.get $entries) (local.get $capacity) (i64.const 0) (call $out))
          (i32.const 4))
      (then
        (i32.store offset=4 (local.get $stream) (global.get $free_folders))
        (global.set $free_folders (local.get $stream))
        (return)))
    (if (i32.ge_u (i32.load (call $out)) (local.get $capacity))
      (then
        ;; The old memory is left: not every component can give back or grow what it has given.
        (memory.fill (local.get $entries) (i32.const 0) (local.get $capacity))
        (i32.store (local.get $stream) (call $keep (i32.shl (local.get $capacity) (i32.const 1)) (i32.const 8)))
        (i32.store offset=16 (local.get $stream) (i32.shl (local.get $capacity) (i32.const 1)))
        (br $again))))
  (i32.store offset=12 (local.get $stream) (i32.add (local.get $entries) (i32.load (call $out))))
  (i32.store offset=4 (local.get $result) (local.get $stream)))

;; An entry of preview 1: 16 the length of the name, 20 the type, 24 the name.
(func (export "wasi:filesystem/types#[method]directory-entry-stream.read-directory-entry")
  (param $stream i32) (param $result i32)
  (local $entry i32) (local $name i32) (local $length i32)
  (i32.store8 (local.get $result) (i32.const 0))
  (loop $next
    (local.set $entry (i32.load offset=8 (local.get $stream)))
    (if (i32.ge_u (local.get $entry) (i32.load offset=12 (local.get $stream)))
      (then
        (i32.store8 offset=4 (local.get $result) (i32.const 0))
        (return)))
    (local.set $length (i32.load offset=16 (local.get $entry)))
    (local.set $name (i32.add (local.get $entry) (i32.const 24)))
    (i32.store offset=8 (local.get $stream) (i32.add (local.get $name) (local.get $length)))
    ;; Neither `.` nor `..`.
    (br_if $next
      (i32.and (i32.eq (local.get $length) (i32.const 1)) (i32.eq (i32.load8_u (local.get $name)) (i32.const 46))))
    (br_if $next
      (i32.and (i32.eq (local.get $length) (i32.const 2)) (i32.eq (i32.load16_u (local.get $name)) (i32.const 0x2e2e)))))
  (i32.store8 offset=4 (local.get $result) (i32.const 1))
  (i32.store8 offset=8 (local.get $result) (call $descriptor_type (i32.load8_u offset=20 (local.get $entry))))
  (call $list (i32.add (local.get $result) (i32.const 12))
    (call $copied (local.get $name) (local.get $length)) (local.get $length)))
