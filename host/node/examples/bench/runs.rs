//! Runs in processes of their own: of this program, so that memory is measured from a clean start
//! and no run warms the next one up, and of the BEAM.

use std::process::{Command, Stdio};

use crate::figures::{Sample, samples};

/// The parameters of a run of this program.
#[derive(Clone, Copy)]
pub(crate) struct Ours<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: Option<u64>,
    pub(crate) quick: bool,
}

impl Ours<'_> {
    pub(crate) fn run(self) -> Result<Vec<Sample>, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--run", self.name]);
        if let Some(size) = self.size {
            command.args(["--size", &size.to_string()]);
        }
        if self.quick {
            command.arg("--quick");
        }
        measured(&mut command)
    }
}

/// Starts a program and reads its samples. Its standard error is passed through.
pub(crate) fn measured(command: &mut Command) -> Result<Vec<Sample>, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("the run failed ({})\n{text}", output.status));
    }
    Ok(samples(&text))
}
