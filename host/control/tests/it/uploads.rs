//! Deployments as any tool could send them: what is taken, and what is said to be wrong.

use exuvia_api::{MAX_DEPLOY_MODULES, MAX_PART_HEAD_BYTES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::fake::{Running, running};

const FORM: &str = "multipart/form-data; boundary=cut";

/// Sends a body to `POST /v1/releases`; returns the response.
async fn deploy(running: &Running, query: &str, content_type: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(running.client.socket().unwrap())
        .await
        .unwrap();
    let head = format!(
        "POST /v1/releases{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn part(head: &str, bytes: &str) -> String {
    format!("--cut\r\n{head}\r\n\r\n{bytes}\r\n")
}

fn named(name: &str, bytes: &str) -> String {
    part(
        &format!("content-disposition: form-data; name=\"{name}\""),
        bytes,
    )
}

#[tokio::test]
async fn a_form_written_by_hand_is_deployed() {
    let running = running();
    let file = part(
        "Content-Disposition: form-data; name=\"b\"; filename=\"dist/b.wasm\"\r\n\
         Content-Type: application/wasm",
        "\r\n--cu\r\n",
    );
    let body = format!("{}{file}--cut--\r\n", named("a", ""));
    let answer = deploy(&running, "?loops=leave&fresh=true", FORM, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.contains("location: /v1/releases/3\r\n"), "{answer}");
    {
        let deployed = running.fake.deployed.lock().unwrap();
        let (modules, options) = &deployed[0];
        assert_eq!((modules[0].name.as_str(), modules[0].bytes.len()), ("a", 0));
        // Without a file, the name says where it is from.
        assert_eq!(modules[0].source, "a");
        assert_eq!(modules[1].source, "dist/b.wasm");
        assert_eq!(modules[1].bytes, b"\r\n--cu\r\n");
        assert!(options.fresh && options.loops == exuvia_api::Loops::Leave);
    }
    let same = format!("{}--cut--\r\n", named("a", "same"));
    let answer = deploy(&running, "", FORM, same.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"changed\":false"), "{answer}");
}

#[tokio::test]
async fn a_wrong_part_is_named() {
    let running = running();
    let (a, end) = (named("a", "1"), "--cut--\r\n");
    for (body, status, why) in [
        (String::new(), 400, "part 1 is cut off"),
        (end.to_owned(), 400, "the form has no part"),
        ("hello".to_owned(), 400, "part 1 is cut off"),
        (a.clone(), 400, "part 1 (`a`) is cut off"),
        (format!("{a}--cut\r\n"), 400, "part 2 is cut off"),
        (a[..a.len() - 3].to_owned(), 400, "part 1 (`a`) is cut off"),
        (format!("{a}{a}{end}"), 400, "part 2: `a` is named twice"),
        (
            format!("{a}{}{end}", part("content-type: x/y", "2")),
            400,
            "part 2 names no module",
        ),
        (
            format!("{a}{}{end}", named("", "2")),
            400,
            "part 2 names no module",
        ),
        (
            format!("{a}{}{end}", part("no header", "2")),
            400,
            "part 2 cannot be read",
        ),
        (
            "x".repeat(2 * MAX_PART_HEAD_BYTES),
            400,
            "no part begins within",
        ),
    ] {
        let answer = deploy(&running, "", FORM, body.as_bytes()).await;
        let shown = &body[..body.len().min(200)];
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(why),
            "{shown}\n{why}\n{answer}"
        );
        assert!(answer.contains("curl --form"), "{answer}");
    }
    let many: String = (0..=MAX_DEPLOY_MODULES)
        .map(|number| named(&number.to_string(), ""))
        .collect();
    let answer = deploy(&running, "", FORM, format!("{many}{end}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for content_type in ["application/json", "multipart/form-data"] {
        let answer = deploy(&running, "", content_type, b"{}").await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
        assert!(answer.contains("curl --form"), "{answer}");
    }
    let answer = deploy(&running, "?loop=kill", FORM, a.as_bytes()).await;
    assert!(answer.contains("unknown field `loop`"), "{answer}");
    assert!(running.fake.deployed.lock().unwrap().is_empty());
}
