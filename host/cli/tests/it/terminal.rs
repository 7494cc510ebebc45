//! A program on a real terminal: a pseudo-terminal whose other end the test holds.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Far longer than anything here takes: it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(30);

#[expect(
    clippy::disallowed_methods,
    reason = "when a broken test gives up; nothing is measured"
)]
fn now() -> Instant {
    Instant::now()
}

pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What has come and was not waited for yet.
    text: String,
    /// All that was shown.
    all: String,
}

impl Terminal {
    /// Starts a program as the foreground of a terminal of its own.
    pub(crate) fn start(program: &Command, columns: u16, rows: u16) -> Terminal {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        // It makes the terminal the program's own, so that Ctrl-C reaches it.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.spawn().unwrap();
        // Its copies of the slave's end go, so that the screen ends with the program.
        drop(command);
        let keyboard = File::from(master);
        let mut from = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The other end's closing is an error here.
            while let Ok(count) = from.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            keyboard,
            screen,
            text: String::new(),
            all: String::new(),
        }
    }

    /// Waits until the screen shows this; answers what came before it, and it.
    #[track_caller]
    pub(crate) fn shows(&mut self, part: &str) -> String {
        let end = now() + DEADLINE;
        loop {
            if let Some(at) = self.text.find(part) {
                let end = at + part.len();
                let rest = self.text.split_off(end);
                return std::mem::replace(&mut self.text, rest);
            }
            match self
                .screen
                .recv_timeout(end.saturating_duration_since(now()))
            {
                Ok(bytes) => self.take(&bytes),
                Err(_) => panic!("`{part}` was not shown; the screen:\n{}", self.all),
            }
        }
    }

    /// Whether the screen shows this by now; nothing is taken off it.
    pub(crate) fn has(&mut self, part: &str) -> bool {
        while let Ok(bytes) = self.screen.try_recv() {
            self.take(&bytes);
        }
        self.text.contains(part)
    }

    fn take(&mut self, bytes: &[u8]) {
        let new = String::from_utf8_lossy(bytes).replace('\r', "");
        self.text += &new;
        self.all += &new;
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Waits for the end; answers the exit code, and the rest of the screen.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let end = now() + DEADLINE;
        loop {
            match self
                .screen
                .recv_timeout(end.saturating_duration_since(now()))
            {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the program does not end; the screen:\n{}", self.all)
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that ended has nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
