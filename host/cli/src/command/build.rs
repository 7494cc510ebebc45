//! `exuvia build`: runs the build commands of a manifest.

use std::path::PathBuf;

use exuvia_dev::{Show, Stopper};
use exuvia_manifest::{BuildStep, Manifest};
use serde_json::json;

use crate::error::CliError;
use crate::foreground::{INTERRUPTED, Interrupts, joined};
use crate::output::{Output, Tone, bytes, clean};
use crate::place;

/// Run the build commands of an app
///
/// Runs each command of the manifest once, however many modules name it, in the manifest's
/// folder. The output of the commands goes to stderr. A node that runs the app picks up the new
/// files by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia build
  exuvia build examples/counter
  exuvia build --module counter")]
pub(crate) struct Arguments {
    /// The app: a folder or its exuvia.toml [default: the nearest exuvia.toml, here or above]
    app: Option<PathBuf>,
    /// Run only the command that builds this module
    #[arg(long, value_name = "MODULE")]
    module: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<(), CliError> {
    let manifest = Manifest::load(place::app(arguments.app))?;
    let steps = wanted(&manifest, &arguments.module)?;
    let mut interrupts = Interrupts::new()?;
    let stopper = Stopper::default();
    for step in steps {
        if !output.is_json() {
            let word = output.paint(Tone::Quiet, "building");
            let modules = step.modules.join(", ");
            output.line(&format!("{word} {modules}: {}", clean(&step.command)))?;
        }
        let (folder, stop, this) = (manifest.base_dir.clone(), stopper.clone(), step.clone());
        let mut build = tokio::task::spawn_blocking(move || {
            exuvia_dev::build(&this, &folder, Show::AsItComes, &stop)
        });
        let built = tokio::select! {
            built = &mut build => joined(built)?,
            () = interrupts.next() => {
                stopper.stop();
                std::process::exit(INTERRUPTED);
            }
        };
        let built = built.map_err(|error| {
            let modules = step.modules.join(", ");
            CliError::failed(format!("the build of {modules} failed: {error}"))
                .help("see its output above; `exuvia doctor` checks for missing tools")
        })?;
        for name in &step.modules {
            let Some(module) = manifest.modules.get(name) else {
                continue;
            };
            let path = module.path.display().to_string();
            let not_made = |why: String| {
                CliError::failed(format!(
                    "the build of {name} succeeded but did not create {path}: {why}"
                ))
                .help(match manifest.made_elsewhere(module) {
                    Some(other) => format!(
                        "{} exists, for another target or profile: make `path` and `build` of `[modules.{name}]` agree",
                        other.display()
                    ),
                    None => format!(
                        "see above where the command writes its output, and set `path` of `[modules.{name}]` to it"
                    ),
                })
            };
            let made = std::fs::metadata(&module.path).map_err(|it| not_made(it.to_string()))?;
            if !made.is_file() {
                return Err(not_made("it is not a regular file".into()));
            }
            if output.is_json() {
                output.value(&json!({
                    "module": name,
                    "file": path,
                    "bytes": made.len(),
                    "took_ms": built.took.as_secs_f64() * 1e3,
                }))?;
            } else {
                let word = output.paint(Tone::Good, "built");
                let size = bytes(made.len());
                let took = built.took.as_secs_f64();
                output.line(&format!(
                    "{word} {name}  {}  {size}, {took:.1} s",
                    clean(&path)
                ))?;
            }
        }
    }
    Ok(())
}

/// Returns the commands that build these modules, or all commands if none is named.
fn wanted(manifest: &Manifest, modules: &[String]) -> Result<Vec<BuildStep>, CliError> {
    for name in modules {
        let Some(module) = manifest.modules.get(name) else {
            let names: Vec<&str> = manifest.modules.keys().map(String::as_str).collect();
            return Err(CliError::usage(format!(
                "the app `{}` has no module `{name}`; it has `{}`",
                manifest.name,
                names.join("`, `")
            )));
        };
        if module.build.is_none() {
            return Err(
                CliError::usage(format!("module `{name}` has no `build`")).help(format!(
                    "add `build` to `[modules.{name}]` in the manifest, or build it by hand"
                )),
            );
        }
    }
    let mut steps = manifest.builds();
    steps.retain(|step| {
        modules.is_empty() || modules.iter().any(|name| step.modules.contains(name))
    });
    if steps.is_empty() {
        return Err(CliError::failed(format!(
            "no module of the app `{}` has a `build`",
            manifest.name
        ))
        .help("a `.wat` file needs none; for others add `build` to `[modules.NAME]`"));
    }
    Ok(steps)
}
