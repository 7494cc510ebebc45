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
    (i32.store (local.get $header) (i32.const 48))
    (local.set $code
      (call $receive (local.get $header) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0)))
    (local.set $length (i32.load offset=36 (local.get $header)))
    (if (i32.eqz (local.get $code))
      (then (local.set $data (call $alloc (i32.const 0) (i32.const 1)))))
    ;; TOO_BIG: any message that is not empty.
    (if (i32.eq (local.get $code) (i32.const -3))
      (then
        (if (call $has_no_room (local.get $length))
          (then
            (if (call $drop_message (local.get $header) (i32.const 0) (i64.const 0))
              (then (return (i32.const 0))))
            ;; Without its arguments a process does not start.
            (if (i32.eq (i32.load offset=4 (local.get $header)) (i32.const 1))
              (then
                (drop (call $init_ack (i32.const 256) (i32.add (local.get $header) (i32.const 128)) (i32.const 51)))
                (return (i32.const 2))))
            ;; Of a reply, who waits for it is told that it was not taken.
            (br_if $next (i32.ne (i32.load offset=4 (local.get $header)) (i32.const 4)))
            (i32.store offset=32 (local.get $header) (i32.const -1))
            (local.set $length (i32.const 51))
            (local.set $data (call $copied (i32.add (local.get $header) (i32.const 128)) (local.get $length)))
            (br_if $next (call $handle (local.get $header) (local.get $data) (local.get $length)))
            (return (i32.const 2))))
        (local.set $data (call $payload_for (local.get $length)))
        (i32.store (local.get $header) (i32.const 48))
        (local.set $code
          (call $receive (local.get $header) (local.get $data) (local.get $length) (i64.const 0) (i32.const 0) (i64.const 0)))
        ;; New code is due: the message is for that, and the memory for the next one.
        (if (local.get $code)
          (then
            (global.set $spare (local.get $data))
            (global.set $spare_length (local.get $length))))))
    (if (local.get $code)
      (then (return (i32.const 0))))
    (br_if $next (call $handle (local.get $header) (local.get $data) (local.get $length))))
  (i32.const 2))

;; Memory of a payload that was not taken after all.
(global $spare (mut i32) (i32.const 0))
(global $spare_length (mut i32) (i32.const 0))
(func $payload_for (param $length i32) (result i32)
  (local $data i32)
  (if (i32.or (i32.eqz (global.get $spare)) (i32.ne (global.get $spare_length) (local.get $length)))
    (then (return (call $payload (local.get $length)))))
  (local.set $data (global.get $spare))
  (global.set $spare (i32.const 0))
  (local.get $data))

;; Takes a message of a mode and a key, for which there is no memory. Its header stays, a request is refused, and the text
;; of the line is in the area. Returns another code than 0 if the message stays.
(func $drop_message (param $header i32) (param $mode i32) (param $key i64) (result i32)
  (local $text i32) (local $code i32)
  (local.set $text (i32.add (local.get $header) (i32.const 128)))
  (i32.store (local.get $header) (i32.const 48))
  (local.set $code
    (call $receive (local.get $header) (i32.const 0) (i32.const 0) (i64.const 0) (i32.or (local.get $mode) (i32.const 512))
      (local.get $key)))
  (if (local.get $code)
    (then (return (local.get $code))))
  (memory.init $too_large (local.get $text) (i32.const 0) (i32.const 51))
  (drop (call $log (i32.const 2) (local.get $text) (i32.const 51)))
  (if (i32.eq (i32.load offset=4 (local.get $header)) (i32.const 3))
    (then
      (memory.init $refused (local.get $text) (i32.const 0) (i32.const 53))
      (drop
        (call $reply (i32.add (local.get $header) (i32.const 8)) (i64.load offset=24 (local.get $header)) (i32.const -1)
          (local.get $text) (i32.const 53)))))
  (i32.const 0))

;; Replies; if that is larger than may be sent, the request is refused: who asks is not to wait for ever.
(func $answer_request
  (param $node i64) (param $process i64) (param $reference i64) (param $tag i32) (param $data i32) (param $length i32)
  (local $text i32)
  (if (i32.ne
        (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (local.get $tag)
          (local.get $data) (local.get $length))
        (i32.const -9))
    (then (return)))
  (local.set $text (i32.add (call $area) (i32.const 128)))
  (memory.init $long_reply (local.get $text) (i32.const 0) (i32.const 45))
  (drop
    (call $reply (call $pid (local.get $node) (local.get $process)) (local.get $reference) (i32.const -1)
      (local.get $text) (i32.const 45))))

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
      (call $answer_request (local.get $node) (local.get $process) (local.get $reference) (i32.const -1)
        (i32.load offset=4 (local.get $result)) (i32.load offset=8 (local.get $result))))
    (else
      (if (i32.load8_u offset=4 (local.get $result))
        (then
          (call $answer_request (local.get $node) (local.get $process) (local.get $reference) (i32.const 0)
            (i32.load offset=8 (local.get $result)) (i32.load offset=12 (local.get $result)))))))
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
  (local.set $data (call $alloc (local.get $length) (i32.const 1)))
  (if (i32.ne (call $state_get (local.get $data) (local.get $length)) (local.get $length))
    (then (return (i32.const 1))))
  (local.set $result (call $load (local.get $schema) (local.get $data) (local.get $length)))
  (if (i32.load8_u (local.get $result))
    (then
      (drop (call $log (i32.const 1) (i32.load offset=4 (local.get $result)) (i32.load offset=8 (local.get $result))))
      (return (i32.const 1))))
  (call $load_post (local.get $result))
  (i32.const 0))

;; ---- what no interface is for ----

;; Where the text goes that says which function is missing, and the end of the process with it.
(func $missing (export "missing") (result i32)
  (i32.add (call $area) (i32.const 128)))
;; Logged as well: where no process runs yet, `exit` is not served, and the last line is the reason.
(func (export "end") (param $length i32)
  (drop (call $log (i32.const 1) (call $missing) (local.get $length)))
  (call $exit (i32.const 256) (call $missing) (local.get $length)))

;; The drop of a handle: nothing is kept for one.
(func (export "drop") (param $handle i32))
