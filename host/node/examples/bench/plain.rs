//! A guest without a node: plain wasmtime, no metering, no scheduler, and just enough of the ABI to
//! pass it requests and take its replies. So the same module runs metered and unmetered.

use std::collections::VecDeque;

use exuvia_node::abi::Kind;
use wasmtime::{Caller, Engine, Extern, Instance, Linker, Module, Store, TypedFunc};

/// The state of the host calls.
#[derive(Default)]
struct Host {
    /// Kind, tag and payload of each message.
    messages: VecDeque<(Kind, u32, Vec<u8>)>,
    reply: Option<Vec<u8>>,
}

pub(crate) struct Plain {
    store: Store<Host>,
    run: TypedFunc<(), i32>,
}

/// The size of a message header, as in the ABI.
const HEADER: usize = 48;
const EMPTY: i32 = -1;

impl Plain {
    /// Starts a process of the module.
    pub(crate) fn start(module: &[u8]) -> Plain {
        let engine = Engine::default();
        let module = Module::new(&engine, module).unwrap();
        let mut store = Store::new(&engine, Host::default());
        let mut linker = Linker::new(&engine);
        linker.func_wrap("exuvia", "receive", receive).unwrap();
        linker.func_wrap("exuvia", "reply", reply).unwrap();
        // Any other call returns 0, OK.
        linker
            .define_unknown_imports_as_default_values(&mut store, &module)
            .unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        for name in ["_initialize", "warm_up"] {
            if let Ok(function) = instance.get_typed_func::<(), ()>(&mut store, name) {
                function.call(&mut store, ()).unwrap();
            }
        }
        let run = entry(&instance, &mut store);
        let mut plain = Plain { store, run };
        plain.deliver(Kind::Init, 0, Vec::new());
        plain
    }

    /// Sends a request, and returns the reply.
    pub(crate) fn call(&mut self, tag: u32, payload: Vec<u8>) -> Vec<u8> {
        self.deliver(Kind::Request, tag, payload);
        self.store.data_mut().reply.take().unwrap()
    }

    fn deliver(&mut self, kind: Kind, tag: u32, payload: Vec<u8>) {
        let messages = &mut self.store.data_mut().messages;
        messages.push_back((kind, tag, payload));
        self.run.call(&mut self.store, ()).unwrap();
    }
}

fn entry(instance: &Instance, store: &mut Store<Host>) -> TypedFunc<(), i32> {
    instance.get_typed_func(store, "run").unwrap()
}

fn receive(
    mut caller: Caller<'_, Host>,
    header: i32,
    buffer: i32,
    capacity: i32,
    _timeout: i64,
    _mode: i32,
    _key: i64,
) -> i32 {
    let Some((kind, tag, payload)) = caller.data_mut().messages.pop_front() else {
        return EMPTY;
    };
    assert!(
        payload.len() <= capacity as usize,
        "the guest's buffer is small"
    );
    let mut bytes = [0; HEADER];
    let fields = [
        (0, HEADER as u32),
        (4, kind as u32),
        (32, tag),
        (36, payload.len() as u32),
    ];
    for (at, field) in fields {
        bytes[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }
    let memory = memory(&mut caller);
    memory.write(&mut caller, header as usize, &bytes).unwrap();
    memory
        .write(&mut caller, buffer as usize, &payload)
        .unwrap();
    0
}

fn reply(
    mut caller: Caller<'_, Host>,
    _to: i32,
    _reference: i64,
    _tag: i32,
    data: i32,
    length: i32,
) -> i32 {
    let mut bytes = vec![0; length as usize];
    let memory = memory(&mut caller);
    memory.read(&caller, data as usize, &mut bytes).unwrap();
    caller.data_mut().reply = Some(bytes);
    0
}

fn memory(caller: &mut Caller<'_, Host>) -> wasmtime::Memory {
    caller
        .get_export("memory")
        .and_then(Extern::into_memory)
        .unwrap()
}
