//! Runs the build commands of a manifest.
//!
//! A command runs in a process group of its own, so that stopping the build ends everything that it
//! has started, and nothing else.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use exuvia_manifest::BuildStep;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How much of the output of a build is kept, in bytes: of its start and of its end, each.
pub const KEPT_OUTPUT: usize = 32 << 10;

/// How long the output of a build is waited for after its command has ended. A process that it has
/// left running in the background may keep the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// Where the output of a build goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// To stderr, as it is printed, for users who want to see progress.
    AsItComes,
    /// Into [`Built::output`], without the progress that cargo shows, and with colours on request.
    AtTheEnd {
        /// Whether tools are asked for colours, with the variables that they understand.
        colours: bool,
    },
}

/// A build that has succeeded.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// What it printed, see [`Show::AtTheEnd`]. The bytes are untrusted.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// A build that has failed.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` {reason}")]
pub struct BuildError {
    /// The command.
    pub command: String,
    /// How it failed, as the end of a sentence.
    pub reason: String,
    /// See [`Built::output`].
    pub output: String,
    /// See [`Built::took`].
    pub took: Duration,
    /// Whether it was stopped with [`Stopper::stop`].
    pub stopped: bool,
}

/// Stops the running build, and all that would follow it.
#[derive(Clone, Debug, Default)]
pub struct Stopper(Arc<Stopping>);

#[derive(Debug, Default)]
struct Stopping {
    /// Set before the lock is taken, and read when a command has started, so that one of the two
    /// ends it.
    stopped: AtomicBool,
    /// The process group of the running command. The command is not reaped while its group is
    /// stored here, so the number cannot be reused by another one. Locked while a command starts,
    /// which takes as long as the file system of its folder.
    group: Mutex<Option<Pid>>,
}

/// How long a stop waits for a command that is starting. After that, the thread that starts it ends
/// it.
const STARTS: Duration = Duration::from_millis(500);

impl Stopper {
    /// Ends the running build at once; builds that follow fail.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        if let Some(group) = self.0.group.try_lock_for(STARTS) {
            end(*group);
        }
    }

    /// Returns whether [`Stopper::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Starts a command; `None`: the build was stopped before.
    fn start(&self, command: &mut Command) -> io::Result<Option<Child>> {
        let mut group = self.0.group.lock();
        if self.is_stopped() {
            return Ok(None);
        }
        let child = command.spawn()?;
        *group = Some(Pid::from_child(&child));
        if self.is_stopped() {
            end(*group);
        }
        Ok(Some(child))
    }

    /// Waits until a command exits.
    fn wait(&self, mut child: Child) -> io::Result<ExitStatus> {
        let id = WaitId::Pid(Pid::from_child(&child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(id.clone(), options) {
            if error != rustix::io::Errno::INTR {
                break;
            }
        }
        *self.0.group.lock() = None;
        child.wait()
    }
}

fn end(group: Option<Pid>) {
    if let Some(group) = group {
        // It may have exited in the meantime.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Runs one build command in `folder`, and waits until it exits.
///
/// # Errors
///
/// If it could not be started, failed, or was stopped.
pub fn build(
    step: &BuildStep,
    folder: &Path,
    show: Show,
    stopper: &Stopper,
) -> Result<Built, BuildError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a command took, to be shown"
    )]
    let began = Instant::now();
    let failed = |reason: String, output: String, stopped: bool| BuildError {
        command: step.command.clone(),
        reason,
        output,
        took: began.elapsed(),
        stopped,
    };
    let broken = |error: io::Error| failed(format!("cannot be run: {error}"), String::new(), false);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(&step.command)
        .current_dir(folder)
        .stdin(Stdio::null())
        .process_group(0);
    let output = match show {
        Show::AsItComes => {
            // Standard output is for results, and this is none.
            let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(broken)?;
            command.stdout(stderr).stderr(Stdio::inherit());
            None
        }
        Show::AtTheEnd { colours } => {
            command.env("CARGO_TERM_QUIET", "true");
            if colours {
                command
                    .env("CARGO_TERM_COLOR", "always")
                    .env("CLICOLOR_FORCE", "1");
            }
            let (reader, writer) = io::pipe().map_err(broken)?;
            command
                .stdout(writer.try_clone().map_err(broken)?)
                .stderr(writer);
            Some(reader)
        }
    };
    let Some(child) = stopper.start(&mut command).map_err(broken)? else {
        return Err(failed("was stopped".into(), String::new(), true));
    };
    // The command holds the write end of the pipe; unless it is closed here, the output never ends.
    drop(command);
    let output = output.map(keep);
    let status = stopper.wait(child).map_err(broken)?;
    let output = output.map_or_else(String::new, |output| output.text());
    let stopped = stopper.is_stopped();
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(Built {
            output,
            took: began.elapsed(),
        }),
        (_, Some(_)) if stopped => Err(failed("was stopped".into(), output, true)),
        (Some(127), _) => Err(failed(
            "failed with exit code 127: a program that it runs is not installed or not on PATH"
                .into(),
            output,
            false,
        )),
        (Some(code), _) => Err(failed(
            format!("failed with exit code {code}"),
            output,
            false,
        )),
        (None, signal) => Err(failed(
            format!("was killed by signal {}", signal.unwrap_or_default()),
            output,
            false,
        )),
    }
}

/// The output of a build, of which the start and the end are kept.
#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    left_out: usize,
}

impl Kept {
    fn add(&mut self, mut bytes: &[u8]) {
        let free = KEPT_OUTPUT - self.head.len();
        if free > 0 {
            let (head, rest) = bytes.split_at(free.min(bytes.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
        }
        self.tail.extend(bytes);
        let over = self.tail.len().saturating_sub(KEPT_OUTPUT);
        self.tail.drain(..over);
        self.left_out += over;
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.left_out > 0 {
            text += &format!("\n... {} bytes omitted ...\n", self.left_out);
        }
        let (one, two) = self.tail.as_slices();
        text += &String::from_utf8_lossy(&[one, two].concat());
        text
    }
}

/// The output of a build, which a thread reads while the build runs.
struct Reading {
    kept: Arc<Mutex<Kept>>,
    end: Receiver<()>,
}

fn keep(mut from: impl Read + Send + 'static) -> Reading {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (sender, end) = channel();
    let keeping = kept.clone();
    let read = move || {
        let mut buffer = [0; 8192];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            keeping.lock().add(&buffer[..count]);
        }
        let _ = sender.send(());
    };
    // Without a thread there is no output, and the build fails if it writes any.
    let _ = std::thread::Builder::new()
        .name("exuvia-build".into())
        .spawn(read);
    Reading { kept, end }
}

impl Reading {
    fn text(self) -> String {
        let _ = self.end.recv_timeout(OUTPUT_GRACE);
        self.kept.lock().text()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{BuildError, Built, KEPT_OUTPUT, Kept, Show, Stopper, build};
    use exuvia_manifest::BuildStep;

    fn run(command: &str, stopper: &Stopper) -> Result<Built, BuildError> {
        let step = BuildStep {
            command: command.into(),
            modules: Vec::new(),
            sources: Vec::new(),
        };
        let show = Show::AtTheEnd { colours: false };
        build(&step, Path::new("/"), show, stopper)
    }

    #[test]
    fn output_is_kept_in_order() {
        let built = run(
            "echo one; echo two >&2; echo three; pwd",
            &Stopper::default(),
        )
        .unwrap();
        assert_eq!(built.output, "one\ntwo\nthree\n/\n");
    }

    #[test]
    fn a_failed_build_reports_how_it_failed() {
        let fail = |command| run(command, &Stopper::default()).unwrap_err();
        let error = fail("echo why; exit 3");
        assert!(error.to_string().ends_with("failed with exit code 3"));
        assert_eq!((error.output.as_str(), error.stopped), ("why\n", false));
        let error = fail("no-such-program-anywhere");
        assert!(error.reason.contains("not installed"), "{error}");
        let error = fail("kill -9 $$");
        assert!(error.reason.contains("signal 9"), "{error}");
    }

    #[test]
    fn processes_that_a_build_leaves_running_do_not_delay_it() {
        let built = run("sleep 60 & echo done", &Stopper::default()).unwrap();
        assert_eq!(built.output, "done\n");
        assert!(built.took < Duration::from_secs(30));
    }

    #[test]
    fn a_stop_ends_all_processes_of_a_build() {
        let stopper = Stopper::default();
        let stop = stopper.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _ = sender.send(());
            let result = run("sleep 600 | sleep 600", &stop);
            (result.unwrap_err(), stop)
        });
        receiver.recv().unwrap();
        // Before or after it has started: both end it.
        stopper.stop();
        let (error, stop) = thread.join().unwrap();
        assert!(error.stopped, "{error}");
        assert!(run("true", &stop).unwrap_err().stopped);
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let mut kept = Kept::default();
        let text: Vec<u8> = (0..10 * KEPT_OUTPUT)
            .map(|n| b'a' + (n % 26) as u8)
            .collect();
        for part in text.chunks(777) {
            kept.add(part);
        }
        let shown = kept.text();
        assert!(shown.len() < 2 * KEPT_OUTPUT + 100);
        assert!(shown.starts_with("abc"), "{}", &shown[..10]);
        let end = std::str::from_utf8(&text[text.len() - 1000..]).unwrap();
        assert!(shown.ends_with(end));
        assert!(shown.contains(&format!("... {} bytes omitted", 8 * KEPT_OUTPUT)));
        let short = run("head -c 1000000 /dev/zero", &Stopper::default()).unwrap();
        assert!(short.output.len() < 2 * KEPT_OUTPUT + 100);
    }
}
