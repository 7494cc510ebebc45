//! A browser that a test drives: Chromium, through its WebDriver (W3C), of which some commands are enough here. The crates
//! for it bring sixty others along.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything here takes: it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(60);

#[expect(
    clippy::disallowed_methods,
    reason = "when a broken test gives up; nothing is measured"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a page of another program"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(30));
}

/// The program that drives Chromium, and ends with this.
pub(crate) struct Driver {
    child: Child,
    address: String,
}

/// A window of a browser of its own, with nothing of others in it.
pub(crate) struct Window<'a> {
    driver: &'a Driver,
    session: String,
    _profile: TempDir,
}

/// Returns whether Chromium and its driver are there. `EXUVIA_TEST_BROWSER=1` wants them to be; otherwise it is said that the
/// test is skipped.
pub(crate) fn is_there(test: &str) -> bool {
    let runs = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let missing = ["chromium", "chromedriver"]
        .into_iter()
        .find(|program| !runs(program));
    let Some(missing) = missing else {
        return true;
    };
    let wanted = std::env::var_os("EXUVIA_TEST_BROWSER").is_some();
    assert!(
        !wanted,
        "{missing} is missing: install chromium and chromium-driver"
    );
    eprintln!("SKIPPED {test}: {missing} is missing");
    false
}

impl Driver {
    pub(crate) fn start() -> Driver {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // ChromeDriver was started successfully on port 41231.
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // It would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.unwrap());
        Driver { child, address }
    }

    /// Opens a window of this size that shows a page.
    pub(crate) fn open(&self, url: &str, size: (u32, u32)) -> Window<'_> {
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let (width, height) = size;
        let arguments = [
            "--headless",
            // There is no sandbox for root.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &format!("--window-size={width},{height}"),
            &folder,
        ];
        let options = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": { "args": arguments } } } });
        let session = self.ask("POST", "/session", &options);
        let session = session["sessionId"].as_str().unwrap().to_owned();
        let window = Window {
            driver: self,
            session,
            _profile: profile,
        };
        window.goes_to(url);
        window
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body);
        let value = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let body = match method {
            "POST" => body.to_string(),
            _ => String::new(),
        };
        let (length, address) = (body.len(), &self.address);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && line != "\r\n" {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["value"].take())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Window<'_> {
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.driver.ask(method, &path, body)
    }

    #[track_caller]
    pub(crate) fn goes_to(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a script in the page. Returns what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    /// Waits until an expression of the page is true.
    #[track_caller]
    pub(crate) fn shows(&self, expression: &str) {
        let end = now() + DEADLINE;
        let script = format!("return Boolean({expression})");
        while self.run(&script) != true {
            if now() > end {
                let page = self.run("return document.body.innerText");
                panic!("`{expression}` does not become true; the page: {page}");
            }
            pause();
        }
    }

    fn element(&self, selector: &str) -> Value {
        self.ask(
            "POST",
            "/element",
            &json!({ "using": "css selector", "value": selector }),
        )
    }

    /// Types into an element, as on a keyboard; `\n` is the Enter key.
    #[track_caller]
    pub(crate) fn types(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        let id = element.as_object().unwrap().values().next().unwrap();
        let path = format!("/element/{}/value", id.as_str().unwrap());
        let text = text.replace('\n', "\u{e007}");
        self.ask("POST", &path, &json!({ "text": text }));
    }

    /// Draws with the mouse through these points of an element, in pixels from its centre.
    #[track_caller]
    pub(crate) fn draws(&self, selector: &str, points: &[(i32, i32)]) {
        let element = self.element(selector);
        let moves = |(x, y): &(i32, i32)| json!({ "type": "pointerMove", "duration": 20, "origin": element, "x": x, "y": y });
        let mut actions: Vec<Value> = points.iter().map(moves).collect();
        actions.insert(1, json!({ "type": "pointerDown", "button": 0 }));
        actions.push(json!({ "type": "pointerUp", "button": 0 }));
        let mouse = json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": actions });
        self.ask("POST", "/actions", &json!({ "actions": [mouse] }));
    }

    /// Writes what the window shows into a file, as PNG.
    pub(crate) fn photograph(&self, file: &Path) {
        let picture = self.ask("GET", "/screenshot", &Value::Null);
        let decoder = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(file).unwrap())
            .spawn();
        let mut decoder = decoder.unwrap();
        let mut input = decoder.stdin.take().unwrap();
        input
            .write_all(picture.as_str().unwrap().as_bytes())
            .unwrap();
        drop(input);
        assert!(decoder.wait().unwrap().success());
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // Its browser ends with it, also after a test that has failed.
        let path = format!("/session/{}", self.session);
        let _ = self.driver.try_ask("DELETE", &path, &Value::Null);
    }
}
