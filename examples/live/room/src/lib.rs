//! What all share: the board, what was said, and who is present. Edit it while people are connected.

use std::collections::VecDeque;

use exuvia::channel::{self, Presence, What};
use exuvia::prelude::*;
use live_protocol::{LOBBY, Room, Said, Stroke};

/// What becomes of a stroke. Save this with the other line, and draw: nobody is disconnected, and what was drawn before stays.
fn drawn(stroke: Stroke) -> Vec<Stroke> {
    vec![stroke]
    // vec![stroke.mirrored(), stroke]
}

/// Strokes that are kept for those who come later.
const MAX_STROKES: usize = 1500;
/// Points of all of these. Each is 14 bytes at most in JSON, a stroke 36 more, and what was said 1,500: so all that somebody gets
/// who comes fits into the 256 KiB that a session keeps for its client.
const MAX_ALL_POINTS: usize = 8_000;
/// Words that are kept for them.
const MAX_SAID: usize = 50;

#[derive(Serialize, Deserialize, Layout)]
struct Lobby {
    presence: Presence,
    strokes: VecDeque<Stroke>,
    said: VecDeque<Said>,
}

/// What somebody who comes gets of what was before.
#[derive(Serialize)]
struct History<'a> {
    strokes: &'a VecDeque<Stroke>,
    said: &'a VecDeque<Said>,
}

#[exuvia::actor(schema = 1, layout, protocol = live_protocol::Room)]
impl Actor for Lobby {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Lobby {
            presence: Presence::default(),
            strokes: VecDeque::new(),
            said: VecDeque::new(),
        })
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        let changes = match self.presence.handle_info(info) {
            Ok(changes) => changes,
            Err(other) => return exuvia::debug!("dropped {other:?}"),
        };
        for change in changes {
            exuvia::info!("{} {:?}", change.key, change.what);
            if change.what == What::Joined {
                let history = History {
                    strokes: &self.strokes,
                    said: &self.said,
                };
                if let Err(error) = channel::send(change.session, LOBBY, "history", &history) {
                    exuvia::warn!("{} does not know what was before: {error}", change.key);
                }
            }
        }
    }
}

impl Room for Lobby {
    fn draw(&mut self, stroke: Stroke) {
        let strokes = drawn(stroke);
        tell("drawn", &strokes);
        self.strokes.extend(strokes);
        let mut points: usize = self.strokes.iter().map(|stroke| stroke.points.len()).sum();
        while self.strokes.len() > MAX_STROKES || points > MAX_ALL_POINTS {
            points -= self
                .strokes
                .pop_front()
                .map_or(points, |stroke| stroke.points.len());
        }
    }

    fn say(&mut self, said: Said) {
        tell("said", &said);
        self.said.push_back(said);
        if self.said.len() > MAX_SAID {
            self.said.pop_front();
        }
    }

    fn wipe(&mut self) {
        self.strokes.clear();
        tell("wiped", &());
    }
}

fn tell<T: Serialize>(event: &str, payload: &T) {
    if let Err(error) = channel::publish(LOBBY, event, payload) {
        exuvia::warn!("nobody has heard `{event}`: {error}");
    }
}
