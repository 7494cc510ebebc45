//! Tokens: what a client of the remote API shows to say who it is. The file has a hash of each; the token itself is shown
//! once, when it is made.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exuvia_api::{MAX_TOKENS, NewToken, Problem, Role, Token, TokenCreated, code};
use serde::{Deserialize, Serialize};

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
            || self
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
    expires_ms: Option<u64>,
    /// BLAKE3 of the secret.
    hash: blake3::Hash,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    format: u32,
    tokens: Vec<Kept>,
}

/// The tokens of a node.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    kept: Mutex<Vec<Kept>>,
}

impl Tokens {
    /// Reads the file, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Tokens, ServeError> {
        let kept = match fs::read(path) {
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
            kept: Mutex::new(kept),
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
    pub(crate) fn check(&self, token: &str) -> Result<(String, Role, Scope), &'static str> {
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
        let who = format!("token {} ({})", found.id, found.name);
        Ok((who, found.role, found.scope.clone()))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tokens, in the file first.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Kept>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut all = self.kept();
        let mut tokens = all.clone();
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
        *all = file.tokens;
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
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
    let since: Duration = since.unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The tokens, if the node has a file for them.
pub(crate) type SharedTokens = Arc<Tokens>;

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
        let (who, role, _) = tokens.check(&made.token).unwrap();
        assert_eq!(who, format!("token {} (ci)", made.info.id));
        assert_eq!(role, Role::Deploy);
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
        let expired = tokens.create(at_once).unwrap();
        assert_eq!(tokens.check(&expired.token), Err("the token has expired"));
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
            std::fs::write(&path, text).unwrap();
            let error = Tokens::load(&path).unwrap_err().to_string();
            assert!(error.contains("tokens.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
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
        assert!(!scope.has_name("carts") && !scope.has_name("user") && !scope.has_name("<1.0>"));
        assert!(scope.has_module("cart") && !scope.has_module("car"));
        assert!(Scope::default().has_name("<1.0>") && Scope::default().has_module("any"));
    }
}
