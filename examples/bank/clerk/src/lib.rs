//! Starts transfers, each a process of its own that is linked to this one, and restarts those
//! that terminate before they are over. Its knowledge is stored in a table: a new clerk
//! continues where the previous one stopped.

use std::collections::BTreeMap;

use bank_protocol::{Clerk, Step, TRANSFERS, Transfer, key};
use exuvia::prelude::*;

#[derive(Serialize, Deserialize)]
struct Desk {
    journal: Table<Transfer>,
    last: u64,
    running: BTreeMap<Pid, u64>,
    waiting: Vec<(u64, Caller<Transfer>)>,
}

impl Desk {
    fn run(&mut self, id: u64) {
        match exuvia::spawn("transfer")
            .args(&id)
            .and_then(|transfer| transfer.link().start())
        {
            Ok(child) => {
                self.running.insert(child.pid, id);
            }
            Err(error) => panic!("transfer {id} cannot be begun: {error}"),
        }
    }

    /// Replies to the clients that wait for a transfer that is over.
    fn tell(&mut self, transfer: &Transfer) {
        self.waiting.retain(|(id, caller)| {
            let is_it = *id == transfer.id;
            if is_it {
                caller.reply(transfer).ok();
            }
            !is_it
        });
    }
}

#[exuvia::actor(schema = 1, protocol = bank_protocol::Clerk)]
impl Actor for Desk {
    fn init(_: (), cx: &mut Context) -> Result<Self, String> {
        cx.trap_exit(true);
        let mut desk = Desk {
            journal: Table::find(TRANSFERS)?,
            last: 0,
            running: BTreeMap::new(),
            waiting: Vec::new(),
        };
        let mut unfinished = Vec::new();
        for key in desk.journal.keys() {
            if let Some(transfer) = desk.journal.get(key?)? {
                desk.last = transfer.id;
                if !transfer.is_over() {
                    unfinished.push(transfer.id);
                }
            }
        }
        for id in unfinished {
            exuvia::warn!("transfer {id} goes on");
            desk.run(id);
        }
        Ok(desk)
    }

    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        let Info::Exit { pid, reason, text } = info else {
            return;
        };
        match self.running.remove(&pid) {
            // The exit of the supervisor.
            None => cx.stop_saying(reason, &text),
            Some(id) => match self.journal.get(key(id)) {
                Ok(Some(transfer)) if transfer.is_over() => self.tell(&transfer),
                _ => {
                    exuvia::warn!("transfer {id} ended early ({}): once more", reason.name());
                    self.run(id);
                }
            },
        }
    }
}

impl Clerk for Desk {
    fn begin(&mut self, from: String, to: String, amount: u64) -> Result<u64, String> {
        for name in [&from, &to] {
            exuvia::whereis(name).map_err(|_| format!("there is no account {name}"))?;
        }
        if from == to {
            return Err("both accounts are the same".to_owned());
        }
        let id = self.last + 1;
        let transfer = Transfer {
            id,
            from,
            to,
            amount,
            step: Step::Begun,
        };
        self.journal.put(key(id), &transfer)?;
        self.last = id;
        self.run(id);
        Ok(id)
    }

    fn look(&self, id: u64) -> Option<Transfer> {
        self.journal.get(key(id)).ok().flatten()
    }

    fn wait(&mut self, id: u64, from: Caller<Transfer>) {
        match self.look(id) {
            Some(transfer) if transfer.is_over() => {
                from.reply(&transfer).ok();
            }
            Some(_) => self.waiting.push((id, from)),
            None => from.refuse("there is no such transfer"),
        }
    }
}
