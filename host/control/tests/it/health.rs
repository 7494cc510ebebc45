//! What probes see, from before the start of a node to its end.

use std::net::SocketAddr;

use exuvia_api::code;
use exuvia_control::{Health, listen, serve_metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::{Fake, running};

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn probes_follow_a_node_from_its_start_to_its_end() {
    let health = Health::<Fake>::new();
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let scraped = serve_metrics(health.clone(), listener).unwrap();
    let at = scraped.address();
    let expect = async |ready: &str, part: &str| {
        let alive = ask(at, "/healthz").await;
        assert!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
        let answer = ask(at, "/readyz").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {ready} ")),
            "{answer}"
        );
        assert!(answer.contains(part), "{answer}");
    };
    expect("503", "the app is starting").await;
    let metrics = ask(at, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 503 "), "{metrics}");

    let fake = Fake::new();
    health.started(fake.clone());
    expect("200", "ready").await;
    let metrics = ask(at, "/metrics").await;
    assert!(metrics.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0"));

    let why = "the child `a` is restarting".to_owned();
    *fake.not_ready.lock().unwrap() = Some(why);
    expect("503", "the child `a` is restarting").await;
    *fake.not_ready.lock().unwrap() = None;
    expect("200", "ready").await;

    health.stopping();
    expect("503", "the app is stopping").await;
}

#[tokio::test]
async fn the_socket_says_why_the_app_is_not_up() {
    let running = running();
    running.client.ready().await.unwrap();
    *running.fake.not_ready.lock().unwrap() = Some("it sleeps".to_owned());
    let error = running.client.ready().await.unwrap_err();
    assert_eq!(error.code(), code::NOT_READY);
    assert_eq!(error.to_string(), "it sleeps");
}
