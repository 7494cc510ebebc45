//! A chat user. Messages that it hears are logged, which shows them on a terminal.

use std::collections::VecDeque;

use chat_protocol::{SAID, Said, User, room};
use exuvia::prelude::*;

/// The number of messages kept for `heard`.
const REMEMBERED: usize = 50;

#[derive(Serialize, Deserialize)]
struct Person {
    name: String,
    room: Option<String>,
    heard: VecDeque<Said>,
}

impl Person {
    fn tell(&self, text: &str) {
        let Some(name) = &self.room else {
            return exuvia::warn!("join a room first: /join kitchen");
        };
        let said = Said {
            room: name.clone(),
            from: self.name.clone(),
            text: text.to_owned(),
        };
        let reached = exuvia::encode(&said).and_then(|said| room(name).publish_bytes(SAID, &said));
        if let Err(error) = reached {
            exuvia::warn!("nobody has heard that: {error}");
        }
    }

    fn leave(&mut self) {
        if let Some(name) = &self.room {
            self.tell("(leaves)");
            room(name).leave(exuvia::me()).ok();
            self.room = None;
        }
    }
}

#[exuvia::actor(schema = 1, protocol = chat_protocol::User)]
impl Actor for Person {
    type Args = String;

    fn init(name: String, _: &mut Context) -> Result<Self, String> {
        Ok(Person {
            name,
            room: None,
            heard: VecDeque::new(),
        })
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        let Info::Raw(message) = info else { return };
        if message.tag != SAID {
            return message.refuse("this is no word in a room");
        }
        match message.decode::<Said>() {
            Ok(said) => {
                exuvia::info!("[{}] {}: {}", said.room, said.from, said.text);
                self.heard.push_back(said);
                if self.heard.len() > REMEMBERED {
                    self.heard.pop_front();
                }
            }
            Err(error) => exuvia::warn!("somebody mumbles: {error}"),
        }
    }
}

impl User for Person {
    fn line(&mut self, text: String, cx: &mut Context) {
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("/join", name) if !name.trim().is_empty() => {
                self.leave();
                let name = name.trim().to_owned();
                match room(&name).join(exuvia::me()) {
                    Ok(()) => {
                        self.room = Some(name);
                        self.tell("(joins)");
                    }
                    Err(error) => exuvia::warn!("{name}: {error}"),
                }
            }
            ("/leave", _) => self.leave(),
            ("/quit", _) => {
                self.leave();
                cx.stop(Reason::NORMAL);
            }
            (command, _) if command.starts_with('/') => {
                exuvia::warn!("there is no {command}: /join ROOM, /leave, /quit");
            }
            _ => self.tell(&text),
        }
    }

    fn heard(&self) -> Vec<Said> {
        self.heard.iter().cloned().collect()
    }
}
