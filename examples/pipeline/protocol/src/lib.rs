//! The messages between the pipeline's processes.

use std::collections::BTreeMap;

use exuvia::prelude::*;

/// The number of occurrences of each word.
pub type Counts = BTreeMap<String, u64>;

/// A part of the input: whole lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Pieces are numbered in the order of the files' names and contents, from 0 again after
    /// each start.
    pub id: u64,
    pub text: String,
}

/// The progress of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Pieces that were read from files.
    pub read: u64,
    /// Of these, pieces that are being worked on.
    pub open: u64,
    /// The maximum number of pieces open at once.
    pub most_open: u64,
    /// All files have been read, and no piece is open.
    pub is_over: bool,
}

#[exuvia::protocol]
pub trait Source {
    /// Returns the next piece to the caller; if the caller terminates, the piece is taken back.
    /// It is read from the file now, so no worker gets more than it has requested. `None`: all
    /// is done.
    fn next(&mut self, from: Caller<Option<Piece>>);
    /// Reports that the counts of a piece have been stored.
    fn done(&mut self, id: u64) -> ();
    fn progress(&self) -> Progress;
    /// Returns the progress once the work is over.
    fn wait(&mut self, from: Caller<Progress>);
}

#[exuvia::protocol]
pub trait Sink {
    /// Stores the counts of a piece, once, however often it is called.
    fn add(&mut self, id: u64, counts: Counts) -> ();
    /// Writes the sums to the file `counts.txt`; returns the number of words.
    fn finish(&mut self) -> u64;
}
