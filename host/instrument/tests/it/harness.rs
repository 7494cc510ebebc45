//! Runs a module as it is, and rewritten under a host that yields for real.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use exuvia_instrument::Instrumented;
use wasmtime::{
    Caller, Config, Engine, Func, Global, Instance, Linker, Memory, Module, Ref, Store, Trap, Val,
};

/// What the test's host knows and counts.
#[derive(Default)]
pub(crate) struct Host {
    counter: Option<Global>,
    /// What the counter is set to at each yield.
    slice: i32,
    pub(crate) yields: u32,
    pub(crate) waits: u32,
    /// What the blocking imports answer, one after another.
    pub(crate) answers: VecDeque<i32>,
    /// The arguments that they, and `env.log`, were called with.
    pub(crate) calls: Vec<Vec<i64>>,
}

/// Is pending once.
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

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Values(Vec<String>),
    Trap(Trap),
    /// Still not done after so many polls.
    Unfinished,
}

pub(crate) struct Guest {
    pub(crate) store: Store<Host>,
    pub(crate) instance: Instance,
    /// The error of the last call, if it trapped.
    pub(crate) error: Option<wasmtime::Error>,
}

pub(crate) fn engine() -> Engine {
    Engine::new(Config::new().wasm_branch_hinting(true)).unwrap()
}

fn linker(engine: &Engine) -> Linker<Host> {
    let mut linker: Linker<Host> = Linker::new(engine);
    linker
        .func_wrap(
            "exuvia",
            "receive",
            |mut caller: Caller<'_, Host>, a: i32, b: i32, c: i32, d: i64, e: i32, f: i64| {
                let arguments = vec![a.into(), b.into(), c.into(), d, e.into(), f];
                caller.data_mut().calls.push(arguments);
                caller.data_mut().answers.pop_front().unwrap_or(-1)
            },
        )
        .unwrap();
    linker
        .func_wrap(
            "exuvia",
            "sleep",
            |mut caller: Caller<'_, Host>, time: i64| {
                caller.data_mut().calls.push(vec![time]);
                caller.data_mut().answers.pop_front().unwrap_or(-1)
            },
        )
        .unwrap();
    linker
        .func_wrap("env", "log", |mut caller: Caller<'_, Host>, value: i32| {
            caller.data_mut().calls.push(vec![value.into()]);
        })
        .unwrap();
    linker
}

impl Guest {
    /// The module as it is; its start function runs.
    pub(crate) fn plain(wasm: &[u8]) -> Self {
        let engine = engine();
        let module = Module::new(&engine, wasm).unwrap();
        let mut store = Store::new(&engine, Host::default());
        let instance = linker(&engine).instantiate(&mut store, &module).unwrap();
        Self {
            store,
            instance,
            error: None,
        }
    }

    /// The rewritten module; its start function has not run.
    pub(crate) fn metered(output: &Instrumented, slice: i32) -> Self {
        let engine = engine();
        let module = Module::new(&engine, &output.wasm).unwrap();
        let mut store = Store::new(
            &engine,
            Host {
                slice,
                ..Host::default()
            },
        );
        let instance = linker(&engine).instantiate(&mut store, &module).unwrap();
        for (at, bytes) in &output.contents {
            let memory = instance
                .exports(&mut store)
                .find_map(|export| export.into_memory());
            let memory = memory.expect("the programs with data export their memory");
            memory.write(&mut store, *at as usize, bytes).unwrap();
        }
        let counter = instance
            .get_global(&mut store, exuvia_instrument::EXPORT_REDUCTIONS)
            .unwrap();
        counter.set(&mut store, Val::I32(slice)).unwrap();
        store.data_mut().counter = Some(counter);
        let yielding = Func::wrap_async(&mut store, |mut caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                Suspend(false).await;
                let host = caller.data_mut();
                host.yields += 1;
                let (counter, slice) = (host.counter.unwrap(), host.slice);
                counter.set(&mut caller, Val::I32(slice)).unwrap();
            })
        });
        let waiting = Func::wrap_async(&mut store, |mut caller: Caller<'_, Host>, (): ()| {
            Box::new(async move {
                Suspend(false).await;
                caller.data_mut().waits += 1;
            })
        });
        let table = instance
            .get_table(&mut store, exuvia_instrument::EXPORT_HOST)
            .unwrap();
        let slots = [
            (exuvia_instrument::SLOT_YIELD, yielding),
            (exuvia_instrument::SLOT_WAIT, waiting),
        ];
        for (slot, function) in slots {
            table
                .set(&mut store, slot.into(), Ref::Func(Some(function)))
                .unwrap();
        }
        Self {
            store,
            instance,
            error: None,
        }
    }

    /// Calls an export and polls it to its end, at most `polls` times.
    pub(crate) fn call_for(&mut self, name: &str, arguments: &[Val], polls: u32) -> End {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let mut ended = None;
        {
            let mut call = pin!(function.call_async(&mut self.store, arguments, &mut results));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if let Poll::Ready(end) = call.as_mut().poll(&mut context) {
                    ended = Some(end);
                    break;
                }
            }
        }
        match ended {
            None => End::Unfinished,
            Some(Ok(())) => End::Values(results.iter().map(|v| format!("{v:?}")).collect()),
            Some(Err(error)) => {
                let trap = *error.downcast_ref::<Trap>().expect("a trap");
                self.error = Some(error);
                End::Trap(trap)
            }
        }
    }

    pub(crate) fn call(&mut self, name: &str, arguments: &[Val]) -> End {
        self.call_for(name, arguments, 10_000_000)
    }

    pub(crate) fn memory(&mut self) -> Memory {
        self.instance.get_memory(&mut self.store, "memory").unwrap()
    }

    /// The whole memory.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        let memory = self.memory();
        memory.data(&self.store)
    }
}

/// Rewrites a module given as text and checks what must hold for every output.
pub(crate) fn rewrite(text: &str) -> (Vec<u8>, Instrumented) {
    let wasm = wat::parse_str(text).unwrap();
    let output = exuvia_instrument::instrument(&wasm).unwrap_or_else(|error| panic!("{error}"));
    check_output(&wasm, &output);
    (wasm, output)
}

/// Offsets of all operators in the defined functions, body by body.
fn operators(wasm: &[u8]) -> Vec<Vec<(usize, String)>> {
    let mut all = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
            let reader = body.get_operators_reader().unwrap();
            let operators = reader.into_iter_with_offsets().map(|operator| {
                let (operator, offset) = operator.unwrap();
                (offset, format!("{operator:?}"))
            });
            all.push(operators.collect());
        }
    }
    all
}

/// The output validates; each operator of the input has its place in it, and the
/// offset map leads back from there.
pub(crate) fn check_output(wasm: &[u8], output: &Instrumented) {
    wasmparser::Validator::new()
        .validate_all(&output.wasm)
        .expect("the output validates");
    let (before, after) = (operators(wasm), operators(&output.wasm));
    assert!(after.len() > before.len());
    for (before, after) in before.iter().zip(&after) {
        let mut left = before.iter().peekable();
        for (at, operator) in after {
            let original = output.offsets.original(*at as u32).expect("mapped") as usize;
            assert!(before.iter().any(|(offset, _)| *offset == original));
            // The last output operator that answers with an offset is the copy, or a replacement.
            if let Some((offset, text)) = left.peek()
                && *offset == original
                && (text == operator || is_replacement(text, operator))
            {
                left.next();
            }
        }
        assert_eq!(left.next(), None, "an operator of the input is missing");
    }
    for body in &after[before.len()..] {
        for (at, _) in body {
            assert_eq!(output.offsets.original(*at as u32), None);
        }
    }
}

fn is_replacement(before: &str, after: &str) -> bool {
    let kind = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let same = ["Call", "ReturnCall", "RefFunc"].contains(&kind(before).as_str());
    (same && kind(before) == kind(after))
        || ["MemoryFill", "MemoryCopy", "MemoryGrow"].contains(&kind(before).as_str())
            && after.starts_with("Call ")
}
