//! The example `live` in browsers: two people draw and chat, while its code is changed and connections are cut.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::app::{answer, exuvia};
use crate::browser::{self, Driver, Window};
use crate::templates::change;
use crate::terminal::Terminal;

fn checkout() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// Copies the example, so that it can be edited, into a workspace of its own. Returns its folder.
fn copied(around: &Path) -> PathBuf {
    let examples = checkout().join("examples");
    copy(&examples.join("live"), &around.join("live"));
    fs::copy(examples.join("Cargo.lock"), around.join("Cargo.lock")).unwrap();
    fs::copy(examples.join("Cargo.toml"), around.join("Cargo.toml")).unwrap();
    let manifest = around.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let others = text.lines().filter(|line| {
        let is_member = line.starts_with("    \"");
        !is_member || line.contains("\"live/")
    });
    fs::write(&manifest, others.collect::<Vec<_>>().join("\n")).unwrap();
    let sdk = checkout().join("guest-sdk/rust");
    change(&manifest, "../guest-sdk/rust", sdk.to_str().unwrap());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(&target, around.join("target")).unwrap();
    around.join("live")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // What a node of the checkout keeps there is its own.
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && entry.file_name() != ".exuvia" => copy(&from, &to),
            kind if kind.is_file() => drop(fs::copy(&from, &to).unwrap()),
            _ => {}
        }
    }
}

/// What lies between browsers and the node: connections through it can be cut.
struct Wire {
    address: String,
    state: Arc<Mutex<WireState>>,
}

#[derive(Default)]
struct WireState {
    is_down: bool,
    connections: Vec<TcpStream>,
}

impl Wire {
    fn to(node: &str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(WireState::default()));
        let (node, shared) = (node.to_owned(), state.clone());
        std::thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                if state.is_down {
                    continue;
                }
                let Ok(node) = TcpStream::connect(&node) else {
                    continue;
                };
                for (from, to) in [(&browser, &node), (&node, &browser)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    state.connections.push(from.try_clone().unwrap());
                    std::thread::spawn(move || pump(from, to));
                }
            }
        });
        Wire { address, state }
    }

    /// Cuts all connections, and lets no new one through.
    fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_down = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn repair(&self) {
        self.state.lock().unwrap().is_down = false;
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let moved = match from.read(&mut buffer) {
            Ok(0) | Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(count) => to.write_all(&buffer[..count]),
        };
        if moved.is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Somebody with a browser.
struct Person<'a>(Window<'a>);

impl Person<'_> {
    /// Opens the page and says who it is.
    #[track_caller]
    fn enter<'a>(driver: &'a Driver, url: &str, name: &str, hue: u16) -> Person<'a> {
        // As on another visit: with a name and a colour that are known.
        let window = driver.open(&format!("{url}static/style.css"), (1000, 700));
        window.run(&format!(
            "localStorage.setItem('name', '{name}'); localStorage.setItem('hue', '{hue}')"
        ));
        window.goes_to(url);
        window.shows("document.getElementById('state')?.value === 'connected'");
        // Gone after another load of the page.
        window.run("window.mark = 'same page'");
        Person(window)
    }

    #[track_caller]
    fn sees_people(&self, names: &[&str]) {
        let names = serde_json::to_string(names).unwrap();
        self.0.shows(&format!(
            "JSON.stringify([...document.querySelectorAll('#people li')].map((one) => one.title).sort()) === '{names}'"
        ));
    }

    #[track_caller]
    fn says(&self, words: &str) {
        self.0.types("#words", &format!("{words}\n"));
    }

    /// It is said, and once.
    #[track_caller]
    fn hears(&self, name: &str, words: &str) {
        self.0.shows(&format!(
            "[...document.querySelectorAll('#said li')].filter((one) => one.textContent === '{name}{words}').length === 1"
        ));
    }

    /// Something is drawn at this place of the board, in thousandths of its width and height.
    #[track_caller]
    fn sees_ink(&self, x: u32, y: u32) {
        self.0.shows(&ink(x, y));
    }

    fn is_on_the_same_page(&self) -> bool {
        self.0.run("return window.mark") == "same page"
    }

    #[track_caller]
    fn is(&self, state: &str) {
        let expression = format!("document.getElementById('state').value === '{state}'");
        self.0.shows(&expression);
    }
}

fn ink(x: u32, y: u32) -> String {
    format!(
        "[document.getElementById('board')].some((board) => \
         board.getContext('2d').getImageData(board.width * {x} / 1000 - 3, board.height * {y} / 1000 - 3, 7, 7).data.some((value) => value > 0))"
    )
}

#[test]
fn two_people_draw_and_chat_while_the_code_changes_and_connections_are_cut() {
    if !browser::is_there(
        "live::two_people_draw_and_chat_while_the_code_changes_and_connections_are_cut",
    ) {
        return;
    }
    let around = tempfile::tempdir().unwrap();
    let folder = copied(around.path());
    let change = |file: &str, from: &str, to: &str| change(&folder.join(file), from, to);
    change("exuvia.toml", "127.0.0.1:8080", "127.0.0.1:0");
    // Its first build may take longer than a terminal is waited for.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target", "wasm32-unknown-unknown"])
        .current_dir(around.path())
        .status();
    assert!(built.unwrap().success());
    let mut terminal = Terminal::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("http://");
    let address = terminal.shows("\n").trim().to_owned();
    terminal.shows("started");
    let wire = Wire::to(&address);
    let url = format!("http://{}/", wire.address);

    let driver = Driver::start();
    let anna = Person::enter(&driver, &url, "Anna", 265);
    let ben = Person::enter(&driver, &url, "Ben", 20);
    for person in [&anna, &ben] {
        person.sees_people(&["Anna", "Ben"]);
    }

    // Chat and strokes.
    anna.says("Shall we draw a house?");
    ben.hears("Anna", "Shall we draw a house?");
    ben.says("You the walls, I the roof.");
    anna.hears("Ben", "You the walls, I the roof.");
    anna.0.draws(
        "#board",
        &[(-180, 0), (-180, 120), (-60, 120), (-60, 0), (-180, 0)],
    );
    ben.0.draws("#board", &[(-195, 5), (-120, -70), (-45, 5)]);
    let (width, height) = size(&anna);
    let at = |x: i32, y: i32| {
        let part = |at: i32, size: i32| u32::try_from((size / 2 + at) * 1000 / size).unwrap();
        (part(x, width), part(y, height))
    };
    for person in [&anna, &ben] {
        let (x, y) = at(-180, 60);
        person.sees_ink(x, y);
        let (x, y) = at(-120, -70);
        person.sees_ink(x, y);
        let (x, y) = at(180, 60);
        assert_eq!(person.0.run(&format!("return {}", ink(x, y))), false);
    }

    // The room's code changes while they are connected: what is drawn from now on is mirrored. What was drawn stays.
    change(
        "room/src/lib.rs",
        "    vec![stroke]\n    // vec![stroke.mirrored(), stroke]",
        "    vec![stroke.mirrored(), stroke]",
    );
    terminal.shows("upgrade-completed");
    ben.0.draws(
        "#board",
        &[(-150, 110), (-150, 70), (-120, 70), (-120, 110)],
    );
    for person in [&anna, &ben] {
        for place in [(-150, 90), (150, 90), (-180, 60)] {
            let (x, y) = at(place.0, place.1);
            person.sees_ink(x, y);
        }
        person.sees_people(&["Anna", "Ben"]);
        assert!(person.is_on_the_same_page());
    }
    if let Some(folder) = std::env::var_os("EXUVIA_TEST_PICTURES") {
        photograph(&anna, &ben, &checkout().join(folder));
    }

    // And that of the sessions, which have the WebSockets.
    change(
        "session/src/lib.rs",
        "text.trim().to_owned()",
        "text.trim().to_uppercase()",
    );
    terminal.shows("upgrade-completed");
    ben.says("loud");
    for person in [&anna, &ben] {
        person.hears("Ben", "LOUD");
        person.is("connected");
        assert!(person.is_on_the_same_page());
    }

    // Code that fails is undone: the stroke is drawn by the code before it, and nobody notices.
    change(
        "room/src/lib.rs",
        "    vec![stroke.mirrored(), stroke]",
        "    panic!(\"no ink for {} points\", stroke.points.len())",
    );
    terminal.shows("swap");
    ben.0.draws("#board", &[(-30, -150), (-30, -100)]);
    terminal.shows("reverted");
    for person in [&anna, &ben] {
        for place in [(-30, -125), (30, -125)] {
            let (x, y) = at(place.0, place.1);
            person.sees_ink(x, y);
        }
        person.is("connected");
        assert!(person.is_on_the_same_page());
    }

    // All connections are cut. What both say meanwhile arrives once, when there are connections again.
    wire.cut();
    anna.is("reconnecting");
    ben.is("reconnecting");
    anna.says("are you there?");
    ben.says("the line is dead");
    wire.repair();
    for person in [&anna, &ben] {
        person.is("connected");
        person.hears("Anna", "ARE YOU THERE?");
        person.hears("Ben", "THE LINE IS DEAD");
        person.sees_people(&["Anna", "Ben"]);
        assert!(person.is_on_the_same_page());
    }
    // After a later line, what would be said twice has been said twice.
    anna.says("at last");
    for person in [&anna, &ben] {
        person.hears("Anna", "AT LAST");
        person.hears("Anna", "ARE YOU THERE?");
        person.hears("Ben", "THE LINE IS DEAD");
    }
    let lost = "document.getElementById('said').innerText.includes('too long')";
    assert_eq!(ben.0.run(&format!("return {lost}")), false);

    // A session is killed: the other sees that, and its client begins anew by itself.
    let listed = answer(exuvia(&folder).args(["ps", "--module", "session", "--json"]));
    let sessions: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    for session in sessions.as_array().unwrap() {
        let pid = session["pid"].as_str().unwrap();
        assert_eq!(answer(exuvia(&folder).args(["kill", pid])).code, Some(0));
    }
    for person in [&anna, &ben] {
        person.0.shows(lost);
        person.sees_people(&["Anna", "Ben"]);
        assert!(person.is_on_the_same_page());
    }
    ben.says("still here");
    anna.hears("Ben", "STILL HERE");

    // A window that is closed is gone.
    drop(ben);
    anna.sees_people(&["Anna"]);
    drop(anna);
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}

/// Returns the size of the board on the screen.
fn size(person: &Person<'_>) -> (i32, i32) {
    let size = person.0.run(
        "const { width, height } = document.getElementById('board').getBoundingClientRect(); \
         return [Math.round(width), Math.round(height)]",
    );
    let part = |at: usize| i32::try_from(size[at].as_i64().unwrap()).unwrap();
    (part(0), part(1))
}

/// Makes the pictures of the docs.
fn photograph(anna: &Person<'_>, ben: &Person<'_>, folder: &Path) {
    for (person, name) in [(anna, "live-anna.png"), (ben, "live-ben.png")] {
        person.0.run("document.activeElement.blur()");
        person.0.photograph(&folder.join(name));
    }
}
