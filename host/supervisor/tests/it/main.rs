//! Tests of the supervisor through its public API: OTP's behaviour case by case (`lifecycle`,
//! `restarts`, `requests`), a comparison with a naive model, and random orders of events.

mod chaos;
mod lifecycle;
mod model;
mod requests;
mod restarts;
mod world;
