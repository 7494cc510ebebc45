;; What the guest of the compute benchmarks computes; `work.rs` has the same in Rust, to
;; check the results.

;; Calls: fib(n), recursive as in its definition.
(func $fib (param i32) (result i32)
  (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
    (then (local.get 0))
    (else
      (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))

;; A short loop: `steps` steps of a linear congruential generator.
(func $lcg (param $steps i32) (result i64)
  (local $x i64)
  (local.set $x (i64.const 42))
  (loop $step
    (local.set $x
      (i64.add
        (i64.mul (local.get $x) (i64.const 6364136223846793005))
        (i64.const 1442695040888963407)))
    (br_if $step (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))
  (local.get $x))

;; Floating point: the sum of the steps that each of size * size points takes to
;; leave the Mandelbrot set, `most` at most.
(func $mandelbrot (param $size i32) (param $most i32) (result i64)
  (local $x i32) (local $y i32) (local $i i32) (local $sum i64)
  (local $cr f64) (local $ci f64) (local $zr f64) (local $zi f64) (local $zr2 f64) (local $zi2 f64)
  (loop $rows
    (local.set $ci
      (f64.sub
        (f64.div (f64.mul (f64.const 2) (f64.convert_i32_s (local.get $y))) (f64.convert_i32_s (local.get $size)))
        (f64.const 1)))
    (local.set $x (i32.const 0))
    (loop $columns
      (local.set $cr
        (f64.sub
          (f64.div (f64.mul (f64.const 3) (f64.convert_i32_s (local.get $x))) (f64.convert_i32_s (local.get $size)))
          (f64.const 2)))
      (local.set $zr (f64.const 0))
      (local.set $zi (f64.const 0))
      (local.set $i (i32.const 0))
      (block $out
        (loop $steps
          (local.set $zr2 (f64.mul (local.get $zr) (local.get $zr)))
          (local.set $zi2 (f64.mul (local.get $zi) (local.get $zi)))
          (br_if $out (f64.gt (f64.add (local.get $zr2) (local.get $zi2)) (f64.const 4)))
          (local.set $zi
            (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $zr)) (local.get $zi)) (local.get $ci)))
          (local.set $zr (f64.add (f64.sub (local.get $zr2) (local.get $zi2)) (local.get $cr)))
          (br_if $steps
            (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $most)))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s (local.get $i))))
      (br_if $columns
        (i32.lt_s (local.tee $x (i32.add (local.get $x) (i32.const 1))) (local.get $size))))
    (br_if $rows
      (i32.lt_s (local.tee $y (i32.add (local.get $y) (i32.const 1))) (local.get $size))))
  (local.get $sum))
