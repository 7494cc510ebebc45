//! Owns the tables. It does nothing else, so that nothing can go wrong: the processes that work
//! with money may crash, and what they have stored remains.

use bank_protocol::{ACCOUNTS, Row, TRANSFERS, Transfer};
use exuvia::Access;
use exuvia::prelude::*;

#[derive(Serialize, Deserialize)]
struct Vault {
    accounts: Table<Row>,
    transfers: Table<Transfer>,
}

#[exuvia::actor(schema = 1)]
impl Actor for Vault {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Vault {
            accounts: Table::named(ACCOUNTS, Access::Public)?,
            transfers: Table::named(TRANSFERS, Access::Public)?,
        })
    }
}
