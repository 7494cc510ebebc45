//! Which node gets the path of a socket, and what becomes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use exuvia_api::{Client, ClientError, MAX_SOCKET_PATH_BYTES, check_path};
use exuvia_control::{Claim, Health, ServeError, serve};

use crate::fake::{Fake, running};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_its_user_can_open_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("node.sock");
    let server = serve(Fake::new(), Claim::new(&path).unwrap(), &Health::new()).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    server.close().await;
}

#[tokio::test]
async fn a_second_node_is_rejected_with_the_address_of_the_first() {
    let running = running();
    let path = running.server.path().to_path_buf();
    let error = Claim::new(&path).unwrap_err();
    let ServeError::AlreadyRunning { socket, process } = &error else {
        panic!("{error}");
    };
    assert_eq!(*socket, path);
    assert_eq!(*process, Some(std::process::id()));
    assert!(error.to_string().contains("a node is already running"));
    assert!(error.help().unwrap().contains("--socket"));
    // The first one did not suffer from the attempt.
    running.client.info().await.unwrap();
}

#[tokio::test]
async fn the_path_is_free_again_after_the_end() {
    let running = running();
    let path = running.server.path().to_path_buf();
    running.server.close().await;
    assert!(!path.exists());
    let error = running.client.info().await.unwrap_err();
    assert!(error.unreachable(), "{error}");
    let server = serve(Fake::new(), Claim::new(&path).unwrap(), &Health::new()).unwrap();
    running.client.info().await.unwrap();
    server.close().await;
}

#[tokio::test]
async fn a_socket_that_a_dead_node_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    // The file stays when its listener is dropped, as after a kill.
    drop(UnixListener::bind(&path).unwrap());
    let client = Client::new(&path).unwrap();
    let error = client.info().await.unwrap_err();
    assert!(error.unreachable());
    assert!(error.to_string().contains("its node has exited"), "{error}");

    let server = serve(Fake::new(), Claim::new(&path).unwrap(), &Health::new()).unwrap();
    client.info().await.unwrap();
    server.close().await;
}

#[test]
fn a_file_that_is_not_a_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(
        Claim::new(&path),
        Err(ServeError::NotASocket { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"mine");

    let other = folder.path().join("other.sock");
    let _listener = UnixListener::bind(&other).unwrap();
    assert!(matches!(
        Claim::new(&other),
        Err(ServeError::Foreign { .. })
    ));
    assert!(other.exists());
}

#[tokio::test]
async fn a_path_that_does_not_fit_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let room = MAX_SOCKET_PATH_BYTES - folder.path().as_os_str().len() - 1;
    let fits = folder.path().join("s".repeat(room));
    let too_long = folder.path().join("s".repeat(room + 1));

    serve(Fake::new(), Claim::new(fits).unwrap(), &Health::new())
        .unwrap()
        .close()
        .await;
    let error = Claim::new(&too_long).unwrap_err();
    assert!(error.to_string().contains("108 bytes"), "{error}");
    assert!(check_path(&too_long).is_err());
    assert!(matches!(
        Client::new(&too_long),
        Err(ClientError::PathTooLong(_))
    ));
}
