//! `exuvia completions`: prints completion scripts for shells.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::error::CliError;
use crate::output::Output;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia completions bash > ~/.local/share/bash-completion/completions/exuvia
  exuvia completions zsh > ~/.zfunc/_exuvia
  exuvia completions fish > ~/.config/fish/completions/exuvia.fish")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), CliError> {
    let mut script = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "exuvia", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())
}
