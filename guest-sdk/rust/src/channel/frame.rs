//! What goes over the WebSocket: `docs/channels.md` defines it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Json, MAX_EVENT_NAME, MAX_TOPIC_NAME, VERSION};

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// It is a new client, or with a token one that comes back.
    Hello { token: Option<String>, seen: u64 },
    /// It asks for something; numbers grow.
    Request {
        number: u64,
        topic: String,
        request: Request,
        seen: Option<u64>,
    },
    /// It is there.
    Ping { seen: Option<u64> },
    /// It has seen frames up to this one.
    Ack { seen: u64 },
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Join(Json),
    Leave,
    Push { event: String, payload: Json },
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(default)]
    version: Option<u32>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    seen: Option<u64>,
    #[serde(default)]
    r#ref: Option<u64>,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
}

/// What is wrong with a frame, for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) why: String,
    /// The number of the request that it should be, if it has one: a promise waits for the reply.
    pub(super) number: Option<u64>,
}

impl Frame {
    /// Reads a frame.
    pub(super) fn read(text: &str) -> Result<Frame, Malformed> {
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|error| Malformed {
            why: error.to_string(),
            number: None,
        })?;
        let number = raw.r#ref;
        Frame::of(raw).map_err(|why| Malformed { why, number })
    }

    fn of(raw: Raw<'_>) -> Result<Frame, String> {
        let seen = raw.seen;
        match raw.r#type.as_ref() {
            "hello" => {
                if raw.version != Some(VERSION) {
                    return Err(format!("`version` is not {VERSION}"));
                }
                let seen = seen.unwrap_or(0);
                Ok(Frame::Hello {
                    token: raw.token,
                    seen,
                })
            }
            "ping" => Ok(Frame::Ping { seen }),
            "ack" => {
                let seen = seen.ok_or("`seen` is missing")?;
                Ok(Frame::Ack { seen })
            }
            kind @ ("join" | "leave" | "push") => {
                let number = raw.r#ref.filter(|number| *number > 0);
                let number = number.ok_or("`ref` is missing or 0")?;
                let topic = raw.topic.ok_or("`topic` is missing")?;
                if topic.is_empty() || topic.len() > MAX_TOPIC_NAME {
                    return Err(format!("`topic` has not 1 to {MAX_TOPIC_NAME} bytes"));
                }
                let payload = raw.payload;
                let payload = payload.map_or_else(Json::null, |raw| Json(raw.get().to_owned()));
                let request = match kind {
                    "join" => Request::Join(payload),
                    "leave" => Request::Leave,
                    _ => {
                        let event = raw.event.ok_or("`event` is missing")?;
                        if event.is_empty() || event.len() > MAX_EVENT_NAME {
                            return Err(format!("`event` has not 1 to {MAX_EVENT_NAME} bytes"));
                        }
                        Request::Push { event, payload }
                    }
                };
                Ok(Frame::Request {
                    number,
                    topic,
                    request,
                    seen,
                })
            }
            other => Err(format!("there is no type `{}`", cut(other))),
        }
    }
}

/// Returns the beginning of a text, which may be any length.
fn cut(text: &str) -> &str {
    let most = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    &text[..most]
}

/// Returns a text as JSON.
pub(super) fn quoted(text: &str) -> String {
    // Text can always be encoded.
    serde_json::to_string(text).unwrap_or_default()
}

pub(super) fn welcome(token: &str, resumed: bool, received: u64, reason: Option<&str>) -> String {
    let reason = reason.map_or(String::new(), |why| format!(",\"reason\":{}", quoted(why)));
    let token = quoted(token);
    format!(
        "{{\"type\":\"welcome\",\"version\":{VERSION},\"token\":{token},\"resumed\":{resumed},\"received\":{received}{reason}}}"
    )
}

pub(super) fn error(reason: &str, number: Option<u64>) -> String {
    let reason = quoted(reason);
    let number = number.map_or(String::new(), |number| format!(",\"ref\":{number}"));
    format!("{{\"type\":\"error\",\"reason\":{reason}{number}}}")
}

pub(super) const PONG: &str = "{\"type\":\"pong\"}";

pub(super) fn reply(seq: u64, number: u64, reply: Result<&Json, &str>) -> String {
    let reply = match reply {
        Ok(payload) => format!("\"ok\":{}", payload.as_str()),
        Err(reason) => format!("\"error\":{}", quoted(reason)),
    };
    format!("{{\"type\":\"reply\",\"seq\":{seq},\"ref\":{number},{reply}}}")
}

pub(super) fn event(seq: u64, topic: &str, event: &str, payload: &Json) -> String {
    let (topic, event, payload) = (quoted(topic), quoted(event), payload.as_str());
    format!(
        "{{\"type\":\"event\",\"seq\":{seq},\"topic\":{topic},\"event\":{event},\"payload\":{payload}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read() {
        let push = r#"{"type":"push","ref":3,"topic":"a","event":"e","payload":{"x": [1, "}"]},"seen":2,"new":1}"#;
        let request = Request::Push {
            event: "e".into(),
            payload: Json(r#"{"x": [1, "}"]}"#.into()),
        };
        let topic = "a".to_owned();
        let frame = Frame::Request {
            number: 3,
            topic,
            request,
            seen: Some(2),
        };
        assert_eq!(Frame::read(push), Ok(frame));
        let hello = Frame::Hello {
            token: None,
            seen: 0,
        };
        assert_eq!(
            Frame::read(r#"{"type":"hello","version":1,"token":null}"#),
            Ok(hello)
        );
    }

    #[test]
    fn what_is_no_frame_is_explained() {
        let long = format!(r#"{{"type":"join","ref":1,"topic":"{}"}}"#, "x".repeat(201));
        let deep = format!(
            r#"{{"type":"push","ref":1,"topic":"a","event":"e","payload":{}"#,
            "[".repeat(100_000)
        );
        for (text, error) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("{\"type\":7}", "invalid type"),
            ("{\"type\":\"hello\",\"version\":2}", "`version` is not 1"),
            ("{\"type\":\"shout\"}", "no type `shout`"),
            ("{\"type\":\"ack\"}", "`seen` is missing"),
            ("{\"type\":\"ack\",\"seen\":-1}", "invalid value"),
            ("{\"type\":\"join\",\"topic\":\"a\"}", "`ref` is missing"),
            ("{\"type\":\"join\",\"ref\":1}", "`topic` is missing"),
            (
                "{\"type\":\"push\",\"ref\":1,\"topic\":\"a\"}",
                "`event` is missing",
            ),
            ("{\"type\":\"ping\",\"type\":\"ping\"}", "duplicate field"),
            (long.as_str(), "1 to 200 bytes"),
            (deep.as_str(), "EOF"),
        ] {
            let found = Frame::read(text).unwrap_err();
            assert!(found.why.contains(error), "{text:.60}: {found:?}");
        }
    }
}
