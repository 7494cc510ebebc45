//! `exuvia run`: a node in the foreground, until it is told to stop.

use std::path::PathBuf;

use exuvia_control::Claim;
use exuvia_node::NodeConfig;
use exuvia_node::manifest::Manifest;

use crate::fault::Fault;
use crate::foreground::{Foreground, raise_file_limit, start_tracing};
use crate::output::Output;
use crate::place::Place;

/// Run an app in the foreground
///
/// The module files are watched: what changes is swapped in at once, and a
/// module that is refused leaves the old code running. Ctrl-C stops the
/// processes in reverse order of their start; a second one ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia run .
  exuvia run examples/counter/exuvia.toml --no-watch
  exuvia run . --metrics 127.0.0.1:9464
  EXUVIA_LOG=debug exuvia run . 2>node.log")]
pub(crate) struct Arguments {
    /// The app: a folder or its exuvia.toml
    app: PathBuf,
    /// Do not watch the module files
    #[arg(long)]
    no_watch: bool,
    /// Serve the node's numbers for Prometheus at this address too, as in 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    metrics: Option<std::net::SocketAddr>,
    /// Print the backtrace of each process that traps
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) async fn run(arguments: Arguments, place: &Place, output: &Output) -> Result<(), Fault> {
    start_tracing(output)?;
    raise_file_limit();
    let manifest = Manifest::load(&arguments.app)?;
    manifest.check_files()?;
    let mut claim = Some(Claim::new(place.of_app(&arguments.app))?);
    let mut foreground = Foreground::new(output, arguments.verbose)?;
    if let Some(address) = arguments.metrics {
        foreground.serve_metrics(address)?;
    }
    tracing::info!("booting {}", manifest.name);
    let config = NodeConfig::of(&manifest);
    let booted = foreground.boot(manifest, config, &mut claim).await??;
    let watcher = match arguments.no_watch {
        true => None,
        false => Some(booted.app.watch().map_err(|error| {
            Fault::failed(format!("the module files cannot be watched: {error}"))
                .help("run it with --no-watch, or raise fs.inotify.max_user_watches")
        })?),
    };
    let Some(claim) = claim else { return Ok(()) };
    let watching = if watcher.is_some() {
        "the module files"
    } else {
        ""
    };
    foreground.serve(booted, watcher, watching, claim).await?
}
