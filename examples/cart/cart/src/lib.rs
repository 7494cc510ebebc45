//! A cart, in three versions: how the state changes its form while thousands of carts are full,
//! and a rollback stays possible for as long as you want.
//!
//! 1. A list of things.
//! 2. *Expand*: counts of things, and beside them the list for version 1. `migrate` creates the
//!    counts from the list, and a rollback to version 1 reads the list.
//! 3. *Contract*: the counts only. A rollback to version 2 is no longer possible.

use std::time::Duration;

use cart_protocol::{Cart, Item};
use exuvia::prelude::*;

/// The maximum number of different things in a cart.
const MOST: usize = 1_000;

#[cfg(not(any(feature = "v2", feature = "v3")))]
#[derive(Serialize, Deserialize, Saved, Default)]
struct Things {
    things: Vec<String>,
}

#[cfg(not(any(feature = "v2", feature = "v3")))]
impl Things {
    fn add(&mut self, thing: String) {
        self.things.push(thing);
    }

    fn remove(&mut self, thing: &str) {
        if let Some(place) = self.things.iter().position(|other| other == thing) {
            self.things.remove(place);
        }
    }

    fn items(&self) -> Vec<Item> {
        let mut counts = std::collections::BTreeMap::new();
        for thing in &self.things {
            *counts.entry(thing.clone()).or_insert(0) += 1;
        }
        let counts = counts.into_iter();
        counts.map(|(thing, count)| Item { thing, count }).collect()
    }
}

#[cfg(any(feature = "v2", feature = "v3"))]
#[derive(Serialize, Deserialize, Saved, Default)]
struct Things {
    counts: std::collections::BTreeMap<String, u32>,
    /// Read by version 1.
    #[cfg(feature = "v2")]
    things: Vec<String>,
}

#[cfg(any(feature = "v2", feature = "v3"))]
impl Things {
    fn add(&mut self, thing: String) {
        #[cfg(feature = "v2")]
        self.things.push(thing.clone());
        *self.counts.entry(thing).or_insert(0) += 1;
    }

    fn remove(&mut self, thing: &str) {
        #[cfg(feature = "v2")]
        if let Some(place) = self.things.iter().position(|other| other == thing) {
            self.things.remove(place);
        }
        if let Some(count) = self.counts.get_mut(thing) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(thing);
            }
        }
    }

    fn items(&self) -> Vec<Item> {
        let counts = self.counts.iter();
        counts
            .map(|(thing, count)| Item {
                thing: thing.clone(),
                count: *count,
            })
            .collect()
    }
}

#[derive(Serialize, Deserialize, Saved)]
struct Basket {
    #[serde(flatten)]
    things: Things,
    /// Fires when the cart has not been used for a while.
    timer: u64,
}

impl Basket {
    /// Restarts the timer when the cart is used.
    fn touch(&mut self) {
        exuvia::cancel_timer(self.timer);
        self.timer = forgotten().unwrap_or(0);
    }
}

/// The tag of the timer, which is not part of the protocol.
const FORGOTTEN: u32 = 1;

fn forgotten() -> Result<u64, Error> {
    let seconds = exuvia::config("cart.forgotten_s")?.unwrap_or(3_600);
    exuvia::me().send_bytes_after(FORGOTTEN, &[], Duration::from_secs(seconds))
}

#[cfg_attr(feature = "v3", exuvia::actor(schema = 3, protocol = cart_protocol::Cart, loads = [1, 2]))]
#[cfg_attr(feature = "v2", exuvia::actor(schema = 2, protocol = cart_protocol::Cart, loads = [1]))]
#[cfg_attr(
    not(any(feature = "v2", feature = "v3")),
    exuvia::actor(schema = 1, protocol = cart_protocol::Cart)
)]
impl Actor for Basket {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Basket {
            things: Things::default(),
            timer: forgotten()?,
        })
    }

    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        if let Info::Timer(timer) = info
            && timer.reference == self.timer
        {
            cx.stop(Reason::NORMAL);
        }
    }

    /// Converts the list of version 1 to counts.
    #[cfg(any(feature = "v2", feature = "v3"))]
    fn migrate(from_schema: i32, state: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Listed {
            things: Vec<String>,
            timer: u64,
        }
        if from_schema != 1 {
            return exuvia::state::by_name(state);
        }
        let old: Listed = exuvia::decode(state)?;
        let mut things = Things::default();
        for thing in old.things {
            things.add(thing);
        }
        Ok(Basket {
            things,
            timer: old.timer,
        })
    }
}

impl Cart for Basket {
    fn add(&mut self, thing: String) -> Result<(), String> {
        self.touch();
        if self.things.items().len() >= MOST {
            return Err("the cart is full".to_owned());
        }
        self.things.add(thing);
        Ok(())
    }

    fn remove(&mut self, thing: String) {
        self.touch();
        self.things.remove(&thing);
    }

    fn items(&mut self) -> Vec<Item> {
        self.touch();
        self.things.items()
    }
}
