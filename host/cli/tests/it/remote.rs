//! Nodes on other machines, as a user reaches them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::app::{Answer, App, answer, counter, exuvia};

/// A user with a file of hosts of its own, somewhere else.
struct User(tempfile::TempDir);

impl User {
    fn new() -> User {
        User(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = exuvia(self.0.path());
        command
            .args(arguments)
            .env("EXUVIA_HOSTS", self.0.path().join("settings/hosts.toml"));
        command
    }

    fn ask(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    fn login(&self, address: &str, fingerprint: &str, token: &str) -> Answer {
        let path = self.0.path().join("token");
        fs::write(&path, token).unwrap();
        let arguments = [
            "login",
            address,
            "--name",
            "shop",
            "--fingerprint",
            fingerprint,
        ];
        let token = fs::File::open(path).unwrap();
        answer(self.command(&arguments).stdin(token))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_user_elsewhere_logs_in_and_deploys() {
    let app = App::new();
    let node = app.begin(&["--no-watch", "--remote", "127.0.0.1:0"]);
    let started = node.event("started")["event"].clone();
    let address = started["remote"].as_str().unwrap();
    let fingerprint = started["fingerprint"].as_str().unwrap();
    let certificate = app.folder().join(".exuvia/node.sock.remote.pem");
    assert_eq!(mode(&certificate), 0o600);
    let token = app.done(&["token", "new", "ci", "--role", "deploy", "--expires", "30d"]);
    let user = User::new();

    // Not without the fingerprint, since nobody can be asked; not with another; not with another token.
    let blind = user.ask(&["login", address]);
    assert_eq!(blind.code, Some(2), "{blind:?}");
    assert!(blind.stderr.contains(fingerprint), "{blind:?}");
    let other = format!("{}0", &fingerprint[..fingerprint.len() - 1]);
    let other = if other == fingerprint {
        format!("{}1", &fingerprint[..fingerprint.len() - 1])
    } else {
        other
    };
    let stranger = user.login(address, &other, &token);
    assert_eq!(stranger.code, Some(3), "{stranger:?}");
    assert!(
        stranger.stderr.contains("another certificate"),
        "{stranger:?}"
    );
    let wrong = user.login(address, fingerprint, "exv_000000000000_00");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(
        wrong
            .stderr
            .contains("the token is unknown, or was revoked"),
        "{wrong:?}"
    );
    assert!(!user.0.path().join("settings/hosts.toml").exists());

    let good = user.login(address, fingerprint, &token);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert_eq!(mode(&user.0.path().join("settings/hosts.toml")), 0o600);
    let hosts = user.ask(&["hosts"]);
    assert!(
        hosts.stdout.contains(address) && hosts.stdout.contains("shop"),
        "{hosts:?}"
    );
    assert!(!hosts.stdout.contains(token.trim()), "{hosts:?}");
    let list = user.ask(&["ps", "--to", "shop"]);
    assert!(list.stdout.contains("counter-0"), "{list:?}");
    fs::write(user.0.path().join("counter.wasm"), counter("(i32.const 5)")).unwrap();
    let deployed = user.ask(&["deploy", "counter.wasm", "--to", "shop", "-m", "from afar"]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let reply = app.json(&["send", "counter-0", "--call"]);
    assert_eq!(reply["tag"], 5);
    let releases = user.ask(&["releases", "--to", "shop"]);
    for part in ["(ci)", "from afar"] {
        assert!(releases.stdout.contains(part), "{part}: {releases:?}");
    }
    let refused = user.ask(&["token", "list", "--to", "shop"]);
    assert!(
        refused.stderr.contains("this needs the role `admin`"),
        "{refused:?}"
    );
    for local in ["run", "dev", "new", "doctor", "check", "docs", "hosts"] {
        let answer = user.ask(&[local, "--to", "shop"]);
        assert_eq!(answer.code, Some(2), "{local}: {answer:?}");
    }

    // Revoked, it is worthless at once.
    let tokens = app.json(&["token", "list"]);
    let id = tokens["items"][0]["id"].as_str().unwrap();
    let gone = app.done(&["token", "revoke", id]);
    assert_eq!(gone, "revoked the token of ci\n");
    let late = user.ask(&["ps", "--to", "shop"]);
    assert_eq!(late.code, Some(1), "{late:?}");
    assert!(late.stderr.contains("revoked"), "{late:?}");
    assert_eq!(user.ask(&["logout", "shop"]).code, Some(0));
    let unknown = user.ask(&["ps", "--to", "shop"]);
    assert!(
        unknown.stderr.contains("there is no host `shop`"),
        "{unknown:?}"
    );
}

#[test]
fn a_file_of_hosts_that_others_may_read_is_not_used() {
    let user = User::new();
    let path = user.0.path().join("settings/hosts.toml");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let answer = user.ask(&["hosts"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("chmod 600"), "{answer:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(user.ask(&["hosts"]).code, Some(0));
    fs::write(&path, "[hosts.a]\naddress = 3\n").unwrap();
    let answer = user.ask(&["ps", "--to", "a"]);
    assert!(answer.stderr.contains("hosts.toml"), "{answer:?}");
}
