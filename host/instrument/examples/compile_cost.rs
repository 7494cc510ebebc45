//! What it costs to compile a module: seconds of processor time, and the most memory that the
//! process has had. The limits in `weight` were chosen with it.
//!
//! `cargo run -p exuvia-instrument --example compile_cost -- [--single-pass] WHAT...`, where WHAT
//! is a file, or a shape of code and its two sizes, as in `ifs:1000:5000`. Each is compiled in a
//! process of its own, since memory is counted for a whole process. Modules that the pass
//! refuses are compiled as they are.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::fmt::Write as _;
use std::process::Command;

use wasmtime::{Config, Engine, Module, RegallocAlgorithm, Result};

/// Makes the text of a function of two sizes.
type Shape = fn(u32, u32) -> String;

/// Shapes, with their names.
const SHAPES: &[(&str, Shape)] = &[
    ("ifs", ifs),
    ("looped", |locals, blocks| {
        format!(
            "loop {} local.tee 0 br_if 0 end local.get 0 ",
            ifs(locals, blocks)
        )
    }),
    ("through", |locals, blocks| {
        set_all(locals) + &ifs(1, blocks) + &sum(locals) + "i32.add "
    }),
    ("uses", uses),
    ("both", both),
    ("arms", arms),
    ("calls", calls),
    ("switch", switch),
    ("operands", operands),
    ("sums", sums),
    ("short", short),
];

/// `blocks` times: an `if` that sets one of the locals, all of which are used at the end.
fn ifs(locals: u32, blocks: u32) -> String {
    let mut code = String::new();
    for block in 0..blocks {
        let local = block % locals + 1;
        let _ = write!(
            code,
            "local.get 0 i32.const {block} i32.gt_u if i32.const {block} local.set {local} end "
        );
    }
    code + &sum(locals)
}

/// `blocks` times: an `if` that uses one of the locals.
fn uses(locals: u32, blocks: u32) -> String {
    let mut code = set_all(locals);
    for block in 0..blocks {
        let _ = write!(
            code,
            "local.get 0 i32.const {block} i32.gt_u if local.get {} local.get 0 i32.store end ",
            block % locals + 1
        );
    }
    code + &sum(locals)
}

/// `blocks` times: an `if` that sets one local, and an `else` that sets another.
fn both(locals: u32, blocks: u32) -> String {
    let mut code = set_all(locals);
    for block in 0..blocks {
        let _ = write!(
            code,
            "local.get 0 i32.const {block} i32.gt_u if i32.const {block} local.set {} else local.get 0 local.set {} end ",
            block % locals + 1,
            block * 7 % locals + 1
        );
    }
    code + &sum(locals)
}

/// `blocks` times: an `if` that sets one local to what the next one has.
fn arms(locals: u32, blocks: u32) -> String {
    let mut code = set_all(locals);
    for block in 0..blocks {
        let _ = write!(
            code,
            "local.get 0 i32.const {block} i32.gt_u if local.get {} local.set {} end ",
            (block + 1) % locals + 1,
            block % locals + 1
        );
    }
    code + &sum(locals)
}

/// The locals live across many calls.
fn calls(locals: u32, calls: u32) -> String {
    let mut code = set_all(locals);
    for call in 0..calls {
        let _ = write!(
            code,
            "local.get 0 call $g local.get {} i32.add local.set 0 ",
            call % locals + 1
        );
    }
    code + &sum(locals)
}

/// An interpreter: a loop around a `br_table`, each target of which sets one local by others.
fn switch(locals: u32, targets: u32) -> String {
    let mut code = set_all(locals) + "loop $next ";
    for _ in 0..=targets {
        code.push_str("block ");
    }
    code.push_str("local.get 0 call $g br_table ");
    for target in 0..=targets {
        let _ = write!(code, "{target} ");
    }
    code.push_str("end ");
    for target in 0..targets {
        let (a, b) = (target % locals + 1, target * 7 % locals + 1);
        let _ = write!(
            code,
            "local.get {a} local.get {b} i32.add call $g local.set {a} br $next end "
        );
    }
    code + "end " + &sum(locals)
}

/// Many values on the operand stack, over `blocks` blocks.
fn operands(values: u32, blocks: u32) -> String {
    let mut code = String::new();
    for value in 0..values {
        let _ = write!(code, "local.get 0 i32.const {value} i32.mul ");
    }
    for block in 0..blocks {
        let _ = write!(
            code,
            "local.get 0 i32.const {block} i32.gt_u if i32.const {block} local.set 1 end "
        );
    }
    for _ in 1..values {
        code.push_str("i32.xor ");
    }
    code + "local.set 0 " + &sum(1)
}

/// Straight code: each of `count` lines mixes two of the locals into a third.
fn sums(locals: u32, count: u32) -> String {
    let mut code = set_all(locals);
    for line in 0..count {
        let at = |by: u32| line.wrapping_mul(by) % locals + 1;
        let _ = write!(
            code,
            "local.get {} local.get {} i32.mul i32.load offset=8 local.set {} ",
            at(7919),
            at(104_729),
            at(1_299_709)
        );
    }
    code + &sum(locals)
}

/// As compilers write without optimisation: each block has locals of its own.
fn short(locals: u32, blocks: u32) -> String {
    let mut code = String::new();
    let each = (locals / blocks).max(1);
    for block in 0..blocks {
        let _ = write!(code, "local.get 0 i32.const {block} i32.gt_u if ");
        for local in 0..each {
            let local = (block * each + local) % locals + 1;
            let _ = write!(
                code,
                "local.get 0 i32.const {block} i32.add local.set {local} local.get {local} i32.load local.set 0 "
            );
        }
        code.push_str("end ");
    }
    code + "local.get 0 "
}

fn set_all(locals: u32) -> String {
    let mut code = String::new();
    for local in 1..=locals {
        let _ = write!(
            code,
            "local.get 0 i32.const {local} i32.xor local.set {local} "
        );
    }
    code
}

fn sum(locals: u32) -> String {
    let mut code = "local.get 0 ".to_owned();
    for local in 1..=locals {
        let _ = write!(code, "local.get {local} i32.add ");
    }
    code
}

/// Returns the bytes of a file, or of a shape's module.
fn module(what: &str) -> Result<Vec<u8>> {
    let parts: Vec<&str> = what.split(':').collect();
    if let [name, first, second] = parts[..]
        && let Some((_, shape)) = SHAPES.iter().find(|(known, _)| *known == name)
    {
        let (first, second) = (first.parse()?, second.parse()?);
        let locals = "i32 ".repeat(first as usize + 1);
        let text = format!(
            "(module (memory (export \"memory\") 1)
               (func $g (param i32) (result i32) local.get 0 i32.load)
               (func (export \"run\") (param i32) (result i32) (local {locals}) {}))",
            shape(first, second)
        );
        return Ok(wat::parse_str(&text)?);
    }
    Ok(wat::parse_file(what)?)
}

fn compile(what: &str, single_pass: bool) -> Result<()> {
    let wasm = module(what)?;
    let (bytes, said) = match exuvia_instrument::instrument(&wasm) {
        Ok(output) => (output.wasm, format!("compile size {}", output.code_bytes)),
        Err(error) => (wasm, error.to_string()),
    };
    let mut config = Config::new();
    // As in the engine: then all data segments are copied by compiled code.
    config.memory_init_cow(false);
    if single_pass {
        config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    let engine = Engine::new(&config)?;
    let before = seconds()?;
    let compiled = Module::from_binary(&engine, &bytes);
    let seconds = seconds()? - before;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.map_or("?", str::trim);
    let failed = compiled
        .err()
        .map_or_else(String::new, |error| format!(" {error:#}"));
    println!("{what}: {seconds:.2} s, {peak}; {said}{failed}");
    Ok(())
}

/// Returns the processor time of this process so far, in seconds.
fn seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // User and system time, in hundredths of a second.
    let times = fields.split_whitespace().skip(11).take(2);
    Ok(times
        .filter_map(|time| time.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0)
}

fn main() -> Result<()> {
    let mut what: Vec<String> = std::env::args().skip(1).collect();
    let single_pass = what.first().is_some_and(|first| first == "--single-pass");
    if single_pass {
        what.remove(0);
    }
    if let [one] = &what[..] {
        return compile(one, single_pass);
    }
    for one in &what {
        let mut child = Command::new(std::env::current_exe()?);
        if single_pass {
            child.arg("--single-pass");
        }
        child.arg(one).status()?;
    }
    Ok(())
}
