;; A counter, written by hand against ABI version 1. guest-sdk/abi.md explains
;; each part of this text; a test keeps the two equal.
;;
;; MESSAGE with 8 bytes: adds them. REQUEST: answers the count, 8 bytes.
(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "init_ack" (func $init_ack (param i32 i32 i32) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
  (import "exuvia" "state_put" (func $state_put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $state_get (param i32 i32) (result i32)))

  ;; 16: the count, i64. 64: the header, 48 bytes. 128: texts. 512 on: payloads.
  (memory (export "memory") 1 16)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (global (export "exuvia_schema") i32 (i32.const 1))
  (@custom "exuvia.layout" "counter: count i64 at 16")
  (data (i32.const 128) "counter: arguments must be 0 or 8 bytes")
  (data (i32.const 192) "counter: no room for a message")
  (data (i32.const 256) "counter: can load only 8 bytes of schema 1")

  (func (export "run") (result i32)
    (local $answer i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (local.set $answer
        (call $receive
          (i32.const 64)
          (i32.const 512)
          (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 512))
          (i64.const 0)
          (i32.const 0)
          (i64.const 0)))
      (if (i32.eq (local.get $answer) (i32.const -3))
        (then
          (call $make_room)
          (br $next)))
      (if (local.get $answer)
        (then (return (i32.const 0))))
      (br_if $next (call $handle)))
    (i32.const 2))

  ;; Grows the memory for a message that answered TOO_BIG; its length is at 100.
  (func $make_room
    (if (i32.eq
          (memory.grow
            (i32.add (i32.shr_u (i32.load (i32.const 100)) (i32.const 16)) (i32.const 1)))
          (i32.const -1))
      (then (call $exit (i32.const 256) (i32.const 192) (i32.const 30)))))

  ;; Handles the message whose header is at 64; answers 0 when the process is done.
  (func $handle (result i32)
    (block $other
      (block $request
        (block $message
          (block $init
            (br_table $other $init $message $request $other
              (i32.load (i32.const 68))))

          ;; INIT: 8 bytes say where to start, none mean 0.
          (if (i32.eq (i32.load (i32.const 100)) (i32.const 8))
            (then (i64.store (i32.const 16) (i64.load (i32.const 512))))
            (else
              (if (i32.load (i32.const 100))
                (then
                  (drop (call $init_ack (i32.const 256) (i32.const 128) (i32.const 39)))
                  (return (i32.const 0))))))
          (drop (call $init_ack (i32.const 0) (i32.const 0) (i32.const 0)))
          (br $other))

        ;; MESSAGE: a payload of another length is not ours.
        (if (i32.eq (i32.load (i32.const 100)) (i32.const 8))
          (then
            (i64.store (i32.const 16)
              (i64.add (i64.load (i32.const 16)) (i64.load (i32.const 512))))))
        (br $other))

      ;; REQUEST: answer its sender, with its reference and tag.
      (drop
        (call $reply
          (i32.const 72)
          (i64.load (i32.const 88))
          (i32.load (i32.const 96))
          (i32.const 16)
          (i32.const 8))))
    (i32.const 1))

  (func (export "save") (result i32)
    (call $state_put (i32.const 16) (i32.const 8)))

  (func (export "load") (param $from_schema i32) (param $length i32) (result i32)
    (if (i32.or
          (i32.ne (local.get $from_schema) (i32.const 1))
          (i32.ne (local.get $length) (i32.const 8)))
      (then
        (drop (call $log (i32.const 1) (i32.const 256) (i32.const 42)))
        (return (i32.const 1))))
    (i32.ne (call $state_get (i32.const 16) (i32.const 8)) (i32.const 8)))
)
