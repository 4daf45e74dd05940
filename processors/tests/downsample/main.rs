//! Downsampling from outside: whole batches, many seeds, real profiles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod answers;
mod arbitrary;
mod links;
mod real;
mod whole;
