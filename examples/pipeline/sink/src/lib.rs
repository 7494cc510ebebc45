//! Stores the counts: those of each piece as a line of a journal, so that a restarted sink
//! knows what the previous one knew, and finally the sums.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};

use exuvia::prelude::*;
use pipeline_protocol::{Counts, Sink};

const JOURNAL: &str = "/out/journal";
const RESULT: &str = "/out/counts.txt";

#[derive(Serialize, Deserialize)]
struct Writer {
    seen: BTreeSet<u64>,
    sums: Counts,
    #[serde(skip)]
    journal: Option<File>,
}

#[exuvia::actor(schema = 1, protocol = pipeline_protocol::Sink)]
impl Actor for Writer {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        let mut writer = Writer {
            seen: BTreeSet::new(),
            sums: Counts::new(),
            journal: None,
        };
        let whole = writer
            .replay()
            .map_err(|error| format!("{JOURNAL}: {error}"))?;
        if !writer.seen.is_empty() {
            exuvia::warn!("{} pieces were written down before", writer.seen.len());
        }
        // The previous process may have terminated in the middle of a line: that piece comes
        // again.
        let journal = writer.journal().and_then(|file| file.set_len(whole));
        journal.map_err(|error| format!("{JOURNAL}: {error}"))?;
        Ok(writer)
    }
}

impl Sink for Writer {
    fn add(&mut self, id: u64, counts: Counts) {
        if self.seen.contains(&id) {
            return;
        }
        let mut line = id.to_string();
        for (word, count) in &counts {
            write!(line, " {word}={count}").ok();
        }
        line.push('\n');
        // A sink that cannot write is useless: it panics and leaves the decision to its
        // supervisor.
        let journal = self.journal().expect("the journal is opened");
        journal
            .write_all(line.as_bytes())
            .expect("the journal is written");
        self.take(id, counts);
    }

    fn finish(&mut self) -> u64 {
        let mut text = String::new();
        for (word, count) in &self.sums {
            writeln!(text, "{count} {word}").ok();
        }
        // Written to a temporary file and renamed, so that no reader sees half of it.
        let new = format!("{RESULT}.new");
        std::fs::write(&new, text).expect("the result is written");
        std::fs::rename(&new, RESULT).expect("the result is put in its place");
        self.sums.len() as u64
    }
}

impl Writer {
    fn take(&mut self, id: u64, counts: Counts) {
        self.seen.insert(id);
        for (word, count) in counts {
            *self.sums.entry(word).or_default() += count;
        }
    }

    fn journal(&mut self) -> std::io::Result<&mut File> {
        if self.journal.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(JOURNAL)?;
            self.journal = Some(file);
        }
        self.journal
            .as_mut()
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// Reads the journal; returns how many of its bytes are whole lines.
    fn replay(&mut self) -> std::io::Result<u64> {
        let file = match File::open(JOURNAL) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut file = BufReader::new(file);
        let (mut whole, mut line) = (0, String::new());
        while file.read_line(&mut line)? > 0 && line.ends_with('\n') {
            whole += line.len() as u64;
            let mut parts = line.split_whitespace();
            let id = parts.next().and_then(|id| id.parse().ok());
            let counts = parts.filter_map(|part| {
                let (word, count) = part.rsplit_once('=')?;
                Some((word.to_owned(), count.parse().ok()?))
            });
            if let Some(id) = id {
                self.take(id, counts.collect());
            }
            line.clear();
        }
        Ok(whole)
    }
}
