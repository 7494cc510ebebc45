//! What a child may use of the system.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a child may use of the system through WASI (files, environment variables and arguments,
/// as its standard library finds them), out of what this process may use itself. Paths are as
/// this process sees them.
///
/// ```
/// use exuvia::Grants;
///
/// let grants = Grants::none()
///     .read("/texts", "/in/texts")
///     .write("/out", "/out/of-this-child")
///     .env("LANG", "C")
///     .arg("--fast");
/// # let _ = grants;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use = "a child gets it by `Spawn::grants`"]
pub struct Grants {
    dirs: BTreeMap<String, Dir>,
    env: BTreeMap<String, String>,
    args: Vec<String>,
    stdio: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Dir {
    path: String,
    access: &'static str,
}

impl Grants {
    /// Grants nothing: the child may log, and request the time and random numbers.
    ///
    /// ```no_run
    /// let child = exuvia::spawn("worker").grants(&exuvia::Grants::none()).start();
    /// # let _ = child;
    /// ```
    pub fn none() -> Grants {
        Grants {
            stdio: "log",
            ..Grants::default()
        }
    }

    fn dir(mut self, name: &str, path: &str, access: &'static str) -> Grants {
        let dir = Dir {
            path: path.to_owned(),
            access,
        };
        self.dirs.insert(name.to_owned(), dir);
        self
    }

    /// Grants reading a folder: `name` is the child's name for it, `path` this process's.
    ///
    /// ```
    /// let grants = exuvia::Grants::none().read("/in", "/texts/today");
    /// # let _ = grants;
    /// ```
    pub fn read(self, name: &str, path: &str) -> Grants {
        self.dir(name, path, "read")
    }

    /// Grants reading and writing a folder.
    ///
    /// ```
    /// let grants = exuvia::Grants::none().write("/out", "/out/7");
    /// # let _ = grants;
    /// ```
    pub fn write(self, name: &str, path: &str) -> Grants {
        self.dir(name, path, "write")
    }

    /// Sets an environment variable.
    ///
    /// ```
    /// let grants = exuvia::Grants::none().env("LANG", "C");
    /// # let _ = grants;
    /// ```
    pub fn env(mut self, name: &str, value: &str) -> Grants {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an argument.
    ///
    /// ```
    /// let grants = exuvia::Grants::none().arg("--fast");
    /// # let _ = grants;
    /// ```
    pub fn arg(mut self, text: &str) -> Grants {
        self.args.push(text.to_owned());
        self
    }

    /// Sends what it prints to the node's terminal instead of the log.
    ///
    /// ```
    /// let grants = exuvia::Grants::none().terminal();
    /// # let _ = grants;
    /// ```
    pub fn terminal(mut self) -> Grants {
        self.stdio = "terminal";
        self
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        // Text in maps can always be encoded.
        crate::encode(self).unwrap_or_default()
    }
}
