//! `exuvia deploy`: new code for a running node.

use std::path::{Path, PathBuf};

use exuvia_control::{Answer, Client, DeployOptions, Loops, MAX_DEPLOY_BYTES, Swap, Upload};
use exuvia_node::manifest::Manifest;

use crate::fault::Fault;
use crate::output::{Output, Tone, clean};
use crate::place::Place;

/// Replace the code of a running app
///
/// A file replaces one module; an app replaces all its modules that have changed,
/// in one swap. A swap that is refused changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia deploy counter.wasm
  exuvia deploy build/counter-v2.wasm --name counter
  exuvia deploy .                 every module of the app in this folder
  exuvia deploy counter.wasm --fresh")]
pub(crate) struct Arguments {
    /// A module's file, or an app: a folder or its exuvia.toml
    #[arg(value_name = "FILE.wasm|APP")]
    what: PathBuf,
    /// The module that the file replaces [default: the file's name]
    #[arg(long, value_name = "MODULE")]
    name: Option<String>,
    /// Accept that state which cannot cross is lost
    #[arg(long)]
    fresh: bool,
    /// Leave processes that never return on their version
    #[arg(long, conflicts_with = "kill")]
    leave: bool,
    /// Kill processes that never return
    #[arg(long)]
    kill: bool,
}

pub(crate) async fn run(arguments: Arguments, place: &Place, output: &Output) -> Result<(), Fault> {
    let options = DeployOptions {
        fresh: arguments.fresh,
        loops: match (arguments.leave, arguments.kill) {
            (true, _) => Loops::Leave,
            (_, true) => Loops::Kill,
            _ => Loops::Refuse,
        },
    };
    let what = &arguments.what;
    let is_app = what.is_dir()
        || what
            .extension()
            .is_some_and(|extension| extension == "toml");
    let (client, modules) = if is_app {
        if arguments.name.is_some() {
            return Err(
                Fault::usage("`--name` is for a file; an app names its modules")
                    .help("name the file instead of the app"),
            );
        }
        (place.client_of_app(what)?, modules_of(what)?)
    } else {
        let bytes = read(what)?;
        let client = place.client()?;
        let name = match arguments.name {
            Some(name) => name,
            None => name_of(what, &client).await?,
        };
        let source = what.display().to_string();
        let upload = Upload {
            name,
            source,
            bytes,
        };
        (client, vec![upload])
    };
    let swap = client.deploy(&modules, options).await?;
    show(&swap, output)
}

/// A swap that was made.
pub(crate) fn show(swap: &Answer<Swap>, output: &Output) -> Result<(), Fault> {
    if output.is_json() {
        return output.value(&swap.json);
    }
    let line = clean(&swap.value.line);
    let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    output.line(&format!("{}{rest}", output.paint(Tone::Good, word)))
}

fn modules_of(app: &Path) -> Result<Vec<Upload>, Fault> {
    let manifest = Manifest::load(app)?;
    manifest.check_files()?;
    if manifest.modules.is_empty() {
        return Err(Fault::failed(format!(
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

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let refused = |error: std::io::Error| {
        Fault::failed(format!("could not read {}: {error}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(refused)?.len();
    if usize::try_from(size).is_ok_and(|size| size > MAX_DEPLOY_BYTES) {
        return Err(Fault::failed(format!(
            "{} has {size} bytes, the limit is {MAX_DEPLOY_BYTES}",
            path.display()
        ))
        .help("build it without debug information"));
    }
    std::fs::read(path).map_err(refused)
}

/// The module of the node that a file is named after. Compilers write `_` where a
/// name has `-`. Nothing is guessed beyond that: a wrong guess would replace the
/// wrong code.
async fn name_of(path: &Path, client: &Client) -> Result<String, Fault> {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |name: &str| name.replace('-', "_");
    let info = client.info().await?.value;
    let mut names = info.modules.iter().map(|module| module.name.as_str());
    if let Some(name) = names.clone().find(|name| *name == stem) {
        return Ok(name.to_owned());
    }
    if let Some(name) = names.clone().find(|name| plain(name) == plain(&stem)) {
        return Ok(name.to_owned());
    }
    let list = names.by_ref().collect::<Vec<_>>().join("`, `");
    Err(Fault::usage(format!(
        "{} is named after no module of the node; it has `{list}`",
        path.display()
    ))
    .help("say which one it replaces: `--name MODULE`"))
}
