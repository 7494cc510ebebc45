//! What the sessions and the room say to each other, and what browsers get.

use exuvia::Layout;
use serde::{Deserialize, Serialize};

/// The topic, and the registered name of the process that has what all share.
pub const LOBBY: &str = "room:lobby";

/// Points of one stroke at most.
pub const MAX_POINTS: usize = 200;
/// The right and the lower edge of the board.
pub const EDGE: u16 = 10_000;

/// A line through points of the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Layout)]
pub struct Stroke {
    /// The colour: degrees of the colour circle.
    pub hue: u16,
    /// In pixels of a board that is 1,000 wide.
    pub width: u8,
    /// From the left and from the top.
    pub points: Vec<(u16, u16)>,
}

/// Words of somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Layout)]
pub struct Said {
    pub name: String,
    pub hue: u16,
    pub text: String,
}

/// What all share.
#[exuvia::protocol]
pub trait Room {
    /// Draws a stroke.
    fn draw(&mut self, stroke: Stroke);
    /// Says something.
    fn say(&mut self, said: Said);
    /// Wipes the board.
    fn wipe(&mut self);
}

impl Stroke {
    /// Returns whether it is one: others must be able to draw it.
    pub fn is_valid(&self) -> bool {
        let on_board = |(x, y): &(u16, u16)| *x <= EDGE && *y <= EDGE;
        self.hue < 360
            && (1..=40).contains(&self.width)
            && (1..=MAX_POINTS).contains(&self.points.len())
            && self.points.iter().all(on_board)
    }

    /// Returns it as a mirror on the right shows it.
    #[must_use]
    pub fn mirrored(&self) -> Stroke {
        let points = self.points.iter();
        Stroke {
            points: points.map(|(x, y)| (EDGE - x, *y)).collect(),
            ..self.clone()
        }
    }
}
