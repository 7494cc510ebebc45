//! `exuvia deploy`: deploys new code to a running node.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use exuvia_api::{
    Answer, Client, DeployOptions, Info, Loops, MAX_DEPLOY_BYTES, Swap, Upload, code,
};
use exuvia_manifest::Manifest;

use crate::command::check;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone, clean, count};
use crate::place::{self, Place};

/// Replace the code of a running app
///
/// A file replaces one module; an app replaces all of its modules that have changed, in one
/// swap. A refused swap changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia deploy counter.wasm
  exuvia deploy build/counter-v2.wasm --name counter
  exuvia deploy                   every module of the app that this folder is part of
  exuvia deploy counter.wasm --plan
  exuvia deploy counter.wasm --fresh")]
pub(crate) struct Arguments {
    /// A module's file, or an app: a folder or its exuvia.toml [default: the nearest exuvia.toml,
    /// here or above]
    #[arg(value_name = "FILE.wasm|APP")]
    what: Option<PathBuf>,
    /// The module that the file replaces [default: the file's name]
    #[arg(long, value_name = "MODULE")]
    name: Option<String>,
    /// Add a module that is new to the node
    #[arg(long, requires = "name")]
    new: bool,
    #[command(flatten)]
    consent: Consent,
    /// Change nothing: load and verify the modules as for a swap, and print what would happen
    #[arg(long)]
    plan: bool,
    /// For a refused swap, also print why state was not reused
    #[arg(long, short)]
    verbose: bool,
}

/// What a swap may do, and what is said of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Consent {
    /// Accept the loss of state that the new code cannot take over
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Leave processes that never return on their version, exempt from the upgrade
    #[arg(long, conflicts_with = "kill")]
    leave: bool,
    /// Kill processes that never return
    #[arg(long)]
    kill: bool,
    /// What `exuvia releases` says of it
    #[arg(
        long,
        short,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) message: String,
}

impl Consent {
    /// Whether anything is consented to.
    pub(crate) fn is_given(&self) -> bool {
        self.fresh || self.leave || self.kill
    }

    pub(crate) fn loops(&self) -> Loops {
        match (self.leave, self.kill) {
            (true, _) => Loops::Leave,
            (_, true) => Loops::Kill,
            _ => Loops::Refuse,
        }
    }
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let options = DeployOptions {
        fresh: arguments.consent.fresh,
        loops: arguments.consent.loops(),
        plan: arguments.plan,
        message: arguments.consent.message,
    };
    let what = &place::app(arguments.what);
    let is_app = what.is_dir()
        || what
            .extension()
            .is_some_and(|extension| extension == "toml");
    let (client, modules) = if is_app {
        if arguments.name.is_some() {
            return Err(CliError::usage(
                "`--name` can be used only with a file: an app names its modules",
            )
            .help("name the file instead of the app"));
        }
        let manifest = Manifest::load(what)?;
        let client = place.client_of_app(what)?;
        same_app(&manifest.name, &client.info().await?.value.app)?;
        (client, modules_of(&manifest)?)
    } else {
        let bytes = read(what)?;
        let client = place.client()?;
        let info = client.info().await?.value;
        let name = match arguments.name {
            Some(name) if arguments.new || has(&info, &name) => name,
            Some(name) => return Err(no_such_module(&name, &info)),
            None => name_of(what, &info)?,
        };
        let source = what.display().to_string();
        let upload = Upload {
            name,
            source,
            bytes,
        };
        (client, vec![upload])
    };
    match client.deploy(&modules, options).await {
        Ok(swap) if arguments.plan => {
            show(&swap, output)?;
            compare(&client, &modules, &swap.value, output).await
        }
        Ok(swap) => show(&swap, output),
        Err(error) => {
            let also = error.not_reused().filter(|_| arguments.verbose);
            let also = also.map(|why| {
                let help = error.help().unwrap_or_default();
                format!("{help}\n  not reused: {why}")
            });
            let fault = CliError::from(error);
            Err(match also {
                Some(help) => fault.help(help),
                None => fault,
            })
        }
    }
}

/// Prints what modules and the running ones say of state and messages, as far as the node has the running ones.
async fn compare(
    client: &Client,
    modules: &[Upload],
    swap: &Swap,
    output: &Output,
) -> Result<(), CliError> {
    let changed = swap.report["modules"].as_array();
    for changed in changed.into_iter().flatten() {
        let name = changed["name"].as_str();
        let new = modules
            .iter()
            .find(|module| Some(module.name.as_str()) == name);
        let Some(new) = new.filter(|_| !changed["from"].is_null()) else {
            continue;
        };
        match client.module_of(swap.release, &new.name).await {
            Ok(old) => {
                let running = format!("{} of release {}", new.name, swap.release);
                check::compare((&running, &old), (&new.source, &new.bytes), output)?;
            }
            Err(error) if error.code() == code::NO_STORE => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints the report of a swap. Fails if processes that were to be killed have not terminated.
pub(crate) fn show(swap: &Answer<Swap>, output: &Output) -> Result<(), CliError> {
    let unended = swap.value.report["unended"].as_array();
    let unended: Vec<&str> = unended
        .into_iter()
        .flatten()
        .filter_map(|pid| pid.as_str())
        .collect();
    if output.is_json() {
        output.value(&swap.json)?;
        return match unended.is_empty() {
            true => Ok(()),
            false => Err(CliError::Shown(Exit::Failed)),
        };
    }
    show_line(swap, output)?;
    if unended.is_empty() {
        return Ok(());
    }
    let number = count(unended.len() as u64, "process was", "processes were");
    Err(CliError::failed(format!(
        "{number} killed but did not exit in time, so old code still runs: {}",
        unended.join(", ")
    ))
    .help("`exuvia inspect PID` shows what such a process is doing; the swap itself succeeded"))
}

fn show_line(swap: &Answer<Swap>, output: &Output) -> Result<(), CliError> {
    let line = clean(&swap.value.line);
    let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    output.line(&format!("{}{rest}", output.paint(Tone::Good, word)))
}

/// Fails if the node runs another app: the socket is found by its location and may be another
/// app's by mistake.
fn same_app(mine: &str, running: &str) -> Result<(), CliError> {
    if mine == running {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "the node runs the app `{running}`, but this manifest belongs to the app `{mine}`"
    ))
    .help("select the right node with `--socket PATH`, or start this app with `exuvia run`"))
}

fn modules_of(manifest: &Manifest) -> Result<Vec<Upload>, CliError> {
    manifest.check_files()?;
    if manifest.modules.is_empty() {
        return Err(CliError::failed(format!(
            "the app `{}` has no modules",
            manifest.name
        )));
    }
    manifest
        .modules
        .iter()
        .map(|(name, module)| {
            Ok(Upload {
                name: name.clone(),
                source: module.path.display().to_string(),
                bytes: read(&module.path)?,
            })
        })
        .collect()
}

/// Reads the bytes of a module file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let refused = |error: std::io::Error| {
        CliError::failed(format!("could not read {}: {error}", path.display()))
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => refused(error).help("build the module first, or correct the path"),
        _ => refused(error),
    })?;
    // The size in the metadata is not used: a device reports none and never ends.
    let limit = MAX_DEPLOY_BYTES as u64;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(refused)?;
    if bytes.len() > MAX_DEPLOY_BYTES {
        return Err(CliError::failed(format!(
            "{} has more than {limit} bytes, which is the limit",
            path.display()
        ))
        .help("build it without debug information"));
    }
    Ok(bytes)
}

/// Returns the module of the node that a file is named after. Compilers write `_` where a name
/// has `-`. Nothing is guessed beyond that: a wrong guess would replace the wrong code.
fn name_of(path: &Path, info: &Info) -> Result<String, CliError> {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |name: &str| name.replace('-', "_");
    let names = info.modules.iter().map(|module| module.name.as_str());
    if let Some(name) = names.clone().find(|name| *name == stem) {
        return Ok(name.to_owned());
    }
    if let Some(name) = names.clone().find(|name| plain(name) == plain(&stem)) {
        return Ok(name.to_owned());
    }
    Err(CliError::usage(format!(
        "no module of the node has the name of the file {}; {}",
        path.display(),
        it_has(info)
    ))
    .help("name the module that it replaces with `--name MODULE`"))
}

fn has(info: &Info, name: &str) -> bool {
    info.modules.iter().any(|module| module.name == name)
}

/// Creates the error for an unknown module. A misspelt name would otherwise add a module that
/// no process runs, and look like a success.
fn no_such_module(name: &str, info: &Info) -> CliError {
    CliError::new(
        Exit::Usage,
        "no_module",
        format!("the node has no module `{name}`; {}", it_has(info)),
    )
    .help("correct the name, or add a new module with `--new`")
}

/// Lists the modules of the node, for an error message.
pub(crate) fn it_has(info: &Info) -> String {
    let names: Vec<&str> = info
        .modules
        .iter()
        .map(|module| module.name.as_str())
        .collect();
    if names.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has `{}`", names.join("`, `"))
    }
}
