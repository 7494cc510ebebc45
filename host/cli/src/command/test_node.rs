//! `exuvia test-node`: a node with a manual clock, for tests of guests. Not meant for direct
//! use: the SDK's `exuvia::test` starts it and sends requests with the numbers of
//! `exuvia_abi::test_node`.
//!
//! One process of the node belongs to the test, and host calls are made on its behalf. A call
//! that waits advances the clock until the event that it waits for, or until its timeout.

use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_dev::{Show, Stopper};
use exuvia_manifest::Manifest;
use exuvia_node::abi::HOST_CALLS;
use exuvia_node::abi::test_node::{self as ask, FAILED};
use exuvia_node::process::Clock;
use exuvia_node::{
    App, BootOptions, DeployOptions, Event, Events, ModuleBytes, Node, NodeConfig, Probe,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use self::wire::{Request, Response};
use crate::error::CliError;
use crate::sentences;

mod calls;
mod wire;

/// How long processes may stay busy before the test fails, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the supervision tree may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Run a node for a test
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run() -> Result<(), CliError> {
    let broken = |error: io::Error| CliError::failed(format!("the test has exited: {error}"));
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut server = None;
    while let Some(request) = wire::read(&mut input).map_err(broken)? {
        let response = match respond(&mut server, &request) {
            Ok(response) => response,
            Err(why) => Response::new(FAILED).bytes(why.as_bytes()),
        };
        let written = wire::write(&mut output, &response);
        written.map_err(broken)?;
    }
    // Stop in order, so that processes that trap exits receive the exit.
    if let Some(Server { app: Some(app), .. }) = server {
        app.stop(STOP);
    }
    Ok(())
}

/// The node under test.
struct Server {
    node: Node,
    app: Option<App>,
    probe: Probe,
    events: Receiver<Event>,
}

fn respond(server: &mut Option<Server>, request: &[u8]) -> Result<Response, String> {
    let (number, rest) = request.split_first().ok_or("an empty request")?;
    let mut request = Request(rest);
    if matches!(*number, ask::START | ask::EMPTY) {
        if server.is_some() {
            return Err("the node is already running".into());
        }
        let started = match *number {
            ask::START => Server::of(Path::new(&request.text()?))?,
            _ => Server::empty()?,
        };
        let pid = started.probe.pid();
        *server = Some(started);
        return Ok(Response::new(0).pid(pid));
    }
    let server = server.as_mut().ok_or("there is no node yet")?;
    match *number {
        ask::LOAD => {
            let (name, path) = (request.text()?, PathBuf::from(request.text()?));
            server.load(name, &path)
        }
        ask::ROLLBACK => match server.node.rollback() {
            Ok(report) => Ok(Response::new(0).bytes(sentences::swap(&report).as_bytes())),
            Err(error) => Err(error.to_string()),
        },
        ask::ADVANCE => {
            let time = u64::try_from(request.number()?).map_err(|error| error.to_string())?;
            server.advance(Duration::from_millis(time))?;
            Ok(Response::new(0))
        }
        ask::STATE => {
            let pid = request.pid()?;
            server.settle()?;
            let (inspection, state) =
                (server.node.inspect(pid)).map_err(|error| error.to_string())?;
            match (state, inspection.no_state) {
                (Some(state), _) => Ok(Response::new(0).bytes(&state)),
                (None, why) => Err(why.unwrap_or_else(|| "it has no state".into())),
            }
        }
        ask::VERSION => {
            let pid = request.pid()?;
            server.settle()?;
            let (inspection, _) = (server.node.inspect(pid)).map_err(|error| error.to_string())?;
            let version = inspection.process.module.unwrap_or_default();
            Ok(Response::new(0).bytes(version.as_bytes()))
        }
        ask::EVENTS => {
            server.settle()?;
            Ok(Response::new(0).bytes(server.lines().as_bytes()))
        }
        call => {
            let place = usize::from(call.wrapping_sub(ask::CALLS));
            let call = HOST_CALLS.get(place).ok_or("an unknown request")?;
            server.call(call, &mut request)
        }
    }
}

fn config(config: NodeConfig) -> NodeConfig {
    NodeConfig {
        clock: Clock::manual,
        ..config
    }
}

impl Server {
    fn of(path: &Path) -> Result<Server, String> {
        let manifest = Manifest::load(path).map_err(|error| error.to_string())?;
        let stopper = Stopper::default();
        for step in manifest.builds() {
            let built = exuvia_dev::build(&step, &manifest.base_dir, Show::AsItComes, &stopper);
            built.map_err(|error| format!("`{}`: {error}", step.command))?;
        }
        let events = Events::default();
        let heard = events.listen();
        let options = BootOptions {
            config: Some(config(NodeConfig::of(&manifest))),
            events,
            ..BootOptions::default()
        };
        let app = App::boot(manifest, options).map_err(|error| error.to_string())?;
        Server::on(app.node().clone(), Some(app), heard)
    }

    fn empty() -> Result<Server, String> {
        let node = Node::start(config(NodeConfig::default())).map_err(|error| error.to_string())?;
        let heard = node.events();
        Server::on(node, None, heard)
    }

    fn on(node: Node, app: Option<App>, events: Receiver<Event>) -> Result<Server, String> {
        let probe =
            Probe::new(&node).ok_or("the node has as many processes as its limit allows")?;
        Ok(Server {
            node,
            app,
            probe,
            events,
        })
    }

    fn load(&self, name: String, path: &Path) -> Result<Response, String> {
        let failed = |error| format!("{}: {error}", path.display());
        // Reading a pipe would block, and a device never ends.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        let module = ModuleBytes {
            name,
            bytes,
            source: path.display().to_string(),
            noticed: None,
        };
        self.settle()?;
        let report = self.node.deploy(vec![module], DeployOptions::default());
        let report = report.map_err(|error| error.to_string())?;
        Ok(Response::new(0).bytes(sentences::swap(&report).as_bytes()))
    }

    fn settle(&self) -> Result<(), String> {
        let still = self.node.come_to_rest(PATIENCE);
        still.then_some(()).ok_or_else(busy)
    }

    fn advance(&self, by: Duration) -> Result<(), String> {
        let done = self.node.advance(by, PATIENCE);
        done.then_some(()).ok_or_else(busy)
    }

    fn lines(&mut self) -> String {
        let mut lines = String::new();
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    lines.push_str(&sentences::event(&event));
                    lines.push('\n');
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return lines,
            }
        }
    }
}

fn busy() -> String {
    format!(
        "processes are still busy after {} s of real time: does one loop forever?",
        PATIENCE.as_secs()
    )
}
