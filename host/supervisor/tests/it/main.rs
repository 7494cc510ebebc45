//! Tests of the supervisor through its public API: tables of OTP's behaviour, a
//! comparison with a naive model, and random orders of events.

mod chaos;
mod model;
mod tables;
mod world;
