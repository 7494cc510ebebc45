//! What metering costs: the same guest code with and without instrumentation,
//! medians of several runs. Run with `cargo run -p exuvia-instrument --example instrument_cost`.
//!
//! The metered side really yields: its fiber suspends every 4,000 reductions.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use wasmtime::{Caller, Config, Engine, Func, Global, Instance, Module, Ref, Result, Store, Val};

/// Reductions in a slice, as in Erlang.
const SLICE: i32 = 4_000;
/// Runs per figure; the median is printed.
const RUNS: usize = 9;

/// Name, argument, module text. Each module exports `run: i32 -> i32`.
const PROGRAMS: &[(&str, i32, &str)] = &[
    (
        "fib(32)",
        32,
        r#"(module (func $fib (export "run") (param i32) (result i32)
            local.get 0 i32.const 2 i32.lt_s
            if (result i32) local.get 0
            else
                local.get 0 i32.const 1 i32.sub call $fib
                local.get 0 i32.const 2 i32.sub call $fib
                i32.add
            end))"#,
    ),
    (
        "LCG, 20 M rounds",
        20_000_000,
        r#"(module (func (export "run") (param i32) (result i32) (local i32)
            loop
                local.get 1 i32.const 1664525 i32.mul i32.const 1013904223 i32.add local.set 1
                local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
            end
            local.get 1))"#,
    ),
    (
        "sum of 20 M words",
        20_000_000,
        r#"(module (memory 1) (func (export "run") (param i32) (result i32) (local i32)
            loop
                local.get 1
                local.get 0 i32.const 2 i32.shl i32.const 0xfffc i32.and i32.load
                i32.add local.set 1
                local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
            end
            local.get 1))"#,
    ),
    (
        "20 M calls of a leaf",
        20_000_000,
        r#"(module
            (func $leaf (param i32) (result i32)
                local.get 0 i32.const 7 i32.mul i32.const 3 i32.xor)
            (func (export "run") (param i32) (result i32) (local i32)
            loop
                local.get 1 local.get 0 i32.add call $leaf local.set 1
                local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
            end
            local.get 1))"#,
    ),
    (
        "2 M copies of 64 B",
        2_000_000,
        r#"(module (memory 1) (func (export "run") (param i32) (result i32) (local i32)
            i32.const 64 local.set 1
            loop
                i32.const 0 i32.const 4096 local.get 1 memory.copy
                local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
            end
            local.get 1))"#,
    ),
];

/// Is pending once, so that the fiber is really left.
struct Suspend(bool);

impl Future for Suspend {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Instantiates a module; a metered one gets its host functions.
fn instantiate(engine: &Engine, wasm: &[u8]) -> Result<(Store<Option<Global>>, Instance)> {
    let module = Module::new(engine, wasm)?;
    let mut store = Store::new(engine, None);
    let instance = Instance::new(&mut store, &module, &[])?;
    let counter = instance.get_global(&mut store, exuvia_instrument::EXPORT_REDUCTIONS);
    if let Some(counter) = counter {
        counter.set(&mut store, Val::I32(SLICE))?;
        *store.data_mut() = Some(counter);
        let resume = Func::wrap_async(
            &mut store,
            |mut caller: Caller<'_, Option<Global>>, (): ()| {
                Box::new(async move {
                    Suspend(false).await;
                    match *caller.data() {
                        Some(counter) => counter.set(&mut caller, Val::I32(SLICE)),
                        None => Ok(()),
                    }
                })
            },
        );
        if let Some(table) = instance.get_table(&mut store, exuvia_instrument::EXPORT_HOST) {
            let slot = u64::from(exuvia_instrument::SLOT_YIELD);
            table.set(&mut store, slot, Ref::Func(Some(resume)))?;
        }
    }
    Ok((store, instance))
}

/// Milliseconds of one call of `run`.
fn time(guest: &mut (Store<Option<Global>>, Instance), argument: i32) -> Result<f64> {
    let run = guest.1.get_typed_func::<i32, i32>(&mut guest.0, "run")?;
    let start = Instant::now();
    block_on(run.call_async(&mut guest.0, argument))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<()> {
    println!("| program | plain | metered | ratio | metered with branch hints | ratio |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let plain = Engine::default();
    let hinted = Engine::new(Config::new().wasm_branch_hinting(true))?;
    for (name, argument, text) in PROGRAMS {
        let wasm = wat::parse_str(text).map_err(wasmtime::Error::from)?;
        let metered = exuvia_instrument::instrument(&wasm).map_err(wasmtime::Error::from)?;
        let mut guests = [
            instantiate(&plain, &wasm)?,
            instantiate(&plain, &metered.wasm)?,
            instantiate(&hinted, &metered.wasm)?,
        ];
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        // One after another, so that a change of the machine's speed meets all three.
        for _ in 0..RUNS {
            for (guest, times) in guests.iter_mut().zip(&mut times) {
                times.push(time(guest, *argument)?);
            }
        }
        let [a, b, c] = times.map(median);
        println!(
            "| {name} | {a:.2} ms | {b:.2} ms | {:.2} | {c:.2} ms | {:.2} |",
            b / a,
            c / a
        );
    }
    Ok(())
}
