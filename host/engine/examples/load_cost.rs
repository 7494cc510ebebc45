//! What it takes to load a module: the seconds, and the most memory that the
//! process has had. The limits in `instrument` were chosen with it. Run with
//! `cargo run -p exuvia-engine --example load_cost -- FILE`, once for each file, since
//! memory is counted for the whole process.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::Instant;

use exuvia_engine::{Engine, EngineConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in std::env::args().skip(1) {
        let module = std::fs::read(&file)?;
        let engine = Engine::new(&EngineConfig::default())?;
        let start = Instant::now();
        let loaded = engine.load(&module);
        let seconds = start.elapsed().as_secs_f64();
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find(|line| line.starts_with("VmHWM"));
        let said = loaded.map_or_else(|error| error.to_string(), |_| "loaded".into());
        println!("{file}: {seconds:.2} s, {} {said}", peak.unwrap_or("?"));
    }
    Ok(())
}
