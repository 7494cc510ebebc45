//! `exuvia`: runs an app, and talks to a running one.
//!
//! Each subcommand has a file under `command`. `run` and `dev` start a node, and so does
//! `test-node` for tests; `new`, `build`, `check`, `doctor`, `docs`, `schema` and `completions` need
//! none; all others are clients of a node's control socket. Subcommands print through `output`
//! and fail with the errors of `error`, which also defines the exit codes. `docs/cli.md` is the
//! reference.

#![forbid(unsafe_code)]

mod command;
mod error;
mod foreground;
mod gate;
mod hosts;
mod output;
mod page;
mod place;
mod sentences;
mod spool;
mod table;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Processes start and terminate all the time, on all threads: spawning from outside is a
/// quarter faster with this allocator than with the system's (`host/notes/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run Erlang-style processes of Wasm modules, and upgrade their code while they run
#[derive(Debug, Parser)]
#[command(name = "exuvia", version, arg_required_else_help = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The node's control socket [default: $EXUVIA_SOCKET, else .exuvia/node.sock beside
    /// exuvia.toml]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A node on another machine, by the name that `exuvia login` gave it
    #[arg(long, global = true, value_name = "HOST", conflicts_with = "socket")]
    to: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

impl Command {
    /// Whether it is for a node that runs, here or on another machine.
    fn asks_a_node(&self) -> bool {
        !matches!(
            self,
            Command::New(_)
                | Command::Build(_)
                | Command::Dev(_)
                | Command::Run(_)
                | Command::Check(_)
                | Command::Doctor(_)
                | Command::Docs(_)
                | Command::Schema(_)
                | Command::Api(_)
                | Command::Completions(_)
                | Command::TestNode(_)
                | Command::Login(_)
                | Command::Logout(_)
                | Command::Hosts(_)
        )
    }
}

const HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node reachable

Examples:
  exuvia new hello && cd hello && exuvia dev
  exuvia run examples/counter
  exuvia ps
  exuvia call counter add by=3
  exuvia send counter-0 '{\"seq\": 1}' --call
  exuvia deploy target/wasm32-unknown-unknown/release/counter.wasm";

#[derive(Debug, Subcommand)]
enum Command {
    New(command::new::Arguments),
    Build(command::build::Arguments),
    Dev(command::dev::Arguments),
    Run(command::run::Arguments),
    Deploy(command::deploy::Arguments),
    Rollback(command::rollback::Arguments),
    Releases(command::releases::Arguments),
    Diff(command::diff::Arguments),
    Login(command::login::Arguments),
    Logout(command::login::Logout),
    Hosts(command::login::List),
    Token(command::token::Arguments),
    Pin(command::pin::Pin),
    Unpin(command::pin::Unpin),
    Ps(command::ps::Arguments),
    Inspect(command::inspect::Arguments),
    Send(command::send::Arguments),
    Call(command::call::Arguments),
    Describe(command::describe::Arguments),
    Tree(command::tree::Arguments),
    Kill(command::kill::Kill),
    Restart(command::kill::Restart),
    Trace(command::trace::Arguments),
    Suspend(command::suspend::Suspend),
    Resume(command::suspend::Resume),
    Top(command::top::Arguments),
    Shell(command::shell::Arguments),
    Info(command::info::Arguments),
    Events(command::events::Arguments),
    Stop(command::stop::Arguments),
    Check(command::check::Arguments),
    Doctor(command::doctor::Arguments),
    Docs(command::docs::Arguments),
    Schema(command::schema::Arguments),
    Api(command::api::Arguments),
    Completions(command::completions::Arguments),
    #[command(hide = true)]
    TestNode(command::test_node::Arguments),
}

/// How long a node that exits waits until its output has been read.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Wrong usage exits here, with exit code 2.
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let _finish = Finish(&output);
    match run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => output.fault(&fault),
    }
}

/// Waits until the output has been read, also on a panic.
struct Finish<'a>(&'a Output);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish(LAST_WORDS);
    }
}

fn run(arguments: Arguments, output: &Output) -> Result<(), CliError> {
    let place = match &arguments.to {
        Some(host) => Place::host(host)?,
        None => Place::new(arguments.socket, environment("EXUVIA_SOCKET")),
    };
    if !arguments.command.asks_a_node() {
        place.check_here()?;
    }
    // One thread suffices: the node has its own, and blocking work runs on tokio's blocking
    // pool.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("could not start the async runtime: {error}")))?;
    let done = runtime.block_on(async {
        match arguments.command {
            Command::New(arguments) => command::new::run(&arguments, output),
            Command::Build(arguments) => command::build::run(arguments, output).await,
            Command::Dev(arguments) => command::dev::run(arguments, &place, output).await,
            Command::Run(arguments) => command::run::run(arguments, &place, output).await,
            Command::Deploy(arguments) => command::deploy::run(arguments, &place, output).await,
            Command::Rollback(arguments) => command::rollback::run(arguments, &place, output).await,
            Command::Releases(_) => command::releases::run(&place, output).await,
            Command::Diff(arguments) => command::diff::run(&arguments, &place, output).await,
            Command::Login(arguments) => command::login::login(arguments, &place, output).await,
            Command::Logout(arguments) => command::login::logout(&arguments, output),
            Command::Hosts(_) => command::login::list(output),
            Command::Token(arguments) => command::token::run(arguments, &place, output).await,
            Command::Pin(arguments) => command::pin::pin(&arguments, &place, output).await,
            Command::Unpin(arguments) => command::pin::unpin(&arguments, &place, output).await,
            Command::Ps(arguments) => command::ps::run(arguments, &place, output).await,
            Command::Inspect(arguments) => command::inspect::run(arguments, &place, output).await,
            Command::Trace(arguments) => command::trace::run(arguments, &place, output).await,
            Command::Suspend(asked) => command::suspend::suspend(asked, &place, output).await,
            Command::Resume(asked) => command::suspend::resume(asked, &place, output).await,
            Command::Top(arguments) => command::top::run(arguments, &place, output).await,
            Command::Shell(_) => command::shell::run(&place, output).await,
            Command::Send(arguments) => command::send::run(arguments, &place, output).await,
            Command::Call(arguments) => command::call::run(arguments, &place, output).await,
            Command::Describe(arguments) => command::describe::run(arguments, &place, output).await,
            Command::Tree(arguments) => command::tree::run(arguments, &place, output).await,
            Command::Kill(asked) => command::kill::kill(asked, &place, output).await,
            Command::Restart(asked) => command::kill::restart(asked, &place, output).await,
            Command::Info(_) => command::info::run(&place, output).await,
            Command::Events(_) => command::events::run(&place, output).await,
            Command::Stop(arguments) => command::stop::run(arguments, &place, output).await,
            Command::Check(arguments) => command::check::run(&arguments, output),
            Command::Doctor(_) => command::doctor::run(output),
            Command::Docs(arguments) => command::docs::run(&arguments, output),
            Command::Api(_) => command::api::run(output),
            Command::TestNode(_) => command::test_node::run(),
            Command::Schema(_) => command::schema::run(output),
            Command::Completions(arguments) => command::completions::run(&arguments, output),
        }
    });
    // Does not wait: a blocking call must not delay the exit.
    runtime.shutdown_background();
    done
}

/// Returns a variable that is set and not empty.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
