//! The API for other machines: TLS 1.3, a certificate that is known by its fingerprint, and tokens.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exuvia_api::{
    Client, ClientError, DeployOptions, Fingerprint, MessageRequest, NewToken, Payload, RemoteNode,
    Role, RollbackOptions, Upload, code, fingerprint_of,
};
use exuvia_control::{
    Certificate, Claim, Health, MAX_REMOTE_PER_TOKEN, MAX_STRANGERS_PER_ADDRESS, Remote,
    ServeError, Server, serve,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fake::Fake;

struct Running {
    server: Server,
    own: Client,
    address: String,
    fingerprint: Fingerprint,
}

fn running(folder: &Path) -> Running {
    let socket = folder.join("node.sock");
    let claim = Claim::new(&socket).unwrap();
    let remote = Remote::bind("127.0.0.1:0".parse().unwrap(), None, &socket).unwrap();
    let server = serve(Fake::new(), claim.with_remote(remote), &Health::new()).unwrap();
    let (address, fingerprint) = server.remote().unwrap();
    Running {
        server,
        own: Client::new(&socket).unwrap(),
        address: address.to_string(),
        fingerprint,
    }
}

fn asked(role: Role) -> NewToken {
    NewToken {
        name: "ci".to_owned(),
        role,
        names: Vec::new(),
        modules: Vec::new(),
        expires_in_s: None,
    }
}

impl Running {
    async fn token(&self, asked: NewToken) -> String {
        self.own.new_token(&asked).await.unwrap().value.token
    }

    fn client(&self, token: &str) -> Client {
        Client::remote(RemoteNode {
            address: self.address.clone(),
            fingerprint: self.fingerprint,
            token: token.to_owned(),
        })
    }

    async fn client_for(&self, asked: NewToken) -> Client {
        let token = self.token(asked).await;
        self.client(&token)
    }
}

fn code_of<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    result.unwrap_err().code().to_owned()
}

fn message() -> MessageRequest {
    MessageRequest {
        tag: 0,
        payload: Payload::Text("hi".to_owned()),
        observe: false,
    }
}

fn upload(name: &str) -> Upload {
    Upload {
        name: name.to_owned(),
        source: format!("{name}.wasm"),
        bytes: vec![7; 3_000_000],
    }
}

#[tokio::test]
async fn a_client_with_a_token_does_what_its_role_may() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    assert_eq!(
        fingerprint_of(&running.address).await.unwrap(),
        running.fingerprint
    );
    let reader = running.client_for(asked(Role::Read)).await;
    assert_eq!(reader.info().await.unwrap().value.app, "fake");
    let forbidden = reader
        .deploy(&[upload("a")], DeployOptions::default())
        .await;
    assert_eq!(code_of(forbidden), code::FORBIDDEN);
    let deployer = running.client_for(asked(Role::Deploy)).await;
    let swap = deployer
        .deploy(&[upload("a")], DeployOptions::default())
        .await;
    assert!(swap.unwrap().value.changed);
    let admin = running.client_for(asked(Role::Admin)).await;
    let by_admin = admin.new_token(&asked(Role::Admin)).await.unwrap();
    assert_eq!(by_admin.value.info.role, Role::Admin);
    running.server.close().await;
}

#[tokio::test]
async fn a_token_may_be_for_some_processes_or_modules_only() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let scoped = running.client_for(NewToken {
        names: vec!["a".to_owned(), "user-*".to_owned()],
        ..asked(Role::Operate)
    });
    let scoped = scoped.await;
    scoped.send("a", &message()).await.unwrap();
    scoped.inspect("a").await.unwrap();
    for other in ["counter", "<1.0>", "users", "a%2f..", ""] {
        let sent = scoped.send(other, &message()).await;
        assert!(
            matches!(code_of(sent).as_str(), code::FORBIDDEN | code::BAD_REQUEST),
            "{other}"
        );
    }
    // What shows or changes all processes is not for it.
    assert_eq!(code_of(scoped.info().await), code::FORBIDDEN);
    assert_eq!(
        code_of(scoped.processes(None, 10, None).await),
        code::FORBIDDEN
    );
    assert_eq!(code_of(scoped.stop(None).await), code::FORBIDDEN);

    let deployer = running.client_for(NewToken {
        modules: vec!["cart".to_owned()],
        ..asked(Role::Deploy)
    });
    let deployer = deployer.await;
    let options = DeployOptions::default;
    deployer.deploy(&[upload("cart")], options()).await.unwrap();
    let more = deployer
        .deploy(&[upload("cart"), upload("pay")], options())
        .await;
    assert_eq!(code_of(more), code::FORBIDDEN);
    let back = deployer.rollback(RollbackOptions::default()).await;
    assert_eq!(code_of(back), code::FORBIDDEN);
    assert_eq!(
        code_of(deployer.module_of(1, "counter").await),
        code::FORBIDDEN
    );
    running.server.close().await;
}

#[tokio::test]
async fn without_a_good_token_there_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let good = running.token(asked(Role::Admin)).await;
    let soon = NewToken {
        expires_in_s: Some(1),
        ..asked(Role::Admin)
    };
    let expired = running.token(soon).await;
    crate::wait::until("it expires", async || {
        running.client(&expired).info().await.is_err()
    })
    .await;
    let revoked = running
        .own
        .new_token(&asked(Role::Admin))
        .await
        .unwrap()
        .value;
    running.own.revoke_token(&revoked.info.id).await.unwrap();
    let shorter = &good[..good.len() - 1];
    for bad in [
        "",
        "x",
        shorter,
        &format!("{good}0"),
        &expired,
        &revoked.token,
    ] {
        let client = running.client(bad);
        assert_eq!(code_of(client.info().await), code::UNAUTHORIZED, "{bad}");
        assert_eq!(code_of(client.ready().await), code::UNAUTHORIZED, "{bad}");
        assert_eq!(
            code_of(client.events().await.map(drop)),
            code::UNAUTHORIZED,
            "{bad}"
        );
    }
    // A body is not read of somebody unknown: the answer comes at once, or the connection ends.
    let client = running.client("x");
    let huge = Upload {
        bytes: vec![0; 60_000_000],
        ..upload("a")
    };
    let refused = client.deploy(&[huge], DeployOptions::default()).await;
    assert!(matches!(
        code_of(refused).as_str(),
        code::UNAUTHORIZED | "broken"
    ));
    let log = folder.path().join("node.sock.refused.jsonl");
    crate::wait::until("it is noted", async || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines()
            .filter(|line| line.contains("\"status\":401"))
            .count()
            >= 18
    })
    .await;
    // The good one is still good, after all that and after a start.
    running.client(&good).info().await.unwrap();
    running.server.close().await;
    let again = self::running(folder.path());
    again.client(&good).info().await.unwrap();
    let listed = again.own.tokens().await.unwrap();
    // Expired ones make room for others.
    assert_eq!(listed.value.items.len(), 1);
    let secret = good.rsplit('_').next().unwrap();
    assert!(!listed.json.to_string().contains(secret));
    again.server.close().await;
}

#[tokio::test]
async fn a_stranger_gets_nothing_and_the_certificate_stays() {
    let folder = tempfile::tempdir().unwrap();
    let first = running(folder.path());
    let token = first.token(asked(Role::Admin)).await;
    let before = first.fingerprint;
    first.server.close().await;
    let again = running(folder.path());
    assert_eq!(again.fingerprint, before);
    again.client(&token).info().await.unwrap();

    // Somebody else at that address.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = running(elsewhere.path());
    let fooled = Client::remote(RemoteNode {
        address: other.address.clone(),
        fingerprint: before,
        token,
    });
    let error = fooled.info().await.unwrap_err();
    assert!(matches!(&error, ClientError::Stranger { expected, .. } if *expected == before));
    assert!(error.to_string().contains("another certificate"), "{error}");
    // Nothing has arrived.
    let log = std::fs::read_to_string(elsewhere.path().join("node.sock.refused.jsonl"));
    assert_eq!(log.unwrap(), "");
    other.server.close().await;
    again.server.close().await;
}

#[tokio::test]
async fn older_tls_and_plain_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let stream = TcpStream::connect(&running.address).await.unwrap();
    let name = ServerName::try_from("exuvia").unwrap();
    let refused = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("ProtocolVersion"), "{why}");

    let mut plain = TcpStream::connect(&running.address).await.unwrap();
    plain
        .write_all(b"GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    match plain.read_to_end(&mut answer).await {
        Ok(_) => assert!(!answer.starts_with(b"HTTP"), "{answer:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    running.server.close().await;
}

/// Connections that say nothing hold up a stop no longer than its time, and the node's own socket not at all.
#[tokio::test]
async fn silent_connections_hold_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_STRANGERS_PER_ADDRESS {
        silent.push(TcpStream::connect(&running.address).await.unwrap());
    }
    running.own.info().await.unwrap();
    // As many from one address as may be hold that address up for a while, and nobody else; those that show a token are
    // not among them.
    drop(silent.split_off(1));
    let client = running.client_for(asked(Role::Read)).await;
    crate::wait::until("there is room", async || client.info().await.is_ok()).await;
    let mut streams = Vec::new();
    for _ in 0..MAX_REMOTE_PER_TOKEN {
        streams.push(client.events().await.unwrap());
    }
    assert_eq!(code_of(client.info().await), code::BUSY);
    let another = running.client_for(asked(Role::Read)).await;
    another.info().await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(60), running.server.close()).await;
    closed.unwrap();
}

#[tokio::test]
async fn events_stream_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("node.sock");
    let fake = Fake::new();
    let remote = Remote::bind("127.0.0.1:0".parse().unwrap(), None, &socket).unwrap();
    let claim = Claim::new(&socket).unwrap().with_remote(remote);
    let server = serve(fake.clone(), claim, &Health::new()).unwrap();
    let (address, fingerprint) = server.remote().unwrap();
    let own = Client::new(&socket).unwrap();
    let token = own.new_token(&asked(Role::Read)).await.unwrap().value.token;
    let client = Client::remote(RemoteNode {
        address: address.to_string(),
        fingerprint,
        token,
    });
    let mut events = client.events().await.unwrap();
    for n in 0..3 {
        let note = crate::fake::Note {
            text: n.to_string(),
        };
        fake.events.send(note).unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event.line, format!("note: {n}"));
    }
    server.close().await;
}

/// A token that is revoked, or expires, ends the streams that were opened with it.
#[tokio::test]
async fn streams_end_with_their_token() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let made = running
        .own
        .new_token(&asked(Role::Read))
        .await
        .unwrap()
        .value;
    let node = RemoteNode {
        address: running.address.clone(),
        fingerprint: running.fingerprint,
        token: made.token,
    };
    let mut revoked = Client::remote(node).events().await.unwrap();
    running.own.revoke_token(&made.info.id).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), revoked.next()).await;
    assert!(!matches!(ended.unwrap(), Ok(Some(_))));
    let soon = NewToken {
        expires_in_s: Some(1),
        ..asked(Role::Read)
    };
    let client = running.client_for(soon).await;
    let mut expired = client.events().await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), expired.next()).await;
    assert!(!matches!(ended.unwrap(), Ok(Some(_))));
    running.server.close().await;
}

/// What a stranger sends is noted as far as it can be, and harms nobody.
#[tokio::test]
async fn odd_paths_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path());
    let client = running.client("x");
    for path in ["é".repeat(600), "%ff".repeat(300), "a".repeat(5_000)] {
        assert_eq!(code_of(client.inspect(&path).await), code::UNAUTHORIZED);
    }
    running.own.info().await.unwrap();
    running.server.close().await;
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (
        folder.path().join("chain.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&chain, "nothing").unwrap();
    std::fs::write(&key, "nothing").unwrap();
    let certificate = Some(Certificate { chain, key });
    let address = "127.0.0.1:0".parse().unwrap();
    let error = Remote::bind(address, certificate, &folder.path().join("a.sock")).unwrap_err();
    assert!(matches!(error, ServeError::Certificate { .. }));
    assert!(error.to_string().contains("chain.pem"), "{error}");
    assert!(error.help().unwrap().contains("--cert"));
}
