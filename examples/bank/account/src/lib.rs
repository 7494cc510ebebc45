//! An account. It writes its row before it replies, so that a crash loses nothing that a client
//! has been told.

use bank_protocol::{ACCOUNTS, Account, Row};
use exuvia::prelude::*;

/// The number of transfers that are remembered as applied. A transfer is over long before this
/// many others.
const REMEMBERED: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Book {
    name: String,
    row: Row,
    /// The total of all withdrawals: new in the second version.
    #[cfg(feature = "v2")]
    #[serde(default)]
    taken: u64,
}

impl Book {
    /// Changes the row, and stores it first.
    fn change(&mut self, change: impl FnOnce(&mut Row)) {
        let mut row = self.row.clone();
        change(&mut row);
        while row.applied.len() > REMEMBERED {
            row.applied.pop_first();
        }
        let written = Table::find(ACCOUNTS).and_then(|accounts| accounts.put(&self.name, &row));
        match written {
            Ok(_) => self.row = row,
            // The client gets no reply and retries.
            Err(error) => panic!("the row of {} cannot be written: {error}", self.name),
        }
    }
}

#[exuvia::actor(schema = 1, protocol = bank_protocol::Account)]
impl Actor for Book {
    type Args = String;

    fn init(name: String, _: &mut Context) -> Result<Self, String> {
        let row = Table::<Row>::find(ACCOUNTS)?.get(&name)?;
        Ok(Book {
            name,
            row: row.unwrap_or_default(),
            #[cfg(feature = "v2")]
            taken: 0,
        })
    }
}

impl Account for Book {
    fn balance(&self) -> u64 {
        self.row.balance
    }

    fn deposit(&mut self, amount: u64) -> u64 {
        self.change(|row| row.balance += amount);
        self.row.balance
    }

    fn take(&mut self, transfer: u64, amount: u64) -> Result<(), String> {
        if self.row.applied.contains(&transfer) {
            return Ok(());
        }
        if self.row.balance < amount {
            return Err(format!("{} has {} only", self.name, self.row.balance));
        }
        self.change(|row| {
            row.balance -= amount;
            row.applied.insert(transfer);
        });
        #[cfg(feature = "v2")]
        {
            self.taken += amount;
        }
        Ok(())
    }

    fn give(&mut self, transfer: u64, amount: u64) -> u64 {
        if !self.row.applied.contains(&transfer) {
            self.change(|row| {
                row.balance += amount;
                row.applied.insert(transfer);
            });
        }
        self.row.balance
    }
}
