//! What the pipeline's processes say to each other.

use std::collections::BTreeMap;

use exuvia::prelude::*;

/// How often each word is there.
pub type Counts = BTreeMap<String, u64>;

/// A part of the input: whole lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Pieces are numbered in the order of the files' names and of what is in them, each time anew.
    pub id: u64,
    pub text: String,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Pieces that were read from files.
    pub read: u64,
    /// Of these, pieces that somebody works on.
    pub open: u64,
    /// The most that were open at once.
    pub most_open: u64,
    /// All files were read, and nothing is open.
    pub is_over: bool,
}

#[exuvia::protocol]
pub trait Source {
    /// The next piece, for whoever asks; its end takes the piece back. It is read
    /// from the file now, so nobody is ever given more than was asked for. `None`: all is done.
    fn next(&mut self, from: Caller<Option<Piece>>);
    /// The counts of a piece are written down.
    fn done(&mut self, id: u64) -> ();
    fn progress(&self) -> Progress;
    /// The same, when it is over.
    fn wait(&mut self, from: Caller<Progress>);
}

#[exuvia::protocol]
pub trait Sink {
    /// Writes the counts of a piece down, once, however often it is told.
    fn add(&mut self, id: u64, counts: Counts) -> ();
    /// Writes the sums into the file `counts.txt`; answers how many words there are.
    fn finish(&mut self) -> u64;
}
