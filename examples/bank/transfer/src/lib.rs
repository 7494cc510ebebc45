//! Moves money. Each step is stored when it is done, and each can be repeated safely: a process
//! that is restarted after a crash repeats the last one.

use std::time::Duration;

use bank_protocol::{AccountClient, Step, TRANSFERS, Transfer, key};
use exuvia::prelude::*;

/// How long an account may take to reply, and the pause before it is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Work {
    id: u64,
}

#[derive(Serialize, Deserialize)]
enum Go {
    On,
}

#[exuvia::actor(schema = 1)]
impl Actor for Work {
    type Args = u64;
    type Message = Go;

    fn init(id: u64, cx: &mut Context) -> Result<Self, String> {
        cx.me().send(&Go::On)?;
        Ok(Work { id })
    }

    async fn handle(&mut self, _: Go, _: Pid, cx: &mut Context) {
        match self.go().await {
            Ok(()) => cx.stop(Reason::NORMAL),
            Err(error) => cx.stop_saying(Reason(Reason::GUEST), &error.to_string()),
        }
    }
}

impl Work {
    async fn go(&self) -> Result<(), Error> {
        let journal = Table::<Transfer>::find(TRANSFERS)?;
        let Some(mut transfer) = journal.get(key(self.id))? else {
            return Ok(());
        };
        let (id, amount) = (transfer.id, transfer.amount);
        if transfer.step == Step::Begun {
            let taken = ask(&transfer.from, |account| account.request_take(id, amount)).await?;
            transfer.step = match taken {
                Ok(()) => Step::Taken,
                Err(why) => Step::Refused(why),
            };
            journal.put(key(id), &transfer)?;
        }
        if transfer.step == Step::Taken {
            // As between real banks: leaves time for something to go wrong.
            let clearing = exuvia::config("bank.clearing_ms")?.unwrap_or(0);
            exuvia::after(Duration::from_millis(clearing))?.await;
            ask(&transfer.to, |account| account.request_give(id, amount)).await?;
            transfer.step = Step::Done;
            journal.put(key(id), &transfer)?;
        }
        Ok(())
    }
}

/// Sends a request to an account until it replies: it may be restarting.
async fn ask<R: serde::de::DeserializeOwned>(
    name: &str,
    request: impl Fn(AccountClient) -> Result<exuvia::Pending<R>, Error>,
) -> Result<R, Error> {
    loop {
        if let Ok(account) = AccountClient::whereis(name)
            && let Ok(answer) = request(account)?.within(PATIENCE).await
        {
            return Ok(answer);
        }
        exuvia::after(PAUSE)?.await;
    }
}
