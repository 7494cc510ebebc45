//! `exuvia run`: a node in the foreground, until it is told to stop.
//!
//! The order matters. The socket is claimed before the boot, so that a second
//! node is refused before it has started anything; it is opened after the boot,
//! so that no client sees half a node. At the end the watcher goes first (no swap
//! while processes stop), then the tree, then the socket (whoever asked for the
//! stop gets its answer), then the claim.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exuvia_control::{Claim, EventLine, Server, StopRequest, serve};
use exuvia_node::manifest::Manifest;
use exuvia_node::{App, BootOptions, Event, NodeInfo, StopReport, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::spawn_blocking;
use tracing_subscriber::EnvFilter;

use crate::command::stop::not_orderly;
use crate::environment;
use crate::fault::Fault;
use crate::output::{Output, clean_lines, count};
use crate::place::Place;

/// How long processes get to stop, unless the one who stops says otherwise. Each
/// child has its own `shutdown_ms`, 5 s by default; this bounds them all.
const DRAIN: Duration = Duration::from_secs(30);

/// What shells report for a program that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// Run an app in the foreground
///
/// The module files are watched: what changes is swapped in at once, and a
/// module that is refused leaves the old code running. Ctrl-C stops the
/// processes in reverse order of their start; a second one ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia run .
  exuvia run examples/counter/exuvia.toml --no-watch
  EXUVIA_LOG=debug exuvia run . 2>node.log")]
pub(crate) struct Arguments {
    /// The app: a folder or its exuvia.toml
    app: PathBuf,
    /// Do not watch the module files
    #[arg(long)]
    no_watch: bool,
    /// Print the backtrace of each process that traps
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) async fn run(arguments: Arguments, place: &Place, output: &Output) -> Result<(), Fault> {
    start_tracing()?;
    raise_file_limit();
    let manifest = Manifest::load(&arguments.app)?;
    manifest.check_files()?;
    let claim = Claim::new(place.of_app(&arguments.app))?;
    let mut interrupts = Interrupts::new()?;
    tracing::info!("booting {}", manifest.name);

    let printer = Printer {
        output,
        verbose: arguments.verbose,
    };
    let options = BootOptions::default();
    let mut events = options.events.listen();
    let mut boot = spawn_blocking(move || App::boot(manifest, options));
    let mut listening = true;
    let booted = loop {
        tokio::select! {
            booted = &mut boot => break joined(booted)?,
            // What guests say while the tree starts.
            event = events.recv(), if listening => listening = printer.received(event),
            () = interrupts.next() => end_at_once(claim, &printer),
        }
    };
    let app = match booted {
        Ok(app) => Arc::new(app),
        Err(error) => {
            // The last lines may say why.
            printer.rest(&mut events);
            return Err(error.into());
        }
    };
    let watcher = if arguments.no_watch {
        None
    } else {
        Some(app.watch().map_err(|error| {
            Fault::failed(format!("the module files cannot be watched: {error}"))
                .help("run it with --no-watch, or raise fs.inotify.max_user_watches")
        })?)
    };
    let server = serve(app.node().clone(), claim)?;
    // In order: what was said during the boot comes before its end.
    printer.rest(&mut events);
    printer.note(started(&app, &server, watcher.is_some()));
    let running = Running {
        app,
        server,
        watcher,
        events,
    };
    running.until_the_end(&printer, interrupts).await
}

/// Allows as many open files as may be allowed: each version of a module has
/// two, and shells give 1,024, for the sake of programs that use `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(
            "the limit on open files stays at {:?}: {error}",
            limit.current
        );
    }
}

/// A node that is up.
struct Running {
    app: Arc<App>,
    server: Server,
    watcher: Option<Watcher>,
    events: broadcast::Receiver<Event>,
}

impl Running {
    async fn until_the_end(
        mut self,
        printer: &Printer<'_>,
        mut interrupts: Interrupts,
    ) -> Result<(), Fault> {
        let app = Arc::clone(&self.app);
        let end = app.end();
        tokio::pin!(end);
        let mut ended = None;
        let mut request: Option<StopRequest> = None;
        loop {
            tokio::select! {
                event = self.events.recv() => {
                    if !printer.received(event) {
                        break;
                    }
                }
                reason = &mut end => {
                    ended = Some(reason);
                    break;
                }
                asked = self.server.stop_requested() => {
                    request = Some(asked);
                    break;
                }
                () = interrupts.next() => break,
            }
        }
        // What it ended of comes before that it ended.
        printer.rest(&mut self.events);
        match &ended {
            Some(reason) => printer.note(EventLine {
                line: format!("ended: the supervision tree gave up: {reason}"),
                event: json!({ "event": "ended", "reason": reason }),
            }),
            None => printer.note(EventLine {
                line: "stopping: processes end in reverse order; Ctrl-C again ends at once"
                    .to_owned(),
                event: json!({ "event": "stopping" }),
            }),
        }
        let timeout = request
            .as_ref()
            .and_then(|request| request.timeout)
            .unwrap_or(DRAIN);
        let report = self.stop(timeout, printer, &mut interrupts).await?;
        printer.note(stopped(&report));
        let value = serde_json::to_value(&report).unwrap_or(Value::Null);
        if let Some(request) = request {
            request.answer(value);
        }
        self.server.close().await;
        match ended {
            Some(reason) => Err(Fault::failed(format!(
                "the supervision tree of the app ended: {reason}"
            ))
            .help("the lines above say which processes failed; -v shows their backtraces")),
            None if report.orderly => Ok(()),
            None => Err(not_orderly(report.left as u64)),
        }
    }

    /// Stops the tree, while events are still printed and a second interrupt is
    /// heard.
    async fn stop(
        &mut self,
        timeout: Duration,
        printer: &Printer<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<StopReport, Fault> {
        let app = Arc::clone(&self.app);
        let watcher = self.watcher.take();
        let mut stop = spawn_blocking(move || {
            // It waits for a swap that is under way.
            drop(watcher);
            app.stop(timeout)
        });
        let mut listening = true;
        let report = loop {
            tokio::select! {
                report = &mut stop => break joined(report)?,
                event = self.events.recv(), if listening => {
                    listening = printer.received(event);
                }
                () = interrupts.next() => {
                    // Not even the socket is removed in order: the next node
                    // does that.
                    std::process::exit(INTERRUPTED);
                }
            }
        };
        // What was said before the end is still to be printed.
        printer.rest(&mut self.events);
        Ok(report)
    }
}

/// Interrupt and termination, which mean the same here.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Fault::failed(format!("signals cannot be listened to: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Prints events. A node does not end because nobody reads them.
struct Printer<'a> {
    output: &'a Output,
    verbose: bool,
}

impl Printer<'_> {
    /// Prints what has come and was not printed yet.
    fn rest(&self, events: &mut broadcast::Receiver<Event>) {
        loop {
            match events.try_recv() {
                Ok(event) => self.event(&event),
                Err(TryRecvError::Lagged(missed)) => self.missed(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn missed(&self, missed: u64) {
        self.note(EventLine {
            line: format!("missed {missed} events: they came too fast to be printed"),
            event: json!({ "event": "missed", "missed": missed }),
        });
    }

    /// Answers whether more may come.
    fn received(&self, event: Result<Event, RecvError>) -> bool {
        match event {
            Ok(event) => self.event(&event),
            Err(RecvError::Lagged(missed)) => self.missed(missed),
            Err(RecvError::Closed) => return false,
        }
        true
    }

    fn event(&self, event: &Event) {
        self.note(EventLine {
            line: event.to_string(),
            event: serde_json::to_value(event).unwrap_or(Value::Null),
        });
        if self.verbose
            && !self.output.is_json()
            && let Event::Exit { detail, .. } = event
        {
            // Its first line is in the event's own.
            for line in clean_lines(detail).lines().skip(1) {
                let _ = self.output.line(&format!("    {line}"));
            }
        }
    }

    fn note(&self, event: EventLine) {
        let _ = self.output.event(&event);
    }
}

fn started(app: &App, server: &Server, watching: bool) -> EventLine {
    let info: NodeInfo = app.node().info();
    let started = app.manifest().process_count();
    let modules = info.modules.len() as u64;
    let socket = server.path().display();
    let mut line = format!(
        "started {}: {} of {}, {}, socket {socket}",
        info.app,
        count(started, "process", "processes"),
        count(modules, "module", "modules"),
        count(info.schedulers as u64, "scheduler", "schedulers"),
    );
    if watching {
        line.push_str(", watching the module files");
    }
    EventLine {
        line,
        event: json!({
            "event": "started",
            "app": info.app,
            "processes": started,
            "modules": modules,
            "schedulers": info.schedulers,
            "socket": socket.to_string(),
            "watching": watching,
            "os_process": std::process::id(),
        }),
    }
}

fn stopped(report: &StopReport) -> EventLine {
    let line = if report.orderly {
        "stopped".to_owned()
    } else {
        let left = count(report.left as u64, "process was", "processes were");
        format!("stopped: {left} left when the time was over")
    };
    EventLine {
        line,
        event: json!({
            "event": "stopped",
            "orderly": report.orderly,
            "left": report.left,
        }),
    }
}

/// The user does not want to wait for the boot.
fn end_at_once(claim: Claim, printer: &Printer<'_>) -> ! {
    printer.note(EventLine {
        line: "interrupted: the app had not started yet, nothing of it is left".to_owned(),
        event: json!({ "event": "interrupted" }),
    });
    drop(claim);
    std::process::exit(INTERRUPTED)
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, Fault> {
    result.map_err(|error| {
        Fault::failed(format!("the host failed: {error}"))
            .help("this is a fault of the host: please report it")
    })
}

/// The host's own log goes to stderr; stdout belongs to the events.
fn start_tracing() -> Result<(), Fault> {
    let wanted = environment("EXUVIA_LOG").map_or_else(
        || "warn".to_owned(),
        |value| value.to_string_lossy().into_owned(),
    );
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| Fault::usage(format!("EXUVIA_LOG=`{wanted}` is no filter: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(
            std::io::IsTerminal::is_terminal(&std::io::stderr())
                && environment("NO_COLOR").is_none(),
        )
        .init();
    Ok(())
}
