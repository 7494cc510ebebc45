//! Tokens: what a client of the remote API shows to say who it is. The file has a hash of each; the token itself is shown
//! once, when it is made.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exuvia_api::{MAX_TOKENS, NewToken, Problem, Role, Token, TokenCreated, code, is_pid};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::ServeError;

/// The format of the file.
const FORMAT: u32 = 1;
/// What a token begins with, so that tools find one that was published by mistake.
const PREFIX: &str = "exv";
/// Bytes of a token's id and of its secret. Nobody guesses 32 bytes, so a fast hash of them is as good as a slow one.
const ID: usize = 6;
const SECRET: usize = 32;
/// The most bytes of a name or a pattern.
const MAX_NAME_BYTES: usize = 128;
/// The longest life of a token that expires, in seconds: a hundred years.
const MAX_LIFE: u64 = 100 * 366 * 86_400;
/// The most patterns of a scope.
const MAX_PATTERNS: usize = 64;

/// What a token is good for, besides its role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// Names of processes, each exact or with a `*` at its end; none: all, by pid too.
    pub(crate) names: Vec<String>,
    /// Modules that may be deployed; none: all.
    pub(crate) modules: Vec<String>,
}

impl Scope {
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.is_empty()
            // A pid is no name, whatever a pattern says.
            || !is_pid(name) && self
                .names
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => name == pattern,
                })
    }

    pub(crate) fn has_module(&self, module: &str) -> bool {
        self.modules.is_empty() || self.modules.iter().any(|it| it == module)
    }
}

/// A token as the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    id: String,
    name: String,
    role: Role,
    #[serde(flatten)]
    scope: Scope,
    created_ms: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    expires_ms: Option<u64>,
    /// BLAKE3 of the secret.
    hash: blake3::Hash,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    format: u32,
    tokens: Vec<Kept>,
}

/// A token that was shown, and is good.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) id: String,
    /// Who it is, for logs.
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) scope: Scope,
}

/// How often it is looked whether a token has expired, since clocks may be set.
const LOOK: Duration = Duration::from_secs(60);

/// The tokens of a node.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    /// Held while the file is changed, so that nobody who shows a token waits for the disk.
    changing: Mutex<()>,
    kept: Mutex<Arc<Vec<Kept>>>,
    /// Increased at each change.
    changes: watch::Sender<u64>,
}

impl Tokens {
    /// Reads the file, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Tokens, ServeError> {
        let kept = match read_own(path) {
            Ok(bytes) => {
                let unusable = |why: String| ServeError::Tokens {
                    path: path.to_owned(),
                    why,
                };
                let file: File =
                    serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
                if file.format != FORMAT {
                    let found = file.format;
                    return Err(unusable(format!(
                        "it has format {found}, and this Exuvia knows format {FORMAT}"
                    )));
                }
                file.tokens
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(ServeError::io("read", path, error)),
        };
        Ok(Tokens {
            path: path.to_owned(),
            changing: Mutex::new(()),
            kept: Mutex::new(Arc::new(kept)),
            changes: watch::Sender::new(0),
        })
    }

    /// Makes a token.
    pub(crate) fn create(&self, asked: NewToken) -> Result<TokenCreated, Problem> {
        let bad = |why: String| Err(Problem::new(code::BAD_REQUEST, why));
        let texts = asked
            .names
            .iter()
            .chain(&asked.modules)
            .chain([&asked.name]);
        if let Some(wrong) = { texts }.find(|it| it.is_empty() || it.len() > MAX_NAME_BYTES) {
            let bytes = wrong.len();
            return bad(format!(
                "a name has 1 to {MAX_NAME_BYTES} bytes, and one has {bytes}"
            ));
        }
        if asked.names.len().max(asked.modules.len()) > MAX_PATTERNS {
            return bad(format!(
                "a token has at most {MAX_PATTERNS} names and modules"
            ));
        }
        // What a scope leaves out must be left out everywhere.
        if !asked.names.is_empty() && asked.role > Role::Operate {
            return bad(format!(
                "a token of the role `{}` cannot be for some processes",
                asked.role
            ));
        }
        if !asked.modules.is_empty() && asked.role != Role::Deploy {
            return bad("only a token of the role `deploy` can be for some modules".to_owned());
        }
        if asked
            .expires_in_s
            .is_some_and(|s| !(1..=MAX_LIFE).contains(&s))
        {
            return bad(
                "a token is good for a second at least, and for a hundred years at most".to_owned(),
            );
        }
        let (id, secret) = (hex(&random::<ID>()?), hex(&random::<SECRET>()?));
        let now = now();
        let kept = Kept {
            id: id.clone(),
            name: asked.name,
            role: asked.role,
            scope: Scope {
                names: asked.names,
                modules: asked.modules,
            },
            created_ms: now,
            expires_ms: asked
                .expires_in_s
                .map(|s| now.saturating_add(s.saturating_mul(1000))),
            hash: blake3::hash(secret.as_bytes()),
        };
        let shown = kept.shown();
        self.change(|all| {
            // Those that are of no use any more make room.
            all.retain(|token| !token.is_expired(now));
            if all.len() >= MAX_TOKENS {
                let why = format!("there are {MAX_TOKENS} tokens, which is the limit");
                return Err(
                    Problem::new(code::TOO_LARGE, why).help("`exuvia token revoke ID` removes one")
                );
            }
            all.push(kept);
            Ok(())
        })?;
        Ok(TokenCreated {
            token: format!("{PREFIX}_{id}_{secret}"),
            info: shown,
        })
    }

    /// Removes a token.
    pub(crate) fn revoke(&self, id: &str) -> Result<Token, Problem> {
        self.change(|all| {
            let found = all.iter().position(|token| token.id == id);
            let found = found.ok_or_else(|| {
                Problem::new(code::NO_TOKEN, format!("there is no token {id}"))
                    .help("`exuvia token list` shows those that there are")
            })?;
            Ok(all.remove(found).shown())
        })
    }

    pub(crate) fn list(&self) -> Vec<Token> {
        self.kept().iter().map(Kept::shown).collect()
    }

    /// Returns whose token this is.
    ///
    /// # Errors
    ///
    /// Why it is not good; whoever guesses learns nothing from that but of expired tokens.
    pub(crate) fn check(&self, token: &str) -> Result<Shown, &'static str> {
        let parts: Vec<&str> = token.split('_').collect();
        let [PREFIX, id, secret] = parts[..] else {
            return Err("this is no token");
        };
        let all = self.kept();
        let found = all.iter().find(|token| token.id == id);
        // In constant time.
        let found = found.filter(|token| token.hash == blake3::hash(secret.as_bytes()));
        let found = found.ok_or("the token is unknown, or was revoked")?;
        if found.is_expired(now()) {
            return Err("the token has expired");
        }
        Ok(Shown {
            id: found.id.clone(),
            name: format!("token {} ({})", found.id, found.name),
            role: found.role,
            scope: found.scope.clone(),
        })
    }

    /// Completes when a token is good no longer.
    pub(crate) async fn ended(&self, id: &str) {
        let mut changes = self.changes.subscribe();
        loop {
            let found = self.kept().iter().find(|token| token.id == id).cloned();
            let Some(token) = found.filter(|token| !token.is_expired(now())) else {
                return;
            };
            let left = token.expires_ms.map_or(LOOK, |at| {
                LOOK.min(Duration::from_millis(at.saturating_sub(now())))
            });
            // An error means that the tokens are gone.
            if let Ok(Err(_)) = tokio::time::timeout(left, changes.changed()).await {
                return;
            }
        }
    }

    fn kept(&self) -> Arc<Vec<Kept>> {
        Arc::clone(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the tokens, in the file first.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tokens = Vec::clone(&self.kept());
        let done = change(&mut tokens)?;
        let file = File {
            format: FORMAT,
            tokens,
        };
        write(
            &self.path,
            &serde_json::to_vec_pretty(&file).unwrap_or_default(),
        )
        .map_err(|error| {
            let path = self.path.display();
            Problem::new(code::STORE, format!("{path} cannot be written: {error}"))
                .help("nothing has changed")
        })?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(file.tokens);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(done)
    }
}

impl Kept {
    fn is_expired(&self, now: u64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now)
    }

    fn shown(&self) -> Token {
        Token {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            names: self.scope.names.clone(),
            modules: self.scope.modules.clone(),
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
        }
    }
}

/// Replaces a file that only its user can read, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a file that must be this user's, and nobody else's to read or write: others' secrets are not believed.
pub(crate) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        let why = "it belongs to another user, or others may read or write it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let more =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += more.map_err(|error| {
            Problem::new(
                code::INTERNAL,
                format!("the system has no random bytes: {error}"),
            )
        })?;
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens expire by the clock of the system"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock that is wrong makes all tokens expire that can.
    since.map_or(u64::MAX, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use exuvia_api::{MAX_TOKENS, NewToken, Role, code};

    use super::{Scope, Tokens};

    fn asked(name: &str, role: Role) -> NewToken {
        NewToken {
            name: name.to_owned(),
            role,
            names: Vec::new(),
            modules: Vec::new(),
            expires_in_s: None,
        }
    }

    #[test]
    fn a_token_is_good_until_it_is_revoked_or_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let tokens = Tokens::load(&path).unwrap();
        let made = tokens.create(asked("ci", Role::Deploy)).unwrap();
        let shown = tokens.check(&made.token).unwrap();
        assert_eq!(shown.name, format!("token {} (ci)", made.info.id));
        assert_eq!(shown.role, Role::Deploy);
        // The file does not have it, and it outlasts the node.
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = made.token.rsplit('_').next().unwrap();
        assert!(!text.contains(secret));
        let tokens = Tokens::load(&path).unwrap();
        assert!(tokens.check(&made.token).is_ok());
        // One digit less, more or else.
        let shorter = &made.token[..made.token.len() - 1];
        let other = format!(
            "{shorter}{}",
            if made.token.ends_with('0') { '1' } else { '0' }
        );
        for wrong in [
            "",
            "exv",
            "exv__",
            shorter,
            &other,
            &format!("{}0", made.token),
            "a_b_c_d",
        ] {
            assert!(tokens.check(wrong).is_err(), "{wrong}");
        }
        let mut at_once = asked("past", Role::Read);
        at_once.expires_in_s = Some(0);
        assert_eq!(
            tokens.create(at_once.clone()).unwrap_err().code,
            code::BAD_REQUEST
        );
        at_once.expires_in_s = Some(u64::MAX);
        assert_eq!(
            tokens.create(at_once.clone()).unwrap_err().code,
            code::BAD_REQUEST
        );
        at_once.expires_in_s = Some(1);
        let expired = tokens.create(at_once).unwrap();
        while tokens.check(&expired.token).is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        assert_eq!(
            tokens.check(&expired.token).unwrap_err(),
            "the token has expired"
        );
        tokens.revoke(&made.info.id).unwrap();
        assert!(tokens.check(&made.token).is_err());
        assert_eq!(
            tokens.revoke(&made.info.id).unwrap_err().code,
            code::NO_TOKEN
        );
        assert!(Tokens::load(&path).unwrap().check(&made.token).is_err());
    }

    #[test]
    fn a_file_that_is_damaged_is_said_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        for text in ["", "{}", "{\"format\": 2, \"tokens\": []}"] {
            super::write(&path, text.as_bytes()).unwrap();
            let error = Tokens::load(&path).unwrap_err().to_string();
            assert!(error.contains("tokens.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_file_of_others_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let tokens = Tokens::load(&path).unwrap();
        tokens.create(asked("a", Role::Admin)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = Tokens::load(&path).unwrap_err().to_string();
        assert!(error.contains("others may read or write it"), "{error}");
        std::fs::rename(&path, folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", &path).unwrap();
        Tokens::load(&path).unwrap_err();
    }

    #[test]
    fn a_scope_that_would_not_confine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::load(&folder.path().join("tokens.json")).unwrap();
        for (role, names, modules) in [
            (Role::Deploy, &["a"][..], &[][..]),
            (Role::Admin, &["a"], &[]),
            (Role::Operate, &[], &["a"]),
            (Role::Admin, &[], &["a"]),
        ] {
            let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let wrong = NewToken {
                names: all(names),
                modules: all(modules),
                ..asked("a", role)
            };
            assert_eq!(
                tokens.create(wrong).unwrap_err().code,
                code::BAD_REQUEST,
                "{role}"
            );
        }
    }

    #[test]
    fn there_is_a_limit_and_what_cannot_be_written_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/tokens.json");
        let tokens = Tokens::load(&path).unwrap();
        assert_eq!(
            tokens.create(asked("a", Role::Read)).unwrap_err().code,
            code::STORE
        );
        assert!(tokens.list().is_empty());
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for _ in 0..MAX_TOKENS {
            tokens.create(asked("a", Role::Read)).unwrap();
        }
        assert_eq!(
            tokens.create(asked("a", Role::Read)).unwrap_err().code,
            code::TOO_LARGE
        );
        assert_eq!(
            tokens.create(asked("", Role::Read)).unwrap_err().code,
            code::BAD_REQUEST
        );
    }

    #[test]
    fn a_scope_has_names_with_a_star_at_their_end() {
        let scope = Scope {
            names: vec!["cart".into(), "user-*".into()],
            modules: vec!["cart".into()],
        };
        assert!(scope.has_name("cart") && scope.has_name("user-7") && scope.has_name("user-"));
        let all = Scope {
            names: vec!["*".into(), "2*".into()],
            modules: Vec::new(),
        };
        assert!(all.has_name("cart") && !all.has_name("2.0") && !all.has_name("<2.0>"));
        assert!(!scope.has_name("carts") && !scope.has_name("user") && !scope.has_name("<1.0>"));
        assert!(scope.has_module("cart") && !scope.has_module("car"));
        assert!(Scope::default().has_name("<1.0>") && Scope::default().has_module("any"));
    }
}
