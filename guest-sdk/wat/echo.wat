;; Sends every payload back: a MESSAGE to its sender, a REQUEST as its reply,
;; both with the tag they came with. It keeps nothing, and it never calls
;; init_ack: its first REST acknowledges the start.
(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (import "exuvia" "state_put" (func $state_put (param i32 i32) (result i32)))

  ;; 0: the header, 48 bytes. 64 on: the payload.
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (@custom "exuvia.layout" "echo: no state")

  (func (export "run") (result i32)
    (local $answer i32)
    (loop $next
      (i32.store (i32.const 0) (i32.const 48))
      (local.set $answer
        (call $receive
          (i32.const 0)
          (i32.const 64)
          (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 64))
          (i64.const 0)
          (i32.const 0)
          (i64.const 0)))
      (if (i32.eq (local.get $answer) (i32.const -3))
        (then
          (call $make_room)
          (br $next)))
      (if (i32.eqz (local.get $answer))
        (then
          (call $handle)
          (br $next))))
    (i32.const 0))

  ;; Grows the memory for a message that answered TOO_BIG; its length is at 36.
  (func $make_room
    (if (i32.eq
          (memory.grow
            (i32.add (i32.shr_u (i32.load (i32.const 36)) (i32.const 16)) (i32.const 1)))
          (i32.const -1))
      (then (call $exit (i32.const 256) (i32.const 0) (i32.const 0)))))

  ;; The sender is at 8, the reference at 24, the tag at 32, the length at 36.
  (func $handle
    (if (i32.eq (i32.load (i32.const 4)) (i32.const 2))
      (then
        (drop
          (call $send
            (i32.const 8)
            (i32.load (i32.const 32))
            (i32.const 64)
            (i32.load (i32.const 36))))))
    (if (i32.eq (i32.load (i32.const 4)) (i32.const 3))
      (then
        (drop
          (call $reply
            (i32.const 8)
            (i64.load (i32.const 24))
            (i32.load (i32.const 32))
            (i32.const 64)
            (i32.load (i32.const 36)))))))

  (func (export "save") (result i32)
    (call $state_put (i32.const 0) (i32.const 0)))

  (func (export "load") (param $from_schema i32) (param $length i32) (result i32)
    (local.get $length))
)
