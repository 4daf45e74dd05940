//! pprof against google/pprof's own messages and rules.
//!
//! Not proved here: that google/pprof itself reads what we write; its verdicts and its reading of
//! thirty thousand damaged profiles were compared by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod arbitrary;
mod hostile;
mod message;
mod rejection;
mod resources;
mod round_trip;
