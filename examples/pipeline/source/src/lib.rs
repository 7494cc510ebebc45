//! Reads files, one piece at a time, on request. Nothing is read ahead: a slow pipeline slows
//! down its source, and no mailbox fills.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};

use exuvia::prelude::*;
use pipeline_protocol::{Piece, Progress, Source};

/// The folder that the manifest grants.
const FOLDER: &str = "/texts";
/// The size of a piece in bytes, to which the rest of its last line is added.
const PIECE: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Reader {
    /// The files that have not been read completely, the current one first.
    files: VecDeque<String>,
    /// The current file, kept open from piece to piece. After an upgrade that does not reuse
    /// the process's memory it is opened again, and reading continues at `position`.
    #[serde(skip)]
    open: Option<BufReader<File>>,
    position: u64,
    progress: Progress,
    /// Pieces that are being worked on, by the monitor of the worker.
    given: BTreeMap<u64, Piece>,
    /// Pieces of workers that have terminated.
    again: VecDeque<Piece>,
    asking: VecDeque<Caller<Option<Piece>>>,
    waiting: Vec<Caller<Progress>>,
}

#[exuvia::actor(schema = 1, protocol = pipeline_protocol::Source)]
impl Actor for Reader {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        let failed = |error| format!("{FOLDER} cannot be listed: {error}");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(FOLDER).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                files.push(entry.path().to_string_lossy().into_owned());
            }
        }
        files.sort();
        exuvia::info!("{} files in {FOLDER}", files.len());
        Ok(Reader {
            files: files.into(),
            open: None,
            position: 0,
            progress: Progress::default(),
            given: BTreeMap::new(),
            again: VecDeque::new(),
            asking: VecDeque::new(),
            waiting: Vec::new(),
        })
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        // A worker has terminated with a piece: another one gets it.
        if let Info::Down { reference, .. } = info
            && let Some(piece) = self.given.remove(&reference)
        {
            exuvia::warn!("piece {} is given again", piece.id);
            self.again.push_back(piece);
            self.serve();
        }
    }
}

impl Source for Reader {
    fn next(&mut self, from: Caller<Option<Piece>>) {
        self.asking.push_back(from);
        self.serve();
    }

    fn done(&mut self, id: u64) {
        let monitor = self.given.iter().find(|(_, piece)| piece.id == id);
        if let Some((&monitor, _)) = monitor {
            self.given.remove(&monitor);
            exuvia::demonitor(monitor, true).ok();
        }
        self.serve();
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn wait(&mut self, from: Caller<Progress>) {
        self.waiting.push(from);
        self.serve();
    }
}

impl Reader {
    /// Gives pieces to the callers, and replies to all when there is nothing left.
    fn serve(&mut self) {
        while let Some(caller) = self.asking.pop_front() {
            let Some(piece) = self.again.pop_front().or_else(|| self.read()) else {
                self.asking.push_front(caller);
                break;
            };
            match caller.pid.monitor() {
                Ok(monitor) => {
                    caller.reply(&Some(piece.clone())).ok();
                    self.given.insert(monitor, piece);
                }
                Err(_) => self.again.push_front(piece),
            }
        }
        let open = (self.given.len() + self.again.len()) as u64;
        self.progress.open = open;
        self.progress.most_open = self.progress.most_open.max(open);
        self.progress.is_over = open == 0 && self.files.is_empty();
        if self.progress.is_over {
            for caller in self.asking.drain(..) {
                caller.reply(&None).ok();
            }
            for caller in self.waiting.drain(..) {
                caller.reply(&self.progress).ok();
            }
        }
    }

    /// Returns the next piece. Files that cannot be read are skipped and logged.
    fn read(&mut self) -> Option<Piece> {
        loop {
            let name = self.files.front()?.clone();
            match self.read_from(&name) {
                Ok(Some(text)) => {
                    let id = self.progress.read;
                    self.progress.read += 1;
                    return Some(Piece { id, text });
                }
                Ok(None) => {}
                Err(error) => exuvia::error!("{name} cannot be read on: {error}"),
            }
            self.files.pop_front();
            self.open = None;
            self.position = 0;
        }
    }

    fn read_from(&mut self, name: &str) -> std::io::Result<Option<String>> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let mut file = File::open(name)?;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(self.position))?;
                BufReader::new(file)
            }
        };
        let mut bytes = Vec::new();
        (&mut file).take(PIECE).read_to_end(&mut bytes)?;
        file.read_until(b'\n', &mut bytes)?;
        self.position += bytes.len() as u64;
        self.open = Some(file);
        // Texts may be in any encoding: ASCII words are found in most.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((!bytes.is_empty()).then_some(text))
    }
}
