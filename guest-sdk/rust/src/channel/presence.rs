//! Who is present in topics: kept by one process, which monitors the sessions, so that it is right however they end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Event, Json, MAX_PRESENT, group, publish_json};
use crate::{Error, Info, Kind, Layout, Pid, tag};

/// After how long those who have missed a change get the whole list.
const REPEAT: Duration = Duration::from_secs(1);

/// What a session sends to the process that keeps the list, with the tag [`tag::CHANNEL_TRACK`].
#[derive(Serialize, Deserialize)]
pub(super) struct Track {
    pub(super) topic: String,
    /// The key, and what all may see; none: it has left.
    pub(super) shown: Option<(String, Json)>,
    /// Whether it has joined since it has last told something: if it is in the list, that it had left was lost.
    #[serde(default)]
    pub(super) anew: bool,
}

impl Track {
    pub(super) fn send(&self, keeper: Pid) -> Result<(), Error> {
        keeper.send_bytes(tag::CHANNEL_TRACK, &crate::encode(self)?)
    }
}

/// The list of those who are present, in one topic or in several: a field of the actor that keeps it, which has a registered
/// name. A session that joins with [`Joined::present`](super::Joined::present) is in it until it leaves or ends, for whatever
/// reason. Its client gets the whole list as event `presence_state`, and then, as all others, what changes as
/// `presence_diff`.
///
/// If the keeper ends, sessions look for the name again, and the new keeper gets all that are there.
///
/// ```
/// use exuvia::channel::{Presence, What};
/// use exuvia::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Room {
///     presence: Presence,
///     said: Vec<String>,
/// }
///
/// #[exuvia::actor(schema = 1)]
/// impl Actor for Room {
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Room { presence: Presence::default(), said: Vec::new() })
///     }
///
///     fn handle_info(&mut self, info: Info, _: &mut Context) {
///         for change in self.presence.handle_info(info).unwrap_or_default() {
///             if change.what == What::Joined {
///                 // Those who come later get what was said before.
///                 exuvia::channel::send(change.session, &change.topic, "history", &self.said).ok();
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug, Default, Serialize, Deserialize, Layout)]
#[serde(default)]
pub struct Presence {
    topics: BTreeMap<String, BTreeMap<Pid, Entry>>,
    /// By session: the monitor, and in how many topics it is.
    sessions: BTreeMap<Pid, (u64, u32)>,
    /// How many have come so far.
    last: u64,
    /// Topics in which not all know who is present.
    late: BTreeMap<String, Late>,
}

/// Who does not know who is present in a topic: they get the list.
#[derive(Debug, Default, Serialize, Deserialize, Layout)]
struct Late {
    /// Sessions whose mailboxes were full.
    sessions: BTreeSet<Pid>,
    /// Whether a change did not reach everybody: it is not known whom.
    others: bool,
    /// Whether the timer is set after which they are told again.
    waits: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Layout)]
struct Entry {
    key: String,
    id: u64,
    meta: Json,
}

/// One session that is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present<'a> {
    /// The session.
    pub session: Pid,
    /// Its key, such as the user; several sessions may have the same.
    pub key: &'a str,
    /// What all may see.
    pub meta: &'a Json,
}

/// That somebody has come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The topic.
    pub topic: String,
    /// The session.
    pub session: Pid,
    /// The key.
    pub key: String,
    /// What has happened.
    pub what: What,
    /// How many other sessions with this key are present.
    pub others: usize,
}

/// What has happened to a session that is, or was, present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It has come.
    Joined,
    /// It shows something else.
    Changed,
    /// It has gone.
    Left,
}

impl Presence {
    /// Returns all sessions that are present in a topic.
    pub fn list(&self, topic: &str) -> impl Iterator<Item = Present<'_>> {
        let entries = self.topics.get(topic).into_iter().flatten();
        entries.map(|(session, entry)| Present {
            session: *session,
            key: &entry.key,
            meta: &entry.meta,
        })
    }

    /// Handles an info, if it is about who is present: [`Actor::handle_info`](crate::Actor::handle_info) calls it. All others
    /// in the topic are told.
    ///
    /// # Errors
    ///
    /// The info, if it is about something else.
    pub fn handle_info(&mut self, info: Info) -> Result<Vec<Change>, Info> {
        match info {
            Info::Raw(message)
                if message.tag == tag::CHANNEL_TRACK && message.kind == Kind::Message =>
            {
                let session = message.sender;
                let track: Track = match message.decode() {
                    Ok(track) => track,
                    Err(error) => {
                        crate::warn!("dropped what {session} shows: {error}");
                        return Ok(Vec::new());
                    }
                };
                Ok(match track.shown {
                    Some((key, meta)) => self.enter(session, &track.topic, key, meta, track.anew),
                    None => self.leave(session, &track.topic).into_iter().collect(),
                })
            }
            Info::Down { pid, reference, .. }
                if self
                    .sessions
                    .get(&pid)
                    .is_some_and(|(its, _)| *its == reference) =>
            {
                let present = |(topic, entries): (&String, &BTreeMap<Pid, Entry>)| {
                    entries.contains_key(&pid).then(|| topic.clone())
                };
                let topics: Vec<String> = self.topics.iter().filter_map(present).collect();
                let left = |topic: String| self.leave(pid, &topic);
                Ok(topics.into_iter().filter_map(left).collect())
            }
            Info::Timer(timer) if timer.tag == tag::CHANNEL_REPEAT => {
                self.repeat(&timer.text());
                Ok(Vec::new())
            }
            other => Err(other),
        }
    }

    /// Tells all who have joined a topic what has changed, and those who have missed something before the whole list. If one of
    /// the others cannot be told now, all get the list later.
    fn tell_all(&mut self, topic: &str, diff: Json, except: Option<Pid>) {
        let late = self.tell_late(topic);
        let members = group(topic).size();
        let published = publish_json(topic, "presence_diff", diff, except);
        let has_missed = match (published, members) {
            (Ok(reached), Ok(members)) => reached + late < members,
            (Err(error), _) | (_, Err(error)) => {
                crate::warn!("who is present in {topic} was not told: {error}");
                true
            }
        };
        if has_missed {
            self.late(topic).others = true;
        }
        self.repeat_later(topic);
    }

    fn late(&mut self, topic: &str) -> &mut Late {
        self.late.entry(topic.to_owned()).or_default()
    }

    /// Sends the list to those who are known to have missed something. Returns to how many that was not possible.
    fn tell_late(&mut self, topic: &str) -> usize {
        let Some(late) = self.late.get_mut(topic) else {
            return 0;
        };
        if late.sessions.is_empty() {
            return 0;
        }
        let entries = self.topics.get(topic).into_iter();
        let event = Event {
            topic: topic.to_owned(),
            event: "presence_state".to_owned(),
            payload: Json(users(entries.flat_map(BTreeMap::values))),
            except: None,
        };
        let mut failed = None;
        let sessions = std::mem::take(&mut late.sessions);
        match crate::encode(&event) {
            Ok(event) => late.sessions.extend(sessions.into_iter().filter(|session| {
                let told = session.send_bytes(tag::CHANNEL_EVENT, &event);
                // Only a mailbox will have room some time; a list that is too large stays so.
                let is_full = told == Err(Error::MailboxFull);
                if !is_full {
                    failed = told.err().or(failed.take());
                }
                is_full
            })),
            Err(error) => failed = Some(error),
        }
        if let Some(error) = failed {
            crate::warn!("not all in {topic} know who is present: {error}");
        }
        late.sessions.len()
    }

    /// Sets a timer, if somebody is late and none is set.
    fn repeat_later(&mut self, topic: &str) {
        let Some(late) = self.late.get_mut(topic) else {
            return;
        };
        if late.waits {
            return;
        }
        if late.sessions.is_empty() && !late.others {
            self.late.remove(topic);
            return;
        }
        match crate::me().send_bytes_after(tag::CHANNEL_REPEAT, topic.as_bytes(), REPEAT) {
            Ok(_) => late.waits = true,
            Err(error) => crate::warn!("who is present in {topic} is not told again: {error}"),
        }
    }

    /// The timer has fired: sends the list to those who are late, or to all if it is not known who is.
    fn repeat(&mut self, topic: &str) {
        let Some(late) = self.late.get_mut(topic) else {
            return;
        };
        late.waits = false;
        // That fails only if no group can have the name: then nobody is in the topic, and to try it again would be of no use.
        let members = group(topic).members().unwrap_or_else(|error| {
            crate::warn!("not all in {topic} know who is present: {error}");
            Vec::new()
        });
        let members = BTreeSet::from_iter(members);
        if std::mem::take(&mut late.others) {
            late.sessions = members;
        } else {
            // Who has left does not want it.
            late.sessions.retain(|session| members.contains(session));
        }
        self.tell_late(topic);
        self.repeat_later(topic);
    }

    fn enter(
        &mut self,
        session: Pid,
        topic: &str,
        key: String,
        meta: Json,
        anew: bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let entries = self.topics.get(topic);
        let known = entries.and_then(|entries| entries.get(&session));
        let mut id = known.map(|known| known.id);
        if known.is_some_and(|known| anew || known.key != key) {
            // That it had left was lost, as the mailbox was full.
            changes.extend(self.leave(session, topic));
            id = None;
        }
        let what = match id {
            Some(_) => What::Changed,
            None => What::Joined,
        };
        if what == What::Joined && !self.admit(session, topic) {
            return changes;
        }
        let entry = Entry {
            key: key.clone(),
            id: id.unwrap_or(self.last),
            meta,
        };
        let joins = users([&entry]);
        let entries = self.topics.entry(topic.to_owned()).or_default();
        entries.insert(session, entry);
        let others = entries.values().filter(|other| other.key == key).count() - 1;
        let mut except = None;
        if what == What::Joined {
            self.late(topic).sessions.insert(session);
            except = Some(session);
        }
        let diff = Json(format!("{{\"joins\":{joins},\"leaves\":{{}}}}"));
        self.tell_all(topic, diff, except);
        changes.push(Change {
            topic: topic.to_owned(),
            session,
            key,
            what,
            others,
        });
        changes
    }

    /// Returns whether one more session can be present in a topic; it then has a number, [`Presence::last`].
    fn admit(&mut self, session: Pid, topic: &str) -> bool {
        if self
            .topics
            .get(topic)
            .is_some_and(|entries| entries.len() >= MAX_PRESENT)
        {
            crate::warn!("{MAX_PRESENT} sessions are present in {topic}: {session} is not shown");
            return false;
        }
        let may = self.watch(session);
        self.last += u64::from(may);
        may
    }

    /// Monitors a session, once however many topics it is in; returns `false` if that is not possible.
    fn watch(&mut self, session: Pid) -> bool {
        if let Some((_, topics)) = self.sessions.get_mut(&session) {
            *topics += 1;
            return true;
        }
        match session.monitor() {
            Ok(monitor) => {
                self.sessions.insert(session, (monitor, 1));
                true
            }
            Err(error) => {
                crate::warn!("{session} is not shown: no monitor: {error}");
                false
            }
        }
    }

    fn leave(&mut self, session: Pid, topic: &str) -> Option<Change> {
        let entries = self.topics.get_mut(topic)?;
        let entry = entries.remove(&session)?;
        let key = entry.key.clone();
        let others = entries.values().filter(|other| other.key == key).count();
        if entries.is_empty() {
            self.topics.remove(topic);
        }
        if let Some(late) = self.late.get_mut(topic) {
            late.sessions.remove(&session);
        }
        if let Some((monitor, topics)) = self.sessions.get_mut(&session) {
            *topics -= 1;
            if *topics == 0 {
                let _ = crate::demonitor(*monitor, true);
                self.sessions.remove(&session);
            }
        }
        let leaves = users([&entry]);
        let diff = Json(format!("{{\"joins\":{{}},\"leaves\":{leaves}}}"));
        self.tell_all(topic, diff, None);
        Some(Change {
            topic: topic.to_owned(),
            session,
            key,
            what: What::Left,
            others,
        })
    }
}

/// Returns an object: for each key the sessions, each with its number and what all may see.
fn users<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let mut by_key: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_key.entry(&entry.key).or_default().push(entry);
    }
    let mut text = String::from("{");
    for (key, mut entries) in by_key {
        entries.sort_unstable_by_key(|entry| entry.id);
        let sessions = entries
            .iter()
            .map(|entry| format!("{{\"id\":{},\"meta\":{}}}", entry.id, entry.meta.as_str()));
        let sessions: Vec<String> = sessions.collect();
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&super::frame::quoted(key));
        text.push_str(":[");
        text.push_str(&sessions.join(","));
        text.push(']');
    }
    text.push('}');
    text
}
