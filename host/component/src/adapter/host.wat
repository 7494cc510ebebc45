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
  (local.set $bytes (i32.load offset=36 (local.get $header)))
  ;; TOO_BIG: the reply is in the mailbox.
  (if (i32.eq (local.get $code) (i32.const -3))
    (then
      (if (call $has_no_room (local.get $bytes))
        (then
          (drop (call $drop_message (local.get $header) (i32.const 2) (i64.load offset=24 (local.get $header))))
          (local.set $code (i32.const -6)))
        (else
          (local.set $reply (call $payload (local.get $bytes)))
          (i32.store (local.get $header) (i32.const 48))
          (local.set $code
            (call $receive (local.get $header) (local.get $reply) (local.get $bytes) (i64.const 0) (i32.const 2)
              (i64.load offset=24 (local.get $header)))))))
    (else (local.set $reply (call $alloc (i32.const 0) (i32.const 1)))))
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
  (local.set $data (call $alloc (i32.const 0) (i32.const 1)))
  ;; The cases are in the order of the modes TAG, REFERENCE and SENDER; a sender is given by a pointer.
  (if (i32.eq (local.get $select) (i32.const 2))
    (then (local.set $first (i64.extend_i32_u (call $pid (local.get $first) (local.get $second))))))
  ;; Of a tag, which is the narrower case, the lower half counts.
  (if (i32.eqz (local.get $select))
    (then (local.set $first (i64.and (local.get $first) (i64.const 0xffffffff)))))
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
            (drop (call $drop_message (local.get $header) (i32.add (local.get $select) (i32.const 1)) (local.get $first)))
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
  ;; A kind of a later version has no case: it is a message.
  (i32.store8 (local.get $message)
    (select (i32.sub (i32.load offset=4 (local.get $header)) (i32.const 2)) (i32.const 0)
      (i32.lt_u (i32.sub (i32.load offset=4 (local.get $header)) (i32.const 2)) (i32.const 7))))
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
  (i32.store offset=4 (local.get $options) (i32.and (local.get $flags) (i32.const 7)))
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
  (call $answer (local.get $result) (call $demonitor (local.get $reference) (i32.ne (local.get $flush) (i32.const 0)))))

(func (export "exuvia:actor/host#monitor-name") (param $name i32) (param $length i32) (param $result i32)
  (call $answer_child (local.get $result)
    (call $monitor_name (local.get $name) (local.get $length) (call $out) (i32.add (call $out) (i32.const 16)))))

(func (export "exuvia:actor/host#trap-exit") (param $on i32) (result i32)
  (call $trap_exit (i32.ne (local.get $on) (i32.const 0))))

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
  ;; The scratch has room for 3,840.
  (local.set $count (call $group_members (local.get $name) (local.get $length) (call $scratch) (i32.const 3840)))
  (local.set $count (select (local.get $count) (i32.const 0) (i32.gt_s (local.get $count) (i32.const 0))))
  (if (i32.le_u (local.get $count) (i32.const 3840))
    (then
      (call $list (local.get $result)
        (call $from_scratch (i32.shl (local.get $count) (i32.const 4)) (i32.const 8)) (local.get $count))
      (return)))
  (memory.fill (call $scratch) (i32.const 0) (i32.const 61440))
  ;; Until nobody has joined or left meanwhile: a list has just the memory that it needs.
  (loop $again
    (local.set $fit (local.get $count))
    (local.set $pids (call $alloc (i32.shl (local.get $fit) (i32.const 4)) (i32.const 8)))
    (local.set $count (call $group_members (local.get $name) (local.get $length) (local.get $pids) (local.get $fit)))
    (br_if $again (i32.ne (local.get $count) (local.get $fit))))
  (call $list (local.get $result) (local.get $pids) (local.get $count)))

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
  (local.set $bytes (call $config (local.get $key) (local.get $length) (call $scratch) (i32.const 61440)))
  (if (i32.le_s (local.get $bytes) (i32.const 61440))
    (then
      (if (i32.ge_s (local.get $bytes) (i32.const 0))
        (then (local.set $data (call $from_scratch (local.get $bytes) (i32.const 1))))))
    (else
      ;; Until it has not changed meanwhile.
      (loop $again
        (local.set $fit (local.get $bytes))
        (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
        (local.set $bytes (call $config (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
        (br_if $again
          (i32.and (i32.ge_s (local.get $bytes) (i32.const 0)) (i32.ne (local.get $bytes) (local.get $fit)))))))
  (i32.store8 (local.get $result) (i32.ge_s (local.get $bytes) (i32.const 0)))
  (call $list (i32.add (local.get $result) (i32.const 4))
    (local.get $data) (local.get $bytes)))

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
      (i32.ne (local.get $keep) (i32.const 0)))))

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
  (local.set $bytes (call $table_get (local.get $table) (local.get $key) (local.get $length) (call $scratch) (i32.const 61440)))
  (if (i32.le_s (local.get $bytes) (i32.const 61440))
    (then
      (if (i32.ge_s (local.get $bytes) (i32.const 0))
        (then (local.set $data (call $from_scratch (local.get $bytes) (i32.const 1))))))
    (else
      ;; Until it has not changed meanwhile.
      (loop $again
        (local.set $fit (local.get $bytes))
        (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
        (local.set $bytes (call $table_get (local.get $table) (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
        (br_if $again
          (i32.and (i32.ge_s (local.get $bytes) (i32.const 0)) (i32.ne (local.get $bytes) (local.get $fit)))))))
  (call $answer_row (local.get $result)
    (local.get $data) (local.get $bytes)))

(func (export "exuvia:actor/host#table-next") (param $table i64) (param $key i32) (param $length i32) (param $result i32)
  (local $bytes i32) (local $fit i32) (local $data i32)
  (local.set $bytes (call $table_next (local.get $table) (local.get $key) (local.get $length) (call $scratch) (i32.const 61440)))
  (if (i32.le_s (local.get $bytes) (i32.const 61440))
    (then
      (if (i32.ge_s (local.get $bytes) (i32.const 0))
        (then (local.set $data (call $from_scratch (local.get $bytes) (i32.const 1))))))
    (else
      ;; Until it has not changed meanwhile.
      (loop $again
        (local.set $fit (local.get $bytes))
        (local.set $data (call $alloc (local.get $fit) (i32.const 1)))
        (local.set $bytes (call $table_next (local.get $table) (local.get $key) (local.get $length) (local.get $data) (local.get $fit)))
        (br_if $again
          (i32.and (i32.ge_s (local.get $bytes) (i32.const 0)) (i32.ne (local.get $bytes) (local.get $fit)))))))
  (call $answer_row (local.get $result)
    (local.get $data) (local.get $bytes)))
