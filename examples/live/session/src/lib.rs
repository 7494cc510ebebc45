//! One window of a browser: it checks what comes from there, and hands it to the room.

use exuvia::channel::{self, Channel, Joined, Json, Push, Refusal, Session};
use exuvia::http::{Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Event, Socket};
use live_protocol::{LOBBY, RoomClient, Said, Stroke};

/// What somebody may say. Save this with a change, and say something: the window is not loaded again.
fn words(text: &str) -> String {
    text.trim().to_owned()
}

/// Characters of a name.
const MAX_NAME: usize = 24;
/// Characters of what is said at once.
const MAX_WORDS: usize = 500;
/// Bytes of it: the room keeps what was said for those who come later, and has a bound for all of it.
const MAX_WORDS_BYTES: usize = 1_000;

/// Each would be six bytes in JSON, and no line of text needs one.
const CONTROL: &str = "control characters are not allowed";

#[derive(Serialize, Deserialize, Layout)]
struct Window {
    session: Session,
    person: Person,
}

/// What the browser says about whoever sits there.
#[derive(Default, Serialize, Deserialize, Layout)]
struct Person {
    /// The same in all windows of a browser.
    user: String,
    name: String,
    hue: u16,
}

/// What others see of a person.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    hue: u16,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Window {
    type Args = String;

    fn init(_key: String, _: &mut Context) -> Result<Self, String> {
        Ok(Window {
            session: Session::default(),
            person: Person::default(),
        })
    }

    fn handle_http(&mut self, request: Request, _: Responder, _: &mut Context) -> Option<Response> {
        Some(channel::accept(&request))
    }

    fn handle_socket(&mut self, socket: Socket, event: Event, cx: &mut Context) {
        channel::handle_socket(self, socket, event, cx);
    }

    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        if let Some(other) = channel::handle_info(self, info, cx) {
            exuvia::debug!("dropped {other:?}");
        }
    }
}

impl Channel for Window {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn begun(&mut self, _: &mut Context) {
        self.person = Person::default();
    }

    fn join(&mut self, topic: &str, params: Json, _: &mut Context) -> Result<Joined, Refusal> {
        if topic != LOBBY {
            return Err("there is no such room".into());
        }
        let mut person: Person = params.decode()?;
        person.name = person.name.trim().to_owned();
        if !(1..=MAX_NAME).contains(&person.name.chars().count()) {
            return Err(format!("a name has 1 to {MAX_NAME} characters").into());
        }
        if person.name.contains(char::is_control) {
            return Err(CONTROL.into());
        }
        if person.user.is_empty() || person.user.len() > 64 || person.hue >= 360 {
            return Err("`user` or `hue` is not what this page sends".into());
        }
        self.person = person;
        let Person { user, name, hue } = &self.person;
        let shown = Shown { name, hue: *hue };
        Ok(Joined::new().present(LOBBY, user, &shown)?)
    }

    fn push(&mut self, push: Push, _: &mut Context) -> Option<Result<Json, Refusal>> {
        Some(self.pass_on(&push).map(|()| Json::null()))
    }
}

impl Window {
    fn pass_on(&self, push: &Push) -> Result<(), Refusal> {
        let room = RoomClient::whereis(LOBBY)?;
        match push.event.as_str() {
            "draw" => {
                let stroke: Stroke = push.payload.decode()?;
                if !stroke.is_valid() {
                    return Err("the stroke is not on the board".into());
                }
                room.draw(stroke)?;
            }
            "say" => {
                let text = words(&push.payload.decode::<String>()?);
                if !(1..=MAX_WORDS).contains(&text.chars().count()) {
                    return Err(format!("say 1 to {MAX_WORDS} characters").into());
                }
                if text.len() > MAX_WORDS_BYTES {
                    return Err(format!("say at most {MAX_WORDS_BYTES} bytes").into());
                }
                if text.contains(char::is_control) {
                    return Err(CONTROL.into());
                }
                room.say(Said {
                    name: self.person.name.clone(),
                    hue: self.person.hue,
                    text,
                })?;
            }
            "wipe" => room.wipe()?,
            other => return Err(format!("there is no event `{other}`").into()),
        }
        Ok(())
    }
}
