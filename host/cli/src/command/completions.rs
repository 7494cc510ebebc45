//! `exuvia completions`: what shells need to complete the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::fault::Fault;
use crate::output::Output;

/// Print the completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia completions bash > ~/.local/share/bash-completion/completions/exuvia
  exuvia completions zsh > ~/.zfunc/_exuvia
  exuvia completions fish > ~/.config/fish/completions/exuvia.fish")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), Fault> {
    let mut script = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "exuvia", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}
