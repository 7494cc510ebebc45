//! Encrypted connections: HTTP and TCP, certificates that change, and clients that are none.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, BootError, BootOptions, NodeConfig};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::guests::{boot_options, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a certificate for `localhost` and its key. Returns the certificate.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn manifest(folder: &Path) -> Manifest {
    let wasm = wat::parse_str(crate::sockets::echo("")).unwrap();
    std::fs::write(folder.join("echo.wasm"), wasm).unwrap();
    let tls = "tls = { certificate = \"cert.pem\", key = \"key.pem\" }";
    let text = format!(
        "[app]\nname = \"test\"\n[modules.echo]\npath = \"echo.wasm\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nreading = \"500ms\"\n{tls}\n\
         [[listen.routes]]\npath = \"/to/{{id}}\"\nredirect = \"/{{id}}\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nmodule = \"echo\"\n{tls}\n"
    );
    std::fs::write(folder.join("exuvia.toml"), text).unwrap();
    Manifest::load(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn boot(folder: &Path) -> (App, SocketAddr, SocketAddr) {
    let manifest = manifest(folder);
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap_or_else(|error| panic!("{error}"));
    let addresses = app.node().addresses();
    (app, addresses[0], addresses[1])
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects with trust in one certificate, and these protocols to choose from.
fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn alive(app: &App) -> usize {
    app.node().system().table.alive()
}

#[test]
fn http_and_tcp_are_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let (app, http, tcp) = boot(folder.path());
    let before = alive(&app);
    let mut client = connect(http, &trusted, &[b"http/1.1"]).unwrap();
    client
        .write_all(b"GET /to/me HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.contains("location: /me"), "{response}");
    let both = connect(http, &trusted, &[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(both.conn.alpn_protocol(), Some(&b"h2"[..]));
    drop(both);

    let mut client = connect(tcp, &trusted, &[]).unwrap();
    // More than the buffers of the system hold, all at once, and nothing more afterwards.
    let bytes = vec![b'x'; 300_000];
    let mut received = vec![0; bytes.len()];
    for _ in 0..20 {
        client.write_all(&bytes).unwrap();
        client.read_exact(&mut received).unwrap();
        assert!(received == bytes);
    }
    drop(client);
    eventually("nothing is left", || alive(&app) == before);
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_does_not_encrypt_gets_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (app, http, _) = boot(folder.path());
    let before = alive(&app);
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"",
    ] {
        // The last ones take longer than a handshake may.
        let mut stream = TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        assert_eq!(alive(&app), before, "no process for it");
    }
    app.stop(PATIENCE);
}

#[test]
fn a_certificate_that_changes_on_disk_is_used_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let (app, http, _) = boot(folder.path());
    connect(http, &first, &[]).unwrap();
    let second = certificate(folder.path());
    eventually("the new one", || connect(http, &second, &[]).is_ok());
    assert!(connect(http, &first, &[]).is_err(), "the old one is gone");
    std::fs::write(folder.path().join("cert.pem"), "nothing").unwrap();
    // Longer than it takes until the files are looked at again.
    std::thread::park_timeout(Duration::from_millis(2_500));
    connect(http, &second, &[]).unwrap();
    connect(http, &second, &[]).unwrap();
    app.stop(PATIENCE);
}

#[test]
fn a_certificate_that_cannot_be_used_fails_the_boot() {
    let folder = tempfile::tempdir().unwrap();
    let boot = || {
        let manifest = manifest(folder.path());
        let options = BootOptions {
            config: Some(NodeConfig::of(&manifest)),
            ..BootOptions::default()
        };
        let error = App::boot(manifest, options).map(drop).unwrap_err();
        assert!(matches!(error, BootError::Listen(_)), "{error}");
        assert!(error.help().unwrap().contains("PEM"));
        error.to_string()
    };
    assert!(boot().contains("cert.pem"));
    certificate(folder.path());
    let key = std::fs::read(folder.path().join("key.pem")).unwrap();
    certificate(folder.path());
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let error = boot();
    assert!(
        error.contains("cert.pem with ") && error.contains("key.pem"),
        "{error}"
    );
    std::fs::write(folder.path().join("key.pem"), "nothing").unwrap();
    assert!(boot().contains("key.pem"));
}
