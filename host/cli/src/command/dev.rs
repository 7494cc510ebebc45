//! `exuvia dev`: builds an app, runs it, and swaps in changes, until it is stopped. If
//! something keeps the app from starting, it reports that and waits for a change.

use std::path::PathBuf;
use std::sync::Arc;

use exuvia_api::EventLine;
use exuvia_control::Claim;
use exuvia_dev::{BuildError, BuildWatcher, Event, WatchLimits, Watcher};
use exuvia_node::NodeConfig;
use serde_json::json;

use crate::error::CliError;
use crate::foreground::{
    Booted, Foreground, not_watched, raise_file_limit, start_tracing, watching,
};
use crate::output::Output;
use crate::place::{self, Place};

/// Build and run an app, and swap in changes
///
/// Watches sources, module files and the manifest. When a source changes, the build commands
/// that read it run; their output is swapped in, and processes keep their state. When a build
/// fails or a swap is refused, the old code keeps running until the problem is fixed. Ctrl-C
/// stops the processes in order; a second one exits at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia dev
  exuvia dev examples/counter
  exuvia dev --json | jq -r .line")]
pub(crate) struct Arguments {
    /// The app: a folder or its exuvia.toml [default: the nearest exuvia.toml, here or above]
    app: Option<PathBuf>,
    /// Print the backtrace of each process that traps
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    start_tracing(output)?;
    raise_file_limit();
    let app = place::app(arguments.app);
    let mut build_watcher = BuildWatcher::open(&app, output.has_colours())?;
    let mut claim = Some(Claim::new(place.of_app(&app))?);
    let mut foreground = Foreground::new(output, arguments.verbose)?;
    loop {
        let (returned, booted) = start(&mut foreground, build_watcher, &mut claim).await?;
        build_watcher = returned;
        let booted = match booted {
            Ok(booted) => booted,
            Err(fault) => {
                // `None` means that it has been reported.
                if let Some(fault) = fault {
                    output.fault(&fault);
                }
                build_watcher = wait(&mut foreground, build_watcher, &mut claim, output).await?;
                continue;
            }
        };
        let running = Arc::clone(&booted.app);
        let (stopper, develop) = (build_watcher.stopper(), move || {
            Watcher::develop(&running, build_watcher, &WatchLimits::default())
        });
        // Runs beside the interrupt handler: a file system may not respond.
        let watcher = foreground
            .beside(&mut claim, || stopper.stop(), develop)
            .await?
            .map_err(not_watched)?;
        let Some(held) = claim.take() else {
            return Ok(());
        };
        let watching = watching("sources, modules and the manifest", &watcher);
        let ended = foreground
            .serve(booted, Some(watcher), &watching, held)
            .await?;
        let Err(fault) = ended else {
            return Ok(());
        };
        // The supervision tree gave up: the next change may fix it.
        output.fault(&fault);
        claim = Some(Claim::new(place.of_app(&app))?);
        let (app, colours) = (app.clone(), output.has_colours());
        let open = move || BuildWatcher::open(&app, colours);
        build_watcher = foreground.beside(&mut claim, || {}, open).await??;
        build_watcher = wait(&mut foreground, build_watcher, &mut claim, output).await?;
    }
}

type Started = Result<Booted, Option<CliError>>;

/// Builds and boots the app. The inner error says why it is not up; `None` if that has been
/// reported.
async fn start(
    foreground: &mut Foreground<'_>,
    mut build_watcher: BuildWatcher,
    claim: &mut Option<Claim>,
) -> Result<(BuildWatcher, Started), CliError> {
    for step in build_watcher.manifest().builds() {
        foreground.printer().event(Event::Building {
            modules: step.modules.clone(),
            changed: Vec::new(),
        });
        let stopper = build_watcher.stopper();
        let build = move || {
            let built = build_watcher.build(&step);
            (build_watcher, step, built)
        };
        let (returned, step, built) = foreground.beside(claim, || stopper.stop(), build).await?;
        build_watcher = returned;
        if let Err(error) = built {
            foreground.printer().note(not_built(&step.modules, &error));
            return Ok((build_watcher, Err(None)));
        }
    }
    let manifest = build_watcher.manifest().clone();
    let check = move || (manifest.check_files(), manifest);
    let (checked, manifest) = foreground.beside(claim, || {}, check).await?;
    if let Err(error) = checked {
        return Ok((build_watcher, Err(Some(error.into()))));
    }
    tracing::info!("booting {}", manifest.name);
    let config = NodeConfig::of(&manifest).developed(&manifest.base_dir);
    let booted = foreground.boot(manifest, config, claim).await?;
    Ok((build_watcher, booted.map_err(|error| Some(error.into()))))
}

fn not_built(modules: &[String], error: &BuildError) -> EventLine {
    let modules = modules.join(", ");
    EventLine::now(
        format!("build-failed {modules}: {error}"),
        json!({
            "event": "build-failed",
            "modules": modules,
            "reason": error.to_string(),
            "took_ms": error.took.as_secs_f64() * 1e3,
        }),
    )
}

/// Waits for a change that may fix what keeps the app from starting.
async fn wait(
    foreground: &mut Foreground<'_>,
    mut build_watcher: BuildWatcher,
    claim: &mut Option<Claim>,
    output: &Output,
) -> Result<BuildWatcher, CliError> {
    foreground.printer().note(EventLine::now(
        "the app does not run yet; waiting for a change that fixes it",
        json!({ "event": "waiting" }),
    ));
    loop {
        let stopper = build_watcher.stopper();
        let wait = move || {
            let changed = build_watcher.wait();
            (build_watcher, changed)
        };
        let (returned, changed) = foreground.beside(claim, || stopper.stop(), wait).await?;
        build_watcher = returned;
        match changed {
            Ok(_) => return Ok(build_watcher),
            Err(error) => drop(output.fault(&error.into())),
        }
    }
}
