;; The smallest process with a state: it counts the messages it was given,
;; INIT among them, and does nothing else. For tests and measurements of
;; processes that mostly wait.
(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (import "exuvia" "state_put" (func $state_put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $state_get (param i32 i32) (result i32)))

  ;; 0: the header, 48 bytes. 48: the count, i64. 64 on: the payload.
  (memory (export "memory") 1 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (global (export "exuvia_schema") i32 (i32.const 1))
  (@custom "exuvia.layout" "idle: count i64 at 48")

  (func (export "run") (result i32)
    (local $answer i32)
    (loop $next
      (i32.store (i32.const 0) (i32.const 48))
      (local.set $answer
        (call $receive
          (i32.const 0)
          (i32.const 64)
          (i32.const 65472)
          (i64.const 0)
          (i32.const 0)
          (i64.const 0)))
      ;; One page is all it has, so a message above that ends it.
      (if (i32.eq (local.get $answer) (i32.const -3))
        (then (call $exit (i32.const 256) (i32.const 0) (i32.const 0))))
      (if (i32.eqz (local.get $answer))
        (then
          (i64.store (i32.const 48)
            (i64.add (i64.load (i32.const 48)) (i64.const 1)))
          (br $next))))
    (i32.const 0))

  (func (export "save") (result i32)
    (call $state_put (i32.const 48) (i32.const 8)))

  (func (export "load") (param $from_schema i32) (param $length i32) (result i32)
    (i32.ne (call $state_get (i32.const 48) (i32.const 8)) (i32.const 8)))
)
