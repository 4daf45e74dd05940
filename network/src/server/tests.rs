#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod config;
mod connections;
mod cors;
mod encryption;
mod requests;
mod stopping;
mod support;
