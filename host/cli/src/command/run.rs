//! `exuvia run`: runs a node in the foreground until it is stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use exuvia_api::Role;
use exuvia_control::{Certificate, Claim, Remote};
use exuvia_dev::{WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{InheritError, InheritedSockets, NodeConfig, Retention, StartWith, StoreOptions};

use crate::error::CliError;
use crate::foreground::{Foreground, not_watched, raise_file_limit, start_tracing, watching};
use crate::output::Output;
use crate::place::{self, Place};

/// The release store, below the folder of the app.
const STORE: &str = ".exuvia/releases.redb";

/// Run an app in the foreground
///
/// Watches the module files: a changed file is swapped in at once, and if a module is refused,
/// the old code keeps running. Ctrl-C stops the processes in reverse order of their start; a
/// second one exits at once.
///
/// Starts with the last release, as it was deployed or rolled back to. A module whose file was
/// edited since comes from its file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia run
  exuvia run examples/counter/exuvia.toml --no-watch
  exuvia run --metrics 127.0.0.1:9464
  exuvia run --remote 0.0.0.0:4950
  exuvia run --socket-for call=/run/shop/call.sock
  exuvia run --release              what ran last, whatever the module files are
  exuvia run counter.wasm           one process of that module, without a manifest
  EXUVIA_LOG=debug exuvia run 2>node.log")]
pub(crate) struct Arguments {
    /// The app: a folder or its exuvia.toml, or a module's file [default: the nearest
    /// exuvia.toml, here or above]
    #[arg(value_name = "APP|FILE.wasm")]
    app: Option<PathBuf>,
    /// Do not watch the module files
    #[arg(long)]
    no_watch: bool,
    /// Also serve the node's metrics for Prometheus at this address, as in 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    metrics: Option<std::net::SocketAddr>,
    /// Take the sockets of `[[listen]]` from systemd, or another program that passes them in the same way
    /// (`LISTEN_FDS`): they stay open while the node is started again
    #[arg(long)]
    inherit_sockets: bool,
    /// Start with the last release, or with that of this number, even if module files are newer
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, require_equals = true)]
    release: Option<Option<u64>>,
    /// The file that keeps the releases [default: .exuvia/releases.redb beside exuvia.toml]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Keep no releases: start with the module files, and forget at the end what was deployed
    #[arg(long, conflicts_with_all = ["store", "release"])]
    no_store: bool,
    /// Also open a control socket for other programs, whose clients have this role only: call, read,
    /// operate, deploy or admin. Its mode lets everyone in who reaches its folder
    #[arg(long, value_name = "ROLE=PATH", value_parser = socket_for)]
    socket_for: Vec<(Role, PathBuf)>,
    /// Also serve the control API to other machines at this address, with TLS and tokens
    #[arg(long, value_name = "ADDR")]
    remote: Option<std::net::SocketAddr>,
    /// The certificate for it, in PEM [default: one that is made at the first start]
    #[arg(long, value_name = "FILE", requires = "key", requires = "remote")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Print the backtrace of each process that traps
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    place.check_here()?;
    start_tracing(output)?;
    raise_file_limit();
    let app = place::app(arguments.app);
    let is_module = is_module(&app);
    let manifest = match is_module {
        true => Manifest::of_module(&app)?,
        false => Manifest::load(&app)?,
    };
    if is_module && arguments.store.is_none() && arguments.release.is_some() {
        return Err(
            CliError::usage("a module that is run without a manifest has no releases")
                .help("name a release store with --store FILE"),
        );
    }
    let path = match arguments.store {
        None if arguments.no_store || is_module => None,
        None => Some(manifest.base_dir.join(STORE)),
        given => given,
    };
    let store = path.map(|path| StoreOptions {
        path,
        retention: Retention {
            releases: usize::try_from(manifest.releases.keep).unwrap_or(usize::MAX),
            bytes: manifest.releases.keep_bytes,
        },
        start: match arguments.release {
            None => StartWith::Newer,
            Some(None) => StartWith::Release,
            Some(Some(number)) => StartWith::Number(number),
        },
    });
    // What a release has needs no file.
    if !store.as_ref().is_some_and(|store| store.path.exists()) {
        manifest.check_files()?;
    }
    let mut own = Claim::new(place.of_app(&app))?;
    for (role, path) in arguments.socket_for {
        own = own.with(role, Claim::new(path)?);
    }
    if let Some(address) = arguments.remote {
        let certificate = arguments.cert.zip(arguments.key);
        let certificate = certificate.map(|(chain, key)| Certificate { chain, key });
        let remote = Remote::bind(address, certificate, own.path())?;
        own = own.with_remote(remote);
    }
    let mut claim = Some(own);
    let mut foreground = Foreground::new(output, arguments.verbose)?;
    if let Some(address) = arguments.metrics {
        foreground.serve_metrics(address)?;
    }
    if arguments.inherit_sockets {
        let inherited = InheritedSockets::from_environment();
        foreground.inherit(inherited.map_err(not_inherited)?);
    }
    foreground.keep_releases(store);
    tracing::info!("booting {}", manifest.name);
    let config = NodeConfig::of(&manifest);
    let booted = foreground.boot(manifest, config, &mut claim).await??;
    let watcher = match arguments.no_watch {
        true => None,
        false => {
            let app = Arc::clone(&booted.app);
            let watch = move || Watcher::watch(&app, &WatchLimits::default());
            // Runs beside the interrupt handler: a file system may not respond.
            let watcher = foreground.beside(&mut claim, || {}, watch).await?;
            Some(watcher.map_err(not_watched)?)
        }
    };
    let Some(claim) = claim else { return Ok(()) };
    let watching = watcher.as_ref().map(|it| watching("the module files", it));
    let watching = watching.unwrap_or_default();
    foreground.serve(booted, watcher, &watching, claim).await?
}

/// Parses `ROLE=PATH`.
fn socket_for(text: &str) -> Result<(Role, PathBuf), String> {
    let (role, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or("this is not ROLE=PATH, as in call=/run/shop/call.sock")?;
    Ok((role.parse()?, path.into()))
}

fn not_inherited(error: InheritError) -> CliError {
    let help = match error {
        InheritError::None => {
            "start it by a service of systemd that has a socket unit, or without `--inherit-sockets`"
        }
        InheritError::Malformed | InheritError::Unusable { .. } => {
            "`ListenStream=` and `Accept=no` in the socket unit make what a node can take"
        }
    };
    CliError::failed(error.to_string()).help(help)
}

/// Returns whether the path is named like a module's file.
fn is_module(path: &Path) -> bool {
    let named = |extension: &std::ffi::OsStr| extension == "wasm" || extension == "wat";
    !path.is_dir() && path.extension().is_some_and(named)
}
