//! The Rust guest of the compute benchmarks: computes what it is asked for.

mod work;

use exuvia::prelude::*;
use work::Work;

#[derive(Serialize, Deserialize, Layout)]
struct Compute {}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Compute {
    type Args = ();
    type Message = ();
    type Request = Work;
    type Reply = u64;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Compute {})
    }

    fn handle(&mut self, _: (), _: Pid, _: &mut Context) {}

    fn handle_call(&mut self, work: Work, _: Caller<u64>, _: &mut Context) -> Option<u64> {
        Some(work.run())
    }
}
