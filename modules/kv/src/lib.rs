//! Stores values under keys, in order.
//!
//! The requests are `Get {key}`, `Put {key, value}`, `Delete {key}` and `List {prefix}`; `Put`
//! and `Delete` can also be sent as messages if no reply is wanted. Keys are text, values are
//! bytes.

use std::collections::BTreeMap;

use exuvia::prelude::*;

#[derive(Serialize, Deserialize, Layout)]
struct Store {
    entries: BTreeMap<String, Bytes>,
}

impl Store {
    fn delete(&mut self, key: &str) -> Option<Bytes> {
        let value = self.entries.remove(key);
        // An empty map would keep its last node, with its old contents.
        if self.entries.is_empty() {
            self.entries = BTreeMap::new();
        }
        value
    }
}

#[derive(Serialize, Deserialize)]
enum Change {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

#[derive(Serialize, Deserialize)]
enum Query {
    Get { key: String },
    Put { key: String, value: Bytes },
    Delete { key: String },
    List { prefix: String },
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Answer {
    /// For `Get`: the current value. For `Put` and `Delete`: the previous value.
    Value(Option<Bytes>),
    /// For `List`: the keys, in order.
    Keys(Vec<String>),
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Store {
    type Message = Change;
    type Request = Query;
    type Reply = Answer;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Store {
            entries: BTreeMap::new(),
        })
    }

    fn handle(&mut self, message: Change, _from: Pid, _: &mut Context) {
        match message {
            Change::Put { key, value } => self.entries.insert(key, value),
            Change::Delete { key } => self.delete(&key),
        };
    }

    fn handle_call(
        &mut self,
        request: Query,
        _: Caller<Answer>,
        _: &mut Context,
    ) -> Option<Answer> {
        Some(match request {
            Query::Get { key } => Answer::Value(self.entries.get(&key).cloned()),
            Query::Put { key, value } => Answer::Value(self.entries.insert(key, value)),
            Query::Delete { key } => Answer::Value(self.delete(&key)),
            Query::List { prefix } => Answer::Keys(
                self.entries
                    .range(prefix.clone()..)
                    .map(|(key, _)| key)
                    .take_while(|key| key.starts_with(&prefix))
                    .cloned()
                    .collect(),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Bytes, Query, Store};
    use exuvia::Pid;
    use exuvia::testing::{self, Process};

    fn ask(process: &mut Process<Store>, query: &Query) -> Answer {
        let reference = testing::deliver_request(Pid::NONE, query);
        process.run();
        testing::reply_to(reference).expect("an answer")
    }

    fn put(key: &str) -> Query {
        Query::Put {
            key: key.to_owned(),
            value: Bytes(key.as_bytes().to_vec()),
        }
    }

    #[test]
    fn values_are_stored_listed_and_deleted() {
        let mut process = Process::<Store>::start(&());
        for key in ["b/2", "a", "b/1"] {
            assert_eq!(ask(&mut process, &put(key)), Answer::Value(None));
        }
        let list = Query::List {
            prefix: "b/".to_owned(),
        };
        assert_eq!(
            ask(&mut process, &list),
            Answer::Keys(vec!["b/1".to_owned(), "b/2".to_owned()])
        );
        let key = "a".to_owned();
        let held = Answer::Value(Some(Bytes(b"a".to_vec())));
        assert_eq!(ask(&mut process, &Query::Get { key: key.clone() }), held);
        assert_eq!(ask(&mut process, &Query::Delete { key: key.clone() }), held);
        assert_eq!(ask(&mut process, &Query::Get { key }), Answer::Value(None));
    }
}
