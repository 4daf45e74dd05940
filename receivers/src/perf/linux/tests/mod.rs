//! Tests of the parts, mostly of those that do not need the kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and may say why it does nothing"
)]

mod code;
mod contexts;
mod files;
mod processes;
mod records;
mod tables;
mod weights;
