//! Sockets for roles: which routes each has, what is noted, and that nothing is there for nobody.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_api::{
    CallRequest, Client, ClientError, DeployOptions, MessageRequest, Payload, Role,
    RollbackOptions, Upload, code,
};
use exuvia_control::{Claim, Health, Server, serve};
use serde_json::Value;

use crate::fake::Fake;

const ROLES: [Role; 5] = [
    Role::Call,
    Role::Read,
    Role::Operate,
    Role::Deploy,
    Role::Admin,
];

struct Running {
    server: Server,
    folder: tempfile::TempDir,
}

fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut claim = Claim::new(folder.path().join("node.sock")).unwrap();
    for role in ROLES {
        let other = Claim::new(socket(folder.path(), role)).unwrap();
        claim = claim.with(role, other);
    }
    let server = serve(Fake::new(), claim, &Health::new()).unwrap();
    Running { server, folder }
}

fn socket(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.sock"))
}

impl Running {
    fn client(&self, role: Role) -> Client {
        Client::new(socket(self.folder.path(), role)).unwrap()
    }

    /// The lines of one of the audit logs, at least so many.
    async fn audit(&self, name: &str, lines: usize) -> Vec<Value> {
        let path = self.folder.path().join(format!("node.sock.{name}.jsonl"));
        crate::wait::until("the lines are written", async || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().count() >= lines
        })
        .await;
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn is_forbidden<T: std::fmt::Debug>(result: Result<T, ClientError>) -> bool {
    match result {
        Err(ClientError::Node(problem)) => problem.code == code::FORBIDDEN,
        Ok(_) => false,
        Err(error) => panic!("{error}"),
    }
}

fn message() -> MessageRequest {
    MessageRequest {
        tag: 0,
        payload: Payload::Text("hi".to_owned()),
        observe: true,
    }
}

/// What a client with a role may not do: the least role of each thing is here.
#[tokio::test]
async fn each_role_may_do_what_it_says_and_no_more() {
    let running = running();
    for role in ROLES {
        let client = running.client(role);
        let call = CallRequest {
            tag: 0,
            payload: Payload::Text("hi".to_owned()),
            timeout_ms: 5_000,
        };
        assert!(!is_forbidden(client.send("a", &message()).await), "{role}");
        assert!(!is_forbidden(client.call("a", &call).await), "{role}");
        assert!(!is_forbidden(client.describe("a").await), "{role}");
        // By pid: for those that see pids.
        let by_pid = client.send("<1.0>", &message()).await;
        assert_eq!(is_forbidden(by_pid), role < Role::Read, "{role}");
        let by_pid = client.describe("1.0").await;
        assert_eq!(is_forbidden(by_pid), role < Role::Read, "{role}");
        // Of the host's own processes, which do what operators ask.
        let asked = client.send("root", &message()).await;
        assert_eq!(is_forbidden(asked), role < Role::Operate, "{role}");
        let asked = client.call("root", &call).await;
        assert_eq!(is_forbidden(asked), role < Role::Operate, "{role}");
        assert_eq!(is_forbidden(client.info().await), role < Role::Read);
        assert_eq!(is_forbidden(client.inspect("a").await), role < Role::Read);
        assert_eq!(is_forbidden(client.releases().await), role < Role::Read);
        assert_eq!(
            is_forbidden(client.events().await.map(drop)),
            role < Role::Read
        );
        assert_eq!(
            is_forbidden(client.trace("a", 1).await.map(drop)),
            role < Role::Operate
        );
        assert_eq!(
            is_forbidden(client.kill("a", None).await),
            role < Role::Operate
        );
        let module = Upload {
            name: "a".to_owned(),
            source: "a.wasm".to_owned(),
            bytes: vec![1; 3_000_000],
        };
        let deployed = client.deploy(&[module], DeployOptions::default()).await;
        assert_eq!(is_forbidden(deployed), role < Role::Deploy);
        let options = RollbackOptions {
            to: Some(1),
            ..RollbackOptions::default()
        };
        assert_eq!(
            is_forbidden(client.rollback(options).await),
            role < Role::Deploy
        );
        assert_eq!(is_forbidden(client.pin(1, true).await), role < Role::Deploy);
        let code = client.module_of(1, "counter").await;
        assert_eq!(is_forbidden(code), role < Role::Deploy);
    }
    running.server.close().await;
}

#[tokio::test]
async fn who_changed_what_and_what_was_refused_is_noted() {
    let running = running();
    let own = Client::new(running.folder.path().join("node.sock")).unwrap();
    own.info().await.unwrap();
    // Messages are not noted, but for those to the host's own processes, which do what operators ask.
    own.send("a", &message()).await.unwrap();
    own.send("root", &message()).await.unwrap();
    own.kill("a", Some("old & slow")).await.unwrap();
    let caller = running.client(Role::Call);
    caller.send("a", &message()).await.unwrap();
    assert!(is_forbidden(caller.kill("a", None).await));
    let mut changes = running.audit("audit", 2).await;
    let asked = changes.remove(0);
    assert_eq!(asked["path"], "/v1/processes/root/messages", "{asked}");
    let refused = running.audit("refused", 1).await;
    let noted = [changes, refused].concat();
    assert_eq!(noted.len(), 2, "{noted:?}");
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    for (line, (role, status)) in noted.iter().zip([("admin", 200), ("call", 403)]) {
        assert_eq!(line["who"], uid.as_str(), "{line}");
        assert_eq!(line["role"], role, "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["method"], "DELETE", "{line}");
        let path = line["path"].as_str().unwrap();
        assert!(path.starts_with("/v1/processes/a"), "{line}");
    }
    let mode = |name: &str| {
        let metadata = std::fs::metadata(running.folder.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("node.sock.audit.jsonl"), 0o600);
    assert_eq!((mode("node.sock"), mode("call.sock")), (0o600, 0o666));
    // All sockets end with the server.
    let folder = running.folder;
    tokio::time::timeout(Duration::from_secs(60), running.server.close())
        .await
        .unwrap();
    for role in ROLES {
        assert!(!socket(folder.path(), role).exists(), "{role}");
    }
}
