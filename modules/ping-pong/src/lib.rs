//! Plays ping-pong: for benchmarks, so written as a function that touches no heap for payloads
//! of up to a kibibyte.
//!
//! Every process returns messages with the tag `BALL` to their sender. A process that receives
//! `PLAY` plays that many round trips with a peer, and then sends `DONE` with the number of
//! rounds (8 bytes) to the process named in `PLAY`. `PLAY` contains, little-endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 16 | the peer's pid |
//! | 16 | 16 | the pid to report to; all zeros for the sender of `PLAY` |
//! | 32 | 8 | round trips |
//! | 40 | 4 | bytes of payload |

use std::cell::RefCell;

use exuvia::{Buffer, Error, Kind, Match, Message, Pid, RunResult, Wait};

/// The ball, returned to its sender.
const BALL: u32 = 1;
/// Start a game with a peer.
const PLAY: u32 = 2;
/// The game is over.
const DONE: u32 = 3;

/// The current game of this process.
struct Game {
    peer: Pid,
    report: Pid,
    rounds: u64,
    left: u64,
}

thread_local! {
    static GAME: RefCell<Option<Game>> = const { RefCell::new(None) };
}

fn run() -> RunResult {
    let mut buffer = Buffer::new();
    GAME.with_borrow_mut(|game| {
        while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
            if message.kind != Kind::Message {
                continue;
            }
            let done = match message.tag {
                BALL => bounce(game, &message),
                PLAY => play(game, &message),
                _ => Ok(()),
            };
            if let Err(error) = done {
                exuvia::warn!("the game with {} is over: {error}", message.sender);
                *game = None;
            }
        }
    });
    RunResult::Rest
}

fn bounce(slot: &mut Option<Game>, ball: &Message<'_>) -> Result<(), Error> {
    if let Some(game) = slot
        && game.peer == ball.sender
    {
        game.left -= 1;
        if game.left == 0 {
            let over = game.report.send_bytes(DONE, &game.rounds.to_le_bytes());
            *slot = None;
            return over;
        }
    }
    ball.sender.send_bytes(BALL, &ball.payload)
}

fn play(slot: &mut Option<Game>, order: &Message<'_>) -> Result<(), Error> {
    let (game, size) = read_order(order).ok_or(Error::BadArgument)?;
    let serve = game.peer.send_bytes(BALL, &vec![0; size]);
    *slot = Some(game);
    serve
}

fn read_order(order: &Message<'_>) -> Option<(Game, usize)> {
    let (peer, rest) = order.payload.split_first_chunk::<16>()?;
    let (report, rest) = rest.split_first_chunk::<16>()?;
    let (rounds, rest) = rest.split_first_chunk::<8>()?;
    let size = rest.first_chunk::<4>()?;
    let report = Pid::from_bytes(*report);
    let rounds = u64::from_le_bytes(*rounds);
    let game = Game {
        peer: Pid::from_bytes(*peer),
        report: if report == Pid::NONE {
            order.sender
        } else {
            report
        },
        // A game without rounds would never end.
        rounds: rounds.max(1),
        left: rounds.max(1),
    };
    Some((game, u32::from_le_bytes(*size) as usize))
}

exuvia::module!(run = run);
