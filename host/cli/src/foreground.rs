//! A node in the foreground: the parts that `run` and `dev` share.
//!
//! The order matters. The socket is claimed before the boot, so that a second node is refused
//! before it has started anything; it is opened after the boot, so that no client sees a
//! half-started node. On exit the watcher stops first (no swap while processes stop), then the
//! supervision tree, then the socket (the client that requested the stop gets its response),
//! then the claim is released.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use exuvia_api::EventLine;
use exuvia_control::{Claim, Health, NodeHost, Scraped, Server, StopRequest, serve};
use exuvia_dev::{Event as DevEvent, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{
    App, BootError, BootOptions, Event, InheritedSockets, NodeConfig, NodeInfo, StopReport,
    StoreOptions, TimedEvent,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::spawn_blocking;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::command::stop::not_orderly;
use crate::environment;
use crate::error::CliError;
use crate::output::{Output, clean, clean_lines, count, styled_lines};
use crate::sentences::{self, SENTENCES};
use crate::spool::Line;

/// How long processes may take to stop, unless the request says otherwise. Each child has its
/// own `shutdown`, 5 s by default; this limits them all together.
const DRAIN: Duration = Duration::from_secs(30);

/// Events that are printed before other tasks get a turn.
const TURN: u32 = 64;

/// How long a node that exits at once waits until its output has been read.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often to check whether log lines have been suppressed.
const LOOK: Duration = Duration::from_secs(2);

/// The exit code that shells report for an interrupted program.
pub(crate) const INTERRUPTED: i32 = 130;

/// Raises the limit on open files to the hard limit: each version of a module has two open, and
/// shells allow 1,024, for the sake of programs that use `select`.
pub(crate) fn raise_file_limit() {
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

/// A terminal with a node, or with one that is about to start.
pub(crate) struct Foreground<'a> {
    printer: Printer<'a>,
    interrupts: Interrupts,
    health: Health<NodeHost>,
    /// What the first boot passes to the node.
    inherited: InheritedSockets,
    /// Where it keeps releases.
    store: Option<StoreOptions>,
    /// Serves the metrics and health over TCP until it is dropped.
    scraped: Option<Scraped>,
}

impl<'a> Foreground<'a> {
    pub(crate) fn new(output: &'a Output, verbose: bool) -> Result<Self, CliError> {
        Ok(Self {
            printer: Printer { output, verbose },
            interrupts: Interrupts::new()?,
            health: Health::new(),
            inherited: InheritedSockets::default(),
            store: None,
            scraped: None,
        })
    }

    /// Has the app listen with sockets that were passed to this program.
    pub(crate) fn inherit(&mut self, sockets: InheritedSockets) {
        self.inherited = sockets;
    }

    /// Has the app keep its releases, and start with the last one.
    pub(crate) fn keep_releases(&mut self, store: Option<StoreOptions>) {
        self.store = store;
    }

    /// Also serves the node's metrics and health over TCP, from now on: a probe sees the node
    /// start.
    pub(crate) fn serve_metrics(&mut self, address: SocketAddr) -> Result<(), CliError> {
        let scraped = exuvia_control::listen(address)
            .and_then(|listener| exuvia_control::serve_metrics(self.health.clone(), listener))
            .map_err(|error| {
                CliError::failed(format!(
                    "the metrics cannot be served at {address}: {error}"
                ))
                .help("choose another address with `--metrics ADDR`; port 0 picks a free port")
            })?;
        self.scraped = Some(scraped);
        Ok(())
    }

    pub(crate) fn printer(&self) -> &Printer<'a> {
        &self.printer
    }

    /// Boots an app and prints events meanwhile. An interrupt exits the program.
    pub(crate) async fn boot(
        &mut self,
        manifest: Manifest,
        config: NodeConfig,
        claim: &mut Option<Claim>,
    ) -> Result<Result<Booted, BootError>, CliError> {
        let options = BootOptions {
            config: Some(config),
            inherited: std::mem::take(&mut self.inherited),
            store: self.store.clone(),
            ..BootOptions::default()
        };
        let mut events = options.events.listen_timed();
        let mut boot = spawn_blocking(move || App::boot(manifest, options));
        let mut listening = true;
        let booted = loop {
            tokio::select! {
                booted = &mut boot => break joined(booted)?,
                // Guests may log while the tree starts.
                event = events.recv(), if listening => listening = self.printer.received(event),
                () = self.interrupts.next() => self.end_at_once(claim),
            }
        };
        Ok(match booted {
            Ok(app) => Ok(Booted {
                app: Arc::new(app),
                events,
            }),
            Err(error) => {
                // The last lines may explain the failure.
                self.printer.rest(&mut events);
                Err(error)
            }
        })
    }

    /// Runs blocking work; on an interrupt, calls `stop` and exits the program.
    pub(crate) async fn beside<T: Send + 'static>(
        &mut self,
        claim: &mut Option<Claim>,
        stop: impl FnOnce(),
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CliError> {
        let mut work = spawn_blocking(work);
        tokio::select! {
            done = &mut work => joined(done),
            () = self.interrupts.next() => {
                stop();
                self.end_at_once(claim)
            }
        }
    }

    /// Serves the control socket until the node is stopped, or until its supervision tree
    /// gives up; the inner error then gives the reason.
    pub(crate) async fn serve(
        &mut self,
        booted: Booted,
        watcher: Option<Watcher>,
        watching: &str,
        claim: Claim,
    ) -> Result<Result<(), CliError>, CliError> {
        let Booted { app, mut events } = booted;
        let host = NodeHost::new(app.node().clone(), SENTENCES);
        let server = serve(host, claim, &self.health)?;
        let scraped_at = self.scraped.as_ref().map(Scraped::address);
        // Events of the boot are printed before the line `started`.
        self.printer.rest(&mut events);
        self.printer
            .note(started(&app, &server, watching, scraped_at));
        let running = Running {
            app,
            server,
            watcher,
            events,
            health: self.health.clone(),
        };
        running
            .until_the_end(&self.printer, &mut self.interrupts)
            .await
    }

    /// Exits the program before the app has started.
    fn end_at_once(&self, claim: &mut Option<Claim>) -> ! {
        self.printer.note(EventLine::now(
            "interrupted before the app had started; no process is left",
            json!({ "event": "interrupted" }),
        ));
        drop(claim.take());
        self.printer.output.finish(AT_ONCE);
        std::process::exit(INTERRUPTED)
    }
}

/// An app that is up, and its events that have not been printed yet.
pub(crate) struct Booted {
    pub(crate) app: Arc<App>,
    events: broadcast::Receiver<TimedEvent>,
}

/// A running node.
struct Running {
    app: Arc<App>,
    server: Server,
    watcher: Option<Watcher>,
    events: broadcast::Receiver<TimedEvent>,
    health: Health<NodeHost>,
}

impl Running {
    async fn until_the_end(
        mut self,
        printer: &Printer<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<Result<(), CliError>, CliError> {
        let app = Arc::clone(&self.app);
        let end = app.end();
        tokio::pin!(end);
        let mut ended = None;
        let mut request: Option<StopRequest> = None;
        let mut printed = 0_u32;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            // However many events there are to print, signals and requests are handled too.
            printed = printed.wrapping_add(1);
            if printed.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            tokio::select! {
                biased;
                () = interrupts.next() => break,
                asked = self.server.stop_requested() => {
                    request = Some(asked);
                    break;
                }
                // Before the events, of which there may be no end; those that explain the end
                // are printed below.
                reason = &mut end => {
                    ended = Some(reason);
                    break;
                }
                _ = looks.tick() => printer.output.tell_left_out(false),
                event = self.events.recv() => {
                    if !printer.received(event) {
                        break;
                    }
                }
            }
        }
        self.health.stopping();
        // Events that explain the end are printed before it is reported.
        printer.rest(&mut self.events);
        match &ended {
            Some(reason) => printer.note(EventLine::now(
                format!("ended: the supervision tree gave up: {reason}"),
                json!({ "event": "ended", "reason": reason }),
            )),
            None => printer.note(EventLine::now(
                "stopping: processes stop in reverse order; press Ctrl-C again to exit at once",
                json!({ "event": "stopping" }),
            )),
        }
        let timeout = request
            .as_ref()
            .and_then(|request| request.timeout)
            .unwrap_or(DRAIN);
        let report = self.stop(timeout, printer, interrupts).await?;
        printer.note(stopped(&report));
        if let Some(request) = request {
            request.answer(exuvia_api::StopReport {
                orderly: report.orderly,
                left: report.left as u64,
            });
        }
        self.server.close().await;
        match ended {
            // The line printed above has the reason.
            Some(_) => Ok(Err(CliError::failed(
                "the supervision tree of the app ended",
            )
            .help(
                "the lines above say why, and which processes failed; -v shows their backtraces",
            ))),
            None if report.orderly => Ok(Ok(())),
            None => Err(not_orderly(report.left as u64)),
        }
    }

    /// Stops the tree, while events are still printed and a second interrupt is handled.
    async fn stop(
        &mut self,
        timeout: Duration,
        printer: &Printer<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<StopReport, CliError> {
        let app = Arc::clone(&self.app);
        let watcher = self.watcher.take();
        let mut stop = spawn_blocking(move || {
            // Waits for a swap in progress.
            drop(watcher);
            app.stop(timeout)
        });
        let mut listening = true;
        let report = loop {
            tokio::select! {
                biased;
                report = &mut stop => break joined(report)?,
                () = interrupts.next() => {
                    // Not even the socket is cleaned up: the next node does that.
                    printer.output.finish(AT_ONCE);
                    std::process::exit(INTERRUPTED);
                }
                event = self.events.recv(), if listening => {
                    listening = printer.received(event);
                    tokio::task::yield_now().await;
                }
            }
        };
        // Print the remaining events.
        printer.rest(&mut self.events);
        Ok(report)
    }
}

/// SIGINT, SIGTERM and SIGHUP, which are treated alike.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// Sent when the terminal is closed.
    hang_up: Signal,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Self, CliError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Prints events. Errors are ignored: a node does not exit because its output is not read.
pub(crate) struct Printer<'a> {
    output: &'a Output,
    verbose: bool,
}

impl Printer<'_> {
    /// Prints the events that have arrived and were not printed yet.
    fn rest(&self, events: &mut broadcast::Receiver<TimedEvent>) {
        loop {
            match events.try_recv() {
                Ok(event) => self.timed(&event),
                Err(TryRecvError::Lagged(missed)) => self.lagged(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn lagged(&self, missed: u64) {
        self.note(EventLine::now(
            format!("lagged: {missed} events were dropped because they came too fast to print"),
            json!({ "event": "lagged", "missed": missed }),
        ));
    }

    /// Prints an event; returns whether more may arrive.
    fn received(&self, event: Result<TimedEvent, RecvError>) -> bool {
        match event {
            Ok(event) => self.timed(&event),
            Err(RecvError::Lagged(missed)) => self.lagged(missed),
            Err(RecvError::Closed) => return false,
        }
        true
    }

    pub(crate) fn event(&self, event: DevEvent) {
        self.timed(&TimedEvent::now(Event::External(Arc::new(event))));
    }

    fn timed(&self, timed: &TimedEvent) {
        let event = &*timed.event;
        self.note(sentences::event_line(timed));
        if self.output.is_json() {
            return;
        }
        match event {
            Event::Exit { detail, last, .. } => {
                // The first line is part of the event's own.
                let rest = if self.verbose { detail } else { "" };
                for line in clean_lines(rest).lines().skip(1) {
                    let _ = self.output.line(&format!("    {line}"));
                }
                if let Some(last) = last {
                    let last = clean(&sentences::last_message(last));
                    let _ = self.output.line(&format!("    it was handling: {last}"));
                }
            }
            Event::Refused {
                not_reused: Some(why),
                ..
            } if self.verbose => {
                let _ = self.output.detail("not reused", why);
            }
            _ => {}
        }
        match DevEvent::of(event) {
            // The output of a compiler, or of the manifest's reader, unchanged.
            Some(DevEvent::Built { output, .. } | DevEvent::BuildFailed { output, .. }) => {
                for line in styled_lines(output).trim_end().lines() {
                    let _ = self.output.line(line);
                }
            }
            Some(DevEvent::ManifestRefused { reason }) => {
                for line in clean_lines(reason).trim_end().lines() {
                    let _ = self.output.line(line);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn note(&self, event: EventLine) {
        let _ = self.output.event(&event);
    }
}

/// Describes what is watched, and how.
pub(crate) fn watching(what: &str, watcher: &Watcher) -> String {
    match watcher.polling_reason() {
        None => what.to_owned(),
        Some(_) => format!("{what} by polling"),
    }
}

/// Creates the error for a watcher that could not be started.
pub(crate) fn not_watched(error: std::io::Error) -> CliError {
    CliError::failed(format!("the files cannot be watched: {error}"))
        .help("start it with `exuvia run --no-watch`, or raise its user's limit on threads")
}

fn started(app: &App, server: &Server, watching: &str, metrics: Option<SocketAddr>) -> EventLine {
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
    if !watching.is_empty() {
        let _ = write!(line, ", watching {watching}");
    }
    let remote = server.remote();
    if let Some((address, fingerprint)) = remote {
        let _ = write!(line, ", remote at {address} with certificate {fingerprint}");
    }
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    if let Some(metrics) = &metrics {
        let _ = write!(line, ", metrics at {metrics}");
    }
    EventLine::now(
        line,
        json!({
            "event": "started",
            "app": info.app,
            "processes": started,
            "modules": modules,
            "schedulers": info.schedulers,
            "socket": socket.to_string(),
            "watching": !watching.is_empty(),
            "metrics": metrics,
            "remote": remote.map(|(address, _)| address.to_string()),
            "fingerprint": remote.map(|(_, fingerprint)| fingerprint.to_string()),
            "os_process": std::process::id(),
        }),
    )
}

fn stopped(report: &StopReport) -> EventLine {
    let line = if report.orderly {
        "stopped".to_owned()
    } else {
        let left = count(report.left as u64, "process was", "processes were");
        format!("stopped: {left} still running after the timeout")
    };
    EventLine::now(
        line,
        json!({
            "event": "stopped",
            "orderly": report.orderly,
            "left": report.left,
        }),
    )
}

pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, CliError> {
    result.map_err(|error| {
        CliError::failed(format!("the host failed: {error}"))
            .help("this is a bug in Exuvia: please report it")
    })
}

/// Starts the host's own log, which goes to stderr; stdout is for the events. From here on,
/// nothing that the node prints waits for its reader.
pub(crate) fn start_tracing(output: &Output) -> Result<(), CliError> {
    let wanted = environment("EXUVIA_LOG").map_or_else(
        || "warn".to_owned(),
        |value| value.to_string_lossy().into_owned(),
    );
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        CliError::usage(format!("EXUVIA_LOG=`{wanted}` is not a filter: {error}"))
    })?;
    let (spool, gate) = output.spool()?;
    let (panics, panics_gate) = (spool.clone(), gate.clone());
    std::panic::set_hook(Box::new(move |panic| {
        if panics_gate.admits_other("panics") {
            panics.push(clean_lines(&told_of_panic(panic)));
        }
    }));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Line::new(spool.clone()))
        .with_ansi(
            std::io::IsTerminal::is_terminal(&std::io::stderr())
                && environment("NO_COLOR").is_none(),
        );
    tracing_subscriber::registry()
        .with(filter)
        .with(gate)
        .with(lines)
        .init();
    Ok(())
}

/// Formats a panic like the standard library, whose own hook writes to stderr and blocks.
fn told_of_panic(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("unnamed"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{trace}");
    }
    text
}
